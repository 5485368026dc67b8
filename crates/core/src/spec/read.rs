//! Reads values of a document by key, without reporting missing or invalid ones.
//!
//! Used by `validate` on trees that `shape` has checked. Invalid values were reported there and are
//! ignored here.

use super::diagnostic::Span;
use super::language::flag;
use super::yaml::{BlockScalar, YamlNode, YamlValue};

/// A text with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) span: Span,
    /// Position of its lines, if each is a line of the file.
    pub(crate) block: Option<BlockScalar>,
}

impl Text {
    pub(crate) fn new(text: impl Into<String>, span: Span) -> Self {
        Text { text: text.into(), span, block: None }
    }
}

/// A position in the tree, with or without a node.
#[derive(Clone, Copy)]
pub(crate) struct NodeSlot<'n> {
    /// The key of the node.
    key: Option<&'n YamlNode>,
    node: Option<&'n YamlNode>,
}

impl<'n> NodeSlot<'n> {
    pub(crate) fn root(node: &'n YamlNode) -> Self {
        NodeSlot { key: None, node: Some(node) }
    }

    /// The value of a key; the last one if the key is repeated.
    pub(crate) fn get(self, name: &str) -> Self {
        let found = self.pairs().iter().rev().find(|(key, _)| scalar(key) == Some(name));
        NodeSlot { key: found.map(|(key, _)| key), node: found.map(|(_, value)| value) }
    }

    /// Whether the key exists and has a value.
    pub(crate) fn is_there(self) -> bool {
        self.node.is_some_and(|node| node.value != YamlValue::Null)
    }

    /// Whether the key exists, with or without a value.
    pub(crate) fn is_written(self) -> bool {
        self.node.is_some()
    }

    /// The place of its key, otherwise its own.
    pub(crate) fn span(self) -> Span {
        self.key.or(self.node).map(|node| node.span).unwrap_or_default()
    }

    pub(crate) fn text(self) -> Option<Text> {
        let node = self.node?;
        Some(Text { block: node.block, ..Text::new(scalar(node)?, node.span) })
    }

    pub(crate) fn string(self) -> Option<String> {
        self.text().map(|text| text.text)
    }

    pub(crate) fn flag(self) -> Option<bool> {
        flag(scalar(self.node?)?)
    }

    /// The scalars of a list. A single scalar counts as a list of one.
    pub(crate) fn texts(self) -> Vec<Text> {
        match self.node.map(|node| &node.value) {
            Some(YamlValue::Scalar(_)) => self.text().into_iter().collect(),
            Some(YamlValue::Sequence(_)) => self.items().filter_map(NodeSlot::text).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn items(self) -> impl Iterator<Item = NodeSlot<'n>> {
        let items = match self.node.map(|node| &node.value) {
            Some(YamlValue::Sequence(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(NodeSlot::root)
    }

    /// Names and values of a map, in file order, each name once.
    pub(crate) fn entries(self) -> Vec<(Text, NodeSlot<'n>)> {
        let pairs = self.pairs();
        let mut found: Vec<(Text, NodeSlot<'n>)> = Vec::with_capacity(pairs.len());
        let mut places = std::collections::HashMap::new();
        for (key, value) in pairs {
            let Some(name) = scalar(key) else { continue };
            let entry = (Text::new(name, key.span), NodeSlot { key: Some(key), node: Some(value) });
            match places.get(name) {
                Some(&at) => found[at] = entry,
                None => {
                    places.insert(name, found.len());
                    found.push(entry);
                }
            }
        }
        found
    }

    /// Names and texts of a map; a missing value is an empty text.
    pub(crate) fn named_texts(self) -> Vec<(Text, Text)> {
        let entries = self.entries().into_iter();
        entries
            .filter_map(|(name, value)| {
                let text = match value.node.map(|node| &node.value) {
                    Some(YamlValue::Null) => Text::new("", value.node?.span),
                    _ => value.text()?,
                };
                Some((name, text))
            })
            .collect()
    }

    fn pairs(self) -> &'n [(YamlNode, YamlNode)] {
        match self.node.map(|node| &node.value) {
            Some(YamlValue::Mapping(entries)) => entries,
            _ => &[],
        }
    }
}

fn scalar(node: &YamlNode) -> Option<&str> {
    match &node.value {
        YamlValue::Scalar(text) => Some(text),
        _ => None,
    }
}
