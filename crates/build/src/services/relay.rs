//! Connections to a service: each is carried to its port inside.

use runner_engine::Container;
use runner_wire::init::Listener;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens at an address of this machine for the same port in the container.
pub(super) async fn start(
    tasks: &mut JoinSet<()>,
    container: Arc<dyn Container>,
    at: SocketAddr,
) -> io::Result<()> {
    let listener = TcpListener::bind(at).await?;
    tasks.spawn(async move {
        // They end with it.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // One that is gone already, or no descriptor left: the next one may do better.
                    let Ok((client, _)) = accepted else { tokio::task::yield_now().await; continue };
                    let container = Arc::clone(&container);
                    connections.spawn(async move {
                        if let Err(error) = carry(&*container, client, at.port()).await {
                            tracing::debug!(%error, "a connection to a service");
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Ok(())
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
