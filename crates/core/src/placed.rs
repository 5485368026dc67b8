//! Parses JSON with the place of each value, and collects problems by place.
//!
//! `serde_json` checks syntax and depth first, so this parser sees only well-formed text.

use crate::spec::LineColumn;
use std::fmt;

/// A problem in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentProblem {
    /// The place.
    pub place: LineColumn,
    /// The problem, in one sentence without a full stop.
    pub text: String,
}

impl fmt::Display for DocumentProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.place.line, self.place.column, self.text)
    }
}

/// Collects the problems of a document.
#[derive(Debug, Default)]
pub(crate) struct DocumentProblems(Vec<DocumentProblem>);

impl DocumentProblems {
    pub(crate) fn add(&mut self, place: LineColumn, text: impl Into<String>) {
        self.0.push(DocumentProblem { place, text: text.into() });
    }

    /// Returns the value if there is no problem, otherwise all problems in text order.
    pub(crate) fn or<T>(mut self, value: Option<T>) -> Result<T, Vec<DocumentProblem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort_by_key(|problem| (problem.place.line, problem.place.column));
                Err(self.0)
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct JsonNode {
    pub(crate) place: LineColumn,
    pub(crate) json: JsonValue,
}

#[derive(Debug)]
pub(crate) enum JsonValue {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<JsonNode>),
    Map(Vec<JsonMember>),
}

#[derive(Debug)]
pub(crate) struct JsonMember {
    pub(crate) place: LineColumn,
    pub(crate) name: String,
    pub(crate) node: JsonNode,
}

/// Parses a text. A repeated name in a map is a problem, because parsers disagree on which one
/// counts.
pub(crate) fn read(text: &str, problems: &mut DocumentProblems) -> Option<JsonNode> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let place = LineColumn { line: number(error.line()), column: number(error.column()) };
        let full = error.to_string();
        let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
        problems.add(place, format!("this is not JSON: {what}"));
        return None;
    }
    let start = LineColumn { line: 1, column: 1 };
    Some(JsonReader { text, at: 0, counted: 0, place: start, problems }.node())
}

struct JsonReader<'t> {
    text: &'t str,
    at: usize,
    /// The offset that `place` refers to.
    counted: usize,
    place: LineColumn,
    problems: &'t mut DocumentProblems,
}

impl JsonReader<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(b' ')
    }

    /// Skips white space, commas and colons. The syntax was checked before.
    fn skip(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let is_between = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':');
        self.at += rest.iter().take_while(is_between).count();
    }

    fn place(&mut self) -> LineColumn {
        for byte in self.text.as_bytes().get(self.counted..self.at).unwrap_or_default() {
            match byte {
                b'\n' => self.place = LineColumn { line: self.place.line + 1, column: 1 },
                // Only at the start of a character.
                byte if byte & 0xc0 != 0x80 => self.place.column += 1,
                _ => {}
            }
        }
        self.counted = self.at;
        self.place
    }

    fn node(&mut self) -> JsonNode {
        self.skip();
        let place = self.place();
        let json = match self.peek() {
            b'{' => JsonValue::Map(self.map()),
            b'[' => JsonValue::List(self.list()),
            b'"' => JsonValue::Text(self.string()),
            _ => match self.word() {
                "null" => JsonValue::Null,
                "true" => JsonValue::Bool(true),
                "false" => JsonValue::Bool(false),
                number => JsonValue::Number(number.to_owned()),
            },
        };
        JsonNode { place, json }
    }

    fn word(&mut self) -> &str {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let is_word =
            |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        self.at += rest.iter().take_while(is_word).count().max(1);
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn string(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while self.at < bytes.len() && self.peek() != b'"' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let raw = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(raw).unwrap_or_default()
    }

    fn list(&mut self) -> Vec<JsonNode> {
        let mut list = Vec::new();
        self.at += 1;
        self.skip();
        while self.at < self.text.len() && self.peek() != b']' {
            list.push(self.node());
            self.skip();
        }
        self.at += 1;
        list
    }

    fn map(&mut self) -> Vec<JsonMember> {
        let mut members: Vec<JsonMember> = Vec::new();
        let mut names = std::collections::HashMap::new();
        self.at += 1;
        self.skip();
        while self.at < self.text.len() && self.peek() != b'}' {
            let place = self.place();
            let name = self.string();
            if let Some(first) = names.insert(name.clone(), place) {
                let text = format!("`{name}` stands here twice, first in line {}", first.line);
                self.problems.add(place, text);
            }
            let node = self.node();
            members.push(JsonMember { place, name, node });
            self.skip();
        }
        self.at += 1;
        members
    }
}

impl JsonNode {
    /// The type of the value, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.json {
            JsonValue::Null => "null",
            JsonValue::Bool(_) => "true or false",
            JsonValue::Number(_) => "a number",
            JsonValue::Text(_) => "a text",
            JsonValue::List(_) => "a list",
            JsonValue::Map(_) => "a map",
        }
    }

    /// Its members. Adds a problem if it is not a map.
    pub(crate) fn map(&self, what: &str, problems: &mut DocumentProblems) -> &[JsonMember] {
        match &self.json {
            JsonValue::Map(members) => members,
            _ => {
                problems.add(self.place, format!("{what} is a map, not {}", self.kind()));
                &[]
            }
        }
    }

    /// Its items. Adds a problem if it is not a list.
    pub(crate) fn list(&self, what: &str, problems: &mut DocumentProblems) -> &[JsonNode] {
        match &self.json {
            JsonValue::List(items) => items,
            _ => {
                problems.add(self.place, format!("{what} is a list, not {}", self.kind()));
                &[]
            }
        }
    }

    /// Its text. Adds a problem if it is not a text.
    pub(crate) fn text(&self, what: &str, problems: &mut DocumentProblems) -> Option<&str> {
        match &self.json {
            JsonValue::Text(text) => Some(text),
            _ => {
                problems.add(self.place, format!("{what} is a text, not {}", self.kind()));
                None
            }
        }
    }

    /// Its items if it is a list, otherwise the value itself. Most lists in IAM may be a single
    /// value.
    pub(crate) fn one_or_more(&self) -> &[JsonNode] {
        match &self.json {
            JsonValue::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }
}

/// Reports the names in a map that are not in `known`.
pub(crate) fn only(
    members: &[JsonMember],
    known: &[&str],
    what: &str,
    problems: &mut DocumentProblems,
) {
    for member in members.iter().filter(|member| !known.contains(&member.name.as_str())) {
        let text = format!("{what} has no `{}`, only {}", member.name, known.join(", "));
        problems.add(member.place, text);
    }
}

/// The value with this name.
pub(crate) fn member<'n>(members: &'n [JsonMember], name: &str) -> Option<&'n JsonNode> {
    members.iter().find(|member| member.name == name).map(|member| &member.node)
}
