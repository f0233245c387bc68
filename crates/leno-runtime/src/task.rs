//! Named tasks of one thread: counted while they run, and ended alone by their own panic.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;

use crate::threads::panic_message;

/// A task that was started. Dropping this lets it run on; awaiting it gives its result, or `None` when it panicked or
/// was aborted.
#[derive(Debug)]
pub struct Task<T> {
    name: &'static str,
    handle: tokio::task::JoinHandle<Option<T>>,
}

/// Aborts its task when dropped.
#[derive(Debug)]
pub struct AbortOnDrop<T>(Task<T>);

/// How many tasks of one name there are, on all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// Started since the process started.
    pub started: u64,
    /// Of these, those that have ended, in whatever way.
    pub ended: u64,
    /// Of these, those that a panic ended.
    pub panicked: u64,
}

/// Counts of one name on one thread; written by that thread alone.
#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    ended: AtomicU64,
    panicked: AtomicU64,
}

type Named = (&'static str, Arc<Counters>);

/// Names times threads that are counted; beyond, tasks are counted under one name.
const COUNTERS_MAX: usize = 4096;

static ALL: Mutex<Vec<Named>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: RefCell<Vec<Named>> = const { RefCell::new(Vec::new()) };
}

/// Starts `future` on this thread. `name` says what it does, as a noun: `connection`, `subscription`.
pub fn spawn<T: 'static>(name: &'static str, future: impl Future<Output = T> + 'static) -> Task<T> {
    let running = Running(counters(name));
    count(&running.0.started);
    // Not an async block, in which the future would have a place as what is captured and another as what is awaited.
    let counted = AssertUnwindSafe(future).catch_unwind().map(move |result| match result {
        Ok(result) => Some(result),
        Err(panic) => {
            count(&running.0.panicked);
            tracing::error!(task = name, error = %panic_message(&*panic), "task panicked");
            None
        }
    });
    Task { name, handle: tokio::task::spawn_local(counted) }
}

/// The counts by name.
pub fn counts() -> BTreeMap<&'static str, TaskCounts> {
    let mut sums: BTreeMap<&'static str, TaskCounts> = BTreeMap::new();
    for (name, counters) in ALL.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let sum = sums.entry(name).or_default();
        // What ended first: so no sum ever shows more ended than started.
        sum.panicked += counters.panicked.load(Ordering::Acquire);
        sum.ended += counters.ended.load(Ordering::Acquire);
        sum.started += counters.started.load(Ordering::Acquire);
    }
    sums
}

/// Counts the end of a task, however it comes.
struct Running(Arc<Counters>);

impl Drop for Running {
    fn drop(&mut self) {
        count(&self.0.ended);
    }
}

/// One writer, so an addition needs no locked instruction.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}

fn counters(name: &'static str) -> Arc<Counters> {
    OWN.with_borrow_mut(|own| {
        // The same literal is mostly the same pointer; a handful of names is found fastest by looking at each.
        if let Some((_, counters)) = own.iter().find(|(known, _)| std::ptr::eq(*known, name) || *known == name) {
            return counters.clone();
        }
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = Arc::<Counters>::default();
        if all.len() < COUNTERS_MAX {
            all.push((name, counters.clone()));
        }
        own.push((name, counters.clone()));
        counters
    })
}

// === impl TaskCounts ===

impl TaskCounts {
    /// Those that run now.
    pub fn running(self) -> u64 {
        self.started.saturating_sub(self.ended)
    }
}

// === impl Task ===

impl<T> Task<T> {
    /// The name it was started with.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Ends it at its next await.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        self.handle.is_finished()
    }

    /// Ties it to the life of what is returned.
    pub fn abort_on_drop(self) -> AbortOnDrop<T> {
        AbortOnDrop(self)
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.handle).poll(cx).map(|joined| joined.ok().flatten())
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::LocalRuntime::new().unwrap().block_on(future)
    }

    #[test]
    fn a_task_gives_its_result_and_is_counted() {
        assert_eq!(run(async { spawn("test-result", async { 7 }).await }), Some(7));
        assert_eq!(counts()["test-result"], TaskCounts { started: 1, ended: 1, panicked: 0 });
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        run(async {
            let other = spawn("test-other", async { "alive" });
            assert_eq!(spawn("test-panic", async { panic!("on purpose") }).await, None::<()>);
            assert_eq!(other.await, Some("alive"));
        });
        assert_eq!(counts()["test-panic"], TaskCounts { started: 1, ended: 1, panicked: 1 });
    }

    #[test]
    fn what_is_tied_to_a_life_ends_with_it() {
        run(async {
            let tied = spawn("test-tied", std::future::pending::<()>()).abort_on_drop();
            assert_eq!(counts()["test-tied"].running(), 1);
            drop(tied);
            while counts()["test-tied"].running() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}
