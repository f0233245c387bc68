//! How much a request matters, and whether the application has room for it.

use std::sync::Arc;
use std::time::Duration;

use leno_http::ResponseHead;
use leno_model::snapshot::Priority;
use leno_telemetry::access::Direction;
use leno_telemetry::flag::{Flag, REASON_FIELD};
use leno_traffic::overload::Shed;

use super::Exchange;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::overload::{Admitted, Overload, PRIORITY_FIELD, Priorities};

impl Exchange<'_> {
    /// Gives a request its priority where it comes without one, and takes it from one that leaves the mesh.
    pub(super) fn prioritise(&mut self, cluster: &Cluster, outside: bool) {
        if outside {
            self.head.fields.remove(PRIORITY_FIELD);
        } else if let Some(priorities) = &cluster.priorities {
            self.prioritise_by(priorities);
        }
    }

    /// Refuses it where memory is short, or there is too much to do, and it does not matter enough.
    #[cold]
    pub(super) fn bear(&mut self) -> Result<(), Failure> {
        if self.direction == Direction::Inbound
            && let Some(overload) = self.worker.shared.inbound.overload()
            && let Some(priorities) = &overload.priorities
        {
            self.prioritise_by(priorities);
        }
        let priority = self.priority();
        let strain = &self.worker.shared.strain;
        if strain.refuses(priority) {
            Err(Failure::Short(priority))
        } else if strain.leaves_out(priority, self.worker.random_bits()) {
            Err(Failure::Busy(priority))
        } else {
            Ok(())
        }
    }

    /// Lets it in to the application, where that may have too much to do; else the gate at which it may wait.
    pub(super) fn enter(&mut self) -> Result<Option<Arc<Overload>>, Failure> {
        if self.direction != Direction::Inbound {
            return Ok(None);
        }
        let Some(overload) = self.worker.shared.inbound.overload() else { return Ok(None) };
        if let Some(priorities) = &overload.priorities {
            self.prioritise_by(priorities);
        }
        let (priority, now) = (self.priority(), self.worker.now());
        match overload.gate.enter(priority, now).map_err(|Shed| shed(&overload, priority))? {
            Some(held) => self.admitted = Some(Admitted::new(held, now)),
            None => return Ok(Some(overload)),
        }
        Ok(None)
    }

    /// Waits for room; `left` is how long the request may take yet.
    pub(super) async fn wait_for_room(
        &mut self,
        overload: Arc<Overload>,
        left: Option<Duration>,
    ) -> Result<(), Failure> {
        let priority = self.priority();
        let refused = |Shed| shed(&overload, priority);
        let (waiting, most) = overload.gate.wait(priority, self.worker.now()).map_err(refused)?;
        let held = match (tokio::time::timeout(left.unwrap_or(most).min(most), waiting).await, left) {
            (Ok(entered), _) => overload.gate.admitted(entered),
            // Who would not wait for as long as it may says nothing about how full it is.
            (Err(_), Some(left)) if left < most => return Err(Failure::Timeout(left)),
            (Err(_), _) => return Err(refused(overload.gate.gave_up(priority, self.worker.now()))),
        };
        self.admitted = Some(Admitted::new(held, self.worker.now()));
        Ok(())
    }

    /// How much it matters.
    pub(super) fn priority(&self) -> Priority {
        self.head.fields.get(PRIORITY_FIELD).and_then(Priority::parse).unwrap_or_default()
    }

    fn prioritise_by(&mut self, priorities: &Priorities) {
        if self.head.fields.get(PRIORITY_FIELD).and_then(Priority::parse).is_some() {
            return;
        }
        if let Some(priority) = priorities.find(|when| self.fits(when)) {
            self.head.fields.set(PRIORITY_FIELD, priority.text());
        }
    }
}

fn shed(overload: &Overload, priority: Priority) -> Failure {
    Failure::Shed { service: overload.service.to_string(), priority }
}

/// Whether an answer says that an instance has too much to do, which is no fault of it, and no reason to ask once more.
pub(super) fn is_shed(head: &ResponseHead, is_grpc: bool) -> bool {
    (head.status == 503 || is_grpc) && head.fields.get_str(REASON_FIELD) == Some(Flag::Overloaded.reason())
}
