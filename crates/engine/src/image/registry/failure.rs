//! Why a request to a registry failed, and the message for the user.

use serde::Deserialize;
use std::error::Error;

/// Most characters shown of a refusal's text.
const MOST_SHOWN: usize = 300;

/// A registry error, worded for the user.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RegistryError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Another login may have access: registries often report a forbidden image as missing.
    pub(crate) is_refused: bool,
}

impl RegistryError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        RegistryError { message: message.into(), hint: None, is_refused: false }
    }
}

/// Why one request failed.
#[derive(Debug)]
pub(super) enum RegistryFailure {
    /// The connection failed.
    Connect(String),
    /// The connection broke.
    Broke(String),
    /// The registry's error response.
    Status { status: u16, code: String, message: String },
    /// A refusal by the token service.
    NotLetIn(String),
    /// A response that breaks a rule, whatever it holds.
    Answer(String),
}

/// The body of an error response.
#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<RegistryProblem>,
}

#[derive(Default, Deserialize)]
struct RegistryProblem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl RegistryFailure {
    /// Makes a failure from an error response and its body.
    pub(super) fn status(status: u16, body: &[u8]) -> Self {
        let refusal: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        match refusal.errors.into_iter().next() {
            Some(RegistryProblem { code, message }) => {
                RegistryFailure::Status { status, code, message }
            }
            None => {
                let message = String::from_utf8_lossy(body).into_owned();
                RegistryFailure::Status { status, code: String::new(), message }
            }
        }
    }

    /// Whether a retry would fail the same way.
    pub(super) fn is_final(&self) -> bool {
        match self {
            RegistryFailure::Answer(_) | RegistryFailure::NotLetIn(_) => true,
            RegistryFailure::Status { status, .. } => {
                (400..500).contains(status) && ![408, 416, 429].contains(status)
            }
            RegistryFailure::Connect(_) | RegistryFailure::Broke(_) => false,
        }
    }

    /// Words the failure for the user.
    pub(super) fn explain(&self, registry: &str) -> RegistryError {
        let refused = |message: String| RegistryError {
            message,
            hint: Some(format!("log in where you have an account: docker login {registry}")),
            is_refused: true,
        };
        let no_such_image = |hint: Option<&str>| RegistryError {
            message: format!("{registry} has no such image"),
            hint: hint.map(str::to_owned),
            is_refused: true,
        };
        match self {
            RegistryFailure::Connect(why) => RegistryError {
                message: format!("cannot reach {registry}: {why}"),
                hint: Some(
                    "is the network there? Without it, --image host takes this machine's tools; for an image \
                     that you have: --image oci-archive:FILE, runner image import, or --image-map FROM=TO"
                        .to_owned(),
                ),
                is_refused: false,
            },
            RegistryFailure::Broke(why) => {
                RegistryError::new(format!("the transfer from {registry} broke: {why}"))
            }
            RegistryFailure::NotLetIn(why) => {
                refused(format!("{registry} does not let us in: {}", cut(why)))
            }
            RegistryFailure::Answer(why) => RegistryError::new(format!("{registry}: {why}")),
            RegistryFailure::Status { status, code, message } => match (code.as_str(), status) {
                ("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND", _) => {
                    no_such_image(Some("look at the name and the tag"))
                }
                ("UNAUTHORIZED" | "DENIED", _) => {
                    refused(format!("{registry} does not give it to us, if it is there"))
                }
                ("TOOMANYREQUESTS", _) => {
                    refused(format!("{registry} has had too many requests from here for now"))
                }
                ("", 401) => refused(format!("{registry} does not give it to us (401)")),
                ("", 404) => no_such_image(None),
                ("", status) => {
                    RegistryError::new(format!("{registry} answers {status}: {}", cut(message)))
                }
                (_, _) => RegistryError::new(format!("{registry} refuses: {}", cut(message))),
            },
        }
    }
}

impl From<reqwest::Error> for RegistryFailure {
    fn from(error: reqwest::Error) -> Self {
        let why = innermost(&error);
        match error.is_body() || error.is_decode() {
            true => RegistryFailure::Broke(why),
            false => RegistryFailure::Connect(why),
        }
    }
}

/// Makes untrusted text safe for a terminal and short.
fn cut(text: &str) -> String {
    let start: String = text.trim().chars().take(MOST_SHOWN).collect();
    start.escape_debug().to_string()
}

/// The innermost cause of an error: the outer ones say little.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
