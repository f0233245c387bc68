//! The servers themselves, started with a few lines of configuration that say which path they read.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::PREFIXES;

/// How a server is started, and how it says what it read.
pub(crate) struct Kind {
    /// As in `MODELS`.
    pub(crate) name: &'static str,
    /// What must be there.
    needs: &'static [&'static str],
    start: fn(&Place) -> Command,
    says: Says,
}

#[derive(Clone, Copy)]
enum Says {
    /// The path is the body.
    Body,
    /// The path is a field, in base64.
    Field,
    /// A field names the prefix that it is in.
    Inside,
}

/// Every server that Debian or a language brings.
pub(crate) const SERVERS: [Kind; 8] = [
    Kind { name: "nginx", needs: &["nginx"], start: nginx, says: Says::Body },
    Kind { name: "apache", needs: &["apache2"], start: apache, says: Says::Field },
    Kind { name: "lighttpd", needs: &["lighttpd"], start: lighttpd, says: Says::Inside },
    Kind {
        name: "tomcat",
        needs: &["java", "/usr/share/java/tomcat10-embed-core.jar"],
        start: tomcat,
        says: Says::Field,
    },
    Kind { name: "jetty", needs: &["java", "/usr/share/java/jetty9-server.jar"], start: jetty, says: Says::Field },
    Kind { name: "node", needs: &["node"], start: node, says: Says::Field },
    Kind { name: "go", needs: &["go"], start: go, says: Says::Field },
    Kind {
        name: "werkzeug",
        needs: &["/usr/bin/python3", "/usr/share/doc/python3-werkzeug"],
        start: werkzeug,
        says: Says::Field,
    },
];

/// A running server; killed when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    says: Says,
    child: Child,
    directory: tempfile::TempDir,
}

struct Place {
    directory: PathBuf,
    port: u16,
}

/// How long a server may take until it listens; some are compiled first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STARTS_MAX: usize = 3;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

// === impl Kind ===

impl Kind {
    /// What of its needs is not there.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        let is_there = |need: &str| {
            Path::new(need).is_absolute() && Path::new(need).exists()
                || path.split(':').any(|directory| Path::new(directory).join(need).is_file())
        };
        self.needs.iter().copied().find(|need| !is_there(need))
    }

    /// Starts it; at another port when somebody else has taken the one that was free a moment ago.
    pub(crate) fn start(&self) -> Server {
        let mut said = String::new();
        for _ in 0..STARTS_MAX {
            match self.try_start() {
                Ok(server) => return server,
                Err(why) => said = why,
            }
        }
        panic!("{} does not start: {said}", self.name);
    }

    fn try_start(&self) -> Result<Server, String> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("documents")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = Place { directory: directory.path().to_owned(), port: address.port() };
        let mut command = (self.start)(&place);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        let output = fs::File::create(place.directory.join("output")).unwrap();
        command.env("PATH", path).stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut server = Server { address, says: self.says, child: command.spawn().unwrap(), directory };
        let began = Instant::now();
        // Where nobody listens yet, a connection may be made to itself.
        let listens = || TcpStream::connect(address).is_ok_and(|stream| stream.local_addr().unwrap() != address);
        while !listens() {
            if server.child.try_wait().unwrap().is_some() || began.elapsed() > START_TIMEOUT {
                return Err(server.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

// === impl Server ===

impl Server {
    /// The path that it read of a target; none where it refused. Of those that only say where it is, that.
    pub(crate) fn read(&self, target: &str) -> Option<Vec<u8>> {
        let connected = TcpStream::connect(self.address);
        let mut stream = connected.unwrap_or_else(|error| panic!("{target:?}: {error}; it said {}", self.said()));
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // One that refuses may close before it has read everything.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let field = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|f| f.1)
        };
        match self.says {
            Says::Body => head.starts_with("HTTP/1.1 200 ").then(|| answer[end + 4..].to_vec()),
            Says::Field => field("X-Path").map(unbase64),
            Says::Inside => {
                let inside = field("X-Inside").filter(|inside| PREFIXES.contains(inside));
                Some(inside.unwrap_or("/outside").as_bytes().to_vec())
            }
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|b| DIGITS.iter().position(|digit| *digit == b));
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in digits {
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

// === commands ===

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/readings/servers")
}

/// A configuration with its places filled in.
fn configured(place: &Place, name: &str) -> PathBuf {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let text = text.replace("DIRECTORY", place.directory.to_str().unwrap()).replace("PORT", &place.port.to_string());
    let file = place.directory.join(name);
    fs::write(&file, text).unwrap();
    file
}

fn nginx(place: &Place) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&place.directory).arg("-e").arg(place.directory.join("nginx.log"));
    command.arg("-c").arg(configured(place, "nginx.conf"));
    command
}

fn apache(place: &Place) -> Command {
    let mut command = Command::new("apache2");
    command.arg("-X").arg("-f").arg(configured(place, "apache.conf"));
    command
}

fn lighttpd(place: &Place) -> Command {
    let mut command = Command::new("lighttpd");
    command.arg("-D").arg("-f").arg(configured(place, "lighttpd.conf"));
    command
}

fn tomcat(place: &Place) -> Command {
    let mut command = java("TomcatPaths.java", "/usr/share/java/tomcat10-*");
    command.arg(place.port.to_string()).arg(&place.directory);
    command
}

fn jetty(place: &Place) -> Command {
    let mut command = java("JettyPaths.java", "/usr/share/java/jetty9-*");
    command.arg(place.port.to_string());
    command
}

/// A program in one file, which Java compiles when it starts it, with the libraries that begin so beside it.
fn java(source: &str, libraries: &str) -> Command {
    let (folder_of, prefix) = libraries.trim_end_matches('*').rsplit_once('/').unwrap();
    let named = |file: &fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name.starts_with(prefix) || name.starts_with("servlet-api")) && name.ends_with(".jar")
    };
    let files = fs::read_dir(folder_of).unwrap().map(|file| file.unwrap()).filter(named);
    let path: Vec<String> = files.map(|file| file.path().display().to_string()).collect();
    let mut command = Command::new("java");
    command.arg("-Dorg.eclipse.jetty.util.log.class=org.eclipse.jetty.util.log.StdErrLog");
    command.arg("-cp").arg(path.join(":")).arg(folder().join(source));
    command
}

fn node(place: &Place) -> Command {
    let mut command = Command::new("node");
    command.arg(folder().join("node.js")).arg(place.port.to_string());
    command
}

fn go(place: &Place) -> Command {
    let program = place.directory.join("paths");
    let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(folder().join("main.go")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut command = Command::new(program);
    command.arg(place.port.to_string());
    command
}

fn werkzeug(place: &Place) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(folder().join("werkzeug_paths.py")).arg(place.port.to_string());
    command
}
