//! Which instances come first by where they and the caller are, as a TrafficPolicy says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::Percent;

/// Which instances come first, by where they and the caller are. A proxy is where its `--region`, `--zone` and `--label`
/// say, an Envoy where its node's locality does, and under `leno.mesh.labels` its metadata. `{}` is the caller's own zone
/// first, then its region, then all others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalitySpec {
    /// What instances have in common with the caller: `region`, `zone`, or the name of a label (an entry of the instance's
    /// metadata). Those that have all of it come first, then those that have all but the last, and so on; whoever lacks the
    /// first comes last, whatever else it has. What the caller itself does not have is passed over. 1 to 5 entries. Default
    /// `[region, zone]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover_priority: Vec<String>,
    /// The region that comes before other foreign regions, by the caller's. Up to 16 entries. Default none: all foreign
    /// regions come last, together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<RegionFailover>,
    /// Shares of places, for callers of a place, instead of the nearest first. The first entry whose `from` is where the
    /// caller is counts. Up to 64 entries. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribute: Vec<Distribution>,
}

/// Where callers of a region go when theirs cannot take their requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RegionFailover {
    /// The callers' region.
    pub from: String,
    /// The region that comes first among the others.
    pub to: String,
}

/// How the requests of callers of a place are shared among places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Distribution {
    /// Where the callers are: `REGION/ZONE` or `REGION`; `*` in the place of either is any, and none.
    pub from: String,
    /// Places with their shares, 1 to 16, which are 100 together. An instance belongs to the first that it is in. Places
    /// that are not named take what the named ones cannot, the nearest first.
    #[serde(default)]
    pub to: Vec<PlaceShare>,
}

/// A place with its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PlaceShare {
    /// As `from`. Where it is of several zones, they share by the weights of their instances.
    pub place: String,
    /// Percentage of the requests; of 0 the place gets nothing, even when no other can take any.
    pub share: Percent,
}

/// A pattern of regions and zones; none is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacePattern<'t> {
    region: Option<&'t str>,
    zone: Option<&'t str>,
}

// === impl PlacePattern ===

impl<'t> PlacePattern<'t> {
    /// The pattern of a text; none where it is not one.
    pub fn parse(text: &'t str) -> Option<Self> {
        let (region, zone) = text.split_once('/').unwrap_or((text, "*"));
        let is_name = |text: &str| !text.is_empty() && !text.contains('/') && (text == "*" || !text.contains('*'));
        let part = |text: &'t str| Some(text).filter(|text| *text != "*");
        (is_name(region) && is_name(zone)).then(|| Self { region: part(region), zone: part(zone) })
    }

    /// Whether whoever is in a place of `other` is in one of these.
    pub fn covers(&self, other: &Self) -> bool {
        (self.region.is_none() || self.region == other.region) && (self.zone.is_none() || self.zone == other.zone)
    }

    /// Whether somebody is in such a place.
    pub fn holds(&self, region: Option<&str>, zone: Option<&str>) -> bool {
        self.region.is_none_or(|name| region == Some(name)) && self.zone.is_none_or(|name| zone == Some(name))
    }
}
