//! A user's decision at a stop, and who made it.

use super::place::CommandPlace;
use super::rewind::{Rewind, Then};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What to do after a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Go on as if the build had not stopped.
    Resume,
    /// Go on, and stop before the next command.
    Step,
    /// Run the current command again, or another text in its place.
    Retry {
        /// The text; the buildspec's own if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// Do not run the current command.
    Skip {
        /// Also skip all commands before this place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<CommandPlace>,
    },
    /// Go on from a place again.
    Rerun {
        /// The place.
        place: CommandPlace,
    },
    /// Go back to the state before a run: files, variables and progress.
    Rewind(Rewind),
    /// End the build at once.
    Abort,
    /// Run a text in the shell state of the build's commands.
    Eval {
        /// The text.
        text: String,
    },
    /// Set a variable for later commands.
    Set {
        /// Its name.
        name: String,
        /// Its value; absent to unset the variable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
}

/// The kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "those of `Decision`; `Edit` is a retry with another text")]
pub enum DecisionKind {
    Resume,
    Step,
    Retry,
    Edit,
    Skip,
    Rerun,
    Rewind,
    /// A rewind that runs the current command again.
    Clean,
    Abort,
    Eval,
    Set,
}

impl Decision {
    /// The kind of this decision.
    #[must_use]
    pub fn kind(&self) -> DecisionKind {
        match self {
            Decision::Resume => DecisionKind::Resume,
            Decision::Step => DecisionKind::Step,
            Decision::Retry { text: None } => DecisionKind::Retry,
            Decision::Retry { text: Some(_) } => DecisionKind::Edit,
            Decision::Skip { .. } => DecisionKind::Skip,
            Decision::Rerun { .. } => DecisionKind::Rerun,
            Decision::Rewind(Rewind { then: Then::Retry { .. }, .. }) => DecisionKind::Clean,
            Decision::Rewind(_) => DecisionKind::Rewind,
            Decision::Abort => DecisionKind::Abort,
            Decision::Eval { .. } => DecisionKind::Eval,
            Decision::Set { .. } => DecisionKind::Set,
        }
    }
}

impl DecisionKind {
    /// The verb as a user types it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            DecisionKind::Resume => "resume",
            DecisionKind::Step => "step",
            DecisionKind::Retry => "retry",
            DecisionKind::Edit => "retry --edit",
            DecisionKind::Skip => "skip",
            DecisionKind::Rerun => "rerun",
            DecisionKind::Rewind => "rewind",
            DecisionKind::Clean => "retry --clean",
            DecisionKind::Abort => "abort",
            DecisionKind::Eval => "eval",
            DecisionKind::Set => "set",
        }
    }
}

/// The person who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// User ID.
    pub uid: u32,
    /// User name; the ID if it has no name.
    pub user: String,
    /// The client used.
    pub client: DecisionClient,
}

/// The client that a decision came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DecisionClient {
    /// A command of `runner`.
    #[default]
    Cli,
    /// A key of the terminal's menu.
    Key,
    /// A command inside the container.
    Shell,
    /// The web page.
    Page,
    /// An editor, by the name it reported.
    Dap(String),
}

impl DecisionClient {
    /// An editor. Its name is untrusted, so it is cleaned and shortened.
    #[must_use]
    pub fn dap(name: &str) -> Self {
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        DecisionClient::Dap(name.chars().take(40).map(plain).collect())
    }
}

impl fmt::Display for DecisionClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecisionClient::Cli => formatter.write_str("cli"),
            DecisionClient::Key => formatter.write_str("key"),
            DecisionClient::Shell => formatter.write_str("shell"),
            DecisionClient::Page => formatter.write_str("page"),
            DecisionClient::Dap(name) => write!(formatter, "dap:{name}"),
        }
    }
}

impl From<String> for DecisionClient {
    fn from(text: String) -> Self {
        match text.as_str() {
            "key" => DecisionClient::Key,
            "shell" => DecisionClient::Shell,
            "page" => DecisionClient::Page,
            _ => text.strip_prefix("dap:").map_or(DecisionClient::Cli, DecisionClient::dap),
        }
    }
}

impl From<DecisionClient> for String {
    fn from(client: DecisionClient) -> Self {
        client.to_string()
    }
}
