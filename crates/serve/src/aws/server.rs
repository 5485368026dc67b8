//! Serves the endpoint at an address: AWS's calls, and the websockets of sessions.

use super::calls::Calls;
use super::endpoint::Endpoint;
use crate::gateway::Channels;
use crate::http;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running endpoint.
pub struct EndpointServer {
    endpoint: Arc<Endpoint>,
    http: http::HttpServer,
    expelling: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    /// Whether closing waits for running commands.
    waits: bool,
}

impl EndpointServer {
    /// Serves until closed. The sites in `beside` see each request first.
    pub fn start(
        listener: TcpListener,
        endpoint: Arc<Endpoint>,
        beside: Vec<Box<dyn http::Site>>,
    ) -> Self {
        let mut sites = beside;
        // A websocket request is no call, so the gateway comes before the calls.
        sites.push(Box::new(Channels(Arc::clone(&endpoint.gateway))));
        sites.push(Box::new(Calls(Arc::clone(&endpoint))));
        let keeper = Arc::clone(&endpoint);
        let expelling = tokio::spawn(async move { keeper.expel_users().await });
        let commands = Arc::clone(&endpoint.commands);
        tokio::spawn(async move { commands.sweep().await });
        if let Ok(address) = listener.local_addr() {
            endpoint.deliveries.listens_at(address);
        }
        let sweeping = tokio::spawn(Arc::clone(&endpoint.deliveries).sweep());
        let http = http::HttpServer::start(listener, sites);
        EndpointServer { endpoint, http, expelling, sweeping, waits: false }
    }

    /// The number of running commands, and how long they may go on once this is closed.
    #[must_use]
    pub fn commands(&self) -> (usize, Duration) {
        self.endpoint.commands.running()
    }

    /// Makes closing wait for running commands, up to their time limits.
    #[must_use]
    pub fn waiting(self) -> Self {
        EndpointServer { waits: true, ..self }
    }

    /// Takes no more calls, tells every session why it ends, and waits briefly for the clients to
    /// receive it.
    pub async fn close(&self, reason: &str) {
        self.http.close();
        self.expelling.abort();
        self.sweeping.abort();
        self.endpoint.close(reason, self.waits).await;
        self.http.settle().await;
    }
}
