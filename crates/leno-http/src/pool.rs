//! Connections kept for the next request, per worker.
//!
//! At most one HTTP/2 connection per key until 80 % of its streams are used. HTTP/1 connections that come back wait for
//! the next request, the one used last first, so that the others age and can go. How many wait is decided when the pool
//! is swept, about once a second: two (by default) stay, and beyond them those that were busy within the last second,
//! because as many as were needed a moment ago will be needed again, and opening a connection costs more than ten
//! requests. A plain limit of two was rejected: 64 clients would open and close 62 connections for each round.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::client::{Connection, Kind};
use crate::h1::client::{Conn as H1, Home, Return};
use crate::h2::client::Conn as H2;

/// The limits of a pool.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Idle HTTP/1 connections per key that stay however long ago they were used (within `idle_timeout`).
    pub idle_kept: usize,
    /// Beyond those, an idle connection stays for so long: as many as were busy a moment ago will be again.
    pub idle_surplus: Duration,
    /// Idle connections per key in any case.
    pub idle_max: usize,
    /// Idle ones older than this are closed; `Keep-Alive: timeout` shortens it.
    pub idle_timeout: Duration,
    /// Share of an HTTP/2 connection's streams, in percent, from which on a second connection is opened.
    pub h2_share: u32,
}

/// Connections by key. A clone is the same pool.
pub struct Pool<K> {
    inner: Rc<Inner<K>>,
}

/// How many connections a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolSize {
    /// Idle HTTP/1 connections.
    pub idle: usize,
    /// HTTP/2 connections.
    pub h2: usize,
    /// Streams open on them.
    pub streams: usize,
    /// Keys.
    pub keys: usize,
}

struct Inner<K> {
    options: PoolOptions,
    state: RefCell<State<K>>,
}

struct State<K> {
    by_key: HashMap<K, u64, Quick>,
    slots: HashMap<u64, Slot<K>, Quick>,
    /// Of the next slot. Never used twice, so that a connection of a forgotten key does not come back to another one.
    next: u64,
}

/// The connections of one key.
struct Slot<K> {
    key: K,
    /// The one used last at the end.
    idle: Vec<Idle>,
    h2: Vec<Rc<H2>>,
    /// An HTTP/2 connection is being opened; its end is told to those who wait for it.
    dialling: Option<watch::Receiver<bool>>,
    /// Told when a connection comes to be idle or shared, where anybody waits for that.
    freed: Option<Rc<Notify>>,
    used: Instant,
}

struct Idle {
    conn: Rc<H1>,
    since: Instant,
}

/// Hashes the numbers that name endpoints by a multiplication. No stranger chooses them, so that nobody can have them
/// collide, which is what a dearer hash would be for.
#[derive(Default)]
struct Multiply(u64);

type Quick = BuildHasherDefault<Multiply>;

/// A key without connections is forgotten after so long.
const KEY_KEPT: Duration = Duration::from_secs(60);

// === impl Multiply ===

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The upper bits are the mixed ones, and the table looks at both ends.
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

// === impl Pool ===

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Pool<K> {
        let state = State { by_key: HashMap::default(), slots: HashMap::default(), next: 0 };
        Pool { inner: Rc::new(Inner { options, state: RefCell::new(state) }) }
    }

    /// A connection that is open already: an HTTP/2 one with streams left, or an idle HTTP/1 one.
    pub fn get(&self, key: &K) -> Option<Connection> {
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let slot = state.slots.get_mut(state.by_key.get(key)?)?;
        if !slot.h2.is_empty() {
            slot.h2.retain(|conn| conn.is_usable());
            if let Some(conn) = slot.h2.iter().find(|conn| conn.has_room(self.inner.options.h2_share)) {
                return Some(Connection::of(Kind::H2(conn.clone())));
            }
        }
        while let Some(idle) = slot.idle.pop() {
            if idle.conn.is_ready_to_send() {
                return Some(Connection::of(Kind::H1(idle.conn)));
            }
        }
        None
    }

    /// A connection that is open already, else what `dial` opens; it comes back by itself after its exchange. While an
    /// HTTP/2 connection is being opened (`multiplexed`), others wait for it instead of opening their own; should it not
    /// open, each of them dials once for itself.
    pub async fn get_or_dial<E, F>(&self, key: &K, multiplexed: bool, dial: impl FnOnce() -> F) -> Result<Connection, E>
    where
        F: Future<Output = Result<Connection, E>>,
    {
        if let Some(connection) = self.get(key) {
            return Ok(connection);
        }
        if !multiplexed {
            let connection = dial().await?;
            self.adopt(key, &connection);
            return Ok(connection);
        }
        if let Some(mut other) = self.dialling(key) {
            // An error says that whoever dialled was dropped, which is as good as failed.
            let _ = other.wait_for(|done| *done).await;
            if let Some(connection) = self.get(key) {
                return Ok(connection);
            }
        }
        let dialling = Dialling::begin(self, key);
        let connection = dial().await?;
        self.adopt(key, &connection);
        drop(dialling);
        Ok(connection)
    }

    /// Puts a connection that was opened elsewhere under the pool's care: an HTTP/2 one is shared from now on, an HTTP/1
    /// one comes back after its exchange.
    pub fn adopt(&self, key: &K, connection: &Connection) {
        let mut state = self.inner.state.borrow_mut();
        let slot = state.slot_of(key);
        match connection.kind() {
            Kind::H2(conn) => {
                if let Some(slot) = state.slots.get_mut(&slot) {
                    slot.h2.push(conn.clone());
                    slot.freed.iter().for_each(|freed| freed.notify_waiters());
                }
            }
            Kind::H1(conn) => {
                let inner: Rc<dyn Return> = self.inner.clone();
                conn.set_home(Home { pool: Rc::downgrade(&inner), slot });
            }
            // Of one that is in a pool.
            Kind::Turn(_) => {}
        }
    }

    /// An HTTP/2 connection that has streams left at all, for which nobody waits.
    pub fn shared(&self, key: &K) -> Option<Connection> {
        let state = self.inner.state.borrow();
        let slot = state.slots.get(state.by_key.get(key)?)?;
        let conn = slot.h2.iter().find(|conn| conn.is_free())?;
        Some(Connection::of(Kind::H2(conn.clone())))
    }

    /// The HTTP/2 connections, whether they have streams left or not.
    pub fn busy(&self, key: &K) -> Vec<Connection> {
        let state = self.inner.state.borrow();
        let slot = state.by_key.get(key).and_then(|slot| state.slots.get(slot));
        let usable = slot.into_iter().flat_map(|slot| &slot.h2).filter(|conn| conn.is_usable());
        usable.map(|conn| Connection::of(Kind::H2(conn.clone()))).collect()
    }

    /// The HTTP/2 connection that others are opening; waits for it. None when nobody is, or when it did not open.
    pub async fn dialled(&self, key: &K) -> Option<Connection> {
        // As many wait for one that does not open as there are; each of them opens one of his own then, one after the other.
        while let Some(mut other) = self.dialling(key) {
            // An error says that whoever dialled was dropped, which is as good as failed.
            let _ = other.wait_for(|done| *done).await;
            if let Some(connection) = self.get(key) {
                return Some(connection);
            }
        }
        None
    }

    /// Tells of connections of a key that come to be idle or shared, one waiting at a time.
    pub fn freed(&self, key: &K) -> Rc<Notify> {
        let mut state = self.inner.state.borrow_mut();
        let slot = state.slot_of(key);
        let freed = state.slots.get_mut(&slot).map(|slot| slot.freed.get_or_insert_default().clone());
        freed.unwrap_or_default()
    }

    /// Closes connections of these keys on which nothing is asked.
    pub fn close_idle(&self, mut of: impl FnMut(&K) -> bool) {
        let mut dropped = (Vec::new(), Vec::new());
        for slot in self.inner.state.borrow_mut().slots.values_mut().filter(|slot| of(&slot.key)) {
            dropped.0.append(&mut slot.idle);
            let shared = std::mem::take(&mut slot.h2).into_iter();
            let (idle, busy): (Vec<_>, Vec<_>) = shared.partition(|conn| conn.open_streams() == 0);
            slot.h2 = busy;
            dropped.1.extend(idle);
        }
        drop(dropped);
    }

    /// Closes what idled too long. To be called about once a second.
    pub fn sweep(&self) {
        let now = Instant::now();
        let options = &self.inner.options;
        let mut dropped = Vec::new();
        {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            for slot in state.slots.values_mut() {
                slot.sweep(now, options, &mut dropped);
            }
            let by_key = &mut state.by_key;
            state.slots.retain(|_, slot| {
                let kept = !slot.is_empty() || now.duration_since(slot.used) < KEY_KEPT;
                if !kept {
                    by_key.remove(&slot.key);
                }
                kept
            });
        }
        drop(dropped);
    }

    /// Forgets the keys for which `keep` says no; their connections end after their exchanges.
    pub fn retain(&self, mut keep: impl FnMut(&K) -> bool) {
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let slots = &mut state.slots;
        let mut dropped = Vec::new();
        state.by_key.retain(|key, slot| {
            let kept = keep(key);
            if !kept {
                dropped.extend(slots.remove(slot));
            }
            kept
        });
    }

    /// How many connections it holds.
    pub fn size(&self) -> PoolSize {
        let state = self.inner.state.borrow();
        let mut size = PoolSize { keys: state.slots.len(), ..PoolSize::default() };
        for slot in state.slots.values() {
            size.idle += slot.idle.len();
            size.h2 += slot.h2.len();
            size.streams += slot.h2.iter().map(|conn| conn.open_streams()).sum::<usize>();
        }
        size
    }

    fn dialling(&self, key: &K) -> Option<watch::Receiver<bool>> {
        let state = self.inner.state.borrow();
        state.slots.get(state.by_key.get(key)?)?.dialling.clone()
    }
}

impl<K> Clone for Pool<K> {
    fn clone(&self) -> Pool<K> {
        Pool { inner: self.inner.clone() }
    }
}

impl<K: Hash + Eq + Clone + 'static> Default for Pool<K> {
    fn default() -> Pool<K> {
        Pool::new(PoolOptions::default())
    }
}

impl Default for PoolOptions {
    fn default() -> PoolOptions {
        PoolOptions {
            idle_kept: 2,
            idle_surplus: Duration::from_secs(1),
            idle_max: 1024,
            idle_timeout: Duration::from_secs(60),
            h2_share: 80,
        }
    }
}

impl<K> Return for Inner<K> {
    fn take_back(&self, slot: u64, conn: Rc<H1>) {
        let mut state = self.state.borrow_mut();
        let Some(slot) = state.slots.get_mut(&slot) else { return };
        if slot.idle.len() < self.options.idle_max {
            let since = Instant::now();
            slot.used = since;
            slot.idle.push(Idle { conn, since });
            slot.freed.iter().for_each(|freed| freed.notify_one());
        }
    }
}

// === impl State, Slot ===

impl<K: Hash + Eq + Clone> State<K> {
    fn slot_of(&mut self, key: &K) -> u64 {
        if let Some(slot) = self.by_key.get(key) {
            return *slot;
        }
        self.next += 1;
        let slot = Slot {
            key: key.clone(),
            idle: Vec::new(),
            h2: Vec::new(),
            dialling: None,
            freed: None,
            used: Instant::now(),
        };
        self.slots.insert(self.next, slot);
        self.by_key.insert(key.clone(), self.next);
        self.next
    }
}

impl<K> Slot<K> {
    /// Moves what is to be closed to `dropped`.
    fn sweep(&mut self, now: Instant, options: &PoolOptions, dropped: &mut Vec<Rc<H1>>) {
        self.h2.retain(|conn| {
            let idle = conn.idle_since(now).map(|since| now.duration_since(since));
            conn.is_usable() && idle.is_none_or(|idle| idle < options.idle_timeout)
        });
        // Oldest first: those before `surplus` go unless they were used a moment ago.
        let surplus = self.idle.len().saturating_sub(options.idle_kept);
        let mut index = 0;
        self.idle.retain(|idle| {
            let age = now.duration_since(idle.since);
            // What the server announced, less a second for the way.
            let announced = idle.conn.keep_timeout().map(|t| t.saturating_sub(Duration::from_secs(1)));
            let timeout = options.idle_timeout.min(announced.unwrap_or(Duration::MAX));
            let in_surplus = index < surplus;
            index += 1;
            let kept = age < timeout && !(in_surplus && age >= options.idle_surplus) && idle.conn.is_usable();
            if !kept {
                dropped.push(idle.conn.clone());
            }
            kept
        });
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.h2.is_empty() && self.dialling.is_none()
    }
}

/// The right to open an HTTP/2 connection that others wait for.
struct Dialling<K: Hash + Eq + Clone + 'static> {
    pool: Weak<Inner<K>>,
    slot: u64,
    done: watch::Sender<bool>,
}

impl<K: Hash + Eq + Clone + 'static> Dialling<K> {
    fn begin(pool: &Pool<K>, key: &K) -> Dialling<K> {
        let (done, waiting) = watch::channel(false);
        let mut state = pool.inner.state.borrow_mut();
        let slot = state.slot_of(key);
        if let Some(slot) = state.slots.get_mut(&slot) {
            slot.dialling = Some(waiting);
        }
        Dialling { pool: Rc::downgrade(&pool.inner), slot, done }
    }
}

impl<K: Hash + Eq + Clone + 'static> Drop for Dialling<K> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade()
            && let Some(slot) = pool.state.borrow_mut().slots.get_mut(&self.slot)
        {
            slot.dialling = None;
        }
        let _ = self.done.send(true);
    }
}
