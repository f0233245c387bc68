//! Signals: the first SIGTERM or SIGINT drains, the second stops at once; SIGUSR2 hands over; SIGHUP changes nothing.
//!
//! SIGHUP is caught and dropped instead of ignored, because "ignored" would be inherited by the programs that leno starts.
//! SIGUSR2 is caught everywhere, because a role that cannot hand over would end by it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that this process listens to.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    hand_over: Signal,
    asked: u32,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Drain or stop.
    pub shutdown: Shutdown,
    /// The signal's number, which a supervisor passes on.
    pub signal: i32,
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// End.
    End(Asked),
    /// Hand over to a new process.
    HandOver,
}

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Finish what is open first.
    Drain,
    /// At once.
    Now,
}

// === impl Signals ===

impl Signals {
    /// Catches the signals from now on; to be called within a runtime, before anything else is started.
    pub fn catch() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            hand_over: signal(SignalKind::user_defined2())?,
            asked: 0,
        })
    }

    /// Waits until one asks for the end, and says aloud that this role does not hand over. May be cancelled.
    pub async fn next(&mut self) -> Asked {
        loop {
            match self.told().await {
                Told::End(asked) => return asked,
                Told::HandOver => tracing::warn!("SIGUSR2 ignored: only a proxy that was started by itself hands over"),
            }
        }
    }

    /// Waits until one says something. May be cancelled.
    pub async fn told(&mut self) -> Told {
        loop {
            let signal = tokio::select! {
                Some(()) = self.terminate.recv() => SignalKind::terminate(),
                Some(()) = self.interrupt.recv() => SignalKind::interrupt(),
                Some(()) = self.hand_over.recv() => return Told::HandOver,
                Some(()) = self.hang_up.recv() => continue,
                // The runtime is ending, and no signal will come.
                else => std::future::pending().await,
            };
            self.asked = self.asked.saturating_add(1);
            let shutdown = if self.asked == 1 { Shutdown::Drain } else { Shutdown::Now };
            return Told::End(Asked { shutdown, signal: signal.as_raw_value() });
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_stops_and_a_hang_up_is_nothing() {
        let mut signals = Signals::catch().unwrap();
        kill_process(getpid(), Signal::USR2).unwrap();
        assert_eq!(signals.told().await, Told::HandOver);
        kill_process(getpid(), Signal::HUP).unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(signals.next().await, Asked { shutdown: Shutdown::Drain, signal: 15 });
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(signals.next().await, Asked { shutdown: Shutdown::Now, signal: 2 });
    }
}
