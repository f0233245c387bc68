//! Whether an instance may be registered: every field has its rule, and every refusal names the field and the fix.
//!
//! Addresses are checked because proxies connect to them and probes do: link-local ones, where clouds keep their
//! metadata services, are never an instance.

use std::net::IpAddr;
use std::time::Duration;

use leno_model::instance::{HealthCheck, Instance, Probe, Visibility};
use leno_model::name::check_label;

use crate::{Error, Origin};

/// The longest id.
pub const ID_MAX: usize = 128;
/// The most ports of one instance.
pub const PORTS_MAX: usize = 64;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 10_000;
/// The most entries of metadata.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// The most bytes of metadata, keys and values together.
pub const METADATA_BYTES_MAX: usize = 8 * 1024;
/// The shortest and the longest lease.
pub const LEASE_MIN: Duration = Duration::from_secs(5);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(3600);
/// The longest version, zone, region, path and name of a health service.
const TEXT_MAX: usize = 128;
/// The most namespaces that one instance can name as its callers.
const NAMESPACES_MAX: usize = 64;

/// Refuses an instance that breaks a rule.
pub fn validate(instance: &Instance) -> Result<(), Error> {
    check_id(&instance.id)?;
    check_address("address", instance.address)?;
    if let Some(address) = instance.proxy_address {
        check_address("proxyAddress", address)?;
    }
    check_ports(instance)?;
    if instance.weight > WEIGHT_MAX {
        return refuse("weight", format!("{} is too much", instance.weight), format!("give 0 to {WEIGHT_MAX}"));
    }
    if let Some(version) = &instance.version
        && let Err(error) = check_label(version)
    {
        return refuse("version", error.to_string(), "give a DNS label as v2 or 2026-11-21");
    }
    for (field, text) in [("zone", &instance.zone), ("region", &instance.region)] {
        if let Some(text) = text {
            check_text(field, text)?;
        }
    }
    check_text("source", &instance.source)?;
    if let Visibility::Namespaces(namespaces) = &instance.visibility {
        check_namespaces(namespaces)?;
    }
    check_metadata(instance)?;
    if let Some(check) = &instance.health_check {
        check_health(check, instance)?;
    }
    match instance.lease {
        Some(lease) if !(LEASE_MIN..=LEASE_MAX).contains(&lease) => {
            refuse("lease", format!("{lease:?} is out of bounds"), "give 5000 to 3600000 (milliseconds)")
        }
        _ => Ok(()),
    }
}

/// Refuses a health check on loopback for what was registered from elsewhere: it would let a stranger ask what listens
/// on the server's own machine.
pub fn check_origin(instance: &Instance, origin: Origin) -> Result<(), Error> {
    let asked = [Some(instance.address), instance.proxy_address];
    let loopback = asked.iter().flatten().any(|address| address.to_canonical().is_loopback());
    if instance.health_check.is_some() && loopback && origin == Origin::Remote {
        let problem = "loopback is not probed for an instance that was registered from elsewhere";
        return refuse(
            "healthCheck",
            problem,
            "give the address at which others reach the instance, or no health check",
        );
    }
    Ok(())
}

/// Refuses an id that no instance can have.
pub fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(allowed) {
        let shown: String = id.chars().take(ID_MAX).collect();
        return refuse("id", format!("{shown:?} is not an id"), "give 1 to 128 characters of A-Z a-z 0-9 . _ : -");
    }
    Ok(())
}

/// Whether instances may never be there: proxies would be turned against their own host or network.
pub fn check_address(field: &str, address: IpAddr) -> Result<(), Error> {
    let problem = match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_link_local() => "is link-local",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is link-local",
        other if other.is_unspecified() => "is no address to connect to",
        other if other.is_multicast() => "is a multicast address",
        _ => return Ok(()),
    };
    refuse(field, format!("{address} {problem}"), "give the address at which callers reach the instance")
}

fn check_ports(instance: &Instance) -> Result<(), Error> {
    let ports = &instance.ports;
    if ports.is_empty() || ports.len() > PORTS_MAX {
        return refuse("ports", format!("there are {}", ports.len()), format!("give 1 to {PORTS_MAX} ports"));
    }
    for (index, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("ports[{index}].{name}");
        if port.number == 0 || port.proxy_port == Some(0) {
            return refuse(field("number"), "0 is no port", "give 1 to 65535");
        }
        if ports[..index].iter().any(|other| other.number == port.number) {
            return refuse(field("number"), format!("{} stands twice", port.number), "name each port once");
        }
        if let Some(name) = &port.name {
            if let Err(error) = check_label(name) {
                return refuse(field("name"), error.to_string(), "give a DNS label as http or grpc-api");
            }
            if ports[..index].iter().any(|other| other.name.as_ref() == Some(name)) {
                return refuse(field("name"), format!("{name} stands twice"), "give each port a name of its own");
            }
        }
    }
    Ok(())
}

fn check_namespaces(namespaces: &[std::sync::Arc<str>]) -> Result<(), Error> {
    if namespaces.is_empty() || namespaces.len() > NAMESPACES_MAX {
        let problem = format!("there are {} namespaces", namespaces.len());
        return refuse("visibility.namespaces", problem, format!("name 1 to {NAMESPACES_MAX}"));
    }
    match namespaces.iter().find_map(|namespace| check_label(namespace).err()) {
        Some(error) => refuse("visibility.namespaces", error.to_string(), "name namespaces as shop or payments"),
        None => Ok(()),
    }
}

fn check_metadata(instance: &Instance) -> Result<(), Error> {
    let metadata = &instance.metadata;
    if metadata.len() > METADATA_ENTRIES_MAX {
        let fix = format!("give at most {METADATA_ENTRIES_MAX}");
        return refuse("metadata", format!("there are {} entries", metadata.len()), fix);
    }
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        let fix = format!("give at most {METADATA_BYTES_MAX} bytes of keys and values");
        return refuse("metadata", format!("there are {bytes} bytes"), fix);
    }
    Ok(())
}

fn check_health(check: &HealthCheck, instance: &Instance) -> Result<(), Error> {
    let within = |field: &str, value: Duration, min: Duration, max: Duration| {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        let fix = format!("give {} to {} (milliseconds)", min.as_millis(), max.as_millis());
        refuse(format!("healthCheck.{field}"), format!("{value:?} is out of bounds"), fix)
    };
    within("interval", check.interval, Duration::from_secs(1), Duration::from_secs(3600))?;
    within("timeout", check.timeout, Duration::from_millis(10), Duration::from_secs(60))?;
    for (field, value) in
        [("unhealthyThreshold", check.unhealthy_threshold), ("healthyThreshold", check.healthy_threshold)]
    {
        if !(1..=100).contains(&value) {
            return refuse(format!("healthCheck.{field}"), format!("{value} is out of bounds"), "give 1 to 100");
        }
    }
    if let Some(port) = check.port
        && !instance.ports.iter().any(|known| known.number == port)
    {
        return refuse(
            "healthCheck.port",
            format!("{port} is not among the ports"),
            "name one of the instance's ports",
        );
    }
    match &check.probe {
        Probe::Http { path } => {
            let plain = path.bytes().all(|b| b.is_ascii_graphic());
            if !path.starts_with('/') || path.len() > TEXT_MAX || !plain {
                return refuse("healthCheck.path", "is not a path", "give a path as /healthz, at most 128 characters");
            }
            Ok(())
        }
        Probe::Grpc { service } => check_text("healthCheck.service", service),
        Probe::Tcp => Ok(()),
    }
}

fn check_text(field: &str, text: &str) -> Result<(), Error> {
    if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
        return refuse(field, "is too long or has control characters", "give at most 128 plain characters");
    }
    Ok(())
}

fn refuse<T>(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid { field: field.into(), problem: problem.into(), fix: fix.into() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalogue::tests::instance;

    fn refused(change: impl FnOnce(&mut Instance)) -> String {
        let mut instance = instance("cart", "a");
        change(&mut instance);
        match validate(&instance) {
            Err(Error::Invalid { field, fix, .. }) if !fix.is_empty() => field,
            other => panic!("{other:?}"),
        }
    }

    fn health(change: impl FnOnce(&mut HealthCheck)) -> String {
        let mut check = HealthCheck {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 1,
        };
        change(&mut check);
        refused(|i| i.health_check = Some(check))
    }

    #[test]
    fn each_field_has_its_rule() {
        assert_eq!(validate(&instance("cart", "a")), Ok(()));
        assert_eq!(refused(|i| i.id = "".into()), "id");
        assert_eq!(refused(|i| i.id = "a/b".into()), "id");
        assert_eq!(refused(|i| i.id = "x".repeat(129).into()), "id");
        assert_eq!(refused(|i| i.ports.clear()), "ports");
        assert_eq!(refused(|i| i.ports[0].number = 0), "ports[0].number");
        assert_eq!(refused(|i| i.ports.push(i.ports[0].clone())), "ports[1].number");
        assert_eq!(refused(|i| i.ports[0].name = Some("A b".into())), "ports[0].name");
        assert_eq!(refused(|i| i.weight = 10_001), "weight");
        assert_eq!(refused(|i| i.version = Some("V 2".into())), "version");
        assert_eq!(refused(|i| i.zone = Some("a\nb".into())), "zone");
        assert_eq!(refused(|i| i.region = Some("r".repeat(129).into())), "region");
        assert_eq!(refused(|i| i.visibility = Visibility::Namespaces(Vec::<Arc<str>>::new())), "visibility.namespaces");
        assert_eq!(refused(|i| i.lease = Some(Duration::from_secs(4))), "lease");
        assert_eq!(refused(|i| i.lease = Some(Duration::from_secs(3601))), "lease");
    }

    #[test]
    fn metadata_is_bounded_in_entries_and_bytes() {
        assert_eq!(refused(|i| i.metadata = (0..65).map(|n| (n.to_string(), String::new())).collect()), "metadata");
        assert_eq!(refused(|i| drop(i.metadata.insert("k".to_owned(), "v".repeat(8192)))), "metadata");
    }

    #[test]
    fn addresses_that_are_nobody_or_a_trap_are_refused() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert_eq!(refused(|i| i.address = address.parse().unwrap()), "address", "{address}");
            assert_eq!(refused(|i| i.proxy_address = Some(address.parse().unwrap())), "proxyAddress", "{address}");
        }
    }

    #[test]
    fn a_stranger_does_not_have_loopback_probed() {
        let local = Instance { address: [127, 0, 0, 1].into(), ..instance("cart", "a") };
        assert!(check_origin(&local, Origin::Remote).is_err());
        assert!(check_origin(&local, Origin::Local).is_ok());
        assert!(check_origin(&Instance { health_check: None, ..local }, Origin::Remote).is_ok());
    }

    #[test]
    fn a_health_check_has_its_rules() {
        assert_eq!(health(|h| h.port = Some(1)), "healthCheck.port");
        assert_eq!(health(|h| h.interval = Duration::from_millis(999)), "healthCheck.interval");
        assert_eq!(health(|h| h.timeout = Duration::from_secs(61)), "healthCheck.timeout");
        assert_eq!(health(|h| h.unhealthy_threshold = 0), "healthCheck.unhealthyThreshold");
        assert_eq!(health(|h| h.healthy_threshold = 101), "healthCheck.healthyThreshold");
        for path in ["healthz", "/a b", "/a\r\nHost: x"] {
            assert_eq!(health(|h| h.probe = Probe::Http { path: path.to_owned() }), "healthCheck.path");
        }
    }
}
