//! What a person decides at a stop, and who it is.

use super::place::CommandPlace;
use super::rewind::{Rewind, Then};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is to follow a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Go on as without the stop.
    Resume,
    /// The same, and stop before the next command.
    Step,
    /// Run the command at hand again, or with another text.
    Retry {
        /// The text; that of the buildspec where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// Do not run the command at hand.
    Skip {
        /// Nor any before this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<CommandPlace>,
    },
    /// Go on from there once more.
    Rerun {
        /// From where.
        place: CommandPlace,
    },
    /// Go back to before a run: the files, the variables, and how the build stood.
    Rewind(Rewind),
    /// End the build without anything further.
    Abort,
    /// Run a text in the state of the build's commands.
    Eval {
        /// The text.
        text: String,
    },
    /// Set a variable of the commands to come.
    Set {
        /// Its name.
        name: String,
        /// Its value; none unsets it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
}

/// What kind of decision it is.
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
    /// A rewind that runs the command at hand once more.
    Clean,
    Abort,
    Eval,
    Set,
}

impl Decision {
    /// What kind it is.
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
    /// As the verb is typed.
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

/// Who has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The user's number.
    pub uid: u32,
    /// The user's name; the number where there is none.
    pub user: String,
    /// By what.
    pub client: DecisionClient,
}

/// By what a decision was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DecisionClient {
    /// A verb of the command line.
    #[default]
    Cli,
    /// A key of the terminal's menu.
    Key,
    /// A command in the container.
    Shell,
    /// The page in a browser.
    Page,
    /// An editor, by the name it has given itself.
    Dap(String),
}

impl DecisionClient {
    /// An editor. Its name is a stranger's text.
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
