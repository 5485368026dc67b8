//! Performs one effect of the machine.
//!
//! Fed by `run`. Whatever takes time runs as a separate task and comes back as an input; nothing
//! here decides what happens next.

use super::checkpoints::{Checkpoints, Due, Taken};
use super::command::Hands;
use super::entrypoint::Entrypoint;
use super::housing::{ContainerStage, Housing};
use super::inbox::Inbox;
use super::pumps::Pumps;
use super::setup::Setup;
use super::shell::BuildShell;
use super::stillness::{Stillness, StillnessOrder};
use super::world::World;
use super::{ShellSnapshot, upload};
use nix::sys::signal::Signal;
use runner_core::env::EnvLayers;
use runner_core::event::Notice;
use runner_core::machine::{CommandRun, MachineEffect, MachineInput, SourcePreparation};
use runner_core::phase::Status;
use runner_engine::leftover;
use runner_folder::events::LogWriter;
use runner_outputs::cache::CacheState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the pipes of an ended container may stay open.
const FOREIGN_WRITERS: Duration = Duration::from_secs(10);

/// How long a stopped upload may take to discard what it began.
const UPLOAD_ENDS: Duration = Duration::from_secs(10);

/// How long a container's first process may take to confirm that all others were killed.
const KILL_ANSWER: Duration = Duration::from_secs(1);

/// Performs effects.
pub(super) struct Effects {
    world: Arc<World>,
    inbox: Inbox,
    log: LogWriter,
    housing: Housing,
    shell: Arc<tokio::sync::Mutex<Option<BuildShell>>>,
    pumps: Pumps,
    setup: Setup,
    checkpoints: Checkpoints,
    stillness: Stillness,
    upload: Mutex<Option<Uploading>>,
}

/// A running upload of artifacts, reports and cache.
struct Uploading {
    cancel: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Effects {
    pub(super) fn new(world: Arc<World>, inbox: Inbox, log: LogWriter) -> Self {
        let housing = Housing::new(Arc::clone(&world), inbox.clone());
        let shell: Arc<tokio::sync::Mutex<Option<BuildShell>>> = Arc::default();
        let setup = Setup {
            world: Arc::clone(&world),
            inbox: inbox.clone(),
            housing: housing.clone(),
            shell: Arc::clone(&shell),
            entrypoint: Entrypoint::default(),
        };
        let checkpoints = Checkpoints {
            world: Arc::clone(&world),
            inbox: inbox.clone(),
            housing: housing.clone(),
            shell: Arc::clone(&shell),
            entrypoint: setup.entrypoint.clone(),
            taken: Arc::new(tokio::sync::Mutex::new(Taken::of(log.dir()))),
        };
        let (pumps, upload) = (Pumps::default(), Mutex::default());
        let stillness = Stillness::default();
        Effects { world, inbox, log, housing, shell, setup, checkpoints, pumps, stillness, upload }
    }

    pub(super) fn perform(&self, effect: MachineEffect) {
        match effect {
            MachineEffect::Provision => self.provision(),
            MachineEffect::Prepare(preparation) => self.prepare(preparation),
            MachineEffect::Run(run) => self.run(run),
            MachineEffect::Checkpoint { id, before, again, is_seen } => {
                let checkpoints = self.checkpoints.clone();
                let due = Due { id, before, again, is_seen };
                self.inbox.perform("save what the build has written", async move {
                    checkpoints.take(due).await;
                });
            }
            MachineEffect::Rewind { id } => {
                let checkpoints = self.checkpoints.clone();
                self.inbox.perform("rewind the build", async move { checkpoints.rewind(id).await });
            }
            MachineEffect::Release { call } => self.world.guests.breakpoints.release(call),
            MachineEffect::Terminate => self.end_processes(Signal::SIGTERM),
            MachineEffect::Kill => self.end_processes(Signal::SIGKILL),
            MachineEffect::Hurry => self.world.deliveries.hurry(),
            MachineEffect::Freeze { command } => self.order(StillnessOrder::Freeze { command }),
            MachineEffect::Thaw => self.order(StillnessOrder::Thaw),
            MachineEffect::Cut { command } => self.order(StillnessOrder::Cut { command }),
            MachineEffect::Watch(wants) => self.stillness.watch(wants),
            MachineEffect::Upload { succeeding } => self.upload(succeeding),
            MachineEffect::Finalize { status } => self.finalize(status),
            // Handled by the loop itself.
            MachineEffect::Finish { .. } => {}
        }
    }

    /// A function that kills the container without waiting for anything, from any thread.
    pub(super) fn kill(&self) -> impl Fn() + Send + 'static {
        let housing = self.housing.clone();
        move || housing.kill_now()
    }

    fn order(&self, order: StillnessOrder) {
        if let Some(container) = self.housing.current() {
            self.stillness.order(order, container, &self.inbox);
        }
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
                // A failed search counts as no cache.
                let found = tokio::task::spawn_blocking(found).await.unwrap_or_default();
                spec.cached = found.trees();
                *upload::lock(&world.outputs.cache_state) = found;
            }
            housing.provision(spec).await;
        });
    }

    fn prepare(&self, preparation: SourcePreparation) {
        let (setup, inbox) = (self.setup.clone(), self.inbox.clone());
        self.inbox.perform("make the source ready", async move {
            if let Some(answer) = setup.perform(preparation).await {
                inbox.send(answer).await;
            }
        });
    }

    fn run(&self, run: CommandRun) {
        let Some(container) = self.housing.current() else { return };
        let hands = Hands {
            world: Arc::clone(&self.world),
            inbox: self.inbox.clone(),
            log: self.log.clone(),
            pumps: self.pumps.clone(),
            stillness: self.stillness.clone(),
            checkpoints: self.checkpoints.clone(),
            container,
        };
        let shell = Arc::clone(&self.shell);
        self.inbox.perform("run a command", async move {
            let mut shell = shell.lock().await;
            let Some(shell) = shell.as_mut() else { return };
            if let Some(input) = hands.run(shell, &run).await {
                hands.inbox.send(input).await;
            }
        });
    }

    fn upload(&self, succeeding: bool) {
        let (world, inbox) = (Arc::clone(&self.world), self.inbox.clone());
        let (shell, housing) = (Arc::clone(&self.shell), self.housing.clone());
        let (cancel, cancelled) = watch::channel(false);
        let Some(container) = self.housing.current() else { return };
        let task = self.inbox.perform("collect the build's outputs", async move {
            let Some(work) = world.work() else { return };
            let shell = shell.lock().await;
            let Some(shell) = &*shell else { return };
            let result = upload::upload(&upload::UploadRequest {
                world: &world,
                work,
                shell,
                container,
                inbox: &inbox,
                cancelled,
                succeeding,
            })
            .await;
            // If the container was taken down meanwhile, that is reported elsewhere.
            if !housing.is_stopping() {
                inbox.send(MachineInput::Uploaded(result)).await;
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
                ContainerStage::Running(container) => Arc::clone(container),
                // It is dropped, and this reported, as soon as it exists.
                ContainerStage::Starting | ContainerStage::Unwanted
                    if signal != Signal::SIGKILL =>
                {
                    *stage = ContainerStage::Unwanted;
                    self.world.engine.give_up();
                    self.world.services.iter().for_each(|services| services.give_up());
                    return;
                }
                // Do not wait: the runner exits now, and a container that starts after all finds
                // its runner gone.
                ContainerStage::Starting | ContainerStage::Unwanted => {
                    *stage = ContainerStage::Unwanted;
                    inbox.post(MachineInput::ProcessesGone);
                    return;
                }
                ContainerStage::None | ContainerStage::Stopping => {
                    inbox.post(MachineInput::ProcessesGone);
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
                // The incomplete parts are discarded, here and at the server.
                let _ = timeout(UPLOAD_ENDS, upload.task).await;
            }
            pumps.drained().await;
            inbox.send(MachineInput::ProcessesGone).await;
        });
    }

    fn finalize(&self, status: Status) {
        let (world, inbox) = (Arc::clone(&self.world), self.inbox.clone());
        let (pumps, checkpoints) = (self.pumps.clone(), self.checkpoints.clone());
        let container =
            match std::mem::replace(&mut *self.housing.stage(), ContainerStage::Stopping) {
                ContainerStage::Running(container) => Some(container),
                ContainerStage::None
                | ContainerStage::Starting
                | ContainerStage::Unwanted
                | ContainerStage::Stopping => None,
            };
        self.inbox.perform("clear up", async move {
            world.guests.sessions.close(status).await;
            world.guests.breakpoints.close();
            tracing::debug!("sessions are closed");
            if let Some(container) = container {
                container.stop().await;
            }
            tracing::debug!("the container is gone");
            // The last process closes the last pipe, unless one was handed to a process outside.
            if timeout(FOREIGN_WRITERS, pumps.drained()).await.is_err() {
                let text = "a pipe of the build is held open from outside; its rest is not logged";
                inbox.send(MachineInput::Notice(Notice::warning(text.to_owned()))).await;
            }
            tracing::debug!("all output is logged");
            for text in world.deliveries.finish().await {
                inbox.send(MachineInput::Notice(Notice::warning(text))).await;
            }
            checkpoints.idle().await;
            let layers = world.container_spec.layers.clone();
            let removed = tokio::task::spawn_blocking(move || leftover::clear_layers(&layers));
            for problem in removed.await.into_iter().flatten().filter_map(Result::err) {
                let text = format!("cannot remove what the build wrote: {problem}");
                inbox.send(MachineInput::Notice(Notice::warning(text))).await;
            }
            tracing::debug!("the layer is removed");
            inbox.send(MachineInput::Finalized).await;
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a session finds before the first command: the same as the first command will.
pub(super) fn initial_snapshot(layers: &EnvLayers, source: &str) -> ShellSnapshot {
    let variables = runner_core::env::compose(layers.clone());
    ShellSnapshot {
        env: variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        cwd: source.as_bytes().to_vec(),
        before: None,
    }
}
