//! Text to a tree in which every node knows its place and every scalar keeps its text.
//!
//! First step of the way; feeds `shape`. The sole owner of `serde_yaml` (docs/adr/0002, 0064): its parser
//! makes events, [`compose`] a tree of them, and [`syntax`] says what is wrong with a text that is no YAML.
//! A scalar is never read as a number or a truth value, because a shell variable or a version must not
//! change its face.

mod compose;
mod context;
mod decode;
mod syntax;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

pub use decode::decode;

use super::diagnostic::{Diagnostic, DiagnosticCode, Span};

/// Largest buildspec that is looked at, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// Most nodes in a buildspec, anchors expanded.
const MAX_NODES: usize = 1_000_000;
/// Deepest nesting. The language itself needs eight.
const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlNode {
    /// Where it is used: where it is written, or where an alias stands for it.
    pub span: Span,
    /// What is written there.
    pub value: YamlValue,
    /// Its tag, as it is written.
    pub tag: Option<Box<str>>,
    /// Where the lines of its text stand, if each is a line of the file.
    pub block: Option<BlockScalar>,
    /// Whether it is a scalar without quotes and without a tag, which other languages read as a number or a truth value.
    pub is_plain: bool,
}

/// Position of the lines of a `|` block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockScalar {
    /// The file's line with the text's first.
    pub line: u32,
    /// Characters of indentation that are no part of the text.
    pub indent: u32,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum YamlValue {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, or whatever else a scalar may look like, as written (quotes and escapes resolved).
    Scalar(String),
    /// A list.
    Sequence(Vec<YamlNode>),
    /// Keys and values in the order of the file; a repeated key stands in it twice.
    Mapping(Vec<(YamlNode, YamlNode)>),
}

/// The first document of a text, and where a second one begins.
#[derive(Clone, Debug)]
pub struct YamlDocument {
    /// The first document.
    pub root: YamlNode,
    /// Where a second one begins, of which nothing is looked at.
    pub next: Option<Span>,
}

impl YamlNode {
    /// A value without a tag.
    #[must_use]
    pub fn new(span: Span, value: YamlValue) -> Self {
        YamlNode { span, value, tag: None, block: None, is_plain: false }
    }
}

impl YamlValue {
    /// What kind of value it is, for a message.
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
/// The first place where the text is not YAML; there is no telling what comes after it.
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
