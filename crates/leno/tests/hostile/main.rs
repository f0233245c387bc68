//! Hostile HTTP/1, byte for byte: what a gateway of the built binary answers, what becomes of the connection, and which
//! bytes the program behind it sees. The inputs are in `inputs/`, a file for each row of faults; `inputs/README.md` says
//! how they are written.
//!
//! `LENO_HOSTILE_PEERS` asks, besides, what nginx, HAProxy and Envoy do with what is to be refused (`peers.rs`).
//!
//! Each lane has a port of the gateway and a program of its own, so that what a program saw belongs to one input.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod client;
mod inputs;
#[path = "../kit/mod.rs"]
mod kit;
mod peers;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use client::Sending;
use inputs::{End, Input};
use kit::mesh::Process;
use kit::{figures, free_address, leno};
use upstream::Upstream;

const LANES: usize = 8;
const INPUTS_MIN: usize = 400;
const ROW_MIN: usize = 5;
const SPLIT_MIN: usize = 50;
/// Faults that a failure shows.
const SHOWN_MAX: usize = 40;

#[test]
fn hostile_input_is_answered_as_its_row_says_and_what_is_refused_reaches_nobody() {
    let began = Instant::now();
    let inputs = inputs::read();
    let rows = count_rows(&inputs);
    let split = inputs.iter().filter(|input| input.split).count();
    assert!(inputs.len() >= INPUTS_MIN && rows.values().all(|count| *count >= ROW_MIN), "{} of {rows:?}", inputs.len());
    assert!(split >= SPLIT_MIN, "{split} are to be split");
    let front = Front::start();
    let (runs, faults) = front.run(&inputs);
    let shown: Vec<&str> = faults.iter().take(SHOWN_MAX).map(String::as_str).collect();
    assert!(faults.is_empty(), "{} of {runs} went otherwise:\n{}", faults.len(), shown.join("\n"));
    let refused = inputs.iter().filter(|input| input.is_refused()).count();
    let rows: Vec<String> = rows.iter().map(|(row, count)| format!("{row} {count}")).collect();
    figures(format_args!(
        "hostile: {} inputs, {refused} to be refused, of which 0 reached an upstream; {split} split at every byte: {runs} runs, {:.1} s; {}",
        inputs.len(),
        began.elapsed().as_secs_f64(),
        rows.join(", ")
    ));
    drop(front);
    if std::env::var_os(peers::VARIABLE).is_some() {
        figures(format_args!("{}", peers::compare(&inputs)));
    }
}

fn count_rows(inputs: &[Input]) -> BTreeMap<&str, usize> {
    let mut rows = BTreeMap::new();
    for input in inputs {
        *rows.entry(input.row.as_str()).or_default() += 1;
    }
    rows
}

/// A gateway with a port and a program for each lane.
struct Front {
    lanes: Vec<Lane>,
    _gateway: Process,
}

struct Lane {
    port: SocketAddr,
    upstream: Upstream,
}

// === impl Front ===

impl Front {
    fn start() -> Self {
        let lanes: Vec<Lane> = (0..LANES).map(|_| Lane { port: free_address(), upstream: Upstream::start() }).collect();
        let mut listeners = String::new();
        let mut rest = String::new();
        for (number, lane) in lanes.iter().enumerate() {
            listeners += &format!("    - {{name: l{number}, port: {}, protocol: HTTP}}\n", lane.port.port());
            rest += &format!(
                "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: shop}}\n\
                 spec:\n  parentRefs: [{{name: edge, sectionName: l{number}}}]\n  rules:\n    - backendRefs: [{{name: s{number}, port: 80}}]\n\
                 ---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: s{number}, namespace: shop}}\n\
                 spec:\n  ports: [{{port: 80, protocol: http}}]\n  endpoints: [{{address: 127.0.0.1, port: {}}}]\n",
                lane.upstream.address.port()
            );
        }
        let gateway = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\n\
             spec:\n  gatewayClassName: leno\n  listeners:\n{listeners}{rest}"
        );
        let leno = leno().file("gateway.yaml", &gateway);
        let arguments = ["proxy", "--role", "gateway", "--gateway", "edge.shop", "--resources", "gateway.yaml"];
        let listens = ["outbound", "inbound", "admin", "metrics"].map(|name| format!("--{name}-listen=off"));
        let listens: Vec<&str> = listens.iter().map(String::as_str).collect();
        let gateway = Process::start(&leno, &[&arguments[..], &listens].concat());
        gateway.wait_for("ready");
        Self { lanes, _gateway: gateway }
    }

    /// Runs every input whole, and those that are to be split once for each place; how many runs, and what went wrong.
    fn run(&self, inputs: &[Input]) -> (usize, Vec<String>) {
        let only = std::env::var("LENO_TEST_CASE").ok();
        let wanted = inputs.iter().filter(|input| only.as_ref().is_none_or(|only| input.id.contains(only.as_str())));
        let mut runs: Vec<(&Input, Sending)> = wanted.flat_map(sendings).collect();
        // What is begun when a fault comes is heard of late, and belongs to no input that is sent at once.
        runs.sort_by_key(|(_, sending)| *sending != Sending::Whole);
        let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for lane in &self.lanes {
                scope.spawn(|| {
                    while let Some((input, sending)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(fault) = client::run(lane.port, &lane.upstream, input, *sending) {
                            faults.lock().unwrap().push(format!("{} {}, {sending:?}: {fault}", input.row, input.id));
                        }
                    }
                });
            }
        });
        let mut faults = faults.into_inner().unwrap();
        for lane in &self.lanes {
            let late = lane.upstream.take();
            if !late.is_empty() {
                faults.push(format!("after the last input, an upstream saw {late:?}"));
            }
        }
        (runs.len(), faults)
    }
}

/// Whole; and in two pieces for each place, and byte by byte.
fn sendings(input: &Input) -> Vec<(&Input, Sending)> {
    let mut sendings = vec![(input, Sending::Whole)];
    if input.split {
        sendings.extend((1..input.first_len()).map(|at| (input, Sending::Pieces(at))));
        sendings.push((input, Sending::Bytes));
    }
    sendings
}

// === impl Input ===

impl Input {
    /// Whether nothing of it may reach an upstream.
    fn is_refused(&self) -> bool {
        self.seen.is_empty() && self.answers.is_empty() && self.end != End::Keep
    }
}
