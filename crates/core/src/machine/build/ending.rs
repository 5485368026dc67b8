//! Ends a build early: it was stopped, timed out, or failed through a fault of ours.
//!
//! Its processes are asked to end, then killed. Only then does the phase end, so that their last
//! output is still in the log. Each wait has a limit: without an answer, the build goes on to the
//! next step until it is over.

use super::{
    BuildMachine, BuildState, CommandOutcome, EventBody, MachineEffect, MachineStep, Notice,
    PhaseContext, ResumedBy, Status, Timestamp, millis,
};
use crate::phase::StatusCode;
use crate::plan::BreakAction;
use std::time::Duration;

/// Time between SIGTERM and SIGKILL for the processes of a build that ends early.
const GRACE: Duration = Duration::from_secs(5);
/// Time after SIGKILL until processes count as gone, even without an answer.
const KILLED: Duration = Duration::from_secs(3);
/// Time for the remaining work once the build ends early or is past its time limit.
const CLEARING: Duration = Duration::from_secs(10);
/// Time for what is left of that work if the user asks to hurry.
const HURRIED: Duration = Duration::from_secs(3);

/// A build that ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildEnding {
    status: Status,
    contexts: Vec<PhaseContext>,
    command: Option<u32>,
    processes: ProcessesEnd,
    /// Whether the user asked to hurry.
    is_hurried: bool,
}

/// How far the processes' end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessesEnd {
    Asked { kill_at: Duration },
    Killed { gone_at: Duration },
    Gone,
}

/// Limits for the work after the processes' end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Patience {
    hurry_at: Option<Duration>,
    over_at: Option<Duration>,
}

impl Patience {
    /// Limits that count from `time`.
    pub(super) fn from(time: Duration) -> Self {
        let hurry_at = time + CLEARING;
        Patience { hurry_at: Some(hurry_at), over_at: Some(hurry_at + HURRIED) }
    }

    fn hurried(now: Duration) -> Self {
        Patience { hurry_at: None, over_at: Some(now + HURRIED) }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.hurry_at.or(self.over_at)
    }
}

impl BuildEnding {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.processes, ProcessesEnd::Gone)
    }

    pub(super) fn deadline(&self, patience: &Patience) -> Option<Duration> {
        match self.processes {
            ProcessesEnd::Asked { kill_at } => Some(kill_at),
            ProcessesEnd::Killed { gone_at } => Some(gone_at),
            ProcessesEnd::Gone => patience.deadline(),
        }
    }

    fn kill(&mut self, now: Timestamp, step: &mut MachineStep) {
        self.processes = ProcessesEnd::Killed { gone_at: now.boot + KILLED };
        step.effects.push(MachineEffect::Kill);
    }
}

impl BuildMachine {
    pub(super) fn stop(&mut self, at_once: bool, now: Timestamp, step: &mut MachineStep) {
        match &mut self.state {
            BuildState::Ending(ending) if at_once => {
                ending.is_hurried = true;
                match ending.processes {
                    ProcessesEnd::Asked { .. } => ending.kill(now, step),
                    ProcessesEnd::Killed { .. } => {}
                    ProcessesEnd::Gone => self.hurry(now, step),
                }
            }
            BuildState::Finalizing if at_once => self.hurry(now, step),
            // Too late to stop the build, but the wait for the remaining work becomes shorter.
            BuildState::Finalizing => {
                let asked = Patience::from(now.boot);
                self.patience.hurry_at = self.patience.hurry_at.min(asked.hurry_at);
                self.patience.over_at = self.patience.over_at.min(asked.over_at);
            }
            // Already ending.
            BuildState::Ending(_) | BuildState::Over => {}
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading => {
                self.status = Status::Stopped;
                self.end(Status::Stopped, Vec::new(), !at_once, now, step);
                if let BuildState::Ending(ending) = &mut self.state {
                    ending.is_hurried = at_once;
                }
            }
        }
    }

    fn hurry(&mut self, now: Timestamp, step: &mut MachineStep) {
        let hurried = Patience::hurried(now.boot);
        self.patience.hurry_at = None;
        self.patience.over_at = Some(
            self.patience.over_at.into_iter().chain(hurried.over_at).min().unwrap_or(now.boot),
        );
        step.effects.push(MachineEffect::Hurry);
    }

    pub(super) fn fault(&mut self, context: PhaseContext, now: Timestamp, step: &mut MachineStep) {
        match &mut self.state {
            BuildState::Over => {}
            // Already ending; only the status changes.
            BuildState::Ending(ending) => {
                ending.status = Status::Fault;
                ending.contexts = vec![context.clone()];
                self.worsen(Status::Fault, &context);
            }
            BuildState::Finalizing => self.worsen(Status::Fault, &context),
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading => {
                self.worsen(Status::Fault, &context);
                self.end(Status::Fault, vec![context], false, now, step);
            }
        }
    }

    /// Handles a fault whose answer will never come, so nothing waits for it.
    pub(super) fn lost(&mut self, context: PhaseContext, now: Timestamp, step: &mut MachineStep) {
        match &mut self.state {
            BuildState::Ending(ending) => match &mut ending.processes {
                ProcessesEnd::Asked { .. } => ending.kill(now, step),
                ProcessesEnd::Killed { gone_at } => *gone_at = now.boot,
                ProcessesEnd::Gone => {
                    self.patience = Patience { hurry_at: None, over_at: Some(now.boot) };
                }
            },
            BuildState::Finalizing => {
                self.patience = Patience { hurry_at: None, over_at: Some(now.boot) };
            }
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading
            | BuildState::Over => {}
        }
        self.fault(context, now, step);
    }

    pub(super) fn tick(&mut self, now: Timestamp, step: &mut MachineStep) {
        if self.deadline().is_none_or(|deadline| deadline > now.boot) {
            return;
        }
        match &mut self.state {
            BuildState::Ending(ending) => match ending.processes {
                ProcessesEnd::Asked { .. } => ending.kill(now, step),
                ProcessesEnd::Killed { .. } => {
                    warn(
                        step,
                        "the build's processes have not confirmed their end; continuing without",
                    );
                    self.processes_gone(now, step);
                }
                ProcessesEnd::Gone => self.lose_patience(now, step),
            },
            BuildState::Finalizing => self.lose_patience(now, step),
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading
            | BuildState::Over => self.time_is_up(now, step),
        }
    }

    fn time_is_up(&mut self, now: Timestamp, step: &mut MachineStep) {
        let limits = self.plan.limits;
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|at| at <= now.boot);
        if is_due(self.stopwatch.deadline(limits.timeout)) {
            let context = PhaseContext::new(StatusCode::BuildTimedOut, "Build has timed out. ");
            self.worsen(Status::TimedOut, &context);
            self.end(Status::TimedOut, vec![context], true, now, step);
        } else if is_due(self.looks_at_run()) {
            self.look_at_run(now, step);
        } else if is_due(self.pauses.deadline(limits.break_timeout)) {
            match limits.break_action {
                BreakAction::Resume => self.resume(ResumedBy::Timeout, now, step),
                BreakAction::Stop => self.stop(false, now, step),
            }
        }
    }

    fn lose_patience(&mut self, now: Timestamp, step: &mut MachineStep) {
        if self.patience.hurry_at.take().is_some() {
            step.effects.push(MachineEffect::Hurry);
            return;
        }
        warn(
            step,
            "the build's remains could not be removed in time; the next runner command does it",
        );
        if matches!(self.state, BuildState::Finalizing) {
            let context = PhaseContext::new(StatusCode::InternalServiceError, "not done in time");
            self.leave(Status::Fault, vec![context], now, step);
        }
        self.complete(false, now, step);
    }

    /// Ends the build early: no further phase begins, and the current one gets this status.
    pub(super) fn end(
        &mut self,
        status: Status,
        contexts: Vec<PhaseContext>,
        gently: bool,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let command = match &self.state {
            BuildState::Running(running) => Some(running.command),
            BuildState::SettingUp(setting_up) => Some(setting_up.command),
            BuildState::Evaluating { command, .. } => Some(*command),
            _ => None,
        };
        self.thaw(step);
        self.end_pauses(now, step);
        let processes = ProcessesEnd::Asked { kill_at: now.boot + GRACE };
        let mut ending = BuildEnding { status, contexts, command, processes, is_hurried: false };
        if gently {
            step.effects.push(MachineEffect::Terminate);
        } else {
            ending.kill(now, step);
        }
        self.state = BuildState::Ending(ending);
    }

    pub(super) fn processes_gone(&mut self, now: Timestamp, step: &mut MachineStep) {
        let BuildState::Ending(ending) = &mut self.state else { return };
        if ending.is_gone() {
            return;
        }
        ending.processes = ProcessesEnd::Gone;
        self.patience = Patience::from(now.boot);
        let is_hurried = ending.is_hurried;
        let (status, contexts) = (ending.status, std::mem::take(&mut ending.contexts));
        if let Some(command) = ending.command {
            step.events.push(EventBody::CommandEnded {
                command,
                outcome: CommandOutcome::Cut,
                duration_ms: millis(now.boot.saturating_sub(self.command_started)),
            });
        }
        self.leave(status, contexts, now, step);
        step.effects.push(MachineEffect::Finalize { status: self.status });
        if is_hurried {
            self.hurry(now, step);
        }
    }
}

fn warn(step: &mut MachineStep, text: &str) {
    let text = text.to_owned();
    step.events.push(EventBody::Notice(Notice::warning(text)));
}
