//! Stops, and what people do at them, as the log has it.

use crate::debug::{CommandPlace, DecisionKind, Who};
use crate::mask::Secrets;
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
    pub place: Option<CommandPlace>,
    /// Number of the run at hand: the one that has failed or is held, else the one to come.
    pub run: u32,
    /// Text of the command at hand.
    pub text: String,
    /// The breakpoints that have brought it about.
    pub breakpoints: Vec<BreakpointId>,
    /// What can be decided.
    pub decisions: Vec<DecisionKind>,
    /// The line of the buildspec at which the command at hand begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What there is to be seen of the run that has brought it about.
    #[serde(default, skip_serializing_if = "Scene::is_empty")]
    pub scene: Scene,
}

/// What a person wants to see first of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scene {
    /// Why it has failed, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The last lines it has written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// Variables it has changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<ChangedVariable>,
    /// How many more than those.
    #[serde(skip_serializing_if = "is_none")]
    pub more_changed: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A variable with two values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedVariable {
    /// Its name.
    pub name: String,
    /// Its value before; none where it was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its value now; none where it is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl Scene {
    /// Most lines of output.
    pub const LINES: usize = 20;
    /// Most bytes of output, and of a value.
    pub const BYTES: usize = 4 << 10;
    /// Most variables.
    pub const VARIABLES: usize = 40;

    /// Whether there is nothing to be seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Scene::default()
    }

    /// The last lines of what was written.
    #[must_use]
    pub fn last_lines(written: &str) -> String {
        let text = written.trim_end_matches(['\n', '\r']);
        let begin = text.len().saturating_sub(Self::BYTES);
        let begin = (begin..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = &text[begin..];
        let skipped = text.rmatch_indices('\n').nth(Self::LINES - 1).map_or(0, |(at, _)| at + 1);
        text[skipped..].to_owned()
    }

    /// Takes secrets out.
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
    pub place: Option<CommandPlace>,
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
