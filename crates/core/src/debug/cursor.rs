//! Reads a text from left to right and reports the column of an error.

use std::fmt;
use std::time::Duration;

/// Maximum length of a pattern, and maximum memory it may use, both in bytes.
const LONGEST_PATTERN: usize = 1000;
const LARGEST_PATTERN: usize = 1 << 20;

/// An error in a text, with its column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct ParseError {
    /// Column in characters, from 1.
    pub column: u32,
    /// The error, in one sentence.
    pub message: String,
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: regex_lite::Regex,
}

impl Pattern {
    /// Whether it matches anywhere in a text.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern's text, without the slashes.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        formatter.write_char('/')?;
        let mut characters = self.source.chars();
        while let Some(character) = characters.next() {
            match character {
                '/' => formatter.write_str("\\/")?,
                '\\' => {
                    formatter.write_char('\\')?;
                    characters.next().map_or(Ok(()), |next| formatter.write_char(next))?;
                }
                other => formatter.write_char(other)?,
            }
        }
        formatter.write_char('/')
    }
}

/// A position in the text being read.
#[derive(Clone, Debug)]
pub(super) struct TextCursor<'t> {
    text: &'t str,
    at: usize,
    /// Number of columns before the text.
    before: usize,
}

impl<'t> TextCursor<'t> {
    /// Starts at the beginning of a text with `before` columns in front of it.
    pub(super) fn new(text: &'t str, before: usize) -> Self {
        TextCursor { text, at: 0, before }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn column(&self) -> usize {
        self.before + self.text[..self.at].chars().count() + 1
    }

    /// Makes an error at this position.
    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        let column = u32::try_from(self.column()).unwrap_or(u32::MAX);
        ParseError { column, message: message.into() }
    }

    pub(super) fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `text` if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_here = self.rest().starts_with(text);
        self.at += if is_here { text.len() } else { 0 };
        is_here
    }

    /// Takes `word` if it comes next as a whole word.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_here = self.peek_word() == word;
        self.at += if is_here { word.len() } else { 0 };
        is_here
    }

    /// The letters, digits and underscores that come next.
    pub(super) fn peek_word(&self) -> &'t str {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
    }

    /// Takes everything up to the next white space.
    pub(super) fn until_blank(&mut self) -> &'t str {
        let rest = self.rest();
        let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// Takes a variable name.
    pub(super) fn variable(&mut self) -> Result<&'t str, ParseError> {
        let word = self.peek_word();
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error("the name of a variable is missing here"));
        }
        self.at += word.len();
        Ok(word)
    }

    /// Takes a quoted text. The caller has seen the opening quote.
    pub(super) fn quoted(&mut self) -> Result<String, ParseError> {
        let open = self.clone();
        let mut characters = self.rest().char_indices();
        let quote = characters.next().map(|(_, quote)| quote);
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, next)) if next == '\\' || Some(next) == quote => text.push(next),
                    Some((_, next)) => text.extend(['\\', next]),
                    None => break,
                },
                _ if Some(character) == quote => {
                    self.at += at + 1;
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err(open.error("this quote is never closed"))
    }

    /// Takes a pattern between slashes.
    pub(super) fn pattern(&mut self) -> Result<Pattern, ParseError> {
        let open = self.clone();
        if !self.take("/") {
            return Err(self.error("a pattern stands between slashes, as in /error/"));
        }
        let mut characters = self.rest().char_indices();
        let mut source = String::new();
        loop {
            match characters.next() {
                Some((at, '/')) => {
                    self.at += at + 1;
                    break;
                }
                Some((_, '\\')) => match characters.next() {
                    Some((_, '/')) => source.push('/'),
                    Some((_, next)) => source.extend(['\\', next]),
                    None => return Err(open.error("this pattern has no slash at its end")),
                },
                Some((_, character)) => source.push(character),
                None => return Err(open.error("this pattern has no slash at its end")),
            }
        }
        if source.is_empty() {
            return Err(open.error("an empty pattern matches everything; leave it out"));
        }
        if source.len() > LONGEST_PATTERN {
            return Err(open.error(format!("a pattern has at most {LONGEST_PATTERN} bytes")));
        }
        let built = regex_lite::RegexBuilder::new(&source).size_limit(LARGEST_PATTERN).build();
        match built {
            Ok(regex) => Ok(Pattern { source, regex }),
            Err(error) => Err(open.error(format!("this pattern does not parse: {error}"))),
        }
    }

    /// Takes a whole number.
    pub(super) fn count(&mut self) -> Result<u64, ParseError> {
        let digits = self.digits();
        match digits.parse() {
            Ok(count) => {
                self.at += digits.len();
                Ok(count)
            }
            Err(_) if digits.is_empty() => Err(self.error("a whole number is missing here")),
            Err(_) => Err(self.error("this number is too large")),
        }
    }

    pub(super) fn digits(&self) -> &'t str {
        let rest = self.rest();
        let is_digit = |c: char| c.is_ascii_digit();
        &rest[..rest.find(|c| !is_digit(c)).unwrap_or(rest.len())]
    }

    /// Takes a duration such as `90s` or `1h30m`.
    pub(super) fn duration(&mut self) -> Result<Duration, ParseError> {
        const WRONG: &str = "a time is written as in 500ms, 90s, 5m or 1h30m";
        let begin = self.clone();
        let mut total = Duration::ZERO;
        while !self.digits().is_empty() {
            let count = self.count()?;
            let unit = if self.take("ms") {
                Duration::from_millis(1)
            } else if self.take("s") {
                Duration::from_secs(1)
            } else if self.take("m") {
                Duration::from_secs(60)
            } else if self.take("h") {
                Duration::from_secs(3600)
            } else {
                return Err(begin.error(WRONG));
            };
            let part = u32::try_from(count).ok().and_then(|count| unit.checked_mul(count));
            let sum = part.and_then(|part| total.checked_add(part));
            total = sum.ok_or_else(|| begin.error("this time is too long"))?;
        }
        if self.at == begin.at || !self.peek_word().is_empty() {
            return Err(begin.error(WRONG));
        }
        Ok(total)
    }

    /// Takes a size such as `512M`.
    pub(super) fn size(&mut self) -> Result<u64, ParseError> {
        let begin = self.clone();
        let count = self.count().map_err(|_| begin.error("a size is written as in 512M or 2G"))?;
        let shift = match self.peek_word() {
            "" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            _ => return Err(begin.error("a size is written as in 512M or 2G")),
        };
        self.at += usize::from(shift > 0);
        let bytes = count.checked_mul(1 << shift);
        bytes.filter(|bytes| *bytes > 0).ok_or_else(|| begin.error("this size cannot be"))
    }
}

/// Writes a duration as [`TextCursor::duration`] reads it.
pub(super) fn written(time: Duration) -> String {
    let seconds = time.as_secs();
    match time.subsec_millis() {
        0 if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        0 if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        0 => format!("{seconds}s"),
        millis if seconds == 0 => format!("{millis}ms"),
        millis => format!("{seconds}s{millis}ms"),
    }
}

/// Writes a quoted text as [`TextCursor::quoted`] reads it.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
