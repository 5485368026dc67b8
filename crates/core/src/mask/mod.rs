//! Secrets out of a stream of bytes, before anything is logged.
//!
//! [`Secrets::mask_text`] serves the events' own texts; one [`Masker`] a stream is used by the pump
//! (`src/events/pump.rs`) between reading and logging. It sees through chunk borders: an end of a
//! chunk that could be the start of a secret is held back until more bytes, or the end, decide.
//! Nothing is ever held back for another reason.

mod forms;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, Input, MatchKind};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// What stands in a secret's place.
pub const REPLACEMENT: &[u8] = b"***";
/// Shorter values are not masked: they would blot out harmless text everywhere.
pub const MIN_LENGTH: usize = 4;

/// How AWS's access key ids start, whosoever they are, and how long they are.
const KEY_IDS: [&[u8]; 2] = [b"AKIA", b"ASIA"];
const KEY_ID_LENGTH: usize = 20;
/// Bytes of all forms up to which an automaton is made that is fast and large.
const FAST: usize = 64 << 10;

/// What must not appear, ready to be searched for.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    finder: Option<Arc<Finder>>,
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// As given.
    values: Vec<Vec<u8>>,
    /// Everything the automaton looks for, sorted; the starts of key ids are among them.
    forms: Vec<Vec<u8>>,
    longest: usize,
}

impl Secrets {
    /// These values in all their forms, and every access key id. Values shorter than [`MIN_LENGTH`]
    /// are left out.
    ///
    /// # Errors
    /// There are too many or too long values for an automaton.
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, BuildError> {
        let values: Vec<Vec<u8>> =
            values.into_iter().filter(|value| value.len() >= MIN_LENGTH).collect();
        let mut forms: Vec<Vec<u8>> = values.iter().flat_map(|value| forms::of(value)).collect();
        forms.extend(KEY_IDS.map(<[u8]>::to_vec));
        forms.sort();
        forms.dedup();
        let longest = forms.iter().map(Vec::len).max().unwrap_or(0).max(KEY_ID_LENGTH);
        let is_small = forms.iter().map(Vec::len).sum::<usize>() <= FAST;
        // Of two that start at one place the longer one goes whole.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind((is_small && !values.is_empty()).then_some(AhoCorasickKind::DFA))
            .build(&forms)?;
        Ok(Secrets { finder: Some(Arc::new(Finder { automaton, values, forms, longest })) })
    }

    /// These and more.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with(&self, more: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, BuildError> {
        let known = self.finder.as_ref().map_or(&[][..], |finder| &finder.values);
        Self::new(known.iter().cloned().chain(more))
    }

    /// Whether there is nothing to mask, so that bytes may pass untouched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finder.is_none()
    }

    fn has(&self, value: &[u8]) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.values.iter().any(|known| known == value))
    }

    fn is_same(&self, other: &Secrets) -> bool {
        match (&self.finder, &other.finder) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Masks a text that is whole.
    pub fn mask_text(&self, text: &mut String) {
        let Some(finder) = &self.finder else { return };
        if finder.find(text.as_bytes(), 0).is_none() {
            return;
        }
        let mut masked = Vec::with_capacity(text.len());
        finder.mask(text.as_bytes(), text.len(), &mut masked);
        // A value that is no text could have been cut out of the middle of a character.
        *text = String::from_utf8_lossy(&masked).into_owned();
    }

    /// Masks bytes that are whole.
    #[must_use]
    pub fn mask_bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let Some(finder) = self.finder.as_ref().filter(|_| self.occur_in(bytes)) else {
            return Cow::Borrowed(bytes);
        };
        let mut masked = Vec::with_capacity(bytes.len());
        finder.mask(bytes, bytes.len(), &mut masked);
        Cow::Owned(masked)
    }

    /// Whether any of them is in there.
    #[must_use]
    pub fn occur_in(&self, bytes: &[u8]) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.find(bytes, 0).is_some())
    }
}

impl Secrets {
    /// A text that is whole, with something in the place of each secret in it; nothing where none is in it.
    pub fn replace_in(
        &self,
        text: &str,
        mut replacement: impl FnMut(&[u8]) -> String,
    ) -> Option<String> {
        let finder = self.finder.as_ref()?;
        let (bytes, mut done, mut replaced) = (text.as_bytes(), 0, Vec::new());
        while let Some((start, end)) = finder.find(bytes, done) {
            replaced.extend_from_slice(&bytes[done..start]);
            replaced.extend_from_slice(replacement(&bytes[start..end]).as_bytes());
            done = end;
        }
        replaced.extend_from_slice(&bytes[done..]);
        (done > 0).then(|| String::from_utf8_lossy(&replaced).into_owned())
    }
}

/// Secrets that several look for and that become more while they do.
#[derive(Clone, Debug, Default)]
pub struct SharedSecrets(Arc<Mutex<Secrets>>);

impl SharedSecrets {
    /// What is known from the start.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        SharedSecrets(Arc::new(Mutex::new(secrets)))
    }

    /// What is known now.
    #[must_use]
    pub fn get(&self) -> Secrets {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// More of them, for everybody from now on.
    ///
    /// # Errors
    /// As for [`Secrets::new`].
    pub fn add(&self, more: impl IntoIterator<Item = Vec<u8>>) -> Result<(), BuildError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more: Vec<_> = more.into_iter().filter(|value| !known.has(value)).collect();
        if !more.is_empty() {
            *known = known.with(more)?;
        }
        Ok(())
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

    /// Looks for these from now on, also in what is held back.
    pub fn renew(&mut self, secrets: Secrets) {
        if !self.secrets.is_same(&secrets) {
            self.secrets = secrets;
        }
    }

    /// Takes the next bytes; what may be shown now. That is a part of them where there is nothing to
    /// mask, else it is put into `space`.
    pub fn push<'a>(&mut self, bytes: &'a [u8], space: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(finder) = &self.secrets.finder else { return bytes };
        if self.held.is_empty() && finder.find(bytes, 0).is_none() {
            let (shown, held) = bytes.split_at(finder.undecided_from(bytes));
            self.held.extend_from_slice(held);
            return shown;
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        space.clear();
        let done = finder.mask(&joined, finder.undecided_from(&joined), space);
        joined.drain(..done);
        self.held = joined;
        space
    }

    /// The stream has ended: what was held back can be decided.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        if let Some(finder) = &self.secrets.finder {
            finder.mask(&self.held, self.held.len(), &mut shown);
        }
        self.held.clear();
        shown
    }
}

impl Finder {
    /// The first secret from `start` on: where it begins and ends.
    fn find(&self, bytes: &[u8], start: usize) -> Option<(usize, usize)> {
        let mut from = start;
        loop {
            let found = self.automaton.find(Input::new(bytes).span(from..bytes.len()))?;
            if !KEY_IDS.contains(&&bytes[found.range()]) {
                return Some((found.start(), found.end()));
            }
            let end = found.start() + KEY_ID_LENGTH;
            if bytes.get(found.end()..end).is_some_and(|rest| rest.iter().all(in_key_id)) {
                return Some((found.start(), end));
            }
            // No key id, but a secret may begin within what looked like one.
            from = found.start() + 1;
        }
    }

    /// Where the longest end of `bytes` begins that could be the start of a secret.
    fn undecided_from(&self, bytes: &[u8]) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest - 1);
        (earliest..bytes.len())
            .find(|&start| {
                let end = &bytes[start..];
                if end.len() < KEY_ID_LENGTH
                    && end.split_at_checked(KEY_IDS[0].len()).is_some_and(|(head, rest)| {
                        KEY_IDS.contains(&head) && rest.iter().all(in_key_id)
                    })
                {
                    return true;
                }
                // Sorted, so the first form not below `end` is the one that starts with it, if
                // any does. An end that is a whole form counts where a longer one starts so, too.
                let at = self.forms.partition_point(|form| form.as_slice() < end);
                self.forms[at..]
                    .iter()
                    .take_while(|form| form.starts_with(end))
                    .any(|form| form.len() > end.len())
            })
            .unwrap_or(bytes.len())
    }

    /// Writes what comes before `limit` to `out`, masked; how much of `bytes` that used up. A secret
    /// that starts before the limit is masked whole.
    fn mask(&self, bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> usize {
        let mut done = 0;
        while let Some((start, end)) = self.find(bytes, done).filter(|(start, _)| *start < limit) {
            out.extend_from_slice(&bytes[done..start]);
            out.extend_from_slice(REPLACEMENT);
            done = end;
        }
        if done < limit {
            out.extend_from_slice(&bytes[done..limit]);
            done = limit;
        }
        done
    }
}

fn in_key_id(byte: &u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
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
            out.extend_from_slice(masker.push(chunk.as_bytes(), &mut Vec::new()));
        }
        out.extend(masker.finish());
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
        assert_eq!(masker.push(b"plain text\nhunt", &mut Vec::new()), b"plain text\n");
        assert_eq!(masker.push(b"ing", &mut Vec::new()), b"hunting");
        // It may be the start of an access key id.
        assert_eq!(masker.push(b"AK", &mut Vec::new()), b"");
        assert_eq!(masker.push(b"IAB", &mut Vec::new()), b"");
        assert_eq!(masker.push(b"-", &mut Vec::new()), b"AKIAB-");
    }

    #[test]
    fn what_becomes_known_in_mid_stream_is_masked_from_then_on() {
        let shared = SharedSecrets::new(secrets(&["hunter2"]));
        let mut masker = Masker::new(shared.get());
        assert_eq!(masker.push(b"sesame ", &mut Vec::new()), b"sesame ");
        shared.add([b"sesame".to_vec(), b"sesame".to_vec()]).expect("few");
        masker.renew(shared.get());
        assert_eq!(masker.push(b"sesame hunter2 ", &mut Vec::new()), b"*** *** ");
    }

    #[test]
    fn access_key_ids_are_masked_whosoever_they_are() {
        let id = "AKIAIOSFODNN7EXAMPLE";
        for size in 1..30 {
            let text = format!("key {id}, AKIAshort ASIA{} AKIA", "A".repeat(16));
            let chunks: Vec<&str> = text
                .as_bytes()
                .chunks(size)
                .map(|c| std::str::from_utf8(c).expect("ASCII"))
                .collect();
            assert_eq!(masked(&[], &chunks), "key ***, AKIAshort *** AKIA");
        }
    }

    #[test]
    fn encoded_values_are_masked() {
        assert_eq!(
            masked(&["p@ss/word"], &["a cEBzcy93b3Jk b p%40ss%2Fword c {\"k\":\"p@ss\\/word\"} d"]),
            "a *** b *** c {\"k\":\"***\"} d"
        );
        assert_eq!(masked(&["hunter2"], &["dXNlcjpodW50ZXIyIQ=="]), "dXNlcjp***IQ==");
    }

    #[test]
    fn each_secret_has_its_own_replacement() {
        let secrets = secrets(&["hunter2", "sesame"]);
        let length = |secret: &[u8]| format!("<{}>", secret.len());
        let replaced = secrets.replace_in("a-hunter2-sesame-hunter2", length);
        assert_eq!(replaced.as_deref(), Some("a-<7>-<6>-<7>"));
        assert_eq!(secrets.replace_in("hunter", length), None);
        assert_eq!(Secrets::default().replace_in("hunter2", length), None);
    }

    #[test]
    fn short_values_are_left_alone() {
        assert_eq!(masked(&["abc", ""], &["abcabc"]), "abcabc");
    }
}
