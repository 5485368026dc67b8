//! Responses to the page's scripts.

use crate::aws::RefusedCall;
use crate::http::{Body, BodyError, HttpResponse, plain};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use runner_client::ClientError;
use serde::Serialize;
use std::io;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Refused { status, text: text.into() }
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Refused::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Refused::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Refused::new(StatusCode::FORBIDDEN, text)
    }

    pub(super) fn busy() -> Self {
        Refused::new(StatusCode::TOO_MANY_REQUESTS, "too much at once; try again")
    }

    /// The build has not begun: the page asks again later.
    pub(super) fn waits() -> Self {
        Refused::new(StatusCode::TOO_EARLY, "the build waits in the queue")
    }

    pub(super) fn answer(&self) -> HttpResponse {
        plain(self.status, &self.text)
    }
}

impl From<RefusedCall> for Refused {
    fn from(refusal: RefusedCall) -> Self {
        let status = StatusCode::from_u16(refusal.status);
        Refused::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal.message)
    }
}

impl From<BodyError> for Refused {
    fn from(unread: BodyError) -> Self {
        let (status, text) = unread.into_parts();
        Refused::new(status, text)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let status = match error.kind() {
            io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refused::new(status, error.to_string())
    }
}

impl From<ClientError> for Refused {
    fn from(error: ClientError) -> Self {
        Refused::new(StatusCode::CONFLICT, error.to_string())
    }
}

/// A JSON response.
pub(super) fn json(value: &impl Serialize) -> Result<HttpResponse, Refused> {
    let text = serde_json::to_vec(value).map_err(io::Error::other)?;
    let mut answer = Response::new(Body::from(Bytes::from(text)));
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(answer)
}

/// An empty response for success.
pub(super) fn done() -> HttpResponse {
    let mut answer = Response::new(Body::from(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
