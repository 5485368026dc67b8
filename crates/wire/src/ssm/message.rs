//! A message of the data channel: a header of 120 bytes and a payload.
//!
//! Everything is big-endian. The header's length field does not count its last word, so it is 116.

use sha2::{Digest, Sha256};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 120;
/// The value of the header's length field.
const ANNOUNCED_HEADER: u32 = 116;
/// Maximum payload accepted from a client, in bytes. Clients send 1 KiB at a time.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Server to client, numbered.
    Output,
    /// Client to server, numbered.
    Input,
    /// Either way: acknowledges one numbered message.
    Acknowledge,
    /// Server to client: the session is over.
    ChannelClosed,
    /// Gateway hints that have no effect here, and unknown types.
    Other,
}

impl MessageKind {
    fn name(self) -> &'static [u8] {
        match self {
            MessageKind::Output => b"output_stream_data",
            MessageKind::Input => b"input_stream_data",
            MessageKind::Acknowledge => b"acknowledge",
            MessageKind::ChannelClosed => b"channel_closed",
            MessageKind::Other => b"unknown",
        }
    }

    fn of(name: &[u8]) -> Self {
        [
            MessageKind::Output,
            MessageKind::Input,
            MessageKind::Acknowledge,
            MessageKind::ChannelClosed,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
        .unwrap_or(MessageKind::Other)
    }
}

/// The payload type of a numbered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Not a numbered message.
    None,
    /// Data of a terminal, a program or a connection.
    Bytes,
    /// New size of the client's terminal.
    Size,
    /// The server's first message.
    HandshakeRequest,
    /// The client's answer to it.
    HandshakeResponse,
    /// The server's last message of the handshake.
    HandshakeComplete,
    /// Challenge for the client to prove that it has the session key.
    ChallengeRequest,
    /// The client's answer to the challenge.
    ChallengeResponse,
    /// A flag, such as `CONNECT_FAILED`.
    Flag,
    /// Error output of a program.
    StdErr,
    /// `EXIT_CODE: n`.
    ExitCode,
    /// Any other type.
    Other(u32),
}

impl Payload {
    fn number(self) -> u32 {
        match self {
            Payload::None => 0,
            Payload::Bytes => 1,
            Payload::Size => 3,
            Payload::HandshakeRequest => 5,
            Payload::HandshakeResponse => 6,
            Payload::HandshakeComplete => 7,
            Payload::ChallengeRequest => 8,
            Payload::ChallengeResponse => 9,
            Payload::Flag => 10,
            Payload::StdErr => 11,
            Payload::ExitCode => 12,
            Payload::Other(number) => number,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            0 => Payload::None,
            1 => Payload::Bytes,
            3 => Payload::Size,
            5 => Payload::HandshakeRequest,
            6 => Payload::HandshakeResponse,
            7 => Payload::HandshakeComplete,
            8 => Payload::ChallengeRequest,
            9 => Payload::ChallengeResponse,
            10 => Payload::Flag,
            11 => Payload::StdErr,
            12 => Payload::ExitCode,
            other => Payload::Other(other),
        }
    }
}

/// A complete and undamaged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type of the message.
    pub kind: MessageKind,
    /// Its number in its direction; 0 if it has none.
    pub sequence: i64,
    /// Its ID, which acknowledgements refer to.
    pub id: Id,
    /// Type of the payload.
    pub payload: Payload,
    /// The payload.
    pub body: &'a [u8],
}

/// Why bytes are not a valid message. They are dropped silently, because a correct peer resends
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectedMessage {
    /// Shorter than a header.
    #[error("{0} bytes are not a message")]
    Short(usize),
    /// Unexpected header length.
    #[error("a header of {0} bytes")]
    Header(u32),
    /// No message type.
    #[error("a message without a type")]
    NoType,
    /// No creation time.
    #[error("a message without a date")]
    NoDate,
    /// The payload's length differs from the announced one, or exceeds the limit.
    #[error("a payload of {there} bytes where {announced} are announced")]
    Length {
        /// The announced length.
        announced: u32,
        /// The actual length.
        there: usize,
    },
    /// Wrong digest.
    #[error("the digest does not fit the payload")]
    Digest,
}

/// The sixteen bytes of a UUID, in text order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub [u8; 16]);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Parses a message.
///
/// # Errors
/// The bytes are invalid; see [`RejectedMessage`].
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, RejectedMessage> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_LEN) else {
        return Err(RejectedMessage::Short(bytes.len()));
    };
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    if word(0) != ANNOUNCED_HEADER {
        return Err(RejectedMessage::Header(word(0)));
    }
    let is_padding = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let name = &header[4..36];
    let start = name.iter().position(|byte| !is_padding(byte)).ok_or(RejectedMessage::NoType)?;
    let end = name.iter().rposition(|byte| !is_padding(byte)).unwrap_or(start);
    if long(40) == 0 {
        return Err(RejectedMessage::NoDate);
    }
    let announced = word(116);
    if announced as usize != body.len() || body.len() > MAX_PAYLOAD {
        return Err(RejectedMessage::Length { announced, there: body.len() });
    }
    if !body.is_empty() && !is_digest(&header[80..112], body) {
        return Err(RejectedMessage::Digest);
    }
    let mut id = [0; 16];
    id[8..].copy_from_slice(&header[64..72]);
    id[..8].copy_from_slice(&header[72..80]);
    Ok(Message {
        kind: MessageKind::of(&name[start..=end]),
        sequence: long(48).cast_signed(),
        id: Id(id),
        payload: Payload::of(word(112)),
        body,
    })
}

/// Checks the digest of a body. It detects damage, not forgery, because anybody can compute it. A
/// client that writes half of the digest as text (`ssm-session`) does not always hash what it
/// sends. AWS accepts that too, and a real digest never looks like such text.
fn is_digest(digest: &[u8], body: &[u8]) -> bool {
    let is_text = digest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_text || Sha256::digest(body)[..] == *digest
}

/// The fields of a header, except those of the payload's bytes.
#[derive(Clone, Copy, Debug)]
pub struct MessageHeader {
    /// Type of the message.
    pub kind: MessageKind,
    /// Its number; 0 if it has none.
    pub sequence: i64,
    /// Its flags, which no peer uses.
    pub flags: u64,
    /// Its ID.
    pub id: Id,
    /// Type of the payload.
    pub payload: Payload,
    /// Creation time, in milliseconds since 1970.
    pub created_ms: u64,
}

/// Writes the header into the first [`HEADER_LEN`] bytes of a message whose payload follows, so
/// that the payload need not be copied.
///
/// # Panics
/// If there is no room for a header.
pub fn seal(message: &mut [u8], head: &MessageHeader) {
    let (header, body) = message.split_at_mut(HEADER_LEN);
    header[..4].copy_from_slice(&ANNOUNCED_HEADER.to_be_bytes());
    header[4..36].fill(b' ');
    header[4..4 + head.kind.name().len()].copy_from_slice(head.kind.name());
    header[36..40].copy_from_slice(&1u32.to_be_bytes());
    header[40..48].copy_from_slice(&head.created_ms.max(1).to_be_bytes());
    header[48..56].copy_from_slice(&head.sequence.to_be_bytes());
    header[56..64].copy_from_slice(&head.flags.to_be_bytes());
    header[64..72].copy_from_slice(&head.id.0[8..]);
    header[72..80].copy_from_slice(&head.id.0[..8]);
    header[80..112].copy_from_slice(&Sha256::digest(&*body));
    header[112..116].copy_from_slice(&head.payload.number().to_be_bytes());
    // No message is that long, and a reader would reject it.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    header[116..].copy_from_slice(&length.to_be_bytes());
}

/// Makes a buffer with space for a header, and capacity for a payload of about this size.
#[must_use]
pub fn buffer(payload: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(HEADER_LEN + payload);
    buffer.resize(HEADER_LEN, 0);
    buffer
}

/// Encodes a complete message.
#[must_use]
pub fn encode(head: &MessageHeader, body: &[u8]) -> Vec<u8> {
    let mut message = buffer(body.len());
    message.extend_from_slice(body);
    seal(&mut message, head);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = Id([
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
        0xff,
    ]);

    fn head(kind: MessageKind, payload: Payload) -> MessageHeader {
        MessageHeader {
            kind,
            sequence: 2,
            flags: 0,
            id: ID,
            payload,
            created_ms: 1_700_000_000_000,
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|digit| u8::try_from(digit).expect("a digit"))
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// Exactly as the real client writes it.
    #[test]
    fn a_message_of_the_real_client() {
        let wanted = hex("
            00 00 00 74 69 6e 70 75 74 5f 73 74 72 65 61 6d 5f 64 61 74 61 20 20 20 20 20 20 20
            20 20 20 20 20 20 20 20 00 00 00 01 00 00 01 8b cf e5 68 00 00 00 00 00 00 00 00 02
            00 00 00 00 00 00 00 00 88 99 aa bb cc dd ee ff 00 11 22 33 44 55 66 77
            e9 fe 7e 88 e8 9d 53 23 79 96 04 02 db 8f 94 58 19 4d ae 77 2a a5 fd a5 a1 28 06 c2
            22 15 f0 ff 00 00 00 01 00 00 00 03 6c 73 0a");
        let message = encode(&head(MessageKind::Input, Payload::Bytes), b"ls\n");
        assert_eq!(message, wanted);
        let read = parse(&message).expect("sound");
        assert_eq!(
            (read.kind, read.payload, read.body),
            (MessageKind::Input, Payload::Bytes, &b"ls\n"[..])
        );
        assert_eq!((read.sequence, read.id), (2, ID));
        assert_eq!(read.id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let sound = encode(&head(MessageKind::Input, Payload::Bytes), b"ls\n");
        let changed = |at: usize, byte: u8| {
            let mut message = sound.clone();
            message[at] = byte;
            parse(&message).map(|_| ()).expect_err("harmed")
        };
        assert_eq!(parse(&sound[..119]), Err(RejectedMessage::Short(119)));
        assert_eq!(changed(3, 0x78), RejectedMessage::Header(120));
        assert_eq!(changed(122, b'x'), RejectedMessage::Digest);
        assert_eq!(changed(119, 2), RejectedMessage::Length { announced: 2, there: 3 });
        let mut nameless = sound.clone();
        nameless[4..36].fill(b' ');
        assert_eq!(parse(&nameless), Err(RejectedMessage::NoType));
        let mut dateless = sound;
        dateless[40..48].fill(0);
        assert_eq!(parse(&dateless), Err(RejectedMessage::NoDate));
        let mut text = encode(&head(MessageKind::Input, Payload::Bytes), b"ls\n");
        text[80..112].copy_from_slice(b"e9fe7e88e89d532379960402db8f9458");
        assert!(parse(&text).is_ok());
        let long = encode(&head(MessageKind::Input, Payload::Bytes), &vec![0; MAX_PAYLOAD + 1]);
        assert!(matches!(parse(&long), Err(RejectedMessage::Length { .. })));
    }
}
