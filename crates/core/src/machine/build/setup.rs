//! The end of DOWNLOAD_SOURCE: commands that install runtimes, and the log lines before the phases.

use super::held::{AfterStop, CutRun};
use super::{
    BuildMachine, BuildState, CommandOutcome, CommandRun, EventBody, MachineEffect, MachineStep,
    Phase, PhaseContext, Status, Timestamp, command_failure,
};
use crate::debug::What;
use crate::event::{Block, StopKind};
use crate::plan::PlannedWork;
use crate::runtimes::SetupCommand;
use crate::spec::UserPhase;

/// Progress of the commands that install runtimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SettingUp {
    left: std::collections::VecDeque<SetupCommand>,
    pub(super) command: u32,
    pub(super) text: String,
    variables: Vec<(String, String)>,
    index: u32,
}

impl SettingUp {
    /// Replaces the current command's text.
    pub(super) fn with(self, text: Option<String>) -> Self {
        SettingUp { text: text.unwrap_or(self.text), ..self }
    }

    /// Moves past the current command.
    pub(super) fn past(self) -> Self {
        SettingUp { index: self.index + 1, ..self }
    }
}

impl BuildMachine {
    pub(super) fn install_runtimes(
        &mut self,
        commands: Vec<SetupCommand>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let (left, text, variables) = (commands.into(), String::new(), Vec::new());
        self.run_setup(SettingUp { left, command: 0, text, variables, index: 0 }, now, step);
    }

    /// Runs the next command, or begins the phases after the last one.
    pub(super) fn run_setup(
        &mut self,
        mut setting_up: SettingUp,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        match setting_up.left.pop_front() {
            Some(SetupCommand { text, variables }) => {
                let next = SettingUp { text, variables, ..setting_up };
                self.launch_setup(next, false, now, step);
            }
            None => self.setup_done(now, step),
        }
    }

    /// Runs the current command. With `again`, it gets the variables and directory that its last
    /// run began with.
    pub(super) fn launch_setup(
        &mut self,
        mut setting_up: SettingUp,
        again: bool,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        self.commands += 1;
        self.command_started = now.boot;
        step.events.push(EventBody::CommandStarted {
            command: self.commands,
            phase: Phase::DownloadSource,
            block: Block::Commands,
            index: setting_up.index,
            text: setting_up.text.clone(),
            line: None,
        });
        let run = self.command(Phase::DownloadSource, setting_up.text.clone());
        step.effects.push(MachineEffect::Run(CommandRun {
            variables: [&setting_up.variables[..], &run.variables].concat(),
            succeeding: self.setup_failure.is_none(),
            again,
            ..run
        }));
        setting_up.command = self.commands;
        self.state = BuildState::SettingUp(setting_up);
    }

    pub(super) fn setup_command_ended(
        &mut self,
        setting_up: SettingUp,
        (outcome, cause): (&CommandOutcome, Option<&str>),
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if outcome.succeeded() {
            return self.run_setup(setting_up.past(), now, step);
        }
        let failure = command_failure(&setting_up.text, outcome, cause);
        let here = self.here(Phase::DownloadSource, None, setting_up.command, &setting_up.text);
        let hit = self
            .stops
            .come_to(here, step, |_, what| matches!(what, What::Failure | What::AnyFailure));
        if hit.is_empty() {
            self.setup_failed(failure, now, step);
        } else {
            let next = AfterStop::Setup { setting_up, failure, has_evaluated: false };
            self.hold(StopKind::Failed, next, hit, now, step);
        }
    }

    /// Handles the end of a run that a person cut off.
    pub(super) fn setup_cut(
        &mut self,
        setting_up: SettingUp,
        cut: CutRun,
        (outcome, cause): (&CommandOutcome, Option<&str>),
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        match cut {
            CutRun::Skip => {
                let failure = command_failure(&setting_up.text, outcome, cause);
                self.setup_failure.get_or_insert(failure);
                self.run_setup(setting_up.past(), now, step);
            }
            CutRun::Retry(text) => self.launch_setup(setting_up.with(text), true, now, step),
        }
    }

    fn setup_done(&mut self, now: Timestamp, step: &mut MachineStep) {
        self.agent(step, &format!("Moving to directory {}", self.plan.places.source));
        let work = self.plan.work.as_ref().ok();
        if work.is_none_or(|work| work.cache.is_none()) {
            self.agent(step, "Cache is not defined in the buildspec");
        }
        if work.is_none_or(|work| work.cache.as_ref().is_none_or(|cache| cache.paths.is_empty())) {
            self.agent(step, "Skip cache due to: no paths specified to be cached");
        }
        self.agent(step, "Registering with agent");
        let summary = self.plan.work.as_ref().map(PlannedWork::summary).unwrap_or_default();
        step.events.extend(summary.into_iter().map(|text| EventBody::Agent { text }));
        match self.setup_failure.clone() {
            None => self.leave(Status::Succeeded, vec![PhaseContext::default()], now, step),
            // A person skipped a failed command.
            Some(failure) => {
                self.worsen(Status::Failed, &failure);
                self.leave(Status::Failed, vec![failure], now, step);
            }
        }
        self.enter_user_phase(UserPhase::Install, now, step);
    }

    pub(super) fn setup_failed(
        &mut self,
        context: PhaseContext,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let context = self.setup_failure.take().unwrap_or(context);
        self.worsen(Status::Failed, &context);
        self.leave(Status::Failed, vec![context], now, step);
        self.finalize(now, step);
    }
}
