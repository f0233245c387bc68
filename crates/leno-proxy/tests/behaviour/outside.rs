//! The world outside the mesh.

use leno_proxy::OutboundDefault;
use leno_test::{proxy, server};

use crate::both;

#[test]
fn the_world_outside_is_reached_by_its_host_when_that_is_allowed() {
    both(async |client| {
        let world = server::http().respond("/", 200).body("/", "world").start().await;
        let proxy = proxy().start().await;
        let host = world.address.to_string();
        let answer = client(&proxy).get(&host, "/").await;
        assert_eq!((answer.status(), &answer.body[..]), (200, &b"world"[..]));
        let head = &world.seen()[0].head;
        assert_eq!((head.host(), head.fields.get_str("x-leno-source")), (host.as_str(), None));
    });
}

#[test]
fn the_world_outside_is_denied_when_that_is_the_policy() {
    both(async |client| {
        let world = server::http().start().await;
        let proxy = proxy().outbound_default(OutboundDefault::Deny).start().await;
        let answer = client(&proxy).get(&world.address.to_string(), "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (403, Some("destination_denied")));
        assert_eq!(world.count(), 0);
    });
}

#[test]
fn link_local_addresses_are_always_denied() {
    both(async |client| {
        let proxy = proxy().start().await;
        for host in ["169.254.169.254", "169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]"] {
            let answer = client(&proxy).get(host, "/latest/meta-data").await;
            assert_eq!(answer.status(), 403, "{host}");
        }
    });
}
