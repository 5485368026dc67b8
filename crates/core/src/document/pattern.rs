//! `allowedPattern`: a regular expression that must match a whole value.
//!
//! AWS uses Java's syntax, which has more features than `regex-lite` and a few with another
//! meaning. A pattern that cannot be run as intended is rejected, so no value is ever allowed
//! without a check.

use regex_lite::{Error, Regex, RegexBuilder};
use std::fmt;

/// Maximum length of a pattern, in characters.
const MAX_CHARS: usize = 1024;
/// Maximum size of a compiled pattern, in bytes. Matching takes time in proportion to this size
/// times the length of the value.
const MAX_MACHINE: usize = 256 << 10;

fn compile(text: &str) -> Result<Regex, Error> {
    RegexBuilder::new(text).size_limit(MAX_MACHINE).build()
}

/// A parameter's `allowedPattern`, compiled.
#[derive(Clone)]
pub struct AllowedPattern {
    text: String,
    regex: Regex,
}

impl fmt::Debug for AllowedPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(formatter)
    }
}

impl PartialEq for AllowedPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl AllowedPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Why the pattern is not supported, and at which character.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |at: usize, why: &str| {
            format!("the pattern {} at character {at}: {why}", super::shown(text))
        };
        if text.chars().count() > MAX_CHARS {
            return Err(format!("a pattern is longer than {MAX_CHARS} characters"));
        }
        if let Some(at) = possessive(text) {
            return Err(wrong(at, "possessive quantifiers are not supported"));
        }
        // Compile it alone first: a stray `)` would otherwise close the surrounding group.
        if let Err(error) = compile(text) {
            return Err(wrong(place(text, &error.to_string()), &error.to_string()));
        }
        let whole =
            compile(&format!("^(?:{text})$")).map_err(|error| wrong(1, &error.to_string()))?;
        Ok(AllowedPattern { text: text.to_owned(), regex: whole })
    }

    /// Whether the pattern matches a whole value.
    #[must_use]
    pub fn allows(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    /// The pattern as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Finds the character at which this error first occurs, from 1.
fn place(text: &str, error: &str) -> usize {
    let is_it = |end: usize| {
        text.get(..end)
            .is_some_and(|head| compile(head).err().is_some_and(|other| other.to_string() == error))
    };
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.enumerate().find(|(_, end)| is_it(*end)).map_or(1, |(at, _)| at + 1)
}

/// Finds a quantifier followed by `+`: a possessive quantifier in Java, but a second repetition in
/// regex-lite.
fn possessive(text: &str) -> Option<usize> {
    let mut chars = text.chars().enumerate();
    let (mut is_class, mut is_quantified) = (false, false);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
                is_quantified = false;
            }
            '[' if !is_class => {
                (is_class, is_quantified) = (true, false);
            }
            ']' if is_class => {
                (is_class, is_quantified) = (false, false);
            }
            _ if is_class => {}
            '+' if is_quantified => return Some(at + 1),
            '*' | '+' | '?' | '}' => is_quantified = true,
            _ => is_quantified = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_matches_as_a_whole() {
        let pattern = AllowedPattern::new("a|[0-9]{2}").expect("a pattern");
        for (value, allowed) in
            [("a", true), ("42", true), ("ab", false), ("142", false), ("a\n", false), ("", false)]
        {
            assert_eq!(pattern.allows(value), allowed, "{value:?}");
        }
        let anchored = AllowedPattern::new("^(yes|no)$").expect("a pattern");
        assert!(anchored.allows("yes") && !anchored.allows("yes\n") && !anchored.allows("x\nyes"));
        let times =
            AllowedPattern::new(super::super::builtin::EXECUTION_TIMEOUT).expect("a pattern");
        for (value, allowed) in
            [("1", true), ("172800", true), ("172801", false), ("0", false), ("3600.5", false)]
        {
            assert_eq!(times.allows(value), allowed, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_with_its_place() {
        for (text, at, why) in [
            ("ab(?=c)", 5, "look"),
            ("(a)\\1", 5, "backreference"),
            ("a)|(b", 2, "without matching"),
            ("x\\Qy", 3, "escape"),
            ("[a-z&&[^b]]", 6, "intersection"),
            ("(a*)b*+", 7, "possessive"),
            ("a{2}+", 5, "possessive"),
        ] {
            let error = AllowedPattern::new(text).expect_err(text);
            assert!(error.contains(why) && error.contains(text), "{text}: {error}");
            assert!(error.contains(&format!("at character {at}:")), "{text}: {error}");
        }
        // Not possessive: a quantifier in a class, an escaped one, a lazy one.
        for text in ["[*+]+", "\\++", "a+?b", "a??b"] {
            assert!(AllowedPattern::new(text).is_ok(), "{text}");
        }
        assert!(AllowedPattern::new(&"a".repeat(2000)).is_err());
        assert!(AllowedPattern::new("(a{1000}){1000}").is_err());
    }
}
