//! The parts of limits that all proxies count together: asks a server for them as long as the proxy holds such limits, and has
//! them do without one while none answers.

use std::sync::Arc;
use std::time::Duration;

use leno_control::allot::{Client, Question};
use leno_http::grpc::Status;
use leno_model::seam::Clock;
use leno_net::Address;
use leno_proxy::rate_limit::{Holder, SharedLimits};
use leno_runtime::task;
use leno_traffic::allot::VALID;
use leno_xds::node::NodeInfo;

use super::{control_plane, server_address};
use crate::args::ProxyArgs;

/// Who has not answered by then is asked again: half of what an allotment lasts.
const ANSWER_TIMEOUT: Duration = VALID.checked_div(2).expect("two is not zero");
/// The first wait between two attempts to reach a server, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Keeps them for as long as the proxy runs.
pub(super) fn keep(args: &ProxyArgs, node: &NodeInfo, limits: Arc<SharedLimits>, clock: Arc<dyn Clock>) {
    // Files that are there come from no server, and so does nothing that is shared.
    let servers = args.enrol.servers.iter().filter(|_| args.resources.is_none());
    let servers: Vec<Address> = servers.filter_map(|server| server_address(server).ok()).collect();
    let (proxy, incarnation) = (node.id.clone(), clock.wall().0);
    let mut holder = Holder::new(limits, clock);
    drop(task::spawn("shared-limits", async move {
        let (mut attempt, mut wait) = (0, RETRY.0);
        loop {
            holder.needed().await;
            let connected = tokio::select! {
                connected = control_plane::connect(&servers, attempt) => connected,
                () = holder.without_a_server() => None,
            };
            if let Some(calls) = connected {
                let client = Client::new(calls.with_timeout(ANSWER_TIMEOUT), proxy.clone(), incarnation);
                match ask_until_lost(&client, &mut holder, &mut wait).await {
                    None => continue,
                    Some(status) => tracing::debug!(error = %status, "shared limits are on their own"),
                }
            }
            holder.lost();
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = holder.without_a_server() => {}
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }));
}

/// Asks one server until a call fails; none when nothing is left to ask for.
async fn ask_until_lost(client: &Client, holder: &mut Holder, wait: &mut Duration) -> Option<Status> {
    loop {
        let asked = holder.question().await;
        if asked.is_empty() {
            return None;
        }
        let questions: Vec<Question> = asked
            .into_iter()
            .map(|asked| Question { service: asked.service.to_string(), limit: asked.name.to_string(), ask: asked.ask })
            .collect();
        let (parts, every) = match client.allot(&questions).await {
            Ok(answer) => answer,
            Err(status) => return Some(status),
        };
        for (question, why) in
            questions.iter().zip(&parts).filter_map(|(question, part)| Some((question, part.as_ref().err()?)))
        {
            tracing::debug!(service = question.service, limit = question.limit, why, "limit not shared");
        }
        holder.answered(parts.into_iter().map(Result::ok), every);
        *wait = RETRY.0;
    }
}
