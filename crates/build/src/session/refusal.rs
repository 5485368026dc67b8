//! Why a session could not be opened: a message for the user and an exit code for the client.

use runner_engine::ExecError;

/// The shell used if there is no better one.
pub(super) const LAST_RESORT: &str = "/bin/sh";

/// Message about a container that does not respond.
pub const DEAF: &str =
    "the build's container does not answer: its first process is stopped, or hangs";

/// A session that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SessionOpenError {
    /// Exit code for the client.
    pub code: u8,
    pub message: String,
}

impl SessionOpenError {
    pub(super) fn ours(message: impl Into<String>) -> Self {
        SessionOpenError { code: 125, message: message.into() }
    }
}

/// Converts the error of a program that could not be executed.
pub(super) fn refusal(error: &ExecError, program: &str) -> SessionOpenError {
    let message = if error.is_missing_program() && program == LAST_RESORT {
        "the image has no shell; run one of its programs: runner exec BUILD -- PROGRAM; or \
         start the build with --toolbox"
            .to_owned()
    } else {
        format!("{program}: {error}")
    };
    SessionOpenError { code: error.shell_code(), message }
}
