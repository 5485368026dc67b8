//! Diagnostics of a buildspec, drawn for a person: place, line, caret, hint.

use runner_core::spec::{Diagnostic, Severity};
use std::fmt::Write;

/// One problem in the form of compilers.
pub(super) fn diagnostic(file: &str, source: &str, problem: &Diagnostic) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = format!("{severity}[{}]: {}\n", problem.code.name(), problem.message);
    let span = problem.span;
    let line = (span.line > 0)
        .then(|| source.lines().nth(span.line as usize - 1))
        .flatten()
        .filter(|line| !line.trim().is_empty());
    let number = span.line.to_string();
    let gutter = " ".repeat(number.len());
    // Writing into a String cannot fail.
    let _ = match (span.line, span.column) {
        (0, _) => writeln!(text, "{gutter}--> {file}"),
        (line, 0) => writeln!(text, "{gutter}--> {file}:{line}"),
        (line, column) => writeln!(text, "{gutter}--> {file}:{line}:{column}"),
    };
    if let Some(line) = line {
        let (shown, shift) = window(line, span.column as usize);
        let before: String = shown
            .chars()
            .take((span.column as usize).saturating_sub(1 + shift))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let room = shown.chars().count().saturating_sub(before.chars().count()).max(1);
        let caret = "^".repeat((span.length as usize).clamp(1, room));
        let _ = writeln!(text, "{gutter} |\n{number} | {shown}\n{gutter} | {before}{caret}");
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(text, "{gutter} = hint: {hint}");
    }
    text
}

/// The part of a long line around a column, and how many characters are left out before it.
fn window(line: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 160;
    if line.chars().count() <= WIDTH {
        return (line.to_owned(), 0);
    }
    let shift = column.saturating_sub(WIDTH / 2);
    (line.chars().skip(shift).take(WIDTH).collect(), shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let source = "version: 0.2\nphases:\n  biuld:\n    commands: [a]\n";
        let problems = runner_core::spec::parse(source).map(|(_, warnings)| warnings);
        let problem = &problems.expect("only warnings")[0];
        assert_eq!(
            diagnostic("b.yml", source, problem),
            "warning[unknown-key]: `biuld` is not a key of phases; it is ignored\n \
             --> b.yml:3:3\n  |\n3 |   biuld:\n  |   ^^^^^\n  = hint: did you mean `build`?\n"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let (shown, shift) = window(&"x".repeat(1000), 900);
        assert_eq!((shown.len(), shift), (160, 820));
    }
}
