//! The machine as a table of stories: inputs in, the log and the verdict out, no process anywhere.

use super::{BuildMachine, CallId, Effect, Impasse, Input, Setup, SetupCommand};
use crate::event::{BuildFacts, EventBody, Outcome, PauseId, PauseKind, ResumedBy, Stuck};
use crate::phase::{Phase, PhaseContext, Status, StatusCode};
use crate::plan::{self, BreakAction, BuildPlan, Limits, Places, Rejection};
use crate::spec;
use crate::time::{Timestamp, WallTime};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Drives a machine through a whole build: every effect is answered at once, commands as `answers`
/// says.
pub(super) struct Bed {
    pub(super) machine: BuildMachine,
    pub(super) now: Duration,
    pending: VecDeque<Effect>,
    pub(super) log: Vec<String>,
    ran: Vec<(String, bool, i32)>,
    /// Commands that install runtimes.
    setup: Vec<SetupCommand>,
    pub(super) finished: Option<Status>,
    /// Whether nothing was left to be removed.
    pub(super) is_clear: bool,
    /// Whether nobody answers when processes are killed, or the build is to be finalized.
    pub(super) is_mute: bool,
}

fn facts() -> BuildFacts {
    BuildFacts {
        project: "demo".to_owned(),
        uuid: "u".to_owned(),
        number: 1,
        arn: String::new(),
        initiator: String::new(),
        image: String::new(),
        engine: String::new(),
        buildspec: String::new(),
        source: String::new(),
        resolved_source_version: None,
        secondary_sources: Vec::new(),
        cache: None,
        logs: Default::default(),
        session_enabled: true,
        privileged: false,
        timeout_s: 60,
        runner_version: String::new(),
    }
}

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(60),
    timeout_while_paused: false,
    break_timeout: Some(Duration::from_secs(10)),
    break_action: BreakAction::Resume,
};

impl Bed {
    pub(super) fn new(source: &str) -> Self {
        Self::with_limits(source, LIMITS)
    }

    fn with_limits(source: &str, limits: Limits) -> Self {
        Self::with_facts(source, limits, facts())
    }

    fn with_facts(source: &str, limits: Limits, facts: BuildFacts) -> Self {
        let work = spec::parse(source).map(|(spec, _)| plan::work(spec)).map_err(|_| Rejection {
            context: PhaseContext::new(StatusCode::YamlFileError, "bad"),
        });
        let places = Places {
            root: "/codebuild".to_owned(),
            source: "/src".to_owned(),
            buildspec: "/src/b.yml".to_owned(),
        };
        let plan = BuildPlan { facts, places, work, limits };
        Bed {
            machine: BuildMachine::new(Arc::new(plan)),
            now: Duration::from_secs(1000),
            pending: VecDeque::new(),
            log: Vec::new(),
            ran: Vec::new(),
            setup: Vec::new(),
            finished: None,
            is_clear: false,
            is_mute: false,
        }
    }

    pub(super) fn send(&mut self, input: Input) {
        let now = Timestamp { wall: WallTime(0), boot: self.now };
        let step = self.machine.apply(input, now);
        for event in step.events {
            match event {
                EventBody::PhaseEnded { phase, status, contexts, .. } => {
                    let code = contexts.first().map_or("-", |c| c.status_code.name());
                    self.log.push(format!("{phase} {status} {code}"));
                }
                EventBody::Resumed { by, .. } => self.log.push(format!("resumed {by:?}")),
                EventBody::Paused { .. } => self.log.push("paused".to_owned()),
                _ => {}
            }
        }
        self.pending.extend(step.effects);
    }

    /// Performs effects until a command runs or nothing is left to do.
    pub(super) fn until_command(&mut self) -> Option<u32> {
        while let Some(effect) = self.pending.pop_front() {
            match effect {
                Effect::Provision => self.send(Input::Provisioned(Ok(()))),
                Effect::DownloadSource => {
                    let commands = Ok(std::mem::take(&mut self.setup));
                    self.send(Input::SourceReady(Setup {
                        lines: Vec::new(),
                        cache: Vec::new(),
                        commands,
                    }));
                }
                Effect::Run(run) => {
                    self.ran.push((run.text, run.succeeding, run.last_exit));
                    return Some(run.command);
                }
                Effect::Release { .. } => self.log.push("released".to_owned()),
                Effect::Terminate => self.log.push("SIGTERM".to_owned()),
                Effect::Kill => {
                    self.log.push("SIGKILL".to_owned());
                    if !self.is_mute {
                        self.send(Input::ProcessesGone);
                    }
                }
                Effect::Hurry => self.log.push("hurry".to_owned()),
                Effect::Upload { .. } => self.send(Input::Uploaded(Ok(()))),
                Effect::Finalize { .. } if self.is_mute => {}
                Effect::Finalize { .. } => self.send(Input::Finalized),
                Effect::Finish { status, is_clear } => {
                    self.finished = Some(status);
                    self.is_clear = is_clear;
                }
            }
        }
        None
    }

    /// A whole build in which commands whose text is in `failing` exit with 3.
    fn run(source: &str, failing: &[&str]) -> Self {
        let mut bed = Bed::new(source);
        bed.drive(failing);
        bed
    }

    fn drive(&mut self, failing: &[&str]) {
        self.send(Input::Start);
        while let Some(command) = self.until_command() {
            let text = self.ran.last().map_or("", |(text, ..)| text.as_str());
            let code = if failing.contains(&text) { 3 } else { 0 };
            self.send(Input::CommandEnded { command, outcome: Outcome::Exited(code), cause: None });
        }
    }

    fn commands(&self) -> Vec<&str> {
        self.ran.iter().map(|(text, ..)| text.as_str()).collect()
    }

    /// The user phases and what follows, as `NAME STATUS`.
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

pub(super) const FOUR: &str = "version: 0.2\nphases:\n  install: {commands: [i]}\n  pre_build: {commands: [p]}\n  \
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
        // The rest of a finally block is skipped, its failure is the phase's.
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
    bed.send(Input::Start);
    assert_eq!(bed.pending, [Effect::Finalize { status: Status::Failed }]);
    bed.until_command();
    assert_eq!(bed.log[3], "DOWNLOAD_SOURCE FAILED YAML_FILE_ERROR");
    assert_eq!(bed.finished, Some(Status::Failed));
}

#[test]
fn a_stop_asks_first_and_insists_later() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    bed.send(Input::Stop { at_once: false });
    bed.until_command();
    assert_eq!(bed.log.last().map(String::as_str), Some("SIGTERM"));
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(5)));
    // A second one in the same tone changes nothing.
    bed.send(Input::Stop { at_once: false });
    assert!(bed.pending.is_empty());
    bed.now += Duration::from_secs(5);
    bed.send(Input::Tick);
    bed.until_command();
    assert_eq!(bed.log[bed.log.len() - 2..], ["SIGKILL", "INSTALL STOPPED -"]);
    assert_eq!(bed.finished, Some(Status::Stopped));
}

#[test]
fn time_at_a_breakpoint_does_not_count() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    let command = bed.until_command().expect("a command");
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(60)));
    bed.now += Duration::from_secs(50);
    bed.send(Input::BreakpointHit { call: CallId(1), directory: "/".to_owned() });
    bed.send(Input::SessionOpened { session: 1, program: "sh".to_owned() });
    assert_eq!(bed.machine.deadline(), None);
    bed.now += Duration::from_secs(5000);
    bed.send(Input::Tick);
    bed.send(Input::SessionClosed { session: 1, how: String::new() });
    // Nobody is there now: patience starts afresh.
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(10)));
    bed.send(Input::Resume);
    assert_eq!(bed.machine.deadline(), Some(bed.now + Duration::from_secs(10)));
    bed.now += Duration::from_secs(11);
    bed.send(Input::Tick);
    bed.send(Input::CommandEnded { command, outcome: Outcome::Exited(0), cause: None });
    bed.until_command();
    assert_eq!(bed.log[bed.log.len() - 2..], ["released", "SIGTERM"]);
    bed.send(Input::ProcessesGone);
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
        let mut bed = Bed::with_limits(FOUR, Limits { break_action: action, ..LIMITS });
        bed.send(Input::Start);
        bed.until_command();
        bed.send(Input::BreakpointHit { call: CallId(1), directory: "/".to_owned() });
        bed.now += Duration::from_secs(10);
        bed.send(Input::Tick);
        bed.until_command();
        assert_eq!(bed.log[bed.log.len() - 2..], verdict);
    }
}

fn impasse() -> Input {
    Input::Stuck(Box::new(Impasse {
        directory: "/".to_owned(),
        stuck: Stuck { reason: "no shell".to_owned(), has_shell: false },
        hint: "none".to_owned(),
        fault: PhaseContext::new(StatusCode::Other("F".to_owned()), "no shell"),
    }))
}

#[test]
fn a_build_that_cannot_go_on_waits_where_somebody_may_look() {
    // Resumed, or alone for too long.
    for input in [Input::Resume, Input::Tick] {
        let mut bed = Bed::new(FOUR);
        bed.send(Input::Start);
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
    bed.send(Input::Start);
    bed.until_command();
    bed.send(impasse());
    bed.until_command();
    assert!(!bed.log.contains(&"paused".to_owned()), "{:?}", bed.log);
    assert_eq!(bed.finished, Some(Status::Fault));
}

#[test]
fn one_resume_releases_one_breakpoint_the_first_first() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    for call in [1, 2, 3].map(CallId) {
        bed.send(Input::BreakpointHit { call, directory: "/".to_owned() });
    }
    bed.send(Input::BreakpointGone { call: CallId(2) });
    bed.send(Input::Resume);
    bed.send(Input::Resume);
    bed.send(Input::Resume);
    assert_eq!(bed.pending, [1, 3].map(|call| Effect::Release { call: CallId(call) }));
}

#[test]
fn a_runner_that_slept_gives_the_time_back() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    let before = bed.machine.deadline().expect("a timeout");
    bed.now += Duration::from_secs(500);
    bed.send(Input::Slept(Duration::from_secs(500)));
    assert_eq!(bed.machine.deadline(), Some(before + Duration::from_secs(500)));
}

#[test]
fn runtimes_are_installed_before_the_phases() {
    let setup = |text: &str| SetupCommand { text: text.to_owned(), variables: Vec::new() };
    let mut bed = Bed::new(FOUR);
    bed.setup = vec![setup("n 20"), setup("pyenv global 3.12")];
    bed.drive(&[]);
    let texts: Vec<&str> = bed.ran.iter().map(|(text, ..)| text.as_str()).collect();
    assert_eq!(texts[..2], ["n 20", "pyenv global 3.12"]);
    assert_eq!(bed.finished, Some(Status::Succeeded));

    let mut bed = Bed::new(FOUR);
    bed.setup = vec![setup("n 20"), setup("never")];
    bed.drive(&["n 20"]);
    assert_eq!(bed.ran.len(), 1);
    assert_eq!(bed.finished, Some(Status::Failed));
    assert!(bed.log.contains(&"DOWNLOAD_SOURCE FAILED COMMAND_EXECUTION_ERROR".to_owned()));
}

/// What may follow what in a build's log, whatever happens to the build.
#[derive(Default)]
struct Law {
    last: Option<Phase>,
    is_open: bool,
    command: Option<u32>,
    paused: Vec<PauseId>,
    pauses: PauseId,
    is_over: bool,
}

impl Law {
    fn check(&mut self, event: &EventBody) {
        let is_free = matches!(
            event,
            EventBody::Notice(_)
                | EventBody::SessionOpened { .. }
                | EventBody::SessionClosed { .. }
        );
        assert!(is_free || !self.is_over, "after the end: {event:?}");
        match event {
            EventBody::PhaseStarted { phase } => {
                assert!(!self.is_open && self.last < Some(*phase), "{:?}, then {phase}", self.last);
                (self.last, self.is_open) = (Some(*phase), true);
            }
            EventBody::PhaseEnded { phase, .. } => {
                assert!(
                    self.is_open && self.last == Some(*phase),
                    "{:?} ends in {phase}",
                    self.last
                );
                assert_eq!(self.command, None, "a command outlives {phase}");
                self.is_open = false;
            }
            EventBody::CommandStarted { command, phase, .. } => {
                assert!(self.is_open && self.last == Some(*phase));
                assert_eq!(self.command.replace(*command), None, "two commands at once");
            }
            EventBody::CommandEnded { command, .. } => {
                assert_eq!(self.command.take(), Some(*command), "it does not run");
            }
            EventBody::Paused { pause, kind, stuck, .. } => {
                assert!(self.command.is_some(), "a pause without a command");
                assert_eq!(*pause, self.pauses.next(), "a number left out, or given twice");
                assert_eq!(stuck.is_some(), *kind == PauseKind::Stuck);
                self.pauses = *pause;
                self.paused.push(*pause);
            }
            EventBody::Resumed { pause, .. } => {
                assert!(self.paused.contains(pause), "it is not paused");
                self.paused.retain(|other| other != pause);
            }
            EventBody::BuildEnded { .. } => {
                assert_eq!(self.last, Some(Phase::Completed));
                assert!(self.paused.is_empty(), "still paused: {:?}", self.paused);
                self.is_over = true;
            }
            _ => {}
        }
    }
}

#[test]
fn no_order_of_inputs_breaks_the_law() {
    // A small generator is enough: the point is the number of orders, not their beauty.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    let sources = [
        FOUR,
        "version: 0.2\nphases:\n  install: {}\n  build:\n    on-failure: RETRY-2\n    commands: [a, \
         b]\n    finally: [c]\n",
        "version: 0.1\nphases:\n  pre_build:\n    on-failure: CONTINUE\n    commands: [a]\n  \
         post_build:\n    on-failure: ABORT\n    commands: [b]\n    finally: [c, d]\n",
        "version: 9",
    ];
    let mut ended = 0;
    for round in 0..6000 {
        let mut bed = Bed::new(sources[round % sources.len()]);
        let mut law = Law::default();
        let mut calls = 0;
        for _ in 0..80 {
            let command = u32::try_from(random(6)).unwrap_or(0);
            let input = match random(16) {
                0 | 1 => Input::Start,
                2 => Input::Provisioned(Ok(())),
                3 => Input::Provisioned(Err(PhaseContext::default())),
                4 => Input::SourceReady(Setup {
                    cache: Vec::new(),
                    lines: vec!["line".to_owned()],
                    commands: match random(3) {
                        0 => Err(PhaseContext::default()),
                        count => {
                            Ok(vec![
                                SetupCommand { text: "s".to_owned(), variables: Vec::new() };
                                count - 1
                            ])
                        }
                    },
                }),
                5 | 6 => Input::CommandEnded { command, outcome: Outcome::Exited(0), cause: None },
                7 => Input::CommandEnded { command, outcome: Outcome::Signaled(9), cause: None },
                8 => {
                    calls += 1;
                    Input::BreakpointHit { call: CallId(calls), directory: "/".to_owned() }
                }
                15 if random(3) == 0 => impasse(),
                9 => Input::BreakpointGone { call: CallId(random(4) as u64) },
                10 => Input::Resume,
                11 if random(4) == 0 => Input::Stop { at_once: random(2) == 0 },
                11 => Input::Exported(Vec::new()),
                12 if random(4) == 0 => Input::Fault(PhaseContext::default()),
                12 => Input::ProcessesGone,
                13 => Input::Uploaded(if random(2) == 0 {
                    Ok(())
                } else {
                    Err(PhaseContext::default())
                }),
                14 => Input::Finalized,
                _ => {
                    bed.now += Duration::from_secs(random(12) as u64);
                    Input::Tick
                }
            };
            let now = Timestamp { wall: WallTime(0), boot: bed.now };
            let mark = (round % 8 < 4).then(|| (bed.machine.clone(), input.clone()));
            let step = bed.machine.apply(input, now);
            // What a copy does is the same, and all of it.
            if let Some((mut mark, input)) = mark {
                assert_eq!(mark.apply(input, now), step);
                assert_eq!(mark, bed.machine);
            }
            step.events.iter().for_each(|event| law.check(event));
            assert_eq!(bed.machine.is_paused(), !law.paused.is_empty());
            let runs = step.effects.iter().any(|effect| matches!(effect, Effect::Run(_)));
            assert!(!runs || law.command.is_some(), "it runs what was not announced");
        }
        ended += usize::from(law.is_over);
    }
    assert!(ended > 1000, "only {ended} builds came to an end");
}

#[test]
fn a_pause_ends_with_the_build() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    bed.send(Input::BreakpointHit { call: CallId(1), directory: "/".to_owned() });
    bed.send(Input::Stop { at_once: true });
    assert!(bed.log.contains(&format!("resumed {:?}", ResumedBy::Ended)));
}

#[test]
fn a_pause_has_its_number_from_the_machine() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    let hit = |call| Input::BreakpointHit { call: CallId(call), directory: "/".to_owned() };
    let mut pauses = Vec::new();
    // The numbers of calls are another count.
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
    bed.send(Input::Start);
    let command = bed.until_command().expect("a command");
    let (mark, pending) = (bed.machine.clone(), bed.pending.clone());
    let ended = |code| Input::CommandEnded { command, outcome: Outcome::Exited(code), cause: None };
    bed.send(ended(3));
    while bed.until_command().is_some() {}
    assert_eq!(bed.finished, Some(Status::Failed));

    (bed.machine, bed.pending, bed.finished) = (mark, pending, None);
    bed.send(ended(0));
    while let Some(command) = bed.until_command() {
        bed.send(Input::CommandEnded { command, outcome: Outcome::Exited(0), cause: None });
    }
    assert_eq!(bed.finished, Some(Status::Succeeded));
}
