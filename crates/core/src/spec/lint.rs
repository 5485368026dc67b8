//! Warns where a valid buildspec may not do what its author expects.
//!
//! Uses the result of `validate` and reports only warnings. It reads commands as a person would,
//! not as a shell would: quoted text, comments and here-documents are ignored, and uncertain cases
//! are not reported.

use super::diagnostic::{Diagnostic, DiagnosticCode as Kind, Span};
use super::model::{BuildSpec, SpecCommand, SpecVersion};
use super::read::NodeSlot;
use super::unset::{self, Unset};
use super::yaml::YamlNode;
use regex_lite::Regex;
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Checks a buildspec; `node` is its tree.
pub(super) fn lint(spec: &BuildSpec, node: &YamlNode, problems: &mut Vec<Diagnostic>) {
    let document = NodeSlot::root(node);
    for (name, value) in document.get("env").get("variables").named_texts() {
        if EXPANSION.is_match(&value.text) {
            problems.push(
                Diagnostic::new(
                    Kind::NotExpanded,
                    value.span,
                    format!(
                        "the value of {} is used as written: nothing in it is expanded",
                        name.text
                    ),
                )
                .hint(format!("set it in a command: export {}=...", name.text)),
            );
        }
    }
    let is_sh = !spec.shell.program.ends_with("bash");
    for phase in &spec.phases {
        for command in phase.commands.iter().chain(&phase.finally) {
            let code = CommandCode::of(&command.text);
            if is_sh {
                bashisms(command, &code, problems);
            }
            lost_state(spec.version, command, &code, problems);
        }
    }
    problems.extend(unset::unset(spec, |_, _| true).iter().map(nothing_sets));
}

/// Maximum number of lines in a message.
const MOST_LINES: usize = 6;

fn nothing_sets(found: &Unset) -> Diagnostic {
    let (name, lines) = (&found.name, found.lines());
    let (first, others) = (found.places.first().copied().unwrap_or_default(), &lines[1..]);
    let mut message = format!("nothing in the buildspec sets {name}");
    if !others.is_empty() {
        let word = if others.len() == 1 { "line" } else { "lines" };
        let shown: Vec<String> = others.iter().take(MOST_LINES).map(u32::to_string).collect();
        let more = if others.len() > shown.len() { ", ..." } else { "" };
        message.push_str(&format!("; used also on {word} {}{more}", shown.join(", ")));
    }
    Diagnostic::new(Kind::UnsetVariable, first, message).hint(format!(
        "if the project in CodeBuild sets it: `runner run -e {name}=...`, --env-file FILE or \
         --project-json FILE"
    ))
}

static EXPANSION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\$[A-Za-z_{(]"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

/// The start of a statement.
const BEGIN: &str = r"(?:^|[;&|({\n]|\b(?:if|then|else|elif|do|while|until|!)\s)\s*";

/// A feature that only bash has.
struct Bashism {
    /// Texts, one of which it contains. Searched first, because most commands have none.
    needles: &'static [&'static str],
    pattern: LazyLock<Regex>,
    name: &'static str,
    /// The equivalent in sh.
    instead: &'static str,
}

macro_rules! bashisms {
    ($($needles:tt $pattern:expr, $name:literal, $instead:literal;)+) => {
        [$(Bashism {
            needles: &$needles,
            pattern: LazyLock::new(|| pattern(&$pattern.replace("BEGIN", BEGIN))),
            name: $name,
            instead: $instead,
        }),+]
    };
}

static BASHISMS: [Bashism; 16] = bashisms! {
    ["[["] r"BEGIN\[\[", "`[[`", "write `[ ... ]`";
    ["source"] r"BEGINsource\s", "`source`", "write `.`";
    ["function"] r"BEGINfunction\s+\w+", "`function`", "write `name() {`";
    ["pushd", "popd"] r"BEGIN(?:pushd|popd)\b", "`pushd` and `popd`", "write `cd`";
    ["shopt"] r"BEGINshopt\s", "`shopt`", "do without";
    ["declare", "typeset", "let"] r"BEGIN(?:declare|typeset|let)\s", "`declare`, `typeset`, `let`",
        "write `name=value`";
    ["(("] r"BEGIN\(\(", "`((...))`", "write `[ $((...)) -ne 0 ]`";
    ["pipefail"] r"BEGINset\s+[-\w\s]*-?o\s+pipefail", "`set -o pipefail`", "it needs bash";
    ["=("] r"BEGIN\w+\+?=\(", "an array", "use separate variables";
    ["<<<"] r"<<<", "`<<<`", "write `printf ... |`";
    ["<(", ">("] r"[<>]\(", "`<(...)`", "write to a file first";
    ["&>"] r"&>", "`&>`", "write `> file 2>&1`";
    ["|&"] r"\|&", "`|&`", "write `2>&1 |`";
    ["${"] r"\$\{\w+(?:\[|\^|,|//?|:-?\d|:\s)", "this expansion", "use sed, tr or cut";
    ["${!"] r"\$\{!\w", "`${!name}`", "use eval";
    [".."] r"\{\d+\.\.\d+\}", "`{1..9}`", "use seq";
};

fn bashisms(command: &SpecCommand, code: &CommandCode, problems: &mut Vec<Diagnostic>) {
    let text = &code.text;
    let found = BASHISMS.iter().find_map(|bashism| {
        let is_there = bashism.needles.iter().any(|needle| text.contains(needle));
        let found = is_there.then(|| bashism.pattern.find(text)).flatten()?;
        Some((bashism, found.end() - 1))
    });
    if let Some((Bashism { name, instead, .. }, at)) = found {
        problems.push(
            Diagnostic::new(
                Kind::Bashism,
                code.place(command, at),
                format!(
                    "{name} is bash's; `sh` of Debian and Ubuntu images is dash and has none of it"
                ),
            )
            .hint(format!("set `shell: bash` under `env:`, or {instead}")),
        );
    }
}

/// A command that only changes its own shell, in a way that is lost when it ends.
static SHELL_ONLY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^\s*(?:set\s+[-+]\w*(?:\s+\w+)?|trap\s.*|alias\s.*|umask\s+\w+|ulimit\s.*|shopt\s.*|\w+\s*\(\)\s*\{[^\n]*\})\s*;?\s*$",
    )
});
static DIRECTORY_OR_VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\s*(?:cd\s[^;&|\n]*|(?:export\s+)?\w+=[^;&|\n]*|export\s+\w+)\s*;?\s*$")
});
static EXPORTS: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"{BEGIN}(?:export\s+\w+=|cd\s)")));
/// `exit` or `exit 0`. With another status, the build has failed anyway.
static EXITS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:^|[;\n]|(?:then|else|do)\s|&&)\s*exit(?:\s+0)?\s*(?:$|[;\n]|\bfi\b|\})")
});

/// What a command loses when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostState {
    /// Position in the command's code.
    at: usize,
    /// What is lost, in one sentence.
    pub told: &'static str,
    /// How to keep it.
    pub hint: &'static str,
    /// Whether directory and variables are lost, which other commands keep.
    pub is_environment: bool,
}

/// What this command loses when it ends and later ones may count on.
#[must_use]
pub fn lost(version: SpecVersion, command: &str) -> Option<LostState> {
    lost_in(version, &code_of(command).0)
}

fn lost_state(
    version: SpecVersion,
    command: &SpecCommand,
    of: &CommandCode,
    problems: &mut Vec<Diagnostic>,
) {
    let Some(LostState { at, told, hint, .. }) = lost_in(version, &of.text) else { return };
    problems.push(Diagnostic::new(Kind::LostState, of.place(command, at), told).hint(hint));
}

fn lost_in(version: SpecVersion, code: &str) -> Option<LostState> {
    let first = code.trim_start();
    let begin = code.len() - first.len();
    let starts_with = |words: &[&str]| words.iter().any(|word| first.starts_with(word));
    let (at, told, hint, is_environment) = if version == SpecVersion::V0_1
        && DIRECTORY_OR_VARIABLE.is_match(code)
    {
        (
            begin,
            "in version 0.1 every command starts afresh: this has no effect on the next one",
            "write `version: 0.2`, or join the commands with `&&`",
            true,
        )
    } else if (starts_with(&["set", "trap", "alias", "umask", "ulimit", "shopt"])
        || code.contains("()"))
        && SHELL_ONLY.is_match(code)
    {
        (
            begin,
            "each command has its own shell: this has no effect on the next one",
            "write it and the commands it is for as one command, under `- |`",
            false,
        )
    } else if version == SpecVersion::V0_2
        && code.contains("exit")
        && let Some(exit) = EXITS.find(code)
        && let Some(export) = EXPORTS.find(code)
        && !code[..export.start()].contains('(')
    {
        (
            exit.start() + exit.as_str().find("exit").unwrap_or(0),
            "`exit` ends this command before its directory and variables are saved: the next one \
             does not have them",
            "let the command come to its end instead: `if`, or `true`",
            true,
        )
    } else {
        return None;
    };
    Some(LostState { at, told, hint, is_environment })
}

/// A command's text without quotes, comments and input for other programs.
struct CommandCode {
    text: String,
    /// The start of each line of the command in `text`.
    lines: Vec<usize>,
}

impl CommandCode {
    /// The place in the file of an offset in the code.
    fn place(&self, command: &SpecCommand, at: usize) -> Span {
        command.line_span(self.lines.partition_point(|start| *start <= at).saturating_sub(1))
    }

    fn of(text: &str) -> Self {
        let (text, lines) = code_of(text);
        CommandCode { text, lines }
    }
}

fn code_of(text: &str) -> (String, Vec<usize>) {
    let mut code = String::with_capacity(text.len());
    let mut lines = Vec::new();
    let mut awaited: VecDeque<String> = VecDeque::new();
    let mut inside: Option<String> = None;
    let mut quote: Option<char> = None;
    for line in text.split_inclusive('\n') {
        lines.push(code.len());
        if let Some(end) = &inside {
            if line.trim() == end {
                inside = awaited.pop_front();
            }
            continue;
        }
        let mut chars = line.chars().peekable();
        let mut last = '\n';
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => {
                    quote = None;
                    code.push('_');
                }
                (Some('"'), '\\') => drop(chars.next()),
                // Expansions in double quotes are still code.
                (Some('"'), '$') if chars.peek() == Some(&'{') => {
                    code.push('$');
                    for inner in chars.by_ref() {
                        code.push(inner);
                        if inner == '}' {
                            break;
                        }
                    }
                }
                (Some(_), _) => {}
                (None, '\\') => {
                    code.push('_');
                    chars.next();
                }
                (None, '\'' | '"') => quote = Some(c),
                (None, '#') if last.is_whitespace() || last == ';' => {
                    code.push('\n');
                    break;
                }
                (None, '<') if chars.peek() == Some(&'<') && last != '<' => {
                    let mut rest = chars.clone().skip(1).peekable();
                    code.push('<');
                    if rest.peek() != Some(&'<') {
                        let end: String = rest
                            .skip_while(|c| *c == '-')
                            .skip_while(|c| c.is_whitespace())
                            .take_while(|c| c.is_alphanumeric() || "_'\"\\-".contains(*c))
                            .filter(|c| !"'\"\\".contains(*c))
                            .collect();
                        if !end.is_empty() {
                            awaited.push_back(end);
                        }
                    }
                }
                (None, _) => code.push(c),
            }
            last = c;
        }
        if quote.is_none() && inside.is_none() {
            inside = awaited.pop_front();
        }
    }
    (code, lines)
}

#[cfg(test)]
mod tests {
    use crate::spec::check;

    fn told(head: &str, command: &str) -> Vec<&'static str> {
        let text = serde_json::to_string(command).expect("a string");
        let source = format!("{head}\nphases:\n  build:\n    commands:\n      - {text}\n");
        let (_, warnings) = check(&source).expect("is sound");
        warnings.iter().map(|warning| warning.code.name()).collect()
    }

    const SH: &str = "version: 0.2";

    #[test]
    fn what_only_bash_has_is_told_under_sh() {
        for command in [
            "[[ -f x ]] && make",
            "if [[ $A == b ]]; then make; fi",
            "source ./env.sh",
            "set -euo pipefail; make",
            "make &> log",
            "echo ${NAME^^}",
            "echo \"${NAME//a/b}\"",
            "cat <<< \"$X\"",
            "diff <(a) <(b)",
            "for i in {1..5}; do echo $i; done",
            "pushd dir",
            "LIST=(a b)",
        ] {
            assert!(told(SH, command).contains(&"bashism"), "{command}");
            let bash = "version: 0.2\nenv:\n  shell: bash";
            assert!(!told(bash, command).contains(&"bashism"), "{command}");
        }
    }

    #[test]
    fn what_is_told_of_a_block_is_told_at_its_line() {
        let source = "version: 0.2\nx: &x\n  - |\n    true\n    source b\nphases:\n  build:\n    commands:\n      - |\n\n        \
                      echo 'a\n          b' # [[ c\n        cat <<EOF\n        [[ d\n        EOF\n          if [[ e ]]; then f; \
                      fi\n      - |-\n        export A=1\n        if b; then\n          exit 0\n        fi\n      - >\n        \
                      a;\n        [[ b ]]\n  post_build:\n    commands: *x\n";
        let (_, warnings) = check(source).expect("is sound");
        let told: Vec<_> = warnings
            .iter()
            .filter(|warning| warning.code != super::Kind::UnknownKey)
            .map(|warning| {
                let written = warning.span.written.map(|place| (place.line, place.column));
                (warning.code.name(), warning.span.line, warning.span.column, written)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("bashism", 16, 11, None),
                ("lost-state", 20, 11, None),
                ("bashism", 23, 9, None),
                ("bashism", 26, 15, Some((5, 5))),
            ]
        );
    }

    #[test]
    fn what_sh_has_too_is_not_told() {
        for command in [
            "[ -f x ] && . ./env.sh",
            "bash -c '[[ -f x ]]'",
            "echo \"a [[ b\" # source it",
            "cat > x <<'EOF'\nsource me\nif [[ a ]]\nEOF\necho done",
            "echo ${NAME:-default} ${NAME%.*} ${NAME#a} $((1 + 2)) $(date)",
            "make > log 2>&1 &",
            "sed -e 's/[[:space:]]//' file",
            "grep '[[]' x",
            "aws s3 cp a s3://b --source c",
            "echo open-source code",
        ] {
            assert_eq!(told(SH, command), [""; 0], "{command}");
        }
    }

    #[test]
    fn what_is_lost_is_told() {
        for command in [
            "set -e",
            "set -ex",
            "alias ll='ls -l'",
            "umask 077",
            "f() { make; }",
            "export A=1\nexit 0",
            "if [ -z \"$B\" ]; then export A=1; exit; fi",
        ] {
            assert_eq!(told(SH, command), ["lost-state"], "{command}");
        }
        for command in
            ["export A=1", "cd src", "export A=1; make || exit 1", "(cd src; exit 0)", "exit 0"]
        {
            assert_eq!(told(SH, command), [""; 0], "{command}");
        }
        for command in ["cd src", "export A=1", "A=1"] {
            assert_eq!(told("version: 0.1", command), ["lost-state"], "{command}");
        }
        assert_eq!(told("version: 0.1", "cd src && make"), [""; 0]);
    }

    #[test]
    fn values_that_hope_for_expansion_are_told() {
        let head = "version: 0.2\nenv:\n  variables:\n    A: $HOME/x\n    B: 5$\n    C: $(date)\n    D: ${E}";
        assert_eq!(told(head, "make"), ["not-expanded"; 3]);
    }
}
