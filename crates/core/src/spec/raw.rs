//! The tree of a buildspec to the document as its author wrote it: known keys in their places,
//! values of the right shape, nothing judged yet.
//!
//! Fed by `yaml`, feeds `validate`. A key that is misspelt, repeated, of the wrong shape or not
//! carried out yet is told here; a wrong shape leaves its value out so that the rest is still
//! looked at.

use super::diagnostic::{Code, Diagnostic, Span};
use super::model::{USER_PHASES, UserPhase};
use super::yaml::{Node, Value};

/// A text with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) span: Span,
}

/// A buildspec as written.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) version: Option<Text>,
    pub(super) run_as: Option<Text>,
    pub(super) shell: Option<Text>,
    pub(super) variables: Vec<(Text, Text)>,
    /// `environment_variables`, the key of version 0.1.
    pub(super) old_variables: Option<Span>,
    pub(super) phases: Option<Vec<Phase>>,
    pub(super) batch: Option<Span>,
    pub(super) uncollected: Vec<&'static str>,
}

/// A phase as written.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) phase: UserPhase,
    pub(super) run_as: Option<Text>,
    pub(super) on_failure: Option<Text>,
    pub(super) commands: Vec<Text>,
    pub(super) finally: Vec<Text>,
}

const TOP: [&str; 10] = [
    "version",
    "run-as",
    "env",
    "environment_variables",
    "proxy",
    "batch",
    "phases",
    "reports",
    "artifacts",
    "cache",
];
const ENV: [&str; 6] = [
    "shell",
    "variables",
    "parameter-store",
    "secrets-manager",
    "exported-variables",
    "git-credential-helper",
];
const PHASE: [&str; 6] =
    ["run-as", "on-failure", "runtime-versions", "commands", "finally", "steps"];

/// Reads the document; `None` where it is not even a map.
pub(super) fn read(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Document> {
    let mut reader = Reader { problems };
    let mut document = Document::default();
    if node.value == Value::Null {
        let message = "the buildspec is empty";
        let hint = "it needs at least `version: 0.2` and `phases:`";
        let span = Span { line: 1, column: 1, length: 1 };
        problems.push(Diagnostic::new(Code::MissingKey, span, message).hint(hint));
        return None;
    }
    for (key, value) in reader.map(node, "the buildspec", &TOP)? {
        match key.text.as_str() {
            "version" => document.version = reader.text(value, "version"),
            "run-as" => document.run_as = reader.text(value, "run-as"),
            "env" => reader.env(value, &mut document),
            "environment_variables" => {
                document.old_variables = Some(key.span);
                for (inner, value) in
                    reader.map(value, "environment_variables", &["plaintext"]).unwrap_or_default()
                {
                    if inner.text == "plaintext" {
                        document.variables.extend(reader.variables(value, "plaintext"));
                    }
                }
            }
            "phases" => document.phases = reader.phases(value),
            "batch" => document.batch = Some(key.span),
            "artifacts" | "reports" | "cache" => {
                let name = TOP.into_iter().find(|name| *name == key.text);
                document.uncollected.extend(name);
            }
            "proxy" => {
                // Routes CodeBuild's own uploads; there is nothing of the kind here.
            }
            _ => {}
        }
    }
    Some(document)
}

/// Walks nodes and gathers what is wrong with them.
struct Reader<'a> {
    problems: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn env(&mut self, node: &Node, document: &mut Document) {
        for (key, value) in self.map(node, "env", &ENV).unwrap_or_default() {
            match key.text.as_str() {
                "shell" => document.shell = self.text(value, "env.shell"),
                "variables" => document.variables.extend(self.variables(value, "env.variables")),
                "parameter-store"
                | "secrets-manager"
                | "exported-variables"
                | "git-credential-helper" => self.not_yet(&key, "env."),
                _ => {}
            }
        }
    }

    fn phases(&mut self, node: &Node) -> Option<Vec<Phase>> {
        let keys = USER_PHASES.map(UserPhase::key);
        let mut phases = Vec::new();
        for (key, value) in self.map(node, "phases", &keys)? {
            let Some(phase) = USER_PHASES.into_iter().find(|phase| phase.key() == key.text) else {
                continue;
            };
            phases.push(self.phase(phase, value));
        }
        Some(phases)
    }

    fn phase(&mut self, phase: UserPhase, node: &Node) -> Phase {
        let name = format!("phases.{}", phase.key());
        let mut read = Phase {
            phase,
            run_as: None,
            on_failure: None,
            commands: Vec::new(),
            finally: Vec::new(),
        };
        if node.value == Value::Null {
            return read;
        }
        for (key, value) in self.map(node, &name, &PHASE).unwrap_or_default() {
            match key.text.as_str() {
                "run-as" => read.run_as = self.text(value, "run-as"),
                "on-failure" => read.on_failure = self.text(value, "on-failure"),
                "commands" => read.commands = self.commands(value, "Commands"),
                "finally" => read.finally = self.commands(value, "Finally"),
                "runtime-versions" => self.not_yet(&key, &format!("{name}.")),
                "steps" => self.problems.push(
                    Diagnostic::new(Code::BadValue, key.span, "`steps` cannot be run locally")
                        .hint("write the phase with `commands`"),
                ),
                _ => {}
            }
        }
        read
    }

    /// A list of commands. `title` is what CodeBuild calls the list in its messages.
    fn commands(&mut self, node: &Node, title: &str) -> Vec<Text> {
        let items = match &node.value {
            Value::Null => return Vec::new(),
            // Not in the reference, but found in the wild: one command without the dash.
            Value::Scalar(text) => return vec![Text { text: text.clone(), span: node.span }],
            Value::Sequence(items) => items,
            Value::Mapping(_) => {
                let message = format!("a list of commands belongs here, not {}", node.value.kind());
                self.problems.push(
                    Diagnostic::new(Code::WrongShape, node.span, message)
                        .hint("start each command with `- `"),
                );
                return Vec::new();
            }
        };
        let mut commands = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match &item.value {
                Value::Scalar(text) => {
                    commands.push(Text { text: text.clone(), span: item.span });
                }
                // What is left of an item that is all comment.
                Value::Null => {}
                Value::Mapping(_) | Value::Sequence(_) => {
                    let kind = item.value.kind();
                    let hint = match item.value {
                        Value::Mapping(_) => {
                            "quote the whole command, or write it under `- |`: YAML takes `name: \
                             value` and `{...}` for a map"
                        }
                        _ => "quote the whole command: YAML takes `[...]` for a list",
                    };
                    let line = item.span.line;
                    self.problems.push(
                        Diagnostic::new(
                            Code::CommandIsMap,
                            item.span,
                            format!("YAML reads this command as {kind}, not as a text"),
                        )
                        .hint(hint)
                        .aws(format!(
                            "Expected {title}[{index}] to be of string type: found subkeys \
                             instead at line {line}, value of the key tag on line {} might be \
                             empty",
                            line.saturating_sub(1)
                        )),
                    );
                }
            }
        }
        commands
    }

    fn variables(&mut self, node: &Node, name: &str) -> Vec<(Text, Text)> {
        let entries = match &node.value {
            Value::Null => return Vec::new(),
            Value::Mapping(entries) => entries,
            _ => {
                self.wrong_shape(node, name, "a map of names and values");
                return Vec::new();
            }
        };
        let mut variables: Vec<(Text, Text)> = Vec::new();
        for (key, value) in self.once_each(entries, name) {
            let text = match &value.value {
                Value::Null => String::new(),
                Value::Scalar(text) => text.clone(),
                Value::Sequence(_) | Value::Mapping(_) => {
                    self.wrong_shape(value, &format!("{name}.{}", key.text), "a text");
                    continue;
                }
            };
            variables.push((key, Text { text, span: value.span }));
        }
        variables
    }

    fn text(&mut self, node: &Node, name: &str) -> Option<Text> {
        match &node.value {
            Value::Scalar(text) => Some(Text { text: text.clone(), span: node.span }),
            _ => {
                self.wrong_shape(node, name, "a text");
                None
            }
        }
    }

    /// The entries of a map whose keys are known ones; the others are told and left out.
    fn map<'n>(
        &mut self,
        node: &'n Node,
        name: &str,
        known: &[&str],
    ) -> Option<Vec<(Text, &'n Node)>> {
        let Value::Mapping(entries) = &node.value else {
            if node.value != Value::Null {
                self.wrong_shape(node, name, &format!("a map with keys such as `{}`", known[0]));
            }
            return None;
        };
        let mut found = self.once_each(entries, name);
        found.retain(|(key, _)| {
            let is_known = known.contains(&key.text.as_str());
            if !is_known {
                self.unknown(key, name, known);
            }
            is_known
        });
        Some(found)
    }

    /// Keys as texts, each with its last value.
    fn once_each<'n>(&mut self, entries: &'n [(Node, Node)], name: &str) -> Vec<(Text, &'n Node)> {
        let mut found: Vec<(Text, &Node)> = Vec::new();
        for (key, value) in entries {
            let Value::Scalar(text) = &key.value else {
                self.wrong_shape(key, &format!("a key of {name}"), "a text");
                continue;
            };
            let key = Text { text: text.clone(), span: key.span };
            if let Some(first) = found.iter_mut().find(|(known, _)| known.text == key.text) {
                self.problems.push(
                    Diagnostic::new(
                        Code::DuplicateKey,
                        key.span,
                        format!("`{}` stands here a second time", key.text),
                    )
                    .hint(format!(
                        "this one counts; the one on line {} is ignored",
                        first.0.span.line
                    )),
                );
                *first = (key, value);
            } else {
                found.push((key, value));
            }
        }
        found
    }

    fn unknown(&mut self, key: &Text, place: &str, known: &[&str]) {
        let message = format!("`{}` is not a key of {place}; it is ignored", key.text);
        let problem = Diagnostic::new(Code::UnknownKey, key.span, message);
        let nearest = known
            .iter()
            .map(|name| (strsim::jaro_winkler(name, &key.text), *name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        self.problems.push(match nearest {
            Some((_, name)) => problem.hint(format!("did you mean `{name}`?")),
            None => problem,
        });
    }

    fn not_yet(&mut self, key: &Text, prefix: &str) {
        let message = format!("`{prefix}{}` is not carried out by this version", key.text);
        self.problems.push(
            Diagnostic::new(Code::NotSupportedYet, key.span, message)
                .hint("the build runs as if it were not there"),
        );
    }

    fn wrong_shape(&mut self, node: &Node, name: &str, wanted: &str) {
        let message = format!("{name} must be {wanted}, but here is {}", node.value.kind());
        self.problems.push(Diagnostic::new(Code::WrongShape, node.span, message));
    }
}
