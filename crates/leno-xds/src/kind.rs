//! The four kinds of resource, in the order in which additions are pushed: what is pointed at before what points.

use std::fmt;

/// A kind of resource. Its order is that of pushes; removals go the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `leno_model::snapshot::Cluster`. CDS.
    Cluster,
    /// `leno_model::snapshot::Endpoints`. EDS.
    Endpoints,
    /// `leno_model::snapshot::Listener`. LDS.
    Listener,
    /// `leno_model::snapshot::RouteConfig`. RDS.
    Route,
}

// === impl Kind ===

impl Kind {
    /// Every kind, in the order of pushes.
    pub const ALL: [Kind; 4] = [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Route];

    /// The URL by which messages name it.
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind that a URL names; none for kinds that leno does not serve, such as secrets.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Whether a subscription may ask for all of this kind (`*`), as Envoy does for listeners and clusters.
    pub fn has_wildcard(self) -> bool {
        matches!(self, Kind::Cluster | Kind::Listener)
    }

    /// Its place in arrays with one slot per kind.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints",
            Kind::Listener => "listener",
            Kind::Route => "route",
        })
    }
}
