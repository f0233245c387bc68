//! Hedging: a request that has no answer after a while is sent to another endpoint too, and the first answer wins.
//!
//! ```text
//! first try ──── delay ──┬──────────────► an answer wins ─► the others are dropped, which resets their streams
//!                        └► next try … ─┘ a failure, or an answer that `retry` names, has the next one begin at once
//! ```
//!
//! Each try beside the first comes out of the cluster's retry budget, so that hedges and retries together stay below its
//! share. It takes its request from what is kept: a body that has not come whole, or is too long to be kept, goes up once.
//! Whoever is waited for longer than `delay` in vain has that in its latency; for ejection it says nothing. Only requests
//! that a policy hedges come here, so that the others pay a branch. Everything here is boxed.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use leno_http::{Method, RequestHead, Response};
use leno_model::snapshot::Hedge;
use leno_runtime::SystemRandom;
use leno_traffic::Outcome;
use smallvec::SmallVec;
use tokio::time::{Instant, Sleep};

use super::forward::{Answered, Sending, Tried, Unanswered, Upload, await_head, pick};
use super::overload::is_shed;
use super::retry::Retries;
use super::{Exchange, Plan};
use crate::failure::Failure;
use crate::payload::Payload;

/// The tries that are under way.
struct Race<'p> {
    running: SmallVec<[Running<'p>; 2]>,
    /// How many more there may be.
    left: u32,
}

/// One of them.
struct Running<'p> {
    endpoint: usize,
    began: Duration,
    /// It is one beside the first.
    is_hedge: bool,
    open: leno_traffic::Open,
    sending: Pin<Box<dyn Future<Output = Result<Box<Came>, Unanswered>> + 'p>>,
}

/// What comes of one.
struct Came {
    response: Response,
    /// What is still to be uploaded, or how much was.
    upload: Option<Upload>,
    received: Option<u64>,
}

enum Event {
    Ended(usize, Result<Box<Came>, Unanswered>),
    /// Nothing came for a while.
    Late,
    /// The request's time is over.
    Over,
}

impl<'a> Exchange<'a> {
    /// How this request is hedged, if it is.
    pub(super) fn hedge<'d>(&self, plan: &Plan<'d>) -> Option<&'d Hedge> {
        let hedge = plan.rule.rule.retry.as_ref()?.hedge.as_ref().filter(|_| !plan.stands_in)?;
        let method = &self.head.method;
        let is_named = hedge.methods.iter().any(|own| **own == *method.as_str());
        // A tunnel has one end; who waits to be told to go on is told so by one; a session means one instance.
        let is_bound = plan.bond.as_ref().is_some_and(|bond| bond.named.is_some());
        let is_single = || ["expect", "upgrade"].iter().any(|name| self.head.fields.contains(name));
        (is_named && *method != Method::Connect && !is_bound && !is_single()).then_some(hedge)
    }

    /// Several tries for one; the first was begun at that time.
    pub(super) async fn attempt_hedged<'d>(
        &mut self,
        plan: &Plan<'d>,
        hedge: &Hedge,
        tried: &mut Tried,
        retries: &mut Retries<'d>,
        began: Duration,
    ) -> Result<Answered, Unanswered> {
        let mut race = Race { running: SmallVec::new(), left: hedge.attempts };
        if pick(plan, tried, began).is_none() {
            return Err(Unanswered::nobody(plan.cluster));
        }
        self.run(plan, &mut race, tried, (began, false));
        let mut timer = pin!(tokio::time::sleep(hedge.delay));
        loop {
            let next = race.next(timer.as_mut());
            let event = match plan.deadline {
                None => next.await,
                Some((at, _)) => tokio::time::timeout_at(at, next).await.unwrap_or(Event::Over),
            };
            let (at, came) = match event {
                Event::Ended(at, came) => (at, came),
                Event::Over => return Err(self.over(plan, race, hedge, tried)),
                Event::Late => {
                    self.run_another(plan, &mut race, tried, retries);
                    timer.as_mut().reset(Instant::now() + hedge.delay);
                    continue;
                }
            };
            let ended = race.running.remove(at);
            // It does not win while another is under way, and has nobody asked in its place.
            let is_shed = came.as_ref().is_ok_and(|came| is_shed(&came.response.head, self.is_grpc));
            let is_final = !is_shed && self.is_final(plan, &came);
            if is_shed {
                race.left = 0;
            } else if !is_final {
                // In vain, so that the next one need not wait for its time.
                self.run_another(plan, &mut race, tried, retries);
            }
            bring_last(tried, ended.endpoint);
            if is_final || race.running.is_empty() {
                plan.cluster.resilience.count_answered(ended.is_hedge && came.is_ok());
                self.drop_others(race, hedge);
                return self.came(plan, ended, came, tried);
            }
            if let Ok(answered) = self.came(plan, ended, came, tried) {
                drop(self.settle(plan, tried, answered, true));
            }
        }
    }

    /// Whether nothing better is waited for.
    fn is_final(&self, plan: &Plan<'_>, came: &Result<Box<Came>, Unanswered>) -> bool {
        let retry = plan.rule.rule.retry.as_ref();
        match came {
            Ok(came) => !retry.is_some_and(|retry| self.names_answer(retry, &came.response)),
            Err(unanswered) => unanswered.is_downstream(),
        }
    }

    /// Notes what came of one; `tried` ends with its endpoint.
    fn came(
        &mut self,
        plan: &Plan<'_>,
        ended: Running<'_>,
        came: Result<Box<Came>, Unanswered>,
        tried: &[usize],
    ) -> Result<Answered, Unanswered> {
        let Running { open, began, endpoint, .. } = ended;
        match came {
            Ok(came) => {
                let Came { response, upload, received } = *came;
                self.record.upstream(&plan.cluster.endpoints[endpoint].state.address);
                received.into_iter().for_each(|bytes| self.record.received(bytes));
                Ok(Answered { response, upload, open, began })
            }
            Err(unanswered) => {
                if !unanswered.is_downstream() && !unanswered.is_ours() {
                    let now = self.worker.now();
                    open.finish(now, now.saturating_sub(began), Outcome::Failed);
                    self.unanswered(plan.cluster, tried, began);
                }
                Err(unanswered)
            }
        }
    }

    /// The request's time is over: nobody has answered.
    fn over(&self, plan: &Plan<'_>, race: Race<'_>, hedge: &Hedge, tried: &mut Tried) -> Unanswered {
        let now = self.worker.now();
        for running in &race.running {
            // As when others are dropped: who was asked a moment ago could not answer. The first one had its time.
            let had_its_time = !running.is_hedge || now.saturating_sub(running.began) >= hedge.delay;
            if had_its_time && !plan.is_cut_short() {
                bring_last(tried, running.endpoint);
                self.unanswered(plan.cluster, tried, running.began);
            }
        }
        self.drop_others(race, hedge);
        Unanswered::Failed(Failure::Timeout(plan.deadline.map_or(Duration::ZERO, |(_, limit)| limit)))
    }

    fn drop_others(&self, race: Race<'_>, hedge: &Hedge) {
        let now = self.worker.now();
        for other in race.running {
            // It has taken so long at least; one that was begun a moment ago says nothing.
            let took = now.saturating_sub(other.began);
            if took >= hedge.delay {
                other.open.finish(now, took, Outcome::Answered);
            }
        }
    }

    /// Begins one more, where the request is there whole, another endpoint is, and the budget has one left.
    fn run_another<'p, 'd>(
        &mut self,
        plan: &'p Plan<'d>,
        race: &mut Race<'p>,
        tried: &mut Tried,
        retries: &mut Retries<'d>,
    ) where
        'a: 'p,
    {
        let (hash, among) = plan.bond.as_ref().map_or_else(Default::default, |bond| (bond.hash, bond.among));
        if race.left == 0 || !self.payload.is_held() || tried.len() >= plan.cluster.eligible_among(among) {
            return;
        }
        if !retries.take(self, plan) {
            race.left = 0;
            return;
        }
        let now = self.worker.now();
        let Some(picked) = plan.cluster.pick_among(among, now, &mut SystemRandom, hash, tried) else {
            race.left = 0;
            return;
        };
        race.left -= 1;
        tried.push(picked);
        plan.cluster.resilience.count_hedge();
        self.record.retried();
        self.run(plan, race, tried, (now, true));
    }

    /// Begins one with the endpoint with which `tried` ends.
    fn run<'p>(&mut self, plan: &'p Plan<'_>, race: &mut Race<'p>, tried: &[usize], (began, is_hedge): (Duration, bool))
    where
        'a: 'p,
    {
        let Some(&at) = tried.last() else { return };
        let endpoint = &plan.cluster.endpoints[at];
        self.record.upstream(&endpoint.state.address);
        let sending = Sending { worker: self.worker, plan, endpoint, is_grpc: self.is_grpc, tried: tried.len() };
        let sending = Box::pin(one(sending, self.head.clone(), self.payload.share()));
        let open = endpoint.state.load.open();
        race.running.push(Running { endpoint: at, began, is_hedge, open, sending });
    }
}

// === impl Race ===

impl Race<'_> {
    /// What happens next.
    async fn next(&mut self, mut timer: Pin<&mut Sleep>) -> Event {
        poll_fn(|cx| {
            for (at, running) in self.running.iter_mut().enumerate() {
                if let Poll::Ready(came) = running.sending.as_mut().poll(cx) {
                    return Poll::Ready(Event::Ended(at, came));
                }
            }
            match self.left {
                0 => Poll::Pending,
                _ => timer.as_mut().poll(cx).map(|()| Event::Late),
            }
        })
        .await
    }
}

/// One try, with a head and a body of its own.
async fn one(sending: Sending<'_>, mut head: RequestHead, mut payload: Payload) -> Result<Box<Came>, Unanswered> {
    let (mut answer, mut upload) = sending.send(&mut head, &mut payload).await?;
    let (mut received, mut nobody) = (None, None);
    let waiting = await_head(&mut answer, &mut upload, &mut nobody, &mut received);
    let answered = match sending.plan.rule.rule.try_timeout {
        None => waiting.await,
        Some(limit) => match tokio::time::timeout(limit, waiting).await {
            Ok(answered) => answered,
            Err(_) => return Err(Unanswered::Failed(Failure::TryTimeout(limit))),
        },
    };
    let response = answered.map_err(|cause| sending.broken(&head, &payload, cause))?;
    Ok(Box::new(Came { response, upload, received }))
}

/// Has the tried endpoint stand last, as the one whose answer is looked at.
fn bring_last(tried: &mut Tried, endpoint: usize) {
    if let Some(at) = tried.iter().rposition(|own| *own == endpoint) {
        tried[at..].rotate_left(1);
    }
}
