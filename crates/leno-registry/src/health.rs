//! Active health checks: each instance is asked once per interval, however many callers it has.
//!
//! ```text
//! Registry::watch ─► plan (pure: who is due, what a row of answers means) ─► probe (HTTP, TCP, gRPC) ─► Registry::set_probe
//! ```
//!
//! A probe goes to the registered address and port, and nowhere else: no redirect is followed, no name is resolved,
//! link-local addresses are never asked, and loopback only for what was registered over loopback. Where a port has a
//! proxy, the probe goes the way that callers go: to the proxy's port.
//!
//! At most [`PROBES_MAX`] run at once; further ones wait, the longest due first. Intervals are varied by a tenth, and a
//! new instance is first asked within a second, so that a fleet that registers at once is not asked at once for ever.

mod plan;
mod probe;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use leno_model::seam::Random;
use leno_net::dial::Dial;
use tokio::time::Instant;

use self::plan::Plan;
use crate::Registry;

/// The most probes that run at once.
pub const PROBES_MAX: usize = 256;

/// Probes the instances of a registry. Belongs to the thread of its [`Dial`].
pub struct Prober {
    registry: Registry,
    dial: Rc<dyn Dial>,
    random: Box<dyn Random>,
}

// === impl Prober ===

impl Prober {
    /// One that connects through `dial`.
    pub fn new(registry: Registry, dial: Rc<dyn Dial>, random: Box<dyn Random>) -> Self {
        Self { registry, dial, random }
    }

    /// Probes for as long as it is polled.
    pub async fn run(mut self) {
        let begin = Instant::now();
        let mut plan = Plan::default();
        let mut watch = self.registry.watch(None);
        let mut running = FuturesUnordered::new();
        loop {
            for target in plan.start(begin.elapsed(), PROBES_MAX - running.len(), &mut *self.random) {
                let dial = self.dial.clone();
                running.push(async move {
                    let found = probe::probe(&*dial, &target).await;
                    (target, found)
                });
            }
            let room = running.len() < PROBES_MAX;
            // The longest sleep is as good as none: a change of the registry wakes.
            let next = plan.next().filter(|_| room).unwrap_or(begin.elapsed() + Duration::from_secs(3600));
            tokio::select! {
                dirty = watch.next() => {
                    let Some(dirty) = dirty else { return };
                    if dirty.complete {
                        plan.keep_only(&dirty.services);
                    }
                    for service in &dirty.services {
                        plan.update(service, &self.registry.instances(service), begin.elapsed(), &mut *self.random);
                    }
                }
                Some((target, found)) = running.next(), if !running.is_empty() => {
                    if let Err(reason) = &found {
                        tracing::debug!(service = %target.key.service, instance = %target.key.id, reason, "a probe failed");
                    }
                    if let Some(result) = plan.finish(&target, found.is_ok()) {
                        tracing::info!(service = %target.key.service, instance = %target.key.id, ?result, "health changed");
                        self.registry.set_probe(&target.key, target.registration, result);
                    }
                }
                () = tokio::time::sleep_until(begin + next) => {}
            }
        }
    }
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
