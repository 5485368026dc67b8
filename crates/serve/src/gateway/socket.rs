//! A client's websocket, read and written at the same time.
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

/// Bytes queued for the client. Beyond that no more output is produced for it.
const MAX_QUEUED: usize = 256 << 10;
/// How long a client has to leave by itself after its last message.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A websocket.
pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    queue: VecDeque<Message>,
    queued: usize,
    /// Whether written data may not have been sent yet.
    is_dirty: bool,
    /// The place of its connection.
    guest: Arc<Guest>,
    kept: Option<KeptPeer>,
}

/// An event of a socket.
#[derive(Debug)]
pub(super) enum SocketMessage {
    Message(Bytes),
    /// A sign that the client is alive.
    Sign,
    /// There is room in the queue again.
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

    /// Keeps the connection from being closed to make room for others, since the client has
    /// authenticated.
    pub(super) fn keep(&mut self) {
        self.kept = Some(self.guest.keep());
    }

    /// Whether the client reads fast enough for more output.
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

    /// Sends queued data and resolves with the next event. Cancel safe.
    pub(super) async fn next(&mut self) -> SocketMessage {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<SocketMessage> {
        let had_room = self.has_room();
        match self.poll_write(context) {
            Poll::Ready(Err(())) => return Poll::Ready(SocketMessage::Lost),
            // Tells a caller that waits for room.
            _ if !had_room && self.has_room() => return Poll::Ready(SocketMessage::Room),
            _ => {}
        }
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(context)) {
            Some(Ok(Message::Binary(bytes))) => SocketMessage::Message(bytes),
            Some(Ok(Message::Text(text))) => SocketMessage::Message(text.into()),
            Some(Ok(Message::Ping(_))) => {
                // The library responds at the next write.
                self.is_dirty = true;
                SocketMessage::Sign
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => SocketMessage::Sign,
            // A message that is too long, for example: like any loss, a new socket repairs it.
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

    /// Waits until the client has left, for a limited time.
    pub(super) async fn linger(mut self) {
        let gone = async { while !matches!(self.next().await, SocketMessage::Lost) {} };
        let _ = tokio::time::timeout(LINGER, gone).await;
    }
}
