//! A program on a terminal: the shell, or a named command.

use super::{AgentMessage, MAX_PENDING, Opening, opening};
use runner_client::{ClientError, SharedClient};
use runner_core::plain;
use runner_folder::state::BuildDir;
use runner_host::duplex::Duplex;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram, TerminalSize, encode};
use runner_wire::ssm::Payload;
use runner_wire::ssm::message::{HEADER_LEN, buffer};
use std::io;
use std::time::{Duration, Instant};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Bytes; more than a terminal ever holds.
const REST: usize = 1 << 20;

/// How long a client may take to send its terminal's size before this size is used.
const PATIENCE: Duration = Duration::from_secs(1);
const SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

pub(super) struct TerminalSession {
    build: BuildDir,
    open: OpenProgram,
    state: TerminalSessionState,
    size: Option<TerminalSize>,
    size_until: Instant,
    /// Input that the program has not taken yet.
    typed: Vec<u8>,
    /// Frames that the build's socket has not taken yet.
    asked: Vec<u8>,
}

enum TerminalSessionState {
    /// Waits for the terminal's size.
    Waiting,
    Opening(Opening),
    Open(Box<RunningProgram>),
    Over(String),
}

/// A running program.
struct RunningProgram {
    link: SharedClient,
    /// `None` once nothing more can be read.
    terminal: Option<Duplex>,
    buffer: Vec<u8>,
    /// The build's last message, and how many bytes to read before reporting it.
    ended: Option<(String, usize)>,
}

impl TerminalSession {
    /// A session that types `profile` first.
    pub(super) fn new(build: BuildDir, open: OpenProgram, profile: &str) -> Self {
        let mut typed = profile.as_bytes().to_vec();
        if !typed.is_empty() {
            typed.push(b'\n');
        }
        TerminalSession {
            build,
            open,
            state: TerminalSessionState::Waiting,
            size: None,
            size_until: Instant::now() + PATIENCE,
            typed,
            asked: Vec::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.typed.len() < MAX_PENDING
    }

    pub(super) fn input(&mut self, bytes: &[u8]) {
        self.typed.extend_from_slice(bytes);
    }

    pub(super) fn resize(&mut self, size: TerminalSize) {
        let is_first = self.size.replace(size).is_none();
        if !(is_first && matches!(self.state, TerminalSessionState::Waiting))
            && let Ok(frame) = encode(&ControlRequest::Resize(size))
        {
            self.asked.extend(frame);
        }
    }

    pub(super) async fn next(&mut self, room: usize) -> AgentMessage {
        loop {
            match &mut self.state {
                TerminalSessionState::Waiting => {
                    if self.size.is_none() {
                        tokio::time::sleep_until(self.size_until.into()).await;
                    }
                    let terminal = Some(self.size.unwrap_or(SIZE));
                    let open = OpenProgram { terminal, ..self.open.clone() };
                    self.state = TerminalSessionState::Opening(opening(self.build.clone(), open));
                }
                TerminalSessionState::Opening(opening) => {
                    self.state = match opening.await.and_then(RunningProgram::new) {
                        Ok(program) => TerminalSessionState::Open(Box::new(program)),
                        Err(error) => TerminalSessionState::Over(error.to_string()),
                    }
                }
                TerminalSessionState::Open(program) => {
                    match program.relay(&mut self.typed, &mut self.asked, room).await {
                        Ok(Relayed::Output(message)) => {
                            return AgentMessage::Output(Payload::Bytes, message);
                        }
                        Ok(Relayed::Ended(reason)) => {
                            self.state = TerminalSessionState::Over(reason);
                        }
                        Err(error) => self.state = TerminalSessionState::Over(error.to_string()),
                    }
                }
                TerminalSessionState::Over(reason) => {
                    return AgentMessage::Ended(std::mem::take(reason));
                }
            }
        }
    }
}

enum Relayed {
    Output(Vec<u8>),
    Ended(String),
}

impl RunningProgram {
    /// Takes the received terminal.
    fn new(mut link: SharedClient) -> Result<Self, ClientError> {
        let terminal = link.take_fds().pop();
        let terminal =
            terminal.ok_or_else(|| io::Error::other("the program's terminal did not come along"));
        let terminal = terminal.and_then(Duplex::new).map_err(ClientError::Lost)?;
        Ok(RunningProgram { link, terminal: Some(terminal), buffer: vec![0; CHUNK], ended: None })
    }

    /// Moves input and output until there is output or an end.
    async fn relay(
        &mut self,
        typed: &mut Vec<u8>,
        asked: &mut Vec<u8>,
        room: usize,
    ) -> Result<Relayed, ClientError> {
        loop {
            // Nobody takes input of an ended program; the build reports how it ended.
            let taken = match &self.terminal {
                Some(terminal) if !typed.is_empty() => {
                    terminal.write_now(typed).unwrap_or(Some(typed.len())).unwrap_or(0)
                }
                Some(_) => 0,
                None => typed.len(),
            };
            typed.drain(..taken);
            let sent = self.link.send_some(asked).unwrap_or(asked.len());
            asked.drain(..sent);
            if self.ended.is_none()
                && let Some(frame) = self.link.next_now()?
            {
                if let Some(message) = frame.as_deref().and_then(told_of) {
                    let line = format!("\r\nrunner: {}\r\n", plain::line(&message));
                    let mut said = buffer(line.len());
                    said.extend_from_slice(line.as_bytes());
                    return Ok(Relayed::Output(said));
                }
                self.ended = Some((ended(frame)?, REST));
            }
            if room > 0
                && let Some(message) = self.gather(room)
            {
                return Ok(Relayed::Output(message));
            }
            // Output precedes the end.
            if room > 0
                && let Some((reason, _)) = self.ended.take()
            {
                return Ok(Relayed::Ended(reason));
            }
            let (link, terminal) = (&self.link, self.terminal.as_ref());
            tokio::select! {
                () = writable(terminal), if !typed.is_empty() => {}
                ready = link.writable(), if !asked.is_empty() => drop(ready),
                () = readable(terminal), if room > 0 => {}
                () = link.readable(), if self.ended.is_none() => {}
                () = std::future::pending(), if self.ended.is_some() => {}
            }
        }
    }

    /// The output available now, as one message of at most `room` bytes.
    fn gather(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        while let Some(terminal) = &self.terminal {
            let gathered = message.len().saturating_sub(HEADER_LEN);
            let left = self.ended.as_ref().map_or(CHUNK, |(_, left)| *left);
            let most = CHUNK.min(left).min(room - gathered);
            if most == 0 {
                break;
            }
            match terminal.read_now(&mut self.buffer[..most]) {
                Ok(None) => break,
                // EIO: the last process that had the terminal open is gone.
                Ok(Some(0)) | Err(_) => self.terminal = None,
                Ok(Some(read)) => {
                    if message.is_empty() {
                        message = buffer(read);
                    }
                    message.extend_from_slice(&self.buffer[..read]);
                    if let Some((_, left)) = &mut self.ended {
                        *left = left.saturating_sub(read);
                    }
                }
            }
        }
        (!message.is_empty()).then_some(message)
    }
}

async fn readable(terminal: Option<&Duplex>) {
    match terminal {
        // The next read finds an error.
        Some(terminal) => drop(terminal.readable().await),
        None => std::future::pending().await,
    }
}

async fn writable(terminal: Option<&Duplex>) {
    match terminal {
        Some(terminal) => drop(terminal.writable().await),
        None => std::future::pending().await,
    }
}

/// A message from the build's owner for the user.
fn told_of(frame: &[u8]) -> Option<String> {
    match serde_json::from_slice(frame) {
        Ok(ControlResponse::Told { message }) => Some(message),
        _ => None,
    }
}

/// Why the program ended; empty if by itself.
pub(super) fn ended(frame: Option<Vec<u8>>) -> Result<String, ClientError> {
    let Some(body) = frame else { return Err(ClientError::Closed) };
    match serde_json::from_slice(&body).map_err(|error| ClientError::Lost(error.into()))? {
        ControlResponse::Exited { .. } => Ok(String::new()),
        ControlResponse::Closed { message } => Ok(message),
        other => Err(other.into()),
    }
}
