//! h2spec, strict, against a gateway of leno's, in clear and over TLS.
//!
//! What is not passed on purpose stands in `interop/programs/h2spec/exceptions.txt` with its reason; everything else has to pass in every run.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::install::built;
use crate::process::{free_port, output, root, run_seeing, scratch};
use crate::test::Counts;

/// How often it runs in each way, unless it is said.
pub(super) const RUNS: usize = 2;
const START_DEADLINE: Duration = Duration::from_secs(10);
const RUN_DEADLINE: Duration = Duration::from_secs(120);
/// What is asked for. It is answered after a moment: some cases break the rules on a stream that they take for open, which one
/// that is answered at once is no longer.
const PATH: &str = "/after/20";
/// Cases of version 2.2.1 when it is strict.
const CASES: usize = 146;

/// A way of speaking HTTP/2: its name, and h2spec's own words for it.
struct Way {
    name: &'static str,
    arguments: &'static [&'static str],
}

/// Over TLS the certificate is one that nobody signed.
const WAYS: [Way; 2] =
    [Way { name: "cleartext", arguments: &[] }, Way { name: "tls", arguments: &["--tls", "--insecure"] }];

/// A case, by its section and its name.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Case {
    package: String,
    name: String,
}

/// A case that is not passed on purpose.
struct Exception {
    way: String,
    case: Case,
    why: String,
}

/// A process that ends with this.
struct Ended(Child);

/// Every run in every way.
pub(crate) fn against(leno: &Path, runs: usize) -> Result<Counts> {
    let folder = scratch("h2spec")?;
    let (origin, ports) = (free_port()?, [free_port()?, free_port()?]);
    let source = root().join("interop/programs/h2spec");
    let resources = fs::read_to_string(source.join("gateway.yaml"))?;
    let [cleartext, tls] = ports.map(|port| port.to_string());
    let resources = resources.replace("@CLEARTEXT@", &cleartext).replace("@TLS@", &tls);
    fs::write(folder.path().join("gateway.yaml"), resources.replace("@ORIGIN@", &origin.to_string()))?;
    certificate(folder.path())?;
    let exceptions = exceptions(&fs::read_to_string(source.join("exceptions.txt"))?)?;
    let _origin = start(Command::new(built("go-server")).arg(format!("127.0.0.1:{origin}")), &[origin])?;
    let mut gateway = Command::new(leno);
    gateway.args(["proxy", "--role", "gateway", "--gateway", "edge", "--resources", "gateway.yaml"]);
    gateway.args(["--certificates", ".", "--data-dir", "data", "--admin-listen", "off", "--metrics-listen", "off"]);
    let _gateway = start(gateway.current_dir(folder.path()), &ports)?;
    let mut counts = Counts::default();
    for (way, port) in WAYS.iter().zip(ports) {
        let started = Instant::now();
        for run in 1..=runs {
            let report = folder.path().join(format!("{}-{run}.xml", way.name));
            let mut command = Command::new(built("h2spec"));
            command.args(["--strict", "--host", "127.0.0.1", "--timeout", "3", "--path", PATH]);
            command.args(way.arguments).args(["--port", &port.to_string()]).arg("--junit-report").arg(&report);
            // Its status says whether all passed, which is judged here.
            run_seeing(&mut command, RUN_DEADLINE, |_| {})?;
            judge(way.name, run, &fs::read_to_string(&report)?, &exceptions, &mut counts);
        }
        println!("h2spec       {}: {runs} runs in {:.1} s", way.name, started.elapsed().as_secs_f32());
    }
    Ok(counts)
}

/// A certificate of today that signs itself, where the gateway looks for it.
fn certificate(folder: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.args(["-days", "2", "-subj", "/CN=edge", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-keyout", "edge.key", "-out", "edge.crt"]);
    output(command.current_dir(folder)).map(drop)
}

fn judge(way: &str, run: usize, report: &str, exceptions: &[Exception], counts: &mut Counts) {
    let cases = cases(report);
    if cases.len() != CASES {
        counts.fail(format!("h2spec: {way}, run {run}: {} cases, not {CASES}", cases.len()));
    }
    let (mut good, mut excepted) = (0, 0);
    for (case, passed) in &cases {
        let exception = exceptions.iter().find(|one| one.way == way && one.case == *case);
        match (passed, exception) {
            (true, None) => good += 1,
            (false, Some(exception)) => {
                let (package, name) = (&case.package, &case.name);
                println!("h2spec       {way}: not passed on purpose: {package} {name}: {}", exception.why);
                excepted += 1;
            }
            (false, None) => counts.fail(format!("h2spec: {way}, run {run}: {} {}", case.package, case.name)),
            (true, Some(_)) => {
                counts.fail(format!("h2spec: {way}: {} {} passes and is still excepted", case.package, case.name));
            }
        }
    }
    counts.passed += good;
    println!("h2spec       {way}, run {run}: {good} of {} good, {excepted} not on purpose", cases.len());
}

/// Every case of a report in JUnit's XML, and whether it passed.
fn cases(report: &str) -> Vec<(Case, bool)> {
    let attribute = |case: &str, name: &str| {
        let value = case.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.map(|(value, _)| value.replace("&#34;", "\"").replace("&amp;", "&")).unwrap_or_default()
    };
    let is_bad = |case: &str| ["<error", "<failure", "<skipped"].iter().any(|verdict| case.contains(verdict));
    let cases = report.split("<testcase").skip(1);
    cases
        .map(|case| {
            let passed = !case.split("</testcase>").next().is_some_and(is_bad);
            (Case { package: attribute(case, "package"), name: attribute(case, "classname") }, passed)
        })
        .collect()
}

fn exceptions(text: &str) -> Result<Vec<Exception>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut parts = line.splitn(4, '|').map(|part| part.trim().to_owned());
            let mut next = || parts.next().with_context(|| format!("exceptions.txt: {line}"));
            let (way, package, name, why) = (next()?, next()?, next()?, next()?);
            Ok(Exception { way, case: Case { package, name }, why })
        })
        .collect()
}

/// Starts a program and waits until it listens on all of these ports.
fn start(command: &mut Command, ports: &[u16]) -> Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let mut process = Ended(command.spawn().with_context(|| program.clone())?);
    let until = Instant::now() + START_DEADLINE;
    for port in ports {
        while TcpStream::connect(("127.0.0.1", *port)).is_err() {
            if process.0.try_wait()?.is_some() || Instant::now() > until {
                bail!("{program} does not listen on port {port}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(process)
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuites><testsuite name="3.5. Preface" package="http2/3.5">
        <testcase package="http2/3.5" classname="Sends a &#34;good&#34; one" time="0.1"></testcase>
        <testcase package="http2/3.5" classname="Sends a bad one" time="0.1"><error>no</error></testcase>
        </testsuite></testsuites>"#;

    #[test]
    fn a_report_is_read() {
        let case = |name: &str| Case { package: "http2/3.5".to_owned(), name: name.to_owned() };
        assert_eq!(cases(REPORT), [(case("Sends a \"good\" one"), true), (case("Sends a bad one"), false)]);
    }

    #[test]
    fn an_exception_needs_its_reason() {
        let read = exceptions("# words\ntls | http2/1 | A name | a | reason\n").unwrap();
        assert_eq!((read[0].way.as_str(), read[0].why.as_str()), ("tls", "a | reason"));
        assert!(exceptions("tls | http2/1 | A name\n").is_err());
    }
}
