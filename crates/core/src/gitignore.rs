//! Parses `.gitignore` files and decides which paths they ignore.
//!
//! Used by `run --watch`. Paths and names are bytes, as in git. The files come with an untrusted
//! source: matching takes at most time proportional to the pattern's length times the path's.

use std::sync::Arc;

/// The `.gitignore` files from the top directory down to one directory.
#[derive(Clone, Debug, Default)]
pub struct Ignored(Option<Arc<IgnoreFile>>);

/// One `.gitignore` file.
#[derive(Debug)]
struct IgnoreFile {
    above: Ignored,
    /// Its directory: absolute, without a trailing slash.
    dir: Vec<u8>,
    patterns: Vec<IgnorePattern>,
}

#[derive(Debug)]
struct IgnorePattern {
    tokens: Vec<IgnoreToken>,
    is_negated: bool,
    only_directories: bool,
    /// Whether it matches a path below the file's directory, instead of a name at any depth.
    is_anchored: bool,
}

#[derive(Debug)]
enum IgnoreToken {
    Byte(u8),
    /// `?`
    One,
    /// `[...]`: ranges, and whether the class is negated.
    Class(Vec<(u8, u8)>, bool),
    /// `*`
    Star,
    /// `**/`: any number of directories.
    Directories,
    /// `**` at the end: everything below.
    Rest,
}

impl Ignored {
    /// Adds the text of another file, which is in the directory `dir` (an absolute path).
    #[must_use]
    pub fn with(&self, dir: &[u8], text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let patterns: Vec<_> = text.split(|&byte| byte == b'\n').filter_map(pattern).collect();
        if patterns.is_empty() {
            return self.clone();
        }
        let dir = dir.strip_suffix(b"/").unwrap_or(dir).to_vec();
        Ignored(Some(Arc::new(IgnoreFile { above: self.clone(), dir, patterns })))
    }

    /// Whether an absolute path is ignored. Its directory must not be ignored.
    #[must_use]
    pub fn has(&self, path: &[u8], is_directory: bool) -> bool {
        let mut next = self;
        while let Some(level) = &next.0 {
            let below = path.strip_prefix(&*level.dir).and_then(|rest| rest.strip_prefix(b"/"));
            if let Some(below) = below
                && let Some(pattern) =
                    level.patterns.iter().rev().find(|pattern| pattern.fits(below, is_directory))
            {
                return !pattern.is_negated;
            }
            next = &level.above;
        }
        false
    }
}

impl IgnorePattern {
    fn fits(&self, path: &[u8], is_directory: bool) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        (is_directory || !self.only_directories)
            && matches(&self.tokens, if self.is_anchored { path } else { name })
    }
}

/// Parses a line; `None` if it has no pattern.
fn pattern(line: &[u8]) -> Option<IgnorePattern> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = without_spaces(line);
    if text.starts_with(b"#") {
        return None;
    }
    let is_negated = text.starts_with(b"!");
    if is_negated {
        text = &text[1..];
    }
    let only_directories = text.ends_with(b"/");
    if only_directories {
        text = &text[..text.len() - 1];
    }
    let is_anchored = text.contains(&b'/');
    let text = text.strip_prefix(b"/").unwrap_or(text);
    if text.is_empty() {
        return None;
    }
    Some(IgnorePattern { tokens: tokens(text), is_negated, only_directories, is_anchored })
}

/// Removes trailing spaces, except an escaped one.
fn without_spaces(line: &[u8]) -> &[u8] {
    let mut end = line.len();
    while end > 0 && line[end - 1] == b' ' && !(end > 1 && line[end - 2] == b'\\') {
        end -= 1;
    }
    &line[..end]
}

fn tokens(text: &[u8]) -> Vec<IgnoreToken> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let begins_part = at == 0 || text[at - 1] == b'/';
        let (token, length) = match byte {
            b'*' if begins_part && rest.starts_with(b"**/") => (IgnoreToken::Directories, 3),
            b'*' if begins_part && rest == b"**" => (IgnoreToken::Rest, 2),
            b'*' => (IgnoreToken::Star, rest.iter().take_while(|&&byte| byte == b'*').count()),
            b'?' => (IgnoreToken::One, 1),
            b'[' => class(rest).unwrap_or((IgnoreToken::Byte(b'['), 1)),
            b'\\' if rest.len() > 1 => (IgnoreToken::Byte(rest[1]), 2),
            byte => (IgnoreToken::Byte(byte), 1),
        };
        tokens.push(token);
        at += length;
    }
    tokens
}

/// Parses `[...]` at the start of `text`. Also returns its length; `None` if it is not closed.
fn class(text: &[u8]) -> Option<(IgnoreToken, usize)> {
    let mut at = 1;
    let is_negated = matches!(text.get(at), Some(b'!' | b'^'));
    at += usize::from(is_negated);
    let mut ranges = Vec::new();
    let first = at;
    loop {
        let mut from = *text.get(at)?;
        if from == b']' && at > first {
            return Some((IgnoreToken::Class(ranges, is_negated), at + 1));
        }
        if from == b'\\' {
            at += 1;
            from = *text.get(at)?;
        }
        at += 1;
        let mut to = from;
        if text.get(at) == Some(&b'-') && text.get(at + 1).is_some_and(|&byte| byte != b']') {
            at += 1;
            if text[at] == b'\\' {
                at += 1;
            }
            to = *text.get(at)?;
            at += 1;
        }
        ranges.push((from, to));
    }
}

/// Whether the tokens match a whole text. Keeps all possible positions in the tokens at once, so it
/// never backtracks.
fn matches(tokens: &[IgnoreToken], text: &[u8]) -> bool {
    let mut now = vec![false; tokens.len() + 1];
    enter(tokens, &mut now, 0);
    for &byte in text {
        let mut next = vec![false; tokens.len() + 1];
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
            let (stays, goes_on) = match token {
                IgnoreToken::Byte(wanted) => (false, byte == *wanted),
                IgnoreToken::One => (false, byte != b'/'),
                IgnoreToken::Class(ranges, is_negated) => {
                    let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte));
                    (false, byte != b'/' && is_in != *is_negated)
                }
                IgnoreToken::Star => (byte != b'/', byte != b'/'),
                IgnoreToken::Directories => (true, byte == b'/'),
                IgnoreToken::Rest => (true, true),
            };
            next[at] |= stays;
            if goes_on {
                enter(tokens, &mut next, at + 1);
            }
        }
        now = next;
    }
    now[tokens.len()]
}

/// Marks a token as reached, and the following ones if it can match nothing.
fn enter(tokens: &[IgnoreToken], places: &mut [bool], mut at: usize) {
    places[at] = true;
    while matches!(tokens.get(at), Some(IgnoreToken::Star | IgnoreToken::Directories)) {
        at += 1;
        places[at] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_gits() {
        for (text, path, is_directory, is) in [
            ("target", "target", true, true),
            ("target", "a/b/target", false, true),
            ("target", "targets", false, false),
            ("target/", "a/target", true, true),
            ("target/", "target", false, false),
            ("/target", "target", false, true),
            ("/target", "a/target", false, false),
            ("a/b", "a/b", false, true),
            ("a/b", "x/a/b", false, false),
            ("*.o", "x/y.o", false, true),
            ("*.o", ".o", false, true),
            ("a*/b", "ax/y/b", false, false),
            ("**/log", "log", true, true),
            ("**/log", "x/y/log", true, true),
            ("**/log/x", "y/log/x", true, true),
            ("a/**/b", "a/b", false, true),
            ("a/**/b", "a/x/y/b", false, true),
            ("a/**/b", "a/xb", false, false),
            ("a/**", "a/x/y", false, true),
            ("a/**", "a", true, false),
            ("a**b", "axb", false, true),
            ("f?o", "foo", false, true),
            ("f?o", "fo", false, false),
            ("[a-c]x[!0-9]", "bxy", false, true),
            ("[a-c]x[^0-9]", "bx1", false, false),
            ("[]]x", "]x", false, true),
            ("[ab", "[ab", false, true),
            ("\\#x", "#x", false, true),
            ("#x", "#x", false, false),
            ("\\!x", "!x", false, true),
            ("x  ", "x", false, true),
            ("x\\ ", "x ", false, true),
            ("x\r", "x", false, true),
            ("", "x", false, false),
            ("/", "x", true, false),
            ("\u{feff}x", "x", false, true),
            ("*\n!keep", "keep", false, false),
            ("!keep\n*", "keep", false, true),
        ] {
            let ignored = Ignored::default().with(b"/src/", text.as_bytes());
            let whole = format!("/src/{path}");
            assert_eq!(ignored.has(whole.as_bytes(), is_directory), is, "{text:?} {path}");
        }
    }

    #[test]
    fn the_nearest_file_has_the_last_word() {
        let ignored =
            Ignored::default().with(b"/src", b"*.log\nout\n").with(b"/src/a", b"!x.log\n/b");
        for (path, is) in [
            ("/src/y.log", true),
            ("/src/a/x.log", false),
            ("/src/a/c/x.log", false),
            ("/src/a/y.log", true),
            ("/src/a/b", true),
            ("/src/b", false),
            ("/srcs/out", false),
        ] {
            assert_eq!(ignored.has(path.as_bytes(), false), is, "{path}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let stars = "*a".repeat(500) + "b";
        let text = "a".repeat(1000);
        assert!(!matches(&tokens(stars.as_bytes()), text.as_bytes()));
    }
}
