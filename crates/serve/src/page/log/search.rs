//! Searches a whole log: its output, and the heads of its sections.

use super::index::LogSnapshot;
use regex_lite::{Regex, RegexBuilder};
use serde::Serialize;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most bytes of a search text.
const LONGEST: usize = 1000;
/// Most bytes of a compiled pattern, since a short text can make a large one.
const LARGEST: usize = 256 << 10;
/// Most hits that are listed; all are counted.
const MOST: usize = 10_000;

/// A search.
#[derive(Debug)]
pub(in super::super) struct Query {
    regex: Regex,
    /// The text in bytes, if it is pure ASCII.
    literal: Option<Vec<u8>>,
    is_lower: bool,
    /// Whether the client is gone.
    is_over: Arc<AtomicBool>,
}

/// The client's interest in the result; dropping it ends the search.
#[derive(Debug)]
pub(in super::super) struct WaitingSearch(Arc<AtomicBool>);

impl Drop for WaitingSearch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The hits of a search.
#[derive(Debug, Default, Serialize)]
pub(in super::super) struct SearchHits {
    count: u64,
    rows: Vec<u64>,
    /// Positions of sections in the list.
    sections: Vec<usize>,
}

impl Query {
    /// A search for text in any case, or for a pattern.
    ///
    /// # Errors
    /// If the pattern is invalid, or the text is too long.
    pub(in super::super) fn new(
        text: &str,
        is_regex: bool,
    ) -> Result<(Self, WaitingSearch), String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a search is for 1 to {LONGEST} bytes"));
        }
        let pattern = if is_regex { Cow::from(text) } else { regex_lite::escape(text).into() };
        let is_lower = !text.chars().any(char::is_uppercase);
        let regex =
            RegexBuilder::new(&pattern).case_insensitive(is_lower).size_limit(LARGEST).build();
        let regex = regex.map_err(|error| error.to_string())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let waiting = WaitingSearch(Arc::clone(&is_over));
        let literal = (!is_regex && text.is_ascii()).then(|| text.as_bytes().to_vec());
        Ok((Query { regex, literal, is_lower, is_over }, waiting))
    }

    /// Searches the heads of sections.
    pub(super) fn heads<'a>(&self, texts: impl Iterator<Item = &'a str>) -> SearchHits {
        let mut hits = SearchHits::default();
        for (at, text) in texts.enumerate() {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            if self.fits(text) {
                hits.count += 1;
                hits.sections.push(at);
            }
        }
        hits.sections.truncate(MOST);
        hits
    }

    /// Searches the rows and adds their hits to `hits`.
    pub(super) fn run(&self, mut hits: SearchHits, mut log: LogSnapshot) -> io::Result<SearchHits> {
        log.walk(|row| {
            if self.may_fit(row.text) {
                let text = String::from_utf8_lossy(row.text);
                if self.fits(&visible(&text)) {
                    hits.count += 1;
                    if hits.rows.len() < MOST {
                        hits.rows.push(row.number);
                    }
                }
            }
            !self.is_over.load(Ordering::Relaxed)
        })?;
        Ok(hits)
    }

    fn fits(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Whether a row needs a full check: most rows do not even have the first letter, and no escape
    /// sequences.
    fn may_fit(&self, row: &[u8]) -> bool {
        let Some(literal) = &self.literal else { return true };
        if row.contains(&0x1b) {
            return true;
        }
        let Some((first, rest)) = literal.split_first() else { return true };
        let is_same = |a: u8, b: u8| match self.is_lower {
            true => a.eq_ignore_ascii_case(&b),
            false => a == b,
        };
        let Some(most) = row.len().checked_sub(rest.len()) else { return false };
        let starts = row[..most].iter().enumerate().filter(|(_, byte)| is_same(**byte, *first));
        let mut found = starts.map(|(at, _)| &row[at + 1..at + 1 + rest.len()]);
        found.any(|part| part.iter().zip(rest).all(|(a, b)| is_same(*a, *b)))
    }
}

/// A row's text without sequences that a terminal would act on.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        shown.push_str(before);
        rest = behind(after);
    }
    shown.push_str(rest);
    shown.into()
}

/// The text after a sequence, whose escape character is already removed.
fn behind(text: &str) -> &str {
    let mut chars = text.char_indices();
    match chars.next() {
        None => "",
        Some((_, '[')) => {
            let end = chars.find(|(_, c)| ('\x40'..='\x7e').contains(c));
            end.map_or("", |(at, _)| &text[at + 1..])
        }
        Some((_, ']' | 'P' | '^' | '_' | 'X')) => {
            let end = chars.find(|(_, c)| matches!(c, '\x07' | '\x1b'));
            match end {
                None => "",
                Some((at, '\x07')) => &text[at + 1..],
                Some((at, _)) => text[at + 1..].strip_prefix('\\').unwrap_or(&text[at + 1..]),
            }
        }
        Some((_, first)) => &text[first.len_utf8()..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_sees() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m text", "red text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07 end", "link end"),
            ("\x1b]52;c;aGk=\x07x", "x"),
            ("cut \x1b[3", "cut "),
            ("\x1b", ""),
            ("\x1bMup", "up"),
            ("\x1b]never", ""),
            ("\x1b\u{e4}x", "x"),
        ] {
            assert_eq!(visible(text), wanted, "{text:?}");
        }
    }
}
