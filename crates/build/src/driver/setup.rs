//! The part of DOWNLOAD_SOURCE that touches the world: fetches values, runs the entrypoint, writes
//! the initial state, restores the cache, reads the image's catalog of runtimes.
//!
//! Used by `effects`. The machine decides what follows from the results.

use super::entrypoint::{self, Entrypoint};
use super::housing::{Housing, facts};
use super::inbox::Inbox;
use super::runtimes;
use super::shell::{BuildShell, ShellError, fault};
use super::upload;
use super::world::World;
use runner_core::event::Notice;
use runner_core::machine::{
    BuildSetupError, Fetched, FoundCache, MachineInput, SourcePreparation, ValueRequests,
};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::runtimes::CATALOG;
use runner_engine::{Container, OpenMode};
use runner_outputs::cache::Caching;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Maximum bytes read of a catalog.
const MAX_CATALOG: u64 = 4 << 20;

/// What the setup works with.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) world: Arc<World>,
    pub(super) inbox: Inbox,
    pub(super) housing: Housing,
    pub(super) shell: Arc<Mutex<Option<BuildShell>>>,
    pub(super) entrypoint: Entrypoint,
}

impl Setup {
    /// Performs one preparation. Returns its result, or `None` if the container is being taken
    /// down.
    pub(super) async fn perform(&self, preparation: SourcePreparation) -> Option<MachineInput> {
        let container = self.housing.current()?;
        Some(match preparation {
            SourcePreparation::FetchValues(wanted) => {
                MachineInput::ValuesFetched(self.fetch(&wanted).await)
            }
            SourcePreparation::RunEntrypoint { variables } => {
                let found = self.entrypoint.run(&*container, variables).await;
                MachineInput::EntrypointRan(found.map_err(|error| {
                    let is_its_own = matches!(error, ShellError::Entrypoint { .. });
                    let hint = is_its_own.then(|| entrypoint::HINT.to_owned());
                    BuildSetupError::new(fault(&error), hint)
                }))
            }
            SourcePreparation::OpenShell { variables } => {
                let opened = self.open_shell(container, &variables).await;
                MachineInput::ShellOpened(opened.map_err(|error| fault(&error)))
            }
            SourcePreparation::FindCache => {
                MachineInput::CacheFound(self.find_cache(&container).await)
            }
            SourcePreparation::Rehouse => {
                let housed = self.rehouse(container).await;
                let facts = housed.map(|container| facts(&self.world, &*container));
                MachineInput::Rehoused(facts.map_err(|error| fault(&error)))
            }
            SourcePreparation::RestoreCache => {
                self.restore_cache(&container).await;
                MachineInput::CacheRestored
            }
            SourcePreparation::ReadCatalog => {
                let read = catalog(&*container).await;
                if let Err(error) = &read {
                    let text = format!(
                        "the image's catalog of runtimes, {CATALOG}, cannot be read: {error}"
                    );
                    self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
                }
                MachineInput::CatalogRead(read.ok().flatten())
            }
            SourcePreparation::FindRuntimes { names, variables } => {
                MachineInput::RuntimesFound(runtimes::find(&*container, names, &variables).await)
            }
        })
    }

    /// Fetches values from Parameter Store and Secrets Manager; they are masked from here on.
    async fn fetch(&self, wanted: &ValueRequests) -> Result<Fetched, BuildSetupError> {
        let fetched = self.world.vault.fetch(wanted).await?;
        let values = fetched.0.iter().map(|(_, value)| value.clone().into_bytes());
        self.world.secrets.add(values).map_err(|error| {
            let message = format!("cannot mask these values: {error}");
            BuildSetupError::new(PhaseContext::new(StatusCode::ClientError, message), None)
        })?;
        Ok(fetched)
    }

    async fn open_shell(
        &self,
        container: Arc<dyn Container>,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), ShellError> {
        let Some(work) = self.world.work() else { return Ok(()) };
        let shell = BuildShell::prepare(
            container,
            work.version,
            work.shell.clone(),
            &self.world.plan.places,
            variables,
            Arc::clone(&self.world.guests.snapshot),
        );
        *self.shell.lock().await = Some(shell.await?);
        Ok(())
    }

    async fn find_cache(&self, container: &Arc<dyn Container>) -> Option<FoundCache> {
        let (cache, to) = (self.world.work()?.cache.as_ref()?, self.world.outputs.cache.as_ref()?);
        let (_held, cancel) = watch::channel(false);
        let caching = self.caching(container, cancel).await?;
        let before = std::mem::take(&mut *upload::lock(&self.world.outputs.cache_state));
        let state = caching.find(cache, to, before).await;
        let found = state.found().map(|(files, bytes)| FoundCache {
            files,
            bytes,
            can_be_layer: state.trees().is_some_and(|trees| container.can_hold(&trees)),
            has_guests: self.world.guests.sessions.has_guests(),
        });
        *upload::lock(&self.world.outputs.cache_state) = state;
        found
    }

    async fn rehouse(&self, old: Arc<dyn Container>) -> Result<Arc<dyn Container>, ShellError> {
        let trees = upload::lock(&self.world.outputs.cache_state).trees();
        match trees {
            Some(trees) => {
                tracing::debug!("the container once more, with the cache as a layer");
                self.housing.again(trees).await
            }
            None => Ok(old),
        }
    }

    async fn restore_cache(&self, container: &Arc<dyn Container>) {
        let work = self.world.work().and_then(|work| work.cache.as_ref());
        let (Some(cache), Some(to)) = (work, &self.world.outputs.cache) else { return };
        let (_held, cancel) = watch::channel(false);
        let Some(caching) = self.caching(container, cancel).await else { return };
        let found = std::mem::take(&mut *upload::lock(&self.world.outputs.cache_state));
        let state = caching.restore(cache, to, found).await;
        *upload::lock(&self.world.outputs.cache_state) = state;
    }

    async fn caching(
        &self,
        container: &Arc<dyn Container>,
        cancel: watch::Receiver<bool>,
    ) -> Option<Caching> {
        let shell = self.shell.lock().await;
        let (world, container) = (&self.world, Arc::clone(container));
        let at = upload::workplace(world, shell.as_ref()?, container, &self.inbox, cancel);
        Some(Caching { at })
    }
}

/// The image's catalog of runtimes, if it has one.
async fn catalog(container: &dyn Container) -> io::Result<Option<String>> {
    let fd = match container.open(Path::new(CATALOG), OpenMode::Read).await {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    File::from(fd).take(MAX_CATALOG + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CATALOG {
        return Err(io::Error::other(format!("it is larger than {MAX_CATALOG} bytes")));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
