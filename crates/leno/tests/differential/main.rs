//! Differential test: mutated streams of requests through a gateway of the built binary, and what other programs read in
//! the bytes that it sends on.
//!
//! ```text
//! stream ─► leno_http ─► method, target and body of each request, as leno reads them
//!      └──► gateway ───► a program that writes down what it gets ─► h11, Go, Node, nginx, HAProxy: what each reads
//! ```
//!
//! A stream is refused, or what arrives behind the gateway is what leno read, in order and nothing else, and every peer
//! reads the same in it. A peer may refuse methods that it does not serve, which is counted, and nothing else.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod front;
#[path = "../kit/mod.rs"]
mod kit;
mod peers;
mod reading;
mod streams;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use front::Front;
use kit::{figures, skip};
use reading::Request;

/// Streams of a run; `LENO_DIFFERENTIAL_STREAMS` asks for more, and `LENO_DIFFERENTIAL_SEED` for others.
const STREAMS: u64 = 20_000;
/// Differences that a failure shows.
const SHOWN_MAX: usize = 20;
/// Of all streams, this part at least must be refused, and this part sent on, or the mutators are no good.
const EACH_PART_MIN: f64 = 0.1;

const TEST: &str = "every_program_reads_what_leno_read_in_what_leno_sent_on";

#[test]
fn every_program_reads_what_leno_read_in_what_leno_sent_on() {
    if let Some(missing) = peers::missing() {
        return skip(TEST, &missing);
    }
    let began = Instant::now();
    let (streams, seed) = (variable("LENO_DIFFERENTIAL_STREAMS", STREAMS), variable("LENO_DIFFERENTIAL_SEED", 1));
    let passed = through_leno(streams, seed);
    let in_leno = began.elapsed();
    assert!(passed.faults.is_empty(), "{}", shown(&passed.faults));
    let (sent, peers) = (passed.units.len(), peers::start());
    let results: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> = peers.iter().map(|peer| scope.spawn(|| peer.compare(&passed.units))).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let faults: Vec<String> = results.iter().flat_map(|result| result.faults.iter().cloned()).collect();
    assert!(faults.is_empty(), "{}", shown(&faults));
    let told: Vec<String> = results.iter().map(|result| result.to_string()).collect();
    figures(format_args!(
        "differential: {streams} streams (seed {seed}), {} with a request refused, {} requests sent on, {sent} different; 0 differences; {}; {:.0} s in leno, {:.0} s in all",
        passed.refused,
        passed.sent,
        told.join("; "),
        in_leno.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
    let part = |count: usize| count as f64 / streams as f64;
    assert!(part(passed.refused) > EACH_PART_MIN && part(passed.sent) > EACH_PART_MIN, "the mutators are no good");
}

/// What came of the streams.
struct Passed {
    /// What an upstream got, and what leno had read: each different request once.
    units: Vec<(Vec<u8>, Request)>,
    sent: usize,
    refused: usize,
    faults: Vec<String>,
}

fn through_leno(streams: u64, seed: u64) -> Passed {
    let front = Front::start();
    let (next, refused, sent) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (units, faults) = (Mutex::new(HashMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in front.lanes() {
            scope.spawn(|| {
                let reader = reading::Reader::start();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if number >= streams {
                        return;
                    }
                    let stream = streams::stream(seed, number);
                    let read = reader.read(&stream);
                    refused.fetch_add(usize::from(read.refused), Ordering::Relaxed);
                    match lane.send(&stream, &read) {
                        Ok(seen) => {
                            sent.fetch_add(seen.len(), Ordering::Relaxed);
                            units.lock().unwrap().extend(seen);
                        }
                        Err(fault) => {
                            faults
                                .lock()
                                .unwrap()
                                .push(format!("stream {number}: {fault}\n  {}", stream.escape_ascii()));
                        }
                    }
                }
            });
        }
    });
    // In an order that does not depend on who was first.
    let units: BTreeMap<_, _> = units.into_inner().unwrap().into_iter().collect();
    Passed {
        units: units.into_iter().collect(),
        sent: sent.into_inner(),
        refused: refused.into_inner(),
        faults: faults.into_inner().unwrap(),
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn shown(faults: &[String]) -> String {
    let first: Vec<&str> = faults.iter().take(SHOWN_MAX).map(String::as_str).collect();
    format!("{} differences:\n{}", faults.len(), first.join("\n"))
}
