//! `phases`: users, commands, `on-failure`, runtimes.

use super::super::diagnostic::{Diagnostic, DiagnosticCode};
use super::super::model::{OnFailure, PhaseSpec, Retry, Runtime, SpecCommand, UserPhase};
use super::super::read::{NodeSlot, Text};

/// Maximum number of retries in `on-failure: RETRY-<n>`.
const MAX_RETRIES: u32 = 100;
/// Default number of retries.
const DEFAULT_RETRIES: u32 = 3;

pub(super) fn phase(
    phase: UserPhase,
    written: NodeSlot<'_>,
    problems: &mut Vec<Diagnostic>,
) -> PhaseSpec {
    let commands = |name: &str| {
        let texts = written.get(name).texts().into_iter();
        let command = |Text { text, span, block }| SpecCommand { text, span, block };
        texts.map(command).collect::<Vec<_>>()
    };
    let spec = PhaseSpec {
        phase,
        present: written.is_written(),
        run_as: user_name(written.get("run-as"), problems),
        on_failure: written
            .get("on-failure")
            .text()
            .map_or(OnFailure::Default, |written| on_failure(&written, problems)),
        commands: commands("commands"),
        finally: commands("finally"),
    };
    // Invalid commands were reported already.
    let is_empty = written.get("commands").items().next().is_none() && spec.commands.is_empty();
    if spec.present && is_empty && phase != UserPhase::Install {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::NoCommands,
                written.span(),
                format!("the phase `{}` has no commands", phase.key()),
            )
            .hint("CodeBuild asks for `commands` here; the phase does nothing"),
        );
    }
    spec
}

pub(super) fn user_name(user: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Option<String> {
    let user = user.text()?;
    let fits = !user.text.is_empty() && !user.text.contains([':', '/', '\n', '\0']);
    if !fits {
        let message = format!("`{}` cannot be the name of a user", user.text.escape_debug());
        problems.push(Diagnostic::new(DiagnosticCode::BadValue, user.span, message));
    }
    fits.then_some(user.text)
}

pub(super) fn runtimes(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Vec<Runtime> {
    let entries = map.named_texts();
    if map.is_there() && entries.is_empty() {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::MissingKey,
                map.span(),
                "`runtime-versions` names no runtime",
            )
            .hint("name one, such as `python: 3.12`, or leave the key out"),
        );
    }
    let mut runtimes = Vec::new();
    for (name, version) in entries {
        if version.text.trim().is_empty() {
            let message = format!("the runtime `{}` has no version", name.text);
            problems.push(
                Diagnostic::new(DiagnosticCode::BadValue, version.span, message)
                    .hint("write an exact version, `<major>.x` or `latest`"),
            );
        } else {
            let text = version.text.trim().to_owned();
            runtimes.push(Runtime { name: name.text, version: text, span: version.span });
        }
    }
    runtimes
}

/// Parses `ABORT`, `CONTINUE`, `RETRY`, `RETRY-<count>`, `RETRY-<regex>` or
/// `RETRY-<count>-<regex>`.
fn on_failure(written: &Text, problems: &mut Vec<Diagnostic>) -> OnFailure {
    let text = written.text.as_str();
    let mut refuse = |message: String, hint: &str| {
        problems.push(Diagnostic::new(DiagnosticCode::BadValue, written.span, message).hint(hint));
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
            format!("on-failure contains an invalid pattern: {error}"),
            "after RETRY- comes a regular expression for the failure's message",
        );
    }
    OnFailure::Retry(Retry { count, pattern: pattern.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::super::FILE;
    use super::*;

    fn retry(text: &str) -> Option<(u32, Option<String>)> {
        let written = Text::new(text, FILE);
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
}
