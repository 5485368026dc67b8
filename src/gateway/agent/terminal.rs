//! A program on a terminal: the shell, or a command that was named.

use super::{MAX_PENDING, Opening, Said, opening};
use crate::client::{ClientError, Link};
use crate::state::BuildDir;
use runner_wire::control::{Answer, Open, Request, Size};
use runner_wire::frame::{Frame, Kind, encode};
use runner_wire::ssm::Payload;
use runner_wire::ssm::message::{HEADER_LEN, buffer};
use std::time::{Duration, Instant};

/// How long a client may take to tell its terminal's size; then this one is taken.
const PATIENCE: Duration = Duration::from_secs(1);
const SIZE: Size = Size { rows: 24, cols: 80 };

pub(super) struct Terminal {
    build: BuildDir,
    name: String,
    argv: Vec<String>,
    state: State,
    size: Option<Size>,
    size_until: Instant,
    /// Frames for the build that its socket has not taken yet.
    pending: Vec<u8>,
    /// Output that did not fit into the last message.
    rest: Vec<u8>,
}

enum State {
    /// For the terminal's size.
    Waiting,
    Opening(Opening),
    Open(Link),
    Over(String),
}

impl Terminal {
    pub(super) fn new(build: BuildDir, name: String, argv: Vec<String>) -> Self {
        Terminal {
            build,
            name,
            argv,
            state: State::Waiting,
            size: None,
            size_until: Instant::now() + PATIENCE,
            pending: Vec::new(),
            rest: Vec::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < MAX_PENDING
    }

    pub(super) fn input(&mut self, bytes: &[u8]) {
        // As long as the client sends them, a fraction of what a frame holds.
        if let Ok(frame) = encode(Kind::Data, bytes) {
            self.pending.extend(frame);
        }
    }

    pub(super) fn resize(&mut self, size: Size) {
        let is_first = self.size.replace(size).is_none();
        if !(is_first && matches!(self.state, State::Waiting))
            && let Ok(body) = serde_json::to_vec(&Request::Resize(size))
            && let Ok(frame) = encode(Kind::Message, &body)
        {
            self.pending.extend(frame);
        }
    }

    pub(super) async fn next(&mut self, room: usize) -> Said {
        loop {
            match &mut self.state {
                State::Waiting => {
                    if self.size.is_none() {
                        tokio::time::sleep_until(self.size_until.into()).await;
                    }
                    let open = Open {
                        argv: self.argv.clone(),
                        terminal: Some(self.size.unwrap_or(SIZE)),
                        name: Some(self.name.clone()),
                        keeps_time: true,
                        ..Open::default()
                    };
                    self.state = State::Opening(opening(self.build.clone(), open));
                }
                State::Opening(opening) => {
                    self.state = match opening.await {
                        Ok(link) => State::Open(link),
                        Err(error) => State::Over(error.to_string()),
                    }
                }
                State::Open(link) => {
                    match relay(link, &mut self.pending, &mut self.rest, room).await {
                        Ok(Relayed::Output(message)) => {
                            return Said::Output(Payload::Bytes, message);
                        }
                        Ok(Relayed::Ended(reason)) => self.state = State::Over(reason),
                        Err(error) => self.state = State::Over(error.to_string()),
                    }
                }
                State::Over(reason) => return Said::Ended(std::mem::take(reason)),
            }
        }
    }
}

enum Relayed {
    Output(Vec<u8>),
    Ended(String),
}

/// Both ways at once, until there is output or an end.
async fn relay(
    link: &mut Link,
    pending: &mut Vec<u8>,
    rest: &mut Vec<u8>,
    room: usize,
) -> Result<Relayed, ClientError> {
    loop {
        // Of a program that has ended nobody takes input; how it ended is told the other way.
        let sent = link.send_some(pending).unwrap_or(pending.len());
        pending.drain(..sent);
        if room > 0
            && let Some(relayed) = gather(link, rest, room)?
        {
            return Ok(relayed);
        }
        tokio::select! {
            ready = link.writable(), if !pending.is_empty() => drop(ready),
            () = link.readable(), if room > 0 => {}
            () = std::future::pending(), if pending.is_empty() && room == 0 => {}
        }
    }
}

/// What is there now, in one message of at most `room` bytes.
fn gather(
    link: &mut Link,
    rest: &mut Vec<u8>,
    room: usize,
) -> Result<Option<Relayed>, ClientError> {
    let mut message = Vec::new();
    let mut add = |bytes: &[u8], rest: &mut Vec<u8>| {
        if message.is_empty() {
            message = buffer(bytes.len());
        }
        let fits = bytes.len().min(room.saturating_sub(message.len() - HEADER_LEN));
        message.extend_from_slice(&bytes[..fits]);
        rest.extend_from_slice(&bytes[fits..]);
        message.len() - HEADER_LEN >= room
    };
    let held = std::mem::take(rest);
    let mut is_full = !held.is_empty() && add(&held, rest);
    while !is_full {
        let frame = match link.next_now()? {
            None => break,
            Some(frame) => frame,
        };
        match frame {
            Some(Frame { kind: Kind::Data, body }) => is_full = add(&body, rest),
            last => {
                // Output goes before the end, which is asked for again.
                if message.is_empty() {
                    return ended(last).map(|reason| Some(Relayed::Ended(reason)));
                }
                link.put_back(last);
                break;
            }
        }
    }
    Ok((!message.is_empty()).then_some(Relayed::Output(message)))
}

/// Why it ended; nothing where the program did by itself.
pub(super) fn ended(frame: Option<Frame>) -> Result<String, ClientError> {
    let Some(frame) = frame else { return Err(ClientError::Closed) };
    match serde_json::from_slice(&frame.body).map_err(|error| ClientError::Lost(error.into()))? {
        Answer::Exited { .. } => Ok(String::new()),
        Answer::Closed { message, .. } => Ok(message),
        other => Err(other.into()),
    }
}
