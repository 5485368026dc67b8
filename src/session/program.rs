//! A program that runs for a client: the way to it, the way from it, and when it is ended from this side.
//!
//! Started by `hub`; `control::host` relays between it and the client.

use super::guests::{Closing, Presence};
use super::refusal::refusal;
use super::tee::Tee;
use super::transcript::Transcript;
use crate::duplex::Duplex;
use crate::engine::{Ends, ExecError, Process, Reach, Signals};
use nix::sys::signal::Signal;
use runner_wire::control::Size;
use runner_wire::init::Exit;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long a session's programs have between SIGHUP and SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long a session on a terminal may go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Without input or output; none where the client has a clock of its own.
    pub(super) idle: Option<Duration>,
    /// At all.
    pub(super) longest: Option<Duration>,
}

/// A program that runs for a client.
pub(crate) struct Session {
    pub(crate) number: u64,
    /// Pipes for a client that asked for no terminal; to be handed over.
    pub(crate) pipes: Option<Vec<OwnedFd>>,
    pub(crate) input: SessionInput,
    pub(crate) output: SessionOutput,
}

/// The way to a session's program.
pub(crate) struct SessionInput {
    terminal: Option<Arc<Duplex>>,
    signals: Signals,
    activity: watch::Sender<()>,
}

/// The way from a session's program.
pub(crate) struct SessionOutput {
    presence: Presence,
    program: String,
    terminal: Option<Arc<Duplex>>,
    exit: oneshot::Receiver<Result<Exit, ExecError>>,
    ended: Option<Result<Exit, ExecError>>,
    signals: Signals,
    activity: watch::Receiver<()>,
    idle: Option<Duration>,
    /// When it is closed, however busy it is.
    until: Option<tokio::time::Instant>,
    transcript: Option<Transcript>,
    /// What a program without a terminal writes passes through here where it is recorded.
    tee: Option<Tee>,
    /// Set when the session was ended from this side: why, and what the client is told.
    closed: Option<Closing>,
}

/// What a session has to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Bytes of its terminal are in the buffer.
    Bytes(usize),
    /// The program has ended by itself.
    Exited(u8),
    /// The program could not be executed.
    Failed { code: u8, message: String },
    /// The session was ended from this side.
    Closed { message: String },
}

impl Session {
    pub(super) fn new(
        presence: Presence,
        program: String,
        process: Process,
        limits: Limits,
    ) -> io::Result<Self> {
        let (terminal, pipes) = match process.ends {
            Ends::Terminal(master) => (Some(Arc::new(Duplex::new(master)?)), None),
            Ends::Separate(pipes) => (None, Some(Vec::from(pipes))),
            Ends::Merged(pipe) => (None, Some(vec![pipe])),
        };
        let activity = watch::Sender::new(());
        let number = presence.number;
        let output = SessionOutput {
            presence,
            program,
            terminal: terminal.clone(),
            exit: process.exit,
            ended: None,
            signals: process.signals.clone(),
            activity: activity.subscribe(),
            idle: limits.idle,
            until: limits.longest.map(|longest| tokio::time::Instant::now() + longest),
            transcript: None,
            tee: None,
            closed: None,
        };
        let input = SessionInput { terminal, signals: process.signals, activity };
        Ok(Session { number, pipes, input, output })
    }

    /// From now on what the program writes is kept as well as shown. Without a terminal that means that
    /// the client gets the ends of other pipes.
    pub(super) fn record(&mut self, transcript: Transcript) -> io::Result<()> {
        match &mut self.pipes {
            None => self.output.transcript = Some(transcript),
            Some(pipes) => {
                // Of three the first is the program's input.
                let outputs = pipes.split_off(pipes.len() / 2);
                let (tee, shown) = Tee::new(outputs, transcript)?;
                pipes.extend(shown);
                self.output.tee = Some(tee);
            }
        }
        Ok(())
    }
}

impl SessionInput {
    /// Types bytes; resolves when the terminal has taken them all.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        self.activity.send_replace(());
        terminal.write_all(bytes).await
    }

    pub(crate) async fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            self.activity.send_replace(());
            self.signals.resize(terminal.as_fd(), size.rows, size.cols).await;
        }
    }

    pub(crate) async fn signal(&self, signal: i32) {
        self.signals.send(signal, Reach::Group).await;
    }

    /// Ends the session because its client is gone.
    pub(crate) async fn abandon(self) {
        self.signals.send(Signal::SIGHUP as i32, Reach::Session).await;
        tokio::time::sleep(GRACE).await;
        self.signals.send(Signal::SIGKILL as i32, Reach::Session).await;
    }
}

impl SessionOutput {
    /// The next thing the session has to say. After anything but bytes it is over.
    pub(crate) async fn next(&mut self, buffer: &mut [u8]) -> Output {
        loop {
            // Bytes first: what a program wrote before it ended comes before its end.
            if let Some(read) = self.read_now(buffer) {
                if let Some(transcript) = &mut self.transcript
                    && let Err(error) = transcript.write(0, &buffer[..read])
                {
                    self.transcript = None;
                    self.end_unrecorded(&error).await;
                }
                return Output::Bytes(read);
            }
            if let Some(output) = self.ending() {
                return output;
            }
            let terminal = self.terminal.clone();
            tokio::select! {
                exit = &mut self.exit, if self.ended.is_none() => {
                    self.ended = Some(exit.unwrap_or(Err(ExecError::ContainerGone)));
                    if let Some(tee) = &mut self.tee {
                        tee.ends();
                    }
                }
                kept = flow(self.tee.as_mut()) => {
                    if let Err(error) = kept {
                        self.end_unrecorded(&error).await;
                    }
                }
                ready = readable(terminal.as_deref()), if self.terminal.is_some() => {
                    if !ready {
                        self.terminal = None;
                    }
                }
                closing = self.presence.sent_off(), if self.closed.is_none() => {
                    self.end(closing).await;
                }
                () = until(self.until), if self.closed.is_none() && terminal.is_some() => {
                    let message = "closed: it was open for as long as a session may be".to_owned();
                    self.end(Closing { message }).await;
                }
                minutes = idle(&mut self.activity, self.idle),
                        if self.closed.is_none() && terminal.is_some() => {
                    let message = format!("closed: nothing happened for {minutes} minutes");
                    self.end(Closing { message }).await;
                }
            }
        }
    }

    /// A session that is to be recorded is not continued in the dark.
    async fn end_unrecorded(&mut self, error: &io::Error) {
        let message = format!("closed: its transcript cannot be written: {error}");
        self.end(Closing { message }).await;
    }

    /// SIGHUP now, SIGKILL later, and the rest of the output meanwhile.
    async fn end(&mut self, closing: Closing) {
        self.closed = Some(closing);
        self.signals.send(Signal::SIGHUP as i32, Reach::Session).await;
        let signals = self.signals.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            signals.send(Signal::SIGKILL as i32, Reach::Session).await;
        });
    }

    /// What to say last, once the program has ended and nothing is left to be read.
    fn ending(&mut self) -> Option<Output> {
        let ended = self.ended.as_ref()?;
        if self.tee.as_ref().is_some_and(|tee| !tee.is_done()) {
            return None;
        }
        let output = match (&self.closed, ended) {
            (Some(_), _) | (None, Err(ExecError::ContainerGone)) => {
                // What is known by now says more than what was known when the end began.
                let newest = self.presence.newest_closing().or_else(|| self.closed.clone());
                let message = newest.map_or_else(
                    || "the build's container has ended".to_owned(),
                    |closing| closing.message,
                );
                Output::Closed { message }
            }
            (None, Ok(exit)) => Output::Exited(exit.shell_code()),
            (None, Err(error)) => {
                let refusal = refusal(error, &self.program);
                Output::Failed { code: refusal.code, message: refusal.message }
            }
        };
        self.presence.ended(match &output {
            Output::Closed { message } | Output::Failed { message, .. } => message.clone(),
            Output::Exited(code) => format!("exit code {code}"),
            Output::Bytes(_) => String::new(),
        });
        Some(output)
    }

    /// Reads without waiting; `None` when nothing is there.
    fn read_now(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let terminal = self.terminal.as_ref()?;
        match terminal.read_now(buffer) {
            Ok(None) => return None,
            Ok(Some(read)) if read > 0 => return Some(read),
            // EIO: the last process that had the terminal open is gone.
            Ok(Some(_)) | Err(_) => {}
        }
        self.terminal = None;
        None
    }
}

/// Whether there is something to read; an error is for the reader to find.
async fn readable(terminal: Option<&Duplex>) -> bool {
    match terminal {
        None => std::future::pending().await,
        Some(terminal) => terminal.readable().await.is_ok(),
    }
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves, with the limit in minutes, when nothing was typed for that long. Output starts the wait
/// anew, because `next` does.
async fn idle(activity: &mut watch::Receiver<()>, limit: Option<Duration>) -> u64 {
    let Some(limit) = limit else { return std::future::pending().await };
    while let Ok(Ok(())) = tokio::time::timeout(limit, activity.changed()).await {}
    limit.as_secs() / 60
}

/// Carries on what a program without a terminal writes.
async fn flow(tee: Option<&mut Tee>) -> io::Result<()> {
    match tee {
        Some(tee) if !tee.is_done() => tee.flow().await,
        _ => std::future::pending().await,
    }
}
