//! Writes CodeBuild's own log lines, and nothing else.
//!
//! Used for standard output without a terminal, for `runner logs`, for log files, and for copies of
//! the log on AWS.

use super::OutputReader;
use runner_core::event::{CommandOutcome, Event, EventBody};
use runner_core::phase::{Phase, PhaseContext};
use runner_core::plain;
use std::io::{self, Write};
use std::sync::Arc;

/// Writes the log to `out`.
pub struct CodeBuild<W: Write + Send> {
    out: io::BufWriter<W>,
    between: Between,
    /// Whether a user reads the lines at a terminal.
    is_for_people: bool,
}

/// State carried over from one event to the next.
#[derive(Clone, Debug)]
pub(super) struct Between {
    /// Whether the last output ended its line.
    at_line_start: bool,
    /// Text of the running command, for the line that reports its failure. Shared by all writers
    /// that continue from here.
    command: Arc<str>,
}

impl Default for Between {
    fn default() -> Self {
        Between { at_line_start: true, command: Arc::default() }
    }
}

impl<W: Write + Send> CodeBuild<W> {
    pub fn new(out: W) -> Self {
        Self::from(out, Between::default())
    }

    /// Continues where another writer stopped.
    pub(super) fn from(out: W, between: Between) -> Self {
        let out = io::BufWriter::with_capacity(64 << 10, out);
        CodeBuild { out, between, is_for_people: false }
    }

    pub(super) fn into_between(self) -> Between {
        self.between
    }

    /// Makes our own lines safe for a terminal. Commands' output stays as it is.
    pub fn for_people(self, is_for_people: bool) -> Self {
        CodeBuild { is_for_people, ..self }
    }

    /// Flushes the buffer and returns the output.
    pub fn flushed(&mut self) -> io::Result<&mut W> {
        self.out.flush()?;
        Ok(self.out.get_mut())
    }

    /// Writes a foreign line between CodeBuild's own.
    pub fn between(&mut self, line: &str) -> io::Result<()> {
        self.end_line()?;
        self.out.write_all(line.as_bytes())
    }

    fn agent(&mut self, event: &Event, text: &str) -> io::Result<()> {
        self.end_line()?;
        let text = if self.is_for_people { plain::lines(text) } else { text.into() };
        writeln!(self.out, "[Container] {} {text}", event.time.log_form())
    }

    fn end_line(&mut self) -> io::Result<()> {
        if !self.between.at_line_start {
            self.out.write_all(b"\n")?;
            self.between.at_line_start = true;
        }
        Ok(())
    }

    fn phase_ended(
        &mut self,
        event: &Event,
        phase: Phase,
        status: &str,
        contexts: &[PhaseContext],
    ) -> io::Result<()> {
        match phase {
            Phase::Submitted
            | Phase::Queued
            | Phase::Provisioning
            | Phase::Finalizing
            | Phase::Completed => return Ok(()),
            Phase::DownloadSource
            | Phase::Install
            | Phase::PreBuild
            | Phase::Build
            | Phase::PostBuild
            | Phase::UploadArtifacts => {}
        }
        self.agent(event, &format!("Phase complete: {phase} State: {status}"))?;
        for context in contexts {
            let PhaseContext { status_code, message } = context;
            let text = format!("Phase context status code: {status_code} Message: {message}");
            self.agent(event, &text)?;
        }
        Ok(())
    }

    /// Writes an event's log lines.
    pub fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        match &event.body {
            EventBody::Agent { text } => self.agent(event, text),
            EventBody::PhaseStarted { phase } if phase.user_phase().is_some() => {
                self.agent(event, &format!("Entering phase {phase}"))
            }
            EventBody::PhaseEnded { phase, status, contexts, .. } => {
                self.phase_ended(event, *phase, status.name(), contexts)
            }
            EventBody::CommandStarted { text, .. } => {
                self.between.command = Arc::from(text.as_str());
                self.agent(event, &format!("Running command {text}"))
            }
            EventBody::Output { offset, length, .. } => {
                let bytes = output.read(*offset, *length)?;
                self.between.at_line_start = bytes.ends_with(b"\n");
                self.out.write_all(bytes)
            }
            EventBody::CommandEnded { outcome, .. } => {
                self.end_line()?;
                self.out.write_all(b"\n")?;
                match outcome {
                    CommandOutcome::Exited(0) | CommandOutcome::Cut => Ok(()),
                    CommandOutcome::Exited(_)
                    | CommandOutcome::Signaled(_)
                    | CommandOutcome::NotStarted(_) => {
                        let command = std::mem::take(&mut self.between.command);
                        let text = format!("Command did not exit successfully {command} {outcome}");
                        self.agent(event, &text)
                    }
                }
            }
            EventBody::PhaseStarted { .. }
            | EventBody::BuildStarted(_)
            | EventBody::Exported { .. }
            | EventBody::Report(_)
            | EventBody::ArtifactStored(_)
            | EventBody::Progress(_)
            | EventBody::ContainerStarted { .. }
            | EventBody::Notice(_)
            | EventBody::Intervened(_)
            | EventBody::CommandSkipped { .. }
            | EventBody::Breakpoint(_)
            | EventBody::Checkpoint(_)
            | EventBody::FilesChanged(_)
            | EventBody::Rewound(_)
            | EventBody::Logged { .. }
            | EventBody::Paused { .. }
            | EventBody::Resumed { .. }
            | EventBody::EndpointOpened { .. }
            | EventBody::EndpointFailed { .. }
            | EventBody::SessionOpened { .. }
            | EventBody::SessionClosed { .. }
            | EventBody::BuildEnded { .. } => Ok(()),
        }
    }
}
