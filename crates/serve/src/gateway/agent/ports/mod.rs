//! Connections to a port: multiplexed, or one after the other.
//!
//! Each is made inside the container (`engine::dial`) and handed over as a socket, so its bytes
//! reach the listening program without a process in between.

mod connections;

use super::{AgentMessage, Opening};
use crate::gateway::facts::SessionShared;
use crate::gateway::plan::Destination;
use connections::{Connections, MAX_BUFFERED};
use runner_client::{ClientError, SharedClient};
use runner_folder::state::BuildDir;
use runner_wire::control::{ControlRequest, ControlResponse, encode};
use runner_wire::smux::{self, SmuxDecoder};
use runner_wire::ssm::Payload;
use runner_wire::ssm::channel::CONNECT_FAILED;
use runner_wire::ssm::message::{HEADER_LEN, buffer};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The connection's number if there is one at a time.
const ONLY: u32 = 0;

/// How connections share the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortMode {
    /// Many at once.
    Multiplexed,
    /// One after the other.
    Basic,
    /// A single one; the session ends with it.
    Raw,
}

pub(super) struct PortSession {
    mode: PortMode,
    to: Destination,
    /// Records each connection.
    session: Arc<SessionShared>,
    /// The destination in requests to the build.
    remote: String,
    state: PortSessionState,
    connections: Connections,
    decoder: SmuxDecoder,
    /// Requests that the build's socket has not taken yet.
    pending: Vec<u8>,
    /// Messages to send before any output.
    small: VecDeque<(Payload, Vec<u8>)>,
    /// Why the session ends, once known.
    is_over: Option<String>,
}

enum PortSessionState {
    Opening(Opening),
    Open(SharedClient),
    Gone,
}

impl PortSession {
    pub(super) fn new(
        build: BuildDir,
        name: String,
        to: &Destination,
        mode: PortMode,
        denied: &[IpAddr],
        session: Arc<SessionShared>,
    ) -> Self {
        let remote = match (to.host.as_str(), to.port) {
            ("", port) => format!("localhost:{port}"),
            (host, port) if host.contains(':') && !host.starts_with('[') => {
                format!("[{host}]:{port}")
            }
            (host, port) => format!("{host}:{port}"),
        };
        let forward = ControlRequest::Forward {
            ports: vec![remote.clone()],
            name: Some(name),
            denied: Some(denied.to_vec()),
            // AWS's plugin listens, wherever it runs.
            locals: Vec::new(),
        };
        let opening: Opening = Box::pin(async move {
            let mut link = SharedClient::connect(&build).await?;
            match link.ask(&forward).await? {
                ControlResponse::Opened { .. } => Ok(link),
                other => Err(other.into()),
            }
        });
        let mut ports = PortSession {
            mode,
            to: to.clone(),
            session,
            remote,
            state: PortSessionState::Opening(opening),
            connections: Connections::default(),
            decoder: SmuxDecoder::default(),
            pending: Vec::new(),
            small: VecDeque::new(),
            is_over: None,
        };
        // A destination that sends first, such as an SSH server, must be heard.
        if mode != PortMode::Multiplexed {
            ports.open(ONLY);
        }
        ports
    }

    pub(super) fn has_room(&self) -> bool {
        self.connections.buffered() < MAX_BUFFERED
    }

    pub(super) fn input(&mut self, bytes: &[u8]) {
        if self.mode != PortMode::Multiplexed {
            if !self.connections.has(ONLY) {
                self.open(ONLY);
            }
            self.connections.write(ONLY, bytes);
            return;
        }
        self.decoder.feed(bytes);
        loop {
            match self.decoder.next_frame() {
                Ok(Some(smux::Frame::Open(id))) => {
                    if !self.open(id) {
                        self.failed(id);
                    }
                }
                Ok(Some(smux::Frame::Data(id, data))) => self.connections.write(id, &data),
                Ok(Some(smux::Frame::Close(id))) => self.connections.finish(id),
                Ok(Some(smux::Frame::KeepAlive)) => {}
                Ok(None) => return,
                Err(error) => {
                    self.is_over = Some(error.to_string());
                    return;
                }
            }
        }
    }

    /// Notes that the client's local connection has ended.
    pub(super) fn disconnected(&mut self) {
        if self.mode != PortMode::Multiplexed {
            self.connections.remove(ONLY);
        }
    }

    /// Asks for a connection; `false` if there are too many, or one with this number.
    fn open(&mut self, id: u32) -> bool {
        if !self.connections.add(id) {
            return false;
        }
        let request = ControlRequest::Dial { id: u64::from(id), remote: self.remote.clone() };
        if let Ok(frame) = encode(&request) {
            self.pending.extend(frame);
        }
        true
    }

    /// Reports a failed connection to the client and closes it.
    fn failed(&mut self, id: u32) {
        self.connections.remove(id);
        self.small.push_back((Payload::Flag, CONNECT_FAILED.to_be_bytes().to_vec()));
        self.small.push_back((Payload::Bytes, smux::close(id).to_vec()));
    }

    pub(super) async fn next(&mut self, room: usize) -> AgentMessage {
        poll_fn(|context| self.poll(context, room)).await
    }

    fn poll(&mut self, context: &mut Context<'_>, room: usize) -> Poll<AgentMessage> {
        if let Some(reason) = self.is_over.take() {
            return Poll::Ready(AgentMessage::Ended(reason));
        }
        if let PortSessionState::Opening(opening) = &mut self.state {
            match opening.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(link)) => self.state = PortSessionState::Open(link),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(AgentMessage::Ended(error.to_string()));
                }
            }
        }
        if let Err(error) = self.talk(context) {
            return Poll::Ready(AgentMessage::Ended(error));
        }
        if let Some(reason) = self.is_over.take() {
            return Poll::Ready(AgentMessage::Ended(reason));
        }
        self.connections.poll_write(context);
        if room < smux::HEAD_LEN * 2 {
            return Poll::Pending;
        }
        loop {
            if let Some((payload, bytes)) = self.small.pop_front() {
                let mut message = buffer(bytes.len());
                message.extend_from_slice(&bytes);
                return Poll::Ready(AgentMessage::Output(payload, message));
            }
            let headroom = match self.mode {
                PortMode::Multiplexed => HEADER_LEN + smux::HEAD_LEN,
                PortMode::Basic | PortMode::Raw => HEADER_LEN,
            };
            let most = room - (headroom - HEADER_LEN);
            match self.connections.poll_read(context, headroom, most) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready((id, Some(mut message))) => {
                    if self.mode == PortMode::Multiplexed {
                        let head = smux::data_head(id, message.len() - headroom);
                        message[HEADER_LEN..headroom].copy_from_slice(&head);
                    }
                    return Poll::Ready(AgentMessage::Output(Payload::Bytes, message));
                }
                Poll::Ready((id, None)) => match self.mode {
                    PortMode::Multiplexed => {
                        self.small.push_back((Payload::Bytes, smux::close(id).to_vec()));
                    }
                    // The next input opens the next connection.
                    PortMode::Basic => self.connections.remove(id),
                    PortMode::Raw => return Poll::Ready(AgentMessage::Ended(String::new())),
                },
            }
        }
    }

    /// Sends requests to the build and reads its responses.
    fn talk(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        let PortSessionState::Open(link) = &mut self.state else {
            return Err("the build is gone".to_owned());
        };
        let text = |error: ClientError| error.to_string();
        while !self.pending.is_empty() {
            let sent = link.send_some(&self.pending).map_err(|error| error.to_string())?;
            self.pending.drain(..sent);
            if sent == 0 && link.poll_writable(context).is_pending() {
                break;
            }
        }
        let mut ended = None;
        loop {
            match link.next_now().map_err(text)? {
                None if link.poll_readable(context).is_ready() => {}
                None => break,
                Some(Some(body)) => {
                    let fds = link.take_fds();
                    match serde_json::from_slice(&body).map_err(|error| error.to_string())? {
                        ControlResponse::Dialled { id } => {
                            self.connections.keep_sockets(fds);
                            let Ok(id) = u32::try_from(id) else { continue };
                            if let Err(error) = self.connections.connect(id) {
                                ended = Some((id, error.to_string()));
                                break;
                            }
                            let host =
                                if self.to.host.is_empty() { "localhost" } else { &self.to.host };
                            self.session.port_connected(host, self.to.port);
                        }
                        ControlResponse::NotDialled { id, message } => {
                            self.connections.keep_sockets(fds);
                            ended = u32::try_from(id).ok().map(|id| (id, message));
                            break;
                        }
                        ControlResponse::Closed { message } => return Err(message),
                        _ => self.connections.keep_sockets(fds),
                    }
                }
                Some(None) => {
                    self.state = PortSessionState::Gone;
                    return Err("the connection to the build is lost".to_owned());
                }
            }
        }
        if let Some((id, message)) = ended {
            match self.mode {
                PortMode::Multiplexed => {
                    self.failed(id);
                    // There may be more to read.
                    context.waker().wake_by_ref();
                }
                PortMode::Basic | PortMode::Raw => {
                    self.is_over = Some(format!("Unable to connect to specified port: {message}"));
                }
            }
        }
        Ok(())
    }
}
