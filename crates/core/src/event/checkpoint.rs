//! Checkpoints and rewinds in the event log.

use crate::changes::Counts;
use crate::debug::CommandPlace;
use serde::{Deserialize, Serialize};

/// A checkpoint, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointFacts {
    /// The run that follows the checkpoint.
    pub before: u32,
    /// The kind of checkpoint.
    pub kind: CheckpointKind,
    /// Why there is none, or a remark about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Number of files, directories and links that changed since the last checkpoint.
    pub entries: u64,
    /// Bytes of these entries.
    pub bytes: u64,
    /// Time it took, in milliseconds.
    pub ms: u64,
}

/// Kinds of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointKind {
    /// The layer written so far is closed, and the build writes to a new one.
    Sealed,
    /// The layer written so far is copied.
    Copied,
    /// No checkpoint.
    None,
}

impl CheckpointKind {
    /// The kind for users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CheckpointKind::Sealed => "sealed",
            CheckpointKind::Copied => "copied",
            CheckpointKind::None => "none",
        }
    }
}

/// File changes of a run, known when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFacts {
    /// The run.
    pub command: u32,
    /// Numbers of changes.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why the changes are unknown, or not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Time it took to find them, in milliseconds.
    pub ms: u64,
}

/// A rewind to the state before a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewoundFacts {
    /// The run.
    pub to: u32,
    /// Its place.
    pub place: CommandPlace,
    /// Runs that no longer count.
    pub lost: Vec<u32>,
    /// Whether what people did at the stop before that run was dropped too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_edits: bool,
    /// Processes that were killed.
    pub processes: Vec<Lost>,
    /// Number of sessions that were closed.
    pub sessions: u64,
    /// Time it took, in milliseconds.
    pub ms: u64,
}

/// A process that a rewind has killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its process ID in the container.
    pub pid: u32,
    /// Its name.
    pub name: String,
}
