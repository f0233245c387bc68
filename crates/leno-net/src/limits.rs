//! The limit on open descriptors: raised once at start, and given back to the programs that leno starts.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What [`raise_descriptors`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The soft limit as it was.
    pub before: u64,
    /// The soft limit now.
    pub now: u64,
}

/// Descriptors that are kept back from connections, for everything else that a process has open.
pub const RESERVE: usize = 512;

/// The soft limit before it was raised, for [`original_descriptors`].
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises this process's soft limit on descriptors to its hard one.
pub fn raise_descriptors() -> io::Result<Descriptors> {
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let _ = BEFORE.set(before);
    Ok(Descriptors { before, now: limit.maximum.unwrap_or(u64::MAX) })
}

/// The descriptors that connections may hold when nobody says: the soft limit less [`RESERVE`], or half of a limit that
/// is too small for that.
pub fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(RESERVE).max(limit / 2)
}

/// The soft limit that programs started by leno get: the one leno itself was given. A program that still uses `select`
/// breaks above 1,024.
pub fn original_descriptors() -> u64 {
    BEFORE.get().copied().unwrap_or_else(|| getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Sets this process's soft limit; between fork and exec, this gives a program its limit back.
pub(crate) fn set_descriptors(soft: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: limit.maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_rises_to_the_hard_one_and_the_first_value_is_remembered() {
        let found = raise_descriptors().unwrap();
        let again = raise_descriptors().unwrap();
        assert_eq!(again.before, again.now);
        assert_eq!(original_descriptors(), found.before);
    }
}
