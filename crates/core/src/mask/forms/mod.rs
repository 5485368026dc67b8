//! The forms of a secret: the value itself, and the ways programs write it.
//!
//! Used by [`super::Secrets`]. Forms that are too short to differ from harmless text are omitted.
//! See docs/adr/0017 for the list.

mod base64;
mod json;
mod markup;
mod shell;

use super::MIN_LENGTH;

/// Minimum length of a line in a multi-line value to be masked on its own. Terminals and log
/// prefixes split such values.
const MIN_LINE: usize = 8;

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

/// All forms of a value, including the value itself.
pub(super) fn of(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    let lines = value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<&[u8]> = lines.filter(|line| line.len() >= MIN_LINE && *line != value).collect();
    forms.extend(lines.iter().map(|line| line.to_vec()));
    forms.extend(base64::forms(value));
    forms.extend(lines.iter().flat_map(|line| base64::alone(line)));
    forms.extend([
        percent(value, b"-._~", UPPER, false),
        percent(value, b"-._~", LOWER, false),
        percent(value, b"-._~/", UPPER, false),
        percent(value, b"-._~*", UPPER, true),
    ]);
    forms.extend(shell::of_bytes(value));
    if let Ok(text) = std::str::from_utf8(value) {
        let texts = json::forms(text).into_iter().chain(shell::forms(text));
        forms.extend(texts.chain(markup::forms(text)).map(String::into_bytes));
    }
    forms.retain(|form| form.len() >= MIN_LENGTH);
    forms.sort();
    forms.dedup();
    forms
}

/// Percent-encodes everything except letters, digits and the bytes in `plain`.
fn percent(value: &[u8], plain: &[u8], digits: &[u8; 16], plus_for_space: bool) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() * 3);
    for &byte in value {
        match byte {
            b' ' if plus_for_space => encoded.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || plain.contains(&byte) => encoded.push(byte),
            _ => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                encoded.extend([b'%', digits[high], digits[low]]);
            }
        }
    }
    encoded
}

/// Puts a backslash before each of these characters.
fn escaped(text: &str, special: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if special.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests;
