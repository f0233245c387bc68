//! Which programs honour what a policy says: leno's proxies all of it, Envoys and gRPC without a proxy what they have.
//!
//! One table, from which `leno check` speaks and the page in `docs/reference` is made. What it says of Envoy and gRPC is held
//! against what they are served (`leno-control`, `tests/honoured.rs`): where they are said to honour a field, it changes what
//! they get, and where Envoy is said not to, it changes nothing.

use leno_model::resource::kind::Kind;
use serde_json::Value;

use crate::node::ProxyKind;

/// What a kind of program makes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honour {
    /// What it says.
    Whole,
    /// Something near it, which is this.
    Nearly(&'static str),
    /// Nothing; what happens instead.
    Not(&'static str),
    /// Leno's proxies beside the instances do it, whoever calls.
    Beside,
}

/// What other programs than leno's proxies make of a field, and of those below it that have no row of their own.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The kind of resource.
    pub kind: Kind,
    /// The field below `spec`, without numbers of entries.
    pub path: &'static str,
    /// Its value, where others are in rows of their own.
    pub value: Option<&'static str>,
    /// Of Envoy.
    pub envoy: Honour,
    /// Of gRPC without a proxy.
    pub grpc: Honour,
}

/// A field of a resource that a kind of program does not honour as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where it stands, with numbers of entries.
    pub path: String,
    /// What the program makes of it.
    pub honour: Honour,
}

use Honour::{Beside, Nearly, Not, Whole};

const BY_TURNS: Honour = Nearly("it takes them in turn");
const BY_REQUESTS: Honour = Nearly("it takes least request");
const AT_ONCE: Honour = Not("it refuses at once what would wait");
const NO_EJECTION: Honour = Not("it ejects by `failureRatio` alone");
const NO_LIMIT: Honour = Not("it has no such limit");
const NO_BREAKER: Honour = Not("it opens no breaker, and goes on asking");
const NO_FALLBACK: Honour = Not("callers hear of the failure");
const OWN_RETRIES: Honour = Nearly("it looks at the conditions of gRPC alone");

/// Of which each entry is looked at for itself.
const RATE_LIMITS: &str = "rateLimits";

/// Every policy's fields, those of a folder after it.
pub const ROWS: &[Row] = &[
    // === which endpoint ===
    row("loadBalancer.policy", Some("peakEwma"), BY_REQUESTS, BY_TURNS),
    row("loadBalancer.policy", Some("leastRequest"), Whole, Whole),
    row("loadBalancer.policy", Some("bestAvailable"), BY_REQUESTS, BY_REQUESTS),
    row("loadBalancer.policy", Some("roundRobin"), Whole, Whole),
    row("loadBalancer.policy", Some("weightedRoundRobin"), Whole, Whole),
    row("loadBalancer.policy", Some("weightedResponseTime"), BY_REQUESTS, BY_REQUESTS),
    row("loadBalancer.policy", Some("random"), Whole, BY_TURNS),
    row("loadBalancer.policy", Some("ringHash"), Whole, Whole),
    row("loadBalancer.policy", Some("maglev"), Whole, Nearly("it uses a ring")),
    row(
        "loadBalancer.policy",
        Some("expression"),
        Nearly("for a cost it takes least request, for a weight it takes them in turn"),
        Nearly("for a cost it takes least request, for a weight it takes them in turn"),
    ),
    row("loadBalancer.expression", None, Not("it evaluates none"), Not("it evaluates none")),
    row("loadBalancer.hash.header", None, Whole, Whole),
    row("loadBalancer.hash.cookie", None, Whole, Not("such a key is left aside")),
    row("loadBalancer.hash.query", None, Whole, Not("such a key is left aside")),
    row("loadBalancer.hash.sourceAddress", None, Whole, Not("such a key is left aside")),
    row("loadBalancer.hash", None, Whole, Whole),
    row("loadBalancer.session", None, Whole, Not("nothing binds its calls to an instance")),
    row("loadBalancer.panicThreshold", None, Whole, Not("it never panics")),
    row(
        "loadBalancer.slowStart",
        None,
        Nearly("with round robin and least request alone; else new instances have their share at once"),
        Not("new instances have their share at once"),
    ),
    row(
        "loadBalancer.locality",
        None,
        Whole,
        Nearly("it goes on to others when nobody near can be reached, all at once"),
    ),
    row("loadBalancer.tableSize", None, Whole, Not("it has no table")),
    row("loadBalancer.subset", None, Whole, Not("all instances are for all its calls")),
    row("loadBalancer.loadReports", None, Whole, Whole),
    // === times ===
    row("connectTimeout", None, Whole, Not("it has a time of its own, 20 s")),
    row("requestTimeout", None, Whole, Whole),
    row("idleTimeout", None, Whole, Not("it keeps its connections")),
    // === limits, ejection, breaker ===
    row("limits.requests", None, Whole, Whole),
    row("limits.queue", None, AT_ONCE, AT_ONCE),
    row("limits.retries", None, Whole, NO_LIMIT),
    row("limits.connections", None, Whole, NO_LIMIT),
    row("limits.pending", None, Whole, NO_LIMIT),
    row("ejection.consecutiveErrors", None, Whole, NO_EJECTION),
    row("ejection.consecutiveGatewayErrors", None, Whole, NO_EJECTION),
    row("ejection.consecutiveLocalErrors", None, Whole, NO_EJECTION),
    row("ejection.slowRatio", None, Not("it looks at no slow answers"), Not("it looks at no slow answers")),
    row("ejection.slowAfter", None, Not("it looks at no slow answers"), Not("it looks at no slow answers")),
    row("ejection", None, Whole, Whole),
    row("breaker.forced", Some("open"), Whole, Whole),
    row("breaker", None, NO_BREAKER, NO_BREAKER),
    row("fallback", None, NO_FALLBACK, NO_FALLBACK),
    row("cache", None, Not("it keeps no answers"), Not("it keeps no answers")),
    row("collapse", None, Not("each request is sent"), Not("each request is sent")),
    // === again ===
    row("retry.on", None, Whole, OWN_RETRIES),
    row(
        "retry.methods",
        None,
        Nearly("it looks at methods whatever went wrong, so that others have no safe retries either"),
        OWN_RETRIES,
    ),
    row(
        "retry.maxRetryAfter",
        None,
        Nearly("a longer `Retry-After` has it take its own back-off"),
        Not("it takes its own back-off"),
    ),
    row("retry.tryTimeout", None, Whole, Not("a try has as long as the call")),
    row("retry.codes", None, Whole, OWN_RETRIES),
    row("retry", None, Whole, Whole),
    row("retryBudget", None, Whole, Not("it has a budget of its own, by its service config")),
    row(
        "hedge",
        None,
        Nearly("it hedges where a try takes too long, with one more at a time"),
        Not("it hedges nothing"),
    ),
    // === how much ===
    row("priorities", None, Not("it passes the field on and gives none"), Not("it gives none")),
    row("overload", None, Beside, Beside),
    row("admission", None, Not("it holds nothing back"), Not("it holds nothing back")),
    row(
        "rateLimits",
        None,
        Nearly(
            "of those `at: caller` it keeps the lowest `limit` that is for all requests and not `shared`; those of the service are held beside its instances",
        ),
        Not("of those `at: caller` it holds none; those of the service are held beside its instances"),
    ),
    // === faults ===
    Row {
        kind: Kind::FaultPolicy,
        path: "faults.bandwidth",
        value: None,
        envoy: Whole,
        grpc: Not("bodies come as fast as ever"),
    },
    Row {
        kind: Kind::FaultPolicy,
        path: "faults.matches",
        value: None,
        envoy: Whole,
        grpc: Nearly("without conditions on a query"),
    },
    Row { kind: Kind::FaultPolicy, path: "faults", value: None, envoy: Whole, grpc: Whole },
    Row {
        kind: Kind::FaultPolicy,
        path: "maxActive",
        value: None,
        envoy: Nearly("it counts for each route apart"),
        grpc: Whole,
    },
];

/// Fields that say whom a policy is for, or what an entry is called, and those of which the kind of resource is served whole.
const PLAIN: &[(Kind, &str)] =
    &[(Kind::TrafficPolicy, "targetRefs"), (Kind::FaultPolicy, "targetRefs"), (Kind::FaultPolicy, "faults.name")];

const fn row(path: &'static str, value: Option<&'static str>, envoy: Honour, grpc: Honour) -> Row {
    Row { kind: Kind::TrafficPolicy, path, value, envoy, grpc }
}

/// What somebody can do about a gap.
pub fn fix(proxy: ProxyKind) -> &'static str {
    match proxy {
        ProxyKind::Leno => "nothing is to be done",
        ProxyKind::Envoy => "put leno's proxy in place of the Envoys that are to honour it, or do without it there",
        ProxyKind::Grpc => "put leno's proxy beside the programs that are to honour it, or do without it there",
    }
}

/// What of a resource a kind of program does not honour as it stands: `spec` as it is written.
pub fn gaps(kind: Kind, spec: &Value, proxy: ProxyKind) -> Vec<Gap> {
    let mut search = Search { kind, proxy, gaps: Vec::new() };
    if proxy != ProxyKind::Leno {
        search.walk(spec, "spec", "", None);
    }
    search.gaps
}

/// Whether the table knows of this field below `spec`, by a row of its own, of one above it or of one below it.
pub fn knows(kind: Kind, path: &str) -> bool {
    let within =
        |path: &str, above: &str| path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    ROWS.iter().any(|row| row.kind == kind && (within(path, row.path) || within(row.path, path)))
        || PLAIN.iter().any(|(of, plain)| *of == kind && within(path, plain))
}

struct Search {
    kind: Kind,
    proxy: ProxyKind,
    gaps: Vec<Gap>,
}

// === impl Search ===

impl Search {
    /// `written` has numbers of entries, `bare` has none and no `spec`; `above` is what is said of what this is a part of.
    fn walk(&mut self, value: &Value, written: &str, bare: &str, above: Option<&Gap>) {
        if bare == RATE_LIMITS && value.is_object() {
            return self.say(&Gap { path: written.to_owned(), honour: rate_limit(value, self.proxy) });
        }
        let own = self.row_of(bare, value).map(|row| Gap { path: written.to_owned(), honour: row.of(self.proxy) });
        let said = own.as_ref().or(above);
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let bare = if bare.is_empty() { name.clone() } else { format!("{bare}.{name}") };
                    self.walk(value, &format!("{written}.{name}"), &bare, said);
                }
            }
            Value::Array(entries) => {
                for (at, value) in entries.iter().enumerate() {
                    self.walk(value, &format!("{written}[{at}]"), bare, said);
                }
            }
            _ => said.into_iter().for_each(|gap| self.say(gap)),
        }
    }

    /// Once, whatever it is said of.
    fn say(&mut self, gap: &Gap) {
        if gap.honour.instead().is_some() && !self.gaps.contains(gap) {
            self.gaps.push(gap.clone());
        }
    }

    fn row_of(&self, path: &str, value: &Value) -> Option<&'static Row> {
        let of_path = || ROWS.iter().filter(|row| row.kind == self.kind && row.path == path);
        let of_value = of_path().find(|row| row.value.is_some() && row.value == value.as_str());
        of_value.or_else(|| of_path().find(|row| row.value.is_none()))
    }
}

/// Of an entry of `rateLimits`, of which Envoy keeps those that it has a bucket for.
fn rate_limit(entry: &Value, proxy: ProxyKind) -> Honour {
    if entry["at"] != "caller" {
        return Beside;
    }
    let narrows = |field: &str| entry.get(field).is_some_and(|value| !value.is_null());
    let is_plain = narrows("limit")
        && !["matches", "key", "shared"].into_iter().any(narrows)
        && entry["limit"]["warmUp"].is_null();
    match (proxy, is_plain) {
        (ProxyKind::Envoy, true) => Nearly("of several it keeps the lowest, and counts for each route apart"),
        _ => Not("it sends as much as it likes"),
    }
}

// === impl Row ===

impl Row {
    /// What this kind of program makes of it.
    pub fn of(&self, proxy: ProxyKind) -> Honour {
        match proxy {
            ProxyKind::Leno => Whole,
            ProxyKind::Envoy => self.envoy,
            ProxyKind::Grpc => self.grpc,
        }
    }
}

// === impl Honour ===

impl Honour {
    /// What happens, where that is not what is written.
    pub fn instead(self) -> Option<&'static str> {
        match self {
            Whole | Beside => None,
            Nearly(instead) | Not(instead) => Some(instead),
        }
    }
}

#[cfg(test)]
mod tests {
    use leno_model::resource::schema;
    use serde_json::json;

    use super::*;

    fn said(spec: Value, proxy: ProxyKind) -> Vec<String> {
        gaps(Kind::TrafficPolicy, &spec, proxy).into_iter().map(|gap| gap.path).collect()
    }

    #[test]
    fn what_is_not_honoured_is_said_once_with_its_place_and_what_is_honoured_is_not() {
        let spec = json!({
            "targetRefs": [{ "name": "cart" }],
            "loadBalancer": { "policy": "ringHash", "hash": [{ "header": "x-user" }, { "cookie": { "name": "s", "ttl": "1h" } }] },
            "limits": { "requests": 10, "queue": { "size": 5, "timeout": "1s" } },
            "breaker": { "preset": "hystrix", "window": "10s" },
            "ejection": { "consecutiveErrors": 5, "slowRatio": 50, "baseTime": "30s" },
        });
        assert_eq!(said(spec.clone(), ProxyKind::Leno), [""; 0]);
        let envoy = ["spec.breaker", "spec.ejection.slowRatio", "spec.limits.queue"];
        assert_eq!(said(spec.clone(), ProxyKind::Envoy), envoy);
        let grpc = said(spec, ProxyKind::Grpc);
        assert!(grpc.contains(&"spec.loadBalancer.hash[1].cookie".to_owned()), "{grpc:?}");
        assert!(grpc.contains(&"spec.ejection.consecutiveErrors".to_owned()), "{grpc:?}");
        assert!(!grpc.iter().any(|path| path.contains("hash[0]") || path.contains("baseTime")), "{grpc:?}");
    }

    #[test]
    fn of_limits_on_requests_those_of_callers_are_what_callers_have_to_honour() {
        let spec = json!({ "rateLimits": [
            { "name": "a", "limit": { "requests": 1, "per": "1s" } },
            { "name": "b", "at": "caller", "limit": { "requests": 1, "per": "1s" } },
            { "name": "c", "at": "caller", "window": { "requests": 1, "per": "1s" } },
            { "name": "d", "at": "caller", "limit": { "requests": 1, "per": "1s" }, "shared": {} },
        ] });
        let gaps = gaps(Kind::TrafficPolicy, &spec, ProxyKind::Envoy);
        let paths: Vec<&str> = gaps.iter().map(|gap| &*gap.path).collect();
        assert_eq!(paths, ["spec.rateLimits[1]", "spec.rateLimits[2]", "spec.rateLimits[3]"]);
        assert!(matches!(gaps[0].honour, Nearly(_)) && gaps[1..].iter().all(|gap| matches!(gap.honour, Not(_))));
    }

    #[test]
    fn a_value_has_its_own_row() {
        let of = |policy: &str| json!({ "loadBalancer": { "policy": policy } });
        assert_eq!(said(of("roundRobin"), ProxyKind::Envoy), [""; 0]);
        assert_eq!(said(of("peakEwma"), ProxyKind::Envoy), ["spec.loadBalancer.policy"]);
        assert_eq!(said(json!({ "breaker": { "forced": "open" } }), ProxyKind::Grpc), [""; 0]);
    }

    /// Every field of the schema, below `spec`, without numbers of entries.
    fn fields(schema: &Value, of: &Value, path: &str, into: &mut Vec<String>) {
        let of = match of["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
            Some(name) => &schema["$defs"][name],
            None => of,
        };
        let parts = ["anyOf", "oneOf"].iter().filter_map(|part| of[part].as_array()).flatten();
        parts.chain([&of["items"]]).filter(|of| !of.is_null()).for_each(|of| fields(schema, of, path, into));
        for (name, of) in of["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            into.push(path.clone());
            fields(schema, of, &path, into);
        }
    }

    #[test]
    fn the_table_knows_every_field_of_a_policy_and_no_other() {
        for kind in [Kind::TrafficPolicy, Kind::FaultPolicy] {
            let (schema, mut all) = (schema(kind), Vec::new());
            fields(&schema, &schema["properties"]["spec"], "", &mut all);
            let unknown: Vec<&String> = all.iter().filter(|path| !knows(kind, path)).collect();
            assert!(unknown.is_empty(), "{kind}: {unknown:?} want a row in `honour::ROWS`");
            let is_gone = |row: &&Row| row.kind == kind && !all.iter().any(|path| path == row.path);
            let gone: Vec<&str> = ROWS.iter().filter(is_gone).map(|row| row.path).collect();
            assert!(gone.is_empty(), "{kind}: nobody can write {gone:?}");
        }
    }
}
