//! How a session ended for its client.
//!
//! Used by `attach` and `exec`.

use super::connection::ClientError;
use runner_wire::control::ControlResponse;

/// How a session ended for its client.
#[derive(Debug)]
pub struct SessionEnd {
    /// Exit code for this program.
    pub code: u8,
    /// One line for the person.
    pub message: Option<String>,
}

/// What the owner says to the person meanwhile.
pub(super) fn told_of(frame: &[u8]) -> Option<String> {
    match serde_json::from_slice(frame) {
        Ok(ControlResponse::Told { message }) => Some(message),
        _ => None,
    }
}

/// Reads the owner's last word.
pub(super) fn ended(frame: Option<Vec<u8>>) -> Result<SessionEnd, ClientError> {
    let Some(body) = frame else { return Err(ClientError::Closed) };
    match serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))? {
        ControlResponse::Exited { code } => Ok(SessionEnd { code, message: None }),
        ControlResponse::Closed { message } => Ok(SessionEnd { code: 0, message: Some(message) }),
        other => Err(other.into()),
    }
}
