//! What the registry says about an instance: what was registered, how its lease and probes stand, and whether it may
//! take traffic.
//!
//! The rule is Envoy's, four ways: an instance is routable when it was not deleted, drained or taken out, *and* its
//! lease is valid or its probe passes, *and* its probe does not fail. So a registry that lost contact with healthy
//! instances keeps them, and an instance that renews but does not answer gets no traffic.

use std::net::IpAddr;

use leno_model::instance::{Instance, InstanceStatus, ProbeResult};
use leno_model::seam::Timestamp;
use serde::{Deserialize, Serialize};

/// The count of changes to the catalogue that watchers see. It starts from the time of day of the start, so that it
/// goes on rising when the process is restarted.
pub type Revision = u64;

/// An instance as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What was registered, with status and weight as they were set since.
    pub instance: Instance,
    /// Where it comes from.
    pub origin: Origin,
    /// How its lease stands.
    pub lease: LeaseState,
    /// What its probes found.
    pub probe: ProbeResult,
    /// When it was first registered.
    pub since: Timestamp,
    /// Which registration this is: another one when address, ports or health check changed.
    pub registration: u64,
    /// The revision of its last change.
    pub revision: Revision,
}

/// Where a registration came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From this machine, over loopback or a Unix socket: the instance may be probed on loopback.
    Local,
    /// From somewhere else, or from nobody knows where.
    #[default]
    Remote,
}

/// How the lease of an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// There is none: the instance stays until it is removed.
    Persistent,
    /// Renewed in time.
    Valid,
    /// Not renewed in time, and kept because too many of its source stopped renewing at once: the fault is more
    /// likely on the way than in all of them. Counts as valid.
    Unrenewed,
    /// Not renewed in time; only a passing probe still speaks for the instance.
    Expired,
}

/// Whether an instance may take traffic, or the first reason why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Routable {
    /// It may.
    Yes,
    /// It said that it is not ready yet.
    Starting,
    /// It ends soon.
    Draining,
    /// An operator took it out.
    Out,
    /// Its probe fails.
    Failing,
    /// Its lease is over and no probe passes.
    Expired,
}

// === impl Registered ===

impl Registered {
    /// Whether it may take traffic, or why not.
    pub fn routable(&self) -> Routable {
        Routable::of(self.instance.status, self.lease, self.probe)
    }
}

// === impl Routable ===

impl Routable {
    /// The four-way rule.
    pub fn of(status: InstanceStatus, lease: LeaseState, probe: ProbeResult) -> Self {
        match (status, lease, probe) {
            (InstanceStatus::Starting, ..) => Self::Starting,
            (InstanceStatus::Draining, ..) => Self::Draining,
            (InstanceStatus::Out, ..) => Self::Out,
            (InstanceStatus::Up, _, ProbeResult::Failing) => Self::Failing,
            (InstanceStatus::Up, LeaseState::Expired, ProbeResult::Unknown) => Self::Expired,
            (InstanceStatus::Up, ..) => Self::Yes,
        }
    }

    /// Whether it may take traffic.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

// === impl Origin ===

impl Origin {
    /// The origin of a registration that came from this address.
    pub fn from_peer(peer: IpAddr) -> Self {
        if peer.to_canonical().is_loopback() { Self::Local } else { Self::Remote }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use InstanceStatus::{Draining, Out, Starting, Up};
    use LeaseState::{Expired, Persistent, Unrenewed, Valid};
    use ProbeResult::{Failing, Passing, Unknown};

    #[test]
    fn the_four_way_rule_holds_in_every_combination() {
        let table = [
            (Up, Persistent, Unknown, Routable::Yes),
            (Up, Persistent, Passing, Routable::Yes),
            (Up, Persistent, Failing, Routable::Failing),
            (Up, Valid, Unknown, Routable::Yes),
            (Up, Valid, Passing, Routable::Yes),
            (Up, Valid, Failing, Routable::Failing),
            (Up, Unrenewed, Unknown, Routable::Yes),
            (Up, Unrenewed, Passing, Routable::Yes),
            (Up, Unrenewed, Failing, Routable::Failing),
            (Up, Expired, Unknown, Routable::Expired),
            (Up, Expired, Passing, Routable::Yes),
            (Up, Expired, Failing, Routable::Failing),
        ];
        for (status, lease, probe, routable) in table {
            assert_eq!(Routable::of(status, lease, probe), routable, "{status:?} {lease:?} {probe:?}");
        }
        for (status, routable) in [(Starting, Routable::Starting), (Draining, Routable::Draining), (Out, Routable::Out)]
        {
            for lease in [Persistent, Valid, Unrenewed, Expired] {
                for probe in [Unknown, Passing, Failing] {
                    assert_eq!(Routable::of(status, lease, probe), routable, "{status:?} {lease:?} {probe:?}");
                }
            }
        }
    }

    #[test]
    fn loopback_is_local_in_both_families() {
        for (peer, origin) in [
            ("127.0.0.1", Origin::Local),
            ("127.8.9.1", Origin::Local),
            ("::1", Origin::Local),
            ("::ffff:127.0.0.1", Origin::Local),
            ("10.0.0.1", Origin::Remote),
            ("::", Origin::Remote),
        ] {
            assert_eq!(Origin::from_peer(peer.parse().unwrap()), origin, "{peer}");
        }
    }
}
