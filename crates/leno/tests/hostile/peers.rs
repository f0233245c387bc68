//! What nginx, HAProxy and Envoy make of the inputs that leno refuses: how many of each row they send on.
//!
//! Asked for with `LENO_HOSTILE_PEERS`, and written down in `docs/hostile-http1.md`; no change to leno has to wait for
//! it. Each of them, and leno, has a port and a program behind it for each lane, and gets what the gateway gets: the
//! input at once, and a request of our own behind it. What counts is what the program saw, not what was answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{self, status_of};
use crate::inputs::Input;
use crate::kit::free_address;
use crate::upstream::{Seen, Upstream, is_malformed};
use crate::{Front, LANES, Lane};

/// Asks for the tables; where it names a folder, what the programs behind them saw is written there.
pub(crate) const VARIABLE: &str = "LENO_HOSTILE_PEERS";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// One that is compared.
struct Kind {
    name: &'static str,
    program: fn() -> PathBuf,
    version: &'static str,
    /// `FILE` is its configuration, in `FOLDER`.
    arguments: &'static [&'static str],
    /// A file of `peers/`; what stands between `# for each lane` and `# end` is there once for each.
    template: &'static str,
}

const NGINX: Kind = Kind {
    name: "nginx",
    program: || installed("nginx"),
    version: "-v",
    arguments: &["-e", "stderr", "-p", "FOLDER", "-c", "FILE"],
    template: include_str!("peers/nginx.conf"),
};

const HAPROXY: Kind = Kind {
    name: "HAProxy",
    program: || installed("haproxy"),
    version: "-v",
    arguments: &["-db", "-f", "FILE"],
    template: include_str!("peers/haproxy.cfg"),
};

const ENVOY: Kind = Kind {
    name: "Envoy",
    program: || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        root.join(".cache/venv/envoy/lib/python3.11/site-packages/envoy/_bin/envoy")
    },
    version: "--version",
    arguments: &["-c", "FILE", "--concurrency", "1", "--disable-hot-restart", "-l", "off"],
    template: include_str!("peers/envoy.yaml"),
};

/// As they are, and as strict as their settings make them; nginx has none for this.
const KINDS: [Kind; 5] = [
    NGINX,
    HAPROXY,
    ENVOY,
    Kind { name: "HAProxy, strict", template: include_str!("peers/haproxy-strict.cfg"), ..HAPROXY },
    Kind { name: "Envoy, strict", template: include_str!("peers/envoy-strict.yaml"), ..ENVOY },
];

/// What became of an input that should go no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// A request made of it reached the program whole.
    SentOn,
    /// The program got a part of it, and never a whole request.
    Begun,
    /// Nothing of it came, but what stood behind it was taken for a request of its own.
    Behind,
    Refused,
}

/// An input that was sent, and what became of it.
struct Came<'i> {
    input: &'i Input,
    fate: Fate,
    status: Option<u16>,
    seen: Vec<Seen>,
}

/// All inputs through one of them.
struct Compared<'i> {
    name: String,
    came: Vec<Came<'i>>,
}

/// What all of them do with the inputs that leno refuses, as tables.
pub(crate) fn compare(inputs: &[Input]) -> String {
    let refused: Vec<&Input> = inputs.iter().filter(|input| input.is_refused()).collect();
    let compared: Vec<Compared> = std::thread::scope(|scope| {
        let own = scope.spawn(|| through("leno".to_owned(), &Front::start().lanes, &refused));
        let peers: Vec<_> = KINDS
            .into_iter()
            .map(|kind| {
                let refused = &refused;
                scope.spawn(move || {
                    let peer = Peer::start(&kind);
                    through(format!("{} {}", kind.name, peer.version), &peer.lanes, refused)
                })
            })
            .collect();
        std::iter::once(own).chain(peers).map(|one| one.join().unwrap()).collect()
    });
    if let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from).filter(|folder| folder.is_dir()) {
        for compared in &compared {
            let name = compared.name.split_whitespace().collect::<Vec<_>>().join("-").replace(',', "");
            std::fs::write(folder.join(format!("{name}.txt")), compared.detail()).unwrap();
        }
    }
    format!("{}\n{}", table(&compared), list(&refused, &compared))
}

fn through<'i>(name: String, lanes: &[Lane], inputs: &[&'i Input]) -> Compared<'i> {
    let (next, came) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                while let Some(input) = inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = send(lane, input);
                    came.lock().unwrap().push(one);
                }
            });
        }
    });
    let mut came: Vec<Came> = came.into_inner().unwrap();
    came.sort_by_key(|came| (came.input.row.clone(), came.input.id.clone()));
    Compared { name, came }
}

fn send<'i>(lane: &Lane, input: &'i Input) -> Came<'i> {
    lane.upstream.script(&[]);
    let answer = client::ask_whoever(lane.port, input);
    lane.upstream.settle();
    let mut seen = lane.upstream.take();
    let behind = seen.iter().any(|seen| seen.bytes.starts_with(b"GET /smuggled "));
    seen.retain(|seen| !client::is_ours(&seen.bytes));
    let sent_on = seen.iter().any(|seen| seen.complete || is_malformed(&seen.bytes));
    let fate = match (sent_on, seen.is_empty(), behind) {
        (true, ..) => Fate::SentOn,
        (false, false, _) => Fate::Begun,
        (false, true, true) => Fate::Behind,
        (false, true, false) => Fate::Refused,
    };
    Came { input, fate, status: status_of(&answer), seen }
}

// === what is printed ===

/// A row of faults in each line, one that is compared in each column: how many were sent on, and how many begun.
fn table(compared: &[Compared]) -> String {
    let mut lines: BTreeMap<&str, Vec<[usize; 3]>> = BTreeMap::new();
    for (column, one) in compared.iter().enumerate() {
        for came in &one.came {
            for row in [came.input.row.as_str(), "~"] {
                let cells = lines.entry(row).or_insert_with(|| vec![[0; 3]; compared.len()]);
                cells[column][0] += 1;
                cells[column][1] += usize::from(came.fate == Fate::SentOn);
                cells[column][2] += usize::from(came.fate == Fate::Begun);
            }
        }
    }
    let names: Vec<&str> = compared.iter().map(|compared| compared.name.as_str()).collect();
    let mut text = format!("| inputs that should go no further | of them | {} |\n", names.join(" | "));
    writeln!(text, "| --- | ---: |{}", " ---: |".repeat(names.len())).unwrap();
    for (row, cells) in lines {
        let row = if row == "~" { "**together**" } else { row };
        let shown = |cell: &[usize; 3]| match cell {
            [_, sent, 0] => sent.to_string(),
            [_, sent, begun] => format!("{sent} + {begun}"),
        };
        let cells: Vec<String> = std::iter::once(cells[0][0].to_string()).chain(cells.iter().map(shown)).collect();
        writeln!(text, "| {row} | {} |", cells.join(" | ")).unwrap();
    }
    for one in compared {
        let count = |fate| one.came.iter().filter(|came| came.fate == fate).count();
        let (behind, silent) = (
            count(Fate::Behind),
            one.came.iter().filter(|came| came.fate == Fate::Refused && came.status.is_none()).count(),
        );
        writeln!(text, "{}: {behind} answered and the next request served, {silent} not answered", one.name).unwrap();
    }
    text
}

/// Which inputs each of them, as it is, sends on or begins to.
fn list(inputs: &[&Input], compared: &[Compared]) -> String {
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for input in inputs {
        let as_they_are = compared.iter().filter(|one| !one.name.contains("strict"));
        let who = as_they_are.filter_map(|one| {
            let came = one.came.iter().find(|came| came.input.id == input.id)?;
            let name = one.name.rsplit_once(' ').map_or(one.name.as_str(), |(name, _)| name);
            match came.fate {
                Fate::SentOn => Some(name.to_owned()),
                Fate::Begun => Some(format!("({name})")),
                Fate::Behind | Fate::Refused => None,
            }
        });
        let who: Vec<String> = who.collect();
        if !who.is_empty() {
            rows.entry(&input.row).or_default().push(format!("`{}` {}", input.id, who.join(", ")));
        }
    }
    rows.iter().map(|(row, ids)| format!("- {row}: {}\n", ids.join("; "))).collect()
}

impl Compared<'_> {
    /// Each input with what was answered and what the program saw.
    fn detail(&self) -> String {
        let line = |came: &Came| {
            let status = came.status.map_or("-".to_owned(), |status| status.to_string());
            format!("{} {}: {:?}, {status}, {:?}\n", came.input.row, came.input.id, came.fate, came.seen)
        };
        self.came.iter().map(line).collect()
    }
}

// === peers ===

/// A running peer. Dropped, it is ended.
struct Peer {
    version: String,
    lanes: Vec<Lane>,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(kind: &Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lanes: Vec<Lane> = (0..LANES).map(|_| Lane { port: free_address(), upstream: Upstream::start() }).collect();
        // Envoy looks at the ending; the others do not.
        let file = folder.path().join("settings.yaml");
        std::fs::write(&file, kind.settings(&lanes)).unwrap();
        let mut command = Command::new((kind.program)());
        for argument in kind.arguments {
            let argument = argument.replace("FILE", file.to_str().unwrap());
            command.arg(argument.replace("FOLDER", folder.path().to_str().unwrap()));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + START_TIMEOUT;
        for lane in &lanes {
            while TcpStream::connect(lane.port).is_err() {
                assert!(Instant::now() < until, "{} does not listen", kind.name);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Self { version: kind.version(), lanes, child, _folder: folder }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Their own children go when they are asked to end.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let until = Instant::now() + START_TIMEOUT;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    fn settings(&self, lanes: &[Lane]) -> String {
        let mut text = String::new();
        for (number, part) in self.template.split("# for each lane\n").enumerate() {
            let Some((of_lane, rest)) = part.split_once("# end\n").filter(|_| number > 0) else {
                text += part;
                continue;
            };
            for (number, lane) in lanes.iter().enumerate() {
                let (listen, behind) = (lane.port, lane.upstream.address);
                let of_lane = of_lane.replace("BEHIND_PORT", &behind.port().to_string());
                let of_lane = of_lane.replace("BEHIND", &behind.to_string()).replace("LISTEN", &listen.to_string());
                text += &of_lane.replace("PORT", &listen.port().to_string()).replace("LANE", &number.to_string());
            }
            text += rest;
        }
        text
    }

    /// The first number with points in what it says about itself.
    fn version(&self) -> String {
        let said = Command::new((self.program)()).arg(self.version).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        let mut words = said.split(|c: char| c.is_whitespace() || c == '/');
        let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        words.find(is_version).unwrap_or("of no version").to_owned()
    }
}

fn installed(name: &str) -> PathBuf {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let mut places = path.split(':').map(|folder| Path::new(folder).join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| panic!("{name} is not installed"))
}
