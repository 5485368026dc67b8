//! A build that is ended from outside: stopped, timed out, or by a fault of ours.
//!
//! Its processes are asked to end and then made to; only then the phase is left, so that what they
//! wrote last is still in the log. Nothing of that is waited for without end: where no answer comes,
//! the build goes on to the next step, and last of all to its end.

use super::{
    BuildMachine, Effect, EventBody, Notice, Outcome, PhaseContext, ResumedBy, State, Status, Step,
    Timestamp, millis,
};
use crate::phase::StatusCode;
use crate::plan::BreakAction;
use std::time::Duration;

/// How long processes have between SIGTERM and SIGKILL when a build is ended from outside.
const GRACE: Duration = Duration::from_secs(5);
/// How long after SIGKILL they count as gone, whether that was heard or not.
const KILLED: Duration = Duration::from_secs(3);
/// How long the rest may take once the build is ended from outside, or past its time limit.
const CLEARING: Duration = Duration::from_secs(10);
/// How long what is left of that may take for somebody in a hurry.
const HURRIED: Duration = Duration::from_secs(3);

/// A build that is ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    status: Status,
    contexts: Vec<PhaseContext>,
    command: Option<u32>,
    processes: Processes,
    /// Whether somebody is in a hurry.
    is_hurried: bool,
}

/// How far the end of a build's processes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Processes {
    Asked { kill_at: Duration },
    Killed { gone_at: Duration },
    Gone,
}

/// When patience ends with what follows the end of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Patience {
    hurry_at: Option<Duration>,
    over_at: Option<Duration>,
}

impl Patience {
    /// An end that may begin to count at that time.
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

impl Ending {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.processes, Processes::Gone)
    }

    pub(super) fn deadline(&self, patience: &Patience) -> Option<Duration> {
        match self.processes {
            Processes::Asked { kill_at } => Some(kill_at),
            Processes::Killed { gone_at } => Some(gone_at),
            Processes::Gone => patience.deadline(),
        }
    }

    fn kill(&mut self, now: Timestamp, step: &mut Step) {
        self.processes = Processes::Killed { gone_at: now.boot + KILLED };
        step.effects.push(Effect::Kill);
    }
}

impl BuildMachine {
    pub(super) fn stop(&mut self, at_once: bool, now: Timestamp, step: &mut Step) {
        match &mut self.state {
            State::Ending(ending) if at_once => {
                ending.is_hurried = true;
                match ending.processes {
                    Processes::Asked { .. } => ending.kill(now, step),
                    Processes::Killed { .. } => {}
                    Processes::Gone => self.hurry(now, step),
                }
            }
            State::Finalizing if at_once => self.hurry(now, step),
            // Too late to be stopped; but nobody waits as long for what is left to do any more.
            State::Finalizing => {
                let asked = Patience::from(now.boot);
                self.patience.hurry_at = self.patience.hurry_at.min(asked.hurry_at);
                self.patience.over_at = self.patience.over_at.min(asked.over_at);
            }
            // Asked for already.
            State::Ending(_) | State::Over => {}
            State::New
            | State::Provisioning
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Evaluating { .. }
            | State::Uploading => {
                self.status = Status::Stopped;
                self.end(Status::Stopped, Vec::new(), !at_once, now, step);
                if let State::Ending(ending) = &mut self.state {
                    ending.is_hurried = at_once;
                }
            }
        }
    }

    fn hurry(&mut self, now: Timestamp, step: &mut Step) {
        let hurried = Patience::hurried(now.boot);
        self.patience.hurry_at = None;
        self.patience.over_at = Some(
            self.patience.over_at.into_iter().chain(hurried.over_at).min().unwrap_or(now.boot),
        );
        step.effects.push(Effect::Hurry);
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
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Evaluating { .. }
            | State::Uploading => {
                self.worsen(Status::Fault, &context);
                self.end(Status::Fault, vec![context], false, now, step);
            }
        }
    }

    /// A fault, and an answer that is not waited for any more.
    pub(super) fn lost(&mut self, context: PhaseContext, now: Timestamp, step: &mut Step) {
        match &mut self.state {
            State::Ending(ending) => match &mut ending.processes {
                Processes::Asked { .. } => ending.kill(now, step),
                Processes::Killed { gone_at } => *gone_at = now.boot,
                Processes::Gone => {
                    self.patience = Patience { hurry_at: None, over_at: Some(now.boot) };
                }
            },
            State::Finalizing => {
                self.patience = Patience { hurry_at: None, over_at: Some(now.boot) };
            }
            State::New
            | State::Provisioning
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Evaluating { .. }
            | State::Uploading
            | State::Over => {}
        }
        self.fault(context, now, step);
    }

    pub(super) fn tick(&mut self, now: Timestamp, step: &mut Step) {
        if self.deadline().is_none_or(|deadline| deadline > now.boot) {
            return;
        }
        match &mut self.state {
            State::Ending(ending) => match ending.processes {
                Processes::Asked { .. } => ending.kill(now, step),
                Processes::Killed { .. } => {
                    warn(
                        step,
                        "the build's processes have not answered their end; going on without",
                    );
                    self.processes_gone(now, step);
                }
                Processes::Gone => self.lose_patience(now, step),
            },
            State::Finalizing => self.lose_patience(now, step),
            State::New
            | State::Provisioning
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Evaluating { .. }
            | State::Uploading
            | State::Over => self.time_is_up(now, step),
        }
    }

    fn time_is_up(&mut self, now: Timestamp, step: &mut Step) {
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

    fn lose_patience(&mut self, now: Timestamp, step: &mut Step) {
        if self.patience.hurry_at.take().is_some() {
            step.effects.push(Effect::Hurry);
            return;
        }
        warn(
            step,
            "what is left of the build could not be removed in time; the next runner command does it",
        );
        if matches!(self.state, State::Finalizing) {
            let context = PhaseContext::new(StatusCode::InternalServiceError, "not done in time");
            self.leave(Status::Fault, vec![context], now, step);
        }
        self.complete(false, now, step);
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
            State::Evaluating { command, .. } => Some(*command),
            _ => None,
        };
        self.thaw(step);
        self.end_pauses(now, step);
        let processes = Processes::Asked { kill_at: now.boot + GRACE };
        let mut ending = Ending { status, contexts, command, processes, is_hurried: false };
        if gently {
            step.effects.push(Effect::Terminate);
        } else {
            ending.kill(now, step);
        }
        self.state = State::Ending(ending);
    }

    pub(super) fn processes_gone(&mut self, now: Timestamp, step: &mut Step) {
        let State::Ending(ending) = &mut self.state else { return };
        if ending.is_gone() {
            return;
        }
        ending.processes = Processes::Gone;
        self.patience = Patience::from(now.boot);
        let is_hurried = ending.is_hurried;
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
        if is_hurried {
            self.hurry(now, step);
        }
    }
}

fn warn(step: &mut Step, text: &str) {
    let text = text.to_owned();
    step.events.push(EventBody::Notice(Notice::warning(text)));
}
