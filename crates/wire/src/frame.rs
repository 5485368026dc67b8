//! Frames of a length, a kind and a body, and a decoder for a stream of them.
//!
//! Carries `control` messages, the only kind. The length has 4 bytes and the kind 1, so a reader
//! knows how much to wait for and never reads past a frame. This format must not change: programs
//! of different versions use it to report their versions.

use crate::unread::UnreadBuffer;

/// Maximum body length, in bytes: enough for the largest environment.
pub const MAX_BODY: usize = 12 << 20;
/// Bytes before a body.
const HEAD_LEN: usize = 5;
/// Kind of a JSON message.
const MESSAGE: u8 = 0;

/// A violation of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame longer than [`MAX_BODY`].
    #[error("a frame of {0} bytes is announced; the maximum is {MAX_BODY}")]
    TooLong(usize),
    /// The kind is unknown.
    #[error("a frame of unknown kind {0} is announced")]
    UnknownKind(u8),
}

/// Encodes a frame.
///
/// # Errors
/// The body is longer than a peer accepts.
pub fn encode(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong(body.len());
    let length =
        u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY).ok_or(too_long)?;
    Ok([&length.to_le_bytes(), [MESSAGE].as_slice(), body].concat())
}

/// Splits a stream into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder(UnreadBuffer);

impl FrameDecoder {
    /// Appends bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// Returns the body of the next complete frame.
    ///
    /// # Errors
    /// The stream is invalid. There is no way to resynchronize.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((head, rest)) = self.0.waiting().split_at_checked(HEAD_LEN) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        if head[4] != MESSAGE {
            return Err(FrameError::UnknownKind(head[4]));
        }
        let Some(body) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.0.take(HEAD_LEN + length);
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_the_bytes_came_in() {
        let mut stream = encode(b"{}").expect("short");
        stream.extend(encode(b"").expect("short"));
        stream.extend(encode(&vec![7; 100_000]).expect("short"));
        for size in [1, 3, 5, 7, 4096, stream.len()] {
            let mut decoder = FrameDecoder::default();
            let mut frames = Vec::new();
            for chunk in stream.chunks(size) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next_frame().expect("sound") {
                    frames.push(frame);
                }
            }
            let lengths: Vec<_> = frames.iter().map(Vec::len).collect();
            assert_eq!(lengths, [2, 0, 100_000], "chunks of {size}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_it_is_waited_for() {
        let mut decoder = FrameDecoder::default();
        decoder.feed(&[0xff, 0xff, 0xff, 0xff, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLong(u32::MAX as usize)));
        let mut decoder = FrameDecoder::default();
        decoder.feed(b"\0\0\0\0G");
        assert_eq!(decoder.next_frame(), Err(FrameError::UnknownKind(b'G')));
    }
}
