#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use leno_http::client::ClientOptions;
use leno_http::grpc::{Code, Router};
use leno_http::{Connection, ServerOptions, serve_connection};
use leno_model::instance::{Instance, InstanceStatus, Probe, Visibility};
use leno_net::Stream;
use leno_store::MemoryStore;
use leno_store::suite::TurnedClock;
use prost::Message;

use super::messages::{self, RegisterRequest, RenewRequest, SetStatusRequest, Status};
use super::*;
use crate::catalogue::tests::{instance, name};
use crate::{InstanceKey, Options, Origin, Registry, Routable};

async fn registry() -> Registry {
    let clock = Arc::new(TurnedClock::default());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    Registry::open(store, clock, Options::default()).await.unwrap().0
}

/// Nobody calls anybody.
fn nobody() -> server::Told {
    std::rc::Rc::new(|_| Box::pin(std::future::ready(())))
}

fn register(instance: &Instance) -> RegisterRequest {
    RegisterRequest { instance: Some(instance.into()) }
}

#[test]
fn an_instance_is_the_same_after_the_wire() {
    let plain = instance("cart", "a");
    let mut rich = instance("cart", "b");
    rich.proxy_address = Some("2001:db8::7".parse().unwrap());
    rich.ports[0].proxy_port = Some(15006);
    rich.visibility = Visibility::Namespaces(vec!["shop".into(), "pay".into()]);
    rich.metadata = [("k".to_owned(), "v".to_owned())].into();
    rich.zone = Some("z1".into());
    rich.status = InstanceStatus::Starting;
    rich.weight = 0;
    rich.health_check.as_mut().unwrap().probe = Probe::Grpc { service: String::new() };
    rich.lease = None;
    for instance in [plain, rich] {
        let bytes = messages::Instance::from(&instance).encode_to_vec();
        let read = messages::Instance::decode(bytes.as_slice()).unwrap();
        assert_eq!(Instance::try_from(read).unwrap(), instance);
    }
}

#[tokio::test]
async fn an_instance_registers_drains_renews_and_goes() {
    let registry = registry().await;
    let cart = instance("cart", "a");
    server::register(&registry, register(&cart), Origin::Local).await.unwrap();
    let key = messages::InstanceKey::from(&InstanceKey::new(&name("cart"), "a"));
    let drain = SetStatusRequest { instance: Some(key.clone()), status: Status::Draining.into() };
    server::set_status(&registry, drain, &nobody()).await.unwrap();
    assert_eq!(registry.instances(&name("cart"))[0].routable(), Routable::Draining);
    let gone = messages::DeregisterRequest { instance: Some(key) };
    server::deregister(&registry, gone.clone()).await.unwrap();
    assert_eq!(server::deregister(&registry, gone).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_renewal_names_by_position_who_must_register_again() {
    let registry = registry().await;
    for id in ["a", "c"] {
        server::register(&registry, register(&instance("cart", id)), Origin::Local).await.unwrap();
    }
    let key = |id: &str| messages::InstanceKey { namespace: "shop".into(), service: "cart".into(), id: id.into() };
    let request = RenewRequest { instances: vec![key("a"), key("b"), key("c"), key("not/an/id"), key("d")] };
    assert_eq!(server::renew(&registry, &request).unwrap().unknown, [1, 3, 4]);
    let many = RenewRequest { instances: vec![key("a"); RENEW_MAX + 1] };
    assert_eq!(server::renew(&registry, &many).unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn what_a_message_says_wrongly_is_refused_with_its_field() {
    let registry = registry().await;
    let refused = async |change: fn(&mut messages::Instance)| {
        let mut instance = messages::Instance::from(&instance("cart", "a"));
        change(&mut instance);
        let request = RegisterRequest { instance: Some(instance) };
        let refused = server::register(&registry, request, Origin::Remote).await.unwrap_err();
        (refused.code, refused.message.split(':').next().unwrap().to_owned())
    };
    let invalid = |field: &str| (Code::InvalidArgument, field.to_owned());
    assert_eq!(refused(|i| i.key = None).await, invalid("key"));
    assert_eq!(refused(|i| i.key.as_mut().unwrap().service = "Cart".into()).await, invalid("service"));
    assert_eq!(refused(|i| i.address = "cart.example".into()).await, invalid("address"));
    assert_eq!(refused(|i| i.address = "169.254.169.254".into()).await, invalid("address"));
    assert_eq!(refused(|i| i.ports[0].number = 65_536).await, invalid("ports[0].number"));
    assert_eq!(refused(|i| i.ports[0].protocol = 99).await, invalid("ports[0].protocol"));
    assert_eq!(refused(|i| i.status = 9).await, invalid("status"));
    assert_eq!(refused(|i| i.health_check.as_mut().unwrap().probe = None).await, invalid("healthCheck"));
    assert_eq!(refused(|i| i.lease_ms = 1).await, invalid("lease"));
    let none = server::register(&registry, RegisterRequest { instance: None }, Origin::Remote).await;
    assert_eq!(none.unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_left_out_of_a_message_has_the_defaults_of_the_model() {
    let registry = registry().await;
    let message = messages::Instance {
        key: Some(messages::InstanceKey { namespace: "shop".into(), service: "cart".into(), id: "a".into() }),
        address: "10.0.0.1".into(),
        ports: vec![messages::Port { number: 80, ..messages::Port::default() }],
        lease_ms: 30_000,
        health_check: Some(messages::HealthCheck {
            probe: Some(messages::Probe::Tcp(true)),
            ..messages::HealthCheck::default()
        }),
        ..messages::Instance::default()
    };
    let request = RegisterRequest { instance: Some(message) };
    server::register(&registry, request, Origin::Remote).await.unwrap();
    let read = registry.instances(&name("cart"))[0].instance.clone();
    let json = serde_json::json!({
        "id": "a", "service": "cart.shop", "address": "10.0.0.1", "ports": [{ "number": 80 }], "lease": 30000,
        "healthCheck": { "type": "tcp" }, "source": "run",
    });
    assert_eq!(read, serde_json::from_value::<Instance>(json).unwrap());
    assert_eq!(read.lease, Some(Duration::from_secs(30)));
}

#[tokio::test(flavor = "local")]
async fn client_and_server_meet_over_a_connection() {
    let registry = registry().await;
    let (near, far) = tokio::net::UnixStream::pair().unwrap();
    let router = std::rc::Rc::new(server::add(Router::new(), &registry, Origin::Local, nobody()));
    let serve = async move {
        let options = std::rc::Rc::new(ServerOptions::default());
        let forever = std::future::pending();
        let _ = serve_connection(Stream::from(far), Default::default(), &options, router, forever).await;
    };
    let (connection, driver) =
        Connection::h2(Stream::from(near), &std::rc::Rc::new(ClientOptions::default())).await.unwrap();
    let client = Client::new(leno_http::grpc::Client::new(connection, "server").with_timeout(Duration::from_secs(10)));
    let calls = async {
        let revision = client.register(&instance("cart", "a")).await.unwrap();
        assert_eq!(revision, registry.revision());
        let keys = [InstanceKey::new(&name("cart"), "a"), InstanceKey::new(&name("cart"), "b")];
        assert_eq!(client.renew(&keys).await.unwrap(), keys[1..]);
        client.set_status(&keys[0], InstanceStatus::Draining).await.unwrap();
        assert_eq!(registry.instances(&name("cart"))[0].routable(), Routable::Draining);
        client.deregister(&keys[0]).await.unwrap();
        let gone = client.deregister(&keys[0]).await.unwrap_err();
        assert!(gone.code == Code::NotFound && gone.message.contains("register it first"), "{gone}");
    };
    tokio::select! {
        () = calls => {}
        () = serve => panic!("the server ends last"),
        () = driver => panic!("the connection ends last"),
    }
}
