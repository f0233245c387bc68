//! Hand-over: a new process of a proxy takes its listening sockets over, and the old one leaves.
//!
//! ```text
//! new ─ hello ─────────► old    over `--take-over-socket`, or the standard input of a process that SIGUSR2 had started
//!     ◄─ given [socket] ─       every listening socket, in parts
//!     ◄─ state ──────────       the instance's name, the last good snapshot
//!     ─ ready ─────────►        every gate is open, the instance is registered by both; nothing is accepted yet
//!     ◄─ yours ──────────       until here the old process goes on whatever happens
//!     ─ began ─────────►        accepts: the old one lets go, and ends what is open
//! ```
//!
//! No socket is bound anew or closed between the two, so what is in its queue is accepted by whoever has it. Connections
//! stay where they are: passing them on would mean to pass on what was read of them.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use leno_proxy::held::Held;
use leno_proxy::snapshot_file::SnapshotError;
use leno_proxy::subscribe::Copies;
use leno_proxy::{Commands, Key, snapshot_file};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use crate::args::ProxyArgs;
use crate::line::{Line, Spoken};

/// What is said; another version of leno may say more.
const FORMAT: u32 = 1;
/// How long the other side may take for its next word, except to get ready.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new process may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Sockets in one message.
const PART: usize = 100;
/// Bytes of a snapshot.
const SNAPSHOT_MAX: u64 = 1 << 30;
/// The name of the socket that a successor asks at, in the data directory and among the sockets handed over.
const SOCKET: &str = "take-over";

/// What the two processes tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Word {
    /// A new process asks.
    Hello { format: u32 },
    /// Listening sockets, each with its listener.
    Given(Vec<Key>),
    /// Everything was given. With the snapshot as a file.
    State { instance: String },
    /// The new process could accept now. `node` says whether it is the same instance.
    Ready { node: String },
    /// It shall.
    Yours,
    /// It does.
    Began,
    /// The hand-over does not take place, and why.
    Refused(String),
}

/// The side of a process that runs.
pub(super) struct HandOver {
    pub(super) socket: Option<UnixListener>,
    pub(super) commands: Commands,
    pub(super) copies: Copies,
    /// The name of the proxy.
    pub(super) node: String,
    /// Why there is none here, where there is none.
    pub(super) refused: Option<&'static str>,
}

/// Whoever has taken over.
pub(super) struct Successor {
    /// Whether it is the same instance, which then stays registered.
    pub(super) is_same: bool,
}

/// The side of a process that starts, until it accepts.
pub(super) struct Taking {
    line: Line<Word>,
    sockets: Vec<(Key, OwnedFd)>,
    /// The name of the instance.
    pub(super) instance: String,
    /// The last good snapshot; none where it is not understood.
    pub(super) held: Option<Held>,
}

impl Spoken for Word {
    fn descriptors(&self) -> usize {
        match self {
            Self::Given(keys) => keys.len(),
            Self::State { .. } => 1,
            _ => 0,
        }
    }
}

// === impl HandOver ===

impl HandOver {
    /// A process that asks at the socket. May be cancelled.
    pub(super) async fn asked(&self) -> Line<Word> {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        loop {
            match socket.accept().await {
                Ok((stream, _)) if is_own_user(&stream) => return Line::of(stream),
                Ok(_) => tracing::warn!("another user asks for the listening sockets, and does not get them"),
                // Out of descriptors, most likely: waiting is all that helps.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Starts a new process and hands over to it.
    pub(super) async fn to_new(&self) -> anyhow::Result<Successor> {
        if let Some(why) = self.refused {
            bail!("{why}");
        }
        let (mut child, line) = start()?;
        let given = self.to(line).await;
        if given.is_err() {
            // It ends by itself when nobody speaks to it any more, if it has not yet.
            let ended = tokio::time::timeout(WORD_TIMEOUT, child.wait()).await;
            let how = ended.map_or_else(
                |_| "does not end".to_owned(),
                |ended| ended.map_or_else(|e| e.to_string(), |s| s.to_string()),
            );
            let _ = child.start_kill();
            return given.with_context(|| format!("the new process: {how}; its log says why"));
        }
        given
    }

    /// Hands over to whoever asked.
    pub(super) async fn to(&self, mut line: Line<Word>) -> anyhow::Result<Successor> {
        let given = self.give(&mut line).await;
        if let Err(error) = &given {
            // One that is gone does not hear it.
            let _ = line.send(&Word::Refused(format!("{error:#}")), &[]).await;
        }
        given
    }

    async fn give(&self, line: &mut Line<Word>) -> anyhow::Result<Successor> {
        if let Some(why) = self.refused {
            bail!("{why}");
        }
        match hear(line, WORD_TIMEOUT).await? {
            (Word::Hello { format: FORMAT }, _) => {}
            (Word::Hello { format }, _) => bail!("it speaks format {format}, this process {FORMAT}: restart instead"),
            _ => bail!("it is no process of leno"),
        }
        let sockets = self.commands.to_hand_over()?;
        for part in sockets.chunks(PART) {
            let keys = part.iter().map(|(key, _)| key.clone()).collect();
            let fds: Vec<BorrowedFd<'_>> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
            line.send(&Word::Given(keys), &fds).await?;
        }
        let held = self.copies.take().await.unwrap_or_default();
        let snapshot = in_memory(&snapshot_file::encode(&held)?)?;
        line.send(&Word::State { instance: instance_of(&self.node).to_owned() }, &[snapshot.as_fd()]).await?;
        let (Word::Ready { node }, _) = hear(line, READY_TIMEOUT).await? else { bail!("it did not get ready") };
        line.send(&Word::Yours, &[]).await?;
        let (Word::Began, _) = hear(line, WORD_TIMEOUT).await? else { bail!("it did not begin") };
        Ok(Successor { is_same: node == self.node })
    }
}

/// Starts the program under the name that this process was started by, as it now stands on disk, with the same arguments.
fn start() -> anyhow::Result<(Child, Line<Word>)> {
    ensure!(
        !rustix::process::getpid().is_init(),
        "this proxy is the first process of its container, which ends with it: start the new one beside it and let it take over, or run both under an init"
    );
    let mut arguments = std::env::args_os();
    let program = arguments.next().context("this process was started without a name")?;
    let own = ["--take-over", "--take-over-stdin"].map(OsString::from);
    let (line, theirs) = Line::pair()?;
    let child = Command::new(&program)
        .args(arguments.filter(|argument| !own.contains(argument)))
        .arg("--take-over-stdin")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .with_context(|| format!("start {}", Path::new(&program).display()))?;
    Ok((child, line))
}

// === impl Taking ===

impl Taking {
    /// Asks the process that runs for everything; none when this one starts by itself.
    pub(super) async fn begin(args: &ProxyArgs) -> anyhow::Result<Option<Self>> {
        let mut line: Line<Word> = if args.take_over_stdin {
            Line::of_stdin().context("--take-over-stdin: standard input is no proxy; use --take-over")?
        } else if args.take_over {
            let path = socket_path(args).context(
                "--take-over: say where with --take-over-socket, or --data-dir, as the proxy that runs does",
            )?;
            let stream = UnixStream::connect(&path)
                .await
                .with_context(|| format!("--take-over: no proxy answers at {}; start without it", path.display()))?;
            Line::of(stream)
        } else {
            return Ok(None);
        };
        line.send(&Word::Hello { format: FORMAT }, &[]).await?;
        let mut sockets = Vec::new();
        loop {
            match hear(&mut line, WORD_TIMEOUT).await? {
                (Word::Given(keys), fds) => sockets.extend(keys.into_iter().zip(fds)),
                (Word::State { instance }, fds) => {
                    let held = match fds.into_iter().next().map(read_held) {
                        Some(Ok(held)) => Some(held),
                        Some(Err(error)) => {
                            tracing::warn!(%error, "snapshot of the process before not used");
                            None
                        }
                        None => None,
                    };
                    tracing::info!(sockets = sockets.len(), "taking over");
                    return Ok(Some(Self { line, sockets, instance, held }));
                }
                _ => bail!("the proxy that runs said something else"),
            }
        }
    }

    /// Gives the sockets to whoever opens listeners.
    pub(super) fn share(&mut self, commands: &Commands) {
        commands.take_over(std::mem::take(&mut self.sockets));
    }

    /// Everything is ready: accepts instead of the process before.
    pub(super) async fn finish(mut self, node: &str, commands: &Commands) -> anyhow::Result<()> {
        self.line.send(&Word::Ready { node: node.to_owned() }, &[]).await?;
        let (Word::Yours, _) = hear(&mut self.line, WORD_TIMEOUT).await? else { bail!("the process before goes on") };
        commands.begin();
        // One that is gone needs not be told.
        let _ = self.line.send(&Word::Began, &[]).await;
        Ok(())
    }
}

/// The next word of the other side.
async fn hear(line: &mut Line<Word>, within: Duration) -> anyhow::Result<(Word, Vec<OwnedFd>)> {
    match tokio::time::timeout(within, line.next()).await {
        Err(_) => bail!("the other process said nothing for {} s", within.as_secs()),
        Ok(Ok(Some((Word::Refused(why), _)))) => bail!("the other process refuses: {why}"),
        Ok(Ok(Some(word))) => Ok(word),
        Ok(Ok(None)) => bail!("the other process is gone"),
        Ok(Err(error)) => Err(error).context("the other process is not understood"),
    }
}

/// The part of a node's name that is the instance's.
pub(super) fn instance_of(node: &str) -> &str {
    node.rsplit_once('/').map_or(node, |(_, instance)| instance)
}

// === where a successor asks ===

fn socket_path(args: &ProxyArgs) -> Option<PathBuf> {
    let in_data = || Some(args.data_dir.as_ref()?.join(format!("{SOCKET}.sock")));
    args.take_over_socket.clone().or_else(in_data)
}

/// Opens the socket, which only this user may use. Nobody asked for the one in the data directory, so it stops nothing.
pub(super) fn listen(args: &ProxyArgs, commands: &Commands) -> anyhow::Result<Option<UnixListener>> {
    let Some(path) = socket_path(args) else { return Ok(None) };
    let opened = || {
        let socket = commands.control_unix(SOCKET, &path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        anyhow::Ok(UnixListener::from_std(socket)?)
    };
    match opened() {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if args.take_over_socket.is_some() => Err(error).context("choose another with --take-over-socket"),
        Err(error) => {
            tracing::warn!(error = %format!("{error:#}"), "--take-over will not find this proxy; SIGUSR2 works");
            Ok(None)
        }
    }
}

fn is_own_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

// === the snapshot on its way ===

/// A file that is nowhere on disk.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("leno-snapshot", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn read_held(snapshot: OwnedFd) -> Result<Held, SnapshotError> {
    let mut bytes = Vec::new();
    File::from(snapshot).take(SNAPSHOT_MAX).read_to_end(&mut bytes)?;
    snapshot_file::decode(&bytes)
}
