//! The world outside the mesh.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use leno_http::Method;
use leno_proxy::OutboundDefault;
use leno_proxy::outside::LOOK_UPS_MAX;
use leno_runtime::task;
use leno_test::{proxy, server};

use crate::{both, until};

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

/// Looks up names: `silent…` until the other end of the channel is dropped, `none…` in vain, any other at once.
fn look_up(name: &str, silence: &Mutex<Receiver<()>>) -> io::Result<Vec<IpAddr>> {
    if name.starts_with("silent") {
        let _ = silence.lock().unwrap().recv();
    }
    if name.starts_with("none") { Err(io::Error::other("no such name")) } else { Ok(vec![Ipv4Addr::LOCALHOST.into()]) }
}

#[test]
fn names_that_nobody_answers_for_hold_up_no_other_name() {
    both(async |client| {
        let world = server::http().respond("/", 200).start().await;
        let (end, silence) = sync_channel(1);
        let (silence, asked) = (Mutex::new(silence), Arc::<AtomicUsize>::default());
        let counted = asked.clone();
        let looking_up = proxy().looking_up(move |name| {
            counted.fetch_add(1, Relaxed);
            look_up(name, &silence)
        });
        let proxy = looking_up.start().await;
        let wait = |number: usize| {
            let (client, host) = (client(&proxy), format!("silent-{number}.example.org"));
            let asking = async move { drop(client.request(Method::Get, &host, "/").try_send().await) };
            task::spawn("waiting", asking).abort_on_drop()
        };
        let mut waiting: Vec<_> = (1..LOOK_UPS_MAX).map(wait).collect();
        until(|| asked.load(Relaxed) == LOOK_UPS_MAX - 1).await;
        let host = format!("world.example.org:{}", world.address.port());
        assert_eq!(client(&proxy).get(&host, "/").await.status(), 200);
        waiting.push(wait(LOOK_UPS_MAX));
        until(|| asked.load(Relaxed) == LOOK_UPS_MAX + 1).await;
        let answer = client(&proxy).get("other.example.org", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (503, Some("dns_overflow")));
        assert_eq!((client(&proxy).get(&host, "/").await.status(), asked.load(Relaxed)), (200, LOOK_UPS_MAX + 1));
        drop(end);
    });
}

#[test]
fn a_name_that_does_not_resolve_is_answered_502_with_the_cause() {
    both(async |client| {
        let silence = Mutex::new(sync_channel(1).1);
        let proxy = proxy().looking_up(move |name| look_up(name, &silence)).start().await;
        let answer = client(&proxy).get("none.example.org", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (502, Some("dns_failure")));
        assert_eq!(answer.body, "leno: none.example.org does not resolve: no such name\n");
    });
}
