//! Reports on the wire: the gRPC service `leno.mesh.v1.Telemetry`, both ends.
//!
//! One unary call for each report, on the connection that the proxy has to the server anyway. A stream was rejected: a
//! report stands for itself, and a call that fails says so at once. The answer says when the next one is wanted, so that
//! ten thousand proxies report every ten seconds and ten proxies every second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leno_http::grpc::{Call, Client, Router, Status};
use leno_model::seam::Clock;
use leno_telemetry::Registry;
use leno_telemetry::report::{Report, Reporter};

use crate::ingest::{Collector, EVERY, EVERY_MAX, Taken};

/// The path of the call.
pub const REPORT: &str = "/leno.mesh.v1.Telemetry/Report";

/// The server's answer to a report.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReportReply {
    /// The next report is to hold all edges.
    #[prost(bool, tag = "1")]
    pub full: bool,
    /// Milliseconds until the next report; 0 for the reporter's own choice.
    #[prost(uint32, tag = "2")]
    pub every_ms: u32,
}

/// A collector that the server's gRPC side fills and its dashboard reads. The lock is held for one report or query.
pub type Shared = Arc<Mutex<Collector>>;

/// Adds the service to a router. `admit` decides whether the caller may report as the proxy that it names.
pub fn serve(
    router: Router,
    collector: Shared,
    clock: Arc<dyn Clock>,
    admit: impl Fn(&Call, &Report) -> Result<(), Status> + 'static,
) -> Router {
    router.unary(REPORT, async move |call: Call, report: Report| {
        admit(&call, &report)?;
        let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = collector.ingest(clock.monotonic(), &report);
        let every = collector.report_every();
        Ok(ReportReply { full: taken == Taken::Incomplete, every_ms: every.as_millis() as u32 })
    })
}

/// Sends one report and returns when the next one is due. After an error the next report holds all edges.
pub async fn report(
    client: &Client,
    reporter: &mut Reporter,
    registry: &Registry,
    clock: &dyn Clock,
) -> Result<Duration, Status> {
    let report = reporter.report(registry, clock.wall());
    let answer: Result<ReportReply, Status> = client.unary(REPORT, &report).await;
    match answer {
        Ok(reply) => {
            if reply.full {
                reporter.reset();
            }
            let every = if reply.every_ms == 0 { EVERY } else { Duration::from_millis(reply.every_ms.into()) };
            Ok(every.clamp(EVERY / 2, EVERY_MAX))
        }
        Err(status) => {
            reporter.reset();
            Err(status)
        }
    }
}

/// Reports until a call fails, and returns why. The caller connects anew and calls again.
pub async fn report_until_lost(
    client: &Client,
    reporter: &mut Reporter,
    registry: &Registry,
    clock: &dyn Clock,
) -> Status {
    loop {
        match report(client, reporter, registry, clock).await {
            Ok(every) => tokio::time::sleep(every).await,
            Err(status) => return status,
        }
    }
}

#[cfg(test)]
mod tests;
