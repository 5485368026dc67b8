//! The way in for AWS's clients: that of a live `runner serve`, else an endpoint of our own.
//!
//! The latter is opened at the build's first pause, on a loopback port of its own, and closed with the
//! build. Where it is, the build is told over its control socket, and logs it: who shows the build reads it
//! there.

use runner_client::{ClientError, Link};
use runner_folder::state::{BuildDir, Home, live_serve};
use runner_serve::aws::{Access, Endpoint, KeyPair, Server, bind};
use runner_wire::control::{Answer, Request};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Opened at the first pause.
pub(super) struct Door {
    shut: oneshot::Sender<String>,
    task: JoinHandle<()>,
}

impl Door {
    /// Closed, for the build in this folder, which listens. Must be called in the runtime.
    pub(super) fn new(home: &Home, dir: &BuildDir) -> Self {
        let (shut, shut_rx) = oneshot::channel();
        let (home, dir) = (home.clone(), dir.clone());
        Door { shut, task: tokio::spawn(open_at_a_pause(home, dir, shut_rx)) }
    }

    /// Closes it. Clients are told why.
    pub(super) async fn close(self, reason: String) {
        // It closes all the same when it has ended by itself.
        let _ = self.shut.send(reason);
        let _ = self.task.await;
    }
}

async fn open_at_a_pause(home: Home, dir: BuildDir, mut shut: oneshot::Receiver<String>) {
    let opened = tokio::select! {
        opened = opened(&home, &dir) => opened,
        _ = &mut shut => return,
    };
    let server = match opened {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(%error, "there is no endpoint for AWS's clients");
            return;
        }
    };
    let reason = shut.await.unwrap_or_default();
    if let Some(server) = server {
        server.close(&reason).await;
    }
}

/// Opens it once the build is paused, and has the build told.
async fn opened(home: &Home, dir: &BuildDir) -> Result<Option<Server>, ClientError> {
    if !first_pause(dir).await? {
        return Ok(None);
    }
    let (said, server) = match open(home).await {
        Ok((address, server)) => (Request::EndpointOpened { address }, server),
        Err(problem) => (Request::EndpointFailed { problem }, None),
    };
    Link::connect(dir).await?.ask(&said).await?;
    Ok(server)
}

/// Resolves when the build is paused: with false where it is over before.
async fn first_pause(dir: &BuildDir) -> Result<bool, ClientError> {
    let mut link = Link::connect(dir).await?;
    link.send(&Request::WatchPauses).await?;
    while let Some(body) = link.next().await? {
        let answer =
            serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))?;
        match answer {
            Answer::Status(status) if status.paused > 0 => return Ok(true),
            Answer::Status(_) => {}
            other => return Err(other.into()),
        }
    }
    Ok(false)
}

/// The address of the endpoint that serves this machine's builds, and the endpoint itself if it is ours.
async fn open(home: &Home) -> Result<(String, Option<Server>), String> {
    let keys = KeyPair::open(home).map_err(|error| error.to_string())?;
    if let Some(serving) = live_serve(home) {
        return Ok((serving.address, None));
    }
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .map_err(|error| format!("cannot listen on the loopback address: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?.to_string();
    let endpoint = Endpoint::new(home, keys, Access::Signed);
    Ok((address, Some(Server::start(listener, endpoint))))
}
