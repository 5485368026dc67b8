//! A connection to a build's control socket for programs with a runtime: the gateway and the
//! endpoint.
//!
//! Like `connection`, which serves the command line, but never blocks.

use super::connection::{ClientError, silence};
use super::incoming::IncomingMessages;
use runner_core::debug;
use runner_folder::state::BuildDir;
use runner_host::duplex::Duplex;
use runner_host::private::ShortPath;
use runner_wire::control::{ControlRequest, ControlResponse, PROTOCOL, encode};
use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// Longest wait for an immediate response of an owner.
const SOON: Duration = Duration::from_secs(10);
/// After this silence the client checks whether the owner's process is stopped.
const LOOK: Duration = Duration::from_secs(1);

/// A connection after its greeting.
#[derive(Debug)]
pub struct SharedClient {
    dir: BuildDir,
    stream: Duplex,
    incoming: IncomingMessages,
    /// Whether nothing is left to read or to hand out.
    is_drained: AtomicBool,
}

impl SharedClient {
    pub async fn connect(dir: &BuildDir) -> Result<Self, ClientError> {
        Self::connect_as(dir, debug::DecisionClient::Cli).await
    }

    /// Connects for a client that makes decisions in another way than by a CLI verb.
    pub async fn connect_as(
        dir: &BuildDir,
        by: debug::DecisionClient,
    ) -> Result<Self, ClientError> {
        let path = dir.control_socket();
        let connect = async {
            let short = ShortPath::new(&path)?;
            let stream = UnixStream::connect(short.path()).await?;
            Duplex::new(stream.into_std()?.into())
        };
        let connected = connect.await.map_err(|error| match error.kind() {
            // The backlog is full: the owner has accepted no connection for a while.
            io::ErrorKind::WouldBlock => silence(dir),
            _ => ClientError::Connect(error),
        });
        let mut link = SharedClient {
            dir: dir.clone(),
            stream: connected?,
            incoming: IncomingMessages::new(),
            is_drained: AtomicBool::new(false),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        match link.ask(&ControlRequest::Hello { protocol: PROTOCOL, version, client: by }).await? {
            ControlResponse::Hello { .. } => Ok(link),
            other => Err(other.into()),
        }
    }

    /// Sends a request and waits for the response. A refusal is an error, and so is an owner that
    /// hangs.
    pub async fn ask(&mut self, request: &ControlRequest) -> Result<ControlResponse, ClientError> {
        let dir = self.dir.clone();
        let asked = async {
            self.send(request).await?;
            match self.next().await? {
                Some(body) => {
                    serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))
                }
                None => Err(ClientError::Closed),
            }
        };
        let mut asked = std::pin::pin!(asked);
        let begin = Instant::now();
        let answer = loop {
            match tokio::time::timeout(LOOK, &mut asked).await {
                Ok(answer) => break answer?,
                Err(_) if begin.elapsed() > SOON || dir.stopped_owner().is_some() => {
                    return Err(silence(&dir));
                }
                Err(_) => {}
            }
        };
        match answer {
            refused @ ControlResponse::Refused { .. } => Err(refused.into()),
            answer => Ok(answer),
        }
    }

    pub async fn send(&self, request: &ControlRequest) -> Result<(), ClientError> {
        let frame = encode(request).map_err(ClientError::Lost)?;
        let send = |socket: BorrowedFd<'_>, bytes: &[u8]| runner_sandbox::send(socket, bytes, &[]);
        self.stream.send_all(&frame, send).await.map_err(ClientError::Lost)
    }

    /// Sends as many bytes as the socket takes now; 0 if it is full.
    pub fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let sent = runner_sandbox::send(&self.stream, bytes, &[]);
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            done => done,
        }
    }

    /// Resolves when the socket takes bytes again.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Resolves when there may be something to read.
    pub async fn readable(&self) {
        poll_fn(|context| self.poll_readable(context)).await;
    }

    /// Like [`Self::readable`], for waiting on several things at once.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_drained.load(Relaxed) {
            // The next read finds an error.
            drop(ready!(self.stream.poll_readable(context)));
            self.is_drained.store(false, Relaxed);
        }
        Poll::Ready(())
    }

    /// Like [`Self::writable`], for waiting on several things at once.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_writable(context).map(drop)
    }

    /// The next frame; `None` once the owner has closed the connection. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(frame) = self.next_now()? {
                return Ok(frame);
            }
            self.readable().await;
        }
    }

    /// The next frame, if it has arrived: `Some(None)` once the owner has closed the connection.
    pub fn next_now(&mut self) -> Result<Option<Option<Vec<u8>>>, ClientError> {
        let stream = &self.stream;
        let next = self.incoming.next(|buffer| runner_sandbox::receive(stream, buffer));
        // Only if the read would block: a read may also end early at attached descriptors.
        *self.is_drained.get_mut() = matches!(next, Ok(None));
        next.map_err(ClientError::Lost)
    }

    /// Takes the descriptors that arrived with messages.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.incoming.take_fds()
    }
}
