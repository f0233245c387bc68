//! Ribbon's properties: `NAME.ribbon.*`, over `ribbon.*`. A client is a service by its name, or by `--map`.
//!
//! Only what is written is carried over: what Ribbon does without being told, balancing and finding servers, leno does too.

use leno_model::fault::Fault;
use leno_model::name::ServiceName;
use serde_json::json;

use crate::node::{self, Node};
use crate::policies::Policies;
use crate::resource::Options;

/// What is looked at.
const KNOWN: &[&str] = &[
    "ConnectTimeout",
    "ReadTimeout",
    "MaxAutoRetries",
    "MaxAutoRetriesNextServer",
    "OkToRetryOnAllOperations",
    "NFLoadBalancerRuleClassName",
    "MaxTotalConnections",
    "MaxConnectionsPerHost",
    "listOfServers",
    "retryableStatusCodes",
];
/// What needs nothing here.
const ASIDE: &[&str] = &[
    "ServerListRefreshInterval",
    "NIWSServerListClassName",
    "NIWSServerListFilterClassName",
    "NFLoadBalancerPingClassName",
    "NFLoadBalancerPingInterval",
    "NFLoadBalancerClassName",
    "eager-load",
    "eureka",
    "http",
    "restclient",
    "okhttp",
    "PoolMaxThreads",
    "PoolMinThreads",
    "ConnectionManagerTimeout",
    "DeploymentContextBasedVipAddresses",
    "VipAddress",
    "Port",
    "SecurePort",
    "TargetRegion",
    "PrioritizeVipAddressBasedServers",
    "ClientClassName",
    "ServerListUpdaterClassName",
];

/// One client over the default.
struct Settings<'n> {
    layers: Vec<&'n Node>,
}

/// Converts all clients; whether there are any.
pub(crate) fn convert(root: &Node, options: &Options, policies: &mut Policies) -> bool {
    let default = root.kid("ribbon").filter(|ribbon| !ribbon.is_leaf());
    let mut any = false;
    for (name, node) in root.kids.iter().filter_map(|(name, kid)| Some((name, kid.kid("ribbon")?))) {
        any = true;
        match options.named(name, node) {
            Ok(service) => {
                client(&Settings { layers: std::iter::once(node).chain(default).collect() }, node, &service, policies)
            }
            Err(fault) => policies.lose(fault),
        }
    }
    match default.filter(|_| !any) {
        Some(default) => match &options.service {
            Some(service) => client(&Settings { layers: vec![default] }, default, service, policies),
            None => policies.lose(
                default.lost("a default that no client here has", "say for which service it is: `--service NAME`"),
            ),
        },
        None => return any,
    }
    true
}

fn client(settings: &Settings<'_>, node: &Node, service: &ServiceName, policies: &mut Policies) {
    policies.say(service, format!("ribbon: line {} of {}", node.place.line, node.file));
    for (name, field) in settings.layers.iter().flat_map(|layer| &layer.kids) {
        if !KNOWN.iter().chain(ASIDE).any(|own| node::is_same(own, name)) {
            policies.lose_of(
                service,
                field.lost(format!("leno knows no `{name}` of Ribbon"), "see what it does, and whether it is needed"),
            );
        }
    }
    servers(settings, service, policies);
    for convert in [times, rule, retries] {
        if let Err(fault) = convert(settings, node, service, policies) {
            policies.lose_of(service, fault);
        }
    }
}

fn times(settings: &Settings<'_>, node: &Node, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    if let Some(connect) = settings.get("ConnectTimeout") {
        policies.part(service, "connectTimeout", json!(format!("{}ms", connect.whole()?)), node);
    }
    if let Some(most) = settings.get("MaxTotalConnections") {
        policies.part(service, "limits", json!({ "connections": most.whole()? }), node);
    }
    if let Some(most) = settings.get("MaxConnectionsPerHost") {
        policies.lose_of(
            service,
            most.lost(
                "connections are limited for a service, and not for each of its instances",
                "write `limits.connections`",
            ),
        );
    }
    Ok(())
}

fn rule(settings: &Settings<'_>, node: &Node, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let Some(rule) = settings.get("NFLoadBalancerRuleClassName") else { return Ok(()) };
    let class = rule.text();
    let policy = match class.rsplit('.').next().unwrap_or(&class) {
        // Only those are chosen from that take requests, so that nothing is left for the second choice of RetryRule.
        "RoundRobinRule" | "RetryRule" => "roundRobin",
        "RandomRule" => "random",
        "BestAvailableRule" => "bestAvailable",
        "WeightedResponseTimeRule" => "weightedResponseTime",
        "AvailabilityFilteringRule" | "ZoneAvoidanceRule" => {
            let ejection = json!({ "consecutiveLocalErrors": 3, "baseTime": "10s", "maxTime": "30s", "maxShare": 100 });
            policies.part(service, "ejection", ejection, node);
            "roundRobin"
        }
        other => {
            let fix = "see docs/from-ribbon.md for what is near, or leave it at the default, peakEwma";
            return Err(rule.lost(format!("the rule {other} is not carried over by name"), fix));
        }
    };
    policies.part(service, "loadBalancer", json!({ "policy": policy }), node);
    Ok(())
}

fn retries(settings: &Settings<'_>, node: &Node, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let names = ["MaxAutoRetriesNextServer", "OkToRetryOnAllOperations", "ReadTimeout", "retryableStatusCodes"];
    if names.iter().all(|name| settings.get(name).is_none()) {
        return settings.same_server(service, policies);
    }
    let attempts = settings.get("MaxAutoRetriesNextServer").map_or(Ok(1), Node::whole)?;
    let mut retry = json!({ "on": ["connect-failure", "reset"], "methods": ["GET"], "attempts": attempts });
    if settings.get("OkToRetryOnAllOperations").map_or(Ok(false), Node::flag)? {
        retry["methods"] = json!(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
    }
    if let Some(read) = settings.get("ReadTimeout") {
        retry["tryTimeout"] = json!(format!("{}ms", read.whole()?));
    }
    if let Some(codes) = settings.get("retryableStatusCodes") {
        let (mut taken, mut others) = (Vec::new(), Vec::new());
        for code in codes.list() {
            match code.parse::<u16>() {
                Ok(code) if (400..=599).contains(&code) => taken.push(code),
                _ => others.push(code),
            }
        }
        if !others.is_empty() {
            policies.lose_of(
                service,
                codes.lost(format!("{}: 400 to 599 are what is tried again", others.join(", ")), "leave them out"),
            );
        }
        retry["codes"] = json!(taken);
    }
    policies.part(service, "retry", retry, node);
    settings.same_server(service, policies)
}

fn servers(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) {
    if let Some(list) = settings.get("listOfServers").filter(|list| !list.list().is_empty()) {
        let fix = format!("run each with `leno run --service {}`, or write a Service with `endpoints`", service.name);
        policies.lose_of(service, list.lost("a fixed list of servers: instances register themselves", fix));
    }
}

// === impl Settings ===

impl<'n> Settings<'n> {
    fn get(&self, name: &str) -> Option<&'n Node> {
        self.layers.iter().find_map(|layer| layer.kid(name))
    }

    /// Says that nobody asks the same server again.
    fn same_server(&self, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
        if let Some(again) = self.get("MaxAutoRetries")
            && again.whole()? > 0
        {
            let fix = "add the number to `retry.attempts`, which go to other instances";
            policies.lose_of(service, again.lost("a retry goes to an instance that the request has not met", fix));
        }
        Ok(())
    }
}
