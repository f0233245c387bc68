//! Whether this machine lets a program be captured, and if not, why and what to do.

#![allow(unsafe_code)]

use std::fs::read_to_string;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use super::enter::{enter, find_nft};
use super::wire::{self, Frame, Kind};
use super::{Capture, CaptureError};

/// Why a program cannot be captured here; the message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// There is no `nft`.
    #[error(
        "nft is not installed; install the package nftables, or start the program beside a `leno proxy` of its own"
    )]
    NftMissing,
    /// The kernel makes no user namespaces for this user.
    #[error("user namespaces are forbidden here ({}); {fix}, or start the program beside a `leno proxy` of its own", io::Error::from_raw_os_error(*errno))]
    NamespacesForbidden {
        /// What `unshare` said.
        errno: i32,
        /// What to do.
        fix: &'static str,
    },
    /// A user namespace can be made but has no power in it.
    #[error(
        "a security module allows user namespaces but not their use ({}); {fix}, or start the program beside a `leno proxy` of its own",
        io::Error::from_raw_os_error(*errno)
    )]
    NamespacesPowerless {
        /// What bringing loopback up said.
        errno: i32,
        /// What to do.
        fix: &'static str,
    },
    /// `nft` did not take the rules.
    #[error(
        "nft refused the rules ({0}); the kernel needs nf_tables, nft_chain_nat and nft_redir, or start the program beside a `leno proxy` of its own"
    )]
    NftRefused(String),
    /// Something else.
    #[error("capture cannot be tried: {0}")]
    Other(String),
}

/// How long the trial may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries in a throw-away process whether programs can be captured here; takes about as long as executing `nft` once.
pub fn check() -> Result<(), Why> {
    find_nft().ok_or(Why::NftMissing)?;
    match try_in_a_fork() {
        Ok(result) => result,
        Err(error) => Err(Why::Other(error.to_string())),
    }
}

fn try_in_a_fork() -> io::Result<Result<(), Why>> {
    let (here, there) = UnixStream::pair()?;
    here.set_read_timeout(Some(PATIENCE))?;
    // SAFETY: the child has only this thread, which holds no lock of ours; it allocates, which the allocators of glibc,
    // musl and mimalloc allow after fork, executes nft, and leaves by _exit. Should it hang after all, it is killed.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            match enter(&Capture::default()) {
                Ok(_) => drop(wire::write(&there, Frame::new(Kind::Ready, 0), "", &[])),
                Err(error) => drop(wire::write_failure(&there, &error)),
            }
            // SAFETY: ends the process without running what the parent registered to run at exit.
            unsafe { libc::_exit(0) }
        }
        pid => Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?,
    };
    drop(there);
    let said = wire::read_with_text(&here);
    // Already gone, except when it hangs.
    let _ = rustix::process::kill_process(child, Signal::KILL);
    rustix::process::waitpid(Some(child), WaitOptions::empty())?;
    match said?.ok_or(io::ErrorKind::UnexpectedEof)? {
        (Frame { kind: Kind::Ready, .. }, _) => Ok(Ok(())),
        (frame, text) => Ok(Err(match CaptureError::from_failure(frame, text) {
            CaptureError::Impossible(why) => why,
            other => Why::Other(other.to_string()),
        })),
    }
}

// === impl Why ===

impl Why {
    /// Why `unshare` did not make a user namespace.
    pub(super) fn of_unshare(errno: i32) -> Self {
        let is = |file: &str, value: &str| read_to_string(file).is_ok_and(|text| text.trim() == value);
        let fix = if is("/proc/sys/user/max_user_namespaces", "0") {
            "`sysctl user.max_user_namespaces=10000` allows them"
        } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            "`sysctl kernel.unprivileged_userns_clone=1` allows them"
        } else if errno == libc::ENOSPC {
            "too many exist already; `sysctl user.max_user_namespaces` raises the limit"
        } else {
            "a container's seccomp profile or a chroot may be what forbids them"
        };
        Why::NamespacesForbidden { errno, fix }
    }

    /// Why a user namespace that was made has no power over its network.
    pub(super) fn of_powerless(errno: i32) -> Self {
        let restricted = read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
        let fix = if restricted.is_ok_and(|text| text.trim() == "1") {
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile with `userns,` allows it"
        } else {
            "the policy of the security module has to allow it"
        };
        Why::NamespacesPowerless { errno, fix }
    }
}
