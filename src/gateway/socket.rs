//! A client's websocket: upgraded, told apart from browsers and strangers, read and written at once.

use super::registry::Gateway;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use runner_wire::ssm::message::{self, HEADER_LEN, Head, Id, Kind, MAX_PAYLOAD, Payload};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Where sockets are opened: this, and the session's id.
pub(crate) const PATH: &str = "/v1/data-channel/";
/// How long a client may take to show its token, and how long that message may be.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_TOKEN_MESSAGE: usize = 4096;
/// Bytes that wait for the client to read them. Beyond that nothing more is made for it.
const MAX_QUEUED: usize = 256 << 10;
/// A client that is silent for so long is asked whether it is still there, and how long it may take.
pub(super) const PING_AFTER: Duration = Duration::from_secs(30);
pub(super) const LOST_AFTER: Duration = Duration::from_secs(75);
/// How long a client has to go away by itself after its last message.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Takes a request for a websocket. Whoever asks is let in: a client that is refused by HTTP tries
/// again for seconds and then hangs without a word. Who they are, the token says.
///
/// # Errors
/// It is no such request.
pub(crate) fn upgrade(
    mut request: Request<Incoming>,
    gateway: &Arc<Gateway>,
) -> Result<Response<Full<Bytes>>, String> {
    let session = request
        .uri()
        .path()
        .strip_prefix(PATH)
        .filter(|id| !id.is_empty() && id.len() <= 96)
        .ok_or("there is no such channel")?
        .to_owned();
    let response = create_response_with_body(&request, || Full::new(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let Some(place) = gateway.waiting_room() else {
        return Err("too many clients wait to be let in".to_owned());
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => admit(Socket::new(upgraded).await, &session, &gateway).await,
            Err(error) => tracing::debug!(%error, "a client that is gone before it was there"),
        }
        drop(place);
    });
    Ok(response)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OpenDataChannel {
    #[serde(default)]
    token_value: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    client_version: String,
}

/// Waits for the token and hands the socket to its session.
async fn admit(mut socket: Socket, session: &str, gateway: &Gateway) {
    let Ok(Some(text)) = tokio::time::timeout(PATIENCE, socket.first_text()).await else { return };
    let shown = serde_json::from_str::<OpenDataChannel>(&text);
    let admitted = match &shown {
        Ok(open) => gateway.present(session, &open.token_value),
        Err(_) => Err("the first message is to show the token".to_owned()),
    };
    match admitted {
        Ok(session) => {
            if let Ok(open) = shown {
                tracing::debug!(client = open.client_id, version = open.client_version, "admitted");
            }
            session.attach(socket).await;
        }
        // Said in the way that the client shows to its user, and then it is over: any other end
        // makes it try again.
        Err(reason) => socket.refuse(session, &reason).await,
    }
}

/// A websocket.
pub(crate) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    queue: VecDeque<Message>,
    queued: usize,
    /// Written, but perhaps not sent.
    is_dirty: bool,
    /// When the client was heard of last.
    pub(super) heard: Instant,
}

/// What a socket has to say.
#[derive(Debug)]
pub(super) enum Received {
    /// A message.
    Message(Bytes),
    /// There is room again for what is to be sent.
    Room,
    /// The client is gone.
    Lost,
}

impl Socket {
    async fn new(upgraded: Upgraded) -> Self {
        let most = HEADER_LEN + MAX_PAYLOAD;
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(4 << 10)
            .max_write_buffer_size(4 * MAX_QUEUED)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let io = TokioIo::new(upgraded);
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let heard = Instant::now();
        Socket { stream, queue: VecDeque::new(), queued: 0, is_dirty: false, heard }
    }

    /// Whether the client reads what it is sent.
    pub(super) fn has_room(&self) -> bool {
        self.queued < MAX_QUEUED
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(Message::Binary(bytes));
    }

    pub(super) fn ping(&mut self) {
        self.queue.push_back(Message::Ping(Bytes::from_static(b"there?")));
    }

    /// Sends what waits to be sent, and resolves with what has come. Nothing is lost where the wait is
    /// given up.
    pub(super) async fn next(&mut self) -> Received {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Received> {
        let had_room = self.has_room();
        match self.poll_write(context) {
            Poll::Ready(Err(())) => return Poll::Ready(Received::Lost),
            // Whoever waits for room looks again.
            _ if !had_room && self.has_room() => return Poll::Ready(Received::Room),
            _ => {}
        }
        loop {
            match ready!(Pin::new(&mut self.stream).poll_next(context)) {
                Some(Ok(message)) => {
                    self.heard = Instant::now();
                    match message {
                        Message::Binary(bytes) => return Poll::Ready(Received::Message(bytes)),
                        Message::Text(text) => return Poll::Ready(Received::Message(text.into())),
                        // Answered by the library when something is written next.
                        Message::Ping(_) => {
                            self.is_dirty = true;
                            if let Poll::Ready(Err(())) = self.poll_write(context) {
                                return Poll::Ready(Received::Lost);
                            }
                        }
                        Message::Pong(_) | Message::Frame(_) => {}
                        Message::Close(_) => return Poll::Ready(Received::Lost),
                    }
                }
                // A message that is too long among others: as any loss, it is mended by a new socket.
                Some(Err(_)) | None => return Poll::Ready(Received::Lost),
            }
        }
    }

    /// Writes as much as the client takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        while !self.queue.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_ready(context)).map_err(drop)?;
            let Some(message) = self.queue.pop_front() else { break };
            if let Message::Binary(bytes) = &message {
                self.queued -= bytes.len();
            }
            Pin::new(&mut self.stream).start_send(message).map_err(drop)?;
            self.is_dirty = true;
        }
        if self.is_dirty {
            ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(drop)?;
            self.is_dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The first message, if it is a short one. Its kind is not looked at.
    async fn first_text(&mut self) -> Option<String> {
        match self.next().await {
            Received::Message(bytes) if bytes.len() <= MAX_TOKEN_MESSAGE => {
                String::from_utf8(bytes.into()).ok()
            }
            _ => None,
        }
    }

    /// Tells the client why it is not let in, and gives it time to hear that.
    async fn refuse(mut self, session: &str, reason: &str) {
        let id = Id(*uuid::Uuid::new_v4().as_bytes());
        let now = u64::try_from(crate::clock::wall().0 / 1000).unwrap_or_default();
        let body = json!({
            "MessageId": id.to_string(),
            "CreatedDate": now.to_string(),
            "DestinationId": session,
            "SessionId": session,
            "MessageType": "channel_closed",
            "SchemaVersion": 1,
            "Output": reason,
        });
        let head = Head {
            kind: Kind::ChannelClosed,
            sequence: 0,
            flags: 0,
            id,
            payload: Payload::None,
            created_ms: now,
        };
        self.push(message::encode(&head, body.to_string().as_bytes()).into());
        self.linger().await;
    }

    /// Until the client has gone, or has had the time to.
    async fn linger(mut self) {
        let gone = async { while !matches!(self.next().await, Received::Lost) {} };
        let _ = tokio::time::timeout(LINGER, gone).await;
    }
}
