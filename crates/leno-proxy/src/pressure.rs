//! What the proxy does when it gets short of memory, and when it has more to do than it can, so that it bends and does not
//! break.
//!
//! ```text
//! control thread: memory ─► reactions ─► Pressure (one word) ─┬─► workers: idle connections end, slow readers are given up
//!   ▲ now and then, and at once when many wait                ├─► requests: refused by priority, with one look at the word
//!   └────────── Strain::grew ◄── workers ─────────────────────┴─► listeners: nothing is accepted
//! ```
//!
//! Between two looks memory may be filled faster than anybody could look: what is kept for a reader comes from endpoints at
//! once. So a look says how many more readers may be waited for until the next one, were as much kept for each as may be; for
//! one more, somebody goes who has waited long, or it is not waited for.
//!
//! Refusals hold no memory and are quick, so that whoever matters most is still served; who reads nothing is reset, because
//! what is kept for it is most of what a proxy holds. Rejected: to count the bytes that each connection holds, which costs
//! every request something, to find out what those have in common who are found here anyhow: their readers take nothing.

mod report;
mod show;
pub(crate) mod stalled;
mod watch;

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leno_http::hold;
use leno_model::snapshot::Priority;
use leno_runtime::memory::Seen;
use leno_traffic::Pressure;
use leno_traffic::busy::{Busy, Cut};
use tokio::sync::Notify;
use tokio::sync::watch as signal;
use tokio::time::Instant;

use crate::worker::Worker;

pub use leno_traffic::busy::Bounds;
pub use leno_traffic::pressure::{Reaction, Thresholds};
pub(crate) use report::report;
pub use show::{describe, measure};
pub use watch::{watch, watch_busy};

/// How often a worker does something while there is pressure.
const EVERY: Duration = Duration::from_millis(100);
const AT_ONCE_EVERY: Duration = Duration::from_millis(10);
const WHOLE: u16 = 1000;
/// Whoever has taken nothing of an answer for so long reads slowly; the less memory is left, the sooner.
const SLOW: Duration = Duration::from_millis(500);
/// From so many permille to be given up on, age does not count.
const AT_ONCE: u16 = 500;
/// What is kept at most for a reader who is waited for: the window of a stream towards its endpoint, and a buffer.
const KEPT: u64 = 96 * 1024;
/// What is read at a time of what endpoints send ahead, at most.
const PIECE: u64 = 64 * 1024;
/// So many more connections, or readers who wait, are a reason to look at once.
const MANY: usize = 16;

/// What the threads of a proxy tell each other about its being short of memory.
#[derive(Debug)]
pub struct Strain {
    word: AtomicU32,
    changed: signal::Sender<()>,
    /// Somebody asks for a look.
    look: Notify,
    /// Answers that wait for their readers.
    waiting: AtomicUsize,
    /// How many more may, until the next look.
    room: AtomicIsize,
    /// How many more pieces may be read of what endpoints send ahead, until the next look; whether somebody waits for it.
    pieces: AtomicIsize,
    held: AtomicBool,
    accepted: AtomicU64,
    seen: Mutex<Option<Seen>>,
    refused: [AtomicU64; Priority::ALL.len()],
    /// What is left out because there is too much to do.
    cut: AtomicU32,
    busy: Mutex<Busy>,
    left_out: [AtomicU64; Priority::ALL.len()],
    reset: AtomicU64,
    pauses: AtomicU64,
}

// === impl Strain ===

impl Default for Strain {
    /// Nothing is short, and nobody looks.
    fn default() -> Self {
        Self {
            word: AtomicU32::default(),
            changed: signal::Sender::default(),
            look: Notify::default(),
            waiting: AtomicUsize::default(),
            room: AtomicIsize::new(isize::MAX / 2),
            pieces: AtomicIsize::new(isize::MAX / 2),
            held: AtomicBool::default(),
            accepted: AtomicU64::default(),
            seen: Mutex::default(),
            refused: Default::default(),
            cut: AtomicU32::default(),
            busy: Mutex::default(),
            left_out: Default::default(),
            reset: AtomicU64::default(),
            pauses: AtomicU64::default(),
        }
    }
}

impl Strain {
    /// What is done at the moment.
    pub fn now(&self) -> Pressure {
        Pressure::of_word(self.word.load(Relaxed))
    }

    /// Says what is done from now on, and what was seen.
    pub(crate) fn say(&self, pressure: Pressure, seen: Option<Seen>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        let is_new = self.change(|now| pressure.busy(now.is_busy()));
        if is_new || self.held.swap(false, Relaxed) {
            self.changed.send_replace(());
        }
    }

    /// Says what is left out from now on because there is too much to do, and what was seen.
    pub(crate) fn say_busy(&self, cut: Cut, busy: Busy) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = busy;
        self.cut.store(cut.word(), Relaxed);
        self.change(|now| now.busy(!cut.is_none()));
    }

    /// Whether it was another one before.
    fn change(&self, to: impl Fn(Pressure) -> Pressure) -> bool {
        let next = |word| {
            let next = to(Pressure::of_word(word)).word();
            (next != word).then_some(next)
        };
        self.word.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// What is left out because there is too much to do.
    fn cut(&self) -> Cut {
        Cut::of_word(self.cut.load(Relaxed))
    }

    /// Whether a request of this priority is left out because there is too much to do; counted if it is.
    pub(crate) fn leaves_out(&self, priority: Priority, random_bits: u64) -> bool {
        let of_thousand = self.cut().of(priority);
        let is_left_out = u64::from(of_thousand) > random_bits % 1000;
        if is_left_out {
            self.left_out[priority as usize].fetch_add(1, Relaxed);
        }
        is_left_out
    }

    /// Whether a request of this priority is refused; counted if it is.
    pub(crate) fn refuses(&self, priority: Priority) -> bool {
        let refuses = self.now().is(Reaction::from(priority));
        if refuses {
            self.refused[priority as usize].fetch_add(1, Relaxed);
        }
        refuses
    }

    /// Waits while nothing is accepted.
    pub(crate) async fn may_accept(&self) {
        if !self.now().is(Reaction::StopAccepting) {
            return;
        }
        self.pauses.fetch_add(1, Relaxed);
        let mut changed = self.changed.subscribe();
        // The sender is in here, so that it does not go before this ends.
        let _ = changed.wait_for(|()| !self.now().is(Reaction::StopAccepting)).await;
    }

    /// So many answers were given up.
    fn reset(&self, count: usize) {
        self.reset.fetch_add(count as u64, Relaxed);
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        if self.accepted.fetch_add(1, Relaxed).is_multiple_of(MANY as u64) {
            self.grew();
        }
    }

    /// An answer waits for its reader; whether there is room for one more.
    fn waits(&self) -> bool {
        self.waiting.fetch_add(1, Relaxed);
        self.room.fetch_sub(1, Relaxed) > 0
    }

    /// It does not wait any more.
    fn goes_on(&self) {
        self.waiting.fetch_sub(1, Relaxed);
        self.room.fetch_add(1, Relaxed);
    }

    /// More may be held than a moment ago: it is time to look.
    pub(crate) fn grew(&self) {
        self.look.notify_one();
    }

    /// Whether a piece may be read of what endpoints send ahead: until the next look, so many as there is memory for.
    fn may_read(&self) -> bool {
        if self.now().is(Reaction::ReadLess) {
            return false;
        }
        let may = self.pieces.fetch_sub(1, Relaxed) > 0;
        if !may {
            self.held.store(true, Relaxed);
            self.grew();
        }
        may
    }
}

/// What a worker does while there is pressure, until it is dropped.
pub(crate) async fn relieve(worker: Rc<Worker>) {
    let strain = &worker.shared.strain;
    stalled::tell(strain.clone());
    let reads_less = strain.clone();
    hold::when(move || !reads_less.may_read());
    let mut changed = strain.changed.subscribe();
    let mut released = Instant::now();
    loop {
        while strain.now().is_calm() {
            hold::release();
            if changed.changed().await.is_err() {
                return;
            }
        }
        let pressure = strain.now();
        if pressure.is(Reaction::CloseIdle) {
            worker.close_idle();
        }
        if pressure.is(Reaction::ResetSlow) {
            let reset = match pressure.share() {
                share if share >= AT_ONCE => stalled::give_up(Duration::ZERO, WHOLE),
                share => stalled::give_up(SLOW * u32::from(AT_ONCE - share) / u32::from(AT_ONCE), share),
            };
            strain.reset(reset);
        }
        if !pressure.is(Reaction::ReadLess) || released.elapsed() >= EVERY {
            hold::release();
            released = Instant::now();
        }
        tokio::time::sleep(if pressure.share() >= AT_ONCE { AT_ONCE_EVERY } else { EVERY }).await;
    }
}

#[cfg(test)]
mod tests;
