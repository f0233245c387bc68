//! Draining: saying that the end is near, waiting for what is open, and then stopping.
//!
//! One [`Drain`] belongs to a role; listeners, connections and streams hold a [`DrainWatch`], and a [`DrainGuard`] while
//! they have something open. Works across threads.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Starts the drain and waits for it.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    open: Arc<Open>,
}

/// Sees when the drain starts.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    phase: watch::Receiver<Phase>,
    open: Arc<Open>,
}

/// Something that is open: the drain waits until it is dropped.
#[derive(Debug)]
pub struct DrainGuard {
    open: Arc<Open>,
}

/// Where a role is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Takes new work.
    Running,
    /// Finishes what is open and takes nothing new.
    Draining,
    /// Gives up what is still open.
    Stopping,
}

#[derive(Debug, Default)]
struct Open {
    count: AtomicUsize,
    none_left: Notify,
}

// === impl Drain ===

impl Drain {
    /// For a role that is running.
    pub fn new() -> Self {
        Drain { phase: watch::Sender::new(Phase::Running), open: Arc::default() }
    }

    /// For what is to be drained.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { phase: self.phase.subscribe(), open: self.open.clone() }
    }

    /// How many guards are held.
    pub fn open(&self) -> usize {
        self.open.count.load(Ordering::Acquire)
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
            let none_left = self.open.none_left.notified();
            if self.open() == 0 {
                return;
            }
            none_left.await;
        }
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let moves = *phase < to;
            *phase = (*phase).max(to);
            moves
        });
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain::new()
    }
}

// === impl DrainWatch ===

impl DrainWatch {
    /// Where the role is in its life.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether nothing new is taken any more.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Waits until the drain starts.
    pub async fn draining(&mut self) {
        self.reaches(Phase::Draining).await;
    }

    /// Waits until what is still open is given up.
    pub async fn stopping(&mut self) {
        self.reaches(Phase::Stopping).await;
    }

    /// [`DrainWatch::draining`] as a future that owns what it needs.
    pub fn when_draining(&self) -> impl Future<Output = ()> + 'static {
        let mut watch = self.clone();
        async move { watch.draining().await }
    }

    /// Holds the drain up until it is dropped.
    pub fn guard(&self) -> DrainGuard {
        self.open.count.fetch_add(1, Ordering::AcqRel);
        DrainGuard { open: self.open.clone() }
    }

    async fn reaches(&mut self, phase: Phase) {
        if self.phase.wait_for(|now| *now >= phase).await.is_err() {
            // The drain was dropped without starting: it never will.
            std::future::pending::<()>().await;
        }
    }
}

// === impl DrainGuard ===

impl Clone for DrainGuard {
    fn clone(&self) -> Self {
        self.open.count.fetch_add(1, Ordering::AcqRel);
        DrainGuard { open: self.open.clone() }
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.open.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.open.none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!((left, watch.phase()), (0, Phase::Stopping));
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
    async fn a_late_watcher_sees_the_drain_at_once() {
        let drain = Drain::new();
        drain.start();
        drain.watch().when_draining().await;
        assert_eq!(drain.finish(MINUTE).await, 0);
    }
}
