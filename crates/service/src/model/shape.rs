//! Descriptions of inputs, and the check of an input against one.

use serde_json::Value;
use std::fmt;

/// The valid values of a member.
#[derive(Debug)]
pub enum MemberShape {
    /// Minimum and maximum length in characters, and the allowed characters.
    Text {
        min: usize,
        max: usize,
        pattern: Option<TextPattern>,
    },
    Choice(&'static [&'static str]),
    Number {
        min: i64,
        max: i64,
    },
    Real,
    Flag,
    Time,
    List {
        of: &'static MemberShape,
        min: usize,
        max: usize,
    },
    Record(&'static [RecordMember]),
}

/// A member of a record.
#[derive(Debug)]
pub struct RecordMember {
    pub name: &'static str,
    pub is_required: bool,
    pub shape: &'static MemberShape,
}

/// The characters a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPattern {
    ProjectName,
    FleetName,
    Tag,
    LogGroup,
    LogGroupPart,
    LogGroupIdentifier,
    LogStream,
    Account,
}

pub(super) const fn required(name: &'static str, shape: &'static MemberShape) -> RecordMember {
    RecordMember { name, is_required: true, shape }
}

pub(super) const fn optional(name: &'static str, shape: &'static MemberShape) -> RecordMember {
    RecordMember { name, is_required: false, shape }
}

pub(super) const fn text(min: usize, max: usize) -> MemberShape {
    MemberShape::Text { min, max, pattern: None }
}

pub(super) const fn matching(min: usize, max: usize, pattern: TextPattern) -> MemberShape {
    MemberShape::Text { min, max, pattern: Some(pattern) }
}

pub(super) const fn number(min: i64, max: i64) -> MemberShape {
    MemberShape::Number { min, max }
}

pub(super) const fn list(of: &'static MemberShape, min: usize, max: usize) -> MemberShape {
    MemberShape::List { of, min, max }
}

impl TextPattern {
    /// The pattern as AWS writes it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            TextPattern::ProjectName => r"[A-Za-z0-9][A-Za-z0-9\-_]{1,149}",
            TextPattern::FleetName => r"[A-Za-z0-9][A-Za-z0-9\-_]{1,127}",
            TextPattern::Tag => r"^([\p{L}\p{Z}\p{N}_.:/=@+\-]*)$",
            TextPattern::LogGroup => r"[\.\-_/#A-Za-z0-9]+",
            TextPattern::LogGroupPart => r"[\.\-_/#A-Za-z0-9]*",
            TextPattern::LogGroupIdentifier => r"[\w#+=/:,.@-]*",
            TextPattern::LogStream => r"[^:*]*",
            TextPattern::Account => r"^\d{12}$",
        }
    }

    fn fits(self, text: &str) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match self {
            TextPattern::ProjectName | TextPattern::FleetName => {
                text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_word)
            }
            TextPattern::Tag => text.chars().all(|c| {
                c.is_alphanumeric() || c == ' ' || is_separator(c) || "_.:/=@+-".contains(c)
            }),
            TextPattern::LogGroup | TextPattern::LogGroupPart => {
                text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c))
            }
            TextPattern::LogGroupIdentifier => {
                text.chars().all(|c| c.is_ascii_alphanumeric() || "_#+=/:,.@-".contains(c))
            }
            TextPattern::LogStream => !text.contains([':', '*']),
            TextPattern::Account => text.chars().all(|c| c.is_ascii_digit()),
        }
    }
}

/// Unicode separators that are whitespace.
fn is_separator(c: char) -> bool {
    c.is_whitespace() && !c.is_control()
}

/// The problems of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputProblems {
    /// A value of the wrong type: the input cannot be read.
    Type(String),
    Constraints(Vec<String>),
}

impl fmt::Display for InputProblems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputProblems::Type(text) => out.write_str(text),
            InputProblems::Constraints(list) => {
                let s = if list.len() == 1 { "" } else { "s" };
                write!(out, "{} validation error{s} detected: {}", list.len(), list.join("; "))
            }
        }
    }
}

/// Maximum characters of a value repeated in a message.
const SHOWN: usize = 200;

/// Checks a value against its description.
///
/// # Errors
/// Everything that is wrong with it; a wrong type alone.
pub(super) fn check(shape: &MemberShape, value: &Value) -> Result<(), InputProblems> {
    let mut walk = ShapeWalk { found: Vec::new() };
    walk.value(shape, value, "").map_err(InputProblems::Type)?;
    if walk.found.is_empty() { Ok(()) } else { Err(InputProblems::Constraints(walk.found)) }
}

/// A value reduced to described members.
pub(super) fn known(shape: &MemberShape, value: &Value) -> Value {
    match (shape, value) {
        (MemberShape::Record(members), Value::Object(given)) => {
            let known = members.iter().filter_map(|member| {
                let value = given.get(member.name).filter(|value| !value.is_null())?;
                Some((member.name.to_owned(), known(member.shape, value)))
            });
            Value::Object(known.collect())
        }
        (MemberShape::List { of, .. }, Value::Array(items)) => {
            items.iter().map(|item| known(of, item)).collect()
        }
        _ => value.clone(),
    }
}

struct ShapeWalk {
    found: Vec<String>,
}

impl ShapeWalk {
    fn value(&mut self, shape: &MemberShape, value: &Value, path: &str) -> Result<(), String> {
        let of_type = |name: &str| {
            let place = if path.is_empty() { "the input" } else { path };
            Err(format!("{place} is to be {name}"))
        };
        match (shape, value) {
            (MemberShape::Text { min, max, pattern }, Value::String(text)) => {
                let length = text.chars().count();
                self.least(length < *min, text, path, "length", *min as i64);
                self.most(length > *max, text, path, "length", *max as i64);
                if let Some(pattern) = pattern.filter(|pattern| !pattern.fits(text)) {
                    let rule = format!("satisfy regular expression pattern: {}", pattern.text());
                    self.broken(text, path, &rule);
                }
            }
            (MemberShape::Choice(choices), Value::String(text)) => {
                if !choices.contains(&text.as_str()) {
                    let rule = format!("satisfy enum value set: [{}]", choices.join(", "));
                    self.broken(text, path, &rule);
                }
            }
            (MemberShape::Number { min, max }, Value::Number(number)) => {
                let Some(given) = number.as_i64() else { return of_type("a whole number") };
                let shown = number.to_string();
                self.least(given < *min, &shown, path, "value", *min);
                self.most(given > *max, &shown, path, "value", *max);
            }
            (MemberShape::Real | MemberShape::Time, Value::Number(_))
            | (MemberShape::Flag, Value::Bool(_)) => {}
            (MemberShape::List { of, min, max }, Value::Array(items)) => {
                let shown = format!("[{} items]", items.len());
                self.least(items.len() < *min, &shown, path, "length", *min as i64);
                self.most(items.len() > *max, &shown, path, "length", *max as i64);
                for (at, item) in items.iter().enumerate() {
                    self.value(of, item, &format!("{path}.{}.member", at + 1))?;
                }
            }
            (MemberShape::Record(members), Value::Object(given)) => {
                for RecordMember { name, is_required, shape } in *members {
                    let below =
                        if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                    match given.get(*name).filter(|value| !value.is_null()) {
                        Some(value) => self.value(shape, value, &below)?,
                        None if *is_required => self.found.push(format!(
                            "Value null at '{below}' failed to satisfy constraint: Member must not be null"
                        )),
                        None => {}
                    }
                }
            }
            (MemberShape::Text { .. } | MemberShape::Choice(_), _) => return of_type("a text"),
            (MemberShape::Number { .. }, _) => return of_type("a whole number"),
            (MemberShape::Real | MemberShape::Time, _) => return of_type("a number"),
            (MemberShape::Flag, _) => return of_type("true or false"),
            (MemberShape::List { .. }, _) => return of_type("a list"),
            (MemberShape::Record(_), _) => return of_type("an object"),
        }
        Ok(())
    }

    fn least(&mut self, is_broken: bool, value: &str, path: &str, what: &str, bound: i64) {
        if is_broken {
            let rule = format!("have {what} greater than or equal to {bound}");
            self.broken(value, path, &rule);
        }
    }

    fn most(&mut self, is_broken: bool, value: &str, path: &str, what: &str, bound: i64) {
        if is_broken {
            self.broken(value, path, &format!("have {what} less than or equal to {bound}"));
        }
    }

    fn broken(&mut self, value: &str, path: &str, rule: &str) {
        let shown: String = value.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        self.found.push(format!(
            "Value '{shown}' at '{path}' failed to satisfy constraint: Member must {rule}"
        ));
    }
}
