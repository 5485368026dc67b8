//! A connection to a build's control socket: requests out, answers in, without a runtime.
//!
//! Used by `cli` and by the other files here.

use super::incoming::Incoming;
use crate::state::{BuildDir, ShortPath};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_wire::control::{Answer, PROTOCOL, Request, encode};
use runner_wire::frame::Decoder;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long an owner may take for what it does at once, in milliseconds.
const SOON_MS: u16 = 10_000;

/// Connects to the build's socket. A build can be found before its owner listens.
fn reach(dir: &BuildDir) -> io::Result<UnixStream> {
    const PACE: Duration = Duration::from_millis(2);
    let patience = Duration::from_millis(SOON_MS.into());
    let begin = Instant::now();
    loop {
        let connected = ShortPath::new(&dir.control_socket())
            .and_then(|short| UnixStream::connect(short.path()));
        let is_early = connected.as_ref().is_err_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        });
        if !is_early || begin.elapsed() > patience || !dir.is_under_way() {
            return connected;
        }
        std::thread::sleep(PACE);
    }
}

/// No conversation with the build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot reach the build: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection to the build is lost: {0}")]
    Lost(#[source] io::Error),
    #[error("the connection to the build is lost: it may have been killed")]
    Closed,
    #[error("the build's runner does not answer; it may hang or be stopped")]
    Silent,
    #[error("{message}")]
    Refused { code: u8, message: String },
    #[error("the build's owner gave an answer that does not fit: {0:?}")]
    Unexpected(Box<Answer>),
}

/// A connection on which the greeting is done.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    incoming: Incoming,
    /// The last read has taken all there was.
    is_drained: bool,
}

impl Client {
    pub(crate) fn connect(dir: &BuildDir) -> Result<Self, ClientError> {
        let stream = reach(dir).map_err(ClientError::Connect)?;
        let mut client = Client { stream, incoming: Incoming::new(), is_drained: false };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let sent = client.send(&Request::Hello { protocol: PROTOCOL, version });
        // Who is refused at the door is told before their greeting is read.
        match (client.answer(), sent) {
            (Ok(Answer::Hello { .. }), _) => Ok(client),
            (Ok(other), _) => Err(other.into()),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// Asks and waits for the answer; a refusal is an error, and so is an owner that hangs.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.send(request)?;
        match self.answer()? {
            refused @ Answer::Refused { .. } => Err(refused.into()),
            answer => Ok(answer),
        }
    }

    pub(crate) fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        encode(request)
            .and_then(|frame| (&self.stream).write_all(&frame))
            .map_err(ClientError::Lost)
    }

    /// Says something that has no answer, if the owner takes it now. One that is stopped holds up nobody;
    /// one that has gone has said why, and that is still to be read.
    pub(crate) fn tell(&self, request: &Request) {
        // So little goes whole or not at all.
        let _ = encode(request).and_then(|frame| runner_sandbox::send(&self.stream, &frame, &[]));
    }

    /// The next message, which an owner sends at once.
    fn answer(&mut self) -> Result<Answer, ClientError> {
        match self.next()? {
            Some(body) => {
                serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))
            }
            None => Err(ClientError::Closed),
        }
    }

    /// The next frame; `None` when the other end is gone.
    fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(frame) = self.poll_frame()? {
                return Ok(frame);
            }
            let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(SOON_MS)) {
                Ok(0) => return Err(ClientError::Silent),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(ClientError::Lost(errno.into())),
            }
        }
    }

    /// The next frame, if it is there already: `Some(None)` when the other end is gone, `None` when it
    /// is time to wait for the socket.
    pub(crate) fn poll_frame(&mut self) -> Result<Option<Option<Vec<u8>>>, ClientError> {
        let Client { stream, incoming, is_drained } = self;
        let receive = |buffer: &mut [u8]| {
            // Whoever waits for the socket hears of what has come since.
            if std::mem::take(is_drained) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let received = runner_sandbox::receive(&*stream, buffer)?;
            *is_drained = received.bytes < buffer.len();
            Ok(received)
        };
        incoming.next(receive).map_err(ClientError::Lost)
    }

    /// Descriptors that have come along with messages.
    pub(crate) fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.incoming.take_fds()
    }

    /// The connection, what was read ahead, and descriptors that have come.
    pub(crate) fn into_parts(self) -> (UnixStream, Decoder, Vec<OwnedFd>) {
        let (decoder, fds) = self.incoming.into_parts();
        (self.stream, decoder, fds)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<Answer> for ClientError {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Refused { code, message } => ClientError::Refused { code, message },
            other => ClientError::Unexpected(Box::new(other)),
        }
    }
}
