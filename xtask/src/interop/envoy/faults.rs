//! What goes wrong on purpose, and what Envoy makes of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::{ASK_PERIOD, Driver, Envoy, Origins, TAKE_DEADLINE};
use crate::http::Client;

/// How long what is delayed takes at least.
const DELAY: Duration = Duration::from_millis(300);

/// Whether Envoy aborts and delays what matches, and leaves the rest alone; false where the driver cannot say that.
pub(super) fn judge(envoy: &Envoy, driver: &dyn Driver, origins: &Origins) -> Result<bool> {
    let ports: Vec<u16> = ["a", "b"].iter().filter_map(|name| origins.get(name).copied()).collect();
    let at = |path: &str| json!([{"path": {"value": path}, "method": "GET"}]);
    let faults = json!([
        {"name": "aborted", "matches": at("/abort"), "abort": {"grpcStatus": "ABORTED"}},
        {"name": "late", "matches": at("/late"), "delay": {"time": format!("{}ms", DELAY.as_millis())}},
    ]);
    if !driver.apply_policy(&ports, json!({"faults": faults}))? {
        return Ok(false);
    }
    let until = Instant::now() + TAKE_DEADLINE;
    let get = |path: &str| -> Result<(u16, Duration)> {
        let began = Instant::now();
        let status = Client::connect_to(driver.listen(), "cart")?.get(path)?.status;
        Ok((status, began.elapsed()))
    };
    while get("/abort/x?y=z")?.0 != 409 {
        if Instant::now() > until {
            bail!("no request was aborted with the status that says ABORTED within {TAKE_DEADLINE:?}");
        }
        std::thread::sleep(ASK_PERIOD);
    }
    let (status, took) = get("/late")?;
    // Envoy's clock ticks in steps of some milliseconds.
    if status != 200 || took < DELAY * 9 / 10 {
        bail!("what is to be delayed by {DELAY:?} was answered {status} after {took:?}");
    }
    for path in ["/abortive", "/x"] {
        let (status, _) = get(path)?;
        if status != 200 {
            bail!("{path}, which no fault is for, was answered {status}");
        }
    }
    match envoy.rejected()? {
        0 => Ok(true),
        refused => bail!("it refused {refused} updates"),
    }
}
