//! Checkpoints, and the way back to one, as the log has them.

use crate::changes::Counts;
use crate::debug::CommandPlace;
use serde::{Deserialize, Serialize};

/// A checkpoint, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointFacts {
    /// The run before which it was taken.
    pub before: u32,
    /// What kind.
    pub kind: CheckpointKind,
    /// Why there is none, or what is to be known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many files, directories and links have changed since the one before.
    pub entries: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// Kinds of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointKind {
    /// What was written so far is closed, and the build writes to a new layer.
    Sealed,
    /// What was written so far is copied.
    Copied,
    /// There is none.
    None,
}

impl CheckpointKind {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CheckpointKind::Sealed => "sealed",
            CheckpointKind::Copied => "copied",
            CheckpointKind::None => "none",
        }
    }
}

/// What a run has changed in the files, as it is known when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFacts {
    /// The run.
    pub command: u32,
    /// How many.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why it is not known, or not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How long it took to find out, in milliseconds.
    pub ms: u64,
}

/// A build that is back where it was before a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewoundFacts {
    /// The run.
    pub to: u32,
    /// Its place.
    pub place: CommandPlace,
    /// The runs that do not count any more.
    pub lost: Vec<u32>,
    /// Whether what people did at the stop before it does not count, either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_edits: bool,
    /// What ran then and was killed.
    pub processes: Vec<Lost>,
    /// How many sessions were closed.
    pub sessions: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// A process that a rewind has killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its number in the container.
    pub pid: u32,
    /// Its name.
    pub name: String,
}
