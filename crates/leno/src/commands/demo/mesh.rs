//! The processes of the demo and the directory that they work in; when this goes, they go.

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leno_model::seam::Random;
use serde_json::Value;

use super::free_port;
use super::process::{Process, SETTINGS_FILE};
use crate::args::{ClientArgs, Output};
use crate::client::Client;
use crate::commands::{Exit, Failure};
use crate::shop::{Order, Service};

/// The server's port for proxies, when the one for people is the default one and this is free.
const GRPC_PORT: u16 = 7071;
const HTTP_PORT: u16 = 7070;
/// How long the kernel may take to end what was killed.
const END_TRIES: usize = 400;
const END_LOOK_EVERY: Duration = Duration::from_millis(5);

/// The mesh.
pub struct Mesh {
    directory: PathBuf,
    http: SocketAddr,
    grpc: SocketAddr,
    visitors: SocketAddr,
    server: Option<Process>,
    proxies: Vec<Process>,
    programs: Vec<Program>,
}

/// A service of the shop.
struct Program {
    service: Service,
    version: &'static str,
    process: Process,
}

/// What is left after the end.
#[derive(Debug, Default)]
pub struct Left {
    processes: usize,
    ended: usize,
    is_directory: bool,
    ports: usize,
}

// === impl Mesh ===

impl Mesh {
    /// A place for a mesh; nothing runs yet.
    pub fn new(http: SocketAddr) -> Result<Self, Failure> {
        let http = if http.port() == 0 { free_port(http.ip())? } else { http };
        if let Err(error) = std::net::TcpListener::bind(http) {
            let fix = "stop what listens there, or take a free port with --http-listen 127.0.0.1:0";
            return Err(Failure::usage(format!("listen on {http}: {error}"), fix));
        }
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let usual = SocketAddr::new(loopback, GRPC_PORT);
        let is_usual = http.port() == HTTP_PORT && std::net::TcpListener::bind(usual).is_ok();
        let grpc = if is_usual { usual } else { free_port(loopback)? };
        let directory = make_directory()?;
        let visitors = free_port(loopback)?;
        Ok(Self { directory, http, grpc, visitors, server: None, proxies: Vec::new(), programs: Vec::new() })
    }

    /// Where visitors find their proxy.
    pub fn visitors(&self) -> SocketAddr {
        self.visitors
    }

    /// Where the server's API and dashboard are.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// How many programs there are, each an instance of its service.
    pub fn programs(&self) -> usize {
        self.programs.len()
    }

    /// How many proxies there are.
    pub fn proxies(&self) -> usize {
        self.proxies.len()
    }

    /// Starts the server, on the same directory and ports each time.
    pub async fn start_server(&mut self) -> Result<(), Failure> {
        let mut arguments = vec!["server".to_owned()];
        let data_dir = self.data_dir().display().to_string();
        for (flag, value) in [
            ("--data-dir", data_dir),
            ("--http-listen", self.http.to_string()),
            ("--grpc-listen", self.grpc.to_string()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        let server = self.server.insert(Process::leno(&self.directory, "server", &arguments)?);
        server.ready(self.http).await
    }

    /// Kills the server, as with `kill -9`.
    pub async fn kill_server(&mut self) -> Result<u32, Failure> {
        let Some(mut server) = self.server.take() else { return Err(Failure::new(Exit::No, "there is no server", "")) };
        let id = server.id().unwrap_or_default();
        server.kill().await.map_err(|error| Failure::new(Exit::No, format!("kill the server: {error}"), ""))?;
        Ok(id)
    }

    /// Starts every program with its proxy, and the proxy of the visitors, and waits until all are ready.
    pub async fn start_shop(&mut self) -> Result<(), Failure> {
        for service in Service::ALL {
            for version in service.versions() {
                let process = Process::shop(&self.directory, &name_of(service, version), service, version)?;
                self.programs.push(Program { service, version, process });
            }
        }
        let mut admins = Vec::new();
        for index in 0..self.programs.len() {
            admins.push(self.start_proxy_of(index).await?);
        }
        let visitors = self.proxy_arguments("visitors", self.visitors);
        admins.push(self.start_proxy("visitors", visitors)?);
        for (proxy, admin) in self.proxies.iter_mut().zip(admins) {
            proxy.ready(admin).await?;
        }
        Ok(())
    }

    /// Tells every process of a service something; how often they have answered 503 so far.
    pub async fn order(&mut self, service: Service, order: Order) -> Result<u64, Failure> {
        let mut refused = 0;
        for program in self.programs.iter_mut().filter(|program| program.service == service) {
            refused += program.process.order(order).await?;
        }
        Ok(refused)
    }

    /// Calls the server's API, as the verbs do.
    pub async fn api<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let args = ClientArgs {
            api: format!("http://{}", self.http),
            token_file: None,
            data_dir: Some(self.data_dir()),
            output: Output::Json,
        };
        // The verbs' client blocks, which this thread must not: it drives the visitors.
        let called = tokio::task::spawn_blocking(move || call(&Client::new(&args)?)).await;
        called.unwrap_or_else(|error| Err(Failure::new(Exit::No, format!("the call of the API: {error}"), "")))
    }

    /// Reads something of the server's API.
    pub async fn get(&self, path: &'static str) -> Result<Value, Failure> {
        self.api(move |client| client.get(path)).await
    }

    /// Kills and reaps everything, removes the directory, and looks at what is left.
    pub async fn end(&mut self) -> Left {
        let processes = self.processes().count();
        self.kill_all();
        for _ in 0..END_TRIES {
            if self.processes().all(|process| process.is_gone()) {
                break;
            }
            tokio::time::sleep(END_LOOK_EVERY).await;
        }
        let ended = self.processes().filter_map(|process| process.is_gone().then_some(())).count();
        remove(&self.directory);
        let ports = [self.http, self.grpc, self.visitors].into_iter();
        let is_open = |address: &SocketAddr| std::net::TcpStream::connect(address).is_ok();
        Left { processes, ended, is_directory: self.directory.exists(), ports: ports.filter(is_open).count() }
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.join("server")
    }

    fn proxy_arguments(&self, service: &str, outbound: SocketAddr) -> Vec<String> {
        let mut arguments = vec!["proxy".to_owned()];
        for (flag, value) in [
            ("--service", format!("{service}.shop")),
            ("--server", self.grpc.to_string()),
            ("--outbound-listen", outbound.to_string()),
            ("--inbound-listen", "127.0.0.1:0".to_owned()),
            ("--metrics-listen", "off".to_owned()),
            ("--workers", "1".to_owned()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments
    }

    /// Starts the proxy of a program, and tells the program about it; the proxy's admin address.
    async fn start_proxy_of(&mut self, index: usize) -> Result<SocketAddr, Failure> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (outbound, stock) = (free_port(loopback)?, free_port(loopback)?);
        let program = &mut self.programs[index];
        let (service, version) = (program.service, program.version);
        let application = program.process.listening().await?;
        program.process.order(Order::Outbound(outbound)).await?;
        program.process.order(Order::Stock(stock)).await?;
        let mut arguments = self.proxy_arguments(service.name(), outbound);
        let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        add("--port", format!("80={}@{application}", service.protocol()));
        add("--version", version.to_owned());
        add("--instance", name_of(service, version));
        if service == Service::Cart {
            add("--to", format!("stock.shop={stock}"));
        }
        self.start_proxy(&name_of(service, version), arguments)
    }

    /// Starts a proxy; its admin address.
    fn start_proxy(&mut self, name: &str, mut arguments: Vec<String>) -> Result<SocketAddr, Failure> {
        let admin = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        arguments.extend(["--admin-listen".to_owned(), admin.to_string()]);
        self.proxies.push(Process::leno(&self.directory, &format!("{name}-proxy"), &arguments)?);
        Ok(admin)
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let programs = self.programs.iter_mut().map(|program| &mut program.process);
        programs.chain(&mut self.proxies).chain(&mut self.server)
    }

    fn kill_all(&mut self) {
        self.processes().for_each(Process::kill_soon);
    }
}

impl Drop for Mesh {
    /// The way out of a panic and of an error; after [`Mesh::end`] there is nothing left to do.
    fn drop(&mut self) {
        self.kill_all();
        for _ in 0..END_TRIES {
            if self.processes().all(|process| process.is_gone()) {
                break;
            }
            std::thread::sleep(END_LOOK_EVERY);
        }
        remove(&self.directory);
    }
}

// === impl Left ===

impl Left {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        self.ended == self.processes && !self.is_directory && self.ports == 0
    }

    /// `18 of 18 processes ended, directory removed, ports closed`
    pub fn words(&self) -> String {
        let directory = if self.is_directory { "directory is still there" } else { "directory removed" };
        let ports =
            if self.ports == 0 { "ports closed".to_owned() } else { format!("{} ports still open", self.ports) };
        format!("{} of {} processes ended, {directory}, {ports}", self.ended, self.processes)
    }
}

fn name_of(service: Service, version: &str) -> String {
    format!("{}-{version}", service.name())
}

/// A new directory for this user alone, with a settings file that sets nothing.
fn make_directory() -> Result<PathBuf, Failure> {
    let suffix = leno_runtime::SystemRandom.next_u64();
    let directory = std::env::temp_dir().join(format!("leno-demo-{suffix:016x}"));
    // Fails when it is there: nobody else has put anything into it.
    let made = DirBuilder::new().mode(0o700).create(&directory);
    let written = made.and_then(|()| std::fs::write(directory.join(SETTINGS_FILE), "{}\n"));
    written.map_err(|error| {
        Failure::usage(format!("directory {}: {error}", directory.display()), "name a place to write to with TMPDIR")
    })?;
    Ok(directory)
}

fn remove(directory: &Path) {
    // It may be gone already; whether it is, is looked at.
    let _ = std::fs::remove_dir_all(directory);
}
