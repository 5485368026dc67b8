//! Parses JSON into a tree with places.
//!
//! serde_json does the parsing and returns values as slices of the text, so the position of a slice
//! is its place. `null` counts as absent.

use crate::spec::places::LineIndex;
use crate::spec::yaml::{YamlNode, YamlValue};
use crate::spec::{Diagnostic, DiagnosticCode, Span};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Maximum nesting.
const MAX_DEPTH: usize = 64;

/// Parses a document.
///
/// # Errors
/// The first syntax error.
pub(super) fn json(text: &str) -> Result<YamlNode, Box<Diagnostic>> {
    let raw = serde_json::from_str::<&RawValue>(text).map_err(|error| {
        let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
        let span = Span::new(number(error.line()), number(error.column()), 1);
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        Box::new(Diagnostic::new(
            DiagnosticCode::Syntax,
            span,
            format!("this is not JSON: {message}"),
        ))
    })?;
    ProjectReader { text, places: LineIndex::new(text) }.node(raw.get(), 0)
}

struct ProjectReader<'t> {
    text: &'t str,
    places: LineIndex<'t>,
}

impl ProjectReader<'_> {
    fn node(&self, raw: &str, depth: usize) -> Result<YamlNode, Box<Diagnostic>> {
        let span = self.span(raw);
        let broken = |error: serde_json::Error| {
            Box::new(Diagnostic::new(
                DiagnosticCode::Syntax,
                span,
                format!("this is not JSON: {error}"),
            ))
        };
        if depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} deep");
            return Err(Box::new(Diagnostic::new(DiagnosticCode::TooLarge, span, message)));
        }
        let value = match raw.as_bytes().first() {
            Some(b'{') => {
                let entries: Entries<'_> = serde_json::from_str(raw).map_err(broken)?;
                let mut nodes = Vec::new();
                for (key, value) in entries.0 {
                    let span = self.key_span(value.get(), &key);
                    let value = self.node(value.get(), depth + 1)?;
                    if value.value != YamlValue::Null {
                        nodes.push((YamlNode::new(span, YamlValue::Scalar(key)), value));
                    }
                }
                YamlValue::Mapping(nodes)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(broken)?;
                let items = items.into_iter().map(|item| self.node(item.get(), depth + 1));
                YamlValue::Sequence(items.collect::<Result<_, _>>()?)
            }
            Some(b'"') => YamlValue::Scalar(serde_json::from_str(raw).map_err(broken)?),
            Some(b'n') => YamlValue::Null,
            _ => YamlValue::Scalar(raw.to_owned()),
        };
        Ok(YamlNode::new(span, value))
    }

    /// The place of a slice of the text.
    fn span(&self, part: &str) -> Span {
        let at = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.places.span(at..at + part.len())
    }

    /// The place of a value's key: its quotes end before the colon.
    fn key_span(&self, value: &str, key: &str) -> Span {
        let at = (value.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text[..at].trim_end().trim_end_matches(':').trim_end();
        let written =
            before.strip_suffix('"').and_then(|rest| rest.rfind('"').map(|at| &before[at..]));
        Span {
            length: u32::try_from(key.chars().count() + 2).unwrap_or(u32::MAX),
            ..self.span(written.unwrap_or(before))
        }
    }
}

/// Keys and values of an object, as written.
struct Entries<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Entries<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}
