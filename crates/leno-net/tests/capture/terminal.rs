//! A program that runs captured on a terminal: it reads it, it gets Ctrl-C, and an interactive shell can stop it and take
//! it up again.

#![allow(unsafe_code)] // forkpty

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

const PATIENCE: Duration = Duration::from_secs(20);

/// A program on a terminal of its own, of which this is the other end.
struct Terminal {
    master: File,
    child: Pid,
    seen: String,
}

/// The program reads what is typed, and Ctrl-C goes to it and not to leno.
pub(crate) fn program_has_the_terminal() {
    let script = "trap 'echo interrupted; exit 3' INT; read x; echo line:$x; read y";
    let mut terminal = Terminal::start(&[&own_path(), "__supervise", "sh", "-c", script]);
    terminal.type_in("hello\n");
    terminal.wait_for("line:hello");
    terminal.type_in("\u{3}");
    terminal.wait_for("interrupted");
    assert_eq!(terminal.exit_status(), Some(3));
}

/// Ctrl-Z stops the program and leno as one job; `fg` gives the terminal back to the program.
pub(crate) fn shell_stops_and_continues_it() {
    if std::process::Command::new("bash").arg("--version").output().is_err() {
        return super::skip("an_interactive_shell_stops_it_and_continues_it", "bash is not installed");
    }
    let mut terminal = Terminal::start(&["bash", "--norc", "-i"]);
    terminal.type_in(&format!("{} __supervise sh -c 'echo u''p; read x; echo line:$x'\n", own_path()));
    terminal.wait_for("up\r\n");
    terminal.type_in("\u{1a}");
    terminal.wait_for("Stopped");
    terminal.type_in("fg; echo sta''tus:$?\n");
    terminal.type_in("again\n");
    terminal.wait_for("line:again");
    terminal.wait_for("status:0");
    terminal.type_in("exit\n");
    assert_eq!(terminal.exit_status(), Some(0));
}

/// In a pipeline the program shares the terminal with the others, and Ctrl-C ends them all.
pub(crate) fn pipeline_shares_the_terminal() {
    // No shell inside: one that is about to start its next command can swallow the Ctrl-C.
    let script = format!("{0} __supervise {0} __program lines | cat", own_path());
    let mut terminal = Terminal::start(&["sh", "-c", &script]);
    terminal.type_in("hello\n");
    terminal.wait_for("line:hello");
    terminal.type_in("\u{3}");
    assert_ne!(terminal.exit_status(), Some(0));
}

fn own_path() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

impl Terminal {
    fn start(command: &[&str]) -> Self {
        let words: Vec<CString> = command.iter().map(|word| CString::new(*word).unwrap()).collect();
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (mut master, null) = (-1, std::ptr::null_mut());
        // SAFETY: name and settings may be null; this process has one thread, and the child only executes.
        let child = unsafe { libc::forkpty(&mut master, null, null.cast(), null.cast()) };
        assert!(child >= 0, "{}", std::io::Error::last_os_error());
        if child == 0 {
            // SAFETY: the pointers are of strings that live, and end with null.
            unsafe {
                libc::execvp(pointers[0], pointers.as_ptr());
                libc::_exit(127);
            }
        }
        // SAFETY: the descriptor is new and nobody else's.
        let master = unsafe { File::from_raw_fd(master) };
        Terminal { master, child: Pid::from_raw(child).unwrap(), seen: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until this was seen behind what was waited for before.
    fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&patience)).unwrap();
            assert!(ready > 0, "{text:?} was not seen, but {:?}", self.seen);
            let mut bytes = [0; 4096];
            // A terminal whose last user is gone answers with an error.
            let length = self.master.read(&mut bytes).unwrap_or(0);
            assert!(length > 0, "{text:?} was not seen, but {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }

    /// Waits for the end; `None` when a signal ended it.
    fn exit_status(&self) -> Option<i32> {
        waitpid(Some(self.child), WaitOptions::empty()).unwrap().unwrap().1.exit_status()
    }
}
