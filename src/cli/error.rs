//! The error type of subcommands: a message, hints, and the one table of exit codes.
//!
//! Each library error is converted once, here, and gets its hint.

use nix::sys::signal::Signal;
use runner_build::credentials::EndpointError;
use runner_build::{BuildError, Unusable};
use runner_client::{ClientError, goes_on};
use runner_core::phase::Status;
use runner_folder::state::{BuildLookupError, StateError};
use runner_host::runtime::NoRuntime;
use runner_host::stdio::say;
use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

/// Usage error, or a rejected buildspec.
pub(super) const USAGE: u8 = 2;
/// A failure of the runner itself.
pub(super) const OURS: u8 = 3;
/// The time limit was reached.
pub(super) const TIMED_OUT: u8 = 4;
/// The build is paused, and this program does not wait for it.
pub(super) const PAUSED: u8 = 77;
/// A failure of the runner itself, for subcommands that otherwise return a command's exit code.
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

/// The exit code of a program ended by a signal, as in shells.
pub(super) fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(SESSION)
}

/// Why a subcommand failed.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) hints: Vec<String>,
    /// The causing error and its causes.
    source: Option<ErrorSource>,
}

type ErrorSource = Box<dyn Error + Send + Sync>;

impl CliError {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        CliError { code, message: message.into(), hints: Vec::new(), source: None }
    }

    /// Uses the error's own message.
    pub(super) fn of(code: u8, error: impl Error + Send + Sync + 'static) -> Self {
        Self::new(code, error.to_string()).because(error)
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

    /// Adds hints.
    pub(super) fn hints(mut self, hints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hints.extend(hints.into_iter().map(Into::into));
        self
    }

    pub(super) fn because(mut self, source: impl Into<ErrorSource>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Uses the exit codes of a subcommand that exits as its remote command does.
    pub(super) fn in_session(mut self) -> Self {
        self.code = SESSION;
        self
    }

    /// Prints the error to standard error. Returns the exit code.
    pub(super) fn print(&self) -> u8 {
        say(&format!("error: {}", self.message));
        for hint in &self.hints {
            say(&format!("hint: {hint}"));
        }
        let mut source = self.source();
        while let Some(error) = source {
            tracing::debug!(%error, ?error, "because of");
            source = error.source();
        }
        self.code
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let hint = error.hint();
        CliError::of(OURS, error).hint(hint)
    }
}

impl From<NoRuntime> for CliError {
    fn from(error: NoRuntime) -> Self {
        let hint = error.hint();
        CliError::of(OURS, error).hint(hint)
    }
}

const NO_SPACE: &str = "make room with runner cache prune and runner image prune, or let builds lie elsewhere: \
                        RUNNER_HOME=DIR";

impl From<BuildError> for CliError {
    fn from(error: BuildError) -> Self {
        let (code, hint) = match error {
            BuildError::State(error) => return error.into(),
            BuildError::Runtime(error) => return error.into(),
            BuildError::UnknownMasked { .. } => {
                (USAGE, Some("give it one with -e, or leave out --mask"))
            }
            BuildError::Credentials(EndpointError::Credentials(_)) => (
                OURS,
                Some("is the profile there, and are you logged in? aws sts get-caller-identity"),
            ),
            BuildError::Stopped => (of_status(Status::Stopped), None),
            ref full if full.is_about_space() => (OURS, Some(NO_SPACE)),
            BuildError::Credentials(_)
            | BuildError::Io { .. }
            | BuildError::Folder { .. }
            | BuildError::Mask(_)
            | BuildError::NotBegun
            | BuildError::Unfinished(_) => (OURS, None),
        };
        CliError::of(code, error).hints(hint)
    }
}

impl From<Unusable> for CliError {
    fn from(error: Unusable) -> Self {
        let (code, hint) = (if error.is_usage { USAGE } else { OURS }, error.hint);
        CliError::of(code, error).hints(hint)
    }
}

impl From<BuildLookupError> for CliError {
    fn from(error: BuildLookupError) -> Self {
        let one_of = |ids: &[String]| vec![format!("one of these: {}", ids.join(", "))];
        let hints = match &error {
            BuildLookupError::NoneLive => vec!["builds of the past: runner ps --all".to_owned()],
            BuildLookupError::NoneAtAll => vec!["start one: runner run".to_owned()],
            BuildLookupError::Unreadable { .. } => {
                vec!["what there is: runner ps --all".to_owned()]
            }
            BuildLookupError::Ambiguous { ids, .. } | BuildLookupError::NotUnique { ids, .. } => {
                one_of(ids)
            }
            BuildLookupError::Ended { id, live } if live.is_empty() => vec![log_of(id)],
            BuildLookupError::Ended { id, live } => vec![log_of(id), live_ones(live)],
            BuildLookupError::Unknown { wanted, live } => vec![match waits(wanted) {
                Some(id) => {
                    format!("it waits in the queue of `runner serve`: runner wait {id} --for ended")
                }
                None => live_ones(live),
            }],
            BuildLookupError::AllEnded { live, .. } => vec![live_ones(live)],
            BuildLookupError::State(_) => Vec::new(),
        };
        match error {
            BuildLookupError::State(error) => error.into(),
            other => CliError::of(USAGE, other).hints(hints),
        }
    }
}

/// The id of the queued build that is meant.
fn waits(wanted: &str) -> Option<String> {
    let home = runner_folder::state::Home::open().ok()?;
    super::queued::named(&home, wanted).map(|one| one.id)
}

fn log_of(id: &str) -> String {
    format!("its log: runner logs {id}")
}

fn live_ones(ids: &[String]) -> String {
    match ids {
        [] => "no build is live; builds of the past: runner ps --all".to_owned(),
        ids => format!("live builds: {}", ids.join(", ")),
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
        let hint = match &error {
            ClientError::Connect(source) if source.kind() == ErrorKind::PermissionDenied => {
                Some("a build can be reached by the user who started it, and by root".to_owned())
            }
            ClientError::Stopped { pid } => Some(goes_on(*pid)),
            ClientError::Connect(_) | ClientError::Closed => {
                Some("see how it stands: runner ps --all".to_owned())
            }
            ClientError::Refused { .. }
            | ClientError::Lost(_)
            | ClientError::Silent
            | ClientError::Output(_)
            | ClientError::Unexpected(_) => None,
        };
        CliError::of(code, error).hints(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_a_verb_fails_with_knows_its_reason() {
        let full = io::Error::from(ErrorKind::StorageFull);
        let error = CliError::from(StateError::new("make", "/x".as_ref(), full));
        let mut reason: &dyn Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        let reason = reason.downcast_ref::<io::Error>().map(io::Error::kind);
        assert_eq!((error.code, reason), (OURS, Some(ErrorKind::StorageFull)));
        assert_eq!(error.hints.len(), 1);
    }
}
