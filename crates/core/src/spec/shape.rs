//! Checks a document against the language: misspelt, repeated and missing keys, and values of the
//! wrong shape.
//!
//! Takes a tree from `yaml`, reports every problem and changes nothing. `read` then reads the tree
//! without checking it again.

use super::diagnostic::{Diagnostic, DiagnosticCode, Few, Severity, Span};
use super::language::{LanguageKey, ValueShape, flag};
use super::yaml::{YamlNode, YamlValue};
use std::collections::HashMap;

/// Checks a node and everything below it. `path` is its place, for messages.
pub(crate) fn check(
    node: &YamlNode,
    shape: &ValueShape,
    path: &str,
    problems: &mut Vec<Diagnostic>,
) {
    Checker { problems, document: "the buildspec", is_strict: false, guesses: 0 }
        .value(node, shape, path);
}

/// The same for other kinds of documents, in which an unknown key is an error.
pub(crate) fn check_strictly(
    node: &YamlNode,
    shape: &ValueShape,
    document: &'static str,
    problems: &mut Vec<Diagnostic>,
) {
    Checker { problems, document, is_strict: true, guesses: 0 }.value(node, shape, "");
}

/// A key of a map at its last occurrence, with its value.
struct MapEntry<'n> {
    name: &'n str,
    span: Span,
    value: &'n YamlNode,
}

const QUOTE_COMMAND: &str = "quote the whole command, or write it under `- |`";
const QUOTE_VALUE: &str = "quote the whole value";

struct Checker<'a> {
    problems: &'a mut Vec<Diagnostic>,
    /// The document's name, for messages that cannot name a key.
    document: &'static str,
    is_strict: bool,
    /// Number of names compared with the known ones so far.
    guesses: usize,
}

impl Checker<'_> {
    fn value(&mut self, node: &YamlNode, shape: &ValueShape, path: &str) {
        match (shape, &node.value) {
            (ValueShape::Any, _) => {}
            // A missing value is like an empty map.
            (ValueShape::Map(keys), YamlValue::Null) => self.missing(keys, &[], node.span, path),
            (_, YamlValue::Null) => {}
            (ValueShape::Map(keys), YamlValue::Mapping(entries)) => {
                self.map(node, entries, keys, path);
            }
            (ValueShape::Names(_, inner), YamlValue::Mapping(entries)) => {
                for MapEntry { name, value, .. } in self.once_each(entries, path) {
                    // A variable may be empty; everything else needs a value.
                    if value.value == YamlValue::Null && matches!(inner, ValueShape::Text) {
                        if let Some(tag) = lost_tag(value) {
                            self.nothing_left(value, tag, "value", QUOTE_VALUE);
                        }
                        continue;
                    }
                    self.value(value, inner, &join(path, name));
                }
            }
            (ValueShape::Maps(keys), YamlValue::Sequence(items)) => {
                for (number, item) in items.iter().enumerate() {
                    self.value(item, &ValueShape::Map(keys), &format!("{path}[{number}]"));
                }
            }
            (ValueShape::Commands(title), YamlValue::Sequence(items)) => {
                self.commands(items, title);
            }
            (ValueShape::Texts, YamlValue::Sequence(items)) => {
                for (number, item) in items.iter().enumerate() {
                    match &item.value {
                        YamlValue::Scalar(text) => self.cut(item, text, "value", QUOTE_VALUE),
                        YamlValue::Null => self.empty_item(item, QUOTE_VALUE),
                        _ => self.wrong(item, &format!("{path}[{number}]"), "a text"),
                    }
                }
            }
            // Not in AWS's documentation but used in practice: a single item without the dash.
            (ValueShape::Commands(_), YamlValue::Scalar(text)) => {
                self.cut(node, text, "command that is run", QUOTE_COMMAND);
                self.scalar_command(node, text);
            }
            (
                ValueShape::Text | ValueShape::Form(_) | ValueShape::Texts,
                YamlValue::Scalar(text),
            ) => {
                self.cut(node, text, "value", QUOTE_VALUE);
            }
            (ValueShape::Flag, YamlValue::Scalar(text)) if flag(text).is_some() => {}
            (ValueShape::Count, YamlValue::Scalar(text)) if text.parse::<u32>().is_ok() => {}
            (ValueShape::Choice(known), YamlValue::Scalar(text)) => {
                self.choice(node, text, known, path);
            }
            (ValueShape::Flag, YamlValue::Scalar(text)) => {
                let message = format!("{path} is `yes` or `no`, not `{text}`");
                self.problems.push(Diagnostic::new(DiagnosticCode::BadValue, node.span, message));
            }
            (ValueShape::Count, YamlValue::Scalar(text)) => {
                let message = format!("{path} is a whole number, not `{text}`");
                self.problems.push(Diagnostic::new(DiagnosticCode::BadValue, node.span, message));
            }
            (shape, _) => self.wrong_shape(node, shape, path),
        }
    }

    fn map(
        &mut self,
        node: &YamlNode,
        entries: &[(YamlNode, YamlNode)],
        keys: &'static [LanguageKey],
        path: &str,
    ) {
        let found = self.once_each(entries, path);
        let has = |name| {
            found.iter().any(|entry| entry.name == name && entry.value.value != YamlValue::Null)
        };
        // `validate` reports missing phases, because a batch may replace them.
        let needs_phases = path.is_empty() && !has("batch");
        for MapEntry { name, span, value } in &found {
            match keys.iter().find(|key| key.name == *name) {
                Some(key) => {
                    self.value(value, &key.shape, &join(path, name));
                    if value.value == YamlValue::Null && !(needs_phases && *name == "phases") {
                        self.empty(key, *span, value, path);
                    }
                }
                None => self.unknown(name, *span, path, keys),
            }
        }
        let with_values = found.iter().filter(|entry| entry.value.value != YamlValue::Null);
        let names: Vec<&str> = with_values.map(|entry| entry.name).collect();
        // `validate` reports missing top-level keys, because it knows what may replace them.
        if !path.is_empty() {
            self.missing(
                keys,
                &names,
                entries.first().map_or(node.span, |(key, _)| key.span),
                path,
            );
        }
    }

    /// Reports an optional key without a value.
    fn empty(&mut self, key: &LanguageKey, span: Span, value: &YamlNode, path: &str) {
        // A required key, and a phase without commands, get their own messages.
        let is_told = key.is_required
            || path == "phases"
            || path.starts_with("phases.") && path != "phases.install" && key.name == "commands";
        if is_told {
            return;
        }
        if let Some(tag) = lost_tag(value) {
            return self.nothing_left(value, tag, "value", QUOTE_VALUE);
        }
        let message =
            format!("`{}` of {} has no value; it counts as absent", key.name, self.place(path));
        self.problems.push(
            Diagnostic::new(DiagnosticCode::Empty, span, message)
                .hint("give it a value, or leave the key out"),
        );
    }

    /// Reports an empty item of a list.
    fn empty_item(&mut self, item: &YamlNode, hint: &str) {
        if let Some(tag) = lost_tag(item) {
            return self.nothing_left(item, tag, "item", hint);
        }
        let message = "there is nothing after this dash; the item is left out";
        self.problems.push(
            Diagnostic::new(DiagnosticCode::Empty, item.span, message)
                .hint("write the item, or remove the dash"),
        );
    }

    fn nothing_left(&mut self, node: &YamlNode, tag: &str, what: &str, hint: &str) {
        let message = format!("YAML takes `{tag}` for a tag: nothing is left of the {what}");
        self.problems.push(Diagnostic::new(DiagnosticCode::LostTag, node.span, message).hint(hint));
    }

    fn missing(&mut self, keys: &[LanguageKey], found: &[&str], span: Span, path: &str) {
        for key in keys.iter().filter(|key| key.is_required && !found.contains(&key.name)) {
            let message = format!("`{}` is missing in {path}", key.name);
            self.problems
                .push(Diagnostic::new(DiagnosticCode::MissingKey, span, message).hint(key.about));
        }
    }

    fn choice(&mut self, node: &YamlNode, text: &str, known: &[&'static str], path: &str) {
        if known.iter().any(|name| name.eq_ignore_ascii_case(text)) {
            return;
        }
        let problem = Diagnostic::new(
            DiagnosticCode::BadValue,
            node.span,
            format!("{path} cannot be `{text}`"),
        );
        let near = self.guess(text, known.iter().copied());
        self.problems.push(match near {
            Some(name) => problem.hint(format!("did you mean `{name}`?")),
            None => problem.hint(format!("it is one of {}", known.join(", "))),
        });
    }

    fn commands(&mut self, items: &[YamlNode], title: &str) {
        for (index, item) in items.iter().enumerate() {
            let hint = match &item.value {
                YamlValue::Scalar(text) => {
                    self.cut(item, text, "command that is run", QUOTE_COMMAND);
                    continue;
                }
                // Also an item that is only a comment.
                YamlValue::Null => {
                    self.empty_item(item, QUOTE_COMMAND);
                    continue;
                }
                YamlValue::Sequence(_) if item.span.written.is_some() => {
                    "an alias of a list is one item that is a list: write its commands one by one, or the \
                     alias in place of the whole list"
                }
                YamlValue::Mapping(_) => {
                    "quote the whole command, or write it under `- |`: YAML takes `name: value` and \
                     `{...}` for a map"
                }
                YamlValue::Sequence(_) => "quote the whole command: YAML takes `[...]` for a list",
            };
            let line = item.span.line;
            let message =
                format!("YAML reads this command as {}, not as a text", item.value.kind());
            self.problems.push(
                Diagnostic::new(DiagnosticCode::CommandIsMap, item.span, message).hint(hint).aws(format!(
                    "Expected {title}[{index}] to be of string type: found subkeys instead at line \
                     {line}, value of the key tag on line {} might be empty",
                    line.saturating_sub(1)
                )),
            );
        }
    }

    /// Reports a text that has lost a word to a tag.
    fn cut(&mut self, node: &YamlNode, text: &str, what: &str, hint: &str) {
        let Some(tag) = lost_tag(node) else { return };
        let first = text.lines().next().unwrap_or_default();
        let message = format!("YAML takes `{tag}` for a tag: the {what} is `{first}`");
        self.problems.push(Diagnostic::new(DiagnosticCode::LostTag, node.span, message).hint(hint));
    }

    /// Names and values, each name with its last value.
    fn once_each<'n>(
        &mut self,
        entries: &'n [(YamlNode, YamlNode)],
        path: &str,
    ) -> Vec<MapEntry<'n>> {
        let mut found: Vec<MapEntry> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (key, value) in entries {
            let Some(name) = text(key) else {
                self.wrong(key, &format!("a key of {}", self.place(path)), "a text");
                continue;
            };
            let entry = MapEntry { name, span: key.span, value };
            match places.get(name) {
                Some(&at) => {
                    let first = found[at].span.line;
                    let message = format!("`{name}` stands here a second time");
                    let hint = format!("this one counts; the one on line {first} is ignored");
                    self.problems.push(
                        Diagnostic::new(DiagnosticCode::DuplicateKey, key.span, message).hint(hint),
                    );
                    found[at] = entry;
                }
                None => {
                    places.insert(name, found.len());
                    found.push(entry);
                }
            }
        }
        found
    }

    fn unknown(&mut self, name: &str, span: Span, path: &str, keys: &[LanguageKey]) {
        let place = self.place(path);
        if name == "steps" && path.starts_with("phases.") {
            self.problems.push(
                Diagnostic::new(DiagnosticCode::BadValue, span, "`steps` cannot be run locally")
                    .hint("write the phase with `commands`"),
            );
            return;
        }
        let ignored = if self.is_strict { "" } else { "; it is ignored" };
        let message = format!("`{name}` is not a key of {place}{ignored}");
        let mut problem = Diagnostic::new(DiagnosticCode::UnknownKey, span, message);
        if self.is_strict {
            problem.severity = Severity::Error;
        }
        let near = self.guess(name, keys.iter().map(|key| key.name));
        self.problems.push(match near {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }

    /// Suggests a known name, for at most as many names as are shown.
    fn guess<'n>(&mut self, name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        self.guesses += 1;
        (self.guesses <= Few::MOST).then(|| nearest(name, known)).flatten()
    }

    fn wrong_shape(&mut self, node: &YamlNode, shape: &ValueShape, path: &str) {
        let wanted = match shape {
            ValueShape::Map(keys) => format!("a map with keys such as `{}`", keys[0].name),
            ValueShape::Names(what, _) => format!("a map from the name of {what} to its value"),
            ValueShape::Maps(keys) => {
                format!("a list of maps with keys such as `{}`", keys[0].name)
            }
            ValueShape::Texts => "a list of texts".to_owned(),
            ValueShape::Commands(_) => {
                let message = format!("a list of commands belongs here, not {}", node.value.kind());
                self.problems.push(
                    Diagnostic::new(DiagnosticCode::WrongShape, node.span, message)
                        .hint("start each command with `- `"),
                );
                return;
            }
            ValueShape::Count => "a number".to_owned(),
            ValueShape::Flag => "`yes` or `no`".to_owned(),
            ValueShape::Text | ValueShape::Form(_) | ValueShape::Choice(_) | ValueShape::Any => {
                "a text".to_owned()
            }
        };
        self.wrong(node, path, &wanted);
        // Without its colon a key is the beginning of a text.
        if let (ValueShape::Map(keys), YamlValue::Scalar(text)) = (shape, &node.value)
            && let Some(word) = text.split_whitespace().next()
            && keys.iter().any(|key| key.name == word)
            && let Some(problem) = self.problems.last_mut()
        {
            problem.hint = Some(format!("there is no colon after `{word}`: write `{word}:`"));
        }
    }

    /// Reports a number or a boolean in the place of the list of commands.
    fn scalar_command(&mut self, node: &YamlNode, text: &str) {
        let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && text.parse::<f64>().is_ok();
        let kind = match (is_number, flag(text)) {
            _ if !node.is_plain => return,
            (true, _) => "a number",
            (false, Some(_)) => "a boolean",
            (false, None) => return,
        };
        let message = format!("{kind} stands in place of the commands: `{text}` is run");
        self.problems.push(
            Diagnostic::new(DiagnosticCode::ScalarCommand, node.span, message)
                .hint("a list of commands belongs here: start each one with `- `"),
        );
    }

    fn place<'p>(&self, path: &'p str) -> &'p str {
        if path.is_empty() { self.document } else { path }
    }

    fn wrong(&mut self, node: &YamlNode, path: &str, wanted: &str) {
        let message =
            format!("{} must be {wanted}, but here is {}", self.place(path), node.value.kind());
        self.problems.push(Diagnostic::new(DiagnosticCode::WrongShape, node.span, message));
    }
}

/// A tag that YAML takes from a text: a word that begins with `!`, which negates a command in a
/// shell. Tags of YAML itself, such as `!!str`, are intended.
fn lost_tag(node: &YamlNode) -> Option<&str> {
    let is_meant = |tag: &&str| tag.starts_with("!!") || tag.starts_with("!<tag:yaml.org,2002:");
    node.tag.as_deref().filter(|tag| !is_meant(tag))
}

fn text(node: &YamlNode) -> Option<&str> {
    match &node.value {
        YamlValue::Scalar(text) => Some(text),
        _ => None,
    }
}

fn join(path: &str, name: &str) -> String {
    // The path is repeated in the message of everything below it.
    const LONGEST: usize = 80;
    let name = match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Suggests the known name that was probably intended.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let likeness = |other: &str| {
        // Names that differ only in their separators are the nearest.
        let plain = |text: &str| text.to_lowercase().replace('_', "-");
        if plain(other) == plain(name) { 1.0 } else { strsim::jaro_winkler(other, name) }
    };
    // No name of the language is nearly as long, and comparing takes the product of both lengths.
    const LONGEST: usize = 64;
    known
        .filter(|_| name.len() <= LONGEST)
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}
