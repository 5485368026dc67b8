//! Checkpoints, and rewinds to them.

use super::stops::{LIST, edit, rerun, retry, skip, who};
use super::{
    Bed, CheckpointId, CommandOutcome, EventBody, FOUR, LIMITS, MachineInput, Phase, PlannedStops,
    Standstill, Status, Unkept, facts,
};
use crate::debug::{Decision, DecisionKind, Rewind, RunRef, Then};
use crate::env::EnvLayers;
use crate::event::{CheckpointKind, RewoundFacts};
use crate::plan::Checkpointing;

impl Bed {
    fn keeping(source: &str, breakpoints: &[&str], failing: &[&str]) -> Self {
        let mut bed = Self::to_keep(source, breakpoints);
        bed.drive(failing);
        bed
    }

    fn to_keep(source: &str, breakpoints: &[&str]) -> Self {
        let breakpoints = breakpoints.iter().map(|text| text.parse().expect("one")).collect();
        let stops = PlannedStops { breakpoints, step: false, checkpoints: Checkpointing::Auto };
        Bed::with_stops(source, LIMITS, facts(), EnvLayers::default(), stops)
    }

    /// Runs with a checkpoint before them, or with the reason why there is none.
    fn kept(&self) -> Vec<(u32, CheckpointKind)> {
        let of = |event: &EventBody| match event {
            EventBody::Checkpoint(facts) => Some((facts.before, facts.kind)),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    fn lost(&self) -> Vec<(u32, Vec<u32>)> {
        let of = |event: &EventBody| match event {
            EventBody::Rewound(facts) => {
                let RewoundFacts { to, lost, .. } = &**facts;
                Some((*to, lost.clone()))
            }
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }
}

fn to(run: &str) -> Rewind {
    Rewind { to: Some(run.parse().expect("a run")), ..Rewind::default() }
}

fn rewind(run: &str) -> Decision {
    Decision::Rewind(to(run))
}

fn clean() -> Decision {
    Decision::Rewind(Rewind { then: Then::Retry { text: None }, ..Rewind::default() })
}

#[test]
fn there_is_one_before_each_run_and_another_behind_a_stop() {
    let bed = Bed::keeping(LIST, &["before:build:2"], &[]);
    // The checkpoint precedes the stop.
    assert_eq!(bed.kept().iter().map(|kept| kept.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(bed.at(), "before build:2");
    let mut bed = bed;
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.kept().iter().map(|kept| kept.0).collect::<Vec<_>>(), [1, 2, 3, 3, 4, 5, 6]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    // A retry begins with the state of its first run, and so does its checkpoint.
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(retry(), &[]);
    assert_eq!(bed.saved[3], (CheckpointId(4), true));
    assert!(bed.runs.iter().all(|run| !run.again));
    // Without checkpoints there is nothing to save.
    let bed = Bed::stopping(LIST, &["failure"], &[]);
    assert_eq!(bed.saved, []);
}

#[test]
fn the_last_run_is_undone_and_the_build_stops_before_it() {
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(Decision::Rewind(Rewind::default()), &[]);
    assert_eq!(bed.at(), "before build:2");
    assert_eq!(bed.rewound, [CheckpointId(3)]);
    assert_eq!((bed.lost(), bed.stop().run), (vec![(3, vec![3])], 4), "numbers only grow");
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "b", "c", "f", "p"]);
    let last = bed.ran[3].clone();
    assert_eq!(last, ("b".to_owned(), true, 0), "as if nothing had failed");
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [DecisionKind::Rewind]);
}

#[test]
fn runs_are_found_by_number_from_the_end_and_by_place() {
    for (run, place, lost) in [
        ("1", "install:1", vec![1, 2, 3, 4]),
        ("-1", "build:3", vec![4]),
        ("-4", "install:1", vec![1, 2, 3, 4]),
        ("build:2", "build:2", vec![3, 4]),
        ("build", "build:1", vec![2, 3, 4]),
    ] {
        let mut bed = Bed::keeping(LIST, &["failure"], &["c"]);
        bed.decide(rewind(run), &[]);
        assert_eq!(bed.at(), format!("before {place}"), "{run}");
        assert_eq!(bed.lost()[0].1, lost, "{run}");
    }
    let mut bed = Bed::keeping(LIST, &["failure"], &["c"]);
    bed.refused(rewind("9"), "has not been yet");
    bed.refused(rewind("-5"), "only 4 runs count");
    bed.refused(rewind("post_build"), "has not been come to");
    bed.decide(rewind("2"), &[]);
    bed.refused(rewind("3"), "a rewind has undone it");
    // The current run has its new number.
    bed.decide(rewind("5"), &[]);
    assert_eq!(bed.at(), "before build:1");
    bed.refused(clean(), "has not run yet");
}

#[test]
fn the_phase_is_open_again() {
    let mut bed = Bed::keeping(FOUR, &["before:post_build"], &["b"]);
    bed.decide(rewind("pre_build"), &[]);
    let view = bed.timeline.view().expect("a build");
    let last = view.phases.last().expect("a phase");
    assert_eq!((last.phase, last.status), (Phase::PreBuild, Status::InProgress));
    bed.decide(Decision::Resume, &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let phases = &bed.timeline.view().expect("a build").phases;
    assert!(phases.iter().is_sorted_by_key(|phase| phase.phase));
    assert!(phases.iter().all(|phase| phase.status != Status::Failed));
}

/// A place that failed once and was skipped last.
#[test]
fn a_rewind_and_a_skip_make_no_success() {
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(rewind("-1"), &[]);
    bed.decide(skip(), &[]);
    assert_eq!((bed.commands().len(), bed.finished), (6, Some(Status::Failed)));
    // The same from further back, skipping over the place, and after another rewind.
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(rewind("1"), &[]);
    bed.decide(Decision::Skip { to: Some("build:3".parse().expect("a place")) }, &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
    let mut bed = Bed::keeping(LIST, &["failure", "before:build:3"], &["b"]);
    bed.decide(rewind("-1"), &[]);
    bed.decide(skip(), &[]);
    assert_eq!(bed.at(), "before build:3");
    bed.decide(rewind("build:2"), &[]);
    assert_eq!(bed.at(), "before build:2");
    bed.decide(skip(), &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
    // Only a successful run clears it.
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(rewind("-1"), &[]);
    bed.decide(edit("x"), &[]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    // A failure from before the run stands.
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(skip(), &["c"]);
    bed.decide(rewind("-1"), &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
    // An abort before a command counts as a stop, as always.
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(rewind("-1"), &[]);
    bed.send(MachineInput::Decide { decision: Decision::Abort, by: who() });
    bed.send(MachineInput::ProcessesGone);
    bed.go(&[]);
    assert_eq!(bed.finished, Some(Status::Stopped));
}

#[test]
fn a_clean_retry_goes_back_and_runs() {
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(clean(), &["b"]);
    assert_eq!(bed.at(), "failed build:2");
    let text = Some("x".to_owned());
    let edited = Rewind { then: Then::Retry { text }, ..Rewind::default() };
    bed.decide(Decision::Rewind(edited), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "b", "x", "c", "f", "p"]);
    assert_eq!(bed.rewound.len(), 2);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [DecisionKind::Clean, DecisionKind::Clean]);
    let mut bed = Bed::keeping(LIST, &["failure"], &["b"]);
    bed.decide(Decision::Rewind(Rewind { then: Then::Resume, ..to("build") }), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "a", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
}

#[test]
fn what_people_did_at_the_stop_comes_back_or_does_not() {
    let mut bed = Bed::keeping(LIST, &["before:build:2", "failure"], &[]);
    bed.decide(Decision::Set { name: "A".to_owned(), value: Some("1".to_owned()) }, &[]);
    bed.decide(Decision::Resume, &["c"]);
    let mut other = Bed::keeping(LIST, &["before:build:2", "failure"], &[]);
    other.decide(Decision::Set { name: "A".to_owned(), value: Some("1".to_owned()) }, &[]);
    other.decide(Decision::Resume, &["c"]);
    bed.decide(rewind("3"), &[]);
    assert_eq!(bed.rewound, [CheckpointId(4)]);
    assert_eq!(bed.machine.to_be_set().len(), 1);
    other.decide(Decision::Rewind(Rewind { without_edits: true, ..to("3") }), &[]);
    assert_eq!(other.rewound, [CheckpointId(3)]);
    assert_eq!(other.machine.to_be_set().len(), 0);
    // An evaluated text takes a number, but is not a run of the list.
    let mut bed = Bed::keeping(LIST, &["before:build:2", "failure"], &[]);
    bed.decide(Decision::Eval { text: "x".to_owned() }, &[]);
    bed.decide(Decision::Resume, &["c"]);
    bed.refused(rewind("3"), "not a buildspec command");
    bed.decide(Decision::Rewind(Rewind { without_edits: true, ..to("4") }), &[]);
    assert_eq!((&bed.rewound[..], bed.lost()), (&[CheckpointId(3)][..], vec![(4, vec![4, 5])]));
}

#[test]
fn a_run_that_stands_still_is_lost() {
    let mut bed = Bed::to_keep(LIST, &[]);
    bed.send(MachineInput::Start);
    assert_eq!(bed.until_command(), Some(1));
    bed.send(MachineInput::Pause);
    bed.until_command();
    bed.send(MachineInput::Frozen { command: 1, result: Ok(Standstill::default()) });
    bed.refused(clean(), "rewind --resume");
    bed.decide(rewind("-1"), &[]);
    assert_eq!(bed.at(), "before install:1");
    assert!(bed.events.iter().any(|event| matches!(
        event,
        EventBody::CommandEnded { command: 1, outcome: CommandOutcome::Cut, .. }
    )));
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
}

#[test]
fn where_there_is_none_it_says_why() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.refused(rewind("-1"), "no checkpoints");
    bed.refused(rewind("-1"), "--break-on");
    let mut bed = Bed::to_keep(LIST, &["failure"]);
    bed.unkept = Some(Unkept::Never("docker has none".to_owned()));
    bed.drive(&["b"]);
    bed.refused(rewind("-1"), "no checkpoints: docker has none");
    assert!(!bed.stop().decisions.contains(&DecisionKind::Rewind));
    assert_eq!(bed.kept(), [(1, CheckpointKind::None)], "it is reported once");
    let mut bed = Bed::to_keep(LIST, &["before:build:2", "failure"]);
    bed.drive(&[]);
    bed.unkept = Some(Unkept::Now { why: "too large".to_owned(), ms: 1 });
    bed.decide(Decision::Resume, &["c"]);
    bed.refused(rewind("-1"), "no checkpoint before run 4: too large");
    bed.refused(rewind("3"), "--without-edits");
    bed.unkept = None;
    bed.decide(Decision::Rewind(Rewind { nearest: true, ..to("-1") }), &[]);
    assert_eq!(bed.at(), "before build:2");
    assert_eq!(bed.lost(), [(3, vec![3, 4])]);
    // A place can run again with the current files, regardless of checkpoints.
    bed.decide(rerun("build:1"), &[]);
    assert_eq!(bed.at(), "before build:2");
    let run = RunRef::Number(5);
    assert_eq!(
        bed.machine.refusal(&Decision::Rewind(Rewind { to: Some(run), ..Rewind::default() })),
        None
    );
}
