//! The server's end of one data channel, over any number of sockets one after the other.
//!
//! The caller says what has happened ([`DataChannel::attach`], [`DataChannel::receive`], [`DataChannel::tick`])
//! and sends what [`DataChannel::next_outgoing`] gives out.

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

/// Number of the flag that says a multiplexed connection could not be made. Towards the client only.
pub const CONNECT_FAILED: u32 = 3;
/// The bytes of one message of output, at most.
pub const MAX_OUTPUT: usize = 64 << 10;
/// How long an acknowledgement waits for output that it can travel with: mostly the echo of the key it
/// acknowledges. A client would wake up for each.
const HOLD: Duration = Duration::from_millis(2);
/// How many may wait. A client resends after a tenth of a second at the earliest.
const MAX_HELD: usize = 8;

/// What a channel is for.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The session's id.
    pub session: String,
    /// What the client asked to be connected to.
    pub target: String,
    /// What runs at this end.
    pub kind: SessionType,
    /// Told to the client in the handshake: those of a port session, otherwise null.
    pub properties: Value,
    /// Shown to the person when the handshake is done; empty for nothing.
    pub message: String,
    /// Random; messages are named after it.
    pub seed: [u8; 16],
    /// What the session is encrypted with.
    pub key: Option<KmsKey>,
    /// Whether the handshake ends only when [`DataChannel::complete`] says so.
    pub is_held: bool,
}

/// What time it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since some moment, never going back.
    pub since: Duration,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// How far a channel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPhase {
    /// Nobody has been here yet.
    New,
    /// The request was sent to the client.
    Handshake,
    /// Bytes flow.
    Open,
    /// The client has received the end.
    Closed,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The client has had a data key made; [`DataChannel::encrypt`] goes on with what is in it.
    Key(DataKey),
    /// The client has done its part; [`DataChannel::complete`] goes on.
    Answered,
    /// The handshake is done.
    Ready(ClientVersion),
    /// The handshake has failed; why.
    Failed(String),
    /// Input.
    Bytes(Vec<u8>),
    /// Its terminal has this size.
    Size {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Its local connection has ended (one connection at a time only).
    Disconnected,
    /// It wants the session to end.
    Terminate,
}

/// What can be taken in now.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// An acknowledgement can be sent.
    pub to_answer: bool,
    /// The session's program takes input.
    pub for_input: bool,
}

/// How far the handshake has come.
#[derive(Debug)]
enum Shake {
    /// The client was asked who it is.
    Asked,
    /// It has had a data key made.
    Keyed(ClientVersion),
    /// It is to show that it has the data key, by these bytes.
    Challenged(ClientVersion, Vec<u8>),
    /// It has done its part.
    Answered(ClientVersion),
    /// It knows of no handshake, and has begun.
    Skipped,
}

/// The server's end of a data channel.
#[derive(Debug)]
pub struct DataChannel {
    config: ChannelConfig,
    phase: ChannelPhase,
    is_attached: bool,
    /// A multiplexing client crashes if anything arrives between its reading the end of the handshake
    /// and its first frame. Until that has come, nothing is sent.
    is_silent: bool,
    sender: Sender,
    receiver: Receiver,
    outgoing: VecDeque<Bytes>,
    /// Until when what is to be sent, nothing but acknowledgements, can wait.
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
    /// Before any client has come.
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

    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> ChannelPhase {
        self.phase
    }

    /// What the channel is for.
    #[must_use]
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// A client is there. The first is asked who it is; a later one gets what the last has not
    /// acknowledged.
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

    /// The client is gone; another may come.
    pub fn detach(&mut self) {
        self.is_attached = false;
        self.outgoing.clear();
        self.held = None;
    }

    /// Whether something is to be sent that cannot wait for more.
    #[must_use]
    pub fn is_pressing(&self, now: Now) -> bool {
        !self.outgoing.is_empty() && self.held.is_none_or(|until| now.since >= until)
    }

    /// The next bytes for the socket.
    pub fn next_outgoing(&mut self) -> Option<Bytes> {
        self.held = None;
        self.outgoing.pop_front()
    }

    fn push(&mut self, frame: Bytes) {
        self.held = None;
        self.outgoing.push_back(frame);
    }

    /// Bytes of output that may be sent now; 0 while the client has enough to acknowledge.
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

    /// Sends output that stands behind the header's place in a [`message::buffer`]. An empty message
    /// is never sent: peers cannot read one.
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
        // The first message of a direction is marked. Nobody looks.
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

    /// Tells the client that it is over: with nothing to say, or with a reason. Who wants that
    /// everything before it arrives waits until [`Self::is_drained`].
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

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.held.into_iter().chain(self.resends()).min()
    }

    fn resends(&self) -> Option<Duration> {
        let resends = self.is_attached && !self.is_silent && self.phase != ChannelPhase::Closed;
        resends.then(|| self.sender.deadline()).flatten()
    }

    /// Sends again what has waited too long for its acknowledgement.
    pub fn tick(&mut self, now: Now) {
        if self.resends().is_some() {
            for frame in self.sender.overdue(now.since) {
                self.push(frame);
            }
        }
    }

    /// Takes one message of the client. What is wrong is dropped in silence; a sound client sends
    /// what is not acknowledged again.
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
        // Before anything that the message sets off: the client counts on the order.
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

    /// A client that knows of no handshake (ssm-session, the first plugins) and simply begins.
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

    /// What comes of such a client where a session does not begin at once.
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
            // Input before the handshake is done, and kinds nobody sends.
            _ => None,
        }
    }

    fn bytes(&self, body: &[u8]) -> ChannelEvent {
        match &self.cipher {
            None => ChannelEvent::Bytes(body.to_vec()),
            Some(cipher) => match cipher.open(body) {
                Some(bytes) => ChannelEvent::Bytes(bytes),
                None => {
                    ChannelEvent::Failed("what the client has sent cannot be decrypted".to_owned())
                }
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

    /// Goes on with the session's keys: the client is to show that it has them as well. `proof` is random.
    pub fn encrypt(&mut self, mut cipher: Cipher, proof: &[u8], now: Now) {
        let Shake::Keyed(version) = &self.shake else { return };
        self.shake = Shake::Challenged(version.clone(), proof.to_vec());
        let mut sealed = proof.to_vec();
        cipher.seal(&mut sealed, 0);
        self.cipher = Some(cipher);
        let text = handshake::challenge(&sealed);
        self.number(Payload::ChallengeRequest, text.as_bytes(), now);
    }

    /// Whether the client has shown that.
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

    /// Whether input is for later: of a client that knows of no handshake, and sends nothing again.
    fn keeps_input(&self) -> bool {
        self.phase == ChannelPhase::Handshake && matches!(self.shake, Shake::Skipped)
    }

    /// What a client that knows of no handshake has said while its session did not begin yet.
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

    /// Ends a handshake that was held, with this to show to the person. `None` where it is not at its end.
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

    /// Whether connections are multiplexed with such a client. Both ends decide it by themselves.
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

    /// A UUID of version 4 for each message: the seed's upper half, and a lower half that differs.
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

/// What a client types, or says of its terminal.
fn is_input(payload: Payload) -> bool {
    matches!(payload, Payload::Bytes | Payload::Size)
}

#[cfg(test)]
mod tests;
