//! CodeBuild's own lines with a collapsible section for each phase, for GitHub and GitLab.
//!
//! The marks are on standard output with the lines: on another stream their order would change.

use super::{CiSystem, EventSink};
use runner_core::event::{Event, EventBody};
use runner_core::phase::Phase;
use runner_folder::events::{CodeBuild, OutputReader};
use std::io::{self, Write};

pub(super) struct LogSections<W: Write + Send> {
    log: CodeBuild<W>,
    system: CiSystem,
    /// The phase of the open section.
    open: Option<Phase>,
    /// Number of sections so far.
    number: u32,
}

impl<W: Write + Send> LogSections<W> {
    pub(super) fn new(log: CodeBuild<W>, system: CiSystem) -> Self {
        LogSections { log, system, open: None, number: 0 }
    }

    fn begin(&mut self, event: &Event, phase: Phase) -> io::Result<()> {
        self.end(event)?;
        self.open = Some(phase);
        self.number += 1;
        let mark = match self.system {
            CiSystem::Github => format!("::group::{phase}\n"),
            CiSystem::Gitlab => format!("{}{phase}\n", self.of_gitlab("start", event, phase)),
        };
        self.log.between(&mark)
    }

    fn end(&mut self, event: &Event) -> io::Result<()> {
        let Some(phase) = self.open.take() else { return Ok(()) };
        let mark = match self.system {
            CiSystem::Github => "::endgroup::\n".to_owned(),
            CiSystem::Gitlab => format!("{}\n", self.of_gitlab("end", event, phase)),
        };
        self.log.between(&mark)
    }

    /// The mark of a section. Both ends have the same, unique name: a phase may run more than once.
    fn of_gitlab(&self, which: &str, event: &Event, phase: Phase) -> String {
        let (seconds, name) = (event.time.epoch_millis() / 1000, phase.name().to_ascii_lowercase());
        format!("\u{1b}[0Ksection_{which}:{seconds}:runner_{name}_{}\r\u{1b}[0K", self.number)
    }
}

impl<W: Write + Send> EventSink for LogSections<W> {
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        match &event.body {
            EventBody::PhaseStarted { phase } if has_lines(*phase) => self.begin(event, *phase)?,
            EventBody::BuildEnded { .. } => self.end(event)?,
            _ => {}
        }
        self.log.event(event, output)?;
        match &event.body {
            EventBody::PhaseEnded { .. } => self.end(event),
            _ => Ok(()),
        }
    }

    fn caught_up(&mut self) -> io::Result<()> {
        self.log.flushed().map(drop)
    }
}

/// Whether the log has lines for a phase.
fn has_lines(phase: Phase) -> bool {
    matches!(phase, Phase::DownloadSource | Phase::UploadArtifacts) || phase.user_phase().is_some()
}
