//! Reads `inputs/`.

use std::path::PathBuf;

/// One input, and what is to come of it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) row: String,
    pub(crate) id: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    /// The requests that the program sees, whole ones.
    pub(crate) seen: Vec<Vec<u8>>,
    /// What the program answers instead of the usual.
    pub(crate) answers: Vec<Answer>,
    /// Whether it is sent in pieces too.
    pub(crate) split: bool,
    /// Whether the connection to the program is of no use afterwards.
    pub(crate) destroyed: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// A response of this status; without a body, whatever its head says, if so.
    Read(u16, bool),
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// leno closes it.
    Close,
    /// It takes another request.
    Keep,
    /// It carries bytes to the program and back.
    Tunnel,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// Whether it is given when the head of the request is there.
    pub(crate) early: bool,
}

/// Every input of every file, in order.
pub(crate) fn read() -> Vec<Input> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/inputs");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut inputs: Vec<Input> = Vec::new();
    for file in files {
        let row = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        for block in text.split("\n\n").filter(|block| block.lines().any(|line| line.starts_with('['))) {
            let input = parse(&row, block);
            assert!(inputs.iter().all(|other| other.id != input.id), "{} is there twice", input.id);
            inputs.push(input);
        }
    }
    inputs
}

fn parse(row: &str, block: &str) -> Input {
    let mut input = Input {
        row: row.to_owned(),
        id: String::new(),
        steps: Vec::new(),
        end: End::Close,
        seen: Vec::new(),
        answers: Vec::new(),
        split: false,
        destroyed: false,
    };
    let mut from = "";
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(id) = line.strip_prefix('[') {
            input.id = id.trim_end_matches(']').to_owned();
            continue;
        }
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{row}: {line:?} is no `name: value`"));
        match name {
            "from" => from = value,
            "send" => input.steps.push(Step::Send(unescape(value))),
            "read" => {
                let (status, rest) = value.split_once(' ').unwrap_or((value, ""));
                input.steps.push(Step::Read(status.parse().unwrap(), rest == "without body"));
            }
            "seen" => input.seen.push(unescape(value)),
            "answer" => input.answers.push(Answer { bytes: unescape(value), early: false }),
            "answer early" => input.answers.push(Answer { bytes: unescape(value), early: true }),
            "split" => input.split = value == "yes",
            "end" => {
                input.end = match value.split(", ").next().unwrap() {
                    "close" => End::Close,
                    "keep" => End::Keep,
                    "tunnel" => End::Tunnel,
                    other => panic!("{}: no such end as {other:?}", input.id),
                };
                input.destroyed = value.ends_with(", upstream destroyed");
            }
            _ => panic!("{}: no such word as {name:?}", input.id),
        }
    }
    assert!(!input.id.is_empty() && !from.is_empty() && input.steps.len() >= 2, "{row}: {block}");
    input
}

/// Bytes as a file writes them: escapes as in Rust, `{name}` for what comes again and again, `{text*3}` for repetition.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('r') => bytes.push(b'\r'),
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('0') => bytes.push(0),
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                Some(c @ ('\\' | '{')) => bytes.push(c as u8),
                other => panic!("no such escape as {other:?} in {text}"),
            },
            '{' => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                bytes.extend(expand(&name));
            }
            c if c.is_ascii_graphic() || c == ' ' => bytes.push(c as u8),
            c => panic!("{c:?} is to be escaped in {text}"),
        }
    }
    bytes
}

fn expand(name: &str) -> Vec<u8> {
    if let Some((text, count)) = name.rsplit_once('*') {
        return unescape(text).repeat(count.parse().unwrap());
    }
    let text = match name {
        "get" => "GET / HTTP/1.1\r\nHost: t.test\r\n",
        "post" => "POST / HTTP/1.1\r\nHost: t.test\r\n",
        "chunked" => "POST / HTTP/1.1\r\nHost: t.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        "next" => "GET /next HTTP/1.1\r\nHost: t.test\r\n\r\n",
        "ok" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "leno" => "x-forwarded-proto: http\r\nx-forwarded-for: 127.0.0.1\r\nx-leno-hops: 1\r\n",
        "seen next" => {
            "GET /next HTTP/1.1\r\nHost: t.test\r\nx-forwarded-proto: http\r\nx-forwarded-for: 127.0.0.1\r\nx-leno-hops: 1\r\n\r\n"
        }
        _ => panic!("no such name as {name:?}"),
    };
    text.as_bytes().to_vec()
}

// === impl Input ===

impl Input {
    /// The length of what is sent first.
    pub(crate) fn first_len(&self) -> usize {
        self.steps
            .iter()
            .map(|step| if let Step::Send(bytes) = step { bytes.len() } else { 0 })
            .find(|n| *n > 0)
            .unwrap()
    }
}
