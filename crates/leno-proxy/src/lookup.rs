//! From a name to a destination: the table in force, and the wait for a name that nobody asked for before.
//!
//! Workers read the table without a lock. A name that is not in it is asked for on the control thread (a bounded queue)
//! and waited for at most [`WAIT_MAX`]. Random names grow nothing: the control thread bounds what it subscribes to, and
//! what does not exist is remembered for a few seconds only.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use leno_model::seam::Clock;
use leno_model::snapshot::Name;
use leno_telemetry::Registry;
use tokio::sync::{mpsc, watch};

use crate::table::{Destination, Table};

/// How long a first request waits for its destination.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// Names that may wait to be asked for.
const ASKED_MAX: usize = 1024;

/// What is known of a name.
#[derive(Debug, Clone)]
pub enum Found {
    /// It leads there.
    Destination(Arc<Destination>),
    /// There is no such name.
    Absent,
    /// Nobody has said yet.
    Unknown,
}

/// The table as all workers see it. A handle: clones share it.
#[derive(Clone)]
pub struct Lookup {
    table: Arc<ArcSwap<Table>>,
    asked: mpsc::Sender<Name>,
    swapped: watch::Receiver<u64>,
}

/// The control thread's end.
pub struct Tables {
    table: Arc<ArcSwap<Table>>,
    /// Names that workers miss.
    pub asked: mpsc::Receiver<Name>,
    swapped: watch::Sender<u64>,
}

/// Both ends, with an empty table.
pub fn tables() -> (Lookup, Tables) {
    let table = Arc::new(ArcSwap::from_pointee(Table::default()));
    let (asked, asks) = mpsc::channel(ASKED_MAX);
    let (swap, swapped) = watch::channel(0);
    (Lookup { table: table.clone(), asked, swapped }, Tables { table, asked: asks, swapped: swap })
}

/// Shows in metrics what the table in force holds.
pub fn measure(metrics: &Registry, lookup: &Lookup, clock: &Arc<dyn Clock>) {
    let time = clock.clone();
    crate::resilience::measure(metrics, lookup.clone());
    crate::balancing::measure(metrics, lookup.clone(), move || time.monotonic());
    crate::rate_limit::measure(metrics, lookup.clone(), clock.clone());
    crate::overload::measure(metrics, lookup.clone());
    crate::injection::measure(metrics, lookup.clone());
    crate::answers::measure(metrics, lookup.clone());
}

// === impl Lookup ===

impl Lookup {
    /// The table in force.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// What the table says of a name now.
    pub fn get(&self, name: &str, now: impl FnOnce() -> Duration) -> Found {
        let table = self.table.load();
        match table.destination(name) {
            Some(destination) => Found::Destination(destination.clone()),
            None if table.is_absent(name, now()) => Found::Absent,
            None => Found::Unknown,
        }
    }

    /// What the table says of a name, after asking for it if need be. `now` is read again after each table.
    pub async fn find(&self, name: &Name, now: impl Fn() -> Duration) -> Found {
        let mut swapped = self.swapped.clone();
        swapped.mark_unchanged();
        let found = self.get(name, &now);
        if !matches!(found, Found::Unknown) {
            return found;
        }
        // A full queue means that more names are waiting than could be answered in time anyway.
        if self.asked.try_send(name.clone()).is_err() {
            return Found::Unknown;
        }
        let answered = async {
            while swapped.changed().await.is_ok() {
                let found = self.get(name, &now);
                if !matches!(found, Found::Unknown) {
                    return found;
                }
            }
            Found::Unknown
        };
        tokio::time::timeout(WAIT_MAX, answered).await.unwrap_or(Found::Unknown)
    }

    /// Told whenever a table was swapped in.
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.swapped.clone()
    }
}

// === impl Tables ===

impl Tables {
    /// Puts a table in force.
    pub fn swap(&self, table: Table) {
        let version = table.version;
        self.table.store(Arc::new(table));
        self.swapped.send_replace(version);
    }

    /// Has whoever waits look again.
    pub(crate) fn nudge(&self) {
        self.swapped.send_modify(|_| {});
    }

    /// The table in force.
    pub fn current(&self) -> Arc<Table> {
        self.table.load_full()
    }
}
