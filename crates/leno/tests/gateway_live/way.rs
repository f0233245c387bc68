//! How a proxy is reached that a case asks, which is started unless it runs.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::expect::list;
use crate::{Case, key, kit};

/// Where gateways find certificates, beside what they have on disk.
pub(crate) const CERTIFICATES: &str = "certificates";

/// Where a proxy is asked.
#[derive(Clone, Default)]
pub(crate) struct Ways {
    outbound: Option<SocketAddr>,
    /// Local ports of services that are dialled under another name.
    to: Vec<(String, SocketAddr)>,
}

/// Where a request goes, and the authority that it names.
pub(crate) struct Way {
    pub(crate) to: SocketAddr,
    pub(crate) authority: String,
}

impl Case<'_> {
    /// Starts the proxy that is asked, unless it runs, and says how it is reached.
    pub(crate) fn way(&mut self, asked: &Value) -> Way {
        let text = |name: &str| asked[name].as_str().or(self.value[name].as_str()).map(str::to_owned);
        match text("from") {
            Some(from) => self.mesh_way(asked, &from),
            None => {
                let name = text("gateway").unwrap();
                let first = self.first_port(&name);
                let port = asked["port"].as_u64().or(asked["tcp"].as_u64()).or(asked["udp"].as_u64());
                let port = port.or(asked["tls"].is_string().then_some(443)).map_or(first, |port| port as u16);
                let full = format!("{name}.infra");
                self.start(
                    &name,
                    Ways::default(),
                    &["--role", "gateway", "--gateway", &full, "--certificates", CERTIFICATES],
                );
                let of_port = if port == 80 { String::new() } else { format!(":{port}") };
                let host = asked["host"].as_str().map_or_else(|| format!("127.0.0.1{of_port}"), str::to_owned);
                Way { to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), authority: host }
            }
        }
    }

    fn mesh_way(&mut self, asked: &Value, from: &str) -> Way {
        let (namespace, name) = from.split_once('/').unwrap();
        let service = format!("{name}.{namespace}");
        let mut ways = Ways { outbound: Some(kit::free_address()), to: Vec::new() };
        for connect in list(&self.value["requests"]).iter().filter_map(|asked| asked["connect"].as_str()) {
            ways.to.push((connect.to_owned(), kit::free_address()));
        }
        let outbound = ways.outbound.unwrap().to_string();
        let mut arguments = vec!["--service".to_owned(), service, "--outbound-listen".to_owned(), outbound];
        for (service, address) in ways.to.iter().filter(|(service, _)| !service.starts_with("instance of ")) {
            arguments.extend(["--to".to_owned(), format!("{service}:80={address}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ways = self.start(from, ways.clone(), &arguments);
        let host = asked["host"].as_str().unwrap_or_default().to_owned();
        let Some(connect) = asked["connect"].as_str() else {
            return Way { to: ways.outbound.unwrap(), authority: host };
        };
        if let Some(service) = connect.strip_prefix("instance of ") {
            let port = asked["port"].as_u64().unwrap() as u16;
            let instance = self.services.instance(&format!("conformance/{service}"), port);
            return Way { to: ways.outbound.unwrap(), authority: instance.to_string() };
        }
        let (_, to) = ways.to.iter().find(|(service, _)| service == connect).unwrap();
        Way { to: *to, authority: host }
    }

    fn start(&mut self, name: &str, ways: Ways, arguments: &[&str]) -> Ways {
        if let Some((running, _, ways)) = &self.proxy
            && running == name
        {
            return ways.clone();
        }
        // The other one has the ports.
        self.proxy = None;
        let off: &[&str] = if ways.outbound.is_none() { &["--outbound-listen", "off"] } else { &[] };
        let process = self.mesh.proxy(&[arguments, off, &["--inbound-listen", "off"]].concat());
        process.wait_for("ready");
        self.proxy = Some((name.to_owned(), process, ways.clone()));
        ways
    }

    fn first_port(&self, gateway: &str) -> u16 {
        let is_it = |(value, _): &&(Value, String)| key(value) == format!("Gateway/infra/{gateway}");
        let (value, _) = self.resources.iter().find(is_it).unwrap();
        value["spec"]["listeners"][0]["port"].as_u64().unwrap() as u16
    }
}
