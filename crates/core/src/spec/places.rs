//! Converts byte offsets in a text to lines and columns.

use super::diagnostic::Span;
use std::ops::Range;

/// Bytes between two offsets with a stored character count.
const STEP: usize = 256;

/// Line starts, and character counts at regular offsets. Finding a place takes the same time in any
/// text, however long its lines are.
#[derive(Debug)]
pub(crate) struct LineIndex<'t> {
    text: &'t str,
    lines: Vec<usize>,
    characters: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let mut lines = vec![0];
        let mut characters = Vec::with_capacity(text.len() / STEP + 1);
        let mut count = 0;
        for (at, byte) in text.bytes().enumerate() {
            if at % STEP == 0 {
                characters.push(count);
            }
            count += usize::from(is_start(byte));
            if byte == b'\n' {
                lines.push(at + 1);
            }
        }
        characters.push(count);
        LineIndex { text, lines, characters }
    }

    /// The place of a part of the text. Its length is that of its first line.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let from = self.text.floor_char_boundary(range.start);
        let line = self.lines.partition_point(|start| *start <= from);
        let start = self.lines.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let part = self.text.get(from..range.end).unwrap_or_default();
        let first = part.lines().next().unwrap_or_default().trim_end();
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let column = self.before(from) - self.before(start) + 1;
        Span::new(number(line), number(column), number(first.chars().count()).max(1))
    }

    /// Number of characters before a byte.
    fn before(&self, at: usize) -> usize {
        let step = at / STEP;
        let counted = self.characters.get(step).copied().unwrap_or(0);
        let rest = &self.text.as_bytes()[step * STEP..at];
        counted + rest.iter().filter(|byte| is_start(**byte)).count()
    }
}

/// Whether a UTF-8 byte begins a character.
fn is_start(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_counting_finds() {
        let long = format!("{}\nä{}\n\nend", "x".repeat(300), "é🦀".repeat(400));
        for text in ["", "a", "a\nb\n", long.as_str()] {
            let places = LineIndex::new(text);
            for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let before = &text[..at];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().expect("a line").chars().count() + 1;
                let span = places.span(at..text.len());
                assert_eq!((span.line as usize, span.column as usize), (line, column), "{at}");
            }
        }
    }
}
