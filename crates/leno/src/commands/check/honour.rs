//! Which fields of policies which proxies honour: of files for the kinds that are asked for, of a server for those that are
//! connected. The table is `leno_xds::honour`.

use leno_model::document::Written;
use leno_model::fault::{Fault, FaultClass};
use leno_model::resource::Spec;
use leno_model::resource::kind::Kind;
use leno_xds::honour::{self, Gap};
use leno_xds::node::ProxyKind;
use serde_json::Value;

use super::Line;
use crate::args::ForeignProxy;
use crate::commands::failure::Failure;
use crate::output::{count, list_at, text_at};

/// Kinds of resources that the table is about.
const KINDS: [Kind; 2] = [Kind::TrafficPolicy, Kind::FaultPolicy];

/// Notes that are written out.
const NOTES_MAX: usize = 20;

/// A warning for each field of a resource that such proxies do not honour.
pub(super) fn of_file(written: &Written, proxy: ForeignProxy) -> Vec<Fault> {
    let (kind, proxy) = (written.resource.key.kind, kind_of(proxy));
    let spec = match &written.resource.spec {
        Spec::TrafficPolicy(spec) => serde_json::to_value(spec),
        Spec::FaultPolicy(spec) => serde_json::to_value(spec),
        _ => return Vec::new(),
    };
    // What was read can be written.
    let Ok(spec) = spec else { return Vec::new() };
    let gaps = honour::gaps(kind, &spec, proxy).into_iter();
    let warn = |gap: Gap| written.warning(FaultClass::NotHonoured, &gap.path, says(proxy, &gap), honour::fix(proxy));
    gaps.map(warn).collect()
}

/// What of the server's policies the connected proxies do not honour.
pub(super) fn line(status: &Value, list: impl Fn(Kind) -> Result<Value, Failure>) -> Line {
    let of_kind = |proxy: &ProxyKind| {
        let name = proxy.to_string();
        list_at(status, "/proxies").iter().filter(|connected| connected["kind"] == *name).count()
    };
    let connected: Vec<(ProxyKind, usize)> =
        [ProxyKind::Envoy, ProxyKind::Grpc].into_iter().map(|kind| (kind, of_kind(&kind))).collect();
    if connected.iter().all(|(_, count)| *count == 0) {
        return Line::good("policies", "no proxy is connected that honours less than all".to_owned());
    }
    let mut notes = Vec::new();
    for kind in KINDS {
        let listed = match list(kind) {
            Ok(listed) => listed,
            Err(failure) => return Line::bad("policies", failure.message, failure.fix),
        };
        for entry in list_at(&listed, "/items") {
            let resource = &entry["resource"];
            let (namespace, name) = (text_at(resource, "/metadata/namespace"), text_at(resource, "/metadata/name"));
            for (proxy, _) in connected.iter().filter(|(_, count)| *count > 0) {
                let gaps = honour::gaps(kind, &resource["spec"], *proxy).into_iter();
                notes
                    .extend(gaps.map(|gap| format!("{kind} {namespace}/{name}: {}: {}", gap.path, says(*proxy, &gap))));
            }
        }
    }
    let of = |(proxy, count): &(ProxyKind, usize)| format!("{count} {proxy}");
    let connected: Vec<String> = connected.iter().filter(|(_, count)| *count > 0).map(of).collect();
    let connected = connected.join(" and ");
    if notes.is_empty() {
        return Line::good("policies", format!("{connected} connected, which honour all that is written"));
    }
    let mut line =
        Line::good("policies", format!("{connected} connected, which do not honour {}", count(notes.len(), "field")));
    let more = notes.len().saturating_sub(NOTES_MAX);
    notes.truncate(NOTES_MAX);
    if more > 0 {
        notes.push(format!("and {more} more: `leno check -f FILES --for envoy --for grpc` has all of them"));
    }
    line.notes = notes;
    line
}

fn kind_of(proxy: ForeignProxy) -> ProxyKind {
    match proxy {
        ForeignProxy::Envoy => ProxyKind::Envoy,
        ForeignProxy::Grpc => ProxyKind::Grpc,
    }
}

fn says(proxy: ProxyKind, gap: &Gap) -> String {
    let who = match proxy {
        ProxyKind::Leno => "leno's proxies do",
        ProxyKind::Envoy => "Envoy does",
        ProxyKind::Grpc => "gRPC without a proxy does",
    };
    format!("{who} not do what is written: {}", gap.honour.instead().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(kind: Kind) -> Result<Value, Failure> {
        let policy = json!({ "metadata": { "namespace": "shop", "name": "cart" }, "spec": { "breaker": { "preset": "hystrix" } } });
        let resources = if kind == Kind::TrafficPolicy { vec![json!({ "resource": policy })] } else { Vec::new() };
        Ok(json!({ "items": resources }))
    }

    #[test]
    fn what_connected_proxies_do_not_honour_is_noted_and_nothing_where_there_are_only_lenos() {
        let with = |kinds: &[&str]| {
            let proxies: Vec<Value> = kinds.iter().map(|kind| json!({ "id": "p", "kind": kind })).collect();
            line(&json!({ "proxies": proxies }), listed)
        };
        assert!(with(&["leno", "leno"]).notes.is_empty());
        let line = with(&["leno", "envoy", "envoy"]);
        assert_eq!(line.said, "2 envoy connected, which do not honour 1 field");
        assert!(
            line.fix.is_none() && line.notes[0].contains("shop/cart: spec.breaker: Envoy does not"),
            "{:?}",
            line.notes
        );
        assert!(line.text().contains("note:"), "{}", line.text());
    }
}
