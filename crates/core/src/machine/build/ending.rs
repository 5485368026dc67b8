//! A build that is ended from outside: stopped, timed out, or by a fault of ours.
//!
//! Its processes are asked to end and then made to; only then the phase is left, so that what they
//! wrote last is still in the log.

use super::{
    BuildMachine, Effect, EventBody, Outcome, PhaseContext, ResumedBy, State, Status, Step,
    Timestamp, millis,
};
use crate::plan::BreakAction;
use std::time::Duration;

/// How long processes have between SIGTERM and SIGKILL when a build is ended from outside.
const GRACE: Duration = Duration::from_secs(5);

/// A build that is ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    status: Status,
    contexts: Vec<PhaseContext>,
    command: Option<u32>,
    pub(super) kill_at: Option<Duration>,
    pub(super) processes_gone: bool,
}

impl BuildMachine {
    pub(super) fn stop(&mut self, at_once: bool, now: Timestamp, step: &mut Step) {
        match &mut self.state {
            State::Ending(ending) if at_once => {
                ending.kill_at = None;
                step.effects.push(Effect::Kill);
            }
            // Too late to be stopped; what is still sent elsewhere need not be.
            State::Finalizing if at_once => step.effects.push(Effect::Kill),
            // Too late to be stopped, or asked for already.
            State::Ending(_) | State::Finalizing | State::Over => {}
            State::New
            | State::Provisioning
            | State::Downloading
            | State::SettingUp(_)
            | State::Running(_)
            | State::Uploading => {
                self.status = Status::Stopped;
                self.end(Status::Stopped, Vec::new(), !at_once, now, step);
            }
        }
    }

    pub(super) fn fault(&mut self, context: PhaseContext, now: Timestamp, step: &mut Step) {
        match &mut self.state {
            State::Over => {}
            // It is going down already; only the verdict changes.
            State::Ending(ending) => {
                ending.status = Status::Fault;
                ending.contexts = vec![context.clone()];
                self.worsen(Status::Fault, &context);
            }
            State::Finalizing => self.worsen(Status::Fault, &context),
            State::New
            | State::Provisioning
            | State::Downloading
            | State::SettingUp(_)
            | State::Running(_)
            | State::Uploading => {
                self.worsen(Status::Fault, &context);
                self.end(Status::Fault, vec![context], false, now, step);
            }
        }
    }

    pub(super) fn tick(&mut self, now: Timestamp, step: &mut Step) {
        if self.deadline().is_none_or(|deadline| deadline > now.boot) {
            return;
        }
        if let State::Ending(ending) = &mut self.state {
            ending.kill_at = None;
            step.effects.push(Effect::Kill);
            return;
        }
        let limits = self.plan.limits;
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|at| at <= now.boot);
        if is_due(self.stopwatch.deadline(limits.timeout)) {
            let context = PhaseContext::new("BUILD_TIMED_OUT", "Build has timed out. ");
            self.worsen(Status::TimedOut, &context);
            self.end(Status::TimedOut, vec![context], true, now, step);
        } else if is_due(self.pauses.deadline(limits.break_timeout)) {
            match limits.break_action {
                BreakAction::Resume => self.resume(ResumedBy::Timeout, now, step),
                BreakAction::Stop => self.stop(false, now, step),
            }
        }
    }

    /// Ends the build from outside: no further phase, the running one gets this status.
    pub(super) fn end(
        &mut self,
        status: Status,
        contexts: Vec<PhaseContext>,
        gently: bool,
        now: Timestamp,
        step: &mut Step,
    ) {
        let command = match &self.state {
            State::Running(running) => Some(running.command),
            State::SettingUp(setting_up) => Some(setting_up.command),
            _ => None,
        };
        self.end_pauses(now, step);
        self.state = State::Ending(Ending {
            status,
            contexts,
            command,
            kill_at: gently.then(|| now.boot + GRACE),
            processes_gone: false,
        });
        step.effects.push(if gently { Effect::Terminate } else { Effect::Kill });
    }

    pub(super) fn processes_gone(&mut self, now: Timestamp, step: &mut Step) {
        let State::Ending(ending) = &mut self.state else { return };
        if ending.processes_gone {
            return;
        }
        ending.processes_gone = true;
        ending.kill_at = None;
        let (status, contexts) = (ending.status, std::mem::take(&mut ending.contexts));
        if let Some(command) = ending.command {
            step.events.push(EventBody::CommandEnded {
                command,
                outcome: Outcome::Cut,
                duration_ms: millis(now.boot.saturating_sub(self.command_started)),
            });
        }
        self.leave(status, contexts, now, step);
        step.effects.push(Effect::Finalize { status: self.status });
    }
}
