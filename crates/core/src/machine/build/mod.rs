//! `BuildMachine::apply`: takes one input and the time, returns events and effects.
//!
//! `crates/build/src/driver/run.rs` calls it, logs the events and then performs the effects.
//! Everything here only decides; nothing waits, reads or writes.

mod breakpoint;
mod checkpoints;
mod decide;
mod ending;
mod held;
mod prepare;
mod running;
mod setup;

use super::failures::Failures;
use super::pause::{OpenPauses, Stopwatch};
use super::step::{
    CommandRun, ContainerFacts, MachineEffect, MachineInput, MachineStep, RunFacts, Wants,
};
use super::stops::StopRules;
use crate::debug::{Breakpoint, CommandPlace};
use crate::event::{BreakpointId, CommandOutcome, EventBody, Notice, ResumedBy};
use crate::phase::{Phase, PhaseContext, Status, StatusCode};
use crate::plan::{BuildPlan, Checkpointing, PhaseWork};
use crate::spec::UserPhase;
use crate::time::Timestamp;
use checkpoints::{MachineCheckpoints, Rewinding, Saving};
use ending::{BuildEnding, Patience};
use held::{FreezingRun, HeldBuild};
use prepare::PreparingBuild;
use running::RunningPhase;
use setup::SettingUp;
use std::sync::Arc;
use std::time::Duration;

/// The state machine of a build. A clone is independent; the same inputs lead to the same steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildMachine {
    plan: Arc<BuildPlan>,
    state: BuildState,
    phase: Phase,
    phase_started: Duration,
    command_started: Duration,
    commands: u32,
    last_exit: i32,
    /// The worst status so far.
    status: Status,
    reason: Option<String>,
    pauses: OpenPauses,
    stopwatch: Stopwatch,
    /// Failures of commands so far.
    failures: Failures,
    /// The failure of a runtime install command that the user skipped.
    setup_failure: Option<PhaseContext>,
    /// When each phase of the buildspec began.
    begun: [Duration; 4],
    stops: StopRules,
    /// Commands before this place are skipped.
    skip_to: Option<CommandPlace>,
    /// Variables that the next run sets or unsets.
    set: Vec<(String, Option<String>)>,
    freezing: FreezingRun,
    checkpoints: MachineCheckpoints,
    /// Limits for the work after the build's processes are gone.
    patience: Patience,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum BuildState {
    New,
    Provisioning,
    Downloading(Box<PreparingBuild>),
    SettingUp(SettingUp),
    Running(RunningPhase),
    /// A checkpoint is being taken.
    Saving(Box<Saving>),
    /// A rewind is in progress.
    Rewinding(Box<Rewinding>),
    /// The build waits for a decision at a stop.
    Held(Box<HeldBuild>),
    /// An evaluated text runs at a stop.
    Evaluating {
        held: Box<HeldBuild>,
        command: u32,
    },
    Uploading,
    Finalizing,
    Ending(BuildEnding),
    Over,
}

impl BuildMachine {
    /// Makes a build that has not begun.
    #[must_use]
    pub fn new(plan: Arc<BuildPlan>) -> Self {
        BuildMachine {
            checkpoints: MachineCheckpoints::new(plan.stops.checkpoints != Checkpointing::Off),
            plan,
            state: BuildState::New,
            phase: Phase::Submitted,
            phase_started: Duration::ZERO,
            command_started: Duration::ZERO,
            commands: 0,
            last_exit: 0,
            status: Status::Succeeded,
            reason: None,
            pauses: OpenPauses::default(),
            stopwatch: Stopwatch::default(),
            failures: Failures::default(),
            setup_failure: None,
            begun: [Duration::ZERO; 4],
            stops: StopRules::default(),
            skip_to: None,
            set: Vec::new(),
            freezing: FreezingRun::default(),
            patience: Patience::default(),
        }
    }

    /// When [`MachineInput::Tick`] is due, on the boot clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let limits = &self.plan.limits;
        match &self.state {
            BuildState::Ending(ending) => ending.deadline(&self.patience),
            BuildState::Finalizing => self.patience.deadline(),
            BuildState::Over => None,
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Uploading => {
                let build = self.stopwatch.deadline(limits.timeout);
                let pause = self.pauses.deadline(limits.break_timeout);
                [build, pause, self.looks_at_run()].into_iter().flatten().min()
            }
            // A person is present, and the build's time limit runs on.
            BuildState::Evaluating { .. } => self.stopwatch.deadline(limits.timeout),
        }
    }

    /// Whether the build is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pauses.is_paused()
    }

    /// Number of the last run.
    #[must_use]
    pub fn last_run(&self) -> u32 {
        self.commands
    }

    /// Whether the current run is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.freezing.is_frozen
    }

    /// Number of the evaluated text that runs, if there is one.
    #[must_use]
    pub fn evaluates(&self) -> Option<u32> {
        match &self.state {
            BuildState::Evaluating { command, .. } => Some(*command),
            _ => None,
        }
    }

    /// Variables that the next run sets or unsets.
    #[must_use]
    pub fn to_be_set(&self) -> &[(String, Option<String>)] {
        &self.set
    }

    /// What breakpoints need to know about runs.
    #[must_use]
    pub fn wants(&self) -> Wants {
        Wants { changes: self.checkpoints.is_on(), ..self.stops.wants() }
    }

    /// Checks whether a breakpoint can ever be reached.
    ///
    /// # Errors
    /// Why it cannot, in one sentence.
    pub fn check(&self, breakpoint: &Breakpoint) -> Result<(), String> {
        if breakpoint.wants_changes()
            && let Some(why) = self.checkpoints.lack()
        {
            return Err(format!("the files that a run has written are not known: {why}"));
        }
        self.plan.work.as_ref().map_or(Ok(()), |work| work.takes(breakpoint))
    }

    /// All breakpoints, with their numbers and owners.
    pub fn breakpoints(&self) -> impl Iterator<Item = (BreakpointId, &str, &Breakpoint)> {
        self.stops.all()
    }

    /// When the pause ends by itself, on the boot clock; `None` while a person is present or the
    /// build is not paused.
    #[must_use]
    pub fn pause_ends(&self) -> Option<Duration> {
        self.pauses.deadline(self.plan.limits.break_timeout)
    }

    /// When the build times out, on the boot clock; `None` while it is paused or over.
    #[must_use]
    pub fn times_out(&self) -> Option<Duration> {
        match &self.state {
            BuildState::Ending(_) | BuildState::Over | BuildState::Finalizing => None,
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading => self.stopwatch.deadline(self.plan.limits.timeout),
        }
    }

    /// The final status, once it is known.
    #[must_use]
    pub fn verdict(&self) -> Option<Status> {
        match &self.state {
            BuildState::Ending(_) | BuildState::Finalizing | BuildState::Over => Some(self.status),
            BuildState::New
            | BuildState::Provisioning
            | BuildState::Downloading(_)
            | BuildState::SettingUp(_)
            | BuildState::Running(_)
            | BuildState::Saving(_)
            | BuildState::Rewinding(_)
            | BuildState::Held(_)
            | BuildState::Evaluating { .. }
            | BuildState::Uploading => None,
        }
    }

    /// Applies one input.
    pub fn apply(&mut self, input: MachineInput, now: Timestamp) -> MachineStep {
        let mut step = MachineStep::default();
        if matches!(self.state, BuildState::New) && input != MachineInput::Start {
            // The driver starts a build before it accepts other inputs.
            return step;
        }
        match input {
            MachineInput::Start => self.start(now, &mut step),
            MachineInput::Provisioned(result) => self.provisioned(result, now, &mut step),
            MachineInput::ValuesFetched(fetched) => self.values_fetched(fetched, now, &mut step),
            MachineInput::EntrypointRan(found) => self.entrypoint_ran(found, now, &mut step),
            MachineInput::ShellOpened(result) => self.shell_opened(result, now, &mut step),
            MachineInput::CacheFound(found) => self.cache_found(found, &mut step),
            MachineInput::Rehoused(result) => self.rehoused(result, now, &mut step),
            MachineInput::CacheRestored => self.cache_restored(now, &mut step),
            MachineInput::CatalogRead(catalog) => {
                self.catalog_read(catalog.as_deref(), now, &mut step);
            }
            MachineInput::RuntimesFound(found) => self.runtimes_found(&found, now, &mut step),
            MachineInput::CommandEnded { command, outcome, cause, facts } => {
                self.command_ended(command, (&outcome, cause.as_deref()), facts, now, &mut step);
            }
            MachineInput::Decide { decision, by } => self.decide(decision, by, now, &mut step),
            MachineInput::SetBreakpoints { owner, breakpoints } => {
                self.stops.set(&owner, &breakpoints, &mut step);
                if self.is_in_command() {
                    step.effects.push(MachineEffect::Watch(self.wants()));
                }
            }
            MachineInput::Checkpointed { id, result } => {
                self.checkpointed(id, result, now, &mut step);
            }
            MachineInput::Rewound(result) => self.rewound(result, now, &mut step),
            MachineInput::Pause => self.pause_by_hand(&mut step),
            MachineInput::EndEvaluated { command } if self.evaluates() == Some(command) => {
                step.effects.push(MachineEffect::Cut { command });
            }
            MachineInput::EndEvaluated { .. } => {}
            MachineInput::Frozen { command, result } => {
                self.frozen(command, result, now, &mut step);
            }
            MachineInput::Watched { command, breakpoint, output } => {
                self.watched(command, breakpoint, output, now, &mut step);
            }
            MachineInput::BreakpointHit { call, directory } => {
                self.breakpoint_hit(call, directory, now, &mut step);
            }
            MachineInput::Stuck(impasse) => self.get_stuck(*impasse, now, &mut step),
            MachineInput::BreakpointGone { call } => {
                if let Some(pause) = self.pauses.end_call(call) {
                    self.resumed(&pause, ResumedBy::Gone, now, &mut step);
                }
            }
            MachineInput::Resume => self.resume(ResumedBy::User, now, &mut step),
            MachineInput::SessionOpened { session, program } => {
                self.pauses.session_opened();
                step.events.push(EventBody::SessionOpened { session, program });
            }
            MachineInput::SessionClosed { session, how } => {
                self.pauses.session_closed(now.boot);
                step.events.push(EventBody::SessionClosed { session, how });
            }
            MachineInput::Stop { at_once } => self.stop(at_once, now, &mut step),
            MachineInput::Fault(context) => self.fault(context, now, &mut step),
            MachineInput::Lost(context) => self.lost(context, now, &mut step),
            MachineInput::Slept(time) => self.slept(time, now),
            MachineInput::ProcessesGone => self.processes_gone(now, &mut step),
            MachineInput::Exported(variables) => {
                if matches!(self.state, BuildState::Uploading) {
                    step.events.push(EventBody::Exported { variables });
                }
            }
            MachineInput::Reported(facts) => {
                if matches!(self.state, BuildState::Uploading) {
                    step.events.push(EventBody::Report(facts));
                }
            }
            MachineInput::Line(text) => {
                if matches!(self.state, BuildState::Uploading) {
                    step.events.push(EventBody::Agent { text });
                }
            }
            MachineInput::Stored(artifact) => {
                if matches!(self.state, BuildState::Uploading) {
                    step.events.push(EventBody::ArtifactStored(artifact));
                }
            }
            MachineInput::Progress(progress) => {
                if matches!(self.state, BuildState::Uploading | BuildState::Downloading(_)) {
                    step.events.push(EventBody::Progress(progress));
                }
            }
            MachineInput::Uploaded(result) => self.uploaded(result, now, &mut step),
            MachineInput::Finalized => self.finalized(now, &mut step),
            MachineInput::Endpoint(opened) => {
                if !matches!(self.state, BuildState::Over) {
                    step.events.push(match opened {
                        Ok(address) => EventBody::EndpointOpened { address },
                        Err(problem) => EventBody::EndpointFailed { problem },
                    });
                }
            }
            MachineInput::Notice(notice) => step.events.push(EventBody::Notice(notice)),
            MachineInput::Tick => self.tick(now, &mut step),
        }
        step
    }

    fn start(&mut self, now: Timestamp, step: &mut MachineStep) {
        if !matches!(self.state, BuildState::New) {
            return;
        }
        step.events.push(EventBody::BuildStarted(Box::new(self.plan.facts.clone())));
        let stops = &self.plan.stops;
        self.stops.set("cli", &stops.breakpoints, step);
        self.stops.is_stepping = stops.step;
        for phase in [Phase::Submitted, Phase::Queued] {
            self.enter(phase, now, step);
            self.leave(Status::Succeeded, Vec::new(), now, step);
        }
        self.enter(Phase::Provisioning, now, step);
        self.stopwatch.start(now.boot);
        self.state = BuildState::Provisioning;
        match &self.plan.work {
            Ok(_) => step.effects.push(MachineEffect::Provision),
            // Nothing will run, so there is no need for a container.
            Err(_) => self.provisioned(Ok(ContainerFacts::default()), now, step),
        }
    }

    fn provisioned(
        &mut self,
        result: Result<ContainerFacts, PhaseContext>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        match (&self.state, result) {
            (BuildState::Provisioning, Ok(container)) => {
                // A rejected buildspec has no container.
                if self.plan.work.is_ok() {
                    self.container_started(&container, step);
                }
                self.leave(Status::Succeeded, vec![PhaseContext::default()], now, step);
                self.agent(step, "Waiting for agent ping");
                self.agent(step, "Waiting for DOWNLOAD_SOURCE");
                self.enter(Phase::DownloadSource, now, step);
                let places = &self.plan.places;
                let lines = [
                    "Phase is DOWNLOAD_SOURCE".to_owned(),
                    format!("CODEBUILD_SRC_DIR={}", places.source),
                    format!("YAML location is {}", places.buildspec),
                ];
                step.events.extend(lines.map(|text| EventBody::Agent { text }));
                self.prepare(container, now, step);
            }
            (BuildState::Provisioning, Err(context)) => {
                self.worsen(Status::Fault, &context);
                self.leave(Status::Fault, vec![context], now, step);
                self.finalize(now, step);
            }
            // The build was stopped meanwhile; the driver discards the result.
            _ => {}
        }
    }

    fn container_started(&self, container: &ContainerFacts, step: &mut MachineStep) {
        let ContainerFacts { engine, image, .. } = container.clone();
        step.events.push(EventBody::ContainerStarted { engine, image });
    }

    fn uploaded(
        &mut self,
        result: Result<(), PhaseContext>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if !matches!(self.state, BuildState::Uploading) {
            return;
        }
        match result {
            Ok(()) => self.leave(Status::Succeeded, vec![PhaseContext::default()], now, step),
            Err(context) => {
                self.worsen(Status::Failed, &context);
                self.leave(Status::Failed, vec![context], now, step);
            }
        }
        self.finalize(now, step);
    }

    fn finalize(&mut self, now: Timestamp, step: &mut MachineStep) {
        self.end_pauses(now, step);
        self.enter(Phase::Finalizing, now, step);
        self.state = BuildState::Finalizing;
        let times_out = self.stopwatch.deadline(self.plan.limits.timeout);
        self.patience = Patience::from(times_out.unwrap_or(now.boot).max(now.boot));
        step.effects.push(MachineEffect::Finalize { status: self.status });
    }

    fn finalized(&mut self, now: Timestamp, step: &mut MachineStep) {
        match self.state {
            BuildState::Finalizing => {
                self.leave(Status::Succeeded, vec![PhaseContext::default()], now, step);
            }
            BuildState::Ending(ref ending) if ending.is_gone() => {}
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
            | BuildState::Ending(_)
            | BuildState::Over => return,
        }
        self.complete(true, now, step);
    }

    fn complete(&mut self, is_clear: bool, now: Timestamp, step: &mut MachineStep) {
        self.enter(Phase::Completed, now, step);
        self.state = BuildState::Over;
        step.events
            .push(EventBody::BuildEnded { status: self.status, reason: self.reason.clone() });
        step.effects.push(MachineEffect::Finish { status: self.status, is_clear });
    }

    fn enter(&mut self, phase: Phase, now: Timestamp, step: &mut MachineStep) {
        self.phase = phase;
        self.phase_started = now.boot;
        step.events.push(EventBody::PhaseStarted { phase });
    }

    fn leave(
        &mut self,
        status: Status,
        contexts: Vec<PhaseContext>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        step.events.push(EventBody::PhaseEnded {
            phase: self.phase,
            status,
            contexts,
            duration_ms: millis(now.boot.saturating_sub(self.phase_started)),
        });
    }

    fn agent(&self, step: &mut MachineStep, text: &str) {
        step.events.push(EventBody::Agent { text: text.to_owned() });
    }

    /// Records a failure. The first reason is kept, but our own fault outweighs the build's
    /// failure.
    fn worsen(&mut self, status: Status, context: &PhaseContext) {
        if self.status == Status::Succeeded || status != Status::Failed {
            self.status = status;
            self.reason = Some(context.message.trim_end().to_owned());
        }
    }

    fn phase_work(&self, phase: UserPhase) -> Option<Arc<PhaseWork>> {
        self.plan.work.as_ref().ok().map(|work| Arc::clone(work.phase(phase)))
    }
}

/// The value of `CODEBUILD_LAST_EXIT` after a command.
fn exit_code(outcome: &CommandOutcome) -> i32 {
    match outcome {
        CommandOutcome::Exited(code) => *code,
        CommandOutcome::Signaled(signal) => 128 + signal,
        CommandOutcome::NotStarted(_) | CommandOutcome::Cut => 1,
    }
}

/// CodeBuild's message, followed by the cause, which CodeBuild does not report.
fn command_failure(text: &str, outcome: &CommandOutcome, cause: Option<&str>) -> PhaseContext {
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    PhaseContext::new(
        StatusCode::CommandExecutionError,
        format!("Error while executing command: {text}. Reason: {outcome}{cause}"),
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
