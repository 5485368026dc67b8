//! A rewind to the state before a run: its target, and what follows.

use super::cursor::{ParseError, TextCursor};
use super::place::CommandPlace;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a build has no checkpoints if it neither stops nor was given `--checkpoint`.
pub const NO_CHECKPOINTS: &str =
    "no checkpoints: builds with --break-on or --step take them, unless --checkpoint is off";

/// A rewind to the state before a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// The target run; the last one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<RunRef>,
    /// Whether to drop what people did at the stop before that run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_edits: bool,
    /// Whether an earlier run will do if the target has no checkpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nearest: bool,
    /// What follows the rewind.
    #[serde(default)]
    pub then: Then,
}

/// What follows a rewind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The build stops there.
    #[default]
    Stop,
    /// The build goes on.
    Resume,
    /// The command runs, or another text in its place.
    Retry {
        /// The text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
}

/// A reference to a run: `7`, `-1` for the last one, or a place for its last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RunRef {
    /// By its number.
    Number(u32),
    /// By its distance from the end; 1 is the last run.
    Back(u32),
    /// The last run of a place.
    At(CommandPlace),
}

impl FromStr for RunRef {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        if let Some(back) = text.strip_prefix('-').and_then(number) {
            return Ok(RunRef::Back(back));
        }
        match number(text) {
            Some(number) => Ok(RunRef::Number(number)),
            None if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                Err(TextCursor::new(text, 0)
                    .error("runs are counted from 1, and from the end from -1"))
            }
            None => text.parse().map(RunRef::At),
        }
    }
}

impl fmt::Display for RunRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunRef::Number(number) => write!(formatter, "{number}"),
            RunRef::Back(back) => write!(formatter, "-{back}"),
            RunRef::At(place) => write!(formatter, "{place}"),
        }
    }
}

impl TryFrom<String> for RunRef {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<RunRef> for String {
    fn from(run: RunRef) -> Self {
        run.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_in_three_ways() {
        for text in ["7", "-1", "build:2", "post_build:finally:1"] {
            assert_eq!(text.parse::<RunRef>().map(|run| run.to_string()).as_deref(), Ok(text));
        }
        assert!(matches!("build".parse(), Ok(RunRef::At(_))));
        for text in ["", "0", "-0", "-", "7x", "-build", "nowhere"] {
            assert!(text.parse::<RunRef>().is_err(), "{text}");
        }
    }
}
