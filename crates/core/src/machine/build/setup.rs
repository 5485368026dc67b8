//! The end of DOWNLOAD_SOURCE: commands that install runtimes, and what the log says before the phases.

use super::{
    BuildMachine, Effect, EventBody, Outcome, Phase, PhaseContext, State, Status, Step, Timestamp,
    command_failure, exit_code, millis,
};
use crate::event::Block;
use crate::machine::CommandRun;
use crate::plan::Work;
use crate::runtimes::SetupCommand;
use crate::spec::UserPhase;

/// Commands of the image's runtimes under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SettingUp {
    left: std::collections::VecDeque<SetupCommand>,
    pub(super) command: u32,
    text: String,
    index: u32,
}

impl BuildMachine {
    pub(super) fn install_runtimes(
        &mut self,
        commands: Vec<SetupCommand>,
        now: Timestamp,
        step: &mut Step,
    ) {
        let (left, text) = (commands.into(), String::new());
        self.run_setup(SettingUp { left, command: 0, text, index: 0 }, now, step);
    }

    /// Runs the next command, or goes on where there is none.
    fn run_setup(&mut self, mut setting_up: SettingUp, now: Timestamp, step: &mut Step) {
        let Some(SetupCommand { text, variables }) = setting_up.left.pop_front() else {
            self.setup_done(now, step);
            return;
        };
        self.commands += 1;
        self.command_started = now.boot;
        step.events.push(EventBody::CommandStarted {
            command: self.commands,
            phase: Phase::DownloadSource,
            block: Block::Commands,
            index: setting_up.index,
            text: text.clone(),
        });
        step.effects.push(Effect::Run(CommandRun {
            command: self.commands,
            phase: Phase::DownloadSource,
            text: text.clone(),
            user: None,
            variables,
            succeeding: true,
            last_exit: self.last_exit,
        }));
        setting_up.command = self.commands;
        setting_up.text = text;
        self.state = State::SettingUp(setting_up);
    }

    pub(super) fn setup_command_ended(
        &mut self,
        mut setting_up: SettingUp,
        (outcome, cause): (&Outcome, Option<&str>),
        now: Timestamp,
        step: &mut Step,
    ) {
        self.last_exit = exit_code(outcome);
        step.events.push(EventBody::CommandEnded {
            command: setting_up.command,
            outcome: outcome.clone(),
            duration_ms: millis(now.boot.saturating_sub(self.command_started)),
        });
        if outcome.succeeded() {
            setting_up.index += 1;
            self.run_setup(setting_up, now, step);
        } else {
            self.setup_failed(command_failure(&setting_up.text, outcome, cause), now, step);
        }
    }

    fn setup_done(&mut self, now: Timestamp, step: &mut Step) {
        self.agent(step, &format!("Moving to directory {}", self.plan.places.source));
        let work = self.plan.work.as_ref().ok();
        if work.is_none_or(|work| work.cache.is_none()) {
            self.agent(step, "Cache is not defined in the buildspec");
        }
        if work.is_none_or(|work| work.cache.as_ref().is_none_or(|cache| cache.paths.is_empty())) {
            self.agent(step, "Skip cache due to: no paths specified to be cached");
        }
        self.agent(step, "Registering with agent");
        let summary = self.plan.work.as_ref().map(Work::summary).unwrap_or_default();
        step.events.extend(summary.into_iter().map(|text| EventBody::Agent { text }));
        self.leave(Status::Succeeded, vec![PhaseContext::default()], now, step);
        self.enter_user_phase(UserPhase::Install, now, step);
    }

    pub(super) fn setup_failed(&mut self, context: PhaseContext, now: Timestamp, step: &mut Step) {
        self.worsen(Status::Failed, &context);
        self.leave(Status::Failed, vec![context], now, step);
        self.finalize(now, step);
    }
}
