//! The watchdog: reports a thread that has not turned for more than 500 ms, with its name.
//!
//! A thread that waits for events costs nothing: its runtime says when it parks and when it wakes. One that is awake is
//! sent a ping every 250 ms, which its runtime answers between two tasks; no answer for 500 ms is a stall, which means
//! that something blocks or computes where it must not. One thread watches all, so that a stalled control thread is seen
//! too. Rejected: a heartbeat timer on each thread, which would wake idle processes ten times a second.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use leno_model::seam::Clock;
use tokio::sync::Notify;

use crate::clock::SystemClock;

/// A thread that has not turned for so long has stalled.
pub const STALL: Duration = Duration::from_millis(500);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(250);

/// Threads that are watched; further ones are not.
const WATCHED_MAX: usize = 1024;

/// The sign of life of one thread.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Heart>);

#[derive(Debug)]
struct Heart {
    name: String,
    parked: AtomicBool,
    ping: Notify,
    /// When the ping that is not answered yet was sent, in milliseconds; 0 when none is.
    pinged: AtomicU64,
    reported: AtomicBool,
    /// How long the last turn took in which somebody looked, in microseconds.
    turn: AtomicU64,
}

static WATCHED: Mutex<Vec<Weak<Heart>>> = Mutex::new(Vec::new());
static STALLS: AtomicU64 = AtomicU64::new(0);
static STARTED: Once = Once::new();

/// How many stalls were seen since the process started.
pub fn stalls() -> u64 {
    STALLS.load(Ordering::Relaxed)
}

/// How late threads are whose names begin so: how long the latest takes for one turn, in which everything has its turn that
/// has something to do. Looked at four times a second.
pub fn lateness(of: &str) -> Duration {
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let late = watched.iter().filter_map(Weak::upgrade).filter(|heart| heart.name.starts_with(of));
    let now = now_ms();
    late.map(|heart| heart.lateness(now)).max().unwrap_or_default()
}

/// Watches the calling thread until the pulse is dropped.
pub(crate) fn register(name: &str) -> Pulse {
    let heart = Arc::new(Heart {
        name: name.to_owned(),
        // Until its runtime runs, nothing answers pings.
        parked: AtomicBool::new(true),
        ping: Notify::new(),
        pinged: AtomicU64::new(0),
        reported: AtomicBool::new(false),
        turn: AtomicU64::new(0),
    });
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain(|heart| heart.strong_count() > 0);
    if watched.len() < WATCHED_MAX {
        watched.push(Arc::downgrade(&heart));
    }
    STARTED.call_once(|| {
        let started = thread::Builder::new().name("leno-watchdog".to_owned()).spawn(|| {
            loop {
                thread::sleep(LOOK);
                look(now_ms());
            }
        });
        if let Err(error) = started {
            tracing::warn!(error = %error, "stalls are not watched");
        }
    });
    Pulse(heart)
}

/// Looks at every thread once.
fn look(now: u64) {
    let watched: Vec<Arc<Heart>> = {
        let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().filter_map(Weak::upgrade).collect()
    };
    for heart in watched {
        heart.look(now);
    }
}

/// Milliseconds since the first call, plus one, so that 0 can mean never.
fn now_ms() -> u64 {
    1 + SystemClock.monotonic().as_millis() as u64
}

// === impl Heart ===

impl Heart {
    fn look(&self, now: u64) {
        let pinged = self.pinged.load(Ordering::Acquire);
        if pinged == 0 {
            if self.parked.load(Ordering::Acquire) {
                self.turn.store(0, Ordering::Relaxed);
            } else {
                self.pinged.store(now, Ordering::Release);
                self.ping.notify_one();
            }
            return;
        }
        let silent = now.saturating_sub(pinged);
        let is_late = silent >= STALL.as_millis() as u64 && !self.parked.load(Ordering::Acquire);
        if is_late && !self.reported.swap(true, Ordering::AcqRel) {
            STALLS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(thread = self.name, silent_ms = silent, "thread stalled");
        }
    }

    fn lateness(&self, now: u64) -> Duration {
        let silent = match self.pinged.load(Ordering::Acquire) {
            0 => 0,
            pinged => now.saturating_sub(pinged),
        };
        Duration::from_micros(self.turn.load(Ordering::Relaxed)).max(Duration::from_millis(silent))
    }

    fn answer(&self) {
        let pinged = self.pinged.swap(0, Ordering::AcqRel);
        if self.reported.swap(false, Ordering::AcqRel) {
            tracing::warn!(thread = self.name, stalled_ms = now_ms().saturating_sub(pinged), "thread turns again");
        }
    }
}

// === impl Pulse ===

impl Pulse {
    /// The runtime has nothing to do.
    pub(crate) fn park(&self) {
        self.0.parked.store(true, Ordering::Release);
    }

    /// The runtime has something to do.
    pub(crate) fn unpark(&self) {
        self.0.parked.store(false, Ordering::Release);
    }

    /// Runs `future` and answers pings beside it.
    pub(crate) async fn beat_while<T>(&self, future: impl Future<Output = T>) -> T {
        self.unpark();
        let heart = self.0.clone();
        let answering = tokio::task::spawn_local(async move {
            loop {
                heart.ping.notified().await;
                heart.answer();
                // Woken from elsewhere, this has come before others; now it stands behind all of them.
                let began = SystemClock.monotonic();
                tokio::task::yield_now().await;
                heart.turn.store((SystemClock.monotonic() - began).as_micros() as u64, Ordering::Relaxed);
            }
        });
        let result = pin!(future).await;
        answering.abort();
        self.park();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heart(name: &str) -> Arc<Heart> {
        register(name).0
    }

    #[test]
    fn a_thread_that_does_not_answer_is_reported_once_and_counted() {
        let heart = heart("stalled");
        heart.parked.store(false, Ordering::Release);
        let before = stalls();
        for now in [1000, 1250, 1500, 1750] {
            heart.look(now);
        }
        assert!(heart.reported.load(Ordering::Acquire));
        assert_eq!(stalls() - before, 1);
        heart.answer();
        assert!(!heart.reported.load(Ordering::Acquire));
    }

    #[test]
    fn a_thread_that_waits_for_events_is_neither_pinged_nor_reported() {
        let heart = heart("parked");
        heart.look(1000);
        assert_eq!(heart.pinged.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_thread_is_as_late_as_all_take_together_that_have_something_to_do() {
        let pulse = register("late-one");
        let runtime = tokio::runtime::LocalRuntime::new().unwrap();
        runtime.block_on(pulse.beat_while(async {
            let busy = (0..50).map(|_| {
                tokio::task::spawn_local(async {
                    let began = SystemClock.monotonic();
                    while lateness("late-") < Duration::from_millis(25) {
                        assert!(SystemClock.monotonic() - began < Duration::from_secs(20));
                        thread::sleep(Duration::from_millis(1));
                        tokio::task::yield_now().await;
                    }
                })
            });
            let busy: Vec<_> = busy.collect();
            while busy.iter().any(|task| !task.is_finished()) {
                pulse.0.look(1000);
                tokio::task::yield_now().await;
            }
        }));
        pulse.0.look(2000);
        assert_eq!(lateness("nobody"), Duration::ZERO);
    }

    #[test]
    fn a_runtime_that_turns_answers() {
        let pulse = register("turning");
        let runtime = tokio::runtime::LocalRuntime::new().unwrap();
        runtime.block_on(pulse.beat_while(async {
            pulse.0.look(1000);
            while pulse.0.pinged.load(Ordering::Acquire) != 0 {
                tokio::task::yield_now().await;
            }
        }));
    }
}
