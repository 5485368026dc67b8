//! Where a build stops, and the facts it knows there.

use super::{
    Bed, CommandOutcome, EventBody, FOUR, LIMITS, MachineEffect, MachineInput, PlannedStops,
    RunFacts, Standstill, Status, TimeLimits, facts,
};
use crate::debug::{Decision, DecisionClient, DecisionKind, Who};
use crate::env::EnvLayers;
use crate::event::{BreakpointId, ChangedVariable, Scene, StopFacts, StopKind};
use crate::plan::Checkpointing;
use std::time::Duration;

pub(super) fn who() -> Who {
    Who { uid: 1000, user: "ada".to_owned(), client: DecisionClient::Cli }
}

impl Bed {
    /// A build with breakpoints, run until it stops or ends.
    pub(super) fn stopping(source: &str, breakpoints: &[&str], failing: &[&str]) -> Self {
        Self::stopping_with(source, LIMITS, false, breakpoints, failing)
    }

    pub(super) fn stopping_with(
        source: &str,
        limits: TimeLimits,
        step: bool,
        breakpoints: &[&str],
        failing: &[&str],
    ) -> Self {
        let parse = |text: &&str| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let breakpoints = breakpoints.iter().map(parse).collect();
        let stops = PlannedStops { breakpoints, step, checkpoints: Checkpointing::Off };
        let mut bed = Bed::with_stops(source, limits, facts(), EnvLayers::default(), stops);
        bed.drive(failing);
        bed
    }

    /// Applies a decision and runs on until the build stops again or ends.
    pub(super) fn decide(&mut self, decision: Decision, failing: &[&str]) {
        assert_eq!(self.machine.refusal(&decision), None, "{decision:?}");
        self.send(MachineInput::Decide { decision, by: who() });
        self.go(failing);
    }

    pub(super) fn stop(&self) -> &StopFacts {
        let view = self.timeline.view().expect("a build");
        view.stop.as_ref().map(|(_, stop)| stop).expect("a stop")
    }

    /// The current stop, as `KIND PLACE`.
    pub(super) fn at(&self) -> String {
        let StopFacts { kind, place, .. } = self.stop();
        let place = place.map(|place| format!(" {place}")).unwrap_or_default();
        format!("{kind:?}{place}").to_lowercase()
    }

    pub(super) fn refused(&mut self, decision: Decision, why: &str) {
        let refusal = self.machine.refusal(&decision).unwrap_or_default();
        assert!(refusal.contains(why), "{decision:?}: {refusal:?}");
        // Without asking first, the decision has no effect either.
        let before = self.machine.clone();
        self.send(MachineInput::Decide { decision, by: who() });
        assert_eq!(self.machine, before);
    }

    pub(super) fn interventions(&self) -> Vec<DecisionKind> {
        let view = self.timeline.view().expect("a build");
        view.interventions.iter().map(|(_, done)| done.what).collect()
    }

    pub(super) fn skipped(&self) -> usize {
        self.timeline.view().expect("a build").skipped.len()
    }
}

pub(super) fn skip() -> Decision {
    Decision::Skip { to: None }
}

pub(super) fn retry() -> Decision {
    Decision::Retry { text: None }
}

pub(super) fn edit(text: &str) -> Decision {
    Decision::Retry { text: Some(text.to_owned()) }
}

pub(super) fn rerun(place: &str) -> Decision {
    Decision::Rerun { place: place.parse().expect(place) }
}

pub(super) fn skip_to(place: &str) -> Decision {
    Decision::Skip { to: Some(place.parse().expect(place)) }
}

pub(super) const LIST: &str = "version: 0.2\nphases:\n  install: {commands: [i]}\n  build: {commands: [a, b, c], \
                    finally: [f]}\n  post_build: {commands: [p]}\n";

#[test]
fn it_stops_where_a_breakpoint_says() {
    for (breakpoint, failing, at, ran) in [
        ("start", "", "entry install:1", &[][..]),
        ("before:build:2", "", "before build:2", &["i", "a"]),
        ("before:build:finally", "", "before build:finally:1", &["i", "a", "b", "c"]),
        ("command:/^b$/", "", "before build:2", &["i", "a"]),
        ("after:build:1", "", "before build:2", &["i", "a"]),
        ("after:build:finally:1", "", "after", &["i", "a", "b", "c", "f"]),
        ("after:install", "", "after", &["i"]),
        ("after:post_build", "", "after", &["i", "a", "b", "c", "f", "p"]),
        ("failure", "b", "failed build:2", &["i", "a", "b"]),
        ("any-failure", "f", "failed build:finally:1", &["i", "a", "b", "c", "f"]),
        ("failure if status == 3 && text == 'b'", "b", "failed build:2", &["i", "a", "b"]),
        (
            "command:/./ if phase == 'post_build'",
            "",
            "before post_build:1",
            &["i", "a", "b", "c", "f"],
        ),
        ("command:/./ hits 3", "", "before build:2", &["i", "a"]),
    ] {
        let bed = Bed::stopping(LIST, &[breakpoint], &[failing]);
        assert_eq!(bed.at(), at, "{breakpoint}");
        assert_eq!(bed.commands(), ran, "{breakpoint}");
        assert!(bed.machine.is_paused() && bed.finished.is_none());
        assert_eq!(bed.stop().breakpoints, [BreakpointId(1)]);
    }
    for breakpoint in ["failure if status == 4", "before:build:2 if failed", "command:/./ hits ==9"]
    {
        let bed = Bed::stopping(LIST, &[breakpoint], &["b"]);
        assert_eq!(bed.finished, Some(Status::Failed), "{breakpoint}");
        assert!(!bed.log.contains(&"paused".to_owned()), "{breakpoint}");
    }
}

#[test]
fn a_failure_that_is_retried_anyway_is_any_failure_only() {
    let source = LIST.replace("build: {", "build: {on-failure: RETRY-1, ");
    let bed = Bed::stopping(&source, &["failure"], &["b"]);
    assert_eq!(bed.commands(), ["i", "a", "b", "a", "b"]);
    let mut bed = Bed::stopping(&source, &["any-failure"], &["b"]);
    assert_eq!(bed.commands(), ["i", "a", "b"]);
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.commands(), ["i", "a", "b", "a", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
}

#[test]
fn it_goes_step_by_step() {
    let mut bed = Bed::stopping_with(FOUR, LIMITS, true, &[], &[]);
    let mut seen = vec![bed.at()];
    while bed.finished.is_none() {
        bed.decide(Decision::Step, &[]);
        seen.extend(bed.finished.is_none().then(|| bed.at()));
    }
    assert_eq!(
        seen,
        [
            "entry install:1",
            "step pre_build:1",
            "step build:1",
            "step build:finally:1",
            "step build:finally:2",
            "step post_build:1"
        ]
    );
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(bed.interventions(), [], "to go on is no intervention");
}

#[test]
fn the_builds_time_stands_still_at_a_stop() {
    let limits = TimeLimits { break_timeout: None, ..LIMITS };
    let mut bed = Bed::stopping_with(LIST, limits, false, &["before:build:2"], &[]);
    assert_eq!((bed.machine.deadline(), bed.machine.times_out()), (None, None));
    bed.now += Duration::from_secs(1000);
    bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
    assert_eq!(bed.machine.times_out(), Some(bed.now + Duration::from_secs(60)));
}

#[test]
fn commands_that_install_runtimes_stop_at_their_failure() {
    let source = LIST.replace("install: {", "install: {runtime-versions: {nodejs: 20}, ");
    let stopped = || {
        let parse = |text: &str| text.parse().expect(text);
        let stops = PlannedStops {
            breakpoints: vec![parse("failure")],
            step: false,
            checkpoints: Checkpointing::Off,
        };
        let mut bed = Bed::with_stops(&source, LIMITS, facts(), EnvLayers::default(), stops);
        bed.world.container.has_image = true;
        let catalog = "runtimes: {nodejs: {versions: {20: {commands: [n, m]}}}}";
        bed.world.catalog = Some(catalog.to_owned());
        bed.drive(&["n"]);
        assert_eq!(bed.at(), "failed");
        bed
    };
    let mut bed = stopped();
    bed.refused(rerun("install"), "before the first phase");
    bed.decide(edit("n2"), &[]);
    assert_eq!(bed.commands()[..4], ["n", "n2", "m", "i"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let mut bed = stopped();
    bed.decide(skip(), &[]);
    assert_eq!(bed.commands()[..3], ["n", "m", "i"]);
    assert_eq!(bed.finished, Some(Status::Failed));
    assert!(bed.log.contains(&"DOWNLOAD_SOURCE FAILED COMMAND_EXECUTION_ERROR".to_owned()));
    for decision in [Decision::Resume, Decision::Abort] {
        let mut bed = stopped();
        bed.decide(decision, &[]);
        assert_eq!(bed.commands(), ["n"]);
        assert_eq!(bed.finished, Some(Status::Failed));
    }
}

#[test]
fn a_change_of_a_variable_stops_behind_the_run() {
    let mut bed = Bed::stopping(LIST, &["change:A", "before:build:3 if $A == 2"], &["never"]);
    // No variables were reported, so none has changed.
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert!(bed.machine.wants().variables && !bed.machine.wants().output);

    bed = Bed::stopping(LIST, &["start", "change:A"], &[]);
    bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
    for value in ["1", "1", "2"] {
        let Some(command) = bed.until_command() else { panic!("{value}: {}", bed.at()) };
        let variables = [(b"A".to_vec(), value.as_bytes().to_vec())];
        let facts = RunFacts { variables: Some(variables.into()), ..RunFacts::default() };
        bed.send(MachineInput::CommandEnded {
            command,
            outcome: CommandOutcome::Exited(0),
            cause: None,
            facts,
        });
        if value == "1" && bed.commands().len() == 1 {
            assert_eq!(bed.at(), "after", "it was not set before, and the phase has no other");
            bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
        }
    }
    assert_eq!(bed.until_command(), None);
    assert_eq!((bed.at(), bed.commands()), ("before build:3".to_owned(), vec!["i", "a", "b"]));
}

#[test]
fn a_logpoint_writes_and_does_not_stop() {
    let bed =
        Bed::stopping(LIST, &["command:/./ if phase == 'build' log \"{place} {{x}} {run}\""], &[]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let logged: Vec<&str> = bed
        .events
        .iter()
        .filter_map(|event| match event {
            EventBody::Logged { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        logged,
        ["build:1 {x} 2", "build:2 {x} 3", "build:3 {x} 4", "build:finally:1 {x} 5"]
    );
}

#[test]
fn breakpoints_come_and_go_while_it_runs() {
    let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
    let set = |owner: &str, texts: &[&str]| MachineInput::SetBreakpoints {
        owner: owner.to_owned(),
        breakpoints: texts.iter().map(|text| text.parse().expect(text)).collect(),
    };
    bed.send(set("dap:1", &["after:build", "before:build:3"]));
    bed.send(set("cli", &["before:build:2", "start"]));
    let all: Vec<_> = bed
        .machine
        .breakpoints()
        .map(|(id, owner, what)| format!("{} {owner} {what}", id.0))
        .collect();
    assert_eq!(
        all,
        ["1 cli before:build:2", "2 dap:1 after:build", "3 dap:1 before:build:3", "4 cli start"]
    );
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.at(), "before build:3");
    bed.send(set("dap:1", &[]));
    bed.decide(Decision::Resume, &[]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let told = bed.events.iter().filter(|event| matches!(event, EventBody::Breakpoint(_)));
    assert_eq!(told.count(), 6);
}

#[test]
fn a_run_stands_still_in_its_middle() {
    let running = |breakpoints: &[&str]| {
        let mut all = vec!["start"];
        all.extend(breakpoints);
        let mut bed = Bed::stopping(LIST, &all, &[]);
        bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
        (bed.until_command().expect("a command"), bed)
    };
    let (command, mut bed) = running(&[]);
    bed.send(MachineInput::Pause);
    assert_eq!(bed.pending, [MachineEffect::Freeze { command }]);
    bed.send(MachineInput::Frozen { command, result: Ok(Standstill::default()) });
    bed.until_command();
    assert_eq!((bed.stop().kind, bed.at().as_str()), (StopKind::Pause, "pause install:1"));
    bed.refused(rerun("install"), "in the middle of a command");
    bed.refused(skip_to("build"), "leaves out no other");
    bed.decide(Decision::Step, &[]);
    assert_eq!(bed.log.last().map(String::as_str), Some("thaw"));
    let ended = |command| {
        let (outcome, cause) = (CommandOutcome::Exited(0), None);
        MachineInput::CommandEnded { command, outcome, cause, facts: RunFacts::default() }
    };
    bed.send(ended(command));
    bed.until_command();
    assert_eq!(bed.at(), "step build:1");

    // The run ended before it froze, or while it was frozen.
    let (command, mut bed) = running(&[]);
    bed.send(ended(command));
    bed.pending.clear();
    bed.send(MachineInput::Frozen { command, result: Ok(Standstill::default()) });
    assert_eq!(bed.pending, [MachineEffect::Thaw]);
    let (command, mut bed) = running(&[]);
    bed.send(MachineInput::Frozen { command, result: Ok(Standstill::default()) });
    bed.send(ended(command));
    assert!(!bed.machine.is_paused() && bed.pending[0] == MachineEffect::Thaw);
    // The build then stops after the run instead.
    for stood_still in [false, true] {
        let frozen = |command| MachineInput::Frozen { command, result: Ok(Standstill::default()) };
        let (command, mut bed) = running(&[]);
        bed.send(MachineInput::Pause);
        stood_still.then(|| bed.send(frozen(command)));
        bed.send(ended(command));
        bed.until_command();
        assert_eq!(bed.at(), "step build:1");
        let (command, mut bed) = running(&["output:/x/"]);
        let breakpoint = BreakpointId(2);
        bed.send(MachineInput::Watched { command, breakpoint, output: Some("x".into()) });
        stood_still.then(|| bed.send(frozen(command)));
        bed.send(ended(command));
        bed.until_command();
        assert_eq!((bed.at().as_str(), &bed.stop().breakpoints[..]), ("after", &[breakpoint][..]));
    }

    // A failure to freeze is reported.
    let (command, mut bed) = running(&[]);
    bed.send(MachineInput::Frozen { command, result: Err("no freezer".to_owned()) });
    assert!(!bed.machine.is_paused());
    assert_eq!(bed.notices[0].text, "the command cannot be paused: no freezer");

    // Stopping the build thaws it first.
    let (command, mut bed) = running(&[]);
    bed.send(MachineInput::Frozen { command, result: Ok(Standstill::default()) });
    bed.decide(Decision::Abort, &[]);
    assert_eq!(bed.log[bed.log.len() - 2..], ["thaw", "SIGTERM"]);

    // `longer` breakpoints, and breakpoints that others watch.
    let (command, mut bed) = running(&["longer:30s", "output:/x/ if output =~ /xy/"]);
    let watched = bed.machine.wants().watched;
    assert_eq!((watched.len(), watched[0].0), (1, BreakpointId(3)));
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(30)));
    bed.now += Duration::from_secs(30);
    bed.send(MachineInput::Tick);
    assert_eq!(bed.pending, [MachineEffect::Freeze { command }]);
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(30)), "once a run");
    bed.pending.clear();
    bed.send(MachineInput::Frozen { command, result: Err("no freezer".to_owned()) });
    for (output, asked) in [("x", 0), ("xy", 1)] {
        let output = Some(output.into());
        bed.send(MachineInput::Watched { command, breakpoint: BreakpointId(3), output });
        assert_eq!(bed.pending.len(), asked);
    }
}

#[test]
fn a_run_that_stands_still_is_ended() {
    let cut = |decision: Decision, outcome: CommandOutcome| {
        let mut bed = Bed::stopping(LIST, &["before:build:2"], &[]);
        bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
        let command = bed.until_command().expect("a command");
        bed.send(MachineInput::Pause);
        bed.pending.clear();
        bed.send(MachineInput::Frozen { command, result: Ok(Standstill::default()) });
        assert_eq!(bed.at(), "pause build:2");
        bed.send(MachineInput::Decide { decision, by: who() });
        assert_eq!(bed.pending.pop_front(), Some(MachineEffect::Cut { command }));
        assert!(!bed.machine.is_paused() && !bed.machine.is_frozen());
        let facts = RunFacts::default();
        bed.send(MachineInput::CommandEnded { command, outcome, cause: None, facts });
        bed.go(&[]);
        bed
    };
    let killed = || CommandOutcome::Signaled(9);
    // Its failure stands, as at a failed command.
    let bed = cut(skip(), killed());
    assert_eq!(bed.commands(), ["i", "a", "b", "c", "f", "p"]);
    assert_eq!(bed.finished, Some(Status::Failed));
    // Run again, it counts as its new run ends.
    for (decision, text) in [(retry(), "b"), (edit("B"), "B")] {
        let bed = cut(decision, killed());
        assert_eq!(bed.commands(), ["i", "a", "b", text, "c", "f", "p"]);
        assert_eq!(bed.finished, Some(Status::Succeeded));
        assert!(bed.runs[3].again, "with the variables it has begun with");
    }
    // It had succeeded before it could be killed.
    let bed = cut(skip(), CommandOutcome::Exited(0));
    assert_eq!(bed.finished, Some(Status::Succeeded));
    let bed = cut(retry(), CommandOutcome::Exited(0));
    assert_eq!(bed.commands(), ["i", "a", "b", "c", "f", "p"]);
}

#[test]
fn what_is_wanted_changes_in_a_run() {
    let mut bed = Bed::stopping(LIST, &["start"], &[]);
    bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
    let command = bed.until_command().expect("a command");
    let breakpoints = vec!["idle:5s".parse().expect("one")];
    bed.send(MachineInput::SetBreakpoints { owner: "dap:1".to_owned(), breakpoints });
    let Some(MachineEffect::Watch(wants)) = bed.pending.pop_front() else { panic!("not told") };
    assert_eq!((wants.watched.len(), wants.scene), (1, true));
    // Several hits during one freeze count once, and no second freeze is requested.
    for _ in 0..2 {
        bed.send(MachineInput::Watched { command, breakpoint: wants.watched[0].0, output: None });
    }
    assert_eq!(bed.pending, [MachineEffect::Freeze { command }]);
}

#[test]
fn where_it_pauses_and_why_no_more() {
    let mut bed = Bed::stopping(LIST, &["start"], &[]);
    let why = |bed: &Bed| bed.machine.pause_refusal().unwrap_or_default();
    assert!(why(&bed).contains("stopped already"));
    bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
    let command = bed.until_command().expect("a command");
    assert_eq!(why(&bed), "");
    bed.send(MachineInput::Frozen { command, result: Ok(Standstill::default()) });
    assert!(why(&bed).contains("stands still already"));
    assert!(
        Bed::run(LIST, &[])
            .machine
            .pause_refusal()
            .expect("over")
            .contains("no command is running")
    );
}

#[test]
fn what_a_stop_shows() {
    let mut bed = Bed::stopping(LIST, &["failure"], &["-"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    bed = Bed::stopping(LIST, &["start", "failure", "before:build:2"], &[]);
    bed.send(MachineInput::Decide { decision: Decision::Resume, by: who() });
    let command = bed.until_command().expect("a command");
    let scene = Scene {
        failure: Some("exit status 3".to_owned()),
        output: "line".to_owned(),
        changed: vec![ChangedVariable { name: "A".to_owned(), before: None, now: None }],
        more_changed: 1,
    };
    let facts = RunFacts { scene: scene.clone(), ..RunFacts::default() };
    let outcome = CommandOutcome::Exited(3);
    bed.send(MachineInput::CommandEnded { command, outcome, cause: None, facts });
    bed.until_command();
    assert_eq!((bed.at().as_str(), &bed.stop().scene), ("failed install:1", &scene));
    assert_eq!(bed.stop().line, Some(3));
}

#[test]
fn without_breakpoints_nothing_is_wanted() {
    let bed = Bed::run(FOUR, &["b"]);
    assert_eq!(bed.machine.wants(), super::super::Wants::default());
}
