//! Collapsing on live proxies: requests that ask for the same at once share one, unless its answer is nobody else's, and who
//! leaves ends it for nobody; over HTTP/1 and HTTP/2.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::scripted::{Ask, Got, Scripted, Told, front};
use kit::steered::{Call, Front};
use leno_http::Method;

const HTTP: [Call; 2] = [Call::Http1, Call::Http2];
const TEN_SECONDS: Duration = Duration::from_secs(10);
const MANY: usize = 30;

/// An application that answers once its gate is open, and says how often it was asked.
struct Shop {
    cart: Scripted,
    gate: Arc<AtomicBool>,
    front: Front,
}

impl Shop {
    fn under(policy: &str) -> Self {
        let gate = Arc::new(AtomicBool::new(true));
        let own = gate.clone();
        let cart = Scripted::start(move |asked| {
            let told = Told::ok().saying(format!("{}", asked.before + 1)).behind(&own);
            match &asked.path {
                path if path.contains("private") => told.with("cache-control", "private"),
                path if path.contains("cookie") => told.with("set-cookie", "a=b"),
                path if path.contains("vary") => told.with("vary", "X-Stage"),
                path if path.contains("long") => told.saying(vec![b'a'; 20 * 1024]),
                path if path.contains("bad") => Told { status: 503, ..told },
                _ => told,
            }
        });
        let front = front(std::slice::from_ref(&cart), policy);
        Self { cart, gate, front }
    }

    /// Has each asked so many times at once, so that so many wait for others; what all got.
    fn together(&self, asks: &[Ask], count: usize, waiting: usize) -> Vec<Got> {
        self.gate.store(false, SeqCst);
        let to = self.front.outbound();
        std::thread::scope(|scope| {
            let asking: Vec<_> = asks.iter().map(|ask| scope.spawn(move || ask.many(to, count))).collect();
            let all_wait = || self.waiting() == waiting as u64;
            let waited = wait_until(TEN_SECONDS, all_wait);
            self.gate.store(true, SeqCst);
            let got: Vec<Got> = asking.into_iter().flat_map(|asked| asked.join().unwrap()).collect();
            assert!(waited.is_some(), "{asks:?}: {}", self.front.shown());
            got
        })
    }

    fn waiting(&self) -> u64 {
        self.front.shown()["resilience"]["cache"]["collapsing"]["waiting"].as_u64().unwrap()
    }

    fn one(&self, ask: &Ask) -> Got {
        ask.one(self.front.outbound())
    }
}

fn all_good(got: &[Got]) -> bool {
    got.iter().all(|got| got.status == 200)
}

#[test]
fn requests_that_ask_for_the_same_at_once_share_one_and_later_ones_ask_anew() {
    let shop = Shop::under("collapse: {maxWait: 1m}");
    for call in HTTP {
        let get = Ask::get(call, &format!("/{call:?}/get"));
        let got = shop.together(std::slice::from_ref(&get), MANY, MANY - 1);
        let count = shop.cart.count(&get.path);
        figures(format_args!("collapsing by {call:?}: {MANY} requests became {count}"));
        assert!(all_good(&got) && count == 1, "{count} asked: {got:?}");
        assert!(got.iter().all(|got| got.body == b"1"), "{got:?}");
        let shared = got.iter().filter(|got| got.field("cache-status") == Some("leno; fwd=miss; collapsed")).count();
        assert_eq!(shared, MANY - 1);
        assert_eq!(shop.one(&get).body, b"2", "what was shared is not kept");
        let head = Ask { method: Method::Head, ..Ask::get(call, &format!("/{call:?}/head")) };
        let got = shop.together(std::slice::from_ref(&head), 10, 9);
        assert!(all_good(&got) && shop.cart.count(&head.path) == 1 && got.iter().all(|got| got.body.is_empty()));
        let bad = Ask::get(call, &format!("/{call:?}/bad"));
        let got = shop.together(std::slice::from_ref(&bad), 10, 9);
        assert!(shop.cart.count(&bad.path) == 1 && got.iter().all(|got| got.status == 503), "failures are shared, too");
        let post = Ask::post(call, &format!("/{call:?}/post"));
        assert!(all_good(&post.many(shop.front.outbound(), 5)) && shop.cart.count(&post.path) == 5);
    }
}

#[test]
fn an_answer_for_nobody_else_has_each_ask_for_itself() {
    let shop = Shop::under("collapse: {maxWait: 1m}\n  cache: {maxMib: 1, maxBodyKib: 16}");
    for call in HTTP {
        for what in ["private", "cookie", "long"] {
            let ask = Ask::get(call, &format!("/{call:?}/{what}"));
            let got = shop.together(std::slice::from_ref(&ask), 10, 9);
            assert!(all_good(&got) && shop.cart.count(&ask.path) == 10, "{what}: {} asked", shop.cart.count(&ask.path));
        }
    }
}

#[test]
fn those_who_differ_in_what_matters_share_nothing() {
    let shop = Shop::under("collapse: {maxWait: 1m}");
    // By a field that the answer varies by they learn it only from the answer.
    for (name, path, waiting, most) in [
        ("authorization", "/a", 18, 2),
        ("cookie", "/c", 18, 2),
        ("x-api-key", "/k", 18, 2),
        ("x-stage", "/vary", 19, 11),
    ] {
        let asks = ["one", "two"].map(|value| Ask::get(Call::Http2, path).with(name, value));
        assert!(all_good(&shop.together(&asks, 10, waiting)), "{name}");
        let count = shop.cart.count(path);
        assert!((2..=most).contains(&count), "{name}: {count} asked");
        let of =
            |value: &str| shop.cart.asked_for(path).iter().filter(|asked| asked.field(name) == Some(value)).count();
        assert!(of("one") >= 1 && of("two") >= 1, "{name}");
    }
}

#[test]
fn the_one_that_asks_may_leave_and_no_more_wait_than_may() {
    let shop = Shop::under("collapse: {maxWait: 1m, maxWaiting: 4}");
    let (path, to) = ("/left", shop.front.outbound());
    shop.gate.store(false, SeqCst);
    let mut first = TcpStream::connect(to).unwrap();
    write!(first, "GET {path} HTTP/1.1\r\nHost: cart\r\n\r\n").unwrap();
    assert!(wait_until(TEN_SECONDS, || shop.cart.count(path) == 1).is_some());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || Ask::get(Call::Http2, path).many(to, 4));
        assert!(wait_until(TEN_SECONDS, || shop.waiting() == 4).is_some(), "{}", shop.front.shown());
        let beyond = scope.spawn(move || Ask::get(Call::Http2, path).one(to));
        assert!(wait_until(TEN_SECONDS, || shop.cart.count(path) == 2).is_some(), "beyond those, each asks for itself");
        drop(first);
        assert!(wait_until(TEN_SECONDS, || shop.cart.count(path) == 3).is_some(), "another one asks in its place");
        shop.gate.store(true, SeqCst);
        assert!(all_good(&waiting.join().unwrap()) && beyond.join().unwrap().status == 200);
    });
    assert_eq!(shop.cart.count(path), 3);
}

#[test]
fn who_reads_slowly_has_nobody_wait_and_who_waits_too_long_asks_for_itself() {
    let body = 900 * 1024;
    let cart = Scripted::start(move |asked| match &*asked.path {
        "/large" => Told::ok().saying(vec![b'a'; body]).after(Duration::from_millis(500)),
        "/hung" if asked.before == 0 => Told::ok().after(Duration::from_secs(20)),
        _ => Told::ok(),
    });
    let front = front(std::slice::from_ref(&cart), "collapse: {maxWait: 4s}");
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(front.outbound()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: cart\r\n\r\n").unwrap();
        assert!(wait_until(TEN_SECONDS, || cart.count(path) == 1).is_some());
        stream
    };
    // It reads nothing at all.
    let _slow = ask("/large");
    let got = Ask::get(Call::Http1, "/large").many(front.outbound(), 5);
    assert!(all_good(&got) && got.iter().all(|got| got.body.len() == body), "all of it came");
    assert!(cart.count("/large") == 1 && got.iter().all(|got| got.took < Duration::from_secs(4)), "{:?}", got[0].took);
    let _hung = ask("/hung");
    let got = Ask::get(Call::Http2, "/hung").one(front.outbound());
    assert!(got.status == 200 && got.took > Duration::from_secs(2) && cart.count("/hung") == 2, "{:?}", got.took);
}
