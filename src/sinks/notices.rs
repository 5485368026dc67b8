//! What the person should know, on standard error: notices, the way in at a breakpoint, the verdict.
//!
//! Beside a `codebuild` or `json` sink on standard output; `pretty` shows the same texts itself.

use super::Sink;
use crate::events::OutputReader;
use runner_core::debug::DecisionKind;
use runner_core::event::{Event, EventBody, NoticeLevel, ResumedBy, StopFacts, StopKind, Stuck};
use runner_core::phase::Status;
use runner_core::plain;
use runner_core::report::{self, ReportFacts};
use std::io::{self, Write};
use std::sync::Arc;

/// The ways into a paused build that work on this machine now.
#[derive(Clone, Debug)]
pub(crate) struct WaysIn {
    /// How this program is called, with what a second terminal needs to find the build.
    pub(crate) program: String,
    /// The build's short name.
    pub(crate) build: String,
    /// Whether the one-key menu is there.
    pub(crate) keys: bool,
    /// What an AWS client is called with.
    pub(crate) aws: AwsWay,
}

/// The way in for AWS's clients, found when it is first asked for.
#[derive(Clone)]
pub(crate) struct AwsWay(pub(crate) Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl std::fmt::Debug for AwsWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AwsWay")
    }
}

impl WaysIn {
    /// The notice of a stop, in lines.
    pub(crate) fn stopped(
        &self,
        build_id: &str,
        stop: &StopFacts,
        directory: &str,
        resumes_in_s: Option<u64>,
    ) -> Vec<String> {
        let WaysIn { program, build, .. } = self;
        let key = |name: &'static str| if self.keys { name } else { "   " };
        let place = stop.place.map_or_else(|| "the command".to_owned(), |place| place.to_string());
        let what = match stop.kind {
            StopKind::Entry => format!("before its first command, {place}"),
            StopKind::Before | StopKind::Step => format!("before {place}"),
            StopKind::After => "after the phase".to_owned(),
            StopKind::Failed => format!("because {place} has failed"),
            StopKind::Pause => format!("in the middle of {place}"),
        };
        let mut lines = vec![format!("build {build_id} is paused {what}")];
        let mut text = stop.text.lines();
        lines.extend(text.next().map(|first| format!("  command      {first}")));
        lines.push(format!("  directory    {directory}"));
        lines.push(format!("  shell    {} {program} attach {build}", key("[s]")));
        lines.extend((self.aws.0)().map(|way| format!("  aws          {way}")));
        for (name, decision, verb) in [
            ("again", DecisionKind::Retry, "retry"),
            ("edited", DecisionKind::Edit, "retry --edit"),
            ("skip", DecisionKind::Skip, "skip"),
            ("step", DecisionKind::Step, "step"),
        ] {
            if stop.decisions.contains(&decision) {
                lines.push(format!("  {name:<8}     {program} {verb} {build}"));
            }
        }
        lines.push(format!("  go on    {} {program} resume {build}", key("[r]")));
        lines.push(format!("  stop     {} {program} stop {build}", key("[q]")));
        let after = resumes_in_s.map(span);
        lines.extend(after.map(|time| format!("  goes on by itself in {time} if nobody connects")));
        lines
    }

    /// The notice of a pause, in lines.
    pub(crate) fn paused(
        &self,
        build_id: &str,
        command: &str,
        directory: &str,
        resumes_in_s: Option<u64>,
        stuck: Option<&Stuck>,
    ) -> Vec<String> {
        let WaysIn { program, build, .. } = self;
        let key = |name: &'static str| if self.keys { name } else { "   " };
        let first = command.lines().next().unwrap_or_default();
        let why = match stuck {
            None => "at a breakpoint".to_owned(),
            Some(stuck) => format!("and cannot go on: {}", stuck.reason),
        };
        let mut lines = vec![
            format!("build {build_id} is paused {why}"),
            format!("  command      {first}"),
            format!("  directory    {directory}"),
        ];
        if stuck.is_some() {
            lines.push(format!("  program      {program} exec {build} -- PROGRAM"));
        }
        if stuck.is_none_or(|stuck| stuck.has_shell) {
            lines.push(format!("  shell    {} {program} attach {build}", key("[s]")));
            lines.extend((self.aws.0)().map(|way| format!("  aws          {way}")));
        } else {
            lines.push("  shell        none; a build started with --toolbox has one".to_owned());
        }
        let on = if stuck.is_some() { "end  " } else { "go on" };
        lines.extend([
            format!("  {on}    {} {program} resume {build}", key("[r]")),
            format!("  stop     {} {program} stop {build}", key("[q]")),
        ]);
        if let Some(seconds) = resumes_in_s {
            let what = if stuck.is_some() { "ends" } else { "goes on" };
            lines.push(format!("  {what} by itself in {} if nobody connects", span(seconds)));
        }
        lines
    }
}

/// How a resume is told; of a build that could not go on, its end is.
pub(super) fn resumed(by: ResumedBy, is_stuck: bool) -> Option<&'static str> {
    match by {
        ResumedBy::User | ResumedBy::Decision | ResumedBy::Timeout if is_stuck => None,
        ResumedBy::User | ResumedBy::Decision => Some("resumed"),
        ResumedBy::Timeout => Some("nobody is connected: the build goes on"),
        ResumedBy::Gone => Some("the process at the breakpoint is gone: the build goes on"),
        // The end is told anyway.
        ResumedBy::Ended => None,
    }
}

/// What people have done to a build, and what its breakpoints write.
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
        _ => None,
    }
}

/// The verdict in one line.
pub(super) fn verdict(build_id: &str, status: Status, reason: Option<&str>) -> String {
    match reason {
        Some(reason) if status != Status::Succeeded => {
            format!("build {build_id}: {status}: {reason}")
        }
        _ => format!("build {build_id}: {status}"),
    }
}

fn span(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// Writes to standard error.
pub(crate) struct Notices<W: Write + Send> {
    out: W,
    ways: WaysIn,
    command: String,
    /// The build has come to where it cannot go on.
    is_stuck: bool,
    /// For the table at the end.
    reports: Vec<ReportFacts>,
    /// Only errors are wanted.
    quiet: bool,
}

impl<W: Write + Send> Notices<W> {
    pub(crate) fn new(out: W, ways: WaysIn, quiet: bool) -> Self {
        let (command, reports) = (String::new(), Vec::new());
        Notices { out, ways, command, is_stuck: false, reports, quiet }
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        // In one write: what comes between two would be part of the line.
        self.out.write_all(format!("runner: {}\n", plain::lines(text)).as_bytes())
    }
}

impl<W: Write + Send> Sink for Notices<W> {
    fn event(&mut self, event: &Event, _: &mut OutputReader) -> io::Result<()> {
        match &event.body {
            EventBody::CommandStarted { text, .. } => {
                self.command.clone_from(text);
                Ok(())
            }
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
            | EventBody::Logged { .. }
                if !self.quiet =>
            {
                debugged(&event.body).map_or(Ok(()), |text| self.line(&text))
            }
            EventBody::Paused { directory, resumes_in_s, stop: Some(stop), .. } => {
                let lines = self.ways.stopped(&event.build_id, stop, directory, *resumes_in_s);
                lines.iter().try_for_each(|line| self.line(line))
            }
            EventBody::Paused { directory, resumes_in_s, stuck, .. } => {
                self.is_stuck |= stuck.is_some();
                let (id, stuck) = (&event.build_id, stuck.as_ref());
                let lines = self.ways.paused(id, &self.command, directory, *resumes_in_s, stuck);
                lines.iter().try_for_each(|line| self.line(line))
            }
            EventBody::Resumed { by, .. } => {
                resumed(*by, self.is_stuck).map_or(Ok(()), |text| self.line(text))
            }
            EventBody::BuildEnded { status, reason } => {
                for (_, line) in report::table(&std::mem::take(&mut self.reports)) {
                    self.line(&line)?;
                }
                self.line(&verdict(&event.build_id, *status, reason.as_deref()))
            }
            _ => Ok(()),
        }
    }
}
