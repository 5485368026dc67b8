//! The endpoint at an address: AWS's calls, and beside them the websockets of sessions.

use super::calls::Calls;
use super::endpoint::Endpoint;
use crate::gateway::Channels;
use crate::http;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An endpoint that is being served.
pub struct EndpointServer {
    endpoint: Arc<Endpoint>,
    http: http::HttpServer,
    expelling: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    /// Whether it lets commands that run come to their end.
    waits: bool,
}

impl EndpointServer {
    /// Serves until it is closed, with other sites beside it, which are offered each request first.
    pub fn start(
        listener: TcpListener,
        endpoint: Arc<Endpoint>,
        beside: Vec<Box<dyn http::Site>>,
    ) -> Self {
        let mut sites = beside;
        // A request for a websocket is a call of nothing, so those are looked for first.
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

    /// Commands that are carried out, and how long they may go on once this is closed.
    #[must_use]
    pub fn commands(&self) -> (usize, Duration) {
        self.endpoint.commands.running()
    }

    /// Lets commands that run come to their end before it closes, for as long as that may take.
    #[must_use]
    pub fn waiting(self) -> Self {
        EndpointServer { waits: true, ..self }
    }

    /// Takes no more calls, tells every session why it ends, and waits, a little, until all have
    /// heard.
    pub async fn close(&self, reason: &str) {
        self.http.close();
        self.expelling.abort();
        self.sweeping.abort();
        self.endpoint.close(reason, self.waits).await;
        self.http.settle().await;
    }
}
