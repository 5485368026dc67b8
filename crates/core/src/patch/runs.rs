//! What people have had run in the place of commands, found in a build's log.

use super::Edit;
use crate::debug::{CommandPlace, DecisionKind};
use crate::event::{Block, Event, EventBody};
use std::collections::BTreeMap;

/// A run of another text than the buildspec's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedRun {
    /// Its number.
    pub run: u32,
    /// Where it stands, and what was run. Secrets in it are masked.
    pub edit: Edit,
    /// Whether it has ended 0.
    pub is_good: bool,
}

/// A text that somebody has had run at a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluatedRun {
    /// Its number.
    pub run: u32,
    /// What was run. Secrets in it are masked.
    pub text: String,
    /// The command that has followed it.
    pub before: Option<CommandPlace>,
    /// That command's run.
    follower: Option<u32>,
    /// Whether it has ended 0.
    pub is_good: bool,
}

/// The runs of a build, as far as they concern its buildspec.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// What each place's command was at first.
    texts: BTreeMap<CommandPlace, String>,
    edited: Vec<EditedRun>,
    evaluated: Vec<EvaluatedRun>,
    /// The runs of each place that have ended 0.
    good: BTreeMap<CommandPlace, Vec<u32>>,
    /// The run at hand.
    at_hand: Option<(u32, CommandPlace)>,
    /// What somebody has decided since the last run began.
    decided: Option<DecisionKind>,
}

impl Runs {
    /// Takes in the next event of the log.
    pub fn take(&mut self, event: &Event) {
        match &event.body {
            EventBody::Intervened(done) => match done.what {
                DecisionKind::Eval | DecisionKind::Set => {}
                what => self.decided = Some(what),
            },
            EventBody::Paused { stop: Some(stop), .. } => {
                // One that is edited before its first run was never begun as it is written.
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
                    // The same text once more.
                    Some(DecisionKind::Retry) => {
                        self.at_hand.is_some_and(|(run, _)| self.edited_text(run).is_some())
                    }
                    // With the text that the run had to which it has led, or another one.
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
            // What was good is no more, and what was good before is again.
            EventBody::Rewound(rewound) => {
                let is_lost = |run: &u32| rewound.lost.contains(run);
                self.good.values_mut().for_each(|runs| runs.retain(|run| !is_lost(run)));
                // What was evaluated at the stop before that run is part of what is back.
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

    /// Every run of another text than the buildspec's.
    #[must_use]
    pub fn edited(&self) -> &[EditedRun] {
        &self.edited
    }

    /// Of each place the edited run that counts: its last good one, unless the buildspec's own text has been
    /// good since.
    #[must_use]
    pub fn wanted(&self) -> Vec<&EditedRun> {
        let counts = |edited: &&EditedRun| {
            self.good.get(&edited.edit.place).and_then(|runs| runs.last()) == Some(&edited.run)
        };
        let mut wanted: Vec<&EditedRun> = self.edited.iter().filter(counts).collect();
        wanted.sort_by_key(|edited| edited.edit.place);
        wanted
    }

    /// What was evaluated and still counts, as it was run.
    #[must_use]
    pub fn evaluated(&self) -> &[EvaluatedRun] {
        &self.evaluated
    }

    /// What places held before they were edited.
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

    /// A log with a run, or a decision, a word: `edit`, `retry`, `rerun`, or `INDEX TEXT CODE`.
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
        // The edited text once more.
        assert_eq!(wanted(&["0 a 1", "edit", "0 b 1", "set", "retry", "0 b 0"]), "build:1=b");
        assert_eq!(wanted(&["0 a 1", "retry", "0 a 0"]), "");
        // The buildspec's own has been good since.
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
        // What was evaluated at the stop before a run comes back with it, and goes without the edits.
        let log = ["0 x 0", "eval a 0", "1 y 0", "eval b 0", "rewind 3", "eval c 0", "1 y 0"];
        assert_eq!(evaluated(&log), "build:2=a build:2=c");
        let log = ["0 x 0", "eval a 0", "1 y 0", "rewind 3 clean", "1 y 0", "rewind 1"];
        assert_eq!(evaluated(&log[..5]), "");
        assert_eq!(evaluated(&["0 x 0", "eval a 0", "1 y 0", "rewind 1"]), "");
    }
}
