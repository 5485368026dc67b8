//! What a verb fails with: a message, hints, and the one table of exit codes.
//!
//! Each library error is converted once, here, and gains its hint.

use crate::app::AppError;
use crate::client::ClientError;
use crate::credentials::EndpointError;
use crate::runtime::NoRuntime;
use crate::state::{LookupError, StateError};
use crate::stdio::say;
use nix::sys::signal::Signal;
use runner_core::phase::Status;

/// Usage error, or a rejected buildspec.
pub(super) const USAGE: u8 = 2;
/// Our own failure.
pub(super) const OURS: u8 = 3;
/// Time ran out.
pub(super) const TIMED_OUT: u8 = 4;
/// Our own failure, where the exit code is otherwise that of a command.
pub(super) const SESSION: u8 = 125;

/// The exit code of `runner run`.
pub(super) fn of_status(status: Status) -> u8 {
    match status {
        Status::Succeeded => 0,
        Status::Failed => 1,
        Status::Fault | Status::InProgress => OURS,
        Status::TimedOut => TIMED_OUT,
        Status::Stopped => 5,
    }
}

/// The exit code of a program that a signal has ended, as shells tell it.
pub(super) fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(SESSION)
}

/// Why a verb did not do what it was asked for.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) hints: Vec<String>,
}

impl CliError {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        CliError { code, message: message.into(), hints: Vec::new() }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(super) fn ours(message: impl Into<String>) -> Self {
        Self::new(OURS, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With the exit codes of a verb that exits as its remote command does.
    pub(super) fn in_session(mut self) -> Self {
        self.code = SESSION;
        self
    }

    /// Says it on standard error; the exit code.
    pub(super) fn print(&self) -> u8 {
        say(&format!("error: {}", self.message));
        for hint in &self.hints {
            say(&format!("hint: {hint}"));
        }
        self.code
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let hint = error.hint();
        CliError::ours(error.to_string()).hint(hint)
    }
}

impl From<NoRuntime> for CliError {
    fn from(error: NoRuntime) -> Self {
        CliError::ours(error.to_string()).hint(error.hint())
    }
}

impl From<AppError> for CliError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::State(error) => error.into(),
            AppError::Runtime(error) => error.into(),
            AppError::UnknownMasked { .. } => {
                CliError::usage(error.to_string()).hint("give it one with -e, or leave out --mask")
            }
            AppError::Credentials(EndpointError::Credentials(_)) => CliError::ours(
                error.to_string(),
            )
            .hint("is the profile there, and are you logged in? aws sts get-caller-identity"),
            AppError::Stopped => CliError::new(of_status(Status::Stopped), error.to_string()),
            AppError::Credentials(_)
            | AppError::Io { .. }
            | AppError::Mask(_)
            | AppError::NotBegun
            | AppError::Output { .. }
            | AppError::Unfinished(_) => CliError::ours(error.to_string()),
        }
    }
}

impl From<LookupError> for CliError {
    fn from(error: LookupError) -> Self {
        let cli = CliError::usage(error.to_string());
        match error {
            LookupError::NoneLive => cli.hint("builds of the past: runner ps --all"),
            LookupError::NoneAtAll => cli.hint("start one: runner run"),
            LookupError::Unreadable { .. } => cli.hint("what there is: runner ps --all"),
            LookupError::Ended { id } => cli.hint(format!("its log: runner logs {id}")),
            LookupError::Ambiguous { ids, .. } | LookupError::NotUnique { ids, .. } => {
                cli.hint(format!("one of these: {}", ids.join(", ")))
            }
            LookupError::Unknown { live, .. } if live.is_empty() => {
                cli.hint("no build is live; builds of the past: runner ps --all")
            }
            LookupError::Unknown { live, .. } => {
                cli.hint(format!("live builds: {}", live.join(", ")))
            }
            LookupError::State(error) => error.into(),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Refused { code, .. } => *code,
            ClientError::Connect(_)
            | ClientError::Lost(_)
            | ClientError::Closed
            | ClientError::Silent
            | ClientError::Stopped { .. }
            | ClientError::Output(_)
            | ClientError::Unexpected(_) => OURS,
        };
        let cli = CliError::new(code, error.to_string());
        match error {
            ClientError::Connect(source)
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                cli.hint("a build can be reached by the user who started it, and by root")
            }
            ClientError::Stopped { pid } => {
                cli.hint(format!("let it go on: kill -CONT {pid}; or end it: kill -KILL {pid}"))
            }
            ClientError::Connect(_) | ClientError::Closed => {
                cli.hint("see how it stands: runner ps --all")
            }
            _ => cli,
        }
    }
}
