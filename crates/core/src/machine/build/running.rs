//! Runs the phases of the buildspec: one command after the other, and what follows each.

use super::{
    BuildMachine, BuildState, CommandOutcome, CommandRun, EventBody, MachineEffect, MachineStep,
    Notice, Phase, PhaseContext, PhaseWork, RunFacts, Status, Timestamp, UserPhase,
    command_failure, exit_code, millis,
};
use crate::debug::{CommandPlace, What};
use crate::event::{Block, StopKind};
use crate::machine::build::held::{AfterStop, CutRun};
use crate::machine::stops::Here;
use crate::spec::{OnFailure, SpecCommand};
use std::time::Duration;

/// The current phase of the buildspec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunningPhase {
    pub(super) phase: UserPhase,
    pub(super) retries: u32,
    pub(super) block: Block,
    pub(super) index: usize,
    pub(super) command: u32,
    /// A person's replacement for the command's text.
    pub(super) edited: Option<String>,
}

impl RunningPhase {
    /// Starts at a place of the buildspec.
    pub(super) fn at(place: CommandPlace) -> Self {
        let CommandPlace { phase, block, index } = place;
        RunningPhase { phase, retries: 0, block, index: index as usize, command: 0, edited: None }
    }

    pub(super) fn place(&self) -> CommandPlace {
        let index = u32::try_from(self.index).unwrap_or(u32::MAX);
        CommandPlace { phase: self.phase, block: self.block, index }
    }

    pub(super) fn text(&self, work: &PhaseWork) -> String {
        let written = || self.written(work).map(|command| command.text.clone());
        self.edited.clone().or_else(written).unwrap_or_default()
    }

    /// The command's line in the buildspec.
    fn line(&self, work: &PhaseWork) -> Option<u32> {
        self.written(work).map(|command| command.span.line).filter(|line| *line > 0)
    }

    /// The command in the buildspec.
    pub(super) fn written<'w>(&self, work: &'w PhaseWork) -> Option<&'w SpecCommand> {
        let list = match self.block {
            Block::Finally => &work.finally,
            Block::Commands | Block::Eval => &work.commands,
        };
        list.get(self.index)
    }

    /// Moves to the next command of the list.
    pub(super) fn advance(&mut self) {
        self.index += 1;
        self.edited = None;
    }

    fn go_to_finally(&mut self) {
        self.block = Block::Finally;
        self.index = 0;
        self.edited = None;
    }
}

impl BuildMachine {
    pub(super) fn enter_user_phase(
        &mut self,
        phase: UserPhase,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        self.enter(phase.into(), now, step);
        self.begun[phase as usize] = now.boot;
        self.arrive(
            RunningPhase::at(CommandPlace { phase, block: Block::Commands, index: 0 }),
            now,
            step,
        );
    }

    /// Handles the command at `running`, or what follows the last one: stops there, skips it, or
    /// runs it.
    pub(super) fn arrive(
        &mut self,
        mut running: RunningPhase,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(work) = self.phase_work(running.phase) else { return };
        loop {
            if running.block == Block::Commands && running.index >= work.commands.len() {
                running.go_to_finally();
            }
            if running.written(&work).is_none() {
                return self.finish_phase(running, now, step);
            }
            let place = running.place();
            let is_skipped = work.is_skipped(place);
            if !is_skipped && self.skip_to.is_none_or(|to| place >= to) {
                break;
            }
            self.skip(&running, &work, step);
            running.advance();
        }
        self.skip_to = None;
        match self.checkpoints.is_due() {
            true => self.save(running, None, step),
            false => self.arrived(running, now, step),
        }
    }

    /// Stops before the current command, or runs it.
    pub(super) fn arrived(
        &mut self,
        running: RunningPhase,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if self.stops.is_idle() {
            return self.launch(running, false, now, step);
        }
        let Some(work) = self.phase_work(running.phase) else { return };
        let text = running.text(&work);
        let place = running.place();
        let is_entry = !std::mem::replace(&mut self.stops.has_entered, true);
        let here = self.here(running.phase.into(), Some(place), self.commands + 1, &text);
        let mut hit = self.stops.take_due();
        let is_behind = !hit.is_empty();
        hit.extend(self.stops.come_to(here, step, |_, what| match what {
            What::Start => is_entry,
            What::Before(before) => *before == place,
            What::Command(pattern) => pattern.is_in(&text),
            _ => false,
        }));
        let is_stepping = std::mem::take(&mut self.stops.is_stepping);
        let kind = match (is_entry && !is_behind, hit.is_empty(), is_stepping) {
            (_, true, false) => return self.launch(running, false, now, step),
            (true, ..) => StopKind::Entry,
            (false, false, _) => StopKind::Before,
            (false, true, true) => StopKind::Step,
        };
        self.hold(kind, AfterStop::Run(running), hit, now, step);
    }

    /// Skips the command. If it has failed before, the failure stands.
    pub(super) fn skip(
        &mut self,
        running: &RunningPhase,
        work: &PhaseWork,
        step: &mut MachineStep,
    ) {
        let place = running.place();
        self.failures.leave(place);
        step.events.push(EventBody::CommandSkipped {
            phase: running.phase.into(),
            block: running.block,
            index: place.index,
            text: running.text(work),
        });
    }

    /// Runs the command at `running`. With `again`, it gets the variables and directory that its
    /// last run began with.
    pub(super) fn launch(
        &mut self,
        mut running: RunningPhase,
        again: bool,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(work) = self.phase_work(running.phase) else { return };
        if self.checkpoints.is_due() {
            return self.save(running, Some(again), step);
        }
        self.checkpoints.is_fresh = false;
        let text = running.text(&work);
        self.stops.has_entered = true;
        self.commands += 1;
        running.command = self.commands;
        self.command_started = now.boot;
        step.events.push(EventBody::CommandStarted {
            command: running.command,
            phase: running.phase.into(),
            block: running.block,
            index: running.place().index,
            text: text.clone(),
            line: running.line(&work),
        });
        let run = CommandRun {
            user: work.user.clone(),
            again,
            ..self.command(running.phase.into(), text)
        };
        step.effects.push(MachineEffect::Run(run));
        self.state = BuildState::Running(running);
    }

    /// Makes the run for the last assigned number, as root.
    pub(super) fn command(&mut self, phase: Phase, text: String) -> CommandRun {
        let (set, unset): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.set).into_iter().partition(|(_, value)| value.is_some());
        let set = set.into_iter().filter_map(|(name, value)| Some((name, value?)));
        CommandRun {
            command: self.commands,
            phase,
            text,
            user: None,
            variables: set.collect(),
            succeeding: self.status == Status::Succeeded && self.failures.of(phase).is_none(),
            last_exit: self.last_exit,
            unset: unset.into_iter().map(|(name, _)| name).collect(),
            again: false,
            wants: self.wants(),
        }
    }

    pub(super) fn command_ended(
        &mut self,
        command: u32,
        how: (&CommandOutcome, Option<&str>),
        facts: RunFacts,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        match &self.state {
            BuildState::Running(running) if running.command == command => {
                let running = running.clone();
                let cut = self.take_cut().filter(|_| !how.0.succeeded());
                self.note_end(command, how.0, facts, now, step);
                match cut {
                    None => self.settle(running, how, now, step),
                    Some(cut) => self.settle_cut(running, cut, how, now, step),
                }
            }
            BuildState::SettingUp(setting_up) if setting_up.command == command => {
                let setting_up = setting_up.clone();
                let cut = self.take_cut().filter(|_| !how.0.succeeded());
                self.note_end(command, how.0, facts, now, step);
                match cut {
                    None => self.setup_command_ended(setting_up, how, now, step),
                    Some(cut) => self.setup_cut(setting_up, cut, how, now, step),
                }
            }
            BuildState::Evaluating { command: running, .. } if *running == command => {
                self.evaluated(command, how.0, facts, now, step);
            }
            // The build is ending, so the command's result no longer matters.
            _ => {}
        }
    }

    fn note_end(
        &mut self,
        command: u32,
        outcome: &CommandOutcome,
        facts: RunFacts,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        self.melt(now, step);
        self.last_exit = exit_code(outcome);
        let elapsed = now.boot.saturating_sub(self.command_started);
        let changed = facts.changed.clone();
        self.checkpoints.is_seen = changed.as_ref().is_some_and(|changed| changed.why.is_none());
        self.stops.ran(outcome, elapsed, facts);
        step.events.push(EventBody::CommandEnded {
            command,
            outcome: outcome.clone(),
            duration_ms: millis(elapsed),
        });
        step.events.extend(changed.map(EventBody::FilesChanged));
    }

    fn settle(
        &mut self,
        mut running: RunningPhase,
        (outcome, cause): (&CommandOutcome, Option<&str>),
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(work) = self.phase_work(running.phase) else { return };
        let place = running.place();
        let is_asked = !self.stops.is_idle();
        if outcome.succeeded() {
            self.failures.succeeded(place);
            if is_asked {
                let text = running.text(&work);
                let here = self.here(running.phase.into(), Some(place), running.command, &text);
                self.stops.behind_run(here, false, step);
            }
            running.advance();
            return self.arrive(running, now, step);
        }
        let text = running.text(&work);
        let failure = command_failure(&text, outcome, cause);
        let is_last = running.block == Block::Finally || !may_retry(&work, &running, &failure);
        self.failures.failed(place, failure);
        if is_asked {
            let here = self.here(running.phase.into(), Some(place), running.command, &text);
            self.stops.behind_run(here, true, step);
            let mut hit = self.stops.take_due();
            hit.extend(self.stops.come_to(here, step, |_, what| match what {
                What::Failure => is_last,
                What::AnyFailure => true,
                _ => false,
            }));
            if !hit.is_empty() {
                let next = AfterStop::Failed { running, has_evaluated: false };
                return self.hold(StopKind::Failed, next, hit, now, step);
            }
        }
        self.fail(running, now, step);
    }

    /// Handles the end of a run that a person cut off. It counts as failed, whatever follows.
    fn settle_cut(
        &mut self,
        mut running: RunningPhase,
        cut: CutRun,
        (outcome, cause): (&CommandOutcome, Option<&str>),
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(work) = self.phase_work(running.phase) else { return };
        let place = running.place();
        self.failures.failed(place, command_failure(&running.text(&work), outcome, cause));
        match cut {
            CutRun::Skip => {
                self.failures.leave(place);
                running.advance();
                self.arrive(running, now, step);
            }
            CutRun::Retry(text) => {
                running.edited = text.or(running.edited);
                self.launch(running, true, now, step);
            }
        }
    }

    /// Handles a failure: retries the phase, runs its `finally`, or ends it.
    pub(super) fn fail(
        &mut self,
        mut running: RunningPhase,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(work) = self.phase_work(running.phase) else { return };
        let place = running.place();
        match running.block {
            Block::Commands | Block::Eval => {
                let failure = self.failures.at(place).cloned().unwrap_or_default();
                if may_retry(&work, &running, &failure) {
                    running.retries += 1;
                    running.index = 0;
                    running.edited = None;
                    let how =
                        self.stops.outcome().map_or_else(String::new, CommandOutcome::to_string);
                    let text = format!(
                        "{} failed ({how}); on-failure retries it, {} of {}",
                        Phase::from(running.phase),
                        running.retries,
                        retry_count(&work)
                    );
                    step.events.push(EventBody::Notice(Notice::note(text)));
                } else {
                    self.failures.leave(place);
                    running.go_to_finally();
                }
                self.arrive(running, now, step);
            }
            // The rest of the block is skipped. The first failure of the phase is reported.
            Block::Finally => {
                self.failures.leave(place);
                self.finish_phase(running, now, step);
            }
        }
    }

    /// Handles the end of a phase: stops there, or ends it.
    fn finish_phase(&mut self, running: RunningPhase, now: Timestamp, step: &mut MachineStep) {
        if self.stops.is_idle() {
            return self.end_user_phase(&running, now, step);
        }
        let here = self.here(running.phase.into(), None, self.commands, "");
        let mut hit = self.stops.take_due();
        let is_after = |what: &What| matches!(what, What::AfterPhase(at) if *at == running.phase);
        hit.extend(self.stops.come_to(here, step, |_, what| is_after(what)));
        if hit.is_empty() {
            self.end_user_phase(&running, now, step);
        } else {
            self.hold(StopKind::After, AfterStop::EndPhase(running), hit, now, step);
        }
    }

    pub(super) fn end_user_phase(
        &mut self,
        running: &RunningPhase,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let Some(work) = self.phase_work(running.phase) else { return };
        let failure = self.failures.of(running.phase.into()).cloned();
        let failed = failure.is_some();
        if let Some(failure) = &failure {
            self.worsen(Status::Failed, failure);
        }
        let status = if failed { Status::Failed } else { Status::Succeeded };
        self.leave(status, vec![failure.unwrap_or_default()], now, step);
        let next = Phase::after_user_phase(running.phase, failed, &work.on_failure);
        match next.user_phase() {
            Some(phase) => self.enter_user_phase(phase, now, step),
            None if next == Phase::UploadArtifacts => {
                self.enter(next, now, step);
                self.state = BuildState::Uploading;
                let succeeding = self.status == Status::Succeeded;
                step.effects.push(MachineEffect::Upload { succeeding });
            }
            None => self.finalize(now, step),
        }
    }

    /// The current position, for breakpoints.
    pub(super) fn here<'h>(
        &self,
        phase: Phase,
        place: Option<CommandPlace>,
        run: u32,
        text: &'h str,
    ) -> Here<'h> {
        Here { phase, place, run, text, status: self.last_exit, elapsed: None }
    }

    /// How long the current run has taken.
    pub(super) fn elapsed(&self, now: Timestamp) -> Duration {
        now.boot.saturating_sub(self.command_started)
    }
}

fn may_retry(work: &PhaseWork, running: &RunningPhase, failure: &PhaseContext) -> bool {
    let OnFailure::Retry(retry) = &work.on_failure else { return false };
    running.retries < retry.count
        && retry.pattern.as_deref().is_none_or(|pattern| {
            // The pattern was validated with the buildspec.
            regex_lite::Regex::new(pattern).is_ok_and(|regex| regex.is_match(&failure.message))
        })
}

fn retry_count(work: &PhaseWork) -> u32 {
    match &work.on_failure {
        OnFailure::Retry(retry) => retry.count,
        OnFailure::Default | OnFailure::Abort | OnFailure::Continue => 0,
    }
}
