//! Stops, and what people do at them, as the log has it.

use crate::debug::{DecisionKind, Place, Who};
use serde::{Deserialize, Serialize};

/// Number of a breakpoint in its build, from 1; never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BreakpointId(pub u64);

/// Where a build has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopFacts {
    /// What kind of stop.
    pub kind: StopKind,
    /// The place of the command at hand; none after a phase, and among commands that are no
    /// buildspec's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Number of the run at hand: the one that has failed or is held, else the one to come.
    pub run: u32,
    /// Text of the command at hand.
    pub text: String,
    /// The breakpoints that have brought it about.
    pub breakpoints: Vec<BreakpointId>,
    /// What can be decided.
    pub decisions: Vec<DecisionKind>,
}

/// Kinds of stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// Before the first run.
    Entry,
    /// Before a command.
    Before,
    /// After a phase, its finally among it.
    After,
    /// A run has failed; nothing has followed it yet.
    Failed,
    /// Before the next command, because somebody goes step by step.
    Step,
    /// In the middle of a run.
    Pause,
}

/// What a person has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervention {
    /// Who.
    pub by: Who,
    /// What.
    pub what: DecisionKind,
    /// The run at hand.
    pub command: u32,
    /// Where to, if somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The text that is run, or the name of the variable that is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A breakpoint that is there, or is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakpointFacts {
    /// Which.
    pub op: BreakpointOp,
    /// Its number.
    pub id: BreakpointId,
    /// As it is written.
    pub text: String,
    /// Whose it is.
    pub owner: String,
}

/// What has become of a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakpointOp {
    /// It is there from now on.
    Set,
    /// It is there no more.
    Removed,
}
