//! A command without a terminal: output and errors are merged in order, or kept apart and followed
//! by the exit code.

use super::terminal::ended;
use super::{AgentMessage, Opening, opening};
use crate::gateway::plan::Outputs;
use bytes::BufMut;
use nix::sys::signal::Signal;
use runner_client::{ClientError, SharedClient};
use runner_folder::state::BuildDir;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram, encode};
use runner_wire::ssm::Payload;
use runner_wire::ssm::message::{HEADER_LEN, buffer};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use tokio::net::unix::pipe::Receiver;

/// The bytes a client sends for Ctrl-C and Ctrl-\.
const INTERRUPT: u8 = 0x03;
const QUIT: u8 = 0x1c;

pub(super) struct CommandSession {
    state: CommandSessionState,
    /// Output, and errors if they are kept apart.
    outputs: Vec<CommandOutput>,
    tells_exit_code: bool,
    /// Encoded signals that the build has not taken yet, such as those typed before the command
    /// ran.
    pending: Vec<u8>,
    exit: Option<CommandExit>,
}

enum CommandSessionState {
    Opening(Opening),
    Open(SharedClient),
    /// It could not be started; these messages remain to be sent.
    NotStarted(VecDeque<(Payload, String)>),
    Over(String),
}

/// How the command ended.
struct CommandExit {
    code: u8,
    is_told: bool,
}

/// One of the command's outputs.
struct CommandOutput {
    pipe: Option<Receiver>,
    payload: Payload,
    /// Inserted at the start of each line.
    prefix: String,
    is_at_line_start: bool,
    /// Bytes left to read from an ended command.
    left: Option<u64>,
}

impl CommandOutput {
    fn new(payload: Payload, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        CommandOutput { pipe: None, payload, prefix, is_at_line_start: true, left: None }
    }

    /// The output available now.
    fn read(&mut self, room: usize) -> Option<Vec<u8>> {
        let most = self.left.map_or(room, |left| room.min(usize::try_from(left).unwrap_or(room)));
        let pipe = self.pipe.as_ref()?;
        let mut message = buffer(most + self.prefix.len());
        if self.is_at_line_start {
            message.extend_from_slice(self.prefix.as_bytes());
        }
        let read =
            if most == 0 { Ok(0) } else { pipe.try_read_buf(&mut (&mut message).limit(most)) };
        match read {
            Ok(0) => {
                self.pipe = None;
                None
            }
            Ok(read) => {
                self.left = self.left.map(|left| left.saturating_sub(read as u64));
                self.is_at_line_start = message.last() == Some(&b'\n');
                debug_assert!(message.len() > HEADER_LEN);
                Some(message)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => {
                self.pipe = None;
                None
            }
        }
    }
}

impl CommandSession {
    pub(super) fn new(
        build: BuildDir,
        open: OpenProgram,
        outputs: &Outputs,
        tells_apart: bool,
    ) -> Self {
        // A client without support for errors and exit codes would drop them.
        let (merged, outputs) = match outputs {
            Outputs::Apart { stdout_prefix, stderr_prefix } if tells_apart => {
                let stdout = CommandOutput::new(Payload::Bytes, stdout_prefix);
                (false, vec![stdout, CommandOutput::new(Payload::StdErr, stderr_prefix)])
            }
            Outputs::Apart { .. } | Outputs::Merged => {
                (true, vec![CommandOutput::new(Payload::Bytes, "")])
            }
        };
        let open = OpenProgram { merged, ..open };
        CommandSession {
            state: CommandSessionState::Opening(opening(build, open)),
            outputs,
            tells_exit_code: !merged,
            pending: Vec::new(),
            exit: None,
        }
    }

    /// Passes on signals; a command has no other input.
    pub(super) fn input(&mut self, bytes: &[u8]) {
        let signal = match bytes.iter().find(|byte| matches!(**byte, INTERRUPT | QUIT)) {
            Some(&INTERRUPT) => Signal::SIGINT,
            Some(_) => Signal::SIGQUIT,
            None => return,
        };
        if let Ok(frame) = encode(&ControlRequest::Signal(signal as i32))
            && self.pending.len() < super::MAX_PENDING
        {
            self.pending.extend(frame);
        }
    }

    /// The messages of a failed start. If errors are kept apart, in the form of AWS's agent; else
    /// as the reason of the end.
    fn not_started(&self, message: String) -> CommandSessionState {
        match self.outputs.last() {
            Some(errors) if self.tells_exit_code => {
                CommandSessionState::NotStarted(VecDeque::from([
                    (Payload::StdErr, format!("{}{message}\n", errors.prefix)),
                    (Payload::ExitCode, "EXIT_CODE: 1".to_owned()),
                ]))
            }
            _ => CommandSessionState::Over(message),
        }
    }

    pub(super) async fn next(&mut self, room: usize) -> AgentMessage {
        loop {
            match &mut self.state {
                CommandSessionState::Opening(opening) => {
                    self.state = match opening.await {
                        Ok(mut link) => match connect(&mut self.outputs, link.take_fds()) {
                            Ok(()) => CommandSessionState::Open(link),
                            Err(error) => CommandSessionState::Over(error.to_string()),
                        },
                        Err(ClientError::Refused { message, .. }) => self.not_started(message),
                        Err(error) => CommandSessionState::Over(error.to_string()),
                    };
                }
                CommandSessionState::NotStarted(words) if room > 0 => match words.pop_front() {
                    Some((payload, text)) => {
                        let mut message = buffer(text.len());
                        message.extend_from_slice(text.as_bytes());
                        return AgentMessage::Output(payload, message);
                    }
                    None => self.state = CommandSessionState::Over(String::new()),
                },
                CommandSessionState::NotStarted(_) => std::future::pending().await,
                CommandSessionState::Open(link) => {
                    let sent = link.send_some(&self.pending).unwrap_or(self.pending.len());
                    self.pending.drain(..sent);
                    if room > 0 {
                        for output in &mut self.outputs {
                            if let Some(message) = output.read(room) {
                                return AgentMessage::Output(output.payload, message);
                            }
                        }
                    }
                    if let Some(exit) = &mut self.exit {
                        let is_read = self.outputs.iter().all(|output| output.pipe.is_none());
                        if is_read && (exit.is_told || !self.tells_exit_code) {
                            self.state = CommandSessionState::Over(String::new());
                            continue;
                        }
                        if is_read && room > 0 {
                            exit.is_told = true;
                            let text = format!("EXIT_CODE: {}", exit.code);
                            let mut message = buffer(text.len());
                            message.extend_from_slice(text.as_bytes());
                            return AgentMessage::Output(Payload::ExitCode, message);
                        }
                    }
                    match wait(link, &self.outputs, !self.pending.is_empty(), room, &self.exit)
                        .await
                    {
                        // The confirmation of a signal is not the last message.
                        Some(Ok(Some(body))) if is_signalled(&body) => {}
                        Some(Ok(frame)) => match last_word(frame) {
                            Ok(Last::NotStarted(message)) => {
                                self.state = self.not_started(message);
                            }
                            Ok(Last::Exited(code)) => {
                                self.exit = Some(CommandExit { code, is_told: false });
                                for output in &mut self.outputs {
                                    output.left = output
                                        .pipe
                                        .as_ref()
                                        .and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok());
                                }
                            }
                            Err(reason) => self.state = CommandSessionState::Over(reason),
                        },
                        Some(Err(reason)) => self.state = CommandSessionState::Over(reason),
                        None => {}
                    }
                }
                CommandSessionState::Over(reason) => {
                    return AgentMessage::Ended(std::mem::take(reason));
                }
            }
        }
    }
}

/// The build's last message.
enum Last {
    Exited(u8),
    NotStarted(String),
}

/// Takes the received pipes.
fn connect(outputs: &mut [CommandOutput], fds: Vec<OwnedFd>) -> io::Result<()> {
    // Of three pipes the first is the input. A command has none, so dropping it closes it.
    let skip = fds.len().saturating_sub(outputs.len());
    if fds.len() < outputs.len() {
        return Err(io::Error::other("the command's pipes did not come along"));
    }
    for (output, fd) in outputs.iter_mut().zip(fds.into_iter().skip(skip)) {
        output.pipe = Some(Receiver::from_owned_fd(fd)?);
    }
    Ok(())
}

/// Waits until something can be read or sent. Returns the build's last message, if it came.
async fn wait(
    link: &mut SharedClient,
    outputs: &[CommandOutput],
    is_pending: bool,
    room: usize,
    exit: &Option<CommandExit>,
) -> Option<Result<Option<Vec<u8>>, String>> {
    if is_pending {
        // Signals are rare and small; a build that does not take them is stuck anyway.
        drop(link.writable().await);
        return None;
    }
    let pipe = |at: usize| outputs.get(at).and_then(|output| output.pipe.as_ref());
    let (first, second) = (pipe(0), pipe(1));
    tokio::select! {
        frame = link.next(), if exit.is_none() => Some(frame.map_err(|error| error.to_string())),
        () = readable(first), if room > 0 && first.is_some() => None,
        () = readable(second), if room > 0 && second.is_some() => None,
        () = std::future::pending(), if exit.is_some() && (room == 0 || first.or(second).is_none()) => None,
    }
}

async fn readable(pipe: Option<&Receiver>) {
    if let Some(pipe) = pipe {
        // The next read finds an error.
        drop(pipe.readable().await);
    }
}

fn is_signalled(body: &[u8]) -> bool {
    matches!(serde_json::from_slice(body), Ok(ControlResponse::Signalled))
}

/// How the command ended, or why that is unknown.
fn last_word(frame: Option<Vec<u8>>) -> Result<Last, String> {
    if let Some(body) = &frame {
        match serde_json::from_slice(body) {
            Ok(ControlResponse::Exited { code }) => return Ok(Last::Exited(code)),
            Ok(ControlResponse::Refused { message, .. }) => return Ok(Last::NotStarted(message)),
            _ => {}
        }
    }
    match ended(frame) {
        Ok(reason) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}
