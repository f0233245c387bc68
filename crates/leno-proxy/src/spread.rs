//! Spreading connections over workers: who serves one that a worker has accepted.
//!
//! The kernel spreads connections over the sockets of a group by a hash, which is uneven where they are few: of 16 over
//! 4 workers one has 6 in the median. So a worker that has more than 1.25 times the connections of the least loaded one,
//! plus 4, passes a new one on to that. Requests stay where their connection is. Rejected: one thread that accepts for
//! all, which every connection would have to leave.
//!
//! HTTP/2 connections count 1, however many streams they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use leno_net::stream::Detached;
use leno_runtime::DrainGuard;
use leno_telemetry::Registry;
use leno_telemetry::metric::Kind;
use tokio::sync::mpsc;

use crate::listener::Purpose;

/// Connections that may be on their way to one worker.
const PASSED_MAX: usize = 1024;
/// Connections by which workers may differ in any case.
const SLACK: usize = 4;

/// A connection on its way to another worker.
pub(crate) struct Passed {
    pub(crate) purpose: Purpose,
    pub(crate) stream: Detached,
    pub(crate) guard: DrainGuard,
    pub(crate) counted: Counted,
}

/// One worker's way to pass connections on.
pub(crate) struct Spread {
    own: usize,
    loads: Loads,
    workers: Arc<[mpsc::Sender<Passed>]>,
}

/// The open connections of every worker.
#[derive(Clone)]
pub(crate) struct Loads {
    workers: Arc<[Load]>,
}

/// Alone on its cache lines, for its worker changes it with each connection.
#[derive(Default)]
#[repr(align(128))]
struct Load {
    open: AtomicUsize,
    /// Connections that this worker passed on.
    passed: AtomicU64,
}

/// One connection of a worker, until it is dropped.
pub(crate) struct Counted {
    loads: Loads,
    worker: usize,
}

/// The ends for `workers` workers, and what arrives at each.
pub(crate) fn spread(workers: usize) -> (Loads, Vec<(Spread, mpsc::Receiver<Passed>)>) {
    let loads = Loads { workers: (0..workers).map(|_| Load::default()).collect() };
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(PASSED_MAX)).unzip();
    let senders: Arc<[_]> = senders.into();
    let end = |(own, receiver)| (Spread { own, loads: loads.clone(), workers: senders.clone() }, receiver);
    let ends = receivers.into_iter().enumerate().map(end).collect();
    (loads, ends)
}

// === impl Spread ===

impl Spread {
    /// Counts a connection that this worker has accepted for whoever shall serve it: none is this worker itself.
    pub(crate) fn assign(&self) -> (Counted, Option<usize>) {
        let to = self.loads.choose(self.own);
        (self.loads.count(to), (to != self.own).then_some(to))
    }

    /// Counts a connection of this worker.
    pub(crate) fn keep(&self) -> Counted {
        self.loads.count(self.own)
    }

    /// Passes a connection on; one that does not get through comes back.
    pub(crate) fn pass(&self, to: usize, passed: Passed) -> Result<(), Passed> {
        self.workers[to].try_send(passed).map_err(|back| back.into_inner())?;
        self.loads.workers[self.own].passed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

// === impl Loads ===

impl Loads {
    /// The worker for a connection that `own` has accepted.
    fn choose(&self, own: usize) -> usize {
        let open = |worker: &Load| worker.open.load(Ordering::Relaxed);
        let Some((least, load)) = self.workers.iter().enumerate().min_by_key(|(_, worker)| open(worker)) else {
            return own;
        };
        // 1.25 times, in whole numbers.
        if open(&self.workers[own]) * 4 > open(load) * 5 + SLACK * 4 { least } else { own }
    }

    fn count(&self, worker: usize) -> Counted {
        self.workers[worker].open.fetch_add(1, Ordering::Relaxed);
        Counted { loads: self.clone(), worker }
    }

    /// Shows them.
    pub(crate) fn measure(&self, metrics: &Registry) {
        let loads = self.clone();
        metrics.collector(move |out| {
            let (open, passed) = ("leno_worker_connections", "leno_worker_connections_passed_total");
            out.family(open, "Accepted connections that each worker serves.", Kind::Gauge);
            for (worker, load) in loads.workers.iter().enumerate() {
                let worker = worker.to_string();
                out.sample(open, &[("worker", &worker)], load.open.load(Ordering::Relaxed) as f64);
            }
            out.family(passed, "Connections that each worker passed on to one with fewer.", Kind::Counter);
            for (worker, load) in loads.workers.iter().enumerate() {
                let worker = worker.to_string();
                out.sample(passed, &[("worker", &worker)], load.passed.load(Ordering::Relaxed) as f64);
            }
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.loads.workers[self.worker].open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_accepts_everything_passes_on_what_others_have_room_for() {
        let (loads, ends) = spread(4);
        let open: Vec<Counted> = (0..200).map(|_| ends[0].0.assign().0).collect();
        let spread: Vec<usize> = loads.workers.iter().map(|load| load.open.load(Ordering::Relaxed)).collect();
        let (most, least) = (spread.iter().max().unwrap(), spread.iter().min().unwrap());
        assert!(most * 4 <= least * 5 + 4 * SLACK + 4, "{spread:?}");
        drop(open);
        assert!(loads.workers.iter().all(|load| load.open.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn few_connections_stay_where_they_were_accepted() {
        let (_, ends) = spread(2);
        let open: Vec<_> = (0..5).map(|_| ends[1].0.assign()).collect();
        assert!(open.iter().all(|(_, to)| to.is_none()));
        assert_eq!(ends[1].0.assign().1, Some(0));
    }
}
