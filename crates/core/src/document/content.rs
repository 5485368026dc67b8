//! Parses and writes the text of a document.

use crate::spec::yaml::{self, YamlNode};
use serde_json::{Map, Number, Value};
use std::fmt::Write as _;

/// Maximum size of a document in bytes, as in AWS.
pub const MAX_BYTES: usize = 64 << 10;

/// The format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl DocumentFormat {
    /// Its name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DocumentFormat::Json => "JSON",
            DocumentFormat::Yaml => "YAML",
        }
    }

    /// Returns the format with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [DocumentFormat::Json, DocumentFormat::Yaml]
            .into_iter()
            .find(|format| format.name() == name)
    }
}

/// The type of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentType {
    /// Scripts in builds.
    Command,
    /// Sessions.
    Session,
}

impl DocumentType {
    /// Its name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DocumentType::Command => "Command",
            DocumentType::Session => "Session",
        }
    }

    /// Returns the type with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [DocumentType::Command, DocumentType::Session].into_iter().find(|kind| kind.name() == name)
    }
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Longer than [`MAX_BYTES`].
    #[error("the document has {0} bytes; it may have {MAX_BYTES}")]
    TooLong(usize),
    /// Not valid in its format.
    #[error("{0}")]
    Malformed(String),
}

/// Parses a document into a map.
///
/// # Errors
/// The text is too long, malformed, or not a map.
pub fn read(text: &str, format: DocumentFormat) -> Result<Map<String, Value>, ContentError> {
    if text.len() > MAX_BYTES {
        return Err(ContentError::TooLong(text.len()));
    }
    let value = match format {
        DocumentFormat::Json => serde_json::from_str(text).map_err(|error| {
            ContentError::Malformed(format!("the content is not JSON: {error}"))
        })?,
        DocumentFormat::Yaml => read_yaml(text).map_err(ContentError::Malformed)?,
    };
    match value {
        Value::Object(mut map) => {
            // A version without quotes in YAML is read as a number.
            if let Some(Value::Number(number)) = map.get("schemaVersion") {
                let text = number.to_string();
                map.insert("schemaVersion".to_owned(), Value::String(text));
            }
            Ok(map)
        }
        _ => Err(ContentError::Malformed("the content is to be a map".to_owned())),
    }
}

fn read_yaml(text: &str) -> Result<Value, String> {
    let document = yaml::parse(text).map_err(|problem| {
        let (line, column) = (problem.span.line, problem.span.column);
        format!("the content is not YAML: {} at line {line} column {column}", problem.message)
    })?;
    match document.next {
        Some(span) => Err(format!("a second document begins at line {}", span.line)),
        None => value(document.root),
    }
}

fn value(node: YamlNode) -> Result<Value, String> {
    Ok(match node.value {
        yaml::YamlValue::Null => Value::Null,
        yaml::YamlValue::Scalar(text) if node.is_plain => plain(text),
        yaml::YamlValue::Scalar(text) => Value::String(text),
        yaml::YamlValue::Sequence(items) => {
            Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?)
        }
        yaml::YamlValue::Mapping(entries) => {
            let mut map = Map::new();
            for (key, node) in entries {
                let line = key.span.line;
                let yaml::YamlValue::Scalar(name) = key.value else {
                    return Err(format!("a name in a map is not a string at line {line}"));
                };
                let shown = super::shown(&name);
                if map.insert(name, value(node)?).is_some() {
                    return Err(format!("{shown} stands twice in a map at line {line}"));
                }
            }
            Value::Object(map)
        }
    })
}

/// Reads an unquoted scalar by YAML's core schema.
fn plain(text: String) -> Value {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    match text.as_str() {
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number => match text.parse::<i64>() {
            Ok(number) => Value::Number(number.into()),
            Err(_) => match text.parse::<f64>().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => Value::String(text),
            },
        },
        _ => Value::String(text),
    }
}

/// Writes a value in this format.
#[must_use]
pub fn write(value: &Value, format: DocumentFormat) -> String {
    match format {
        // A JSON value can always be written as JSON.
        DocumentFormat::Json => serde_json::to_string_pretty(value).unwrap_or_default(),
        DocumentFormat::Yaml => {
            let mut text = String::from("---");
            write_yaml(value, 0, &mut text);
            text.push('\n');
            text
        }
    }
}

/// Writes a value after `NAME:` or `-`. Texts are quoted as in JSON, which YAML reads the same way.
fn write_yaml(value: &Value, depth: usize, text: &mut String) {
    let line = |text: &mut String| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                line(text);
                let _ = write!(text, "{}:", key(name));
                write_yaml(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                line(text);
                text.push('-');
                write_yaml(item, depth + 1, text);
            }
        }
        other => {
            let _ = write!(text, " {}", quoted(other));
        }
    }
}

/// Quotes as JSON, and escapes characters that YAML does not allow.
fn quoted(value: &Value) -> String {
    let mut quoted = String::new();
    for c in value.to_string().chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&name.to_ascii_lowercase().as_str());
    if is_plain { name.to_owned() } else { quoted(&Value::from(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "schemaVersion: 1.0\ninputs:\n  runAsEnabled: true\n  idleSessionTimeout: \"20\"\n  n: 3\n  f: -2.5\n  v: 1.2.3\n  nothing:\n  list: [a, \"true\"]\n";
        let map = read(yaml, DocumentFormat::Yaml).expect("YAML");
        let wanted = json!({"schemaVersion": "1.0", "inputs": {"runAsEnabled": true, "idleSessionTimeout": "20",
            "n": 3, "f": -2.5, "v": "1.2.3", "nothing": null, "list": ["a", "true"]}});
        assert_eq!(Value::Object(map), wanted);
        for format in [DocumentFormat::Json, DocumentFormat::Yaml] {
            let text = write(&wanted, format);
            assert_eq!(read(&text, format).map(Value::Object), Ok(wanted.clone()), "{text}");
        }
        let odd =
            json!({"a b": [[1, {}], [], {"x": "l1\nl2: #\u{7f}\u{e9}"}], "yes": "- a", "": null});
        let text = write(&odd, DocumentFormat::Yaml);
        assert_eq!(read(&text, DocumentFormat::Yaml).map(Value::Object), Ok(odd), "{text}");
    }

    #[test]
    fn what_is_no_document() {
        for (text, format, why) in [
            ("[]", DocumentFormat::Json, "is to be a map"),
            ("{", DocumentFormat::Json, "not JSON"),
            ("a: [", DocumentFormat::Yaml, "not YAML"),
            ("a: 1\na: 2", DocumentFormat::Yaml, "stands twice in a map at line 2"),
            ("a: 1\n---\nb: 2", DocumentFormat::Yaml, "second document"),
            ("? [a]\n: 1", DocumentFormat::Yaml, "not a string at line"),
        ] {
            let error = read(text, format).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let deep = "[".repeat(10_000);
        assert!(
            read(&deep, DocumentFormat::Json).is_err()
                && read(&deep, DocumentFormat::Yaml).is_err()
        );
        assert!(matches!(
            read(&" ".repeat(MAX_BYTES + 1), DocumentFormat::Json),
            Err(ContentError::TooLong(_))
        ));
        // Nested aliases would expand to a million values.
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let of = format!("*a{}, ", n - 1).repeat(10);
            let _ = writeln!(bomb, "a{n}: &a{n} [{}]", of.trim_end_matches(", "));
        }
        assert!(read(&bomb, DocumentFormat::Yaml).is_err());
    }
}
