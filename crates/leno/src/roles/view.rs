//! What the dashboard sees of a server's parts.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use leno_collector::Point;
use leno_control::Turned;
use leno_control::merge::Entry;
use leno_control::revision::Revision;
use leno_dashboard::view::{
    Answer, Change, ChangeRow, InstanceRow, Known, LaneRow, Live, Policies, PortRow, Rejection, SwitchRow, SyncRow,
    SyncState, View, ViewError,
};
use leno_model::name::ServiceName;
use leno_model::resource::Spec;
use leno_model::seam::Timestamp;
use leno_registry::{Registered, Routable};
use leno_runtime::DrainWatch;
use leno_xds::status::Subscriber;

use super::server::Parts;

/// A proxy that has not everything in effect for longer than this is behind.
const BEHIND_AFTER: Duration = Duration::from_secs(2);

/// The parts of a server as the dashboard sees them, and whether it is to stop.
pub(super) struct MeshView(pub(super) Arc<Parts>, pub(super) DrainWatch);

impl View for MeshView {
    fn live(&self, window: Duration) -> Live {
        let parts = &self.0;
        let now = parts.clock.monotonic();
        let instances = parts.registry.services().into_iter().map(|service| {
            let rows = parts.registry.instances(&service.name).iter().map(|registered| instance(registered)).collect();
            (service.name, rows)
        });
        let wall = parts.clock.wall();
        let known = Known {
            instances: instances.collect(),
            syncs: parts.status.list().iter().map(|subscriber| sync(subscriber, wall.0)).collect(),
            revision: parts.control.resources().0,
            time: wall.rfc3339(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: now.saturating_sub(parts.started),
        };
        let collector = parts.collector.lock().unwrap_or_else(PoisonError::into_inner);
        Live::assemble(&collector, now, window, known)
    }

    fn is_leaving(&self) -> bool {
        self.1.is_draining()
    }

    fn series(&self, service: &ServiceName, window: Duration, step: Duration) -> Vec<Point> {
        let collector = self.0.collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.service_series(self.0.clock.monotonic(), service, window, step)
    }

    fn policies(&self, service: &ServiceName) -> Policies {
        let parts = &self.0;
        let concerning = parts.control.concerning(service);
        let now = parts.clock.monotonic();
        let collector = parts.collector.lock().unwrap_or_else(PoisonError::into_inner);
        Policies {
            service: service.to_string(),
            time: parts.clock.wall().rfc3339(),
            stand: collector.policies_of(now, service),
            resources: concerning.policies.iter().map(|entry| entry.resource.key.to_string()).collect(),
            switches: concerning.switches.iter().filter_map(switch).collect(),
            lanes: concerning.lanes.iter().filter_map(|entry| lane(entry, service)).collect(),
        }
    }

    fn changes(&self, before: Option<u64>, limit: usize) -> Answer<'_, Vec<ChangeRow>> {
        Box::pin(async move {
            let skipped = before.map_or(0, |before| self.0.control.resources().0.saturating_sub(before) as usize + 1);
            let found = self.0.control.history(None, limit.saturating_add(skipped)).await.map_err(failed)?;
            let older = found.iter().filter(|revision| before.is_none_or(|before| revision.number < before));
            Ok(older.take(limit).map(change_row).collect())
        })
    }

    fn change(&self, revision: u64) -> Answer<'_, Option<Change>> {
        Box::pin(async move {
            match self.0.control.revision_content(revision).await {
                Ok((found, changes)) => {
                    let diff: Vec<String> = changes.iter().map(|change| change.diff()).collect();
                    Ok(Some(Change { row: change_row(&found), diff: diff.concat() }))
                }
                Err(leno_control::Error::UnknownRevision { .. }) => Ok(None),
                Err(error) => Err(failed(error)),
            }
        })
    }
}

fn failed(error: leno_control::Error) -> ViewError {
    ViewError { message: error.to_string() }
}

fn instance(registered: &Registered) -> InstanceRow {
    let instance = &registered.instance;
    let routable = registered.routable();
    InstanceRow {
        id: instance.id.to_string(),
        address: instance.address.to_string(),
        ports: instance
            .ports
            .iter()
            .map(|port| PortRow { number: port.number, protocol: word(&port.protocol), proxy: port.proxy_port })
            .collect(),
        weight: instance.weight,
        version: instance.version.as_deref().map(str::to_owned),
        zone: instance.zone.as_deref().map(str::to_owned),
        status: word(&instance.status),
        probe: word(&registered.probe),
        takes_traffic: routable.is_yes(),
        reason: (!routable.is_yes()).then(|| reason(routable)),
        source: instance.source.to_string(),
        metadata: instance.metadata.clone(),
    }
}

fn switch(turned: &Turned) -> Option<SwitchRow> {
    let key = &turned.switch.resource.key;
    let Spec::Switch(spec) = &turned.switch.resource.spec else { return None };
    let written = turned.state.as_ref().and_then(|state| match &state.resource.spec {
        Spec::SwitchState(spec) => Some(spec),
        _ => None,
    });
    let targets = spec.target_refs.iter().map(|target| {
        let named = target.key(&key.namespace);
        let section = target.section_name.as_ref().map(|section| format!(" ({section})")).unwrap_or_default();
        format!("{} {}/{}{section}", named.kind.lower(), named.namespace, named.name)
    });
    Some(SwitchRow {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        on: turned.is_on,
        targets: targets.collect(),
        by: turned.state.as_ref().map(|state| state.author.to_string()),
        at: turned.state.as_ref().map(|state| state.updated.rfc3339()),
        from: written.and_then(|state| state.from).map(|moment| moment.to_string()),
        until: written.and_then(|state| state.until).map(|moment| moment.to_string()),
    })
}

fn lane(entry: &Entry, service: &ServiceName) -> Option<LaneRow> {
    let Spec::Lane(spec) = &entry.resource.spec else { return None };
    let (own, others): (Vec<_>, Vec<_>) = spec.versions.iter().partition(|of| *of.name == *service.name);
    let tag = match (&spec.tag.header, &spec.tag.baggage) {
        (Some(header), _) => format!("{header}: {}", spec.tag.value),
        (None, baggage) => format!("baggage: {}={}", baggage.as_deref().unwrap_or_default(), spec.tag.value),
    };
    Some(LaneRow {
        name: entry.resource.key.name.to_string(),
        namespace: entry.resource.key.namespace.to_string(),
        tag,
        version: own.first().map(|of| of.version.clone()).unwrap_or_default(),
        others: others.iter().map(|of| format!("{} {}", of.name, of.version)).collect(),
    })
}

fn reason(routable: Routable) -> String {
    format!("{routable:?}").to_lowercase()
}

fn sync(subscriber: &Subscriber, wall_ms: u64) -> SyncRow {
    let seconds_since = |then: Timestamp| wall_ms.saturating_sub(then.0) as f64 / 1000.0;
    let rejections: Vec<Rejection> = subscriber
        .kinds
        .iter()
        .filter_map(|kind| kind.rejection.as_ref())
        .map(|rejection| Rejection {
            resource: format!("{} {}", rejection.kind, rejection.resources.join(", ")),
            reason: rejection.detail.to_string(),
        })
        .collect();
    let behind = subscriber.waiting_since.map_or(0.0, seconds_since);
    let state = match (rejections.is_empty(), behind > BEHIND_AFTER.as_secs_f64()) {
        (false, _) => SyncState::Rejected,
        (true, true) => SyncState::Behind,
        (true, false) => SyncState::Synced,
    };
    SyncRow {
        proxy: subscriber.node.id.clone(),
        state,
        behind,
        resources: subscriber.kinds.iter().map(|kind| kind.resources).sum(),
        rejections,
        connected: seconds_since(subscriber.connected_since),
        address: subscriber.peer.clone(),
        agent: format!("{} {}", subscriber.node.proxy, subscriber.node.version),
    }
}

fn change_row(revision: &Revision) -> ChangeRow {
    ChangeRow {
        revision: revision.number,
        author: revision.author.to_string(),
        time: revision.time.rfc3339(),
        action: revision.action.to_string(),
        summary: revision.summary.clone(),
        resources: revision.changes.iter().map(|change| change.resource.to_string()).collect(),
        set: Some(revision.set.to_string()),
    }
}

/// The word by which the API spells an enum's value.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
