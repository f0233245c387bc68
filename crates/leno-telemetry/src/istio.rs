//! Edges as Istio's standard metrics, so that boards and alerts made for Istio show leno.
//!
//! `istio_requests_total` has one series for each outcome. The distributions (`istio_request_duration_milliseconds`,
//! `…_bytes`) have one for each edge, without `response_code`, `response_flags` and `grpc_response_status`: Istio's
//! boards add over those, and 20 buckets for each of them would be most of a scrape. Of bytes, sum and count are kept
//! and the only bucket is `+Inf`. A workload is what registered: its name is the service's.
//!
//! Names and meanings: <https://istio.io/latest/docs/reference/config/metrics/>.

use std::sync::Arc;

use crate::edge::{Edge, EdgeSnapshot, Peer};
use crate::metric::{Exposition, Kind, LabelText, Unit};

/// Writes all edges, sorted, family by family.
pub(crate) fn render(edges: &[Arc<Edge>], out: &mut Exposition) {
    let mut rows: Vec<Row> = edges.iter().map(|edge| Row::new(edge)).collect();
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    let http = || rows.iter().filter(|row| !row.seen.outcomes.is_empty());
    let tcp = || rows.iter().filter(|row| row.seen.connections_opened > 0);

    out.family("istio_requests_total", "Requests that ended.", Kind::Counter);
    for row in http() {
        for (outcome, count) in &row.seen.outcomes {
            let grpc = outcome.grpc_status.map(|status| status.to_string()).unwrap_or_default();
            let more = [
                ("response_code", &*outcome.code()),
                ("grpc_response_status", &*grpc),
                ("response_flags", outcome.flag.map_or("-", |flag| flag.code())),
            ];
            out.sample_of("istio_requests_total", &row.labels, &more, *count as f64);
        }
    }
    out.family("istio_request_duration_milliseconds", "Durations of requests in milliseconds.", Kind::Histogram);
    for row in http() {
        out.histogram_of("istio_request_duration_milliseconds", &row.labels, &row.seen.latency, Unit::Milliseconds);
    }
    for (name, help, sum) in [
        ("istio_request_bytes", "Bytes of request bodies.", (|s| s.received) as fn(&EdgeSnapshot) -> u64),
        ("istio_response_bytes", "Bytes of answer bodies.", |s| s.sent),
    ] {
        out.family(name, help, Kind::Histogram);
        for row in http() {
            out.summed_of(name, &row.labels, sum(&row.seen) as f64, row.seen.latency.count());
        }
    }
    for (name, help, value) in [
        (
            "istio_tcp_connections_opened_total",
            "TCP connections opened.",
            (|s| s.connections_opened) as fn(&EdgeSnapshot) -> u64,
        ),
        ("istio_tcp_connections_closed_total", "TCP connections closed.", |s| s.connections_closed),
        ("istio_tcp_received_bytes_total", "Bytes from clients of TCP connections.", |s| s.tcp_received),
        ("istio_tcp_sent_bytes_total", "Bytes to clients of TCP connections.", |s| s.tcp_sent),
    ] {
        out.family(name, help, Kind::Counter);
        tcp().for_each(|row| out.sample_of(name, &row.labels, &[], value(&row.seen) as f64));
    }
    out.family("leno_requests_open", "Requests that are open.", Kind::Gauge);
    for row in &rows {
        out.sample_of("leno_requests_open", &row.labels, &[], row.seen.open as f64);
    }
    out.family("leno_retries_total", "Tries after the first.", Kind::Counter);
    http().for_each(|row| out.sample_of("leno_retries_total", &row.labels, &[], row.seen.retries as f64));
}

/// An edge as it is printed.
struct Row {
    labels: LabelText,
    seen: EdgeSnapshot,
}

impl Row {
    fn new(edge: &Edge) -> Self {
        let key = edge.key();
        let (source, source_namespace) = workload(&key.source);
        let (destination, destination_namespace) = workload(&key.destination);
        let version = |version: &'_ Option<Arc<str>>| version.as_deref().unwrap_or("unknown").to_owned();
        let (source_version, destination_version) = (version(&key.source_version), version(&key.destination_version));
        let (host, name) = match &key.destination {
            Peer::Service(service) => (service.host(), service.name.to_string()),
            Peer::Passthrough => ("PassthroughCluster".to_owned(), "PassthroughCluster".to_owned()),
            other => (other.to_string(), other.to_string()),
        };
        let labels = LabelText::new(&[
            ("reporter", key.reporter.as_str()),
            ("source_workload", &source),
            ("source_workload_namespace", &source_namespace),
            ("source_principal", "unknown"),
            ("source_app", &source),
            ("source_version", &source_version),
            ("source_canonical_service", &source),
            ("source_canonical_revision", &source_version),
            ("destination_workload", &destination),
            ("destination_workload_namespace", &destination_namespace),
            ("destination_principal", "unknown"),
            ("destination_app", &destination),
            ("destination_version", &destination_version),
            ("destination_service", &host),
            ("destination_service_name", &name),
            ("destination_service_namespace", &destination_namespace),
            ("destination_canonical_service", &destination),
            ("destination_canonical_revision", &destination_version),
            ("request_protocol", key.protocol.as_str()),
            ("connection_security_policy", key.security.as_str()),
        ]);
        Self { labels, seen: edge.snapshot() }
    }
}

/// Name and namespace of a workload.
fn workload(peer: &Peer) -> (String, String) {
    match peer {
        Peer::Service(service) => (service.name.to_string(), service.namespace.to_string()),
        Peer::Overflow => ("overflow".to_owned(), "overflow".to_owned()),
        Peer::Unknown | Peer::Passthrough => ("unknown".to_owned(), "unknown".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::edge::{EdgeKey, EdgeProtocol, Peer, Reporter, RequestRecord, Security};
    use crate::metric::{Limits, Registry};
    use crate::{Edge, Flag};

    fn edge(protocol: EdgeProtocol, destination: Peer) -> (Registry, std::sync::Arc<Edge>) {
        let registry = Registry::new(1, Limits::default());
        let edge = registry.edge(&EdgeKey {
            reporter: Reporter::Source,
            source: "web.shop".parse().unwrap(),
            source_version: None,
            destination,
            destination_version: Some("v2".into()),
            protocol,
            security: Security::None,
        });
        (registry, edge)
    }

    fn cart() -> Peer {
        "cart.shop".parse().unwrap()
    }

    #[test]
    fn a_request_is_printed_with_istios_labels() {
        let (registry, edge) = edge(EdgeProtocol::Http, cart());
        let record = RequestRecord { status: 503, flag: Some(Flag::ConnectFailure), ..Default::default() };
        edge.request(&record);
        let text = registry.render();
        let line = text.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
        assert_eq!(
            line,
            "istio_requests_total{reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",\
             source_principal=\"unknown\",source_app=\"web\",source_version=\"unknown\",\
             source_canonical_service=\"web\",source_canonical_revision=\"unknown\",destination_workload=\"cart\",\
             destination_workload_namespace=\"shop\",destination_principal=\"unknown\",destination_app=\"cart\",\
             destination_version=\"v2\",destination_service=\"cart.shop.mesh\",destination_service_name=\"cart\",\
             destination_service_namespace=\"shop\",destination_canonical_service=\"cart\",\
             destination_canonical_revision=\"v2\",request_protocol=\"http\",connection_security_policy=\"none\",\
             response_code=\"503\",grpc_response_status=\"\",response_flags=\"UF\"} 1"
        );
    }

    #[test]
    fn durations_stand_in_istios_buckets() {
        let (registry, edge) = edge(EdgeProtocol::Http, cart());
        edge.request(&RequestRecord { status: 200, duration: Duration::from_millis(7), ..Default::default() });
        let text = registry.render();
        let value = |le: &str| {
            let le = format!("le=\"{le}\"}} ");
            let line = text.lines().find(|l| l.starts_with("istio_request_duration_") && l.contains(&le)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(["5", "10", "3600000", "+Inf"].map(value), ["0", "1", "1", "1"]);
        assert!(text.contains("istio_request_duration_milliseconds_sum{"));
    }

    #[test]
    fn connections_outside_the_mesh_are_called_as_in_istio() {
        let (registry, edge) = edge(EdgeProtocol::Tcp, Peer::Passthrough);
        edge.connection_opened();
        edge.tcp_bytes(3, 4);
        let text = registry.render();
        let line = text.lines().find(|line| line.starts_with("istio_tcp_sent_bytes_total{")).unwrap();
        assert!(line.contains("destination_service=\"PassthroughCluster\"") && line.ends_with(" 4"), "{line}");
    }
}
