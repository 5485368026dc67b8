//! The interface of a site, which handles some of the requests to an address.

use super::answer::HttpResponse;
use super::peer;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use runner_host::peers::Guest;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pending response.
pub type Answering<'a> = Pin<Box<dyn Future<Output = HttpResponse> + Send + 'a>>;

/// Handles one kind of request.
pub trait Site: Send + Sync {
    /// Whether a request is for this site. The first site that accepts it gets it.
    fn takes(&self, request: &Request<Incoming>) -> bool;

    /// Whether a page of this origin may make requests through `host`. By default no page may;
    /// programs other than browsers send no origin.
    fn allows(&self, _origin: &HeaderValue, _host: &str) -> bool {
        false
    }

    /// Handles a request.
    fn answer<'a>(&'a self, request: Request<Incoming>, visit: &'a Visit) -> Answering<'a>;
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEnds {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// How long it is known of a connection that a program of this user's is at its other end: a client
/// that asks often is looked for once.
const KNOWN: Duration = Duration::from_secs(1);

/// When the program at the other end of a connection was last found to be one of this user's,
/// outside of every build.
#[derive(Debug, Default)]
pub struct PeerVerdict(Mutex<Option<Instant>>);

impl PeerVerdict {
    fn holds(&self) -> bool {
        let found = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.is_some_and(|found| found.elapsed() < KNOWN)
    }

    fn found(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

/// The origin of a request.
#[derive(Debug)]
pub struct Visit {
    pub ends: ConnectionEnds,
    /// This server as the client knows it: a name or an address, and a port.
    pub host: String,
    /// The place of the connection.
    pub guest: Arc<Guest>,
    /// What is known of the connection's other end.
    pub peer: Arc<PeerVerdict>,
}

impl Visit {
    /// Checks that a program of this user sent it, outside every build. `reapers` returns the first
    /// processes of builds without containers; it may read files.
    ///
    /// # Errors
    /// If not, with the reason.
    pub async fn is_ours(
        &self,
        reapers: impl FnOnce() -> Vec<u32> + Send + 'static,
    ) -> Result<(), &'static str> {
        if self.peer.holds() {
            return Ok(());
        }
        let (ends, now) = (self.ends, Instant::now());
        let judged = tokio::task::spawn_blocking(move || peer::is_ours(ends, &reapers())).await;
        judged.unwrap_or(Err("the other end could not be looked at"))?;
        self.peer.found(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_connection_is_looked_at_again() {
        let verdict = PeerVerdict::default();
        assert!(!verdict.holds());
        let now = Instant::now();
        verdict.found(now.checked_sub(KNOWN).expect("a time"));
        assert!(!verdict.holds());
        verdict.found(now.checked_add(KNOWN).expect("a time"));
        assert!(verdict.holds());
    }
}
