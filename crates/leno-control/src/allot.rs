//! Limits that proxies count together, over gRPC: the service `leno.mesh.v1.Limits`, by which a proxy hears what it may let
//! through for the next second.
//!
//! ```text
//! proxy ─ Allot(all limits that are due) ─► Allotments: the resource's numbers, Ledger ─► a part of each, when to ask again
//! ```
//!
//! One message for all limits of a proxy, ten a second while requests come and one while none does. The numbers are those of
//! the resources in force and never those of whoever asks; a limit that no resource says is answered with why, and the others
//! in the message all the same. [`messages`] are written by hand and equal to this:
//!
//! ```proto
//! service Limits {
//!   rpc Allot(AllotRequest) returns (AllotResponse);
//! }
//! ```
//!
//! Quotas go the same way: what a proxy is given of one is counted on disk before it is answered.
//!
//! Bounds: [`ASKS_MAX`] limits in a message, [`PROXY_MAX`] bytes of a proxy's name, and those of [`Ledger`]. Who says that it
//! wants more than it does gets its equal part at most, as long as others want theirs.

pub mod messages;

mod client;
mod quota;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_http::grpc::{Code, Router, Status};
use leno_model::name::ServiceName;
use leno_model::seam::Clock;
use leno_model::snapshot::Rate;
use leno_traffic::allot::{Ask, Ledger, Seen, Terms};

use self::messages::{AllotRequest, AllotResponse, Allotment};
use self::quota::Quotas;
use crate::Control;

pub use client::{Client, Part, Question};
pub use quota::routes;

/// The most limits in one message.
pub const ASKS_MAX: usize = 1_024;
/// The most bytes of a proxy's name.
pub const PROXY_MAX: usize = 256;

const ALLOT: &str = "/leno.mesh.v1.Limits/Allot";
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A limit by its service and its name there.
pub type Limit = (ServiceName, Arc<str>);

/// What the server allots. A handle: clones share the state.
#[derive(Clone)]
pub struct Allotments {
    control: Control,
    clock: Arc<dyn Clock>,
    quotas: Quotas,
    state: Arc<Mutex<State>>,
}

struct State {
    ledger: Ledger<Limit>,
    swept: Duration,
    asks: u64,
}

/// What it has to do, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Limits that proxies hold.
    pub limits: usize,
    /// Proxies that hold them, each once for each limit.
    pub holders: usize,
    /// Questions so far.
    pub asks: u64,
}

// === impl Allotments ===

impl Allotments {
    /// Of a server that starts now.
    pub fn new(control: Control, clock: Arc<dyn Clock>) -> Self {
        let now = clock.monotonic();
        let state = State { ledger: Ledger::new(now), swept: now, asks: 0 };
        let quotas = Quotas::new(control.store().clone());
        Self { control, clock, quotas, state: Arc::new(Mutex::new(state)) }
    }

    /// Adds the service to what a connection serves.
    #[must_use]
    pub fn serve(&self, router: Router) -> Router {
        let all = self.clone();
        router.unary(ALLOT, async move |_, request| all.allot(&request).await)
    }

    /// What it has to do.
    pub fn counts(&self) -> Counts {
        let state = self.state();
        let (limits, holders) = state.ledger.counts();
        Counts { limits, holders, asks: state.asks }
    }

    /// Every limit that proxies hold, by service and name.
    pub fn seen(&self) -> BTreeMap<Limit, Seen<Limit>> {
        let now = self.clock.monotonic();
        self.state().ledger.seen(now).map(|seen| (seen.limit.clone(), seen)).collect()
    }

    async fn allot(&self, request: &AllotRequest) -> Result<AllotResponse, Status> {
        if request.proxy.is_empty() || request.proxy.len() > PROXY_MAX {
            let message =
                format!("proxy: {} bytes (give the name of the proxy, 1 to {PROXY_MAX})", request.proxy.len());
            return Err(Status::new(Code::InvalidArgument, message));
        }
        if request.asks.len() > ASKS_MAX {
            let message = format!("asks: there are {} (give at most {ASKS_MAX} in one call)", request.asks.len());
            return Err(Status::new(Code::InvalidArgument, message));
        }
        for (at, ask) in request.asks.iter().enumerate() {
            let is_number = |number: f64| number.is_finite() && number >= 0.0;
            if !(is_number(ask.wanted) && is_number(ask.holding)) {
                let (wanted, holding) = (ask.wanted, ask.holding);
                let message = format!("asks[{at}]: wants {wanted} and holds {holding} (both are requests a second)");
                return Err(Status::new(Code::InvalidArgument, message));
            }
        }
        let now = self.clock.monotonic();
        // A process that takes over from another is not the one that held something.
        let proxy = format!("{}#{}", request.proxy, request.incarnation);
        let mut allotments = Vec::with_capacity(request.asks.len());
        for ask in &request.asks {
            allotments.push(match self.quota(ask).await {
                Some(granted) => granted,
                None => self.one(now, &proxy, ask),
            });
        }
        let mut state = self.state();
        state.asks += request.asks.len() as u64;
        if now >= state.swept + SWEEP_EVERY {
            state.ledger.sweep(now);
            state.swept = now;
        }
        let every = state.ledger.every().as_millis();
        Ok(AllotResponse { allotments, every_ms: u32::try_from(every).unwrap_or(u32::MAX) })
    }

    /// Some of a quota, if that is what is asked for.
    async fn quota(&self, ask: &messages::Ask) -> Option<Allotment> {
        let service: ServiceName = ask.service.parse().ok()?;
        let (requests, per) = self.control.quota(&service, &ask.limit)?;
        let wanted = Ask { wanted: ask.wanted, holding: ask.holding };
        let limit = (service, ask.limit.as_str().into());
        Some(match self.quotas.give(&limit, requests, per, wanted, self.clock.wall()).await {
            Ok(given) => given,
            Err(error) => refused(format!("the quota cannot be counted: {error} (see the server's log and disk)")),
        })
    }

    fn one(&self, now: Duration, proxy: &str, ask: &messages::Ask) -> Allotment {
        let Ok(service) = ask.service.parse::<ServiceName>() else {
            return refused(format!("service: {:?} is no name of a service (write `cart.shop`)", ask.service));
        };
        let Some(terms) = self.control.shared_limit(&service, &ask.limit) else {
            let fix = "write `shared: {}` in the entry of this name in `rateLimits` of its TrafficPolicy";
            return refused(format!("{service} has no limit {:?} that proxies count together ({fix})", ask.limit));
        };
        let wanted = Ask { wanted: ask.wanted, holding: ask.holding };
        match self.state().ledger.ask(now, &(service, ask.limit.as_str().into()), terms, proxy, wanted) {
            Ok(allotment) => Allotment {
                rate: allotment.rate,
                burst: allotment.burst,
                valid_ms: u32::try_from(allotment.valid.as_millis()).unwrap_or(u32::MAX),
                proxies: allotment.proxies,
                ..Allotment::default()
            },
            Err(full) => refused(format!("{full} (share fewer limits, or with fewer proxies)")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each part is whole between two questions.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(why: String) -> Allotment {
    Allotment { refused: why, ..Allotment::default() }
}

/// The numbers of a limit.
pub(crate) fn terms(rate: Rate, burst: u32, per_proxy: bool) -> Terms {
    let second = rate.per.max(Duration::from_nanos(1)).as_secs_f64();
    Terms { rate: f64::from(rate.requests.max(1)) / second, burst: f64::from(burst.max(1)), per_proxy }
}
