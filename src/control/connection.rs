//! A connection at the control socket: frames in, answers and descriptors out.
//!
//! Used by `host` and `forward`.

use crate::duplex::Duplex;
use runner_wire::control::{Answer, Request};
use runner_wire::frame::{Decoder, Frame, HEAD_LEN, Kind, encode, head};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::net::UnixStream;

/// Bytes read or sent at once.
const CHUNK: usize = 64 << 10;

/// The way of frames from a client.
pub(super) struct Frames {
    decoder: Decoder,
    buffer: Vec<u8>,
    /// The last read has taken all there was: a socket that has more will say so.
    is_drained: bool,
}

/// A client, both ways.
pub(super) struct Connection {
    pub(super) stream: Duplex,
    pub(super) frames: Frames,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let stream = Duplex::new(OwnedFd::from(stream.into_std()?))?;
        let frames =
            Frames { decoder: Decoder::default(), buffer: vec![0; CHUNK], is_drained: false };
        Ok(Connection { stream, frames })
    }

    /// The next frame; none at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        self.frames.next(&self.stream).await
    }

    pub(super) async fn request(&mut self) -> io::Result<Option<Request>> {
        match self.next().await? {
            None => Ok(None),
            Some(Frame { kind: Kind::Message, body }) => Ok(Some(serde_json::from_slice(&body)?)),
            Some(_) => Err(io::Error::other("data where a request belongs")),
        }
    }

    pub(super) async fn answer(&self, answer: &Answer) -> io::Result<()> {
        send(&self.stream, answer).await
    }

    /// An answer with descriptors riding on its first byte.
    pub(super) async fn answer_with(
        &self,
        answer: &Answer,
        mut fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let send = |socket: BorrowedFd<'_>, rest: &[u8]| {
            runner_sandbox::send(socket, rest, fds).inspect(|_| fds = &[])
        };
        self.stream.send_all(&message(answer)?, send).await
    }
}

impl Frames {
    /// The next of `client`; none at the end.
    pub(super) async fn next(&mut self, client: &Duplex) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            if self.is_drained {
                client.readable().await?;
                // Where this is given up, the next call tries before it waits.
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

/// Bytes of a session on their way to a client: behind room for a frame's head, so that both are sent
/// in one piece. A client would wake up for each.
pub(super) struct DataFrame(Vec<u8>);

impl DataFrame {
    pub(super) fn new() -> Self {
        DataFrame(vec![0; HEAD_LEN + CHUNK])
    }

    /// Where the bytes are put.
    pub(super) fn body(&mut self) -> &mut [u8] {
        &mut self.0[HEAD_LEN..]
    }

    /// Sends the first `length` bytes of the body.
    pub(super) async fn send(&mut self, client: &Duplex, length: usize) -> io::Result<()> {
        let head = head(Kind::Data, length).map_err(io::Error::other)?;
        self.0[..HEAD_LEN].copy_from_slice(&head);
        client.write_all(&self.0[..HEAD_LEN + length]).await
    }
}

/// Sends an answer.
pub(super) async fn send(client: &Duplex, answer: &Answer) -> io::Result<()> {
    client.write_all(&message(answer)?).await
}

fn message(answer: &Answer) -> io::Result<Vec<u8>> {
    encode(Kind::Message, &serde_json::to_vec(answer)?).map_err(io::Error::other)
}
