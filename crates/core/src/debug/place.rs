//! The place of a command in the buildspec.

use super::cursor::{ParseError, TextCursor};
use crate::phase::Block;
use crate::spec::{USER_PHASES, UserPhase};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A command's place: `PHASE[:finally][:N]`. N counts from 1 and defaults to 1. Places are ordered
/// as their commands run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandPlace {
    /// The phase.
    pub phase: UserPhase,
    /// The list of commands in the phase.
    pub block: Block,
    /// Its index in that list, from 0.
    pub index: u32,
}

impl CommandPlace {
    /// Reads a place at the cursor: the phase, and the place if more than a phase is given.
    pub(super) fn read(
        cursor: &mut TextCursor<'_>,
    ) -> Result<(UserPhase, Option<Self>), ParseError> {
        let phase = USER_PHASES.into_iter().find(|phase| cursor.take_word(phase.key()));
        let Some(phase) = phase else {
            return Err(
                cursor.error("a phase belongs here: install, pre_build, build or post_build")
            );
        };
        let mut place = CommandPlace { phase, block: Block::Commands, index: 0 };
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

    /// The place of a phase's first command.
    pub(super) fn first(phase: UserPhase) -> Self {
        CommandPlace { phase, block: Block::Commands, index: 0 }
    }
}

impl fmt::Display for CommandPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = if self.block == Block::Finally { ":finally" } else { "" };
        write!(formatter, "{}{block}:{}", self.phase.key(), u64::from(self.index) + 1)
    }
}

impl FromStr for CommandPlace {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut cursor = TextCursor::new(text, 0);
        let (phase, place) = CommandPlace::read(&mut cursor)?;
        if !cursor.is_at_end() {
            return Err(cursor.error("nothing belongs behind a place"));
        }
        Ok(place.unwrap_or(CommandPlace::first(phase)))
    }
}

impl TryFrom<String> for CommandPlace {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<CommandPlace> for String {
    fn from(place: CommandPlace) -> Self {
        place.to_string()
    }
}
