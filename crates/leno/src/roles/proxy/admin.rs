//! The listeners that the control thread serves: admin and metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use leno_proxy::{Commands, Shared};
use leno_runtime::admin::{Admin, Answer, PUBLIC_PATHS};
use leno_runtime::guard::{Guard, GuardOptions, Hosts};
use leno_runtime::{Drain, Ready, task};
use leno_telemetry::Registry;
use leno_telemetry::log::LogLevel;
use leno_tls::Holder;

use super::listeners::port_hint;
use crate::args::ProxyArgs;
use crate::settings::Setting;

/// What a listener of the control thread needs.
#[derive(Clone, Copy)]
pub(super) struct Control<'a> {
    pub(super) commands: &'a Commands,
    pub(super) drain: &'a Drain,
}

/// What only the admin listener shows.
pub(super) struct Shown {
    pub(super) settings: Vec<Setting>,
    pub(super) log_level: LogLevel,
    pub(super) certificates: Arc<Holder>,
}

/// Opens both.
pub(super) fn open(
    args: &ProxyArgs,
    control: Control<'_>,
    shared: &Arc<Shared>,
    metrics: &Arc<Registry>,
    ready: &Ready,
    shown: Shown,
) -> anyhow::Result<()> {
    let Shown { settings, log_level, certificates } = shown;
    if let Some(address) = args.metrics_listen.address() {
        let metrics = metrics.clone();
        let admin = Admin::new(guard(shared, Hosts::any()), ready.clone()).metrics(move || metrics.render());
        serve_admin("metrics", address, admin, control)?;
    }
    let Some(address) = args.admin_listen.address() else { return Ok(()) };
    let (table, endpoints, limits) = (shared.clone(), shared.clone(), shared.clone());
    let (rate_limits, overload, faults) = (shared.clone(), shared.clone(), shared.clone());
    let strain = shared.strain.clone();
    let (level, levels) = (log_level.clone(), log_level);
    let metrics = metrics.clone();
    let admin = Admin::new(guard(shared, Hosts::loopback()), ready.clone())
        .metrics(move || metrics.render())
        .get("/table", "the table in force: where each name leads", move |_| {
            let answer = Answer::json(&leno_proxy::table::describe(&table.lookup.table()));
            async move { answer }
        })
        .get("/endpoints", "every endpoint with its open requests and latency", move |_| {
            let now = endpoints.clock.monotonic();
            let answer = Answer::json(&leno_proxy::cluster::describe(&endpoints.lookup.table(), now));
            async move { answer }
        })
        .get("/rate-limits", "every limit on requests that is in force here, and what it has counted", move |_| {
            let now = rate_limits.clock.monotonic();
            let answer = Answer::json(&leno_proxy::rate_limit::describe(&rate_limits.lookup.table(), now));
            async move { answer }
        })
        .get("/faults", "everything that goes wrong on purpose here, and how often it did", move |_| {
            let answer = Answer::json(&leno_proxy::injection::describe(&faults.lookup.table()));
            async move { answer }
        })
        .get(
            "/overload",
            "how much the application beside the proxy is found to take at once, and what was shed",
            move |_| {
                let answer = Answer::json(&leno_proxy::overload::describe(&overload.lookup.table()));
                async move { answer }
            },
        )
        .get("/pressure", "how much memory the proxy holds of what it may, and what it does about it", move |_| {
            let answer = Answer::json(&leno_proxy::pressure::describe(&strain));
            async move { answer }
        })
        .get(
            "/certificates",
            "every certificate and bundle of roots that is referred to, and until when it holds",
            move |_| {
                let answer = Answer::json(&serde_json::json!(certificates.statuses()));
                async move { answer }
            },
        )
        .get("/limits", "every limit that --limit changes, with what it is", move |_| {
            let named = leno_http::limits::NAMED.iter();
            let values: serde_json::Map<_, _> =
                named.map(|limit| (limit.name.to_owned(), limit.value(&limits.limits).into())).collect();
            let answer = Answer::json(&values.into());
            async move { answer }
        })
        .get("/settings", "each setting with where its value came from", move |_| {
            let answer = Answer::json(&serde_json::json!(settings));
            async move { answer }
        })
        .get("/log-level", "the log filter in force", move |_| {
            let filter = level.get();
            async move { Answer::text(filter + "\n") }
        })
        .put("/log-level", "sets the log filter to the body", move |request| {
            let wanted = String::from_utf8_lossy(&request.body).trim().to_owned();
            let answer = match levels.set(&wanted) {
                Ok(()) => Answer::text(format!("{wanted}\n")),
                Err(error) => Answer { status: 400, ..Answer::text(format!("{error}\n")) },
            };
            async move { answer }
        });
    serve_admin("admin", address, admin, control)
}

fn guard(shared: &Shared, hosts: Hosts) -> Arc<Guard> {
    let public = PUBLIC_PATHS.iter().map(|path| (*path).to_owned()).collect();
    Arc::new(Guard::new(GuardOptions { tokens: None, hosts, public, audit: None, clock: shared.clock.clone() }))
}

fn serve_admin(name: &'static str, address: SocketAddr, admin: Admin, control: Control<'_>) -> anyhow::Result<()> {
    let socket = control.commands.control(name, address).with_context(|| port_hint(name))?;
    let listener = leno_net::listen::attach(socket)?;
    tracing::info!(address = %listener.local_addr()?, listener = name, "listening");
    // Readiness and metrics are asked for while the proxy drains: their drain starts only when another process answers.
    let (begun, drain) = (control.commands.begun(), control.drain.watch());
    drop(task::spawn(name, async move {
        begun.await;
        admin.serve(listener, drain).await;
    }));
    Ok(())
}
