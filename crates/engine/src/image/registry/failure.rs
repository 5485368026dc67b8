//! Why a registry gives nothing: what happened, and the message for the person who typed the image's name.

use serde::Deserialize;
use std::error::Error;

/// Most of a refusal's text that is shown.
const MOST_SHOWN: usize = 300;

/// Why a registry gives nothing.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RegistryError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Somebody else may be given it: what is not for us is often not told from what is not there.
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
    /// No connection.
    Connect(String),
    /// A connection that broke.
    Broke(String),
    /// A refusal.
    Status { status: u16, code: String, message: String },
    /// A refusal of who gives out tokens.
    NotLetIn(String),
    /// An answer that is not taken, whatever it holds.
    Answer(String),
}

/// The body of a refusal.
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
    /// A refusal with what there is of its body.
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

    /// Whether asking again would bring the same.
    pub(super) fn is_final(&self) -> bool {
        match self {
            RegistryFailure::Answer(_) | RegistryFailure::NotLetIn(_) => true,
            RegistryFailure::Status { status, .. } => {
                (400..500).contains(status) && ![408, 416, 429].contains(status)
            }
            RegistryFailure::Connect(_) | RegistryFailure::Broke(_) => false,
        }
    }

    /// In words.
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

/// A stranger's text as a line that drives no terminal.
fn cut(text: &str) -> String {
    let start: String = text.trim().chars().take(MOST_SHOWN).collect();
    start.escape_debug().to_string()
}

/// What is at the bottom of an error: the layers above it say little.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
