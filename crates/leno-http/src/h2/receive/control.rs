//! The frames that carry no message: PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE.

use super::super::core::{Core, Leaving, PING_ALIVE, PING_LEAVING, Role};
use super::super::frame::{self, Header, code, setting};
use super::super::streams::End;
use super::{Fatal, Outcome};
use crate::limits::Malformed;

/// Streams that this end opens on one connection at most.
const STREAMS_MAX: u32 = 10_000;

impl Core {
    pub(super) fn control(&mut self, header: Header, payload: &[u8]) -> Outcome {
        match header.kind {
            frame::PRIORITY => self.priority(header, payload),
            frame::RST_STREAM => self.rst_stream(header, payload),
            frame::SETTINGS => self.settings(header, payload),
            frame::PING => self.ping(header, payload),
            frame::GOAWAY => self.goaway(header, payload),
            frame::WINDOW_UPDATE => self.window_update(header, payload),
            // Nobody was allowed to push.
            frame::PUSH_PROMISE => Err(Fatal::protocol()),
            _ => Ok(()),
        }
    }

    fn priority(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.stream == 0 {
            return Err(Fatal::protocol());
        }
        if payload.len() != 5 {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        }
        if frame::number(payload) & frame::MAX == header.stream {
            return Err(Fatal::protocol());
        }
        Ok(())
    }

    fn rst_stream(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if payload.len() != 4 {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        }
        if header.stream == 0 || self.is_idle(header.stream) {
            return Err(Fatal::protocol());
        }
        let Some(key) = self.streams.find(header.stream) else {
            self.streams.reset_by_both(header.stream);
            return Ok(());
        };
        let slot = self.streams.get(key);
        if !slot.is_over() {
            slot.end(End::Reset(frame::number(payload)), &mut self.wakers);
        }
        slot.reset_by_them = true;
        self.settle(key);
        Ok(())
    }

    fn settings(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.stream != 0 {
            return Err(Fatal::protocol());
        }
        if header.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(Fatal::new(code::FRAME_SIZE_ERROR));
            }
            self.settings_acknowledged();
            return Ok(());
        }
        let (entries, []) = payload.as_chunks::<6>() else { return Err(Fatal::new(code::FRAME_SIZE_ERROR)) };
        // A server that does not say how many streams it takes takes any number; what is kept here has a limit.
        let mut streams = if self.peer.settled { self.peer.streams } else { STREAMS_MAX };
        let mut window = None;
        for [a, b, value @ ..] in entries {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                setting::HEADER_TABLE_SIZE => self.encoder.set_size_max(value),
                setting::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => return Err(Fatal::protocol()),
                setting::MAX_CONCURRENT_STREAMS => streams = value.min(STREAMS_MAX),
                setting::INITIAL_WINDOW_SIZE if value > frame::MAX => {
                    return Err(Fatal::new(code::FLOW_CONTROL_ERROR));
                }
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => return Err(Fatal::protocol()),
                _ => {}
            }
        }
        // Once, however often a frame says it: it touches every stream.
        if let Some(window) = window {
            self.initial_window(window)?;
        }
        self.peer.streams = streams;
        self.peer.settled = true;
        self.wake_waiting();
        frame::settings_ack(self.output.frames());
        Ok(())
    }

    fn initial_window(&mut self, value: u32) -> Outcome {
        let by = i64::from(value) - self.peer.stream_window;
        self.peer.stream_window = i64::from(value);
        for key in self.streams.keys() {
            let window = &mut self.streams.get(key).send.window;
            *window += by;
            if *window > i64::from(frame::MAX) {
                return Err(Fatal::new(code::FLOW_CONTROL_ERROR));
            }
            self.unblock(key);
        }
        Ok(())
    }

    /// The peer has our window now; ours of open streams change as its do.
    fn settings_acknowledged(&mut self) {
        let window = i64::from(self.limits.h2_stream_window.min(frame::MAX));
        let by = window - self.stream_window;
        if by != 0 {
            self.stream_window = window;
            for key in self.streams.keys() {
                self.streams.get(key).receive.window += by;
            }
        }
    }

    fn ping(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let payload: [u8; 8] = payload.try_into().map_err(|_| Fatal::new(code::FRAME_SIZE_ERROR))?;
        if header.stream != 0 {
            return Err(Fatal::protocol());
        }
        match (header.has(frame::ACK), payload) {
            (false, payload) => frame::ping(self.output.frames(), frame::ACK, payload),
            (true, PING_LEAVING) if self.leaving == Leaving::Announced => self.leave_now(),
            (true, PING_ALIVE) => self.ponged = true,
            (true, _) => {}
        }
        Ok(())
    }

    fn goaway(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let (Some(last), Some(code)) = (payload.first_chunk(), payload.get(4..8)) else {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        };
        if header.stream != 0 {
            return Err(Fatal::protocol());
        }
        let (last, code) = (u32::from_be_bytes(*last) & frame::MAX, frame::number(code));
        self.peer.leaves = true;
        self.wake_waiting();
        if self.role == Role::Client {
            for key in self.streams.keys() {
                let slot = self.streams.get(key);
                if slot.id > last && !slot.is_over() {
                    slot.end(End::Unprocessed(code), &mut self.wakers);
                    self.settle(key);
                }
            }
        }
        Ok(())
    }

    fn window_update(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if payload.len() != 4 {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        }
        let by = i64::from(frame::number(payload) & frame::MAX);
        let most = i64::from(frame::MAX);
        if header.stream == 0 {
            self.send_window += by;
            return match by {
                0 => Err(Fatal::protocol()),
                _ if self.send_window > most => Err(Fatal::new(code::FLOW_CONTROL_ERROR)),
                _ => Ok(()),
            };
        }
        if self.is_idle(header.stream) {
            return Err(Fatal::protocol());
        }
        if by == 0 {
            return self.fault(header.stream, code::PROTOCOL_ERROR, Malformed::H2Protocol);
        }
        let Some(key) = self.streams.find(header.stream) else { return Ok(()) };
        let slot = self.streams.get(key);
        if slot.is_over() {
            return Ok(());
        }
        slot.send.window += by;
        if slot.send.window > most {
            return self.fault(header.stream, code::FLOW_CONTROL_ERROR, Malformed::H2Protocol);
        }
        self.unblock(key);
        Ok(())
    }
}
