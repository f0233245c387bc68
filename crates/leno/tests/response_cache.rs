//! Answers that are kept, on live proxies: given again as long as they are good, validated after that, given when nobody
//! answers well, to nobody for whom they are not, and in no more room than there may be; over HTTP/1 and HTTP/2.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::scripted::{Ask, Asked, Got, Scripted, Told, front};
use kit::steered::{Call, Front};

const HTTP: [Call; 2] = [Call::Http1, Call::Http2];
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Answers with what the path says between its last `/` and `:` (as `max-age=60`), a body that says how often it was asked, and
/// what the rest of the path asks for.
fn cart() -> (Scripted, Arc<AtomicBool>) {
    let is_failing = Arc::new(AtomicBool::new(false));
    let failing = is_failing.clone();
    let cart = Scripted::start(move |asked| {
        if failing.load(SeqCst) {
            return Told::status(503);
        }
        let control = asked.path.rsplit('/').next().unwrap().split(':').next().unwrap().replace('+', ", ");
        let told = Told::ok().with("cache-control", &control);
        let tag = "\"one\"";
        match &asked.path {
            path if path.contains("/tag/") && asked.field("if-none-match") == Some(tag) => Told { status: 304, ..told },
            path if path.contains("/tag/") => told.with("etag", tag).saying(said(asked)),
            path if path.contains("/vary/") => told.with("vary", "X-Stage").saying(said(asked)),
            path if path.contains("/own/") => told.with("set-cookie", "a=b").saying(said(asked)),
            path if path.contains("/long/") => told.saying(vec![b'a'; 5000]),
            _ => told.saying(said(asked)),
        }
    });
    (cart, is_failing)
}

fn said(asked: &Asked) -> String {
    format!("{}", asked.before + 1)
}

struct Shop {
    cart: Scripted,
    is_failing: Arc<AtomicBool>,
    front: Front,
}

impl Shop {
    fn under(policy: &str) -> Self {
        let (cart, is_failing) = cart();
        let front = front(std::slice::from_ref(&cart), policy);
        Self { cart, is_failing, front }
    }

    fn get(&self, call: Call, path: &str) -> Got {
        self.ask(&Ask::get(call, path))
    }

    fn ask(&self, ask: &Ask) -> Got {
        ask.one(self.front.outbound())
    }

    fn metric(&self, by: &str) -> f64 {
        self.front.metric(&format!("leno_cache_answers_total{{cluster=\"cart.shop.mesh:80\",by=\"{by}\"}}"))
    }
}

fn body(got: &Got) -> &str {
    std::str::from_utf8(&got.body).unwrap()
}

#[test]
fn what_is_good_is_given_again_with_its_age_and_what_is_not_for_others_is_asked_for_each_time() {
    let shop = Shop::under("cache: {}");
    for call in HTTP {
        let path = format!("/{call:?}/max-age=60");
        let (first, second) = (shop.get(call, &path), shop.get(call, &path));
        assert_eq!((body(&first), body(&second), second.status), ("1", "1", 200));
        assert!(first.field("age").is_none() && second.field("age").is_some(), "{second:?}");
        assert_eq!(second.field("cache-status"), Some("leno; hit"));
        assert_eq!(second.field("cache-control"), Some("max-age=60"));
        let has_it = Ask::get(call, &format!("/tag/{call:?}/max-age=60"));
        shop.ask(&has_it);
        let not_modified = shop.ask(&has_it.clone().with("if-none-match", "W/\"one\""));
        assert_eq!((not_modified.status, body(&not_modified)), (304, ""), "{not_modified:?}");
        for other in ["no-store", "private+max-age=60", "no-cache", "max-age=0", "x"] {
            let path = format!("/{call:?}/{other}");
            assert_eq!((body(&shop.get(call, &path)), body(&shop.get(call, &path))), ("1", "2"), "{other}");
        }
        let own = format!("/own/{call:?}/max-age=60");
        assert_eq!((body(&shop.get(call, &own)), body(&shop.get(call, &own))), ("1", "2"), "a cookie is nobody else's");
        let reload = shop.ask(&Ask::get(call, &path).with("cache-control", "no-cache"));
        assert_eq!(body(&reload), "2", "who wants it new gets it new");
        let only = Ask::get(call, &format!("/{call:?}/only/max-age=60")).with("cache-control", "only-if-cached");
        assert_eq!(shop.ask(&only).status, 504);
        let part = shop.ask(&Ask::get(call, &path).with("range", "bytes=0-0"));
        assert_eq!(body(&part), "3", "parts are asked for");
    }
    assert!(shop.metric("hit") >= 4.0 && shop.metric("miss") >= 20.0);
}

#[test]
fn answers_are_told_apart_by_what_they_vary_by_and_by_who_asked() {
    let shop = Shop::under("cache: {}");
    for call in HTTP {
        let asked = |path: &str, name: &'static str, value: &str| {
            body(&shop.ask(&Ask::get(call, path).with(name, value))).to_owned()
        };
        let vary = format!("/vary/{call:?}/max-age=60");
        let got = ["blue", "green", "blue", "green"].map(|stage| asked(&vary, "x-stage", stage));
        assert_eq!(got, ["1", "2", "1", "2"]);
        let own = format!("/{call:?}/max-age=60");
        let got = ["s=1", "s=2", "s=1"].map(|cookie| asked(&own, "cookie", cookie));
        assert_eq!(got, ["1", "2", "1"], "what does not say that it is for all is for the same cookie alone");
        let all = format!("/all/{call:?}/public+max-age=60");
        assert_eq!(["s=1", "s=2"].map(|cookie| asked(&all, "cookie", cookie)), ["1", "1"]);
        let named = format!("/named/{call:?}/max-age=60");
        assert_eq!(["a", "a"].map(|token| asked(&named, "authorization", token)), ["1", "2"]);
        assert_eq!(["a", "b"].map(|token| asked(&all, "authorization", token)), ["1", "1"]);
    }
}

#[test]
fn what_is_no_longer_good_is_validated_and_what_changes_it_ends_it() {
    let shop = Shop::under("cache: {}");
    for call in HTTP {
        let path = format!("/tag/{call:?}/max-age=0");
        let (first, second) = (shop.get(call, &path), shop.get(call, &path));
        assert_eq!((body(&first), body(&second), second.status), ("1", "1", 200), "{second:?}");
        assert_eq!(second.field("cache-status"), Some("leno; hit; fwd=stale; fwd-status=304"));
        assert_eq!(shop.cart.asked_for(&path)[1].field("if-none-match"), Some("\"one\""));
        let kept = format!("/kept/{call:?}/max-age=60");
        assert_eq!((body(&shop.get(call, &kept)), body(&shop.get(call, &kept))), ("1", "1"));
        shop.ask(&Ask::post(call, &kept));
        assert_eq!(body(&shop.get(call, &kept)), "3", "a POST may have changed it");
    }
    assert_eq!(shop.metric("validated"), 2.0);
}

#[test]
fn what_was_answered_before_stands_in_where_nobody_answers_well() {
    let shop = Shop::under("cache: {}\n  fallback: {lastGood: {maxAge: 1h}, reply: {status: 200, body: none}}");
    for call in HTTP {
        let [plain, strict, own, error] = ["x", "max-age=0+must-revalidate", "private", "max-age=0+stale-if-error=60"]
            .map(|control| format!("/{call:?}/{control}"));
        for path in [&plain, &strict, &own, &error] {
            assert_eq!(body(&shop.get(call, path)), "1");
        }
        shop.is_failing.store(true, SeqCst);
        for path in [&plain, &error] {
            let got = shop.get(call, path);
            assert_eq!(
                (got.status, body(&got), got.field("x-leno-fallback")),
                (200, "1", Some("last-good")),
                "{got:?}"
            );
        }
        for path in [&strict, &own, &format!("/{call:?}/new")] {
            let got = shop.get(call, path);
            assert_eq!((body(&got), got.field("x-leno-fallback")), ("none", Some("reply")), "{path}: {got:?}");
        }
        let got = shop.ask(&Ask::get(call, &plain).with("cookie", "s=1"));
        assert_eq!(body(&got), "none", "what somebody else was answered is not for this one");
        shop.is_failing.store(false, SeqCst);
        assert_eq!(body(&shop.get(call, &plain)), "4", "the service comes first");
    }
    assert_eq!(shop.front.shown()["resilience"]["fallback"]["last_good"], 4);
}

#[test]
fn without_a_fallback_an_answer_stands_in_as_long_as_it_says_itself() {
    let shop = Shop::under("cache: {}");
    for call in HTTP {
        let (error, plain) = (format!("/{call:?}/max-age=0+stale-if-error=60"), format!("/tag/{call:?}/max-age=0"));
        assert_eq!((body(&shop.get(call, &error)), body(&shop.get(call, &plain))), ("1", "1"));
        shop.is_failing.store(true, SeqCst);
        assert_eq!((shop.get(call, &error).status, shop.get(call, &plain).status), (200, 503));
        shop.is_failing.store(false, SeqCst);
    }
}

#[test]
fn whoever_asks_for_whatever_the_cache_takes_no_more_room_than_it_may() {
    let shop = Shop::under("cache: {maxMib: 1, maxBodyKib: 16, maxEntries: 500}");
    for round in 0..10 {
        for at in 0..100 {
            shop.get(Call::Http2, &format!("/long/{round}/{at}/max-age=60"));
        }
        let ask = |at: usize| Ask::get(Call::Http2, "/vary/max-age=60").with("x-stage", &at.to_string());
        (0..20).for_each(|at| drop(shop.ask(&ask(round * 20 + at))));
    }
    let cache = shop.front.shown()["resilience"]["cache"].clone();
    figures(format_args!("cache after 1,200 answers of 5 kB in 1 MiB: {cache}"));
    let (bytes, entries) = (cache["bytes"].as_u64().unwrap(), cache["entries"].as_u64().unwrap());
    assert!(bytes <= 1024 * 1024 && entries <= 500 && cache["evicted"].as_u64().unwrap() >= 500, "{cache}");
    let hit = || {
        shop.get(Call::Http1, "/last/max-age=60");
        body(&shop.get(Call::Http1, "/last/max-age=60")) == "1"
    };
    assert!(wait_until(TEN_SECONDS, hit).is_some(), "what comes last is kept");
}
