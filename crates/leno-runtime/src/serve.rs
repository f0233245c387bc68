//! Serving a control listener: accept, serve each connection as a named task, drain.
//!
//! Every control listener (API, dashboard, admin, doors) runs through here, on leno's own HTTP server with the limits of
//! the data plane, and on the control thread.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use leno_http::{Handler, ServerOptions, Spawn, Strikes, serve_connection};
use leno_net::listen::{Accepted, accept_within};
use leno_net::places::Places;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::drain::DrainWatch;
use crate::task;

/// Starts the tasks of leno's HTTP server as named tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NamedTasks;

impl Spawn for NamedTasks {
    fn spawn(&self, task: &'static str, future: std::pin::Pin<Box<dyn Future<Output = ()>>>) {
        drop(task::spawn(task, future));
    }
}

/// How a control listener serves.
pub struct Serve {
    /// The name of its connections' tasks: `api-connection`.
    pub task: &'static str,
    /// Limits and versions of HTTP.
    pub options: Rc<ServerOptions>,
    /// Connections at a time; at that many, new ones wait in the kernel's queue.
    pub connections_max: usize,
    /// The places that its connections take; those that find none are reset.
    pub places: Places,
}

// === impl Serve ===

impl Serve {
    /// With the default limits, 1,024 connections, and places without end.
    pub fn named(task: &'static str) -> Self {
        Self::counting(task, Arc::default())
    }

    /// As [`Serve::named`]; strikes against the limits are counted there.
    pub fn counting(task: &'static str, strikes: Arc<Strikes>) -> Self {
        let options = Rc::new(ServerOptions { strikes, spawn: Rc::new(NamedTasks), ..ServerOptions::default() });
        Serve { task, options, connections_max: 1024, places: Places::default() }
    }

    /// Serves connections to `listener` until the drain starts; those that are open then hold it up until they are done.
    /// `handler` is asked for each connection, and told who opened it.
    pub async fn run<H: Handler>(
        &self,
        listener: TcpListener,
        mut drain: DrainWatch,
        handler: impl Fn(SocketAddr) -> Rc<H>,
    ) {
        let turns = Arc::new(Semaphore::new(self.connections_max));
        loop {
            let next = async {
                // The semaphore is never closed.
                let turn = Arc::clone(&turns).acquire_owned().await.ok();
                (turn, accept_within(&listener, &self.places).await)
            };
            let (turn, Accepted { stream, peer }) = tokio::select! {
                accepted = next => accepted,
                () = drain.draining() => return,
            };
            let (options, handler, watch) = (self.options.clone(), handler(peer), drain.clone());
            drop(task::spawn(self.task, async move {
                let (_turn, _guard) = (turn, watch.guard());
                let serving = serve_connection(stream, Bytes::new(), &options, handler, watch.when_draining());
                let mut watch = watch.clone();
                tokio::select! {
                    served = serving => tracing::debug!(peer = %peer, served = ?served, "connection ended"),
                    () = watch.stopping() => tracing::debug!(peer = %peer, "connection given up"),
                }
            }));
        }
    }
}
