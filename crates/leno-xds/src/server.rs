//! The server: one session per stream, driven by its requests, by the provider's changes and by time.
//!
//! Everything belongs to the control thread. A stream takes what its session gives and waits while its client does not
//! take it; meanwhile the session sends nothing and so queues nothing. Who takes nothing for
//! [`ServerOptions::write_max`], or answers nothing for [`ServerOptions::answer_max`], is disconnected.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_http::grpc::{Call, Code, Router, Sender, Status, Streaming};
use leno_model::seam::Clock;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::delta::DeltaSession;
use crate::messages::core::Node;
use crate::messages::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use crate::node::NodeInfo;
use crate::provide::Provide;
use crate::session::{Bounds, Now, Protocol};
use crate::sotw::SotwSession;
use crate::status::{StatusTable, Subscriber};
use crate::transport::{DELTA_PATH, Reader, SOTW_PATH};

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What one subscriber may cost.
    pub bounds: Bounds,
    /// Streams served at a time. Default 20,000; more are refused with RESOURCE_EXHAUSTED.
    pub streams_max: usize,
    /// How long a client may take nothing. Default 10 s.
    pub write_max: Duration,
    /// How long a client may leave a message unanswered. Default 60 s.
    pub answer_max: Duration,
    /// How long after it has been opened a stream must say something. Default 10 s.
    pub first_max: Duration,
}

/// Serves xDS to whoever connects.
pub struct Server {
    provide: Rc<dyn Provide>,
    status: StatusTable,
    clock: Arc<dyn Clock>,
    options: ServerOptions,
    stopping: watch::Sender<bool>,
}

// === impl ServerOptions ===

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            streams_max: 20_000,
            write_max: Duration::from_secs(10),
            answer_max: Duration::from_secs(60),
            first_max: Duration::from_secs(10),
        }
    }
}

// === impl Server ===

impl Server {
    /// A server of what `provide` has, that writes down in `status` how subscribers stand.
    pub fn new(
        provide: Rc<dyn Provide>,
        status: StatusTable,
        clock: Arc<dyn Clock>,
        options: ServerOptions,
    ) -> Rc<Self> {
        Rc::new(Self { provide, status, clock, options, stopping: watch::Sender::new(false) })
    }

    /// Adds the methods of ADS to a router; `peer` is where its connection comes from, if the router is for one. The
    /// listener's limits are [`crate::transport::limits`].
    pub fn routes(self: &Rc<Self>, router: Router, peer: Option<String>) -> Router {
        let (delta, sotw) = (self.clone(), self.clone());
        let (delta_peer, sotw_peer) = (peer.clone().unwrap_or_default(), peer.unwrap_or_default());
        router
            .bidi(DELTA_PATH, async move |_: Call, requests, responses: &mut Sender<DeltaDiscoveryResponse>| {
                delta.serve::<DeltaSession>(&delta_peer, requests, responses).await
            })
            .bidi(SOTW_PATH, async move |_: Call, requests, responses: &mut Sender<DiscoveryResponse>| {
                sotw.serve::<SotwSession>(&sotw_peer, requests, responses).await
            })
    }

    /// Ends every stream, now and from now on, so that clients go to another server.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Serves a stream: admit, meet, then step, send, describe and wait, until either end has enough.
    async fn serve<P: Open>(
        &self,
        peer: &str,
        requests: Streaming<P::Request>,
        responses: &mut Sender<P::Response>,
    ) -> Result<(), Status> {
        if self.status.len() >= self.options.streams_max {
            let message = format!("{} streams are served already", self.options.streams_max);
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        let mut requests = Reader::new(requests);
        let Some((node, first)) = self.meet::<P>(&mut requests).await? else { return Ok(()) };
        let mut session = P::open(node.clone(), self.options.bounds);
        let row = self.status.join(Subscriber::new(node, peer.to_owned(), self.clock.wall()));
        let mut changes = self.provide.changes();
        let mut stopping = self.stopping.subscribe();
        let mut request = Some(first);
        loop {
            changes.borrow_and_update();
            let now = self.now();
            for response in session.step(now, request.take(), &*self.provide) {
                self.send(&response, responses).await?;
            }
            row.update(|row| {
                session.session().describe(row);
                row.look(now.wall);
            });
            let overdue_at = session.session().unanswered_since().map(|since| since + self.options.answer_max);
            if overdue_at.is_some_and(|at| at <= now.monotonic) {
                let message = format!("no answer to a message for {} s", self.options.answer_max.as_secs());
                return Err(Status::new(Code::DeadlineExceeded, message));
            }
            let wake_at = [session.session().wake_at(), overdue_at].into_iter().flatten().min();
            tokio::select! {
                message = requests.next() => match message? {
                    Some(message) => request = Some(message),
                    None => return Ok(()),
                },
                changed = changes.changed() => if changed.is_err() {
                    return Err(Status::new(Code::Unavailable, "the server is stopping"));
                },
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Err(Status::new(Code::Unavailable, "the server is stopping"));
                }
                () = self.sleep_until(wake_at) => {}
            }
        }
    }

    /// Waits for the first request and reads who asks; none if the client went.
    async fn meet<P: Open>(&self, requests: &mut Reader<P::Request>) -> Result<Option<(NodeInfo, P::Request)>, Status> {
        let silent = |_| Status::new(Code::DeadlineExceeded, "the stream was opened and nothing was asked");
        let Some(first) = timeout(self.options.first_max, requests.next()).await.map_err(silent)?? else {
            return Ok(None);
        };
        let node = P::node(&first).filter(|node| !node.id.is_empty());
        let node = node.ok_or_else(|| Status::new(Code::InvalidArgument, "the first request has no node.id"))?;
        Ok(Some((NodeInfo::from_message(node), first)))
    }

    async fn send<M: Message>(&self, message: &M, to: &mut Sender<M>) -> Result<(), Status> {
        let slow = |_| {
            let message = format!("nothing was taken for {} s", self.options.write_max.as_secs());
            Status::new(Code::DeadlineExceeded, message)
        };
        timeout(self.options.write_max, to.send(message)).await.map_err(slow)?
    }

    async fn sleep_until(&self, at: Option<Duration>) {
        match at {
            Some(at) => sleep(at.saturating_sub(self.clock.monotonic())).await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall: self.clock.wall() }
    }
}

/// A protocol whose sessions a stream's first request opens.
trait Open: Protocol<Request: Message + Default + 'static, Response: Message> {
    fn open(node: NodeInfo, bounds: Bounds) -> Self;
    fn node(request: &Self::Request) -> Option<&Node>;
}

impl Open for DeltaSession {
    fn open(node: NodeInfo, bounds: Bounds) -> Self {
        Self::new(node, bounds)
    }

    fn node(request: &DeltaDiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }
}

impl Open for SotwSession {
    fn open(node: NodeInfo, bounds: Bounds) -> Self {
        Self::new(node, bounds)
    }

    fn node(request: &DiscoveryRequest) -> Option<&Node> {
        request.node.as_ref()
    }
}
