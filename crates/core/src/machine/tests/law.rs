//! Invariants of a build's log, for any inputs in any order.

use super::{
    Bed, BuildFacts, BuildSetupError, CallId, CommandOutcome, ContainerFacts, Duration, EventBody,
    FOUR, Fetched, FoundCache, Gone, InstalledVersions, LIMITS, MachineEffect, MachineInput,
    PauseId, PauseKind, Phase, PhaseContext, RunFacts, Standstill, Timestamp, Unkept, Variables,
    WallTime, facts, impasse, kept,
};
use crate::debug::{
    Breakpoint, CommandPlace, Decision, DecisionClient, DecisionKind, Rewind, RunRef, Then, Who,
};
use crate::env::EnvLayers;
use crate::event::{Block, CacheFacts, StopKind};
use crate::phase::Status;
use crate::plan::{Checkpointing, PlannedStops};
use crate::spec::USER_PHASES;
use std::collections::BTreeMap;

/// Invariants of a build's log.
#[derive(Default)]
struct Law {
    last: Option<Phase>,
    is_open: bool,
    command: Option<u32>,
    paused: Vec<PauseId>,
    pauses: PauseId,
    /// The pause of the current stop.
    stop: Option<PauseId>,
    /// Places of the phases, and whether their last run succeeded.
    places: BTreeMap<(Phase, Block, u32), Option<bool>>,
    at: Option<(Phase, Block, u32)>,
    is_over: bool,
}

impl Law {
    fn check(&mut self, event: &EventBody) {
        let is_free = matches!(
            event,
            EventBody::Notice(_)
                | EventBody::SessionOpened { .. }
                | EventBody::SessionClosed { .. }
                | EventBody::Breakpoint(_)
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
            EventBody::CommandStarted { command, phase, block, index, .. } => {
                assert!(self.is_open && self.last == Some(*phase));
                assert_eq!(self.command.replace(*command), None, "two commands at once");
                let is_eval = *block == Block::Eval;
                assert_eq!(self.stop.is_some(), is_eval, "it runs while it is stopped");
                self.at = (!is_eval).then_some((*phase, *block, *index));
            }
            EventBody::CommandEnded { command, outcome, .. } => {
                assert_eq!(self.command.take(), Some(*command), "it does not run");
                if let Some(at) = self.at.take() {
                    let failed_before = self.places.contains_key(&at);
                    match outcome.succeeded() {
                        true if failed_before => drop(self.places.insert(at, Some(true))),
                        true => {}
                        // A rewind or the end of the build has cut it off.
                        false if *outcome == CommandOutcome::Cut => {}
                        false => drop(self.places.insert(at, Some(false))),
                    }
                }
            }
            EventBody::CommandSkipped { phase, block, index, .. } => {
                assert!(self.is_open && self.command.is_none());
                if let Some(last) = self.places.get_mut(&(*phase, *block, *index)) {
                    *last = None;
                }
            }
            EventBody::Intervened(done) => {
                assert!(self.stop.is_some(), "nobody was asked");
                if let (DecisionKind::Rerun, Some(place)) = (done.what, done.place) {
                    assert!(self.is_open && self.last >= Some(place.phase.into()));
                    self.last = Some(place.phase.into());
                }
            }
            EventBody::Rewound(rewound) => {
                assert!(self.is_open && self.command.is_none() && self.stop.is_none());
                assert!(self.last >= Some(rewound.place.phase.into()));
                self.last = Some(rewound.place.phase.into());
            }
            EventBody::Checkpoint(_) => assert!(self.command.is_none() && self.stop.is_none()),
            EventBody::FilesChanged(_) => assert!(self.command.is_none()),
            EventBody::Paused { pause, kind, stuck, stop, .. } => {
                assert_eq!(stop.is_some(), *kind == PauseKind::Stop);
                if let Some(stop) = stop {
                    assert!(self.is_open && self.stop.is_none());
                    assert_eq!(self.command.is_some(), stop.kind == StopKind::Pause);
                    self.stop = Some(*pause);
                }
                assert!(self.command.is_some() || stop.is_some(), "a pause without a command");
                assert_eq!(*pause, self.pauses.next(), "a number left out, or given twice");
                assert_eq!(stuck.is_some(), *kind == PauseKind::Stuck);
                self.pauses = *pause;
                self.paused.push(*pause);
            }
            EventBody::Resumed { pause, .. } => {
                assert!(self.paused.contains(pause), "it is not paused");
                self.paused.retain(|other| other != pause);
                self.stop.take_if(|stop| *stop == *pause);
            }
            EventBody::BuildEnded { status, .. } => {
                // Only a run that exits with 0 turns a failure into a success.
                let is_failed = self.places.values().any(|last| *last != Some(true));
                assert!(!is_failed || *status != Status::Succeeded, "{:?}", self.places);
                assert_eq!(self.last, Some(Phase::Completed));
                assert!(self.paused.is_empty(), "still paused: {:?}", self.paused);
                self.is_over = true;
            }
            _ => {}
        }
    }
}

/// A random decision.
fn decision(random: &mut impl FnMut(usize) -> usize) -> MachineInput {
    let phase = USER_PHASES[random(4)];
    let block = [Block::Commands, Block::Finally][random(2)];
    let place = CommandPlace { phase, block, index: u32::try_from(random(2)).unwrap_or(0) };
    let text = || "edited".to_owned();
    let decision = match random(15) {
        12 => Decision::Rewind(Rewind { to: Some(RunRef::At(place)), ..Rewind::default() }),
        13 => Decision::Rewind(Rewind { then: Then::Resume, nearest: true, ..Rewind::default() }),
        14 => Decision::Rewind(Rewind {
            then: Then::Retry { text: None },
            without_edits: random(2) == 0,
            ..Rewind::default()
        }),
        0 | 1 => Decision::Step,
        2 => Decision::Retry { text: None },
        3 | 4 => Decision::Retry { text: Some(text()) },
        5 => Decision::Skip { to: None },
        6 => Decision::Skip { to: Some(place) },
        7 => Decision::Rerun { place },
        8 if random(8) == 0 => Decision::Abort,
        8 | 9 => Decision::Eval { text: text() },
        10 => Decision::Set { name: "A".to_owned(), value: None },
        _ => Decision::Resume,
    };
    let by = Who { uid: 0, user: String::new(), client: DecisionClient::Cli };
    MachineInput::Decide { decision, by }
}

/// Random breakpoints.
fn breakpoints(random: &mut impl FnMut(usize) -> usize) -> Vec<Breakpoint> {
    let all = [
        "start",
        "failure",
        "any-failure",
        "before:build",
        "after:pre_build",
        "after:post_build",
        "command:/./",
        "longer:1s",
        "command:/./ hits %3",
        "failure if status == 137",
    ];
    let some = all.iter().filter(|_| random(4) == 0);
    some.map(|text| text.parse().expect("parses")).collect()
}

/// A random answer to a step of DOWNLOAD_SOURCE.
fn preparation(random: &mut impl FnMut(usize) -> usize) -> MachineInput {
    let failed = BuildSetupError { context: PhaseContext::default(), hint: None, place: None };
    let fails = random(6) == 0;
    match random(8) {
        7 => MachineInput::RuntimesFound(InstalledVersions::new()),
        0 if fails => MachineInput::ValuesFetched(Err(failed)),
        0 => MachineInput::ValuesFetched(Ok(Fetched(vec![("A".to_owned(), "b".to_owned())]))),
        1 if fails => MachineInput::EntrypointRan(Err(failed)),
        1 => MachineInput::EntrypointRan(Ok(Variables::new())),
        2 if fails => MachineInput::ShellOpened(Err(PhaseContext::default())),
        2 => MachineInput::ShellOpened(Ok(())),
        3 => MachineInput::CacheFound((random(2) == 0).then_some(FoundCache {
            files: 1000,
            bytes: 0,
            can_be_layer: true,
            has_guests: random(2) == 0,
        })),
        4 if fails => MachineInput::Rehoused(Err(PhaseContext::default())),
        4 => MachineInput::Rehoused(Ok(ContainerFacts::default())),
        5 => MachineInput::CacheRestored,
        _ => MachineInput::CatalogRead(
            (random(2) == 0)
                .then(|| "runtimes: {nodejs: {versions: {20: {commands: [s, t]}}}}".to_owned()),
        ),
    }
}

#[test]
fn no_order_of_inputs_breaks_the_law() {
    // A small generator is enough: only the variety of orders matters.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    let sources = [
        FOUR,
        "version: 0.2\nenv: {parameter-store: {A: b}}\ncache: {paths: [x]}\nphases:\n  install: \
         {runtime-versions: {nodejs: 20}}\n  build:\n    on-failure: RETRY-2\n    commands: [a, b]\n    \
         finally: [c]\n",
        "version: 0.1\nphases:\n  pre_build:\n    on-failure: CONTINUE\n    commands: [a]\n  \
         post_build:\n    on-failure: ABORT\n    commands: [b]\n    finally: [c, d]\n",
        "version: 9",
    ];
    let (mut ended, mut went_back) = (0, 0);
    for round in 0..6000 {
        let cache = CacheFacts { r#type: String::new(), location: String::new() };
        let facts = BuildFacts { privileged: random(2) == 0, cache: Some(cache), ..facts() };
        let source = sources[round % sources.len()];
        // Every other build has no breakpoints.
        let all = if round % 2 == 0 { breakpoints(&mut random) } else { Vec::new() };
        let checkpoints = match round % 4 {
            0 => Checkpointing::Auto,
            _ => Checkpointing::Off,
        };
        let stops = PlannedStops { breakpoints: all, step: round % 14 == 0, checkpoints };
        let mut bed = Bed::with_stops(source, LIMITS, facts, EnvLayers::default(), stops);
        let mut law = Law::default();
        // The step that DOWNLOAD_SOURCE waits for.
        let mut asked = None;
        let mut calls = 0;
        // The checkpoint or rewind in progress.
        let mut keeping = None;
        for _ in 0..80 {
            let command = u32::try_from(random(6)).unwrap_or(0);
            // Mostly the current run.
            let command = law.command.filter(|_| random(3) > 0).unwrap_or(command);
            let input = match random(23) {
                0..12 if keeping.is_some() => match keeping.take() {
                    Some(MachineEffect::Checkpoint { id, .. }) => {
                        let never = random(30) == 0;
                        let none = never.then(|| Unkept::Never("so".to_owned()));
                        let none = none
                            .or((random(6) == 0)
                                .then(|| Unkept::Now { why: "so".to_owned(), ms: 1 }));
                        MachineInput::Checkpointed {
                            id,
                            result: none.map_or_else(|| Ok(kept()), Err),
                        }
                    }
                    _ if random(9) == 0 => MachineInput::Rewound(Err(PhaseContext::default())),
                    _ => MachineInput::Rewound(Ok(Gone::default())),
                },
                17..20 if round % 2 == 0 => decision(&mut random),
                20 if round % 2 == 0 && random(3) == 0 => MachineInput::SetBreakpoints {
                    owner: ["cli", "dap:1"][random(2)].to_owned(),
                    breakpoints: breakpoints(&mut random),
                },
                21 if round % 2 == 0 => match random(2) {
                    0 => MachineInput::Pause,
                    _ => MachineInput::Frozen { command, result: Ok(Standstill::default()) },
                },
                0 | 1 => MachineInput::Start,
                2 => MachineInput::Provisioned(Ok(ContainerFacts {
                    has_entrypoint: random(2) == 0,
                    has_image: random(2) == 0,
                    ..ContainerFacts::default()
                })),
                3 => MachineInput::Provisioned(Err(PhaseContext::default())),
                4 | 5 => match &asked {
                    Some(asked) if random(4) > 0 => bed.answer(asked),
                    _ => preparation(&mut random),
                },
                6 | 16 => MachineInput::CommandEnded {
                    command,
                    outcome: CommandOutcome::Exited(0),
                    cause: None,
                    facts: RunFacts::default(),
                },
                7 => MachineInput::CommandEnded {
                    command,
                    outcome: CommandOutcome::Signaled(9),
                    cause: None,
                    facts: RunFacts::default(),
                },
                8 => {
                    calls += 1;
                    MachineInput::BreakpointHit { call: CallId(calls), directory: "/".to_owned() }
                }
                15 if random(3) == 0 => impasse(),
                9 => MachineInput::BreakpointGone { call: CallId(random(4) as u64) },
                10 => MachineInput::Resume,
                11 if random(4) == 0 => MachineInput::Stop { at_once: random(2) == 0 },
                11 => MachineInput::Exported(Vec::new()),
                12 if random(4) == 0 => MachineInput::Fault(PhaseContext::default()),
                12 => MachineInput::ProcessesGone,
                13 => MachineInput::Uploaded(if random(2) == 0 {
                    Ok(())
                } else {
                    Err(PhaseContext::default())
                }),
                14 => MachineInput::Finalized,
                _ => {
                    bed.now += Duration::from_secs(random(12) as u64);
                    MachineInput::Tick
                }
            };
            let now = Timestamp { wall: WallTime(0), boot: bed.now };
            let mark = (round % 8 < 4).then(|| (bed.machine.clone(), input.clone()));
            let step = bed.machine.apply(input, now);
            // A clone behaves in exactly the same way.
            if let Some((mut mark, input)) = mark {
                assert_eq!(mark.apply(input, now), step);
                assert_eq!(mark, bed.machine);
            }
            step.events.iter().for_each(|event| law.check(event));
            assert_eq!(bed.machine.is_paused(), !law.paused.is_empty());
            for effect in &step.effects {
                if let MachineEffect::Prepare(preparation) = effect {
                    asked = Some(preparation.clone());
                }
                if let MachineEffect::Checkpoint { .. } | MachineEffect::Rewind { .. } = effect {
                    keeping = Some(effect.clone());
                }
                went_back += usize::from(matches!(effect, MachineEffect::Rewind { .. }));
            }
            let runs = step.effects.iter().any(|effect| matches!(effect, MachineEffect::Run(_)));
            assert!(!runs || law.command.is_some(), "it runs what was not announced");
        }
        ended += usize::from(law.is_over);
    }
    assert!(ended > 1000, "only {ended} builds came to an end");
    assert!(went_back > 5, "only {went_back} rewinds");
}
