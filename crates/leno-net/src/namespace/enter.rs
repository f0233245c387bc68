//! Entering the namespaces and setting them up: what both [`super::inside`] and [`super::check`] do.

#![allow(unsafe_code)]

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use rustix::thread::{CapabilitySet, UnshareFlags};

use super::host::Host;
use super::{Capture, CaptureError, Why, netlink, rules};

/// Whether a user namespace was made too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// A real root, or a process with the capability: only a network namespace.
    Network,
    /// A user namespace in which the user is itself, and the network namespace it owns.
    UserAndNetwork,
}

/// ::1 as `/proc/net/if_inet6` writes it.
const LOOPBACK_V6: &str = "00000000000000000000000000000001";

/// Moves this process, which has one thread, into a network namespace of its own, and sets up its network. Says whether
/// there is IPv6.
pub(super) fn enter(capture: &Capture) -> Result<bool, CaptureError> {
    let nft = find_nft().ok_or(Why::NftMissing)?;
    let host = Host::see();
    let entered = enter_namespaces()?;
    let ipv6 = set_up_network(&host)?;
    host.allow_ports();
    run_nft(&nft, &rules::text(capture, ipv6), entered)?;
    Ok(ipv6)
}

/// Only the namespaces.
fn enter_namespaces() -> Result<Entered, CaptureError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    // SAFETY: the file descriptor table is not unshared, which is what could break the ownership of descriptors.
    if unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.is_ok() {
        return Ok(Entered::Network);
    }
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }
        .map_err(|errno| Why::of_unshare(errno.raw_os_error()))?;
    // Groups must be given up before an unprivileged process may map its own (user_namespaces(7)).
    let map = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| CaptureError::step(format!("write {file}"), error))
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("{} {} 1", uid.as_raw(), uid.as_raw()))?;
    map("gid_map", format!("{} {} 1", gid.as_raw(), gid.as_raw()))?;
    Ok(Entered::UserAndNetwork)
}

/// Loopback, addresses and routes. Says whether there is IPv6.
fn set_up_network(host: &Host) -> Result<bool, CaptureError> {
    // Where a security module lets everyone make a user namespace but no use of it, this is the first thing to fail.
    netlink::loopback_up().map_err(|error| match error.raw_os_error() {
        Some(errno @ (libc::EPERM | libc::EACCES)) => Why::of_powerless(errno).into(),
        _ => CaptureError::step("bring loopback up", error),
    })?;
    // Neither the file nor ::1 is there where IPv6 is switched off.
    let ipv6 = std::fs::read_to_string("/proc/self/net/if_inet6").is_ok_and(|text| text.contains(LOOPBACK_V6));
    for (dummy, wanted) in [(IpAddr::V4(rules::ADDRESS_V4), true), (IpAddr::V6(rules::ADDRESS_V6), ipv6)] {
        if !wanted {
            continue;
        }
        let of_family = host.addresses.iter().copied().filter(|address| address.is_ipv4() == dummy.is_ipv4());
        let mut addresses: Vec<IpAddr> = of_family.collect();
        if addresses.is_empty() {
            addresses.push(dummy);
        }
        for address in addresses {
            let step = |error| CaptureError::step(format!("add address {address}"), error);
            netlink::add_address(address).map_err(step)?;
        }
        let step = |error| CaptureError::step(format!("add a default route for {dummy}"), error);
        netlink::add_default_route(dummy).map_err(step)?;
    }
    Ok(ipv6)
}

/// Executes `nft -f -` with the rules. Under the user's own uid it keeps the capability only if that is ambient, so it
/// is, in the child alone, from fork to exec.
fn run_nft(nft: &Path, text: &str, entered: Entered) -> Result<(), CaptureError> {
    let mut command = process::Command::new(nft);
    command.args(["-f", "-"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if entered == Entered::UserAndNetwork {
        // SAFETY: two system calls on the child's own thread; nothing is allocated or locked.
        unsafe { command.pre_exec(make_ambient) };
    }
    let mut run = || {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended before it read everything says why on its own.
            let _ = stdin.write_all(text.as_bytes());
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| CaptureError::step(format!("run {}", nft.display()), error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Why::NftRefused(said.lines().next().unwrap_or("no reason").to_owned()).into())
}

fn make_ambient() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable |= CapabilitySet::NET_ADMIN;
    rustix::thread::set_capabilities(None, sets)?;
    Ok(rustix::thread::configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true)?)
}

/// `nft` lives where only root's PATH looks.
pub(super) fn find_nft() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join("nft"))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}
