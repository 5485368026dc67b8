//! Checkpoints of a build, and rewinds to them.
//!
//! A checkpoint is taken before each run: when the command is reached, and again when the build
//! leaves a stop before the run, because people may have changed something there. With each
//! checkpoint, the machine saves its own state.

use super::held::{AfterStop, FreezingRun};
use super::running::RunningPhase;
use super::{
    BuildMachine, BuildState, CommandOutcome, EventBody, MachineEffect, MachineStep, Notice,
    PhaseContext, Timestamp, millis,
};
use crate::debug::{CommandPlace, NO_CHECKPOINTS, Rewind, RunRef, Then};
use crate::event::{CheckpointFacts, CheckpointKind, RewoundFacts, StopKind};
use crate::machine::failures::Failures;
use crate::machine::step::{CheckpointId, Gone, TakenCheckpoint, Unkept};
use crate::machine::stops::Memory;
use crate::phase::{Phase, Status};
use std::time::Duration;

/// The checkpoints of a build so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineCheckpoints {
    mode: CheckpointMode,
    last: CheckpointId,
    /// Whether nothing can have changed since the last checkpoint.
    pub(super) is_fresh: bool,
    /// Whether the last run's changes are known and nobody could change anything since.
    pub(super) is_seen: bool,
    marks: Vec<MachineMark>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum CheckpointMode {
    #[default]
    Off,
    On,
    /// The container does not support checkpoints.
    Never(String),
}

/// The state of a build before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MachineMark {
    run: u32,
    /// The checkpoint, or why there is none.
    checkpoint: Result<CheckpointId, String>,
    running: RunningPhase,
    phase: Phase,
    phase_started: Duration,
    begun: [Duration; 4],
    last_exit: i32,
    status: Status,
    reason: Option<String>,
    failures: Failures,
    setup_failure: Option<PhaseContext>,
    set: Vec<(String, Option<String>)>,
    stops: Memory,
}

/// A checkpoint in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saving {
    id: CheckpointId,
    running: RunningPhase,
    /// Whether the command launches afterwards, without another look at breakpoints.
    is_launch: bool,
}

/// A rewind in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewinding {
    mark: usize,
    without_edits: bool,
    then: Then,
}

impl MachineCheckpoints {
    pub(super) fn new(is_on: bool) -> Self {
        let mode = if is_on { CheckpointMode::On } else { CheckpointMode::Off };
        MachineCheckpoints { mode, ..MachineCheckpoints::default() }
    }

    /// Returns why there are no checkpoints, or `None` if there are.
    pub(super) fn lack(&self) -> Option<String> {
        match &self.mode {
            CheckpointMode::Off => Some(NO_CHECKPOINTS.to_owned()),
            CheckpointMode::Never(why) => Some(format!("no checkpoints: {why}")),
            CheckpointMode::On => None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.mode == CheckpointMode::On
    }

    /// Whether to take a checkpoint before the next run.
    pub(super) fn is_due(&self) -> bool {
        self.is_on() && !self.is_fresh
    }

    /// Moves marks to the next number, because an evaluated text has taken theirs.
    pub(super) fn number_taken(&mut self, run: u32) {
        let marks = self.marks.iter_mut().rev();
        marks.take_while(|mark| mark.run == run).for_each(|mark| mark.run += 1);
    }

    /// Numbers of the runs that count, up to `last`.
    fn runs(&self, last: u32) -> Vec<u32> {
        let mut runs: Vec<u32> = self.marks.iter().map(|mark| mark.run).collect();
        runs.dedup();
        runs.retain(|run| *run <= last);
        runs
    }

    /// Finds the mark to go back to.
    fn find(&self, rewind: &Rewind, last: u32) -> Result<usize, String> {
        if let Some(why) = self.lack() {
            return Err(why);
        }
        let newest = self.newest(rewind.to.unwrap_or(RunRef::Back(1)), last)?;
        let at = if rewind.without_edits { self.first_of(newest) } else { newest };
        let run = self.marks[at].run;
        let Err(why) = &self.marks[at].checkpoint else { return Ok(at) };
        let earlier = self.marks[..at].iter().rposition(|mark| mark.checkpoint.is_ok());
        match earlier {
            Some(earlier) if rewind.nearest => Ok(earlier),
            Some(earlier) => {
                let nearest = self.marks[earlier].run;
                let how = if nearest == run { "--without-edits" } else { "--nearest" };
                Err(format!(
                    "there is no checkpoint before run {run}: {why}; the nearest one is before run {nearest}: {how}"
                ))
            }
            None => {
                Err(format!("there is no checkpoint before run {run}, and no earlier one: {why}"))
            }
        }
    }

    /// The last mark before a run.
    fn newest(&self, named: RunRef, last: u32) -> Result<usize, String> {
        let runs = self.runs(last);
        let of = |run: u32| self.marks.iter().rposition(|mark| mark.run == run);
        let found = match named {
            RunRef::Number(run) => of(run),
            RunRef::Back(back) => runs.len().checked_sub(back as usize).and_then(|at| of(runs[at])),
            RunRef::At(place) => self.marks.iter().rposition(|mark| mark.running.place() == place),
        };
        found.ok_or_else(|| match named {
            RunRef::Number(run) if run > last => format!("run {run} has not been yet"),
            RunRef::Number(run) => format!(
                "run {run} does not count: it is not a buildspec command, or a rewind has undone it"
            ),
            RunRef::Back(_) if runs.is_empty() => "no command has run yet".to_owned(),
            RunRef::Back(_) => format!("only {} runs count", runs.len()),
            RunRef::At(place) => format!("{place} has not been come to"),
        })
    }

    /// The first mark before the same run of the same command.
    fn first_of(&self, newest: usize) -> usize {
        let mark = &self.marks[newest];
        let is_same = |other: &&MachineMark| other.is_before(mark.run, &mark.running);
        newest - self.marks[..newest].iter().rev().take_while(is_same).count()
    }
}

impl MachineMark {
    /// Whether the mark precedes this run of this command. A skipped command leaves its number to
    /// the next one, so the number alone is not enough.
    fn is_before(&self, run: u32, running: &RunningPhase) -> bool {
        self.run == run && self.running.place() == running.place()
    }
}

impl BuildMachine {
    /// Takes a checkpoint when the command is reached, or before it runs if `launch` is set.
    pub(super) fn save(
        &mut self,
        running: RunningPhase,
        launch: Option<bool>,
        step: &mut MachineStep,
    ) {
        let id = self.checkpoints.last.next();
        self.checkpoints.last = id;
        let again = launch == Some(true);
        let (before, is_seen) = (self.commands + 1, self.checkpoints.is_seen);
        step.effects.push(MachineEffect::Checkpoint { id, before, again, is_seen });
        self.state =
            BuildState::Saving(Box::new(Saving { id, running, is_launch: launch.is_some() }));
    }

    pub(super) fn checkpointed(
        &mut self,
        id: CheckpointId,
        result: Result<TakenCheckpoint, Unkept>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let BuildState::Saving(saving) = &self.state else { return };
        if saving.id != id {
            return;
        }
        let Saving { running, is_launch, .. } = (**saving).clone();
        self.mark(&running, id, result, step);
        self.checkpoints.is_fresh = true;
        match is_launch {
            true => self.launch(running, false, now, step),
            false => self.arrived(running, now, step),
        }
    }

    fn mark(
        &mut self,
        running: &RunningPhase,
        id: CheckpointId,
        result: Result<TakenCheckpoint, Unkept>,
        step: &mut MachineStep,
    ) {
        let run = self.commands + 1;
        let is_second =
            self.checkpoints.marks.last().is_some_and(|mark| mark.is_before(run, running));
        let none = |why: String, ms: u64| CheckpointFacts {
            before: run,
            kind: CheckpointKind::None,
            why: Some(why),
            entries: 0,
            bytes: 0,
            ms,
        };
        let (facts, checkpoint) = match result {
            // The previous checkpoint has the same content.
            Ok(kept) if is_second && !kept.is_new => return,
            Ok(TakenCheckpoint { kind, why, entries, bytes, ms, .. }) => {
                (CheckpointFacts { before: run, kind, why, entries, bytes, ms }, Ok(id))
            }
            Err(Unkept::Now { why, ms }) => (none(why.clone(), ms), Err(why)),
            Err(Unkept::Never(why)) => {
                self.checkpoints.mode = CheckpointMode::Never(why.clone());
                step.events.push(EventBody::Checkpoint(none(why.clone(), 0)));
                if self.stops.all().any(|(_, _, breakpoint)| breakpoint.wants_changes()) {
                    let text = format!("breakpoints `wrote:` are never come to: {why}");
                    step.events.push(EventBody::Notice(Notice::warning(text)));
                }
                return;
            }
        };
        step.events.push(EventBody::Checkpoint(facts));
        self.checkpoints.marks.push(MachineMark {
            run,
            checkpoint,
            running: running.clone(),
            phase: self.phase,
            phase_started: self.phase_started,
            begun: self.begun,
            last_exit: self.last_exit,
            status: self.status,
            reason: self.reason.clone(),
            failures: self.failures.clone(),
            setup_failure: self.setup_failure.clone(),
            set: self.set.clone(),
            stops: self.stops.memory(),
        });
    }

    /// Returns why a rewind is not possible, in one sentence.
    pub(super) fn refused_rewind(&self, rewind: &Rewind, at_hand: Option<u32>) -> Option<String> {
        self.checkpoints.find(&named(rewind, at_hand), self.commands).err()
    }

    /// The place that a rewind leads to.
    pub(super) fn rewinds_to(&self, rewind: &Rewind, at_hand: Option<u32>) -> Option<CommandPlace> {
        let mark = self.checkpoints.find(&named(rewind, at_hand), self.commands).ok()?;
        Some(self.checkpoints.marks[mark].running.place())
    }

    /// Starts a rewind. Running processes are killed with their container.
    pub(super) fn rewind(
        &mut self,
        rewind: Rewind,
        at_hand: Option<u32>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Ok(mark) = self.checkpoints.find(&named(&rewind, at_hand), self.commands) else {
            return;
        };
        let Ok(id) = self.checkpoints.marks[mark].checkpoint else { return };
        self.leave_stop(now, step);
        if let BuildState::Running(running) = &self.state {
            step.events.push(EventBody::CommandEnded {
                command: running.command,
                outcome: CommandOutcome::Cut,
                duration_ms: millis(self.elapsed(now)),
            });
        }
        self.freezing = FreezingRun::default();
        let Rewind { then, without_edits, .. } = rewind;
        self.state = BuildState::Rewinding(Box::new(Rewinding { mark, without_edits, then }));
        step.effects.push(MachineEffect::Rewind { id });
    }

    pub(super) fn rewound(
        &mut self,
        result: Result<Gone, PhaseContext>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let BuildState::Rewinding(rewinding) = &self.state else { return };
        let Rewinding { mark: at, without_edits, then } = (**rewinding).clone();
        let Gone { processes, sessions, ms } = match result {
            Ok(gone) => gone,
            Err(context) => return self.fault(context, now, step),
        };
        let mark = self.checkpoints.marks[at].clone();
        let mut lost = self.checkpoints.runs(self.commands);
        lost.retain(|run| *run >= mark.run);
        let (to, place) = (mark.run, mark.running.place());
        let facts = RewoundFacts { to, place, lost, without_edits, processes, sessions, ms };
        step.events.push(EventBody::Rewound(Box::new(facts)));
        self.restore(&mark);
        let mut running = mark.running.clone();
        self.checkpoints.marks.truncate(self.checkpoints.first_of(at));
        self.checkpoints.marks.push(MachineMark { run: self.commands + 1, ..mark });
        self.checkpoints.is_fresh = true;
        self.checkpoints.is_seen = false;
        match then {
            Then::Stop => {
                self.hold(StopKind::Before, AfterStop::Run(running), Vec::new(), now, step);
            }
            Then::Resume => self.launch(running, false, now, step),
            Then::Retry { text } => {
                running.edited = text.or(running.edited);
                self.launch(running, false, now, step);
            }
        }
    }

    /// Restores a saved state. Run numbers, clock and pauses are kept, because they only grow.
    fn restore(&mut self, mark: &MachineMark) {
        self.phase = mark.phase;
        self.phase_started = mark.phase_started;
        self.begun = mark.begun;
        self.last_exit = mark.last_exit;
        self.status = mark.status;
        self.reason.clone_from(&mark.reason);
        self.failures.go_back_to(&mark.failures);
        self.setup_failure.clone_from(&mark.setup_failure);
        self.set.clone_from(&mark.set);
        self.skip_to = None;
        self.stops.remember(&mark.stops);
    }
}

/// Resolves a rewind without a target: if it repeats a command, the target is the current run.
fn named(rewind: &Rewind, at_hand: Option<u32>) -> Rewind {
    let is_again = matches!(rewind.then, Then::Retry { .. });
    let at_hand = at_hand.filter(|_| is_again).map(RunRef::Number);
    Rewind { to: rewind.to.or(at_hand), ..rewind.clone() }
}
