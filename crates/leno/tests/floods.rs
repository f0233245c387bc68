//! A gateway under floods of HTTP/2 frames that the test writes byte by byte.
//!
//! Each flood has to end with a GOAWAY that says why, cost the gateway no memory, and go unnoticed by a connection beside
//! it, which asks all the while. What the same bytes cost that connection where nobody but a sink takes them is the
//! machine's business, and what a flood is compared with.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::http2::*;
use kit::mesh::Process;
use kit::{Leno, figures, free_address, leno};

/// Frames and bytes that a flood has at most, and how they are paced.
const FRAMES: u32 = 20_000;
const BYTES: usize = 8_000_000;
const AT_ONCE: u32 = 50;
const BYTES_AT_ONCE: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(2);
/// How long a flood goes on, over new connections when it is ended, and how long the calm before it is.
const FLOOD: Duration = Duration::from_millis(500);
/// Who was sent away comes back after this time: a crowd that comes and goes is for caps on connections.
const AGAIN: Duration = Duration::from_millis(100);
const CALM: Duration = Duration::from_millis(500);
/// Between two requests of who asks all the while.
const THINKS: Duration = Duration::from_micros(250);
/// How much a flood may cost.
const MEMORY_MB: f64 = 1.0;
/// How much answers may that nobody takes: 64 KiB for each stream.
const HELD_MB: f64 = STREAMS as f64 * 64.0 / 1024.0;
const SLOWER: f64 = 2.0;
/// What the machine does on its own is not held against a flood: it is looked at so often.
const LOOKS: u32 = 5;
const STREAMS: u32 = 100;
const LARGE: usize = 10_000_000;

const UNKNOWN: u8 = 0x42;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];
/// As before, and POST.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x01, 1, b'a'];

/// One kind of flood.
struct Flood {
    name: &'static str,
    /// What is written first.
    begin: fn() -> Vec<u8>,
    /// The next frames.
    next: fn(u32) -> Vec<u8>,
    /// Whether the replies are read while it is written.
    reads: bool,
    /// The debug data of GOAWAY, and the reason that is counted.
    reason: &'static str,
}

/// A gateway, an application behind it, and somebody who asks through it.
struct Scene {
    gateway: Process,
    _leno: Leno,
    to: SocketAddr,
    metrics: SocketAddr,
    /// Takes whatever comes.
    sink: SocketAddr,
    /// Requests that reached the application and were whole.
    reached: Arc<AtomicUsize>,
    /// Bytes of large answers that the application was rid of.
    written: Arc<AtomicUsize>,
    healthy: Arc<Mutex<Vec<Duration>>>,
    over: Arc<AtomicBool>,
    asking: Mutex<Option<JoinHandle<()>>>,
}

/// What a flood did.
struct Cost {
    connections: u32,
    memory_mb: f64,
    calm: Duration,
    flood: Duration,
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

fn stream(n: u32) -> u32 {
    2 * n + 1
}

const FLOODS: &[Flood] = &[
    Flood {
        name: "rapid resets",
        begin: nothing,
        next: |n| [get(stream(n)), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat(),
        reads: true,
        reason: "reset-flood",
    },
    Flood {
        name: "windows updated by nothing",
        begin: nothing,
        next: |n| [post(stream(n)), frame(WINDOW_UPDATE, 0, stream(n), &[0; 4])].concat(),
        reads: true,
        reason: "reset-flood",
    },
    Flood {
        name: "windows that overflow",
        begin: nothing,
        next: |n| [post(stream(n)), frame(WINDOW_UPDATE, 0, stream(n), &[0x7f, 255, 255, 255])].concat(),
        reads: true,
        reason: "reset-flood",
    },
    Flood {
        name: "data after the end",
        begin: nothing,
        next: |n| [get(stream(n)), frame(DATA, 0, stream(n), b"more")].concat(),
        reads: true,
        reason: "reset-flood",
    },
    Flood {
        name: "priorities of a wrong length",
        begin: nothing,
        next: |n| [post(stream(n)), frame(PRIORITY, 0, stream(n), &[0; 4])].concat(),
        reads: true,
        reason: "h2-protocol",
    },
    Flood {
        name: "continuations",
        begin: || frame(HEADERS, 0, 1, GET),
        next: |_| frame(CONTINUATION, 0, 1, b"\x00\x06x-name\x06value!"),
        reads: true,
        reason: "head-too-large",
    },
    Flood {
        name: "empty continuations",
        begin: || frame(HEADERS, 0, 1, GET),
        next: |_| frame(CONTINUATION, 0, 1, &[]),
        reads: true,
        reason: "head-too-large",
    },
    Flood {
        name: "empty data",
        begin: || post(1),
        next: |_| frame(DATA, 0, 1, &[]),
        reads: true,
        reason: "control-flood",
    },
    Flood {
        name: "data of a byte",
        begin: || post(1),
        next: |_| frame(DATA, 0, 1, b"x"),
        reads: true,
        reason: "control-flood",
    },
    Flood { name: "pings", begin: nothing, next: ping, reads: true, reason: "control-flood" },
    Flood { name: "pings, replies unread", begin: nothing, next: ping, reads: false, reason: "control-flood" },
    Flood { name: "settings", begin: nothing, next: settings, reads: true, reason: "control-flood" },
    Flood { name: "settings, replies unread", begin: nothing, next: settings, reads: false, reason: "control-flood" },
    Flood {
        name: "priorities",
        begin: nothing,
        next: |n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 7]),
        reads: true,
        reason: "control-flood",
    },
    Flood {
        name: "updates of the connection's window",
        begin: nothing,
        next: |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        reads: true,
        reason: "control-flood",
    },
    Flood {
        name: "updates of a stream's window",
        begin: || post(1),
        next: |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        reads: false,
        reason: "control-flood",
    },
    Flood {
        name: "unknown frames",
        begin: nothing,
        next: |_| frame(UNKNOWN, 0xff, 0, b"what?"),
        reads: true,
        reason: "control-flood",
    },
    Flood { name: "compressed lists", begin: nothing, next: bomb, reads: true, reason: "head-too-large" },
];

#[test]
fn floods_of_frames_are_ended_and_go_unnoticed_by_others() {
    let scene = Scene::start();
    let (mut worst, mut slowest) = ((0.0, ""), (0.0, ""));
    for flood in FLOODS {
        let before = scene.refused(flood.reason);
        let cost = scene.endure_flood(flood);
        let struck = scene.refused(flood.reason) - before;
        assert!(struck >= u64::from(cost.connections), "{}: counted {struck} times", flood.name);
        if cost.memory_mb > worst.0 {
            worst = (cost.memory_mb, flood.name);
        }
        if cost.ratio() > slowest.0 {
            slowest = (cost.ratio(), flood.name);
        }
    }
    let legality = scene.illegal_heads();
    let hostage = [0, 1].map(|window| scene.endure("windows held shut", HELD_MB, || (), || scene.hold(window)));
    figures(format_args!(
        "floods: {} kinds end with a GOAWAY that says why, the dearest costs {:.2} MB ({}), the loudest makes the 99th \
         percentile beside it {:.2} times ({}); {legality} heads that are not legal reach nobody; {STREAMS} answers of \
         10 MB nobody takes cost {:.2} and {:.2} MB",
        FLOODS.len(),
        worst.0,
        worst.1,
        slowest.0,
        slowest.1,
        hostage[0].memory_mb,
        hostage[1].memory_mb,
    ));
}

// === impl Scene ===

impl Scene {
    fn start() -> Scene {
        let (reached, written) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let upstream = upstream(&reached, &written);
        let (to, metrics) = (free_address(), free_address());
        let leno = leno().file("resources.yaml", &resources(to.port(), upstream.port()));
        let listen = metrics.to_string();
        let arguments = ["proxy", "--role", "gateway", "--gateway", "edge", "--resources", "resources.yaml"];
        let listen = ["--admin-listen", "off", "--metrics-listen", &listen];
        let gateway = Process::start(&leno, &[&arguments[..], &listen[..]].concat());
        gateway.wait_for("ready");
        let (healthy, over, asking) = Default::default();
        let sink = sink();
        let scene = Scene { gateway, _leno: leno, to, metrics, sink, reached, written, healthy, over, asking };
        scene.warm_up();
        scene.ask();
        scene
    }

    /// Somebody asks from now on.
    fn ask(&self) {
        self.over.store(false, Ordering::Relaxed);
        let (to, healthy, over) = (self.to, self.healthy.clone(), self.over.clone());
        let asking = std::thread::spawn(move || ask_until(to, &healthy, &over));
        *self.asking.lock().unwrap() = Some(asking);
    }

    /// Nobody asks any more.
    fn fall_silent(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.asking.lock().unwrap().take().unwrap().join().unwrap();
    }

    /// Ordinary traffic, so that what everybody needs once is there.
    fn warm_up(&self) {
        for _ in 0..8 {
            let mut connection = connect(self.to, &[]);
            connection.write_all(&(0..STREAMS).flat_map(|n| get(stream(n))).collect::<Vec<u8>>()).unwrap();
            let mut answered = 0;
            while answered < STREAMS {
                let frame = read(&mut connection).unwrap();
                answered += u32::from(matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0);
            }
        }
    }

    fn endure_flood(&self, flood: &Flood) -> Cost {
        let writes = writes(flood);
        // How many of them it took until the flood was ended.
        let ended_at = Cell::new(1);
        let calm = || write_to_sink(self.sink, &(flood.begin)(), &writes[..ended_at.get()]);
        self.endure(flood.name, MEMORY_MB, calm, || {
            ended_at.set(self.flood(flood, &writes));
            1
        })
    }

    /// Does this until it has done it for long enough, and looks at what it costs and how others fare.
    fn endure(&self, name: &str, memory_mb: f64, calm: impl Fn(), act: impl Fn() -> u32) -> Cost {
        let mut look = 1;
        loop {
            let cost = self.look(&calm, &act);
            // A debug build has not the speed that this asks for.
            let is_built_for_it = std::env::var_os("LENO_BINARY").is_some();
            let in_bounds = cost.memory_mb <= memory_mb && (cost.ratio() <= SLOWER || !is_built_for_it);
            if std::env::var_os("LENO_TEST_VERBOSE").is_some() || !in_bounds {
                eprintln!("{name}: {cost}");
            }
            if in_bounds {
                return cost;
            }
            assert!(cost.memory_mb <= memory_mb, "{name}: {cost}");
            assert!(look < LOOKS, "{name}: {cost}");
            look += 1;
        }
    }

    fn look(&self, calm: impl Fn(), act: impl Fn() -> u32) -> Cost {
        self.healthy.lock().unwrap().clear();
        let began = Instant::now();
        while began.elapsed() < CALM {
            calm();
            std::thread::sleep(AGAIN);
        }
        let mut calm = std::mem::take(&mut *self.healthy.lock().unwrap());
        let before = self.gateway.memory_mb();
        let began = Instant::now();
        let mut connections = 0;
        while began.elapsed() < FLOOD {
            connections += act();
            std::thread::sleep(AGAIN);
        }
        let memory_mb = self.gateway.memory_mb() - before;
        let mut flood = std::mem::take(&mut *self.healthy.lock().unwrap());
        // Who asked next to nothing was held up all the time.
        if flood.len() < calm.len() / 8 {
            flood = vec![FLOOD];
        }
        Cost { connections, memory_mb, calm: percentile_99(&mut calm), flood: percentile_99(&mut flood) }
    }

    /// Floods over one connection until it is ended, as it has to be; how many writes that took.
    fn flood(&self, flood: &Flood, writes: &[Vec<u8>]) -> usize {
        let mut writer = connect(self.to, &[]);
        writer.write_all(&(flood.begin)()).unwrap();
        let mut reader = writer.try_clone().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let said = ended.clone();
        let reading = flood.reads.then(|| {
            std::thread::spawn(move || {
                let goaway = goaway(&mut reader);
                said.store(true, Ordering::Relaxed);
                goaway
            })
        });
        let mut written = 0;
        for frames in writes {
            if ended.load(Ordering::Relaxed) || writer.write_all(frames).is_err() {
                break;
            }
            written += 1;
            std::thread::sleep(PAUSE);
        }
        let goaway = match reading {
            Some(reading) => reading.join().unwrap(),
            None => goaway(&mut writer),
        };
        let why = goaway.map(|frame| String::from_utf8_lossy(&frame.payload[8..]).into_owned());
        assert_eq!(why.as_deref(), Ok(flood.reason), "{}", flood.name);
        written
    }

    /// Asks for more than it lets come, until all answers have begun.
    fn hold(&self, window: u8) -> u32 {
        let mut connection = connect(self.to, &[0, 4, 0, 0, 0, window]);
        connection.write_all(&(0..STREAMS).flat_map(|n| get_large(stream(n))).collect::<Vec<u8>>()).unwrap();
        let (mut begun, mut came) = (0, 0);
        while begun < STREAMS || came < STREAMS * u32::from(window) {
            let frame = read(&mut connection).unwrap();
            begun += u32::from(frame.kind == HEADERS);
            came += if frame.kind == DATA { frame.payload.len() as u32 } else { 0 };
            assert!(came <= STREAMS * u32::from(window), "more came than was allowed");
        }
        // What the kernel takes off the application is the machine's business; what comes after that is looked at.
        let mut before = usize::MAX;
        let until = Instant::now() + WAIT;
        while before != self.written.load(Ordering::Relaxed) && Instant::now() < until {
            before = self.written.load(Ordering::Relaxed);
            std::thread::sleep(FLOOD / 5);
        }
        self.healthy.lock().unwrap().clear();
        std::thread::sleep(FLOOD);
        1
    }

    /// Sends heads that are not legal, each in a stream of its own that has to be reset; how many there are.
    fn illegal_heads(&self) -> usize {
        let mut connection = connect(self.to, &[]);
        let heads = illegal();
        self.fall_silent();
        self.reached.store(0, Ordering::Relaxed);
        for (n, (name, frames)) in heads.iter().enumerate() {
            let id = stream(n as u32);
            connection.write_all(&frames(id)).unwrap();
            let frame = loop {
                let frame = read(&mut connection).unwrap_or_else(|error| panic!("{name}: {error}"));
                if frame.stream == id || frame.kind == GOAWAY {
                    break frame;
                }
            };
            assert_eq!((frame.kind, frame.payload), (RST_STREAM, vec![0, 0, 0, 1]), "{name}");
        }
        // Whatever was let through would have arrived before the one that is asked for now.
        connection.write_all(&get(stream(heads.len() as u32))).unwrap();
        while read(&mut connection).unwrap().kind != HEADERS {}
        assert_eq!(self.reached.load(Ordering::Relaxed), 1, "only the last one is a request");
        self.ask();
        heads.len()
    }

    /// How often the gateway counted this.
    fn refused(&self, reason: &str) -> u64 {
        let (_, metrics) = kit::mesh::get_path(self.metrics, &self.metrics.to_string(), "/metrics").unwrap();
        let series = format!("leno_http_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
    }
}

impl Drop for Scene {
    /// Whoever asks has to be through before there is no gateway.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(asking) = self.asking.lock().unwrap().take() {
            let _ = asking.join();
        }
    }
}

// === impl Cost ===

impl Cost {
    fn ratio(&self) -> f64 {
        self.flood.as_secs_f64() / self.calm.as_secs_f64()
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cost { connections, memory_mb, calm, flood } = self;
        write!(
            f,
            "{connections} connections, {memory_mb:.2} MB, 99th percentile {calm:?} while a sink takes it and {flood:?} beside \
             it"
        )
    }
}

fn percentile_99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().expect("somebody asks all the while")
}

// === What is written ===

/// What a flood writes, all of it made before the first byte is sent.
fn writes(flood: &Flood) -> Vec<Vec<u8>> {
    let (mut writes, mut bytes, mut frames) = (vec![Vec::new()], 0, 0);
    for frame in (0..FRAMES).map(flood.next) {
        if frames == AT_ONCE || writes.last().is_some_and(|last| last.len() > BYTES_AT_ONCE) {
            writes.push(Vec::new());
            frames = 0;
        }
        bytes += frame.len();
        frames += 1;
        writes.last_mut().unwrap().extend(frame);
        if bytes > BYTES {
            break;
        }
    }
    writes
}

fn write_to_sink(sink: SocketAddr, begin: &[u8], writes: &[Vec<u8>]) {
    let mut writer = connect(sink, &[]);
    writer.write_all(begin).unwrap();
    for frames in writes {
        writer.write_all(frames).unwrap();
        std::thread::sleep(PAUSE);
    }
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, POST)
}

fn get_large(stream: u32) -> Vec<u8> {
    get_path(stream, "/large")
}

fn ping(n: u32) -> Vec<u8> {
    frame(PING, 0, 0, &u64::from(n).to_be_bytes())
}

fn settings(_: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// A head with an entry of 4,000 bytes for the table, 16,000 times.
fn bomb(n: u32) -> Vec<u8> {
    let mut head = GET.to_vec();
    head.extend_from_slice(b"\x40\x01x\x7f");
    // The length less the 127 of the prefix, in sevens of bits.
    head.extend_from_slice(&[((4_000u32 - 127) & 0x7f) as u8 | 0x80, ((4_000 - 127) >> 7) as u8]);
    head.resize(head.len() + 4_000, b'v');
    head.resize(head.len() + 16_000, 0x80 | 62);
    let (first, rest) = head.split_at(16_384);
    [frame(HEADERS, END_STREAM, stream(n), first), frame(CONTINUATION, END_HEADERS, stream(n), rest)].concat()
}

type Named = (&'static str, Box<dyn Fn(u32) -> Vec<u8>>);

/// Requests that no head may make.
fn illegal() -> Vec<Named> {
    let head = |name: &'static str, head: Vec<u8>| -> Named {
        (name, Box::new(move |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)))
    };
    let with = |name: &'static str, field: &[u8], value: &[u8]| head(name, [GET, &literal(field, value)].concat());
    let body = |name: &'static str, length: &[u8]| -> Named {
        let block = [POST, &literal(b"content-length", length)].concat();
        let frames = move |stream| {
            [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, END_STREAM, stream, b"four")].concat()
        };
        (name, Box::new(frames))
    };
    vec![
        head("an empty path", [&[0x82, 0x86][..], &[0x04, 0], &[0x01, 1, b'a']].concat()),
        head("two methods", [&[0x82], GET].concat()),
        head("no method", GET[1..].to_vec()),
        with("connection", b"connection", b"close"),
        with("transfer-encoding", b"transfer-encoding", b"chunked"),
        with("upper case", b"X-Name", b"value"),
        with("te", b"te", b"gzip"),
        with("CR", b"x-name", b"a\rb"),
        with("LF", b"x-name", b"a\nb"),
        with("NUL", b"x-name", b"a\0b"),
        with("space before", b"x-name", b" value"),
        with("tab after", b"x-name", b"value\t"),
        with("an empty name", b"", b"value"),
        with("a space in a name", b"x name", b"value"),
        with("another host", b"host", b"b"),
        with("a pseudo-field after the others", b":path", b"/"),
        with("two lengths", b"content-length", b"1, 2"),
        body("less than announced", b"5"),
        body("more than announced", b"3"),
    ]
}

fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8], name, &[value.len() as u8], value].concat()
}

// === Connections ===

/// The GOAWAY that ends a connection, or how else it ended.
fn goaway(stream: &mut impl Read) -> Result<Frame, String> {
    let mut stream = BufReader::new(stream);
    loop {
        match read(&mut stream) {
            Ok(frame) if frame.kind == GOAWAY => return Ok(frame),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Asks over one connection, one request after the other, and notes how long each took.
fn ask_until(to: SocketAddr, took: &Mutex<Vec<Duration>>, over: &AtomicBool) {
    let mut connection = connect(to, &[]);
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        connection.write_all(&get(stream(n))).unwrap();
        loop {
            let answer = read(&mut connection).unwrap();
            match answer.kind {
                PING if answer.flags & ACK == 0 => connection.write_all(&frame(PING, ACK, 0, &answer.payload)).unwrap(),
                HEADERS => assert_eq!(answer.payload[0], 0x88, "the answer is 200"),
                GOAWAY => panic!("who does no harm is sent away"),
                _ => {}
            }
            if answer.stream == stream(n) && matches!(answer.kind, HEADERS | DATA) && answer.flags & END_STREAM != 0 {
                break;
            }
        }
        took.lock().unwrap().push(began.elapsed());
        n += 1;
        std::thread::sleep(THINKS);
    }
}

// === The scene ===

fn resources(port: u16, upstream: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: \
         leno\n  listeners: [{{name: http, port: {port}, protocol: HTTP}}]\n---\napiVersion: \
         gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: all}}\nspec:\n  parentRefs: [{{name: \
         edge}}]\n  rules: [{{backendRefs: [{{name: shop, port: 80}}]}}]\n---\napiVersion: leno.mesh/v1\nkind: \
         Service\nmetadata: {{name: shop}}\nspec:\n  ports: [{{port: 80, targetPort: {upstream}, protocol: http}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n"
    )
}

/// An application that answers, with much where much is asked for, and counts the requests that came whole.
fn upstream(reached: &Arc<AtomicUsize>, written: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (reached, written) = (reached.clone(), written.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (reached, written) = (reached.clone(), written.clone());
            // Hundreds of threads that wait need little of their stacks.
            let small = std::thread::Builder::new().stack_size(128 * 1024);
            small.spawn(move || answer(&stream, &reached, &written)).unwrap();
        }
    });
    address
}

fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = vec![0; 64 * 1024];
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        }
    });
    address
}

fn answer(stream: &TcpStream, reached: &AtomicUsize, written: &AtomicUsize) -> Option<()> {
    let (mut reader, mut writer) = (BufReader::with_capacity(4096, stream), stream);
    loop {
        let mut start = String::new();
        reader.read_line(&mut start).ok().filter(|read| *read > 0)?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        if start.starts_with("POST") {
            return std::io::copy(&mut reader, &mut std::io::sink()).ok().map(|_| ());
        }
        reached.fetch_add(1, Ordering::Relaxed);
        let length = if start.contains("/large") { LARGE } else { 2 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        writer.write_all(&[head.as_bytes(), b"ok"].concat()).ok()?;
        let mut left = length - 2;
        while left > 0 {
            let piece = writer.write(&[b'x'; 16 * 1024][..left.min(16 * 1024)]).ok()?;
            written.fetch_add(piece, Ordering::Relaxed);
            left -= piece;
        }
    }
}
