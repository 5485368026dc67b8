//! A build's summary at its end: the phases' times and, after a failure, the command, its place,
//! its last lines, and how to inspect it.
//!
//! The content comes from `core::summary`; `notices` and `pretty` show it, and `annotations` shows
//! it as Markdown.

use runner_core::event::Event;
use runner_core::phase::Status;
use runner_core::plain;
use runner_core::summary::{BuildOverview, ExecutedCommand, clock_form, last_lines};
use runner_folder::events::OutputReader;
use std::io;

/// Number of last lines repeated.
const LINES: usize = 10;
/// Maximum characters of each line.
const WIDTH: usize = 200;

pub(super) struct EndSummary {
    summary: BuildOverview,
    /// The command to inspect the build; `None` without hints.
    look: Option<String>,
}

impl EndSummary {
    /// `program`: the name of this program; `None` without hints.
    pub(super) fn new(program: Option<&str>) -> Self {
        let look = program.map(|program| {
            format!("to look inside where it fails: the same with --break-on failure, then {program} attach")
        });
        EndSummary { summary: BuildOverview::default(), look }
    }

    pub(super) fn take(&mut self, event: &Event) {
        self.summary.take(event);
    }

    /// The lines before the verdict.
    pub(super) fn lines(&self, output: &mut OutputReader) -> io::Result<Vec<String>> {
        let times: Vec<String> = self.summary.phases().map(time).collect();
        let mut lines = Vec::new();
        if !times.is_empty() {
            lines.push(format!("phases: {}", times.join(" · ")));
        }
        if self.summary.ran_nothing() {
            lines.push("nothing was run: no command of the buildspec".to_owned());
        }
        let Some(run) = self.summary.failure() else { return Ok(lines) };
        lines.push(format!("failed: {}: {}", self.summary.place(run), how(run)));
        lines.push(format!("  {}", first_line(&run.text)));
        let last = last_output(run, output)?;
        lines.extend(last.iter().map(|line| format!("  | {line}")));
        if !self.summary.was_paused() {
            lines.extend(self.look.clone());
        }
        Ok(lines)
    }

    /// The same with the verdict, as Markdown for GitHub. A build's text is never interpreted as
    /// Markdown.
    pub(super) fn markdown(&self, verdict: &str, output: &mut OutputReader) -> io::Result<String> {
        let mut page =
            format!("### {}\n\n| Phase | Status | Time |\n|---|---|---|\n", escaped(verdict));
        for time in self.summary.phases() {
            let took = clock_form(time.took);
            page.push_str(&format!("| {} | {} | {took} |\n", time.phase, time.status));
        }
        let Some(run) = self.summary.failure() else { return Ok(page + "\n") };
        page.push_str(&format!(
            "\n{}: {}\n\n",
            escaped(&self.summary.place(run)),
            escaped(&how(run))
        ));
        let command =
            run.text.lines().take(LINES).map(|line| format!("    {}\n", plain::line(line)));
        page.extend(command);
        let last = last_output(run, output)?;
        if !last.is_empty() {
            page.push_str("\nIts last lines:\n\n");
            page.extend(last.iter().map(|line| format!("    {}\n", plain::line(line))));
        }
        Ok(page + "\n")
    }
}

fn time(time: &runner_core::summary::PhaseTime) -> String {
    let took = clock_form(time.took);
    match time.status {
        Status::Succeeded => format!("{} {took}", time.phase),
        status => format!("{} {took} {status}", time.phase),
    }
}

fn how(run: &ExecutedCommand) -> String {
    use runner_core::event::CommandOutcome;
    match run.outcome {
        CommandOutcome::Cut => "it ran when the time was up".to_owned(),
        _ => format!("{} after {}", run.outcome, clock_form(run.took)),
    }
}

fn first_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { " …" } else { "" };
    match first.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => format!("{first}{more}"),
    }
}

fn last_output(run: &ExecutedCommand, output: &mut OutputReader) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    for (offset, length) in &run.output {
        bytes.extend_from_slice(output.read(*offset, *length)?);
    }
    Ok(last_lines(&bytes, LINES, WIDTH))
}

/// Escapes everything in a text that Markdown or HTML would interpret.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain::line(text).chars() {
        if c.is_ascii_punctuation() && !".,:/-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markdown() {
        assert_eq!(escaped("a:1 <b> [x](y) `z` | 1"), "a:1 \\<b\\> \\[x\\]\\(y\\) \\`z\\` \\| 1");
        assert_eq!(first_line("a\nb"), "a …");
    }
}
