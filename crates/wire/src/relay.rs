//! Messages to and from the relay, through which the runner reaches PID 1 on another machine. Input
//! from the relay is untrusted, because it runs where the build is root.
//!
//! Used by `crates/engine/src/relay`, which transfers the bytes and does the flow control.

use crate::abi::relay::{
    self as abi, FILE, FIRST_SHIM, GIVEN, MAX_BODY, MAX_DATA, NOTHING, STREAM, WINDOW, channel,
};
use crate::abi::{HEADER_LEN, Header, Pid1Reply, REPLY_LEN, reply, u32_at};

/// A message from the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// A reply of PID 1, with its descriptor.
    Reply(Pid1Reply, PassedDescriptor<'a>),
    /// Bytes of a channel; never empty.
    Data(u64, &'a [u8]),
    /// A channel sends no more bytes.
    End(u64),
    /// A channel accepts no more bytes.
    Stop(u64),
    /// This many more bytes may be sent on a channel.
    Credit(u64, usize),
    /// A shim has connected on this channel.
    Shim(u64),
}

/// The descriptor of a reply, in a form that can be transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedDescriptor<'a> {
    /// No descriptor.
    Nothing,
    /// A bidirectional channel.
    Stream,
    /// A regular file.
    File {
        /// Its permissions.
        mode: u32,
        /// Its content.
        contents: &'a [u8],
    },
}

/// A violation of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// The kind does not exist, or the relay may not send it.
    #[error("a word of unknown kind {0}")]
    UnknownKind(u32),
    /// The body is too long for its kind.
    #[error("a word of {0} bytes")]
    TooLong(usize),
    /// The body or ID is not valid for its kind.
    #[error("a malformed word")]
    Malformed,
}

/// Splits a stream into messages.
#[derive(Debug, Default)]
pub struct WordReader {
    buffer: Vec<u8>,
    /// Bytes of the buffer that were returned already.
    used: usize,
}

impl WordReader {
    /// Appends bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.used == self.buffer.len() || self.used > MAX_DATA {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete message.
    ///
    /// # Errors
    /// A violation of the protocol. The rest of the stream is meaningless.
    pub fn next_word(&mut self) -> Result<Option<Word<'_>>, RelayError> {
        let waiting = &self.buffer[self.used..];
        let Some((head, rest)) = waiting.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::from_bytes(head);
        let length = header.body_len as usize;
        // Check the length before waiting for the body.
        if length > longest(header.kind)? {
            return Err(RelayError::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.used += HEADER_LEN + length;
        word(header, &self.buffer[self.used - length..self.used]).map(Some)
    }
}

fn longest(kind: u32) -> Result<usize, RelayError> {
    match kind {
        abi::REPLY => Ok(MAX_BODY),
        abi::DATA => Ok(MAX_DATA),
        abi::CREDIT => Ok(4),
        abi::END | abi::STOP | abi::SHIM => Ok(0),
        other => Err(RelayError::UnknownKind(other)),
    }
}

fn word(header: Header, body: &[u8]) -> Result<Word<'_>, RelayError> {
    let id = header.id;
    match header.kind {
        abi::REPLY => reply_word(id, body),
        abi::DATA if !body.is_empty() => Ok(Word::Data(id, body)),
        abi::END => Ok(Word::End(id)),
        abi::STOP => Ok(Word::Stop(id)),
        abi::SHIM if id >= FIRST_SHIM => Ok(Word::Shim(id)),
        abi::CREDIT => match u32_at(body, 0).map(|more| more as usize) {
            Some(more @ 1..=WINDOW) => Ok(Word::Credit(id, more)),
            _ => Err(RelayError::Malformed),
        },
        _ => Err(RelayError::Malformed),
    }
}

fn reply_word(id: u64, body: &[u8]) -> Result<Word<'_>, RelayError> {
    let (said, rest) = body.split_first_chunk::<REPLY_LEN>().ok_or(RelayError::Malformed)?;
    let said = Pid1Reply::from_bytes(said);
    let (given, rest) = rest.split_first_chunk::<4>().ok_or(RelayError::Malformed)?;
    let given = match (u32::from_le_bytes(*given), rest) {
        (NOTHING, []) => PassedDescriptor::Nothing,
        (STREAM, []) => PassedDescriptor::Stream,
        (FILE, rest) => {
            let (mode, contents) = rest.split_first_chunk::<4>().ok_or(RelayError::Malformed)?;
            PassedDescriptor::File { mode: u32::from_le_bytes(*mode) & 0o7777, contents }
        }
        _ => return Err(RelayError::Malformed),
    };
    // A reply has a descriptor exactly if its kind requires one.
    let fits = match said.kind {
        reply::OPENED => given != PassedDescriptor::Nothing,
        reply::TERMINAL => given == PassedDescriptor::Stream,
        _ => given == PassedDescriptor::Nothing,
    };
    let is_job = said.id < FIRST_SHIM >> 2 && id == channel(said.id, GIVEN);
    if fits && is_job { Ok(Word::Reply(said, given)) } else { Err(RelayError::Malformed) }
}

fn encode(kind: u32, id: u64, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let body_len = u32::try_from(length).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_LEN + length);
    bytes.extend_from_slice(&Header { body_len, kind, id }.to_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Encodes a request to PID 1.
#[must_use]
pub fn request(header: Header, body: &[u8]) -> Vec<u8> {
    encode(abi::REQUEST, header.id, &[&header.to_bytes(), body])
}

/// Encodes bytes of a channel, at most [`MAX_DATA`].
#[must_use]
pub fn data(id: u64, bytes: &[u8]) -> Vec<u8> {
    encode(abi::DATA, id, &[bytes])
}

/// Encodes that a channel sends no more bytes.
#[must_use]
pub fn end(id: u64) -> Vec<u8> {
    encode(abi::END, id, &[])
}

/// Encodes that a channel accepts no more bytes.
#[must_use]
pub fn stop(id: u64) -> Vec<u8> {
    encode(abi::STOP, id, &[])
}

/// Encodes that this many more bytes may be sent on a channel, at most [`WINDOW`].
#[must_use]
pub fn credit(id: u64, more: usize) -> Vec<u8> {
    encode(abi::CREDIT, id, &[&u32::try_from(more).unwrap_or(u32::MAX).to_le_bytes()])
}

/// Encodes the size of a terminal, as in [`crate::abi::request::RESIZE`].
#[must_use]
pub fn resize(id: u64, size: &[u8]) -> Vec<u8> {
    encode(abi::RESIZE, id, &[size])
}

/// Encodes the new content of a file.
#[must_use]
pub fn put(id: u64, mode: u32, contents: &[u8]) -> Vec<u8> {
    encode(abi::PUT, id, &[&mode.to_le_bytes(), contents])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: u32, job: u64, given: u32, rest: &[u8]) -> Vec<u8> {
        let said = Pid1Reply { kind, a: 1, id: job, b: 0 }.to_bytes();
        encode(abi::REPLY, channel(job, GIVEN), &[&said, &given.to_le_bytes(), rest])
    }

    fn stream() -> Vec<u8> {
        [
            reply(reply::HELLO, 0, NOTHING, b""),
            data(5, b"bytes"),
            data(6, &[7; MAX_DATA]),
            credit(4, WINDOW),
            encode(abi::SHIM, FIRST_SHIM, &[]),
            reply(reply::TERMINAL, 9, STREAM, b""),
            reply(reply::OPENED, 10, FILE, b"\xa4\x01\0\0contents"),
            reply(reply::OPENED, 11, STREAM, b""),
            reply(reply::EXITED, 9, NOTHING, b""),
            end(39),
            stop(4),
        ]
        .concat()
    }

    /// Reads a stream in pieces of the lengths that `next` returns.
    fn read(stream: &[u8], mut next: impl FnMut() -> usize) -> (Vec<String>, Option<RelayError>) {
        let (mut words, mut told, mut rest) = (WordReader::default(), Vec::new(), stream);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(next().clamp(1, rest.len()));
            words.feed(now);
            rest = later;
            loop {
                match words.next_word() {
                    Ok(Some(word)) => told.push(format!("{word:?}")),
                    Ok(None) => break,
                    Err(error) => return (told, Some(error)),
                }
            }
        }
        (told, None)
    }

    #[test]
    fn a_stream_says_the_same_however_it_is_cut() {
        let stream = stream();
        let (whole, error) = read(&stream, || usize::MAX);
        assert_eq!((whole.len(), error), (11, None));
        assert_eq!(whole[3], format!("Credit(4, {WINDOW})"));
        assert!(whole[6].contains("File { mode: 420"), "{}", whole[6]);
        for piece in [1, 7, 64, 40_000] {
            assert_eq!(read(&stream, || piece).0, whole, "pieces of {piece}");
        }
    }

    #[test]
    fn a_hostile_relay_is_not_believed() {
        for (stream, wanted) in [
            (encode(99, 0, &[]), RelayError::UnknownKind(99)),
            // Messages that only the runner sends.
            (encode(abi::REQUEST, 0, &[]), RelayError::UnknownKind(abi::REQUEST)),
            (encode(abi::PUT, 0, &[b"0000"]), RelayError::UnknownKind(abi::PUT)),
            (data(1, b""), RelayError::Malformed),
            (data(1, &[0; MAX_DATA + 1]), RelayError::TooLong(MAX_DATA + 1)),
            (encode(abi::END, 1, &[b"x"]), RelayError::TooLong(1)),
            (credit(1, 0), RelayError::Malformed),
            (credit(1, WINDOW + 1), RelayError::Malformed),
            (encode(abi::CREDIT, 1, &[b"1"]), RelayError::Malformed),
            (encode(abi::SHIM, FIRST_SHIM - 1, &[]), RelayError::Malformed),
            (encode(abi::REPLY, 3, &[b"short"]), RelayError::Malformed),
            (reply(reply::OPENED, 1, NOTHING, b""), RelayError::Malformed),
            (reply(reply::OPENED, 1, FILE, b"123"), RelayError::Malformed),
            (reply(reply::OPENED, 1, 77, b""), RelayError::Malformed),
            (reply(reply::TERMINAL, 1, FILE, b"1234"), RelayError::Malformed),
            (reply(reply::EXITED, 1, STREAM, b""), RelayError::Malformed),
            (reply(reply::EXITED, 1, NOTHING, b"more"), RelayError::Malformed),
            (reply(reply::EXITED, FIRST_SHIM >> 2, NOTHING, b""), RelayError::Malformed),
        ] {
            assert_eq!(read(&stream, || usize::MAX), (Vec::new(), Some(wanted)), "{stream:?}");
        }
        // Its channel belongs to another request.
        let mut foreign = reply(reply::EXITED, 1, NOTHING, b"");
        foreign[8] = 0;
        assert_eq!(read(&foreign, || 1).1, Some(RelayError::Malformed));
        let huge = Header { body_len: u32::MAX, kind: abi::REPLY, id: 3 }.to_bytes();
        assert_eq!(read(&huge, || 1).1, Some(RelayError::TooLong(u32::MAX as usize)));
    }

    #[test]
    fn whatever_comes_is_read_or_refused() {
        // The failure message prints the seed.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or(0) % below
        };
        let sound = stream();
        for round in 0..2_000 {
            let mut bytes = sound.clone();
            for _ in 0..=random(8) {
                let at = random(bytes.len());
                let other = u8::try_from(random(256)).expect("a byte");
                match random(4) {
                    0 => bytes[at] = other,
                    1 => bytes[at] ^= 1 << random(8),
                    2 => drop(bytes.drain(at..(at + random(64)).min(bytes.len()))),
                    _ => drop(bytes.splice(at..at, vec![other; random(32)])),
                }
            }
            let mut words = WordReader::default();
            let mut rest = bytes.as_slice();
            'stream: while !rest.is_empty() {
                let (now, later) = rest.split_at((1 + random(9_000)).min(rest.len()));
                words.feed(now);
                rest = later;
                loop {
                    match words.next_word() {
                        Ok(None) => break,
                        Err(_) => break 'stream,
                        Ok(Some(Word::Data(_, data))) => {
                            assert!((1..=MAX_DATA).contains(&data.len()), "round {round}");
                        }
                        Ok(Some(Word::Credit(_, more))) => {
                            assert!((1..=WINDOW).contains(&more), "round {round}");
                        }
                        Ok(Some(Word::Reply(said, given))) => {
                            let wants = matches!(said.kind, reply::OPENED | reply::TERMINAL);
                            assert_eq!(wants, given != PassedDescriptor::Nothing, "round {round}");
                        }
                        Ok(Some(Word::End(_) | Word::Stop(_) | Word::Shim(_))) => {}
                    }
                }
                // The buffer holds at most one incomplete message, and the bytes that arrived with
                // it.
                assert!(words.buffer.len() - words.used <= MAX_BODY + HEADER_LEN, "round {round}");
            }
        }
    }
}
