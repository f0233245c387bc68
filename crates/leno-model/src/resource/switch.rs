//! Switch: routes that are degraded at once across the mesh, and brought back; SwitchState: whether one is on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{Kind, ResourceKey};
use super::moment::Moment;
use super::reply::StaticReply;
use crate::seam::Timestamp;

/// Routes that the mesh answers for itself as long as the switch is on, so that a system under load has room for what
/// matters. `leno switch NAME on` turns it on and `off` brings the routes back; applying a Switch does neither.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SwitchSpec {
    /// What it degrades. 1 to 64; none of them labelled `leno.mesh/protected: "true"`.
    #[serde(default)]
    pub target_refs: Vec<SwitchTarget>,
    /// What requests are answered with while it is on. Default: 503 and a sentence that names the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<StaticReply>,
}

/// What a switch degrades.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SwitchTarget {
    /// `HTTPRoute`, `GRPCRoute`, or `Service` for all requests to a service: those of its routes, those without a route, and
    /// at gateways those of rules that lead to it alone. Default `HTTPRoute`.
    #[serde(default)]
    pub kind: SwitchTargetKind,
    /// Its namespace. Default: that of the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One rule of the route, by its name. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// The kinds that a switch can degrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum SwitchTargetKind {
    /// A route of HTTP requests.
    #[default]
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// A route of gRPC calls.
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
    /// All requests to a service.
    Service,
}

/// Whether the Switch of the same name and namespace is on. `leno switch` writes it, into the set `switches`; a switch
/// without one is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SwitchStateSpec {
    /// Whether it is on, between `from` and `until`; at other times it is the other way round.
    pub on: bool,
    /// From when that holds. Default: always has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
    /// Until when that holds, later than `from`. Default: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

// === impl SwitchTarget ===

impl SwitchTarget {
    /// The resource that is meant by a switch of a namespace.
    pub fn key(&self, own: &str) -> ResourceKey {
        ResourceKey::new(self.kind.kind(), self.namespace.as_deref().unwrap_or(own), &self.name)
    }
}

// === impl SwitchTargetKind ===

impl SwitchTargetKind {
    /// As a kind of resource.
    pub fn kind(self) -> Kind {
        match self {
            Self::HttpRoute => Kind::HttpRoute,
            Self::GrpcRoute => Kind::GrpcRoute,
            Self::Service => Kind::Service,
        }
    }
}

// === impl SwitchStateSpec ===

impl SwitchStateSpec {
    /// Whether the switch is on at a moment.
    pub fn is_on(&self, now: Timestamp) -> bool {
        let begun = self.from.is_none_or(|from| from.0 <= now);
        let ended = self.until.is_some_and(|until| until.0 <= now);
        self.on == (begun && !ended)
    }

    /// The first moment after `now` at which it turns.
    pub fn turns_after(&self, now: Timestamp) -> Option<Timestamp> {
        [self.from, self.until].into_iter().flatten().map(|moment| moment.0).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_in_its_time_and_the_other_way_round_at_others() {
        let at = |ms| Some(Moment(Timestamp(ms)));
        let on = |spec: &SwitchStateSpec| [5, 10, 15, 20, 25].map(|ms| spec.is_on(Timestamp(ms)));
        let spec = |on, from, until| SwitchStateSpec { on, from, until };
        assert_eq!(on(&spec(true, None, None)), [true; 5]);
        assert_eq!(on(&spec(false, None, None)), [false; 5]);
        assert_eq!(on(&spec(true, at(10), at(20))), [false, true, true, false, false]);
        assert_eq!(on(&spec(true, None, at(20))), [true, true, true, false, false]);
        assert_eq!(on(&spec(false, None, at(20))), [false, false, false, true, true]);
        let window = spec(true, at(10), at(20));
        assert_eq!(window.turns_after(Timestamp(5)), Some(Timestamp(10)));
        assert_eq!(window.turns_after(Timestamp(10)), Some(Timestamp(20)));
        assert_eq!(window.turns_after(Timestamp(20)), None);
    }
}
