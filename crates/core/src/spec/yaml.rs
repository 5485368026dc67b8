//! Text to a tree in which every node knows its place and every scalar keeps its raw text.
//!
//! First step of the way; feeds `raw`. Sole owner of `serde_yaml` (docs/adr/0002): the parser sees
//! to anchors, merge keys and limits; this file asks it for nothing but shape and place. A plain
//! scalar that YAML would read as a number or a truth value (`010`, `1.10`, `yes`) is taken from the
//! source text as it is written, because a shell variable or a version must not change its face.

use super::diagnostic::{Code, Diagnostic, Span};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{Location, Spanned};
use std::fmt;

/// Largest buildspec that is looked at, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// Most nodes in a buildspec, anchors expanded.
const MAX_NODES: usize = 1_000_000;
/// Deepest nesting. The language itself needs eight.
const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it is written.
    pub span: Span,
    /// What is written there.
    pub value: Value,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, or whatever else a scalar may look like, as written (quotes and escapes resolved).
    Scalar(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file; a repeated key stands in it twice.
    Mapping(Vec<(Node, Node)>),
}

impl Value {
    /// What kind of value it is, for a message.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar(_) => "a text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a map",
        }
    }
}

/// Parses a whole document.
///
/// # Errors
/// The first place where the text is not YAML; there is no telling what comes after it.
pub fn parse(source: &str) -> Result<Node, Box<Diagnostic>> {
    if source.len() > MAX_BYTES {
        let message = format!(
            "the buildspec has {} bytes, more than the {MAX_BYTES} that are looked at",
            source.len()
        );
        return Err(Box::new(Diagnostic::new(Code::TooLarge, Span::default(), message)));
    }
    let options = serde_yaml::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        budget: serde_yaml::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_depth: MAX_DEPTH,
            max_total_scalar_bytes: 2 * MAX_BYTES,
        },
    };
    serde_yaml::from_str_with_options::<Spanned<Untyped>>(source, options)
        .map(|node| resolve(source, node))
        .map_err(|error| Box::new(syntax_error(source, &error)))
}

/// A node as the parser hands it over, before raw texts are looked up.
enum Untyped {
    Null,
    /// YAML sees a number or a truth value; its text is in the source.
    Typed,
    Text(String),
    Sequence(Vec<Spanned<Untyped>>),
    Mapping(Vec<(Spanned<Untyped>, Spanned<Untyped>)>),
}

impl<'de> Deserialize<'de> for Untyped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Untyped;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Untyped, E> {
        Ok(Untyped::Null)
    }

    fn visit_none<E>(self) -> Result<Untyped, E> {
        Ok(Untyped::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Untyped, E> {
        Ok(Untyped::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Untyped, E> {
        Ok(Untyped::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Untyped, E> {
        Ok(Untyped::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Untyped, E> {
        Ok(Untyped::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Untyped, E> {
        Ok(Untyped::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Untyped, E> {
        Ok(Untyped::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Untyped, E> {
        Ok(Untyped::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Untyped, E> {
        Ok(Untyped::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Untyped, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Untyped::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Untyped, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Untyped::Mapping(map))
    }
}

fn resolve(source: &str, node: Spanned<Untyped>) -> Node {
    let raw = raw_text(source, node.defined).unwrap_or_default();
    let span = span_of(node.defined, raw);
    let value = match node.value {
        Untyped::Null => Value::Null,
        Untyped::Typed => Value::Scalar(raw.trim_end().to_owned()),
        Untyped::Text(text) => Value::Scalar(text),
        Untyped::Sequence(items) => {
            Value::Sequence(items.into_iter().map(|item| resolve(source, item)).collect())
        }
        Untyped::Mapping(entries) => Value::Mapping(
            entries
                .into_iter()
                .map(|(key, value)| (resolve(source, key), resolve(source, value)))
                .collect(),
        ),
    };
    Node { span, value }
}

fn raw_text(source: &str, location: Location) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    source.get(start..start.checked_add(length)?)
}

fn span_of(location: Location, raw: &str) -> Span {
    let first_line = raw.lines().next().unwrap_or_default();
    Span {
        line: number(location.line()),
        column: number(location.column()),
        length: number(first_line.trim_end().chars().count() as u64).max(1),
    }
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn syntax_error(source: &str, error: &serde_yaml::Error) -> Diagnostic {
    let span = error.location().map(|location| Span { length: 1, ..span_of(location, "") });
    let span = span.unwrap_or_default();
    let text = error.without_snippet().to_string();
    // The parser repeats the place in its words; we draw it.
    let message = match text.rsplit_once(" at line ") {
        Some((message, place)) if place.starts_with(|c: char| c.is_ascii_digit()) => message,
        _ => &text,
    };
    // CodeBuild counts lines from 0 in what its YAML library says.
    let aws_line = span.line.saturating_sub(1);
    if text.contains("budget breached") || text.contains("limit exceeded") {
        return Diagnostic::new(
            Code::TooLarge,
            span,
            format!("the buildspec is too large or too deeply nested ({message})"),
        )
        .hint(format!(
            "at most {MAX_NODES} values, nested {MAX_DEPTH} deep, are looked at; a buildspec needs few"
        ));
    }
    let syntax = Diagnostic::new(Code::Syntax, span, message.to_owned());
    if message.contains("tab")
        && let Some(span) = tab_in_indent(source, span)
    {
        let aws_line = span.line.saturating_sub(1);
        return Diagnostic { span, ..syntax }
            .hint("indent with spaces; YAML does not take tabs")
            .aws(format!("found character that cannot start any token at line {aws_line}"));
    }
    if message.contains("mapping values are not allowed") {
        return syntax
            .hint("a text that contains `: ` must be quoted")
            .aws(format!("mapping values are not allowed in this context at line {aws_line}"));
    }
    if let Some(hint) = item_hint(source, span) {
        return syntax.hint(hint);
    }
    if message.contains("multiple YAML documents") {
        return syntax.hint("a buildspec is one document; remove what follows the `---`");
    }
    if message.contains("unknown anchor") {
        return syntax
            .hint("`*name` needs an `&name` before it; quote a text that starts with `*`");
    }
    syntax
}

/// Advice for an item of a list that is not text to YAML, on the line told or the one before it.
fn item_hint(source: &str, told: Span) -> Option<&'static str> {
    let at = told.line.saturating_sub(1) as usize;
    let lines = [at, at.saturating_sub(1)].map(|at| source.lines().nth(at).unwrap_or_default());
    lines.into_iter().find_map(|line| {
        let item = line.trim_start().strip_prefix("- ")?.trim_start();
        match item.chars().next()? {
            '[' | '{' => Some(
                "quote the whole command, or write it under `- |`: YAML takes `[` and `{` at its start \
                 for a list or a map",
            ),
            quote @ ('"' | '\'') if item.matches(quote).count() > 1 && !item.ends_with(quote) => Some(
                "quote the whole command, or write it under `- |`: to YAML it ends with its second \
                 quote",
            ),
            '%' | '@' | '`' => Some("quote the whole command: YAML keeps its first character for itself"),
            _ => None,
        }
    })
}

/// The tab that the parser has stumbled over: it may tell the place of the text before it.
fn tab_in_indent(source: &str, told: Span) -> Option<Span> {
    let lines = (told.line..).zip(source.lines().skip(told.line.saturating_sub(1) as usize));
    lines.take(3).find_map(|(line, text)| {
        let indent = text.len() - text.trim_start().len();
        let column = text[..indent].find('\t')?;
        let own = Span { line, column: number(column as u64 + 1), length: 1 };
        Some(if line == told.line { told } else { own })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar_at<'a>(node: &'a Node, path: &[&str]) -> (&'a str, Span) {
        let mut node = node;
        for name in path {
            let Value::Mapping(entries) = &node.value else { panic!("{name}: not a map") };
            node = entries
                .iter()
                .find(|(key, _)| key.value == Value::Scalar((*name).to_owned()))
                .map(|(_, value)| value)
                .unwrap_or_else(|| panic!("{name}: missing"));
        }
        match &node.value {
            Value::Scalar(text) => (text, node.span),
            other => panic!("{path:?}: {other:?}"),
        }
    }

    #[test]
    fn scalars_keep_their_face_and_their_place() {
        let source = "env:\n  variables:\n    A: 010\n    B: 1.10\n    C: yes\n    D: '3.10'\n    \
                      E: 0x1F\n    F: 2024-01-01\n    G: 1e3\n    H: \"a\\tb\"\n";
        let node = parse(source).expect("is YAML");
        for (name, text, line) in [
            ("A", "010", 3),
            ("B", "1.10", 4),
            ("C", "yes", 5),
            ("D", "3.10", 6),
            ("E", "0x1F", 7),
            ("F", "2024-01-01", 8),
            ("G", "1e3", 9),
            ("H", "a\tb", 10),
        ] {
            let (found, span) = scalar_at(&node, &["env", "variables", name]);
            assert_eq!((found, span.line, span.column), (text, line, 8), "{name}");
        }
    }

    #[test]
    fn repeated_keys_and_merged_maps_are_both_there() {
        let node = parse("a: &x {k: 1}\nb:\n  <<: *x\n  m: 2\na: 3\n").expect("is YAML");
        let Value::Mapping(entries) = &node.value else { panic!("a map") };
        assert_eq!(entries.len(), 3);
        assert_eq!(scalar_at(&node, &["b", "k"]).0, "1");
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_place() {
        for (source, line, column, hint) in [
            ("a:\n\tb: c\n", 2, 2, "spaces"),
            ("a: b: c\n", 1, 5, "quoted"),
            ("a: *x\n", 1, 4, "&name"),
            ("a:\n  - [[ -f x ]] && y\n", 2, 16, "for a list"),
            ("a:\n  - \"$x\" --all\n", 2, 10, "second quote"),
            ("a:\n  - @x\n", 2, 5, "first character"),
            ("a: 1\n---\nb: 2\n", 3, 1, "one document"),
        ] {
            let error = parse(source).expect_err(source);
            assert_eq!((error.span.line, error.span.column), (line, column), "{error:?}");
            assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error:?}");
            assert!(!error.message.contains("at line"), "{error:?}");
        }
    }

    #[test]
    fn hostile_text_is_refused_at_once() {
        let error = parse(&"[".repeat(200_000)).expect_err("nested too deeply");
        assert_eq!(error.code, Code::TooLarge);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                    c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                    e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        assert_eq!(parse(bomb).expect_err("a bomb").code, Code::TooLarge);
    }
}
