//! The process inside once the program runs: one loop over the supervisor's words, the questions for sockets and the end
//! of the program.
//!
//! It has one thread and blocks every signal it can, so that the terminal's and the system's signals are the
//! supervisor's to decide on. When the supervisor is gone, the program is ended: without a proxy it reaches nothing.
//!
//! Job control. The program gets a process group of its own, so that it can be signalled as a whole. Where it reads from
//! a terminal and leno is in the foreground, its group becomes the foreground one, as a shell would do it; when the
//! program is stopped, leno's own group stops with it, and both go on when the shell says so. In a pipeline in the
//! foreground the program shares leno's group, because the terminal belongs to the whole pipeline.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use socket2::{Domain, Protocol, Socket, Type};

use super::wire::{self, Frame, Kind};
use super::{CaptureError, Command, Ended, rules};

/// Channels that can be open at a time: one for each worker of a few proxies.
const CHANNELS_MAX: usize = 256;

/// How long the program may take to end when the supervisor is gone.
const ORPHAN_GRACE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Those who ask for sockets, and once it runs, the program.
pub(super) struct Agent<'a> {
    control: &'a UnixStream,
    command: &'a Command,
    children: OwnedFd,
    /// The signal mask as it was, which the program gets back.
    mask: libc::sigset_t,
    channels: Vec<UnixStream>,
    program: Option<Program>,
}

/// The program that runs.
struct Program {
    pid: Pid,
    group: Group,
}

/// Which process group the program is in.
enum Group {
    /// Its own, which gets this terminal whenever leno's group has it.
    Terminal(OwnedFd),
    /// Its own.
    Own,
    /// Leno's.
    Shared,
}

/// What woke the loop.
enum Event {
    Control,
    Children,
    Channel(usize),
    Timeout,
}

// === impl Agent ===

impl<'a> Agent<'a> {
    /// An agent that waits for the word to start `command`; `channel` is the first one over which sockets are asked for.
    pub(super) fn new(
        control: &'a UnixStream,
        channel: UnixStream,
        command: &'a Command,
    ) -> Result<Self, CaptureError> {
        let (children, mask) = block_signals().map_err(|error| CaptureError::step("block signals", error))?;
        Ok(Agent { control, command, children, mask, channels: vec![channel], program: None })
    }

    /// Stays until the program has ended, and tells how.
    pub(super) fn run(mut self) -> Result<Ended, CaptureError> {
        let mut orphaned = false;
        loop {
            let event = self.next_event(orphaned).map_err(|error| CaptureError::step("wait inside", error))?;
            match event {
                Event::Children => {
                    if let Some(ended) = self.program.as_ref().and_then(|program| program.reap(&self.children)) {
                        self.tell(ended);
                        return Ok(ended);
                    }
                }
                Event::Channel(index) => self.serve_channel(index),
                Event::Control => match wire::read(self.control) {
                    Ok(Some(frame)) => self.obey(frame)?,
                    Ok(None) | Err(_) => {
                        orphaned = true;
                        match &self.program {
                            Some(program) => program.signal(libc::SIGTERM),
                            None => return Ok(Ended::Exited(0)),
                        }
                    }
                },
                Event::Timeout => self.program.iter().for_each(|program| program.signal(libc::SIGKILL)),
            }
        }
    }

    fn obey(&mut self, frame: Frame) -> Result<(), CaptureError> {
        match (frame.kind, &self.program) {
            (Kind::Go, None) => {
                let program = Program::start(self.command, self.mask)?;
                // A supervisor that is gone is noticed by the loop.
                let _ =
                    wire::write(self.control, Frame::new(Kind::Started, program.pid.as_raw_nonzero().get()), "", &[]);
                self.program = Some(program);
            }
            (Kind::Signal, Some(program)) => program.signal(frame.value),
            _ => {}
        }
        Ok(())
    }

    fn next_event(&self, orphaned: bool) -> io::Result<Event> {
        let mut watched = vec![PollFd::new(&self.children, PollFlags::IN)];
        if !orphaned {
            watched.push(PollFd::new(self.control, PollFlags::IN));
            watched.extend(self.channels.iter().map(|channel| PollFd::new(channel, PollFlags::IN)));
        }
        loop {
            match poll(&mut watched, orphaned.then_some(&ORPHAN_GRACE)) {
                Ok(0) => return Ok(Event::Timeout),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            match watched.iter().position(|fd| !fd.revents().is_empty()) {
                Some(0) => return Ok(Event::Children),
                Some(1) => return Ok(Event::Control),
                Some(index) => return Ok(Event::Channel(index - 2)),
                None => {}
            }
        }
    }

    fn tell(&self, ended: Ended) {
        let frame = match ended {
            Ended::Exited(status) => Frame::new(Kind::Exited, status),
            Ended::Killed(signal) => Frame::new(Kind::Killed, signal),
            Ended::Lost => return,
        };
        let _ = wire::write(self.control, frame, "", &[]);
    }

    /// Answers one question; a channel that ended or broke is dropped.
    fn serve_channel(&mut self, index: usize) {
        let question = wire::read(&self.channels[index]);
        let served = match question {
            Ok(Some(frame)) => self.answer(index, frame),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error),
        };
        if served.is_err() {
            self.channels.swap_remove(index);
        }
    }

    fn answer(&mut self, index: usize, frame: Frame) -> io::Result<()> {
        let made = match frame.kind {
            Kind::AskTcp4 => make_sockets(Domain::IPV4, frame.count),
            Kind::AskTcp6 => make_sockets(Domain::IPV6, frame.count),
            Kind::AskChannel => self.make_channel(),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let (value, made) = match made {
            Ok(made) => (0, made),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
        };
        let passed: Vec<_> = made.iter().map(AsFd::as_fd).collect();
        wire::write(&self.channels[index], Frame::new(Kind::Made, value), "", &passed)
    }

    fn make_channel(&mut self) -> io::Result<Vec<OwnedFd>> {
        if self.channels.len() >= CHANNELS_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let (here, there) = UnixStream::pair()?;
        self.channels.push(here);
        Ok(vec![there.into()])
    }
}

// === impl Program ===

impl Program {
    fn start(command: &Command, mask: libc::sigset_t) -> Result<Self, CaptureError> {
        let group = Group::choose();
        let had_terminal = group.has_terminal();
        match spawn(command, &group, mask) {
            Ok(pid) => Ok(Program { pid, group }),
            Err(source) => {
                if had_terminal {
                    group.take_terminal_back(None);
                }
                Err(CaptureError::Execute { program: command.program.to_string_lossy().into_owned(), source })
            }
        }
    }

    /// How the program ended, if it did; a stop of the program becomes leno's.
    fn reap(&self, children: &OwnedFd) -> Option<Ended> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        // Only empties the descriptor: several ends can hide behind one signal, so waitpid is asked in any case.
        let _ = rustix::io::read(children, &mut info[..]);
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        while let Ok(Some((_, status))) = rustix::process::waitpid(Some(self.pid), options) {
            if let Some(ended) = ended(status) {
                self.group.take_terminal_back(Some(self.pid));
                return Some(ended);
            }
            if let Some(signal) = status.stopping_signal() {
                self.stop_with_the_program(signal);
            }
        }
        None
    }

    /// Gives the terminal back, stops as the program did, and when continued, continues the program.
    fn stop_with_the_program(&self, signal: i32) {
        let by_terminal = matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
        if !by_terminal || matches!(self.group, Group::Shared) {
            return;
        }
        self.group.take_terminal_back(Some(self.pid));
        // Returns when this group is continued, or at once where no shell could ever continue it (an orphaned group).
        let _ = rustix::process::kill_current_process_group(Signal::TSTP);
        self.group.give_terminal(self.pid);
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else { return };
        if matches!(self.group, Group::Shared) && matches!(signal, Signal::INT | Signal::QUIT) {
            // The terminal has sent it to the whole pipeline; twice would mean "at once" to many programs.
            return;
        }
        let send = |signal| match self.group {
            Group::Shared => rustix::process::kill_process(self.pid, signal),
            Group::Terminal(_) | Group::Own => rustix::process::kill_process_group(self.pid, signal),
        };
        // The only possible error is that nobody is left.
        let _ = send(signal);
        if signal == Signal::TERM || signal == Signal::HUP {
            // A stopped program would not hear it.
            let _ = send(Signal::CONT);
        }
    }
}

fn ended(status: WaitStatus) -> Option<Ended> {
    status.exit_status().map(Ended::Exited).or_else(|| status.terminating_signal().map(Ended::Killed))
}

/// Unconnected sockets that the rules leave alone.
fn make_sockets(domain: Domain, count: u8) -> io::Result<Vec<OwnedFd>> {
    let make = || {
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_mark(rules::MARK)?;
        Ok(socket.into())
    };
    (0..count.min(wire::SOCKETS_MAX)).map(|_| make()).collect()
}

/// Blocks what the supervisor decides on; returns the descriptor that tells of children, and the mask as it was.
fn block_signals() -> io::Result<(OwnedFd, libc::sigset_t)> {
    const BLOCKED: [libc::c_int; 9] = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGCHLD,
    ];
    let blocked = signal_set(&BLOCKED);
    let mut before = signal_set(&[]);
    // SAFETY: both sets are initialised.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &blocked, &mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let children = signal_set(&[libc::SIGCHLD]);
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    match unsafe { libc::signalfd(-1, &children, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor is new and nobody else's.
        fd => Ok((unsafe { OwnedFd::from_raw_fd(fd) }, before)),
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset changes an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Starts the program with this process's standard streams, environment and folder, and with `mask`.
fn spawn(command: &Command, group: &Group, mask: libc::sigset_t) -> io::Result<Pid> {
    let mut starting = process::Command::new(&command.program);
    starting.args(&command.arguments);
    if !matches!(group, Group::Shared) {
        starting.process_group(0);
    }
    let terminal = match group {
        Group::Terminal(terminal) if group.has_terminal() => Some(terminal.as_raw_fd()),
        Group::Terminal(_) | Group::Own | Group::Shared => None,
    };
    // SAFETY: only system calls on memory that is there already, between fork and exec.
    unsafe {
        starting.pre_exec(move || {
            // When this agent is killed, the program is told to end, as it can reach nothing any more.
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            if let Some(terminal) = terminal {
                // The descriptor is open in the child until exec closes it; SIGTTOU is still blocked.
                let terminal = BorrowedFd::borrow_raw(terminal);
                rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp())?;
            }
            match libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let child = starting.spawn()?;
    Pid::from_raw(child.id() as i32).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether this process's group has the terminal.
fn is_in_foreground(terminal: impl AsFd) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

// === impl Group ===

impl Group {
    fn choose() -> Self {
        use rustix::fs::{FileType, Mode, OFlags};
        let Ok(terminal) = rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else {
            return Group::Own;
        };
        let is_pipe = |stream: BorrowedFd<'_>| {
            rustix::fs::fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
        };
        let in_pipeline = is_pipe(rustix::stdio::stdin()) || is_pipe(rustix::stdio::stdout());
        if in_pipeline && is_in_foreground(&terminal) {
            Group::Shared
        } else if rustix::termios::isatty(rustix::stdio::stdin()) {
            Group::Terminal(terminal)
        } else {
            Group::Own
        }
    }

    /// Whether leno's group is in the foreground of a terminal that the program is to get.
    fn has_terminal(&self) -> bool {
        matches!(self, Group::Terminal(terminal) if is_in_foreground(terminal))
    }

    /// Only where the program's group has it: otherwise it is the shell's, or another job's. A program that could not be
    /// executed (`None`) had it if anybody had.
    fn take_terminal_back(&self, program: Option<Pid>) {
        if let Group::Terminal(terminal) = self
            && rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| program.is_none_or(|program| group == program))
        {
            // SIGTTOU is blocked. Fails where the terminal has hung up, and then nobody wants it.
            let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp());
        }
    }

    /// Only where this group is in the foreground: a shell's `bg` leaves the terminal to others.
    fn give_terminal(&self, program: Pid) {
        if let (Group::Terminal(terminal), true) = (self, self.has_terminal()) {
            let _ = rustix::termios::tcsetpgrp(terminal, program);
        }
    }
}
