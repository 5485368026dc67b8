//! Formats a file's diagnostics for a person: position, line, caret, hint.
//!
//! The text may come from anyone: it must not control the terminal, and its length is limited.

use runner_core::plain;
use runner_core::spec::{Diagnostic, Few, LineColumn, Severity};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

/// Maximum characters shown of a source line.
const WIDTH: usize = 160;

/// A file's problems in the style of compilers, up to a maximum number.
pub(super) fn diagnostics<'p>(
    file: &str,
    source: &str,
    problems: impl IntoIterator<Item = &'p Diagnostic>,
) -> String {
    let few = Few::of(problems);
    let lines = lines_of(source, &few.shown);
    let mut text = String::new();
    for problem in &few.shown {
        diagnostic(&mut text, file, lines.get(&problem.span.line).copied(), problem);
    }
    if let Some(rest) = few.rest() {
        text.push_str(&rest);
        text.push('\n');
    }
    text
}

/// The lines that problems refer to, by number; reads the text once.
pub(super) fn lines_of<'s>(source: &'s str, problems: &[&Diagnostic]) -> HashMap<u32, &'s str> {
    let wanted: BTreeSet<u32> =
        problems.iter().map(|problem| problem.span.line).filter(|line| *line > 0).collect();
    let mut lines = source.lines();
    let mut next = 1;
    let mut found = HashMap::with_capacity(wanted.len());
    for number in wanted {
        let skipped = number - next;
        let Some(line) = lines.nth(skipped as usize) else { break };
        found.insert(number, line);
        next = number + 1;
    }
    found
}

fn diagnostic(text: &mut String, file: &str, line: Option<&str>, problem: &Diagnostic) {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let (file, message) = (plain::line(file), text_of(&problem.message));
    let span = problem.span;
    let line = line.filter(|line| !line.trim().is_empty());
    let number = span.line.to_string();
    let gutter = " ".repeat(number.len());
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{severity}[{}]: {message}", problem.code.name());
    let _ = match (span.line, span.column) {
        (0, _) => writeln!(text, "{gutter}--> {file}"),
        (line, 0) => writeln!(text, "{gutter}--> {file}:{line}"),
        (line, column) => writeln!(text, "{gutter}--> {file}:{line}:{column}"),
    };
    if let Some(line) = line {
        let (shown, shift) = window(line, span.column as usize);
        let shown = plain::line(shown);
        let before: String = shown
            .chars()
            .take((span.column as usize).saturating_sub(1 + shift))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = shown.chars().count().saturating_sub(before.chars().count()).max(1);
        let caret = "^".repeat((span.length as usize).clamp(1, room));
        let _ = writeln!(text, "{gutter} |\n{number} | {shown}\n{gutter} | {before}{caret}");
    }
    if let Some(LineColumn { line, column }) = span.written {
        let _ = writeln!(text, "{gutter} = note: its text is at {file}:{line}:{column}");
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(text, "{gutter} = hint: {}", text_of(hint));
    }
}

/// A message for one line, which may quote much of the file.
fn text_of(message: &str) -> Cow<'_, str> {
    const LONGEST: usize = 1000;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", plain::line(&message[..end])).into(),
        None => plain::line(message),
    }
}

/// The part of a long line around a column, and the number of characters omitted before it.
fn window(line: &str, column: usize) -> (&str, usize) {
    // Scan no more of the line than what lies before that part.
    if line.len() <= WIDTH || line.chars().nth(WIDTH).is_none() {
        return (line, 0);
    }
    let shift = column.saturating_sub(WIDTH / 2);
    let after = |text: &str, count: usize| text.char_indices().nth(count).map(|(at, _)| at);
    let begin = after(line, shift).unwrap_or(line.len());
    let part = &line[begin..];
    (after(part, WIDTH).map_or(part, |end| &part[..end]), shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let source = "version: 0.2\nphases:\n  biuld:\n    commands: [a]\n";
        let problems = runner_core::spec::parse(source).map(|(_, warnings)| warnings);
        assert_eq!(
            diagnostics("b.yml", source, &problems.expect("only warnings")),
            "warning[unknown-key]: `biuld` is not a key of phases; it is ignored\n \
             --> b.yml:3:3\n  |\n3 |   biuld:\n  |   ^^^^^\n  = hint: did you mean `build`?\n"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = "x".repeat(1000);
        let (shown, shift) = window(&line, 900);
        assert_eq!((shown.len(), shift), (160, 820));
        let long = "é".repeat(1000);
        let (shown, shift) = window(&long, 990);
        assert_eq!((shown.chars().count(), shift), (90, 910));
    }
}
