//! Two connections without sockets, wired to each other: whatever the order of events and the cuts of the bytes, bodies
//! arrive whole; whatever happens to the bytes, nothing panics and every limit holds.

use std::collections::HashMap;
use std::task::Waker;

use bytes::BytesMut;

use super::super::feed::Feed;
use super::super::receive::Fatal;
use super::super::streams::Streams;
use super::*;

mod edges;
mod readers;

/// xorshift, seeded.
struct Noise(u64);

impl Noise {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most.max(1)
    }
}

struct Side {
    core: Core,
    feed: Feed,
    /// Written by the other side, and on its way.
    wire: BytesMut,
    accepted: Vec<u32>,
}

impl Side {
    fn new(role: Role, limits: &Limits) -> Side {
        let core = Core::new(role, limits, &Arc::default());
        Side { core, feed: Feed::default(), wire: BytesMut::new(), accepted: Vec::new() }
    }

    /// Takes some of what is on its way.
    fn receive(&mut self, noise: &mut Noise) -> Result<(), Fatal> {
        let length = (noise.below(3000) + 1).min(self.wire.len());
        self.feed.bytes.extend_from_slice(&self.wire.split_to(length));
        while let Some(accepted) = self.core.receive(&mut self.feed)? {
            self.core.streams.get(accepted.key).holders += 1;
            self.accepted.push(accepted.key);
        }
        self.core.wakers.clear();
        Ok(())
    }

    fn send(&mut self, to: &mut Side) {
        loop {
            self.core.pump();
            if self.core.output.is_empty() {
                return;
            }
            to.wire.extend_from_slice(&self.core.output.take());
        }
    }
}

fn limits(noise: &mut Noise) -> Limits {
    let windows = [1, 100, 5_000, 65_535, 200_000];
    Limits {
        h2_stream_window: windows[noise.below(5)],
        h2_connection_window: windows[noise.below(5)],
        h2_streams: 4 + noise.below(20) as u32,
        h2_control_frames: u32::MAX,
        ..Limits::default()
    }
}

#[derive(Default)]
struct Exchange {
    body: Vec<u8>,
    sent: usize,
    ended: bool,
    received: Vec<u8>,
    answered: bool,
    done: bool,
}

/// The server sends back what comes.
#[derive(Default)]
struct Echo {
    waiting: Option<Bytes>,
    begun: bool,
    done: bool,
}

fn echo(core: &mut Core, key: u32, echo: &mut Echo, cx: &Context<'_>) {
    if echo.done {
        return;
    }
    if !std::mem::replace(&mut echo.begun, true) {
        let head = ResponseHead::new(200).with("x-some", "field");
        core.respond(key, &head, BodyLength::Unknown, false, false).unwrap();
    }
    if core.poll_sent(key, cx).is_pending() {
        return;
    }
    if let Some(data) = echo.waiting.take() {
        core.release(key, data.len());
        core.submit(key, data, false).unwrap();
        return;
    }
    match core.poll_body(key, cx) {
        Poll::Ready(Some(Ok(Frame::Data(data)))) => echo.waiting = Some(data),
        Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
            core.send_trailers(key, &trailers).unwrap();
            echo.done = true;
        }
        Poll::Ready(None) => {
            core.submit(key, Bytes::new(), true).unwrap();
            echo.done = true;
        }
        Poll::Ready(Some(Err(end))) => panic!("{end:?}"),
        Poll::Pending => {}
    }
}

fn drive(core: &mut Core, key: u32, exchange: &mut Exchange, noise: &mut Noise, cx: &Context<'_>) {
    if !exchange.ended && core.poll_sent(key, cx).is_ready() {
        let left = exchange.body.len() - exchange.sent;
        let piece = (noise.below(9000) + 1).min(left);
        let data = Bytes::copy_from_slice(&exchange.body[exchange.sent..exchange.sent + piece]);
        exchange.sent += piece;
        exchange.ended = piece == left;
        core.submit(key, data, exchange.ended).unwrap();
    }
    if !exchange.answered {
        exchange.answered = core.poll_head(key, cx).map(|head| head.unwrap()).is_ready();
        return;
    }
    match core.poll_body(key, cx) {
        Poll::Ready(Some(Ok(Frame::Data(data)))) => {
            exchange.received.extend_from_slice(&data);
            core.release(key, data.len());
        }
        Poll::Ready(None) => exchange.done = true,
        Poll::Ready(other) => panic!("{other:?}"),
        Poll::Pending => {}
    }
}

fn settled(streams: &Streams) -> (usize, u32) {
    (streams.len(), streams.open)
}

#[test]
fn bodies_arrive_whole_whatever_the_windows_and_the_cuts() {
    let cx = &Context::from_waker(Waker::noop());
    for seed in 1..60 {
        let noise = &mut Noise(seed * 0x9e37_79b9);
        let (ours, theirs) = (limits(noise), limits(noise));
        let (mut client, mut server) = (Side::new(Role::Client, &ours), Side::new(Role::Server, &theirs));
        let small = ours.h2_stream_window.min(theirs.h2_stream_window) < 1000;
        let mut exchanges: HashMap<u32, Exchange> = HashMap::new();
        let mut echoes: HashMap<u32, Echo> = HashMap::new();
        let (mut begun, mut finished, mut steps) = (0, 0, 0);
        while finished < 30 {
            steps += 1;
            assert!(steps < 2_000_000, "seed {seed} is stuck: {finished} of {begun}");
            if begun < 30 && client.core.can_open() == Ok(true) && noise.below(4) == 0 {
                let length = noise.below(if small { 300 } else { 60_000 });
                let body: Vec<u8> = (0..length).map(|n| (n * 7 + begun) as u8).collect();
                let head = RequestHead::new(Method::Post, "a", "/");
                let key = client.core.open(&head, BodyLength::Unknown, false);
                client.core.streams.get(key).holders += 1;
                exchanges.insert(key, Exchange { body, ..Exchange::default() });
                begun += 1;
            }
            let keys: Vec<u32> = exchanges.keys().copied().collect();
            for key in keys {
                let Some(exchange) = exchanges.get_mut(&key) else { continue };
                drive(&mut client.core, key, exchange, noise, cx);
                if exchange.done {
                    assert!(exchange.received == exchange.body, "seed {seed}");
                    client.core.drop_holder(key);
                    exchanges.remove(&key);
                    finished += 1;
                }
            }
            client.send(&mut server);
            server.receive(noise).unwrap();
            for key in server.accepted.drain(..) {
                echoes.insert(key, Echo::default());
            }
            for (key, echoing) in &mut echoes {
                echo(&mut server.core, *key, echoing, cx);
            }
            echoes.retain(|key, echoing| {
                if echoing.done && server.core.streams.get(*key).is_over() {
                    server.core.drop_holder(*key);
                    return false;
                }
                true
            });
            server.send(&mut client);
            client.receive(noise).unwrap();
        }
        assert_eq!(settled(&client.core.streams), (0, 0), "seed {seed}");
    }
}

/// Lets both sides have all that the other has written.
fn settle(client: &mut Side, server: &mut Side) {
    let noise = &mut Noise(1);
    loop {
        client.send(server);
        server.send(client);
        if client.wire.is_empty() && server.wire.is_empty() {
            return;
        }
        client.receive(noise).unwrap();
        server.receive(noise).unwrap();
    }
}

/// A client and a server with as many requests open as asked for; their keys at either side.
fn opened(count: usize) -> (Side, Side, Vec<u32>, Vec<u32>) {
    let limits = Limits::default();
    let (mut client, mut server) = (Side::new(Role::Client, &limits), Side::new(Role::Server, &limits));
    settle(&mut client, &mut server);
    let head = RequestHead::new(Method::Post, "a", "/");
    let keys: Vec<u32> = (0..count)
        .map(|_| {
            let key = client.core.open(&head, BodyLength::Unknown, false);
            client.core.streams.get(key).holders += 1;
            key
        })
        .collect();
    settle(&mut client, &mut server);
    let accepted = std::mem::take(&mut server.accepted);
    (client, server, keys, accepted)
}

#[test]
fn callers_that_do_not_read_hold_up_their_own_streams_only() {
    let cx = &Context::from_waker(Waker::noop());
    let (mut client, mut server, keys, accepted) = opened(40);
    for key in &accepted {
        server.core.respond(*key, &ResponseHead::new(200), BodyLength::Unknown, false, false).unwrap();
        server.core.submit(*key, Bytes::from(vec![7; 200_000]), false).unwrap();
    }
    settle(&mut client, &mut server);
    for key in keys {
        assert!(client.core.poll_head(key, cx).is_ready());
        assert!(matches!(client.core.poll_body(key, cx), Poll::Ready(Some(Ok(Frame::Data(_))))), "stream {key}");
    }
}

#[test]
fn a_tunnel_writes_to_its_end() {
    let cx = &Context::from_waker(Waker::noop());
    for length in [1, 16_384, 16_385, 40_000, 65_000] {
        let (mut client, mut server, keys, accepted) = opened(1);
        let mut bytes = Bytes::from(vec![7; length]);
        let mut received = 0;
        while !bytes.is_empty() {
            let _ = client.core.poll_submit_some(keys[0], &mut bytes, cx);
            if bytes.is_empty() {
                client.core.submit(keys[0], Bytes::new(), true).unwrap();
            }
            settle(&mut client, &mut server);
            while let Poll::Ready(Some(Ok(Frame::Data(data)))) = server.core.poll_body(accepted[0], cx) {
                server.core.release(accepted[0], data.len());
                received += data.len();
            }
        }
        assert_eq!(received, length);
        assert!(matches!(server.core.poll_body(accepted[0], cx), Poll::Ready(None)));
    }
}

/// What a client sends that does all that is usual.
fn session(noise: &mut Noise) -> Vec<u8> {
    let mut client = Side::new(Role::Client, &Limits::default());
    client.core.peer.settled = true;
    for n in 0..6 {
        let mut head = RequestHead::new(Method::Post, "a", "/path");
        head.fields.append("x-name", format!("value {}", n % 2));
        head.fields.append("cookie", "a=1");
        let key = client.core.open(&head, BodyLength::Unknown, n == 5);
        client.core.streams.get(key).holders += 1;
        if n < 5 {
            let data = vec![7; noise.below(3000)];
            client.core.submit(key, Bytes::from(data), n == 1).unwrap();
        }
        match n {
            2 => client.core.send_trailers(key, &[("x-sum", "1")].into_iter().collect()).unwrap(),
            3 => client.core.reset(key, code::CANCEL),
            4 => frame::window_update(client.core.output.frames(), 0, 1000),
            _ => {}
        }
        frame::ping(client.core.output.frames(), 0, [n; 8]);
    }
    let mut bytes = Vec::new();
    while !client.core.output.is_empty() {
        bytes.extend(client.core.output.take());
    }
    bytes
}

/// Feeds a server these bytes in pieces; answers what is asked, and checks the limits.
fn serve(bytes: &[u8], noise: &mut Noise) -> Result<usize, Fatal> {
    let cx = &Context::from_waker(Waker::noop());
    let mut server = Side::new(Role::Server, &Limits::default());
    server.wire.extend_from_slice(bytes);
    let mut held = Vec::new();
    let mut served = 0;
    while !server.wire.is_empty() {
        let received = server.receive(noise);
        held.append(&mut server.accepted);
        if let Err(fatal) = received {
            server.core.condemn(fatal.code, fatal.what);
            held.into_iter().for_each(|key| server.core.drop_holder(key));
            assert_eq!(settled(&server.core.streams), (0, 0));
            return Err(fatal);
        }
        assert!(server.core.streams.len() <= 2 * 100 + 20 && server.core.receive_window <= 1 << 20);
        held.retain(|key| {
            let core = &mut server.core;
            let over = match core.poll_body(*key, cx) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    core.release(*key, data.len());
                    false
                }
                Poll::Ready(Some(Err(_))) => true,
                Poll::Ready(Some(Ok(Frame::Trailers(_))) | None) => {
                    let _ = core.respond(*key, &ResponseHead::new(200), BodyLength::Empty, false, true);
                    served += 1;
                    true
                }
                Poll::Pending => false,
            };
            if over {
                core.drop_holder(*key);
            }
            !over
        });
        while !server.core.output.is_empty() {
            server.core.output.take();
        }
    }
    Ok(served)
}

#[test]
fn a_usual_session_is_served() {
    let noise = &mut Noise(11);
    assert_eq!(serve(&session(noise), noise), Ok(3));
}

#[test]
fn mutated_sessions_are_served_or_refused() {
    let noise = &mut Noise(0x00c0_ffee);
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..4_000 {
        let mut bytes = session(noise);
        for _ in 0..noise.below(6) + 1 {
            let at = noise.below(bytes.len());
            match noise.below(5) {
                0 => bytes[at] = noise.below(256) as u8,
                1 => bytes[at] ^= 1 << noise.below(8),
                2 => bytes.truncate(at.max(40)),
                3 => {
                    let to = (at + noise.below(200)).min(bytes.len());
                    let copied = bytes[at..to].to_vec();
                    bytes.splice(at..at, copied);
                }
                _ => {
                    let to = (at + noise.below(30)).min(bytes.len());
                    bytes.drain(at..to);
                }
            }
        }
        match serve(&bytes, noise) {
            Ok(_) => fine += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(fine > 100 && refused > 1000, "{fine} and {refused}");
}

#[test]
fn random_frames_are_served_or_refused() {
    let noise = &mut Noise(0xdead_beef);
    for _ in 0..4_000 {
        let mut bytes = frame::PREFACE.to_vec();
        frame::settings(&mut bytes, &[]);
        for _ in 0..20 {
            let length = noise.below(40);
            let kind = noise.below(11) as u8;
            frame::header(&mut bytes, length, kind, noise.below(256) as u8, noise.below(12) as u32);
            bytes.extend((0..length).map(|_| noise.below(256) as u8));
        }
        let _ = serve(&bytes, noise);
    }
}

#[test]
fn a_client_survives_whatever_a_server_sends() {
    let noise = &mut Noise(0xfeed);
    for _ in 0..4_000 {
        let mut client = Side::new(Role::Client, &Limits::default());
        let head = RequestHead::new(Method::Get, "a", "/");
        for _ in 0..3 {
            let key = client.core.open(&head, BodyLength::Empty, true);
            client.core.streams.get(key).holders += 1;
        }
        let mut bytes = Vec::new();
        frame::settings(&mut bytes, &[]);
        let mut encoder = Encoder::new();
        for _ in 0..8 {
            let id = 1 + noise.below(6) as u32;
            match noise.below(3) {
                0 => frame::headers(&mut bytes, id, noise.below(2) == 0, &mut encoder, |encoder, out| {
                    let status = [100, 103, 200, 204, 304][noise.below(5)];
                    head::write_response(encoder, out, &ResponseHead::new(status), BodyLength::Known(5), false);
                }),
                1 => {
                    frame::header(&mut bytes, 5, frame::DATA, noise.below(2) as u8, id);
                    bytes.extend_from_slice(b"hello");
                }
                _ => {
                    let length = noise.below(10);
                    frame::header(&mut bytes, length, noise.below(10) as u8, noise.below(256) as u8, id);
                    bytes.extend((0..length).map(|_| noise.below(256) as u8));
                }
            }
        }
        client.wire.extend_from_slice(&bytes);
        while !client.wire.is_empty() {
            if let Err(fatal) = client.receive(noise) {
                client.core.condemn(fatal.code, fatal.what);
                break;
            }
        }
        client.core.streams.keys().into_iter().for_each(|key| client.core.drop_holder(key));
        assert_eq!(settled(&client.core.streams), (0, 0));
    }
}
