//! Finds edited and evaluated texts in a build's log.

use super::Edit;
use crate::debug::{CommandPlace, DecisionKind};
use crate::event::{Block, Event, EventBody};
use std::collections::BTreeMap;

/// A run of a text that differs from the buildspec's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedRun {
    /// Number of the run.
    pub run: u32,
    /// Its place and text. Secrets in it are masked.
    pub edit: Edit,
    /// Whether it exited with 0.
    pub is_good: bool,
}

/// A text that a person evaluated at a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluatedRun {
    /// Number of the run.
    pub run: u32,
    /// The text. Secrets in it are masked.
    pub text: String,
    /// The command that followed it.
    pub before: Option<CommandPlace>,
    /// The run of that command.
    follower: Option<u32>,
    /// Whether it exited with 0.
    pub is_good: bool,
}

/// The runs of a build that matter for its buildspec.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// The original text of each command.
    texts: BTreeMap<CommandPlace, String>,
    edited: Vec<EditedRun>,
    evaluated: Vec<EvaluatedRun>,
    /// The successful runs of each command.
    good: BTreeMap<CommandPlace, Vec<u32>>,
    /// The current run.
    at_hand: Option<(u32, CommandPlace)>,
    /// The decision made since the last run began.
    decided: Option<DecisionKind>,
}

impl Runs {
    /// Processes the next event of the log.
    pub fn take(&mut self, event: &Event) {
        match &event.body {
            EventBody::Intervened(done) => match done.what {
                DecisionKind::Eval | DecisionKind::Set => {}
                what => self.decided = Some(what),
            },
            EventBody::Paused { stop: Some(stop), .. } => {
                // A command edited before its first run never ran in its original form.
                if let Some(place) = stop.place.filter(|_| self.edited_text(stop.run).is_none()) {
                    self.texts.entry(place).or_insert_with(|| stop.text.clone());
                }
            }
            EventBody::CommandStarted { command, block: Block::Eval, text, .. } => {
                let (run, text) = (*command, text.clone());
                let done = EvaluatedRun { run, text, before: None, follower: None, is_good: false };
                self.evaluated.push(done);
            }
            EventBody::CommandStarted { command, phase, block, index, text, .. } => {
                let Some(phase) = phase.user_phase() else { return };
                let place = CommandPlace { phase, block: *block, index: *index };
                for done in self.evaluated.iter_mut().rev().take_while(|done| done.before.is_none())
                {
                    (done.before, done.follower) = (Some(place), Some(*command));
                }
                let is_edited = match self.decided.take() {
                    Some(DecisionKind::Edit) => true,
                    // A retry of the edited text.
                    Some(DecisionKind::Retry) => {
                        self.at_hand.is_some_and(|(run, _)| self.edited_text(run).is_some())
                    }
                    // The target run's own text, or a new one.
                    Some(DecisionKind::Rewind | DecisionKind::Clean) => {
                        self.texts.get(&place).is_some_and(|written| written != text)
                    }
                    _ => false,
                };
                self.at_hand = Some((*command, place));
                if is_edited {
                    let edit = Edit { place, text: text.clone() };
                    self.edited.push(EditedRun { run: *command, edit, is_good: false });
                } else {
                    self.texts.entry(place).or_insert_with(|| text.clone());
                }
            }
            // Lost runs no longer count, so earlier successful ones count again.
            EventBody::Rewound(rewound) => {
                let is_lost = |run: &u32| rewound.lost.contains(run);
                self.good.values_mut().for_each(|runs| runs.retain(|run| !is_lost(run)));
                // An evaluated text at the stop before the target run is part of the restored
                // state.
                let is_undone = |done: &EvaluatedRun| {
                    done.run >= rewound.to
                        || rewound.without_edits && done.follower == Some(rewound.to)
                };
                self.evaluated.retain(|done| !is_undone(done));
            }
            EventBody::CommandEnded { command, outcome, .. } => {
                if let Some(done) = self.evaluated.iter_mut().find(|done| done.run == *command) {
                    done.is_good = outcome.succeeded();
                }
                let at_hand = self.at_hand.filter(|(run, _)| run == command);
                if let Some((run, place)) = at_hand.filter(|_| outcome.succeeded()) {
                    self.good.entry(place).or_default().push(run);
                    let edited = self.edited.iter_mut().find(|edited| edited.run == run);
                    edited.into_iter().for_each(|edited| edited.is_good = true);
                }
            }
            _ => {}
        }
    }

    fn edited_text(&self, run: u32) -> Option<&str> {
        let found = self.edited.iter().find(|edited| edited.run == run);
        found.map(|edited| edited.edit.text.as_str())
    }

    /// All runs of edited texts.
    #[must_use]
    pub fn edited(&self) -> &[EditedRun] {
        &self.edited
    }

    /// For each place, the edited run that counts: the last successful one, unless the original
    /// text has succeeded since.
    #[must_use]
    pub fn wanted(&self) -> Vec<&EditedRun> {
        let counts = |edited: &&EditedRun| {
            self.good.get(&edited.edit.place).and_then(|runs| runs.last()) == Some(&edited.run)
        };
        let mut wanted: Vec<&EditedRun> = self.edited.iter().filter(counts).collect();
        wanted.sort_by_key(|edited| edited.edit.place);
        wanted
    }

    /// The evaluated texts that still count, in order.
    #[must_use]
    pub fn evaluated(&self) -> &[EvaluatedRun] {
        &self.evaluated
    }

    /// The original texts of edited commands.
    #[must_use]
    pub fn originals(&self) -> Vec<Edit> {
        let is_edited =
            |place: &CommandPlace| self.edited.iter().any(|run| run.edit.place == *place);
        let texts = self.texts.iter().filter(|(place, _)| is_edited(place));
        texts.map(|(&place, text)| Edit { place, text: text.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug::{DecisionClient, Who};
    use crate::event::{CommandOutcome, Intervention, RewoundFacts};
    use crate::phase::Phase;
    use crate::time::WallTime;

    /// Makes a log from words: `edit`, `retry`, `rerun`, or `INDEX TEXT CODE` for a run.
    fn runs(log: &[&str]) -> Runs {
        let mut runs = Runs::default();
        let mut command = 0;
        let mut take = |body| {
            runs.take(&Event { seq: 1, time: WallTime(0), build_id: String::new(), body });
        };
        for word in log {
            let what = match *word {
                "edit" => Some(DecisionKind::Edit),
                "retry" => Some(DecisionKind::Retry),
                "rerun" => Some(DecisionKind::Rerun),
                "set" => Some(DecisionKind::Set),
                _ => None,
            };
            if let Some(what) = what {
                let by = Who { uid: 0, user: String::new(), client: DecisionClient::Cli };
                let done = Intervention { by, what, command, place: None, text: None };
                take(EventBody::Intervened(Box::new(done)));
                continue;
            }
            if let Some(to) = word.strip_prefix("rewind ") {
                let (to, without_edits) = match to.strip_suffix(" clean") {
                    Some(to) => (to, true),
                    None => (to, false),
                };
                take(EventBody::Rewound(Box::new(RewoundFacts {
                    to: to.parse().expect("a number"),
                    place: "build:1".parse().expect("a place"),
                    lost: Vec::new(),
                    without_edits,
                    processes: Vec::new(),
                    sessions: 0,
                    ms: 0,
                })));
                continue;
            }
            let [index, text, code] = word.split(' ').collect::<Vec<_>>()[..] else { panic!() };
            command += 1;
            let (block, index) = match index {
                "eval" => (Block::Eval, "0"),
                index => (Block::Commands, index),
            };
            take(EventBody::CommandStarted {
                command,
                phase: Phase::Build,
                block,
                index: index.parse().expect("a number"),
                text: text.to_owned(),
                line: None,
            });
            let outcome = CommandOutcome::Exited(code.parse().expect("a number"));
            take(EventBody::CommandEnded { command, outcome, duration_ms: 0 });
        }
        runs
    }

    fn wanted(log: &[&str]) -> String {
        let runs = runs(log);
        let shown = |run: &&EditedRun| format!("{}={}", run.edit.place, run.edit.text);
        runs.wanted().iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_counts_is_the_last_good_run_of_a_place() {
        assert_eq!(wanted(&["0 a 1", "edit", "0 b 0", "1 c 0"]), "build:1=b");
        assert_eq!(wanted(&["0 a 1", "edit", "0 b 1"]), "");
        assert_eq!(wanted(&["0 a 1", "edit", "0 b 1", "edit", "0 c 0"]), "build:1=c");
        // A retry of the edited text.
        assert_eq!(wanted(&["0 a 1", "edit", "0 b 1", "set", "retry", "0 b 0"]), "build:1=b");
        assert_eq!(wanted(&["0 a 1", "retry", "0 a 0"]), "");
        // The original text has succeeded since.
        assert_eq!(wanted(&["0 a 1", "edit", "0 b 0", "1 c 1", "rerun", "0 a 0", "1 c 0"]), "");
        let two = ["1 a 1", "edit", "1 b 0", "rerun", "0 c 1", "edit", "0 d 0", "1 a 1"];
        assert_eq!(wanted(&two), "build:1=d build:2=b");
        let originals = runs(&two).originals();
        assert_eq!(originals.iter().map(|edit| &*edit.text).collect::<Vec<_>>(), ["c", "a"]);
    }

    #[test]
    fn what_was_evaluated_belongs_to_what_has_followed() {
        let evaluated = |log: &[&str]| {
            let runs = runs(log);
            let shown = |done: &EvaluatedRun| {
                let place = done.before.map_or_else(|| "-".to_owned(), |place| place.to_string());
                format!("{}={}{}", place, done.text, if done.is_good { "" } else { "!" })
            };
            runs.evaluated().iter().map(shown).collect::<Vec<_>>().join(" ")
        };
        let two =
            ["eval a 0", "eval b 1", "0 x 1", "eval c 0", "retry", "0 x 0", "1 y 0", "eval d 0"];
        assert_eq!(evaluated(&two), "build:1=a build:1=b! build:1=c -=d");
        // A text evaluated before a run comes back with it, unless the edits are dropped.
        let log = ["0 x 0", "eval a 0", "1 y 0", "eval b 0", "rewind 3", "eval c 0", "1 y 0"];
        assert_eq!(evaluated(&log), "build:2=a build:2=c");
        let log = ["0 x 0", "eval a 0", "1 y 0", "rewind 3 clean", "1 y 0", "rewind 1"];
        assert_eq!(evaluated(&log[..5]), "");
        assert_eq!(evaluated(&["0 x 0", "eval a 0", "1 y 0", "rewind 1"]), "");
    }
}
