//! A switch, and what Envoy answers while it is on.

use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::json;

use super::{ASK_PERIOD, Driver, Envoy, Origins, TAKE_DEADLINE};
use crate::http::{Answer, Client};

const BODY: &str = "[]";

/// Whether Envoy answers for the service while the switch is on, and not before and after; false where the driver cannot say
/// that.
pub(super) fn judge(envoy: &Envoy, driver: &dyn Driver, origins: &Origins) -> Result<bool> {
    let ports: Vec<u16> = ["a", "b"].iter().filter_map(|name| origins.get(name).copied()).collect();
    if !driver.apply_policy(&ports, json!({}))? {
        return Ok(false);
    }
    for on in [false, true, false] {
        driver.apply_switch(on, json!({"status": 200, "contentType": "application/json", "body": BODY}))?;
        let until = Instant::now() + TAKE_DEADLINE;
        loop {
            let answer = Client::connect_to(driver.listen(), "cart")?.get("/x")?;
            if is_degraded(&answer) == on && answer.status == 200 {
                break;
            }
            if Instant::now() > until {
                bail!("with the switch {on} a request was answered {} {:?}", answer.status, answer.head);
            }
            thread::sleep(ASK_PERIOD);
        }
    }
    match envoy.rejected()? {
        0 => Ok(true),
        refused => bail!("it refused {refused} updates"),
    }
}

fn is_degraded(answer: &Answer) -> bool {
    answer.body == BODY.as_bytes() && answer.head.iter().any(|line| line == "content-type: application/json")
}
