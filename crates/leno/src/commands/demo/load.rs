//! The visitors: steady requests to front through a proxy of their own, each answer looked at.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use leno_runtime::task;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::shop::call::{CallError, Ways};

/// Requests a second.
const RATE: u32 = 50;
/// Requests open at a time; at that many none is added.
const OPEN_MAX: usize = 200;
/// Causes of failures that are kept.
const CAUSES_MAX: usize = 5;
/// Latencies that are kept of one measurement.
const LATENCIES_MAX: usize = 100_000;
/// How long answers of a measurement are waited for after its end; each request has a shorter deadline.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What came of requests that were begun within a time.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests with an end.
    pub requests: u64,
    /// Those whose answer was not as it must be.
    pub failures: u64,
    /// Answers of the cart by version: v1, v2.
    pub versions: [u64; 2],
    /// Answers in which payment is possible only later.
    pub later: u64,
    /// What the first failures were.
    pub causes: Vec<String>,
    latencies: Vec<Duration>,
    open: usize,
}

/// The visitors.
pub struct Load {
    ways: Ways,
    total: Rc<RefCell<Tally>>,
    current: RefCell<Rc<RefCell<Tally>>>,
    ended: Notify,
    stopped: Cell<bool>,
}

// === impl Load ===

impl Load {
    /// Visitors whose proxy is here; nobody comes before [`Load::start`].
    pub fn new(outbound: SocketAddr) -> Self {
        Self {
            ways: Ways::by(outbound),
            total: Rc::default(),
            current: RefCell::default(),
            ended: Notify::new(),
            stopped: Cell::new(false),
        }
    }

    /// Asks until it is answered as it must be; requests before that count nowhere.
    pub async fn warm_up(&self) {
        while ask(&self.ways).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Begins to ask, steadily.
    pub fn start(self: &Rc<Self>) {
        let load = self.clone();
        drop(task::spawn("visitors", async move {
            let mut tick = interval(Duration::from_secs(1) / RATE);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !load.stopped.get() {
                tick.tick().await;
                if load.total.borrow().open < OPEN_MAX {
                    drop(task::spawn("visitor", load.clone().visit()));
                }
            }
        }));
    }

    /// No further requests.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    /// Everything since the start that has ended.
    pub fn total(&self) -> Tally {
        self.total.borrow().clone()
    }

    /// What comes of the requests that begin from now on and for so long.
    pub async fn measure(&self, time: Duration) -> Tally {
        let tally = self.begin();
        sleep(time).await;
        self.settle(tally).await
    }

    /// What comes of the requests that begin while `work` is done, and what it comes to.
    pub async fn measure_during<T>(&self, work: impl Future<Output = T>) -> (Tally, T) {
        let tally = self.begin();
        let done = work.await;
        (self.settle(tally).await, done)
    }

    fn begin(&self) -> Rc<RefCell<Tally>> {
        let tally = Rc::<RefCell<Tally>>::default();
        self.current.replace(tally.clone());
        tally
    }

    /// Waits for the answers of what has begun; what begins now is counted elsewhere.
    async fn settle(&self, tally: Rc<RefCell<Tally>>) -> Tally {
        self.begin();
        let all_ended = async {
            while tally.borrow().open > 0 {
                self.ended.notified().await;
            }
        };
        // Every request has a deadline that is shorter; what is open even so has failed.
        let is_late = timeout(SETTLE_MAX, all_ended).await.is_err();
        let mut tally = tally.borrow().clone();
        if is_late {
            tally.failures += tally.open as u64;
            tally.requests += tally.open as u64;
            tally.causes.push("no end to a request".to_owned());
        }
        tally
    }

    async fn visit(self: Rc<Self>) {
        let tallies = [self.total.clone(), self.current.borrow().clone()];
        tallies.iter().for_each(|tally| tally.borrow_mut().open += 1);
        let began = Instant::now();
        let seen = ask(&self.ways).await;
        let took = began.elapsed();
        tallies.iter().for_each(|tally| tally.borrow_mut().record(&seen, took));
        self.ended.notify_waiters();
    }
}

// === impl Tally ===

impl Tally {
    /// The share of the cart's v2 among its answers, in percent.
    pub fn v2_percent(&self) -> f64 {
        percent(self.versions[1], self.versions[0] + self.versions[1])
    }

    /// The share of answers with payment, in percent.
    pub fn payment_percent(&self) -> f64 {
        let answered = self.requests - self.failures;
        percent(answered - self.later, answered)
    }

    /// The share of requests that were answered as they must be, in percent.
    pub fn success_percent(&self) -> f64 {
        percent(self.requests - self.failures, self.requests)
    }

    /// `250 requests, 0 failed, p50 210 ms, p99 330 ms`
    pub fn words(&self) -> String {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)));
        let ms = |latency: Option<&Duration>| latency.map_or(0, Duration::as_millis);
        format!("{} requests, {} failed, p50 {} ms, p99 {} ms", self.requests, self.failures, ms(at(50)), ms(at(99)))
    }

    fn record(&mut self, seen: &Result<Seen, String>, took: Duration) {
        self.open -= 1;
        self.requests += 1;
        if self.latencies.len() < LATENCIES_MAX {
            self.latencies.push(took);
        }
        match seen {
            Ok(seen) => {
                self.versions[usize::from(seen.is_v2)] += 1;
                self.later += u64::from(seen.is_later);
            }
            Err(cause) => {
                self.failures += 1;
                if self.causes.len() < CAUSES_MAX {
                    self.causes.push(cause.clone());
                }
            }
        }
    }
}

/// What a good answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    is_v2: bool,
    is_later: bool,
}

/// One request to front.
async fn ask(ways: &Ways) -> Result<Seen, String> {
    let page = async { ways.out()?.get("front.shop", "/", false).await };
    let page = page.await.map_err(|error: CallError| error.to_string())?;
    see(&page)
}

/// Looks at a page: everything must be there.
fn see(page: &[u8]) -> Result<Seen, String> {
    let wrong = |what: &str| format!("a page with {what}: {}", String::from_utf8_lossy(page));
    let value: Value = serde_json::from_slice(page).map_err(|_| wrong("what is no JSON"))?;
    if value["products"].as_array().is_none_or(Vec::is_empty) {
        return Err(wrong("no products"));
    }
    if value["review"].as_str().is_none_or(str::is_empty) {
        return Err(wrong("no review"));
    }
    if value["cart"]["stock"].as_u64().is_none() {
        return Err(wrong("no stock"));
    }
    let is_v2 = match value["cart"]["version"].as_str() {
        Some("v1") => false,
        Some("v2") => true,
        _ => return Err(wrong("a cart of no known version")),
    };
    match value["cart"]["payment"].as_str() {
        Some("now") => Ok(Seen { is_v2, is_later: false }),
        Some("later") => Ok(Seen { is_v2, is_later: true }),
        _ => Err(wrong("no word about payment")),
    }
}

/// A share in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_good_only_with_everything_on_it() {
        let page = r#"{"products":["teapot"],"review":"Good.","cart":{"version":"v2","stock":6,"payment":"later"}}"#;
        assert_eq!(see(page.as_bytes()), Ok(Seen { is_v2: true, is_later: true }));
        for (from, to) in
            [("[\"teapot\"]", "[]"), ("Good.", ""), ("6", "null"), ("v2", "v3"), ("later", "no"), ("{", "")]
        {
            assert!(see(page.replace(from, to).as_bytes()).is_err(), "{from}");
        }
    }

    #[test]
    fn shares_are_of_what_was_answered() {
        let mut tally = Tally { open: 4, ..Tally::default() };
        let seen = |is_v2, is_later| Ok(Seen { is_v2, is_later });
        for seen in [seen(true, true), seen(true, false), seen(false, false), Err("503".to_owned())] {
            tally.record(&seen, Duration::from_millis(1));
        }
        assert_eq!((tally.open, tally.requests, tally.failures), (0, 4, 1));
        assert_eq!((tally.v2_percent().round(), tally.payment_percent().round()), (67.0, 67.0));
        assert_eq!((tally.success_percent(), percent(1, 0)), (75.0, 0.0));
    }
}
