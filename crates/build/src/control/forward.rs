//! A client that forwards ports: connects it to listeners in the container, as often as it asks.
//!
//! Started by `host` at a client's request. The sockets are handed to the client, so none of their
//! bytes pass through the runner.

use super::connection::ControlConnection;
use crate::session::{Hub, SessionOpenError};
use runner_engine::dial::{DENIED, Remote};
use runner_host::peers;
use runner_wire::control::{ControlRequest, ControlResponse, ForwardLine};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Most ports of a client that are looked at.
const LISTED: usize = 64;

/// The ports a client forwards, and where it says it listens.
pub(super) struct ForwardedPorts {
    pub(super) remotes: Vec<String>,
    pub(super) locals: Vec<String>,
}

impl ForwardedPorts {
    /// Those at which the client listens. What it only names may be anybody's, and pages of the
    /// build ask there.
    async fn lines(&self, pid: Option<u32>) -> Vec<ForwardLine> {
        let Some(pid) = pid else { return Vec::new() };
        let pairs = self.locals.iter().cloned().zip(self.remotes.iter().cloned());
        let mut lines: Vec<_> =
            pairs.take(LISTED).map(|(local, remote)| ForwardLine { local, remote }).collect();
        let look = tokio::task::spawn_blocking(move || {
            lines.retain(|line| line.local.parse().is_ok_and(|at| peers::listens(pid, at)));
            lines
        });
        look.await.unwrap_or_default()
    }

    /// Why none of it makes sense in a network that is this machine's own: a port that leads to
    /// itself takes each connection that it makes, without end.
    fn circle(&self) -> Option<String> {
        let mut pairs = self.locals.iter().zip(&self.remotes);
        pairs.find_map(|(local, remote)| {
            let local: SocketAddr = local.parse().ok()?;
            let Ok(Remote::Tcp { host, port }) = remote.parse() else { return None };
            let is_here = host == "localhost"
                || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip == local.ip());
            (is_here && port == local.port()).then(|| {
                format!(
                    "port {port} would lead to itself: the build shares this machine's network, so what listens at \
                     port {port} in it is at localhost:{port} here already; OTHER:{port} forwards another port"
                )
            })
        })
    }
}

/// Serves one client until it disconnects or the build ends.
pub(super) async fn serve(
    hub: &Arc<Hub>,
    mut connection: ControlConnection,
    pid: Option<u32>,
    ports: ForwardedPorts,
    name: Option<String>,
    denied: Option<Vec<IpAddr>>,
) -> io::Result<()> {
    if let Some(message) = ports.circle().filter(|_| hub.shares_network()) {
        return connection.answer(&ControlResponse::Refused { code: 2, message }).await;
    }
    let label = format!("port-forward {}", ports.remotes.join(" "));
    // Clients that see the session also see its ports, and no ports after it has ended.
    let listed = hub.list_forwards(ports.lines(pid).await);
    let mut presence = match hub.enter(label, name).await {
        Ok(presence) => presence,
        Err(SessionOpenError { code, message }) => {
            return connection.answer(&ControlResponse::Refused { code, message }).await;
        }
    };
    let _listed = listed;
    connection.answer(&ControlResponse::Opened { session: presence.number }).await?;
    let denied: Arc<[IpAddr]> = denied.map_or_else(|| DENIED.into(), Into::into);
    // Dropped with this future, along with pending connections.
    let mut dials = JoinSet::new();
    loop {
        tokio::select! {
            request = connection.request() => match request? {
                None => return Ok(()),
                Some(ControlRequest::Dial { id, remote }) => {
                    let (hub, denied) = (Arc::clone(hub), Arc::clone(&denied));
                    dials.spawn(async move {
                        let socket = dial(&hub, &remote, &denied).await;
                        (id, remote, socket)
                    });
                }
                // Other requests make no sense here.
                Some(_) => {}
            },
            Some(dialled) = dials.join_next() => {
                let Ok((id, remote, socket)) = dialled else { continue };
                presence.connected(&remote, socket.as_ref().err().map_or("ok", String::as_str));
                match socket {
                    Ok(socket) => {
                        let answer = ControlResponse::Dialled { id };
                        connection.answer_with(&answer, &[socket.as_fd()]).await?;
                    }
                    Err(message) => connection.answer(&ControlResponse::NotDialled { id, message }).await?,
                }
            }
            message = presence.closing() => {
                return connection.answer(&ControlResponse::Closed { message }).await;
            }
        }
    }
}

async fn dial(hub: &Hub, remote: &str, denied: &[IpAddr]) -> Result<OwnedFd, String> {
    let remote: Remote = remote.parse()?;
    hub.dial(&remote, denied).await.map_err(|error| error.message)
}
