//! Reads bodies of requests, within limits of time and size.

use super::answer::{HttpResponse, plain};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::time::Duration;

/// How long a request's head may take, and its body.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a body was not read.
#[derive(Debug)]
pub struct BodyError {
    status: StatusCode,
    text: String,
}

impl BodyError {
    /// The status and the text.
    pub fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.text)
    }

    /// The error response.
    pub fn answer(&self) -> HttpResponse {
        plain(self.status, &self.text)
    }
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// If it is longer, or does not arrive in time.
pub async fn read_body(body: Incoming, most: usize) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(PATIENCE, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => {
            Err(BodyError { status: StatusCode::PAYLOAD_TOO_LARGE, text: error.to_string() })
        }
        Err(_) => {
            let text = "the call did not come whole".to_owned();
            Err(BodyError { status: StatusCode::REQUEST_TIMEOUT, text })
        }
    }
}
