//! What a condition is held against.

use crate::debug::CommandPlace;
use crate::phase::Phase;
use std::borrow::Cow;
use std::time::Duration;

/// What is known where a build may stop: of the run at hand, or, before one, of the last.
#[derive(Clone, Copy, Debug)]
pub struct StopContext<'f> {
    /// The last run's code.
    pub status: i32,
    /// The signal that has ended it; 0 where none has.
    pub signal: i32,
    /// Whether it has failed.
    pub failed: bool,
    /// The phase.
    pub phase: Phase,
    /// The place at hand.
    pub place: Option<CommandPlace>,
    /// The number of the run at hand.
    pub run: u32,
    /// How often this breakpoint has been come to, this time included.
    pub hits: u64,
    /// How long the run has taken; nothing before it.
    pub elapsed: Duration,
    /// The text of the command at hand.
    pub text: &'f str,
    /// What the run has written last, masked.
    pub output: &'f str,
    /// Variables, the last of a name counts.
    pub variables: &'f [(Vec<u8>, Vec<u8>)],
}

impl<'f> StopContext<'f> {
    /// A variable's value.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<Cow<'f, str>> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value))
    }
}
