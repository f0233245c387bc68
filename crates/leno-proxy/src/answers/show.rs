//! What is kept, for people: in metrics, and as the admin listener shows it.

use leno_telemetry::Registry;
use leno_telemetry::metric::{Exposition, Kind};
use serde_json::{Map, Value, json};

use super::Answers;
use crate::cluster::by_name;
use crate::lookup::Lookup;
use crate::table::Table;

/// Shows what is kept of every cluster of the table whose policy says so.
pub fn measure(metrics: &Registry, lookup: Lookup) {
    metrics.collector(move |out| write(out, &lookup.table()));
}

/// As the admin listener shows it.
pub(crate) fn describe(answers: &Answers) -> Value {
    let (fill, (flights, waiting)) = (answers.shelf.fill(), answers.flights.fill());
    let given: Map<String, Value> =
        answers.given().map(|(given, count)| (given.text().to_owned(), count.into())).collect();
    json!({
        "entries": fill.entries, "bytes": fill.bytes, "bytesMax": answers.terms.bytes_max, "evicted": fill.evicted,
        "given": given, "collapsing": { "open": flights, "waiting": waiting },
    })
}

fn write(out: &mut Exposition, table: &Table) {
    let clusters = by_name(table);
    let kept = || clusters.iter().filter_map(|(name, cluster)| Some((*name, cluster.resilience.answers()?)));
    let name = "leno_cache_answers_total";
    out.family(
        name,
        "Requests whose answers may be kept or shared, by cluster and by how they were answered.",
        Kind::Counter,
    );
    for (cluster, answers) in kept() {
        for (given, count) in answers.given() {
            out.sample(name, &[("cluster", cluster), ("by", given.text())], count as f64);
        }
    }
    let mut each = |name: &str, help: &str, kind: Kind, of: &dyn Fn(&Answers) -> f64| {
        out.family(name, help, kind);
        kept().for_each(|(cluster, answers)| out.sample(name, &[("cluster", cluster)], of(answers)));
    };
    let entries = |answers: &Answers| answers.shelf.fill().entries as f64;
    let evicted = |answers: &Answers| answers.shelf.fill().evicted as f64;
    each("leno_cache_bytes", "Bytes of the answers of a cluster that are kept.", Kind::Gauge, &|answers| {
        answers.shelf.fill().bytes as f64
    });
    each("leno_cache_entries", "Keys under which answers of a cluster are kept.", Kind::Gauge, &entries);
    each("leno_cache_evicted_total", "Keys that were let go because others needed the room.", Kind::Counter, &evicted);
    each("leno_collapsing_waiting", "Requests that wait for the answer to one like them.", Kind::Gauge, &|answers| {
        answers.flights.fill().1 as f64
    });
}
