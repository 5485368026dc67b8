//! The plan of a session, made from a call by `aws::documents` and carried out by `agent`.

use crate::deliveries::not_logged;
use runner_core::destination::Destinations;
use runner_wire::ssm::handshake::SessionType;
use serde_json::Value;
use std::net::IpAddr;

/// A session to start.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPlan {
    pub kind: SessionType,
    /// The properties of a port session, sent to the client; null otherwise.
    pub properties: Value,
    pub work: SessionWork,
    /// The user that runs the session; `None` for root.
    pub user: Option<User>,
    /// Shown to the user at the start; empty for none.
    pub message: String,
    /// Addresses that connections must not reach.
    pub denied: Vec<IpAddr>,
    /// Why the session ends right after its start.
    pub fails: Option<String>,
    /// The log targets at AWS.
    pub logs: Destinations,
    /// Whether the session requires that its log targets exist and accept the log.
    pub must_be_logged: bool,
    /// The key of AWS KMS for encryption.
    pub key: Option<String>,
}

impl SessionPlan {
    /// A session of root without a message.
    pub fn new(kind: SessionType, properties: Value, work: SessionWork) -> Self {
        let (message, denied) = (String::new(), Vec::new());
        SessionPlan {
            kind,
            properties,
            work,
            user: None,
            message,
            denied,
            fails: None,
            logs: Destinations::default(),
            must_be_logged: false,
            key: None,
        }
    }

    /// Makes the session require a log at AWS.
    ///
    /// # Errors
    /// If it cannot be logged or has no log target, with the reason.
    pub fn requiring_log(self) -> Result<Self, String> {
        let why = match (self.kind, self.logs.is_empty()) {
            (SessionType::Port, _) => "Port forwarding sessions are not logged.",
            (_, true) => {
                "This session is not logged: neither its preferences nor its cluster name a log group or a bucket."
            }
            (_, false) => return Ok(SessionPlan { must_be_logged: true, ..self }),
        };
        Err(not_logged(why))
    }
}

/// A user in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Whether to create a missing user.
    pub is_made: bool,
}

/// The work at this end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWork {
    /// The container's shell on a terminal; types `profile` first.
    Shell { profile: String },
    /// A program on a terminal.
    Interactive(Vec<String>),
    /// A program without a terminal.
    Command { argv: Vec<String>, outputs: Outputs },
    /// Connections to a port; if `is_raw`, a single one that is the session.
    Ports { to: Destination, is_raw: bool },
}

/// How a command's output reaches the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// In the order of writing.
    Merged,
    /// Output and errors apart, with the exit code at the end.
    Apart {
        /// Inserted at the start of each line of output.
        stdout_prefix: String,
        /// Inserted at the start of each line of errors.
        stderr_prefix: String,
    },
}

/// The target of connections, as seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A name or an address; empty for the container itself.
    pub host: String,
    pub port: u16,
}
