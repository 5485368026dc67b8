//! Conditions of breakpoints: parsing, printing and evaluation.
//!
//! Every parsed condition has a value. A condition that could have none is a parse error, because
//! it would silently be false.

use super::cursor::{ParseError, Pattern, TextCursor, quote, written};
use super::facts::StopContext;
use crate::spec::UserPhase;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Maximum nesting.
const DEEPEST: usize = 64;

/// A condition, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// A named fact.
    Name(Name),
    /// `$NAME`; empty if the variable is unset.
    Variable(String),
    /// `defined(NAME)`
    Defined(String),
    /// A number.
    Number(f64),
    /// A duration; compared in seconds.
    Time(Duration),
    /// A quoted text.
    Text(String),
    /// `!`
    Not(Box<Condition>),
    /// `&&`
    And(Box<Condition>, Box<Condition>),
    /// `||`
    Or(Box<Condition>, Box<Condition>),
    /// A comparison of two values.
    Compare(Box<Condition>, Comparison, Box<Condition>),
    /// `=~` or `!~`
    Matches {
        /// The value to match.
        value: Box<Condition>,
        /// The pattern.
        pattern: Pattern,
        /// Whether the operator is `!~`.
        is_negated: bool,
    },
}

// Equality is total, because a condition cannot contain NaN.
impl Eq for Condition {}

/// Names of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the facts of the same names are explained in `Facts`")]
pub enum Name {
    Status,
    Signal,
    Failed,
    Phase,
    Place,
    Run,
    Hits,
    Elapsed,
    Text,
    Output,
}

const NAMES: [(&str, Name); 10] = [
    ("status", Name::Status),
    ("signal", Name::Signal),
    ("failed", Name::Failed),
    ("phase", Name::Phase),
    ("place", Name::Place),
    ("run", Name::Run),
    ("hits", Name::Hits),
    ("elapsed", Name::Elapsed),
    ("text", Name::Text),
    ("output", Name::Output),
];

/// How two values are compared: as numbers if both are numeric, otherwise as texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    Unequal,
    AtMost,
    AtLeast,
    Less,
    More,
}

/// Longer operators first, because shorter ones are their prefixes.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

impl Condition {
    /// Reads a condition at the cursor, as far as it goes.
    pub(super) fn read(cursor: &mut TextCursor<'_>) -> Result<Self, ParseError> {
        ConditionReader { cursor, depth: 0 }.any()
    }

    /// Parses a text that consists of one condition.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut cursor = TextCursor::new(text, 0);
        let condition = Condition::read(&mut cursor)?;
        cursor.skip_blanks();
        if cursor.is_at_end() { Ok(condition) } else { Err(cursor.error(WANTS_OPERATOR)) }
    }

    /// Whether the condition is true.
    #[must_use]
    pub fn holds(&self, facts: &StopContext<'_>) -> bool {
        self.value(facts).is_true()
    }

    /// The condition's value as text.
    #[must_use]
    pub fn shown(&self, facts: &StopContext<'_>) -> String {
        self.value(facts).text().into_owned()
    }

    fn value<'c>(&'c self, facts: &'c StopContext<'_>) -> Value<'c> {
        match self {
            Condition::Name(name) => name.value(facts),
            Condition::Variable(name) => Value::Text(facts.variable(name).unwrap_or_default()),
            Condition::Defined(name) => Value::Truth(facts.variable(name).is_some()),
            Condition::Number(number) => Value::Number(*number),
            Condition::Time(time) => Value::Number(time.as_secs_f64()),
            Condition::Text(text) => Value::Text(text.into()),
            Condition::Not(part) => Value::Truth(!part.holds(facts)),
            Condition::And(one, other) => Value::Truth(one.holds(facts) && other.holds(facts)),
            Condition::Or(one, other) => Value::Truth(one.holds(facts) || other.holds(facts)),
            Condition::Compare(one, how, other) => {
                Value::Truth(how.holds(&one.value(facts), &other.value(facts)))
            }
            Condition::Matches { value, pattern, is_negated } => {
                Value::Truth(pattern.is_in(&value.value(facts).text()) != *is_negated)
            }
        }
    }

    /// Whether `is_it` is true for any part of the condition.
    pub(super) fn asks(&self, is_it: &dyn Fn(&Condition) -> bool) -> bool {
        is_it(self)
            || match self {
                Condition::Not(part) | Condition::Matches { value: part, .. } => part.asks(is_it),
                Condition::And(one, other)
                | Condition::Or(one, other)
                | Condition::Compare(one, _, other) => one.asks(is_it) || other.asks(is_it),
                Condition::Name(_)
                | Condition::Variable(_)
                | Condition::Defined(_)
                | Condition::Number(_)
                | Condition::Time(_)
                | Condition::Text(_) => false,
            }
    }

    fn is_compound(&self) -> bool {
        match self {
            Condition::And(..)
            | Condition::Or(..)
            | Condition::Compare(..)
            | Condition::Matches { .. }
            | Condition::Not(_) => true,
            Condition::Name(_)
            | Condition::Variable(_)
            | Condition::Defined(_)
            | Condition::Number(_)
            | Condition::Time(_)
            | Condition::Text(_) => false,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Condition| match part.is_compound() {
            true => format!("({part})"),
            false => part.to_string(),
        };
        match self {
            Condition::Name(name) => formatter.write_str(name.written()),
            Condition::Variable(name) => write!(formatter, "${name}"),
            Condition::Defined(name) => write!(formatter, "defined({name})"),
            Condition::Number(number) => write!(formatter, "{number}"),
            Condition::Time(time) => formatter.write_str(&written(*time)),
            Condition::Text(text) => formatter.write_str(&quote(text)),
            Condition::Not(one) => write!(formatter, "!{}", part(one)),
            Condition::And(one, other) => write!(formatter, "{} && {}", part(one), part(other)),
            Condition::Or(one, other) => write!(formatter, "{} || {}", part(one), part(other)),
            Condition::Compare(one, how, other) => {
                write!(formatter, "{} {} {}", part(one), how.written(), part(other))
            }
            Condition::Matches { value, pattern, is_negated } => {
                let sign = if *is_negated { "!~" } else { "=~" };
                write!(formatter, "{} {sign} {pattern}", part(value))
            }
        }
    }
}

impl Name {
    fn written(self) -> &'static str {
        NAMES.iter().find(|(_, name)| *name == self).map_or("", |(written, _)| written)
    }

    fn value<'f>(self, facts: &StopContext<'f>) -> Value<'f> {
        let place = || facts.place.map_or_else(String::new, |place| place.to_string());
        let phase = || facts.phase.user_phase().map_or(facts.phase.name(), UserPhase::key);
        match self {
            Name::Status => Value::Number(f64::from(facts.status)),
            Name::Signal => Value::Number(f64::from(facts.signal)),
            Name::Failed => Value::Truth(facts.failed),
            Name::Phase => Value::Text(phase().into()),
            Name::Place => Value::Text(place().into()),
            Name::Run => Value::Number(f64::from(facts.run)),
            #[allow(clippy::cast_precision_loss, reason = "nobody counts so far")]
            Name::Hits => Value::Number(facts.hits as f64),
            Name::Elapsed => Value::Number(facts.elapsed.as_secs_f64()),
            Name::Text => Value::Text(facts.text.into()),
            Name::Output => Value::Text(facts.output.into()),
        }
    }
}

impl Comparison {
    fn written(self) -> &'static str {
        COMPARISONS.iter().find(|(_, how)| *how == self).map_or("", |(written, _)| written)
    }

    fn holds(self, one: &Value<'_>, other: &Value<'_>) -> bool {
        use std::cmp::Ordering;
        let order = match (one.number(), other.number()) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            _ => one.text().cmp(&other.text()),
        };
        match self {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::Unequal => order != Ordering::Equal,
            Comparison::AtMost => order != Ordering::Greater,
            Comparison::AtLeast => order != Ordering::Less,
            Comparison::Less => order == Ordering::Less,
            Comparison::More => order == Ordering::Greater,
        }
    }
}

enum Value<'v> {
    Number(f64),
    Text(Cow<'v, str>),
    Truth(bool),
}

impl Value<'_> {
    fn is_true(&self) -> bool {
        match self {
            Value::Number(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Truth(truth) => *truth,
        }
    }

    /// The value as a number, if it reads like one.
    fn number(&self) -> Option<f64> {
        match self {
            // Adding zero turns -0 into 0.
            Value::Number(number) => Some(*number + 0.0),
            Value::Text(text) => {
                let text = text.trim();
                let is_plain = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
                let number = text.parse::<f64>().ok().filter(|_| text.chars().all(is_plain));
                number.map(|number| number + 0.0)
            }
            Value::Truth(_) => None,
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match self {
            Value::Number(number) => number.to_string().into(),
            Value::Text(text) => text.as_ref().into(),
            Value::Truth(true) => "true".into(),
            Value::Truth(false) => "false".into(),
        }
    }
}

const WANTS_OPERATOR: &str = "an operator such as `==`, `!=`, `<`, `>`, `=~` or `&&` belongs here";

struct ConditionReader<'r, 't> {
    cursor: &'r mut TextCursor<'t>,
    depth: usize,
}

impl ConditionReader<'_, '_> {
    fn any(&mut self) -> Result<Condition, ParseError> {
        let mut left = self.all()?;
        while self.takes("||") {
            left = Condition::Or(Box::new(left), Box::new(self.all()?));
        }
        Ok(left)
    }

    fn all(&mut self) -> Result<Condition, ParseError> {
        let mut left = self.one()?;
        while self.takes("&&") {
            left = Condition::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Condition, ParseError> {
        self.cursor.skip_blanks();
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.cursor.error(format!("this is nested more than {DEEPEST} deep")));
        }
        let read = match self.cursor.take("!") {
            true => self.one().map(|part| Condition::Not(Box::new(part))),
            false => self.comparison(),
        };
        self.depth -= 1;
        read
    }

    fn comparison(&mut self) -> Result<Condition, ParseError> {
        let left = self.operand()?;
        for (sign, is_negated) in [("=~", false), ("!~", true)] {
            if self.takes(sign) {
                self.cursor.skip_blanks();
                let pattern = self.cursor.pattern()?;
                return Ok(Condition::Matches { value: Box::new(left), pattern, is_negated });
            }
        }
        for (sign, how) in COMPARISONS {
            if self.takes(sign) {
                let right = self.operand()?;
                return Ok(Condition::Compare(Box::new(left), how, Box::new(right)));
            }
        }
        let mut ahead = self.cursor.clone();
        ahead.skip_blanks();
        match ahead.rest().starts_with('=') {
            true => Err(ahead.error("two values are compared with `==`")),
            false => Ok(left),
        }
    }

    fn operand(&mut self) -> Result<Condition, ParseError> {
        self.cursor.skip_blanks();
        let begin = self.cursor.clone();
        let rest = begin.rest();
        if rest.starts_with(['"', '\'']) {
            return self.cursor.quoted().map(Condition::Text);
        }
        if self.cursor.take("(") {
            let inner = self.any()?;
            return match self.takes(")") {
                true => Ok(inner),
                false => Err(begin.error("this bracket is never closed")),
            };
        }
        if self.cursor.take("$") {
            return Ok(Condition::Variable(self.cursor.variable()?.to_owned()));
        }
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return self.number();
        }
        if self.cursor.take_word("defined") {
            let name = self.takes("(").then(|| self.cursor.variable()).transpose()?;
            return match name {
                Some(name) if self.takes(")") => Ok(Condition::Defined(name.to_owned())),
                _ => Err(begin.error("it is written `defined(NAME)`")),
            };
        }
        match NAMES.iter().find(|(written, _)| self.cursor.take_word(written)) {
            Some((_, name)) => Ok(Condition::Name(*name)),
            None => Err(begin.error(unknown(begin.peek_word(), rest))),
        }
    }

    fn number(&mut self) -> Result<Condition, ParseError> {
        let begin = self.cursor.clone();
        let is_negative = self.cursor.take("-");
        let whole = self.cursor.digits();
        if !is_negative && self.cursor.peek_word().len() > whole.len() {
            return self.cursor.duration().map(Condition::Time);
        }
        let is_there = self.cursor.take(whole) && !whole.is_empty();
        let mut text = format!("{}{whole}", if is_negative { "-" } else { "" });
        if self.cursor.take(".") {
            let fraction = self.cursor.digits();
            self.cursor.take(fraction);
            text.extend([".", fraction]);
        }
        let number = text.parse::<f64>().ok().filter(|number| is_there && number.is_finite());
        match number {
            Some(number) if self.cursor.peek_word().is_empty() => Ok(Condition::Number(number)),
            _ => Err(begin.error("this is no number")),
        }
    }

    /// Takes an operator and the blanks before it. If it is not there, takes nothing.
    fn takes(&mut self, sign: &str) -> bool {
        let mut ahead = self.cursor.clone();
        ahead.skip_blanks();
        let is_there = ahead.take(sign);
        if is_there {
            *self.cursor = ahead;
        }
        is_there
    }
}

fn unknown(word: &str, rest: &str) -> String {
    let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    match (word, rest.chars().next()) {
        ("", None) => "a value is missing here".to_owned(),
        ("", Some(character)) => format!("`{character}` cannot begin a value"),
        _ => format!(
            "`{word}` is not known; a variable is written ${word}, a text in quotes, and the facts are \
             {}",
            known.join(", ")
        ),
    }
}
