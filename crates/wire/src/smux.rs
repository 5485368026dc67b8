//! Multiplexed connections of a port session: smux version 1.
//!
//! A stream of frames inside the data channel; frames may be split across messages. It is
//! little-endian, unlike everything around it. Input from the client is untrusted. A frame with
//! another version or an unknown command ends the session, as on the client's side.

use crate::unread::UnreadBuffer;

/// Bytes before a frame's data.
pub const HEAD_LEN: usize = 8;
/// Maximum data in one frame, in bytes; the reference client sends as much at once.
pub const MAX_DATA: usize = 32 << 10;
const VERSION: u8 = 1;

/// A frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a connection.
    Open(u32),
    /// Closes a connection.
    Close(u32),
    /// Data of a connection.
    Data(u32, Vec<u8>),
    /// A keep-alive without effect.
    KeepAlive,
}

/// The stream is invalid. There is no way to resynchronize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmuxError {
    /// Unsupported version.
    #[error("multiplexing of version {0}")]
    Version(u8),
    /// Unknown command.
    #[error("an unknown multiplexing command {0}")]
    Command(u8),
    /// Data in a frame that must have none.
    #[error("{1} bytes of data in a multiplexing command {0}")]
    Data(u8, u16),
}

/// Splits a stream into frames.
#[derive(Debug, Default)]
pub struct SmuxDecoder(UnreadBuffer);

impl SmuxDecoder {
    /// Appends bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }

    /// Returns the next complete frame.
    ///
    /// # Errors
    /// See [`SmuxError`].
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SmuxError> {
        let Some((head, rest)) = self.0.waiting().split_at_checked(HEAD_LEN) else {
            return Ok(None);
        };
        let [version, command, low, high, id @ ..] = head else { return Ok(None) };
        let length = u16::from_le_bytes([*low, *high]);
        let id = id.iter().rev().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
        if *version != VERSION {
            return Err(SmuxError::Version(*version));
        }
        let frame = match (*command, length) {
            (0, 0) => Frame::Open(id),
            (1, 0) => Frame::Close(id),
            (3, 0) => Frame::KeepAlive,
            (command @ (0 | 1 | 3), length) => return Err(SmuxError::Data(command, length)),
            (2, length) => {
                let Some(data) = rest.get(..usize::from(length)) else { return Ok(None) };
                Frame::Data(id, data.to_vec())
            }
            (other, _) => return Err(SmuxError::Command(other)),
        };
        self.0.take(HEAD_LEN + usize::from(length));
        Ok(Some(frame))
    }
}

/// Makes the head of a data frame. A frame holds at most 65,535 bytes.
#[must_use]
pub fn data_head(id: u32, length: usize) -> [u8; HEAD_LEN] {
    head(2, id, u16::try_from(length).unwrap_or(u16::MAX))
}

/// Makes a frame that closes a connection.
#[must_use]
pub fn close(id: u32) -> [u8; HEAD_LEN] {
    head(1, id, 0)
}

fn head(command: u8, id: u32, length: u16) -> [u8; HEAD_LEN] {
    let mut bytes = [VERSION, command, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..].copy_from_slice(&id.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_real_client_however_they_are_cut() {
        let stream = b"\x01\x00\x00\x00\x03\x00\x00\x00\x01\x02\x05\x00\x03\x00\x00\x00hello\
            \x01\x01\x00\x00\x03\x00\x00\x00\x01\x03\x00\x00\x00\x00\x00\x00";
        for size in [1, 2, 7, 8, 9, stream.len()] {
            let mut decoder = SmuxDecoder::default();
            let mut frames = Vec::new();
            for chunk in stream.chunks(size) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next_frame().expect("sound") {
                    frames.push(frame);
                }
            }
            let wanted = [
                Frame::Open(3),
                Frame::Data(3, b"hello".to_vec()),
                Frame::Close(3),
                Frame::KeepAlive,
            ];
            assert_eq!(frames, wanted, "{size}");
        }
        assert_eq!(data_head(3, 5), stream[8..16]);
        assert_eq!(close(3), stream[21..29]);
    }

    #[test]
    fn nonsense_is_an_error() {
        let read = |bytes: &[u8]| {
            let mut decoder = SmuxDecoder::default();
            decoder.feed(bytes);
            decoder.next_frame()
        };
        assert_eq!(read(b"\x02\0\0\0\x03\0\0\0"), Err(SmuxError::Version(2)));
        assert_eq!(read(b"\x01\x04\0\0\x03\0\0\0"), Err(SmuxError::Command(4)));
        assert_eq!(read(b"\x01\0\x01\0\x03\0\0\0x"), Err(SmuxError::Data(0, 1)));
    }
}
