//! Runs one command of the build, watches it, and reports on it.
//!
//! Used by `effects`, one at a time.

use super::advice;
use super::checkpoints::Checkpoints;
use super::inbox::Inbox;
use super::pumps::Pumps;
use super::scene;
use super::shell::{BuildShell, ShellError, fault};
use super::stillness::{CurrentRun, Stillness};
use super::watch::{OUTPUT, RunWatch};
use super::world::World;
use runner_core::event::{CommandOutcome, Notice, Scene, Stuck};
use runner_core::machine::{CommandRun, Impasse, MachineInput, RunFacts, Wants};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_engine::{Container, ExecError, Ids, ProgramEnds, users, what_was_in_the_way};
use runner_folder::events::LogWriter;
use runner_folder::events::pump::Pump;
use runner_wire::init::Exit;
use std::sync::Arc;

/// Error for an image without a shell.
const NO_SHELL: &str = "commands of a buildspec need a shell in the image, here as at AWS; to look \
                        around in this one, and run its programs: --enable-session, with --toolbox for \
                        a shell of this machine's";

/// What a command runs with.
pub(super) struct Hands {
    pub(super) world: Arc<World>,
    pub(super) inbox: Inbox,
    pub(super) log: LogWriter,
    pub(super) pumps: Pumps,
    pub(super) stillness: Stillness,
    pub(super) checkpoints: Checkpoints,
    pub(super) container: Arc<dyn Container>,
}

impl Hands {
    /// Runs the command. Returns its result, unless something else reports it.
    pub(super) async fn run(
        &self,
        shell: &mut BuildShell,
        run: &CommandRun,
    ) -> Option<MachineInput> {
        let before = self.container.pressure().await;
        let (inbox, log) = (self.inbox.clone(), self.log.clone());
        let is_told = Arc::clone(&self.world.is_told_uncounted);
        let watch = RunWatch::new(inbox, log, run.command, run.wants.clone(), is_told);
        match self.perform(shell, run, &watch).await {
            Ok(outcome) => {
                let pressure = self.container.pressure().await.since(before);
                let limits = &self.world.container_spec.limits;
                let mut cause = what_was_in_the_way(limits, pressure);
                if outcome.succeeded()
                    && let Some(cause) = cause.take()
                {
                    let text = format!("the command has succeeded, but {cause}");
                    self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
                }
                let (world, ended) = (&self.world, (&outcome, watch.begin()));
                if let Some(hint) = advice::of(world, &self.log, &*self.container, run, ended) {
                    self.inbox.send(MachineInput::Notice(Notice::hint(hint))).await;
                }
                let facts = self.facts(shell, &watch, (&outcome, cause.as_deref())).await;
                Some(MachineInput::CommandEnded { command: run.command, outcome, cause, facts })
            }
            // Reported by the task that watches the container.
            Err(ShellError::Exec(ExecError::ContainerGone)) => None,
            Err(error @ ShellError::NoShell { .. }) => {
                let has_shell = self.world.guests.sessions.has_shell().await;
                Some(MachineInput::Stuck(Box::new(Impasse {
                    directory: shell.directory(),
                    stuck: Stuck { reason: error.to_string(), has_shell },
                    hint: NO_SHELL.to_owned(),
                    fault: fault(&error),
                })))
            }
            Err(error) => Some(MachineInput::Fault(fault(&error))),
        }
    }

    /// Collects what breakpoints, and people who stop at them, need to know of the run.
    async fn facts(
        &self,
        shell: &BuildShell,
        watch: &RunWatch,
        ended: (&CommandOutcome, Option<&str>),
    ) -> RunFacts {
        let wants = watch.wants();
        // What is written from here on does not count as output of the run.
        watch.set(Wants::default());
        let seen = match wants.changes {
            true => self.checkpoints.look(watch.command(), &*self.container).await,
            false => None,
        };
        let source = &self.world.plan.places.source;
        let wrote = seen.as_ref().map(|seen| seen.wrote(&wants.watched, source));
        let scene = if wants.scene {
            let (snapshot, secrets) = (&self.world.guests.snapshot, self.world.secrets.get());
            scene::of(watch, &*self.container, shell, ended, (snapshot, &secrets)).await
        } else {
            Scene::default()
        };
        RunFacts {
            directory: shell.directory(),
            variables: wants.variables.then(|| shell.variables()),
            output: wants.output.then(|| watch.output(OUTPUT).into()),
            wrote: wrote.unwrap_or_default(),
            changed: seen.map(|seen| seen.facts),
            scene,
        }
    }

    /// Runs the command until its process has exited and its output is in the log.
    async fn perform(
        &self,
        shell: &mut BuildShell,
        run: &CommandRun,
        watch: &RunWatch,
    ) -> Result<CommandOutcome, ShellError> {
        let user = match &run.user {
            None => Ids::default(),
            Some(name) => match users::resolve(&*self.container, name).await {
                Some(ids) => ids,
                None => {
                    return Ok(CommandOutcome::NotStarted(advice::no_user(name)));
                }
            },
        };
        let process = match shell.start(run, user).await {
            Err(ShellError::Exec(error)) => return self.not_started(shell, run, error),
            done => done?,
        };
        let ProgramEnds::Merged(pipe) = process.ends else {
            return Err(ExecError::ContainerGone.into());
        };
        let seen = watch.clone();
        let sees = Arc::new(move |bytes: &[u8]| seen.sees(bytes));
        let (log, secrets) = (self.log.clone(), self.world.secrets.clone());
        let (pump, handle) = Pump::new(pipe, run.command, log, secrets, sees)
            .map_err(|error| ExecError::Pipe(error.to_string()))?;
        let failed = self.inbox.clone();
        self.pumps.start(pump, move |error| {
            let message = format!("the build's log cannot be written: {error}");
            failed.send_blocking(MachineInput::Fault(PhaseContext::new(
                StatusCode::InternalServiceError,
                message,
            )));
        });
        let signals = process.signals;
        self.stillness.is_of(Some(CurrentRun { watch: watch.clone(), signals }));
        let exit = tokio::select! {
            exit = process.exit => exit.unwrap_or(Err(ExecError::ContainerGone)),
            never = watch.keep(&*self.container) => match never {},
        };
        self.stillness.is_of(None);
        // The exit alone is not enough: the output must be in the log, too.
        handle.drain().await;
        match exit {
            Ok(exit) => {
                shell.finished().await;
                Ok(match exit {
                    Exit::Code(code) => CommandOutcome::Exited(code),
                    Exit::Signal(signal) => CommandOutcome::Signaled(signal),
                })
            }
            Err(error) => self.not_started(shell, run, error),
        }
    }

    /// The result of a command whose program could not be started.
    fn not_started(
        &self,
        shell: &BuildShell,
        run: &CommandRun,
        error: ExecError,
    ) -> Result<CommandOutcome, ShellError> {
        if error.is_refused_user() && self.container.has_one_user() {
            let name = run.user.as_deref().unwrap_or("root");
            return Ok(CommandOutcome::NotStarted(format!(
                "the container has no user but root, and this is to run as `{name}`; {}",
                runner_host::users::advice()
            )));
        }
        // The build has reached its own process limit.
        if error.is_refused_process() && self.world.container_spec.limits.pids.is_some() {
            return Ok(CommandOutcome::NotStarted(error.to_string()));
        }
        Err(shell.explain(error))
    }
}
