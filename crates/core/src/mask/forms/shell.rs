//! A value as shells quote it: `set -x`, `export -p`, `printf %q`. Python, fish and SQL quote in
//! the same ways.

use super::escaped;

/// Characters that bash always escapes with a backslash.
const SPECIAL: &str = " !\"$&'()*,;<>?[\\]^`{|}";

/// The forms inside single quotes, inside double quotes, and with backslashes only.
pub(super) fn forms(text: &str) -> Vec<String> {
    vec![
        // bash; dash
        text.replace('\'', "'\\''"),
        text.replace('\'', "'\"'\"'"),
        escaped(text, "\"$`\\"),
        word(text, true),
        word(text, false),
        // Python and fish
        escaped(text, "\\"),
        escaped(text, "\\'"),
        // YAML and SQL; CSV
        text.replace('\'', "''"),
        text.replace('"', "\"\""),
    ]
}

/// The form of `printf %q`. Some characters are escaped only at the start of a word, and the value
/// may be in the middle.
fn word(text: &str, is_at_start: bool) -> String {
    let mut word = String::with_capacity(text.len() + 8);
    let mut before = None;
    for c in text.chars() {
        let is_first = before.is_none() && is_at_start;
        let is_special = match c {
            '#' => is_first,
            '~' => is_first || matches!(before, Some(':' | '=')),
            c => SPECIAL.contains(c),
        };
        if is_special {
            word.push('\\');
        }
        word.push(c);
        before = Some(c);
    }
    word
}

/// The forms inside bash's `$'...'`, in a locale with the characters and in one without, and inside
/// the quotes of Python's `bytes`.
pub(super) fn of_bytes(value: &[u8]) -> [Vec<u8>; 3] {
    let octal = |byte: u8| format!("\\{byte:03o}");
    let hexadecimal = |byte: u8| format!("\\x{byte:02x}");
    [
        dollar_quoted(value, true, BASH, octal),
        dollar_quoted(value, false, BASH, octal),
        dollar_quoted(value, false, PYTHON, hexadecimal),
    ]
}

/// Characters, and the letter after the backslash for each.
type Letters = &'static [(u8, u8)];

const BASH: Letters = &[
    (0x1b, b'E'),
    (0x07, b'a'),
    (0x0b, b'v'),
    (0x08, b'b'),
    (0x0c, b'f'),
    (b'\n', b'n'),
    (b'\r', b'r'),
    (b'\t', b't'),
    (b'\\', b'\\'),
    (b'\'', b'\''),
];
const PYTHON: Letters = &[(b'\n', b'n'), (b'\r', b'r'), (b'\t', b't'), (b'\\', b'\\')];

fn dollar_quoted(
    value: &[u8],
    keeps_text: bool,
    letters: Letters,
    number: impl Fn(u8) -> String,
) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(value.len() + 8);
    for chunk in value.utf8_chunks() {
        let valid = chunk.valid().bytes().map(|byte| (byte, keeps_text));
        for (byte, is_text) in valid.chain(chunk.invalid().iter().map(|&byte| (byte, false))) {
            let letter = letters.iter().find(|(plain, _)| *plain == byte);
            match letter {
                Some((_, letter)) => quoted.extend([b'\\', *letter]),
                None if (b' '..0x7f).contains(&byte) || byte >= 0x80 && is_text => {
                    quoted.push(byte);
                }
                None => quoted.extend(number(byte).bytes()),
            }
        }
    }
    quoted
}
