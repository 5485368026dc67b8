//! A connection to the control socket: reads frames, sends responses and descriptors.
//!
//! Used by `host` and `forward`.

use runner_host::duplex::Duplex;
use runner_wire::control::{ControlRequest, ControlResponse, encode};
use runner_wire::frame::FrameDecoder;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::net::UnixStream;

/// Bytes per read.
const CHUNK: usize = 4 << 10;

/// Frames received from a client.
pub(super) struct Frames {
    decoder: FrameDecoder,
    buffer: Vec<u8>,
    /// The last read emptied the socket; it becomes readable again when there is more.
    is_drained: bool,
}

/// A client connection, both directions.
pub(super) struct ControlConnection {
    pub(super) stream: Duplex,
    pub(super) frames: Frames,
}

impl ControlConnection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let stream = Duplex::new(OwnedFd::from(stream.into_std()?))?;
        let frames =
            Frames { decoder: FrameDecoder::default(), buffer: vec![0; CHUNK], is_drained: false };
        Ok(ControlConnection { stream, frames })
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.frames.next(&self.stream).await
    }

    pub(super) async fn request(&mut self) -> io::Result<Option<ControlRequest>> {
        self.frames.request(&self.stream).await
    }

    pub(super) async fn answer(&self, answer: &ControlResponse) -> io::Result<()> {
        send(&self.stream, answer).await
    }

    /// Sends a response with descriptors attached to its first byte.
    pub(super) async fn answer_with(
        &self,
        answer: &ControlResponse,
        mut fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let send = |socket: BorrowedFd<'_>, rest: &[u8]| {
            runner_sandbox::send(socket, rest, fds).inspect(|_| fds = &[])
        };
        self.stream.send_all(&encode(answer)?, send).await
    }
}

impl Frames {
    /// The next request of `client`; `None` at the end.
    pub(super) async fn request(&mut self, client: &Duplex) -> io::Result<Option<ControlRequest>> {
        let frame = self.next(client).await?;
        frame.map(|body| serde_json::from_slice(&body)).transpose().map_err(Into::into)
    }

    /// The body of the next frame; `None` at the end.
    async fn next(&mut self, client: &Duplex) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            if self.is_drained {
                client.readable().await?;
                // If this future is dropped, the next call tries to read before it waits.
                self.is_drained = false;
            }
            match client.read(&mut self.buffer).await? {
                0 => return Ok(None),
                got => {
                    self.is_drained = got < self.buffer.len();
                    self.decoder.feed(&self.buffer[..got]);
                }
            }
        }
    }
}

/// Sends a response.
pub(super) async fn send(client: &Duplex, answer: &ControlResponse) -> io::Result<()> {
    client.write_all(&encode(answer)?).await
}
