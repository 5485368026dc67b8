//! The machine as a table of stories: inputs in, the log and the verdict out, no process anywhere.

use super::{BuildMachine, Effect, Input};
use crate::event::{BuildFacts, EventBody, Outcome, ResumedBy};
use crate::phase::{Phase, PhaseContext, Status};
use crate::plan::{self, BreakAction, BuildPlan, Limits, Places, Rejection};
use crate::spec;
use crate::time::{Timestamp, WallTime};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Drives a machine through a whole build: every effect is answered at once, commands as `answers`
/// says.
struct Bed {
    machine: BuildMachine,
    now: Duration,
    pending: VecDeque<Effect>,
    log: Vec<String>,
    ran: Vec<(String, bool, i32)>,
    finished: Option<Status>,
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
        session_enabled: true,
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
    fn new(source: &str) -> Self {
        Self::with_limits(source, LIMITS)
    }

    fn with_limits(source: &str, limits: Limits) -> Self {
        let work = spec::parse(source)
            .map(|(spec, _)| plan::work(spec))
            .map_err(|_| Rejection { context: PhaseContext::new("YAML_FILE_ERROR", "bad") });
        let places = Places {
            root: "/codebuild".to_owned(),
            source: "/src".to_owned(),
            buildspec: "/src/b.yml".to_owned(),
        };
        let plan = BuildPlan { facts: facts(), places, work, limits };
        Bed {
            machine: BuildMachine::new(Arc::new(plan)),
            now: Duration::from_secs(1000),
            pending: VecDeque::new(),
            log: Vec::new(),
            ran: Vec::new(),
            finished: None,
        }
    }

    fn send(&mut self, input: Input) {
        let now = Timestamp { wall: WallTime(0), boot: self.now };
        let step = self.machine.apply(input, now);
        for event in step.events {
            match event {
                EventBody::PhaseEnded { phase, status, contexts, .. } => {
                    let code = contexts.first().map_or("-", |c| c.status_code.as_str());
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
    fn until_command(&mut self) -> Option<u32> {
        while let Some(effect) = self.pending.pop_front() {
            match effect {
                Effect::Provision => self.send(Input::Provisioned(Ok(()))),
                Effect::DownloadSource => self.send(Input::SourceReady(Ok(()))),
                Effect::Run(run) => {
                    self.ran.push((run.text, run.succeeding, run.last_exit));
                    return Some(run.command);
                }
                Effect::Release { .. } => self.log.push("released".to_owned()),
                Effect::Terminate => self.log.push("SIGTERM".to_owned()),
                Effect::Kill => {
                    self.log.push("SIGKILL".to_owned());
                    self.send(Input::ProcessesGone);
                }
                Effect::Upload => self.send(Input::Uploaded(Ok(()))),
                Effect::Finalize { .. } => self.send(Input::Finalized),
                Effect::Finish { status } => self.finished = Some(status),
            }
        }
        None
    }

    /// A whole build in which commands whose text is in `failing` exit with 3.
    fn run(source: &str, failing: &[&str]) -> Self {
        let mut bed = Bed::new(source);
        bed.send(Input::Start);
        while let Some(command) = bed.until_command() {
            let text = bed.ran.last().map_or("", |(text, ..)| text.as_str());
            let code = if failing.contains(&text) { 3 } else { 0 };
            bed.send(Input::CommandEnded { command, outcome: Outcome::Exited(code) });
        }
        bed
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
    bed.send(Input::BreakpointHit { breakpoint: 1, directory: "/".to_owned() });
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
    bed.send(Input::CommandEnded { command, outcome: Outcome::Exited(0) });
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
        bed.send(Input::BreakpointHit { breakpoint: 1, directory: "/".to_owned() });
        bed.now += Duration::from_secs(10);
        bed.send(Input::Tick);
        bed.until_command();
        assert_eq!(bed.log[bed.log.len() - 2..], verdict);
    }
}

#[test]
fn one_resume_releases_one_breakpoint_the_first_first() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    for breakpoint in [1, 2, 3] {
        bed.send(Input::BreakpointHit { breakpoint, directory: "/".to_owned() });
    }
    bed.send(Input::BreakpointGone { breakpoint: 2 });
    bed.send(Input::Resume);
    bed.send(Input::Resume);
    bed.send(Input::Resume);
    assert_eq!(bed.pending, [Effect::Release { breakpoint: 1 }, Effect::Release { breakpoint: 3 }]);
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
fn no_order_of_inputs_reaches_a_second_end() {
    // A small generator is enough: the point is the number of orders, not their beauty.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    for _ in 0..3000 {
        let mut bed = Bed::new(FOUR);
        let mut ends = 0;
        for _ in 0..60 {
            let command = u32::try_from(random(4)).unwrap_or(0);
            let input = match random(14) {
                0 => Input::Start,
                1 => Input::Provisioned(Ok(())),
                2 => Input::Provisioned(Err(PhaseContext::default())),
                3 => Input::SourceReady(Ok(())),
                4 => Input::CommandEnded { command, outcome: Outcome::Exited(0) },
                5 => Input::CommandEnded { command, outcome: Outcome::Signaled(9) },
                6 => Input::BreakpointHit { breakpoint: 1, directory: "/".to_owned() },
                7 => Input::Resume,
                8 => Input::Stop { at_once: random(2) == 0 },
                9 => Input::Fault(PhaseContext::default()),
                10 => Input::ProcessesGone,
                11 => Input::Uploaded(Ok(())),
                12 => Input::Finalized,
                _ => {
                    bed.now += Duration::from_secs(20);
                    Input::Tick
                }
            };
            let now = Timestamp { wall: WallTime(0), boot: bed.now };
            let step = bed.machine.apply(input, now);
            let is_end = |event: &EventBody| matches!(event, EventBody::BuildEnded { .. });
            ends += step.events.iter().filter(|event| is_end(event)).count();
            let phases = step.events.iter().filter_map(|event| match event {
                EventBody::PhaseStarted { phase } => Some(*phase),
                _ => None,
            });
            assert!(ends == 0 || phases.clone().all(|phase| phase == Phase::Completed));
            assert!(ends <= 1);
        }
    }
}

#[test]
fn a_pause_ends_with_the_build() {
    let mut bed = Bed::new(FOUR);
    bed.send(Input::Start);
    bed.until_command();
    bed.send(Input::BreakpointHit { breakpoint: 1, directory: "/".to_owned() });
    bed.send(Input::Stop { at_once: true });
    assert!(bed.log.contains(&format!("resumed {:?}", ResumedBy::Ended)));
}
