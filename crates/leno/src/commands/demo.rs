//! `leno demo`: a whole mesh on this machine, and a story about it whose every claim is measured.
//!
//! ```text
//! server, 9 proxies, 8 programs of 7 services: children of this process, in a temporary directory
//! visitors (here) ─► proxy ─► front ─► catalog, reviews, cart ─► stock, payments ─► shipping
//! ```
//!
//! The programs are told the address of their proxy and call each other by name through it. Capture, as `leno run` does
//! it, is not used, so that the demo runs in any container. Whatever way this process ends, its children end with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leno_model::seam::Random;
use leno_runtime::SystemRandom;
use leno_runtime::signal::Signals;
use serde_json::json;
use tokio::time::Instant;

use super::failure::{Exit, Failure};
use crate::args::DemoArgs;

mod load;
mod mesh;
mod process;
mod story;
mod tell;

use load::Load;
use mesh::Mesh;
use tell::{Claim, Tell};

/// The time that a step of the story is measured for: this part of `--for`, within these bounds.
const PACE_PART: u32 = 20;
const PACE_MIN: Duration = Duration::from_secs(1);
const PACE_MAX: Duration = Duration::from_secs(3);

/// Why the demo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its time was over.
    Time,
    /// Somebody asked for it.
    Asked,
}

/// What the steps of the story share.
struct Demo {
    mesh: Mesh,
    load: Rc<Load>,
    tell: Tell,
    claims: Vec<Claim>,
    /// How long one measurement lasts.
    pace: Duration,
    /// When to end.
    until: Option<Instant>,
}

/// Runs the demo.
pub fn run(args: &DemoArgs) -> ExitCode {
    let ended = leno_runtime::threads::control(Box::pin(demo(args)));
    let outcome = ended.unwrap_or_else(|error| Err(Failure::new(Exit::No, format!("no event loop: {error}"), "")));
    super::finish(outcome)
}

async fn demo(args: &DemoArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::catch().map_err(|error| Failure::new(Exit::No, format!("signals: {error}"), ""))?;
    let started = Instant::now();
    let Some(http) = args.http_listen.address() else {
        return Err(Failure::usage(
            "--http-listen off: the demo needs the server's API",
            "name an address, as 127.0.0.1:0",
        ));
    };
    let mesh = Mesh::new(http)?;
    let pace = args.time.map_or(PACE_MAX, |time| (time / PACE_PART).clamp(PACE_MIN, PACE_MAX));
    let until = args.time.map(|time| started + time);
    let load = Rc::new(Load::new(mesh.visitors()));
    let mut demo = Demo { mesh, load, tell: Tell::new(args.json, started), claims: Vec::new(), pace, until };
    let played = tokio::select! {
        played = Box::pin(demo.play()) => played.map(|()| Ended::Time),
        _ = signals.next() => Ok(Ended::Asked),
    };
    demo.end(played).await
}

// === impl Demo ===

impl Demo {
    /// The story, in order; goes on with traffic until its time is over.
    async fn play(&mut self) -> Result<(), Failure> {
        self.begin().await?;
        self.canary().await?;
        self.failing_service().await?;
        self.refused_resource().await?;
        self.killed_server().await?;
        self.go_on().await
    }

    /// Ends every process, says what came of it, and with which status.
    async fn end(mut self, played: Result<Ended, Failure>) -> Result<Exit, Failure> {
        self.load.stop();
        let total = self.load.total();
        let left = self.mesh.end().await;
        let ended = played?;
        let is_whole = self.claims.iter().any(|claim| claim.id == story::LAST_CLAIM);
        self.claim("failures", "no request failed", total.failures == 0, total.words())?;
        self.claim("clean", "no process, directory or port is left", left.is_clean(), left.words())?;
        let held = self.claims.iter().filter(|claim| claim.held).count();
        let all_held = held == self.claims.len() && is_whole;
        self.tell.summary(
            &self.claims,
            all_held,
            &json!({
                "ended": if ended == Ended::Time { "time" } else { "asked" },
                "complete": is_whole,
                "requests": total.requests,
                "failures": total.failures,
                "causes": total.causes,
            }),
        )?;
        Ok(if all_held { Exit::Done } else { Exit::No })
    }

    /// Notes whether what is claimed held, and says so.
    fn claim(&mut self, id: &'static str, text: &str, held: bool, measured: String) -> Result<(), Failure> {
        let claim = Claim { id, text: text.to_owned(), held, measured };
        self.tell.claim(&claim)?;
        self.claims.push(claim);
        Ok(())
    }
}

/// Ports that belong to this demo as long as its process lives, whatever other demos run: who listens on the first of
/// them has them all.
struct Block {
    _first: TcpListener,
    next: u16,
    end: u16,
}

/// A port of this address's machine that nobody listens on, and that no other demo takes meanwhile; outside of the range
/// from which connections take theirs, so that a server that is gone for a moment finds it free again.
fn free_port(ip: IpAddr) -> Result<SocketAddr, Failure> {
    static BLOCK: Mutex<Option<Block>> = Mutex::new(None);
    let none = || Failure::new(Exit::No, "no free ports between 10000 and 30000", "end what listens on so many");
    let mut block = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if block.is_none() {
        *block = Block::take();
    }
    let block = block.as_mut().ok_or_else(none)?;
    let mut left = std::mem::replace(&mut block.next, block.end)..block.end;
    let found = left.by_ref().map(|port| SocketAddr::new(ip, port)).find(|address| TcpListener::bind(address).is_ok());
    block.next = left.start;
    found.ok_or_else(none)
}

impl Block {
    const FIRST: u16 = 10_000;
    /// Several times what a demo needs.
    const SIZE: u16 = 200;
    const COUNT: u64 = 100;
    const TRIES: usize = 200;

    fn take() -> Option<Block> {
        (0..Self::TRIES).find_map(|_| {
            let first = Self::FIRST + Self::SIZE * SystemRandom.below(Self::COUNT) as u16;
            let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
            Some(Block { _first: held, next: first + 1, end: first + Self::SIZE })
        })
    }
}
