//! Readers that take what they asked for at a pace of their own, on the test's clock.

use std::time::Duration;

use tokio::time::Instant;

use super::edges::{request, server, take};
use super::*;

/// Bytes a second, and the seconds that go with them.
const RATE: u64 = 240;
const GRACE: u64 = 8;
const PATIENCE_MAX: u64 = 60;
/// Two looks, and a little.
const LATE: u64 = 3;
const LARGE: usize = 10 << 20;

/// How a reader takes a response.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// So many bytes after each of so many seconds, the first at once.
    Steady { bytes: u64, seconds: u64 },
    /// What its first window allows, and then nothing.
    Stalls,
    /// The same, and it may.
    AtLeisure,
}

struct Reader {
    pace: Pace,
    key: u32,
    id: u32,
    reset: Option<u64>,
}

/// A server with a stream for each of these paces, whose bodies wait, and whose peer has said how large its windows are.
fn reading(paces: &[Pace], window: u32, connection: u32) -> (Side, Vec<Reader>) {
    let (mut server, mut encoder) = server();
    let mut frames = Vec::new();
    frame::settings(&mut frames, &[(setting::INITIAL_WINDOW_SIZE, window)]);
    if connection > frame::WINDOW {
        frame::window_update(&mut frames, 0, connection - frame::WINDOW);
    }
    server.wire.extend_from_slice(&frames);
    take(&mut server).unwrap();
    let body = Bytes::from(vec![7; LARGE]);
    let mut readers = Vec::new();
    for (n, pace) in (0..).zip(paces) {
        let id = 2 * n + 1;
        request(&mut server, &mut encoder, id, true).unwrap();
        let key = server.accepted.pop().unwrap();
        server.core.pace_reader(key, || matches!(pace, Pace::AtLeisure));
        server.core.respond(key, &ResponseHead::new(200), BodyLength::Unknown, false, false).unwrap();
        server.core.submit(key, body.clone(), true).unwrap();
        readers.push(Reader { pace: *pace, key, id, reset: None });
    }
    (server, readers)
}

/// The socket takes everything.
fn write_all(server: &mut Side) {
    while server.core.pump() || !server.core.output.is_empty() {
        server.core.output.take();
    }
}

/// What the connection's task does every now and then.
fn look(server: &mut Side, now: Instant, queued: u64) -> Result<(), Fatal> {
    if server.core.readers.due { server.core.look(now, queued) } else { Ok(()) }
}

fn note_resets(server: &mut Side, readers: &mut [Reader], second: u64) {
    for reader in readers {
        let end = server.core.streams.get(reader.key).end;
        if end.is_some() && reader.reset.is_none() {
            assert_eq!(end, Some(End::Malformed(Malformed::ResponseRate)));
            reader.reset = Some(second);
        }
    }
}

/// When a reader has to be reset, in seconds.
fn due(pace: Pace, window: u64) -> Option<u64> {
    match pace {
        Pace::Steady { bytes, seconds } if bytes >= RATE * seconds => None,
        // What is missing of each second.
        Pace::Steady { bytes, seconds } => {
            Some((GRACE * RATE + window).min(PATIENCE_MAX * RATE) * seconds / (RATE * seconds - bytes))
        }
        Pace::Stalls => Some((GRACE + window / RATE).min(PATIENCE_MAX)),
        Pace::AtLeisure => None,
    }
}

#[test]
fn streams_are_reset_when_less_is_taken_than_the_rate_and_not_before() {
    let mut reset = 0;
    for seed in 1..40 {
        let noise = &mut Noise(seed * 0x9e37_79b9);
        let window = [0, 1, 500, 4_000, 65_535][noise.below(5)];
        let paces: Vec<Pace> = (0..12)
            .map(|n| match n % 4 {
                0 => Pace::Stalls,
                1 => Pace::AtLeisure,
                // Windows are given back by the half, which may be long after.
                2 => {
                    let seconds = 1 + noise.below(40) as u64;
                    Pace::Steady { bytes: seconds * (RATE + noise.below(1_000) as u64), seconds }
                }
                _ => Pace::Steady { bytes: 1 + noise.below(RATE as usize / 2) as u64, seconds: 1 },
            })
            .collect();
        let (mut server, mut readers) = reading(&paces, window, frame::MAX);
        let began = Instant::now();
        for second in 0..150 {
            for reader in &readers {
                if let Pace::Steady { bytes, seconds } = reader.pace
                    && second % seconds == 0
                {
                    let mut frames = Vec::new();
                    frame::window_update(&mut frames, reader.id, bytes as u32);
                    server.wire.extend_from_slice(&frames);
                }
            }
            take(&mut server).unwrap();
            write_all(&mut server);
            look(&mut server, began + Duration::from_secs(second), 0).unwrap();
            note_resets(&mut server, &mut readers, second);
        }
        for reader in &readers {
            let (pace, due) = (reader.pace, due(reader.pace, u64::from(window)));
            match (due, reader.reset) {
                (None, reset) => assert_eq!(reset, None, "seed {seed}, window {window}: {pace:?}"),
                (Some(due), reset) => {
                    let in_time = reset.is_some_and(|at| at + LATE >= due && at <= due + LATE);
                    assert!(in_time, "seed {seed}, window {window}: {pace:?} at {reset:?}, not {due}");
                }
            }
        }
        let struck = readers.iter().filter(|reader| reader.reset.is_some()).count() as u64;
        assert_eq!(server.core.strikes.get(Malformed::ResponseRate), struck);
        reset += struck;
        readers.iter().for_each(|reader| server.core.drop_holder(reader.key));
    }
    assert!(reset > 39 * 3, "{reset}");
}

#[test]
fn a_connection_window_that_stays_shut_ends_the_streams_that_wait_for_it() {
    let paces = [Pace::Stalls, Pace::AtLeisure, Pace::Stalls];
    let (mut server, mut readers) = reading(&paces, frame::MAX, frame::WINDOW);
    let began = Instant::now();
    for second in 0..100 {
        write_all(&mut server);
        look(&mut server, began + Duration::from_secs(second), 0).unwrap();
        note_resets(&mut server, &mut readers, second);
    }
    let reset: Vec<Option<u64>> = readers.iter().map(|reader| reader.reset).collect();
    assert!(matches!(reset[..], [Some(59..63), None, Some(59..63)]), "{reset:?}");
    readers.iter().for_each(|reader| server.core.drop_holder(reader.key));
}

#[test]
fn a_socket_that_takes_nothing_ends_the_connection_unless_something_is_read_at_leisure() {
    for (other, ends) in [(Pace::Stalls, true), (Pace::AtLeisure, false)] {
        let (mut server, mut readers) = reading(&[Pace::Stalls, other], frame::MAX, frame::MAX);
        let began = Instant::now();
        server.core.socket_is_full();
        let mut ended = None;
        for second in 0..30 {
            let looked = look(&mut server, began + Duration::from_secs(second), 100_000);
            if let Err(fatal) = looked {
                assert_eq!(fatal.what, Malformed::ResponseRate);
                ended = Some(second);
                break;
            }
            note_resets(&mut server, &mut readers, second);
        }
        let reset: Vec<Option<u64>> = readers.iter().map(|reader| reader.reset).collect();
        match ends {
            true => assert!(matches!(ended, Some(8..10)), "{ended:?}"),
            false => assert!(ended.is_none() && matches!(reset[..], [Some(8..10), None]), "{ended:?} {reset:?}"),
        }
        server.core.finish(End::Closed);
        readers.iter().for_each(|reader| server.core.drop_holder(reader.key));
    }
}

#[test]
fn a_socket_that_takes_a_little_all_the_time_is_none_that_takes_nothing() {
    let (mut server, readers) = reading(&[Pace::Stalls], frame::MAX, frame::MAX);
    let began = Instant::now();
    server.core.socket_is_full();
    for second in 0..200 {
        let queued = 100_000 - RATE * second;
        look(&mut server, began + Duration::from_secs(second), queued).unwrap();
    }
    assert_eq!(server.core.strikes.get(Malformed::ResponseRate), 0);
    server.core.finish(End::Closed);
    readers.iter().for_each(|reader| server.core.drop_holder(reader.key));
}

#[test]
fn in_the_mesh_no_reader_is_looked_at() {
    let mut server = Side::new(Role::Server, &Limits::mesh());
    server.core.socket_is_full();
    assert!(!server.core.readers.due);
}
