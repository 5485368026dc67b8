//! The way in for AWS's clients: that of a live `runner serve`, else an endpoint of our own.
//!
//! The latter is opened when a pause is first shown, on a loopback port of its own, and closed with the
//! build. The sinks ask for what a person types; they may wait for it, having threads of their own.

use super::ways::word;
use crate::amazon::REGION;
use crate::aws::{Access, Endpoint, KeyPair, PROFILE, Server, bind};
use crate::sinks::AwsWay;
use crate::state::{BuildDir, Home, Serving, live_serve};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Opened when somebody asks.
pub(super) struct Door {
    asked: watch::Sender<bool>,
    line: watch::Receiver<Option<String>>,
    shut: oneshot::Sender<String>,
    task: JoinHandle<()>,
}

impl Door {
    /// Closed, for the build with this uuid. Must be called in the runtime.
    pub(super) fn new(home: &Home, uuid: &uuid::Uuid) -> Self {
        let (asked, asked_rx) = watch::channel(false);
        let (line_tx, line) = watch::channel(None);
        let (shut, shut_rx) = oneshot::channel();
        let (home, uuid) = (home.clone(), *uuid);
        let task = tokio::spawn(open_when_asked(home, uuid, asked_rx, line_tx, shut_rx));
        Door { asked, line, shut, task }
    }

    /// What a person types, for the sinks: nothing once the build is over.
    pub(super) fn way(&self) -> AwsWay {
        let (asked, line, runtime) = (self.asked.clone(), self.line.clone(), Handle::current());
        AwsWay(Arc::new(move || {
            asked.send_replace(true);
            let mut line = line.clone();
            runtime.block_on(async {
                line.wait_for(Option::is_some).await.ok().and_then(|line| line.clone())
            })
        }))
    }

    /// Closes it. Clients are told why.
    pub(super) async fn close(self, reason: String) {
        // It closes all the same when it has ended by itself.
        let _ = self.shut.send(reason);
        let _ = self.task.await;
    }
}

async fn open_when_asked(
    home: Home,
    uuid: uuid::Uuid,
    mut asked: watch::Receiver<bool>,
    line: watch::Sender<Option<String>>,
    mut shut: oneshot::Receiver<String>,
) {
    tokio::select! {
        done = asked.wait_for(|asked| *asked) => if done.is_err() { return },
        _ = &mut shut => return,
    }
    let (text, server) = match open(&home, &uuid).await {
        Ok((address, keys, server)) => (command(&uuid, &address, &keys), server),
        Err(problem) => (format!("not available: {problem}"), None),
    };
    line.send_replace(Some(text));
    let reason = shut.await.unwrap_or_default();
    if let Some(server) = server {
        server.close(&reason).await;
    }
}

/// The address of the endpoint that serves this machine's builds, and the endpoint itself if it is ours.
async fn open(home: &Home, uuid: &uuid::Uuid) -> Result<(String, KeyPair, Option<Server>), String> {
    let keys = KeyPair::open(home).map_err(|error| error.to_string())?;
    if let Some(serving) = live_serve(home) {
        return Ok((serving.address, keys, None));
    }
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .map_err(|error| format!("cannot listen on the loopback address: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?.to_string();
    let endpoint = Endpoint::new(home, keys.clone(), Access::Signed);
    let server = Server::start(listener, endpoint);
    let serving = Serving { address: address.clone(), pid: std::process::id() };
    // For `runner doctor` alone: who reads the notice needs no file.
    if let Err(error) = BuildDir::of(home, &uuid.to_string()).write_endpoint(&serving) {
        tracing::debug!(%error, "where the endpoint is cannot be written down");
    }
    Ok((address, keys, Some(server)))
}

/// Complete, to be pasted as it is. It names where the keys are and holds none.
fn command(uuid: &uuid::Uuid, address: &str, keys: &KeyPair) -> String {
    let path = word(&keys.path().display().to_string());
    format!(
        "{}AWS_SHARED_CREDENTIALS_FILE={path} aws ssm start-session --target codebuild:{uuid} \
         --endpoint-url http://{address} --region {REGION} --profile {PROFILE}",
        around_proxy(address)
    )
}

/// What keeps a client that was told of a proxy from asking it for an address of this machine.
fn around_proxy(address: &str) -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let exempt = set("no_proxy").or_else(|| set("NO_PROXY"));
    let is_exempt = exempt.as_ref().is_some_and(|list| list.split(',').any(|one| one == host));
    match set("http_proxy").or_else(|| set("HTTP_PROXY")) {
        Some(_) if !is_exempt => {
            let list = exempt.map_or_else(|| host.to_owned(), |list| format!("{list},{host}"));
            format!("no_proxy={} ", word(&list))
        }
        _ => String::new(),
    }
}
