//! The table of decisions. Each row also checks the status after a successful end.

use super::stops::{LIST, edit, rerun, retry, skip, skip_to, who};
use super::{Bed, EventBody, LIMITS, MachineInput, Phase, Status, TimeLimits};
use crate::debug::{Decision, DecisionKind};
use crate::event::Block;
use crate::plan::BreakAction;
use crate::record::record;
use std::time::Duration;

/// any: `resume`
#[test]
fn resumed_it_goes_on_as_without_the_stop() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Failed));
    assert_eq!(bed.interventions(), []);
    // A key or `codebuild-resume` does the same.
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    bed.send(MachineInput::Resume);
    bed.go(&[]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
}

/// failed, after a run: `retry`
#[test]
fn a_retry_that_ends_well_clears_the_failure() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(retry(), &["b"]);
    assert_eq!(bed.at(), "failed build:2", "it stops again");
    bed.decide(retry(), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "b", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [DecisionKind::Retry, DecisionKind::Retry]);
    // The retry has the variables and directory of the first run, and sees no failure.
    let again: Vec<_> = bed.runs.iter().map(|run| (run.again, run.succeeding)).collect();
    assert_eq!(again[1..5], [(false, true), (false, true), (true, true), (true, true)]);
    let record = record(bed.timeline.view().expect("a build"));
    assert_eq!(record.interventions.len(), 2);
    let (first, phase) = (&record.interventions[0], &record.phases[6]);
    assert_eq!((first.user.as_str(), first.run), ("ada", 3));
    assert_eq!((phase.phase_type, phase.phase_status), (Phase::Build, Some(Status::Succeeded)));
    assert_eq!(phase.contexts[0].message, "");
    let json = serde_json::to_value(&record).expect("serialises");
    assert_eq!(json["interventions"][0]["client"], "cli");
    let plain = crate::record::record(Bed::run(LIST, &[]).timeline.view().expect("a build"));
    let json = serde_json::to_value(plain).expect("serialises");
    assert!(json.get("interventions").is_none());
}

/// failed, after a run: `retry`, which does not count against RETRY-n
#[test]
fn a_retry_by_hand_is_no_retry_of_on_failure() {
    let source = LIST.replace("build: {", "build: {on-failure: RETRY-1, ");
    let mut bed = Bed::stopping(&source, &["any-failure"], &["b"]);
    bed.decide(retry(), &["b"]);
    bed.decide(retry(), &["b"]);
    bed.decide(Decision::Resume, &["b"]);
    assert_eq!(bed.commands(), ["i", "a", "b", "b", "b", "a", "b"]);
    bed.decide(Decision::Resume, &["b"]);
    assert_eq!(bed.finished, Some(Status::Failed), "the one retry is used up");
}

/// failed and before: `retry --edit`
#[test]
fn an_edited_text_runs_in_place_of_the_written_one() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(edit("b2"), &["b2"]);
    let failure = bed.machine.clone();
    bed.decide(retry(), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "b2", "b2", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [DecisionKind::Edit, DecisionKind::Retry]);
    // The reported failure is that of the text that ran.
    (bed.machine, bed.finished) = (failure, None);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
    let reason = bed.timeline.view().and_then(|view| view.reason.clone());
    assert_eq!(reason.as_deref(), Some("Error while executing command: b2. Reason: exit status 3"));

    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    bed.decide(edit("b2"), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b2", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
}

/// before: `skip [--to PLACE]`
#[test]
fn a_command_that_is_skipped_before_it_runs_leaves_the_status_as_it_is() {
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    bed.decide(skip(), &[]);
    assert_eq!(bed.commands(), ["i", "a", "c", "f", "p"]);
    assert_eq!((bed.finished, bed.skipped()), (Some(Status::Succeeded), 1));
    assert_eq!(bed.interventions(), [DecisionKind::Skip]);
    for (to, ran, skipped) in [
        ("build:3", &["i", "a", "c", "f", "p"][..], 1),
        ("build:finally", &["i", "a", "f", "p"], 2),
        ("post_build", &["i", "a", "p"], 3),
    ] {
        let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
        bed.decide(skip_to(to), &[]);
        assert_eq!(bed.commands(), ran, "{to}");
        assert_eq!((bed.finished, bed.skipped()), (Some(Status::Succeeded), skipped), "{to}");
    }
    // A breakpoint on the way still stops the build.
    let mut bed = Bed::stopping(LIST, &["before:build:2", "before:build:finally"], &[]);
    bed.decide(skip_to("build:finally"), &[]);
    assert_eq!(bed.at(), "before build:finally:1");
}

/// failed: `skip`
#[test]
fn a_failure_that_is_skipped_stands() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(skip(), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Failed));
    let succeeding: Vec<bool> = bed.ran.iter().map(|(_, succeeding, _)| *succeeding).collect();
    assert_eq!(succeeding, [true, true, true, false, false, false]);
    assert!(bed.log.contains(&"BUILD FAILED COMMAND_EXECUTION_ERROR".to_owned()));
    assert_eq!(bed.skipped(), 0, "it has run");
}

/// failed: `skip`, also after the place was reached again
#[test]
fn a_place_that_has_failed_and_whose_last_word_is_a_skip_is_failed() {
    let mut bed = Bed::stopping(LIST, &["failure", "before:build:2"], &["b"]);
    bed.decide(Decision::Resume, &["b"]);
    assert_eq!(bed.at(), "failed build:2");
    bed.decide(rerun("build:1"), &[]);
    assert_eq!(bed.at(), "before build:2");
    bed.decide(skip(), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "a", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Failed));
    // The same after a successful run in between.
    let mut bed = Bed::stopping(LIST, &["failure", "before:build:2"], &[]);
    bed.decide(Decision::Resume, &["b"]);
    assert_eq!(bed.at(), "failed build:2");
    bed.decide(edit("x"), &["c"]);
    assert_eq!(bed.at(), "failed build:3");
    bed.decide(rerun("build:1"), &[]);
    assert_eq!(bed.at(), "before build:2");
    bed.decide(skip(), &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
}

/// A rerun cancels an earlier skip.
#[test]
fn a_rerun_leaves_nothing_out() {
    let mut bed = Bed::stopping(LIST, &["before:build:1", "after:build"], &[]);
    bed.decide(skip_to("post_build:1"), &[]);
    assert_eq!(bed.at(), "after");
    bed.decide(rerun("build:1"), &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "c", "f", "p"]);
    assert_eq!((bed.finished, bed.skipped()), (Some(Status::Succeeded), 0));
}

/// before, after, failed: `rerun PLACE`
#[test]
fn a_rerun_goes_on_from_there_and_the_runs_that_count_decide() {
    // At a failure, in the same phase.
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(rerun("build:1"), &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "a", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [DecisionKind::Rerun]);

    // After a phase, back to an earlier one: that phase and the later ones start again.
    let mut bed = Bed::stopping(LIST, &["after:post_build"], &["b"]);
    assert_eq!(bed.commands(), ["i", "a", "b", "f", "p"]);
    bed.decide(rerun("build:2"), &[]);
    assert_eq!(bed.at(), "after");
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "f", "p", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let record = record(bed.timeline.view().expect("a build"));
    let phases: Vec<_> = record.phases.iter().map(|phase| phase.phase_type).collect();
    assert!(phases.is_sorted() && phases.len() == 11, "{phases:?}");
    assert!(record.phases[..10].iter().all(|phase| phase.phase_status == Some(Status::Succeeded)));

    // A failure in an earlier phase stays.
    let source = LIST.replace("install: {", "install: {on-failure: CONTINUE, ");
    let mut bed = Bed::stopping(&source, &["after:build"], &["i"]);
    bed.decide(rerun("build"), &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
    let reason = bed.timeline.view().and_then(|view| view.reason.clone()).unwrap_or_default();
    assert!(reason.contains("command: i."), "{reason}");

    // So does a failure before the place.
    let mut bed = Bed::stopping(LIST, &["failure", "before:build:3"], &["b"]);
    bed.decide(skip(), &[]);
    bed.decide(rerun("build:3"), &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
}

/// any: `abort`
#[test]
fn an_abort_is_a_failure_at_a_failure_and_a_stop_elsewhere() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(Decision::Abort, &[]);
    assert_eq!(bed.commands(), ["i", "a", "b"], "no finally");
    assert_eq!(bed.finished, Some(Status::Failed));
    assert_eq!(
        bed.phases(),
        [
            "INSTALL SUCCEEDED",
            "PRE_BUILD SUCCEEDED",
            "paused",
            "resumed",
            "BUILD FAILED",
            "FINALIZING SUCCEEDED"
        ]
    );
    for breakpoint in ["start", "before:build:2", "after:build"] {
        let mut bed = Bed::stopping(LIST, &[breakpoint], &[]);
        bed.decide(Decision::Abort, &[]);
        bed.send(MachineInput::ProcessesGone);
        bed.go(&[]);
        assert_eq!(bed.finished, Some(Status::Stopped), "{breakpoint}");
        assert_eq!(bed.interventions(), [DecisionKind::Abort]);
    }
}

#[test]
fn what_is_evaluated_can_be_ended() {
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    let text = Decision::Eval { text: "sleep 99".to_owned() };
    bed.send(MachineInput::Decide { decision: text, by: who() });
    let command = bed.machine.last_run();
    assert_eq!(bed.machine.evaluates(), Some(command));
    bed.pending.clear();
    bed.send(MachineInput::EndEvaluated { command: command + 1 });
    assert!(bed.pending.is_empty());
    bed.send(MachineInput::EndEvaluated { command });
    assert_eq!(bed.pending.pop_front(), Some(crate::machine::MachineEffect::Cut { command }));
}

/// any: `eval`, `set`
#[test]
fn what_is_evaluated_and_set_never_fails_the_phase() {
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    let eval = || Decision::Eval { text: "export A=1".to_owned() };
    bed.decide(eval(), &["export A=1"]);
    assert_eq!(bed.at(), "before build:2", "it is still there");
    bed.decide(Decision::Set { name: "B".to_owned(), value: Some("2".to_owned()) }, &[]);
    bed.decide(Decision::Set { name: "C".to_owned(), value: None }, &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.commands(), ["i", "a", "export A=1", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [DecisionKind::Eval, DecisionKind::Set, DecisionKind::Set]);
    let run = &bed.runs[3];
    assert_eq!(run.variables, [("B".to_owned(), "2".to_owned())]);
    assert_eq!((run.unset.as_slice(), run.last_exit), (&["C".to_owned()][..], 0));
    assert!(bed.runs[4].variables.is_empty());
    let block = bed.events.iter().find_map(|event| match event {
        EventBody::CommandStarted { block, text, .. } if text == "export A=1" => Some(*block),
        _ => None,
    });
    assert_eq!(block, Some(Block::Eval));
    // The value of a set variable stays out of the log.
    assert!(!bed.events.iter().any(|event| match event {
        EventBody::Intervened(done) => done.text.as_deref() == Some("2"),
        _ => false,
    }));

    // At a failure, the failure stays, and a retry keeps the evaluated changes.
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(eval(), &[]);
    assert_eq!(bed.at(), "failed build:2");
    bed.decide(retry(), &[]);
    assert!(!bed.runs[4].again);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.decide(eval(), &[]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Failed));
}

/// An evaluated text counts against the build's time limit.
#[test]
fn what_is_evaluated_takes_the_builds_time() {
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(10)));
    let decision = Decision::Eval { text: "sleep 99".to_owned() };
    bed.send(MachineInput::Decide { decision: decision.clone(), by: who() });
    bed.refused(decision, "an `eval` runs");
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(60)));
    bed.now += Duration::from_secs(60);
    bed.send(MachineInput::Tick);
    bed.send(MachineInput::ProcessesGone);
    bed.until_command();
    bed.go(&[]);
    assert_eq!(bed.finished, Some(Status::TimedOut));
}

/// nobody connects
#[test]
fn a_stop_that_nobody_comes_to_ends_by_itself() {
    for (breakpoint, failing, action, status) in [
        ("failure", "b", BreakAction::Resume, Status::Failed),
        ("failure", "b", BreakAction::Stop, Status::Stopped),
        ("before:build:2", "", BreakAction::Resume, Status::Succeeded),
        ("before:build:2", "", BreakAction::Stop, Status::Stopped),
    ] {
        let limits = TimeLimits { break_action: action, ..LIMITS };
        let mut bed = Bed::stopping_with(LIST, limits, false, &[breakpoint], &[failing]);
        bed.now += Duration::from_secs(10);
        bed.send(MachineInput::Tick);
        bed.go(&[]);
        if status == Status::Stopped {
            bed.send(MachineInput::ProcessesGone);
            bed.go(&[]);
        }
        assert_eq!(bed.finished, Some(status), "{breakpoint} {action:?}");
        assert_eq!(bed.interventions(), []);
    }
}

#[test]
fn what_does_not_apply_is_refused_in_one_sentence() {
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    bed.refused(retry(), "has not run yet");
    bed.refused(skip_to("build:2"), "does not come after build:2");
    bed.refused(skip_to("build:9"), "build has 3 commands");
    bed.refused(skip_to("pre_build:1"), "pre_build has no commands");
    bed.refused(rerun("build:3"), "has not been come to yet");
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.refused(skip_to("build:3"), "leaves the failed command behind");
    bed.refused(edit(" \n"), "an empty text runs nothing");
    let mut bed = Bed::stopping(LIST, &["after:build"], &[]);
    for decision in [retry(), edit("x"), skip()] {
        bed.refused(decision, "after a phase");
    }
    bed.refused(rerun("post_build:1"), "has not been come to yet");
    bed.decide(Decision::Resume, &[]);
    bed.refused(Decision::Resume, "is not stopped");
    // Our own fault is not a command's failure.
    let mut bed = Bed::stopping(LIST, &["failure"], &["b"]);
    bed.send(MachineInput::Fault(crate::phase::PhaseContext::default()));
    bed.refused(retry(), "is not stopped");
    let bed = Bed::stopping(LIST, &["failure"], &["b"]);
    let list = [
        DecisionKind::Resume,
        DecisionKind::Step,
        DecisionKind::Retry,
        DecisionKind::Edit,
        DecisionKind::Skip,
        DecisionKind::Rerun,
        DecisionKind::Abort,
        DecisionKind::Eval,
        DecisionKind::Set,
    ];
    assert_eq!(bed.stop().decisions, list);
}
