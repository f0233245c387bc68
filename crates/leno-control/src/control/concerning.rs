//! What is in force for one service, for people who look at it.

use std::sync::Arc;

use leno_model::name::ServiceName;
use leno_model::resource::Spec;

use super::Control;
use crate::merge::{Entry, Topic};

/// Resources that say what becomes of requests to a service.
#[derive(Debug, Clone, Default)]
pub struct Concerning {
    /// TrafficPolicies, the oldest, which is the one in force, first; then FaultPolicies, likewise.
    pub policies: Vec<Arc<Entry>>,
    /// Switches that name it or a route of it, sorted by name.
    pub switches: Vec<Turned>,
    /// Lanes that one of its versions is in, the oldest first.
    pub lanes: Vec<Arc<Entry>>,
}

/// A switch and how it stands.
#[derive(Debug, Clone)]
pub struct Turned {
    /// The switch.
    pub switch: Arc<Entry>,
    /// What says whether it is on; none where nobody has turned it.
    pub state: Option<Arc<Entry>>,
    /// Whether it is on.
    pub is_on: bool,
}

// === impl Control ===

impl Control {
    /// What is in force for a service.
    pub fn concerning(&self, service: &ServiceName) -> Concerning {
        let state = self.state();
        let merged = &state.merged;
        let topic = Topic::Service(service.clone());
        let switches = merged.iter().filter(|entry| matches!(entry.resource.spec, Spec::Switch(_)));
        let switches = switches.filter(|entry| merged.topics(&entry.resource).contains(&topic)).map(|switch| {
            let known = merged.switch_state(&switch.resource.key);
            let is_on = known.is_some_and(|(.., is_on)| is_on);
            Turned { switch: switch.clone(), state: known.map(|(state, ..)| state.clone()), is_on }
        });
        let traffic = merged.policies_of(service).into_iter().map(|(entry, _)| entry.clone());
        let faults = merged.fault_policies_of(service).into_iter().map(|(entry, _)| entry.clone());
        let lanes = merged.lanes_of(service).into_iter().map(|(entry, _)| entry.clone());
        Concerning { policies: traffic.chain(faults).collect(), switches: switches.collect(), lanes: lanes.collect() }
    }
}
