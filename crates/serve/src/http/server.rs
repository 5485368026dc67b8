//! The server: accepts connections, limits their number and passes requests to sites.

use super::answer::{HttpResponse, plain};
use super::body::PATIENCE;
use super::site::{ConnectionEnds, PeerVerdict, Site, Visit};
use super::trust;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runner_host::peers::{Guest, PeerListener, share};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections at once, including websockets: a divisor of the descriptor limit, and an upper
/// bound.
const CONNECTIONS: (usize, usize) = (4, 2048);
/// How long to wait for open requests at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The sites at an address, in the order in which they see a request.
type Sites = Arc<[Box<dyn Site>]>;

/// Listens at an address. If it is no loopback address, anyone who can reach it may connect.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// A running server.
pub struct HttpServer {
    /// The number of open requests.
    busy: watch::Sender<usize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl HttpServer {
    /// Serves until closed.
    pub fn start(listener: TcpListener, sites: Vec<Box<dyn Site>>) -> Self {
        let busy = watch::Sender::new(0);
        let listener = PeerListener::new(listener, share(CONNECTIONS.0, CONNECTIONS.1));
        let accepting = tokio::spawn(accept(listener, sites.into(), busy.clone()));
        HttpServer { busy, accepting }
    }

    /// Accepts no more connections.
    pub fn close(&self) {
        self.accepting.abort();
    }

    /// Waits briefly until all requests are answered.
    pub async fn settle(&self) {
        let mut busy = self.busy.subscribe();
        let _ = tokio::time::timeout(LAST_ANSWERS, busy.wait_for(|busy| *busy == 0)).await;
    }
}

async fn accept(listener: PeerListener, sites: Sites, busy: watch::Sender<usize>) {
    loop {
        let (stream, peer, guest) = listener.accept().await;
        let (sites, busy) = (Arc::clone(&sites), busy.clone());
        tokio::spawn(async move {
            let served = tokio::select! {
                served = serve(stream, peer, &sites, &busy, &guest) => served,
                () = guest.has_lost_its_place() => Err("closed to make room".into()),
            };
            if let Err(error) = served {
                tracing::debug!(%error, %peer, "a client of the endpoint");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    sites: &[Box<dyn Site>],
    busy: &watch::Sender<usize>,
    guest: &Arc<Guest>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // A key press must not wait for the next one.
    stream.set_nodelay(true)?;
    let ends = ConnectionEnds { peer, local: stream.local_addr()? };
    let verdict = &Arc::new(PeerVerdict::default());
    let service = service_fn(|request| async move {
        let _busy = Busy::new(busy);
        let peer = Arc::clone(verdict);
        Ok::<_, Infallible>(respond(request, sites, ends, guest, peer).await)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

/// Counts an open request, even if its connection is closed meanwhile.
struct Busy<'a>(&'a watch::Sender<usize>);

impl<'a> Busy<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn respond(
    request: Request<Incoming>,
    sites: &[Box<dyn Site>],
    ends: ConnectionEnds,
    guest: &Arc<Guest>,
    peer: Arc<PeerVerdict>,
) -> HttpResponse {
    let Some(host) = trust::host(request.headers(), ends.local) else {
        return trust::strange_host();
    };
    let Some(site) = sites.iter().find(|site| site.takes(&request)) else {
        return plain(StatusCode::NOT_FOUND, "there is nothing here");
    };
    if !trust::is_allowed(site.as_ref(), request.headers(), host) {
        return trust::strange_page();
    }
    let visit = Visit { ends, host: host.to_owned(), guest: Arc::clone(guest), peer };
    site.answer(request, &visit).await
}
