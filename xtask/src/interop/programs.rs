//! The programs: servers with the port they listen on, and conversations with what they must come to.
//!
//! A server listens on loopback, as on a developer's machine; a client calls it by its service's name and that port. Nothing here knows how the two are joined.

use std::collections::BTreeSet;

use crate::interop::place::Place;

/// A program that is called.
pub(crate) struct Server {
    /// The service's name.
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Run once before, to its end.
    pub(crate) prepare: Vec<String>,
    pub(crate) command: Vec<String>,
    /// It shows a title of its own in place of its words and variables.
    pub(crate) retitles: bool,
}

/// A program that calls.
pub(crate) struct Talk {
    pub(crate) name: &'static str,
    /// The servers that it calls.
    pub(crate) needs: &'static [&'static str],
    pub(crate) command: Vec<String>,
    pub(crate) expect: Expect,
}

/// What a conversation's standard output must hold.
pub(crate) enum Expect {
    /// So many lines of JSON with `"ok": true`.
    Verdicts(usize),
    /// So many lines that end in ` ok`.
    Lines(usize),
    /// One text.
    Text(String),
    /// These lines and no others, in any order.
    Exactly(BTreeSet<String>),
}

/// The HTTP origins, and how many bytes each is asked to stream (httpbin gives no more than 100 KiB).
const ORIGINS: &[(&str, u16, usize)] = &[
    ("httpbin", 8000, 65_536),
    ("origin-go", 8001, BODY_BYTES),
    ("origin-node", 8002, 10_000_000),
    ("origin-java", 8003, 10_000_000),
];
/// A body that no proxy may hold in memory.
const BODY_BYTES: usize = 100_000_000;
const GRPC_CASES: usize = 18;
/// The median of these is compared between the ways.
const MARIADB_CONNECTS: usize = 200;

/// Every server, each with its data below the place's folder.
pub(crate) fn servers(place: &Place) -> Vec<Server> {
    let file = |path: &str| place.file(path);
    let server = |name, port, prepare: &[&str], command: &[&str]| Server {
        name,
        port,
        prepare: prepare.iter().map(|word| (*word).to_owned()).collect(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        retitles: name == "redis",
    };
    let (data, pg) = (file("data"), file("data/postgres"));
    let (maria, socket) = (file("data/mariadb"), file("data/mariadb.sock"));
    vec![
        server(
            "httpbin",
            8000,
            &[],
            &[
                &file("venv/bin/python3"),
                "-m",
                "gunicorn",
                "--log-level",
                "error",
                "--bind",
                "127.0.0.1:8000",
                "--worker-class",
                "gthread",
                "--workers",
                "1",
                "--threads",
                "8",
                "httpbin:app",
            ],
        ),
        server("origin-go", 8001, &[], &[&file("bin/go-server"), "127.0.0.1:8001"]),
        server("origin-node", 8002, &[], &["node", &file("programs/node/server.mjs"), "8002"]),
        server("origin-java", 8003, &[], &["java", "-Xmx64m", "-cp", &file("bin/java"), "Server", "8003"]),
        server(
            "redis",
            6379,
            &[],
            &[
                "redis-server",
                "--bind",
                "127.0.0.1",
                "--port",
                "6379",
                "--save",
                "",
                "--loglevel",
                "warning",
                "--dir",
                &data,
            ],
        ),
        server(
            "postgres",
            5432,
            &[
                "/usr/lib/postgresql/15/bin/initdb",
                "--auth=trust",
                "--username=interop",
                "--no-sync",
                "--no-instructions",
                "-D",
                &pg,
            ],
            &[
                "/usr/lib/postgresql/15/bin/postgres",
                "-D",
                &pg,
                "-k",
                &data,
                "-h",
                "127.0.0.1",
                "-p",
                "5432",
                "-c",
                "fsync=off",
            ],
        ),
        server(
            "mariadb",
            3306,
            &[
                "mariadb-install-db",
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                &format!("--datadir={maria}"),
            ],
            &[
                "mariadbd",
                "--no-defaults",
                &format!("--datadir={maria}"),
                &format!("--socket={socket}"),
                "--bind-address=127.0.0.1",
                "--port=3306",
                "--skip-name-resolve",
                "--innodb-flush-log-at-trx-commit=0",
                "--max-allowed-packet=64M",
            ],
        ),
        server("grpc", 10000, &[], &[&file("bin/grpc-server"), "--port=10000"]),
    ]
}

/// Every conversation.
pub(crate) fn talks(place: &Place) -> Vec<Talk> {
    let file = |path: &str| place.file(path);
    let urls: Vec<String> = ORIGINS.iter().map(|(name, port, bytes)| format!("http://{name}:{port},{bytes}")).collect();
    let http = |name, command: &[&str]| Talk {
        name,
        needs: &["httpbin", "origin-go", "origin-node", "origin-java"],
        command: command.iter().map(|word| (*word).to_owned()).chain(urls.clone()).collect(),
        expect: Expect::Verdicts(ORIGINS.len()),
    };
    let other = |name, needs, command: &[&str], expect| Talk {
        name,
        needs,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        expect,
    };
    vec![
        http("python", &["/usr/bin/python3", &file("programs/python/client.py")]),
        http("node", &["node", &file("programs/node/client.mjs")]),
        http("java", &["java", "-Xmx64m", "-cp", &file("bin/java"), "Client"]),
        http("go", &[&file("bin/go-client")]),
        http("php", &["php", &file("programs/php/client.php")]),
        http("perl", &["perl", &file("programs/perl/client.pl")]),
        http("c", &[&file("bin/c-client")]),
        other(
            "upload",
            &["origin-go"],
            &["sh", &file("programs/upload.sh"), "http://origin-go:8001/post", &BODY_BYTES.to_string()],
            Expect::Text(format!("\"length\":{BODY_BYTES},\"sum\":{}", (BODY_BYTES * usize::from(b'a')) & 0xff_ffff)),
        ),
        other(
            "variables",
            &[],
            &["env"],
            Expect::Exactly(place.variables("variables").map(|(name, value)| format!("{name}={value}")).into()),
        ),
        other("redis", &["redis"], &["sh", &file("programs/redis/talk.sh"), "redis", "6379"], Expect::Lines(1)),
        other(
            "postgres",
            &["postgres"],
            &["sh", &file("programs/postgres/talk.sh"), "postgres", "5432", "interop"],
            Expect::Lines(1),
        ),
        other(
            "mariadb",
            &["mariadb"],
            &["sh", &file("programs/mariadb/talk.sh"), "mariadb", "3306", "root"],
            Expect::Lines(1),
        ),
        other(
            "connects",
            &["mariadb"],
            &["php", &file("programs/php/connects.php"), "mariadb", "3306", "root", &MARIADB_CONNECTS.to_string()],
            Expect::Verdicts(1),
        ),
        other(
            "grpc",
            &["grpc"],
            &["sh", &file("programs/grpc/talk.sh"), &file("bin/grpc-client"), "grpc", "10000"],
            Expect::Lines(GRPC_CASES),
        ),
    ]
}

// === impl Expect ===

impl Expect {
    /// How many good answers there must be.
    pub(crate) fn wanted(&self) -> usize {
        match self {
            Expect::Verdicts(count) | Expect::Lines(count) => *count,
            Expect::Text(_) | Expect::Exactly(_) => 1,
        }
    }

    /// How many good answers a conversation's output holds.
    pub(crate) fn count(&self, text: &str) -> usize {
        match self {
            Expect::Verdicts(_) => {
                let verdicts = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                verdicts.filter(|verdict| verdict["ok"] == true).count()
            }
            Expect::Lines(_) => text.lines().filter(|line| line.ends_with(" ok")).count(),
            Expect::Text(wanted) => usize::from(text.contains(wanted)),
            Expect::Exactly(lines) => usize::from(text.lines().map(str::to_owned).collect::<BTreeSet<_>>() == *lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_good_verdicts_count() {
        let text = "noise\n{\"ok\": true}\n{\"ok\": false}\n{\"client\": \"x\"}\n";
        assert_eq!(Expect::Verdicts(2).count(text), 1);
        assert_eq!(Expect::Lines(2).count("grpc a ok\ngrpc b failed: ok not\n"), 1);
    }
}
