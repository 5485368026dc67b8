//! Breakpoints: `WHAT [if EXPR] [hits H] [log "TEXT"]`.

use super::condition::{Condition, Name};
use super::cursor::{ParseError, Pattern, TextCursor, quote, written};
use super::facts::StopContext;
use super::place::CommandPlace;
use super::template::Template;
use crate::spec::UserPhase;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Maximum length of a breakpoint's text, in bytes.
const LONGEST: usize = 4096;

/// A place where a build stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Breakpoint {
    /// The place.
    pub what: What,
    /// Condition for stopping.
    pub condition: Option<Condition>,
    /// Condition on the number of hits.
    pub hits: Option<HitCondition>,
    /// Text to log instead of stopping.
    pub log: Option<Template>,
}

/// The place of a breakpoint, without its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `start`: before the first command.
    Start,
    /// `failure`: when a command has failed and the phase would fail.
    Failure,
    /// `any-failure`: when a command has failed, even if on-failure retries it.
    AnyFailure,
    /// `before:PLACE`
    Before(CommandPlace),
    /// `after:PHASE`: after the phase, including its `finally`.
    AfterPhase(UserPhase),
    /// `after:PLACE`
    AfterPlace(CommandPlace),
    /// `command:/RE/`: before each command whose text matches.
    Command(Pattern),
    /// `change:NAME`: after a run that changed the variable.
    Change(String),
    /// `wrote:GLOB`: after a run that wrote a matching file.
    Wrote(String),
    /// `output:/RE/`: in a run that wrote a matching line.
    Output(Pattern),
    /// `idle:D`: in a run without output for this long.
    Idle(Duration),
    /// `longer:D`: in a run that takes longer than this.
    Longer(Duration),
    /// `memory:SIZE`: in a run, when the build uses this many bytes of memory.
    Memory(u64),
}

/// Which hits of a breakpoint count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitCondition {
    /// `N`: once, at hit N or the first later one.
    Once(u64),
    /// `==N`
    Exactly(u64),
    /// `>=N`
    AtLeast(u64),
    /// `>N`
    MoreThan(u64),
    /// `%N`: every N-th hit.
    Every(u64),
}

impl HitCondition {
    /// Whether this hit counts. `counted` says whether an earlier hit has counted.
    #[must_use]
    pub fn counts(self, hit: u64, counted: bool) -> bool {
        match self {
            HitCondition::Once(at) => hit >= at && !counted,
            HitCondition::Exactly(at) => hit == at,
            HitCondition::AtLeast(at) => hit >= at,
            HitCondition::MoreThan(at) => hit > at,
            HitCondition::Every(step) => hit.is_multiple_of(step),
        }
    }

    fn read(cursor: &mut TextCursor<'_>) -> Result<Self, ParseError> {
        let make: fn(u64) -> Self = if cursor.take("==") {
            HitCondition::Exactly
        } else if cursor.take(">=") {
            HitCondition::AtLeast
        } else if cursor.take(">") {
            HitCondition::MoreThan
        } else if cursor.take("%") {
            HitCondition::Every
        } else {
            HitCondition::Once
        };
        cursor.skip_blanks();
        let begin = cursor.clone();
        match cursor.count() {
            Ok(0) => Err(begin.error("hits are counted from 1")),
            Ok(count) => Ok(make(count)),
            Err(_) => Err(begin.error("hits are written N, ==N, >=N, >N or %N")),
        }
    }
}

impl Breakpoint {
    /// Whether the condition holds; true without a condition.
    #[must_use]
    pub fn holds(&self, facts: &StopContext<'_>) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.holds(facts))
    }

    /// Whether the breakpoint needs a run's file changes, which only builds with checkpoints
    /// record.
    #[must_use]
    pub fn wants_changes(&self) -> bool {
        matches!(self.what, What::Wrote(_))
    }

    /// The command place in the breakpoint, if it has one.
    #[must_use]
    pub fn place(&self) -> Option<&CommandPlace> {
        match &self.what {
            What::Before(place) | What::AfterPlace(place) => Some(place),
            What::AfterPhase(_)
            | What::Start
            | What::Failure
            | What::AnyFailure
            | What::Command(_)
            | What::Change(_)
            | What::Wrote(_)
            | What::Output(_)
            | What::Idle(_)
            | What::Longer(_)
            | What::Memory(_) => None,
        }
    }

    /// Whether the breakpoint needs variables.
    #[must_use]
    pub fn wants_variables(&self) -> bool {
        matches!(self.what, What::Change(_))
            || self.asks(&|part| matches!(part, Condition::Variable(_) | Condition::Defined(_)))
    }

    /// Whether the breakpoint needs a run's output.
    #[must_use]
    pub fn wants_output(&self) -> bool {
        self.asks(&|part| matches!(part, Condition::Name(Name::Output)))
    }

    fn asks(&self, is_it: &dyn Fn(&Condition) -> bool) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.asks(is_it))
            || self.log.as_ref().is_some_and(|log| log.asks(is_it))
    }
}

impl What {
    fn read(cursor: &mut TextCursor<'_>) -> Result<Self, ParseError> {
        let begin = cursor.clone();
        for (word, what) in
            [("any-failure", What::AnyFailure), ("failure", What::Failure), ("start", What::Start)]
        {
            if cursor.take(word) {
                return Ok(what);
            }
        }
        let word = cursor.peek_word();
        let is_form = cursor.take(word) && cursor.take(":");
        match word {
            "before" if is_form => {
                let (phase, place) = CommandPlace::read(cursor)?;
                Ok(What::Before(place.unwrap_or(CommandPlace::first(phase))))
            }
            "after" if is_form => {
                let (phase, place) = CommandPlace::read(cursor)?;
                Ok(place.map_or(What::AfterPhase(phase), What::AfterPlace))
            }
            "command" if is_form => cursor.pattern().map(What::Command),
            "output" if is_form => cursor.pattern().map(What::Output),
            "change" if is_form => {
                let at = cursor.clone();
                if cursor.until_blank().contains(['/', '.', '*']) {
                    return Err(at.error(OF_FILES));
                }
                *cursor = at;
                Ok(What::Change(cursor.variable()?.to_owned()))
            }
            "wrote" if is_form => {
                let glob = match cursor.rest().starts_with(['"', '\'']) {
                    true => cursor.quoted()?,
                    false => cursor.until_blank().to_owned(),
                };
                match glob.is_empty() {
                    true => Err(cursor.error("a path or a pattern of paths belongs here")),
                    false => Ok(What::Wrote(glob)),
                }
            }
            "idle" if is_form => cursor.duration().map(What::Idle),
            "longer" if is_form => cursor.duration().map(What::Longer),
            "memory" if is_form => cursor.size().map(What::Memory),
            _ => Err(begin.error(FORMS)),
        }
    }
}

const OF_FILES: &str = "`change:` takes the name of a variable; for files use wrote:GLOB";

const FORMS: &str = "a breakpoint is start, failure, any-failure, before:PLACE, after:PHASE, \
                     command:/RE/, change:NAME, wrote:GLOB, output:/RE/, idle:TIME, longer:TIME or memory:SIZE";

impl From<Breakpoint> for String {
    fn from(breakpoint: Breakpoint) -> Self {
        breakpoint.to_string()
    }
}

impl TryFrom<String> for Breakpoint {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl FromStr for Breakpoint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut cursor = TextCursor::new(text, 0);
        if text.len() > LONGEST {
            return Err(cursor.error(format!("a breakpoint has at most {LONGEST} bytes")));
        }
        cursor.skip_blanks();
        let what = What::read(&mut cursor)?;
        let mut breakpoint = Breakpoint { what, condition: None, hits: None, log: None };
        if next_word(&mut cursor, "if")? {
            breakpoint.condition = Some(Condition::read(&mut cursor)?);
        }
        if next_word(&mut cursor, "hits")? {
            cursor.skip_blanks();
            breakpoint.hits = Some(HitCondition::read(&mut cursor)?);
        }
        if next_word(&mut cursor, "log")? {
            cursor.skip_blanks();
            let column = cursor.column();
            if !cursor.rest().starts_with(['"', '\'']) {
                return Err(cursor.error("the text to log stands in quotes"));
            }
            breakpoint.log = Some(Template::read(&cursor.quoted()?, column)?);
        }
        cursor.skip_blanks();
        if cursor.is_at_end() {
            return Ok(breakpoint);
        }
        Err(cursor.error(match (&breakpoint.log, &breakpoint.hits, &breakpoint.condition) {
            (Some(_), ..) => "nothing belongs behind the text to log",
            (None, Some(_), _) => "only `log \"TEXT\"` belongs here",
            (None, None, Some(_)) => {
                "an operator such as `==` or `&&`, `hits N` or `log \"TEXT\"` belongs here"
            }
            (None, None, None) => "`if`, `hits` or `log` belongs here",
        }))
    }
}

/// Takes a word if white space comes before it.
fn next_word(cursor: &mut TextCursor<'_>, word: &str) -> Result<bool, ParseError> {
    let is_apart = cursor.rest().starts_with(char::is_whitespace);
    let mut ahead = cursor.clone();
    ahead.skip_blanks();
    if !ahead.take_word(word) {
        return Ok(false);
    }
    if !is_apart {
        return Err(cursor.error(format!("a blank belongs before `{word}`")));
    }
    *cursor = ahead;
    Ok(true)
}

impl fmt::Display for Breakpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.what)?;
        if let Some(condition) = &self.condition {
            write!(formatter, " if {condition}")?;
        }
        if let Some(hits) = &self.hits {
            write!(formatter, " hits {hits}")?;
        }
        if let Some(log) = &self.log {
            write!(formatter, " log {}", quote(&log.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Start => formatter.write_str("start"),
            What::Failure => formatter.write_str("failure"),
            What::AnyFailure => formatter.write_str("any-failure"),
            What::Before(place) => write!(formatter, "before:{place}"),
            What::AfterPhase(phase) => write!(formatter, "after:{}", phase.key()),
            What::AfterPlace(place) => write!(formatter, "after:{place}"),
            What::Command(pattern) => write!(formatter, "command:{pattern}"),
            What::Change(name) => write!(formatter, "change:{name}"),
            What::Wrote(glob) => write!(formatter, "wrote:{}", quote(glob)),
            What::Output(pattern) => write!(formatter, "output:{pattern}"),
            What::Idle(time) => write!(formatter, "idle:{}", written(*time)),
            What::Longer(time) => write!(formatter, "longer:{}", written(*time)),
            What::Memory(bytes) => write!(formatter, "memory:{bytes}"),
        }
    }
}

impl fmt::Display for HitCondition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HitCondition::Once(count) => write!(formatter, "{count}"),
            HitCondition::Exactly(count) => write!(formatter, "=={count}"),
            HitCondition::AtLeast(count) => write!(formatter, ">={count}"),
            HitCondition::MoreThan(count) => write!(formatter, ">{count}"),
            HitCondition::Every(count) => write!(formatter, "%{count}"),
        }
    }
}
