//! Values that replace `{{ name }}`.

use serde_json::Value;
use std::collections::BTreeMap;

/// The values of a document's parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterValues(BTreeMap<String, Value>);

impl ParameterValues {
    pub(super) fn new(values: BTreeMap<String, Value>) -> Self {
        ParameterValues(values)
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Fills values into a part of a document. A text that is exactly one placeholder becomes the
    /// value itself; in a longer text, values are inserted as text. As in AWS's agent, values are
    /// not scanned for placeholders, and braces without a known parameter stay.
    #[must_use]
    pub fn fill(&self, part: &Value) -> Value {
        match part {
            Value::String(text) => match self.whole(text) {
                Some(value) => value.clone(),
                None => Value::from(self.fill_text(text)),
            },
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(map) => {
                map.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Whether a part with its values filled in has at most `most` bytes. A short document may name
    /// a long value many times.
    #[must_use]
    pub fn fits(&self, part: &Value, most: usize) -> bool {
        let longest = self.0.values().map(|value| value.to_string().len()).max().unwrap_or(0);
        size(part, longest) <= most
    }

    /// Fills values into a text. Values are inserted literally, so a shell interprets whatever they
    /// contain. As in AWS's agent, only `$$` in a value becomes `$`.
    #[must_use]
    pub fn fill_text(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            match placeholder(from).and_then(|(name, len)| Some((self.0.get(name)?, len))) {
                Some((value, len)) => {
                    filled.push_str(&plain(value).replace("$$", "$"));
                    rest = from.get(len..).unwrap_or_default();
                }
                // The next placeholder may begin with the second brace.
                None => {
                    filled.push('{');
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn whole(&self, text: &str) -> Option<&Value> {
        let (name, len) = placeholder(text)?;
        self.0.get(name).filter(|_| len == text.len())
    }
}

/// Upper limit of a part's size in bytes, if no value is longer than `longest`.
fn size(part: &Value, longest: usize) -> usize {
    let text =
        |text: &str| text.len().saturating_add(text.matches("{{").count().saturating_mul(longest));
    match part {
        Value::String(value) => text(value),
        Value::Array(items) => {
            items.iter().fold(0, |sum: usize, item| sum.saturating_add(size(item, longest)))
        }
        Value::Object(map) => {
            map.values().fold(0, |sum: usize, item| sum.saturating_add(size(item, longest)))
        }
        _ => 0,
    }
}

/// The name in the placeholder that a text begins with, and the placeholder's length.
fn placeholder(text: &str) -> Option<(&str, usize)> {
    let space = [' ', '\t', '\n', '\r', '\x0c'];
    let inner = text.strip_prefix("{{")?.trim_start_matches(space);
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (name, after) = inner.split_at(end);
    let rest = after.trim_start_matches(space).strip_prefix("}}")?;
    (!name.is_empty()).then_some((name, text.len() - rest.len()))
}

/// The form of a value inside a longer text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values() -> ParameterValues {
        let list = [
            ("a", json!("x; echo $$HOME $1")),
            ("list", json!(["p", "q"])),
            ("flag", json!(true)),
            ("brace", json!("{{ a }}")),
            ("n", json!(3)),
        ];
        ParameterValues(list.map(|(name, value)| (name.to_owned(), value)).into())
    }

    #[test]
    fn a_text_of_one_placeholder_becomes_the_value() {
        let part = json!({"k": ["{{ list }}", "{{a}}", "{{\tflag\n}}", 7, null], "{{a}}": "{{n}}"});
        let wanted = json!({"k": [["p", "q"], "x; echo $$HOME $1", true, 7, null], "{{a}}": 3});
        assert_eq!(values().fill(&part), wanted);
    }

    #[test]
    fn in_a_longer_text_values_stand_as_text() {
        for (text, wanted) in [
            ("run {{ a }}.", "run x; echo $HOME $1."),
            (" {{n}}", " 3"),
            ("{{n}}{{ n }}", "33"),
            ("{{list}} {{flag}}", "[\"p\",\"q\"] true"),
            // Values are not scanned for placeholders.
            ("<{{ brace }}>", "<{{ a }}>"),
            // Not parameters.
            ("{{ b }} {{ a.b }} {{ a", "{{ b }} {{ a.b }} {{ a"),
            ("{{{n}}} {{ {{n}} }}", "{3} {{ 3 }}"),
            ("{{}} {{ }} {{n} }", "{{}} {{ }} {{n} }"),
            ("é{{n}}é", "é3é"),
        ] {
            assert_eq!(values().fill_text(text), wanted, "{text}");
        }
    }
}
