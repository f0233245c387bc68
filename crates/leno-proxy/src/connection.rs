//! A connection whose destination is known: what does it speak, and who serves it?
//!
//! A declared protocol is believed. Otherwise the first bytes tell, without ever stalling a protocol in which the
//! server speaks first: after [`GRACE`] (at once, when this destination's servers were first before) the endpoint is
//! dialled, and whoever speaks first decides. When that is a client that speaks HTTP, the connection to the endpoint is
//! closed unused: it was chosen for opaque bytes, and each request chooses its own, by its route and the pool.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leno_http::{Body, Method, Reply, RequestHead, Scheme, Served, Side, Tunnel, Version, serve_connection};
use leno_model::instance::Protocol;
use leno_net::Stream;
use leno_runtime::drain::WhenDraining;
use leno_telemetry::access::Direction;

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::lookup::Found;
use crate::opaque::{self, Dialled};
use crate::outbound;
use crate::protocol::{HELLO_MAX, ServerName, Sniffed, server_name, sniff};
use crate::secure::Secure;
use crate::table::{Destination, Target};
use crate::worker::{Worker, downstream};

/// How long a client may think before the endpoint is dialled to see whether it speaks first.
const GRACE: Duration = Duration::from_millis(2);
/// How long first bytes may stay too few to tell.
const DECIDE_MAX: Duration = Duration::from_secs(10);

/// Where the requests of an HTTP connection go.
pub(crate) enum Where {
    /// All to one destination, as it stands in the table of each request.
    Named(Arc<Destination>),
    /// All to this one.
    Fixed(Arc<Destination>),
    /// Each by its authority.
    ByAuthority,
}

/// Serves the HTTP requests of one connection.
pub(crate) struct Http {
    pub(crate) worker: Rc<Worker>,
    pub(crate) direction: Direction,
    /// Who calls. Without what else an address of IPv6 has, by which each open connection would be larger.
    pub(crate) downstream: Option<(IpAddr, u16)>,
    pub(crate) to: Where,
    secure: Option<Rc<Secure>>,
    /// Whether it may end as soon as the proxy leaves: HTTP/2 says so at any time (GOAWAY), HTTP/1 only with an answer that
    /// has not begun, and so with the first request that comes after.
    may_leave: Cell<bool>,
    /// Whether anything was asked on it.
    asked: Cell<bool>,
}

/// Ready when a connection shall finish.
struct Leave {
    when: WhenDraining,
    http: Rc<Http>,
}

/// A connection on which HTTP is spoken.
pub(crate) struct HttpConnection {
    worker: Rc<Worker>,
    direction: Direction,
    to: Where,
    stream: Stream,
    first: Bytes,
    /// What was agreed, where TLS ends here.
    secure: Option<Rc<Secure>>,
}

/// Serves a connection that `received` may find to be HTTP. What it takes to find out is boxed and gone by then, so that
/// a connection that waits for its next request is small.
pub(crate) fn serve(received: impl Future<Output = Option<HttpConnection>>) -> impl Future<Output = ()> {
    let received = Box::pin(received);
    async move {
        if let Some(http) = received.await {
            http.serve().await;
        }
    }
}

/// Finds out what is spoken on a connection to `destination`, of which `first` was read already. HTTP is given back; what
/// is not is served here.
pub(crate) async fn receive(
    worker: &Rc<Worker>,
    direction: Direction,
    to: Where,
    stream: Stream,
    first: Bytes,
) -> Option<HttpConnection> {
    let (Where::Named(known) | Where::Fixed(known)) = &to else {
        return Some(HttpConnection { worker: worker.clone(), direction, to, stream, first, secure: None });
    };
    match known.listener.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            return Some(HttpConnection { worker: worker.clone(), direction, to, stream, first, secure: None });
        }
        Protocol::Tcp => opaque::serve(worker, direction, known, &known.tcp, stream, first, "").await,
        Protocol::Tls => serve_tls(worker, direction, known, stream, first).await,
        Protocol::Detect => {
            let known = known.clone();
            return detect(worker, direction, to, known, stream, first).await;
        }
    }
    None
}

// === impl HttpConnection ===

impl HttpConnection {
    /// HTTP in TLS that ends at this gateway.
    pub(crate) fn over_tls(worker: Rc<Worker>, to: Arc<Destination>, stream: Stream, secure: Secure) -> Self {
        let (to, secure) = (Where::Named(to), Some(Rc::new(secure)));
        Self { worker, direction: Direction::Gateway, to, stream, first: Bytes::new(), secure }
    }

    /// Not an async function, because its argument would have a place in the future for as long as the connection lives.
    fn serve(self) -> impl Future<Output = Served> {
        let Self { worker, direction, to, stream, first, secure } = self;
        let options = match &secure {
            Some(secure) => &worker.agreed_options[usize::from(secure.agreed().http2)],
            None => &worker.server_options,
        };
        let (options, when) = (options.clone(), worker.shared.drain.when_draining());
        let (may_leave, asked) = (Cell::new(false), Cell::new(false));
        let downstream = downstream(&stream).map(|client| (client.ip(), client.port()));
        let handler = Rc::new(Http { downstream, worker, direction, to, secure, may_leave, asked });
        let leave = Leave { when, http: handler.clone() };
        serve_connection(stream, first, &options, handler, leave)
    }
}

// === impl Leave, Http ===

impl Future for Leave {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let may_leave = self.http.may_leave.get();
        // Besides the connection and this, each stream that is open holds it.
        let is_idle = self.http.asked.get() && Rc::strong_count(&self.http) <= 2;
        self.when.poll_leaving(cx, may_leave, is_idle)
    }
}

impl leno_http::Handler for Http {
    /// Not an async function: the request goes into its exchange at once, and has no place of its own in the future.
    fn handle(&self, mut head: RequestHead, body: Body, reply: Reply) -> impl Future<Output = ()> {
        self.asked.set(true);
        if head.version == Version::Http2 || self.worker.shared.drain.is_leaving() {
            self.may_leave.set(true);
        }
        if self.direction == Direction::Gateway {
            // Which of them it is the connection says, and not the client.
            head.scheme = if self.secure.is_some() { Scheme::Https } else { Scheme::Http };
        }
        let downstream = self.downstream.map(SocketAddr::from);
        let mut exchange = Exchange::begin(&self.worker, self.direction, downstream, head, body, reply);
        if let Some(secure) = &self.secure {
            exchange.over_tls(secure);
        }
        async move {
            let found = match &self.to {
                Where::Fixed(destination) => Ok(Cow::Borrowed(destination)),
                Where::Named(first) => match current(&self.worker, first) {
                    Some(found) => found.map(Cow::Owned),
                    None => Box::pin(wait_for(&self.worker, self.direction, first)).await.map(Cow::Owned),
                },
                Where::ByAuthority if exchange.head.method == Method::Connect => {
                    return Box::pin(outbound::connect(&self.worker, &mut exchange)).await;
                }
                Where::ByAuthority => match exchange.head.authority.clone().filter(|authority| !authority.is_empty()) {
                    None => Err(Failure::NoHost),
                    Some(authority) => match self.worker.remembered(&authority) {
                        Some(known) => Ok(Cow::Owned(known)),
                        None => Box::pin(outbound::by_authority(&self.worker, &authority)).await.map(Cow::Owned),
                    },
                },
            };
            let destination = match found {
                Ok(destination) => destination,
                Err(failure) => return Box::pin(exchange.refuse(failure)).await,
            };
            if let Some(secure) = &self.secure
                && let Err(failure) = secure.admit(&destination, exchange.head.authority.as_deref())
            {
                return Box::pin(exchange.refuse(failure)).await;
            }
            exchange.serve(&destination).await;
        }
    }
}

/// What a destination has become since the connection was made, if anybody can say at once.
pub(crate) fn current(worker: &Worker, first: &Destination) -> Option<Result<Arc<Destination>, Failure>> {
    let name = &first.listener.name;
    match worker.shared.lookup.get(name, || worker.now()) {
        Found::Destination(destination) => Some(Ok(destination)),
        Found::Absent => Some(Err(Failure::NoService(name.to_string()))),
        Found::Unknown => None,
    }
}

/// What a destination has become that was not used for long, and may have been unsubscribed from. While nobody can say,
/// it stays what it was.
async fn wait_for(
    worker: &Worker,
    direction: Direction,
    first: &Arc<Destination>,
) -> Result<Arc<Destination>, Failure> {
    if direction == Direction::Gateway {
        return Ok(first.clone());
    }
    match outbound::find(worker, &first.listener.name).await {
        Err(Failure::NotSynced { .. }) => Ok(first.clone()),
        found => found,
    }
}

// === TLS that passes through ===

pub(crate) async fn serve_tls(
    worker: &Rc<Worker>,
    direction: Direction,
    destination: &Arc<Destination>,
    stream: Stream,
    first: Bytes,
) {
    let mut buffer = BytesMut::from(&first[..]);
    let name = tokio::time::timeout(DECIDE_MAX, read_server_name(&stream, &mut buffer)).await;
    let name = match name {
        Ok(ServerName::Name(name)) => name,
        _ => String::new(),
    };
    let targets: &[Target] = destination.tls.get(&name).map_or(&destination.tcp, |targets| targets);
    opaque::serve(worker, direction, destination, targets, stream, buffer.freeze(), &name).await;
}

pub(crate) async fn read_server_name(stream: &Stream, buffer: &mut BytesMut) -> ServerName {
    loop {
        match server_name(buffer) {
            ServerName::NeedMore if buffer.len() < HELLO_MAX => {}
            found => return found,
        }
        if !read_more(stream, buffer).await {
            return ServerName::Malformed;
        }
    }
}

// === detection ===

/// What was found out about a connection before it is served.
struct Detected<'d> {
    sniffed: Sniffed,
    /// What was read of it.
    first: Bytes,
    /// An endpoint, where one was dialled to see whether it speaks first.
    dialled: Option<Dialled<'d>>,
}

/// As [`receive`], where nothing is declared.
async fn detect(
    worker: &Rc<Worker>,
    direction: Direction,
    to: Where,
    destination: Arc<Destination>,
    stream: Stream,
    first: Bytes,
) -> Option<HttpConnection> {
    let Detected { sniffed, first, dialled } = find_out(worker, &destination, &stream, first).await;
    match (sniffed, dialled) {
        // Its endpoint, if one was dialled, was chosen for the connection; requests choose their own.
        (Sniffed::Http1 | Sniffed::Http2, _) if destination.http.is_some() => {
            return Some(HttpConnection { worker: worker.clone(), direction, to, stream, first, secure: None });
        }
        // Another endpoint may be the one that the name asks for, and TLS does not go into TLS.
        (Sniffed::Tls, dialled)
            if dialled.as_ref().is_none_or(|dialled| dialled.stream.layer().is_some())
                || !destination.tls.is_empty() =>
        {
            drop(dialled);
            serve_tls(worker, direction, &destination, stream, first).await;
        }
        (_, Some(dialled)) => opaque::carry(worker, direction, &destination, dialled, stream, first, "").await,
        (_, None) => opaque::serve(worker, direction, &destination, &destination.tcp, stream, first, "").await,
    }
    None
}

async fn find_out<'d>(worker: &Worker, destination: &'d Destination, stream: &Stream, first: Bytes) -> Detected<'d> {
    let mut buffer = BytesMut::from(first);
    let mut sniffed = sniff(&buffer);
    if sniffed == Sniffed::NeedMore && !destination.is_server_first() {
        let decided = tokio::time::timeout(GRACE, read_until_decided(stream, &mut buffer)).await;
        sniffed = decided.unwrap_or(Sniffed::NeedMore);
    }
    let mut dialled = None;
    if sniffed == Sniffed::NeedMore {
        match opaque::dial(worker, destination, &destination.tcp, Some(stream), false).await {
            Ok(upstream) => {
                sniffed = who_speaks_first(stream, &mut buffer, &upstream.stream).await;
                destination.set_server_first(sniffed == Sniffed::NeedMore);
                dialled = Some(upstream);
            }
            // HTTP has words for what went wrong, so the client is heard first.
            Err(_) => {
                let decided = tokio::time::timeout(DECIDE_MAX, read_until_decided(stream, &mut buffer)).await;
                sniffed = decided.unwrap_or(Sniffed::Other);
            }
        }
    }
    Detected { sniffed, first: buffer.freeze(), dialled }
}

/// `NeedMore` when the server was first, or nobody said anything that tells in time.
async fn who_speaks_first(client: &Stream, buffer: &mut BytesMut, server: &Stream) -> Sniffed {
    let spoke = async {
        tokio::select! {
            biased;
            sniffed = read_until_decided(client, buffer) => sniffed,
            _ = poll_fn(|cx| server.poll_read_ready(cx)) => Sniffed::NeedMore,
        }
    };
    tokio::time::timeout(DECIDE_MAX, spoke).await.unwrap_or(Sniffed::Other)
}

async fn read_until_decided(stream: &Stream, buffer: &mut BytesMut) -> Sniffed {
    loop {
        let sniffed = sniff(buffer);
        if sniffed != Sniffed::NeedMore {
            return sniffed;
        }
        if !read_more(stream, buffer).await {
            return Sniffed::Other;
        }
    }
}

/// Reads some bytes; false at the end or on an error.
async fn read_more(stream: &Stream, buffer: &mut BytesMut) -> bool {
    buffer.reserve(2048);
    let read = poll_fn(|cx| stream.poll_read(cx, buffer)).await;
    read.is_ok_and(|bytes| bytes > 0)
}

/// A tunnel to whatever `destination` is, after CONNECT.
pub(crate) async fn serve_tunnel(worker: &Rc<Worker>, to: Where, tunnel: Tunnel) {
    match tunnel.into_stream() {
        Ok((stream, first)) => {
            let worker = worker.clone();
            serve(async move { receive(&worker, Direction::Outbound, to, stream, first).await }).await;
        }
        // A stream of an HTTP/2 connection: opaque.
        Err(tunnel) => {
            let (Where::Named(destination) | Where::Fixed(destination)) = to else { return };
            let dialled = opaque::dial(worker, &destination, &destination.tcp, None, false).await;
            let Ok(dialled) = dialled else { return };
            let idle = destination.listener.idle_timeout;
            let upstream = Tunnel::from_stream(dialled.stream, Bytes::new(), Side::Upstream, idle);
            // Both ends are gone afterwards, whatever ended it.
            let _ = leno_http::tunnel::join(tunnel, upstream).await;
        }
    }
}

#[cfg(test)]
mod tests;
