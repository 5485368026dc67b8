//! A client's websocket, read and written at once.
//!
//! Made by `admission`, owned by `session`.

use bytes::Bytes;
use futures_util::{Sink, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use runner_host::peers::{Guest, KeptPeer};
use runner_wire::ssm::message::{HEADER_LEN, MAX_PAYLOAD};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Bytes that wait for the client to read them. Beyond that nothing more is made for it.
const MAX_QUEUED: usize = 256 << 10;
/// How long a client has to go away by itself after its last message.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A websocket.
pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    queue: VecDeque<Message>,
    queued: usize,
    /// Written, but perhaps not sent.
    is_dirty: bool,
    /// Its connection's place.
    guest: Arc<Guest>,
    kept: Option<KeptPeer>,
}

/// What a socket has to say.
#[derive(Debug)]
pub(super) enum SocketMessage {
    /// A message.
    Message(Bytes),
    /// The client is there, and says no more than that.
    Sign,
    /// There is room again for what is to be sent.
    Room,
    /// The client is gone.
    Lost,
}

impl Socket {
    pub(super) async fn new(upgraded: Upgraded, guest: &Arc<Guest>) -> Self {
        let most = HEADER_LEN + MAX_PAYLOAD;
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(4 << 10)
            .max_write_buffer_size(4 * MAX_QUEUED)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let io = TokioIo::new(upgraded);
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        let guest = Arc::clone(guest);
        Socket { stream, queue: VecDeque::new(), queued: 0, is_dirty: false, guest, kept: None }
    }

    /// The client has shown who it is: its connection is not closed to make room for others.
    pub(super) fn keep(&mut self) {
        self.kept = Some(self.guest.keep());
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
    pub(super) async fn next(&mut self) -> SocketMessage {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<SocketMessage> {
        let had_room = self.has_room();
        match self.poll_write(context) {
            Poll::Ready(Err(())) => return Poll::Ready(SocketMessage::Lost),
            // Whoever waits for room looks again.
            _ if !had_room && self.has_room() => return Poll::Ready(SocketMessage::Room),
            _ => {}
        }
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(context)) {
            Some(Ok(Message::Binary(bytes))) => SocketMessage::Message(bytes),
            Some(Ok(Message::Text(text))) => SocketMessage::Message(text.into()),
            Some(Ok(Message::Ping(_))) => {
                // Answered by the library when something is written next.
                self.is_dirty = true;
                SocketMessage::Sign
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => SocketMessage::Sign,
            // A message that is too long among others: as any loss, it is mended by a new socket.
            Some(Ok(Message::Close(_)) | Err(_)) | None => SocketMessage::Lost,
        })
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

    /// Until the client has gone, or has had the time to.
    pub(super) async fn linger(mut self) {
        let gone = async { while !matches!(self.next().await, SocketMessage::Lost) {} };
        let _ = tokio::time::timeout(LINGER, gone).await;
    }
}
