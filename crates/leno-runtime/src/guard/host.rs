//! The names under which a listener may be addressed.

use std::net::IpAddr;

use super::Refusal;

/// An allow-list of host names and addresses. The loopback ones are always in it, with whatever port: what counts is the
/// name, because a page that rebinds DNS comes under its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// `None` allows every name.
    names: Option<Vec<String>>,
    /// The flag by which whoever starts the listener's role gives it further names, if there is one.
    flag: Option<&'static str>,
}

// === impl Hosts ===

impl Hosts {
    /// Only `localhost`, `127.0.0.1` and `[::1]`.
    pub fn loopback() -> Self {
        Hosts { names: Some(["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()), flag: None }
    }

    /// Every name: for a listener without secrets that is open to a network on purpose (probes and scrapers address it by
    /// names that nobody can list).
    pub fn any() -> Self {
        Hosts { names: None, flag: None }
    }

    /// Told to whoever is refused: this flag gives the listener further names.
    pub fn given_by(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// One more name or address, without a port.
    pub fn and(mut self, name: &str) -> Self {
        if let Some(names) = &mut self.names {
            names.push(normal(name));
        }
        self
    }

    /// Refuses a `Host` that is missing, no host, or not on the list.
    pub fn check(&self, host: Option<&str>) -> Result<(), Refusal> {
        let Some(names) = &self.names else { return Ok(()) };
        let host = host.unwrap_or_default();
        match name_of(host).map(normal).is_some_and(|name| names.contains(&name)) {
            true => Ok(()),
            false => Err(Refusal::host(host, names, self.flag)),
        }
    }
}

/// The part before the port, without brackets; `None` when it is no `name[:port]`.
fn name_of(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => match host.split_once(':') {
            Some((name, _)) => (name, &host[name.len()..]),
            None => (host, ""),
        },
    };
    let is_port = |port: &str| !port.is_empty() && port.parse::<u16>().is_ok();
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

/// The port of a `Host`, if it names one.
pub(super) fn port_of(host: &str) -> Option<u16> {
    host.rsplit_once(':')?.1.parse().ok()
}

/// Addresses in their one spelling, names in lower case without the final dot.
fn normal(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.trim_end_matches('.').to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_configured_names_pass_with_any_port() {
        let hosts = Hosts::loopback().and("Mesh.Example.com");
        for host in ["localhost:7070", "LOCALHOST", "127.0.0.1:1", "[::1]:7070", "[0:0::1]", "mesh.example.com."] {
            assert_eq!(hosts.check(Some(host)), Ok(()), "{host}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let hosts = Hosts::loopback();
        let wrong =
            ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost:", "localhost:x", "[::1]x", ""];
        for host in wrong {
            assert_eq!(hosts.check(Some(host)).unwrap_err().code, "host_not_allowed", "{host}");
        }
        assert!(hosts.check(None).is_err());
    }

    #[test]
    fn a_refusal_names_the_flag_for_more_names_where_there_is_one() {
        let fix = |hosts: Hosts| hosts.check(Some("evil.example")).unwrap_err().fix;
        assert_eq!(fix(Hosts::loopback()), "address it as localhost, 127.0.0.1, ::1");
        let given = fix(Hosts::loopback().and("mesh.example").given_by("--allow-host"));
        assert!(given.ends_with(", ::1, mesh.example, or start it with --allow-host NAME"), "{given}");
    }
}
