//! The calling side: what a proxy asks.

use std::time::Duration;

use leno_http::grpc::{self, Status};
use leno_traffic::allot::{Allotment, Answer};

use super::messages::{AllotRequest, AllotResponse, Ask};
use super::{ALLOT, ASKS_MAX};

/// No server makes a proxy ask more often, or hardly ever.
const EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(30));
/// What a limit may be at most, however wrong an answer is.
const RATE_MAX: f64 = 1e9;
/// No period is longer.
const PERIOD_MAX: Duration = Duration::from_secs(32 * 86_400);

/// Asks a server what may be let through. A clone uses the same connection; give `calls` a timeout.
#[derive(Clone)]
pub struct Client {
    calls: grpc::Client,
    proxy: String,
    incarnation: u64,
}

/// What is asked of a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The service.
    pub service: String,
    /// The limit.
    pub limit: String,
    /// What.
    pub ask: leno_traffic::allot::Ask,
}

/// What came of a question: what may be let through, or why nothing is said of it.
pub type Part = Result<Answer, String>;

// === impl Client ===

impl Client {
    /// Calls by way of `calls`, as this process of a proxy.
    pub fn new(calls: grpc::Client, proxy: String, incarnation: u64) -> Self {
        Self { calls, proxy, incarnation }
    }

    /// Asks; answers each question in its order, and when to ask again.
    pub async fn allot(&self, questions: &[Question]) -> Result<(Vec<Part>, Duration), Status> {
        let (mut parts, mut every) = (Vec::with_capacity(questions.len()), EVERY.0);
        for some in questions.chunks(ASKS_MAX) {
            let asks = some.iter().map(|question| Ask {
                service: question.service.clone(),
                limit: question.limit.clone(),
                wanted: question.ask.wanted,
                holding: question.ask.holding,
            });
            let request =
                AllotRequest { proxy: self.proxy.clone(), incarnation: self.incarnation, asks: asks.collect() };
            let answer: AllotResponse = self.calls.unary(ALLOT, &request).await?;
            every = every.max(Duration::from_millis(answer.every_ms.into())).min(EVERY.1);
            let mut answers = answer.allotments.iter();
            parts.extend(some.iter().map(|_| answers.next().map_or_else(|| Err("no answer".to_owned()), part)));
        }
        Ok((parts, every))
    }
}

fn part(answer: &super::messages::Allotment) -> Part {
    if !answer.refused.is_empty() {
        return Err(answer.refused.clone());
    }
    if answer.ends_ms > 0 {
        let ends_in = Duration::from_millis(answer.ends_ms).min(PERIOD_MAX);
        return Ok(Answer::Quota { requests: answer.requests, period: answer.period, ends_in, left: answer.left });
    }
    // What is no number is nothing.
    let bounded = |number: f64, least: f64| if number > least { number.min(RATE_MAX) } else { least };
    Ok(Answer::Part(Allotment {
        rate: bounded(answer.rate, 0.0),
        burst: bounded(answer.burst, 1.0),
        valid: Duration::from_millis(answer.valid_ms.into()).min(EVERY.1),
        proxies: answer.proxies,
    }))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("open", &self.calls.is_open()).finish_non_exhaustive()
    }
}
