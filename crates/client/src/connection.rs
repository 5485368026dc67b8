//! A connection to a build's control socket for callers without a runtime.
//!
//! Used by `cli` and by the other files here.

use super::incoming::IncomingMessages;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_core::debug;
use runner_folder::state::BuildDir;
use runner_host::private::ShortPath;
use runner_wire::control::{ControlRequest, ControlResponse, PROTOCOL, encode};
use runner_wire::frame::FrameDecoder;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest wait for an immediate response of an owner on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// After this silence the client checks whether the owner's process is stopped.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the response to a signal: more than the owner waits for the container.
const SIGNALLED: Duration = Duration::from_secs(3);

/// Connects to the build's socket. The build may be listed before its owner listens.
fn reach(dir: &BuildDir) -> Result<UnixStream, ClientError> {
    const PACE: Duration = Duration::from_millis(2);
    let begin = Instant::now();
    loop {
        let error = match connect(dir) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let waits = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => dir.is_under_way(),
            // The backlog is full: the owner has accepted no connection for a while.
            io::ErrorKind::WouldBlock if begin.elapsed() > LOOK => {
                return Err(silence(dir));
            }
            io::ErrorKind::WouldBlock => true,
            _ => false,
        };
        if !waits || begin.elapsed() > SOON {
            return Err(ClientError::Connect(error));
        }
        std::thread::sleep(PACE);
    }
}

/// Connects without waiting: the kernel would block while the backlog is full.
fn connect(dir: &BuildDir) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let short = ShortPath::new(&dir.control_socket())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(short.path())?)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket.into())
}

/// The error for an owner that does not respond.
pub(super) fn silence(dir: &BuildDir) -> ClientError {
    match dir.stopped_owner() {
        Some(pid) => ClientError::Stopped { pid },
        None => ClientError::Silent,
    }
}

/// Why the client cannot talk to the build.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach the build: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection to the build is lost: {0}")]
    Lost(#[source] io::Error),
    #[error("the connection to the build is lost: it may have been killed")]
    Closed,
    #[error("the build's runner does not answer; it may hang")]
    Silent,
    #[error("the build's runner, process {pid}, is stopped and does not answer")]
    Stopped { pid: u32 },
    #[error("{0}")]
    Output(#[source] io::Error),
    #[error("{message}")]
    Refused { code: u8, message: String },
    #[error("the build's owner gave an answer that does not fit: {0:?}")]
    Unexpected(Box<ControlResponse>),
}

/// How to continue or end a stopped runner.
pub fn goes_on(pid: u32) -> String {
    format!("continue it: kill -CONT {pid}; or end it: kill -KILL {pid}")
}

/// A connection after its greeting.
#[derive(Debug)]
pub struct Client {
    dir: BuildDir,
    stream: UnixStream,
    incoming: IncomingMessages,
    /// The last read emptied the socket.
    is_drained: bool,
    /// When the pending signal was sent.
    signalled: Option<Instant>,
}

impl Client {
    pub fn connect(dir: &BuildDir) -> Result<Self, ClientError> {
        Self::connect_as(dir, debug::DecisionClient::Cli)
    }

    /// Connects for a client that makes decisions in another way than by a CLI verb.
    pub fn connect_as(dir: &BuildDir, by: debug::DecisionClient) -> Result<Self, ClientError> {
        let stream = reach(dir)?;
        let mut client = Client {
            dir: dir.clone(),
            stream,
            incoming: IncomingMessages::new(),
            is_drained: false,
            signalled: None,
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let sent = client.send(&ControlRequest::Hello { protocol: PROTOCOL, version, client: by });
        // A refused client gets the refusal before its greeting is read.
        match (client.answer(), sent) {
            (Ok(ControlResponse::Hello { .. }), _) => Ok(client),
            (Ok(other), _) => Err(other.into()),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// The build of this connection.
    pub fn dir(&self) -> &BuildDir {
        &self.dir
    }

    /// Sends a request and waits for the response. A refusal is an error, and so is an owner that
    /// hangs.
    pub fn ask(&mut self, request: &ControlRequest) -> Result<ControlResponse, ClientError> {
        self.send(request)?;
        match self.answer()? {
            refused @ ControlResponse::Refused { .. } => Err(refused.into()),
            answer => Ok(answer),
        }
    }

    pub fn send(&mut self, request: &ControlRequest) -> Result<(), ClientError> {
        encode(request)
            .and_then(|frame| (&self.stream).write_all(&frame))
            .map_err(ClientError::Lost)
    }

    /// Sends a message without a response, if the owner takes it now. A stopped owner must not hold
    /// up the caller; an owner that is gone has said why, and that is still to be read.
    pub fn tell(&self, request: &ControlRequest) {
        // So few bytes go whole or not at all.
        let _ = encode(request).and_then(|frame| runner_sandbox::send(&self.stream, &frame, &[]));
    }

    /// Sends the program a signal; [`Self::patience`] and [`Self::is_taken`] track its delivery.
    pub fn signal(&mut self, signal: i32) {
        self.tell(&ControlRequest::Signal(signal));
        self.signalled.get_or_insert_with(Instant::now);
    }

    /// Whether the message only confirms a signal.
    pub fn is_taken(&mut self, body: &[u8]) -> bool {
        let is_taken = matches!(serde_json::from_slice(body), Ok(ControlResponse::Signalled));
        if is_taken {
            self.signalled = None;
        }
        is_taken
    }

    /// How long to wait for the next frame. Fails if a signal has gone unconfirmed for too long.
    pub fn patience(&self) -> Result<PollTimeout, ClientError> {
        let Some(since) = self.signalled else { return Ok(PollTimeout::NONE) };
        let elapsed = since.elapsed();
        let wait = if elapsed < LOOK {
            LOOK - elapsed
        } else if elapsed < SIGNALLED && self.dir.stopped_owner().is_none() {
            SIGNALLED - elapsed
        } else {
            return Err(silence(&self.dir));
        };
        // Rounded up, so that the limit has passed when the wait ends.
        let wait = wait + Duration::from_millis(1);
        Ok(PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX))
    }

    /// The next message, expected at once.
    fn answer(&mut self) -> Result<ControlResponse, ClientError> {
        match self.next()? {
            Some(body) => {
                serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))
            }
            None => Err(ClientError::Closed),
        }
    }

    /// The next frame; `None` once the owner has closed the connection.
    fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let begin = Instant::now();
        loop {
            if let Some(frame) = self.poll_frame()? {
                return Ok(frame);
            }
            let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            let look = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
            match poll(&mut ready, look) {
                Ok(0) if begin.elapsed() > SOON || self.dir.stopped_owner().is_some() => {
                    return Err(silence(&self.dir));
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(ClientError::Lost(errno.into())),
            }
        }
    }

    /// The next frame, if it has arrived: `Some(None)` once the owner has closed the connection,
    /// `None` if the caller must wait for the socket.
    pub fn poll_frame(&mut self) -> Result<Option<Option<Vec<u8>>>, ClientError> {
        let Client { stream, incoming, is_drained, .. } = self;
        let receive = |buffer: &mut [u8]| {
            // Skips one read after a short one: poll reports what has arrived since.
            if std::mem::take(is_drained) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let received = runner_sandbox::receive(&*stream, buffer)?;
            *is_drained = received.bytes < buffer.len();
            Ok(received)
        };
        incoming.next(receive).map_err(ClientError::Lost)
    }

    /// Takes the descriptors that arrived with messages.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.incoming.take_fds()
    }

    /// The connection, the bytes read ahead, and the descriptors received.
    pub fn into_parts(self) -> (UnixStream, FrameDecoder, Vec<OwnedFd>) {
        let (decoder, fds) = self.incoming.into_parts();
        (self.stream, decoder, fds)
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<ControlResponse> for ClientError {
    fn from(answer: ControlResponse) -> Self {
        match answer {
            ControlResponse::Refused { code, message } => ClientError::Refused { code, message },
            other => ClientError::Unexpected(Box::new(other)),
        }
    }
}
