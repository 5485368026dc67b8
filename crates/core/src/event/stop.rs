//! Stops and user decisions in the event log.

use crate::debug::{CommandPlace, DecisionKind, Who};
use crate::mask::Secrets;
use serde::{Deserialize, Serialize};

/// Number of a breakpoint in its build, from 1; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BreakpointId(pub u64);

/// Facts about a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopFacts {
    /// The kind of stop.
    pub kind: StopKind,
    /// Place of the current command; `None` after a phase, and for commands that are not in the
    /// buildspec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<CommandPlace>,
    /// Number of the current run: the failed or paused one, otherwise the next one.
    pub run: u32,
    /// Text of the current command.
    pub text: String,
    /// The breakpoints that caused the stop.
    pub breakpoints: Vec<BreakpointId>,
    /// The possible decisions.
    pub decisions: Vec<DecisionKind>,
    /// The buildspec line where the current command begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Details of the run that caused the stop.
    #[serde(default, skip_serializing_if = "Scene::is_empty")]
    pub scene: Scene,
}

/// The details of a run that a person wants to see first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scene {
    /// Why it failed, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Its last lines of output.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The variables it changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<ChangedVariable>,
    /// Number of changed variables that are not listed.
    #[serde(skip_serializing_if = "is_none")]
    pub more_changed: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A variable with its old and new value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedVariable {
    /// Its name.
    pub name: String,
    /// Its value before; `None` if it was unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its value now; `None` if it is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl Scene {
    /// Maximum number of output lines.
    pub const LINES: usize = 20;
    /// Maximum bytes of output, and of a value.
    pub const BYTES: usize = 4 << 10;
    /// Maximum number of variables.
    pub const VARIABLES: usize = 40;

    /// Whether there are no details.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Scene::default()
    }

    /// Returns the last lines of an output.
    #[must_use]
    pub fn last_lines(written: &str) -> String {
        let text = written.trim_end_matches(['\n', '\r']);
        let begin = text.len().saturating_sub(Self::BYTES);
        let begin = (begin..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = &text[begin..];
        let skipped = text.rmatch_indices('\n').nth(Self::LINES - 1).map_or(0, |(at, _)| at + 1);
        text[skipped..].to_owned()
    }

    /// Masks secrets.
    pub fn mask(&mut self, secrets: &Secrets) {
        secrets.mask_text(&mut self.output);
        self.failure.iter_mut().for_each(|text| secrets.mask_text(text));
        for variable in &mut self.changed {
            let values = variable.before.iter_mut().chain(&mut variable.now);
            values.for_each(|value| secrets.mask_text(value));
        }
    }
}

/// Kinds of stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// Before the first run.
    Entry,
    /// Before a command.
    Before,
    /// After a phase, including its `finally`.
    After,
    /// After a failed run, before anything follows it.
    Failed,
    /// Before the next command, because the user is stepping.
    Step,
    /// During a run.
    Pause,
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervention {
    /// The person.
    pub by: Who,
    /// The kind of decision.
    pub what: DecisionKind,
    /// The current run.
    pub command: u32,
    /// The target place, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<CommandPlace>,
    /// The text to run, or the name of the variable to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A breakpoint that was set or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakpointFacts {
    /// What happened.
    pub op: BreakpointOp,
    /// Its number.
    pub id: BreakpointId,
    /// Its text.
    pub text: String,
    /// Its owner.
    pub owner: String,
}

/// A change to a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakpointOp {
    /// It was set.
    Set,
    /// It was removed.
    Removed,
}
