//! The way in for AWS's clients: that of a live `runner serve`, else an endpoint of our own.
//!
//! The latter is opened when the build begins, on a loopback port that is free, and closed with the build. Where
//! it is, the build is told over its control socket, and logs it: who shows the build reads it there.

use runner_build::BuildRequest;
use runner_client::{ClientError, SharedClient};
use runner_cloud::CloudIdentity;
use runner_core::agent::AgentConfig;
use runner_folder::state::{BuildDir, Home, live_serve};
use runner_serve::aws::{
    Endpoint, EndpointAccess, EndpointParts, EndpointServer, KeyPair, Users, bind,
};
use runner_serve::page::{Followers, WebPage};
use runner_wire::control::ControlRequest;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What an endpoint of our own is made of.
#[derive(Clone, Debug)]
pub(crate) struct DoorParts {
    /// How AWS's agent is configured.
    pub(crate) agent: AgentConfig,
    /// As whom AWS is called.
    pub(crate) identity: CloudIdentity,
}

impl DoorParts {
    /// As a build's request has it.
    pub(crate) fn of(request: &BuildRequest) -> Self {
        DoorParts { agent: request.sessions.agent.clone(), identity: request.values.identity() }
    }
}

/// Open from the build's beginning to its end.
pub(crate) struct Door {
    shut: oneshot::Sender<String>,
    task: JoinHandle<()>,
}

impl Door {
    /// For the build in this folder, which listens. Must be called in the runtime.
    pub(crate) fn new(home: &Home, dir: &BuildDir, parts: DoorParts) -> Self {
        let (shut, shut_rx) = oneshot::channel();
        let (home, dir) = (home.clone(), dir.clone());
        Door { shut, task: tokio::spawn(open_and_wait(home, dir, parts, shut_rx)) }
    }

    /// Closes it. Clients are told why.
    pub(crate) async fn close(self, reason: String) {
        // It closes all the same when it has ended by itself.
        let _ = self.shut.send(reason);
        let _ = self.task.await;
    }
}

/// An endpoint of our own, and who follows the build there.
type OpenDoor = (EndpointServer, Followers);

async fn open_and_wait(
    home: Home,
    dir: BuildDir,
    parts: DoorParts,
    mut shut: oneshot::Receiver<String>,
) {
    let opened = tokio::select! {
        opened = opened(&home, &dir, parts) => opened,
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
    if let Some((server, followers)) = server {
        // Nobody can ask any more once it is closed.
        followers.hear().await;
        server.close(&reason).await;
    }
}

/// Opens it, and has the build told.
async fn opened(
    home: &Home,
    dir: &BuildDir,
    parts: DoorParts,
) -> Result<Option<OpenDoor>, ClientError> {
    let (said, server) = match open(home, parts).await {
        Ok((address, server)) => (ControlRequest::EndpointOpened { address }, server),
        Err(problem) => (ControlRequest::EndpointFailed { problem }, None),
    };
    SharedClient::connect(dir).await?.ask(&said).await?;
    Ok(server)
}

/// The address of the endpoint that serves this machine's builds, and the endpoint itself if it is ours.
async fn open(home: &Home, parts: DoorParts) -> Result<(String, Option<OpenDoor>), String> {
    let DoorParts { agent, identity } = parts;
    let keys = KeyPair::open(home).map_err(|error| error.to_string())?;
    if let Some(serving) = live_serve(home) {
        return Ok((serving.address, None));
    }
    let users = Users::open(home, None).map_err(|error| error.to_string())?;
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .map_err(|error| format!("cannot listen on the loopback address: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?.to_string();
    // Whether sessions are to be logged, the build says.
    let (access, service, requires_log) = (EndpointAccess::Signed, None, false);
    let parts = EndpointParts { keys, access, users, agent, service, identity, requires_log };
    let endpoint = Endpoint::new(home, parts);
    let page = WebPage::of(&endpoint);
    let followers = page.followers();
    let server = EndpointServer::start(listener, endpoint, vec![Box::new(page)]);
    Ok((address, Some((server, followers))))
}
