//! Admission: turns a request into a websocket, and the holder of a token into a session's client.
//!
//! Fed by the server (`crate::http`); passes clients to `session` through `registry`.

use super::registry::Gateway;
use super::socket::{Socket, SocketMessage};
use crate::http::{Answering, Body, HttpResponse, Site, Visit, plain};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::{Request, StatusCode};
use runner_host::peers::Guest;
use runner_wire::ssm::message::{self, Id, MessageHeader, MessageKind, Payload};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

/// The path prefix of sockets, before the session's id.
pub const PATH: &str = "/v1/data-channel/";
/// How long a client may take to send its token, and most bytes of that message.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_TOKEN_MESSAGE: usize = 4096;

/// The channels of a gateway's sessions: takes every request for a websocket.
pub struct Channels(pub Arc<Gateway>);

impl Site for Channels {
    fn takes(&self, request: &Request<Incoming>) -> bool {
        request.headers().contains_key(UPGRADE)
    }

    fn answer<'a>(&'a self, request: Request<Incoming>, visit: &'a Visit) -> Answering<'a> {
        Box::pin(async move {
            upgrade(request, &self.0, &visit.guest)
                .unwrap_or_else(|error| plain(StatusCode::BAD_REQUEST, &error))
        })
    }
}

/// Takes a request for a websocket. Accepts every client, since one refused by HTTP retries for
/// seconds and then hangs silently. The token authenticates it afterwards.
///
/// # Errors
/// If this is no such request.
pub(super) fn upgrade(
    mut request: Request<Incoming>,
    gateway: &Arc<Gateway>,
    guest: &Arc<Guest>,
) -> Result<HttpResponse, String> {
    let session = request
        .uri()
        .path()
        .strip_prefix(PATH)
        .filter(|id| !id.is_empty() && id.len() <= 96)
        .ok_or("there is no such channel")?
        .to_owned();
    let response = create_response_with_body(&request, || Body::from(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let place = gateway.waiting_place(&session).ok_or("there is no free place to wait")?;
    let upgrade = hyper::upgrade::on(&mut request);
    let (gateway, guest) = (Arc::clone(gateway), Arc::clone(guest));
    tokio::spawn(async move {
        let admitted = async {
            match upgrade.await {
                Ok(upgraded) => {
                    admit(Socket::new(upgraded, &guest).await, &session, &gateway).await;
                }
                Err(error) => tracing::debug!(%error, "a client that left before it was connected"),
            }
        };
        // A client that loses its place before it has sent a token asks for another token and comes
        // back.
        tokio::select! {
            () = admitted => {}
            () = place.is_lost() => {}
            () = guest.has_lost_its_place() => {}
        }
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
    let Ok(Some(text)) = tokio::time::timeout(PATIENCE, first_text(&mut socket)).await else {
        return;
    };
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
            socket.keep();
            session.attach(socket).await;
        }
        // Refuses in a way that the client shows to its user. Any other end would make it retry.
        Err(reason) => refuse(socket, session, &reason).await,
    }
}

/// The first message, if it is short. Its kind does not matter.
async fn first_text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await {
            SocketMessage::Message(bytes) if bytes.len() <= MAX_TOKEN_MESSAGE => {
                return String::from_utf8(bytes.into()).ok();
            }
            // A client's first ping may come earlier.
            SocketMessage::Sign | SocketMessage::Room => {}
            SocketMessage::Message(_) | SocketMessage::Lost => return None,
        }
    }
}

/// Tells the client why it is refused, and gives it time to receive that.
async fn refuse(mut socket: Socket, session: &str, reason: &str) {
    let id = Id(*uuid::Uuid::new_v4().as_bytes());
    let now = u64::try_from(runner_host::clock::wall().0 / 1000).unwrap_or_default();
    let body = json!({
        "MessageId": id.to_string(),
        "CreatedDate": now.to_string(),
        "DestinationId": session,
        "SessionId": session,
        "MessageType": "channel_closed",
        "SchemaVersion": 1,
        "Output": reason,
    });
    let head = MessageHeader {
        kind: MessageKind::ChannelClosed,
        sequence: 0,
        flags: 0,
        id,
        payload: Payload::None,
        created_ms: now,
    };
    socket.push(message::encode(&head, body.to_string().as_bytes()).into());
    socket.linger().await;
}
