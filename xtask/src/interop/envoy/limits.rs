//! A limit on requests that callers keep, and what Envoy makes of it.

use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::json;

use super::{ASK_PERIOD, Driver, Envoy, Origins, TAKE_DEADLINE};
use crate::http::Client;

/// Requests that are let through.
const LET_THROUGH: usize = 5;
/// Refusals after which nothing more is let through.
const REFUSED: usize = 20;

/// Whether Envoy lets through what the policy says and refuses the rest; false where the driver cannot say that.
pub(super) fn judge(envoy: &Envoy, driver: &dyn Driver, origins: &Origins) -> Result<bool> {
    let ports: Vec<u16> = ["a", "b"].iter().filter_map(|name| origins.get(name).copied()).collect();
    let bucket = json!({"requests": LET_THROUGH, "per": "1h"});
    let limits = json!([
        {"name": "own", "at": "caller", "headers": "xRateLimit", "limit": bucket},
        {"name": "higher", "at": "caller", "limit": {"requests": 1000, "per": "1s"}},
    ]);
    if !driver.apply_policy(&ports, json!({"rateLimits": limits}))? {
        return Ok(false);
    }
    let until = Instant::now() + TAKE_DEADLINE;
    let (mut let_through, mut refused) = (0, 0);
    while refused < REFUSED {
        if Instant::now() > until {
            bail!("{let_through} requests were let through and {refused} refused within {TAKE_DEADLINE:?}");
        }
        let answer = Client::connect_to(driver.listen(), "cart")?.get("/x")?;
        // Answers tell of the limit as soon as it is there.
        let of_limit = format!("x-ratelimit-limit: {LET_THROUGH}");
        let is_limited = answer.head.iter().any(|line| line.starts_with(&of_limit));
        match answer.status {
            200 if is_limited => let_through += 1,
            200 => thread::sleep(ASK_PERIOD),
            429 => refused += 1,
            status => bail!("a request was answered {status}"),
        }
    }
    if let_through != LET_THROUGH {
        bail!("{let_through} requests were let through instead of {LET_THROUGH}");
    }
    match envoy.rejected()? {
        0 => Ok(true),
        refused => bail!("it refused {refused} updates"),
    }
}
