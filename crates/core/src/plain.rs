//! Makes untrusted texts safe for a terminal.
//!
//! A build, a buildspec, a registry or a file name may contain characters that control the terminal
//! or change the order of the text. They must be removed here before such a text is printed as the
//! runner's own line.

use std::borrow::Cow;

/// Replacement for a removed character.
const GONE: char = char::REPLACEMENT_CHARACTER;

/// Whether a character controls a terminal, ends a line, or changes the order of text.
fn acts(c: char) -> bool {
    let is_bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_line_end = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || is_bidi || is_line_end
}

fn without(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    match text.contains(&acts) {
        true => text.chars().map(|c| if acts(c) { GONE } else { c }).collect::<String>().into(),
        false => text.into(),
    }
}

/// Cleans a text of several lines. Keeps line feeds and tabs.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    without(text, |c| acts(c) && c != '\n' && c != '\t')
}

/// Cleans a text for one line. Keeps tabs.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    without(text, |c| acts(c) && c != '\t')
}

/// Converts terminal output to plain lines: drops colours, titles and cursor movements, and puts
/// text that overwrote a line on a new line. Other control characters are replaced.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\u{1b}', Some('[')) => {
                rest.next();
                while rest.next_if(|c| !('\u{40}'..='\u{7e}').contains(c) && *c != '\n').is_some() {
                }
                rest.next_if(|c| *c != '\n');
            }
            ('\u{1b}', Some(']' | 'P' | '^' | '_' | 'X')) => {
                rest.next();
                while let Some(c) = rest.next_if(|c| *c != '\u{7}' && *c != '\n') {
                    if c == '\u{1b}' && rest.next_if_eq(&'\\').is_some() {
                        break;
                    }
                }
                rest.next_if_eq(&'\u{7}');
            }
            ('\u{1b}', Some('(' | ')' | '#' | '%' | ' ')) => {
                rest.next();
                rest.next_if(|c| *c != '\n');
            }
            ('\u{1b}', Some(next)) if *next != '\n' => drop(rest.next()),
            ('\r', Some('\n')) => {}
            ('\r', _) => shown.push('\n'),
            ('\u{8}', _) => {
                if shown.ends_with(|c| c != '\n') {
                    shown.pop();
                }
            }
            ('\u{7}' | '\0', _) => {}
            (c, _) => shown.push(c),
        }
    }
    lines(&shown).into_owned()
}

/// Cleans a file name.
#[must_use]
pub fn name(bytes: &[u8]) -> String {
    without(&String::from_utf8_lossy(bytes), acts).into_owned()
}

/// Escapes such characters in a JSON text without changing its value. Outside of strings it
/// contains none except line feeds.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && c != '\n';
    if !text.contains(acts) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_left() {
        let text =
            "a\u{1b}]52;c;cm0=\u{7}\tb\nc\r\u{9b}31m\u{7f}\u{202e}gpj.exe\u{2066}\u{200f}\u{2028}é";
        assert_eq!(lines(text), "a�]52;c;cm0=�\tb\nc��31m��gpj.exe���é");
        assert_eq!(line(text), "a�]52;c;cm0=�\tb�c��31m��gpj.exe���é");
        assert_eq!(name(b"a\tb\xff\n"), "a�b��");
        let plain = "echo \"plain\"\n\tmake — wörks 日本";
        assert!(matches!(lines(plain), Cow::Borrowed(same) if same == plain));
    }

    #[test]
    fn what_a_terminal_has_shown() {
        for (text, wanted) in [
            ("\u{1b}]0;title\u{7}\u{1b}[1;31mred\u{1b}[0m\r\nnext", "red\nnext"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\ \u{1b}(B\u{1b}=x", "link x"),
            ("lx\u{8}s\u{7}\r\n10 %\r20 %\r\n", "ls\n10 %\n20 %\n"),
            ("cut \u{1b}[31\nnext \u{1b}]0;t\nlast\u{1b}", "cut \nnext \nlast\u{fffd}"),
            ("\u{202e}x\u{9b}1m", "\u{fffd}x\u{fffd}1m"),
        ] {
            assert_eq!(shown(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({"k\u{9b}": "\u{202e}x\u{7f}\n"});
        let text = format!("{value:#}\n");
        let escaped = json(&text);
        assert!(!escaped.contains(['\u{9b}', '\u{202e}', '\u{7f}']), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).expect("is JSON"), value);
    }
}
