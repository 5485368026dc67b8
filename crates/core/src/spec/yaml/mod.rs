//! Parses text into a tree with the place of every node and the exact text of every scalar.
//!
//! The first step of parsing; `shape` takes the result. Sole user of `serde_yaml` (docs/adr/0002,
//! 0064): its parser makes events, [`compose`] builds a tree from them, and [`syntax`] explains
//! syntax errors. Scalars are never converted to numbers or booleans, because a shell variable or a
//! version must keep its exact text.

mod compose;
mod context;
mod decode;
mod syntax;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

pub use decode::decode;

use super::diagnostic::{Diagnostic, DiagnosticCode, Span};

/// Maximum size of a buildspec, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// Maximum number of nodes in a buildspec, with anchors expanded.
const MAX_NODES: usize = 1_000_000;
/// Maximum nesting. The language itself needs eight.
const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlNode {
    /// The place where it is used: its own, or that of an alias for it.
    pub span: Span,
    /// The value.
    pub value: YamlValue,
    /// Its tag, as written.
    pub tag: Option<Box<str>>,
    /// Position of its lines, if each is a line of the file.
    pub block: Option<BlockScalar>,
    /// Whether it is a scalar without quotes and tag, which other languages may read as a number or
    /// boolean.
    pub is_plain: bool,
}

/// Position of the lines of a `|` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockScalar {
    /// The line in the file of the text's first line.
    pub line: u32,
    /// Number of indentation characters that are not part of the text.
    pub indent: u32,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum YamlValue {
    /// An empty value, `~` or `null`.
    Null,
    /// Any scalar as text, with quotes and escapes resolved.
    Scalar(String),
    /// A list.
    Sequence(Vec<YamlNode>),
    /// Keys and values in file order; repeated keys are kept.
    Mapping(Vec<(YamlNode, YamlNode)>),
}

/// The first document of a text, and the start of a second one.
#[derive(Clone, Debug)]
pub struct YamlDocument {
    /// The first document.
    pub root: YamlNode,
    /// The start of a second document, which is ignored.
    pub next: Option<Span>,
}

impl YamlNode {
    /// Makes a node without a tag.
    #[must_use]
    pub fn new(span: Span, value: YamlValue) -> Self {
        YamlNode { span, value, tag: None, block: None, is_plain: false }
    }
}

impl YamlValue {
    /// The type of the value, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            YamlValue::Null => "nothing",
            YamlValue::Scalar(_) => "a text",
            YamlValue::Sequence(_) => "a list",
            YamlValue::Mapping(_) => "a map",
        }
    }
}

/// Parses the first document of a text.
///
/// # Errors
/// The first syntax error; parsing cannot go on after it.
pub fn parse(source: &str) -> Result<YamlDocument, Box<Diagnostic>> {
    if source.len() > MAX_BYTES {
        let message = format!(
            "the buildspec has {} bytes, more than the {MAX_BYTES} that are looked at",
            source.len()
        );
        return Err(Box::new(Diagnostic::new(DiagnosticCode::TooLarge, Span::default(), message)));
    }
    compose::document(source)
}
