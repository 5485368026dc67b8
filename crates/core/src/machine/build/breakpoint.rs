//! Pauses of a build: at `codebuild-breakpoint`, and where it cannot go on.

use super::{
    BuildMachine, BuildState, EventBody, MachineEffect, MachineStep, Notice, ResumedBy, Timestamp,
};
use crate::event::{StopFacts, Stuck};
use crate::machine::pause::{Cause, Pause};
use crate::machine::{CallId, Impasse};
use std::time::Duration;

impl BuildMachine {
    pub(super) fn breakpoint_hit(
        &mut self,
        call: CallId,
        directory: String,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if !self.is_in_command() {
            // The call comes from a process left running by an earlier command, and no command runs
            // that could be paused.
            step.effects.push(MachineEffect::Release { call });
            return;
        }
        self.pause(Cause::Called(call), directory, (None, None), now, step);
    }

    /// Handles a build that cannot go on. With sessions enabled it pauses first, and faults when it
    /// is resumed.
    pub(super) fn get_stuck(&mut self, impasse: Impasse, now: Timestamp, step: &mut MachineStep) {
        let Impasse { directory, stuck, hint, fault } = impasse;
        if self.plan.facts.session_enabled && self.is_in_command() && !self.pauses.is_stuck() {
            self.pause(Cause::Stuck(fault), directory, (Some(stuck), None), now, step);
        } else {
            step.events.push(EventBody::Notice(Notice::hint(hint)));
            self.fault(fault, now, step);
        }
    }

    pub(super) fn is_in_command(&self) -> bool {
        matches!(self.state, BuildState::Running(_) | BuildState::SettingUp(_))
    }

    pub(super) fn pause(
        &mut self,
        cause: Cause,
        directory: String,
        (stuck, stop): (Option<Stuck>, Option<StopFacts>),
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        let kind = cause.kind();
        let pause = self.pauses.begin(cause, now.boot);
        if !self.plan.limits.timeout_while_paused {
            self.stopwatch.stop(now.boot);
        }
        let resumes_in_s = self
            .pauses
            .deadline(self.plan.limits.break_timeout)
            .map(|deadline| deadline.saturating_sub(now.boot).as_secs());
        step.events.push(EventBody::Paused {
            pause,
            kind,
            command: self.commands,
            directory,
            resumes_in_s,
            stuck,
            stop: stop.map(Box::new),
        });
    }

    pub(super) fn resume(&mut self, by: ResumedBy, now: Timestamp, step: &mut MachineStep) {
        // A stop during an evaluated text goes on when that text has ended.
        if matches!(self.state, BuildState::Evaluating { .. }) {
            return;
        }
        let Some(pause) = self.pauses.end_first() else { return };
        self.resumed(&pause, by, now, step);
        match pause.cause {
            Cause::Called(call) => step.effects.push(MachineEffect::Release { call }),
            Cause::Stuck(fault) => self.fault(fault, now, step),
            Cause::Stop => self.go_on(now, step),
        }
    }

    pub(super) fn resumed(
        &mut self,
        pause: &Pause,
        by: ResumedBy,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if !self.pauses.is_paused() {
            self.stopwatch.go_on(now.boot);
        }
        step.events.push(EventBody::Resumed { pause: pause.id, by });
    }

    pub(super) fn end_pauses(&mut self, now: Timestamp, step: &mut MachineStep) {
        for pause in self.pauses.end_all() {
            self.resumed(&pause, ResumedBy::Ended, now, step);
        }
    }

    pub(super) fn slept(&mut self, time: Duration, now: Timestamp) {
        self.pauses.shift(time);
        if !self.pauses.is_paused() || self.plan.limits.timeout_while_paused {
            self.stopwatch.stop(now.boot.saturating_sub(time));
            self.stopwatch.go_on(now.boot);
        }
    }
}
