//! The build's container, from its making to its end: how far it is, and who wants it.
//!
//! Used by `effects`. A container that is being made when nobody wants it any more is dropped as soon as
//! it is there.

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
    /// Whether the container has been killed from here, so that its end is no news.
    is_killed: Arc<AtomicBool>,
}

/// How far the container is.
pub(super) enum ContainerStage {
    /// Not asked for, or never made.
    None,
    Starting,
    /// It is being made, and to be dropped as soon as it is there.
    Unwanted,
    Running(Arc<dyn Container>),
    /// It is being taken down; its end is no news.
    Stopping,
}

/// What the machine has to know of a container.
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

/// No container was made.
struct NotMade {
    error: EngineError,
    /// Whether somebody waits for it.
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

    /// Ends the container without asking its first process.
    pub(super) async fn kill(&self, container: &dyn Container) {
        self.is_killed.store(true, Ordering::Relaxed);
        container.kill().await;
        container.ended().await;
    }

    /// The same without waiting, as far as that goes.
    pub(super) fn kill_now(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        // Whoever holds it may be what hangs.
        if let Ok(stage) = self.stage.try_lock()
            && let ContainerStage::Running(container) = &*stage
        {
            drop(container.kill());
        }
    }

    /// The container is asked for.
    pub(super) fn begin(&self) {
        *self.stage() = ContainerStage::Starting;
    }

    /// Makes it; what comes of that is an input.
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

    /// Makes it anew with a cache in it. Nothing of the build has run in the old one yet.
    pub(super) async fn again(
        &self,
        cached: CachedTrees,
    ) -> Result<Arc<dyn Container>, ShellError> {
        let layers = self.world.container_spec.layers.clone();
        let spec = ContainerSpec { cached: Some(cached), ..self.world.container_spec.clone() };
        self.replace(spec, async {
            let removed = tokio::task::spawn_blocking(move || {
                // What cannot be removed is an error of the new one, which finds it there.
                drop(leftover::remove_layers(&layers));
            });
            let _ = removed.await;
            Ok(())
        })
        .await
    }

    /// Makes it anew with the layer of the one before, once that is gone and the layer is prepared.
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

    /// Another container in the place of the one there is.
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

    /// The container, unless nobody wants it any more.
    async fn make(&self, spec: ContainerSpec) -> Result<Option<Arc<dyn Container>>, NotMade> {
        let is_new = spec.kept.is_none();
        let (engine, services) = (Arc::clone(&self.world.engine), self.world.services.clone());
        // In a task of its own: what goes wrong in there must not be the last one hears of it.
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

    /// Reports the end of a container that nobody has asked for.
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
