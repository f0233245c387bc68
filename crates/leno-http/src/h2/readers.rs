//! Peers that ask for responses and do not take them: a minimum rate while bytes wait.
//!
//! Who is slow is found by looking now and then while something waits, so that nothing is timed while it moves:
//!
//! - a stream whose own window is shut with bytes waiting, and
//! - all streams that wait while the connection's window is shut, are reset;
//! - a connection whose socket takes nothing is ended, unless a stream is open that may be read at leisure (gRPC, events,
//!   tunnels). Then those that may not be are reset, and it stays.
//!
//! Streams behind a slow socket wait for each other, which is not their doing: they are not looked at one by one. Windows
//! are given back by the half and not byte by byte, so what was taken of one counts for a while ([`AHEAD`]); of a socket
//! the kernel knows what was taken.

use std::time::Duration;

use tokio::time::Instant;

use super::core::{Core, Role};
use super::frame::{self, code};
use super::receive::Fatal;
use super::streams::{End, Send};
use crate::limits::{Limits, Malformed};
use crate::pace::Uptake;

/// What is known of the peer as a reader, besides what is known of each stream.
pub(super) struct Readers {
    /// Something may wait for the peer: a look is due.
    pub(super) due: bool,
    /// Of the connection's window.
    window: Uptake,
    socket: Uptake,
    /// Among what waits for the socket may be something that is read at leisure.
    leisure_waits: bool,
}

/// What was taken ahead, of a window as large as it may be, is worth so much time besides the grace.
const AHEAD: Duration = Duration::from_secs(52);
/// Looks during the grace.
const LOOKS: u32 = 8;

// === impl Readers ===

impl Readers {
    pub(super) fn new(limits: &Limits) -> Readers {
        let (window, socket) = (Uptake::new(limits, AHEAD), Uptake::new(limits, Duration::ZERO));
        Readers { due: false, window, socket, leisure_waits: false }
    }

    /// So many bytes of a body left a stream.
    pub(super) fn sent(&mut self, of: &mut Send, bytes: usize) {
        self.leisure_waits |= of.at_leisure;
        if let Some(uptake) = &mut of.uptake {
            uptake.wrote(bytes);
            self.window.wrote(bytes);
        }
    }

    /// So many bytes were written to the socket.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.socket.wrote(bytes);
    }
}

// === impl Core ===

impl Core {
    /// Sets how fast a response that begins is to be read, unless it may be read at leisure.
    pub(super) fn pace_reader(&mut self, key: u32, at_leisure: impl FnOnce() -> bool) {
        if self.limits.response_rate_min > 0 {
            let send = &mut self.streams.get(key).send;
            send.at_leisure = at_leisure();
            send.uptake = (!send.at_leisure).then(|| Uptake::new(&self.limits, AHEAD));
        }
    }

    /// The socket takes nothing at the moment.
    pub(super) fn socket_is_full(&mut self) {
        self.readers.due |= self.role == Role::Server && self.limits.response_rate_min > 0;
    }

    /// After how long to look while [`Readers::due`].
    pub(super) fn look_every(&self) -> Duration {
        (self.limits.response_grace / LOOKS).max(Duration::from_millis(1))
    }

    /// Looks at what was taken since the last look, `queued` being what the kernel still has of what was written, and
    /// resets streams that are read too slowly; the fault, if the connection is.
    pub(super) fn look(&mut self, now: Instant, queued: u64) -> Result<(), Fatal> {
        let limits = &self.limits;
        let (mut waits, mut behind, mut leisure) = (false, false, false);
        let mut slow = Vec::new();
        for (key, slot) in self.streams.iter_mut() {
            leisure |= slot.send.at_leisure;
            let Some(uptake) = &mut slot.send.uptake else { continue };
            let has_more = !slot.send.pending.is_empty();
            if has_more && slot.send.window <= 0 {
                waits = true;
                if uptake.is_used_up(limits, now, 0) {
                    slow.push(key);
                }
            } else {
                behind |= has_more;
                uptake.rests(limits, || (now, 0));
            }
        }
        let mut is_stuck = false;
        let readers = &mut self.readers;
        if behind && self.send_window <= 0 {
            is_stuck |= readers.window.is_used_up(limits, now, 0);
        } else {
            readers.window.rests(limits, || (now, 0));
        }
        if self.output.is_empty() {
            readers.leisure_waits = false;
            readers.socket.rests(limits, || (now, queued));
        } else if readers.socket.is_used_up(limits, now, queued) {
            if !leisure && !readers.leisure_waits {
                return Err(Fatal { code: code::ENHANCE_YOUR_CALM, what: Malformed::ResponseRate });
            }
            is_stuck = true;
        }
        readers.due = waits || behind || !self.output.is_empty();
        if is_stuck {
            // Who comes next has all the time again.
            *readers = Readers { due: readers.due, leisure_waits: readers.leisure_waits, ..Readers::new(limits) };
            slow.clear();
            let waiting = |send: &Send| send.uptake.is_some() && !send.pending.is_empty();
            slow.extend(self.streams.iter_mut().filter(|(_, slot)| waiting(&slot.send)).map(|(key, _)| key));
        }
        slow.into_iter().for_each(|key| self.too_slow(key));
        Ok(())
    }

    fn too_slow(&mut self, key: u32) {
        self.strikes.count(Malformed::ResponseRate);
        let slot = self.streams.get(key);
        let id = slot.id;
        slot.end(End::Malformed(Malformed::ResponseRate), &mut self.wakers);
        slot.receive.clear();
        frame::reset(self.output.frames(), id, code::ENHANCE_YOUR_CALM);
        self.kick();
        self.settle(key);
    }
}
