//! A client of Session Manager's protocol that does whatever a test wants, valid or not.

use super::endpoint::Endpoint;
use super::{PATIENCE, bed};
use runner_wire::ssm::message::{Id, MessageHeader, encode, parse};
use runner_wire::ssm::{MessageKind, Payload};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

/// A started session that can be connected to.
#[derive(Clone)]
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Started {
    /// Starts a session in the bed's only live build, through an endpoint that needs no signature.
    pub(crate) fn new(
        bed: &bed::Bed,
        endpoint: &Endpoint,
        document: &str,
        parameters: &Value,
    ) -> Self {
        let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
        Self::in_build(endpoint, &uuid, document, parameters)
    }

    pub(crate) fn in_build(
        endpoint: &Endpoint,
        uuid: &str,
        document: &str,
        parameters: &Value,
    ) -> Self {
        let mut body = json!({"Target": format!("codebuild:{uuid}"), "Parameters": parameters});
        if !document.is_empty() {
            body["DocumentName"] = json!(document);
        }
        let (status, answer) = endpoint.call("AmazonSSM.StartSession", &body);
        assert_eq!(status, 200, "{answer}");
        Self::of(&answer)
    }

    pub(crate) fn of(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Started { id: text("SessionId"), url: text("StreamUrl"), token: text("TokenValue") }
    }

    /// Another token for the session; `None` if it is over.
    pub(crate) fn resume(&self, endpoint: &Endpoint) -> Option<Self> {
        let (status, answer) =
            endpoint.call("AmazonSSM.ResumeSession", &json!({"SessionId": self.id}));
        assert_eq!(status, 200, "{answer}");
        answer["TokenValue"].as_str()?;
        Some(Started { url: self.url.clone(), ..Self::of(&answer) })
    }
}

/// What arrived from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// A numbered message.
    Output { sequence: i64, payload: Payload, body: Vec<u8> },
    /// An acknowledgement of this number.
    Acknowledged(i64),
    /// The end, and the reason.
    Closed(String),
    /// The socket was closed.
    Lost,
}

/// A websocket.
pub(crate) struct Channel {
    socket: WebSocket<TcpStream>,
    /// The number of our next message.
    pub(crate) next: i64,
    /// The number of the server's next message, and output that arrived early.
    pub(crate) expected: i64,
    pub(crate) acknowledges: bool,
    /// The terminal's content.
    pub(crate) shown: Vec<u8>,
}

impl Channel {
    /// Connects without sending anything.
    pub(crate) fn dial(started: &Started) -> Self {
        let url = &started.url;
        let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(url.as_str(), stream).unwrap();
        Channel { socket, next: 0, expected: 0, acknowledges: true, shown: Vec::new() }
    }

    /// Connects and sends the token.
    pub(crate) fn with_token(started: &Started) -> Self {
        let mut channel = Self::dial(started);
        channel.token(&started.token);
        channel
    }

    /// Connects and completes the handshake.
    pub(crate) fn open(started: &Started) -> Self {
        let mut channel = Self::with_token(started);
        channel.handshake();
        channel
    }

    pub(crate) fn token(&mut self, token: &str) {
        let message = json!({
            "MessageSchemaVersion": "1.0", "RequestId": "r", "TokenValue": token, "ClientId": "c",
        });
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// Completes the handshake as a multiplexing client. Returns the server's requests in it.
    pub(crate) fn handshake(&mut self) -> Value {
        self.handshake_with_message().0
    }

    /// The same, and the message for the user at its end.
    pub(crate) fn handshake_with_message(&mut self) -> (Value, String) {
        let request = match self.hear() {
            Heard::Output { payload: Payload::HandshakeRequest, body, .. } => body,
            other => panic!("{other:?}"),
        };
        let response = json!({
            "ClientVersion": "1.2.0.0",
            "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1}],
        });
        self.input(Payload::HandshakeResponse, response.to_string().as_bytes());
        assert_eq!(self.hear(), Heard::Acknowledged(0));
        let last = match self.hear() {
            Heard::Output { payload: Payload::HandshakeComplete, body, .. } => body,
            other => panic!("{other:?}"),
        };
        let last: Value = serde_json::from_slice(&last).unwrap();
        let message = last["CustomerMessage"].as_str().unwrap().to_owned();
        (serde_json::from_slice(&request).unwrap(), message)
    }

    /// Another socket for the same session.
    pub(crate) fn resume(&mut self, started: &Started) {
        let other = Self::with_token(started);
        self.socket = other.socket;
    }

    /// Sends a numbered message.
    pub(crate) fn input(&mut self, payload: Payload, body: &[u8]) {
        let sequence = self.next;
        self.next += 1;
        self.numbered(sequence, payload, body);
    }

    pub(crate) fn numbered(&mut self, sequence: i64, payload: Payload, body: &[u8]) {
        self.raw(&encode(&head(MessageKind::Input, sequence, payload), body));
    }

    pub(crate) fn acknowledge(&mut self, sequence: i64) {
        let body = json!({
            "AcknowledgedMessageType": "output_stream_data",
            "AcknowledgedMessageId": "00000000-0000-4000-8000-000000000000",
            "AcknowledgedMessageSequenceNumber": sequence,
            "IsSequentialMessage": true,
        });
        let head = head(MessageKind::Acknowledge, 0, Payload::None);
        self.raw(&encode(&head, body.to_string().as_bytes()));
    }

    /// Sends bytes as one message. A closed connection is noticed when reading.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let _ = self.socket.send(Message::binary(bytes.to_vec()));
    }

    /// Waits for the next message. Output acknowledged here is collected, once and in order.
    pub(crate) fn hear(&mut self) -> Heard {
        let begin = Instant::now();
        loop {
            // Pings arrive even if nothing else does.
            let shown = String::from_utf8_lossy(&self.shown);
            assert!(begin.elapsed() < PATIENCE, "nothing but pings comes; so far: {shown}");
            match self.socket.read() {
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("nothing comes; so far: {}", String::from_utf8_lossy(&self.shown))
                }
                read => {
                    if let Some(heard) = self.take(read) {
                        return heard;
                    }
                }
            }
        }
    }

    /// Waits for one more message, which must not be the end.
    #[track_caller]
    pub(crate) fn listen(&mut self) {
        let heard = self.hear();
        let shown = String::from_utf8_lossy(&self.shown);
        assert!(!matches!(heard, Heard::Closed(_) | Heard::Lost), "{heard:?} after {shown}");
    }

    /// Reads what has arrived so far: a client that answers no pings for a minute counts as gone.
    #[track_caller]
    pub(crate) fn attend(&mut self) {
        self.stream().set_nonblocking(true).unwrap();
        loop {
            match self.socket.read() {
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    break;
                }
                read => match self.take(read) {
                    Some(Heard::Closed(reason)) => panic!("closed: {reason}"),
                    Some(Heard::Lost) => panic!("lost"),
                    _ => {}
                },
            }
        }
        self.stream().set_nonblocking(false).unwrap();
    }

    /// Parses a message, unless it is a ping or a repetition.
    fn take(&mut self, read: tungstenite::Result<Message>) -> Option<Heard> {
        let bytes = match read {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) | Err(_) => return Some(Heard::Lost),
            Ok(_) => return None,
        };
        let message = parse(&bytes).expect("what the server sends is sound");
        match message.kind {
            MessageKind::Acknowledge => {
                let body: Value = serde_json::from_slice(message.body).unwrap();
                let number = body["AcknowledgedMessageSequenceNumber"].as_i64().unwrap();
                Some(Heard::Acknowledged(number))
            }
            MessageKind::ChannelClosed => {
                let body: Value = serde_json::from_slice(message.body).unwrap();
                Some(Heard::Closed(body["Output"].as_str().unwrap().to_owned()))
            }
            MessageKind::Output => {
                assert!(!message.body.is_empty(), "an empty message");
                let sequence = message.sequence;
                if self.acknowledges {
                    self.acknowledge(sequence);
                }
                if sequence < self.expected {
                    // A repetition; the real client ignores it, too.
                    return None;
                }
                assert_eq!(sequence, self.expected, "messages come in order over one socket");
                self.expected += 1;
                if matches!(message.payload, Payload::Bytes | Payload::StdErr) {
                    self.shown.extend_from_slice(message.body);
                }
                let body = message.body.to_vec();
                Some(Heard::Output { sequence, payload: message.payload, body })
            }
            MessageKind::Input | MessageKind::Other => panic!("{message:?}"),
        }
    }

    /// Checks that nothing arrives, not even a repetition.
    #[track_caller]
    pub(crate) fn hears_nothing_for(&mut self, time: Duration) {
        self.stream().set_read_timeout(Some(time)).unwrap();
        let read = self.socket.read();
        self.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        match read {
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
    }

    /// Reads until the terminal shows this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let begin = Instant::now();
        while !String::from_utf8_lossy(&self.shown).contains(text) {
            self.listen();
            let shown = String::from_utf8_lossy(&self.shown);
            assert!(begin.elapsed() < PATIENCE, "{text} never comes: {shown}");
        }
    }

    /// Reads until the terminal shows this after the last occurrence of `after`.
    #[track_caller]
    pub(crate) fn wait_for_after(&mut self, after: &str, text: &str) {
        let is_there = |shown: &[u8]| {
            let all = String::from_utf8_lossy(shown);
            all.rfind(after).is_some_and(|at| all[at + after.len()..].contains(text))
        };
        while !is_there(&self.shown) {
            self.listen();
        }
    }

    /// Reads to the end. Returns the reason.
    #[track_caller]
    pub(crate) fn wait_for_close(&mut self) -> String {
        loop {
            match self.hear() {
                Heard::Closed(reason) => return reason,
                Heard::Lost => panic!("lost: {}", String::from_utf8_lossy(&self.shown)),
                _ => {}
            }
        }
    }

    /// Reads until the socket closes without a message.
    pub(crate) fn wait_for_loss(&mut self) {
        while self.hear() != Heard::Lost {}
    }

    /// The socket itself, for tests that manipulate it.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }
}

/// A header for our messages.
pub(crate) fn head(kind: MessageKind, sequence: i64, payload: Payload) -> MessageHeader {
    MessageHeader {
        kind,
        sequence,
        flags: 0,
        id: Id([7; 16]),
        payload,
        created_ms: 1_700_000_000_000,
    }
}
