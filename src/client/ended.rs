//! What a client is told during a session, and how the session ended for it.
//!
//! Used by `attach` and `exec`.

use super::connection::ClientError;
use runner_wire::control::Answer;
use runner_wire::frame::{Frame, Kind};
use std::io::{self, Write};

/// How a session ended for its client.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code for this program.
    pub(crate) code: u8,
    /// One line for the person.
    pub(crate) message: Option<String>,
}

/// Shows a frame; the end of the session where it is one.
pub(super) fn shown(frame: Option<Frame>) -> Result<Option<Ended>, ClientError> {
    let Some(frame) = frame else { return Err(ClientError::Closed) };
    if frame.kind == Kind::Data {
        let mut stdout = io::stdout().lock();
        // A terminal that has gone takes nothing; its hang-up ends this program.
        let _ = stdout.write_all(&frame.body).and_then(|()| stdout.flush());
        return Ok(None);
    }
    let answer =
        serde_json::from_slice(&frame.body).map_err(|error| ClientError::Lost(error.into()))?;
    ended(answer).map(Some)
}

fn ended(answer: Answer) -> Result<Ended, ClientError> {
    match answer {
        Answer::Exited { code } => Ok(Ended { code, message: None }),
        Answer::Closed { message, code } => Ok(Ended { code, message: Some(message) }),
        other => Err(other.into()),
    }
}
