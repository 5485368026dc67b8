//! A browser's websocket to a terminal.

use super::TerminalAccess;
use super::seats::Seat;
use super::task::{TerminalMessage, TerminalOrder};
use crate::http::{Body, HttpResponse};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use runner_host::peers::Guest;
use runner_wire::control::TerminalSize;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The protocol; a browser offers its key beside it.
const PROTOCOL: &str = "runner";
/// Messages queued for a browser.
const WAITING: usize = 64;
/// Most bytes of a browser's message.
const MOST: usize = 1 << 20;
/// Pause between pings to a browser.
const PING: Duration = Duration::from_secs(20);
/// A browser that is silent for this long is gone.
const LOST: Duration = Duration::from_secs(60);

/// Whether a request is for a websocket.
pub(in super::super) fn is_websocket(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// Accepts a request for a websocket to a terminal.
///
/// # Errors
/// If this is no such request.
pub(in super::super) fn accept(
    request: &mut Request<Incoming>,
    way: TerminalAccess,
    seat: Seat,
    guest: &Arc<Guest>,
    place: OwnedSemaphorePermit,
) -> Result<HttpResponse, String> {
    let mut answer = create_response_with_body(request, || Body::from(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let protocol = HeaderValue::from_static(PROTOCOL);
    answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    let (upgrade, guest) = (hyper::upgrade::on(request), Arc::clone(guest));
    tokio::spawn(async move {
        let _place = place;
        let _kept = guest.keep();
        if let Err(error) = serve(upgrade, way, seat).await {
            tracing::debug!(error, "a browser at a terminal");
        }
    });
    Ok(answer)
}

/// A message from a browser, apart from typed input.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum BrowserMessage {
    Size { rows: u16, cols: u16 },
    Ask,
    Grant(u64),
    Refuse(u64),
    End,
}

async fn serve(upgrade: OnUpgrade, way: TerminalAccess, seat: Seat) -> Result<(), String> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let upgraded = upgrade.await.map_err(|error| error.to_string())?;
    let config = WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(4 << 10)
        .max_message_size(Some(MOST))
        .max_frame_size(Some(MOST));
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let (to, mut outs) = mpsc::channel(WAITING);
    let gone = |_| "the terminal has ended".to_owned();
    way.0.send(TerminalOrder::Join { number, seat, to }).await.map_err(gone)?;
    let mut ping = tokio::time::interval(PING);
    let mut heard = tokio::time::Instant::now();
    let lost = |error: tokio_tungstenite::tungstenite::Error| error.to_string();
    let served: Result<(), String> = async {
        loop {
            tokio::select! {
                out = outs.recv() => {
                    let message = match out {
                        Some(TerminalMessage::Shown(bytes)) => Message::Binary(bytes),
                        Some(TerminalMessage::Said(text)) => Message::text(text),
                        None => break,
                    };
                    send(&mut socket, message).await?;
                }
                message = socket.next() => {
                    heard = tokio::time::Instant::now();
                    let order = match message {
                        Some(Ok(Message::Binary(bytes))) => Some(TerminalOrder::Type(number, bytes)),
                        Some(Ok(Message::Text(text))) => order(number, &text)?,
                        Some(Ok(Message::Close(_))) | None => break,
                        Some(Ok(_)) => None,
                        Some(Err(error)) => return Err(lost(error)),
                    };
                    if let Some(order) = order {
                        way.0.send(order).await.map_err(gone)?;
                    }
                }
                _ = ping.tick() => {
                    if heard.elapsed() > LOST {
                        return Err("it is silent".to_owned());
                    }
                    send(&mut socket, Message::Ping(Bytes::new())).await?;
                }
            }
        }
        Ok(())
    }
    .await;
    // An ended terminal ignores it.
    let _ = way.0.send(TerminalOrder::Leave(number)).await;
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
    served
}

/// Sends a message within a time limit: a browser on a sleeping machine must not hold a place.
async fn send(
    socket: &mut WebSocketStream<TokioIo<Upgraded>>,
    message: Message,
) -> Result<(), String> {
    let sent = tokio::time::timeout(LOST, socket.send(message)).await;
    sent.map_err(|_| "it does not read".to_owned())?.map_err(|error| error.to_string())
}

fn order(number: u64, text: &str) -> Result<Option<TerminalOrder>, String> {
    Ok(Some(match serde_json::from_str(text).map_err(|error| error.to_string())? {
        BrowserMessage::Size { rows, cols }
            if (1..=1000).contains(&rows) && (1..=1000).contains(&cols) =>
        {
            TerminalOrder::Size(number, TerminalSize { rows, cols })
        }
        BrowserMessage::Size { .. } => return Ok(None),
        BrowserMessage::Ask => TerminalOrder::Ask(number),
        BrowserMessage::Grant(to) => TerminalOrder::Grant(number, to),
        BrowserMessage::Refuse(to) => TerminalOrder::Refuse(number, to),
        BrowserMessage::End => TerminalOrder::End(number),
    }))
}
