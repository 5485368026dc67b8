//! Frames: a length, a kind, a body. A decoder that is fed bytes and gives frames.
//!
//! Carries `control` messages and the bytes of sessions. Length and kind are 4 bytes and 1, so a
//! reader knows how much to wait for and never looks past a frame.

use crate::unread::Unread;

/// Longest body a peer may announce, in bytes: an environment at its largest, and some.
pub const MAX_BODY: usize = 12 << 20;
/// Bytes before a body.
pub const HEAD_LEN: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message in JSON.
    Message,
    /// Bytes of a session: towards the program its input, from it its output.
    Data,
}

/// A frame that has come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// Its body.
    pub body: Vec<u8>,
}

/// The peer does not speak this language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame longer than [`MAX_BODY`].
    #[error("a frame of {0} bytes is announced, at most {MAX_BODY} are taken")]
    TooLong(usize),
    /// A kind that is none of ours.
    #[error("a frame of unknown kind {0} is announced")]
    UnknownKind(u8),
}

/// The bytes that come before a body.
///
/// # Errors
/// The body is longer than a peer would take.
pub fn head(kind: Kind, length: usize) -> Result<[u8; HEAD_LEN], FrameError> {
    let announced = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_BODY)
        .ok_or(FrameError::TooLong(length))?;
    let mut bytes = [0; HEAD_LEN];
    bytes[..4].copy_from_slice(&announced.to_le_bytes());
    bytes[4] = match kind {
        Kind::Message => 0,
        Kind::Data => 1,
    };
    Ok(bytes)
}

/// A whole frame as it travels.
///
/// # Errors
/// As [`head`].
pub fn encode(kind: Kind, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::with_capacity(HEAD_LEN + body.len());
    bytes.extend_from_slice(&head(kind, body.len())?);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Cuts frames out of a stream.
#[derive(Debug, Default)]
pub struct Decoder(Unread);

impl Decoder {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// The next frame that is there whole.
    ///
    /// # Errors
    /// The stream is not one of frames; there is no way to find back into it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, rest)) = self.0.waiting().split_at_checked(HEAD_LEN) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        let kind = match head[4] {
            0 => Kind::Message,
            1 => Kind::Data,
            other => return Err(FrameError::UnknownKind(other)),
        };
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { kind, body: body.to_vec() };
        self.0.take(HEAD_LEN + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_the_bytes_came_in() {
        let mut stream = encode(Kind::Message, b"{}").expect("short");
        stream.extend(encode(Kind::Data, b"").expect("short"));
        stream.extend(encode(Kind::Data, &vec![7; 100_000]).expect("short"));
        for size in [1, 3, 5, 7, 4096, stream.len()] {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for chunk in stream.chunks(size) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next_frame().expect("sound") {
                    frames.push(frame);
                }
            }
            let lengths: Vec<_> = frames.iter().map(|frame| frame.body.len()).collect();
            assert_eq!(lengths, [2, 0, 100_000], "chunks of {size}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_it_is_waited_for() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0xff, 0xff, 0xff, 0xff, 0]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong(_))));
        let mut decoder = Decoder::default();
        decoder.feed(b"\0\0\0\0G");
        assert_eq!(decoder.next_frame(), Err(FrameError::UnknownKind(b'G')));
    }
}
