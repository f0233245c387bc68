//! Counts what a peer sends besides requests and bodies, and finds floods.
//!
//! PING and SETTINGS are answered, PRIORITY, WINDOW_UPDATE and unknown frames are swallowed, bodies of single bytes are
//! passed on, for as long as they come; a peer can keep a core busy with them. What is allowed in ten seconds grows with
//! what is written (whoever downloads a lot has windows to update), so that only those who cost more than they use are
//! stopped. The clock is asked only when a count reaches its limit.

use std::time::Duration;

use tokio::time::Instant;

use super::core::Role;
use super::frame::{self, Header};
use crate::limits::{Limits, Malformed};

/// The counts of one connection.
pub(super) struct Meter {
    /// Which end counts.
    role: Role,
    control_max: u32,
    resets_max: u32,
    errors_max: u32,
    window: Window,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    control: u32,
    updates: u32,
    /// DATA that has no byte and ends nothing.
    empty: u32,
    resets: u32,
    /// Resets that we sent because the peer broke the protocol.
    errors: u32,
    streams: u32,
    written: u64,
    /// Frames of DATA that were written.
    sent: u64,
}

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// For so many bytes written, one more control frame is allowed.
const BYTES_PER_FRAME: u64 = 512;
/// For each frame of DATA written, so many more: gRPC answers one with WINDOW_UPDATE and PING.
const FOR_DATA: u64 = 4;
/// WINDOW_UPDATE is not counted for so many of them to a frame of DATA written: some update both windows with every read.
const UPDATES_FOR_DATA: u64 = 10;
/// DATA that is shorter and ends nothing counts as a frame that carries nothing; the shortest message of gRPC has as many.
const TINY: usize = 5;
/// Empty frames of DATA in a window.
const EMPTY_MAX: u32 = 100;

// === impl Meter ===

impl Meter {
    pub(super) fn new(role: Role, limits: &Limits) -> Meter {
        Meter {
            role,
            control_max: limits.h2_control_frames,
            resets_max: limits.h2_resets,
            errors_max: u32::try_from(limits.h2_error_resets).unwrap_or(u32::MAX),
            window: Window::default(),
        }
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.window.written += bytes as u64;
    }

    /// A frame of DATA was written.
    pub(super) fn sent_data(&mut self) {
        self.window.sent += 1;
    }

    /// A frame came; the flood, if it is one too many.
    pub(super) fn frame(&mut self, header: Header) -> Option<Malformed> {
        let window = &mut self.window;
        match header.kind {
            frame::DATA if header.length >= TINY || header.has(frame::END_STREAM) => return None,
            frame::DATA if header.length > 0 && self.role == Role::Client => return None,
            frame::DATA if header.length > 0 => {}
            frame::DATA => {
                window.empty += 1;
                return window.exceeds(window.empty > EMPTY_MAX).then_some(Malformed::ControlFlood);
            }
            // It has a limit of its own.
            frame::CONTINUATION => return None,
            frame::HEADERS => {
                window.streams += 1;
                return None;
            }
            // A server may end a call early that it has answered: to a client a reset is a frame like any other.
            frame::RST_STREAM if self.role == Role::Server => {
                window.resets += 1;
                let allowed = self.resets_max.saturating_add(window.streams / 5);
                return window.exceeds(window.resets > allowed).then_some(Malformed::ResetFlood);
            }
            frame::WINDOW_UPDATE => {
                window.updates += 1;
                if u64::from(window.updates) <= window.sent * UPDATES_FOR_DATA {
                    return None;
                }
            }
            frame::SETTINGS | frame::PING if header.has(frame::ACK) => return None,
            _ => {}
        }
        self.swallowed()
    }

    /// Something was done for nothing.
    pub(super) fn swallowed(&mut self) -> Option<Malformed> {
        let window = &mut self.window;
        window.control += 1;
        let more = u64::from(window.streams) * 2 + window.written / BYTES_PER_FRAME + window.sent * FOR_DATA;
        let over = u64::from(window.control) > u64::from(self.control_max) + more;
        window.exceeds(over).then_some(Malformed::ControlFlood)
    }

    /// We reset a stream because the peer broke the protocol (CVE-2025-8671).
    pub(super) fn error(&mut self) -> Option<Malformed> {
        let window = &mut self.window;
        window.errors += 1;
        window.exceeds(window.errors > self.errors_max).then_some(Malformed::ResetFlood)
    }
}

// === impl Window ===

impl Window {
    /// Whether a count over its limit is over it within the window; if the window is over, another one begins.
    fn exceeds(&mut self, over: bool) -> bool {
        let began = self.began.get_or_insert_with(Instant::now);
        if !over {
            return false;
        }
        if began.elapsed() < WINDOW {
            return true;
        }
        *self = Window { began: Some(Instant::now()), ..Window::default() };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter { role: Role::Server, control_max: 5, resets_max: 2, errors_max: 3, window: Window::default() }
    }

    fn header(kind: u8, length: usize) -> Header {
        Header { length, kind, flags: 0, stream: 1 }
    }

    #[test]
    fn frames_that_carry_nothing_are_a_flood() {
        for kind in [frame::PING, frame::SETTINGS, frame::PRIORITY, frame::WINDOW_UPDATE, 0x42] {
            let mut meter = meter();
            assert!((0..5).all(|_| meter.frame(header(kind, 8)).is_none()));
            assert_eq!(meter.frame(header(kind, 8)), Some(Malformed::ControlFlood));
        }
        let mut meter = meter();
        assert!((0..EMPTY_MAX).all(|_| meter.frame(header(frame::DATA, 0)).is_none()));
        assert!((0..1000).all(|_| meter.frame(header(frame::DATA, TINY)).is_none()));
        assert_eq!(meter.frame(header(frame::DATA, 0)), Some(Malformed::ControlFlood));
    }

    #[test]
    fn bodies_that_come_byte_by_byte_are_a_flood() {
        let mut meter = meter();
        assert!((0..5).all(|_| meter.frame(header(frame::DATA, 1)).is_none()));
        assert_eq!(meter.frame(header(frame::DATA, 1)), Some(Malformed::ControlFlood));
    }

    #[test]
    fn each_frame_of_data_may_be_answered_with_ten_updates() {
        let mut meter = meter();
        meter.control_max = 0;
        for _ in 0..1000 {
            meter.sent_data();
            assert!((0..10).all(|_| meter.frame(header(frame::WINDOW_UPDATE, 4)).is_none()));
        }
        let more = 1000 * FOR_DATA;
        assert!((0..more).all(|_| meter.frame(header(frame::WINDOW_UPDATE, 4)).is_none()));
        assert_eq!(meter.frame(header(frame::WINDOW_UPDATE, 4)), Some(Malformed::ControlFlood));
    }

    #[test]
    fn resets_are_allowed_for_a_fifth_of_the_streams() {
        let mut meter = meter();
        assert!((0..10).all(|_| meter.frame(header(frame::HEADERS, 4)).is_none()));
        assert!((0..4).all(|_| meter.frame(header(frame::RST_STREAM, 4)).is_none()));
        assert_eq!(meter.frame(header(frame::RST_STREAM, 4)), Some(Malformed::ResetFlood));
    }

    #[test]
    fn to_a_client_a_reset_is_a_frame_like_any_other() {
        let mut meter = Meter { role: Role::Client, ..meter() };
        assert!((0..5).all(|_| meter.frame(header(frame::RST_STREAM, 4)).is_none()));
        assert_eq!(meter.frame(header(frame::RST_STREAM, 4)), Some(Malformed::ControlFlood));
    }

    #[test]
    fn faults_that_cost_a_reset_are_limited() {
        let mut meter = meter();
        assert!((0..3).all(|_| meter.error().is_none()));
        assert_eq!(meter.error(), Some(Malformed::ResetFlood));
    }

    #[test]
    fn whoever_downloads_may_update_windows() {
        let mut meter = meter();
        meter.wrote(100 * BYTES_PER_FRAME as usize);
        assert!((0..100).all(|_| meter.frame(header(frame::WINDOW_UPDATE, 4)).is_none()));
    }

    #[test]
    fn small_messages_may_each_be_answered_with_control_frames() {
        let mut meter = meter();
        for _ in 0..1000 {
            meter.sent_data();
            let frames = [frame::WINDOW_UPDATE, frame::WINDOW_UPDATE, frame::PING];
            assert!(frames.into_iter().all(|kind| meter.frame(header(kind, 8)).is_none()));
        }
    }
}
