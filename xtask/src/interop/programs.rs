//! The programs: servers with the port they listen on, and conversations with what they must come to.
//!
//! A server listens on loopback, as on a developer's machine; a client calls it by its service's name and that port. Nothing here knows how the two are joined.
//! In the tables, words are separated by spaces, `@` is the folder in which the programs are laid out, and `ORIGINS` stands for the URLs of all HTTP origins.

use std::collections::BTreeSet;

use crate::interop::place::Place;

/// A program that is called.
pub(crate) struct Server {
    /// The service's name.
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Run once before, to its end; nothing when empty.
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

/// Name, port, what prepares it, and its command.
const SERVERS: &[(&str, u16, &str, &str)] = &[
    (
        "httpbin",
        8000,
        "",
        "@/venv/bin/python3 -m gunicorn --log-level error --bind 127.0.0.1:8000 --worker-class gthread --workers 1 --threads 8 httpbin:app",
    ),
    ("origin-go", 8001, "", "@/bin/go-server 127.0.0.1:8001"),
    ("origin-node", 8002, "", "node @/programs/node/server.mjs 8002"),
    ("origin-java", 8003, "", "java -Xmx64m -cp @/bin/java Server 8003"),
    ("redis", 6379, "", "redis-server --bind 127.0.0.1 --port 6379 --loglevel warning --dir @/data"),
    (
        "postgres",
        5432,
        "/usr/lib/postgresql/15/bin/initdb --auth=trust --username=interop --no-sync --no-instructions -D @/data/postgres",
        "/usr/lib/postgresql/15/bin/postgres -D @/data/postgres -k @/data -h 127.0.0.1 -p 5432 -c fsync=off",
    ),
    (
        "mariadb",
        3306,
        "mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db --datadir=@/data/mariadb",
        "mariadbd --no-defaults --datadir=@/data/mariadb --socket=@/data/mariadb.sock --bind-address=127.0.0.1 --port=3306 --skip-name-resolve \
         --innodb-flush-log-at-trx-commit=0 --max-allowed-packet=64M",
    ),
    ("grpc", 10000, "", "@/bin/grpc-server --port=10000"),
];

/// Redis writes what it is doing over its words.
const RETITLES: &[&str] = &["redis"];

/// The HTTP origins, and how many bytes each is asked to stream (httpbin gives no more than 100 KiB).
const ORIGINS: &[(&str, u16, usize)] = &[
    ("httpbin", 8000, 65_536),
    ("origin-go", 8001, BODY_BYTES),
    ("origin-node", 8002, 10_000_000),
    ("origin-java", 8003, 10_000_000),
];
const ORIGIN_NAMES: &[&str] = &["httpbin", "origin-go", "origin-node", "origin-java"];

/// HTTP clients; each calls every origin in one process.
const HTTP_CLIENTS: &[(&str, &str)] = &[
    ("python", "/usr/bin/python3 @/programs/python/client.py ORIGINS"),
    ("node", "node @/programs/node/client.mjs ORIGINS"),
    ("java", "java -Xmx64m -cp @/bin/java Client ORIGINS"),
    ("go", "@/bin/go-client ORIGINS"),
    ("php", "php @/programs/php/client.php ORIGINS"),
    ("perl", "perl @/programs/perl/client.pl ORIGINS"),
    ("c", "@/bin/c-client ORIGINS"),
];

/// A body that no proxy may hold in memory.
const BODY_BYTES: usize = 100_000_000;
const GRPC_CASES: usize = 18;

/// Every server, each with its data below the place's folder.
pub(crate) fn servers(place: &Place) -> Vec<Server> {
    let server = |(name, port, prepare, command): &(&'static str, u16, &str, &str)| Server {
        name,
        port: *port,
        prepare: words(place, prepare),
        command: words(place, command),
        retitles: RETITLES.contains(name),
    };
    SERVERS.iter().map(server).collect()
}

/// Every conversation.
pub(crate) fn talks(place: &Place) -> Vec<Talk> {
    let talk = |name, needs, command: &str, expect| Talk { name, needs, command: words(place, command), expect };
    let http =
        HTTP_CLIENTS.iter().map(|(name, command)| talk(name, ORIGIN_NAMES, command, Expect::Verdicts(ORIGINS.len())));
    let variables = place.variables("variables").map(|(name, value)| format!("{name}={value}"));
    let counted = format!("\"length\":{BODY_BYTES},\"sum\":{}", (BODY_BYTES * usize::from(b'a')) & 0xff_ffff);
    let upload = format!("sh @/programs/upload.sh http://origin-go:8001/post {BODY_BYTES}");
    let others = [
        talk("upload", &["origin-go"], &upload, Expect::Text(counted)),
        talk("variables", &[], "env", Expect::Exactly(variables.into())),
        talk("redis", &["redis"], "sh @/programs/redis/talk.sh redis 6379", Expect::Lines(1)),
        talk("postgres", &["postgres"], "sh @/programs/postgres/talk.sh postgres 5432 interop", Expect::Lines(1)),
        talk("mariadb", &["mariadb"], "sh @/programs/mariadb/talk.sh mariadb 3306 root", Expect::Lines(1)),
        talk("connects", &["mariadb"], "php @/programs/php/connects.php mariadb 3306 root 200", Expect::Verdicts(1)),
        talk("grpc", &["grpc"], "sh @/programs/grpc/talk.sh @/bin/grpc-client grpc 10000", Expect::Lines(GRPC_CASES)),
    ];
    http.chain(others).collect()
}

fn words(place: &Place, command: &str) -> Vec<String> {
    let urls: Vec<String> = ORIGINS.iter().map(|(name, port, bytes)| format!("http://{name}:{port},{bytes}")).collect();
    let command = command.replace("ORIGINS", &urls.join(" ")).replace('@', &place.folder().display().to_string());
    command.split_whitespace().map(str::to_owned).collect()
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
