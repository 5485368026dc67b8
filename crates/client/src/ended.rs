//! The end of a session, as its client sees it.
//!
//! Used by `attach` and `exec`.

use super::connection::ClientError;
use runner_wire::control::ControlResponse;

/// The end of a session, as its client sees it.
#[derive(Debug)]
pub struct SessionEnd {
    /// Exit code for this program.
    pub code: u8,
    /// One line for the user.
    pub message: Option<String>,
}

/// A message from the owner for the user.
pub(super) fn told_of(frame: &[u8]) -> Option<String> {
    match serde_json::from_slice(frame) {
        Ok(ControlResponse::Told { message }) => Some(message),
        _ => None,
    }
}

/// Reads the owner's last message.
pub(super) fn ended(frame: Option<Vec<u8>>) -> Result<SessionEnd, ClientError> {
    let Some(body) = frame else { return Err(ClientError::Closed) };
    match serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))? {
        ControlResponse::Exited { code } => Ok(SessionEnd { code, message: None }),
        ControlResponse::Closed { message } => Ok(SessionEnd { code: 0, message: Some(message) }),
        other => Err(other.into()),
    }
}
