//! The build's container, from creation to end: its stage, and whether it is still wanted.
//!
//! Used by `effects`. A container that is no longer wanted while it is being created is dropped as
//! soon as it exists.

use super::inbox::Inbox;
use super::shell::{FOUND_DEAD, ShellError};
use super::upload;
use super::world::World;
use runner_core::event::Notice;
use runner_core::machine::{ContainerFacts, MachineInput};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_engine::image::Image;
use runner_engine::kept::KeptLayer;
use runner_engine::{
    CachedTrees, Container, ContainerSpec, EngineError, ExecError, leftover, what_was_in_the_way,
};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A build's container.
#[derive(Clone)]
pub(super) struct Housing {
    world: Arc<World>,
    inbox: Inbox,
    stage: Arc<Mutex<ContainerStage>>,
    /// Whether we killed the container, so that its end needs no report.
    is_killed: Arc<AtomicBool>,
}

/// The container's stage.
pub(super) enum ContainerStage {
    /// Not requested, or never created.
    None,
    Starting,
    /// It is being created, and is to be dropped as soon as it exists.
    Unwanted,
    Running(Arc<dyn Container>),
    /// It is being taken down; its end needs no report.
    Stopping,
}

/// The facts of a container that the machine needs.
pub(super) fn facts(world: &World, container: &dyn Container) -> ContainerFacts {
    let config = container.image_config();
    ContainerFacts {
        engine: container.engine().to_owned(),
        image: container.image().map(str::to_owned),
        variables: config.env.clone(),
        has_entrypoint: !config.entrypoint.is_empty(),
        has_image: world.container_spec.image != Image::Host,
        has_cache: container.has_cache(),
    }
}

/// The error of a container that was not created.
struct NotMade {
    error: EngineError,
    /// Whether the container is still wanted.
    is_wanted: bool,
}

impl Housing {
    pub(super) fn new(world: Arc<World>, inbox: Inbox) -> Self {
        let stage = Arc::new(Mutex::new(ContainerStage::None));
        Housing { world, inbox, stage, is_killed: Arc::default() }
    }

    pub(super) fn stage(&self) -> MutexGuard<'_, ContainerStage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container, while it runs.
    pub(super) fn current(&self) -> Option<Arc<dyn Container>> {
        match &*self.stage() {
            ContainerStage::Running(container) => Some(Arc::clone(container)),
            ContainerStage::None
            | ContainerStage::Starting
            | ContainerStage::Unwanted
            | ContainerStage::Stopping => None,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(*self.stage(), ContainerStage::Stopping)
    }

    /// Kills the container without asking its first process.
    pub(super) async fn kill(&self, container: &dyn Container) {
        self.is_killed.store(true, Ordering::Relaxed);
        container.kill().await;
        container.ended().await;
    }

    /// Like `kill`, without waiting, as far as possible.
    pub(super) fn kill_now(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        // The task that holds the lock may be what hangs.
        if let Ok(stage) = self.stage.try_lock()
            && let ContainerStage::Running(container) = &*stage
        {
            drop(container.kill());
        }
    }

    /// Notes that the container was requested.
    pub(super) fn begin(&self) {
        *self.stage() = ContainerStage::Starting;
    }

    /// Creates the container and sends the result as an input.
    pub(super) async fn provision(&self, spec: ContainerSpec) {
        let inbox = &self.inbox;
        match self.make(spec).await {
            Ok(Some(container)) => {
                let facts = facts(&self.world, &*container);
                inbox.send(MachineInput::Provisioned(Ok(facts))).await;
            }
            Ok(None) => inbox.send(MachineInput::ProcessesGone).await,
            Err(NotMade { error, is_wanted }) => {
                let context = PhaseContext::new(error.code, error.message);
                inbox.send(MachineInput::Provisioned(Err(context))).await;
                if !is_wanted {
                    inbox.send(MachineInput::ProcessesGone).await;
                }
            }
        }
    }

    /// Creates the container again with a cache in it. Nothing of the build has run in the old one
    /// yet.
    pub(super) async fn again(
        &self,
        cached: CachedTrees,
    ) -> Result<Arc<dyn Container>, ShellError> {
        let layers = self.world.container_spec.layers.clone();
        let spec = ContainerSpec { cached: Some(cached), ..self.world.container_spec.clone() };
        self.replace(spec, async {
            let removed = tokio::task::spawn_blocking(move || {
                // If the layers cannot be removed, creating the new container fails.
                drop(leftover::remove_layers(&layers));
            });
            let _ = removed.await;
            Ok(())
        })
        .await
    }

    /// Creates a new container from the previous one's layer, once that one is gone and the layer
    /// is prepared.
    pub(super) async fn anew(
        &self,
        layer: Arc<KeptLayer>,
        prepare: impl Future<Output = Result<(), EngineError>>,
    ) -> Result<Arc<dyn Container>, ShellError> {
        let cached = self.current().filter(|old| old.has_cache());
        let cached = cached.and_then(|_| upload::lock(&self.world.outputs.cache_state).trees());
        let spec = ContainerSpec { cached, kept: Some(layer), ..self.world.container_spec.clone() };
        self.replace(spec, prepare).await
    }

    /// Replaces the container by another.
    async fn replace(
        &self,
        spec: ContainerSpec,
        prepare: impl Future<Output = Result<(), EngineError>>,
    ) -> Result<Arc<dyn Container>, ShellError> {
        let old = {
            let mut stage = self.stage();
            match std::mem::replace(&mut *stage, ContainerStage::Starting) {
                ContainerStage::Running(old) => old,
                other => {
                    *stage = other;
                    return Err(ExecError::ContainerGone.into());
                }
            }
        };
        old.stop().await;
        let made = match prepare.await {
            Ok(()) => self.make(spec).await,
            Err(error) => {
                let is_wanted = !matches!(*self.stage(), ContainerStage::Unwanted);
                *self.stage() = ContainerStage::None;
                Err(NotMade { error, is_wanted })
            }
        };
        match made {
            Ok(Some(container)) => Ok(container),
            Ok(None) => {
                self.inbox.send(MachineInput::ProcessesGone).await;
                Err(ExecError::ContainerGone.into())
            }
            Err(NotMade { error, is_wanted }) => {
                if !is_wanted {
                    self.inbox.send(MachineInput::ProcessesGone).await;
                }
                Err(ShellError::Engine(error))
            }
        }
    }

    /// Creates the container; `None` if it is no longer wanted.
    async fn make(&self, spec: ContainerSpec) -> Result<Option<Arc<dyn Container>>, NotMade> {
        let is_new = spec.kept.is_none();
        let (engine, services) = (Arc::clone(&self.world.engine), self.world.services.clone());
        // In a separate task, so that a panic in it is still reported.
        let start = async move {
            let Some(services) = services else { return engine.start(spec).await };
            services.start().await?;
            let container = engine.start(spec).await?;
            match services.open(&*container).await {
                Ok(()) => Ok(container),
                Err(error) => {
                    container.stop().await;
                    Err(error)
                }
            }
        };
        let started = match tokio::spawn(start).await {
            Ok(started) => started,
            Err(panic) => Err(EngineError::lost(&panic)),
        };
        let is_wanted = !matches!(*self.stage(), ContainerStage::Unwanted);
        match started {
            Ok(container) if is_wanted => {
                if let Some(pem) = self.world.certificates.as_ref().filter(|_| is_new) {
                    super::trust::add(&*container, pem).await;
                }
                *self.stage() = ContainerStage::Running(Arc::clone(&container));
                self.world.guests.sessions.connect(Arc::clone(&container));
                self.watch_over(Arc::clone(&container));
                Ok(Some(container))
            }
            Ok(container) => {
                *self.stage() = ContainerStage::None;
                container.stop().await;
                Ok(None)
            }
            Err(error) => {
                *self.stage() = ContainerStage::None;
                if let Some(hint) = &error.hint {
                    self.inbox.send(MachineInput::Notice(Notice::hint(hint))).await;
                }
                Err(NotMade { error, is_wanted })
            }
        }
    }

    /// Reports when the container ends unasked.
    fn watch_over(&self, container: Arc<dyn Container>) {
        let housing = self.clone();
        tokio::spawn(async move {
            container.ended().await;
            let is_news = match &*housing.stage() {
                ContainerStage::Running(current) => Arc::ptr_eq(current, &container),
                ContainerStage::None
                | ContainerStage::Starting
                | ContainerStage::Unwanted
                | ContainerStage::Stopping => false,
            };
            if is_news && !housing.is_killed.load(Ordering::Relaxed) {
                let mut message = FOUND_DEAD.to_owned();
                let limits = &housing.world.container_spec.limits;
                if let Some(cause) = what_was_in_the_way(limits, container.pressure().await) {
                    message = format!("{message} ({cause})");
                }
                housing
                    .inbox
                    .send(MachineInput::Fault(PhaseContext::new(StatusCode::None, message)))
                    .await;
            }
        });
    }
}
