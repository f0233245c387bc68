//! The cases of faults: every class, in every kind that it fits. Shared by the tests of what finds them, and of what
//! refuses a set for them.
//!
//! In the texts `¦` stands before the place at which the fault must point; it is taken out before they are read. They name
//! service `cart` with ports 80 (`http`) and 90 (`grpc`), service `one` with port 80, service `seen` that is only
//! registered, and gateway `edge`, in the namespaces `default` and `other`.
//!
//! Long, because it is one table: a case is a row, and who adds a fault looks for its like here.

// Each file of tests is a crate of its own and uses its part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use leno_model::fault::FaultClass;
use leno_model::resource::kind::Kind;

use FaultClass::*;

/// The gateway `edge` of a namespace, as it is written.
pub fn edge(namespace: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: {namespace}}}\nspec:\n  listeners:\n  \
         - {name}\n  - {raw}\n",
        name = "{name: web, port: 80, protocol: HTTP, hostname: '*.example.com'}",
        raw = "{name: raw, port: 90, protocol: TCP}"
    )
}

/// One fault.
pub struct Case {
    pub class: FaultClass,
    pub path: String,
    /// What the fix must say; `|` between alternatives.
    pub fix: String,
    pub text: String,
}

fn case(class: FaultClass, path: &str, fix: &str, text: impl Into<String>) -> Case {
    Case { class, path: path.into(), fix: fix.into(), text: text.into() }
}

/// A resource of `kind` without a fault.
pub fn valid(kind: Kind) -> String {
    let spec = match kind {
        Kind::Gateway => "  listeners: [{name: web, port: 80, protocol: HTTP}]\n",
        Kind::Service => "  ports: [{port: 80}]\n",
        Kind::TrafficPolicy => "  targetRefs: [{name: cart}]\n",
        Kind::Switch => "  targetRefs: [{kind: Service, name: cart}]\n",
        Kind::SwitchState => "  on: true\n",
        Kind::FaultPolicy => "  targetRefs: [{name: cart}]\n  faults: [{name: slow, delay: {time: 1s}}]\n",
        Kind::Lane => "  tag: {header: x-lane, value: blue}\n  versions: [{name: cart, version: v2}]\n",
        Kind::BackendTlsPolicy => {
            "  targetRefs: [{name: cart}]\n  validation: {hostname: cart.test, caCertificateRefs: [{kind: ConfigMap, name: ca}]}\n"
        }
        Kind::ReferenceGrant => {
            "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]\n  to: [{group: '', kind: Service}]\n"
        }
        _ => {
            "  parentRefs: [{group: '', kind: Service, name: cart}]\n  rules:\n  - backendRefs: [{name: cart, port: 80}]\n"
        }
    };
    format!("apiVersion: {}\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n{spec}", kind.api_version())
}

fn with_spec(kind: Kind, spec: &str) -> String {
    format!("apiVersion: {}\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n{spec}\n", kind.api_version())
}

const ROUTES: [Kind; 5] = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute, Kind::TlsRoute, Kind::UdpRoute];
const REQUEST_ROUTES: [Kind; 2] = [Kind::HttpRoute, Kind::GrpcRoute];

/// Faults of text, structure and metadata: every kind has them.
fn of_every_kind(kind: Kind) -> Vec<Case> {
    let base = valid(kind);
    let edit = |from: &str, to: &str| {
        assert!(base.contains(from), "{from}");
        base.replacen(from, to, 1)
    };
    let api = format!("apiVersion: {}\n", kind.api_version());
    let spec = &base[base.find("spec:\n").expect("every resource has a spec")..];
    let lower = format!("kind: {}", kind.as_str().to_lowercase());
    let labels: Vec<String> = (0..65).map(|i| format!("l{i}: a")).collect();
    let first = kind.api_version();
    vec![
        case(Syntax, "", "quotes", edit("metadata: {name: r}", "metadata: {name: r}¦}")),
        case(Syntax, "", "spaces", edit("  ", "\t ¦")),
        case(Anchor, "metadata", "anchors", edit("metadata: {", "metadata: ¦&a {")),
        case(Anchor, "metadata", "anchors", edit("{name: r}", "{name: r, ¦<<: {a: b}}")),
        case(Tag, "metadata.name", "remove it", edit("name: r", "name: ¦!secret r")),
        case(DuplicateKey, "metadata.name", "keep one", edit("{name: r}", "{name: r, ¦name: q}")),
        case(DuplicateKey, "kind", "keep one", edit("metadata:", "¦kind: X\nmetadata:")),
        case(KeyNotText, "metadata", "plain word", edit("{name: r}", "{name: r, ¦[a]: b}")),
        case(TooDeep, &format!("metadata{}", "[0]".repeat(63)), "indentation", {
            edit("{name: r}", &format!("{}¦{}{}", "[".repeat(63), "[", "]".repeat(64)))
        }),
        case(TooManyNodes, "metadata[9998]", "split", edit("{name: r}", &format!("[{}¦0, 0]", "0, ".repeat(9998)))),
        case(NotAResource, "", "apiVersion", format!("# {kind}\n¦- {kind}\n")),
        case(MissingField, "apiVersion", "add `apiVersion`", format!("¦{}", edit(&api, ""))),
        case(MissingField, "kind", "add `kind:", format!("¦{}", edit(&format!("kind: {kind}\n"), ""))),
        case(MissingField, "spec", "add `spec:`", format!("¦{}", edit(spec, ""))),
        case(MissingField, "metadata", "add `metadata:`", format!("¦{}", edit("metadata: {name: r}\n", ""))),
        case(MissingField, "metadata.name", "add `name:`", edit("{name: r}", "¦{namespace: shop}")),
        case(UnknownField, "specification", "the fields here are", edit("spec:", "¦specification: {}\nspec:")),
        case(UnknownField, "metadata.nmae", "did you mean `name`?", edit("{name: r}", "{name: r, ¦nmae: x}")),
        case(UnknownField, "spec.zebra", "remove it", edit("spec:\n", "spec:\n  ¦zebra: 1\n")),
        case(ForeignField, "status", "remove it", edit("spec:", "¦status: {ready: true}\nspec:")),
        case(ForeignField, "metadata.uid", "remove it", edit("{name: r}", "{name: r, ¦uid: x}")),
        case(
            UnknownKind,
            "kind",
            &format!("did you mean `{kind}`?"),
            edit(&format!("kind: {kind}"), &lower.replace(": ", ": ¦")),
        ),
        case(WrongApiVersion, "apiVersion", &first, edit(&api, "apiVersion: ¦apps/v1\n")),
        case(WrongType, "metadata.name", "in quotes", edit("name: r", "name: ¦5")),
        case(WrongType, "metadata.labels", "a mapping", edit("{name: r}", "{name: r, labels: ¦[a]}")),
        case(WrongType, "spec", "mapping", format!("{}spec: ¦5\n", edit(spec, ""))),
        case(InvalidName, "metadata.name", "write `my-cart`", edit("name: r", "name: ¦My_Cart")),
        case(
            InvalidNamespace,
            "metadata.namespace",
            "write `shop-a`",
            edit("{name: r}", "{name: r, namespace: ¦Shop.A}"),
        ),
        case(InvalidLabel, "metadata.labels.-a", "letters", edit("{name: r}", "{name: r, labels: {-a: ¦x}}")),
        case(InvalidLabel, "metadata.labels.a", "annotation", edit("{name: r}", "{name: r, labels: {a: ¦'b c'}}")),
        case(
            TooMany,
            "metadata.labels",
            "split",
            edit("{name: r}", &format!("{{name: r, labels: ¦{{{}}}}}", labels.join(", "))),
        ),
        case(DuplicateResource, "metadata.name", "another name", format!("{base}---\n{}", edit("name: r", "name: ¦r"))),
    ]
}

/// Faults of parents and backends: every route has them.
fn of_every_route(kind: Kind) -> Vec<Case> {
    let base = valid(kind);
    let parent = |text: &str| base.replacen("{group: '', kind: Service, name: cart}", text, 1);
    let backend = |text: &str| base.replacen("{name: cart, port: 80}", text, 1);
    let at = "spec.rules[0].backendRefs[0]";
    let many = vec!["{name: one}"; 17].join(", ");
    vec![
        case(
            Empty,
            "spec.parentRefs",
            "at least one",
            base.replace("parentRefs: [{group: '', kind: Service, name: cart}]", "parentRefs: ¦[]"),
        ),
        case(
            Empty,
            "spec.rules",
            "at least one",
            base.replace("  rules:\n  - backendRefs: [{name: cart, port: 80}]", "  rules: ¦[]"),
        ),
        case(MissingField, "spec.parentRefs[0].name", "add `name:`", parent("¦{kind: Gateway}")),
        case(
            DuplicateReference,
            "spec.parentRefs[1]",
            "remove one",
            parent(
                "{group: '', kind: Service, name: cart}, ¦{group: '', kind: Service, name: cart, namespace: default}",
            ),
        ),
        case(UnsupportedReference, "spec.parentRefs[0].kind", "group: \"\"", parent("{kind: ¦Service, name: cart}")),
        case(
            UnsupportedReference,
            "spec.parentRefs[0].kind",
            "Gateway",
            parent("{group: apps, kind: ¦Deployment, name: cart}"),
        ),
        case(
            UnsupportedReference,
            &format!("{at}.kind"),
            "ServiceVersion",
            backend("{kind: ¦Pod, name: cart, port: 80}"),
        ),
        case(
            InvalidVersion,
            &format!("{at}.name"),
            "name@version",
            backend("{group: leno.mesh, kind: ServiceVersion, name: ¦cart}"),
        ),
        case(InvalidVersion, &format!("{at}.name"), "kind: ServiceVersion", backend("{name: ¦cart@v2, port: 80}")),
        case(
            InvalidVersion,
            &format!("{at}.name"),
            "letters",
            backend("{group: leno.mesh, kind: ServiceVersion, name: ¦cart@v 2}"),
        ),
        case(InvalidName, &format!("{at}.name"), "DNS label|lower-case", backend("{name: ¦Cart_1, port: 80}")),
        case(InvalidName, "spec.parentRefs[0].name", "lower-case", parent("{group: '', kind: Service, name: ¦Cart!}")),
        case(UnknownService, &format!("{at}.name"), "when it appears", backend("{name: ¦crat, port: 80}")),
        case(
            UnknownService,
            "spec.parentRefs[0].name",
            "when it appears",
            parent("{group: '', kind: Service, name: ¦crat}"),
        ),
        case(UnknownGateway, "spec.parentRefs[0].name", "apply the Gateway", parent("{name: ¦egde}")),
        case(
            UnknownSection,
            "spec.parentRefs[0].sectionName",
            "did you mean `http`?",
            parent("{group: '', kind: Service, name: cart, sectionName: ¦htp}"),
        ),
        case(
            UnknownSection,
            "spec.parentRefs[0].sectionName",
            "use one of web, raw",
            parent("{name: edge, sectionName: ¦https-port}"),
        ),
        case(
            UnknownPort,
            "spec.parentRefs[0].port",
            "use one of 80, 90",
            parent("{group: '', kind: Service, name: cart, port: ¦81}"),
        ),
        case(UnknownPort, "spec.parentRefs[0].port", "use one of 80, 90", parent("{name: edge, port: ¦81}")),
        case(UnknownPort, &format!("{at}.port"), "use one of 80, 90", backend("{name: cart, port: ¦81}")),
        case(
            MissingPort,
            at,
            "one of 80, 90",
            parent("{group: '', kind: Service, name: one}").replace("{name: cart, port: 80}", "¦{name: cart}"),
        ),
        case(OutOfRange, &format!("{at}.port"), "a port is 1 to 65535", backend("{name: cart, port: ¦70000}")),
        case(
            OutOfRange,
            &format!("{at}.weight"),
            "a weight is 0 to 1000000",
            backend("{name: cart, port: 80, weight: ¦-1}"),
        ),
        case(WrongType, &format!("{at}.port"), "a whole number", backend("{name: cart, port: ¦http}")),
        case(
            UnknownField,
            &format!("{at}.weigth"),
            "did you mean `weight`?",
            backend("{name: cart, port: 80, ¦weigth: 5}"),
        ),
        case(
            CrossNamespace,
            &format!("{at}.namespace"),
            "apply a ReferenceGrant in namespace `other`",
            backend("{name: cart, namespace: ¦other, port: 80}"),
        ),
        case(
            ZeroWeights,
            "spec.rules[0].backendRefs",
            "above 0",
            base.replace("[{name: cart, port: 80}]", "¦[{name: cart, port: 80, weight: 0}]"),
        ),
        case(
            TooMany,
            "spec.rules[0].backendRefs",
            "split",
            base.replace("[{name: cart, port: 80}]", &format!("¦[{many}]")),
        ),
        case(
            InvalidName,
            "spec.rules[0].name",
            "lower-case",
            base.replace("  - backendRefs", "  - name: ¦A rule\n    backendRefs"),
        ),
    ]
}

/// Faults of the two kinds that route requests.
fn of_request_routes(kind: Kind) -> Vec<Case> {
    let base = valid(kind);
    let rule = |text: &str| base.replacen("  - backendRefs", &format!("{text}\n    backendRefs"), 1);
    let filter = |text: &str| rule(&format!("  - filters:\n    - {text}"));
    let request = |text: &str| filter(&format!("{{type: RequestHeaderModifier, requestHeaderModifier: {text}}}"));
    let modifier = "spec.rules[0].filters[0].requestHeaderModifier";
    let mirror = |text: &str| filter(&format!("{{type: RequestMirror, requestMirror: {text}}}"));
    let mirrored = "spec.rules[0].filters[0].requestMirror";
    let header = |text: &str| rule(&format!("  - matches: [{{headers: [{text}]}}]"));
    let matched = "spec.rules[0].matches[0].headers[0]";
    let second = base.replacen("name: r}", "name: q}", 1).replacen("  - backendRefs", "  - ¦backendRefs", 1);
    vec![
        case(
            UnknownValue,
            "spec.rules[0].filters[0].type",
            "did you mean `RequestMirror`?",
            filter("{type: ¦RequestMirorr}"),
        ),
        case(UnsupportedFilter, "spec.rules[0].filters[0].type", "use one of", filter("{type: ¦ExtensionRef}")),
        case(FilterMismatch, "spec.rules[0].filters[0]", "add `requestMirror:`", filter("¦{type: RequestMirror}")),
        case(
            FilterMismatch,
            "spec.rules[0].filters[0].responseHeaderModifier",
            "filter of its own",
            filter(
                "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}, responseHeaderModifier: ¦{remove: [a]}}",
            ),
        ),
        case(
            RepeatedFilter,
            "spec.rules[0].filters[1].type",
            "one filter",
            rule(
                "  - filters:\n    - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}\n    - {type: ¦RequestHeaderModifier, requestHeaderModifier: {remove: [b]}}",
            ),
        ),
        case(Empty, modifier, "add `set`", request("¦{}")),
        case(
            InvalidHeaderName,
            &format!("{modifier}.set[0].name"),
            "letters",
            request("{set: [{name: ¦'a b', value: c}]}"),
        ),
        case(InvalidHeaderName, &format!("{matched}.name"), "pseudo-headers", header("{name: ¦':path', value: c}")),
        case(
            InvalidHeaderValue,
            &format!("{modifier}.add[0].value"),
            "line breaks",
            request("{add: [{name: a, value: ¦\"b\\r\\nc: d\"}]}"),
        ),
        case(
            RepeatedHeader,
            &format!("{modifier}.remove[0]"),
            "keep one",
            request("{set: [{name: A, value: b}], remove: [¦a]}"),
        ),
        case(
            RepeatedHeader,
            "spec.rules[0].matches[0].headers[1].name",
            "keep one",
            header("{name: a, value: b}, {name: ¦A, value: c}"),
        ),
        case(
            ReservedHeader,
            &format!("{modifier}.set[0].name"),
            "leave it",
            request("{set: [{name: ¦Transfer-Encoding, value: chunked}]}"),
        ),
        case(
            ReservedHeader,
            &format!("{modifier}.add[0].name"),
            "another name",
            request("{add: [{name: ¦x-leno-peer, value: a}]}"),
        ),
        case(
            ReservedHeader,
            &format!("{modifier}.set[0].name"),
            "URLRewrite",
            request("{set: [{name: ¦Host, value: a}]}"),
        ),
        case(
            InvalidRegex,
            &format!("{matched}.value"),
            "look-around",
            header("{type: RegularExpression, name: a, value: ¦'(?=b)'}"),
        ),
        case(WrongType, &format!("{matched}.value"), "in quotes", header("{name: a, value: ¦1}")),
        case(
            UnknownValue,
            &format!("{matched}.type"),
            "use one of Exact, RegularExpression",
            header("{type: ¦Prefix, name: a, value: b}"),
        ),
        case(
            InvalidShare,
            &format!("{mirrored}.fraction"),
            "keep one",
            mirror("{backendRef: {name: one}, percent: 5, fraction: ¦{numerator: 1}}"),
        ),
        case(
            InvalidShare,
            &format!("{mirrored}.fraction"),
            "numerator",
            mirror("{backendRef: {name: one}, fraction: ¦{numerator: 101}}"),
        ),
        case(
            OutOfRange,
            &format!("{mirrored}.percent"),
            "0 to 100",
            mirror("{backendRef: {name: one}, percent: ¦101}"),
        ),
        case(
            CrossNamespace,
            &format!("{mirrored}.backendRef.namespace"),
            "apply a ReferenceGrant in namespace `other`",
            mirror("{backendRef: {name: one, namespace: ¦other}}"),
        ),
        case(
            DuplicateName,
            "spec.rules[1].name",
            "another name",
            format!(
                "{}  - name: ¦a\n    matches: [{{headers: [{{name: x, value: y}}]}}]\n    backendRefs: [{{name: cart}}]\n",
                rule("  - name: a")
            ),
        ),
        case(
            DuplicateMatch,
            "spec.rules[0]",
            "more specific",
            format!("{base}---\n{second}").replace("  - ¦backendRefs", "  - ¦backendRefs"),
        ),
        case(
            IgnoredHostnames,
            "spec.hostnames",
            "remove them",
            base.replace("  rules:", "  hostnames: ¦[a.example.com]\n  rules:"),
        ),
        case(
            HostnameMismatch,
            "spec.hostnames",
            "covers",
            base.replace("{group: '', kind: Service, name: cart}", "{name: edge}")
                .replace("  rules:", "  hostnames: ¦[shop.example.org]\n  rules:"),
        ),
        case(
            InvalidHostname,
            "spec.hostnames[0]",
            "wildcard is",
            base.replace("{group: '', kind: Service, name: cart}", "{name: elsewhere-x}")
                .replace("  rules:", "  hostnames: [¦a.*.example.com]\n  rules:"),
        ),
        case(
            UnsupportedReference,
            "spec.parentRefs[0]",
            "protocol HTTP",
            base.replace("{group: '', kind: Service, name: cart}", "¦{name: edge, sectionName: raw}"),
        ),
        case(
            CrossNamespace,
            "spec.parentRefs[0]",
            "from: All",
            base.replace("{group: '', kind: Service, name: cart}", "¦{name: edge, namespace: other}"),
        ),
    ]
}

fn of_http_routes() -> Vec<Case> {
    let base = valid(Kind::HttpRoute);
    let rule = |text: &str| base.replacen("  - backendRefs", &format!("{text}\n    backendRefs"), 1);
    let path = |text: &str| rule(&format!("  - matches: [{{path: {text}}}]"));
    let filter = |text: &str| rule(&format!("  - filters:\n    - {text}"));
    let alone = |text: &str| filter(text).replace("    backendRefs: [{name: cart, port: 80}]\n", "");
    let value = "spec.rules[0].matches[0].path.value";
    let first = "spec.rules[0].filters[0]";
    vec![
        case(InvalidPath, value, "write `/a`", path("{value: ¦a}")),
        case(InvalidPath, value, "remove `//`", path("{type: Exact, value: ¦/a/../b}")),
        case(InvalidPath, value, "queryParams", path("{value: ¦'/a?b=c'}")),
        case(InvalidPath, value, "%XX", path("{value: ¦'/a b'}")),
        case(InvalidRegex, value, "RE2", path("{type: RegularExpression, value: ¦'/a(b'}")),
        case(
            UnknownValue,
            "spec.rules[0].matches[0].path.type",
            "did you mean `PathPrefix`?",
            path("{type: ¦Pathprefx, value: /}"),
        ),
        case(InvalidMethod, "spec.rules[0].matches[0].method", "write `GET`", rule("  - matches: [{method: ¦get}]")),
        case(
            InvalidMethod,
            "spec.rules[0].matches[0].method",
            "such as `GET`",
            rule("  - matches: [{method: ¦'GET /'}]"),
        ),
        case(
            InvalidQueryName,
            "spec.rules[0].matches[0].queryParams[0].name",
            "1 to 256",
            rule("  - matches: [{queryParams: [{name: ¦'', value: b}]}]"),
        ),
        case(
            RepeatedQuery,
            "spec.rules[0].matches[0].queryParams[1].name",
            "keep one",
            rule("  - matches: [{queryParams: [{name: a, value: b}, {name: ¦a, value: c}]}]"),
        ),
        case(
            DuplicateMatch,
            "spec.rules[0].matches[1]",
            "never taken",
            rule("  - matches: [{path: {value: /a}}, ¦{path: {type: PathPrefix, value: /a/}}]"),
        ),
        case(
            RedirectWithBackends,
            "spec.rules[0].backendRefs",
            "remove the backends",
            filter("{type: RequestRedirect, requestRedirect: {scheme: https}}")
                .replace("[{name: cart, port: 80}]", "¦[{name: cart, port: 80}]"),
        ),
        case(
            RedirectWithRewrite,
            "spec.rules[0].filters[1]",
            "keep one",
            alone(
                "{type: RequestRedirect, requestRedirect: {scheme: https}}\n    - ¦{type: URLRewrite, urlRewrite: {hostname: a.example.com}}",
            ),
        ),
        case(
            InvalidStatus,
            &format!("{first}.requestRedirect.statusCode"),
            "307",
            alone("{type: RequestRedirect, requestRedirect: {statusCode: ¦200}}"),
        ),
        case(
            InvalidHostname,
            &format!("{first}.requestRedirect.hostname"),
            "wildcard cannot",
            alone("{type: RequestRedirect, requestRedirect: {hostname: ¦'*.example.com'}}"),
        ),
        case(
            InvalidHostname,
            &format!("{first}.urlRewrite.hostname"),
            "port",
            filter("{type: URLRewrite, urlRewrite: {hostname: ¦'a.example.com:80'}}"),
        ),
        case(Empty, &format!("{first}.urlRewrite"), "add `hostname`", filter("{type: URLRewrite, urlRewrite: ¦{}}")),
        case(
            PrefixWithoutMatch,
            &format!("{first}.urlRewrite.path.type"),
            "PathPrefix",
            rule(
                "  - matches: [{path: {type: Exact, value: /a}}]\n    filters:\n    - {type: URLRewrite, urlRewrite: {path: {type: ¦ReplacePrefixMatch, replacePrefixMatch: /b}}}",
            ),
        ),
        case(
            FilterMismatch,
            &format!("{first}.urlRewrite.path"),
            "add `replaceFullPath:`",
            filter("{type: URLRewrite, urlRewrite: {path: ¦{type: ReplaceFullPath}}}"),
        ),
        case(
            UnsupportedFilter,
            "spec.rules[0].backendRefs[0].filters[0].type",
            "move it",
            base.replace(
                "port: 80}",
                "port: 80, filters: [{type: ¦RequestRedirect, requestRedirect: {scheme: https}}]}",
            ),
        ),
        case(
            InvalidOrigin,
            &format!("{first}.cors.allowOrigins[0]"),
            "no path",
            filter("{type: CORS, cors: {allowOrigins: [¦'https://a.example.com/x']}}"),
        ),
        case(
            InvalidMethod,
            &format!("{first}.cors.allowMethods[0]"),
            "write `PUT`",
            filter("{type: CORS, cors: {allowMethods: [¦put]}}"),
        ),
        case(
            InvalidHeaderName,
            &format!("{first}.cors.allowHeaders[0]"),
            "letters",
            filter("{type: CORS, cors: {allowHeaders: [¦'a b']}}"),
        ),
        case(
            OutOfRange,
            &format!("{first}.cors.maxAge"),
            "seconds is 1 to",
            filter("{type: CORS, cors: {maxAge: ¦0}}"),
        ),
        case(InvalidDuration, "spec.rules[0].timeouts.request", "1m30s", rule("  - timeouts: {request: ¦1.5s}")),
        case(WrongType, "spec.rules[0].timeouts.request", "unit", rule("  - timeouts: {request: ¦5}")),
        case(
            TimeoutOrder,
            "spec.rules[0].timeouts.backendRequest",
            "at most 1s",
            rule("  - timeouts: {request: 1s, backendRequest: ¦2s}"),
        ),
        case(OutOfRange, "spec.rules[0].retry.attempts", "0 to 10", rule("  - retry: {attempts: ¦11}")),
        case(OutOfRange, "spec.rules[0].retry.codes[0]", "400 to 599", rule("  - retry: {codes: [¦200]}")),
        case(InvalidStatus, "spec.rules[0].retry.codes[1]", "remove one", rule("  - retry: {codes: [503, ¦503]}")),
    ]
}

fn of_grpc_routes() -> Vec<Case> {
    let base = valid(Kind::GrpcRoute);
    let method = |text: &str| {
        base.replacen("  - backendRefs", &format!("  - matches: [{{method: {text}}}]\n    backendRefs"), 1)
    };
    let at = "spec.rules[0].matches[0].method";
    vec![
        case(InvalidGrpcName, &format!("{at}.service"), "without slashes", method("{service: ¦/shop.Cart}")),
        case(InvalidGrpcName, &format!("{at}.method"), "AddItem", method("{service: shop.Cart, method: ¦Add-Item}")),
        case(Empty, at, "add `service`", method("¦{type: Exact}")),
        case(InvalidRegex, &format!("{at}.service"), "RE2", method("{type: RegularExpression, service: ¦'shop['}")),
    ]
}

fn of_byte_routes() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Kind::TcpRoute, Kind::TlsRoute, Kind::UdpRoute] {
        let base = valid(kind);
        let second = base.replacen("name: r}", "name: q}", 1).replacen("  - backendRefs", "  - ¦backendRefs", 1);
        cases.push(case(DuplicateMatch, "spec.rules[0]", "remove one", format!("{base}---\n{second}")));
        cases.push(case(
            Empty,
            "spec.rules[0].backendRefs",
            "at least one",
            base.replace("[{name: cart, port: 80}]", "¦[]"),
        ));
        cases.push(case(
            TooMany,
            "spec.rules",
            "split",
            base.replace("  rules:\n", "  rules:\n  - ¦backendRefs: [{name: one}]\n"),
        ));
    }
    let service = valid(Kind::UdpRoute).replace("kind: Service, name: cart", "kind: ¦Service, name: cart");
    cases.push(case(NotServed, "spec.parentRefs[0].kind", "use a Gateway", service));
    cases
}

fn of_gateways() -> Vec<Case> {
    let with = |text: &str| with_spec(Kind::Gateway, &format!("  listeners:\n{text}"));
    let at = "spec.listeners[0]";
    vec![
        case(Empty, "spec.listeners", "at least one", with_spec(Kind::Gateway, "  listeners: ¦[]")),
        case(MissingField, &format!("{at}.port"), "add `port:`", with("  - ¦{name: a, protocol: HTTP}")),
        case(OutOfRange, &format!("{at}.port"), "1 to 65535", with("  - {name: a, port: ¦0, protocol: HTTP}")),
        case(
            UnknownValue,
            &format!("{at}.protocol"),
            "did you mean `HTTP`?",
            with("  - {name: a, port: 80, protocol: ¦HTPT}"),
        ),
        case(InvalidName, &format!("{at}.name"), "write `a-b`", with("  - {name: ¦A_b, port: 80, protocol: HTTP}")),
        case(
            DuplicateName,
            "spec.listeners[1].name",
            "another name",
            with("  - {name: a, port: 80, protocol: HTTP}\n  - {name: ¦a, port: 81, protocol: HTTP}"),
        ),
        case(
            ListenerConflict,
            "spec.listeners[1].port",
            "another port",
            with("  - {name: a, port: 80, protocol: HTTP}\n  - {name: b, port: ¦80, protocol: TCP}"),
        ),
        case(
            ListenerConflict,
            "spec.listeners[1].port",
            "hostname",
            with(
                "  - {name: a, port: 80, protocol: HTTP, hostname: a.example.com}\n  - {name: b, port: ¦80, protocol: HTTP, hostname: a.example.com}",
            ),
        ),
        case(
            InvalidHostname,
            &format!("{at}.hostname"),
            "write `a.example.com`",
            with("  - {name: a, port: 80, protocol: HTTP, hostname: ¦A.example.com}"),
        ),
        case(
            IgnoredHostnames,
            &format!("{at}.hostname"),
            "remove it",
            with("  - {name: a, port: 80, protocol: TCP, hostname: ¦a.example.com}"),
        ),
        case(
            Empty,
            &format!("{at}.tls.certificateRefs"),
            "at least one",
            with("  - {name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: ¦[]}}"),
        ),
        case(
            UnsupportedReference,
            &format!("{at}.tls.certificateRefs[0].kind"),
            "Secret",
            with("  - {name: a, port: 443, protocol: TLS, tls: {certificateRefs: [{name: c, kind: ¦ConfigMap}]}}"),
        ),
        case(
            InvalidName,
            &format!("{at}.tls.certificateRefs[0].name"),
            "write",
            with("  - {name: a, port: 443, protocol: TLS, tls: {certificateRefs: [{name: ¦A_b}]}}"),
        ),
        case(
            CrossNamespace,
            &format!("{at}.tls.certificateRefs[0].namespace"),
            "use one of",
            with("  - {name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c, namespace: ¦other}]}}"),
        ),
        case(
            Empty,
            "spec.tls.frontend.default.validation.caCertificateRefs",
            "at least one",
            with(
                "  - {name: a, port: 80, protocol: HTTP}\n  tls: {frontend: {default: {validation: {caCertificateRefs: ¦[]}}}}",
            ),
        ),
        case(
            DuplicatePort,
            "spec.tls.frontend.perPort[1].port",
            "keep one",
            with(
                "  - {name: a, port: 80, protocol: HTTP}\n  tls: {frontend: {default: {}, perPort: [{port: 443, tls: {}}, {port: ¦443, tls: {}}]}}",
            ),
        ),
        case(
            FilterMismatch,
            &format!("{at}.tls"),
            "remove `tls`",
            with("  - {name: a, port: 80, protocol: HTTP, tls: ¦{mode: Passthrough}}"),
        ),
        case(
            FilterMismatch,
            &format!("{at}.tls.mode"),
            "protocol: TLS",
            with("  - {name: a, port: 80, protocol: HTTPS, tls: {mode: ¦Passthrough}}"),
        ),
        case(
            UnsupportedReference,
            &format!("{at}.allowedRoutes.kinds[0].kind"),
            "HTTPRoute",
            with("  - {name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: ¦Gateway}]}}"),
        ),
        case(
            MissingField,
            &format!("{at}.allowedRoutes.namespaces"),
            "matchLabels",
            with("  - {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: ¦{from: Selector}}}"),
        ),
        case(
            FilterMismatch,
            &format!("{at}.allowedRoutes.namespaces.selector"),
            "from: Selector",
            with("  - {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All, selector: ¦{}}}}"),
        ),
        case(
            UnknownValue,
            &format!("{at}.allowedRoutes.namespaces.selector.matchLabels.team"),
            "metadata.name",
            with(
                "  - {name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: ¦a}}}}}",
            ),
        ),
        case(
            UnknownField,
            "spec.adresses",
            "remove it",
            with_spec(Kind::Gateway, "  ¦adresses: []\n  listeners: [{name: web, port: 80, protocol: HTTP}]"),
        ),
    ]
}

fn of_listeners() -> Vec<Case> {
    let with = |text: &str| with_spec(Kind::Gateway, &format!("  listeners:\n{text}"));
    let kind = "spec.listeners[0].allowedRoutes.kinds[1].kind";
    let kinds = "allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: ¦TCPRoute}]}";
    vec![case(
        UnsupportedReference,
        kind,
        "use TLSRoute, or another protocol",
        with(&format!("  - {{name: a, port: 443, protocol: TLS, tls: {{mode: Passthrough}}, {kinds}}}")),
    )]
}

fn of_services() -> Vec<Case> {
    let with = |text: &str| with_spec(Kind::Service, text);
    vec![
        case(Empty, "spec.ports", "at least one", with("  ports: ¦[]")),
        case(DuplicatePort, "spec.ports[1].port", "remove one", with("  ports: [{port: 80}, {port: ¦80}]")),
        case(
            DuplicateName,
            "spec.ports[1].name",
            "another name",
            with("  ports: [{port: 80, name: a}, {port: 81, name: ¦a}]"),
        ),
        case(InvalidName, "spec.ports[0].name", "write `web-1`", with("  ports: [{port: 80, name: ¦Web_1}]")),
        case(InvalidName, "spec.ports[0].targetPort", "lower-case", with("  ports: [{port: 80, targetPort: ¦'a b!'}]")),
        case(OutOfRange, "spec.ports[0].targetPort", "1 to 65535", with("  ports: [{port: 80, targetPort: ¦0}]")),
        case(WrongType, "spec.ports[0].targetPort", "a port number", with("  ports: [{port: 80, targetPort: ¦true}]")),
        case(
            UnknownValue,
            "spec.ports[0].protocol",
            "did you mean `http2`?",
            with("  ports: [{port: 80, protocol: ¦htp2}]"),
        ),
        case(
            ProtocolMismatch,
            "spec.ports[0].proxyProtocol",
            "protocol: tcp",
            with("  ports: [{port: 80, proxyProtocol: ¦v2}]"),
        ),
        case(
            ProtocolMismatch,
            "spec.ports[0].proxyProtocol",
            "protocol: tcp",
            with(
                "  protocol: http\n  ports: [{port: 80, proxyProtocol: ¦v1}, {port: 81, protocol: tls, proxyProtocol: v1}]",
            ),
        ),
        case(
            UnknownValue,
            "spec.ports[0].proxyProtocol",
            "v1",
            with("  ports: [{port: 80, protocol: tcp, proxyProtocol: ¦v3}]"),
        ),
        case(UnknownValue, "spec.protocol", "use one of", with("  protocol: ¦carrier-pigeon\n  ports: [{port: 80}]")),
        case(
            UnknownPort,
            "spec.ports[0].targetPort",
            "number",
            with("  ports: [{port: 80, targetPort: ¦web}]\n  endpoints: [{address: 10.0.0.1}]"),
        ),
        case(
            InvalidAddress,
            "spec.endpoints[0].address",
            "IPv4 or IPv6",
            with("  ports: [{port: 80}]\n  endpoints: [{address: ¦db.example.com}]"),
        ),
        case(
            InvalidAddress,
            "spec.endpoints[0].address",
            "one host",
            with("  ports: [{port: 80}]\n  endpoints: [{address: ¦169.254.169.254}]"),
        ),
        case(
            DuplicateReference,
            "spec.endpoints[1]",
            "weight",
            with("  ports: [{port: 80}]\n  endpoints: [{address: 10.0.0.1}, ¦{address: 10.0.0.1}]"),
        ),
        case(
            OutOfRange,
            "spec.endpoints[0].weight",
            "0 to 10000",
            with("  ports: [{port: 80}]\n  endpoints: [{address: 10.0.0.1, weight: ¦10001}]"),
        ),
        case(
            UnknownPort,
            "spec.endpoints[0].port",
            "targetPort",
            with("  ports: [{port: 80}, {port: 81}]\n  endpoints: [{address: 10.0.0.1, port: ¦82}]"),
        ),
        case(
            InvalidVersion,
            "spec.endpoints[0].version",
            "letters",
            with("  ports: [{port: 80}]\n  endpoints: [{address: 10.0.0.1, version: ¦'v 2'}]"),
        ),
        case(
            Empty,
            "spec.visibility.namespaces",
            "at least one",
            with("  ports: [{port: 80}]\n  visibility: {namespaces: ¦[]}"),
        ),
        case(
            InvalidNamespace,
            "spec.visibility.namespaces[0]",
            "write `shop`",
            with("  ports: [{port: 80}]\n  visibility: {namespaces: [¦Shop]}"),
        ),
        case(UnknownValue, "spec.visibility", "use one of all", with("  ports: [{port: 80}]\n  visibility: ¦nobody")),
        case(InvalidName, "metadata.name", "write `a-b`", valid(Kind::Service).replace("name: r", "name: ¦a.b")),
    ]
}

fn of_grants() -> Vec<Case> {
    let base = valid(Kind::ReferenceGrant);
    let from =
        |text: &str| base.replacen("{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}", text, 1);
    let to = |text: &str| base.replacen("{group: '', kind: Service}", text, 1);
    let many = vec!["{group: '', kind: Service}"; 17].join(", ");
    let route = "group: gateway.networking.k8s.io, kind: HTTPRoute";
    vec![
        case(Empty, "spec.from", "at least one", base.replacen("from: [", "from: ¦[] # [", 1)),
        case(Empty, "spec.to", "at least one", base.replacen("to: [", "to: ¦[] # [", 1)),
        case(TooMany, "spec.to", "split", base.replacen("[{group: '', kind: Service}]", &format!("¦[{many}]"), 1)),
        case(MissingField, "spec.from[0].namespace", "add `namespace:`", from(&format!("¦{{{route}}}"))),
        case(
            InvalidNamespace,
            "spec.from[0].namespace",
            "write `shop`",
            from(&format!("{{{route}, namespace: ¦Shop}}")),
        ),
        case(CrossNamespace, "spec.from[0].namespace", "another", from(&format!("{{{route}, namespace: ¦default}}"))),
        case(
            UnsupportedReference,
            "spec.from[0].kind",
            "write `group: gateway.networking.k8s.io` and `kind: HTTPRoute`",
            from("{group: '', kind: ¦HttpRoute, namespace: shop}"),
        ),
        case(
            UnsupportedReference,
            "spec.from[0].kind",
            "use one of HTTPRoute",
            from("{group: gateway.networking.k8s.io, kind: ¦Gateway, namespace: shop}"),
        ),
        case(UnsupportedReference, "spec.to[0].kind", "kind: Service", to("{group: '', kind: ¦Secret}")),
        case(InvalidName, "spec.to[0].name", "write `cart`", to("{group: '', kind: Service, name: ¦Cart}")),
        case(
            InvalidVersion,
            "spec.to[0].name",
            "name@version",
            to("{group: leno.mesh, kind: ServiceVersion, name: ¦cart}"),
        ),
        case(
            UnknownField,
            "spec.to[0].namespace",
            "the fields here are",
            to("{group: '', kind: Service, ¦namespace: a}"),
        ),
    ]
}

fn of_fault_policies() -> Vec<Case> {
    let base = valid(Kind::FaultPolicy);
    let with = |faults: &str| base.replacen("[{name: slow, delay: {time: 1s}}]", faults, 1);
    let fault = |class, path: &str, fix, text: &str| {
        case(class, &format!("spec.faults[0]{path}"), fix, with(&format!("[{text}]")))
    };
    let second = base.replacen("name: r}", "name: q}", 1).replacen("{name: cart}", "{name: ¦cart}", 1);
    let abort = "abort: {status: 503}";
    vec![
        case(Empty, "spec.targetRefs", "at least one", base.replace("[{name: cart}]", "¦[]")),
        case(Empty, "spec.faults", "at least one", with("¦[]")),
        case(OutOfRange, "spec.maxActive", "1 to 1000000", format!("{base}  maxActive: ¦0\n")),
        case(PolicyConflict, "spec.targetRefs[0].name", "into one policy", format!("{base}---\n{second}")),
        fault(MissingField, "", "write `delay: {time: 2s}`", "¦{name: a}"),
        fault(InvalidName, ".name", "write `slow`", "{name: ¦Slow, abort: {status: 500}}"),
        case(
            DuplicateName,
            "spec.faults[1].name",
            "another name",
            with(&format!("[{{name: a, matches: [{{method: GET}}], {abort}}}, {{name: ¦a, {abort}}}]")),
        ),
        case(
            UnusedField,
            "spec.faults[1]",
            "give that one `matches`",
            with(&format!("[{{name: a, {abort}}}, ¦{{name: b, {abort}}}]")),
        ),
        fault(
            InvalidMethod,
            ".matches[0].method",
            "write `GET`",
            "{name: a, matches: [{method: ¦get}], delay: {time: 1s}}",
        ),
        fault(OutOfRange, ".delay.time", "from 1ms to 10m", "{name: a, delay: {time: ¦0s}}"),
        fault(MissingField, ".delay.time", "add `time:`", "{name: a, delay: ¦{percent: 1}}"),
        fault(OutOfRange, ".delay.percent", "0.0001 to 100", "{name: a, delay: {time: 1s, percent: ¦100.5}}"),
        fault(OutOfRange, ".abort.percent", "0.0001 to 100", "{name: a, abort: {status: 500, percent: ¦0}}"),
        fault(MissingField, ".abort", "write `status: 503`", "{name: a, abort: ¦{percent: 5}}"),
        fault(TooMany, ".abort", "keep one", "{name: a, abort: ¦{status: 503, grpcStatus: UNAVAILABLE}}"),
        fault(OutOfRange, ".abort.status", "400 to 599", "{name: a, abort: {status: ¦200}}"),
        fault(
            UnknownValue,
            ".abort.grpcStatus",
            "did you mean `UNAVAILABLE`?",
            "{name: a, abort: {grpcStatus: ¦UNAVAILABEL}}",
        ),
        fault(OutOfRange, ".bandwidth.kibPerSecond", "1 to 1048576", "{name: a, bandwidth: {kibPerSecond: ¦0}}"),
    ]
}

fn of_policies() -> Vec<Case> {
    let base = valid(Kind::TrafficPolicy);
    let with = |text: &str| format!("{base}{text}\n");
    let hash = |class, path: &str, fix, keys: &str| {
        let text = with(&format!("  loadBalancer: {{policy: maglev, hash: [{keys}]}}"));
        case(class, &format!("spec.loadBalancer.hash{path}"), fix, text)
    };
    let balancer = |class, path: &str, fix, fields: &str| {
        case(class, &format!("spec.loadBalancer.{path}"), fix, with(&format!("  loadBalancer: {{{fields}}}")))
    };
    let expression = |class, path: &str, fix, expression: &str| {
        let fields = format!("policy: expression, expression: {expression}");
        balancer(class, &format!("expression{path}"), fix, &fields)
    };
    let locality = |class, path: &str, fix, fields: &str| {
        balancer(class, &format!("locality.{path}"), fix, &format!("locality: {{{fields}}}"))
    };
    let session = |class, path: &str, fix, session: &str| {
        let text = with(&format!("  loadBalancer: {{session: {session}}}"));
        case(class, &format!("spec.loadBalancer.session{path}"), fix, text)
    };
    let second = base.replacen("name: r}", "name: q}", 1).replacen("{name: cart}", "{name: ¦cart}", 1);
    vec![
        case(Empty, "spec.targetRefs", "at least one", base.replace("[{name: cart}]", "¦[]")),
        case(
            DuplicateReference,
            "spec.targetRefs[1]",
            "remove one",
            base.replace("{name: cart}", "{name: cart}, ¦{name: cart}"),
        ),
        case(
            UnsupportedReference,
            "spec.targetRefs[0].kind",
            "kind: Service",
            base.replace("{name: cart}", "{kind: ¦Gateway, name: cart}"),
        ),
        case(InvalidName, "spec.targetRefs[0].name", "write `cart`", base.replace("{name: cart}", "{name: ¦Cart}")),
        case(
            UnknownService,
            "spec.targetRefs[0].name",
            "when it appears",
            base.replace("{name: cart}", "{name: ¦crat}"),
        ),
        case(
            UnknownValue,
            "spec.loadBalancer.policy",
            "did you mean `roundRobin`?",
            with("  loadBalancer: {policy: ¦round-robin}"),
        ),
        case(MissingField, "spec.loadBalancer.policy", "add `hash`", with("  loadBalancer: {policy: ¦ringHash}")),
        case(
            UnusedField,
            "spec.loadBalancer.hash",
            "`policy: ringHash`",
            with("  loadBalancer: {hash: ¦[{header: x-user}]}"),
        ),
        balancer(MissingField, "policy", "add `expression:", "policy: ¦expression"),
        balancer(UnusedField, "expression", "`policy: expression`", "expression: ¦{cost: latencyMs}"),
        expression(MissingField, "", "one of `cost` and `weight`", "¦{}"),
        expression(TooMany, "", "keep `cost` or `weight`", "¦{cost: latencyMs, weight: weight}"),
        expression(UnusedField, ".among", "or write `cost`", "{weight: weight, among: ¦all}"),
        expression(InvalidExpression, ".cost", "use one of `weight`, `openRequests`", "{cost: ¦latency}"),
        expression(InvalidExpression, ".cost", "`… ? 1.0 : 2.0`", "{cost: ¦zone == caller.zone}"),
        expression(InvalidExpression, ".cost", "compare the text", "{cost: ¦latencyMs * zone}"),
        expression(
            InvalidExpression,
            ".weight",
            "use fewer operators",
            &format!("{{weight: ¦1{}}}", " + 1".repeat(101)),
        ),
        expression(InvalidExpression, ".weight", "`math.least`", "{weight: ¦'labels.exists(x)'}"),
        hash(MissingField, "[0]", "write one of `header`", "¦{terminal: true}"),
        hash(TooMany, "[0]", "an entry of its own", "¦{header: a, query: b}"),
        hash(DuplicateName, "[1]", "keep one", "{header: x-user}, ¦{header: X-User}"),
        hash(InvalidHeaderName, "[0].header", "as `x-user`", "{header: ¦'x user'}"),
        hash(ReservedHeader, "[0].header", "leave it", "{header: ¦Connection}"),
        hash(InvalidQueryName, "[0].query", "the name of the parameter", "{query: ¦''}"),
        hash(UnknownValue, "[0].sourceAddress", "sourceAddress: true", "{sourceAddress: ¦false}"),
        hash(InvalidCookie, "[0].cookie.name", "as `session`", "{cookie: {name: ¦'a;b'}}"),
        hash(OutOfRange, "[0].cookie.ttl", "from 1s to 9600h", "{cookie: {name: a, ttl: ¦500ms}}"),
        hash(InvalidCookie, "[0].cookie.path", "begin it with `/`", "{cookie: {name: a, ttl: 1h, path: ¦shop}}"),
        hash(UnusedField, "[0].cookie.path", "add `ttl`", "{cookie: {name: a, path: ¦/}}"),
        hash(
            TooMany,
            "[1].cookie.ttl",
            "keep one `ttl`",
            "{cookie: {name: a, ttl: 1h}}, {cookie: {name: b, ttl: ¦1h}}",
        ),
        session(MissingField, "", "header: x-session", "¦{}"),
        session(TooMany, "", "keep `cookie` or `header`", "¦{header: a, cookie: {name: b}}"),
        session(InvalidCookie, ".cookie.name", "as `session`", "{cookie: {name: ¦''}}"),
        session(InvalidCookie, ".cookie.name", "another name", "{cookie: {name: ¦__Host-s}}"),
        hash(InvalidCookie, "[0].cookie.name", "another name", "{cookie: {name: ¦__secure-s, ttl: 1h}}"),
        session(OutOfRange, ".cookie.ttl", "from 1s to 9600h", "{cookie: {name: a, ttl: ¦9601h}}"),
        session(ReservedHeader, ".header", "another name", "{header: ¦x-leno-session}"),
        case(
            DuplicateName,
            "spec.loadBalancer.session.cookie.name",
            "another name",
            with("  loadBalancer: {policy: maglev, hash: [{cookie: {name: a}}], session: {cookie: {name: ¦a}}}"),
        ),
        balancer(OutOfRange, "panicThreshold", "0 to 100", "panicThreshold: ¦101"),
        balancer(MissingField, "slowStart.window", "add `window:`", "slowStart: ¦{aggression: 2}"),
        balancer(OutOfRange, "slowStart.window", "from 1s to 1h", "slowStart: {window: ¦2h}"),
        balancer(OutOfRange, "slowStart.aggression", "0.1 to 10", "slowStart: {window: 1m, aggression: ¦0}"),
        balancer(WrongType, "slowStart.aggression", "from 0.1 to 10", "slowStart: {window: 1m, aggression: ¦fast}"),
        balancer(OutOfRange, "slowStart.minWeightShare", "1 to 100", "slowStart: {window: 1m, minWeightShare: ¦0}"),
        locality(InvalidName, "failoverPriority[0]", "the name of a label", "failoverPriority: [¦'a b']"),
        locality(DuplicateName, "failoverPriority[1]", "remove one", "failoverPriority: [zone, ¦zone]"),
        locality(TooMany, "failoverPriority", "split", "failoverPriority: ¦[a, b, c, d, e, f]"),
        locality(UnknownValue, "failover[0].to", "another region", "failover: [{from: eu, to: ¦eu}]"),
        locality(
            DuplicateName,
            "failover[1].from",
            "remove one",
            "failover: [{from: eu, to: us}, {from: ¦eu, to: ap}]",
        ),
        locality(InvalidName, "failover[0].from", "the region's name", "failover: [{from: ¦'', to: us}]"),
        locality(Empty, "distribute[0].to", "at least one", "distribute: [{from: eu, to: ¦[]}]"),
        locality(
            UnknownValue,
            "distribute[0].from",
            "as `eu-west/a`",
            "distribute: [{from: ¦eu/a/1, to: [{place: eu, share: 100}]}]",
        ),
        locality(
            UnknownValue,
            "distribute[0].to[0].place",
            "`*` for any",
            "distribute: [{from: eu, to: [{place: ¦'eu*', share: 100}]}]",
        ),
        locality(
            OutOfRange,
            "distribute[0].to",
            "make them 100",
            "distribute: [{from: eu, to: ¦[{place: eu, share: 80}, {place: us, share: 30}]}]",
        ),
        locality(
            DuplicateName,
            "distribute[0].to[1].place",
            "keep one",
            "distribute: [{from: eu, to: [{place: eu, share: 50}, {place: ¦eu, share: 50}]}]",
        ),
        locality(
            DuplicateName,
            "distribute[1].from",
            "make one",
            "distribute: [{from: eu, to: [{place: eu, share: 100}]}, {from: ¦eu, to: [{place: us, share: 100}]}]",
        ),
        locality(
            UnusedField,
            "distribute[1].from",
            "before that one",
            "distribute: [{from: eu, to: [{place: eu, share: 100}]}, {from: ¦eu/a, to: [{place: us, share: 100}]}]",
        ),
        balancer(InvalidName, "subset.label", "or `version`", "subset: {label: ¦'', header: x-stage}"),
        balancer(InvalidHeaderName, "subset.header", "as `x-user`", "subset: {label: stage, header: ¦'x stage'}"),
        balancer(
            MissingField,
            "subset.fallback",
            "add `default`",
            "subset: {label: s, header: x-s, fallback: ¦default}",
        ),
        balancer(UnusedField, "subset.default", "fallback: default", "subset: {label: s, header: x-s, default: ¦prod}"),
        balancer(UnusedField, "tableSize", "policy: maglev", "tableSize: ¦65537"),
        balancer(UnusedField, "loadReports", "policy: weightedRoundRobin", "loadReports: ¦{update: 2s}"),
        balancer(
            OutOfRange,
            "loadReports.blackout",
            "0s to 1h",
            "policy: weightedRoundRobin, loadReports: {blackout: ¦2h}",
        ),
        balancer(
            OutOfRange,
            "loadReports.expiration",
            "from 1s",
            "policy: weightedRoundRobin, loadReports: {expiration: ¦0s}",
        ),
        balancer(
            OutOfRange,
            "loadReports.update",
            "from 100ms",
            "policy: weightedRoundRobin, loadReports: {update: ¦10ms}",
        ),
        balancer(
            OutOfRange,
            "loadReports.errorPenalty",
            "0 to 100",
            "policy: weightedRoundRobin, loadReports: {errorPenalty: ¦-1}",
        ),
        balancer(OutOfRange, "tableSize", "write 1009", "policy: maglev, hash: [{query: a}], tableSize: ¦1000"),
        balancer(OutOfRange, "tableSize", "101 to 655357", "policy: maglev, hash: [{query: a}], tableSize: ¦7"),
        case(OutOfRange, "spec.connectTimeout", "from 1ms to 10m", with("  connectTimeout: ¦1h")),
        case(OutOfRange, "spec.idleTimeout", "from 1s to 24h", with("  idleTimeout: ¦1ms")),
        case(InvalidDuration, "spec.requestTimeout", "500ms", with("  requestTimeout: ¦soon")),
        case(OutOfRange, "spec.retry.attempts", "0 to 10", with("  retry: {attempts: ¦99}")),
        case(InvalidStatus, "spec.retry.codes[1]", "remove one", with("  retry: {codes: [500, ¦500]}")),
        case(
            UnknownValue,
            "spec.retry.on[0]",
            "did you mean `gateway-error`?",
            with("  retry: {on: [¦gateway-errors]}"),
        ),
        case(DuplicateName, "spec.retry.on[1]", "remove one", with("  retry: {on: [reset, ¦reset]}")),
        case(InvalidMethod, "spec.retry.methods[0]", "write `POST`", with("  retry: {on: [reset], methods: [¦post]}")),
        case(UnusedField, "spec.retry.methods", "add `on`", with("  retry: {methods: ¦[POST]}")),
        case(UnusedField, "spec.retry.attempts", "add `on` or `codes`", with("  retry: {attempts: ¦3}")),
        case(OutOfRange, "spec.retry.tryTimeout", "from 1ms to 10m", with("  retry: {tryTimeout: ¦0s}")),
        case(
            OutOfRange,
            "spec.retry.tryTimeout",
            "less than 1s",
            with("  requestTimeout: 1s\n  retry: {tryTimeout: ¦2s}"),
        ),
        case(OutOfRange, "spec.retry.backoff", "from 0s to 10s", with("  retry: {backoff: ¦11s}")),
        case(
            OutOfRange,
            "spec.retry.maxBackoff",
            "write 1s or longer",
            with("  retry: {backoff: 1s, maxBackoff: ¦10ms}"),
        ),
        case(OutOfRange, "spec.retry.maxRetryAfter", "from 0s to 5m", with("  retry: {maxRetryAfter: ¦1h}")),
        case(MissingField, "spec.hedge.delay", "delay", with("  hedge: ¦{attempts: 1}")),
        case(OutOfRange, "spec.hedge.delay", "from 1ms to 1m", with("  hedge: {delay: ¦0s}")),
        case(OutOfRange, "spec.hedge.delay", "less than 1s", with("  requestTimeout: 1s\n  hedge: {delay: ¦2s}")),
        case(OutOfRange, "spec.hedge.attempts", "1 to 4", with("  hedge: {delay: 50ms, attempts: ¦9}")),
        case(InvalidMethod, "spec.hedge.methods[0]", "write `GET`", with("  hedge: {delay: 50ms, methods: [¦get]}")),
        case(OutOfRange, "spec.retryBudget.percent", "0 to 100", with("  retryBudget: {percent: ¦120}")),
        case(OutOfRange, "spec.retryBudget.window", "from 1s to 1m", with("  retryBudget: {window: ¦2m}")),
        case(OutOfRange, "spec.retryBudget.window", "write 2s", with("  retryBudget: {window: ¦1s500ms}")),
        case(UnknownField, "spec.circuitBreaker", "remove it", with("  ¦circuitBreaker: {}")),
        case(OutOfRange, "spec.limits.requests", "1 to 1000000", with("  limits: {requests: ¦0}")),
        case(
            OutOfRange,
            "spec.limits.queue.timeout",
            "from 1ms to 1m",
            with("  limits: {requests: 1, queue: {size: 1, timeout: ¦2m}}"),
        ),
        case(OutOfRange, "spec.limits.queue.size", "1 to 10000", with("  limits: {requests: 1, queue: {size: ¦0}}")),
        case(MissingField, "spec.limits.queue", "add `requests`", with("  limits: {queue: ¦{size: 1}}")),
        case(OutOfRange, "spec.limits.connections", "1 to 1000000", with("  limits: {connections: ¦0}")),
        case(MissingField, "spec.limits.pending", "add `connections`", with("  limits: {pending: ¦5}")),
        case(OutOfRange, "spec.limits.pending", "0 to 10000", with("  limits: {connections: 1, pending: ¦10001}")),
        case(OutOfRange, "spec.ejection.failureRatio", "1 to 100", with("  ejection: {failureRatio: ¦101}")),
        case(OutOfRange, "spec.ejection.window", "from 1s to 1h", with("  ejection: {window: ¦0s}")),
        case(
            OutOfRange,
            "spec.ejection.maxTime",
            "write 1m or longer",
            with("  ejection: {baseTime: 1m, maxTime: ¦1s}"),
        ),
        case(MissingField, "spec.ejection.slowAfter", "add `slowRatio`", with("  ejection: {slowAfter: ¦1s}")),
        case(MissingField, "spec.ejection.minRequests", "add `failureRatio`", with("  ejection: {minRequests: ¦5}")),
        case(OutOfRange, "spec.breaker.failureRatio", "1 to 100", with("  breaker: {failureRatio: ¦150}")),
        case(OutOfRange, "spec.breaker.window", "from 100ms to 1h", with("  breaker: {window: ¦0s}")),
        case(UnknownValue, "spec.breaker.preset", "hystrix", with("  breaker: {preset: ¦histrix}")),
        case(MissingField, "spec.breaker.slowAfter", "add `slowRatio`", with("  breaker: {slowAfter: ¦1s}")),
        case(MissingField, "spec.breaker", "add `failureRatio`", with("  breaker: ¦{preset: sentinel}")),
        case(
            UnusedField,
            "spec.breaker.minRequests",
            "add `failureRatio`",
            with("  breaker: {consecutiveErrors: 5, minRequests: ¦5}"),
        ),
        case(
            UnusedField,
            "spec.breaker.window",
            "or remove it",
            with("  breaker: {consecutiveErrors: 5, window: ¦5s}"),
        ),
        case(PolicyConflict, "spec.targetRefs[0].name", "one policy", format!("{base}---\n{second}")),
    ]
}

/// Limits on requests.
fn of_rate_limits() -> Vec<Case> {
    let base = valid(Kind::TrafficPolicy);
    let with = |text: &str| format!("{base}{text}\n");
    // A limit that is at fault as a whole is pointed at as one.
    let rate = |class, path: &str, fix, limit: &str| {
        let limit = match (path, limit) {
            ("", "") => "¦{name: a}".to_owned(),
            ("", limit) => format!("¦{{{limit}}}"),
            (_, limit) => format!("{{{limit}}}"),
        };
        case(class, &format!("spec.rateLimits[0]{path}"), fix, with(&format!("  rateLimits: [{limit}]")))
    };
    let keyed = |class, path: &str, fix, key: &str| {
        let limit = format!("name: a, key: [{key}], limit: {{requests: 1, per: 1s}}");
        rate(class, &format!(".key{path}"), fix, &limit)
    };
    vec![
        rate(InvalidName, ".name", "write `a`", "name: ¦A, limit: {requests: 1, per: 1s}"),
        rate(MissingField, "", "write one of `limit", ""),
        rate(TooMany, "", "a limit of its own", "name: a, concurrency: {requests: 1}, window: {requests: 1, per: 1s}"),
        rate(MissingField, ".limit.per", "add `per:`", "name: a, limit: ¦{requests: 1}"),
        rate(OutOfRange, ".limit.per", "from 1ms to 24h", "name: a, limit: {requests: 1, per: ¦0s}"),
        rate(OutOfRange, ".limit.burst", "1 to 1000000", "name: a, limit: {requests: 1, per: 1s, burst: ¦0}"),
        rate(OutOfRange, ".window.requests", "1 to 100000", "name: a, window: {requests: ¦200000, per: 1s}"),
        rate(OutOfRange, ".window.per", "from 1ms to 24h", "name: a, window: {requests: 1, per: ¦0s}"),
        rate(OutOfRange, ".queue.timeout", "from 1ms to 1m", "name: a, queue: {requests: 9, per: 1s, timeout: ¦2m}"),
        rate(
            OutOfRange,
            ".limit.warmUp.period",
            "from 1s to 1h",
            "name: a, limit: {requests: 9, per: 1s, warmUp: {period: ¦2h}}",
        ),
        rate(
            OutOfRange,
            ".limit.warmUp.period",
            "write a longer",
            "name: a, limit: {requests: 1, per: 1s, warmUp: {period: ¦2s}}",
        ),
        rate(
            OutOfRange,
            ".limit.warmUp.coldFactor",
            "2 to 100",
            "name: a, limit: {requests: 9, per: 1s, warmUp: {period: 9s, coldFactor: ¦1}}",
        ),
        rate(
            UnusedField,
            ".shared",
            "`key` or `shared`",
            "name: a, key: [{path: true}], limit: {requests: 9, per: 1s}, shared: ¦{}",
        ),
        rate(MissingField, ".quota.per", "add `per:`", "name: a, quota: ¦{requests: 1}"),
        rate(UnknownValue, ".quota.per", "day", "name: a, quota: {requests: 1, per: ¦week}"),
        rate(OutOfRange, ".quota.requests", "1 to 1000000000", "name: a, quota: {requests: ¦0, per: day}"),
        rate(UnusedField, ".key", "`limit:", "name: a, key: ¦[{path: true}], quota: {requests: 1, per: day}"),
        rate(UnusedField, ".shared", "write it as `limit:", "name: a, window: {requests: 9, per: 1s}, shared: ¦{}"),
        rate(
            UnusedField,
            ".shared",
            "`warmUp` or `shared`",
            "name: a, limit: {requests: 9, per: 1s, warmUp: {period: 9s}}, shared: ¦{}",
        ),
        rate(OutOfRange, ".limit.requests", "at least as many", "name: a, limit: {requests: ¦59, per: 1m}, shared: {}"),
        rate(
            UnknownValue,
            ".shared.fallback",
            "share",
            "name: a, limit: {requests: 9, per: 1s}, shared: {fallback: ¦none}",
        ),
        rate(UnusedField, ".keys", "add `key`", "name: a, keys: ¦100, limit: {requests: 1, per: 1s}"),
        rate(
            OutOfRange,
            ".keys",
            "64 to 1048576",
            "name: a, keys: ¦1, key: [{path: true}], limit: {requests: 1, per: 1s}",
        ),
        rate(UnusedField, ".key", "`limit:", "name: a, key: ¦[{path: true}], window: {requests: 1, per: 1s}"),
        rate(
            UnusedField,
            ".key",
            "`key` or `warmUp`",
            "name: a, key: ¦[{path: true}], limit: {requests: 9, per: 1s, warmUp: {period: 9s}}",
        ),
        keyed(MissingField, "[0]", "write one of `caller: true`", "¦{}"),
        keyed(TooMany, "[0]", "an entry of its own", "¦{path: true, header: a}"),
        keyed(DuplicateName, "[1]", "keep one", "{header: x-user}, ¦{header: X-User}"),
        keyed(UnknownValue, "[0].path", "`path: true`", "{path: ¦false}"),
        keyed(InvalidHeaderName, "[0].header", "as `x-user`", "{header: ¦'x user'}"),
        keyed(ReservedHeader, "[0].header", "leave it", "{header: ¦Connection}"),
        keyed(InvalidCookie, "[0].cookie", "as `session`", "{cookie: ¦'a;b'}"),
        keyed(InvalidQueryName, "[0].query", "the name of the parameter", "{query: ¦''}"),
        rate(
            UnusedField,
            ".key[0].caller",
            "`at: service`",
            "name: a, at: caller, key: [{caller: ¦true}], limit: {requests: 1, per: 1s}",
        ),
        rate(
            InvalidPath,
            ".matches[0].path.value",
            "write `/shop`",
            "name: a, matches: [{path: {value: ¦shop}}], limit: {requests: 1, per: 1s}",
        ),
        case(
            DuplicateName,
            "spec.rateLimits[1].name",
            "another name",
            with(
                "  rateLimits:\n  - {name: a, concurrency: {requests: 1}}\n  - {name: ¦a, concurrency: {requests: 2}}",
            ),
        ),
    ]
}

/// Priorities and shedding.
fn of_overload() -> Vec<Case> {
    let base = valid(Kind::TrafficPolicy);
    let with = |text: &str| format!("{base}  {text}\n");
    vec![
        case(
            UnusedField,
            "spec.priorities[0]",
            "write it last",
            with("priorities: [¦{priority: sheddable}, {priority: critical}]"),
        ),
        case(
            InvalidPath,
            "spec.priorities[0].matches[0].path.value",
            "write `/shop`",
            with("priorities: [{priority: sheddable, matches: [{path: {value: ¦shop}}]}]"),
        ),
        case(OutOfRange, "spec.admission.window", "from 1s to 10m", with("admission: {window: ¦11m}")),
        case(OutOfRange, "spec.overload.maxWait", "from 1ms to 1s", with("overload: {maxWait: ¦2s}")),
        case(
            OutOfRange,
            "spec.overload.maxRequests",
            "write 20 or more",
            with("overload: {minRequests: 20, maxRequests: ¦10}"),
        ),
    ]
}

/// What stands in for answers.
fn of_degradation() -> Vec<Case> {
    let base = valid(Kind::TrafficPolicy);
    let with = |text: &str| format!("{base}  fallback: {text}\n");
    let own = |class, path: &str, fix, text: &str| case(class, &format!("spec.fallback{path}"), fix, with(text));
    let other = base.replace("name: r}", "name: s}").replace("name: cart}", "name: one}");
    let headers: Vec<String> = (0..17).map(|i| format!("{{name: x-{i}, value: a}}")).collect();
    vec![
        own(MissingField, "", "add `reply`", "¦{on: [open]}"),
        own(Empty, ".on", "at least one", "{on: ¦[], reply: {}}"),
        own(DuplicateName, ".on[1]", "remove one", "{on: [open, ¦open], reply: {}}"),
        own(UnusedField, ".failures", "add `failed`", "{on: [open], failures: ¦[5xx], reply: {}}"),
        own(UnusedField, ".codes", "add `failed`", "{on: [open], codes: ¦[404], reply: {}}"),
        own(Empty, ".failures", "at least one", "{failures: ¦[], reply: {}}"),
        own(DuplicateName, ".failures[1]", "remove one", "{failures: [5xx, ¦5xx], reply: {}}"),
        own(InvalidStatus, ".codes[1]", "remove one", "{codes: [404, ¦404], reply: {}}"),
        case(OutOfRange, "spec.collapse.maxWait", "from 10ms to 1m", format!("{base}  collapse: {{maxWait: ¦2m}}\n")),
        own(OutOfRange, ".lastGood.maxAge", "from 1s to 24h", "{lastGood: {maxAge: ¦25h}}"),
        case(
            OutOfRange,
            "spec.cache.maxBodyKib",
            "write 128 or less",
            format!("{base}  cache: {{maxMib: 1, maxBodyKib: ¦129}}\n"),
        ),
        own(OutOfRange, ".codes[0]", "400 to 599", "{codes: [¦200], reply: {}}"),
        own(UnusedField, ".reply.body", "another status", "{reply: {status: 204, body: ¦a}}"),
        own(TooMany, ".reply.headers", "split", &format!("{{reply: {{headers: ¦[{}]}}}}", headers.join(", "))),
        own(ReservedHeader, ".reply.headers[0].name", "to the proxy", "{reply: {headers: [{name: ¦te, value: a}]}}"),
        own(
            ReservedHeader,
            ".reply.headers[0].name",
            "another name",
            "{reply: {headers: [{name: ¦x-leno-a, value: a}]}}",
        ),
        own(
            ReservedHeader,
            ".reply.headers[0].name",
            "`contentType`",
            "{reply: {headers: [{name: ¦Content-Type, value: a}]}}",
        ),
        own(
            RepeatedHeader,
            ".reply.headers[1].name",
            "keep one",
            "{reply: {headers: [{name: a, value: a}, {name: ¦A, value: b}]}}",
        ),
        own(UnusedField, ".grpcStatus", "add `reply`", "{grpcStatus: ¦INTERNAL, service: {name: one}}"),
        own(Circle, ".service.name", "another service", "{service: {name: ¦cart}}"),
        own(InvalidName, ".service.name", "write `one`", "{service: {name: ¦One}}"),
        own(UnknownService, ".service.name", "when it appears", "{service: {name: ¦on}}"),
        own(UnknownPort, ".service.port", "use one of 80", "{service: {name: one, port: ¦81}}"),
        case(
            MissingPort,
            "spec.fallback.service",
            "80, 90",
            format!("{other}  fallback: {{service: ¦{{name: cart}}}}\n"),
        ),
        case(
            Circle,
            "spec.fallback.service.name",
            "`reply` alone",
            format!(
                "{}---\n{other}  fallback: {{service: {{name: cart, port: 80}}}}\n",
                with("{service: {name: ¦one}}")
            ),
        ),
    ]
}

/// Policies of TLS towards instances.
fn of_tls_policies() -> Vec<Case> {
    let base = valid(Kind::BackendTlsPolicy);
    let named = |name: &str| base.replace("cart.test,", &format!("cart.test, subjectAltNames: [{name}],"));
    let at = "spec.validation.subjectAltNames[0]";
    let hostname = |text: &str| named(&format!("{{type: Hostname, hostname: ¦{text}}}"));
    let uri = |text: &str| named(&format!("{{type: URI, uri: ¦{text}}}"));
    vec![
        case(InvalidHostname, &format!("{at}.hostname"), "one host name", hostname("'*.cart.test'")),
        case(InvalidHostname, &format!("{at}.uri"), "spiffe://", uri("cart.test")),
        case(InvalidHostname, &format!("{at}.uri"), "spiffe://", uri("'spiffe://a b'")),
        case(MissingField, at, "add `uri`", named("¦{type: URI}")),
        case(
            FilterMismatch,
            &format!("{at}.uri"),
            "use `hostname`",
            named("{type: Hostname, hostname: a, uri: ¦'a://b'}"),
        ),
    ]
}

/// Switches, and whether they are on.
fn of_switches() -> Vec<Case> {
    let base = valid(Kind::Switch);
    let targets = |text: &str| base.replacen("{kind: Service, name: cart}", text, 1);
    let reply = |class, field: &str, fix, text: &str| {
        case(class, &format!("spec.reply{field}"), fix, format!("{base}  reply: {text}\n"))
    };
    let state = |class, path: &str, fix, spec: &str| case(class, path, fix, with_spec(Kind::SwitchState, spec));
    let route = format!("{}---\n", valid(Kind::HttpRoute).replace("- backendRefs", "- name: one\n    backendRefs"));
    let mark = |text: &str| text.replace("name: r}", "name: r, labels: {leno.mesh/protected: 'true'}}");
    let marked = |text: &str| text.replace("name: r}", "name: r, labels: {leno.mesh/protected: ¦'true'}}");
    let many: Vec<String> = (0..65).map(|i| format!("{{name: r{i}}}")).collect();
    vec![
        case(Empty, "spec.targetRefs", "at least one", base.replace("[{kind: Service, name: cart}]", "¦[]")),
        case(
            TooMany,
            "spec.targetRefs",
            "split",
            base.replace("[{kind: Service, name: cart}]", &format!("¦[{}]", many.join(", "))),
        ),
        case(MissingField, "spec.targetRefs[0].name", "add `name:`", targets("¦{kind: Service}")),
        case(UnknownValue, "spec.targetRefs[0].kind", "use one of HTTPRoute", targets("{kind: ¦Gateway, name: r}")),
        case(DuplicateReference, "spec.targetRefs[1]", "remove one", targets("{name: r}, ¦{name: r, sectionName: a}")),
        case(InvalidName, "spec.targetRefs[0].name", "write `cart`", targets("{kind: Service, name: ¦Cart}")),
        case(InvalidNamespace, "spec.targetRefs[0].namespace", "write `shop`", targets("{name: r, namespace: ¦Shop}")),
        case(UnknownService, "spec.targetRefs[0].name", "when it appears", targets("{kind: Service, name: ¦crat}")),
        case(UnknownRoute, "spec.targetRefs[0].name", "when it appears", targets("{name: ¦crat}")),
        case(
            UnusedField,
            "spec.targetRefs[0].sectionName",
            "name a route",
            targets("{kind: Service, name: cart, sectionName: ¦one}"),
        ),
        case(
            UnknownSection,
            "spec.targetRefs[0].sectionName",
            "use one of one",
            format!("{route}{}", targets("{name: r, sectionName: ¦two}")),
        ),
        case(
            Protected,
            "spec.targetRefs[0].name",
            "remove it from",
            format!("{}{}", mark(&route), targets("{name: ¦r}")),
        ),
        case(
            Protected,
            "metadata.labels[\"leno.mesh/protected\"]",
            "take it out",
            format!("{}{}", marked(&route), targets("{name: r}")),
        ),
        reply(OutOfRange, ".status", "200 to 599", "{status: ¦100}"),
        reply(InvalidHeaderValue, ".contentType", "", "{contentType: ¦\"a\\nb\"}"),
        reply(UnusedField, ".body", "another status", "{status: 204, body: ¦x}"),
        reply(OutOfRange, ".body", "a service", &format!("{{body: ¦{}}}", "x".repeat(4097))),
        state(MissingField, "spec.on", "add `on:`", "  ¦from: 2026-11-27T00:00:00Z"),
        state(InvalidMoment, "spec.until", "2026-11-27T00:00:00Z", "  on: true\n  until: ¦tomorrow"),
        state(
            OutOfRange,
            "spec.until",
            "after 2026-11-27",
            "  on: true\n  from: 2026-11-27T00:00:00Z\n  until: ¦2026-11-26T00:00:00Z",
        ),
        case(
            UnknownSwitch,
            "metadata.name",
            "when there is one",
            valid(Kind::SwitchState).replace("name: r", "name: ¦r"),
        ),
    ]
}

/// Lanes.
fn of_lanes() -> Vec<Case> {
    let base = valid(Kind::Lane);
    let tag = |class, field: &str, fix, text: &str| {
        case(class, &format!("spec.tag{field}"), fix, base.replacen("{header: x-lane, value: blue}", text, 1))
    };
    let version = |class, field: &str, fix, text: &str| {
        let text = base.replacen("{name: cart, version: v2}", text, 1);
        case(class, &format!("spec.versions{field}"), fix, text)
    };
    vec![
        tag(MissingField, "", "add `header: x-lane`", "¦{value: blue}"),
        tag(MissingField, ".value", "add `value:`", "¦{header: x-lane}"),
        tag(TooMany, "", "keep `header`", "¦{header: x-lane, baggage: lane, value: blue}"),
        tag(InvalidHeaderName, ".header", "as `x-user`", "{header: ¦'x lane', value: blue}"),
        tag(ReservedHeader, ".header", "another name", "{header: ¦x-leno-lane, value: blue}"),
        tag(InvalidHeaderName, ".baggage", "a token", "{baggage: ¦'la ne', value: blue}"),
        tag(InvalidHeaderValue, ".value", "letters", "{header: x-lane, value: ¦'a,b'}"),
        version(InvalidName, "[0].name", "write `cart`", "{name: ¦Cart, version: v2}"),
        version(InvalidVersion, "[0].version", "letters|lower-case|write", "{name: cart, version: ¦v 2}"),
        version(DuplicateReference, "[1]", "keep one", "{name: cart, version: v2}, ¦{name: cart, version: v3}"),
        version(UnknownService, "[0].name", "when it appears", "{name: ¦crat, version: v2}"),
        case(Empty, "spec.versions", "at least one", base.replace("[{name: cart, version: v2}]", "¦[]")),
    ]
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = Kind::ALL.into_iter().flat_map(of_every_kind).collect();
    cases.extend(ROUTES.into_iter().flat_map(of_every_route));
    cases.extend(REQUEST_ROUTES.into_iter().flat_map(of_request_routes));
    let single = [of_http_routes(), of_grpc_routes(), of_byte_routes(), of_gateways(), of_listeners()];
    for more in single.into_iter().chain([
        of_grants(),
        of_services(),
        of_policies(),
        of_rate_limits(),
        of_fault_policies(),
        of_overload(),
        of_degradation(),
        of_tls_policies(),
        of_switches(),
        of_lanes(),
    ]) {
        cases.extend(more);
    }
    cases
}

/// Takes the mark out of a text and says where it stood.
pub fn unmark(text: &str) -> (String, u32, u32) {
    let at = text.find('¦').unwrap_or_else(|| panic!("no mark in {text}"));
    let before = &text[..at];
    let line = 1 + before.matches('\n').count() as u32;
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count() as u32;
    (text.replacen('¦', "", 1), line, column)
}
