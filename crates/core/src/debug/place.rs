//! Where a command stands in the buildspec.

use super::cursor::{Cursor, ParseError};
use crate::phase::Block;
use crate::spec::{USER_PHASES, UserPhase};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A command's place: `PHASE[:finally][:N]`, N from 1 and 1 where it is left out. Places are ordered as
/// their commands run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// The phase.
    pub phase: UserPhase,
    /// The list in it.
    pub block: Block,
    /// Its index in that list, from 0.
    pub index: u32,
}

impl Place {
    /// From a text that is read: the phase, and what follows it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<(UserPhase, Option<Self>), ParseError> {
        let phase = USER_PHASES.into_iter().find(|phase| cursor.take_word(phase.key()));
        let Some(phase) = phase else {
            return Err(
                cursor.error("a phase belongs here: install, pre_build, build or post_build")
            );
        };
        let mut place = Place { phase, block: Block::Commands, index: 0 };
        let mut is_whole = true;
        if cursor.rest().starts_with(":f") && cursor.take(":") {
            if !cursor.take_word("finally") {
                return Err(cursor.error("behind a phase stands `finally` or a number"));
            }
            (place.block, is_whole) = (Block::Finally, false);
        }
        if cursor.take(":") {
            let begin = cursor.clone();
            let Some(index) = cursor.count()?.checked_sub(1) else {
                return Err(begin.error("commands are counted from 1"));
            };
            place.index = u32::try_from(index).unwrap_or(u32::MAX);
            is_whole = false;
        }
        Ok((phase, (!is_whole).then_some(place)))
    }

    /// A phase's first command.
    pub(super) fn first(phase: UserPhase) -> Self {
        Place { phase, block: Block::Commands, index: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = if self.block == Block::Finally { ":finally" } else { "" };
        write!(formatter, "{}{block}:{}", self.phase.key(), u64::from(self.index) + 1)
    }
}

impl FromStr for Place {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(text, 0);
        let (phase, place) = Place::read(&mut cursor)?;
        if !cursor.is_at_end() {
            return Err(cursor.error("nothing belongs behind a place"));
        }
        Ok(place.unwrap_or(Place::first(phase)))
    }
}

impl TryFrom<String> for Place {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}
