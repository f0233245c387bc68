//! How much of a destination is in use at once: so many at a time, and behind them a short queue, first come, first
//! served (Envoy's `circuit_breakers`, Resilience4j's bulkhead).
//!
//! Entering and leaving cost an atomic operation each. Only who has to wait takes a lock, and who leaves while somebody
//! waits: it hands its right on, so that nobody who comes later overtakes. Rejected: a semaphore of the runtime, whose
//! every release takes the lock of its waiters, and which has no end to its queue. The owner brings the deadline and drops
//! what waits too long; what is dropped is out of the queue.
//!
//! That nobody waits in vain rests on one order of all operations (`SeqCst`): who waits says so before it looks once more
//! for a right, who leaves gives its right back before it looks whether somebody waits. One of the two sees the other.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A limit and its queue, shared by all workers.
#[derive(Debug)]
#[repr(align(64))]
pub struct Bulkhead {
    open: AtomicU32,
    max: AtomicU32,
    /// As many as the queue has, to be looked at without its lock.
    waiting: AtomicU32,
    waiting_max: AtomicU32,
    refused: AtomicU64,
    late: AtomicU64,
    queue: Mutex<Queue>,
}

/// One that is in; it leaves when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it is leaving"]
pub struct Entered<'b>(&'b Bulkhead);

/// One that is in and keeps what it is in: for what lives longer than whoever let it in.
#[derive(Debug)]
#[must_use = "dropping it is leaving"]
pub struct Held(Arc<Bulkhead>);

/// One that waits; dropped, it does no more.
#[derive(Debug)]
#[must_use = "dropping it is giving up"]
pub struct Waiting<'b> {
    bulkhead: &'b Bulkhead,
    place: Place,
}

/// Nobody else may enter or wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What a bulkhead holds, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// How many are in.
    pub open: u32,
    /// How many may be.
    pub max: u32,
    /// How many wait.
    pub waiting: u32,
    /// How many may.
    pub waiting_max: u32,
    /// How many were refused.
    pub refused: u64,
    /// How many gave up waiting because their time was over.
    pub late: u64,
}

/// A place in the queue: the lower rank comes first, and of one rank who came first.
type Place = (u8, u64);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<Place, Option<Waker>>,
    /// Those that may enter and have not yet.
    granted: BTreeSet<Place>,
}

// === impl Bulkhead ===

impl Bulkhead {
    /// Without limit.
    pub fn new() -> Self {
        Self {
            open: AtomicU32::new(0),
            max: AtomicU32::new(u32::MAX),
            waiting: AtomicU32::new(0),
            waiting_max: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            late: AtomicU64::new(0),
            queue: Mutex::default(),
        }
    }

    /// Has so many enter and wait from now on. Those that are in stay in.
    pub fn set(&self, max: u32, waiting_max: u32) {
        self.max.store(max, SeqCst);
        self.waiting_max.store(waiting_max, SeqCst);
        self.hand_on();
    }

    /// Enters, if there is room and nobody waits.
    pub fn try_enter(&self) -> Option<Entered<'_>> {
        (self.waiting.load(SeqCst) == 0 && self.take()).then(|| Entered(self))
    }

    /// Enters or counts a refusal.
    pub fn enter_or_refuse(&self) -> Option<Entered<'_>> {
        let entered = self.try_enter();
        if entered.is_none() {
            self.refused.fetch_add(1, Relaxed);
        }
        entered
    }

    /// Enters for as long as the result lives, if there is room and nobody waits.
    pub fn try_hold(self: &Arc<Self>) -> Option<Held> {
        self.try_enter().map(|entered| entered.hold(self))
    }

    /// Counts one that was refused.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Takes a place in the queue, behind all others.
    pub fn wait(&self) -> Result<Waiting<'_>, Full> {
        self.wait_as(u8::MAX)
    }

    /// Takes a place in the queue, before those of a higher rank.
    pub fn wait_as(&self, rank: u8) -> Result<Waiting<'_>, Full> {
        let mut queue = self.queue();
        if queue.waiting.len() >= self.waiting_max.load(SeqCst) as usize {
            self.refused.fetch_add(1, Relaxed);
            return Err(Full);
        }
        let place = (rank, queue.next);
        queue.next += 1;
        queue.waiting.insert(place, None);
        self.waiting.fetch_add(1, SeqCst);
        // Somebody may have left before it could see that somebody waits.
        let woken = self.grant(&mut queue);
        drop(queue);
        woken.into_iter().for_each(Waker::wake);
        Ok(Waiting { bulkhead: self, place })
    }

    /// Counts one that gave up because its time was over.
    pub fn count_late(&self) {
        self.late.fetch_add(1, Relaxed);
    }

    /// What it holds.
    pub fn fill(&self) -> Fill {
        Fill {
            open: self.open.load(Relaxed),
            max: self.max.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            waiting_max: self.waiting_max.load(Relaxed),
            refused: self.refused.load(Relaxed),
            late: self.late.load(Relaxed),
        }
    }

    fn take(&self) -> bool {
        let max = self.max.load(SeqCst);
        self.open.fetch_update(SeqCst, SeqCst, |open| (open < max).then(|| open + 1)).is_ok()
    }

    /// One is out that forgot its right.
    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.hand_on();
        }
    }

    #[cold]
    fn hand_on(&self) {
        let woken = self.grant(&mut self.queue());
        woken.into_iter().for_each(Waker::wake);
    }

    /// Has the first ones enter as far as there is room, and gives those that are to be told.
    fn grant(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = queue.waiting.first_entry() {
            if !self.take() {
                break;
            }
            let (place, waker) = first.remove_entry();
            queue.granted.insert(place);
            self.waiting.fetch_sub(1, SeqCst);
            woken.extend(waker);
        }
        woken
    }

    /// A panic while it is changed cannot leave it half written, so poisoning is no reason to stop.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Bulkhead {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Entered, Held, Waiting ===

impl Entered<'_> {
    /// Stays in; whoever calls says when it leaves.
    pub(crate) fn forget(self) {
        let _stays = ManuallyDrop::new(self);
    }

    /// Stays in for as long as the result lives; `bulkhead` is the one that it is in.
    pub fn hold(self, bulkhead: &Arc<Bulkhead>) -> Held {
        debug_assert!(std::ptr::eq(self.0, &**bulkhead), "it is in another one");
        // The result leaves in its place.
        let _stays = ManuallyDrop::new(self);
        Held(Arc::clone(bulkhead))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<'b> Future for Waiting<'b> {
    type Output = Entered<'b>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Entered<'b>> {
        let mut queue = self.bulkhead.queue();
        if queue.granted.remove(&self.place) {
            return Poll::Ready(Entered(self.bulkhead));
        }
        if let Some(waker) = queue.waiting.get_mut(&self.place) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.bulkhead.queue();
        if queue.waiting.remove(&self.place).is_some() {
            self.bulkhead.waiting.fetch_sub(1, SeqCst);
        } else if queue.granted.remove(&self.place) {
            drop(queue);
            // It may enter and does not want to any more: the next one may.
            self.bulkhead.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max: u32, waiting_max: u32) -> Bulkhead {
        let bulkhead = Bulkhead::new();
        bulkhead.set(max, waiting_max);
        bulkhead
    }

    fn poll<'b>(waiting: &mut Waiting<'b>) -> Option<Entered<'b>> {
        match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => Some(entered),
            Poll::Pending => None,
        }
    }

    #[test]
    fn so_many_enter_and_no_more() {
        let bulkhead = of(2, 0);
        let (one, two) = (bulkhead.try_enter(), bulkhead.try_enter());
        assert!(one.is_some() && two.is_some() && bulkhead.enter_or_refuse().is_none());
        drop(one);
        assert!(bulkhead.try_enter().is_some());
    }

    #[test]
    fn what_is_held_is_in_until_it_is_dropped() {
        let bulkhead = Arc::new(of(1, 1));
        let held = bulkhead.try_hold().unwrap();
        assert!(bulkhead.try_hold().is_none());
        let mut waiting = bulkhead.wait().unwrap();
        drop(held);
        let held = poll(&mut waiting).unwrap().hold(&bulkhead);
        assert_eq!(bulkhead.fill().open, 1);
        drop(held);
        assert_eq!(bulkhead.fill().open, 0);
    }

    #[test]
    fn who_finds_no_room_and_no_queue_is_refused_and_counted() {
        let bulkhead = of(1, 0);
        let _one = bulkhead.try_enter();
        assert_eq!(bulkhead.wait().err(), Some(Full));
        assert!(bulkhead.enter_or_refuse().is_none());
        assert_eq!(bulkhead.fill(), Fill { open: 1, max: 1, waiting: 0, waiting_max: 0, refused: 2, late: 0 });
    }

    #[test]
    fn those_who_wait_enter_in_order_and_nobody_overtakes() {
        let bulkhead = of(1, 2);
        let one = bulkhead.try_enter();
        let (mut two, mut three) = (bulkhead.wait().unwrap(), bulkhead.wait().unwrap());
        assert_eq!(bulkhead.wait().err(), Some(Full));
        assert!(poll(&mut two).is_none() && poll(&mut three).is_none());
        drop(one);
        assert!(bulkhead.try_enter().is_none(), "the right was handed on");
        assert!(poll(&mut three).is_none());
        let two = poll(&mut two);
        assert!(two.is_some());
        drop(two);
        assert!(poll(&mut three).is_some());
    }

    #[test]
    fn of_those_who_wait_the_lowest_rank_enters_first() {
        let bulkhead = of(1, 3);
        let one = bulkhead.try_enter();
        let (mut last, mut first) = (bulkhead.wait_as(2).unwrap(), bulkhead.wait_as(0).unwrap());
        drop(one);
        assert!(poll(&mut last).is_none() && poll(&mut first).is_some());
        assert!(poll(&mut last).is_some());
    }

    #[test]
    fn who_gives_up_is_out_of_the_queue_and_hands_on_what_it_was_given() {
        let bulkhead = of(1, 3);
        let one = bulkhead.try_enter();
        let (two, three, mut four) = (bulkhead.wait().unwrap(), bulkhead.wait().unwrap(), bulkhead.wait().unwrap());
        drop(two);
        assert_eq!(bulkhead.fill().waiting, 2);
        drop(one);
        // It was granted to three, which goes.
        drop(three);
        assert!(poll(&mut four).is_some());
        assert_eq!((bulkhead.fill().open, bulkhead.fill().waiting), (0, 0));
    }

    #[test]
    fn a_higher_limit_has_those_enter_who_wait_and_a_lower_one_ends_nothing() {
        let bulkhead = of(1, 1);
        let _one = bulkhead.try_enter();
        let mut two = bulkhead.wait().unwrap();
        bulkhead.set(2, 1);
        let two = poll(&mut two);
        assert!(two.is_some());
        bulkhead.set(1, 1);
        assert_eq!(bulkhead.fill().open, 2);
        drop(two);
        assert!(bulkhead.try_enter().is_none());
    }

    #[test]
    fn threads_never_exceed_the_limit_and_none_waits_in_vain() {
        use std::sync::atomic::AtomicUsize;
        let (bulkhead, inside, worst, done) =
            (of(3, 64), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let entered = match bulkhead.try_enter() {
                            Some(entered) => entered,
                            None => {
                                let mut waiting = bulkhead.wait().expect("eight threads fit into the queue");
                                loop {
                                    match poll(&mut waiting) {
                                        Some(entered) => break entered,
                                        None => std::thread::yield_now(),
                                    }
                                }
                            }
                        };
                        worst.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                        drop(entered);
                        done.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 16_000);
        assert!(worst.into_inner() <= 3);
        assert_eq!((bulkhead.fill().open, bulkhead.fill().waiting), (0, 0));
    }
}
