//! Notices for the user on standard error: warnings, how to connect at a breakpoint, the verdict.
//!
//! Used together with a `codebuild` or `json` sink on standard output; `pretty` shows the same
//! texts itself.

use super::EventSink;
use super::pauses::PauseNotices;
use super::summary::EndSummary;
use super::ways::WaysIn;
use runner_core::event::{Block, Event, EventBody, NoticeLevel, ResumedBy, RewoundFacts};
use runner_core::phase::{Phase, Status};
use runner_core::plain;
use runner_core::report::{self, ReportFacts};
use runner_folder::events::OutputReader;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

/// The notice of a resume. A build that could not go on gets the notice of its end instead.
pub(super) fn resumed(by: ResumedBy, is_stuck: bool) -> Option<&'static str> {
    match by {
        ResumedBy::User | ResumedBy::Decision | ResumedBy::Timeout if is_stuck => None,
        ResumedBy::User | ResumedBy::Decision => Some("resumed"),
        ResumedBy::Timeout => Some("nobody is connected: the build continues"),
        ResumedBy::Gone => Some("the process at the breakpoint is gone: the build continues"),
        // The end has its own notice.
        ResumedBy::Ended => None,
    }
}

/// What people did to a build, and what its breakpoints print.
pub(super) fn debugged(body: &EventBody) -> Option<String> {
    match body {
        EventBody::Intervened(done) => {
            let verb = done.what.verb();
            let behind = match (&done.place, &done.text) {
                (Some(place), _) => format!(" {place}"),
                (None, Some(text)) => format!(": {}", text.lines().next().unwrap_or_default()),
                (None, None) => String::new(),
            };
            Some(format!("{} ({}): {verb}{behind}", done.by.user, done.by.client))
        }
        EventBody::CommandSkipped { text, .. } => {
            Some(format!("skipped: {}", text.lines().next().unwrap_or_default()))
        }
        EventBody::Logged { text, .. } => Some(text.clone()),
        EventBody::Rewound(facts) => Some(rewound_lines(facts).join("\n")),
        _ => None,
    }
}

/// The lines about a rewind, and what it did not restore.
pub(crate) fn rewound_lines(facts: &RewoundFacts) -> Vec<String> {
    let RewoundFacts { to, place, lost, processes, sessions, .. } = facts;
    let mut lines = vec![match lost.len() {
        0 | 1 => format!("rewound to before run {to} ({place})"),
        count => {
            format!("rewound to before run {to} ({place}): {count} runs do not count any more")
        }
    }];
    if !processes.is_empty() {
        let named: Vec<String> =
            processes.iter().map(|lost| format!("{} ({})", lost.name, lost.pid)).collect();
        lines.push(format!("killed, and not started again: {}", named.join(", ")));
    }
    if *sessions > 0 {
        lines.push(format!("{sessions} session(s) closed"));
    }
    lines.push("not undone: what went out of the container; see `runner rewind --help`".to_owned());
    lines
}

/// How much of a build differed from its buildspec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    skipped: BTreeSet<(Phase, Block, u32)>,
    stubbed: usize,
}

impl LeftOut {
    pub(super) fn note(&mut self, body: &EventBody) {
        match body {
            EventBody::BuildStarted(facts) => self.stubbed = facts.stubs.len(),
            EventBody::CommandSkipped { phase, block, index, .. } => {
                self.skipped.insert((*phase, *block, *index));
            }
            EventBody::CommandStarted { phase, block, index, .. } => {
                self.skipped.remove(&(*phase, *block, *index));
            }
            EventBody::Rewound(rewound) => {
                let at = rewound.place;
                self.skipped.retain(|it| *it < (at.phase.into(), at.block, at.index));
            }
            _ => {}
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.skipped.len(), self.stubbed) {
            (0, 0) => Ok(()),
            (skipped, 0) => write!(formatter, " ({skipped} skipped)"),
            (0, stubbed) => write!(formatter, " ({stubbed} stubbed)"),
            (skipped, stubbed) => write!(formatter, " ({skipped} skipped, {stubbed} stubbed)"),
        }
    }
}

/// The verdict as one line.
pub(super) fn verdict(
    build_id: &str,
    status: Status,
    reason: Option<&str>,
    left_out: &LeftOut,
) -> String {
    match reason {
        Some(reason) if status != Status::Succeeded => {
            format!("build {build_id}: {status}{left_out}: {}", in_one_line(reason))
        }
        _ => format!("build {build_id}: {status}{left_out}"),
    }
}

/// A reason without the lines of its command but the first: a script of a thousand lines would push
/// all else off the screen. The log and the record have all of it.
fn in_one_line(reason: &str) -> Cow<'_, str> {
    let command = reason.strip_prefix("Error while executing command: ");
    let lines = command.and_then(|text| text.split_once('\n'));
    match lines.and_then(|(first, rest)| Some((first, rest.rsplit_once(". Reason: ")?.1))) {
        Some((first, why)) => {
            Cow::Owned(format!("Error while executing command: {first} …. Reason: {why}"))
        }
        None => Cow::Borrowed(reason),
    }
}

/// Writes to standard error.
pub(super) struct Notices<W: Write + Send> {
    out: W,
    pauses: PauseNotices,
    /// Whether the build can only end.
    is_stuck: bool,
    /// For the final table.
    reports: Vec<ReportFacts>,
    left_out: LeftOut,
    ending: EndSummary,
    /// Print only errors.
    quiet: bool,
}

impl<W: Write + Send> Notices<W> {
    pub(super) fn new(out: W, ways: WaysIn, ending: EndSummary, quiet: bool) -> Self {
        let (pauses, reports) = (PauseNotices::new(ways), Vec::new());
        Notices {
            out,
            pauses,
            is_stuck: false,
            reports,
            left_out: LeftOut::default(),
            ending,
            quiet,
        }
    }

    fn lines(&mut self, lines: &[String]) -> io::Result<()> {
        lines.iter().try_for_each(|line| self.line(line))
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        // Write it at once: text from another writer in between would become part of the line.
        self.out.write_all(format!("runner: {}\n", plain::lines(text)).as_bytes())
    }
}

impl<W: Write + Send> EventSink for Notices<W> {
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        let lines = self.pauses.take(event);
        self.lines(&lines)?;
        self.left_out.note(&event.body);
        self.ending.take(event);
        match &event.body {
            EventBody::Resumed { .. } if self.quiet => Ok(()),
            EventBody::Report(facts) if !self.quiet => {
                self.reports.push((**facts).clone());
                Ok(())
            }
            EventBody::BuildEnded { status: Status::Succeeded, .. }
            | EventBody::ArtifactStored(_)
                if self.quiet =>
            {
                Ok(())
            }
            EventBody::ArtifactStored(stored) => {
                let whose = stored.identifier.as_ref().map_or("artifacts", |id| id);
                let count = stored.files;
                self.line(&format!("{whose}: {count} file(s) in {}", stored.location))
            }
            EventBody::Notice(notice) => {
                let least = if self.quiet { NoticeLevel::Error } else { NoticeLevel::Note };
                let mut shown = notice.shown().into_iter().filter(|(level, _)| *level >= least);
                shown.try_for_each(|(level, text)| self.line(&format!("{}{text}", level.prefix())))
            }
            EventBody::Intervened(_)
            | EventBody::CommandSkipped { .. }
            | EventBody::Rewound(_)
            | EventBody::Logged { .. }
                if !self.quiet =>
            {
                let text = debugged(&event.body).unwrap_or_default();
                text.lines().try_for_each(|line| self.line(line))
            }
            EventBody::Paused { stuck, .. } => {
                self.is_stuck |= stuck.is_some();
                Ok(())
            }
            EventBody::Resumed { by, .. } => {
                resumed(*by, self.is_stuck).map_or(Ok(()), |text| self.line(text))
            }
            EventBody::BuildEnded { status, reason } => {
                for (_, line) in report::table(&std::mem::take(&mut self.reports)) {
                    self.line(&line)?;
                }
                if !self.quiet {
                    let lines = self.ending.lines(output)?;
                    self.lines(&lines)?;
                }
                let left_out = &self.left_out;
                let line = verdict(&event.build_id, *status, reason.as_deref(), left_out);
                self.line(&line)
            }
            _ => Ok(()),
        }
    }

    fn tick(&self) -> Option<Duration> {
        self.pauses.tick()
    }

    fn ticked(&mut self) -> io::Result<()> {
        let lines = self.pauses.overdue();
        self.lines(&lines)
    }
}
