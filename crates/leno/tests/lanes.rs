//! A lane on live proxies: of a chain of five services two have a version in the lane, and exactly the tagged requests
//! take it, over HTTP/1, HTTP/2 and gRPC, by a field and by baggage.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use kit::application::{self, ANY_PORT};
use kit::mesh::{Mesh, Process, wait_until};
use kit::steered::connect;
use kit::{figures, free_address};
use leno_http::grpc::{self, Status};
use leno_http::{Body, BodyLength, Handler, Method, Reply, RequestHead, ResponseHead};
use leno_runtime::task;

/// The chain, in order.
const SERVICES: [&str; 5] = ["front", "cart", "price", "stock", "store"];
/// Those that have a version in the lane.
const IN_LANE: [&str; 2] = ["cart", "stock"];
/// The field in which an answer says whom its request met.
const MET: &str = "x-met";
const BODY_MAX: usize = 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
const CALLS: usize = 20;

/// Asks the next of the chain as it was asked, passing on what it knows of tags, and says whom it met.
struct Link {
    name: String,
    /// The next service, and the outbound port of the proxy beside this one.
    next: Option<(&'static str, SocketAddr)>,
}

/// What a chain is asked over, and with which tag.
#[derive(Debug, Clone, Copy)]
struct Ask {
    http2: bool,
    grpc: bool,
    tag: Option<(&'static str, &'static str)>,
}

impl Link {
    fn start(self) -> SocketAddr {
        application::start(ANY_PORT, self)
    }
}

impl Handler for Link {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let _ = body.collect(BODY_MAX).await;
        let grpc = grpc::is_grpc(&head.fields);
        let tag = |name: &'static str| Some((name, head.fields.get_str(name)?.to_owned()));
        let met = match self.next {
            None => Some(self.name.clone()),
            Some((next, through)) => {
                let tags: Vec<_> = ["x-lane", "baggage"].into_iter().filter_map(tag).collect();
                let further = ask(through, next, grpc, grpc, &tags).await;
                further.map(|further| format!("{} {further}", self.name))
            }
        };
        let head = ResponseHead::new(if met.is_some() { 200 } else { 502 }).with(MET, met.unwrap_or_default());
        if !grpc {
            let _ = reply.respond(head, Bytes::new()).await;
        } else if let Ok(answer) = reply.send(head.with("content-type", "application/grpc"), BodyLength::Unknown).await
        {
            let _ = answer.trailers(Status::new(grpc::Code::Ok, "").trailers()).await;
        }
    }
}

/// Whom a request met; nobody where it was not answered well.
async fn ask(to: SocketAddr, host: &str, http2: bool, grpc: bool, tags: &[(&str, String)]) -> Option<String> {
    let answer = async {
        let connection = connect(to, http2).await?;
        let mut head = RequestHead::new(Method::Post, host, "/shop.Chain/Ask");
        if grpc {
            head.fields.append("content-type", "application/grpc");
            head.fields.append("te", "trailers");
        }
        for (name, value) in tags {
            head.fields.append(name, value.as_str());
        }
        let (request, answer) = connection.send(&head, BodyLength::Known(0)).await.ok()?;
        request.end().await.ok()?;
        let mut response = answer.response().await.ok()?;
        let met = response.head.fields.get_str(MET)?.to_owned();
        while let Some(frame) = response.body.frame().await {
            frame.ok()?;
        }
        (response.head.status == 200).then_some(met)
    };
    tokio::time::timeout(TIMEOUT, answer).await.ok().flatten()
}

/// The chain with a version of two services in a lane, and the outbound port of who asks it.
struct Chain {
    caller: SocketAddr,
    lane: Vec<Process>,
    _mesh: Mesh,
    _processes: Vec<Process>,
}

impl Chain {
    fn start() -> Self {
        let mesh = Mesh::new();
        let mut processes = vec![mesh.server()];
        let lanes: Vec<String> = ["header: x-lane", "baggage: lane"]
            .into_iter()
            .map(|tag| {
                let versions = IN_LANE.map(|name| format!("{{name: {name}, version: blue}}")).join(", ");
                let name = tag.split(':').next().unwrap();
                format!(
                    "apiVersion: leno.mesh/v1\nkind: Lane\nmetadata: {{name: {name}, namespace: shop}}\n\
                     spec: {{tag: {{{tag}, value: blue}}, versions: [{versions}]}}\n"
                )
            })
            .collect();
        mesh.apply("lanes.yaml", &lanes.join("---\n"));
        let mut lane = Vec::new();
        for (at, service) in SERVICES.into_iter().enumerate() {
            let next = SERVICES.get(at + 1).copied();
            processes.push(instance(&mesh, service, next, None));
            if IN_LANE.contains(&service) {
                lane.push(instance(&mesh, service, next, Some("blue")));
            }
        }
        let caller = free_address();
        processes.push(mesh.caller(caller, "caller"));
        Self { caller, lane, _mesh: mesh, _processes: processes }
    }

    /// Whom so many requests met.
    fn ask(&self, how: Ask, count: usize) -> Vec<Option<String>> {
        let caller = self.caller;
        let calls = async move {
            let tags: Vec<(&str, String)> = how.tag.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            let mut met = Vec::new();
            for _ in 0..count {
                met.push(ask(caller, SERVICES[0], how.http2, how.grpc, &tags).await);
            }
            met
        };
        leno_runtime::threads::control(async { task::spawn("calls", calls).await.unwrap() }).unwrap()
    }
}

fn instance(mesh: &Mesh, service: &str, next: Option<&'static str>, version: Option<&str>) -> Process {
    let outbound = free_address();
    let name = version.map_or(service.to_owned(), |version| format!("{service}@{version}"));
    let link = Link { name, next: next.map(|next| (next, outbound)) }.start();
    let (port, outbound) = (format!("{}=detect@{link}", mesh.port), outbound.to_string());
    let mut arguments = vec!["--service", "", "--port", &port, "--inbound-listen", "127.0.0.1:0"];
    let full = format!("{service}.shop");
    arguments[1] = &full;
    arguments.extend(["--outbound-listen", &outbound]);
    arguments.extend(version.iter().flat_map(|version| ["--version", version]));
    let proxy = mesh.proxy(&arguments);
    proxy.wait_for("registered");
    proxy
}

fn path(lanes: &[&str]) -> Option<String> {
    let name = |service: &str| if lanes.contains(&service) { format!("{service}@blue") } else { service.to_owned() };
    Some(SERVICES.map(name).join(" "))
}

#[test]
fn a_lane_of_two_services_out_of_five_carries_exactly_the_tagged_requests() {
    let mut chain = Chain::start();
    let kinds = [(false, false), (true, false), (true, true)];
    let tags = [None, Some(("x-lane", "blue")), Some(("baggage", "user=1, lane=blue;p=1")), Some(("x-lane", "red"))];
    let first = Ask { http2: false, grpc: false, tag: tags[1] };
    let warm = wait_until(TIMEOUT, || chain.ask(first, 1)[0] == path(&IN_LANE));
    assert!(warm.is_some(), "{:?}", chain.ask(first, 1));
    let mut right = 0;
    for (http2, grpc) in kinds {
        for (at, tag) in tags.into_iter().enumerate() {
            let how = Ask { http2, grpc, tag };
            let expected = if at == 1 || at == 2 { path(&IN_LANE) } else { path(&[]) };
            for met in chain.ask(how, CALLS) {
                assert_eq!(met, expected, "{how:?}");
                right += 1;
            }
        }
    }
    figures(format_args!("lane of two services out of five: {right} of {right} requests met whom they were to meet"));
    // Where its version is gone, the lane leads on through the others.
    assert_eq!(chain.lane.remove(0).terminate(), 0);
    let fallen = wait_until(TIMEOUT, || chain.ask(first, 1)[0] == path(&IN_LANE[1..]));
    assert!(fallen.is_some(), "{:?}", chain.ask(first, 1));
}
