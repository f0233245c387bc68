//! A client with rustls of its own: what it offers, believes and keeps is the test's to say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned};

use crate::certificates::{Authority, Pair};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that may yet be changed.
#[derive(Clone)]
pub(crate) struct Client {
    roots: Arc<RootCertStore>,
    identity: Option<Arc<Pair>>,
    alpn: Vec<Vec<u8>>,
    resumption: Option<Arc<AnyName>>,
    /// Made once: sessions go on only under the verifier with which they began.
    config: OnceLock<Arc<ClientConfig>>,
}

/// A connection whose handshake is done, in both directions.
pub(crate) struct Connected {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Keeps sessions and offers them under any name, as no honest client does.
#[derive(Debug, Default)]
pub(crate) struct AnyName {
    tickets: std::sync::Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets.lock().unwrap().pop()
    }
}

impl Client {
    /// Speaks HTTP/1.1 with servers of this authority.
    pub(crate) fn of(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root()).unwrap();
        Self {
            roots: Arc::new(roots),
            identity: None,
            alpn: vec![b"http/1.1".to_vec()],
            resumption: None,
            config: OnceLock::new(),
        }
    }

    pub(crate) fn showing(mut self, pair: &Arc<Pair>) -> Self {
        self.identity = Some(pair.clone());
        self
    }

    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Offers what it has to servers of any name.
    pub(crate) fn resuming_anywhere(mut self) -> Self {
        self.resumption = Some(Arc::default());
        self
    }

    fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_auth_cert(vec![pair.certificate.clone()], pair.private_key()).unwrap(),
        };
        config.alpn_protocols = self.alpn.clone();
        config.resumption = match &self.resumption {
            None => Resumption::disabled(),
            Some(store) => Resumption::store(store.clone()),
        };
        config
    }

    /// Shakes hands. A client of TLS 1.3 is done before its certificate was looked at, which its first read tells.
    pub(crate) fn connect(&self, to: SocketAddr, name: &str) -> Result<Connected, String> {
        let tcp = TcpStream::connect(to).map_err(|error| error.to_string())?;
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let connection =
            ClientConnection::new(self.config.get_or_init(|| Arc::new(self.config())).clone(), server).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        Ok(Connected { stream })
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, to: SocketAddr, name: &str, path: &str) -> Result<Answer, String> {
        self.connect(to, name)?.get(name, path)
    }
}

impl Connected {
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Result<Answer, String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        self.answer()
    }

    pub(crate) fn agreed_protocol(&self) -> Option<&str> {
        self.stream.conn.alpn_protocol().map(|protocol| std::str::from_utf8(protocol).unwrap())
    }

    pub(crate) fn key_exchange(&self) -> NamedGroup {
        self.stream.conn.negotiated_key_exchange_group().unwrap().name()
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub(crate) fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut heard = vec![0; length];
        self.stream.read_exact(&mut heard).unwrap();
        heard
    }

    /// The first byte that comes, unless the connection is closed.
    pub(crate) fn hear_first(&mut self) -> Option<u8> {
        let mut first = [0];
        self.stream.read(&mut first).ok().filter(|read| *read == 1).map(|_| first[0])
    }

    /// GET `/` of `host` in HTTP/2's own bytes, and its status.
    pub(crate) fn get_h2(&mut self, host: &str) -> Option<u8> {
        let mut head = vec![0x82, 0x87, 0x84, 0x41, host.len() as u8];
        head.extend_from_slice(host.as_bytes());
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend([0, 0, head.len() as u8, 1, 0b101, 0, 0, 0, 1]);
        bytes.extend(head);
        self.say(&bytes);
        loop {
            let frame = self.hear(9);
            let payload = self.hear(usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]));
            match frame[3] {
                1 => return payload.first().copied(),
                3 | 7 => return None,
                _ => {}
            }
        }
    }

    fn answer(&mut self) -> Result<Answer, String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).map_err(|error| error.to_string())?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split("\r\n").next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|error| error.to_string())?;
        Ok(Answer { status, head, body: String::from_utf8(body).unwrap() })
    }
}
