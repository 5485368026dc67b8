//! A connection at the control socket: frames in, answers and descriptors out.
//!
//! Used by `host` and `forward`.

use runner_wire::control::{Answer, Request};
use runner_wire::frame::{Decoder, Frame, Kind, encode};
use std::io;
use std::os::fd::BorrowedFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// A connection's two halves and what was read ahead.
pub(super) struct Connection {
    pub(super) reader: OwnedReadHalf,
    pub(super) writer: OwnedWriteHalf,
    pub(super) decoder: Decoder,
    pub(super) buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Connection { reader, writer, decoder: Decoder::default(), buffer: vec![0; CHUNK] }
    }

    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        next_frame(&mut self.reader, &mut self.decoder, &mut self.buffer).await
    }

    pub(super) async fn request(&mut self) -> io::Result<Option<Request>> {
        match self.next().await? {
            None => Ok(None),
            Some(Frame { kind: Kind::Message, body }) => Ok(Some(serde_json::from_slice(&body)?)),
            Some(_) => Err(io::Error::other("data where a request belongs")),
        }
    }

    pub(super) async fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        send(&mut self.writer, answer).await
    }
}

/// The next frame; none at the end.
pub(super) async fn next_frame(
    reader: &mut OwnedReadHalf,
    decoder: &mut Decoder,
    buffer: &mut [u8],
) -> io::Result<Option<Frame>> {
    loop {
        if let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            return Ok(Some(frame));
        }
        let got = reader.read(buffer).await?;
        if got == 0 {
            return Ok(None);
        }
        decoder.feed(&buffer[..got]);
    }
}

/// Sends an answer.
pub(super) async fn send(writer: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let body = serde_json::to_vec(answer)?;
    writer.write_all(&encode(Kind::Message, &body).map_err(io::Error::other)?).await
}

/// Sends an answer with descriptors riding on its first byte.
pub(super) async fn send_with(
    writer: &OwnedWriteHalf,
    answer: &Answer,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(answer)?;
    let bytes = encode(Kind::Message, &body).map_err(io::Error::other)?;
    let stream: &UnixStream = writer.as_ref();
    let (mut rest, mut fds) = (bytes.as_slice(), fds);
    while !rest.is_empty() {
        let sent =
            stream.async_io(Interest::WRITABLE, || runner_sandbox::send(stream, rest, fds)).await?;
        rest = &rest[sent..];
        fds = &[];
    }
    Ok(())
}
