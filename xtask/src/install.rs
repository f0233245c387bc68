//! `cargo xtask install`: every tool beyond cargo and cc that a test or a bench uses, declared once, with what it is for.
//!
//! Only package registries are asked: apt, PyPI, Maven's and Go's module proxy (Node and Perl programs use what their languages bring). Running it again costs a
//! second: what is present is not touched. Services that Debian's packages would start are kept from starting, for a test starts its own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::interop::USER;
use crate::process::{is_root, output, root, run as run_command, which};
use crate::test::cache;

const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// What a tool is for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Use {
    /// Capture of programs in namespaces (`leno run`).
    Capture,
    /// Real programs through leno.
    Interop,
    /// The dashboard in a real browser.
    Browser,
    /// leno beside its peers; not part of the gate.
    Bench,
}

impl Use {
    /// The uses of `cargo xtask test`.
    pub(crate) const GATE: &'static [Use] = &[Use::Capture, Use::Interop, Use::Browser];
}

/// A Debian package; `proof` is a program on the PATH or a file that it brings.
struct Package {
    name: &'static str,
    proof: &'static str,
    uses: &'static [Use],
}

const fn apt(name: &'static str, proof: &'static str, uses: &'static [Use]) -> Package {
    Package { name, proof, uses }
}

/// Debian's packages. A machine brings Rust and Go 1.26 (Debian 12's own Go is too old for gRPC's module); Java, Node and Python it may bring or get here.
const PACKAGES: &[Package] = &[
    apt("nftables", "nft", &[Use::Capture, Use::Interop]),
    apt("iproute2", "ip", &[Use::Capture, Use::Interop]),
    apt("slowhttptest", "slowhttptest", &[Use::Interop]),
    apt("curl", "curl", &[Use::Interop]),
    apt("openssl", "openssl", &[Use::Interop, Use::Bench]),
    apt("gcc", "cc", &[Use::Interop]),
    apt("libcurl4-openssl-dev", "/usr/include/x86_64-linux-gnu/curl/curl.h", &[Use::Interop]),
    apt("python3-venv", "/usr/lib/python3.11/ensurepip/__init__.py", &[Use::Interop, Use::Browser, Use::Bench]),
    // The browser without the desktop that `chromium` brings; the fonts are what its pages are drawn with.
    apt("chromium-headless-shell", "chromium-headless-shell", &[Use::Browser]),
    apt("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", &[Use::Browser]),
    apt("nodejs", "node", &[Use::Interop]),
    apt("openjdk-17-jdk-headless", "javac", &[Use::Interop]),
    apt("maven", "mvn", &[Use::Interop]),
    apt("perl", "perl", &[Use::Interop]),
    apt("libwww-perl", "/usr/share/perl5/LWP/UserAgent.pm", &[Use::Interop]),
    apt("php-cli", "php", &[Use::Interop]),
    apt("php-curl", "/usr/share/doc/php-curl", &[Use::Interop]),
    apt("php-mysql", "/usr/share/doc/php-mysql", &[Use::Interop]),
    apt("redis-server", "redis-server", &[Use::Interop]),
    apt("redis-tools", "redis-cli", &[Use::Interop]),
    apt("postgresql-15", "/usr/lib/postgresql/15/bin/postgres", &[Use::Interop]),
    apt("postgresql-client-15", "/usr/lib/postgresql/15/bin/psql", &[Use::Interop]),
    apt("mariadb-server", "mariadbd", &[Use::Interop]),
    apt("mariadb-client", "mariadb", &[Use::Interop]),
    // Servers whose reading of paths is compared with their models (crates/leno-route/tests/readings).
    apt("apache2-bin", "apache2", &[Use::Interop]),
    apt("lighttpd", "lighttpd", &[Use::Interop]),
    apt("python3-werkzeug", "/usr/share/doc/python3-werkzeug", &[Use::Interop]),
    apt("libtomcat10-embed-java", "/usr/share/java/tomcat10-embed-core.jar", &[Use::Interop]),
    apt("libjetty9-java", "/usr/share/java/jetty9-server.jar", &[Use::Interop]),
    apt("haproxy", "haproxy", &[Use::Interop, Use::Bench]),
    apt("nginx", "nginx", &[Use::Interop, Use::Bench]),
    apt("libnginx-mod-stream", "/usr/lib/nginx/modules/ngx_stream_module.so", &[Use::Bench]),
    apt("valgrind", "valgrind", &[Use::Bench]),
    apt("wrk", "wrk", &[Use::Bench]),
    apt("nghttp2-client", "h2load", &[Use::Bench]),
    apt("nghttp2-server", "nghttpd", &[Use::Bench]),
];

/// A virtual environment with pinned packages; `requirements` is a file below the root.
struct Environment {
    name: &'static str,
    requirements: &'static str,
    uses: &'static [Use],
}

const ENVIRONMENTS: &[Environment] = &[
    Environment { name: "httpbin", requirements: "interop/programs/python/requirements.txt", uses: &[Use::Interop] },
    Environment {
        name: "differential",
        requirements: "interop/programs/differential/requirements.txt",
        uses: &[Use::Interop],
    },
    // Playwright brings no browser of its own: it is told where Debian's is.
    Environment {
        name: "browser",
        requirements: "crates/leno-dashboard/tests/requirements.txt",
        uses: &[Use::Browser],
    },
    Environment { name: "envoy", requirements: "bench/peers/requirements.txt", uses: &[Use::Interop, Use::Bench] },
];

/// A program that is built here from the registry's or our own sources.
struct Built {
    name: &'static str,
    folder: &'static str,
    /// What it is made from, in the folder; nothing where the builder itself sees what has changed.
    from: &'static [&'static str],
    command: &'static [&'static str],
}

/// `OUT` stands for the result's path, `BIN` for the folder of all results. What is younger than all that it is made from is not built.
const BUILT: &[Built] = &[
    Built {
        name: "go-client",
        folder: "interop/programs/go",
        from: &[],
        command: &["go", "build", "-o", "OUT", "./client"],
    },
    Built {
        name: "go-server",
        folder: "interop/programs/go",
        from: &[],
        command: &["go", "build", "-o", "OUT", "./server"],
    },
    Built {
        name: "differential",
        folder: "interop/programs/differential",
        from: &[],
        command: &["go", "build", "-o", "OUT", "."],
    },
    Built {
        name: "grpc-client",
        folder: "interop/programs/grpc",
        from: &[],
        command: &["go", "build", "-o", "OUT", "google.golang.org/grpc/interop/client"],
    },
    Built {
        name: "grpc-server",
        folder: "interop/programs/grpc",
        from: &[],
        command: &["go", "build", "-o", "OUT", "google.golang.org/grpc/interop/server"],
    },
    Built {
        name: "h2spec",
        folder: "interop/programs/h2spec",
        from: &[],
        command: &["go", "build", "-o", "OUT", "github.com/summerwind/h2spec/cmd/h2spec"],
    },
    Built {
        name: "c-client",
        folder: "interop/programs/c",
        from: &["client.c"],
        command: &["cc", "-O1", "-Wall", "-Werror", "-o", "OUT", "client.c", "-lcurl"],
    },
    Built {
        name: "java",
        folder: "interop/programs/java",
        from: &["."],
        command: &["javac", "--release", "17", "-d", "OUT", "Client.java", "Server.java"],
    },
    // The libraries that leno's breakers are compared with (crates/leno-traffic/tests/libraries), and what drives them.
    Built {
        name: "jars",
        folder: "interop/programs/libraries",
        from: &["pom.xml"],
        command: &[
            "mvn",
            "--batch-mode",
            "--quiet",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=OUT",
        ],
    },
    Built {
        name: "libraries",
        folder: "interop/programs/libraries/driver",
        from: &[".", "BIN/jars"],
        command: &[
            "javac",
            "--release",
            "17",
            "-cp",
            "BIN/jars/*",
            "-sourcepath",
            ".",
            "-d",
            "OUT",
            "Start.java",
            "Driver.java",
        ],
    },
];

/// Installs what is missing for the given uses (all when none are given), or only says what is.
pub(crate) fn run(uses: &[Use], dry_run: bool) -> Result<()> {
    let wanted = |of: &[Use]| uses.is_empty() || of.iter().any(|one| uses.contains(one));
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|package| wanted(package.uses) && !package.present())
        .map(|package| package.name)
        .collect();
    let environments: Vec<&Environment> =
        ENVIRONMENTS.iter().filter(|one| wanted(one.uses) && !one.present()).collect();
    if dry_run {
        println!("missing from apt: {}", if missing.is_empty() { "nothing".to_owned() } else { missing.join(" ") });
        for environment in &environments {
            println!("missing from PyPI: {}", environment.requirements);
        }
        return Ok(());
    }
    apt_install(&missing)?;
    for environment in environments {
        environment.make()?;
    }
    if wanted(&[Use::Interop]) {
        user()?;
        build()?;
    }
    println!("install: every declared tool is present");
    Ok(())
}

/// A program that `install` built.
pub(crate) fn built(name: &str) -> PathBuf {
    cache().join("bin").join(name)
}

/// The Python that has Playwright.
pub(crate) fn browser_python() -> Result<PathBuf> {
    let path = cache().join("venv/browser/bin/python");
    match path.exists() {
        true => Ok(path),
        false => bail!("{} is not there: run `cargo xtask install --for browser`", path.display()),
    }
}

/// The Envoy that PyPI carries.
pub(crate) fn envoy() -> Result<PathBuf> {
    // The program itself: what stands in `bin` is a Python script that becomes it, and its start would be counted.
    let path = cache().join("venv/envoy/lib/python3.11/site-packages/envoy/_bin/envoy");
    path.canonicalize().with_context(|| path.display().to_string())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!(
            "these Debian packages are missing and only root can install them: apt-get install {}",
            packages.join(" ")
        );
    }
    let _kept_while_installing = NoServices::declare()?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run_command(&mut apt(&["update"]), DOWNLOAD_DEADLINE)?;
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    run_command(install.args(packages), DOWNLOAD_DEADLINE)
}

/// The user without rights that programs under test run as when we are root.
fn user() -> Result<()> {
    let known = output(Command::new("getent").args(["passwd", USER])).is_ok();
    if known || !is_root() {
        return Ok(());
    }
    let mut add = Command::new("useradd");
    run_command(add.args(["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER]), DOWNLOAD_DEADLINE)
}

fn build() -> Result<()> {
    fs::create_dir_all(cache().join("bin"))?;
    for built_here in BUILT {
        let out = built(built_here.name);
        let (out_path, bin) = (out.display().to_string(), cache().join("bin").display().to_string());
        let put_in = |text: &&str| text.replace("OUT", &out_path).replace("BIN", &bin);
        let arguments = built_here.command[1..].iter().map(put_in);
        let folder = root().join(built_here.folder);
        let mut from = built_here.from.iter().map(put_in).map(|input| folder.join(input)).peekable();
        if from.peek().is_some() && from.all(|input| is_younger(&out, &input)) {
            continue;
        }
        // What is written over keeps the age of its folder.
        if out.is_dir() {
            fs::remove_dir_all(&out)?;
        }
        let mut command = Command::new(
            which(built_here.command[0]).with_context(|| format!("{} is not installed", built_here.command[0]))?,
        );
        command.args(arguments).current_dir(&folder).env("CGO_ENABLED", "0");
        run_command(&mut command, DOWNLOAD_DEADLINE).with_context(|| format!("build {}", built_here.folder))?;
    }
    Ok(())
}

/// Whether a result is younger than what it is made from: a file, or a folder with all that is below it.
fn is_younger(result: &Path, input: &Path) -> bool {
    let made = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let (Some(result_made), Some(input_made)) = (made(result), made(input)) else { return false };
    let mut below = fs::read_dir(input).into_iter().flatten().flatten();
    input_made < result_made && below.all(|entry| is_younger(result, &entry.path()))
}

// === impl Package ===

impl Package {
    fn present(&self) -> bool {
        if self.proof.starts_with('/') { Path::new(self.proof).exists() } else { which(self.proof).is_some() }
    }
}

// === impl Environment ===

impl Environment {
    fn folder(&self) -> PathBuf {
        cache().join("venv").join(self.name)
    }

    /// A copy of the requirements stands in the environment once everything is installed.
    fn present(&self) -> bool {
        let installed = fs::read(self.folder().join("requirements.txt"));
        installed
            .is_ok_and(|installed| fs::read(root().join(self.requirements)).is_ok_and(|wanted| wanted == installed))
    }

    fn make(&self) -> Result<()> {
        let folder = self.folder();
        let requirements = root().join(self.requirements);
        // Debian's own python: one from a home folder could not be run by another user.
        run_command(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder), DOWNLOAD_DEADLINE)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--requirement"]);
        run_command(pip.arg(&requirements), DOWNLOAD_DEADLINE)?;
        fs::copy(requirements, folder.join("requirements.txt"))?;
        Ok(())
    }
}

/// Keeps Debian's packages from starting their services while it lives, as `policy-rc.d` is meant for; one that is there already is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn declare() -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            let mut file = fs::File::create(Self::POLICY)?;
            file.write_all(b"#!/bin/sh\nexit 101\n")?;
            file.set_permissions(fs::Permissions::from_mode(0o755))?;
        }
        Ok(NoServices { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _gone_already = fs::remove_file(Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_stale_when_anything_that_it_is_made_from_is_younger() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        let made = |path: &str, seconds: u64| {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::open(at(path)).unwrap().set_modified(time).unwrap();
        };
        fs::create_dir_all(at("from/com/below")).unwrap();
        for (file, seconds) in [("result", 5), ("from/a", 1), ("from/com/below/b", 2), ("other", 3)] {
            fs::write(at(file), "").unwrap();
            made(file, seconds);
        }
        ["from", "from/com", "from/com/below"].iter().for_each(|folder| made(folder, 3));
        let is_fresh = |from: &str| is_younger(&at("result"), &at(from));
        assert!(is_fresh("from") && is_fresh("other"));
        made("from/com/below/b", 6);
        assert!(!is_fresh("from"), "a file far below");
        made("from/com/below/b", 2);
        made("from/com", 6);
        assert!(!is_fresh("from"), "something came or went in a folder");
        assert!(!is_fresh("absent"));
        assert!(!is_younger(&at("absent"), &at("other")));
    }
}
