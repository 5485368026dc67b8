//! The log as CodeBuild's lines with their times.
//!
//! Made from events. Used for copies of the log on CloudWatch Logs and S3, and for `runner serve`'s
//! own CloudWatch Logs API: all cut the same text at the same places.

use super::codebuild::Between;
use super::{CodeBuild, OutputReader};
use runner_core::event::Event;
use std::io;

/// Longest line without an end, in bytes.
const MAX_LINE: usize = 200 << 10;

/// Turns events into lines.
pub struct LineReader {
    sink: CodeBuild<Vec<u8>>,
    /// The time of the last event, in milliseconds since 1970; lines never go back in time.
    time: u64,
}

/// The state of a [`LineReader`] between two events.
#[derive(Clone, Debug, Default)]
pub struct LinesState {
    sink: Between,
    pub time: u64,
}

/// A line with its end, or a piece of one that is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub time: u64,
    pub text: String,
}

impl LineReader {
    pub fn new() -> Self {
        Self::from(LinesState::default())
    }

    /// Continues from a saved state.
    pub fn from(state: LinesState) -> Self {
        LineReader { sink: CodeBuild::from(Vec::new(), state.sink), time: state.time }
    }

    pub fn into_state(self) -> LinesState {
        LinesState { sink: self.sink.into_between(), time: self.time }
    }

    /// The text that an event adds.
    pub fn text(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<Vec<u8>> {
        self.time = self.time.max(u64::try_from(event.time.epoch_millis()).unwrap_or(0));
        self.sink.event(event, output)?;
        Ok(std::mem::take(self.sink.flushed()?))
    }

    /// Cuts text into lines. An unfinished line stays in `rest` unless `all` is set.
    pub fn cut(&self, rest: &mut Vec<u8>, all: bool, mut each: impl FnMut(Line)) {
        let mut from = 0;
        loop {
            let left = &rest[from..];
            let length = match left.iter().take(MAX_LINE).position(|&byte| byte == b'\n') {
                Some(at) => at + 1,
                None if left.len() >= MAX_LINE => boundary(left, MAX_LINE),
                None if all && !left.is_empty() => left.len(),
                None => break,
            };
            let text = String::from_utf8_lossy(&left[..length]).into_owned();
            each(Line { time: self.time, text });
            from += length;
        }
        rest.drain(..from);
    }
}

impl Default for LineReader {
    fn default() -> Self {
        Self::new()
    }
}

/// The last place before `most` that does not split a character.
fn boundary(bytes: &[u8], most: usize) -> usize {
    let is_inside = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    (most - 3..=most).rev().find(|at| *at < bytes.len() && !is_inside(at)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_or_long() {
        let lines = LineReader::new();
        let mut rest = b"one\n\ntw".to_vec();
        let mut got = Vec::new();
        lines.cut(&mut rest, false, |line| got.push(line.text));
        assert_eq!(
            (got.as_slice(), rest.as_slice()),
            (&["one\n".to_owned(), "\n".to_owned()][..], &b"tw"[..])
        );
        rest.extend("\u{e4}".repeat(MAX_LINE).bytes());
        got.clear();
        lines.cut(&mut rest, true, |line| got.push(line.text));
        assert_eq!(got.len(), 3);
        assert!(got.iter().all(|line| line.len() <= MAX_LINE && !line.contains('\u{fffd}')));
    }
}
