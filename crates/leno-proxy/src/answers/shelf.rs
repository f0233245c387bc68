//! Where answers are kept: by key, so many bytes and entries at most.
//!
//! When it is full, what was not given since the hand passed it last goes first (CLOCK, Corbató 1968): about what was used
//! least recently, without a list that each look-up would have to mend. Keys are hashed with a secret, so that nobody can
//! choose them to meet; an answer's variants are few, of which the oldest goes.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leno_http::RequestHead;

use super::Kept;

/// Parts with a lock of their own. Each has its share of the bytes, so that an answer of more than that is not kept.
pub(crate) const PARTS: usize = 8;
/// Answers of one key that vary by what requests have.
const VARIANTS_MAX: usize = 8;

/// Answers by key.
#[derive(Debug)]
pub(crate) struct Shelf {
    hasher: RandomState,
    parts: [Mutex<Part>; PARTS],
    /// Of one part.
    bytes_max: usize,
    entries_max: usize,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    at: HashMap<Arc<[u8]>, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: Arc<[u8]>,
    answers: Vec<Arc<Kept>>,
    bytes: usize,
    was_used: bool,
}

/// How full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fill {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) evicted: u64,
}

// === impl Shelf ===

impl Shelf {
    pub(crate) fn new(bytes_max: u64, entries_max: u32) -> Self {
        Self {
            hasher: RandomState::new(),
            parts: Default::default(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) / PARTS,
            entries_max: (entries_max as usize / PARTS).max(1),
            evicted: AtomicU64::new(0),
        }
    }

    /// What is kept for a request.
    pub(crate) fn get(&self, key: &[u8], request: &RequestHead) -> Option<Arc<Kept>> {
        let mut part = self.part(key);
        let at = *part.at.get(key)?;
        let slot = &mut part.slots[at];
        // The newest: what an answer varies by may have changed (RFC 9111, section 4.1).
        let found = slot.answers.iter().rev().find(|kept| kept.is_for(request))?.clone();
        slot.was_used = true;
        Some(found)
    }

    /// Keeps an answer, in place of the one that was for the same requests; whether there is room for it at all.
    pub(crate) fn put(&self, key: &Arc<[u8]>, kept: Arc<Kept>) -> bool {
        if kept.bytes() + key.len() > self.bytes_max {
            return false;
        }
        let mut part = self.part(key);
        let at = part.slot(key);
        part.slots[at].answers.retain(|other| !other.is_beside(&kept));
        part.slots[at].answers.push(kept);
        if part.slots[at].answers.len() > VARIANTS_MAX {
            part.slots[at].answers.remove(0);
        }
        part.weigh(at);
        while part.bytes > self.bytes_max || part.slots.len() > self.entries_max {
            part.evict(key);
            self.evicted.fetch_add(1, Relaxed);
        }
        true
    }

    /// Takes away all that is kept under a key.
    pub(crate) fn remove(&self, key: &[u8]) {
        let mut part = self.part(key);
        if let Some(at) = part.at.get(key).copied() {
            part.take(at);
        }
    }

    pub(crate) fn fill(&self) -> Fill {
        let mut fill = Fill { evicted: self.evicted.load(Relaxed), ..Fill::default() };
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            fill.entries += part.slots.len();
            fill.bytes += part.bytes;
        }
        fill
    }

    fn part(&self, key: &[u8]) -> MutexGuard<'_, Part> {
        let part = &self.parts[self.hasher.hash_one(key) as usize % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Part ===

impl Part {
    /// The slot of a key, made where there is none.
    fn slot(&mut self, key: &Arc<[u8]>) -> usize {
        if let Some(at) = self.at.get(&**key) {
            return *at;
        }
        // Not as if it had been used: what is asked for once is not to drive out what is given again and again.
        self.slots.push(Slot { key: key.clone(), answers: Vec::new(), bytes: 0, was_used: false });
        self.at.insert(key.clone(), self.slots.len() - 1);
        self.slots.len() - 1
    }

    fn weigh(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let bytes = slot.key.len() + slot.answers.iter().map(|kept| kept.bytes()).sum::<usize>();
        self.bytes = self.bytes + bytes - slot.bytes;
        slot.bytes = bytes;
    }

    /// Lets go of what was not used since the hand passed it last, but for what came just now.
    fn evict(&mut self, newest: &Arc<[u8]>) {
        while !self.slots.is_empty() {
            self.hand %= self.slots.len();
            let is_alone = self.slots.len() == 1;
            let slot = &mut self.slots[self.hand];
            let is_newest = slot.key == *newest && !is_alone;
            if !std::mem::take(&mut slot.was_used) && !is_newest {
                return self.take(self.hand);
            }
            self.hand += 1;
        }
    }

    fn take(&mut self, at: usize) {
        let slot = self.slots.swap_remove(at);
        self.at.remove(&slot.key);
        self.bytes -= slot.bytes;
        if let Some(moved) = self.slots.get(at) {
            self.at.insert(moved.key.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use leno_http::{Fields, Method, ResponseHead};

    use super::super::kept::Varied;
    use super::*;

    fn request(accept: &str) -> RequestHead {
        let mut head = RequestHead::new(Method::Get, "cart", "/");
        head.fields.append("accept", accept);
        head
    }

    fn kept(accept: &str, bytes: usize) -> Arc<Kept> {
        let response = ResponseHead::new(200).with("vary", "Accept");
        let varied = Varied::of(&request(accept), &response, true);
        Arc::new(Kept::new(200, Fields::new(), vec![0; bytes].into(), None, Duration::ZERO, varied))
    }

    fn key(at: usize) -> Arc<[u8]> {
        format!("/{at}").into_bytes().into()
    }

    #[test]
    fn what_is_kept_is_found_by_those_it_is_for_until_it_is_taken_away() {
        let shelf = Shelf::new(1 << 20, 100);
        assert!(shelf.put(&key(1), kept("a", 10)) && shelf.put(&key(1), kept("b", 20)));
        let found = |accept| shelf.get(&key(1), &request(accept)).map(|kept| kept.body.len());
        assert_eq!((found("a"), found("b"), found("c")), (Some(10), Some(20), None));
        assert!(shelf.put(&key(1), kept("a", 30)));
        assert_eq!(found("a"), Some(30), "the newer one");
        shelf.remove(&key(1));
        assert_eq!((found("a"), shelf.fill()), (None, Fill::default()));
    }

    #[test]
    fn the_newest_of_those_that_are_for_a_request_is_found() {
        let shelf = Shelf::new(1 << 20, 100);
        let for_all = Varied::of(&request("a"), &ResponseHead::new(200), true);
        let first = Kept::new(404, Fields::new(), Bytes::new(), None, Duration::ZERO, for_all);
        assert!(shelf.put(&key(1), Arc::new(first)) && shelf.put(&key(1), kept("a", 30)));
        let found = |accept| shelf.get(&key(1), &request(accept)).map(|kept| kept.body.len());
        assert_eq!((found("a"), found("b")), (Some(30), Some(0)));
    }

    #[test]
    fn whatever_is_asked_for_no_more_is_kept_than_may_be() {
        let (bytes_max, entries_max) = (256 * 1024, 400);
        let shelf = Shelf::new(bytes_max, entries_max);
        // Knuth's generator.
        let mut state = 1_u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % end) as usize
        };
        for _ in 0..50_000 {
            let accept = below(256).to_string();
            shelf.put(&key(below(10_000)), kept(&accept, below(4000)));
            if below(256) == 0 {
                shelf.remove(&key(below(10_000)));
            }
        }
        let fill = shelf.fill();
        assert!(fill.bytes as u64 <= bytes_max && fill.entries <= entries_max as usize, "{fill:?}");
        assert!(fill.evicted > 10_000 && fill.bytes as u64 > bytes_max / 2, "{fill:?}");
        let weighed: usize = shelf
            .parts
            .iter()
            .map(|part| part.lock().unwrap().slots.iter().map(|slot| slot.bytes).sum::<usize>())
            .sum();
        assert_eq!(fill.bytes, weighed);
    }

    #[test]
    fn one_key_has_few_variants_and_what_is_too_large_is_not_kept() {
        let shelf = Shelf::new(1 << 20, 100);
        for at in 0..100 {
            shelf.put(&key(1), kept(&at.to_string(), 0));
        }
        assert_eq!(shelf.part(&key(1)).slots[0].answers.len(), VARIANTS_MAX);
        assert!(!shelf.put(&key(2), kept("a", (1 << 20) / PARTS)));
    }

    #[test]
    fn what_is_given_again_and_again_outlives_what_is_asked_for_once() {
        let shelf = Shelf::new(1 << 20, 80);
        shelf.put(&key(0), kept("a", 1));
        for at in 1..2000 {
            shelf.put(&key(at), kept("a", 1));
            assert!(shelf.get(&key(0), &request("a")).is_some(), "after {at}");
        }
    }
}
