//! How a verb ends: an exit status, and for a failure what is wrong and what to do.

use leno_model::fault::{Fault, FaultClass, Severity};

/// The exit status of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or the answer is yes.
    Done = 0,
    /// The answer is no: something differs, a check failed, there is no such thing.
    No = 1,
    /// The command line, a file or the credential is wrong.
    Usage = 2,
    /// The server did not answer, or not in time, or could not do it now.
    Unreachable = 3,
    /// Somebody else changed or owns it.
    Conflict = 4,
}

/// What a verb comes to.
pub type Outcome = Result<Exit, Failure>;

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What is wrong, on what, after how much.
    pub message: String,
    /// What to do; empty where the message says it.
    pub fix: String,
    /// What is wrong with files.
    pub faults: Vec<Fault>,
}

// === impl Failure ===

impl Failure {
    /// A failure with its fix.
    pub fn new(exit: Exit, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit, message: message.into(), fix: fix.into(), faults: Vec::new() }
    }

    /// The command line or a file is wrong.
    pub fn usage(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message, fix)
    }

    /// Files with faults. What belongs to somebody else is a conflict, everything else is for the author to mend.
    pub fn faults(message: impl Into<String>, faults: Vec<Fault>) -> Self {
        let foreign = |fault: &Fault| matches!(fault.class, FaultClass::Owned | FaultClass::Conflict);
        let mut errors = faults.iter().filter(|fault| fault.severity == Severity::Error).peekable();
        let exit = if errors.peek().is_some() && errors.all(foreign) { Exit::Conflict } else { Exit::Usage };
        Self { faults, ..Self::new(exit, message, "") }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::usage(format!("{error:#}"), "")
    }
}
