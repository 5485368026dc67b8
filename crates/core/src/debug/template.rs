//! The text that a breakpoint logs instead of stopping.

use super::condition::Condition;
use super::cursor::{ParseError, TextCursor};
use super::facts::StopContext;
use std::fmt;

/// A text with `{EXPR}` placeholders; `{{` stands for `{`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Value(Condition),
}

impl Template {
    /// Reads a text with `before` columns in front of it.
    pub(super) fn read(text: &str, before: usize) -> Result<Self, ParseError> {
        let mut cursor = TextCursor::new(text, before);
        let mut parts = Vec::new();
        let mut literal = String::new();
        while let Some(character) = cursor.rest().chars().next() {
            if cursor.take("{{") {
                literal.push('{');
            } else if cursor.take("}}") {
                literal.push('}');
            } else if character == '{' {
                let open = cursor.clone();
                cursor.take("{");
                if !literal.is_empty() {
                    parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
                }
                parts.push(TemplatePart::Value(Condition::read(&mut cursor)?));
                cursor.skip_blanks();
                if !cursor.take("}") {
                    return Err(
                        open.error("this `{` is never closed; a `{` itself is written `{{`")
                    );
                }
            } else {
                cursor.take(character.encode_utf8(&mut [0; 4]));
                literal.push(character);
            }
        }
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(literal));
        }
        Ok(Template(parts))
    }

    /// Replaces the placeholders by their values.
    #[must_use]
    pub fn fill(&self, facts: &StopContext<'_>) -> String {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Text(text) => text.clone(),
            TemplatePart::Value(value) => value.shown(facts),
        };
        self.0.iter().map(part).collect()
    }

    pub(super) fn asks(&self, is_it: &dyn Fn(&Condition) -> bool) -> bool {
        let asks =
            |part: &TemplatePart| matches!(part, TemplatePart::Value(value) if value.asks(is_it));
        self.0.iter().any(asks)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => {
                formatter.write_str(&text.replace('{', "{{").replace('}', "}}"))
            }
            TemplatePart::Value(value) => write!(formatter, "{{{value}}}"),
        })
    }
}
