//! Tests of the machine: inputs in, log and status out, without any process.

mod decisions;
mod ends;
mod law;
mod prepare;
mod rewinds;
mod stops;

use super::{
    BuildMachine, BuildSetupError, CallId, CheckpointId, CommandRun, ContainerFacts, Fetched,
    FoundCache, Gone, Impasse, MachineEffect, MachineInput, RunFacts, SourcePreparation,
    Standstill, TakenCheckpoint, Unkept,
};
use crate::env::{EnvLayers, Variables};
use crate::event::{
    BuildFacts, CheckpointKind, CommandOutcome, Event, EventBody, Notice, PauseId, PauseKind,
    ResumedBy, Stuck,
};
use crate::installed::InstalledVersions;
use crate::phase::{Phase, PhaseContext, Status, StatusCode};
use crate::plan::{
    self, BreakAction, BuildPlan, ContainerPaths, PlannedStops, Rejection, TimeLimits,
};
use crate::skip::Skips;
use crate::spec;
use crate::time::{Timestamp, WallTime};
use crate::timeline::Timeline;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Drives a machine through a whole build. Every effect is answered at once, and commands end as
/// `failing` says.
struct Bed {
    machine: BuildMachine,
    now: Duration,
    pending: VecDeque<MachineEffect>,
    log: Vec<String>,
    ran: Vec<(String, bool, i32)>,
    /// The answers to steps of DOWNLOAD_SOURCE.
    world: World,
    /// The requested steps, in order.
    asked: Vec<SourcePreparation>,
    notices: Vec<Notice>,
    /// Log lines of CodeBuild's agent.
    lines: Vec<String>,
    finished: Option<Status>,
    /// Whether everything of the build was removed.
    is_clear: bool,
    /// All events in the log, and the state folded from them.
    events: Vec<EventBody>,
    timeline: Timeline,
    runs: Vec<CommandRun>,
    /// Whether kills and the finalization stay unanswered.
    is_mute: bool,
    /// Checkpoints that were taken, and those that were rewound to.
    saved: Vec<(CheckpointId, bool)>,
    rewound: Vec<CheckpointId>,
    /// Why no checkpoint is taken.
    unkept: Option<Unkept>,
}

/// A taken checkpoint.
fn kept() -> TakenCheckpoint {
    let kind = CheckpointKind::Copied;
    TakenCheckpoint { kind, why: None, entries: 1, bytes: 2, ms: 3, is_new: true }
}

/// The answers to steps of DOWNLOAD_SOURCE.
struct World {
    container: ContainerFacts,
    values: Result<Fetched, BuildSetupError>,
    entrypoint: Result<Variables, BuildSetupError>,
    cache: Option<FoundCache>,
    rehoused: Result<ContainerFacts, PhaseContext>,
    catalog: Option<String>,
    runtimes: InstalledVersions,
}

impl Default for World {
    fn default() -> Self {
        World {
            container: ContainerFacts::default(),
            values: Ok(Fetched::default()),
            entrypoint: Ok(Variables::new()),
            cache: None,
            rehoused: Ok(ContainerFacts::default()),
            catalog: None,
            runtimes: InstalledVersions::new(),
        }
    }
}

fn facts() -> BuildFacts {
    BuildFacts {
        project: "demo".to_owned(),
        uuid: "u".to_owned(),
        number: 1,
        arn: String::new(),
        initiator: String::new(),
        image: String::new(),
        engine: "auto".to_owned(),
        resolved_image: None,
        buildspec: String::new(),
        buildspec_file: None,
        source_in_build: None,
        source: String::new(),
        resolved_source_version: None,
        secondary_sources: Vec::new(),
        cache: None,
        logs: Default::default(),
        session_enabled: true,
        privileged: false,
        batch: None,
        stubs: Vec::new(),
        timeout_s: 60,
        runner_version: String::new(),
    }
}

const LIMITS: TimeLimits = TimeLimits {
    timeout: Duration::from_secs(60),
    timeout_while_paused: false,
    break_timeout: Some(Duration::from_secs(10)),
    break_action: BreakAction::Resume,
};

impl Bed {
    fn new(source: &str) -> Self {
        Self::with_limits(source, LIMITS)
    }

    fn with_limits(source: &str, limits: TimeLimits) -> Self {
        Self::with_facts(source, limits, facts())
    }

    fn with_facts(source: &str, limits: TimeLimits, facts: BuildFacts) -> Self {
        Self::with_layers(source, limits, facts, EnvLayers::default())
    }

    fn with_layers(source: &str, limits: TimeLimits, facts: BuildFacts, layers: EnvLayers) -> Self {
        Self::with_stops(source, limits, facts, layers, PlannedStops::default())
    }

    fn with_stops(
        source: &str,
        limits: TimeLimits,
        facts: BuildFacts,
        layers: EnvLayers,
        stops: PlannedStops,
    ) -> Self {
        let work =
            spec::parse(source).map(|(spec, _)| plan::work(spec, &Skips::default())).map_err(
                |_| Rejection { context: PhaseContext::new(StatusCode::YamlFileError, "bad") },
            );
        let places = ContainerPaths {
            root: "/codebuild".to_owned(),
            source: "/src".to_owned(),
            buildspec: "/src/b.yml".to_owned(),
        };
        let plan = BuildPlan { facts, places, layers, work, limits, stops };
        Bed {
            machine: BuildMachine::new(Arc::new(plan)),
            now: Duration::from_secs(1000),
            pending: VecDeque::new(),
            log: Vec::new(),
            ran: Vec::new(),
            world: World::default(),
            asked: Vec::new(),
            notices: Vec::new(),
            lines: Vec::new(),
            finished: None,
            is_clear: false,
            is_mute: false,
            events: Vec::new(),
            timeline: Timeline::default(),
            runs: Vec::new(),
            saved: Vec::new(),
            rewound: Vec::new(),
            unkept: None,
        }
    }

    fn send(&mut self, input: MachineInput) {
        let now = Timestamp { wall: WallTime(0), boot: self.now };
        let step = self.machine.apply(input, now);
        for event in step.events {
            self.events.push(event.clone());
            let (seq, time) = (self.events.len() as u64, WallTime(0));
            let body = event.clone();
            self.timeline.take(&Event { seq, time, build_id: String::new(), body });
            match event {
                EventBody::PhaseEnded { phase, status, contexts, .. } => {
                    let code = contexts.first().map_or("-", |c| c.status_code.name());
                    self.log.push(format!("{phase} {status} {code}"));
                }
                EventBody::Resumed { by, .. } => self.log.push(format!("resumed {by:?}")),
                EventBody::Paused { .. } => self.log.push("paused".to_owned()),
                EventBody::Notice(notice) => self.notices.push(notice),
                EventBody::Agent { text } => self.lines.push(text),
                _ => {}
            }
        }
        self.pending.extend(step.effects);
    }

    /// Performs effects until a command runs or nothing is left to do.
    fn until_command(&mut self) -> Option<u32> {
        while let Some(effect) = self.pending.pop_front() {
            match effect {
                MachineEffect::Provision => {
                    self.send(MachineInput::Provisioned(Ok(self.world.container.clone())));
                }
                MachineEffect::Prepare(preparation) => {
                    let answer = self.answer(&preparation);
                    self.asked.push(preparation);
                    self.send(answer);
                }
                MachineEffect::Run(run) => {
                    self.runs.push(run.clone());
                    self.ran.push((run.text, run.succeeding, run.last_exit));
                    return Some(run.command);
                }
                MachineEffect::Release { .. } => self.log.push("released".to_owned()),
                MachineEffect::Terminate => self.log.push("SIGTERM".to_owned()),
                MachineEffect::Kill => {
                    self.log.push("SIGKILL".to_owned());
                    if !self.is_mute {
                        self.send(MachineInput::ProcessesGone);
                    }
                }
                MachineEffect::Hurry => self.log.push("hurry".to_owned()),
                MachineEffect::Freeze { .. } => self.log.push("freeze".to_owned()),
                MachineEffect::Thaw => self.log.push("thaw".to_owned()),
                MachineEffect::Cut { .. } => self.log.push("cut".to_owned()),
                MachineEffect::Checkpoint { id, again, .. } => {
                    self.saved.push((id, again));
                    let result = self.unkept.clone().map_or_else(|| Ok(kept()), Err);
                    self.send(MachineInput::Checkpointed { id, result });
                }
                MachineEffect::Rewind { id } => {
                    self.rewound.push(id);
                    self.send(MachineInput::Rewound(Ok(Gone::default())));
                }
                MachineEffect::Watch(_) => {}
                MachineEffect::Upload { .. } => self.send(MachineInput::Uploaded(Ok(()))),
                MachineEffect::Finalize { .. } if self.is_mute => {}
                MachineEffect::Finalize { .. } => self.send(MachineInput::Finalized),
                MachineEffect::Finish { status, is_clear } => {
                    self.finished = Some(status);
                    self.is_clear = is_clear;
                }
            }
        }
        None
    }

    fn answer(&self, asked: &SourcePreparation) -> MachineInput {
        let world = &self.world;
        match asked {
            SourcePreparation::FetchValues(_) => MachineInput::ValuesFetched(world.values.clone()),
            SourcePreparation::RunEntrypoint { .. } => {
                MachineInput::EntrypointRan(world.entrypoint.clone())
            }
            SourcePreparation::OpenShell { .. } => MachineInput::ShellOpened(Ok(())),
            SourcePreparation::FindCache => MachineInput::CacheFound(world.cache),
            SourcePreparation::Rehouse => MachineInput::Rehoused(world.rehoused.clone()),
            SourcePreparation::RestoreCache => MachineInput::CacheRestored,
            SourcePreparation::ReadCatalog => MachineInput::CatalogRead(world.catalog.clone()),
            SourcePreparation::FindRuntimes { .. } => {
                MachineInput::RuntimesFound(world.runtimes.clone())
            }
        }
    }

    /// Runs a whole build. Commands whose text is in `failing` exit with 3.
    fn run(source: &str, failing: &[&str]) -> Self {
        let mut bed = Bed::new(source);
        bed.drive(failing);
        bed
    }

    fn drive(&mut self, failing: &[&str]) {
        self.send(MachineInput::Start);
        self.go(failing);
    }

    /// Answers commands until nothing is left to do.
    fn go(&mut self, failing: &[&str]) {
        while let Some(command) = self.until_command() {
            let text = self.ran.last().map_or("", |(text, ..)| text.as_str());
            let code = if failing.contains(&text) { 3 } else { 0 };
            self.send(MachineInput::CommandEnded {
                command,
                outcome: CommandOutcome::Exited(code),
                cause: None,
                facts: RunFacts::default(),
            });
        }
    }

    fn commands(&self) -> Vec<&str> {
        self.ran.iter().map(|(text, ..)| text.as_str()).collect()
    }

    /// The user phases and the phases after them, as `NAME STATUS`.
    fn phases(&self) -> Vec<String> {
        self.log
            .iter()
            .filter(|line| {
                !["SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE"]
                    .iter()
                    .any(|name| line.starts_with(name))
            })
            .map(|line| line.rsplit_once(' ').map_or(line.as_str(), |(head, _)| head).to_owned())
            .collect()
    }
}

const FOUR: &str = "version: 0.2\nphases:\n  install: {commands: [i]}\n  pre_build: {commands: [p]}\n  \
                    build: {commands: [b], finally: [f, g]}\n  post_build: {commands: [q]}\n";

#[test]
fn a_build_without_failures_goes_through_every_phase() {
    let bed = Bed::run(FOUR, &[]);
    assert_eq!(bed.commands(), ["i", "p", "b", "f", "g", "q"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));
    assert_eq!(
        bed.phases(),
        [
            "INSTALL SUCCEEDED",
            "PRE_BUILD SUCCEEDED",
            "BUILD SUCCEEDED",
            "POST_BUILD SUCCEEDED",
            "UPLOAD_ARTIFACTS SUCCEEDED",
            "FINALIZING SUCCEEDED"
        ]
    );
}

#[test]
fn what_follows_a_failure_depends_on_where_it_was() {
    for (failing, commands, last) in [
        ("i", &["i"][..], "INSTALL FAILED"),
        ("p", &["i", "p"], "PRE_BUILD FAILED"),
        ("b", &["i", "p", "b", "f", "g", "q"], "UPLOAD_ARTIFACTS SUCCEEDED"),
        // The rest of a finally block is skipped, and its failure is the phase's.
        ("f", &["i", "p", "b", "f", "q"], "UPLOAD_ARTIFACTS SUCCEEDED"),
        ("q", &["i", "p", "b", "f", "g", "q"], "UPLOAD_ARTIFACTS SUCCEEDED"),
    ] {
        let bed = Bed::run(FOUR, &[failing]);
        assert_eq!(bed.commands(), commands, "{failing}");
        assert_eq!(bed.finished, Some(Status::Failed), "{failing}");
        let phases = bed.phases();
        assert_eq!(phases[phases.len() - 2], last, "{failing}");
        assert_eq!(phases[phases.len() - 1], "FINALIZING SUCCEEDED", "{failing}");
    }
}

#[test]
fn later_commands_see_that_the_build_has_failed() {
    let bed = Bed::run(FOUR, &["b"]);
    let seen: Vec<_> = bed.ran.iter().map(|(t, ok, exit)| (t.as_str(), *ok, *exit)).collect();
    assert_eq!(seen[2..], [("b", true, 0), ("f", false, 3), ("g", false, 0), ("q", false, 0)]);
}

#[test]
fn on_failure_decides_otherwise() {
    let spec = |phase: &str, on_failure: &str| {
        FOUR.replace(
            &format!("  {phase}: {{"),
            &format!("  {phase}: {{on-failure: '{on_failure}', "),
        )
    };
    for (phase, on_failure, failing, commands) in [
        ("build", "ABORT", "b", &["i", "p", "b", "f", "g"][..]),
        ("install", "CONTINUE", "i", &["i", "p", "b", "f", "g", "q"]),
        ("build", "RETRY-2", "b", &["i", "p", "b", "b", "b", "f", "g", "q"]),
        ("build", "RETRY-1-status 3", "b", &["i", "p", "b", "b", "f", "g", "q"]),
        ("build", "RETRY-1-status 4", "b", &["i", "p", "b", "f", "g", "q"]),
        ("install", "RETRY-0", "i", &["i"]),
    ] {
        let bed = Bed::run(&spec(phase, on_failure), &[failing]);
        assert_eq!(bed.commands(), commands, "{phase} {on_failure}");
        assert_eq!(bed.finished, Some(Status::Failed), "{phase} {on_failure}");
    }
}

#[test]
fn a_rejected_buildspec_never_gets_a_container() {
    let mut bed = Bed::new("version: 0.2\nphases: [");
    bed.send(MachineInput::Start);
    assert_eq!(bed.pending, [MachineEffect::Finalize { status: Status::Failed }]);
    bed.until_command();
    assert_eq!(bed.log[3], "DOWNLOAD_SOURCE FAILED YAML_FILE_ERROR");
    assert_eq!(bed.finished, Some(Status::Failed));
}

#[test]
fn a_stop_asks_first_and_insists_later() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    bed.until_command();
    bed.send(MachineInput::Stop { at_once: false });
    bed.until_command();
    assert_eq!(bed.log.last().map(String::as_str), Some("SIGTERM"));
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(5)));
    // A second stop of the same kind changes nothing.
    bed.send(MachineInput::Stop { at_once: false });
    assert!(bed.pending.is_empty());
    bed.now += Duration::from_secs(5);
    bed.send(MachineInput::Tick);
    bed.until_command();
    assert_eq!(bed.log[bed.log.len() - 2..], ["SIGKILL", "INSTALL STOPPED -"]);
    assert_eq!(bed.finished, Some(Status::Stopped));
}

#[test]
fn time_at_a_breakpoint_does_not_count() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    let command = bed.until_command().expect("a command");
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(60)));
    bed.now += Duration::from_secs(50);
    bed.send(MachineInput::BreakpointHit { call: CallId(1), directory: "/".to_owned() });
    bed.send(MachineInput::SessionOpened { session: 1, program: "sh".to_owned() });
    assert_eq!(bed.machine.deadline(), None);
    bed.now += Duration::from_secs(5000);
    bed.send(MachineInput::Tick);
    bed.send(MachineInput::SessionClosed { session: 1, how: String::new() });
    // Nobody is connected now, so the timeout starts again.
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(10)));
    bed.send(MachineInput::Resume);
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(10)));
    bed.now += Duration::from_secs(11);
    bed.send(MachineInput::Tick);
    bed.send(MachineInput::CommandEnded {
        command,
        outcome: CommandOutcome::Exited(0),
        cause: None,
        facts: RunFacts::default(),
    });
    bed.until_command();
    assert_eq!(bed.log[bed.log.len() - 2..], ["released", "SIGTERM"]);
    bed.send(MachineInput::ProcessesGone);
    bed.until_command();
    assert!(bed.log.contains(&"INSTALL TIMED_OUT BUILD_TIMED_OUT".to_owned()), "{:?}", bed.log);
    assert_eq!(bed.finished, Some(Status::TimedOut));
}

#[test]
fn a_breakpoint_nobody_comes_to_ends_by_itself() {
    for (action, verdict) in [
        (BreakAction::Resume, ["resumed Timeout", "released"]),
        (BreakAction::Stop, ["resumed Ended", "SIGTERM"]),
    ] {
        let mut bed = Bed::with_limits(FOUR, TimeLimits { break_action: action, ..LIMITS });
        bed.send(MachineInput::Start);
        bed.until_command();
        bed.send(MachineInput::BreakpointHit { call: CallId(1), directory: "/".to_owned() });
        bed.now += Duration::from_secs(10);
        bed.send(MachineInput::Tick);
        bed.until_command();
        assert_eq!(bed.log[bed.log.len() - 2..], verdict);
    }
}

fn impasse() -> MachineInput {
    MachineInput::Stuck(Box::new(Impasse {
        directory: "/".to_owned(),
        stuck: Stuck { reason: "no shell".to_owned(), has_shell: false },
        hint: "none".to_owned(),
        fault: PhaseContext::new(StatusCode::Other("F".to_owned()), "no shell"),
    }))
}

#[test]
fn a_build_that_cannot_go_on_waits_where_somebody_may_look() {
    // Resumed by a person, or by the timeout.
    for input in [MachineInput::Resume, MachineInput::Tick] {
        let mut bed = Bed::new(FOUR);
        bed.send(MachineInput::Start);
        bed.until_command();
        bed.send(impasse());
        assert_eq!(bed.until_command(), None);
        assert_eq!(bed.log.last().map(String::as_str), Some("paused"));
        bed.now += Duration::from_secs(10);
        bed.send(input);
        bed.until_command();
        let told: Vec<&str> = bed.log.iter().map(String::as_str).collect();
        assert!(told.contains(&"INSTALL FAULT F"), "{told:?}");
        assert_eq!(bed.finished, Some(Status::Fault));
    }
}

#[test]
fn without_sessions_a_build_that_cannot_go_on_ends() {
    let facts = BuildFacts { session_enabled: false, ..facts() };
    let mut bed = Bed::with_facts(FOUR, LIMITS, facts);
    bed.send(MachineInput::Start);
    bed.until_command();
    bed.send(impasse());
    bed.until_command();
    assert!(!bed.log.contains(&"paused".to_owned()), "{:?}", bed.log);
    assert_eq!(bed.finished, Some(Status::Fault));
}

#[test]
fn one_resume_releases_one_breakpoint_the_first_first() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    bed.until_command();
    for call in [1, 2, 3].map(CallId) {
        bed.send(MachineInput::BreakpointHit { call, directory: "/".to_owned() });
    }
    bed.send(MachineInput::BreakpointGone { call: CallId(2) });
    bed.send(MachineInput::Resume);
    bed.send(MachineInput::Resume);
    bed.send(MachineInput::Resume);
    assert_eq!(bed.pending, [1, 3].map(|call| MachineEffect::Release { call: CallId(call) }));
}

#[test]
fn a_runner_that_slept_gives_the_time_back() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    bed.until_command();
    let before = bed.machine.deadline().expect("a timeout");
    bed.now += Duration::from_secs(500);
    bed.send(MachineInput::Slept(Duration::from_secs(500)));
    assert_eq!(bed.machine.deadline(), Some(before + Duration::from_secs(500)));
}

#[test]
fn runtimes_are_installed_before_the_phases() {
    let source = FOUR.replace("install: {", "install: {runtime-versions: {nodejs: 20}, ");
    let catalog = |commands: &str| {
        Some(format!("runtimes:\n  nodejs:\n    versions:\n      20: {{commands: {commands}}}\n"))
    };
    let mut bed = Bed::new(&source);
    bed.world.container.has_image = true;
    bed.world.catalog = catalog("[n 20, pyenv global 3.12]");
    bed.drive(&[]);
    let texts: Vec<&str> = bed.ran.iter().map(|(text, ..)| text.as_str()).collect();
    assert_eq!(texts[..2], ["n 20", "pyenv global 3.12"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));

    let mut bed = Bed::new(&source);
    bed.world.container.has_image = true;
    bed.world.catalog = catalog("[n 20, never]");
    bed.drive(&["n 20"]);
    assert_eq!(bed.ran.len(), 1);
    assert_eq!(bed.finished, Some(Status::Failed));
    assert!(bed.log.contains(&"DOWNLOAD_SOURCE FAILED COMMAND_EXECUTION_ERROR".to_owned()));
}

#[test]
fn a_pause_ends_with_the_build() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    bed.until_command();
    bed.send(MachineInput::BreakpointHit { call: CallId(1), directory: "/".to_owned() });
    bed.send(MachineInput::Stop { at_once: true });
    assert!(bed.log.contains(&format!("resumed {:?}", ResumedBy::Ended)));
}

#[test]
fn a_pause_has_its_number_from_the_machine() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    bed.until_command();
    let hit = |call| MachineInput::BreakpointHit { call: CallId(call), directory: "/".to_owned() };
    let mut pauses = Vec::new();
    // Calls are numbered separately.
    for input in [hit(7), impasse(), hit(40)] {
        let now = Timestamp { wall: WallTime(0), boot: bed.now };
        pauses.extend(bed.machine.apply(input, now).events.into_iter().filter_map(|event| {
            match event {
                EventBody::Paused { pause, kind, .. } => Some((pause, kind)),
                _ => None,
            }
        }));
    }
    let kinds = [PauseKind::Called, PauseKind::Stuck, PauseKind::Called];
    let wanted: Vec<_> = [1, 2, 3].map(PauseId).into_iter().zip(kinds).collect();
    assert_eq!(pauses, wanted);
}

#[test]
fn a_mark_goes_on_from_where_it_was_kept() {
    let mut bed = Bed::new(FOUR);
    bed.send(MachineInput::Start);
    let command = bed.until_command().expect("a command");
    let (mark, pending) = (bed.machine.clone(), bed.pending.clone());
    let ended = |code| MachineInput::CommandEnded {
        command,
        outcome: CommandOutcome::Exited(code),
        cause: None,
        facts: RunFacts::default(),
    };
    bed.send(ended(3));
    while bed.until_command().is_some() {}
    assert_eq!(bed.finished, Some(Status::Failed));

    (bed.machine, bed.pending, bed.finished) = (mark, pending, None);
    bed.send(ended(0));
    while let Some(command) = bed.until_command() {
        bed.send(MachineInput::CommandEnded {
            command,
            outcome: CommandOutcome::Exited(0),
            cause: None,
            facts: RunFacts::default(),
        });
    }
    assert_eq!(bed.finished, Some(Status::Succeeded));
}
