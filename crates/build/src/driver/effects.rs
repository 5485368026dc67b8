//! One effect of the machine, performed.
//!
//! Fed by `run`. Whatever takes time runs as a task of its own and comes back as an input; nothing
//! here decides what happens next.

use super::advice;
use super::housing::{Housing, Stage};
use super::inbox::Inbox;
use super::pumps::Pumps;
use super::setup::Setup;
use super::shell::{Shell, ShellError, fault};
use super::world::World;
use super::{Snapshot, upload};
use nix::sys::signal::Signal;
use runner_core::env::Layers;
use runner_core::event::{Notice, Outcome, Stuck};
use runner_core::machine::{CommandRun, Effect, Impasse, Input, Preparation, RunFacts};
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_engine::{Container, Ends, ExecError, Ids, leftover, users, what_was_in_the_way};
use runner_folder::events::LogWriter;
use runner_folder::events::pump::Pump;
use runner_outputs::cache::CacheState;
use runner_wire::init::Exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a person is told of an image without a shell.
const NO_SHELL: &str = "commands of a buildspec need a shell in the image, here as at AWS; to look \
                        around in this one, and run its programs: --enable-session, with --toolbox for \
                        a shell of this machine's";

/// How long the pipes of a container that is gone may stay open.
const FOREIGN_WRITERS: Duration = Duration::from_secs(10);

/// How long an upload that was stopped may take to throw away what it began.
const UPLOAD_ENDS: Duration = Duration::from_secs(10);

/// How long a container's first process may take to say that all others are killed.
const KILL_ANSWER: Duration = Duration::from_secs(1);

/// Performs effects.
pub(super) struct Effects {
    world: Arc<World>,
    inbox: Inbox,
    log: LogWriter,
    housing: Housing,
    shell: Arc<tokio::sync::Mutex<Option<Shell>>>,
    pumps: Pumps,
    setup: Setup,
    upload: Mutex<Option<Uploading>>,
}

/// Artifacts, reports and cache on their way.
struct Uploading {
    cancel: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Effects {
    pub(super) fn new(world: Arc<World>, inbox: Inbox, log: LogWriter) -> Self {
        let housing = Housing::new(Arc::clone(&world), inbox.clone());
        let shell: Arc<tokio::sync::Mutex<Option<Shell>>> = Arc::default();
        let setup = Setup {
            world: Arc::clone(&world),
            inbox: inbox.clone(),
            housing: housing.clone(),
            shell: Arc::clone(&shell),
        };
        let (pumps, upload) = (Pumps::default(), Mutex::default());
        Effects { world, inbox, log, housing, shell, setup, pumps, upload }
    }

    pub(super) fn perform(&self, effect: Effect) {
        match effect {
            Effect::Provision => self.provision(),
            Effect::Prepare(preparation) => self.prepare(preparation),
            Effect::Run(run) => self.run(run),
            Effect::Release { call } => self.world.guests.breakpoints.release(call),
            Effect::Terminate => self.end_processes(Signal::SIGTERM),
            Effect::Kill => self.end_processes(Signal::SIGKILL),
            Effect::Hurry => self.world.deliveries.hurry(),
            Effect::Freeze { command } => {
                let result = Err("this version cannot hold a running command".to_owned());
                self.inbox.post(Input::Frozen { command, result });
            }
            // Nothing stands still.
            Effect::Thaw => {}
            Effect::Upload { succeeding } => self.upload(succeeding),
            Effect::Finalize { status } => self.finalize(status),
            // The loop's own business.
            Effect::Finish { .. } => {}
        }
    }

    /// What kills the container without waiting for anything, from any thread.
    pub(super) fn kill(&self) -> impl Fn() + Send + 'static {
        let housing = self.housing.clone();
        move || housing.kill_now()
    }

    fn provision(&self) {
        let (world, housing) = (Arc::clone(&self.world), self.housing.clone());
        housing.begin();
        self.inbox.perform("make the container", async move {
            let mut spec = world.container_spec.clone();
            if let Some(cache) = world.work().and_then(|work| work.cache.clone())
                && let Some(to) = world.outputs.cache.clone()
            {
                let found = move || CacheState::found_before(&cache, &to);
                // One that cannot be looked for is none.
                let found = tokio::task::spawn_blocking(found).await.unwrap_or_default();
                spec.cached = found.trees();
                *upload::lock(&world.outputs.cache_state) = found;
            }
            housing.provision(spec).await;
        });
    }

    fn prepare(&self, preparation: Preparation) {
        let (setup, inbox) = (self.setup.clone(), self.inbox.clone());
        self.inbox.perform("make the source ready", async move {
            if let Some(answer) = setup.perform(preparation).await {
                inbox.send(answer).await;
            }
        });
    }

    fn run(&self, run: CommandRun) {
        let (world, inbox, log) = (Arc::clone(&self.world), self.inbox.clone(), self.log.clone());
        let (shell, pumps) = (Arc::clone(&self.shell), self.pumps.clone());
        let Some(container) = self.housing.current() else { return };
        self.inbox.perform("run a command", async move {
            let mut shell = shell.lock().await;
            let Some(shell) = shell.as_mut() else { return };
            let limits = &world.container_spec.limits;
            let before = container.pressure().await;
            let begin = log.output_length();
            let outcome = run_command(&world, &inbox, &log, &pumps, &*container, shell, &run).await;
            match outcome {
                Ok(outcome) => {
                    let pressure = container.pressure().await.since(before);
                    let mut cause = what_was_in_the_way(limits, pressure);
                    if outcome.succeeded()
                        && let Some(cause) = cause.take()
                    {
                        let text = format!("the command has succeeded, but {cause}");
                        inbox.send(Input::Notice(Notice::warning(text))).await;
                    }
                    let hint = advice::of(&world, &log, &*container, &run, (&outcome, begin));
                    if let Some(hint) = hint {
                        inbox.send(Input::Notice(Notice::hint(hint))).await;
                    }
                    let command = run.command;
                    let facts = RunFacts {
                        directory: shell.directory(),
                        variables: run.wants.variables.then(|| shell.variables()),
                        ..RunFacts::default()
                    };
                    inbox.send(Input::CommandEnded { command, outcome, cause, facts }).await;
                }
                // Its end is reported by whoever watches over it.
                Err(ShellError::Exec(ExecError::ContainerGone)) => {}
                Err(error @ ShellError::NoShell { .. }) => {
                    let impasse = Box::new(Impasse {
                        directory: shell.directory(),
                        stuck: Stuck {
                            reason: error.to_string(),
                            has_shell: world.guests.sessions.has_shell().await,
                        },
                        hint: NO_SHELL.to_owned(),
                        fault: fault(&error),
                    });
                    inbox.send(Input::Stuck(impasse)).await;
                }
                Err(error) => inbox.send(Input::Fault(fault(&error))).await,
            }
        });
    }

    fn upload(&self, succeeding: bool) {
        let (world, inbox) = (Arc::clone(&self.world), self.inbox.clone());
        let (shell, housing) = (Arc::clone(&self.shell), self.housing.clone());
        let (cancel, cancelled) = watch::channel(false);
        let Some(container) = self.housing.current() else { return };
        let task = self.inbox.perform("collect what the build leaves", async move {
            let Some(work) = world.work() else { return };
            let shell = shell.lock().await;
            let Some(shell) = &*shell else { return };
            let result = upload::upload(&upload::Asked {
                world: &world,
                work,
                shell,
                container,
                inbox: &inbox,
                cancelled,
                succeeding,
            })
            .await;
            // A container that has been taken down meanwhile has its own story.
            if !housing.is_stopping() {
                inbox.send(Input::Uploaded(result)).await;
            }
        });
        *lock(&self.upload) = Some(Uploading { cancel, task });
    }

    fn end_processes(&self, signal: Signal) {
        let inbox = self.inbox.clone();
        if signal == Signal::SIGKILL {
            self.world.deliveries.hurry();
        }
        let container = {
            let mut stage = self.housing.stage();
            match &*stage {
                Stage::Running(container) => Arc::clone(container),
                // It is dropped, and that reported, as soon as it is there.
                Stage::Starting | Stage::Unwanted if signal != Signal::SIGKILL => {
                    *stage = Stage::Unwanted;
                    self.world.engine.give_up();
                    return;
                }
                // At once: this program ends now, and a container that comes up after all finds
                // its runner gone.
                Stage::Starting | Stage::Unwanted => {
                    *stage = Stage::Unwanted;
                    inbox.post(Input::ProcessesGone);
                    return;
                }
                Stage::None | Stage::Stopping => {
                    inbox.post(Input::ProcessesGone);
                    return;
                }
            }
        };
        let sessions = Arc::clone(&self.world.guests.sessions);
        let (pumps, housing) = (self.pumps.clone(), self.housing.clone());
        let upload = lock(&self.upload).take();
        if let Some(upload) = &upload {
            upload.cancel.send_replace(true);
        }
        self.inbox.perform("end the build's processes", async move {
            sessions.hang_up();
            let told = container.signal_all(signal as i32);
            if signal == Signal::SIGKILL {
                if timeout(KILL_ANSWER, told).await.is_err() {
                    tracing::debug!("the container's first process does not answer: it is killed");
                    housing.kill(&*container).await;
                }
            } else {
                told.await;
            }
            if let Some(upload) = upload {
                // What is half there is thrown away, here and at a server.
                let _ = timeout(UPLOAD_ENDS, upload.task).await;
            }
            pumps.drained().await;
            inbox.send(Input::ProcessesGone).await;
        });
    }

    fn finalize(&self, status: Status) {
        let (world, inbox) = (Arc::clone(&self.world), self.inbox.clone());
        let pumps = self.pumps.clone();
        let container = match std::mem::replace(&mut *self.housing.stage(), Stage::Stopping) {
            Stage::Running(container) => Some(container),
            Stage::None | Stage::Starting | Stage::Unwanted | Stage::Stopping => None,
        };
        self.inbox.perform("clear up", async move {
            world.guests.sessions.close(status).await;
            world.guests.breakpoints.close();
            tracing::debug!("sessions are closed");
            if let Some(container) = container {
                container.stop().await;
            }
            tracing::debug!("the container is gone");
            // With the last process the last pipe is closed, unless one was handed to somebody outside.
            if timeout(FOREIGN_WRITERS, pumps.drained()).await.is_err() {
                let text = "a pipe of the build is held open from outside; its rest is not logged";
                inbox.send(Input::Notice(Notice::warning(text.to_owned()))).await;
            }
            tracing::debug!("all output is logged");
            for text in world.deliveries.finish().await {
                inbox.send(Input::Notice(Notice::warning(text))).await;
            }
            let layers = world.container_spec.layers.clone();
            let removed = tokio::task::spawn_blocking(move || leftover::clear_layers(&layers));
            for problem in removed.await.into_iter().flatten().filter_map(Result::err) {
                let text = format!("cannot remove what the build wrote: {problem}");
                inbox.send(Input::Notice(Notice::warning(text))).await;
            }
            tracing::debug!("the layer is removed");
            inbox.send(Input::Finalized).await;
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run_command(
    world: &World,
    inbox: &Inbox,
    log: &LogWriter,
    pumps: &Pumps,
    container: &dyn Container,
    shell: &mut Shell,
    run: &CommandRun,
) -> Result<Outcome, ShellError> {
    let user = match &run.user {
        None => Ids::default(),
        Some(name) => match users::resolve(container, name).await {
            Some(ids) => ids,
            None => {
                let reason = format!("the image has no user `{name}` (run-as)");
                return Ok(Outcome::NotStarted(reason));
            }
        },
    };
    let process = match shell.start(run, user).await {
        Err(ShellError::Exec(error)) => return not_started(world, container, shell, run, error),
        done => done?,
    };
    let Ends::Merged(pipe) = process.ends else { return Err(ExecError::ContainerGone.into()) };
    let (pump, handle) = Pump::new(pipe, run.command, log.clone(), world.secrets.clone())
        .map_err(|error| ExecError::Pipe(error.to_string()))?;
    let failed = inbox.clone();
    pumps.start(pump, move |error| {
        let message = format!("the build's log cannot be written: {error}");
        failed.send_blocking(Input::Fault(PhaseContext::new(
            StatusCode::InternalServiceError,
            message,
        )));
    });
    let exit = process.exit.await.unwrap_or(Err(ExecError::ContainerGone));
    // Two facts: the process has exited, and what it wrote is in the log.
    handle.drain().await;
    match exit {
        Ok(exit) => {
            shell.finished().await;
            Ok(match exit {
                Exit::Code(code) => Outcome::Exited(code),
                Exit::Signal(signal) => Outcome::Signaled(signal),
            })
        }
        Err(error) => not_started(world, container, shell, run, error),
    }
}

/// What comes of a command whose program could not be started.
fn not_started(
    world: &World,
    container: &dyn Container,
    shell: &Shell,
    run: &CommandRun,
    error: ExecError,
) -> Result<Outcome, ShellError> {
    if error.is_refused_user() && container.has_one_user() {
        let name = run.user.as_deref().unwrap_or("root");
        return Ok(Outcome::NotStarted(format!(
            "the container has no user but root, and this is to run as `{name}`; {}",
            runner_host::users::advice()
        )));
    }
    // The build has used up what it may have, which is its own doing.
    if error.is_refused_process() && world.container_spec.limits.pids.is_some() {
        return Ok(Outcome::NotStarted(error.to_string()));
    }
    Err(shell.explain(error))
}

/// Before the first command a session finds what the first command will find.
pub(super) fn initial_snapshot(layers: &Layers, source: &str) -> Snapshot {
    let variables = runner_core::env::compose(layers.clone());
    Snapshot {
        env: variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        cwd: source.as_bytes().to_vec(),
        before: None,
    }
}
