//! Decides which builds of a batch start and stop, and the batch's final status.
//!
//! A synchronous function from one input to effects, like [`crate::machine`] for a single build. An
//! input that makes no sense in the current state, such as the end of a build that is not running,
//! changes nothing.

use super::plan::BatchPlan;
use super::record::{BatchPhase, BatchPhaseStatus, BatchPhaseType, BuildSummary};
use crate::phase::{PhaseContext, Status};
use crate::time::WallTime;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Limit of started builds, paused ones included, as a multiple of the builds that may run at once.
const ALIVE: usize = 4;

/// An event of the batch. Builds are numbered by their place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchInput {
    /// A build has paused at a breakpoint; another build may run in its place.
    Paused(usize),
    /// A paused build goes on, even if it exceeds the limit.
    Resumed(usize),
    /// A started build has ended, or could not begin.
    Ended(usize, Status),
    /// A user has stopped the batch.
    Stop,
    /// The batch has timed out.
    TimeIsUp,
    /// The artifacts of the builds were combined, or that failed.
    Combined(Status),
}

/// An action for the owner of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEffect {
    /// Start this build.
    Start(usize),
    /// Stop this build. May be repeated for a build that is already stopping.
    Stop(usize),
    /// All builds have succeeded: combine their artifacts and answer with [`BatchInput::Combined`].
    /// Only used by batches that combine artifacts.
    Combine,
    /// The batch is over.
    Finish(Status),
}

/// The state of a build in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// It waits for other builds, or for a free place.
    Pending,
    /// It runs.
    Running {
        /// Whether it is paused at a breakpoint.
        is_paused: bool,
    },
    /// It has ended.
    Ended(Status),
    /// It will never run.
    Left,
}

/// Why no more builds start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum BatchEnding {
    FastFail,
    Stopped,
    TimedOut,
}

/// Which builds to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryType {
    /// Every build.
    All,
    /// Only builds that have not succeeded.
    Failed,
}

/// Why a batch is not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRetried {
    /// It is still running.
    #[error("the batch has not ended")]
    Running,
    /// It has not failed.
    #[error("the batch has not failed")]
    NotFailed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct BatchChild {
    stand: Stand,
    /// Whether the batch stopped this build because another one had failed.
    is_cut: bool,
    arn: String,
    requested: WallTime,
    prior: Vec<BuildSummary>,
}

/// The state machine of one batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchMachine {
    plan: BatchPlan,
    most: usize,
    /// Whether the artifacts of its builds are combined.
    combines: bool,
    children: Vec<BatchChild>,
    ending: Option<BatchEnding>,
    phases: Vec<BatchPhase>,
    status: Status,
}

impl BatchMachine {
    /// Starts a batch. `most` limits how many builds run at once; `arns` names the builds in the
    /// order of the plan.
    #[must_use]
    pub fn new(plan: BatchPlan, arns: Vec<String>, most: usize, asked: WallTime) -> Self {
        let children = arns.into_iter().map(|arn| BatchChild {
            stand: Stand::Pending,
            is_cut: false,
            arn,
            requested: asked,
            prior: Vec::new(),
        });
        let children: Vec<BatchChild> = children.take(plan.builds.len()).collect();
        let mut machine = BatchMachine {
            plan,
            most: most.max(1),
            combines: false,
            children,
            ending: None,
            phases: Vec::new(),
            status: Status::InProgress,
        };
        machine.open(BatchPhaseType::Submitted, asked);
        machine.next(BatchPhaseType::DownloadBatchspec, asked);
        machine
    }

    /// Sets whether the builds' artifacts are combined.
    #[must_use]
    pub fn combining(self, combines: bool) -> Self {
        BatchMachine { combines, ..self }
    }

    /// Sets the plan of a batch that was created before its plan was known. A build that keeps its
    /// identifier keeps its earlier runs. `arn` names new builds.
    pub fn expand(&mut self, plan: BatchPlan, mut arn: impl FnMut(usize) -> String, now: WallTime) {
        if !self.is_in(BatchPhaseType::DownloadBatchspec) {
            return;
        }
        let names = self.plan.builds.iter().map(|build| build.identifier.clone());
        let mut before: HashMap<String, BatchChild> = names.zip(self.children.drain(..)).collect();
        let children = plan.builds.iter().enumerate().map(|(at, build)| {
            before.remove(&build.identifier).unwrap_or_else(|| BatchChild {
                stand: Stand::Pending,
                is_cut: false,
                arn: arn(at),
                requested: now,
                prior: Vec::new(),
            })
        });
        self.children = children.collect();
        self.plan = plan;
    }

    /// The source and the plan are ready; returns the first builds to start.
    pub fn begin(&mut self, now: WallTime) -> Vec<BatchEffect> {
        if !self.is_in(BatchPhaseType::DownloadBatchspec) {
            return Vec::new();
        }
        if self.ending.is_some() {
            return self.reject(Status::Stopped, None, now);
        }
        self.next(BatchPhaseType::InProgress, now);
        self.go_on(now)
    }

    /// Ends a batch that has no plan or no source. If the batch was already stopping, it ends with
    /// that status instead.
    pub fn reject(
        &mut self,
        status: Status,
        context: Option<PhaseContext>,
        now: WallTime,
    ) -> Vec<BatchEffect> {
        if !self.is_in(BatchPhaseType::DownloadBatchspec) {
            return Vec::new();
        }
        self.children.iter_mut().for_each(|child| child.stand = Stand::Left);
        if let Some(phase) = self.phases.last_mut() {
            phase.contexts.extend(context);
        }
        let status = match (self.ending, status) {
            (Some(_), _) => self.outcome(),
            (None, Status::Succeeded | Status::InProgress) => Status::Fault,
            (None, status) => status,
        };
        self.finish(status, now)
    }

    /// Applies an input.
    pub fn apply(&mut self, input: BatchInput, now: WallTime) -> Vec<BatchEffect> {
        if !self.is_in(BatchPhaseType::InProgress) {
            return self.apply_around(input, now);
        }
        let mut effects = Vec::new();
        match input {
            BatchInput::Paused(at) => self.pause(at, true),
            BatchInput::Resumed(at) => self.pause(at, false),
            BatchInput::Ended(at, status) => effects = self.ended(at, status),
            BatchInput::Stop => effects = self.end(BatchEnding::Stopped),
            BatchInput::TimeIsUp => effects = self.end(BatchEnding::TimedOut),
            BatchInput::Combined(_) => {}
        }
        effects.extend(self.go_on(now));
        effects
    }

    /// Applies an input before the builds begin or after they have ended. The batch's owner stops
    /// whatever work is under way then.
    fn apply_around(&mut self, input: BatchInput, now: WallTime) -> Vec<BatchEffect> {
        let is_combining = self.is_in(BatchPhaseType::CombineArtifacts);
        match input {
            BatchInput::Combined(status) if is_combining => {
                let status = match (self.ending, status) {
                    (Some(_), _) => self.outcome(),
                    (None, Status::InProgress) => Status::Fault,
                    (None, status) => status,
                };
                self.close(status.into(), now);
                self.mark(status, now)
            }
            BatchInput::Stop | BatchInput::TimeIsUp
                if is_combining || self.is_in(BatchPhaseType::DownloadBatchspec) =>
            {
                let why = if input == BatchInput::Stop {
                    BatchEnding::Stopped
                } else {
                    BatchEnding::TimedOut
                };
                self.ending.get_or_insert(why);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn pause(&mut self, at: usize, paused: bool) {
        if let Some(BatchChild { stand: Stand::Running { is_paused }, .. }) =
            self.children.get_mut(at)
        {
            *is_paused = paused;
        }
    }

    fn ended(&mut self, at: usize, status: Status) -> Vec<BatchEffect> {
        let Some(child) = self.children.get_mut(at).filter(|child| child.is_running()) else {
            return Vec::new();
        };
        // A build that ends without a status is broken.
        let status = if status == Status::InProgress { Status::Fault } else { status };
        child.stand = Stand::Ended(status);
        if status == Status::Succeeded || self.plan.builds[at].ignore_failure {
            return Vec::new();
        }
        self.leave_dependants();
        if self.plan.fast_fail && self.ending.is_none() {
            return self.end(BatchEnding::FastFail);
        }
        Vec::new()
    }

    /// Starts no more builds, and stops those that run.
    fn end(&mut self, why: BatchEnding) -> Vec<BatchEffect> {
        // A user's stop overrides the batch's own fast-fail. Otherwise the first reason counts.
        match self.ending {
            None => self.ending = Some(why),
            Some(BatchEnding::FastFail) if why != BatchEnding::FastFail => self.ending = Some(why),
            Some(_) => {}
        }
        let mut effects = Vec::new();
        for (at, child) in self.children.iter_mut().enumerate() {
            match child.stand {
                Stand::Pending => child.stand = Stand::Left,
                Stand::Running { .. } => {
                    child.is_cut |= why == BatchEnding::FastFail;
                    effects.push(BatchEffect::Stop(at));
                }
                Stand::Ended(_) | Stand::Left => {}
            }
        }
        effects
    }

    /// Marks builds that can no longer run because they depend, directly or not, on a failed build.
    fn leave_dependants(&mut self) {
        loop {
            let mut has_left = false;
            for at in 0..self.children.len() {
                let is_pending = self.children[at].stand == Stand::Pending;
                let mut on = self.plan.builds[at].depends_on.iter();
                if is_pending && on.any(|on| self.blocks(*on)) {
                    self.children[at].stand = Stand::Left;
                    has_left = true;
                }
            }
            if !has_left {
                return;
            }
        }
    }

    /// Whether this build keeps its dependants from running.
    fn blocks(&self, at: usize) -> bool {
        match self.children[at].stand {
            Stand::Left => true,
            Stand::Ended(status) => {
                status != Status::Succeeded && !self.plan.builds[at].ignore_failure
            }
            Stand::Pending | Stand::Running { .. } => false,
        }
    }

    fn is_ready(&self, at: usize) -> bool {
        let has_let_go =
            |on: &usize| matches!(self.children[*on].stand, Stand::Ended(_)) && !self.blocks(*on);
        self.children[at].stand == Stand::Pending
            && self.plan.builds[at].depends_on.iter().all(has_let_go)
    }

    /// Starts builds that are ready. Ends the batch if all builds are done.
    fn go_on(&mut self, now: WallTime) -> Vec<BatchEffect> {
        let mut effects = Vec::new();
        let paused = Stand::Running { is_paused: true };
        let mut alive = self.children.iter().filter(|child| child.is_running()).count();
        let standing = self.children.iter().filter(|child| child.stand == paused).count();
        let mut busy = alive - standing;
        for at in 0..self.children.len() {
            if busy >= self.most || alive >= self.most.saturating_mul(ALIVE) {
                break;
            }
            if self.is_ready(at) {
                self.children[at].stand = Stand::Running { is_paused: false };
                effects.push(BatchEffect::Start(at));
                (busy, alive) = (busy + 1, alive + 1);
            }
        }
        let is_over = |child: &BatchChild| matches!(child.stand, Stand::Ended(_) | Stand::Left);
        if self.children.iter().all(is_over) {
            let status = self.outcome();
            effects.extend(self.finish(status, now));
        }
        effects
    }

    fn outcome(&self) -> Status {
        let has_failed = (0..self.children.len()).any(|at| {
            self.children[at].stand != Stand::Ended(Status::Succeeded)
                && (!self.plan.builds[at].ignore_failure || self.children[at].stand == Stand::Left)
        });
        match self.ending {
            Some(BatchEnding::Stopped) => Status::Stopped,
            Some(BatchEnding::TimedOut) => Status::TimedOut,
            Some(BatchEnding::FastFail) => Status::Failed,
            None if has_failed => Status::Failed,
            None => Status::Succeeded,
        }
    }

    fn finish(&mut self, status: Status, now: WallTime) -> Vec<BatchEffect> {
        self.close(status.into(), now);
        if status == Status::Succeeded {
            self.open(BatchPhaseType::CombineArtifacts, now);
            if self.combines {
                return vec![BatchEffect::Combine];
            }
            self.close(BatchPhaseStatus::Succeeded, now);
        }
        self.mark(status, now)
    }

    /// Ends a batch whose builds are in an unknown state.
    pub fn fault(&mut self, context: PhaseContext, now: WallTime) {
        if self.status != Status::InProgress {
            return;
        }
        for child in &mut self.children {
            child.stand = match child.stand {
                Stand::Pending => Stand::Left,
                Stand::Running { .. } => Stand::Ended(Status::Fault),
                ended => ended,
            };
        }
        self.close(BatchPhaseStatus::Fault, now);
        if let Some(phase) = self.phases.last_mut() {
            phase.contexts.push(context);
        }
        self.mark(Status::Fault, now);
    }

    fn mark(&mut self, status: Status, now: WallTime) -> Vec<BatchEffect> {
        self.status = status;
        self.phases.push(BatchPhase::mark(status.into(), now));
        vec![BatchEffect::Finish(status)]
    }

    /// Has a batch that a person has stopped end then, whenever its last build has gone.
    pub fn end_when_stopped(&mut self, stopped: WallTime) {
        if self.status == Status::Stopped
            && let [.., phase, mark] = self.phases.as_mut_slice()
        {
            phase.end_at(stopped);
            *mark = BatchPhase::mark(BatchPhaseType::Stopped, stopped);
        }
    }

    /// Runs an unsuccessful batch again. `arn` names its new builds. Call [`Self::begin`]
    /// afterwards.
    ///
    /// # Errors
    /// The batch is still running or has succeeded.
    pub fn retry(
        &mut self,
        what: RetryType,
        mut arn: impl FnMut(usize) -> String,
        now: WallTime,
    ) -> Result<(), NotRetried> {
        match self.status {
            Status::InProgress => return Err(NotRetried::Running),
            Status::Succeeded => return Err(NotRetried::NotFailed),
            Status::Failed | Status::Fault | Status::TimedOut | Status::Stopped => {}
        }
        // As in AWS: the failed phase becomes a client error, and the end mark no longer marks the
        // end.
        if let [.., phase, mark] = self.phases.as_mut_slice() {
            phase.phase_status = Some(BatchPhaseStatus::ClientError);
            mark.phase_status = Some(BatchPhaseStatus::Retry);
            mark.end_at(now);
        }
        self.status = Status::InProgress;
        self.ending = None;
        for at in 0..self.children.len() {
            let summary = self.summary(at);
            let child = &mut self.children[at];
            if what == RetryType::Failed && child.stand == Stand::Ended(Status::Succeeded) {
                continue;
            }
            child.prior.push(summary);
            (child.stand, child.is_cut) = (Stand::Pending, false);
            (child.arn, child.requested) = (arn(at), now);
        }
        self.open(BatchPhaseType::Submitted, now);
        self.next(BatchPhaseType::DownloadBatchspec, now);
        Ok(())
    }

    fn is_in(&self, kind: BatchPhaseType) -> bool {
        self.phases.last().is_some_and(|phase| phase.phase_type == kind && phase.end_time.is_none())
    }

    fn open(&mut self, kind: BatchPhaseType, now: WallTime) {
        self.phases.push(BatchPhase::open(kind, now));
    }

    fn close(&mut self, status: BatchPhaseStatus, now: WallTime) {
        if let Some(phase) = self.phases.last_mut() {
            phase.phase_status = Some(status);
            phase.end_at(now);
        }
    }

    fn next(&mut self, kind: BatchPhaseType, now: WallTime) {
        self.close(BatchPhaseStatus::Succeeded, now);
        self.open(kind, now);
    }

    /// The plan of the batch.
    #[must_use]
    pub fn plan(&self) -> &BatchPlan {
        &self.plan
    }

    /// Returns the state of a build.
    #[must_use]
    pub fn stand(&self, at: usize) -> Option<Stand> {
        self.children.get(at).map(|child| child.stand)
    }

    /// Returns the index of the build whose current run has this ARN.
    #[must_use]
    pub fn place_of(&self, arn: &str) -> Option<usize> {
        self.children.iter().position(|child| child.arn == arn)
    }

    /// Returns the ARN of a build's current run.
    #[must_use]
    pub fn arn(&self, at: usize) -> Option<&str> {
        self.children.get(at).map(|child| child.arn.as_str())
    }

    /// The status of the batch.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether no more builds start and running builds are stopping.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.is_some() && self.status == Status::InProgress
    }

    /// Whether a user has stopped the batch and its last builds are still ending.
    #[must_use]
    pub fn is_being_stopped(&self) -> bool {
        self.ending == Some(BatchEnding::Stopped) && self.status == Status::InProgress
    }

    /// The phases so far.
    #[must_use]
    pub fn phases(&self) -> &[BatchPhase] {
        &self.phases
    }

    /// Whether a build's status affects the batch. It does not if the build never ran, is allowed
    /// to fail, or was stopped because another build failed.
    #[must_use]
    pub fn counts(&self, at: usize) -> bool {
        self.children.get(at).is_some_and(|child| {
            matches!(child.stand, Stand::Ended(_))
                && !self.plan.builds[at].ignore_failure
                && !(child.is_cut && child.stand == Stand::Ended(Status::Stopped))
        })
    }

    /// The build's current run, as in the batch record.
    pub(super) fn summary(&self, at: usize) -> BuildSummary {
        let child = &self.children[at];
        let status = match child.stand {
            Stand::Pending => "PENDING",
            Stand::Running { .. } => Status::InProgress.name(),
            Stand::Ended(status) => status.name(),
            Stand::Left => Status::Stopped.name(),
        };
        BuildSummary::new(&child.arn, child.requested, status, &self.plan.builds[at].identifier)
    }

    /// The build's earlier runs.
    pub(super) fn prior(&self, at: usize) -> &[BuildSummary] {
        &self.children[at].prior
    }
}

impl BatchChild {
    fn is_running(&self) -> bool {
        matches!(self.stand, Stand::Running { .. })
    }
}
