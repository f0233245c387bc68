//! Readiness: a role is ready when every gate it named is open.
//!
//! Whoever has something to wait for (a snapshot, a bound listener, a store) makes a gate and opens it when it is there.
//! What is missing is told by name and in words, to `/ready`, to `leno run` and to the log.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The gates of a role; clones are of the same role.
#[derive(Debug, Clone)]
pub struct Ready {
    gates: Arc<Mutex<Vec<(&'static str, State)>>>,
    is_ready: Arc<watch::Sender<bool>>,
}

/// One thing that a role waits for. Dropping it leaves it as it is.
#[derive(Debug, Clone)]
pub struct Gate {
    name: &'static str,
    ready: Ready,
}

/// A gate that is not open, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The name of the gate.
    pub gate: &'static str,
    /// What it waits for.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    Closed(String),
}

// === impl Ready ===

impl Ready {
    /// Without gates, and so ready.
    pub fn new() -> Self {
        Ready { gates: Arc::default(), is_ready: Arc::new(watch::Sender::new(true)) }
    }

    /// Names something that has to be there first; `why` says what is waited for. A name that is known is closed again.
    pub fn gate(&self, name: &'static str, why: impl Into<String>) -> Gate {
        self.set(name, State::Closed(why.into()));
        Gate { name, ready: self.clone() }
    }

    /// Whether every gate is open.
    pub fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    /// What is missing, in the order in which it was named.
    pub fn missing(&self) -> Vec<Missing> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = gates.iter().filter_map(|(gate, state)| match state {
            State::Open => None,
            State::Closed(why) => Some(Missing { gate, why: why.clone() }),
        });
        closed.collect()
    }

    /// Waits until every gate is open.
    pub async fn wait(&self) {
        // The sender is in this very value, so the channel cannot end.
        let _ = self.is_ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn set(&self, name: &'static str, state: State) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        match gates.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = state,
            None => gates.push((name, state)),
        }
        let ready = gates.iter().all(|(_, state)| *state == State::Open);
        self.is_ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
    }
}

impl Default for Ready {
    fn default() -> Self {
        Ready::new()
    }
}

// === impl Gate ===

impl Gate {
    /// It is there.
    pub fn open(&self) {
        self.ready.set(self.name, State::Open);
    }

    /// It is not there, or no longer; `why` says what is waited for.
    pub fn close(&self, why: impl Into<String>) {
        self.ready.set(self.name, State::Closed(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_ready_when_its_last_gate_opens_and_says_what_is_missing_before() {
        let ready = Ready::new();
        let (listener, snapshot) =
            (ready.gate("listener", "bind 15001"), ready.gate("snapshot", "from 127.0.0.1:7071"));
        listener.open();
        assert_eq!(ready.missing(), [Missing { gate: "snapshot", why: "from 127.0.0.1:7071".to_owned() }]);
        assert!(!ready.is_ready());
        snapshot.open();
        assert!(ready.is_ready() && ready.missing().is_empty());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let ready = Ready::new();
        let gate = ready.gate("snapshot", "");
        tokio::join!(ready.wait(), async { gate.open() });
        gate.close("server says drain");
        assert!(!ready.is_ready());
    }
}
