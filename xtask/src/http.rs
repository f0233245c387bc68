//! A client for one keep-alive HTTP/1.1 connection, and an origin that answers its name.
//!
//! Just enough for talking to admin interfaces and for counting who answered: blocking, without bodies of requests, bodies by length or in chunks. Tools do not use leno's own
//! engine, or both would agree on the same mistake.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// An answer that takes longer than this is none.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// No answer here is larger.
const BODY_BYTES_MAX: usize = 64 << 20;

/// One connection, with the name that requests ask for.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The lines of its head, in lower case.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

/// An origin on a free port of loopback; it lives as long as this process does.
pub(crate) struct Origin {
    pub(crate) port: u16,
}

// === impl Client ===

impl Client {
    /// To a port of 127.0.0.1.
    pub(crate) fn connect(port: u16, host: &str) -> Result<Self> {
        Self::connect_to(SocketAddr::from(([127, 0, 0, 1], port)), host)
    }

    pub(crate) fn connect_to(address: SocketAddr, host: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Client { stream: BufReader::with_capacity(4096, stream), host: host.to_owned() })
    }

    /// Asks for a path and reads the whole answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path)
    }

    /// Asks for a path by a method, without a body, and reads the whole answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Result<Answer> {
        let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{length}\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes())?;
        let head = self.head()?;
        let status = head.first().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("{path}: an answer without a status"))?;
        let head: Vec<String> = head.iter().map(|line| line.to_ascii_lowercase()).collect();
        let field =
            |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        let body = match (field("content-length:"), field("transfer-encoding:")) {
            (Some(length), _) => self.bytes(length.parse()?)?,
            (None, Some(encoding)) if encoding == "chunked" => self.chunks()?,
            _ => bail!("{path}: an answer of unknown length"),
        };
        Ok(Answer { status, head, body })
    }

    fn head(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(64 << 10).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            bail!("the connection was closed before the answer's end");
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            bail!("an answer of {length} bytes");
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(self.line()?.split(';').next().unwrap_or_default(), 16)?;
            body.extend(self.bytes(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
            if body.len() > BODY_BYTES_MAX {
                bail!("an answer of more than {BODY_BYTES_MAX} bytes");
            }
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

// === impl Origin ===

impl Origin {
    /// Answers every request with its name.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                thread::spawn(move || serve(stream, &answer));
            }
        });
        Ok(Origin { port })
    }
}

/// Reads heads of requests without bodies until the peer has had enough.
fn serve(stream: TcpStream, answer: &str) {
    let _slower_without = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) if line.is_empty() => {
                if writer.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_answers_its_name_again_and_again() {
        let origin = Origin::start("a").unwrap();
        let mut client = Client::connect(origin.port, "up").unwrap();
        for _ in 0..3 {
            let answer = client.get("/x").unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "a"));
        }
    }

    #[test]
    fn chunked_answers_are_joined() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n")
                .unwrap();
            let _until_closed = stream.read(&mut [0; 4096]);
        });
        assert_eq!(Client::connect(port, "up").unwrap().get("/").unwrap().text(), "abcde");
    }
}
