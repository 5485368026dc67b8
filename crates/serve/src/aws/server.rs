//! The endpoint at an address: AWS's calls, and beside them the websockets of sessions.

use super::calls::Calls;
use super::endpoint::Endpoint;
use crate::gateway::Channels;
use crate::http;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An endpoint that is being served.
pub struct Server {
    endpoint: Arc<Endpoint>,
    http: http::Server,
    expelling: JoinHandle<()>,
}

impl Server {
    /// Serves until it is closed.
    pub fn start(listener: TcpListener, endpoint: Arc<Endpoint>) -> Self {
        let channels = Channels(Arc::clone(&endpoint.gateway));
        // A request for a websocket is a call of nothing, so those are looked for first.
        let sites: Vec<Box<dyn http::Site>> =
            vec![Box::new(channels), Box::new(Calls(Arc::clone(&endpoint)))];
        let keeper = Arc::clone(&endpoint);
        let expelling = tokio::spawn(async move { keeper.expel_users().await });
        Server { endpoint, http: http::Server::start(listener, sites), expelling }
    }

    /// Takes no more calls, tells every session why it ends, and waits, a little, until all have
    /// heard.
    pub async fn close(&self, reason: &str) {
        self.http.close();
        self.expelling.abort();
        self.endpoint.close(reason).await;
        self.http.settle().await;
    }
}
