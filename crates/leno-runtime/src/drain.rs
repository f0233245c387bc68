//! Draining: saying that the end is near, waiting for what is open, and then stopping.
//!
//! One [`Drain`] belongs to a role; listeners, connections and streams hold a [`DrainWatch`], and a [`DrainGuard`] while
//! they have something open. Works across threads.
//!
//! A role whose successor has taken over its listeners leaves first: what is open ends by itself, and a connection on
//! which nothing is asked waits for one more request, whose answer says that it is the last. To close it at once, as a
//! drain does, would cut off the request that is on its way.
//!
//! A role that is short of memory may have connections end on which nothing is asked, for a while ([`Drain::end_idle`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Starts the drain and waits for it.
#[derive(Debug)]
pub struct Drain {
    state: Arc<State>,
}

/// Sees when the drain starts.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    state: Arc<State>,
}

/// Ready when the drain starts, or when the role leaves and the connection may end. Connections poll it whenever they are
/// polled, which is several times for each request.
#[derive(Debug)]
pub struct WhenDraining {
    state: Arc<State>,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Who is woken.
    waker: Waker,
    moved: Pin<Box<OwnedNotified>>,
    /// The word that the wait began at.
    seen: u32,
}

/// Something that is open: the drain waits until it is dropped.
#[derive(Debug)]
pub struct DrainGuard {
    state: Arc<State>,
}

/// How far the end is; before, a role takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Accepts nothing more; a successor does.
    Leaving = 1,
    /// Finishes what is open and takes nothing new.
    Draining = 2,
    /// Gives up what is still open.
    Stopping = 3,
}

const PHASE: u32 = 0xff;
const IDLE_ENDS: u32 = 1 << 8;
const CHANGE: u32 = 1 << 16;

/// What all of them share.
#[derive(Debug, Default)]
struct State {
    /// A [`Phase`] in its lowest bits, which only grows, or 0 before the first; whether what idles ends; and above, a number
    /// that changes with either, so that nobody who waits takes one change for another.
    word: AtomicU32,
    /// Told when it has changed so that somebody may be ready.
    moved: Arc<Notify>,
    /// Guards that are held.
    open: AtomicUsize,
    none_left: Notify,
}

// === impl Drain ===

impl Drain {
    /// For a role that is running.
    pub fn new() -> Self {
        Drain { state: Arc::default() }
    }

    /// For what is to be drained.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { state: self.state.clone() }
    }

    /// How many guards are held.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::Acquire)
    }

    /// Leaves to a successor: nothing more is accepted, and what is open ends by itself. Waits until nothing is open, at
    /// most `deadline` long or until the drain starts meanwhile. Returns how many were still open.
    pub async fn leave(&self, deadline: Duration) -> usize {
        self.advance(Phase::Leaving);
        let mut watch = self.watch();
        tokio::select! {
            () = self.none_open() => {}
            () = watch.draining() => {}
            () = tokio::time::sleep(deadline) => {}
        }
        self.open()
    }

    /// Says that the end is near. Again changes nothing.
    pub fn start(&self) {
        self.advance(Phase::Draining);
    }

    /// Says that the end is here. Again changes nothing.
    pub fn stop(&self) {
        self.advance(Phase::Stopping);
    }

    /// Starts the drain, waits until nothing is open, at most `deadline` long or until [`Drain::stop`] is called
    /// meanwhile, and says stop. Returns how many were still open.
    pub async fn finish(&self, deadline: Duration) -> usize {
        self.start();
        let mut watch = self.watch();
        tokio::select! {
            () = self.none_open() => {}
            () = watch.stopping() => {}
            () = tokio::time::sleep(deadline) => {}
        }
        let left = self.open();
        self.stop();
        left
    }

    async fn none_open(&self) {
        loop {
            let none_left = self.state.none_left.notified();
            if self.open() == 0 {
                return;
            }
            none_left.await;
        }
    }

    /// Has connections end on which nothing is asked, and the others with their next answer; or no more.
    pub fn end_idle(&self, ends: bool) {
        let bit = if ends { IDLE_ENDS } else { 0 };
        if self.state.change(|word| word & !IDLE_ENDS | bit) && ends {
            self.state.moved.notify_waiters();
        }
    }

    /// The same drain, for who says that idle connections end.
    pub fn handle(&self) -> Drain {
        Drain { state: self.state.clone() }
    }

    fn advance(&self, to: Phase) {
        if self.state.change(|word| word & !PHASE | (word & PHASE).max(to as u32)) {
            self.state.moved.notify_waiters();
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain::new()
    }
}

// === impl State ===

impl State {
    fn has_reached(&self, phase: Phase) -> bool {
        self.word.load(Ordering::Acquire) & PHASE >= phase as u32
    }

    /// Whether it was another one before.
    fn change(&self, to: impl Fn(u32) -> u32) -> bool {
        let next = |word| Some(to(word)).filter(|next| *next != word).map(|next| next.wrapping_add(CHANGE));
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }
}

// === impl WhenDraining ===

impl Future for WhenDraining {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_leaving(cx, false, false)
    }
}

impl WhenDraining {
    /// As [`Future::poll`]; with `may_leave` it is ready as soon as the role leaves, and with `is_idle` also while what
    /// idles ends.
    pub fn poll_leaving(&mut self, cx: &mut Context<'_>, may_leave: bool, is_idle: bool) -> Poll<()> {
        let phase = if may_leave { Phase::Leaving } else { Phase::Draining };
        self.poll_reaches(cx, |word| word & PHASE >= phase as u32 || is_idle && word & IDLE_ENDS != 0)
    }

    fn poll_reaches(&mut self, cx: &mut Context<'_>, reached: impl Fn(u32) -> bool) -> Poll<()> {
        loop {
            if self.waiting.as_ref().is_some_and(|waiting| !waiting.waker.will_wake(cx.waker())) {
                self.waiting = None;
            }
            // Before the look at the word, so that no change of it is missed.
            let is_new = self.waiting.is_none();
            let waiting = self.waiting.get_or_insert_with(|| Waiting {
                waker: cx.waker().clone(),
                moved: Box::pin(self.state.moved.clone().notified_owned()),
                seen: 0,
            });
            let word = self.state.word.load(Ordering::Acquire);
            if reached(word) {
                return Poll::Ready(());
            }
            // Who waits with this waker need not say so again, unless something has changed since.
            if !is_new && waiting.seen == word {
                return Poll::Pending;
            }
            waiting.seen = word;
            if waiting.moved.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.waiting = None;
        }
    }
}

// === impl DrainWatch ===

impl DrainWatch {
    /// Whether nothing new is taken any more.
    pub fn is_draining(&self) -> bool {
        self.state.has_reached(Phase::Draining)
    }

    /// Whether a successor accepts, and what comes on an open connection is the last.
    pub fn is_leaving(&self) -> bool {
        self.state.has_reached(Phase::Leaving)
    }

    /// Waits until nothing more is to be accepted.
    pub async fn leaving(&mut self) {
        self.reaches(Phase::Leaving).await;
    }

    /// Waits until the drain starts.
    pub async fn draining(&mut self) {
        self.reaches(Phase::Draining).await;
    }

    /// Waits until what is still open is given up.
    pub async fn stopping(&mut self) {
        self.reaches(Phase::Stopping).await;
    }

    /// [`DrainWatch::draining`] as a future that owns what it needs, and costs next to nothing to poll again.
    pub fn when_draining(&self) -> WhenDraining {
        WhenDraining { state: self.state.clone(), waiting: None }
    }

    /// Holds the drain up until it is dropped.
    pub fn guard(&self) -> DrainGuard {
        self.state.open.fetch_add(1, Ordering::AcqRel);
        DrainGuard { state: self.state.clone() }
    }

    async fn reaches(&mut self, phase: Phase) {
        loop {
            // Before the look at the phase, so that no change of it is missed.
            let moved = self.state.moved.notified();
            if self.state.has_reached(phase) {
                return;
            }
            moved.await;
        }
    }
}

// === impl DrainGuard ===

impl Clone for DrainGuard {
    fn clone(&self) -> Self {
        self.state.open.fetch_add(1, Ordering::AcqRel);
        DrainGuard { state: self.state.clone() }
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.state.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.state.none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_what_is_open() {
        let drain = Drain::new();
        let mut watch = drain.watch();
        let guard = watch.guard();
        let work = async {
            watch.draining().await;
            tokio::time::sleep(MINUTE / 2).await;
            drop(guard);
        };
        let (left, ()) = tokio::join!(drain.finish(MINUTE), work);
        assert_eq!(left, 0);
        watch.stopping().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_no_longer_than_its_deadline() {
        let drain = Drain::new();
        let _guards = [drain.watch().guard(), drain.watch().guard()];
        let started = tokio::time::Instant::now();
        assert_eq!(drain.finish(MINUTE).await, 2);
        assert_eq!(started.elapsed(), MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_cuts_the_drain_short() {
        let drain = Drain::new();
        let _guard = drain.watch().guard();
        let stop = async {
            tokio::time::sleep(MINUTE / 2).await;
            drain.stop();
        };
        let started = tokio::time::Instant::now();
        let (left, ()) = tokio::join!(drain.finish(MINUTE), stop);
        assert_eq!((left, started.elapsed()), (1, MINUTE / 2));
    }

    #[tokio::test]
    async fn a_connection_that_waits_is_woken_whoever_polled_it_before() {
        let drain = Drain::new();
        let mut waiting = drain.watch().when_draining();
        let mut elsewhere = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut waiting).poll(&mut elsewhere).is_pending());
        let start = async {
            tokio::task::yield_now().await;
            drain.start();
        };
        tokio::join!(waiting, start);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_waits_for_what_is_open_and_drains_nothing() {
        let drain = Drain::new();
        let (mut watch, mut idle) = (drain.watch(), drain.watch().when_draining());
        let guard = watch.guard();
        let work = async {
            watch.leaving().await;
            let drains = poll_fn(|cx| Poll::Ready(idle.poll_leaving(cx, false, false).is_ready())).await;
            poll_fn(|cx| idle.poll_leaving(cx, true, false)).await;
            drop(guard);
            drains
        };
        assert_eq!(tokio::join!(drain.leave(MINUTE), work), (0, false));
        assert!(watch.is_leaving() && !watch.is_draining());
    }

    #[tokio::test(flavor = "local")]
    async fn a_connection_that_waits_on_while_its_role_leaves_is_woken_by_the_drain() {
        let drain = Drain::new();
        let mut idle = drain.watch().when_draining();
        let ends = async {
            tokio::task::yield_now().await;
            assert_eq!(drain.leave(Duration::ZERO).await, 0);
            tokio::task::yield_now().await;
            drain.start();
        };
        tokio::join!(ends, crate::task::spawn("test-idle", poll_fn(move |cx| idle.poll_leaving(cx, false, false))));
    }

    #[tokio::test(flavor = "local")]
    async fn what_idles_ends_when_asked_to_and_whoever_is_busy_then_still_sees_the_drain() {
        let drain = Drain::new();
        let wait = |is_idle| {
            let (mut when, watch) = (drain.watch().when_draining(), drain.watch());
            crate::task::spawn("test-connection", async move {
                poll_fn(|cx| when.poll_leaving(cx, false, is_idle)).await;
                watch.is_draining()
            })
        };
        let (idle, busy) = (wait(true), wait(false));
        tokio::task::yield_now().await;
        drain.end_idle(true);
        assert_eq!(idle.await, Some(false));
        drain.end_idle(false);
        tokio::task::yield_now().await;
        drain.start();
        assert_eq!(busy.await, Some(true));
    }

    #[tokio::test]
    async fn a_late_watcher_sees_the_drain_at_once() {
        let drain = Drain::new();
        drain.start();
        drain.watch().when_draining().await;
        assert_eq!(drain.finish(MINUTE).await, 0);
    }
}
