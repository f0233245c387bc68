//! What a TrafficPolicy says of retries, deadlines and hedges, and what Envoy makes of it.
//!
//! Two origins that fail as a path says stand behind the policies: a path below `/flaky` is answered 503 the first time it is
//! asked for, and one of the two takes long over `/slow`. What they were asked says what Envoy did.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{ASK_PERIOD, Driver, Envoy, TAKE_DEADLINE};
use crate::http::Client;

/// How long the slow one takes: longer than anybody waits here.
const SLOW: Duration = Duration::from_secs(4);
/// What is given to a request, in milliseconds.
const GIVEN: u64 = 9_000;

/// What was asked of the two.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Request>>>);

struct Request {
    path: String,
    /// `x-envoy-expected-rq-timeout-ms`.
    left: Option<u64>,
}

/// Whether Envoy does what the policies say; false where the driver cannot say that.
pub(super) fn judge(envoy: &Envoy, driver: &dyn Driver) -> Result<bool> {
    let asked = Asked::default();
    let ports = [start(true, asked.clone())?, start(false, asked.clone())?];
    let wide = json!({"percent": 100, "minPerSecond": 100});
    let retries = |retry: Value| json!({"requestTimeout": format!("{GIVEN}ms"), "retry": retry, "retryBudget": wide});
    if !driver.apply_policy(&ports, retries(json!({"on": ["gateway-error"], "attempts": 2})))? {
        return Ok(false);
    }
    let mut until = Instant::now() + TAKE_DEADLINE;
    let mut times = 0..;
    let mut flaky = |method: &str| -> Result<(u16, Vec<Option<u64>>)> {
        let path = format!("/flaky/{method}/{}", times.next().unwrap_or(0));
        let status = Client::connect_to(driver.listen(), "cart")?.ask(method, &path)?.status;
        Ok((status, asked.left_of(&path)))
    };
    // A policy is there when what it says is done.
    let left = loop {
        match flaky("GET")? {
            (200, left) if left.len() == 2 => break left,
            other if Instant::now() > until => bail!("a GET was not tried again: {other:?}"),
            _ => thread::sleep(ASK_PERIOD),
        }
    };
    if !left.iter().all(|left| left.is_some_and(|left| left <= GIVEN)) {
        bail!("of {GIVEN} ms the origin heard that {left:?} are left");
    }
    let (status, tries) = flaky("POST")?;
    if (status, tries.len()) != (503, 1) {
        bail!("a POST that no policy names was tried {} times and answered {status}", tries.len());
    }
    driver.apply_policy(&ports, retries(json!({"on": ["gateway-error"], "methods": ["POST"]})))?;
    until = Instant::now() + TAKE_DEADLINE;
    while flaky("POST")?.0 != 200 {
        if Instant::now() > until {
            bail!("a POST that is named was not tried again");
        }
        thread::sleep(ASK_PERIOD);
    }
    hedges(driver, &ports, &wide, &asked)?;
    match envoy.rejected()? {
        0 => Ok(true),
        refused => bail!("it refused {refused} updates"),
    }
}

/// Whether one that is slow is helped out by the other, for a GET alone.
fn hedges(driver: &dyn Driver, ports: &[u16], budget: &Value, asked: &Asked) -> Result<()> {
    driver.apply_policy(ports, json!({"hedge": {"delay": "100ms"}, "retryBudget": budget}))?;
    // Four that meet the slow one before the policy is there take that long.
    let until = Instant::now() + TAKE_DEADLINE + 4 * SLOW;
    let ask = |method: &str, path: &str| -> Result<Duration> {
        let began = Instant::now();
        let answer = Client::connect_to(driver.listen(), "cart")?.ask(method, path)?;
        match answer.status {
            200 => Ok(began.elapsed()),
            status => bail!("{path} was answered {status}"),
        }
    };
    // In turn, so that of two that follow each other one met the slow one; it is enough that a few do.
    while (0..4).map(|_| ask("GET", "/slow/get")).collect::<Result<Vec<_>>>()?.iter().any(|took| *took >= SLOW) {
        if Instant::now() > until {
            bail!("nobody helped the slow one out");
        }
    }
    let before = asked.left_of("/slow/post").len();
    ask("POST", "/slow/post")?;
    match asked.left_of("/slow/post").len() - before {
        1 => Ok(()),
        sent => bail!("a POST was sent {sent} times"),
    }
}

// === impl Asked ===

impl Asked {
    /// What each request of a path heard that is left.
    fn left_of(&self, path: &str) -> Vec<Option<u64>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|request| request.path == path).map(|request| request.left).collect()
    }

    /// Notes a request; whether its path had been asked for.
    fn note(&self, request: Request) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().any(|before| before.path == request.path);
        all.push(request);
        known
    }
}

/// Starts an origin on a free port; it lives as long as this process does.
fn start(is_slow: bool, asked: Asked) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = asked.clone();
            // A connection that breaks is Envoy's business.
            thread::spawn(move || drop(serve(stream, is_slow, &asked)));
        }
    });
    Ok(port)
}

fn serve(stream: TcpStream, is_slow: bool, asked: &Asked) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(first) = lines.next() {
        let path = first?.split(' ').nth(1).context("a request without a path")?.to_owned();
        let mut left = None;
        loop {
            let line = lines.next().context("a head that ends early")??.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("x-envoy-expected-rq-timeout-ms:") {
                left = Some(value.trim().parse()?);
            }
        }
        let (flaky, slow) = (path.starts_with("/flaky"), path.starts_with("/slow"));
        let known = asked.note(Request { path, left });
        if slow && is_slow {
            thread::sleep(SLOW);
        }
        let status = if flaky && !known { "503 Service Unavailable" } else { "200 OK" };
        writer.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    }
    Ok(())
}
