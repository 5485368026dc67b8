//! What a session is to be: made from a call by `aws::documents`, carried out by `agent`.

use crate::deliveries::not_logged;
use runner_core::destination::Destinations;
use runner_wire::ssm::handshake::SessionType;
use serde_json::Value;
use std::net::IpAddr;

/// A session, as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPlan {
    pub kind: SessionType,
    /// What the client is told about a port session; null otherwise.
    pub properties: Value,
    pub work: SessionWork,
    /// Who runs it; nobody in particular is root.
    pub user: Option<User>,
    /// Shown to the person when the session begins; empty for nothing.
    pub message: String,
    /// Addresses that connections never go to.
    pub denied: Vec<IpAddr>,
    /// Why it ends as soon as it has begun.
    pub fails: Option<String>,
    /// Where AWS keeps what it shows.
    pub logs: Destinations,
    /// Whether it begins only where they are there and take it.
    pub must_be_logged: bool,
    /// The key of AWS KMS that it is encrypted with.
    pub key: Option<String>,
}

impl SessionPlan {
    /// One of root's, without a word.
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

    /// Has it begin only where AWS gets what it shows.
    ///
    /// # Errors
    /// It cannot be logged, or is not to be: why.
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

/// A user of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Made where there is none of this name.
    pub is_made: bool,
}

/// What runs at this end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionWork {
    /// The container's shell on a terminal, with this typed first.
    Shell { profile: String },
    /// This program on a terminal.
    Interactive(Vec<String>),
    /// This program without one.
    Command { argv: Vec<String>, outputs: Outputs },
    /// Connections to there; raw, the session is the one connection.
    Ports { to: Destination, is_raw: bool },
}

/// How a command's output reaches the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// In the order it is written.
    Merged,
    /// Output and errors apart, and the exit code at the end.
    Apart {
        /// Put before what begins a line of output.
        stdout_prefix: String,
        /// The same of errors.
        stderr_prefix: String,
    },
}

/// Where connections go, as seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A name or an address; empty for the container itself.
    pub host: String,
    pub port: u16,
}
