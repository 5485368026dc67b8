//! The endpoint for AWS's clients: that of a live `runner serve`, or else our own.
//!
//! Our own is opened on a free loopback port when the build begins, and closed with the build. The
//! build gets its address over the control socket and logs it; displays of the build read it there.

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

/// What our own endpoint needs.
#[derive(Clone, Debug)]
pub(crate) struct DoorParts {
    /// Configuration of AWS's agent.
    pub(crate) agent: AgentConfig,
    /// The identity that calls AWS.
    pub(crate) identity: CloudIdentity,
}

impl DoorParts {
    /// Taken from a build's request.
    pub(crate) fn of(request: &BuildRequest) -> Self {
        DoorParts { agent: request.sessions.agent.clone(), identity: request.values.identity() }
    }
}

/// An endpoint that is open from the build's beginning to its end.
pub(crate) struct Door {
    shut: oneshot::Sender<String>,
    task: JoinHandle<()>,
}

impl Door {
    /// For the build in this folder, which is listening. Must be called in the runtime.
    pub(crate) fn new(home: &Home, dir: &BuildDir, parts: DoorParts) -> Self {
        let (shut, shut_rx) = oneshot::channel();
        let (home, dir) = (home.clone(), dir.clone());
        Door { shut, task: tokio::spawn(open_and_wait(home, dir, parts, shut_rx)) }
    }

    /// Closes it. Clients are told the reason.
    pub(crate) async fn close(self, reason: String) {
        // The send fails if it has already ended by itself.
        let _ = self.shut.send(reason);
        let _ = self.task.await;
    }
}

/// Our own endpoint, and those who follow the build there.
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
        // After the close no new request can arrive.
        followers.hear().await;
        server.close(&reason).await;
    }
}

/// Opens it and tells the build.
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

/// The address of the endpoint that serves this machine's builds, and the endpoint itself if it is
/// ours.
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
    // The build itself says whether sessions must be logged.
    let (access, service, requires_log) = (EndpointAccess::Signed, None, false);
    let parts = EndpointParts { keys, access, users, agent, service, identity, requires_log };
    let endpoint = Endpoint::new(home, parts);
    let page = WebPage::of(&endpoint);
    let followers = page.followers();
    let server = EndpointServer::start(listener, endpoint, vec![Box::new(page)]);
    Ok((address, Some((server, followers))))
}
