//! The command line: every verb, flag, variable and default, with the help that people read first.
//!
//! A flag `--eureka-listen` of a role has the variable `LENO_EUREKA_LISTEN` and the settings key `eureka-listen`; see
//! `settings.rs` for what wins. Help texts give units, ranges and defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use leno_model::resource::moment::Moment;
use leno_net::places::PlacesMax;
use leno_proxy::pressure::{Bounds, Reaction, Thresholds};

/// leno, a service mesh in one binary: put it beside any program and it gets discovery, balancing, routing, retries,
/// metrics and central control without a library.
#[derive(Debug, Parser)]
#[command(
    name = "leno",
    version,
    after_help = "First steps:\n  leno demo                      a whole mesh with traffic on this machine\n  leno server                    the control plane\n  leno run --service cart -- CMD a program with its proxy\n\nExit status: 0 done or yes, 1 the answer is no, 2 usage or invalid file, 3 server unreachable or timeout, 4 conflict."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Log what matters (error, warn, info, debug, trace, or per module as `info,leno_proxy=debug`).
    #[arg(long, global = true, env = "LENO_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// How log lines are written.
    #[arg(long, global = true, env = "LENO_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// A settings file; keys are the names of flags. Default: ./leno.yaml, then /etc/leno/leno.yaml, if there.
    #[arg(long, global = true, env = "LENO_SETTINGS_FILE", value_name = "FILE")]
    pub settings_file: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the control plane: resources, registry, dashboard, the proxies' source of truth.
    Server(Box<ServerArgs>),
    /// Run a proxy beside one workload, or at the edge.
    Proxy(Box<ProxyArgs>),
    /// Run a program with a proxy of its own: captured without root, registered, drained.
    Run(Box<RunArgs>),
    /// Show a whole mesh on this machine: services, traffic, faults, a canary.
    Demo(DemoArgs),
    /// Put resources in force, all of a set or none.
    Apply(ApplyArgs),
    /// Show what `apply` would change. Exit status 1 when something would.
    Diff(DiffArgs),
    /// List resources or show one.
    Get(GetArgs),
    /// Delete a resource.
    Delete(DeleteArgs),
    /// List revisions, or show one.
    History(HistoryArgs),
    /// Restore an earlier revision, as a new one.
    Rollback(RollbackArgs),
    /// Check resource files without a server, or a server and what it has with one.
    Check(CheckArgs),
    /// Make resources of rules and settings of Sentinel, Resilience4j, Hystrix and Ribbon.
    Convert(ConvertArgs),
    /// Show servers, proxies and what each has in effect.
    Status(StatusArgs),
    /// List, register and take out instances.
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Turn a switch, which degrades routes across the mesh at once, or list switches.
    Switch(SwitchArgs),
    /// Show or change the log level of a running role.
    LogLevel(LogLevelArgs),
    /// Back up and restore a server's state.
    #[command(subcommand)]
    System(SystemVerb),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Examples:\n  leno completion bash > ~/.local/share/bash-completion/completions/leno\n  leno completion zsh > ~/.zfunc/_leno\n  leno completion fish > ~/.config/fish/completions/leno.fish"
    )]
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// The part of `run` that lives in the program's namespace.
    #[command(name = "__inside", hide = true)]
    Inside {
        /// What the supervisor says.
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        rest: Vec<std::ffi::OsString>,
    },
    /// One service of the demo's shop.
    #[command(name = "__shop", hide = true)]
    Shop {
        /// Which.
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        rest: Vec<String>,
    },
}

/// A shell that completion is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An address to listen on, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Closed.
    Off,
    /// Here.
    On(SocketAddr),
}

// === impl Listen ===

impl Listen {
    /// The address, unless it is off.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::On(address) => Some(address),
        }
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::On(SocketAddr::from(([127, 0, 0, 1], port))));
        }
        text.parse().map(Self::On).map_err(|_| "write ADDRESS:PORT, a port of 127.0.0.1, or `off`".to_owned())
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(address) => address.fmt(f),
        }
    }
}

/// Reads `500ms`, `30s`, `5m`, `1h`, or seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| format!("{text:?} is no duration: write 500ms, 30s, 5m or 1h"))?;
    let factor = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{unit:?} is no unit of time: use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

/// `leno server`
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Where the server keeps everything: the store, its tokens, its journal.
    #[arg(long, env = "LENO_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep nothing on disk: state ends with the process.
    #[arg(long, env = "LENO_IN_MEMORY", conflicts_with = "data_dir")]
    pub in_memory: bool,
    /// With --in-memory, the file of the admin's token, which is made when it is not there. Default: a token of this
    /// start, shown on the terminal.
    #[arg(long, env = "LENO_ADMIN_TOKEN_FILE", requires = "in_memory", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// HTTP API and dashboard: an address, a port of 127.0.0.1, or `off`.
    #[arg(long, env = "LENO_HTTP_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub http_listen: Listen,
    /// gRPC for proxies: configuration (xDS), enrolment, telemetry.
    #[arg(long, env = "LENO_GRPC_LISTEN", default_value = "127.0.0.1:7071", value_name = "ADDRESS")]
    pub grpc_listen: Listen,
    /// A directory of resource files, watched: one set that changes whole or not at all.
    #[arg(long, env = "LENO_RESOURCES", value_name = "DIR")]
    pub resources: Option<PathBuf>,
    /// Host names, beside localhost and addresses of loopback, under which the API may be called. Repeatable.
    #[arg(long = "allow-host", env = "LENO_ALLOW_HOST", value_delimiter = ',', value_name = "NAME")]
    pub allow_hosts: Vec<String>,
    /// Caps on connections.
    #[command(flatten)]
    pub connections: ConnectionArgs,
    /// How long a stop waits for open requests.
    #[arg(long, env = "LENO_DRAIN_TIMEOUT", default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub drain_timeout: Duration,
}

/// How many connections there may be; the same for `server` and `proxy`.
#[derive(Debug, Clone, Args)]
pub struct ConnectionArgs {
    /// Descriptors that connections may hold: an HTTP connection 1, a tunnel 2, each connection to an endpoint 1. What
    /// is accepted beyond is reset at once. Default: the limit on descriptors less 512.
    #[arg(long, env = "LENO_CONNECTIONS_MAX", value_name = "N", value_parser = parse_count)]
    pub connections_max: Option<usize>,
    /// Connections that one source may have open at a server or gateway; an IPv6 source is its /64, and loopback is not
    /// counted.
    #[arg(long, env = "LENO_CONNECTIONS_SOURCE_MAX", default_value = "1024", value_name = "N", value_parser = parse_count)]
    pub connections_source_max: usize,
}

// === impl ConnectionArgs ===

impl ConnectionArgs {
    /// The caps of a process, which counts by source where strangers connect.
    pub fn max(&self, by_source: bool) -> PlacesMax {
        PlacesMax {
            all: self.connections_max.unwrap_or_else(leno_net::limits::connections_max),
            of_source: by_source.then_some(self.connections_source_max),
        }
    }
}

/// Reads `rack=7`.
fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a name, `=` and a value, as rack=7".to_owned()),
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("{text:?} is no number from 1 on"))
}

/// A kind of proxy that is none of leno's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForeignProxy {
    /// Envoy.
    Envoy,
    /// gRPC without a proxy.
    Grpc,
}

/// What a proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxyRole {
    /// Beside one workload.
    Sidecar,
    /// At the edge: opens the listeners of a `Gateway`.
    Gateway,
}

/// Where access lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// Nowhere.
    Off,
    /// Text, as Istio writes it.
    Text,
    /// JSON, with Istio's keys.
    Json,
}

/// `allow` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AllowDeny {
    /// Let through and count.
    Allow,
    /// Refuse.
    Deny,
}

/// Which instance is registered, and where; the same for `proxy` and `run`.
#[derive(Debug, Clone, Args)]
pub struct EnrolArgs {
    /// The gRPC address of the server. Repeatable: the first that answers is used.
    #[arg(
        long = "server",
        env = "LENO_SERVER",
        value_delimiter = ',',
        default_value = "127.0.0.1:7071",
        value_name = "ADDRESS"
    )]
    pub servers: Vec<String>,
    /// A name for this instance. Default: the service, the host name and a random part.
    #[arg(long, env = "LENO_INSTANCE", value_name = "ID")]
    pub instance: Option<String>,
    /// The workload's version, the `v2` of `cart@v2`.
    #[arg(long, env = "LENO_VERSION", value_name = "VERSION")]
    pub version: Option<String>,
    /// The zone it runs in.
    #[arg(long, env = "LENO_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// The region it runs in.
    #[arg(long, env = "LENO_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// A label, as `rack=7`, by which policies can have requests stay near; the instance has it as metadata. Repeatable.
    #[arg(long = "label", env = "LENO_LABEL", value_delimiter = ',', value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Its share of traffic beside other instances, 0 to 10000.
    #[arg(long, env = "LENO_WEIGHT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub weight: u32,
}

/// What becomes of `%2F` and `%5C` in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EscapedSlashes {
    /// The request is refused.
    Refuse,
    /// They are passed on as they are.
    Keep,
}

/// What becomes of fields whose names have an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnderscoredNames {
    /// They are dropped.
    Drop,
    /// They are passed on.
    Keep,
    /// The request is refused.
    Refuse,
}

/// What becomes of a bare LF at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BareLf {
    /// The message is refused.
    Refuse,
    /// It ends the line.
    Take,
}

/// What is done about requests that programs read in different ways; the same for `proxy` and `run`.
#[derive(Debug, Clone, Args)]
pub struct ReadingArgs {
    /// What becomes of `%2F` and `%5C` in paths, which some programs take for slashes.
    #[arg(long, env = "LENO_ESCAPED_SLASHES", default_value = "refuse")]
    pub escaped_slashes: EscapedSlashes,
    /// What becomes of fields like `X_User_Id`, which some programs take for `X-User-Id`.
    #[arg(long, env = "LENO_UNDERSCORED_NAMES", default_value = "drop")]
    pub underscored_names: UnderscoredNames,
    /// What becomes of lines of a head that end with LF alone, which some programs take for the end of a line.
    #[arg(long, env = "LENO_BARE_LF", default_value = "refuse")]
    pub bare_lf: BareLf,
    /// A limit on what peers may send, hold or take, as `head-bytes=128KiB`. Repeatable; `leno proxy --help` lists them.
    #[arg(long = "limit", env = "LENO_LIMIT", value_delimiter = ',', value_name = "NAME=VALUE")]
    pub limits: Vec<super::settings::Limit>,
}

/// What a proxy does when it gets short of memory, or has more to do than it can; the same for `proxy` and `run`.
#[derive(Debug, Clone, Args)]
pub struct PressureArgs {
    /// Memory that the proxy may hold, as 256MiB. Default: what its control groups (version 1 or 2) and the machine leave it.
    #[arg(long, env = "LENO_MEMORY_MAX", value_name = "BYTES", value_parser = super::settings::parse_bytes)]
    pub memory_max: Option<u64>,
    /// From what percentage of its memory on the proxy does something about it, or `off`, as `reset-slow=70`. Repeatable;
    /// `leno proxy --help` lists them.
    #[arg(long = "memory-reaction", env = "LENO_MEMORY_REACTION", value_delimiter = ',', value_name = "NAME=PERCENT")]
    pub reactions: Vec<super::settings::ReactionAt>,
    /// How late a worker may be, as 100ms, before requests are refused, those first that matter least. 1ms to 10s. Default: any.
    #[arg(long, env = "LENO_LATE_MAX", value_name = "TIME", value_parser = parse_lateness)]
    pub late_max: Option<Duration>,
    /// How much of its processors may be used, in percent, before requests are refused, those first that matter least: of the
    /// quota of its control groups (version 1 or 2), and of the machine. 1 to 99. Default: all.
    #[arg(long, env = "LENO_CPU_MAX", value_name = "PERCENT", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub cpu_max: Option<u16>,
}

fn parse_lateness(text: &str) -> Result<Duration, String> {
    let most = parse_duration(text)?;
    let range = Duration::from_millis(1)..=Duration::from_secs(10);
    if range.contains(&most) { Ok(most) } else { Err(format!("{text:?} is not from 1ms to 10s")) }
}

// === impl PressureArgs ===

impl PressureArgs {
    /// From what fill on each is taken.
    pub fn thresholds(&self) -> Thresholds {
        let mut thresholds = Thresholds::default();
        self.reactions.iter().for_each(|at| thresholds.set(at.reaction, at.percent));
        thresholds
    }

    /// From what on there is too much to do.
    pub fn bounds(&self) -> Bounds {
        Bounds { late: self.late_max, cpu: self.cpu_max.map(|percent| percent * 10) }
    }
}

/// `leno proxy`
#[derive(Debug, Clone, Args)]
#[command(after_help = limits_help())]
pub struct ProxyArgs {
    /// Beside one workload, or at the edge.
    #[arg(long, env = "LENO_ROLE", default_value = "sidecar")]
    pub role: ProxyRole,
    /// The service of the workload, `cart` or `cart.shop`. With `--port` the instance is registered under it.
    #[arg(long, env = "LENO_SERVICE", value_name = "NAME")]
    pub service: Option<leno_model::name::ServiceName>,
    /// The gateway whose listeners are opened, `edge` or `edge.shop`.
    #[arg(long, env = "LENO_GATEWAY", value_name = "NAME", required_if_eq("role", "gateway"))]
    pub gateway: Option<leno_model::name::ServiceName>,
    /// The instance and its server.
    #[command(flatten)]
    pub enrol: EnrolArgs,
    /// A resource file or directory to work from, without any server.
    #[arg(long, env = "LENO_RESOURCES", value_name = "PATH")]
    pub resources: Option<PathBuf>,
    /// A port of the application: `8080`, `8080=http`, `8080=unix:/run/app.sock`, `8080=tcp@127.0.0.1:9000`. Repeatable.
    #[arg(long = "port", env = "LENO_PORT", value_delimiter = ',', value_name = "PORT[=PROTOCOL][@ADDRESS]")]
    pub ports: Vec<super::settings::ApplicationPort>,
    /// Where the application sends what it wants to send: by name, as an HTTP proxy, captured.
    #[arg(long, env = "LENO_OUTBOUND_LISTEN", default_value = "127.0.0.1:15001", value_name = "ADDRESS")]
    pub outbound_listen: Listen,
    /// The first inbound port; each further application port takes the next free one.
    #[arg(long, env = "LENO_INBOUND_LISTEN", default_value = "127.0.0.1:15006", value_name = "ADDRESS")]
    pub inbound_listen: Listen,
    /// A local port or Unix socket for one destination: `cart=127.0.0.1:9001`, `db:5432=unix:/run/db.sock`. Repeatable.
    #[arg(long = "to", env = "LENO_TO", value_delimiter = ',', value_name = "SERVICE[:PORT]=ADDRESS")]
    pub to: Vec<super::settings::ToPort>,
    /// Readiness, the table in force, endpoints and their load.
    #[arg(long, env = "LENO_ADMIN_LISTEN", default_value = "127.0.0.1:15000", value_name = "ADDRESS")]
    pub admin_listen: Listen,
    /// Prometheus metrics and readiness, for scrapers.
    #[arg(long, env = "LENO_METRICS_LISTEN", default_value = "127.0.0.1:15020", value_name = "ADDRESS")]
    pub metrics_listen: Listen,
    /// Worker threads. Default: 2 or the number of cores, if less; all cores for a gateway.
    #[arg(long, env = "LENO_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// The address under which other proxies reach this one. Default: that of `--inbound-listen`.
    #[arg(long, env = "LENO_ADVERTISE", value_name = "ADDRESS")]
    pub advertise: Option<std::net::IpAddr>,
    /// How long the registration stays without renewal; renewed every third of it. 5 s to 1 h.
    #[arg(long, env = "LENO_LEASE", default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub lease: Duration,
    /// What becomes of destinations that the mesh does not know.
    #[arg(long, env = "LENO_OUTBOUND_DEFAULT", default_value = "allow")]
    pub outbound_default: AllowDeny,
    /// How requests are read.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// What is done when memory gets short.
    #[command(flatten)]
    pub pressure: PressureArgs,
    /// Proxies in front of a gateway that are believed what `X-Forwarded-For` and `X-Forwarded-Proto` say.
    #[arg(long, env = "LENO_TRUSTED_HOPS", default_value_t = 0, value_name = "N")]
    pub trusted_hops: u8,
    /// Proxies in front whose connections begin with a PROXY header (version 1 or 2): networks as `10.0.0.0/8`, or addresses.
    /// Repeatable. At listeners of a gateway and inbound ports; from these the header is required, and whom it names is the
    /// client; from others none is read.
    #[arg(long, env = "LENO_PROXY_PROTOCOL_FROM", value_delimiter = ',', value_name = "NETWORK")]
    pub proxy_protocol_from: Vec<leno_net::Network>,
    /// Certificates, keys and bundles of roots, by the names that resources refer to: `NAME.crt` with `NAME.key`, or a folder
    /// `NAME` with `tls.crt` and `tls.key`; roots are `NAME.ca.crt`, or `ca.crt` in the folder. Read again when they change.
    #[arg(long, env = "LENO_CERTIFICATES", value_name = "DIR")]
    pub certificates: Option<PathBuf>,
    /// A line for each request and connection, on standard output.
    #[arg(long, env = "LENO_ACCESS_LOG", default_value = "off")]
    pub access_log: AccessLogFormat,
    /// A file for access lines instead of standard output.
    #[arg(long, env = "LENO_ACCESS_LOG_FILE", value_name = "FILE")]
    pub access_log_file: Option<PathBuf>,
    /// Where the last good state is kept, from which the proxy starts when no server answers. Default: not kept.
    #[arg(long, env = "LENO_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Sessions of UDP listeners of a gateway, one for each source (address and port); datagrams of sources beyond are
    /// dropped. Each holds a descriptor and counts as a connection of its source.
    #[arg(long, env = "LENO_UDP_SESSIONS_MAX", default_value_t = leno_proxy::udp::SESSIONS_MAX, value_name = "N", value_parser = parse_count)]
    pub udp_sessions_max: usize,
    /// Caps on connections.
    #[command(flatten)]
    pub connections: ConnectionArgs,
    /// How long a stop waits for open requests.
    #[arg(long, env = "LENO_DRAIN_TIMEOUT", default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub drain_timeout: Duration,
    /// Take the listening sockets over from the proxy that runs, which then ends what it has open and leaves.
    #[arg(long, conflicts_with = "supervised")]
    pub take_over: bool,
    /// The Unix socket at which a successor asks for the listening sockets. Default: take-over.sock in --data-dir; without
    /// either, only SIGUSR2 hands over.
    #[arg(long, env = "LENO_TAKE_OVER_SOCKET", value_name = "PATH")]
    pub take_over_socket: Option<PathBuf>,
    /// Standard input is the proxy to take over from.
    #[arg(long, hide = true, conflicts_with = "supervised")]
    pub take_over_stdin: bool,
    /// Standard input is the supervisor of `leno run`.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// What follows the flags of `leno proxy`.
fn limits_help() -> String {
    let mut help = "\
Paths are matched and forwarded in one spelling: dot segments followed, slashes merged, escapes decoded where RFC 3986
says that they mean nothing; what has no one reading is answered with 400.

Limits, on by default, each changed by --limit NAME=VALUE. Other defaults beside a workload are in brackets:
"
    .to_owned();
    let (edge, mesh) = (leno_http::Limits::default(), leno_http::Limits::mesh());
    for limit in leno_http::limits::NAMED {
        let (value, beside) = (limit.value(&edge), limit.value(&mesh));
        let beside = if beside == value { String::new() } else { format!(" ({beside})") };
        let (name, value, range) = (limit.name, value + &beside, limit.range());
        help += &format!("  {name:<22} {value:<9} {what}; {range}\n", what = limit.what);
    }
    help + "\
Besides: descriptors of connections, the limit of the process less 512; 1024 connections of one source at a gateway; 512
TLS handshakes at a time on a worker; retries of what was not processed, 2 within 20 % of requests (3 a second in any
case), bodies up to 64 KiB; subscriptions, 1024 names, 50 new ones a second, given up after 10 idle minutes.

When memory gets short, on by default, each changed by --memory-reaction NAME=PERCENT or NAME=off, of what the proxy may hold:
"
        + &reactions_help()
}

fn reactions_help() -> String {
    let defaults = Thresholds::default();
    let line = |reaction: Reaction| {
        let what = match reaction {
            Reaction::CloseIdle => "connections on which nothing is asked are closed, others after their next answer",
            Reaction::ResetSlow => "answers whose readers take nothing are given up, the slowest first",
            Reaction::ReadLess => "what endpoints send ahead over HTTP/2 is read ten times a second at most",
            Reaction::RefuseSheddable => "requests of priority sheddable are refused",
            Reaction::RefuseSheddablePlus => "those of sheddable-plus too",
            Reaction::RefuseCritical => "those of critical too, which all are of which nothing is said",
            Reaction::RefuseCriticalPlus => "all are",
            Reaction::StopAccepting => "no connection is accepted",
        };
        let percent = defaults.get(reaction).unwrap_or_default();
        format!("  {name:<22} {percent:<9} {what}; 1 to 100\n", name = reaction.text())
    };
    Reaction::ALL.map(line).concat()
}

/// `leno run`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  leno run --service cart -- node server.js\n\nThe program is started unchanged, in a network namespace of its own, as the same user. Every TCP connection it makes\ngoes through the proxy; names of the mesh resolve. Exit status: that of the program; 125, 126 and 127 are leno's own."
)]
pub struct RunArgs {
    /// The service that the program is an instance of, `cart` or `cart.shop`. Without it nothing is registered.
    #[arg(long, env = "LENO_SERVICE", value_name = "NAME")]
    pub service: Option<leno_model::name::ServiceName>,
    /// A port that the program listens on: `8080`, `8080=http`. Repeatable. Default: found by watching.
    #[arg(long = "port", env = "LENO_PORT", value_delimiter = ',', value_name = "PORT[=PROTOCOL]")]
    pub ports: Vec<super::settings::ApplicationPort>,
    /// A port of this machine's loopback that the program reaches on its own, as a local database. Repeatable.
    #[arg(long = "host-port", env = "LENO_HOST_PORT", value_delimiter = ',', value_name = "PORT")]
    pub host_ports: Vec<u16>,
    /// The instance and its server.
    #[command(flatten)]
    pub enrol: EnrolArgs,
    /// How requests are read.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// What is done when the proxy's memory gets short.
    #[command(flatten)]
    pub pressure: PressureArgs,
    /// How long the program may take until it listens.
    #[arg(long, env = "LENO_READY_TIMEOUT", default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    pub ready_timeout: Duration,
    /// How long open requests may take after the stop, before the program is told to end.
    #[arg(long, env = "LENO_DRAIN_TIMEOUT", default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub drain_timeout: Duration,
    /// A line for each request and connection, in `--access-log-file`.
    #[arg(long, env = "LENO_ACCESS_LOG", default_value = "off")]
    pub access_log: AccessLogFormat,
    /// A file for access lines; standard output belongs to the program.
    #[arg(long, env = "LENO_ACCESS_LOG_FILE", value_name = "FILE")]
    pub access_log_file: Option<PathBuf>,
    /// Readiness, the table in force, endpoints. Default: a free port of loopback.
    #[arg(long, env = "LENO_ADMIN_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub admin_listen: Listen,
    /// Where the proxy keeps its last good state.
    #[arg(long, env = "LENO_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// `leno demo`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno demo                a story, then traffic until Ctrl-C\n  leno demo --for 60s      ends by itself, with a summary\n\nA server, a shop of seven services and a proxy beside each of its programs, all from this binary, and a story in which\nevery claim is measured. The programs are told where their proxy is: capture, as `leno run` does it, is not used, so\nthat the demo runs in any container. Nothing is left behind: no process, no file, no port.\n\nExit status: 0 when the story was told to its end and every claim held, 1 otherwise."
)]
pub struct DemoArgs {
    /// End by itself after this time, but not before the story (about 20 s) is told, with a summary. Default: goes on until Ctrl-C.
    #[arg(long = "for", value_parser = parse_duration, value_name = "TIME")]
    pub time: Option<Duration>,
    /// One JSON object a line, for machines.
    #[arg(long)]
    pub json: bool,
    /// HTTP API and dashboard.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub http_listen: Listen,
}

/// How to reach a server, and how to print.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// The HTTP address of the server: http://HOST:PORT, HOST:PORT, or a port of 127.0.0.1.
    #[arg(long, env = "LENO_API", default_value = "http://127.0.0.1:7070", value_name = "URL")]
    pub api: String,
    /// A file that holds the token. Default: admin.token in the data directory.
    #[arg(long, env = "LENO_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The data directory of the server, where it keeps its token. Default: that of a server of this user.
    #[arg(long, env = "LENO_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// The API's own object.
    Json,
    /// The same as YAML; `get` prints resources as they were written, ready for `apply`.
    Yaml,
    /// Names alone, one a line; those of resources are KIND/NAMESPACE/NAME.
    Name,
}

/// `leno apply`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno apply -f mesh/ --wait\n  leno apply -f cart.yaml --dry-run\n  cat cart.yaml | leno apply -f - -m 'canary to 50 %'\n\nExit status: 1 when a proxy refuses it (with --wait), 2 faults in the files, 3 no server or no answer in time,\n4 owned or changed by somebody else."
)]
pub struct ApplyArgs {
    /// Which files.
    #[command(flatten)]
    pub files: FilesArgs,
    /// Check against the server and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until every proxy that it concerns has it in effect, at most this long.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = parse_duration)]
    pub wait: Option<Duration>,
    /// Refuse when one of the resources was changed after this revision; 0: when one exists.
    #[arg(long, value_name = "REVISION")]
    pub expect: Option<u64>,
    /// Why, for the history.
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

/// `leno diff`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  leno diff -f mesh/\n\nExit status: 0 nothing would change, 1 something would, 2 faults in the files, 3 no server."
)]
pub struct DiffArgs {
    /// Which files.
    #[command(flatten)]
    pub files: FilesArgs,
}

/// Files of resources, and the set that they are.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// A file, a directory of *.yaml, *.yml and *.json, or `-` for standard input. Repeatable.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// The set that the resources belong to. Default: `api`, which all share.
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Delete what belongs to the set and is not in the files.
    #[arg(long, requires = "set")]
    pub prune: bool,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno switch`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno switch                           every switch, and whether it is on\n  leno switch sale on --wait            the routes of Switch `sale` are degraded\n  leno switch sale on --for 2h -m 'load'\n  leno switch sale on --from 2026-11-27T00:00:00Z --until 2026-11-28T00:00:00Z\n  leno switch sale off                  and brought back\n\nExit status: 1 when there is no such switch or a proxy refuses it (with --wait), 3 no server or no answer in time."
)]
pub struct SwitchArgs {
    /// Which; all when absent.
    pub name: Option<String>,
    /// What becomes of it; shown when absent.
    #[arg(requires = "name")]
    pub turn: Option<Turn>,
    /// Its namespace. Default: `default`; without a name: all.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// From when that holds, as 2026-11-27T00:00:00Z; until then it is the other way round. Default: now.
    #[arg(long, requires = "turn", value_name = "MOMENT")]
    pub from: Option<Moment>,
    /// Until when that holds; then it is the other way round. Default: until it is turned.
    #[arg(long, requires = "turn", value_name = "MOMENT")]
    pub until: Option<Moment>,
    /// For how long that holds, from `--from` or now on.
    #[arg(long = "for", requires = "turn", conflicts_with = "until", value_name = "TIME", value_parser = parse_duration)]
    pub lasting: Option<Duration>,
    /// Wait until every proxy that it concerns has it in effect, at most this long.
    #[arg(long, requires = "turn", value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = parse_duration)]
    pub wait: Option<Duration>,
    /// Why, for the history.
    #[arg(short, long, requires = "turn", value_name = "TEXT")]
    pub message: Option<String>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What becomes of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// Its routes are degraded.
    On,
    /// They are brought back.
    Off,
}

/// `leno get`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno get\n  leno get httproutes -n shop\n  leno get hr/shop/cart -o yaml > cart.yaml\n\nShort kinds: gtw (Gateway), hr (HTTPRoute), gr (GRPCRoute), refgrant (ReferenceGrant), btlspolicy (BackendTLSPolicy), svc (Service), sw (Switch), tp (TrafficPolicy), fp (FaultPolicy).\nExit status: 1 when there is no such resource."
)]
pub struct GetArgs {
    /// `httproute`, `service`, … or KIND/NAME or KIND/NAMESPACE/NAME; everything when absent.
    pub kind: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// Only this namespace; with a name: its namespace. Default: all; with a name: `default`.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno delete`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno delete httproute cart -n shop\n  leno delete hr/shop/cart --dry-run\n\nExit status: 1 when there is no such resource, 4 when it belongs to another set or was changed meanwhile."
)]
pub struct DeleteArgs {
    /// The kind, or KIND/NAME or KIND/NAMESPACE/NAME.
    pub kind: String,
    /// The name.
    pub name: Option<String>,
    /// Its namespace. Default: `default`.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The set that it belongs to. Default: `api`.
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Why, in a few words; stands in the history.
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Say what would be deleted and delete nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse when it was changed after this revision.
    #[arg(long, value_name = "REVISION")]
    pub expect: Option<u64>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno history`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leno history\n  leno history 42\n  leno history hr/shop/cart")]
pub struct HistoryArgs {
    /// A revision to show with its changes, or a resource whose revisions are listed; all revisions when absent.
    #[arg(value_name = "REVISION|KIND/NAME")]
    pub what: Option<String>,
    /// The namespace of the resource. Default: `default`.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How many revisions are listed, the newest first, at most 1000. Default: 50.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: Option<u64>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno rollback`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno rollback 41 --dry-run\n  leno rollback 41\n  leno rollback 41 --resource hr/shop/cart\n\nThe restored state is a new revision; nothing is lost from the history."
)]
pub struct RollbackArgs {
    /// The revision after which things stood as they shall stand again.
    pub revision: u64,
    /// Only this resource, KIND/NAME or KIND/NAMESPACE/NAME.
    #[arg(long, value_name = "KIND/NAME")]
    pub resource: Option<String>,
    /// The set whose resources go back. Default: `api`.
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Why, in a few words; stands in the history.
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Show both sides, what is and what would be, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno check`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno check -f mesh/      files alone, without a server\n  leno check               the server, its store, its sources, its proxies\n\nExit status: 1 when something is wrong; each line that fails says what to do."
)]
pub struct CheckArgs {
    /// Files or directories to check without a server, or `-` for standard input. Repeatable.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Says of each field of the files' policies that such proxies do not honour what they do instead; leno's honour all of
    /// them. Repeatable. Without files, the proxies that are connected are meant.
    #[arg(long = "for", value_name = "PROXY", requires = "files")]
    pub proxies: Vec<ForeignProxy>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno convert`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno convert -f orders-flow-rules.json --output orders.yaml       Sentinel's rules, as its dashboard names them\n  leno convert -f rules.json --service orders -n shop                rules for paths of orders\n  leno convert -f rules.json --map 'createOrder=orders/orders'       a name in the code is a path of orders\n  leno convert -f application.yml --map backendA=cart                Resilience4j, Hystrix and Ribbon in Spring's file\n\nWhat is not carried over is said with its place and what to do, and stands as a comment at the resource.\nExit status: 0 when all was carried over, 1 when something was not."
)]
pub struct ConvertArgs {
    /// A file of rules (JSON) or settings (YAML, properties), a directory of *.yaml, *.yml and *.json, or `-` for standard
    /// input. Repeatable.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// The service whose application the rules for paths are of. Default: the `app` of a rule, or of the file's name
    /// (`APP-flow-rules.json`).
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The namespace of services that are named without one.
    #[arg(short = 'n', long, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// What a resource of Sentinel, an instance of Resilience4j, a command of Hystrix or a client of Ribbon is: a service, or of
    /// Sentinel's resources a path of one, in Spring's patterns. Repeatable.
    #[arg(long = "map", value_name = "RESOURCE=SERVICE[/PATH]")]
    pub mapped: Vec<leno_convert::Mapped>,
    /// What a parameter of a hot-parameter rule is: `header:NAME`, `cookie:NAME`, `query:NAME` or `path`. Repeatable.
    #[arg(long = "parameter", value_name = "RESOURCE#INDEX=KIND:NAME")]
    pub parameters: Vec<leno_convert::Parameter>,
    /// The file that is written. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `leno status`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leno status\n  leno status -o json\n  leno status --settings")]
pub struct StatusArgs {
    /// Print each setting of the server with where its value came from.
    #[arg(long)]
    pub settings: bool,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno service …`
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// List services, or the instances of one.
    #[command(after_help = "Examples:\n  leno service list\n  leno service list cart.shop")]
    List {
        /// The service, `cart` or `cart.shop`.
        service: Option<leno_model::name::ServiceName>,
        /// Only this namespace.
        #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "service")]
        namespace: Option<String>,
        /// The server.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Register an instance that has no proxy of its own and stays until it is taken out. Prints its id.
    Register(RegisterArgs),
    /// Take an instance out for good.
    #[command(after_help = "Example:\n  leno service deregister cart.shop 10.0.3.7:8080")]
    Deregister {
        /// The service.
        service: leno_model::name::ServiceName,
        /// Its id.
        id: String,
        /// The server.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let an instance finish what it has and give it nothing new.
    #[command(
        after_help = "Examples:\n  leno service drain cart.shop 10.0.3.7:8080\n  leno service drain cart.shop 10.0.3.7:8080 --undo"
    )]
    Drain {
        /// The service.
        service: leno_model::name::ServiceName,
        /// Its id.
        id: String,
        /// Give it traffic again.
        #[arg(long)]
        undo: bool,
        /// The server.
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// `leno service register`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  leno service register cart.shop 10.0.3.7:8080=http --version v2 --probe http:/healthz"
)]
pub struct RegisterArgs {
    /// The service, `cart` or `cart.shop`.
    pub service: leno_model::name::ServiceName,
    /// Where it listens; the protocol is one of detect, http, http2, grpc, tcp and tls.
    #[arg(value_name = "ADDRESS:PORT[=PROTOCOL]")]
    pub address: String,
    /// Its id. Default: its address and port.
    #[arg(long)]
    pub id: Option<String>,
    /// Its version, the `v2` of `cart@v2`.
    #[arg(long)]
    pub version: Option<String>,
    /// The zone it runs in.
    #[arg(long)]
    pub zone: Option<String>,
    /// The region it runs in.
    #[arg(long)]
    pub region: Option<String>,
    /// A label, as `rack=7`, by which policies can have requests stay near. Repeatable.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Its share of traffic beside other instances, 0 to 10000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub weight: u32,
    /// Probe it every 10 s: `tcp`, `http`, `http:/healthz`, `grpc`, `grpc:SERVICE`.
    #[arg(long, value_name = "PROBE")]
    pub probe: Option<String>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno log-level`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leno log-level\n  leno log-level info,leno_control=debug\n  leno log-level debug --admin 127.0.0.1:15000"
)]
pub struct LogLevelArgs {
    /// The new filter, as `debug` or `info,leno_proxy=trace`; shows the one in force when absent.
    pub filter: Option<String>,
    /// The admin address of a proxy; the server when absent.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// The server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `leno system …`
#[derive(Debug, Subcommand)]
pub enum SystemVerb {
    /// Write a consistent copy of a running server's state to a file that only you can read.
    #[command(after_help = "Example:\n  leno system backup leno-2026-11-21.db\n\nTokens are no part of it.")]
    Backup {
        /// The file, which must not exist.
        file: PathBuf,
        /// The server.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Put a backup in place of a stopped server's state.
    #[command(
        after_help = "Example:\n  leno system restore leno-2026-11-21.db --data-dir /var/lib/leno --force\n\nExit status: 4 when a server runs on it, or a state is there and --force is not given."
    )]
    Restore {
        /// The backup.
        file: PathBuf,
        /// The server's data directory. Default: that of a server of this user.
        #[arg(long, env = "LENO_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Replace a state that is there; it is kept beside the new one.
        #[arg(long)]
        force: bool,
    },
}
