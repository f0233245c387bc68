//! Answers that are kept: a request is given what another one like it was answered with, or its own answer is kept.
//!
//! ```text
//! look_up ─► fresh ─► give                          heed (head) ─► Coming (body) ─► Kept ─► shelf, those who wait
//!         ├► stale ─► validate ──► forward ──► 304 ─┘
//!         └► asked for already ─► wait ─► give
//! ```
//!
//! It is done before limits, breaker and faults are asked: what nobody has to do counts against nobody. The key is what was
//! asked for, in the words of the caller, and the rule that it takes: two rules may change a request in two ways.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::caching::{CacheControl, Terms, Verdict, is_not_modified};
use leno_http::{Body, BodyLength, Fields, Method, RequestHead, Response, ResponseHead};
use leno_model::snapshot::{Collapse, FallbackOn, SAFE};
use leno_route::cors::CorsFields;
use tokio::time::Instant;

use super::{Exchange, Plan, ahead};
use crate::answers::{Answers, Flights, Given, Joined, Kept, Lead, Outcome, Varied, fields_to_keep, who};
use crate::failure::Failure;
use crate::filter;
use crate::payload::Payload;
use crate::table::{RuleRef, Target};
use crate::worker::Worker;

/// How a cache says what it did (RFC 9211).
const STATUS_FIELD: &str = "cache-status";
/// A request that has one of these is nobody else's.
const OWN: [&str; 6] = ["range", "if-range", "if-match", "if-unmodified-since", "expect", "upgrade"];
const CONDITIONS: [&str; 2] = ["if-none-match", "if-modified-since"];
/// What tells requests apart that ask at once, beside who asks and what their answer varies by.
const ASKED_WITH: [&str; 3] = ["accept", "accept-encoding", "accept-language"];
/// How the client reached the first proxy, of which answers make links and redirects.
const REACHED_BY: [&str; 2] = ["x-forwarded-proto", "x-forwarded-host"];
/// An answer of these says that the service failed (RFC 5861, section 4).
const FAILED: [u16; 4] = [500, 502, 503, 504];

/// A request whose answer may be kept or shared.
#[derive(Debug)]
pub(super) struct Keeping {
    answers: Arc<Answers>,
    key: Arc<[u8]>,
    /// As it came, before the rule changed it.
    asked: RequestHead,
    /// What was kept.
    before: Option<Arc<Kept>>,
    /// The service is asked whether that is still good.
    is_validating: bool,
    /// It may change what is kept.
    is_unsafe: bool,
    /// Others wait for its answer.
    lead: Option<Lead>,
    coming: Option<Coming>,
}

/// An answer that is kept as it comes.
#[derive(Debug)]
pub(super) struct Coming {
    answers: Arc<Answers>,
    key: Arc<[u8]>,
    status: u16,
    fields: Fields,
    body: Vec<u8>,
    terms: Option<Terms>,
    came: Duration,
    varied: Varied,
    is_for_later: bool,
    lead: Option<Lead>,
}

impl Exchange<'_> {
    /// Whether the request was answered by what is kept or shared; else its answer may be.
    pub(super) async fn look_up(
        &mut self,
        answers: &Arc<Answers>,
        rule: RuleRef<'_>,
        target: &Target,
        cors: Option<&CorsFields>,
    ) -> Result<bool, Failure> {
        let is_upload = !matches!(self.payload, Payload::Empty);
        let (method, has) = (&self.head.method, |name: &&str| self.head.fields.contains(name));
        let is_unsafe = !SAFE.contains(&method.as_str());
        let is_asked = matches!(method, Method::Get | Method::Head) && !is_upload && !OWN.iter().any(has);
        if self.is_grpc || *method == Method::Connect || !(is_asked || is_unsafe && answers.keeps()) {
            return Ok(false);
        }
        let (key, asked) = (self.key_of(rule, target), CacheControl::of_request(&self.head.fields));
        let mut keeping = Keeping {
            answers: answers.clone(),
            key,
            asked: self.head.clone(),
            before: None,
            is_validating: false,
            is_unsafe,
            lead: None,
            coming: None,
        };
        if is_unsafe || asked.no_store {
            self.rare().keeping = is_unsafe.then_some(keeping);
            return Ok(false);
        }
        let (is_get, is_conditional) = (*method == Method::Get, CONDITIONS.iter().any(has));
        if is_get && answers.keeps() {
            keeping.before = answers.shelf.get(&keeping.key, &self.head);
        }
        if let Some((kept, terms)) = keeping.before.as_ref().and_then(|kept| Some((kept, kept.terms?)))
            && answers.terms.cache
        {
            let now = self.worker.now();
            let given = match terms.verdict(&asked, now.saturating_sub(kept.came)) {
                Verdict::Fresh => Some(Given::Hit),
                Verdict::Stale(since) if since <= terms.while_revalidate && !kept.is_to_be_asked(now) => {
                    Some(Given::Stale)
                }
                Verdict::Stale(_) | Verdict::Validate => None,
            };
            if let Some(given) = given {
                let kept = kept.clone();
                self.give(&kept, rule, target, cors, answers, given).await;
                return Ok(true);
            }
        }
        if asked.only_if_cached {
            let head = ResponseHead::new(504).with(STATUS_FIELD, "leno; fwd=request; detail=only-if-cached");
            self.answer(head, Bytes::new(), None).await;
            return Ok(true);
        }
        if let Some(collapse) = answers.terms.collapse.as_ref().filter(|_| !is_conditional && !asked.no_cache) {
            match self.join(&keeping, collapse, rule).await? {
                Ok(lead) => keeping.lead = lead,
                Err(kept) => {
                    self.give(&kept, rule, target, cors, answers, Given::Shared).await;
                    return Ok(true);
                }
            }
        }
        // The conditions that it is asked with are not its own: they come last.
        if let Some(kept) = keeping.before.clone().filter(|_| answers.terms.cache && !is_conditional) {
            keeping.is_validating = self.ask_whether_good(&kept.fields);
        }
        self.rare().keeping = Some(keeping);
        Ok(false)
    }

    /// Has the destination say whether what is kept is still good (RFC 9111, section 4.3.1); whether it can.
    fn ask_whether_good(&mut self, kept: &Fields) -> bool {
        let validators = [("etag", CONDITIONS[0]), ("last-modified", CONDITIONS[1])];
        let mut is_asked = false;
        for (validator, condition) in validators {
            if let Some(value) = kept.get(validator) {
                is_asked |= self.head.fields.set(condition, value);
            }
        }
        is_asked
    }

    /// Waits for the answer to another request like it, if there is one; else it is the one for which others wait.
    async fn join(
        &mut self,
        keeping: &Keeping,
        collapse: &Collapse,
        rule: RuleRef<'_>,
    ) -> Result<Result<Option<Lead>, Arc<Kept>>, Failure> {
        let mut key = Vec::from(self.head.method.as_str());
        key.push(0);
        key.extend_from_slice(&who(&self.head.fields));
        for name in ASKED_WITH {
            key.push(0);
            self.head.fields.get_all(name).for_each(|value| key.extend_from_slice(value));
        }
        key.push(0);
        key.extend_from_slice(&keeping.key);
        let key: Arc<[u8]> = key.into();
        let until = self.worker.now() + collapse.wait_max;
        loop {
            let now = self.worker.now();
            let waiting = match Flights::join(&keeping.answers, &key, collapse, now) {
                Joined::Leads(lead) => return Ok(Ok(Some(lead))),
                Joined::Full => return Ok(Ok(None)),
                Joined::Waits(waiting) => waiting,
            };
            let wait = until.saturating_sub(now);
            let left = self.deadline(rule.rule.request_timeout);
            let most = left.map_or(wait, |(at, _)| wait.min(at.saturating_duration_since(Instant::now())));
            let outcome = match (tokio::time::timeout(most, waiting.outcome()).await, left) {
                (Ok(outcome), _) => outcome,
                (Err(_), Some((_, limit))) if most < wait => return Err(Failure::Timeout(limit)),
                (Err(_), _) => Outcome::Alone,
            };
            match outcome {
                Outcome::Came(kept) if kept.is_for(&self.head) => return Ok(Err(kept)),
                // Somebody has to ask in place of who has left.
                Outcome::Left => {}
                Outcome::Came(_) | Outcome::Alone | Outcome::Open => return Ok(Ok(None)),
            }
        }
    }

    /// What was asked for, and by which rule.
    fn key_of(&self, rule: RuleRef<'_>, target: &Target) -> Arc<[u8]> {
        let origin = &rule.rule.origin;
        let target = rule.targets.iter().position(|one| std::ptr::eq(one, target)).unwrap_or_default();
        let mut key = Vec::with_capacity(128);
        let head = &self.head;
        for part in [head.scheme.as_str(), head.host(), head.path.as_str(), &origin.resource] {
            key.extend_from_slice(part.as_bytes());
            key.push(0);
        }
        for name in REACHED_BY {
            head.fields.get_all(name).for_each(|value| key.extend_from_slice(value));
            key.push(0);
        }
        key.extend_from_slice(&origin.rule.to_be_bytes());
        key.extend_from_slice(&(target as u32).to_be_bytes());
        key.into()
    }

    /// Answers with what is kept.
    pub(super) async fn give(
        &mut self,
        kept: &Kept,
        rule: RuleRef<'_>,
        target: &Target,
        cors: Option<&CorsFields>,
        answers: &Answers,
        given: Given,
    ) {
        answers.count(given);
        let mut head = ResponseHead::new(kept.status);
        head.fields = kept.fields.clone();
        let mut body = if self.head.method == Method::Head { Bytes::new() } else { kept.body.clone() };
        if kept.status == 200 && is_not_modified(&self.head.fields, &kept.fields) {
            head.status = 304;
            head.fields.retain(|name, _| {
                let is = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
                is("content-location") || !name.to_ascii_lowercase().starts_with(b"content-")
            });
            body = Bytes::new();
        }
        if let Some(terms) = kept.terms {
            let age = terms.age + self.worker.now().saturating_sub(kept.came);
            head.fields.set("age", itoa::Buffer::new().format(age.as_secs()));
        }
        head.fields.set(STATUS_FIELD, given.status());
        if given == Given::LastGood {
            head.fields.set(super::stand_in::FALLBACK_FIELD, "last-good");
        }
        filter::change_response(&rule.rule.filters, &mut head);
        filter::change_response(&target.filters, &mut head);
        if let Some(cors) = cors {
            filter::apply_cors(cors, &mut head);
        }
        self.record.sent(body.len() as u64);
        self.answer(head, body, None).await;
    }

    /// Heeds an answer: what was kept is still good, ends, or this one is kept as it comes.
    pub(super) fn heed(&mut self, plan: &Plan<'_>, response: &mut Response) {
        let worker = self.worker;
        let (now, wall) = (worker.now(), worker.shared.clock.wall().0);
        let took = now.saturating_sub(self.asked());
        let Some(keeping) = self.rare.as_mut().and_then(|rare| rare.keeping.as_mut()) else { return };
        if plan.stands_in || response.tunnel.is_some() {
            keeping.go_alone();
            return;
        }
        if keeping.is_unsafe {
            //= rfc9111#section-4.4
            if (200..400).contains(&response.head.status) {
                keeping.answers.shelf.remove(&keeping.key);
            }
            return;
        }
        let was_good = keeping.is_validating && response.head.status == 304;
        if let Some(before) = keeping.before.clone().filter(|_| was_good) {
            response.head.fields = before.freshened(&response.head.fields);
            response.head.status = before.status;
            response.body = Body::full(before.body.clone());
            keeping.answers.count(Given::Validated);
            response.head.fields.set(STATUS_FIELD, Given::Validated.status());
        } else {
            keeping.answers.count(Given::Miss);
            if keeping.answers.terms.cache {
                response.head.fields.set(STATUS_FIELD, Given::Miss.status());
            }
        }
        keeping.begin(worker, response, (now, wall, took));
    }

    /// What was kept, if it may be given though nobody answers well; `most` is how long beyond its time it may be.
    pub(super) fn last_good(&self, failure: &Failure, most: Option<Duration>) -> Option<(Arc<Kept>, Arc<Answers>)> {
        let keeping = self.rare.as_ref()?.keeping.as_ref()?;
        let kept = keeping.before.as_ref()?;
        let terms = kept.terms?;
        let of_its_own = FAILED.contains(&failure.status()) && keeping.answers.terms.cache;
        let most = most.filter(|_| kept.status == 200);
        let most = most.into_iter().chain(of_its_own.then_some(terms.if_error)).max()?;
        let since = self.worker.now().saturating_sub(kept.came);
        terms.stands_in(since, most).then(|| (kept.clone(), keeping.answers.clone()))
    }

    /// Whether what was kept comes in place of an answer of this status, by what it says itself.
    pub(super) fn may_be_last_good(&self, status: u16) -> bool {
        let failure = Failure::Unwanted { cluster: String::new(), status, grpc_status: None, why: FallbackOn::Failed };
        FAILED.contains(&status) && self.last_good(&failure, None).is_some()
    }

    /// Those who wait for its answer ask for themselves.
    pub(super) fn go_alone(&mut self) {
        if let Some(keeping) = self.rare.as_mut().and_then(|rare| rare.keeping.as_mut()) {
            keeping.go_alone();
        }
    }

    /// The request goes to somebody else, who was asked for nothing before.
    pub(super) fn ask_without_conditions(&mut self) {
        let Some(keeping) = self.rare.as_mut().and_then(|rare| rare.keeping.as_mut()) else { return };
        if std::mem::take(&mut keeping.is_validating) {
            for name in CONDITIONS {
                self.head.fields.remove(name);
            }
        }
    }

    /// Where the body of an answer is kept, if it is.
    pub(super) fn take_coming(&mut self) -> Option<Coming> {
        self.rare.as_mut()?.keeping.as_mut()?.coming.take()
    }
}

// === impl Keeping ===

impl Keeping {
    /// Those who wait ask for themselves.
    fn go_alone(&mut self) {
        if let Some(lead) = self.lead.take() {
            lead.land(Outcome::Alone);
        }
    }

    /// Keeps an answer as it comes, if there is anybody for whom it is.
    fn begin(&mut self, worker: &Worker, response: &mut Response, when: (Duration, u64, Duration)) {
        let (request, head, (now, wall, took)) = (&self.asked, &response.head, when);
        let (answers, limits) = (&self.answers, &self.answers.terms);
        let terms = Terms::of(request, head, wall, took);
        let is_of_use = |terms: &Terms| {
            let is_stale = limits.last_good.is_some() && !terms.no_cache;
            limits.cache && terms.is_of_use(&head.fields) || is_stale && head.status == 200
        };
        let is_for_later = answers.keeps() && terms.as_ref().is_some_and(is_of_use);
        let is_too_long = matches!(response.body.length(), BodyLength::Known(length) if length > limits.body_max);
        if (is_too_long || !may_be_shared(head))
            && let Some(lead) = self.lead.take()
        {
            lead.land(Outcome::Alone);
        }
        if is_too_long || !(is_for_later || self.lead.is_some()) {
            // What was kept is no longer what is answered. That a client has it already says nothing of that.
            if self.before.is_some() && head.status < 400 && head.status != 304 {
                answers.shelf.remove(&self.key);
            }
            return;
        }
        let coming = Coming {
            answers: answers.clone(),
            key: self.key.clone(),
            status: head.status,
            fields: fields_to_keep(head),
            body: Vec::new(),
            terms,
            came: now,
            varied: Varied::of(request, head, terms.is_some_and(|terms| terms.is_for_all)),
            is_for_later,
            lead: self.lead.take(),
        };
        match coming.lead.is_some() {
            true => response.body = ahead::read(worker, std::mem::take(&mut response.body), coming),
            false => self.coming = Some(coming),
        }
    }
}

/// Whether others that ask at once may hear it.
fn may_be_shared(head: &ResponseHead) -> bool {
    let told = CacheControl::of(&head.fields);
    let is_own = told.no_store || told.private || told.no_cache;
    let is_part = head.status == 206 || head.status == 304 || head.fields.contains("content-range");
    !is_own && !is_part && !head.fields.contains("set-cookie") && !head.fields.has_token("vary", "*")
}

// === impl Coming ===

impl Coming {
    /// Takes a piece of the body; whether it is kept any longer.
    pub(super) fn take(&mut self, data: &Bytes) -> bool {
        if (self.body.len() + data.len()) as u64 > self.answers.terms.body_max {
            self.give_up();
            return false;
        }
        self.body.extend_from_slice(data);
        true
    }

    /// How long another request waits for it.
    pub(super) fn wait_max(&self) -> Duration {
        self.answers.terms.collapse.map_or(Duration::ZERO, |collapse| collapse.wait_max)
    }

    /// Nobody else hears it.
    pub(super) fn give_up(&mut self) {
        if let Some(lead) = self.lead.take() {
            lead.land(Outcome::Alone);
        }
    }

    /// All of it is there.
    pub(super) fn keep(self) {
        let Self { answers, key, status, fields, body, terms, came, varied, is_for_later, lead } = self;
        let kept = Arc::new(Kept::new(status, fields, body.into_boxed_slice().into(), terms, came, varied));
        if is_for_later {
            answers.shelf.put(&key, kept.clone());
        }
        if let Some(lead) = lead {
            lead.land(Outcome::Came(kept));
        }
    }
}
