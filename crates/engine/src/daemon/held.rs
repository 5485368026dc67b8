//! A container that a daemon holds: creates, starts, inspects and removes it.
//!
//! Used by both start modules (`mounted`, `remote`), and by the container for its end.

use super::image;
use crate::Fut;
use crate::container::ContainerHandle;
use crate::docker::{Daemon, said};
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use runner_sandbox::{Pressure, WatchedGroups};
use std::pin::pin;
use std::time::Duration;

/// How long a daemon may take to remove a container whose processes are gone.
const REMOVAL: Duration = Duration::from_secs(60);

/// A container that a daemon holds.
pub(super) struct HeldByDaemon {
    pub(super) daemon: Daemon,
    pub(super) name: String,
    pub(super) image: image::DaemonImage,
    /// The cgroups that limit it, if any.
    pub(super) groups: Option<WatchedGroups>,
}

impl HeldByDaemon {
    /// Creates the container.
    pub(super) async fn create(&self, body: ContainerCreateBody) -> Result<(), Error> {
        let client = &self.daemon.client;
        tracing::debug!(name = self.name, "creating the container");
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        let created = client.create_container(Some(options), body).await?;
        for warning in created.warnings {
            tracing::debug!(warning, "the daemon warns");
        }
        Ok(())
    }

    /// Starts the container's first process.
    pub(super) async fn start(&self) -> Result<(), Error> {
        self.daemon.client.start_container(&self.name, None::<StartContainerOptions>).await
    }

    /// The first process's pid on this machine.
    pub(super) async fn pid(&self) -> Option<u32> {
        let container = self.daemon.client.inspect_container(&self.name, None).await.ok()?;
        u32::try_from(container.state?.pid?).ok()
    }

    /// Waits for the container to end. Returns its exit code if the daemon gives one.
    pub(super) async fn ended(&self) -> Option<i64> {
        self.wait("not-running").await.ok().flatten()
    }

    /// Waits for one of the daemon's conditions. Returns the exit code if the daemon gives one.
    async fn wait(&self, condition: &str) -> Result<Option<i64>, Error> {
        let options = WaitContainerOptionsBuilder::new().condition(condition).build();
        let mut waited = pin!(self.daemon.client.wait_container(&self.name, Some(options)));
        match waited.next().await {
            None => Ok(None),
            Some(Ok(response)) => Ok(Some(response.status_code)),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
            Some(Err(error)) => Err(error),
        }
    }

    /// Removes the container and makes sure that it is gone.
    pub(super) async fn remove(&self) {
        tracing::debug!(name = self.name, "removing the container");
        let gone = async {
            loop {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                match self.daemon.client.remove_container(&self.name, Some(options)).await {
                    Err(Error::DockerResponseServerError { status_code: 404, .. }) => return,
                    // The daemon is already removing it, or has just done so.
                    Ok(())
                    | Err(Error::DockerResponseServerError { status_code: 409 | 500, .. }) => {
                        if self.wait("removed").await.is_err() {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(name = self.name, error = said(&error), "not removed");
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(REMOVAL, gone).await;
    }
}

impl ContainerHandle for HeldByDaemon {
    fn pressure(&self) -> Pressure {
        self.groups.as_ref().map(WatchedGroups::pressure).unwrap_or_default()
    }

    fn memory(&self) -> Option<u64> {
        self.groups.as_ref().and_then(WatchedGroups::memory)
    }

    fn kill(&self) -> Fut<'static, ()> {
        let (client, name) = (self.daemon.client.clone(), self.name.clone());
        Box::pin(async move {
            let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            // If the daemon fails here, removing the container kills it.
            let _ = client.kill_container(&name, Some(options)).await;
        })
    }

    fn release(self: Box<Self>) -> Fut<'static, ()> {
        Box::pin(async move {
            self.remove().await;
            if self.image.is_passing {
                image::remove(&self.daemon.client, &self.image.reference).await;
            }
            self.daemon.end().await;
        })
    }
}
