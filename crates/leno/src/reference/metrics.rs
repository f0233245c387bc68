//! `metrics.md`: every metric, from what processes print.
//!
//! A registry is filled as a proxy's and as a server's are, each kind of edge is counted once, and the text that a scraper would get is read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use leno_control::allot::Allotments;
use leno_control::{Control, Options as ControlOptions};
use leno_dns::address::VirtualAddresses;
use leno_dns::resolver::{Answer, Names, Resolver, Verdict};
use leno_dns::upstream::{ResolvConf, Upstream};
use leno_model::name::ServiceName;
use leno_model::seam::{Clock, Timestamp};
use leno_net::places::Places;
use leno_proxy::held::Held;
use leno_proxy::table::{Builder, Table};
use leno_runtime::{SystemClock, SystemRandom};
use leno_store::SqliteStore;
use leno_telemetry::access::{AccessLog, Format};
use leno_telemetry::edge::{EdgeKey, EdgeProtocol, RequestRecord};
use leno_telemetry::lines::LineQueue;
use leno_telemetry::metric::{Limits, Registry};
use leno_xds::client::Received;
use leno_xds::status::StatusTable;
use serde_json::json;

use super::{MADE, cell, page};

/// What is known of one metric.
struct Metric {
    help: String,
    kind: String,
    /// Names of its labels, in the order in which they are printed.
    labels: Vec<String>,
    /// Whether it has a sample: a server knows the families of edges and has none.
    is_used: bool,
}

#[test]
fn the_page_of_metrics_is_what_processes_print() {
    let (proxy, server) = (read(&proxy()), read(&server()));
    let edge = &proxy["leno_requests_open"].labels;
    let mut out = format!(
        "# Metrics\n\n{MADE}\n\nIn Prometheus' text format: of a proxy at `/metrics` of `--metrics-listen` (15020), of a server at `/metrics` of `--http-listen`. \
         The unit is the end of the name: `_seconds`, `_milliseconds`, `_bytes`; a `_total` without one counts.\n\n*edge* stands for the labels of what runs \
         from one service to another: {}.\n\n",
        names(edge)
    );
    let shared: Vec<&String> = proxy.keys().filter(|name| server.contains_key(*name)).collect();
    section(&mut out, "Every process", edge, shared.iter().map(|name| (*name, &proxy[*name])));
    section(&mut out, "Proxies", edge, proxy.iter().filter(|(name, _)| !shared.contains(name)));
    section(&mut out, "Servers", edge, server.iter().filter(|(name, _)| !shared.contains(name)));
    page("metrics.md", &out);
}

/// The metrics of a proxy after a request, a connection and a DNS query.
fn proxy() -> String {
    let registry = Registry::new(1, Limits::default());
    leno_telemetry::process::register(&registry, "0.0.0", Timestamp(0));
    crate::roles::measure_places(&registry, &Places::default());
    crate::roles::measure_strikes(&registry, &Arc::default());
    leno_proxy::Commands::new(1).0.measure(&registry);
    let (lookup, tables) = leno_proxy::tables();
    tables.swap(guarded());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    leno_proxy::measure(&registry, &lookup, &clock);
    leno_proxy::pressure::measure(&registry, Arc::default());
    drop(leno_proxy::udp::Udp::new(1, &registry));
    drop(leno_proxy::InFront::new(Vec::new(), &registry));
    let edge = |protocol| {
        let (source, destination) = ("web.shop".parse().unwrap(), "cart.shop".parse().unwrap());
        registry.edge(&EdgeKey { source, destination, protocol, ..EdgeKey::default() })
    };
    edge(EdgeProtocol::Http).request(&RequestRecord { status: 200, ..RequestRecord::default() });
    edge(EdgeProtocol::Tcp).connection_opened();
    let lines = LineQueue::to_writer("access", std::io::sink()).unwrap();
    AccessLog::new(Format::Json, lines).register(&registry);
    let upstream = Upstream::new(ResolvConf::parse(""), Box::new(SystemRandom));
    drop(Resolver::new(Default::default(), Nobody, Arc::new(VirtualAddresses::new()), upstream, &registry));
    registry.render()
}

/// A table with a cluster that has every policy.
fn guarded() -> Table {
    let time = json!({ "secs": 1, "nanos": 0 });
    let listener = json!({
        "name": "cart", "service": "cart.shop", "port": 80, "bind": false, "protocol": "tcp", "http": null,
        "tcp": [{ "cluster": "cart", "weight": 1, "filters": [], "injections": {
            "service": "cart.shop", "faults": [{ "name": "slow" }],
        } }], "tls": [], "idle_timeout": time,
        "overload": { "shedding": { "min": 1, "max": 1, "tolerance": 1, "wait": time } },
        "rate_limits": { "service": "cart.shop", "limits": [{
            "name": "each", "key": ["Path"], "keys": 64, "form": { "Bucket": { "rate": { "requests": 1, "per": time }, "burst": 1 } },
        }, {
            "name": "all", "form": { "Bucket": { "rate": { "requests": 1, "per": time }, "burst": 1 } }, "shared": {},
        }] },
    });
    let cluster = json!({
        "name": "cart", "service": "cart.shop", "port": 80, "protocol": "tcp", "balance": "weightedRoundRobin",
        "connect_timeout": time, "idle_timeout": time, "balancing": { "panic_threshold": 50 },
        "resilience": {
            "stand_in": { "on": [], "failures": [] },
            "answers": { "cache": true, "bytes_max": 1024, "body_max": 1024, "entries_max": 1 }, "limits": { "requests": 1 }, "admission": { "factor": 200, "window": time, "requests_min": 1 },
            "ejection": { "slow_after": time, "window": time, "requests_min": 1, "base_time": time, "time_max": time, "share_max": 1 },
            "breaker": { "slow_after": time, "window": time, "buckets": 1, "requests_min": 1, "open": time, "probes": 1 },
        },
    });
    let mut held = Held::default();
    held.listeners.insert("cart".into(), received(listener));
    held.clusters.insert("cart".into(), received(cluster));
    held.endpoints.insert("cart".into(), received(json!({ "cluster": "cart", "endpoints": [] })));
    let metrics = Arc::new(Registry::new(1, Limits::default()));
    Builder::new(EdgeKey::default(), 1, metrics).build(&held, Default::default()).0
}

fn received<T: serde::de::DeserializeOwned>(resource: serde_json::Value) -> Received<T> {
    Received { version: "1".into(), resource: Arc::new(serde_json::from_value(resource).unwrap()) }
}

/// The metrics of a server with a store on disk.
fn server() -> String {
    let registry = Registry::new(0, Limits::default());
    leno_telemetry::process::register(&registry, "0.0.0", Timestamp(0));
    crate::roles::measure_places(&registry, &Places::default());
    crate::roles::measure_strikes(&registry, &Arc::default());
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = SqliteStore::open(&folder.path().join("state.db"), clock.clone(), Default::default()).unwrap();
    let store = Arc::new(store);
    let services = leno_registry::Registry::open(store.clone(), clock.clone(), Default::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (services, _driver) = runtime.block_on(services).unwrap();
    let control = runtime.block_on(Control::open(ControlOptions {
        store: store.clone(),
        directory: Arc::new(leno_control::directory::Empty),
        clock: clock.clone(),
        subscribers: StatusTable::new(),
    }));
    crate::roles::server::measure_limits(&registry, Allotments::new(control.unwrap().0, clock));
    crate::roles::server::measure(&registry, StatusTable::new(), services, Some(store));
    registry.render()
}

/// A mesh without names.
struct Nobody;

impl Names for Nobody {
    fn exists(&self, _: &ServiceName) -> Answer {
        Answer::NotMesh
    }

    fn wait<'a>(&'a self, _: &'a ServiceName) -> Verdict<'a> {
        Box::pin(async { Answer::NotMesh })
    }
}

fn read(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some((of, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            name = of.to_owned();
            metrics.insert(
                name.clone(),
                Metric { help: help.to_owned(), kind: String::new(), labels: Vec::new(), is_used: false },
            );
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            metrics.get_mut(&name).unwrap().kind = kind.to_owned();
        } else {
            let metric = metrics.get_mut(&name).unwrap();
            metric.is_used = true;
            let labels = line.split_once('{').map_or("", |(_, labels)| labels);
            for label in labels.split("=\"").filter_map(|part| part.rsplit([',', '"']).next()) {
                if !label.contains('}')
                    && label != "le"
                    && !label.is_empty()
                    && !metric.labels.iter().any(|known| known == label)
                {
                    metric.labels.push(label.to_owned());
                }
            }
        }
    }
    metrics.retain(|_, metric| metric.is_used);
    metrics
}

fn section<'a>(
    out: &mut String,
    title: &str,
    edge: &[String],
    metrics: impl Iterator<Item = (&'a String, &'a Metric)>,
) {
    let _ = write!(out, "## {title}\n\n| metric | type | labels | |\n| --- | --- | --- | --- |\n");
    for (name, metric) in metrics {
        let labels = match metric.labels.strip_prefix(edge) {
            Some([]) => "*edge*".to_owned(),
            Some(more) => format!("*edge*, {}", names(more)),
            None => names(&metric.labels),
        };
        let _ = writeln!(out, "| `{name}` | {} | {labels} | {} |", metric.kind, cell(&metric.help));
    }
    out.push('\n');
}

fn names(labels: &[String]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
