//! Names outside the mesh and their addresses, looked up as the host does it.
//!
//! ```text
//! name ─► known since a moment ago? ─► its addresses, or why it has none
//!      ─► being looked up?          ─► waits with the others, until the deadline
//!      ─► neither                   ─► a look-up on a thread of its own, if not too many are under way
//! ```
//!
//! By `getaddrinfo`, so that `/etc/hosts`, `/etc/resolv.conf` and whatever else nsswitch asks hold as they do without a
//! proxy. It blocks for as long as a name server is silent, and nothing ends it before. Rejected: the runtime's threads
//! for blocking calls, of which eight names of a silent server held all, for everybody; a DNS client, which would know
//! how long an answer holds, and nothing of nsswitch.
//!
//! Invariants: a name is looked up once at a time; nobody waits longer than [`DEADLINE`], counted from the beginning of
//! the look-up, so that who comes later to a name that nobody answers for hears it at once; names whose last look-up was
//! late take half of [`LOOK_UPS_MAX`] at most, and leave the rest to the names of other servers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use leno_model::seam::Clock;
use tokio::sync::watch;

use crate::failure::Failure;

/// Look-ups that a worker has under way.
pub const LOOK_UPS_MAX: usize = 32;
/// Of those, look-ups of names whose last one was late.
const LATE_MAX: usize = LOOK_UPS_MAX / 2;
/// How long a request waits for an address.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long addresses hold: `getaddrinfo` does not say.
const FOUND_TTL: Duration = Duration::from_secs(30);
/// How long it holds that a name has none.
const FAILED_TTL: Duration = Duration::from_secs(2);
/// How long it is remembered of a name that its look-up was late.
const LATE_TTL: Duration = Duration::from_secs(60);
/// Names that are remembered.
const NAMES_MAX: usize = 1024;
/// The longest name in DNS, with its final dot.
const NAME_BYTES_MAX: usize = 254;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Finds the addresses of a name; may block.
pub type LookUp = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The names that a worker knows.
pub(crate) struct OutsideNames {
    look_up: LookUp,
    clock: Arc<dyn Clock>,
    names: RefCell<HashMap<String, Known>>,
}

/// The addresses of a name, one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) addresses: Arc<[IpAddr]>,
    /// Until when they hold.
    pub(crate) until: Duration,
}

/// The last look-up of a name.
#[derive(Clone)]
struct Known {
    since: Duration,
    /// Whether the one before was late.
    suspect: bool,
    /// None while it is under way.
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What came of a look-up, and when.
#[derive(Debug, Clone)]
struct Outcome {
    at: Duration,
    addresses: Result<Arc<[IpAddr]>, Arc<str>>,
}

/// As the host does it.
pub(crate) fn of_host(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

// === impl OutsideNames ===

impl OutsideNames {
    pub(crate) fn new(look_up: LookUp, clock: Arc<dyn Clock>) -> Self {
        Self { look_up, clock, names: RefCell::default() }
    }

    /// The addresses of a host: it may be one itself.
    pub(crate) async fn find(&self, host: &str) -> Result<Found, Failure> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Found { addresses: [address].into(), until: self.clock.monotonic() + FOUND_TTL });
        }
        let mut known = self.known(host)?;
        let left = (known.since + DEADLINE).saturating_sub(self.clock.monotonic());
        let Ok(ended) = tokio::time::timeout(left, known.outcome.wait_for(Option::is_some)).await else {
            return Err(Failure::ResolveTimeout { name: host.to_owned(), waited: DEADLINE });
        };
        match ended.ok().and_then(|outcome| outcome.clone()) {
            Some(Outcome { at, addresses: Ok(addresses) }) => Ok(Found { addresses, until: at + FOUND_TTL }),
            Some(Outcome { addresses: Err(cause), .. }) => Err(unresolved(host, &cause)),
            None => Err(unresolved(host, "the look-up broke off")),
        }
    }

    /// Forgets what holds no longer.
    pub(crate) fn sweep(&self) {
        let now = self.clock.monotonic();
        self.names.borrow_mut().retain(|_, known| known.holds(now) || known.was_late(now));
    }

    /// The look-up that counts for a name; it may have been begun for it.
    fn known(&self, host: &str) -> Result<Known, Failure> {
        if host.len() > NAME_BYTES_MAX {
            return Err(unresolved(host, "no name is that long"));
        }
        let (name, now) = (host.to_ascii_lowercase(), self.clock.monotonic());
        let mut names = self.names.borrow_mut();
        let before = names.get(&name);
        if let Some(known) = before.filter(|known| known.holds(now)) {
            return Ok(known.clone());
        }
        let suspect = before.is_some_and(|known| known.was_late(now));
        let under_way = names.values().filter(|known| known.is_under_way());
        let (all, late) = under_way.fold((0, 0), |(all, late), known| (all + 1, late + usize::from(known.suspect)));
        if all >= LOOK_UPS_MAX || suspect && late >= LATE_MAX {
            return Err(Failure::ResolveFull { name, under_way: all });
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, known| known.holds(now));
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, known| known.is_under_way());
        }
        let outcome = self.begin(&name).map_err(|_| Failure::ResolveFull { name: name.clone(), under_way: all })?;
        let known = Known { since: now, suspect, outcome };
        names.insert(name, known.clone());
        Ok(known)
    }

    /// Begins a look-up, on a thread that ends with it.
    fn begin(&self, name: &str) -> io::Result<watch::Receiver<Option<Outcome>>> {
        let (tell, outcome) = watch::channel(None);
        let (look_up, clock, name) = (self.look_up.clone(), self.clock.clone(), name.to_owned());
        std::thread::Builder::new().name("leno-look-up".to_owned()).spawn(move || {
            let addresses = match look_up(&name) {
                Ok(addresses) if addresses.is_empty() => Err("it has no address".into()),
                Ok(addresses) => Ok(addresses.into_iter().take(ADDRESSES_MAX).collect()),
                Err(error) => Err(cause(&error).into()),
            };
            tell.send_replace(Some(Outcome { at: clock.monotonic(), addresses }));
        })?;
        Ok(outcome)
    }
}

/// What `getaddrinfo` said, without the standard library's introduction.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

fn unresolved(host: &str, cause: &str) -> Failure {
    Failure::Resolve { name: host.to_owned(), cause: cause.to_owned() }
}

// === impl Known ===

impl Known {
    fn is_under_way(&self) -> bool {
        // A thread that panicked told nothing and is gone.
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }

    /// Whether it still counts.
    fn holds(&self, now: Duration) -> bool {
        match &*self.outcome.borrow() {
            Some(Outcome { at, addresses: Ok(_) }) => now < *at + FOUND_TTL,
            Some(Outcome { at, addresses: Err(_) }) => now < *at + FAILED_TTL,
            None => self.outcome.has_changed().is_ok(),
        }
    }

    /// Whether it took so long that nobody had waited for it, not long ago.
    fn was_late(&self, now: Duration) -> bool {
        let was_late = |at: Duration| at >= self.since + DEADLINE && now < at + LATE_TTL;
        self.outcome.borrow().as_ref().is_some_and(|outcome| was_late(outcome.at))
    }
}

#[cfg(test)]
mod tests;
