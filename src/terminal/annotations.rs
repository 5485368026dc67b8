//! Workflow commands for GitHub Actions: failed commands and failed test cases, each at its
//! position.
//!
//! Written to standard error, next to notices: the worker recognizes lines that begin with `::`
//! there as on standard output, which belongs to the log. Text that a build can influence is
//! escaped, so that no test name can act as a command.

use super::EventSink;
use super::notices::{LeftOut, verdict};
use super::summary::EndSummary;
use runner_build::BuildspecFile;
use runner_core::event::{CommandOutcome, Event, EventBody};
use runner_core::phase::Phase;
use runner_core::plain;
use runner_core::report::{CaseFailure, ReportFacts, ReportStatus};
use runner_core::spec::{Diagnostic, Few};
use runner_folder::events::OutputReader;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Maximum characters of a message.
const MAX_MESSAGE: usize = 4000;

/// Paths as GitHub sees them in the repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnnotationPlaces {
    /// The buildspec's path, if it is in the repository.
    buildspec: Option<String>,
    /// The source directory's path, with a trailing slash; empty for the repository's root.
    source: String,
}

impl AnnotationPlaces {
    /// Paths as GitHub sees them: from the root of the repository.
    pub(crate) fn at_github(source: &Path, buildspec: &BuildspecFile) -> Self {
        let workspace = std::env::var_os("GITHUB_WORKSPACE").filter(|root| !root.is_empty());
        let workspace = workspace.and_then(|root| fs::canonicalize(root).ok());
        let root = root_of(source, workspace.as_deref());
        let below = source.strip_prefix(&root).unwrap_or(source);
        let below = match below.as_os_str().is_empty() {
            true => String::new(),
            false => format!("{}/", below.display()),
        };
        let buildspec = buildspec.path_in(&root).map(|path| path.display().to_string());
        AnnotationPlaces { buildspec, source: below }
    }
}

/// The repository that contains a source: in GitHub's workspace the outermost one, since others are
/// its submodules, or the workspace itself if there is none; elsewhere the innermost one.
fn root_of(source: &Path, workspace: Option<&Path>) -> PathBuf {
    let workspace = workspace.filter(|workspace| source.starts_with(workspace));
    let is_repository = |dir: &&Path| dir.join(".git").symlink_metadata().is_ok();
    let found = match workspace {
        Some(workspace) => {
            let inside = source.ancestors().take_while(|dir| dir.starts_with(workspace));
            inside.filter(is_repository).last().or(Some(workspace))
        }
        None => source.ancestors().find(is_repository),
    };
    found.unwrap_or(source).to_path_buf()
}

/// A command that runs or has run.
struct AnnotatedCommand {
    text: String,
    phase: Phase,
    line: Option<u32>,
}

/// Writes workflow commands to `out`.
pub(super) struct Annotations<W: Write + Send> {
    out: W,
    places: AnnotationPlaces,
    command: Option<AnnotatedCommand>,
    ending: EndSummary,
    left_out: LeftOut,
    /// The file of the step's summary page.
    page: Option<PathBuf>,
}

impl<W: Write + Send> Annotations<W> {
    pub(super) fn new(out: W, places: AnnotationPlaces) -> Self {
        let page = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
        Annotations {
            out,
            places,
            command: None,
            ending: EndSummary::new(None),
            left_out: LeftOut::default(),
            page: page.map(PathBuf::from),
        }
    }

    /// Adds the build to the step's summary page.
    fn add_to_page(&mut self, verdict: &str, output: &mut OutputReader) -> io::Result<()> {
        let Some(page) = &self.page else { return Ok(()) };
        let text = self.ending.markdown(verdict, output)?;
        let added = fs::OpenOptions::new().append(true).create(true).open(page);
        if let Err(error) = added.and_then(|mut page| page.write_all(text.as_bytes())) {
            let message = format!("{}: {error}", page.display());
            self.write("warning", None, "no summary of this step", &message)?;
        }
        Ok(())
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
        // Write it at once: text from another writer in between would become part of the line.
        let line = format!("::{level} {}::{}\n", properties.join(","), data(&message));
        self.out.write_all(line.as_bytes())
    }

    /// Reports problems of the buildspec.
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

    fn command_ended(&mut self, outcome: &CommandOutcome) -> io::Result<()> {
        let Some(AnnotatedCommand { text, phase, line }) = self.command.take() else {
            return Ok(());
        };
        match outcome {
            CommandOutcome::Exited(0) | CommandOutcome::Cut => return Ok(()),
            CommandOutcome::Exited(_)
            | CommandOutcome::Signaled(_)
            | CommandOutcome::NotStarted(_) => {}
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
        for CaseFailure { title, place, message } in &facts.failures {
            let file = place.as_ref().map(|place| {
                // A path that is not below the source is shown unchanged.
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

impl<W: Write + Send> EventSink for Annotations<W> {
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        self.ending.take(event);
        self.left_out.note(&event.body);
        match &event.body {
            EventBody::CommandStarted { text, phase, line, .. } => {
                self.command =
                    Some(AnnotatedCommand { text: text.clone(), phase: *phase, line: *line });
                Ok(())
            }
            EventBody::BuildEnded { status, reason } => {
                let verdict = verdict(&event.build_id, *status, reason.as_deref(), &self.left_out);
                self.add_to_page(&verdict, output)
            }
            EventBody::CommandEnded { outcome, .. } => self.command_ended(outcome),
            EventBody::Report(facts) => self.report(facts),
            _ => Ok(()),
        }
    }
}

/// Escapes the text after the second pair of colons.
fn data(text: &str) -> String {
    let escaped = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    plain::line(&escaped).into_owned()
}

/// Escapes a property's value.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_part_of_its_repository() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = fs::canonicalize(dir.path()).expect("is there");
        let source = root.join("work/mono/services/api");
        fs::create_dir_all(&source).expect("made");
        let workspace = root.join("work");
        assert_eq!(root_of(&source, Some(&workspace)), workspace);
        fs::create_dir_all(root.join("work/mono/.git")).expect("made");
        fs::write(root.join("work/mono/services/.git"), "gitdir: elsewhere").expect("written");
        assert_eq!(root_of(&source, Some(&workspace)), root.join("work/mono"));
        assert_eq!(root_of(&source, None), root.join("work/mono/services"));
        assert_eq!(
            root_of(&source, Some(Path::new("/elsewhere"))),
            root.join("work/mono/services")
        );
    }

    #[test]
    fn no_text_is_a_command_of_its_own() {
        let mut out = Vec::new();
        let mut sink = Annotations::new(&mut out, AnnotationPlaces::default());
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
