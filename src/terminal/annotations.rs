//! Workflow commands for GitHub Actions: failed commands and failed test cases, each at its place.
//!
//! Written to standard error, beside notices: there as on standard output the worker takes lines that
//! begin with `::` for commands, and standard output is the log's. What a build has a say in is
//! escaped, so that no name of a test can be a command of its own.

use super::Sink;
use runner_build::BuildspecFile;
use runner_core::event::{Block, Event, EventBody, Outcome};
use runner_core::phase::Phase;
use runner_core::plain;
use runner_core::report::{Failure, ReportFacts, ReportStatus};
use runner_core::spec::{BuildSpec, Diagnostic, Few};
use runner_folder::events::OutputReader;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Most characters of a message.
const MAX_MESSAGE: usize = 4000;

/// Where things stand, as GitHub sees the repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The buildspec's path, if it lies in the repository.
    buildspec: Option<String>,
    /// The source directory's, with a slash behind it; empty where it is the repository.
    source: String,
    /// The line of each command.
    lines: Vec<((Phase, Block, u32), u32)>,
}

impl Places {
    /// Where GitHub sees them: from the root of its work tree, if that is where we are.
    pub(crate) fn at_github(
        source: &Path,
        buildspec: &BuildspecFile,
        spec: Option<&BuildSpec>,
    ) -> Self {
        let root = std::env::var_os("GITHUB_WORKSPACE").filter(|root| !root.is_empty());
        let root = root.and_then(|root| fs::canonicalize(root).ok());
        let root =
            root.filter(|root| source.starts_with(root)).unwrap_or_else(|| source.to_path_buf());
        let below = source.strip_prefix(&root).unwrap_or(source);
        let below = match below.as_os_str().is_empty() {
            true => String::new(),
            false => format!("{}/", below.display()),
        };
        let buildspec = buildspec.path_in(&root).map(|path| path.display().to_string());
        Self::new(buildspec, below, spec)
    }

    fn new(buildspec: Option<String>, source: String, spec: Option<&BuildSpec>) -> Self {
        let mut lines = Vec::new();
        for phase in spec.iter().flat_map(|spec| &spec.phases) {
            let blocks = [(Block::Commands, &phase.commands), (Block::Finally, &phase.finally)];
            for (block, commands) in blocks {
                lines.extend((0..).zip(commands).map(|(index, command)| {
                    ((Phase::from(phase.phase), block, index), command.span.line)
                }));
            }
        }
        Places { buildspec, source, lines }
    }

    fn line(&self, place: (Phase, Block, u32)) -> Option<u32> {
        self.lines.iter().find(|(known, _)| *known == place).map(|(_, line)| *line)
    }
}

/// A command that runs, or has.
struct Running {
    text: String,
    phase: Phase,
    line: Option<u32>,
}

/// Writes workflow commands to `out`.
pub(super) struct Annotations<W: Write + Send> {
    out: W,
    places: Places,
    command: Option<Running>,
}

impl<W: Write + Send> Annotations<W> {
    pub(super) fn new(out: W, places: Places) -> Self {
        Annotations { out, places, command: None }
    }

    fn write(
        &mut self,
        level: &str,
        file: Option<(&str, u32, u32)>,
        title: &str,
        message: &str,
    ) -> io::Result<()> {
        let mut properties = Vec::new();
        if let Some((file, line, column)) = file {
            properties.push(format!("file={}", property(file)));
            for (name, number) in [("line", line), ("col", column)] {
                if number > 0 {
                    properties.push(format!("{name}={number}"));
                }
            }
        }
        properties.push(format!("title={}", property(title)));
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        // In one write: what comes between two would be part of the line.
        let line = format!("::{level} {}::{}\n", properties.join(","), data(&message));
        self.out.write_all(line.as_bytes())
    }

    /// What is wrong with the buildspec.
    pub(super) fn problems(&mut self, problems: &[Diagnostic]) -> io::Result<()> {
        let few = Few::of(problems);
        for problem in few.shown {
            let level = if problem.is_error() { "error" } else { "warning" };
            let message = match &problem.hint {
                Some(hint) => format!("{}\nhint: {hint}", problem.message),
                None => problem.message.clone(),
            };
            let file = self.places.buildspec.clone();
            let file = file.as_deref().map(|file| (file, problem.span.line, problem.span.column));
            self.write(level, file, problem.code.name(), &message)?;
        }
        Ok(())
    }

    fn command_ended(&mut self, outcome: &Outcome) -> io::Result<()> {
        let Some(Running { text, phase, line }) = self.command.take() else { return Ok(()) };
        match outcome {
            Outcome::Exited(0) | Outcome::Cut => return Ok(()),
            Outcome::Exited(_) | Outcome::Signaled(_) | Outcome::NotStarted(_) => {}
        }
        let file = self.places.buildspec.clone();
        let file = file.as_deref().zip(line).map(|(file, line)| (file, line, 0));
        self.write(
            "error",
            file,
            &format!("{phase} failed"),
            &format!("{}\n{outcome}", text.trim_end()),
        )
    }

    fn report(&mut self, facts: &ReportFacts) -> io::Result<()> {
        let group = facts.report.report_group_arn.rsplit('/').next().unwrap_or_default().to_owned();
        if facts.report.status == ReportStatus::Incomplete {
            let message = facts.problems.join("\n");
            self.write("warning", None, &format!("report {group} is incomplete"), &message)?;
        }
        for Failure { title, place, message } in &facts.failures {
            let file = place.as_ref().map(|place| {
                // A path that leaves the source, or is none of it, is shown as it is.
                let is_below = !place.file.starts_with(['/', '\\']) && !place.file.contains("..");
                let before = if is_below { self.places.source.as_str() } else { "" };
                (format!("{before}{}", place.file), place.line, place.column)
            });
            let file = file.as_ref().map(|(file, line, column)| (file.as_str(), *line, *column));
            self.write("error", file, title, if message.is_empty() { "failed" } else { message })?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Sink for Annotations<W> {
    fn event(&mut self, event: &Event, _: &mut OutputReader) -> io::Result<()> {
        match &event.body {
            EventBody::CommandStarted { text, phase, block, index, .. } => {
                let line = self.places.line((*phase, *block, *index));
                self.command = Some(Running { text: text.clone(), phase: *phase, line });
                Ok(())
            }
            EventBody::CommandEnded { outcome, .. } => self.command_ended(outcome),
            EventBody::Report(facts) => self.report(facts),
            _ => Ok(()),
        }
    }
}

/// What follows the second pair of colons.
fn data(text: &str) -> String {
    let escaped = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    plain::line(&escaped).into_owned()
}

/// What follows an equals sign.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_command_of_its_own() {
        let mut out = Vec::new();
        let mut sink = Annotations::new(&mut out, Places::default());
        sink.write(
            "error",
            Some(("a,b:c", 5, 0)),
            "x::y\n::debug::z",
            "50%\r\n::set-env name=A::b",
        )
        .expect("written");
        assert_eq!(
            String::from_utf8(out).expect("is text"),
            "::error file=a%2Cb%3Ac,line=5,title=x%3A%3Ay%0A%3A%3Adebug%3A%3Az::50%25%0D%0A::set-env \
             name=A::b\n"
        );
    }
}
