//! `leno service`: instances in the registry, listed, registered, drained and taken out by hand.

use std::net::SocketAddr;

use leno_model::name::ServiceName;
use serde_json::{Value, json};

use super::failure::{Exit, Failure, Outcome};
use crate::args::{ClientArgs, Output, RegisterArgs, ServiceVerb};
use crate::client::{Client, encode, with_query};
use crate::output::{Table, clean, list_at, put, say, seconds, structured, text_at};

/// The most services that are listed; the API gives them in pages.
const SERVICES_MAX: usize = 100_000;

/// Runs the verb.
pub fn run(verb: &ServiceVerb) -> Outcome {
    match verb {
        ServiceVerb::List { service: None, namespace, client } => list(namespace.as_deref(), client),
        ServiceVerb::List { service: Some(service), client, .. } => show(service, client),
        ServiceVerb::Register(args) => register(args),
        ServiceVerb::Deregister { service, id, client } => deregister(service, id, client),
        ServiceVerb::Drain { service, id, undo, client } => drain(service, id, *undo, client),
    }
}

fn list(namespace: Option<&str>, args: &ClientArgs) -> Outcome {
    let client = Client::new(args)?;
    let (mut services, mut after) = (Vec::new(), None);
    let mut answer = loop {
        let parameters = [("namespace", namespace.map(str::to_owned)), ("after", after)];
        let page = client.get(&with_query("/api/v1/services", &parameters))?;
        services.extend_from_slice(list_at(&page, "/services"));
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() || services.len() >= SERVICES_MAX {
            break page;
        }
    };
    answer["services"] = json!(services);
    match args.output {
        Output::Name => put(services.iter().map(|service| format!("{}\n", full_name(service))).collect::<String>())?,
        Output::Table if services.is_empty() => {
            say("no services; `leno run --service NAME -- CMD` or `leno service register` adds one")
        }
        Output::Table => put(services_table(&services))?,
        other => put(structured(other, &answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

fn show(service: &ServiceName, args: &ClientArgs) -> Outcome {
    let answer = Client::new(args)?.get(&service_path(service))?;
    let instances = list_at(&answer, "/instances");
    match args.output {
        Output::Name => {
            put(instances.iter().map(|one| format!("{}\n", clean(&text_at(one, "/id")))).collect::<String>())?
        }
        Output::Table => put(instances_table(instances))?,
        other => put(structured(other, &answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

fn register(args: &RegisterArgs) -> Outcome {
    let instance = instance(args)?;
    let answer = Client::new(&args.client)?.post(&format!("{}/instances", service_path(&args.service)), &instance)?;
    match structured(args.client.output, &answer) {
        Some(text) => put(text)?,
        None => put(format_args!("{}\n", clean(&text_at(&answer, "/id"))))?,
    }
    Ok(Exit::Done)
}

fn deregister(service: &ServiceName, id: &str, args: &ClientArgs) -> Outcome {
    Client::new(args)?.delete(&instance_path(service, id))?;
    said(args.output, &json!({ "id": id, "service": service.to_string(), "status": "gone" }), "deregistered")
}

fn drain(service: &ServiceName, id: &str, undo: bool, args: &ClientArgs) -> Outcome {
    let (status, word) = if undo { ("up", "takes traffic again") } else { ("draining", "is draining") };
    let answer = Client::new(args)?.patch(&instance_path(service, id), &json!({ "status": status }))?;
    said(args.output, &answer, word)
}

fn said(output: Output, answer: &Value, word: &str) -> Outcome {
    let id = text_at(answer, "/id");
    match output {
        Output::Name => put(format_args!("{}\n", clean(&id)))?,
        Output::Table => put(format_args!("{} {word}\n", clean(&id)))?,
        other => put(structured(other, answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

/// A persistent instance: without a lease it stays until somebody takes it out.
fn instance(args: &RegisterArgs) -> Result<Value, Failure> {
    let (address, protocol) = args.address.split_once('=').unwrap_or((&args.address, "detect"));
    let address: SocketAddr =
        address.parse().ok().filter(|address: &SocketAddr| address.port() > 0).ok_or_else(|| {
            let fix = "write ADDRESS:PORT or ADDRESS:PORT=PROTOCOL, as 10.0.3.7:8080=http or [::1]:8080";
            Failure::usage(format!("{:?} is no address of an instance", args.address), fix)
        })?;
    let id = args.id.clone().unwrap_or_else(|| address.to_string().replace(['[', ']'], ""));
    let mut instance = json!({
        "id": id,
        "address": address.ip(),
        "ports": [{ "number": address.port(), "protocol": protocol }],
        "weight": args.weight,
    });
    let texts = [("version", &args.version), ("zone", &args.zone), ("region", &args.region)];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
        instance[name] = json!(text);
    }
    if !args.labels.is_empty() {
        instance["metadata"] =
            json!(args.labels.iter().cloned().collect::<std::collections::BTreeMap<String, String>>());
    }
    if let Some(probe) = &args.probe {
        instance["healthCheck"] = health_check(probe)?;
    }
    Ok(instance)
}

/// Reads `tcp`, `http`, `http:/healthz`, `grpc` or `grpc:SERVICE`.
fn health_check(text: &str) -> Result<Value, Failure> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("tcp", "") => Ok(json!({ "type": "tcp" })),
        ("http", "") => Ok(json!({ "type": "http" })),
        ("http", path) if path.starts_with('/') => Ok(json!({ "type": "http", "path": path })),
        ("grpc", "") => Ok(json!({ "type": "grpc" })),
        ("grpc", service) => Ok(json!({ "type": "grpc", "service": service })),
        _ => Err(Failure::usage(format!("{text:?} is no probe"), "write tcp, http, http:/PATH, grpc or grpc:SERVICE")),
    }
}

fn services_table(services: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "SERVICE", "INSTANCES", "ROUTABLE"]);
    for service in services {
        table.row(["/namespace", "/name", "/instances", "/routable"].map(|pointer| text_at(service, pointer)));
    }
    table
}

fn instances_table(instances: &[Value]) -> Table {
    let mut table =
        Table::new(&["INSTANCE", "ADDRESS", "PORTS", "VERSION", "WEIGHT", "STATUS", "PROBE", "ROUTABLE", "SINCE"]);
    for instance in instances {
        let port = |port: &Value| format!("{}/{}", text_at(port, "/number"), text_at(port, "/protocol"));
        let ports = list_at(instance, "/ports").iter().map(port).collect::<Vec<_>>().join(",");
        let [id, address, version, weight, status, probe, routable, since] =
            ["/id", "/address", "/version", "/weight", "/status", "/probe", "/routable", "/since"]
                .map(|pointer| text_at(instance, pointer));
        table.row([id, address, ports, version, weight, status, probe, routable, seconds(&since)]);
    }
    table
}

fn full_name(service: &Value) -> String {
    format!("{}.{}", text_at(service, "/name"), text_at(service, "/namespace"))
}

fn service_path(service: &ServiceName) -> String {
    format!("/api/v1/services/{}/{}", service.namespace, service.name)
}

fn instance_path(service: &ServiceName, id: &str) -> String {
    format!("{}/instances/{}", service_path(service), encode(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_model::instance::Instance;

    fn args(address: &str, probe: Option<&str>) -> RegisterArgs {
        use clap::Parser;
        let mut words = vec!["leno", "service", "register", "cart.shop", address];
        words.extend(probe.iter().flat_map(|probe| ["--probe", probe]));
        match crate::args::Cli::parse_from(words).verb {
            crate::args::Verb::Service(ServiceVerb::Register(args)) => args,
            verb => panic!("{verb:?}"),
        }
    }

    #[test]
    fn what_is_registered_is_a_persistent_instance() {
        let mut body = instance(&args("[::1]:8080=http", Some("http:/up"))).unwrap();
        body["service"] = json!("cart.shop");
        let instance: Instance = serde_json::from_value(body).unwrap();
        assert_eq!((&*instance.id, instance.ports[0].number, instance.lease), ("::1:8080", 8080, None));
        assert!(instance.health_check.is_some());
    }

    #[test]
    fn what_is_no_address_or_probe_is_refused() {
        for address in ["cart:80", "10.0.0.1", "10.0.0.1:0"] {
            assert!(instance(&args(address, None)).is_err(), "{address}");
        }
        assert!(health_check("ftp").is_err() && health_check("http:up").is_err() && health_check("tcp:x").is_err());
    }
}
