//! A connection whose destination is known: what does it speak, and who serves it?
//!
//! A declared protocol is believed. Otherwise the first bytes tell, without ever stalling a protocol in which the
//! server speaks first: after [`GRACE`] (at once, when this destination's servers were first before) the endpoint is
//! dialled, and whoever speaks first decides. A connection that was dialled and turns out to be HTTP/1 goes into the
//! pool, where its first request finds it.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leno_http::{Body, Method, Reply, RequestHead, Served, Side, Tunnel, serve_connection};
use leno_model::instance::Protocol;
use leno_net::Stream;
use leno_telemetry::access::Direction;

use crate::exchange::{self, Context};
use crate::failure::Failure;
use crate::lookup::Found;
use crate::opaque::{self, Dialled};
use crate::outbound;
use crate::protocol::{HELLO_MAX, ServerName, Sniffed, server_name, sniff};
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
    pub(crate) downstream: Option<std::net::SocketAddr>,
    pub(crate) to: Where,
}

/// Serves a connection to `destination`; `first` was read from it.
pub(crate) async fn serve(worker: &Rc<Worker>, direction: Direction, destination: Where, stream: Stream, first: Bytes) {
    let known = match &destination {
        Where::Named(known) | Where::Fixed(known) => known.clone(),
        Where::ByAuthority => {
            serve_http(worker, direction, destination, stream, first).await;
            return;
        }
    };
    match known.listener.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            serve_http(worker, direction, destination, stream, first).await;
        }
        Protocol::Tcp => Box::pin(opaque::serve(worker, direction, &known, &known.tcp, stream, first, "")).await,
        Protocol::Tls => Box::pin(serve_tls(worker, direction, &known, stream, first)).await,
        Protocol::Detect => detect(worker, direction, destination, known, stream, first).await,
    }
}

/// Not an async function, because its arguments would have a place in the future for as long as the connection lives.
pub(crate) fn serve_http(
    worker: &Rc<Worker>,
    direction: Direction,
    to: Where,
    stream: Stream,
    first: Bytes,
) -> impl Future<Output = Served> + use<> {
    let downstream = downstream(&stream);
    let handler = Rc::new(Http { worker: worker.clone(), direction, downstream, to });
    let mut drain = worker.shared.drain.clone();
    let drain = async move { drain.draining().await };
    serve_connection(stream, first, &worker.server_options, handler, drain)
}

// === impl Http ===

impl leno_http::Handler for Http {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let context = Context { worker: &self.worker, direction: self.direction, downstream: self.downstream };
        match &self.to {
            Where::Fixed(destination) => exchange::serve(&context, destination, head, body, reply).await,
            Where::Named(first) => match current(&self.worker, self.direction, first).await {
                Ok(destination) => exchange::serve(&context, &destination, head, body, reply).await,
                Err(failure) => exchange::serve_failure(&context, head, reply, failure).await,
            },
            Where::ByAuthority if head.method == Method::Connect => outbound::connect(&context, head, reply).await,
            Where::ByAuthority => {
                let Some(authority) = head.authority.clone().filter(|authority| !authority.is_empty()) else {
                    return exchange::serve_failure(&context, head, reply, Failure::NoHost).await;
                };
                match outbound::by_authority(&self.worker, &authority).await {
                    Ok(destination) => exchange::serve(&context, &destination, head, body, reply).await,
                    Err(failure) => exchange::serve_failure(&context, head, reply, failure).await,
                }
            }
        }
    }
}

/// What a destination has become since the connection was made. One that was not used for long may have been
/// unsubscribed from; while nobody can say, it stays what it was.
async fn current(worker: &Worker, direction: Direction, first: &Arc<Destination>) -> Result<Arc<Destination>, Failure> {
    let name = &first.listener.name;
    match worker.shared.lookup.get(name, worker.now()) {
        Found::Destination(destination) => Ok(destination),
        Found::Absent => Err(Failure::NoService(name.to_string())),
        Found::Unknown if direction == Direction::Gateway => Ok(first.clone()),
        Found::Unknown => match outbound::find(worker, name).await {
            Err(Failure::NotSynced { .. }) => Ok(first.clone()),
            found => found,
        },
    }
}

// === TLS that passes through ===

async fn serve_tls(
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

async fn read_server_name(stream: &Stream, buffer: &mut BytesMut) -> ServerName {
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

/// Finds out what is spoken, and serves it. What only byte streams need is boxed: most connections are HTTP, and wait.
async fn detect(
    worker: &Rc<Worker>,
    direction: Direction,
    to: Where,
    destination: Arc<Destination>,
    stream: Stream,
    first: Bytes,
) {
    let Detected { sniffed, first, dialled } = Box::pin(find_out(worker, &destination, &stream, first)).await;
    match (sniffed, dialled) {
        (Sniffed::Http1 | Sniffed::Http2, dialled) if destination.http.is_some() => {
            // Its endpoint was chosen for the connection; requests choose their own.
            drop(dialled);
            drop(destination);
            serve_http(worker, direction, to, stream, first).await;
        }
        (Sniffed::Tls, dialled) if dialled.is_none() || !destination.tls.is_empty() => {
            // Another endpoint may be the one that the name asks for.
            drop(dialled);
            Box::pin(serve_tls(worker, direction, &destination, stream, first)).await
        }
        (_, Some(dialled)) => {
            Box::pin(opaque::carry(worker, direction, &destination, dialled, stream, first, "")).await
        }
        (_, None) => {
            Box::pin(opaque::serve(worker, direction, &destination, &destination.tcp, stream, first, "")).await
        }
    }
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
        match opaque::dial(worker, destination, &destination.tcp).await {
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
        Ok((stream, first)) => serve(worker, Direction::Outbound, to, stream, first).await,
        // A stream of an HTTP/2 connection: opaque.
        Err(tunnel) => {
            let (Where::Named(destination) | Where::Fixed(destination)) = to else { return };
            let Ok(dialled) = opaque::dial(worker, &destination, &destination.tcp).await else { return };
            let idle = destination.listener.idle_timeout;
            let upstream = Tunnel::from_stream(dialled.stream, Bytes::new(), Side::Upstream, idle);
            // Both ends are gone afterwards, whatever ended it.
            let _ = leno_http::tunnel::join(tunnel, upstream).await;
        }
    }
}

#[cfg(test)]
mod tests;
