//! The services of `interop/gateway-api/services.yaml`: real listeners that answer with their name, do what a request
//! tells them to, and remember what they saw.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Fields, Handler, Reply, RequestHead, ResponseHead, ServerOptions, serve_connection};
use leno_model::document;
use leno_net::Stream;
use leno_runtime::task;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::tls::Tls;

/// The field by which a request is known.
pub(crate) const ID_FIELD: &str = "x-request";
/// The field in which a request says what the service does, as JSON.
pub(crate) const ACTS_FIELD: &str = "x-acts";
/// Instances listen at the port of their service plus this: the ports themselves are those of gateways.
const PORT_OFFSET: u16 = 20_000;
const BODY_MAX: usize = 1024 * 1024;

/// A request, or a connection of bytes, as a service saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrival {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    /// The name that was asked for in TLS; `none` without TLS.
    pub(crate) tls: String,
    /// Names in lower case, values of one name joined by `,`.
    pub(crate) fields: BTreeMap<String, String>,
}

/// What the services saw.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Arrival>>>);

/// The running services.
pub(crate) struct Services {
    pub(crate) log: Log,
    /// The same as resources.
    pub(crate) resources: String,
    instances: BTreeMap<String, Vec<IpAddr>>,
}

#[derive(Clone)]
struct Service {
    name: String,
    log: Log,
    /// What the port speaks, as `services.yaml` says it.
    speaks: String,
    /// The name that the connection asked for in TLS.
    tls: String,
}

/// A port of a service.
struct Port {
    number: u16,
    speaks: String,
    /// Its name, and the port of the instances that it leads to.
    name: Option<String>,
    target: u16,
}

/// Starts every instance of every service.
pub(crate) fn start(text: &str, tls: &Arc<Tls>) -> Services {
    let declared = document::values("services", text).0.remove(0);
    let declared = declared["services"].as_object().unwrap().clone();
    let mut services = Services { log: Log::default(), resources: String::new(), instances: BTreeMap::new() };
    let mut listeners = Vec::new();
    for (number, (name, service)) in declared.iter().enumerate() {
        if service["sameInstancesAs"].is_array() {
            continue;
        }
        let addresses = [1, 2].map(|instance| IpAddr::from(Ipv4Addr::new(127, 1, number as u8, instance)));
        services.instances.insert(name.clone(), addresses.to_vec());
        let refuses = service["refuses"].as_u64().unwrap_or(0) as usize;
        for address in &addresses[refuses..] {
            for port in ports(service) {
                let (name, log) = (name.clone(), services.log.clone());
                let service = Service { name, log, speaks: port.speaks, tls: "none".to_owned() };
                listeners.push((service, SocketAddr::new(*address, port.number + PORT_OFFSET)));
            }
        }
    }
    for (name, service) in &declared {
        services.declare(name, service);
    }
    let (tls, (tell, told)) = (tls.clone(), std::sync::mpsc::sync_channel(1));
    std::thread::spawn(move || leno_runtime::threads::control(serve(listeners, tls, tell)));
    told.recv().unwrap();
    services
}

fn ports(service: &Value) -> Vec<Port> {
    let ports = service["ports"].as_object().unwrap().iter();
    let port = |(number, said): (&String, &Value)| {
        let number = number.parse().unwrap();
        let speaks = said.as_str().or(said["speaks"].as_str()).unwrap().to_owned();
        let target = said["target"].as_u64().map_or(number, |target| target as u16);
        Port { number, speaks, name: said["name"].as_str().map(str::to_owned), target }
    };
    ports.map(port).collect()
}

async fn serve(listeners: Vec<(Service, SocketAddr)>, tls: Arc<Tls>, tell: std::sync::mpsc::SyncSender<()>) {
    for (service, address) in listeners {
        if service.speaks == "udp" {
            let socket = UdpSocket::bind(address).await.unwrap();
            drop(task::spawn("echo", async move { service.answer_datagrams(socket).await }));
            continue;
        }
        let (listener, tls) = (TcpListener::bind(address).await.unwrap(), tls.clone());
        drop(task::spawn("echo", async move {
            while let Ok((accepted, _)) = listener.accept().await {
                let (service, tls) = (service.clone(), tls.clone());
                drop(task::spawn("echo-connection", async move { service.answer(accepted, &tls).await }));
            }
        }));
    }
    tell.send(()).unwrap();
    std::future::pending::<()>().await;
}

// === impl Services ===

impl Services {
    /// The address of an instance, by namespace and name of its service.
    pub(crate) fn instance(&self, service: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.instances[service][0], port + PORT_OFFSET)
    }

    fn declare(&mut self, name: &str, service: &Value) {
        let ports = ports(service);
        if ports.is_empty() {
            return;
        }
        let written: Vec<String> = ports.iter().map(Port::written).collect();
        let (namespace, alone) = name.split_once('/').unwrap();
        let same = service["sameInstancesAs"].as_array().into_iter().flatten();
        let mut of: Vec<String> = same.map(|other| format!("{namespace}/{}", other.as_str().unwrap())).collect();
        if of.is_empty() {
            of.push(name.to_owned());
        }
        let endpoints = of.iter().flat_map(|of| &self.instances[of]).map(|address| format!("{{address: {address}}}"));
        let endpoints: Vec<String> = endpoints.collect();
        self.resources += &format!(
            "---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {alone}, namespace: {namespace}}}\nspec:\n  ports: [{}]\n  endpoints: [{}]\n",
            written.join(", "),
            endpoints.join(", ")
        );
    }
}

// === impl Port ===

impl Port {
    /// As a service declares it.
    fn written(&self) -> String {
        let protocol = match &*self.speaks {
            "udp" => String::new(),
            "https" => ", protocol: http".to_owned(),
            "grpcs" => ", protocol: grpc".to_owned(),
            speaks => format!(", protocol: {speaks}"),
        };
        let name = self.name.as_ref().map(|name| format!(", name: {name}")).unwrap_or_default();
        format!("{{port: {}, targetPort: {}{protocol}{name}}}", self.number, self.target + PORT_OFFSET)
    }
}

// === impl Log ===

impl Log {
    /// What came under this name.
    pub(crate) fn of(&self, id: &str) -> Vec<Arrival> {
        self.0.lock().unwrap().iter().filter(|arrival| arrival.id == id).cloned().collect()
    }

    /// Everything that came since the last time; it is forgotten.
    pub(crate) fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Remembers an arrival; how many came under its name before.
    fn add(&self, arrival: Arrival) -> u64 {
        let mut arrivals = self.0.lock().unwrap();
        let before = arrivals.iter().filter(|other| other.id == arrival.id).count() as u64;
        arrivals.push(arrival);
        before
    }
}

// === impl Service ===

impl Service {
    async fn answer(mut self, accepted: TcpStream, tls: &Tls) {
        let is_bytes = matches!(&*self.speaks, "tcp" | "tls");
        if !matches!(&*self.speaks, "https" | "grpcs" | "tls") {
            return if is_bytes { self.answer_bytes(accepted).await } else { self.answer_http(accepted.into()).await };
        }
        let Ok((clear, name)) = tls.accept(accepted).await else { return };
        self.tls = name;
        if is_bytes { self.answer_bytes(clear).await } else { self.answer_http(clear.into()).await }
    }

    async fn answer_http(self, stream: Stream) {
        let options = Rc::new(ServerOptions::default());
        serve_connection(stream, Bytes::new(), &options, Rc::new(self), std::future::pending()).await;
    }

    /// Answers the first bytes of a connection with its name, that in TLS, and how many bytes came.
    async fn answer_bytes(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut first = vec![0; 16 * 1024];
        let Ok(length @ 1..) = stream.read(&mut first).await else { return };
        let _ = stream.write_all(self.line(length).as_bytes()).await;
    }

    async fn answer_datagrams(&self, socket: UdpSocket) {
        let mut buffer = [0; 2048];
        // What a source that is gone did not take is told here, and no reason to end.
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            let _ = socket.send_to(self.line(length).as_bytes(), from).await;
        }
    }

    fn line(&self, length: usize) -> String {
        let (service, tls) = (self.name.clone(), self.tls.clone());
        self.log.add(Arrival { service, tls, method: "GET".into(), path: "/".into(), ..Arrival::default() });
        format!("{} {} {length}\n", self.name, self.tls)
    }

    async fn echo_messages(&self, reply: Reply) {
        let head = ResponseHead::new(101).with("Connection", "Upgrade").with("Upgrade", "websocket");
        let Ok(mut tunnel) = reply.upgrade(head).await else { return };
        while let Some(Ok(bytes)) = tunnel.read().await {
            if tunnel.write(bytes).await.is_err() {
                return;
            }
        }
    }

    async fn answer_call(&self, head: ResponseHead, reply: Reply) {
        let message = [&[0][..], &(self.name.len() as u32).to_be_bytes(), self.name.as_bytes()].concat();
        let Ok(mut body) = reply.send(head.with("content-type", "application/grpc"), BodyLength::Unknown).await else {
            return;
        };
        if body.data(message.into()).await.is_ok() {
            let mut trailers = Fields::new();
            trailers.append("grpc-status", "0");
            let _ = body.trailers(trailers).await;
        }
    }
}

impl Handler for Service {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let arrival = Arrival {
            id: head.fields.get_str(ID_FIELD).unwrap_or_default().to_owned(),
            service: self.name.clone(),
            method: head.method.as_str().to_owned(),
            host: head.authority.as_ref().map(|host| host.as_str().to_owned()).unwrap_or_default(),
            path: head.path.as_str().to_owned(),
            tls: self.tls.clone(),
            fields: joined(&head.fields),
        };
        let acts: Value =
            head.fields.get_str(ACTS_FIELD).and_then(|a| serde_json::from_str(a).ok()).unwrap_or_default();
        let before = self.log.add(arrival);
        if head.fields.contains("upgrade") {
            return self.echo_messages(reply).await;
        }
        // A body that breaks off is a client that is gone.
        let Ok(_) = body.collect(BODY_MAX).await else { return };
        let delay = if before == 0 { &acts["delay"] } else { &acts["delayRetry"] };
        tokio::time::sleep(duration(delay)).await;
        let fails = acts["until"].as_u64().is_some_and(|until| before < until);
        let mut answer = ResponseHead::new(if fails { acts["status"].as_u64().unwrap() as u16 } else { 200 });
        for (name, value) in acts["headers"].as_object().into_iter().flatten() {
            answer.fields.append(name, value.as_str().unwrap());
        }
        if leno_http::grpc::is_grpc(&head.fields) {
            return self.answer_call(answer, reply).await;
        }
        let _ = reply.respond(answer, Bytes::from(self.name.clone())).await;
    }
}

/// Fields by name in lower case, values of one name joined by `,`.
pub(crate) fn joined(fields: &Fields) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields.iter() {
        let value = String::from_utf8_lossy(value);
        let entry = joined.entry(String::from_utf8_lossy(name).to_lowercase());
        entry.and_modify(|all| *all = format!("{all},{value}")).or_insert_with(|| value.into_owned());
    }
    joined
}

fn duration(written: &Value) -> Duration {
    let text = written.as_str().unwrap_or("0s");
    let number = |unit: &str| text.strip_suffix(unit).and_then(|number| number.parse().ok());
    number("ms").map(Duration::from_millis).or_else(|| number("s").map(Duration::from_secs)).unwrap()
}
