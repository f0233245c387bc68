//! Places for connections: how many descriptors they may hold, in all and for one source.
//!
//! A place is one descriptor. It lies in the [`crate::Stream`] whose descriptor it stands for and goes with it, wherever
//! that goes: so an HTTP connection counts 1, a tunnel 2, and a pooled upstream connection by itself. What is accepted
//! and finds no place is reset at once, because a peer that hears so may try elsewhere, while one that is left in the
//! kernel's queue waits for nothing. What this process opens itself is counted and never refused: it serves those that
//! were let in.
//!
//! Sources are counted where strangers connect: loopback is not, and IPv6 is counted by its /64, of which one host has
//! all addresses. That takes a short lock for each connection; none for a request.

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Parts in which sources are counted, each with a lock of its own.
const SHARDS: usize = 16;
/// A cap that strikes is said at most so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacesMax {
    /// Of all connections.
    pub all: usize,
    /// Of one source other than loopback; none is any number.
    pub of_source: Option<usize>,
}

/// The places of a process; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Places {
    count: Arc<Count>,
}

/// One descriptor's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    count: Arc<Count>,
    /// Boxed, because most have none.
    beside: Option<Box<Beside>>,
}

/// What goes with a place.
#[derive(Debug)]
enum Beside {
    /// The source that an accepted connection counts for.
    Source(IpAddr),
    /// What one that was opened here holds.
    Held { _held: Box<dyn Any + Send + Sync> },
}

/// Which cap an accepted connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all connections.
    All,
    /// That of its source.
    Source,
}

#[derive(Debug)]
struct Count {
    max: PlacesMax,
    taken: AtomicUsize,
    /// Sources with an open connection; as many as there are connections at most.
    sources: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    refused: [Strikes; 2],
    pauses: Strikes,
    made: Instant,
}

/// How often a limit struck, and when that was said last.
#[derive(Debug, Default)]
struct Strikes {
    count: AtomicU64,
    /// Milliseconds since the places were made, from which on it is said again.
    quiet_until: AtomicU64,
}

// === impl PlacesMax ===

impl Default for PlacesMax {
    /// Any number.
    fn default() -> Self {
        PlacesMax { all: usize::MAX, of_source: None }
    }
}

// === impl Places ===

impl Places {
    /// So many.
    pub fn new(max: PlacesMax) -> Self {
        let count = Count {
            max,
            taken: AtomicUsize::new(0),
            sources: Default::default(),
            refused: Default::default(),
            pauses: Strikes::default(),
            made: Instant::now(),
        };
        Places { count: Arc::new(count) }
    }

    /// A place for a connection that was accepted from `source`.
    pub fn admit(&self, source: Option<IpAddr>) -> Result<Place, Full> {
        let max = self.count.max;
        if self.count.taken.fetch_add(1, Ordering::Relaxed) >= max.all {
            self.count.taken.fetch_sub(1, Ordering::Relaxed);
            self.count.refuse(Full::All, source);
            return Err(Full::All);
        }
        let mut place = Place { count: self.count.clone(), beside: None };
        source.map_or(Ok(()), |source| place.count_for(source))?;
        Ok(place)
    }

    /// A place for a connection that this process opens, which is let through beyond the cap.
    pub fn count(&self) -> Place {
        self.count.taken.fetch_add(1, Ordering::Relaxed);
        Place { count: self.count.clone(), beside: None }
    }

    /// How many there are.
    pub fn max(&self) -> PlacesMax {
        self.count.max
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.count.taken.load(Ordering::Relaxed)
    }

    /// Connections that a cap refused.
    pub fn refused(&self, why: Full) -> u64 {
        self.count.refused(why)
    }

    /// How often accepting paused because descriptors or memory were short.
    pub fn pauses(&self) -> u64 {
        self.count.pauses.count.load(Ordering::Relaxed)
    }

    /// Counts a pause in accepting.
    pub(crate) fn paused(&self, error: &std::io::Error) {
        if self.count.pauses.strike(self.count.made) {
            let taken = self.taken();
            tracing::warn!(%error, connections = taken, "accepting pauses: raise the hard limit on descriptors");
        }
    }
}

impl Default for Places {
    /// Any number.
    fn default() -> Self {
        Places::new(PlacesMax::default())
    }
}

// === impl Count ===

impl Count {
    fn shard(&self, source: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let byte = match source {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[7],
        };
        self.sources[usize::from(byte) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, why: Full) -> u64 {
        self.refused[why as usize].count.load(Ordering::Relaxed)
    }

    fn refuse(&self, why: Full, source: Option<IpAddr>) {
        if !self.refused[why as usize].strike(self.made) {
            return;
        }
        let (max, refused) = (self.max, self.refused(why));
        match (why, source) {
            (Full::Source, Some(source)) => {
                let max = max.of_source.unwrap_or(usize::MAX);
                tracing::warn!(%source, max, refused, "connections of a source refused: --connections-source-max");
            }
            _ => tracing::warn!(max = max.all, refused, "connections refused: --connections-max"),
        }
    }
}

// === impl Strikes ===

impl Strikes {
    /// Counts one. True: it is time to say so.
    fn strike(&self, made: Instant) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        let now = made.elapsed().as_millis() as u64 + 1;
        let quiet = self.quiet_until.load(Ordering::Relaxed);
        let next = now + SAY_EVERY.as_millis() as u64;
        now > quiet && self.quiet_until.compare_exchange(quiet, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// === impl Place ===

impl Place {
    /// Has this dropped with the place, which is one that counts for no source.
    #[must_use]
    pub fn holding(mut self, held: impl Send + Sync + 'static) -> Self {
        self.forget_source();
        self.beside = Some(Box::new(Beside::Held { _held: Box::new(held) }));
        self
    }

    /// Counts it for a source, in place of the one that it was counted for.
    pub(crate) fn count_for(&mut self, source: IpAddr) -> Result<(), Full> {
        self.forget_source();
        let (Some(max), Some(source)) = (self.count.max.of_source, counted(source)) else { return Ok(()) };
        {
            let mut sources = self.count.shard(&source);
            let open = sources.entry(source).or_insert(0);
            if *open < max {
                *open += 1;
                self.beside = Some(Box::new(Beside::Source(source)));
                return Ok(());
            }
        }
        self.count.refuse(Full::Source, Some(source));
        Err(Full::Source)
    }

    fn forget_source(&mut self) {
        let Some(Beside::Source(source)) = self.beside.as_deref() else { return };
        let mut sources = self.count.shard(source);
        if let Some(open) = sources.get_mut(source) {
            *open -= 1;
            if *open == 0 {
                sources.remove(source);
            }
        }
        drop(sources);
        self.beside = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.taken.fetch_sub(1, Ordering::Relaxed);
        self.forget_source();
    }
}

/// What a source is counted as; none when it is not.
fn counted(source: IpAddr) -> Option<IpAddr> {
    let source = source.to_canonical();
    if source.is_loopback() {
        return None;
    }
    Some(match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_place_is_taken_until_it_is_dropped() {
        let places = Places::new(PlacesMax { all: 2, of_source: None });
        let first = places.admit(source("10.0.0.1")).unwrap();
        let second = places.admit(None).unwrap();
        assert_eq!(places.admit(source("10.0.0.1")).unwrap_err(), Full::All);
        drop(first);
        let third = places.admit(source("10.0.0.1")).unwrap();
        assert_eq!((places.taken(), places.refused(Full::All)), (2, 1));
        drop((second, third));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_source_has_its_own_number_and_loopback_has_none() {
        let places = Places::new(PlacesMax { all: 100, of_source: Some(1) });
        let first = places.admit(source("10.0.0.1")).unwrap();
        assert_eq!(places.admit(source("::ffff:10.0.0.1")).unwrap_err(), Full::Source);
        let other = places.admit(source("10.0.0.2")).unwrap();
        let own: Vec<_> = (0..3).map(|_| places.admit(source("127.0.0.1")).unwrap()).collect();
        assert_eq!((places.taken(), places.refused(Full::Source)), (5, 1));
        drop((first, other, own));
        drop(places.admit(source("10.0.0.1")).unwrap());
        assert!(places.count.sources.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_connection_is_counted_for_who_is_behind_the_proxy_that_opened_it() {
        let places = Places::new(PlacesMax { all: 100, of_source: Some(1) });
        let mut first = places.admit(None).unwrap();
        let mut second = places.admit(None).unwrap();
        let client = "192.0.2.7".parse().unwrap();
        first.count_for(client).unwrap();
        assert_eq!(second.count_for(client).unwrap_err(), Full::Source);
        assert_eq!((places.taken(), places.refused(Full::Source)), (2, 1));
        drop(first);
        second.count_for(client).unwrap();
        second.count_for("192.0.2.8".parse().unwrap()).unwrap();
        assert!(places.admit(Some(client)).is_ok());
        drop(second);
        assert!(places.count.sources.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn one_host_of_ipv6_is_one_source_whatever_address_it_takes() {
        let places = Places::new(PlacesMax { all: 100, of_source: Some(1) });
        let _first = places.admit(source("2001:db8:0:1::1")).unwrap();
        assert_eq!(places.admit(source("2001:db8:0:1:ffff::2")).unwrap_err(), Full::Source);
        assert!(places.admit(source("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn what_the_process_opens_itself_is_counted_and_let_through() {
        let places = Places::new(PlacesMax { all: 1, of_source: None });
        let _upstream = [places.count(), places.count()];
        assert_eq!(places.taken(), 2);
        assert_eq!(places.admit(None).unwrap_err(), Full::All);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_that_strikes_is_said_once_in_a_while() {
        let (strikes, made) = (Strikes::default(), Instant::now());
        let said = |times: usize| (0..times).filter(|_| strikes.strike(made)).count();
        assert_eq!(said(100), 1);
        tokio::time::advance(SAY_EVERY).await;
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(said(100), 1);
        assert_eq!(strikes.count.load(Ordering::Relaxed), 200);
    }
}
