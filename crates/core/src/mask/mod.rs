//! Masks secrets in a stream of bytes before anything is logged.
//!
//! [`Secrets::mask_text`] masks the texts of events. The pump (`crates/folder/src/events/pump.rs`)
//! uses one [`Masker`] per stream between reading and logging. It finds secrets across chunks: the
//! end of a chunk that could begin a secret is held back until more bytes, or the end of the
//! stream, decide. Nothing is held back for any other reason.

mod forms;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, Input, MatchKind};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Replacement for a secret.
pub const REPLACEMENT: &[u8] = b"***";
/// Minimum length of a masked value. Shorter ones would mask harmless text everywhere.
pub const MIN_LENGTH: usize = 4;

/// Prefixes of AWS access key IDs, which are always masked, and the length of such an ID.
const KEY_IDS: [&[u8]; 2] = [b"AKIA", b"ASIA"];
const KEY_ID_LENGTH: usize = 20;
/// Length of the prefix of a form that the search looks for. No form is shorter.
const HEAD: usize = MIN_LENGTH;

/// A set of secrets, prepared for searching.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    finder: Option<Arc<Finder>>,
}

/// Searches for heads of forms first, because there are few of them, and compares forms only at a
/// head.
#[derive(Debug)]
struct Finder {
    heads: AhoCorasick,
    /// For each head, the range of forms that begin with it.
    headed: Vec<Range<usize>>,
    /// The values as given.
    values: Vec<Vec<u8>>,
    /// All forms to search for, sorted; includes the prefixes of key IDs.
    forms: Vec<Vec<u8>>,
    /// For each form, the longest other form that is a prefix of it.
    within: Vec<Option<usize>>,
    starts: Starts,
    longest: usize,
}

/// One bit for each pair of bytes that begins a form.
struct Starts(Box<[u64; 1024]>);

impl std::fmt::Debug for Starts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Starts")
    }
}

impl Starts {
    fn of(forms: &[Vec<u8>]) -> Self {
        let mut bits = Box::new([0; 1024]);
        for form in forms {
            let (at, bit) = Self::place(form[0], form[1]);
            bits[at] |= bit;
        }
        Starts(bits)
    }

    fn place(first: u8, second: u8) -> (usize, u64) {
        let number = usize::from(first) << 8 | usize::from(second);
        (number / 64, 1 << (number % 64))
    }

    /// Whether a form may begin like this.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let [first, second, ..] = bytes else { return true };
        let (at, bit) = Self::place(*first, *second);
        self.0[at] & bit != 0
    }
}

impl Secrets {
    /// Prepares these values in all their forms, and all access key IDs. Values shorter than
    /// [`MIN_LENGTH`] are ignored.
    ///
    /// # Errors
    /// The values are too many or too long for an automaton.
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, BuildError> {
        let values: Vec<Vec<u8>> =
            values.into_iter().filter(|value| value.len() >= MIN_LENGTH).collect();
        let mut forms: Vec<Vec<u8>> = values.iter().flat_map(|value| forms::of(value)).collect();
        forms.extend(KEY_IDS.map(<[u8]>::to_vec));
        forms.sort();
        forms.dedup();
        let longest = forms.iter().map(Vec::len).max().unwrap_or(0).max(KEY_ID_LENGTH);
        let mut headed: Vec<Range<usize>> = Vec::new();
        for (at, form) in forms.iter().enumerate() {
            match headed.last_mut() {
                Some(range) if forms[range.start][..HEAD] == form[..HEAD] => range.end = at + 1,
                _ => headed.push(at..at + 1),
            }
        }
        let heads = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .kind((!values.is_empty()).then_some(AhoCorasickKind::DFA))
            .build(headed.iter().map(|range| &forms[range.start][..HEAD]))?;
        let (within, starts) = (beginnings(&forms), Starts::of(&forms));
        let finder = Finder { heads, headed, values, forms, within, starts, longest };
        Ok(Secrets { finder: Some(Arc::new(finder)) })
    }

    /// Adds values.
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

    /// Masks a complete text.
    pub fn mask_text(&self, text: &mut String) {
        let Some(finder) = &self.finder else { return };
        if finder.find(text.as_bytes(), 0).is_none() {
            return;
        }
        let mut masked = Vec::with_capacity(text.len());
        finder.mask(text.as_bytes(), text.len(), &mut masked);
        // A secret that is not UTF-8 could have been cut out of the middle of a character.
        *text = String::from_utf8_lossy(&masked).into_owned();
    }

    /// Masks a complete byte string.
    #[must_use]
    pub fn mask_bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let Some(finder) = self.finder.as_ref().filter(|_| self.occur_in(bytes)) else {
            return Cow::Borrowed(bytes);
        };
        let mut masked = Vec::with_capacity(bytes.len());
        finder.mask(bytes, bytes.len(), &mut masked);
        Cow::Owned(masked)
    }

    /// Whether the bytes contain a secret.
    #[must_use]
    pub fn occur_in(&self, bytes: &[u8]) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.find(bytes, 0).is_some())
    }
}

impl Secrets {
    /// Replaces each secret in a complete text; `None` if it contains none.
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

/// A set of secrets that several users share and that may grow.
#[derive(Clone, Debug, Default)]
pub struct SharedSecrets(Arc<Mutex<Secrets>>);

impl SharedSecrets {
    /// Starts with these secrets.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        SharedSecrets(Arc::new(Mutex::new(secrets)))
    }

    /// A copy of the current set.
    #[must_use]
    pub fn get(&self) -> Secrets {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds values for all users.
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
    /// Starts a stream.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Masker { secrets, held: Vec::new() }
    }

    /// Switches to another set of secrets, also for the bytes held back.
    pub fn renew(&mut self, secrets: Secrets) {
        if !self.secrets.is_same(&secrets) {
            self.secrets = secrets;
        }
    }

    /// Takes the next bytes and returns those that may be shown now: a part of `bytes` if there is
    /// nothing to mask, otherwise a part of `space`.
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

    /// Ends the stream and returns the bytes that were held back, masked.
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
    /// Finds the first secret at or after `start`: its begin and end.
    fn find(&self, bytes: &[u8], start: usize) -> Option<(usize, usize)> {
        let mut from = start;
        loop {
            let head = self.heads.find(Input::new(bytes).span(from..bytes.len()))?;
            // If several secrets start at the same place, mask the longest.
            let forms = self.headed[head.pattern().as_usize()].clone();
            if let Some(length) = self.longest_of(forms, &bytes[head.start()..]) {
                return Some((head.start(), head.start() + length));
            }
            // A secret may begin inside a head that matched no form.
            from = head.start() + 1;
        }
    }

    /// The length of the longest secret that `bytes` begin with. `range` holds the forms with the
    /// same head.
    fn longest_of(&self, range: Range<usize>, bytes: &[u8]) -> Option<usize> {
        let is_key_id = KEY_IDS.contains(&&bytes[..HEAD])
            && bytes.get(HEAD..KEY_ID_LENGTH).is_some_and(|rest| rest.iter().all(in_key_id));
        let key_id = is_key_id.then_some(KEY_ID_LENGTH);
        // Every form that is a prefix of `bytes` sorts before it, and is a prefix of the last form
        // before it.
        let forms = &self.forms[range.clone()];
        let before = forms.partition_point(|form| form[HEAD..] <= bytes[HEAD..]);
        let mut next = before.checked_sub(1).map(|last| range.start + last);
        while let Some(at) = next {
            let form = &self.forms[at];
            if bytes.starts_with(form) && !KEY_IDS.contains(&form.as_slice()) {
                return Some(form.len()).max(key_id);
            }
            next = self.within[at];
        }
        key_id
    }

    /// Where the longest suffix of `bytes` begins that could be the start of a secret.
    fn undecided_from(&self, bytes: &[u8]) -> usize {
        let earliest = bytes.len().saturating_sub(self.longest - 1);
        (earliest..bytes.len())
            .find(|&start| {
                let end = &bytes[start..];
                if !self.starts.may_begin(end) {
                    return false;
                }
                if end.len() < KEY_ID_LENGTH
                    && end.split_at_checked(KEY_IDS[0].len()).is_some_and(|(head, rest)| {
                        KEY_IDS.contains(&head) && rest.iter().all(in_key_id)
                    })
                {
                    return true;
                }
                // The forms are sorted, so only the first form not below `end` has to be checked. A
                // suffix that is a complete form also counts if a longer form begins with it.
                let at = self.forms.partition_point(|form| form.as_slice() < end);
                self.forms[at..]
                    .iter()
                    .take_while(|form| form.starts_with(end))
                    .any(|form| form.len() > end.len())
            })
            .unwrap_or(bytes.len())
    }

    /// Masks the bytes before `limit` into `out` and returns how many bytes that used. A secret
    /// that starts before the limit is masked completely.
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

/// For each form in this order, the longest other form that is a prefix of it.
fn beginnings(forms: &[Vec<u8>]) -> Vec<Option<usize>> {
    let mut open: Vec<usize> = Vec::new();
    let mut within = Vec::with_capacity(forms.len());
    for (at, form) in forms.iter().enumerate() {
        while open.pop_if(|last| !form.starts_with(&forms[*last])).is_some() {}
        within.push(open.last().copied());
        open.push(at);
    }
    within
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

    /// A simple reference implementation.
    fn masked_slowly(finder: &Finder, text: &[u8]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let rest = &text[at..];
            let forms = finder.forms.iter().filter(|form| !KEY_IDS.contains(&form.as_slice()));
            let longest = forms.filter(|form| rest.starts_with(form)).map(Vec::len).max();
            let is_key_id = rest.len() >= KEY_ID_LENGTH
                && KEY_IDS.iter().any(|head| rest.starts_with(head))
                && rest[..KEY_ID_LENGTH].iter().all(in_key_id);
            match longest.max(is_key_id.then_some(KEY_ID_LENGTH)) {
                Some(length) => {
                    out.extend_from_slice(REPLACEMENT);
                    at += length;
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    #[test]
    fn what_is_found_is_what_is_there() {
        let values =
            ["aaab", "aaabab", "aabaaaab", "bbaab", "babaAKIAaa", "AKIAAAAAAAAAAAAAAAAAab"];
        let secrets = secrets(&values);
        let finder = secrets.finder.as_deref().expect("has secrets");
        let mut random = 0x9E37_79B9_u32;
        let mut next = |below: u32| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            random % below
        };
        for _ in 0..3000 {
            let mut text = Vec::new();
            while text.len() < 60 {
                match next(12) {
                    0 => text.extend_from_slice(values[next(6) as usize].as_bytes()),
                    1 => text.extend_from_slice(b"AKIA"),
                    2 => text.extend_from_slice(b"AAAAAAAA"),
                    _ => text.push(b"abA"[next(3) as usize]),
                }
            }
            let mut masker = Masker::new(secrets.clone());
            let mut out = Vec::new();
            let mut rest = text.as_slice();
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at((1 + next(30) as usize).min(rest.len()));
                out.extend_from_slice(masker.push(chunk, &mut Vec::new()));
                rest = more;
            }
            out.extend(masker.finish());
            let wanted = masked_slowly(finder, &text);
            assert_eq!(out.escape_ascii().to_string(), wanted.escape_ascii().to_string());
        }
    }

    #[test]
    fn only_a_possible_start_is_held_back() {
        let mut masker = Masker::new(secrets(&["hunter2"]));
        assert_eq!(masker.push(b"plain text\nhunt", &mut Vec::new()), b"plain text\n");
        assert_eq!(masker.push(b"ing", &mut Vec::new()), b"hunting");
        // Could be the start of an access key ID.
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
