//! Filter patterns of CloudWatch Logs, as far as they concern text. Pure.
//!
//! Words that must all occur, words of which one must (`?a ?b`), words that must not (`-a`), quoted
//! phrases, and regular expressions between percent signs. Patterns for JSON and for columns are
//! rejected.

use regex_lite::{Regex, RegexBuilder};

/// Maximum size of a compiled expression in bytes.
const REGEX_SIZE: usize = 256 << 10;

/// Terms of which a line must contain all, at least one, or none.
#[derive(Clone, Debug, Default)]
pub struct FilterPattern {
    all: Vec<Term>,
    any: Vec<Term>,
    none: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Text(String),
    Regex(Regex),
}

impl Term {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Term::Text(text) => line.contains(text.as_str()),
            Term::Regex(regex) => regex.is_match(line),
        }
    }
}

impl FilterPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pattern = FilterPattern::default();
        let mut rest = text.trim();
        if rest.starts_with('{') || rest.starts_with('[') {
            return Err(
                "Invalid filter pattern: patterns for JSON and for columns are not offered here; look for words"
                    .to_owned(),
            );
        }
        while !rest.is_empty() {
            let (list, after) = match rest.as_bytes()[0] {
                b'?' => (&mut pattern.any, &rest[1..]),
                b'-' => (&mut pattern.none, &rest[1..]),
                _ => (&mut pattern.all, rest),
            };
            let (term, after) = term(after)?;
            list.push(term);
            rest = after.trim_start();
        }
        // As in AWS, `?` terms are ignored next to any other term.
        if !pattern.all.is_empty() || !pattern.none.is_empty() {
            pattern.any.clear();
        }
        Ok(pattern)
    }

    #[must_use]
    pub fn matches(&self, line: &str) -> bool {
        self.all.iter().all(|term| term.is_in(line))
            && !self.none.iter().any(|term| term.is_in(line))
            && (self.any.is_empty() || self.any.iter().any(|term| term.is_in(line)))
    }
}

/// The first term of a text, and what follows it.
fn term(text: &str) -> Result<(Term, &str), String> {
    if let Some(rest) = text.strip_prefix('%') {
        let (inner, after) = rest.split_once('%').ok_or_else(|| {
            format!("Invalid filter pattern: the regular expression {text} has no end")
        })?;
        let regex = RegexBuilder::new(inner).size_limit(REGEX_SIZE).build();
        let regex =
            regex.map_err(|error| format!("Invalid regular expression %{inner}%: {error}"))?;
        return Ok((Term::Regex(regex), after));
    }
    if let Some(rest) = text.strip_prefix('"') {
        return quoted(rest)
            .ok_or_else(|| format!("Invalid filter pattern: the phrase \"{rest} has no end"));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    let is_plain = |c: char| c.is_alphanumeric() || c == '_';
    if word.is_empty() || !word.chars().all(is_plain) {
        return Err(format!("Invalid character(s) in term '{word}'"));
    }
    Ok((Term::Text(word.to_owned()), after))
}

/// A phrase up to its closing quote; a backslash makes the next character literal.
fn quoted(text: &str) -> Option<(Term, &str)> {
    let mut phrase = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Term::Text(phrase), &text[at + 1..])),
            '\\' => phrase.push(chars.next()?.1),
            c => phrase.push(c),
        }
    }
    None
}
