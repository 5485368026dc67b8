//! What a session is to be: made from a call by `aws::documents`, carried out by `agent`.

use runner_wire::ssm::handshake::SessionType;
use serde_json::Value;

/// A session, as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPlan {
    pub kind: SessionType,
    /// What the client is told about a port session; null otherwise.
    pub properties: Value,
    pub work: Work,
}

/// What runs at this end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The container's shell on a terminal.
    Shell,
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
