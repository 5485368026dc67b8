//! `BuildMachine::apply`: one input and the time in, events and effects out.
//!
//! Fed by `crates/build/src/driver/run.rs`, which logs the events and then performs the effects. Everything here
//! is a decision; nothing waits, reads or writes.

mod breakpoint;
mod checkpoints;
mod decide;
mod ending;
mod held;
mod prepare;
mod running;
mod setup;

use super::failures::Failures;
use super::pause::{Pauses, Stopwatch};
use super::step::{CommandRun, ContainerFacts, Effect, Input, RunFacts, Step, Wants};
use super::stops::Stops;
use crate::debug::{Breakpoint, Place};
use crate::event::{BreakpointId, EventBody, Notice, Outcome, ResumedBy};
use crate::phase::{Phase, PhaseContext, Status, StatusCode};
use crate::plan::{BuildPlan, Checkpointing, PhaseWork};
use crate::spec::UserPhase;
use crate::time::Timestamp;
use checkpoints::{Checkpoints, Rewinding, Saving};
use ending::{Ending, Patience};
use held::{Freezing, Held};
use prepare::Preparing;
use running::Running;
use setup::SettingUp;
use std::sync::Arc;
use std::time::Duration;

/// A build. A clone goes its own way from here on: the same inputs bring the same steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildMachine {
    plan: Arc<BuildPlan>,
    state: State,
    phase: Phase,
    phase_started: Duration,
    command_started: Duration,
    commands: u32,
    last_exit: i32,
    /// The worst that has happened to the build so far.
    status: Status,
    reason: Option<String>,
    pauses: Pauses,
    stopwatch: Stopwatch,
    /// Failures of commands.
    failures: Failures,
    /// The failure of a command that installs runtimes, left behind.
    setup_failure: Option<PhaseContext>,
    /// When the phases of the buildspec were begun.
    begun: [Duration; 4],
    stops: Stops,
    /// Commands before this place are not run.
    skip_to: Option<Place>,
    /// Variables that the next run sets, and those it unsets.
    set: Vec<(String, Option<String>)>,
    freezing: Freezing,
    checkpoints: Checkpoints,
    /// With what is left to do once the build's processes are gone.
    patience: Patience,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    New,
    Provisioning,
    Downloading(Box<Preparing>),
    SettingUp(SettingUp),
    Running(Running),
    /// What has been written is being kept.
    Saving(Box<Saving>),
    /// It goes back.
    Rewinding(Box<Rewinding>),
    /// Somebody decides what follows.
    Held(Box<Held>),
    /// A text of theirs runs.
    Evaluating {
        held: Box<Held>,
        command: u32,
    },
    Uploading,
    Finalizing,
    Ending(Ending),
    Over,
}

impl BuildMachine {
    /// A build that has not begun.
    #[must_use]
    pub fn new(plan: Arc<BuildPlan>) -> Self {
        BuildMachine {
            checkpoints: Checkpoints::new(plan.stops.checkpoints != Checkpointing::Off),
            plan,
            state: State::New,
            phase: Phase::Submitted,
            phase_started: Duration::ZERO,
            command_started: Duration::ZERO,
            commands: 0,
            last_exit: 0,
            status: Status::Succeeded,
            reason: None,
            pauses: Pauses::default(),
            stopwatch: Stopwatch::default(),
            failures: Failures::default(),
            setup_failure: None,
            begun: [Duration::ZERO; 4],
            stops: Stops::default(),
            skip_to: None,
            set: Vec::new(),
            freezing: Freezing::default(),
            patience: Patience::default(),
        }
    }

    /// When [`Input::Tick`] is due, on the boot clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let limits = &self.plan.limits;
        match &self.state {
            State::Ending(ending) => ending.deadline(&self.patience),
            State::Finalizing => self.patience.deadline(),
            State::Over => None,
            State::New
            | State::Provisioning
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Uploading => {
                let build = self.stopwatch.deadline(limits.timeout);
                let pause = self.pauses.deadline(limits.break_timeout);
                [build, pause, self.looks_at_run()].into_iter().flatten().min()
            }
            // Somebody has been there, and the build's own time goes on.
            State::Evaluating { .. } => self.stopwatch.deadline(limits.timeout),
        }
    }

    /// Whether the build waits for somebody to let it go on.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pauses.is_paused()
    }

    /// Number of the last run.
    #[must_use]
    pub fn last_run(&self) -> u32 {
        self.commands
    }

    /// Whether a run stands still.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.freezing.is_frozen
    }

    /// The evaluated text that runs, by its number.
    #[must_use]
    pub fn evaluates(&self) -> Option<u32> {
        match &self.state {
            State::Evaluating { command, .. } => Some(*command),
            _ => None,
        }
    }

    /// Variables that the next run sets, and those it unsets.
    #[must_use]
    pub fn to_be_set(&self) -> &[(String, Option<String>)] {
        &self.set
    }

    /// What breakpoints need to know of runs.
    #[must_use]
    pub fn wants(&self) -> Wants {
        Wants { changes: self.checkpoints.is_on(), ..self.stops.wants() }
    }

    /// Why a breakpoint can never be come to, where that is so.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self, breakpoint: &Breakpoint) -> Result<(), String> {
        if breakpoint.wants_changes()
            && let Some(why) = self.checkpoints.lack()
        {
            return Err(format!("what a run has written is not known: {why}"));
        }
        self.plan.work.as_ref().map_or(Ok(()), |work| work.takes(breakpoint))
    }

    /// All breakpoints, with their numbers and whose they are.
    pub fn breakpoints(&self) -> impl Iterator<Item = (BreakpointId, &str, &Breakpoint)> {
        self.stops.all()
    }

    /// When it goes on or ends by itself, on the boot clock; none while somebody is there or it is not paused.
    #[must_use]
    pub fn pause_ends(&self) -> Option<Duration> {
        self.pauses.deadline(self.plan.limits.break_timeout)
    }

    /// When the build times out, on the boot clock; none while it is paused or over.
    #[must_use]
    pub fn times_out(&self) -> Option<Duration> {
        match &self.state {
            State::Ending(_) | State::Over | State::Finalizing => None,
            State::New
            | State::Provisioning
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Evaluating { .. }
            | State::Uploading => self.stopwatch.deadline(self.plan.limits.timeout),
        }
    }

    /// How the build ends, once it does.
    #[must_use]
    pub fn verdict(&self) -> Option<Status> {
        match &self.state {
            State::Ending(_) | State::Finalizing | State::Over => Some(self.status),
            State::New
            | State::Provisioning
            | State::Downloading(_)
            | State::SettingUp(_)
            | State::Running(_)
            | State::Saving(_)
            | State::Rewinding(_)
            | State::Held(_)
            | State::Evaluating { .. }
            | State::Uploading => None,
        }
    }

    /// Takes one input.
    pub fn apply(&mut self, input: Input, now: Timestamp) -> Step {
        let mut step = Step::default();
        if matches!(self.state, State::New) && input != Input::Start {
            // The driver begins a build before it listens to anybody.
            return step;
        }
        match input {
            Input::Start => self.start(now, &mut step),
            Input::Provisioned(result) => self.provisioned(result, now, &mut step),
            Input::ValuesFetched(fetched) => self.values_fetched(fetched, now, &mut step),
            Input::EntrypointRan(found) => self.entrypoint_ran(found, now, &mut step),
            Input::ShellOpened(result) => self.shell_opened(result, now, &mut step),
            Input::CacheFound(found) => self.cache_found(found, &mut step),
            Input::Rehoused(result) => self.rehoused(result, now, &mut step),
            Input::CacheRestored => self.cache_restored(now, &mut step),
            Input::CatalogRead(catalog) => self.catalog_read(catalog.as_deref(), now, &mut step),
            Input::RuntimesFound(found) => self.runtimes_found(&found, now, &mut step),
            Input::CommandEnded { command, outcome, cause, facts } => {
                self.command_ended(command, (&outcome, cause.as_deref()), facts, now, &mut step);
            }
            Input::Decide { decision, by } => self.decide(decision, by, now, &mut step),
            Input::SetBreakpoints { owner, breakpoints } => {
                self.stops.set(&owner, &breakpoints, &mut step);
                if self.is_in_command() {
                    step.effects.push(Effect::Watch(self.wants()));
                }
            }
            Input::Checkpointed { id, result } => self.checkpointed(id, result, now, &mut step),
            Input::Rewound(result) => self.rewound(result, now, &mut step),
            Input::Pause => self.pause_by_hand(&mut step),
            Input::EndEvaluated { command } if self.evaluates() == Some(command) => {
                step.effects.push(Effect::Cut { command });
            }
            Input::EndEvaluated { .. } => {}
            Input::Frozen { command, result } => self.frozen(command, result, now, &mut step),
            Input::Watched { command, breakpoint, output } => {
                self.watched(command, breakpoint, output, now, &mut step);
            }
            Input::BreakpointHit { call, directory } => {
                self.breakpoint_hit(call, directory, now, &mut step);
            }
            Input::Stuck(impasse) => self.get_stuck(*impasse, now, &mut step),
            Input::BreakpointGone { call } => {
                if let Some(pause) = self.pauses.end_call(call) {
                    self.resumed(&pause, ResumedBy::Gone, now, &mut step);
                }
            }
            Input::Resume => self.resume(ResumedBy::User, now, &mut step),
            Input::SessionOpened { session, program } => {
                self.pauses.session_opened();
                step.events.push(EventBody::SessionOpened { session, program });
            }
            Input::SessionClosed { session, how } => {
                self.pauses.session_closed(now.boot);
                step.events.push(EventBody::SessionClosed { session, how });
            }
            Input::Stop { at_once } => self.stop(at_once, now, &mut step),
            Input::Fault(context) => self.fault(context, now, &mut step),
            Input::Lost(context) => self.lost(context, now, &mut step),
            Input::Slept(time) => self.slept(time, now),
            Input::ProcessesGone => self.processes_gone(now, &mut step),
            Input::Exported(variables) => {
                if matches!(self.state, State::Uploading) {
                    step.events.push(EventBody::Exported { variables });
                }
            }
            Input::Reported(facts) => {
                if matches!(self.state, State::Uploading) {
                    step.events.push(EventBody::Report(facts));
                }
            }
            Input::Line(text) => {
                if matches!(self.state, State::Uploading) {
                    step.events.push(EventBody::Agent { text });
                }
            }
            Input::Stored(artifact) => {
                if matches!(self.state, State::Uploading) {
                    step.events.push(EventBody::ArtifactStored(artifact));
                }
            }
            Input::Progress(progress) => {
                if matches!(self.state, State::Uploading | State::Downloading(_)) {
                    step.events.push(EventBody::Progress(progress));
                }
            }
            Input::Uploaded(result) => self.uploaded(result, now, &mut step),
            Input::Finalized => self.finalized(now, &mut step),
            Input::Endpoint(opened) => {
                if !matches!(self.state, State::Over) {
                    step.events.push(match opened {
                        Ok(address) => EventBody::EndpointOpened { address },
                        Err(problem) => EventBody::EndpointFailed { problem },
                    });
                }
            }
            Input::Notice(notice) => step.events.push(EventBody::Notice(notice)),
            Input::Tick => self.tick(now, &mut step),
        }
        step
    }

    fn start(&mut self, now: Timestamp, step: &mut Step) {
        if !matches!(self.state, State::New) {
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
        self.state = State::Provisioning;
        match &self.plan.work {
            Ok(_) => step.effects.push(Effect::Provision),
            // Nothing will run in it, so there is no need for a container.
            Err(_) => self.provisioned(Ok(ContainerFacts::default()), now, step),
        }
    }

    fn provisioned(
        &mut self,
        result: Result<ContainerFacts, PhaseContext>,
        now: Timestamp,
        step: &mut Step,
    ) {
        match (&self.state, result) {
            (State::Provisioning, Ok(container)) => {
                // A buildspec that was rejected gets none.
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
            (State::Provisioning, Err(context)) => {
                self.worsen(Status::Fault, &context);
                self.leave(Status::Fault, vec![context], now, step);
                self.finalize(now, step);
            }
            // It was stopped meanwhile; the driver drops what it got.
            _ => {}
        }
    }

    fn container_started(&self, container: &ContainerFacts, step: &mut Step) {
        let ContainerFacts { engine, image, .. } = container.clone();
        step.events.push(EventBody::ContainerStarted { engine, image });
    }

    fn uploaded(&mut self, result: Result<(), PhaseContext>, now: Timestamp, step: &mut Step) {
        if !matches!(self.state, State::Uploading) {
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

    fn finalize(&mut self, now: Timestamp, step: &mut Step) {
        self.end_pauses(now, step);
        self.enter(Phase::Finalizing, now, step);
        self.state = State::Finalizing;
        let times_out = self.stopwatch.deadline(self.plan.limits.timeout);
        self.patience = Patience::from(times_out.unwrap_or(now.boot).max(now.boot));
        step.effects.push(Effect::Finalize { status: self.status });
    }

    fn finalized(&mut self, now: Timestamp, step: &mut Step) {
        match self.state {
            State::Finalizing => {
                self.leave(Status::Succeeded, vec![PhaseContext::default()], now, step);
            }
            State::Ending(ref ending) if ending.is_gone() => {}
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
            | State::Ending(_)
            | State::Over => return,
        }
        self.complete(true, now, step);
    }

    fn complete(&mut self, is_clear: bool, now: Timestamp, step: &mut Step) {
        self.enter(Phase::Completed, now, step);
        self.state = State::Over;
        step.events
            .push(EventBody::BuildEnded { status: self.status, reason: self.reason.clone() });
        step.effects.push(Effect::Finish { status: self.status, is_clear });
    }

    fn enter(&mut self, phase: Phase, now: Timestamp, step: &mut Step) {
        self.phase = phase;
        self.phase_started = now.boot;
        step.events.push(EventBody::PhaseStarted { phase });
    }

    fn leave(
        &mut self,
        status: Status,
        contexts: Vec<PhaseContext>,
        now: Timestamp,
        step: &mut Step,
    ) {
        step.events.push(EventBody::PhaseEnded {
            phase: self.phase,
            status,
            contexts,
            duration_ms: millis(now.boot.saturating_sub(self.phase_started)),
        });
    }

    fn agent(&self, step: &mut Step, text: &str) {
        step.events.push(EventBody::Agent { text: text.to_owned() });
    }

    /// Notes a failure. The first reason stays, but a fault of ours outweighs the build's own.
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

/// `CODEBUILD_LAST_EXIT` after a command.
fn exit_code(outcome: &Outcome) -> i32 {
    match outcome {
        Outcome::Exited(code) => *code,
        Outcome::Signaled(signal) => 128 + signal,
        Outcome::NotStarted(_) | Outcome::Cut => 1,
    }
}

/// In CodeBuild's words, and behind them what it does not say.
fn command_failure(text: &str, outcome: &Outcome, cause: Option<&str>) -> PhaseContext {
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    PhaseContext::new(
        StatusCode::CommandExecutionError,
        format!("Error while executing command: {text}. Reason: {outcome}{cause}"),
    )
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
