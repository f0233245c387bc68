//! Threads: the control thread, on which everything but requests happens, and the workers, which do requests.
//!
//! Each is a single-threaded runtime ([`LocalRuntime`]), so futures need not be `Send` and nothing is locked. A worker's
//! future is made in two steps: the control thread gives each worker what is to be its own (a listener, a receiver),
//! and the worker builds its future from that on its own thread. Rejected: a work-stealing runtime, which costs 15 to
//! 20 % more CPU per request and makes every pool a shared one.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use crate::watchdog::{self, Pulse};

/// The number of a worker, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerIndex(pub usize);

/// The worker threads of a role.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<thread::JoinHandle<()>>,
    ended: mpsc::Receiver<WorkerEnded>,
}

/// A worker whose future is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEnded {
    /// Which one.
    pub worker: WorkerIndex,
    /// The message of the panic that ended it, if one did.
    pub panic: Option<String>,
}

/// How the names of workers begin.
pub const WORKER_PREFIX: &str = "leno-worker-";
/// Threads that a runtime may start for blocking calls (name look-ups, files).
const BLOCKING_THREADS_MAX: usize = 8;
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(10);

/// Runs `future` to its end on the calling thread, which becomes the control thread, watched by the watchdog.
pub fn control<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let pulse = watchdog::register("control");
    let runtime = runtime(&pulse)?;
    Ok(runtime.block_on(pulse.beat_while(future)))
}

// === impl Workers ===

impl Workers {
    /// Starts `count` threads named `leno-worker-0` and so on. `make` is called here for each; what it returns is called
    /// on the worker's thread, within its runtime, and returns the worker's future.
    pub fn start<Make, Build, Work>(count: usize, mut make: Make) -> io::Result<Self>
    where
        Make: FnMut(WorkerIndex) -> Build,
        Build: FnOnce() -> Work + Send + 'static,
        Work: Future<Output = ()> + 'static,
    {
        let (tell, ended) = mpsc::channel(count.max(1));
        let mut threads = Vec::with_capacity(count);
        for worker in (0..count).map(WorkerIndex) {
            let (build, tell) = (make(worker), tell.clone());
            let name = format!("{WORKER_PREFIX}{}", worker.0);
            threads.push(thread::Builder::new().name(name.clone()).spawn(move || {
                let panic = run_worker(&name, build).err();
                // Each worker says this once, and there is room for all.
                let _ = tell.try_send(WorkerEnded { worker, panic });
            })?);
        }
        Ok(Workers { threads, ended })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Waits until one more worker has ended; `None` when all have. May be cancelled.
    pub async fn ended(&mut self) -> Option<WorkerEnded> {
        self.ended.recv().await
    }

    /// Waits until all have ended, and returns those that a panic ended.
    pub async fn all_ended(&mut self) -> Vec<WorkerEnded> {
        let mut panicked = Vec::new();
        while let Some(ended) = self.ended.recv().await {
            if ended.panic.is_some() {
                panicked.push(ended);
            }
        }
        for thread in self.threads.drain(..) {
            // A thread that has said it ended is past its last await; its panic was caught.
            let _ = thread.join();
        }
        panicked
    }
}

fn run_worker<Work: Future<Output = ()>>(name: &str, build: impl FnOnce() -> Work) -> Result<(), String> {
    let run = || {
        let pulse = watchdog::register(name);
        let runtime = runtime(&pulse).map_err(|error| format!("start a runtime: {error}"))?;
        runtime.block_on(pulse.beat_while(async { build().await }));
        Ok(())
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(worker = name, error = %message, "worker panicked");
        Err(message)
    })
}

fn runtime(pulse: &Pulse) -> io::Result<LocalRuntime> {
    let (parks, wakes) = (pulse.clone(), pulse.clone());
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .on_thread_park(move || parks.park())
        .on_thread_unpark(move || wakes.unpark())
        .build_local(LocalOptions::default())
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn workers_build_their_own_futures_on_named_threads() {
        let (tell, mut told) = mpsc::channel(4);
        let mut workers = Workers::start(2, |worker| {
            let tell = tell.clone();
            move || async move {
                let local = Rc::new(worker.0);
                tokio::task::yield_now().await;
                tell.send((*local, thread::current().name().map(str::to_owned))).await.unwrap();
            }
        })
        .unwrap();
        drop(tell);
        let names = control(async {
            assert_eq!(workers.all_ended().await, []);
            let mut names = Vec::new();
            while let Some((index, name)) = told.recv().await {
                names.push((index, name.unwrap()));
            }
            names.sort();
            names
        });
        assert_eq!(names.unwrap(), [(0, "leno-worker-0".to_owned()), (1, "leno-worker-1".to_owned())]);
    }

    #[test]
    fn a_worker_that_panics_is_reported_and_the_others_go_on() {
        let mut workers =
            Workers::start(2, |worker| move || async move { assert_eq!(worker.0, 0, "worker broke") }).unwrap();
        let panicked = control(workers.all_ended()).unwrap();
        assert_eq!(panicked.len(), 1);
        assert!(panicked[0].panic.as_ref().unwrap().contains("worker broke"));
    }
}
