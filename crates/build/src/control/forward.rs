//! A client that forwards ports: connects to what listens in the container, as often as it asks.
//!
//! Started by `host` for a client that has said so. The sockets are handed over, so that no byte of theirs
//! passes through here.

use super::connection::Connection;
use crate::session::{Hub, OpenError};
use runner_engine::dial::Remote;
use runner_wire::control::{Answer, Request};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Serves one client until it goes or the build ends.
pub(super) async fn serve(
    hub: &Arc<Hub>,
    mut connection: Connection,
    ports: &[String],
    name: Option<String>,
) -> io::Result<()> {
    let label = format!("port-forward {}", ports.join(" "));
    let mut presence = match hub.enter(label, name).await {
        Ok(presence) => presence,
        Err(OpenError { code, message }) => {
            return connection.answer(&Answer::Refused { code, message }).await;
        }
    };
    connection.answer(&Answer::Opened { session: presence.number }).await?;
    // Dropped with this, and with them what they still wait for.
    let mut dials = JoinSet::new();
    loop {
        tokio::select! {
            request = connection.request() => match request? {
                None => return Ok(()),
                Some(Request::Dial { id, remote }) => {
                    let hub = Arc::clone(hub);
                    dials.spawn(async move {
                        let socket = dial(&hub, &remote).await;
                        (id, remote, socket)
                    });
                }
                // Nothing else makes sense here.
                Some(_) => {}
            },
            Some(dialled) = dials.join_next() => {
                let Ok((id, remote, socket)) = dialled else { continue };
                presence.connected(&remote, socket.as_ref().err().map_or("ok", String::as_str));
                match socket {
                    Ok(socket) => {
                        let answer = Answer::Dialled { id };
                        connection.answer_with(&answer, &[socket.as_fd()]).await?;
                    }
                    Err(message) => connection.answer(&Answer::NotDialled { id, message }).await?,
                }
            }
            message = presence.closing() => {
                return connection.answer(&Answer::Closed { message }).await;
            }
        }
    }
}

async fn dial(hub: &Hub, remote: &str) -> Result<OwnedFd, String> {
    let remote: Remote = remote.parse()?;
    hub.dial(&remote).await.map_err(|error| error.message)
}
