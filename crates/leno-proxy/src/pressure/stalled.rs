//! Answers that wait for their readers, of one worker: who waits is on a list, and whoever has waited longest is given up
//! when memory is short.
//!
//! An answer is put on the list when a piece of it cannot be written, and taken off as soon as it can: one whose reader keeps
//! up is never there. The list is as long as there are such answers, of which each request has one; its entries are chained
//! in the order in which they came, so that the first is who has waited longest.
//!
//! Hot path: nothing is done for what is written at once.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leno_http::Error;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{MANY, SLOW, Strain};

thread_local! {
    static STALLED: RefCell<Stalled> = const { RefCell::new(Stalled::new()) };
}

/// Answers that wait.
struct Stalled {
    entries: Vec<Entry>,
    free: Vec<usize>,
    first: usize,
    last: usize,
    /// As many were waiting when somebody was told last.
    told_at: usize,
    strain: Option<Arc<Strain>>,
}

/// No entry.
const NONE: usize = usize::MAX;

struct Entry {
    /// None where the entry is free.
    waiting: Option<Waiting>,
    before: usize,
    after: usize,
}

struct Waiting {
    since: Instant,
    waker: Waker,
    given_up: bool,
}

/// A place on the list, until it is dropped.
struct Place(usize);

pin_project! {
    /// A piece of an answer that is written, and on the list while it waits.
    pub(crate) struct Writing<F> {
        #[pin]
        write: F,
        place: Option<Place>,
    }
}

/// Writes a piece of an answer.
pub(crate) fn write<F>(write: F) -> Writing<F> {
    Writing { write, place: None }
}

/// Says who counts those who wait on this thread, and is told when there are many more.
pub(super) fn tell(strain: Arc<Strain>) {
    STALLED.with_borrow_mut(|stalled| stalled.strain = Some(strain));
}

/// Gives up so many permille of the answers that have waited for so long, those first that have waited longest; how many.
pub(super) fn give_up(for_so_long: Duration, permille: u16) -> usize {
    let now = Instant::now();
    let woken = STALLED.with_borrow_mut(|stalled| {
        let mut slow = Vec::new();
        let mut at = stalled.first;
        while let Some(entry) = stalled.entries.get(at) {
            let Some(waiting) = entry.waiting.as_ref().filter(|waiting| now - waiting.since >= for_so_long) else {
                break;
            };
            if !waiting.given_up {
                slow.push(at);
            }
            at = entry.after;
        }
        slow.truncate((slow.len() * usize::from(permille)).div_ceil(1000));
        slow.into_iter().filter_map(|at| stalled.give_up(at)).collect::<Vec<_>>()
    });
    let count = woken.len();
    woken.into_iter().for_each(Waker::wake);
    count
}

impl<F: Future<Output = Result<(), Error>>> Future for Writing<F> {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(written) = this.write.poll(cx) {
            *this.place = None;
            return Poll::Ready(written);
        }
        match this.place {
            None => match Place::take(cx.waker()) {
                Some(place) => *this.place = Some(place),
                None => return Poll::Ready(Err(Error::given_up())),
            },
            Some(place) if place.is_given_up(cx.waker()) => return Poll::Ready(Err(Error::given_up())),
            Some(_) => {}
        }
        Poll::Pending
    }
}

// === impl Stalled ===

impl Stalled {
    const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), first: NONE, last: NONE, told_at: 0, strain: None }
    }

    fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn append(&mut self, waiting: Waiting) -> usize {
        let entry = Entry { waiting: Some(waiting), before: self.last, after: NONE };
        let at = match self.free.pop() {
            Some(free) => {
                self.entries[free] = entry;
                free
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        match self.entries.get_mut(self.last) {
            Some(last) => last.after = at,
            None => self.first = at,
        }
        self.last = at;
        at
    }

    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let Entry { waiting, before, after } = &mut self.entries[at];
        let (gone, before, after) = (waiting.take(), *before, *after);
        match self.entries.get_mut(before) {
            Some(entry) => entry.after = after,
            None => self.first = after,
        }
        match self.entries.get_mut(after) {
            Some(entry) => entry.before = before,
            None => self.last = before,
        }
        self.free.push(at);
        if self.len() == 0 {
            // What a storm has taken is given back.
            (self.entries, self.free) = (Vec::new(), Vec::new());
        }
        gone
    }

    /// Gives up an answer that waits; who is to be woken.
    fn give_up(&mut self, at: usize) -> Option<Waker> {
        let waiting = self.entries.get_mut(at)?.waiting.as_mut()?;
        (!std::mem::replace(&mut waiting.given_up, true)).then(|| waiting.waker.clone())
    }

    /// Makes room for one more: the first goes, if it has waited for long, and not while it is still about to go.
    fn make_room(&mut self, now: Instant) -> Option<Waker> {
        let first = self.entries.get(self.first)?.waiting.as_ref()?;
        if now - first.since < SLOW { None } else { self.give_up(self.first) }
    }
}

// === impl Place ===

impl Place {
    /// None when it is not waited for.
    fn take(waker: &Waker) -> Option<Self> {
        let now = Instant::now();
        let (place, woken) = STALLED.with_borrow_mut(|stalled| {
            let mut woken = None;
            if let Some(strain) = stalled.strain.clone()
                && !strain.waits()
            {
                strain.reset(1);
                strain.grew();
                woken = stalled.make_room(now);
                if woken.is_none() {
                    strain.goes_on();
                    return (None, None);
                }
            }
            let place = Place(stalled.append(Waiting { since: now, waker: waker.clone(), given_up: false }));
            if stalled.len() >= stalled.told_at + MANY {
                stalled.told_at = stalled.len();
                stalled.strain.iter().for_each(|strain| strain.grew());
            }
            (Some(place), woken)
        });
        woken.into_iter().for_each(Waker::wake);
        place
    }

    fn is_given_up(&self, waker: &Waker) -> bool {
        STALLED.with_borrow_mut(|stalled| {
            let Some(waiting) = &mut stalled.entries[self.0].waiting else { return false };
            if !waiting.waker.will_wake(waker) {
                waiting.waker = waker.clone();
            }
            waiting.given_up
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // At the end of a thread the list may be gone before what is on it.
        let _ = STALLED.try_with(|stalled| {
            let mut stalled = stalled.borrow_mut();
            let gone = stalled.remove(self.0);
            stalled.told_at = stalled.told_at.min(stalled.len());
            stalled.strain.iter().for_each(|strain| strain.goes_on());
            drop(stalled);
            drop(gone);
        });
    }
}

/// How many answers wait for their readers on this thread.
#[cfg(test)]
pub(super) fn count() -> usize {
    STALLED.with_borrow(Stalled::len)
}
