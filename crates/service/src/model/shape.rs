//! Descriptions of inputs, and what holds an input against one.

use serde_json::Value;
use std::fmt;

/// What a member may be.
#[derive(Debug)]
pub enum Shape {
    /// So many characters at least and at most, of these kinds.
    Text {
        min: usize,
        max: usize,
        pattern: Option<Pattern>,
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
        of: &'static Shape,
        min: usize,
        max: usize,
    },
    Record(&'static [Member]),
}

/// A member of a record.
#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub is_required: bool,
    pub shape: &'static Shape,
}

/// Of what a text is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    ProjectName,
    FleetName,
    Tag,
    LogGroup,
    LogGroupPart,
    LogGroupIdentifier,
    LogStream,
    Account,
}

pub(super) const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, is_required: true, shape }
}

pub(super) const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, is_required: false, shape }
}

pub(super) const fn text(min: usize, max: usize) -> Shape {
    Shape::Text { min, max, pattern: None }
}

pub(super) const fn matching(min: usize, max: usize, pattern: Pattern) -> Shape {
    Shape::Text { min, max, pattern: Some(pattern) }
}

pub(super) const fn number(min: i64, max: i64) -> Shape {
    Shape::Number { min, max }
}

pub(super) const fn list(of: &'static Shape, min: usize, max: usize) -> Shape {
    Shape::List { of, min, max }
}

impl Pattern {
    /// As AWS writes it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Pattern::ProjectName => r"[A-Za-z0-9][A-Za-z0-9\-_]{1,149}",
            Pattern::FleetName => r"[A-Za-z0-9][A-Za-z0-9\-_]{1,127}",
            Pattern::Tag => r"^([\p{L}\p{Z}\p{N}_.:/=@+\-]*)$",
            Pattern::LogGroup => r"[\.\-_/#A-Za-z0-9]+",
            Pattern::LogGroupPart => r"[\.\-_/#A-Za-z0-9]*",
            Pattern::LogGroupIdentifier => r"[\w#+=/:,.@-]*",
            Pattern::LogStream => r"[^:*]*",
            Pattern::Account => r"^\d{12}$",
        }
    }

    fn fits(self, text: &str) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match self {
            Pattern::ProjectName | Pattern::FleetName => {
                text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_word)
            }
            Pattern::Tag => text.chars().all(|c| {
                c.is_alphanumeric() || c == ' ' || is_separator(c) || "_.:/=@+-".contains(c)
            }),
            Pattern::LogGroup | Pattern::LogGroupPart => {
                text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c))
            }
            Pattern::LogGroupIdentifier => {
                text.chars().all(|c| c.is_ascii_alphanumeric() || "_#+=/:,.@-".contains(c))
            }
            Pattern::LogStream => !text.contains([':', '*']),
            Pattern::Account => text.chars().all(|c| c.is_ascii_digit()),
        }
    }
}

/// Unicode's separators, as far as they are whitespace.
fn is_separator(c: char) -> bool {
    c.is_whitespace() && !c.is_control()
}

/// What is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problems {
    /// A value of another type: the input cannot be read.
    Type(String),
    Constraints(Vec<String>),
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problems::Type(text) => out.write_str(text),
            Problems::Constraints(list) => {
                let s = if list.len() == 1 { "" } else { "s" };
                write!(out, "{} validation error{s} detected: {}", list.len(), list.join("; "))
            }
        }
    }
}

/// Most characters of a value that a message repeats.
const SHOWN: usize = 200;

/// Holds a value against its description.
///
/// # Errors
/// Everything that is wrong with it; of a wrong type, that alone.
pub(super) fn check(shape: &Shape, value: &Value) -> Result<(), Problems> {
    let mut walk = Walk { found: Vec::new() };
    walk.value(shape, value, "").map_err(Problems::Type)?;
    if walk.found.is_empty() { Ok(()) } else { Err(Problems::Constraints(walk.found)) }
}

/// A value with what its description knows, and nothing else.
pub(super) fn known(shape: &Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Record(members), Value::Object(given)) => {
            let known = members.iter().filter_map(|member| {
                let value = given.get(member.name).filter(|value| !value.is_null())?;
                Some((member.name.to_owned(), known(member.shape, value)))
            });
            Value::Object(known.collect())
        }
        (Shape::List { of, .. }, Value::Array(items)) => {
            items.iter().map(|item| known(of, item)).collect()
        }
        _ => value.clone(),
    }
}

struct Walk {
    found: Vec<String>,
}

impl Walk {
    fn value(&mut self, shape: &Shape, value: &Value, path: &str) -> Result<(), String> {
        let of_type = |name: &str| {
            let place = if path.is_empty() { "the input" } else { path };
            Err(format!("{place} is to be {name}"))
        };
        match (shape, value) {
            (Shape::Text { min, max, pattern }, Value::String(text)) => {
                let length = text.chars().count();
                self.least(length < *min, text, path, "length", *min as i64);
                self.most(length > *max, text, path, "length", *max as i64);
                if let Some(pattern) = pattern.filter(|pattern| !pattern.fits(text)) {
                    let rule = format!("satisfy regular expression pattern: {}", pattern.text());
                    self.broken(text, path, &rule);
                }
            }
            (Shape::Choice(choices), Value::String(text)) => {
                if !choices.contains(&text.as_str()) {
                    let rule = format!("satisfy enum value set: [{}]", choices.join(", "));
                    self.broken(text, path, &rule);
                }
            }
            (Shape::Number { min, max }, Value::Number(number)) => {
                let Some(given) = number.as_i64() else { return of_type("a whole number") };
                let shown = number.to_string();
                self.least(given < *min, &shown, path, "value", *min);
                self.most(given > *max, &shown, path, "value", *max);
            }
            (Shape::Real | Shape::Time, Value::Number(_)) | (Shape::Flag, Value::Bool(_)) => {}
            (Shape::List { of, min, max }, Value::Array(items)) => {
                let shown = format!("[{} items]", items.len());
                self.least(items.len() < *min, &shown, path, "length", *min as i64);
                self.most(items.len() > *max, &shown, path, "length", *max as i64);
                for (at, item) in items.iter().enumerate() {
                    self.value(of, item, &format!("{path}.{}.member", at + 1))?;
                }
            }
            (Shape::Record(members), Value::Object(given)) => {
                for Member { name, is_required, shape } in *members {
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
            (Shape::Text { .. } | Shape::Choice(_), _) => return of_type("a text"),
            (Shape::Number { .. }, _) => return of_type("a whole number"),
            (Shape::Real | Shape::Time, _) => return of_type("a number"),
            (Shape::Flag, _) => return of_type("true or false"),
            (Shape::List { .. }, _) => return of_type("a list"),
            (Shape::Record(_), _) => return of_type("an object"),
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
