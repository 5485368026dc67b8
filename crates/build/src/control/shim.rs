//! The shim socket: where processes of a build ask for a pause.
//!
//! Mounted into the container only with `--enable-session`. Any process that connects may be
//! hostile: one message per connection, bounded in size and time; the number and rate of
//! connections are bounded too. An invalid message affects only its sender.

use crate::driver::PausedProcesses;
use crate::driver::inbox::Inbox;
use runner_core::machine::MachineInput;
use runner_wire::abi::shim::{NOTHING_PAUSED, ONE_RESUMED, RESUMED, TOO_MANY};
use runner_wire::shim::{MessageReader, ShimRequest};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Maximum concurrent connections; a breakpoint holds one while it waits.
const MAX_CONNECTIONS: usize = 256;
/// Time limit for a connection to send its message.
const PATIENCE: Duration = Duration::from_secs(5);
/// Minimum time between two connections after a burst.
const PACE: Duration = Duration::from_millis(2);
/// Connections accepted without a pause.
const BURST: u32 = 64;

/// The listening end.
#[derive(Debug)]
pub struct ShimServer {
    listener: UnixListener,
}

impl ShimServer {
    /// Listens at `path`, for every user. Must be called in the runtime.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Ok(ShimServer { listener: runner_host::private::listen(path, 0o666)? })
    }

    /// Serves until the runtime ends.
    pub async fn serve(self, breakpoints: Arc<PausedProcesses>, inbox: Inbox) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut in_a_row = 0;
        let mut last = tokio::time::Instant::now();
        loop {
            // For example, no descriptors are left; the next attempt may succeed.
            let Ok((mut stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(PACE).await;
                continue;
            };
            let now = tokio::time::Instant::now();
            in_a_row = if now - last > PACE { 0 } else { in_a_row + 1 };
            last = now;
            if in_a_row > BURST {
                tokio::time::sleep(PACE).await;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let _ = stream.try_write(&[TOO_MANY]);
                let _ = stream.shutdown().await;
                continue;
            };
            let (breakpoints, inbox) = (Arc::clone(&breakpoints), inbox.clone());
            tokio::spawn(async move {
                // After any error the connection is closed, which is the response.
                let _ = serve_one(&mut stream, &breakpoints, &inbox).await;
                drop(place);
            });
        }
    }
}

async fn serve_one(
    stream: &mut UnixStream,
    breakpoints: &PausedProcesses,
    inbox: &Inbox,
) -> io::Result<()> {
    let request = tokio::time::timeout(PATIENCE, read(stream))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    match request {
        ShimRequest::Resume => {
            let answer = match inbox.resume().await {
                Some(0) => RESUMED,
                Some(_) => ONE_RESUMED,
                None => NOTHING_PAUSED,
            };
            stream.write_all(&[answer]).await
        }
        ShimRequest::Breakpoint(caller) => {
            let directory = String::from_utf8_lossy(&caller.cwd).into_owned();
            let (call, released) = breakpoints.add(caller);
            inbox.send(MachineInput::BreakpointHit { call, directory }).await;
            let mut byte = [0];
            tokio::select! {
                released = released => {
                    if released.is_ok() {
                        stream.write_all(&[RESUMED]).await?;
                    }
                }
                // The client has nothing more to say; the end of its stream means that it has
                // exited.
                _ = stream.read(&mut byte) => {
                    breakpoints.forget(call);
                    inbox.send(MachineInput::BreakpointGone { call }).await;
                }
            }
            Ok(())
        }
    }
}

async fn read(stream: &mut UnixStream) -> io::Result<ShimRequest> {
    let mut reader = MessageReader::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let wanted = reader.wanted().min(buffer.len());
        let got = stream.read(&mut buffer[..wanted]).await?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let request = reader.feed(&buffer[..got]);
        if let Some(request) = request.map_err(io::Error::other)? {
            return Ok(request);
        }
    }
}
