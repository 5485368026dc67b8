//! Sessions and their clocks: a client on a websocket in memory, a program behind a control socket,
//! and a clock that the tests set.

use super::admission::upgrade;
use super::facts::SessionStatus;
use super::session::{LOST_AFTER, PING_AFTER};
use super::*;
use crate::deliveries::{Deliveries, DeliverySettings};
use futures_util::{SinkExt, StreamExt};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runner_cloud::CloudIdentity;
use runner_core::agent::AgentConfig;
use runner_folder::state::{BuildDir, Home};
use runner_wire::control::{
    self, ControlRequest, ControlResponse, OpenProgram, PROTOCOL, TerminalSize,
};
use runner_wire::frame::FrameDecoder;
use runner_wire::ssm::handshake::SessionType;
use runner_wire::ssm::message::{Id, MessageHeader, encode, parse};
use runner_wire::ssm::{MessageKind, Payload};
use serde_json::{Value, json};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3600);
/// How long anything may take, by the machine's clock, before a test counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with a clock under the test's control, and the control socket of a build.
struct Rig {
    gateway: Arc<Gateway>,
    hands: watch::Sender<Duration>,
    owner: UnixListener,
    build: BuildDir,
    _home: TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let build = BuildDir::of(&home, "build");
        std::fs::create_dir(build.path()).expect("a folder");
        let owner = UnixListener::bind(build.control_socket()).expect("a socket");
        let (hands, clock) = watch::channel(1000 * SECOND);
        let (s3_endpoint, kms_endpoint) = (String::new(), String::new());
        let settings =
            DeliverySettings { identity: CloudIdentity::Environment, s3_endpoint, kms_endpoint };
        let deliveries = Deliveries::new(&home, settings, Arc::new(|_, _| ()));
        let gateway = Gateway::new(Arc::new(Audit::of(&home)), deliveries, Clock::Turned(clock));
        Rig { gateway, hands, owner, build, _home: dir }
    }

    /// Opens a shell session. Returns its id and first token.
    fn open(&self) -> (String, String) {
        let work = SessionWork::Shell { profile: String::new() };
        let plan = SessionPlan::new(SessionType::StandardStream, Value::Null, work);
        let asked = SessionRequest {
            prefix: "test".to_owned(),
            target: "codebuild:build".to_owned(),
            document: None,
            version: None,
            agent: AgentConfig::default(),
            region: "us-east-1".to_owned(),
            reason: None,
            owner: "me".to_owned(),
            user_id: "me".to_owned(),
            key_id: "key".to_owned(),
            idle: IDLE,
            longest: None,
            build: self.build.clone(),
            plan,
        };
        self.gateway.open(asked).expect("a session")
    }

    /// Advances the clock and lets all tasks notice.
    async fn turn(&self, by: Duration) {
        self.hands.send_modify(|now| *now += by);
        settle().await;
    }

    /// Connects a client's socket through the same admission as network clients.
    async fn dial(&self, session: &str) -> Client {
        let (near, far) = duplex(1 << 20);
        let gateway = Arc::clone(&self.gateway);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = upgrade(request, &gateway, &runner_host::peers::Guest::alone());
                async move { response }
            });
            let mut builder = http1::Builder::new();
            let served =
                builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(far), service);
            // The client sees any end.
            let _ = served.with_upgrades().await;
        });
        let url = format!("ws://localhost{PATH}{session}");
        let (socket, _) = tokio_tungstenite::client_async(url, near).await.expect("let in");
        Client { socket, next: 0 }
    }

    async fn connect(&self, session: &str, token: &str) -> Client {
        let mut client = self.dial(session).await;
        client.token(token).await;
        client
    }

    /// Accepts the session's request for a shell.
    async fn program(&self) -> Program {
        let (stream, _) = self.owner.accept().await.expect("a client");
        let (terminal, end) = std::os::unix::net::UnixStream::pair().expect("a terminal");
        let mut program = Program { stream, decoder: FrameDecoder::default(), terminal };
        assert!(matches!(program.request().await, Some(ControlRequest::Hello { .. })));
        let version = String::new();
        program.answer(&ControlResponse::Hello { protocol: PROTOCOL, version }).await;
        let asked = program.request().await;
        let size = Some(TerminalSize { rows: 24, cols: 80 });
        assert!(
            matches!(asked, Some(ControlRequest::Open(OpenProgram { terminal, .. })) if terminal == size)
        );
        let opened = control::encode(&ControlResponse::Opened { session: 1 }).expect("short");
        let sent = runner_sandbox::send(&program.stream, &opened, &[end.as_fd()]);
        assert_eq!(sent.expect("sent"), opened.len());
        program
    }

    /// A session's status, and why it ended.
    fn facts(&self, id: &str) -> (SessionStatus, String) {
        let all = [self.gateway.list(true), self.gateway.list(false)].concat();
        let facts = all.into_iter().find(|facts| facts.id == id).expect("known");
        (facts.status, facts.details)
    }
}

/// Lets every task do what it can do now. They all wait for memory only, or for a clock that stands
/// still.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// The owner's end of a control connection.
struct Program {
    stream: UnixStream,
    decoder: FrameDecoder,
    /// Stands in for the terminal.
    terminal: std::os::unix::net::UnixStream,
}

impl Program {
    /// The next frame; `None` once the session has closed the connection.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("frames") {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await.expect("readable") {
                0 => return None,
                got => self.decoder.feed(&buffer[..got]),
            }
        }
    }

    async fn request(&mut self) -> Option<ControlRequest> {
        self.frame().await.map(|body| serde_json::from_slice(&body).expect("a request"))
    }

    fn shows(&mut self, bytes: &[u8]) {
        self.terminal.write_all(bytes).expect("written");
    }

    async fn answer(&mut self, answer: &ControlResponse) {
        let bytes = control::encode(answer).expect("short");
        self.stream.write_all(&bytes).await.expect("written");
    }
}

/// An event at the client.
#[derive(Debug, PartialEq)]
enum Heard {
    Output(i64, Payload, Vec<u8>),
    Acknowledged(i64),
    Closed(String),
    Asked,
    Lost,
}

struct Client {
    socket: WebSocketStream<DuplexStream>,
    next: i64,
}

impl Client {
    async fn token(&mut self, token: &str) {
        let message = json!({"MessageSchemaVersion": "1.0", "TokenValue": token, "ClientId": "c"});
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    async fn hear(&mut self) -> Heard {
        let coming = tokio::time::timeout(PATIENCE, self.socket.next());
        let heard = match coming.await.expect("something comes") {
            Some(Ok(Message::Binary(bytes))) => {
                let message = parse(&bytes).expect("sound");
                let body = || serde_json::from_slice::<Value>(message.body).expect("JSON");
                match message.kind {
                    MessageKind::Acknowledge => {
                        let sequence = body()["AcknowledgedMessageSequenceNumber"].as_i64();
                        Heard::Acknowledged(sequence.expect("a number"))
                    }
                    MessageKind::ChannelClosed => {
                        Heard::Closed(body()["Output"].as_str().expect("a text").to_owned())
                    }
                    _ => Heard::Output(message.sequence, message.payload, message.body.to_vec()),
                }
            }
            Some(Ok(Message::Ping(_))) => Heard::Asked,
            _ => Heard::Lost,
        };
        // Responses to pings go out with the next write.
        let _ = self.socket.flush().await;
        heard
    }

    /// The next event, if it has arrived already.
    async fn hear_now(&mut self) -> Option<Heard> {
        settle().await;
        tokio::select! {
            biased;
            heard = self.hear() => Some(heard),
            () = settle() => None,
        }
    }

    async fn input(&mut self, payload: Payload, body: &[u8]) {
        let sequence = self.next;
        self.next += 1;
        self.message(MessageKind::Input, sequence, payload, body).await;
    }

    async fn acknowledge(&mut self, sequence: i64) {
        let body = json!({"AcknowledgedMessageSequenceNumber": sequence}).to_string();
        self.message(MessageKind::Acknowledge, 0, Payload::None, body.as_bytes()).await;
    }

    async fn message(&mut self, kind: MessageKind, sequence: i64, payload: Payload, body: &[u8]) {
        let head =
            MessageHeader { kind, sequence, flags: 0, id: Id([7; 16]), payload, created_ms: 1 };
        self.socket.send(Message::binary(encode(&head, body))).await.expect("sent");
    }

    /// Performs the whole handshake, up to the terminal's size.
    async fn shake_hands(&mut self) {
        assert!(matches!(self.hear().await, Heard::Output(0, Payload::HandshakeRequest, _)));
        self.acknowledge(0).await;
        let response = json!({
            "ClientVersion": "1.2.0.0",
            "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1}],
        });
        self.input(Payload::HandshakeResponse, response.to_string().as_bytes()).await;
        assert_eq!(self.hear().await, Heard::Acknowledged(0));
        assert!(matches!(self.hear().await, Heard::Output(1, Payload::HandshakeComplete, _)));
        self.acknowledge(1).await;
        self.input(Payload::Size, br#"{"cols":80,"rows":24}"#).await;
    }
}

/// A session with a running shell.
async fn running(rig: &Rig) -> (String, Client, Program) {
    let (id, token) = rig.open();
    let mut client = rig.connect(&id, &token).await;
    client.shake_hands().await;
    // An acknowledgement waits a little for output to travel with.
    assert_eq!(client.hear_now().await, None);
    rig.turn(Duration::from_millis(2)).await;
    assert_eq!(client.hear().await, Heard::Acknowledged(1));
    let program = rig.program().await;
    settle().await;
    (id, client, program)
}

/// Refused in the channel: a refusal by HTTP would make the client hang.
#[tokio::test]
async fn an_expired_token() {
    let rig = Rig::new();
    let (id, mut client, mut program) = running(&rig).await;
    let late = rig.gateway.resume(&id).await.expect("known").expect("a token");
    rig.turn(60 * SECOND).await;
    let mut other = rig.connect(&id, &late).await;
    let closed = Heard::Closed("the token has expired; start the session again".to_owned());
    assert_eq!(other.hear().await, closed);
    // The token is used up; the session and its client are unchanged.
    let mut other = rig.connect(&id, &late).await;
    let closed = Heard::Closed("the token is wrong, or was used before".to_owned());
    assert_eq!(other.hear().await, closed);
    program.shows(b"going on");
    while client.hear().await != Heard::Output(2, Payload::Bytes, b"going on".to_vec()) {}
    let good = rig.gateway.resume(&id).await.expect("known").expect("a token");
    rig.turn(59 * SECOND).await;
    let mut client = rig.connect(&id, &good).await;
    assert_eq!(client.hear().await, Heard::Output(2, Payload::Bytes, b"going on".to_vec()));
    assert_eq!(rig.facts(&id).0, SessionStatus::Connected);
}

/// A session without a client ends with its token.
#[tokio::test]
async fn a_token_that_nobody_shows() {
    let rig = Rig::new();
    let (id, token) = rig.open();
    rig.turn(59 * SECOND).await;
    assert_eq!(rig.facts(&id).0, SessionStatus::Connecting);
    rig.turn(6 * SECOND).await;
    assert_eq!(rig.facts(&id), (SessionStatus::Terminated, "nobody has connected".to_owned()));
    let mut client = rig.connect(&id, &token).await;
    let closed = Heard::Closed("there is no such session, or it is over".to_owned());
    assert_eq!(client.hear().await, closed);
    assert_eq!(rig.gateway.resume(&id).await, Ok(None));
}

/// A half-open connection is noticed by nobody. The client may come back until the session has been
/// idle for too long; then its program ends, too.
#[tokio::test]
async fn a_client_that_is_dead() {
    let rig = Rig::new();
    let (id, mut client, mut program) = running(&rig).await;
    rig.turn(LOST_AFTER - SECOND).await;
    assert_eq!(rig.facts(&id).0, SessionStatus::Connected);
    rig.turn(SECOND).await;
    assert_eq!(rig.facts(&id).0, SessionStatus::Disconnected);
    // The socket is closed, after a single ping.
    assert_eq!(client.hear().await, Heard::Asked);
    assert_eq!(client.hear().await, Heard::Lost);
    rig.turn(IDLE - LOST_AFTER - SECOND).await;
    assert_eq!(rig.facts(&id).0, SessionStatus::Disconnected);
    rig.turn(SECOND).await;
    let (status, why) = rig.facts(&id);
    assert_eq!(status, SessionStatus::Terminated);
    assert!(why.contains("nothing happened for 1 hour"), "{why}");
    assert!(rig.gateway.list(true).is_empty());
    assert_eq!(program.frame().await, None);
}

/// Responses to pings keep the connection alive, even if nobody types.
#[tokio::test]
async fn a_client_that_only_answers_pings() {
    let rig = Rig::new();
    let (id, mut client, _program) = running(&rig).await;
    for _ in 0..60 {
        rig.turn(PING_AFTER).await;
        assert_eq!(client.hear_now().await, Some(Heard::Asked));
        settle().await;
        assert_eq!(rig.facts(&id).0, SessionStatus::Connected);
    }
    // They are no input, though: a session without typing ends.
    for _ in 60..119 {
        rig.turn(PING_AFTER).await;
        assert_eq!(client.hear_now().await, Some(Heard::Asked));
        settle().await;
    }
    assert_eq!(rig.facts(&id).0, SessionStatus::Connected);
    rig.turn(PING_AFTER).await;
    loop {
        match client.hear().await {
            Heard::Closed(why) => break assert!(why.contains("nothing happened"), "{why}"),
            Heard::Lost => panic!("lost without a word"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_client_that_never_answers_the_handshake() {
    let rig = Rig::new();
    let (id, token) = rig.open();
    let mut client = rig.connect(&id, &token).await;
    assert!(matches!(client.hear().await, Heard::Output(0, Payload::HandshakeRequest, _)));
    client.acknowledge(0).await;
    settle().await;
    rig.turn(15 * SECOND).await;
    let reason = "the client has not answered the handshake".to_owned();
    assert_eq!(client.hear().await, Heard::Closed(reason.clone()));
    rig.turn(SECOND).await;
    assert_eq!(rig.facts(&id), (SessionStatus::Terminated, reason));
}

/// A client leaves when told of the end, whatever output is still on its way.
#[tokio::test]
async fn the_last_output_comes_before_the_end() {
    let rig = Rig::new();
    let (_, mut client, mut program) = running(&rig).await;
    program.shows(b"the last");
    program.answer(&ControlResponse::Exited { code: 0 }).await;
    assert_eq!(client.hear().await, Heard::Output(2, Payload::Bytes, b"the last".to_vec()));
    assert_eq!(program.frame().await, None);
    assert_eq!(client.hear_now().await, None);
    client.acknowledge(2).await;
    assert_eq!(client.hear().await, Heard::Closed(String::new()));
}

/// A user may have stopped their terminal.
#[tokio::test]
async fn a_client_that_takes_its_time_over_the_last_output() {
    let rig = Rig::new();
    let (_, mut client, mut program) = running(&rig).await;
    program.shows(b"the last");
    program.answer(&ControlResponse::Exited { code: 0 }).await;
    let last = Heard::Output(2, Payload::Bytes, b"the last".to_vec());
    assert_eq!(client.hear().await, last);
    assert_eq!(program.frame().await, None);
    rig.turn(PING_AFTER - SECOND).await;
    // Sent again meanwhile.
    assert_eq!(client.hear_now().await, Some(last));
    assert_eq!(client.hear_now().await, None);
    client.acknowledge(2).await;
    assert_eq!(client.hear().await, Heard::Closed(String::new()));
}

/// The session waits for it, but a stopping endpoint does not.
#[tokio::test]
async fn a_client_that_does_not_acknowledge_the_last_output() {
    let rig = Rig::new();
    let (id, mut client, mut program) = running(&rig).await;
    program.shows(b"the last");
    program.answer(&ControlResponse::Exited { code: 0 }).await;
    let last = Heard::Output(2, Payload::Bytes, b"the last".to_vec());
    assert_eq!(client.hear().await, last);
    assert_eq!(program.frame().await, None);
    let gateway = Arc::clone(&rig.gateway);
    tokio::spawn(async move { gateway.close("the endpoint is being stopped", None).await });
    settle().await;
    rig.turn(Duration::from_millis(1900)).await;
    // Sent again meanwhile.
    assert_eq!(client.hear_now().await, Some(last));
    assert_eq!(client.hear_now().await, None);
    rig.turn(Duration::from_millis(100)).await;
    while client.hear().await != Heard::Closed(String::new()) {}
    rig.turn(SECOND).await;
    assert_eq!(rig.facts(&id).0, SessionStatus::Terminated);
}
