//! A build at a stop, and what follows it. Also runs that are frozen.

use super::{
    BreakpointId, BuildMachine, BuildState, CommandOutcome, EventBody, MachineEffect, MachineStep,
    Notice, PhaseContext, ResumedBy, RunFacts, RunningPhase, SettingUp, Timestamp, millis,
};
use crate::debug::{CommandPlace, Decision, DecisionKind, What};
use crate::event::{Block, Scene, StopFacts, StopKind};
use crate::machine::Standstill;
use crate::machine::pause::Cause;
use std::sync::Arc;
use std::time::Duration;

/// A build at a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldBuild {
    pub(super) kind: StopKind,
    pub(super) next: AfterStop,
}

impl HeldBuild {
    /// Number of the failed run.
    pub(super) fn at_hand(&self) -> Option<u32> {
        match &self.next {
            AfterStop::Failed { running, .. } => Some(running.command),
            AfterStop::Run(_) | AfterStop::EndPhase(_) | AfterStop::Setup { .. } => None,
        }
    }
}

/// What follows a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AfterStop {
    /// The command runs.
    Run(RunningPhase),
    /// The command's failure is handled.
    Failed {
        running: RunningPhase,
        /// Whether an evaluated text may have changed the shell's state.
        has_evaluated: bool,
    },
    /// The phase ends.
    EndPhase(RunningPhase),
    /// The failure of a command that installs runtimes is handled.
    Setup { setting_up: SettingUp, failure: PhaseContext, has_evaluated: bool },
}

/// The frozen run, or the request to freeze it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FreezingRun {
    /// Breakpoints that caused the request.
    hit: Vec<BreakpointId>,
    /// Whether a person made the request.
    by_hand: bool,
    /// Whether the request is not answered yet.
    is_asked: bool,
    /// Whether the run is frozen.
    pub(super) is_frozen: bool,
    /// What follows the run if a person cut it off.
    cut: Option<CutRun>,
}

/// What follows a run that a person cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CutRun {
    /// The next command of the list.
    Skip,
    /// The same command, or another text in its place.
    Retry(Option<String>),
}

impl BuildMachine {
    /// Stops, and waits for a decision.
    pub(super) fn hold(
        &mut self,
        kind: StopKind,
        next: AfterStop,
        breakpoints: Vec<BreakpointId>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let (place, run, text) = match &next {
            AfterStop::Run(running) => {
                (Some(running.place()), self.commands + 1, self.text_of(running))
            }
            AfterStop::Failed { running, .. } => {
                (Some(running.place()), running.command, self.text_of(running))
            }
            AfterStop::EndPhase(_) => (None, self.commands, String::new()),
            AfterStop::Setup { setting_up, .. } => {
                (None, setting_up.command, setting_up.text.clone())
            }
        };
        self.checkpoints.is_fresh = false;
        self.checkpoints.is_seen = false;
        let decisions = self.decisions(kind, &next);
        let mut scene = self.stops.scene().clone();
        if kind != StopKind::Failed {
            (scene.failure, scene.output) = (None, String::new());
        }
        let line = place.and_then(|place| self.line_of(place));
        self.state = BuildState::Held(Box::new(HeldBuild { kind, next }));
        let stop = StopFacts { kind, place, run, text, breakpoints, decisions, line, scene };
        self.pause(Cause::Stop, self.directory(), (None, Some(stop)), now, step);
    }

    fn text_of(&self, running: &RunningPhase) -> String {
        self.phase_work(running.phase).map(|work| running.text(&work)).unwrap_or_default()
    }

    /// The buildspec line where a command begins.
    fn line_of(&self, place: CommandPlace) -> Option<u32> {
        let work = self.phase_work(place.phase)?;
        RunningPhase::at(place).written(&work).map(|command| command.span.line)
    }

    fn directory(&self) -> String {
        match self.stops.directory() {
            "" => self.plan.places.source.clone(),
            directory => directory.to_owned(),
        }
    }

    /// Ends the pause of the stop.
    pub(super) fn leave_stop(&mut self, now: Timestamp, step: &mut MachineStep) {
        if let Some(pause) = self.pauses.end_stop() {
            self.resumed(&pause, ResumedBy::Decision, now, step);
        }
    }

    /// Goes on as if the build had not stopped.
    pub(super) fn go_on(&mut self, now: Timestamp, step: &mut MachineStep) {
        if self.freezing.is_frozen {
            return self.thaw(step);
        }
        let BuildState::Held(held) = &self.state else { return };
        match held.next.clone() {
            AfterStop::Run(running) => self.launch(running, false, now, step),
            AfterStop::Failed { running, .. } => self.fail(running, now, step),
            AfterStop::EndPhase(running) => self.end_user_phase(&running, now, step),
            AfterStop::Setup { failure, .. } => self.setup_failed(failure, now, step),
        }
    }

    /// Evaluates a text in the shell state of the build's commands.
    pub(super) fn evaluate(&mut self, text: String, now: Timestamp, step: &mut MachineStep) {
        let BuildState::Held(held) = &mut self.state else { return };
        match &mut held.next {
            AfterStop::Failed { has_evaluated, .. } | AfterStop::Setup { has_evaluated, .. } => {
                *has_evaluated = true;
            }
            AfterStop::Run(_) | AfterStop::EndPhase(_) => {}
        }
        let held = held.clone();
        self.commands += 1;
        self.checkpoints.number_taken(self.commands);
        self.command_started = now.boot;
        // An evaluated text counts against the build's time limit.
        self.stopwatch.go_on(now.boot);
        step.events.push(EventBody::CommandStarted {
            command: self.commands,
            phase: self.phase,
            block: Block::Eval,
            index: 0,
            text: text.clone(),
            line: None,
        });
        let mut run = self.command(self.phase, text);
        let work = self.phase.user_phase().and_then(|phase| self.phase_work(phase));
        run.user = work.and_then(|work| work.user.clone());
        step.effects.push(MachineEffect::Run(run));
        self.state = BuildState::Evaluating { held, command: self.commands };
    }

    pub(super) fn evaluated(
        &mut self,
        command: u32,
        outcome: &CommandOutcome,
        facts: RunFacts,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let BuildState::Evaluating { held, .. } = &self.state else { return };
        self.state = BuildState::Held(held.clone());
        let changed = facts.changed.clone();
        self.stops.evaluated(facts);
        step.events.push(EventBody::CommandEnded {
            command,
            outcome: outcome.clone(),
            duration_ms: millis(self.elapsed(now)),
        });
        step.events.extend(changed.map(EventBody::FilesChanged));
        self.pauses.seen(now.boot);
        if !self.plan.limits.timeout_while_paused {
            self.stopwatch.stop(now.boot);
        }
    }

    /// Handles a person's request to pause the run.
    pub(super) fn pause_by_hand(&mut self, step: &mut MachineStep) {
        self.freezing.by_hand |= self.in_run().is_some();
        self.freeze(step);
    }

    /// Requests to freeze the run.
    pub(super) fn freeze(&mut self, step: &mut MachineStep) {
        let is_due = !self.freezing.is_frozen && !self.freezing.is_asked;
        if let Some((command, ..)) = self.in_run().filter(|_| is_due) {
            self.freezing.is_asked = true;
            step.effects.push(MachineEffect::Freeze { command });
        }
    }

    pub(super) fn frozen(
        &mut self,
        command: u32,
        result: Result<Standstill, String>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let at_hand = self.in_run().filter(|(running, ..)| *running == command);
        let Some((run, place, text)) = at_hand.filter(|_| !self.freezing.is_frozen) else {
            // The run has ended meanwhile; thaw whatever it started. If another run is about to
            // freeze, the end of that one thaws everything.
            if result.is_ok() && !self.freezing.is_frozen && !self.freezing.is_asked {
                step.effects.push(MachineEffect::Thaw);
            }
            return;
        };
        self.freezing.is_asked = false;
        // If the run ends anyway, the build stops after it.
        let breakpoints = self.freezing.hit.clone();
        let Standstill { output, notice } = match result {
            Ok(standstill) => standstill,
            Err(why) => {
                self.freezing = FreezingRun::default();
                let text = format!("the command cannot be paused: {why}");
                step.events.push(EventBody::Notice(Notice::warning(text)));
                return;
            }
        };
        step.events.extend(notice.map(|text| EventBody::Notice(Notice::note(text))));
        self.freezing.is_frozen = true;
        let kind = StopKind::Pause;
        let decisions = self.decisions_in_run();
        let line = place.and_then(|place| self.line_of(place));
        let scene = Scene { output, ..Scene::default() };
        let stop = StopFacts { kind, place, run, text, breakpoints, decisions, line, scene };
        self.pause(Cause::Stop, self.directory(), (None, Some(stop)), now, step);
    }

    /// The current run: number, place and text.
    fn in_run(&self) -> Option<(u32, Option<CommandPlace>, String)> {
        match &self.state {
            BuildState::Running(running) => {
                Some((running.command, Some(running.place()), self.text_of(running)))
            }
            BuildState::SettingUp(setting_up) => {
                Some((setting_up.command, None, setting_up.text.clone()))
            }
            _ => None,
        }
    }

    /// Thaws a frozen run.
    pub(super) fn thaw(&mut self, step: &mut MachineStep) {
        if std::mem::take(&mut self.freezing).is_frozen {
            step.effects.push(MachineEffect::Thaw);
        }
    }

    /// Cuts off a frozen run. What follows is handled when the run has ended.
    pub(super) fn cut(&mut self, cut: CutRun, now: Timestamp, step: &mut MachineStep) {
        let Some((command, ..)) = self.in_run() else { return };
        self.leave_stop(now, step);
        self.freezing = FreezingRun { cut: Some(cut), ..FreezingRun::default() };
        step.effects.push(MachineEffect::Cut { command });
    }

    /// Takes what follows the ended run, if a person cut it off.
    pub(super) fn take_cut(&mut self) -> Option<CutRun> {
        self.freezing.cut.take()
    }

    /// Cleans up after a run has ended, frozen or not.
    pub(super) fn melt(&mut self, now: Timestamp, step: &mut MachineStep) {
        if self.freezing.is_frozen
            && let Some(pause) = self.pauses.end_stop()
        {
            self.resumed(&pause, ResumedBy::Gone, now, step);
        }
        if self.freezing.cut.is_none() {
            // The build stops after the run instead.
            self.stops.put_off(std::mem::take(&mut self.freezing.hit));
            self.stops.is_stepping |= self.freezing.by_hand;
        }
        self.thaw(step);
    }

    pub(super) fn watched(
        &mut self,
        command: u32,
        breakpoint: BreakpointId,
        output: Option<Arc<str>>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if self.in_run().is_some_and(|(running, ..)| running == command) {
            self.stops.wrote_so_far(output);
            self.come_to_in_run(|id, _| id == breakpoint, now, step);
        }
    }

    /// When a `longer` breakpoint has to look at the run.
    pub(super) fn looks_at_run(&self) -> Option<Duration> {
        let is_running = self.is_in_command() && !self.freezing.is_frozen;
        let longer = is_running.then(|| self.stops.longer(self.commands)).flatten()?;
        Some(self.command_started + longer)
    }

    pub(super) fn look_at_run(&mut self, now: Timestamp, step: &mut MachineStep) {
        let elapsed = self.elapsed(now);
        let is_due = |what: &What| matches!(what, What::Longer(time) if *time <= elapsed);
        self.come_to_in_run(|_, what| is_due(what), now, step);
        self.stops.has_looked(self.commands, elapsed);
    }

    fn come_to_in_run(
        &mut self,
        is_it: impl Fn(BreakpointId, &What) -> bool,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some((run, place, text)) = self.in_run() else { return };
        let mut here = self.here(self.phase, place, run, &text);
        here.elapsed = Some(self.elapsed(now));
        let hit = self.stops.come_to(here, step, is_it);
        if !hit.is_empty() {
            self.freezing.hit.extend(hit);
            self.freeze(step);
        }
    }
}

/// The possible decisions during a run.
const PAUSED: [DecisionKind; 7] = [
    DecisionKind::Resume,
    DecisionKind::Step,
    DecisionKind::Retry,
    DecisionKind::Edit,
    DecisionKind::Skip,
    DecisionKind::Abort,
    DecisionKind::Set,
];

impl BuildMachine {
    /// The possible decisions at a stop.
    pub(super) fn decisions(&self, kind: StopKind, next: &AfterStop) -> Vec<DecisionKind> {
        let mut list = decisions(next);
        if self.checkpoints.is_on() && !matches!(next, AfterStop::Setup { .. }) {
            list.push(DecisionKind::Rewind);
            if kind == StopKind::Failed {
                list.push(DecisionKind::Clean);
            }
        }
        list
    }

    /// The possible decisions during a run of this build.
    fn decisions_in_run(&self) -> Vec<DecisionKind> {
        let mut list = PAUSED.to_vec();
        if self.checkpoints.is_on() && matches!(self.state, BuildState::Running(_)) {
            list.push(DecisionKind::Rewind);
        }
        list
    }
}

/// The possible decisions without checkpoints.
fn decisions(next: &AfterStop) -> Vec<DecisionKind> {
    use DecisionKind::{Abort, Edit, Eval, Rerun, Resume, Retry, Set, Skip, Step};
    let list: &[DecisionKind] = match next {
        AfterStop::Setup { .. } => &[Resume, Step, Retry, Edit, Skip, Abort, Eval, Set],
        AfterStop::Failed { .. } => &[Resume, Step, Retry, Edit, Skip, Rerun, Abort, Eval, Set],
        AfterStop::Run(_) => &[Resume, Step, Edit, Skip, Rerun, Abort, Eval, Set],
        AfterStop::EndPhase(_) => &[Resume, Step, Rerun, Abort, Eval, Set],
    };
    list.to_vec()
}

/// Whether a decision is possible during a run.
pub(super) fn applies_in_run(decision: &Decision) -> bool {
    PAUSED.contains(&decision.kind())
}
