//! The document to a buildspec that can be run, or to the reasons why not.
//!
//! Fed by `raw`, feeds `plan`. Grammar of values, required keys, names.

use super::diagnostic::{Code, Diagnostic, Span};
use super::model::{
    BuildSpec, Command, OnFailure, PhaseSpec, Retry, Shell, USER_PHASES, UserPhase, Variable,
    Version,
};
use super::raw::{Document, Phase, Text};

/// Most retries `on-failure: RETRY-<n>` can ask for.
const MAX_RETRIES: u32 = 100;
/// Retries where no number is given.
const DEFAULT_RETRIES: u32 = 3;
/// Where the file as a whole is meant.
const FILE: Span = Span { line: 1, column: 1, length: 1 };

/// Judges the document. `None` where no buildspec comes of it.
pub(super) fn validate(document: Document, problems: &mut Vec<Diagnostic>) -> Option<BuildSpec> {
    let version = version(document.version.as_ref(), problems);
    if let (Some(Version::V0_2), Some(span)) = (version, document.old_variables) {
        problems.push(
            Diagnostic::new(
                Code::UnknownKey,
                span,
                "`environment_variables` belongs to version 0.1",
            )
            .hint("in version 0.2 write `env:` with `variables:` under it"),
        );
    }
    if document.phases.is_none() {
        missing_phases(&document, problems);
    }
    let shell = shell(document.shell.as_ref(), problems);
    let variables = document.variables.into_iter().filter_map(|(name, value)| {
        check_name(&name, problems).then_some(Variable { name: name.text, value: value.text })
    });
    let variables: Vec<Variable> = variables.collect();
    let run_as = document.run_as.and_then(|user| user_name(user, problems));
    let mut written = document.phases.unwrap_or_default();
    let phases = USER_PHASES.map(|name| {
        let at = written.iter().position(|phase| phase.phase == name);
        phase(name, at.map(|at| written.swap_remove(at)), problems)
    });
    Some(BuildSpec {
        version: version?,
        run_as,
        shell,
        variables,
        phases,
        uncollected: document.uncollected,
    })
}

fn version(written: Option<&Text>, problems: &mut Vec<Diagnostic>) -> Option<Version> {
    let Some(written) = written else {
        problems.push(
            Diagnostic::new(Code::MissingKey, FILE, "`version` is missing")
                .hint("start the file with `version: 0.2`")
                .aws("Invalid buildspec version: "),
        );
        return None;
    };
    match written.text.as_str() {
        "0.2" => Some(Version::V0_2),
        "0.1" => Some(Version::V0_1),
        other => {
            problems.push(
                Diagnostic::new(
                    Code::BadValue,
                    written.span,
                    format!("there is no buildspec version `{other}`"),
                )
                .hint("write `version: 0.2`")
                .aws(format!("Invalid buildspec version: {other}")),
            );
            None
        }
    }
}

fn missing_phases(document: &Document, problems: &mut Vec<Diagnostic>) {
    problems.push(match document.batch {
        Some(span) => Diagnostic::new(
            Code::NotRunnable,
            span,
            "this buildspec is for batch builds only: it has no `phases`",
        )
        .hint("run the buildspec of one of its builds"),
        None => Diagnostic::new(Code::MissingKey, FILE, "`phases` is missing")
            .hint("a build needs at least `phases:`, `build:` and `commands:`"),
    });
}

fn shell(written: Option<&Text>, problems: &mut Vec<Diagnostic>) -> Shell {
    let program = match written.map(|shell| shell.text.as_str()) {
        None | Some("sh" | "/bin/sh") => "/bin/sh",
        Some(shell @ ("bash" | "/bin/bash")) => shell,
        Some(other) => {
            let (code, hint) = match other {
                "powershell.exe" | "cmd.exe" | "pwsh" => {
                    (Code::NotRunnable, "Windows shells run on Windows images only")
                }
                _ => (Code::BadValue, "CodeBuild knows `sh` and `bash` on Linux"),
            };
            let message = format!("commands cannot be run with `{other}`");
            let span = written.map_or(FILE, |shell| shell.span);
            problems.push(Diagnostic::new(code, span, message).hint(hint));
            other
        }
    };
    Shell { program: program.to_owned() }
}

/// Whether a shell can hold a variable of that name.
fn check_name(name: &Text, problems: &mut Vec<Diagnostic>) -> bool {
    let mut chars = name.text.chars();
    let fits = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits {
        problems.push(
            Diagnostic::new(
                Code::BadName,
                name.span,
                format!("no shell can hold a variable named `{}`; it is left out", name.text),
            )
            .hint("use letters, digits and `_`, and no digit first"),
        );
    } else if name.text.starts_with("CODEBUILD_") {
        problems.push(
            Diagnostic::new(
                Code::ReservedName,
                name.span,
                format!("`{}`: names that start with CODEBUILD_ are CodeBuild's own", name.text),
            )
            .hint("choose another name; CodeBuild may overwrite this one"),
        );
    }
    fits
}

fn user_name(user: Text, problems: &mut Vec<Diagnostic>) -> Option<String> {
    let fits = !user.text.is_empty() && !user.text.contains([':', '/', '\n', '\0']);
    if !fits {
        let message = format!("`{}` cannot be the name of a user", user.text.escape_debug());
        problems.push(Diagnostic::new(Code::BadValue, user.span, message));
    }
    fits.then_some(user.text)
}

fn phase(name: UserPhase, written: Option<Phase>, problems: &mut Vec<Diagnostic>) -> PhaseSpec {
    let present = written.is_some();
    let written = written.unwrap_or(Phase {
        phase: name,
        run_as: None,
        on_failure: None,
        commands: Vec::new(),
        finally: Vec::new(),
    });
    let commands = |texts: Vec<Text>| {
        texts.into_iter().map(|text| Command { text: text.text, span: text.span }).collect()
    };
    PhaseSpec {
        phase: name,
        present,
        run_as: written.run_as.and_then(|user| user_name(user, problems)),
        on_failure: written
            .on_failure
            .map_or(OnFailure::Default, |written| on_failure(&written, problems)),
        commands: commands(written.commands),
        finally: commands(written.finally),
    }
}

/// `ABORT`, `CONTINUE`, `RETRY`, `RETRY-<count>`, `RETRY-<regex>` or `RETRY-<count>-<regex>`.
fn on_failure(written: &Text, problems: &mut Vec<Diagnostic>) -> OnFailure {
    let text = written.text.as_str();
    let mut refuse = |message: String, hint: &str| {
        problems.push(Diagnostic::new(Code::BadValue, written.span, message).hint(hint));
        OnFailure::Default
    };
    if text.eq_ignore_ascii_case("ABORT") {
        return OnFailure::Abort;
    }
    if text.eq_ignore_ascii_case("CONTINUE") {
        return OnFailure::Continue;
    }
    let (head, rest) = text.split_at_checked("RETRY".len()).unwrap_or((text, ""));
    if !head.eq_ignore_ascii_case("RETRY") || !(rest.is_empty() || rest.starts_with('-')) {
        return refuse(
            format!("on-failure cannot be `{text}`"),
            "it is ABORT, CONTINUE, RETRY, RETRY-<count>, RETRY-<regex> or RETRY-<count>-<regex>",
        );
    }
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let (first, after) = match rest.split_once('-') {
        Some((first, after)) => (first, Some(after)),
        None => (rest, None),
    };
    let is_count = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    let (count, pattern) = if is_count { (Some(first), after) } else { (None, Some(rest)) };
    let count = match count.map(str::parse::<u32>) {
        None => DEFAULT_RETRIES,
        Some(Ok(count)) if count <= MAX_RETRIES => count,
        Some(_) => {
            return refuse(
                format!("a phase cannot be retried {first} times"),
                "the count is between 0 and 100",
            );
        }
    };
    let pattern = pattern.filter(|pattern| !pattern.is_empty());
    if let Some(Err(error)) = pattern.map(regex_lite::Regex::new) {
        return refuse(
            format!("on-failure holds a pattern that does not parse: {error}"),
            "after RETRY- comes a regular expression for the failure's message",
        );
    }
    OnFailure::Retry(Retry { count, pattern: pattern.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Severity, parse};

    fn retry(text: &str) -> Option<(u32, Option<String>)> {
        let written = Text { text: text.to_owned(), span: FILE };
        match on_failure(&written, &mut Vec::new()) {
            OnFailure::Retry(retry) => Some((retry.count, retry.pattern)),
            _ => None,
        }
    }

    #[test]
    fn every_form_of_retry_is_read() {
        assert_eq!(retry("RETRY"), Some((3, None)));
        assert_eq!(retry("retry-0"), Some((0, None)));
        assert_eq!(retry("RETRY-100"), Some((100, None)));
        assert_eq!(retry("RETRY-101"), None);
        assert_eq!(retry("RETRY-.*time.*out"), Some((3, Some(".*time.*out".to_owned()))));
        assert_eq!(retry("RETRY-5-a-b"), Some((5, Some("a-b".to_owned()))));
        assert_eq!(retry("RETRY-exit-5"), Some((3, Some("exit-5".to_owned()))));
        assert_eq!(retry("RETRY-("), None);
        assert_eq!(retry("RETRYING"), None);
    }

    #[test]
    fn all_problems_come_at_once_in_file_order() {
        let source = "version: 0.3\nenv:\n  shel: bash\n  variables:\n    A-B: 1\n    CODEBUILD_X: 2\n\
                      phases:\n  biuld:\n    commands: [x]\n  build:\n    on-failure: PANIC\n    \
                      commands:\n      - echo a: b\n      - ok\n";
        let problems = parse(source).expect_err("has errors");
        let told: Vec<_> = problems
            .iter()
            .map(|problem| (problem.code.name(), problem.span.line, problem.span.column))
            .collect();
        assert_eq!(
            told,
            [
                ("bad-value", 1, 10),
                ("unknown-key", 3, 3),
                ("bad-name", 5, 5),
                ("reserved-name", 6, 5),
                ("unknown-key", 8, 3),
                ("bad-value", 11, 17),
                ("command-is-map", 13, 9),
            ]
        );
        assert!(problems[4].hint.as_deref().is_some_and(|hint| hint.contains("`build`")));
        assert_eq!(
            problems[6].aws.as_deref(),
            Some(
                "Expected Commands[0] to be of string type: found subkeys instead at line 13, value \
                 of the key tag on line 12 might be empty"
            )
        );
    }

    #[test]
    fn a_small_buildspec_becomes_four_phases() {
        let (spec, warnings) = parse(
            "version: 0.2\nphases:\n  build:\n    run-as: bob\n    commands: echo hi\n    finally:\n    \
             - 3\n    - # nothing\n",
        )
        .expect("is sound");
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(spec.phases.iter().filter(|phase| phase.present).count(), 1);
        let build = &spec.phases[2];
        assert_eq!(build.run_as.as_deref(), Some("bob"));
        assert_eq!(build.commands.len(), 1);
        assert_eq!(build.finally.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn what_is_not_carried_out_is_named_with_its_line() {
        let (spec, warnings) = parse(
            "version: 0.2\nenv:\n  secrets-manager:\n    A: b\nphases:\n  install:\n    \
             runtime-versions:\n      python: 3.10\n  build:\n    commands: [a]\nartifacts:\n  files: \
             ['**/*']\n",
        )
        .expect("is sound");
        let told: Vec<_> = warnings.iter().map(|w| (w.span.line, w.severity)).collect();
        assert_eq!(told, [(3, Severity::Warning), (7, Severity::Warning)]);
        assert_eq!(spec.uncollected, ["artifacts"]);
    }

    #[test]
    fn no_phases_no_build() {
        for (source, message) in [
            ("version: 0.2\n", "`phases` is missing"),
            ("version: 0.2\nbatch:\n  build-list: []\n", "batch builds only"),
            ("", "empty"),
            ("- a\n", "must be a map"),
            ("phases:\n", "`version` is missing"),
        ] {
            let problems = parse(source).expect_err(source);
            assert!(
                problems.iter().any(|problem| problem.message.contains(message)),
                "{source:?}: {problems:?}"
            );
        }
    }
}
