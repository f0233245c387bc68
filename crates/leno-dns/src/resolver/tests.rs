use super::*;
use crate::message::tests::query;
use crate::upstream::tests::{answer_to, server, upstream};
use hickory_proto::op::Message;
use leno_telemetry::metric::Limits;
use proptest::prelude::*;

/// `cart.shop` and `example.com` exist; `slow.shop` exists once it is waited for; nobody knows about `lost.shop`.
struct Shop;

impl Names for Shop {
    fn exists(&self, name: &ServiceName) -> Answer {
        match name.to_string().as_str() {
            "cart.shop" | "example.com" => Answer::Mesh,
            "slow.shop" | "lost.shop" => Answer::Unknown,
            _ => Answer::NotMesh,
        }
    }

    fn wait<'a>(&'a self, name: &'a ServiceName) -> Verdict<'a> {
        Box::pin(async move {
            match name.to_string().as_str() {
                "slow.shop" => Answer::Mesh,
                "lost.shop" => std::future::pending().await,
                _ => self.exists(name),
            }
        })
    }
}

fn resolver(servers: Vec<std::net::SocketAddr>) -> Resolver<Shop> {
    let options = Options { namespace: "shop".into(), ..Options::default() };
    let registry = Registry::new(0, Limits::default());
    let upstream = upstream(servers, Duration::from_millis(300));
    Resolver::new(options, Shop, Arc::default(), upstream, &registry)
}

async fn ask(resolver: &Resolver<Shop>, name: &str, kind: RecordType) -> Message {
    let reply = resolver.answer(&query(name, kind), false).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[tokio::test]
async fn every_spelling_of_a_mesh_name_has_the_same_address() {
    let resolver = resolver(vec![]);
    let want = resolver.addresses.address(&"cart.shop".parse().unwrap()).v4();
    for name in [
        "cart.",
        "cart.shop.",
        "CART.shop.mesh.",
        "cart.corp.example.",
        "cart.shop.corp.example.",
        "cart.shop.mesh.corp.example.",
    ] {
        assert_eq!(addresses(&ask(&resolver, name, RecordType::A).await), [IpAddr::from(want)], "{name}");
    }
}

#[tokio::test]
async fn an_ipv6_address_is_of_the_private_range() {
    let resolver = resolver(vec![]);
    let found = addresses(&ask(&resolver, "cart.", RecordType::AAAA).await);
    assert!(found.len() == 1 && found[0].is_ipv6() && is_virtual(found[0]));
    assert_eq!(resolver.addresses.name(found[0]), Some("cart.shop".parse().unwrap()));
}

#[tokio::test]
async fn other_types_of_a_mesh_name_have_no_data() {
    let reply = ask(&resolver(vec![]), "cart.", RecordType::HTTPS).await;
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(reply.authorities.len(), 1);
}

#[tokio::test]
async fn a_mesh_name_that_does_not_exist_never_leaves_the_machine() {
    // No upstream is known: asking it would be SERVFAIL.
    for name in ["nope.shop.mesh.", "a.b.c.mesh.", "mesh.", "*.shop.mesh.", "nope.shop.mesh.corp.example."] {
        let reply = ask(&resolver(vec![]), name, RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
}

#[tokio::test]
async fn a_virtual_address_leads_back_to_its_name() {
    let resolver = resolver(vec![]);
    let [a, b, c, d] = resolver.addresses.address(&"cart.shop".parse().unwrap()).v4().octets();
    let reply = ask(&resolver, &format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR).await;
    assert_eq!(reply.answers[0].data.to_string(), "cart.shop.mesh.");
    let reply = ask(&resolver, "1.2.3.241.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_name_of_the_world_is_passed_on() {
    let (address, serve) = server(|q| vec![answer_to(q, [93, 184, 216, 34])]).await;
    let resolver = resolver(vec![address]);
    let reply = tokio::select! {
        reply = ask(&resolver, "www.example.org.", RecordType::A) => reply,
        () = serve => unreachable!(),
    };
    assert_eq!(addresses(&reply), [IpAddr::from([93, 184, 216, 34])]);
}

#[tokio::test]
async fn the_mesh_wins_over_the_world() {
    let reply = ask(&resolver(vec![]), "example.com.", RecordType::A).await;
    assert!(is_virtual(addresses(&reply)[0]));
}

#[tokio::test]
async fn a_name_that_becomes_known_while_it_is_waited_for_is_answered() {
    let reply = ask(&resolver(vec![]), "slow.", RecordType::A).await;
    assert!(is_virtual(addresses(&reply)[0]));
}

#[tokio::test(start_paused = true)]
async fn a_mesh_name_that_nobody_can_tell_about_fails_after_the_wait() {
    let before = tokio::time::Instant::now();
    let reply = ask(&resolver(vec![]), "lost.shop.mesh.", RecordType::A).await;
    assert_eq!((reply.metadata.response_code, before.elapsed()), (ResponseCode::ServFail, WAIT));
}

#[tokio::test]
async fn a_name_that_nobody_can_tell_about_is_the_worlds_after_a_grace() {
    let (address, serve) = server(|q| vec![answer_to(q, [1, 1, 1, 1])]).await;
    let resolver = resolver(vec![address]);
    let before = tokio::time::Instant::now();
    let reply = tokio::select! {
        reply = ask(&resolver, "lost.shop.", RecordType::A) => reply,
        () = serve => unreachable!(),
    };
    assert_eq!(addresses(&reply), [IpAddr::from([1, 1, 1, 1])]);
    assert!(before.elapsed() >= GRACE && before.elapsed() < WAIT, "{:?}", before.elapsed());
}

#[tokio::test]
async fn what_nobody_answers_is_a_server_failure() {
    let reply = ask(&resolver(vec![]), "www.example.org.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

proptest! {
    #[test]
    fn no_packet_makes_it_panic_or_answer_long(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(resolver(vec![]).answer(&packet, false));
        prop_assert!(reply.is_none_or(|reply| reply.len() <= message::UDP_MAX));
    }
}
