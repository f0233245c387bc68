//! From the world to the application: one listener for each port that the application declared.
//!
//! An inbound port leads to one address, known without the control plane; everything else (protocols, limits, records)
//! is what every connection gets.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_net::{Address, Stream};
use leno_telemetry::access::Direction;
use leno_telemetry::edge::{Peer, Reporter};
use leno_telemetry::{EdgeKey, Registry};

use crate::cluster::{Edges, EndpointState};
use crate::connection::{self, HttpConnection, Where};
use crate::outbound;
use crate::table::Destination;
use crate::worker::Worker;

/// Where the application listens for one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The service it belongs to.
    pub service: Option<ServiceName>,
    /// The declared port.
    pub port: u16,
    /// Where it listens: TCP or a Unix socket.
    pub address: Address,
    /// What it speaks.
    pub protocol: Protocol,
}

// === impl Application ===

impl Application {
    /// The destination that an inbound port leads to.
    pub fn destination(&self, metrics: &Registry) -> Destination {
        let key = EdgeKey {
            reporter: Reporter::Destination,
            destination: Peer::from(self.service.clone()),
            ..EdgeKey::default()
        };
        let name = match &self.service {
            Some(service) => format!("{}:{}", service.host(), self.port),
            None => format!("application:{}", self.port),
        };
        let shown = self.address.tcp().unwrap_or(SocketAddr::from(([127, 0, 0, 1], self.port)));
        let state = EndpointState::application(self.address.clone());
        let (endpoints, edges) = (vec![(shown, state)], Edges::new(metrics, &key));
        outbound::local(name.into(), self.service.clone(), shown.port(), endpoints, self.protocol, edges)
    }
}

/// Receives a connection to an inbound port.
pub(crate) async fn receive(
    worker: Rc<Worker>,
    application: Arc<Destination>,
    stream: Stream,
) -> Option<HttpConnection> {
    connection::receive(&worker, Direction::Inbound, Where::Fixed(application), stream, Bytes::new()).await
}
