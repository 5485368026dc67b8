//! The server side of a data channel, over any number of successive sockets.
//!
//! The caller reports events ([`DataChannel::attach`], [`DataChannel::receive`],
//! [`DataChannel::tick`]) and sends what [`DataChannel::next_outgoing`] returns.

use super::cipher::Cipher;
use super::handshake::{self, Answered, ClientVersion, DataKey, KmsKey, SessionType};
use super::message::{self, Id, Message, MessageHeader, MessageKind, Payload};
use super::receiver::{MessageTurn, Readiness, Receiver};
use super::sender::Sender;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;

/// Flag that reports a failed multiplexed connection. Only sent to the client.
pub const CONNECT_FAILED: u32 = 3;
/// Maximum bytes in one output message.
pub const MAX_OUTPUT: usize = 64 << 10;
/// How long an acknowledgement waits for output to travel with, mostly the echo of the acknowledged
/// key. Otherwise the client would wake up twice.
const HOLD: Duration = Duration::from_millis(2);
/// Maximum number of waiting acknowledgements. A client resends after at least a tenth of a second.
const MAX_HELD: usize = 8;

/// Settings of a channel.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Session ID.
    pub session: String,
    /// The target that the client asked for.
    pub target: String,
    /// Type of the session.
    pub kind: SessionType,
    /// Session properties for the handshake: those of a port session, otherwise null.
    pub properties: Value,
    /// Text shown to the user after the handshake; empty for none.
    pub message: String,
    /// Random bytes, from which message IDs are made.
    pub seed: [u8; 16],
    /// The KMS key for encryption.
    pub key: Option<KmsKey>,
    /// Whether the handshake ends only with [`DataChannel::complete`].
    pub is_held: bool,
}

/// The current time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic time.
    pub since: Duration,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// The state of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPhase {
    /// No client has connected yet.
    New,
    /// The handshake request was sent.
    Handshake,
    /// Data flows in both directions.
    Open,
    /// The end was sent to the client.
    Closed,
}

/// An event from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The client has created a data key. Decrypt it and call [`DataChannel::encrypt`].
    Key(DataKey),
    /// The client has finished its part. Call [`DataChannel::complete`].
    Answered,
    /// The handshake is done.
    Ready(ClientVersion),
    /// The handshake has failed, for this reason.
    Failed(String),
    /// Input bytes.
    Bytes(Vec<u8>),
    /// New size of the client's terminal.
    Size {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// The local connection has closed (only without multiplexing).
    Disconnected,
    /// The client ends the session.
    Terminate,
}

/// What the caller can handle now.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Whether an acknowledgement can be sent.
    pub to_answer: bool,
    /// Whether the session's program accepts input.
    pub for_input: bool,
}

/// The state of the handshake.
#[derive(Debug)]
enum Shake {
    /// The request was sent.
    Asked,
    /// The client has created a data key.
    Keyed(ClientVersion),
    /// The client must prove that it has the data key, with these bytes.
    Challenged(ClientVersion, Vec<u8>),
    /// The client has finished its part.
    Answered(ClientVersion),
    /// The client does not know the handshake and has just begun.
    Skipped,
}

/// The server side of a data channel.
#[derive(Debug)]
pub struct DataChannel {
    config: ChannelConfig,
    phase: ChannelPhase,
    is_attached: bool,
    /// A multiplexing client crashes if anything arrives between its reading the end of the
    /// handshake and sending its first frame. So nothing is sent until that frame has arrived.
    is_silent: bool,
    sender: Sender,
    receiver: Receiver,
    outgoing: VecDeque<Bytes>,
    /// When the waiting acknowledgements must be sent; `None` if nothing waits.
    held: Option<Duration>,
    made: u64,
    asked_at: Duration,
    shake: Shake,
    cipher: Option<Cipher>,
}

#[derive(Deserialize)]
struct Acknowledged {
    #[serde(rename = "AcknowledgedMessageSequenceNumber")]
    sequence: i64,
}

#[derive(Deserialize)]
struct SsmSize {
    rows: u32,
    cols: u32,
}

impl DataChannel {
    /// Makes a channel without a client.
    #[must_use]
    pub fn new(config: ChannelConfig) -> Self {
        DataChannel {
            config,
            phase: ChannelPhase::New,
            is_attached: false,
            is_silent: false,
            sender: Sender::new(),
            receiver: Receiver::default(),
            outgoing: VecDeque::new(),
            held: None,
            made: 0,
            asked_at: Duration::ZERO,
            shake: Shake::Asked,
            cipher: None,
        }
    }

    /// The state of the channel.
    #[must_use]
    pub fn phase(&self) -> ChannelPhase {
        self.phase
    }

    /// The settings of the channel.
    #[must_use]
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// Attaches a client. The first one gets the handshake request; a later one gets all
    /// unacknowledged messages.
    pub fn attach(&mut self, now: Now) {
        self.is_attached = true;
        self.outgoing.clear();
        self.held = None;
        if self.phase == ChannelPhase::New {
            self.phase = ChannelPhase::Handshake;
            self.asked_at = now.since;
            let text = handshake::request(
                self.config.kind,
                &self.config.properties,
                self.config.key.as_ref(),
            );
            self.number(Payload::HandshakeRequest, text.as_bytes(), now);
        } else {
            self.outgoing.extend(self.sender.attached(now.since));
        }
    }

    /// Detaches the client. Another one may follow.
    pub fn detach(&mut self) {
        self.is_attached = false;
        self.outgoing.clear();
        self.held = None;
    }

    /// Whether something must be sent now.
    #[must_use]
    pub fn is_pressing(&self, now: Now) -> bool {
        !self.outgoing.is_empty() && self.held.is_none_or(|until| now.since >= until)
    }

    /// Returns the next bytes for the socket.
    pub fn next_outgoing(&mut self) -> Option<Bytes> {
        self.held = None;
        self.outgoing.pop_front()
    }

    fn push(&mut self, frame: Bytes) {
        self.held = None;
        self.outgoing.push_back(frame);
    }

    /// Number of output bytes that may be sent now; 0 while too much is unacknowledged.
    #[must_use]
    pub fn room(&self) -> usize {
        let may_send = self.phase == ChannelPhase::Open && !self.is_silent;
        if may_send { self.sender.room().min(MAX_OUTPUT) } else { 0 }
    }

    /// Whether the client has acknowledged everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.sender.is_empty()
    }

    /// Sends the output in a [`message::buffer`], after the space for its header. Empty messages
    /// are never sent, because peers cannot read them.
    pub fn send(&mut self, payload: Payload, mut message: Vec<u8>, now: Now) {
        if message.len() <= message::HEADER_LEN {
            return;
        }
        if let Some(cipher) = &mut self.cipher
            && matches!(payload, Payload::Bytes | Payload::StdErr | Payload::ExitCode)
        {
            cipher.seal(&mut message, message::HEADER_LEN);
        }
        let sequence = self.sender.next_sequence();
        // The first message in a direction is flagged, although no peer checks it.
        let flags = u64::from(sequence == 0);
        let head = self.head(MessageKind::Output, payload, sequence, flags, now);
        message::seal(&mut message, &head);
        let frame = Bytes::from(message);
        if self.is_attached {
            self.push(frame.clone());
        }
        self.sender.push(frame, now.since, self.is_attached);
    }

    /// Sends output.
    pub fn number(&mut self, payload: Payload, body: &[u8], now: Now) {
        let mut message = message::buffer(body.len());
        message.extend_from_slice(body);
        self.send(payload, message, now);
    }

    /// Tells the client that the session is over, with a reason or an empty text. To deliver
    /// everything before that, wait until [`Self::is_drained`].
    pub fn close(&mut self, reason: &str, now: Now) {
        self.phase = ChannelPhase::Closed;
        let id = self.id();
        let body = json!({
            "MessageId": id.to_string(),
            "CreatedDate": now.wall_ms.to_string(),
            "DestinationId": self.config.target,
            "SessionId": self.config.session,
            "MessageType": "channel_closed",
            "SchemaVersion": 1,
            "Output": reason,
        });
        let head =
            MessageHeader { id, ..self.head(MessageKind::ChannelClosed, Payload::None, 0, 0, now) };
        if self.is_attached {
            self.push(message::encode(&head, body.to_string().as_bytes()).into());
        }
    }

    /// When [`Self::tick`] must be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.held.into_iter().chain(self.resends()).min()
    }

    fn resends(&self) -> Option<Duration> {
        let resends = self.is_attached && !self.is_silent && self.phase != ChannelPhase::Closed;
        resends.then(|| self.sender.deadline()).flatten()
    }

    /// Resends messages that have waited too long for an acknowledgement.
    pub fn tick(&mut self, now: Now) {
        if self.resends().is_some() {
            for frame in self.sender.overdue(now.since) {
                self.push(frame);
            }
        }
    }

    /// Handles a message from the client. An invalid one is dropped silently; a correct client
    /// resends whatever is not acknowledged.
    pub fn receive(&mut self, bytes: &[u8], now: Now, room: Room) -> Vec<ChannelEvent> {
        let message = match message::parse(bytes) {
            Ok(message) if self.is_attached => message,
            _ => return Vec::new(),
        };
        match message.kind {
            MessageKind::Acknowledge => {
                if let Ok(Acknowledged { sequence }) = serde_json::from_slice(message.body) {
                    self.sender.acknowledged(sequence, now.since);
                }
                Vec::new()
            }
            MessageKind::Input if room.to_answer && self.phase != ChannelPhase::Closed => {
                self.numbered(&message, now, room.for_input)
            }
            MessageKind::Input
            | MessageKind::Output
            | MessageKind::ChannelClosed
            | MessageKind::Other => Vec::new(),
        }
    }

    fn numbered(&mut self, message: &Message<'_>, now: Now, for_input: bool) -> Vec<ChannelEvent> {
        let mut events = Vec::new();
        match self.begins_unasked(message.payload) {
            Some(event @ ChannelEvent::Failed(_)) => return vec![event],
            event => events.extend(event),
        }
        let readiness = match is_input(message.payload) {
            true if self.keeps_input() => Readiness::Keeps,
            true if !for_input && message.payload == Payload::Bytes => Readiness::No,
            _ => Readiness::Takes,
        };
        let turn = self.receiver.turn(message.sequence, message.payload, message.body, readiness);
        match turn {
            MessageTurn::Refused => return events,
            MessageTurn::Again => {
                if !self.is_silent {
                    self.acknowledge(message, now);
                }
                return events;
            }
            MessageTurn::Early => {
                self.is_silent = false;
                self.acknowledge(message, now);
                return events;
            }
            MessageTurn::Now => {}
        }
        self.is_silent = false;
        // First of all, because the client relies on this order.
        self.acknowledge(message, now);
        self.take(message.payload, message.body, now, &mut events);
        events.extend(self.caught_up(now));
        events
    }

    fn take(&mut self, payload: Payload, body: &[u8], now: Now, events: &mut Vec<ChannelEvent>) {
        if self.skips_handshake(payload) {
            self.phase = ChannelPhase::Open;
            events.push(ChannelEvent::Ready(ClientVersion::default()));
        }
        events.extend(self.event(payload, body, now));
    }

    /// Whether a client skips the handshake and just begins (ssm-session, the first plugins).
    fn skips_handshake(&self, payload: Payload) -> bool {
        let has_terminal = matches!(
            self.config.kind,
            SessionType::StandardStream | SessionType::InteractiveCommands
        );
        self.phase == ChannelPhase::Handshake
            && matches!(self.shake, Shake::Asked)
            && is_input(payload)
            && has_terminal
    }

    /// Handles a client that skips the handshake although the session must not begin yet.
    fn begins_unasked(&mut self, payload: Payload) -> Option<ChannelEvent> {
        if !self.skips_handshake(payload) {
            return None;
        }
        if self.config.key.is_some() {
            let reason = "this session is encrypted, which the client does not support";
            return Some(ChannelEvent::Failed(reason.to_owned()));
        }
        if !self.config.is_held {
            return None;
        }
        self.shake = Shake::Skipped;
        Some(ChannelEvent::Answered)
    }

    fn event(&mut self, payload: Payload, body: &[u8], now: Now) -> Option<ChannelEvent> {
        match (self.phase, payload) {
            (ChannelPhase::Handshake, Payload::HandshakeResponse) => self.response(body, now),
            (ChannelPhase::Handshake, Payload::ChallengeResponse) => self.proved(body, now),
            (ChannelPhase::Open, Payload::Bytes) if !body.is_empty() => Some(self.bytes(body)),
            (ChannelPhase::Open, Payload::Size) => {
                let size: SsmSize = serde_json::from_slice(body).ok()?;
                let side = |n: u32| u16::try_from(n.max(1)).unwrap_or(u16::MAX);
                Some(ChannelEvent::Size { rows: side(size.rows), cols: side(size.cols) })
            }
            (ChannelPhase::Open | ChannelPhase::Handshake, Payload::Flag) => match *body {
                [0, 0, 0, 1] => Some(ChannelEvent::Disconnected),
                [0, 0, 0, 2] => Some(ChannelEvent::Terminate),
                _ => None,
            },
            // Input before the end of the handshake, and types that no client sends.
            _ => None,
        }
    }

    fn bytes(&self, body: &[u8]) -> ChannelEvent {
        match &self.cipher {
            None => ChannelEvent::Bytes(body.to_vec()),
            Some(cipher) => match cipher.open(body) {
                Some(bytes) => ChannelEvent::Bytes(bytes),
                None => ChannelEvent::Failed("the client's data cannot be decrypted".to_owned()),
            },
        }
    }

    fn response(&mut self, body: &[u8], now: Now) -> Option<ChannelEvent> {
        if !matches!(self.shake, Shake::Asked) {
            return None;
        }
        let Answered { version, data_key } = match handshake::response(body) {
            Ok(answered) => answered,
            Err(reason) => return Some(ChannelEvent::Failed(reason)),
        };
        if self.config.key.is_none() {
            return Some(self.answered(version, now));
        }
        let Some(data_key) = data_key else {
            let reason =
                "the client has had no key made for this session, which is to be encrypted";
            return Some(ChannelEvent::Failed(reason.to_owned()));
        };
        self.shake = Shake::Keyed(version);
        Some(ChannelEvent::Key(data_key))
    }

    /// Sets the session keys. The client must then prove that it has them too. `proof` is random.
    pub fn encrypt(&mut self, mut cipher: Cipher, proof: &[u8], now: Now) {
        let Shake::Keyed(version) = &self.shake else { return };
        self.shake = Shake::Challenged(version.clone(), proof.to_vec());
        let mut sealed = proof.to_vec();
        cipher.seal(&mut sealed, 0);
        self.cipher = Some(cipher);
        let text = handshake::challenge(&sealed);
        self.number(Payload::ChallengeRequest, text.as_bytes(), now);
    }

    /// Checks the client's proof.
    fn proved(&mut self, body: &[u8], now: Now) -> Option<ChannelEvent> {
        let Shake::Challenged(version, proof) = &self.shake else { return None };
        let opened = handshake::challenge_response(body);
        let opened = opened.and_then(|sealed| self.cipher.as_ref()?.open(&sealed));
        if opened.as_ref() != Some(proof) {
            let reason = "the client has not shown that it has the session's key";
            return Some(ChannelEvent::Failed(reason.to_owned()));
        }
        let version = version.clone();
        Some(self.answered(version, now))
    }

    fn answered(&mut self, version: ClientVersion, now: Now) -> ChannelEvent {
        self.shake = Shake::Answered(version.clone());
        if self.config.is_held {
            return ChannelEvent::Answered;
        }
        self.open(version, now)
    }

    /// Whether to keep input for later: a client that skips the handshake never resends it.
    fn keeps_input(&self) -> bool {
        self.phase == ChannelPhase::Handshake && matches!(self.shake, Shake::Skipped)
    }

    /// Returns the events of input that was kept before the session began.
    pub fn caught_up(&mut self, now: Now) -> Vec<ChannelEvent> {
        let mut events = Vec::new();
        if self.keeps_input() {
            return events;
        }
        while let Some((payload, body)) = self.receiver.follower() {
            self.take(payload, &body, now, &mut events);
        }
        events
    }

    /// Ends a held handshake and shows `message` to the user. `None` if the client is not ready for
    /// that.
    pub fn complete(&mut self, message: &str, now: Now) -> Option<ChannelEvent> {
        if self.phase != ChannelPhase::Handshake {
            return None;
        }
        match &self.shake {
            Shake::Answered(version) => {
                let version = version.clone();
                message.clone_into(&mut self.config.message);
                Some(self.open(version, now))
            }
            Shake::Skipped => {
                self.phase = ChannelPhase::Open;
                Some(ChannelEvent::Ready(ClientVersion::default()))
            }
            Shake::Asked | Shake::Keyed(_) | Shake::Challenged(..) => None,
        }
    }

    fn open(&mut self, version: ClientVersion, now: Now) -> ChannelEvent {
        let text =
            handshake::complete(now.since.saturating_sub(self.asked_at), &self.config.message);
        self.number(Payload::HandshakeComplete, text.as_bytes(), now);
        self.phase = ChannelPhase::Open;
        self.is_silent = self.is_multiplexed(&version);
        if self.config.kind == SessionType::Port && !self.is_silent {
            self.sender.set_unordered();
        }
        ChannelEvent::Ready(version)
    }

    /// Whether connections are multiplexed with this client. Both sides decide independently.
    #[must_use]
    pub fn is_multiplexed(&self, version: &ClientVersion) -> bool {
        self.config.kind == SessionType::Port
            && self.config.properties["type"] == "LocalPortForwarding"
            && version.multiplexes()
    }

    fn acknowledge(&mut self, message: &Message<'_>, now: Now) {
        let body = format!(
            "{{\"AcknowledgedMessageType\":\"input_stream_data\",\"AcknowledgedMessageId\":\"{}\",\
             \"AcknowledgedMessageSequenceNumber\":{},\"IsSequentialMessage\":true}}",
            message.id, message.sequence
        );
        let head = self.head(MessageKind::Acknowledge, Payload::None, 0, 3, now);
        let frame = message::encode(&head, body.as_bytes()).into();
        let is_first = self.outgoing.is_empty();
        let can_wait = self.phase == ChannelPhase::Open && (is_first || self.held.is_some());
        let held = if is_first { Some(now.since + HOLD) } else { self.held };
        self.push(frame);
        self.held = held.filter(|_| can_wait && self.outgoing.len() < MAX_HELD);
    }

    fn head(
        &mut self,
        kind: MessageKind,
        payload: Payload,
        sequence: i64,
        flags: u64,
        now: Now,
    ) -> MessageHeader {
        MessageHeader { kind, sequence, flags, id: self.id(), payload, created_ms: now.wall_ms }
    }

    /// Makes a version 4 UUID for a message: the upper half of the seed, and a lower half that
    /// differs each time.
    fn id(&mut self) -> Id {
        self.made += 1;
        let mut id = self.config.seed;
        for (byte, number) in id[8..].iter_mut().zip(self.made.to_be_bytes()) {
            *byte ^= number;
        }
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        Id(id)
    }
}

/// Whether a payload is input or a terminal size.
fn is_input(payload: Payload) -> bool {
    matches!(payload, Payload::Bytes | Payload::Size)
}

#[cfg(test)]
mod tests;
