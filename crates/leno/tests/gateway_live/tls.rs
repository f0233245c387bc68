//! TLS on both sides of a gateway, with rustls of its own: the certificates of the suite, made anew for each run, clients
//! that show one and services that have one.
//!
//! A connection is given as its end in clear; what is written there comes out of TLS at the other side.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use leno_runtime::task;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Signs what gateways and services show.
const SERVERS: &str = "tls-checks-ca-certificate";
/// Bundles of roots, and the certificates of clients that they sign.
const CLIENTS: [(&str, &str); 2] = [
    ("tls-validity-checks-ca-certificate", "tls-validity-checks-client-certificate"),
    ("tls-validity-checks-per-port-ca-certificate", "tls-validity-checks-per-port-client-certificate"),
];
/// What gateways show, and for which names.
const GATEWAYS: [(&str, &[&str]); 2] =
    [("tls-validity-checks-certificate", &VALIDITY), ("tls-terminate-checks-certificate", &["tls.example.com"])];
/// The suite has `*` and `*.org` here, which clients other than its own believe nobody.
const VALIDITY: [&str; 6] =
    ["example.org", "second-example.org", "unknown-example.org", "https-listener.org", "*.wildcard.org", "*.test.com"];
/// What services show.
const SERVICES: [&str; 2] = ["abc.example.com", "other.example.com"];
const SERVICE_IDENTITY: &str = "spiffe://abc.example.com/test-identity";

/// Who speaks TLS, and with which certificates.
pub(crate) struct Tls {
    roots: Arc<RootCertStore>,
    clients: BTreeMap<&'static str, (Certificate, KeyPair)>,
    service: Arc<ServerConfig>,
}

/// What a client asks for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The server, by its name.
    pub(crate) name: &'a str,
    /// The certificate that it shows.
    pub(crate) certificate: Option<&'a str>,
    /// What is to be spoken inside; nothing for bytes.
    pub(crate) protocol: Option<&'static [u8]>,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Takes a certificate of its roots for any name: which one passes through is not the gateway's choice.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

/// A socket as rustls reads and writes it.
struct Socket<'s>(&'s TcpStream);

// === impl Tls ===

impl Tls {
    /// Makes every certificate, and puts into `directory` what gateways read.
    pub(crate) fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        let servers = authority(SERVERS);
        for (name, names) in GATEWAYS {
            let (certificate, key) = issue(&servers, names, &[]);
            write(&format!("{name}.crt"), &certificate.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
        let mut clients = BTreeMap::new();
        for (bundle, name) in CLIENTS {
            let authority = authority(bundle);
            write(&format!("{bundle}.ca.crt"), &authority.pem());
            clients.insert(name, issue(&authority, &["client"], &[]));
        }
        write(&format!("{SERVERS}.ca.crt"), &servers.pem());
        write("mismatch-ca-certificate.ca.crt", &authority("mismatch-ca-certificate").pem());
        for name in ["malformed-certificate.crt", "malformed-certificate.key", "malformed-ca-certificate.ca.crt"] {
            write(name, "Hello world\n");
        }
        let mut roots = RootCertStore::empty();
        roots.add(servers.der().clone()).unwrap();
        let (certificate, key) = issue(&servers, &SERVICES, &[SERVICE_IDENTITY]);
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut service =
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private_key(&key)).unwrap();
        service.alpn_protocols = HTTP.map(<[u8]>::to_vec).to_vec();
        Self { roots: Arc::new(roots), clients, service: Arc::new(service) }
    }

    /// Shakes hands as a client.
    pub(crate) async fn connect(&self, socket: TcpStream, asked: &Asked<'_>) -> Result<UnixStream, String> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = match asked.protocol {
            Some(_) => builder.with_root_certificates(self.roots.clone()),
            None => {
                let inner = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider()).build();
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(inner.unwrap())))
            }
        };
        let mut config = match asked.certificate.map(|name| &self.clients[name]) {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.der().clone()], private_key(key)).unwrap()
            }
        };
        config.alpn_protocols = asked.protocol.map(<[u8]>::to_vec).into_iter().collect();
        let name = ServerName::try_from(asked.name.to_owned()).unwrap();
        let mut tls = Connection::from(ClientConnection::new(Arc::new(config), name).unwrap());
        shake_hands(&socket, &mut tls).await?;
        if asked.protocol.is_some() && tls.alpn_protocol() != asked.protocol {
            return Err(format!("{:?} is agreed, not {:?}", tls.alpn_protocol(), asked.protocol));
        }
        Ok(clear(socket, tls))
    }

    /// Shakes hands as a service; with the name that was asked for.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<(UnixStream, String), String> {
        let mut tls = ServerConnection::new(self.service.clone()).map(Connection::from).unwrap();
        shake_hands(&socket, &mut tls).await?;
        let Connection::Server(server) = &tls else { return Err("it is no server".to_owned()) };
        let name = server.server_name().unwrap_or_default().to_owned();
        Ok((clear(socket, tls), name))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

// === certificates ===

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, names: &[&str], identities: &[&str]) -> (Certificate, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let identities = identities.iter().map(|identity| SanType::URI((*identity).try_into().unwrap()));
    params.subject_alt_names.extend(identities);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

// === impl AnyName ===

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(leaf, chain, name, ocsp, now) {
            // The name is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

// === moving bytes ===

async fn shake_hands(socket: &TcpStream, tls: &mut Connection) -> Result<(), String> {
    while tls.is_handshaking() {
        send(socket, tls).await.map_err(|error| error.to_string())?;
        if tls.is_handshaking() {
            receive(socket, tls).await.map_err(|error| error.to_string())?;
        }
    }
    send(socket, tls).await.map_err(|error| error.to_string())
}

/// The end in clear of a connection whose handshake is done.
fn clear(socket: TcpStream, tls: Connection) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // However it ends, both ends are closed then.
    drop(task::spawn("tls", async move { drop(carry(socket, ours, tls).await) }));
    theirs
}

async fn carry(socket: TcpStream, mut clear: UnixStream, mut tls: Connection) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        send(&socket, &mut tls).await?;
        match tls.reader().read(&mut buffer) {
            // The other side has said all: what we have to say is not waited for in these tests.
            Ok(0) => return Ok(()),
            Ok(length) => clear.write_all(&buffer[..length]).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::select! {
                received = receive(&socket, &mut tls) => received?,
                read = clear.read(&mut buffer) => match read? {
                    0 => {
                        tls.send_close_notify();
                        return send(&socket, &mut tls).await;
                    }
                    length => tls.writer().write_all(&buffer[..length])?,
                },
            },
            Err(error) => return Err(error),
        }
    }
}

/// Reads what is there; what is wrong with it is told to the other side.
async fn receive(socket: &TcpStream, tls: &mut Connection) -> io::Result<()> {
    loop {
        socket.readable().await?;
        match tls.read_tls(&mut Socket(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Ok(0) if tls.is_handshaking() => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read?,
        };
        let processed = tls.process_new_packets();
        return match processed {
            Ok(_) => Ok(()),
            Err(error) => {
                send(socket, tls).await?;
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        };
    }
}

async fn send(socket: &TcpStream, tls: &mut Connection) -> io::Result<()> {
    while tls.wants_write() {
        socket.writable().await?;
        match tls.write_tls(&mut Socket(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => drop(written?),
        }
    }
    Ok(())
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
