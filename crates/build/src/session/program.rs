//! A program that runs for a client: its descriptors, the client's control over it, and how the
//! runner ends it.
//!
//! Started by `hub`; `control::host` hands the descriptors over and tells the client how the
//! program ended.

use super::guests::{Closing, Presence};
use super::recording::Recording;
use super::refusal::refusal;
use super::script::ScriptCourse;
use super::tee::Tee;
use super::transcript::Transcript;
use nix::sys::signal::Signal;
use runner_core::time::in_words;
use runner_engine::{ExecError, ProgramEnds, ProgramSignals, SignalReach, StartedProgram};
use runner_wire::control::{ACTIVITY_PACE, TerminalSize};
use runner_wire::init::Exit;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Time between SIGHUP and SIGKILL for a session's programs.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How long the delivery of a signal may take.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Time limits of a terminal session.
#[derive(Clone, Copy, Debug)]
pub(super) struct TerminalLimits {
    /// Without input or output; `None` if the client keeps its own time.
    pub(super) idle: Option<Duration>,
    /// In total.
    pub(super) longest: Option<Duration>,
}

/// A program that runs for a client.
pub struct ProgramSession {
    pub number: u64,
    /// The descriptors for the client: one end of the program's terminal, or those of its pipes.
    pub ends: Vec<OwnedFd>,
    pub controls: SessionControls,
    pub course: Course,
}

/// A program or script that runs for a client.
pub enum Course {
    Program(Box<SessionCourse>),
    Script(Box<ScriptCourse>),
}

impl Course {
    /// Resolves when it has ended and the client has received, or can read, all its output.
    pub async fn end(self) -> ProgramEnding {
        match self {
            Course::Program(course) => course.end().await,
            Course::Script(course) => course.end().await,
        }
    }
}

/// The client's control over a session's program.
pub struct SessionControls {
    terminal: Option<OwnedFd>,
    /// The terminal's recording.
    recording: Option<Arc<Recording>>,
    signals: ProgramSignals,
    activity: watch::Sender<()>,
}

/// A session's running program.
pub struct SessionCourse {
    presence: Presence,
    program: String,
    has_terminal: bool,
    exit: oneshot::Receiver<Result<Exit, ExecError>>,
    ended: Option<Result<Exit, ExecError>>,
    signals: ProgramSignals,
    activity: watch::Receiver<()>,
    idle: Option<Duration>,
    /// When it is closed even if it is active.
    until: Option<tokio::time::Instant>,
    /// The program's output passes through here if it is recorded.
    tee: Option<Tee>,
    /// Set when the session was ended by the runner: the reason the client is given.
    closed: Option<Closing>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum ProgramEnding {
    /// The program exited.
    Exited(u8),
    /// A script exited; `is_cut` if some of its output was not waited for.
    Ran { code: u8, is_cut: bool },
    /// The program could not be executed.
    Failed { code: u8, message: String },
    /// The runner ended the session.
    Closed { message: String },
}

impl ProgramSession {
    /// If there is a transcript, the program's output is also written to it.
    pub(super) fn new(
        presence: Presence,
        program: String,
        process: StartedProgram,
        limits: TerminalLimits,
        transcript: Option<Transcript>,
    ) -> io::Result<Self> {
        let mut terminal = None;
        let recording = transcript.as_ref().and_then(Transcript::recording);
        let (tee, ends) = match (process.ends, transcript) {
            (ProgramEnds::Terminal(master), transcript) => {
                terminal = Some(master.try_clone()?);
                match transcript {
                    None => {
                        // The program may read input more slowly than it is typed.
                        rustix::io::ioctl_fionbio(&master, true)?;
                        (None, vec![master])
                    }
                    Some(transcript) => {
                        let (tee, shown) = Tee::terminal(master, transcript)?;
                        (Some(tee), vec![shown])
                    }
                }
            }
            (ProgramEnds::Merged(output), None) => (None, vec![output]),
            (ProgramEnds::Merged(output), Some(transcript)) => {
                let (tee, shown) = Tee::pipes(vec![output], transcript)?;
                (Some(tee), shown)
            }
            (ProgramEnds::Separate(pipes), None) => (None, pipes.into()),
            (ProgramEnds::Separate([input, output, errors]), Some(transcript)) => {
                let (tee, shown) = Tee::pipes(vec![output, errors], transcript)?;
                (Some(tee), std::iter::once(input).chain(shown).collect())
            }
        };
        let activity = watch::Sender::new(());
        let number = presence.number;
        let course = SessionCourse {
            presence,
            program,
            has_terminal: terminal.is_some(),
            exit: process.exit,
            ended: None,
            signals: process.signals.clone(),
            activity: activity.subscribe(),
            idle: limits.idle,
            until: limits.longest.map(|longest| tokio::time::Instant::now() + longest),
            tee,
            closed: None,
        };
        let controls = SessionControls { terminal, recording, signals: process.signals, activity };
        Ok(ProgramSession { number, ends, controls, course: Course::Program(Box::new(course)) })
    }
}

impl SessionControls {
    /// For a program without a terminal.
    pub(super) fn of(signals: ProgramSignals) -> Self {
        SessionControls {
            terminal: None,
            recording: None,
            signals,
            activity: watch::Sender::new(()),
        }
    }

    /// Notes that something was typed or shown.
    pub fn active(&self) {
        self.activity.send_replace(());
    }

    pub async fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            self.active();
            if let Some(recording) = &self.recording {
                recording.resized(size);
            }
            self.signals.resize(terminal.as_fd(), size.rows, size.cols).await;
        }
    }

    /// Sends a signal. Returns whether it was delivered.
    pub async fn signal(&self, signal: i32) -> bool {
        let sent = async {
            self.signals.send(signal, SignalReach::Group).await;
            self.signals.arrive().await
        };
        // Sending may take as long if the container has not responded for a while.
        tokio::time::timeout(ARRIVAL, sent).await.unwrap_or(false)
    }

    /// Ends the session because its client has disconnected.
    pub async fn abandon(self) {
        end(&self.signals).await;
    }
}

impl SessionCourse {
    /// Resolves when the program has ended and the client has received, or can read, all its
    /// output.
    pub async fn end(mut self) -> ProgramEnding {
        loop {
            if let Some(ending) = self.ending() {
                return ending;
            }
            let is_limited = self.has_terminal && self.closed.is_none();
            tokio::select! {
                exit = &mut self.exit, if self.ended.is_none() => {
                    self.ended = Some(exit.unwrap_or(Err(ExecError::ContainerGone)));
                    if let Some(tee) = &mut self.tee {
                        tee.ends();
                    }
                }
                kept = flow(self.tee.as_mut()) => {
                    if let Err(error) = kept {
                        self.end_unrecorded(&error);
                    }
                }
                closing = self.presence.sent_off(), if self.closed.is_none() => {
                    self.close(closing);
                }
                () = until(self.until), if is_limited => {
                    let message = "closed: it was open for as long as a session may be".to_owned();
                    self.close(Closing { message });
                }
                limit = idle(&mut self.activity, self.idle), if is_limited => {
                    let message = format!("closed: nothing happened for {}", in_words(limit));
                    self.close(Closing { message });
                }
            }
        }
    }

    /// A session that must be recorded does not continue without a recording.
    fn end_unrecorded(&mut self, error: &io::Error) {
        let message = format!("closed: its transcript cannot be written: {error}");
        self.close(Closing { message });
    }

    /// Sends SIGHUP now and SIGKILL later; the rest of the output is still read.
    fn close(&mut self, closing: Closing) {
        self.closed = Some(closing);
        let signals = self.signals.clone();
        tokio::spawn(async move { end(&signals).await });
    }

    /// The final result, once the program has ended and no output is left to read.
    fn ending(&mut self) -> Option<ProgramEnding> {
        let ended = self.ended.as_ref()?;
        if self.tee.as_ref().is_some_and(|tee| !tee.is_done()) {
            return None;
        }
        let ending = match (&self.closed, ended) {
            (Some(_), _) | (None, Err(ExecError::ContainerGone)) => {
                // The newest reason says more than the one known when the end began.
                let newest = self.presence.newest_closing().or_else(|| self.closed.clone());
                let message = newest.map_or_else(
                    || "the build's container has ended".to_owned(),
                    |closing| closing.message,
                );
                ProgramEnding::Closed { message }
            }
            (None, Ok(exit)) => ProgramEnding::Exited(exit.shell_code()),
            (None, Err(error)) => {
                let refusal = refusal(error, &self.program);
                ProgramEnding::Failed { code: refusal.code, message: refusal.message }
            }
        };
        self.presence.ended(match &ending {
            ProgramEnding::Closed { message } | ProgramEnding::Failed { message, .. } => {
                message.clone()
            }
            ProgramEnding::Exited(code) | ProgramEnding::Ran { code, .. } => {
                format!("exit code {code}")
            }
        });
        Some(ending)
    }
}

/// Sends SIGHUP, waits, and sends SIGKILL.
pub(super) async fn end(signals: &ProgramSignals) {
    signals.send(Signal::SIGHUP as i32, SignalReach::Session).await;
    tokio::time::sleep(GRACE).await;
    signals.send(Signal::SIGKILL as i32, SignalReach::Session).await;
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves with the limit when the client has reported no activity for that long, plus the time
/// for which it may delay a report.
async fn idle(activity: &mut watch::Receiver<()>, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    while let Ok(Ok(())) = tokio::time::timeout(limit + ACTIVITY_PACE, activity.changed()).await {}
    limit
}

/// Forwards the output of a recorded program.
async fn flow(tee: Option<&mut Tee>) -> io::Result<()> {
    match tee {
        Some(tee) if !tee.is_done() => tee.flow().await,
        _ => std::future::pending().await,
    }
}
