//! Facts that conditions are evaluated against.

use crate::debug::CommandPlace;
use crate::phase::Phase;
use std::borrow::Cow;
use std::time::Duration;

/// Facts at a possible stop: about the current run, or about the last run if none is under way.
#[derive(Clone, Copy, Debug)]
pub struct StopContext<'f> {
    /// Exit code of the last run.
    pub status: i32,
    /// Signal that ended it; 0 if none.
    pub signal: i32,
    /// Whether it has failed.
    pub failed: bool,
    /// The phase.
    pub phase: Phase,
    /// The current place.
    pub place: Option<CommandPlace>,
    /// Number of the current run.
    pub run: u32,
    /// Hits of this breakpoint so far, including this one.
    pub hits: u64,
    /// How long the run has taken; zero before it starts.
    pub elapsed: Duration,
    /// Text of the current command.
    pub text: &'f str,
    /// The last output of the run, masked.
    pub output: &'f str,
    /// Variables; if a name is repeated, the last one counts.
    pub variables: &'f [(Vec<u8>, Vec<u8>)],
}

impl<'f> StopContext<'f> {
    /// Returns a variable's value.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<Cow<'f, str>> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value))
    }
}
