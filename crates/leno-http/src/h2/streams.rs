//! The streams of a connection: what arrived and was not read, what is to be sent and may not be yet, who waits.
//!
//! A stream has a place in a list as long as the protocol or one of its holders ([`super::shared::StreamRef`]) needs it;
//! places are used again, so that a stream costs no allocation of its own.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

use super::head::Received;
use crate::fields::Fields;
use crate::limits::Malformed;
use crate::message::ResponseHead;
use crate::pace::Uptake;

/// All streams that are open or held.
#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
    /// Ids of those that ended last, and whether a reset of ours ended them.
    ended: VecDeque<(u32, bool)>,
    /// The highest id of those that are remembered no more.
    forgotten: u32,
    /// Open ones, as both ends count them.
    pub(super) open: u32,
    /// Blocked by the connection's window, or because enough waits to be written; served in turn.
    pub(super) queue: VecDeque<u32>,
}

/// One stream.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) id: u32,
    pub(super) holders: u32,
    /// Counted in [`Streams::open`].
    counted: bool,
    pub(super) end: Option<End>,
    /// The peer has reset it, be it after us: nothing of it is on its way any more.
    pub(super) reset_by_them: bool,
    pub(super) reset_waker: Option<Waker>,
    pub(super) receive: Receive,
    pub(super) send: Send,
}

/// What arrives.
#[derive(Default)]
pub(super) struct Receive {
    /// The final head came.
    pub(super) has_head: bool,
    /// END_STREAM came.
    pub(super) ended: bool,
    /// Nobody will read it.
    pub(super) unwanted: bool,
    /// The response has no body whatever its length says: the request was HEAD.
    pub(super) bodiless: bool,
    /// The request was CONNECT.
    pub(super) connect: bool,
    pub(super) informationals: VecDeque<ResponseHead>,
    pub(super) head: Option<Box<Received>>,
    /// The body: first what is at hand without an allocation, then more, then what was small and is gathered.
    first: Bytes,
    more: VecDeque<Bytes>,
    gathered: BytesMut,
    pub(super) trailers: Option<Fields>,
    /// Bytes announced and not there yet.
    pub(super) left: Option<u64>,
    /// What the peer may send.
    pub(super) window: i64,
    /// Read, and to be given back to the peer's window.
    pub(super) credit: u32,
    pub(super) waker: Option<Waker>,
}

/// What leaves.
#[derive(Default)]
pub(super) struct Send {
    /// What the peer takes.
    pub(super) window: i64,
    /// Taken from the writer, and not allowed out yet.
    pub(super) pending: Bytes,
    /// The stream ends with what is pending.
    pub(super) end: bool,
    /// END_STREAM is written.
    pub(super) ended: bool,
    pub(super) queued: bool,
    /// Beats with every piece written.
    pub(super) beats: u32,
    /// How fast the peer takes it; absent where it may be as slow as it likes.
    pub(super) uptake: Option<Uptake>,
    /// Events, calls and tunnels, which are read when they happen.
    pub(super) at_leisure: bool,
    pub(super) waker: Option<Waker>,
}

/// Why a stream, or all of them, ended before their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer reset it.
    Reset(u32),
    /// A holder of ours gave it up.
    GivenUp,
    /// The peer broke the protocol.
    Malformed(Malformed),
    /// The peer said that it did nothing about it, with GOAWAY.
    Unprocessed(u32),
    /// The peer closed the connection.
    Closed,
    /// The socket said no.
    Io(std::io::ErrorKind),
    /// The peer does not answer, or we left.
    Gone,
}

/// What is known of a stream that is here no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// A reset of ours ended it: the peer may not have known.
    ByUs,
    ByThem,
    /// Too long ago to say.
    Forgotten,
    /// Nobody opened it, but for one after it.
    Never,
}

/// Payloads shorter than this are gathered, so that many small ones cost no more memory than their bytes.
const GATHERED: usize = 2048;
/// So are those shorter than this part of the buffer that they were read into, which a slice of it would keep.
const PART: usize = 8;
/// Ended streams that are remembered.
const ENDED: usize = 256;

/// Ids are odd numbers in order; this spreads them.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

// === impl Streams ===

impl Streams {
    /// Opens a stream.
    pub(super) fn open(&mut self, id: u32, receive_window: i64, send_window: i64) -> u32 {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[key as usize];
        slot.id = id;
        slot.counted = true;
        slot.receive.window = receive_window;
        slot.send.window = send_window;
        self.by_id.insert(id, key);
        self.open += 1;
        key
    }

    pub(super) fn find(&self, id: u32) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&mut self, key: u32) -> &mut Slot {
        &mut self.slots[key as usize]
    }

    /// Those that are open or held.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Keys of all of them.
    pub(super) fn keys(&self) -> Vec<u32> {
        self.by_id.values().copied().collect()
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Slot)> {
        (0..).zip(&mut self.slots).filter(|(_, slot)| slot.id != 0)
    }

    /// Counts the stream no longer if it is over, and frees its place if nobody holds it. Says whether it is over only
    /// now.
    pub(super) fn settle(&mut self, key: u32) -> bool {
        let slot = &mut self.slots[key as usize];
        if !slot.is_over() {
            return false;
        }
        let now = std::mem::take(&mut slot.counted);
        if now {
            self.open -= 1;
        }
        if slot.holders == 0 {
            let by_us = matches!(slot.end, Some(End::GivenUp | End::Malformed(_))) && !slot.reset_by_them;
            let (id, queued) = (slot.id, slot.send.queued);
            *slot = Slot::default();
            if queued {
                self.queue.retain(|waiting| *waiting != key);
            }
            self.by_id.remove(&id);
            self.remember(id, by_us);
            self.free.push(key);
        }
        now
    }

    /// Gives back the room for the streams that there once were.
    pub(super) fn shrink(&mut self) {
        if self.by_id.is_empty() {
            let ended = std::mem::take(&mut self.ended);
            *self = Streams { ended, forgotten: self.forgotten, ..Streams::default() };
            self.ended.shrink_to_fit();
        }
    }

    pub(super) fn remember(&mut self, id: u32, by_us: bool) {
        if self.ended.len() == ENDED
            && let Some((id, _)) = self.ended.pop_front()
        {
            self.forgotten = self.forgotten.max(id);
        }
        self.ended.push_back((id, by_us));
    }

    /// The peer has reset a stream that is here no more, and knows now that it is over.
    pub(super) fn reset_by_both(&mut self, id: u32) {
        if let Some((_, by_us)) = self.ended.iter_mut().rev().find(|(ended, _)| *ended == id) {
            *by_us = false;
        }
    }

    /// How a stream ended that is here no more.
    pub(super) fn ended(&self, id: u32) -> Ended {
        match self.ended.iter().rev().find(|(ended, _)| *ended == id) {
            Some((_, true)) => Ended::ByUs,
            Some((_, false)) => Ended::ByThem,
            None if id <= self.forgotten => Ended::Forgotten,
            None => Ended::Never,
        }
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some() || (self.receive.ended && self.send.ended)
    }

    /// Ends it before its time; whoever waits is to be woken.
    pub(super) fn end(&mut self, end: End, wakers: &mut Vec<Waker>) {
        self.end.get_or_insert(end);
        self.send.pending = Bytes::new();
        self.wake_all(wakers);
    }

    pub(super) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.receive.waker.take());
        wakers.extend(self.send.waker.take());
        wakers.extend(self.reset_waker.take());
    }
}

// === impl Receive ===

impl Receive {
    /// Keeps a piece of the body.
    pub(super) fn push(&mut self, piece: Piece<'_>) {
        let empty = !self.has_data();
        match piece {
            Piece::Shared(bytes) if empty => self.first = bytes,
            Piece::Borrowed(bytes) if empty => self.first = Bytes::copy_from_slice(bytes),
            Piece::Borrowed(bytes) => self.gathered.extend_from_slice(bytes),
            Piece::Shared(bytes) => {
                if !self.gathered.is_empty() {
                    self.more.push_back(self.gathered.split().freeze());
                }
                self.more.push_back(bytes);
            }
        }
    }

    /// The next piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        if let Some(piece) = self.more.pop_front() {
            return Some(piece);
        }
        (!self.gathered.is_empty()).then(|| std::mem::take(&mut self.gathered).freeze())
    }

    pub(super) fn has_data(&self) -> bool {
        !self.first.is_empty() || !self.gathered.is_empty() || !self.more.is_empty()
    }

    /// The whole body, if it has come, is one piece, and has at most so many bytes.
    pub(super) fn pop_whole(&mut self, most: usize) -> Option<Bytes> {
        let whole = self.ended && self.trailers.is_none() && self.gathered.is_empty() && self.more.is_empty();
        (whole && self.first.len() <= most).then(|| self.pop()).flatten()
    }

    /// Drops what was not read.
    pub(super) fn clear(&mut self) {
        self.first = Bytes::new();
        self.more = VecDeque::new();
        self.gathered = BytesMut::new();
    }
}

/// A piece of a body as it arrives.
pub(super) enum Piece<'a> {
    /// To be copied.
    Borrowed(&'a [u8]),
    /// A slice of the buffer that it was read into.
    Shared(Bytes),
}

impl Piece<'_> {
    /// Whether a payload of this length is copied out of a buffer of this size.
    pub(super) fn is_copied(length: usize, buffer: usize) -> bool {
        length < GATHERED.max(buffer / PART)
    }
}

/// Remembers whom to wake.
pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}
