//! Forwards connections to a service's port in its container.

use runner_engine::Container;
use runner_wire::init::Listener;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Maximum concurrent connections of a service; each uses two descriptors of the runner. Others
/// wait in the kernel's queue.
const MOST: usize = 256;
/// Pause after a failed attempt to accept a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens at an address on this machine or in a build's network.
pub(super) async fn listen(
    at: SocketAddr,
    build: Option<&dyn Container>,
) -> io::Result<TcpListener> {
    let Some(build) = build else { return TcpListener::bind(at).await };
    let listener = std::net::TcpListener::from(build.listen(at).await?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Forwards incoming connections to a port of the container.
pub(super) fn start(
    tasks: &mut JoinSet<()>,
    container: Arc<dyn Container>,
    listener: TcpListener,
    port: u16,
) -> AbortHandle {
    tasks.spawn(async move {
        // The connections end when this set is dropped.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < MOST => {
                    let Ok((client, _)) = accepted else {
                        // Nothing signals when descriptors are available again.
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    };
                    let container = Arc::clone(&container);
                    connections.spawn(async move {
                        if let Err(error) = carry(&*container, client, port).await {
                            tracing::debug!(%error, "a connection to a service");
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

async fn carry(container: &dyn Container, mut client: TcpStream, port: u16) -> io::Result<()> {
    let inside = Listener::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut service = stream(container.dial(&inside).await?)?;
    client.set_nodelay(true)?;
    service.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut service).await.map(|_| ())
}

fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}
