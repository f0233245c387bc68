//! Who is measured: how each is started, and what its processes cost.
//!
//! `recipe` is the one place to change a command line. Configurations are templates in `bench/`: `@LISTEN@` is a free port, `@UPSTREAM@` what is proxied to,
//! `@UPSTREAM1@` the HTTP/1.1 upstream in every case, `@FOLDER@` a scratch folder with `certificates/up.crt`, `up.key` and `up.pem` (both), `@FILE@` the configuration with all of that filled in.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Case, load};
use crate::install::envoy;
use crate::process::{below, free_port, output, root, scratch, signal, which};

/// Longest wait for a proxy's first answer.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// What `/large` of the upstream has.
pub(crate) const LARGE_BYTES: u64 = 10_000_000;
/// What callgrind's files are called, beside the configuration of the process that it counts in.
const COUNTS: &str = "counts";
/// Linux reports CPU time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// A proxy, or a chain of two of the same kind.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
}

/// Folder, upstreams and leno's binary of one bench run.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    leno: Option<PathBuf>,
    upstream1: u16,
    upstream2: u16,
    _upstreams: Vec<Ended>,
}

/// A contestant that answers on `port`.
pub(crate) struct Running {
    pub(crate) port: u16,
    /// From the start of the first process to the first answer through it.
    pub(crate) started_in: Duration,
    processes: Vec<Ended>,
}

/// How one proxy of a contestant is started.
struct Recipe {
    program: PathBuf,
    /// Separated by spaces.
    arguments: &'static str,
    /// The configuration template, below `bench/`.
    template: &'static str,
}

/// Who takes part in a case.
pub(crate) fn of_case(case: Case) -> Vec<Contestant> {
    let names: &[&'static str] = match case {
        Case::Http1 | Case::Large => &["leno", "tcp-copy", "haproxy", "nginx", "envoy"],
        Case::Mesh => &["direct", "leno", "haproxy", "nginx", "envoy"],
        Case::Idle => &["leno", "gateway", "haproxy", "nginx", "envoy"],
        Case::Policy => &["leno", "plain"],
        _ => &["leno", "haproxy", "nginx", "envoy"],
    };
    names.iter().map(|name| Contestant { name }).collect()
}

/// leno: one destination on a port of its own, bytes only.
const LENO_TCP: &str = "proxy --workers 1 --resources @FILE@ --to up=127.0.0.1:@LISTEN@ --outbound-listen off --inbound-listen off --admin-listen off --metrics-listen off";
/// leno: by name through the outbound port.
const LENO_HTTP: &str = "proxy --workers 1 --resources @FILE@ --outbound-listen 127.0.0.1:@LISTEN@ --inbound-listen off --admin-listen off --metrics-listen off";
/// leno: at the edge with one listener, and metrics to be scraped.
const LENO_GATEWAY: &str = "proxy --workers 1 --resources @FILE@ --role gateway --gateway edge --certificates @FOLDER@/certificates --outbound-listen off --inbound-listen off --admin-listen off --metrics-listen 127.0.0.1:0";

fn recipe(name: &str, case: Case, place: &Place) -> Result<Recipe> {
    let leno = || place.leno.clone().context("leno was not built");
    let peer = |name: &str| which(name).with_context(|| format!("{name} is not installed"));
    let (program, arguments, [tcp, http1, http2, tls]) = match name {
        "leno" if case == Case::Tcp => (leno()?, LENO_TCP, ["leno/tcp.yaml"; 4]),
        "leno" if case == Case::Policy => (leno()?, LENO_HTTP, ["leno/policy.yaml"; 4]),
        "plain" => (leno()?, LENO_HTTP, ["leno/http1.yaml"; 4]),
        "tcp-copy" => (leno()?, LENO_TCP, ["leno/tcp.yaml"; 4]),
        "gateway" => (leno()?, LENO_GATEWAY, ["leno/gateway.yaml"; 4]),
        "leno" if case.is_tls() => (leno()?, LENO_GATEWAY, ["leno/tls.yaml"; 4]),
        "leno" => (leno()?, LENO_HTTP, ["leno/tcp.yaml", "leno/http1.yaml", "leno/http2.yaml", "leno/tls.yaml"]),
        "haproxy" => (
            peer("haproxy")?,
            "-db -f @FILE@",
            ["peers/haproxy-tcp.cfg", "peers/haproxy-http1.cfg", "peers/haproxy-http2.cfg", "peers/haproxy-tls.cfg"],
        ),
        "nginx" => (
            peer("nginx")?,
            "-e stderr -c @FILE@",
            ["peers/nginx-tcp.conf", "peers/nginx-http1.conf", "peers/nginx-http2.conf", "peers/nginx-tls.conf"],
        ),
        "envoy" => (
            envoy()?,
            "-c @FILE@ --concurrency 1 --disable-hot-restart -l off",
            ["peers/envoy-tcp.yaml", "peers/envoy-http1.yaml", "peers/envoy-http2.yaml", "peers/envoy-tls.yaml"],
        ),
        _ => bail!("nobody is called {name}"),
    };
    let template = match case {
        Case::Tcp => tcp,
        _ if case.is_http2() => http2,
        _ if case.is_tls() => tls,
        _ => http1,
    };
    Ok(Recipe { program, arguments, template })
}

// === impl Contestant ===

impl Contestant {
    pub(crate) fn is_ours(&self) -> bool {
        ["leno", "tcp-copy", "gateway", "plain"].contains(&self.name)
    }

    /// Starts it and waits for its first answer.
    pub(crate) fn start(&self, case: Case, place: &Place) -> Result<Running> {
        let (mut port, mut processes) = (place.upstream(case), Vec::new());
        let started = Instant::now();
        let proxies = match (self.name, case) {
            ("direct", _) => 0,
            (_, Case::Mesh) => 2,
            _ => 1,
        };
        for _ in 0..proxies {
            let (listen, process) = self.start_one(case, place, port)?;
            processes.push(process);
            port = listen;
            wait_for_answer(case, port, started + START_DEADLINE, &mut processes)?;
        }
        Ok(Running { port, started_in: started.elapsed(), processes })
    }

    fn start_one(&self, case: Case, place: &Place, upstream: u16) -> Result<(u16, Ended)> {
        let recipe = recipe(self.name, case, place)?;
        let listen = free_port()?;
        let file = place.fill(recipe.template, listen, upstream)?;
        let folder = place.folder().display().to_string();
        let values = [("@FILE@", file.display().to_string()), ("@LISTEN@", listen.to_string()), ("@FOLDER@", folder)];
        let arguments = recipe.arguments.split(' ').map(|argument| fill(argument, &values));
        if case != Case::Policy {
            return Ok((listen, pinned("0", &recipe.program, arguments)?));
        }
        let counts = format!("--callgrind-out-file={}", file.with_extension(COUNTS).display());
        let counted = ["-q", "--tool=callgrind", &counts].map(str::to_owned).into_iter();
        let valgrind = which("valgrind").context("valgrind is not installed")?;
        Ok((listen, pinned("0", &valgrind, counted.chain([recipe.program.display().to_string()]).chain(arguments))?))
    }
}

/// Polls fast, for the start case measures this.
fn wait_for_answer(case: Case, port: u16, until: Instant, processes: &mut [Ended]) -> Result<()> {
    loop {
        let answered = match case {
            _ if case.is_http2() || case.is_tls() => TcpStream::connect(("127.0.0.1", port)).is_ok(),
            _ => load::one_request(port).is_ok(),
        };
        if answered {
            return Ok(());
        }
        for process in processes.iter_mut() {
            if let Some(status) = process.0.try_wait()? {
                bail!("it ended with {status} instead of listening");
            }
        }
        if Instant::now() > until {
            bail!("no answer on port {port} after {} s", START_DEADLINE.as_secs());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

// === impl Place ===

impl Place {
    /// Starts the upstreams; they stay until the place is dropped.
    pub(crate) fn prepare(leno: Option<PathBuf>) -> Result<Self> {
        let (upstream1, upstream2) = (free_port()?, free_port()?);
        let folder = scratch("bench")?;
        let mut place = Place { folder, leno, upstream1, upstream2, _upstreams: Vec::new() };
        fs::File::create(place.folder().join("large"))?.set_len(LARGE_BYTES)?;
        certificate(&place.folder().join("certificates"))?;
        let conf = place.fill("upstream/http1.conf", upstream1, 0)?;
        let nginx = which("nginx").context("nginx is not installed")?;
        let nghttpd = which("nghttpd").context("nghttpd is not installed")?;
        let arguments = ["-e", "stderr", "-c"].map(str::to_owned).into_iter().chain([conf.display().to_string()]);
        let http1 = pinned("1", &nginx, arguments)?;
        let files = root().join("bench/upstream/files").display().to_string();
        let arguments =
            ["--no-tls", "-m", "1000", "-d", &files, "-a", "127.0.0.1", &upstream2.to_string()].map(str::to_owned);
        let http2 = pinned("1", &nghttpd, arguments.into_iter())?;
        place._upstreams = vec![http1, http2];
        wait_for_answer(Case::Http1, upstream1, Instant::now() + START_DEADLINE, &mut place._upstreams)?;
        wait_for_answer(Case::Http2, upstream2, Instant::now() + START_DEADLINE, &mut place._upstreams)?;
        Ok(place)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn upstream(&self, case: Case) -> u16 {
        if case.is_http2() { self.upstream2 } else { self.upstream1 }
    }

    /// A template of `bench/` with its places filled in.
    fn fill(&self, template: &str, listen: u16, upstream: u16) -> Result<PathBuf> {
        let source = root().join("bench").join(template);
        let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        let values = [
            ("@LISTEN@", listen.to_string()),
            ("@UPSTREAM1@", self.upstream1.to_string()),
            ("@UPSTREAM@", upstream.to_string()),
            ("@FOLDER@", self.folder().display().to_string()),
        ];
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = self.folder().join(format!("{listen}-{name}"));
        fs::write(&file, fill(&text, &values))?;
        Ok(file)
    }
}

// === impl Running ===

impl Running {
    /// CPU time of all its processes so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0.0;
        for pid in self.pids() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has another shape")?;
            // utime and stime are the 14th and 15th field; the name is the second.
            let times: Vec<f64> =
                fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
            ticks += times.iter().sum::<f64>();
        }
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// VmRSS of all its processes.
    pub(crate) fn rss_mb(&self) -> Result<f64> {
        let mut kilobytes = 0.0;
        for pid in self.pids() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
            kilobytes +=
                line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default();
        }
        Ok(kilobytes / 1024.0)
    }

    /// Has callgrind begin to count.
    pub(crate) fn count_instructions(&self) -> Result<()> {
        self.tell_callgrind("--zero")
    }

    /// Instructions since then.
    pub(crate) fn instructions(&self, place: &Place) -> Result<f64> {
        self.tell_callgrind("--dump")?;
        let mut sum = 0.0;
        for entry in fs::read_dir(place.folder())? {
            let path = entry?.path();
            // Written anew by each process, and taken away once it is read.
            if path.to_string_lossy().contains(&format!(".{COUNTS}")) {
                let text = fs::read_to_string(&path)?;
                let totals = text.lines().filter_map(|line| line.strip_prefix("totals: ")?.trim().parse::<f64>().ok());
                sum += totals.sum::<f64>();
                fs::remove_file(path)?;
            }
        }
        if sum > 0.0 { Ok(sum) } else { bail!("callgrind counted nothing") }
    }

    fn tell_callgrind(&self, what: &str) -> Result<()> {
        for process in &self.processes {
            output(Command::new("callgrind_control").args([what, &process.pid().to_string()]))?;
        }
        Ok(())
    }

    fn pids(&self) -> Vec<i32> {
        let own = self.processes.iter().map(Ended::pid);
        own.flat_map(|pid| std::iter::once(pid).chain(below(pid))).collect()
    }
}

/// A child that is ended when this is dropped.
pub(crate) struct Ended(Child);

impl Ended {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or_default()
    }
}

impl Drop for Ended {
    /// The parent first, so that it replaces no child.
    fn drop(&mut self) {
        let children = below(self.pid());
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
        for pid in children {
            signal(pid, Signal::KILL);
        }
    }
}

/// Starts a program on one core; `taskset` becomes the program, so the child's id is the program's.
pub(crate) fn pinned(core: &str, program: &Path, arguments: impl Iterator<Item = String>) -> Result<Ended> {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    Ok(Ended(child))
}

/// A certificate for `up`, ECDSA over P-256, in the shapes that the contestants read.
fn certificate(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]);
    command.args(["-subj", "/CN=up", "-addext", "subjectAltName=DNS:up", "-keyout", "up.key", "-out", "up.crt"]);
    output(command.current_dir(folder))?;
    let [certificate, key] = ["up.crt", "up.key"].map(|name| fs::read_to_string(folder.join(name)));
    Ok(fs::write(folder.join("up.pem"), certificate? + &key?)?)
}

fn fill(text: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}
