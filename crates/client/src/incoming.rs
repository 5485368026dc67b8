//! Receives frames, and descriptors beside them, from a build's owner.
//!
//! Used by `connection`, which blocks, and by `link`, which does not.

use runner_sandbox::ReceivedMessage;
use runner_wire::frame::FrameDecoder;
use std::io;
use std::os::fd::OwnedFd;

/// Bytes read at once.
const CHUNK: usize = 4 << 10;

/// Received bytes and descriptors that nobody has taken yet.
#[derive(Debug)]
pub(super) struct IncomingMessages {
    decoder: FrameDecoder,
    buffer: Box<[u8]>,
    fds: Vec<OwnedFd>,
}

impl IncomingMessages {
    pub(super) fn new() -> Self {
        IncomingMessages {
            decoder: FrameDecoder::default(),
            buffer: vec![0; CHUNK].into(),
            fds: Vec::new(),
        }
    }

    /// The next frame, if it has arrived: `Some(None)` once the owner has closed the connection,
    /// `None` if `receive` would have to wait.
    pub(super) fn next(
        &mut self,
        mut receive: impl FnMut(&mut [u8]) -> io::Result<ReceivedMessage>,
    ) -> io::Result<Option<Option<Vec<u8>>>> {
        loop {
            let frame = self.decoder.next_frame().map_err(io::Error::other)?;
            if frame.is_some() {
                return Ok(Some(frame));
            }
            match receive(&mut self.buffer) {
                Ok(received) if received.bytes == 0 => return Ok(Some(None)),
                Ok(received) => {
                    self.fds.extend(received.fds);
                    self.decoder.feed(&self.buffer[..received.bytes]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // The owner closed with bytes unread, which is as much an end as any other.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Some(None));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the descriptors that arrived with messages.
    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    pub(super) fn into_parts(self) -> (FrameDecoder, Vec<OwnedFd>) {
        (self.decoder, self.fds)
    }
}
