//! Keeping up with what others change: the store, which another server may write, the registry, and the time of day.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use leno_model::resource::kind::ResourceKey;
use leno_model::seam::Timestamp;
use leno_store::Store;

use super::{Control, State};
use crate::Error;
use crate::directory::Changed;
use crate::merge::{Merged, Topic};
use crate::revision;
use crate::serve::Served;

/// The longest time between two looks at the clock where a switch is to turn.
const TURN_LOOK_MAX: Duration = Duration::from_secs(1);

/// What runs beside the handle: follows the store and the registry. Without it, nothing that others change is seen.
pub struct Driver {
    control: Control,
    changes: futures_core::stream::BoxStream<'static, Changed>,
}

// === impl Driver ===

impl Driver {
    pub(super) fn new(control: Control, changes: futures_core::stream::BoxStream<'static, Changed>) -> Self {
        Self { control, changes }
    }

    /// Follows the store and the registry until both are gone, and the time meanwhile.
    pub async fn run(self) {
        let Self { control, mut changes } = self;
        let follow_registry = async {
            while let Some(changed) = changes.next().await {
                control.instances_changed(&changed);
            }
        };
        tokio::select! {
            () = async { tokio::join!(follow_registry, follow_store(&control)); } => {}
            () = follow_time(&control) => {}
        }
    }
}

/// Follows the store; one that fell too far behind is read anew.
async fn follow_store(control: &Control) {
    loop {
        let from = control.state().through + 1;
        let watch = control.inner.store.watch(revision::RESOURCES, from).await;
        let ended = match watch {
            Ok(mut watch) => loop {
                match watch.next().await {
                    Some(Ok(changes)) => control.take_over(&changes),
                    Some(Err(error)) => break error,
                    None => break leno_store::Error::Closed,
                }
            },
            Err(error) => error,
        };
        if ended == leno_store::Error::Closed {
            return;
        }
        tracing::warn!(error = %ended, "watch of resources ended, reading them anew");
        if let Err(error) = control.refresh().await {
            tracing::error!(%error, "resources not readable");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

/// Turns switches at their time. Looks often where one is to turn, because the time of day can be set.
async fn follow_time(control: &Control) {
    let mut changes = control.inner.changed.subscribe();
    loop {
        let next = control.pass_time();
        let look = async {
            match next {
                Some(left) => tokio::time::sleep(left.min(TURN_LOOK_MAX)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = look => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

// === impl Control ===

impl Control {
    /// Reads the store anew, after another server changed it.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let mut fresh = State { merged: Merged::default(), served: Served::new(), number: 0, head_mod: 0, through: 0 };
        fresh.read(&*self.inner.store).await?;
        let mut state = self.state();
        if fresh.through < state.through {
            return Ok(());
        }
        let mut topics = state.pass_time(self.inner.clock.wall());
        let gone: Vec<ResourceKey> = state.merged.iter().map(|entry| entry.resource.key.clone()).collect();
        for key in gone.iter().filter(|key| fresh.merged.get(key).is_none()) {
            topics.extend(state.merged.remove(key));
        }
        for entry in fresh.merged.iter() {
            if state.merged.get(&entry.resource.key) != Some(entry) {
                topics.extend(state.merged.insert(entry.clone()));
            }
        }
        (state.number, state.head_mod, state.through) = (fresh.number, fresh.head_mod, fresh.through);
        if !topics.is_empty() {
            let State { merged, served, .. } = &mut *state;
            served.resources_changed(merged, &*self.inner.directory, &topics);
            self.tell(&state);
        }
        Ok(())
    }

    /// Turns the switches whose time has come; answers how long it is until the next one turns.
    fn pass_time(&self) -> Option<Duration> {
        let now = self.inner.clock.wall();
        let mut state = self.state();
        let topics = state.pass_time(now);
        if !topics.is_empty() {
            let State { merged, served, .. } = &mut *state;
            served.resources_changed(merged, &*self.inner.directory, &topics);
            self.tell(&state);
        }
        state.merged.turns_next().map(|at| Duration::from_millis(at.0.saturating_sub(now.0)))
    }

    /// Takes over what the watch of the store brings.
    fn take_over(&self, changes: &leno_store::Changes) {
        let mut state = self.state();
        if changes.revision <= state.through {
            return;
        }
        let mut topics = state.pass_time(self.inner.clock.wall());
        for change in changes.changes.iter() {
            match change {
                leno_store::Change::Put(value) => match revision::read_entry(value) {
                    Ok(entry) => topics.extend(state.merged.insert(Arc::new(entry))),
                    Err(error) => tracing::error!(%error, key = %value.key, "resource of another server not readable"),
                },
                leno_store::Change::Delete(value) => {
                    let key = value.key.strip_prefix(revision::RESOURCES).and_then(|key| key.parse().ok());
                    topics.extend(key.map(|key| state.merged.remove(&key)).unwrap_or_default());
                }
            }
        }
        state.through = changes.revision;
        let State { merged, served, .. } = &mut *state;
        served.resources_changed(merged, &*self.inner.directory, &topics);
        self.tell(&state);
    }

    pub(super) fn instances_changed(&self, changed: &Changed) {
        let mut state = self.state();
        let State { merged, served, .. } = &mut *state;
        if changed.complete {
            served.everything_changed(merged, &*self.inner.directory);
            self.tell(&state);
        } else if served.instances_changed(merged, &*self.inner.directory, &changed.services) {
            self.tell(&state);
        }
    }
}

// === impl State ===

impl State {
    /// Has it be `now`; answers what that touches.
    pub(super) fn pass_time(&mut self, now: Timestamp) -> BTreeSet<Topic> {
        let turned = self.merged.pass_time(now);
        for entry in &turned {
            tracing::info!(switch = %entry.resource.key, "switch turned by its time");
        }
        turned.iter().flat_map(|entry| self.merged.topics(&entry.resource)).collect()
    }

    /// Fills an empty state from the store.
    pub(super) async fn read(&mut self, store: &dyn Store) -> Result<(), Error> {
        let range = store.range(revision::RESOURCES, None).await?;
        for item in &range.items {
            self.merged.insert(Arc::new(revision::read_entry(item)?));
        }
        // Read after the resources: a head that is newer than they are makes the next commit plan again.
        let head = store.get(revision::HEAD).await?;
        (self.number, self.head_mod) = revision::read_head(head.as_ref())?;
        self.through = range.revision;
        if self.head_mod > self.through {
            self.head_mod = self.through;
        }
        Ok(())
    }
}
