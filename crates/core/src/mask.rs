//! Secrets out of a stream of bytes, before anything is logged.
//!
//! [`Secrets::mask_text`] serves the events' own texts. One [`Masker`] a stream, used by the pump (`src/events/pump.rs`) between reading and logging. It
//! sees through chunk borders: an end of a chunk that could be the start of a secret is held back
//! until more bytes, or the end, decide. Nothing is ever held back for another reason.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use std::sync::Arc;

/// What stands in a secret's place.
pub const REPLACEMENT: &[u8] = b"***";
/// Shorter values are not masked: they would blot out harmless text everywhere.
pub const MIN_LENGTH: usize = 4;

/// The values that must not appear, ready to be searched for.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    finder: Option<Arc<Finder>>,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    values: Vec<Vec<u8>>,
    longest: usize,
}

impl Secrets {
    /// Values shorter than [`MIN_LENGTH`] are left out.
    ///
    /// # Errors
    /// There are too many or too long values for an automaton.
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, BuildError> {
        let mut values: Vec<Vec<u8>> =
            values.into_iter().filter(|value| value.len() >= MIN_LENGTH).collect();
        values.sort();
        values.dedup();
        let Some(longest) = values.iter().map(Vec::len).max() else {
            return Ok(Secrets::default());
        };
        // Of two secrets that start at one place the longer one goes whole.
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&values)?;
        Ok(Secrets { finder: Some(Arc::new(Finder { automaton, values, longest })) })
    }

    /// Whether there is nothing to mask, so that bytes may pass untouched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finder.is_none()
    }

    /// Masks a text that is whole.
    pub fn mask_text(&self, text: &mut String) {
        let Some(finder) = &self.finder else { return };
        let mut masked = Vec::with_capacity(text.len());
        finder.mask(text.as_bytes(), text.len(), &mut masked);
        // A value that is no text could have been cut out of the middle of a character.
        *text = String::from_utf8_lossy(&masked).into_owned();
    }
}

/// Masks one stream.
#[derive(Debug)]
pub struct Masker {
    secrets: Secrets,
    held: Vec<u8>,
}

impl Masker {
    /// At the start of a stream.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Masker { secrets, held: Vec::new() }
    }

    /// Whether bytes may be used as they are.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Takes the next bytes and appends to `out` what may be shown.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(finder) = &self.secrets.finder else {
            out.extend_from_slice(bytes);
            return;
        };
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        let done = finder.mask(&joined, finder.undecided_from(&joined), out);
        joined.drain(..done);
        self.held = joined;
    }

    /// The stream has ended: what was held back can be decided.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(finder) = &self.secrets.finder {
            finder.mask(&self.held, self.held.len(), out);
        }
        self.held.clear();
    }
}

impl Finder {
    /// Where the longest end of `bytes` begins that could be the start of a secret.
    fn undecided_from(&self, bytes: &[u8]) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest - 1);
        (earliest..bytes.len())
            .find(|&start| {
                let end = &bytes[start..];
                // Sorted, so the first value not below `end` is the one that starts with it, if
                // any does. An end that is a whole value counts where a longer one starts so, too.
                let at = self.values.partition_point(|value| value.as_slice() < end);
                self.values[at..]
                    .iter()
                    .take_while(|value| value.starts_with(end))
                    .any(|value| value.len() > end.len())
            })
            .unwrap_or(bytes.len())
    }

    /// Writes what comes before `limit` to `out`, masked; how much of `bytes` that used up. A secret
    /// that starts before the limit is masked whole.
    fn mask(&self, bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> usize {
        let mut done = 0;
        for found in self.automaton.find_iter(bytes) {
            if found.start() >= limit {
                break;
            }
            out.extend_from_slice(&bytes[done..found.start()]);
            out.extend_from_slice(REPLACEMENT);
            done = found.end();
        }
        if done < limit {
            out.extend_from_slice(&bytes[done..limit]);
            done = limit;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        Secrets::new(values.iter().map(|value| value.as_bytes().to_vec())).expect("few and short")
    }

    fn masked(values: &[&str], chunks: &[&str]) -> String {
        let mut masker = Masker::new(secrets(values));
        let mut out = Vec::new();
        for chunk in chunks {
            masker.push(chunk.as_bytes(), &mut out);
        }
        masker.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn secrets_go_wherever_the_chunks_part() {
        let values = ["hunter2", "hunter2-and-more", "line one\nline two", "sesame"];
        let text = "a hunter2 b hunter2-and-more c line one\nline two d sesasesame hunter";
        let wanted = "a *** b *** c *** d sesa*** hunter";
        for size in 1..text.len() {
            let chunks: Vec<&str> = text
                .as_bytes()
                .chunks(size)
                .map(|chunk| std::str::from_utf8(chunk).expect("ASCII"))
                .collect();
            assert_eq!(masked(&values, &chunks), wanted, "chunks of {size}");
        }
    }

    #[test]
    fn only_a_possible_start_is_held_back() {
        let mut masker = Masker::new(secrets(&["hunter2"]));
        let mut out = Vec::new();
        masker.push(b"plain text\nhunt", &mut out);
        assert_eq!(out, b"plain text\n");
        masker.push(b"ing", &mut out);
        assert_eq!(out, b"plain text\nhunting");
    }

    #[test]
    fn short_values_are_left_alone() {
        assert!(secrets(&["abc", ""]).is_empty());
        assert_eq!(masked(&["abc"], &["abcabc"]), "abcabc");
    }
}
