//! Cuts output into rows that a browser can show, each with its initial colours.
//!
//! A row is a line, or a piece of an overlong one. Row starts depend on the bytes alone, so a row
//! keeps its number for ever.

use memchr::{memchr, memchr_iter, memrchr};
use std::mem;

/// Most bytes of a row.
pub(super) const MOST: usize = 4096;
/// Bytes of many rows.
const MANY: usize = 4 * MOST;
/// What sequences begin with.
const ESCAPE: u8 = 0x1b;
/// Most bytes of the sequences that set colours.
const MOST_STYLE: usize = 120;

/// The first row in some bytes: its length, and the length of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutRow {
    pub(super) length: usize,
    pub(super) text: usize,
}

/// Cuts off the first row; `None` if it may go on after these bytes.
pub(super) fn cut(bytes: &[u8]) -> Option<CutRow> {
    let look = &bytes[..bytes.len().min(MOST)];
    if let Some(at) = memchr(b'\n', look) {
        return Some(CutRow { length: at + 1, text: at });
    }
    if bytes.len() <= MOST {
        return None;
    }
    let is_inside = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    // Never cuts a character, unless the bytes are no text.
    let at = (MOST - 3..=MOST).rev().find(|at| !is_inside(at)).unwrap_or(MOST);
    Some(CutRow { length: at, text: at })
}

/// Many rows at once, where all of them are lines: their length, and how many they are. `None`
/// where there are fewer, or longer ones, which are cut one by one.
pub(super) fn many(bytes: &[u8]) -> Option<(usize, u64)> {
    let bytes = bytes.get(..MANY)?;
    // From one of these parts to the next no line is longer than a row.
    let are_short = bytes.chunks_exact(MOST / 2).all(|part| memchr(b'\n', part).is_some());
    let last = memrchr(b'\n', bytes).filter(|_| are_short)?;
    Some((last + 1, memchr_iter(b'\n', bytes).count() as u64))
}

/// Colours and attributes set by all bytes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// The sequences that set them.
    set: Vec<u8>,
    /// An incomplete sequence.
    open: Vec<u8>,
}

impl Style {
    /// Whether bytes leave it as it is.
    pub(super) fn stays(&self, bytes: &[u8]) -> bool {
        self.open.is_empty() && memchr(ESCAPE, bytes).is_none()
    }

    /// Processes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        loop {
            if self.open.is_empty() {
                let Some(at) = memchr(ESCAPE, bytes) else { return };
                bytes = &bytes[at..];
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            match (self.open.len(), byte) {
                (_, ESCAPE) => self.open = vec![byte],
                (1, b'[') => self.open.push(byte),
                (1, _) => self.open.clear(),
                (_, b'0'..=b'9' | b';' | b':') if self.open.len() < MOST_STYLE => {
                    self.open.push(byte);
                }
                (_, b'm') => {
                    self.open.push(byte);
                    let sequence = mem::take(&mut self.open);
                    self.apply(&sequence);
                }
                _ => self.open.clear(),
            }
        }
    }

    fn apply(&mut self, sequence: &[u8]) {
        let parameters = &sequence[2..sequence.len() - 1];
        if parameters.is_empty() || parameters == b"0" || parameters == b"00" {
            self.set.clear();
            return;
        }
        if parameters.starts_with(b"0;") || self.set.len() + sequence.len() > MOST_STYLE {
            // Later settings have most likely overridden the first ones.
            self.set.clear();
        }
        self.set.extend_from_slice(sequence);
    }

    /// The sequences that restore this style.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.set).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_lines_or_pieces() {
        assert_eq!(cut(b"one\ntwo"), Some(CutRow { length: 4, text: 3 }));
        assert_eq!(cut(b"\n"), Some(CutRow { length: 1, text: 0 }));
        assert_eq!(cut(b"two"), None);
        assert_eq!(cut(b""), None);
        let long = [b'x'; 10_000];
        assert_eq!(cut(&long), Some(CutRow { length: MOST, text: MOST }));
        assert_eq!(cut(&long[..MOST]), None);
        let wide = "\u{1f600}".repeat(2000);
        let found = cut(&wide.as_bytes()[1..]).expect("a row");
        assert!(found.length <= MOST && wide.is_char_boundary(1 + found.length));
        // Bytes that are no text are cut all the same.
        assert_eq!(cut(&[0x80; 10_000]).expect("a row").length, MOST);
    }

    #[test]
    fn many_rows_are_cut_as_one_by_one() {
        for length in [1, 2, 80, 2000, 2047, 2048, 2049, 4094, 4095, 4096, 5000] {
            let bytes = format!("{}\n", "x".repeat(length - 1)).repeat(20_000 / length + 2);
            let Some((end, count)) = many(bytes.as_bytes()) else {
                assert!(length > 2048, "{length}");
                continue;
            };
            assert!(length <= 2048, "{length}");
            let (mut at, mut cuts) = (0, 0);
            while at < end {
                at += cut(&bytes.as_bytes()[at..]).expect("a row").length;
                cuts += 1;
            }
            assert_eq!((at, cuts), (end, count), "{length}");
        }
        // The longest line between two parts that have one break each.
        let longest = format!("\n{}\n", "x".repeat(MOST - 2));
        let bytes = longest.repeat(20);
        assert_eq!(cut(&bytes.as_bytes()[1..]).map(|it| it.text), Some(MOST - 2));
        assert!(many(&bytes.as_bytes()[..MANY - 1]).is_none(), "too few");
    }

    #[test]
    fn colours_are_carried_over() {
        let style = |texts: &[&str]| {
            let mut style = Style::default();
            texts.iter().for_each(|text| style.take(text.as_bytes()));
            style.text()
        };
        assert_eq!(style(&["\x1b[31mred\n", "\x1b[1mbold"]), "\x1b[31m\x1b[1m");
        assert_eq!(style(&["\x1b[31mred\x1b[0m"]), "");
        assert_eq!(style(&["\x1b[31m\x1b[m"]), "");
        // Across the border between rows.
        assert_eq!(style(&["\x1b[3", "2mgreen"]), "\x1b[32m");
        assert_eq!(style(&["\x1b[2Jx\x1b]0;title\x07"]), "");
        let many = "\x1b[31m".repeat(1000);
        assert!(style(&[&many]).len() <= MOST_STYLE);
    }
}
