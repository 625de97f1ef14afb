//! Why a verb did not do what it was asked, and the exit code that says so.

use std::io;

use crate::config::ConfigError;

/// Exit codes other than 0; part of the interface, as `--help` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// The verb failed, or the daemon refused it.
    Failed = 1,
    /// Wrong usage or configuration; nothing was tried.
    Usage = 2,
    /// No daemon answers.
    Unreachable = 3,
    /// The answer is not an exact offset.
    Inexact = 4,
}

/// A verb's failure: the exit code, and what to say on stderr.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) exit: Exit,
    /// Empty where nobody is left to read it.
    pub(super) message: String,
}

impl Failed {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, error.to_string())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let message = match error.kind() {
            // `twinlog status | head`: whoever read has seen enough.
            io::ErrorKind::BrokenPipe => String::new(),
            _ => format!("cannot write the answer: {error}"),
        };
        Self::new(Exit::Failed, message)
    }
}
