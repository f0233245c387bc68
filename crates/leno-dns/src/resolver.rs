//! Which names are of the mesh, and what is answered for them.
//!
//! `cart.shop.mesh` can only be of the mesh. `cart` and `cart.shop` may be of the mesh or of the world, also with one of
//! the machine's search domains behind them, because C libraries put those there before they ask for what was typed.
//! For such a name the mesh is asked first; while its answer is on the way the world is asked too, so that a server
//! which does not answer delays nobody by more than [`GRACE`].
//!
//! The mesh's answer wins when both have one: whoever names a service like a host of the outside world meant it.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, RecordType};
use leno_model::name::{MESH_SUFFIX, ServiceName};
use leno_telemetry::{Counter, Registry};
use tokio::time::timeout;

use crate::address::{VirtualAddresses, is_virtual};
use crate::message::{self, Packet, Question};
use crate::upstream::{Upstream, UpstreamError};

/// Time for which a query waits until it is known whether a name is of the mesh.
pub const WAIT: Duration = Duration::from_secs(2);
/// Time for which an answer of the world waits for that of the mesh.
pub const GRACE: Duration = Duration::from_millis(250);

/// Whether a name is of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is, and the caller may see it.
    Mesh,
    /// It is not.
    NotMesh,
    /// Not known yet; [`Names::wait`] tells.
    Unknown,
}

/// A verdict on its way.
pub type Verdict<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// Who knows the names of the mesh.
pub trait Names {
    /// What is known now; cheap.
    fn exists(&self, name: &ServiceName) -> Answer;

    /// Waits until it is known. Dropped after [`WAIT`]. Answers [`Answer::Unknown`] when it cannot be known, as when
    /// no server answers.
    fn wait<'a>(&'a self, name: &'a ServiceName) -> Verdict<'a>;
}

/// What a resolver is made for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The namespace of the program: bare names are in it.
    pub namespace: String,
    /// Seconds for which a program may remember a virtual address. Default 60.
    pub ttl: u32,
    /// Whether IPv6 is captured; if not, AAAA is answered with nothing.
    pub ipv6: bool,
}

/// Answers queries.
pub struct Resolver<N> {
    options: Options,
    names: N,
    addresses: Arc<VirtualAddresses>,
    upstream: Upstream,
    counters: Counters,
    /// Failures that were logged; every hundredth is.
    failures: Cell<u64>,
}

struct Counters {
    mesh: Counter,
    absent: Counter,
    outside: Counter,
    failed: Counter,
    refused: Counter,
    silent: Counter,
}

/// What a question is about.
enum Subject {
    /// A virtual address whose name is asked for.
    Reverse(IpAddr),
    /// It may be one of these; `only` says that it can be nothing else.
    Services { names: Vec<ServiceName>, only: bool },
    /// The world.
    Outside,
}

/// What came of asking the mesh.
enum Found {
    Service(ServiceName),
    Nothing,
    Unknown,
}

// === impl Resolver ===

impl<N: Names> Resolver<N> {
    /// A resolver for the program in `options.namespace`.
    pub fn new(
        options: Options,
        names: N,
        addresses: Arc<VirtualAddresses>,
        upstream: Upstream,
        registry: &Registry,
    ) -> Self {
        Self { options, names, addresses, upstream, counters: Counters::new(registry), failures: Cell::new(0) }
    }

    /// The answer to a packet; none for one that gets none.
    pub async fn answer(&self, packet: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = match message::parse(packet) {
            Packet::Silence => {
                self.counters.silent.increment();
                return None;
            }
            Packet::Refused(reply) => {
                self.counters.refused.increment();
                return Some(reply);
            }
            Packet::Query(question) => question,
        };
        let reply = match self.subject(&question) {
            Subject::Reverse(address) => self.reverse(&question, address),
            Subject::Outside => self.outside(packet, &question, tcp).await,
            Subject::Services { names, only: true } => self.mesh_only(&question, &names).await,
            Subject::Services { names, only: false } => self.mesh_or_outside(packet, &question, &names, tcp).await,
        };
        Some(if tcp { reply } else { question.fit_udp(reply) })
    }

    fn subject(&self, question: &Question) -> Subject {
        let below_mesh = question.is_below(MESH_SUFFIX);
        if !question.is_internet() {
            return Subject::Outside;
        }
        if let Some(address) = question.name().parse_arpa_name().ok().map(|net| net.addr())
            && is_virtual(address)
        {
            return Subject::Reverse(address);
        }
        let Some(host) = question.host() else {
            return if below_mesh { Subject::Services { names: Vec::new(), only: true } } else { Subject::Outside };
        };
        let (names, only) = self.spellings(host);
        if names.is_empty() && !below_mesh {
            Subject::Outside
        } else {
            Subject::Services { names, only: only || below_mesh }
        }
    }

    /// The services that a program may mean by `host`, the likeliest first, and whether it can mean nothing else.
    fn spellings(&self, host: &str) -> (Vec<ServiceName>, bool) {
        let search = self.upstream.search().iter();
        let shortened = search.filter_map(|domain| host.strip_suffix(domain.as_str())?.strip_suffix('.'));
        let (mut names, mut only) = (Vec::new(), false);
        for spelling in std::iter::once(host).chain(shortened) {
            only |= spelling.rsplit('.').next() == Some(MESH_SUFFIX);
            if let Some(name) = ServiceName::from_host(spelling, &self.options.namespace)
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        (names, only)
    }

    fn reverse(&self, question: &Question, address: IpAddr) -> Vec<u8> {
        let name = self.addresses.name(address).and_then(|name| Name::from_ascii(name.host() + ".").ok());
        match name {
            Some(name) if question.kind() == RecordType::PTR => {
                self.mesh(question.answer(RData::PTR(PTR(name)), self.options.ttl))
            }
            Some(_) => self.mesh(question.nothing(ResponseCode::NoError)),
            None => self.absent(question),
        }
    }

    async fn mesh_only(&self, question: &Question, names: &[ServiceName]) -> Vec<u8> {
        match timeout(WAIT, self.ask_mesh(names)).await.unwrap_or(Found::Unknown) {
            Found::Service(name) => self.service(question, &name),
            Found::Nothing => self.absent(question),
            Found::Unknown => {
                self.counters.failed.increment();
                question.refuse(ResponseCode::ServFail)
            }
        }
    }

    async fn mesh_or_outside(&self, packet: &[u8], question: &Question, names: &[ServiceName], tcp: bool) -> Vec<u8> {
        match self.known(names) {
            Found::Service(name) => return self.service(question, &name),
            Found::Nothing => return self.outside(packet, question, tcp).await,
            Found::Unknown => {}
        }
        let mesh = std::pin::pin!(timeout(WAIT, self.ask_mesh(names)));
        let outside = std::pin::pin!(self.outside(packet, question, tcp));
        match select(mesh, outside).await {
            Either::Left((Ok(Found::Service(name)), _)) => self.service(question, &name),
            Either::Left((_, outside)) => outside.await,
            Either::Right((reply, mesh)) => {
                // A name that the world knows is likely the world's; one that it does not is worth the whole wait.
                let patience = if message::response_code(&reply) == 0 { GRACE } else { WAIT };
                match timeout(patience, mesh).await {
                    Ok(Ok(Found::Service(name))) => self.service(question, &name),
                    _ => reply,
                }
            }
        }
    }

    /// What is known now.
    fn known(&self, names: &[ServiceName]) -> Found {
        let mut found = Found::Nothing;
        for name in names {
            match self.names.exists(name) {
                Answer::Mesh => return Found::Service(name.clone()),
                Answer::Unknown => found = Found::Unknown,
                Answer::NotMesh => {}
            }
        }
        found
    }

    /// What becomes known: the first that is of the mesh.
    async fn ask_mesh(&self, names: &[ServiceName]) -> Found {
        match self.known(names) {
            Found::Unknown => {}
            found => return found,
        }
        let ask = |name: &ServiceName| {
            let name = name.clone();
            async move { (self.names.wait(&name).await, name) }
        };
        let mut asked: FuturesUnordered<_> = names.iter().map(ask).collect();
        let mut found = Found::Nothing;
        while let Some((answer, name)) = asked.next().await {
            match answer {
                Answer::Mesh => return Found::Service(name),
                Answer::Unknown => found = Found::Unknown,
                Answer::NotMesh => {}
            }
        }
        found
    }

    fn service(&self, question: &Question, name: &ServiceName) -> Vec<u8> {
        let data = match question.kind() {
            // ANY is answered with one record set (RFC 8482).
            RecordType::A | RecordType::ANY => RData::A(A(self.addresses.address(name).v4())),
            RecordType::AAAA if self.options.ipv6 => RData::AAAA(AAAA(self.addresses.address(name).v6())),
            _ => return self.mesh(question.nothing(ResponseCode::NoError)),
        };
        self.mesh(question.answer(data, self.options.ttl))
    }

    async fn outside(&self, packet: &[u8], question: &Question, tcp: bool) -> Vec<u8> {
        match self.upstream.exchange(packet, question.end(), tcp).await {
            Ok(reply) => {
                self.counters.outside.increment();
                reply
            }
            Err(error) => {
                self.counters.failed.increment();
                self.log(&error);
                question.refuse(ResponseCode::ServFail)
            }
        }
    }

    fn mesh(&self, reply: Vec<u8>) -> Vec<u8> {
        self.counters.mesh.increment();
        reply
    }

    fn absent(&self, question: &Question) -> Vec<u8> {
        self.counters.absent.increment();
        question.nothing(ResponseCode::NXDomain)
    }

    /// The first failure and every hundredth: a dead resolver is worth a line, not one for each query.
    fn log(&self, error: &UpstreamError) {
        let failures = self.failures.get();
        self.failures.set(failures + 1);
        if failures.is_multiple_of(100) {
            tracing::warn!(%error, failures = failures + 1, "a DNS query was not answered upstream");
        }
    }
}

impl<N> std::fmt::Debug for Resolver<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("options", &self.options).field("upstream", &self.upstream).finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { namespace: leno_model::name::DEFAULT_NAMESPACE.to_owned(), ttl: 60, ipv6: true }
    }
}

// === impl Counters ===

impl Counters {
    fn new(registry: &Registry) -> Self {
        let of = |answer| {
            registry.counter("leno_dns_queries_total", "DNS queries by what was answered.", &[("answer", answer)])
        };
        Self {
            mesh: of("mesh"),
            absent: of("nxdomain"),
            outside: of("outside"),
            failed: of("failed"),
            refused: of("refused"),
            silent: of("none"),
        }
    }
}

#[cfg(test)]
mod tests;
