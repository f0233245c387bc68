//! Settings: where each value comes from, and the small languages of some flags.
//!
//! Precedence: flag, variable, settings file, default. A settings file is YAML whose keys are names of flags, at the top
//! level for every role or under a role's name for that role alone:
//!
//! ```yaml
//! log-format: json
//! server:
//!   http-listen: 127.0.0.1:7070
//! ```
//!
//! The file's values become the defaults of the flags before the command line is read, so that one parser judges them
//! all, and its errors name the flag.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use leno_http::Limits;
use leno_model::instance::Protocol;
use leno_net::Address;
use leno_proxy::pressure::Reaction;
use serde::Serialize;

/// Files that are read when none is named, the first that is there.
const DEFAULT_FILES: [&str; 2] = ["leno.yaml", "/etc/leno/leno.yaml"];

/// One setting in force.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// The name of the flag.
    pub name: String,
    /// The value; secrets are none of the settings.
    pub value: String,
    /// `flag`, `variable LENO_X`, `file leno.yaml` or `default`.
    pub source: String,
}

/// Values of a settings file: for all roles, and for each.
#[derive(Debug, Default)]
pub struct SettingsFile {
    path: PathBuf,
    common: BTreeMap<String, Vec<String>>,
    roles: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

// === impl SettingsFile ===

impl SettingsFile {
    /// Reads `named`, or the first default file that is there.
    pub fn load(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => match DEFAULT_FILES.iter().map(Path::new).find(|path| path.is_file()) {
                Some(path) => path.to_owned(),
                None => return Ok(Self::default()),
            },
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("settings file {}", path.display()))?;
        Self::parse(&path, &text)
    }

    fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let place = path.display().to_string();
        let value = leno_model::document::parse_value(&place, text).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        let serde_json::Value::Object(entries) = value else {
            bail!("{place}: settings are `name: value` lines");
        };
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        for (key, value) in entries {
            match value {
                serde_json::Value::Object(inner) => {
                    let mut role = BTreeMap::new();
                    for (name, value) in inner {
                        role.insert(name.clone(), texts(&place, &name, value)?);
                    }
                    file.roles.insert(key, role);
                }
                value => {
                    file.common.insert(key.clone(), texts(&place, &key, value)?);
                }
            }
        }
        Ok(file)
    }

    /// Makes the file's values the defaults of the flags they name; a name that no flag has is an error.
    pub fn make_defaults(&self, mut command: Command) -> anyhow::Result<Command> {
        for name in self.roles.keys() {
            if command.find_subcommand(name).is_none() {
                bail!("{}: {name}: no role or verb of this name", self.path.display());
            }
        }
        let mut used: BTreeMap<String, bool> = self.common.keys().map(|name| (name.clone(), false)).collect();
        let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        for verb in verbs {
            let of_role = self.roles.get(&verb);
            let mut known = Vec::new();
            command = command.mut_subcommand(&verb, |verb| self.defaults_of(verb, of_role, &mut known));
            for long in &known {
                used.entry(long.clone()).and_modify(|used| *used = true);
            }
            let unknown = of_role.into_iter().flat_map(|role| role.keys()).find(|name| !known.contains(name));
            if let Some(name) = unknown {
                bail!("{}: {verb}.{name}: `leno {verb}` has no flag --{name}", self.path.display());
            }
        }
        command = command.mut_args(|arg| {
            let Some(values) = arg.get_long().and_then(|long| self.common.get(long)) else { return arg };
            arg.default_values(values.clone())
        });
        let global: Vec<String> = command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
        if let Some((name, _)) = used.iter().find(|(name, used)| !**used && !global.contains(name)) {
            bail!("{}: {name}: no verb has a flag --{name}", self.path.display());
        }
        Ok(command)
    }

    /// Sets the defaults of a verb and of the verbs below it, and notes the flags that they have.
    fn defaults_of(
        &self,
        verb: Command,
        of_role: Option<&BTreeMap<String, Vec<String>>>,
        known: &mut Vec<String>,
    ) -> Command {
        let verb = verb.mut_args(|arg| {
            let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
            let value = of_role.and_then(|role| role.get(&long)).or_else(|| self.common.get(&long));
            known.push(long);
            match value {
                Some(values) => arg.default_values(values.clone()).required(false),
                None => arg,
            }
        });
        verb.mut_subcommands(|below| self.defaults_of(below, of_role, known))
    }

    fn names(&self, verb: &str, name: &str) -> bool {
        self.common.contains_key(name) || self.roles.get(verb).is_some_and(|role| role.contains_key(name))
    }
}

/// A value as the command line would spell it.
fn texts(place: &str, name: &str, value: serde_json::Value) -> anyhow::Result<Vec<String>> {
    match value {
        serde_json::Value::String(text) => Ok(vec![text]),
        serde_json::Value::Number(number) => Ok(vec![number.to_string()]),
        serde_json::Value::Bool(bool) => Ok(vec![bool.to_string()]),
        serde_json::Value::Array(items) => {
            Ok(items.into_iter().map(|item| texts(place, name, item)).collect::<Result<Vec<_>, _>>()?.concat())
        }
        serde_json::Value::Null | serde_json::Value::Object(_) => {
            bail!("{place}: {name}: write a text, a number or a list")
        }
    }
}

/// Every setting of the verb that was called, with where its value came from.
pub fn in_force(command: &Command, matches: &ArgMatches, file: &SettingsFile) -> Vec<Setting> {
    let Some((verb, matches)) = matches.subcommand() else { return Vec::new() };
    let global = command.get_arguments().filter(|arg| arg.is_global_set());
    let Some(command) = command.find_subcommand(verb) else { return Vec::new() };
    let mut settings = Vec::new();
    for arg in global.chain(command.get_arguments()).filter(|arg| !arg.is_hide_set()) {
        let (Some(long), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
        let values = matches
            .get_raw(id)
            .map(|values| values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(","));
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "flag".to_owned(),
            Some(ValueSource::EnvVariable) => {
                format!(
                    "variable {}",
                    arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                )
            }
            _ if file.names(verb, long) => format!("file {}", file.path.display()),
            _ => "default".to_owned(),
        };
        settings.push(Setting { name: long.to_owned(), value: values.unwrap_or_default(), source });
    }
    settings
}

/// Where a server keeps what it keeps when nobody says: /var/lib/leno for root, else `$XDG_STATE_HOME/leno` or
/// ~/.local/state/leno. The command line looks for the token there.
pub fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/leno");
    }
    let named = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")));
    // Without a home there is no place of one's own; a shared one such as /tmp would let others plant a token there.
    state.map_or_else(|| PathBuf::from("/var/lib/leno"), |state| state.join("leno"))
}

/// The file of the store in a server's data directory.
pub fn state_file(data_dir: &Path) -> PathBuf {
    data_dir.join("state.db")
}

/// A port of the application: `8080`, `8080=http`, `8080=unix:/run/app.sock`, `8080=tcp@127.0.0.1:9000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationPort {
    /// The port that the service is known by.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the application listens, when not on that port of loopback.
    pub address: Option<Address>,
}

/// A local way to one destination: `cart=127.0.0.1:9001`, `db:5432=unix:/run/db.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToPort {
    /// The destination as it was written, `cart` or `db.shop:5432`.
    pub destination: String,
    /// Where the proxy listens for it.
    pub listen: Address,
}

/// A limit and its value, which is one that it takes: `head-bytes=128KiB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    name: String,
    value: String,
}

/// From what percentage of its memory on a proxy does something: `reset-slow=70`, `stop-accepting=off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReactionAt {
    /// What it does.
    pub reaction: Reaction,
    /// From what on; none is never.
    pub percent: Option<u8>,
}

/// Reads bytes, with `KiB`, `MiB` or `GiB` if one likes; at least 1MiB.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("{unit:?} is no unit of memory: use KiB, MiB or GiB")),
    };
    let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let bytes = number.and_then(|digits| digits.parse::<u64>().ok()?.checked_mul(unit));
    let bytes = bytes.ok_or_else(|| format!("{text:?} is no number of bytes: write 268435456, 256MiB or 1GiB"))?;
    if bytes < 1 << 20 { Err(format!("{text:?} is less than any proxy takes: write at least 1MiB")) } else { Ok(bytes) }
}

// === impl ReactionAt ===

impl FromStr for ReactionAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else { return Err("write NAME=PERCENT or NAME=off".to_owned()) };
        let reaction = Reaction::parse(name.trim())
            .ok_or_else(|| format!("{:?} is none of {}", name.trim(), Reaction::ALL.map(Reaction::text).join(", ")))?;
        let percent = match value.trim() {
            "off" => None,
            value => Some(
                value
                    .parse()
                    .ok()
                    .filter(|percent| (1..=100).contains(percent))
                    .ok_or_else(|| format!("{value:?} is no percentage: write a number from 1 to 100, or off"))?,
            ),
        };
        Ok(Self { reaction, percent })
    }
}

impl fmt::Display for ReactionAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent {
            Some(percent) => write!(f, "{}={percent}", self.reaction.text()),
            None => write!(f, "{}=off", self.reaction.text()),
        }
    }
}

// === impl Limit ===

impl Limit {
    /// Changes it in `limits`.
    pub fn put(&self, limits: &mut Limits) {
        // It was tried when it was read.
        let _ = limits.set(&self.name, &self.value);
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else { return Err("write NAME=VALUE".to_owned()) };
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        Limits::default().set(&name, &value).map_err(|error| error.to_string())?;
        Ok(Self { name, value })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

// === impl ApplicationPort ===

impl FromStr for ApplicationPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write PORT, PORT=PROTOCOL, PORT=unix:PATH or PORT=PROTOCOL@ADDRESS:PORT";
        let (port, rest) = match text.split_once('=') {
            Some((port, rest)) => (port, Some(rest)),
            None => (text, None),
        };
        let port: u16 =
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is no port: {hint}"))?;
        let (protocol, address) = match rest {
            None => (None, None),
            Some(rest) if rest.starts_with("unix:") => (None, Some(rest)),
            Some(rest) => match rest.split_once('@') {
                Some((protocol, address)) => (Some(protocol), Some(address)),
                None => (Some(rest), None),
            },
        };
        let protocol = protocol.map_or(Ok(Protocol::Detect), parse_protocol)?;
        let address = address.map(str::parse).transpose().map_err(|error| format!("{error}: {hint}"))?;
        Ok(Self { port, protocol, address })
    }
}

impl ApplicationPort {
    /// Where the application listens.
    pub fn application(&self) -> Address {
        self.address.clone().unwrap_or(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], self.port))))
    }
}

impl std::fmt::Display for ApplicationPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.port, protocol_name(self.protocol))?;
        self.address.iter().try_for_each(|address| write!(f, "@{address}"))
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| format!("{text:?} is no protocol: use detect, http, http2, grpc, tcp or tls"))
}

fn protocol_name(protocol: Protocol) -> String {
    match serde_json::to_value(protocol) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

// === impl ToPort ===

impl FromStr for ToPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write SERVICE[:PORT]=ADDRESS:PORT or SERVICE[:PORT]=unix:PATH";
        let (destination, listen) = text.split_once('=').ok_or_else(|| format!("{text:?}: {hint}"))?;
        let service = destination.split_once(':').map_or(destination, |(service, _)| service);
        if let Some((_, port)) = destination.split_once(':') {
            port.parse::<u16>().map_err(|_| format!("{port:?} is no port: {hint}"))?;
        }
        leno_model::name::ServiceName::from_str(service).map_err(|error| error.to_string())?;
        let listen = match listen.parse::<u16>() {
            Ok(port) => Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port))),
            Err(_) => listen.parse().map_err(|error| format!("{error}: {hint}"))?,
        };
        Ok(Self { destination: destination.to_owned(), listen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn file(text: &str) -> anyhow::Result<SettingsFile> {
        SettingsFile::parse(Path::new("leno.yaml"), text)
    }

    fn source_of(text: &str, arguments: &[&str], name: &str) -> (String, String) {
        let file = file(text).unwrap();
        let command = file.make_defaults(crate::args::Cli::command()).unwrap();
        let matches = command.clone().try_get_matches_from(arguments).unwrap();
        let setting = in_force(&command, &matches, &file).into_iter().find(|setting| setting.name == name).unwrap();
        (setting.value, setting.source)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text = "server:\n  http-listen: 127.0.0.1:8000\n";
        let listen = "http-listen";
        assert_eq!(source_of("{}", &["leno", "server"], listen), ("127.0.0.1:7070".into(), "default".into()));
        assert_eq!(source_of(text, &["leno", "server"], listen), ("127.0.0.1:8000".into(), "file leno.yaml".into()));
        let flag = ["leno", "server", "--http-listen", "9000"];
        assert_eq!(source_of(text, &flag, listen), ("9000".into(), "flag".into()));
    }

    #[test]
    fn a_verb_below_a_verb_takes_the_defaults_too() {
        let command = file("api: http://10.0.0.1:7070\n").unwrap().make_defaults(crate::args::Cli::command()).unwrap();
        let matches = command.try_get_matches_from(["leno", "service", "list"]).unwrap();
        let list = matches.subcommand().unwrap().1.subcommand().unwrap().1;
        assert_eq!(list.get_one::<String>("api").unwrap(), "http://10.0.0.1:7070");
    }

    #[test]
    fn a_name_that_no_flag_has_is_an_error_that_says_so() {
        for (text, expected) in [
            ("server:\n  http-lisen: 1\n", "server.http-lisen: `leno server` has no flag --http-lisen"),
            ("gateway:\n  x: 1\n", "gateway: no role or verb of this name"),
            ("http-lisen: 1\n", "http-lisen: no verb has a flag --http-lisen"),
        ] {
            let error = file(text).unwrap().make_defaults(crate::args::Cli::command()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn an_application_port_says_what_it_speaks_and_where() {
        let port: ApplicationPort = "8080=http@127.0.0.1:9000".parse().unwrap();
        assert_eq!((port.port, port.protocol), (8080, Protocol::Http));
        assert_eq!(port.application().to_string(), "127.0.0.1:9000");
        let unix: ApplicationPort = "8080=unix:/run/app.sock".parse().unwrap();
        assert_eq!(unix.application(), Address::Unix("/run/app.sock".into()));
        for wrong in ["", "0", "http", "8080=ftp", "8080=http@nowhere"] {
            assert!(wrong.parse::<ApplicationPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reaction_has_a_percentage_or_is_off_and_says_what_else_may_be_written() {
        for text in ["reset-slow=70", "stop-accepting=off", "close-idle=100"] {
            assert_eq!(text.parse::<ReactionAt>().unwrap().to_string(), text);
        }
        for (wrong, says) in [
            ("reset-slow", "NAME=PERCENT"),
            ("reset=70", "none of close-idle, reset-slow, read-less, refuse-sheddable"),
            ("reset-slow=0", "from 1 to 100, or off"),
            ("reset-slow=101", "from 1 to 100, or off"),
            ("reset-slow=70%", "from 1 to 100, or off"),
        ] {
            assert!(wrong.parse::<ReactionAt>().unwrap_err().contains(says), "{wrong}");
        }
    }

    #[test]
    fn memory_is_bytes_with_a_unit() {
        let read = ["1048576", "64MiB", "1GiB", "2048KiB"].map(|text| parse_bytes(text).unwrap());
        assert_eq!(read, [1 << 20, 64 << 20, 1 << 30, 2 << 20]);
        for wrong in ["", "MiB", "64MB", "-1", "1.5GiB", "1KiB", "99999999999999999999", "99999999999999GiB", "ä"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_to_port_names_a_service_and_a_place() {
        let to: ToPort = "db.shop:5432=9001".parse().unwrap();
        assert_eq!((to.destination.as_str(), to.listen.to_string().as_str()), ("db.shop:5432", "127.0.0.1:9001"));
        for wrong in ["db", "db:x=1", "www.example.com=1", "db=nowhere"] {
            assert!(wrong.parse::<ToPort>().is_err(), "{wrong}");
        }
    }
}
