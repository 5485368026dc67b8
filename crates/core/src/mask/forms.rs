//! The faces a secret shows: as it is, and as programs write it down.
//!
//! Used by [`super::Secrets`]. A form that is too short to be told from harmless text is left out.

use super::MIN_LENGTH;

/// Lines of a value with several are masked on their own from this length on: terminals and log
/// prefixes take them apart.
const MIN_LINE: usize = 8;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// All forms of a value, the value itself among them.
pub(super) fn of(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    let lines = value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    forms.extend(lines.filter(|line| line.len() >= MIN_LINE).map(<[u8]>::to_vec));
    for alphabet in [STANDARD, URL_SAFE] {
        for shift in 0..3 {
            forms.extend(base64(value, shift, alphabet));
        }
    }
    forms.extend([
        percent(value, b"-._~", b"0123456789ABCDEF", false),
        percent(value, b"-._~", b"0123456789abcdef", false),
        percent(value, b"-._~/", b"0123456789ABCDEF", false),
        percent(value, b"-._~*", b"0123456789ABCDEF", true),
    ]);
    if let Ok(text) = std::str::from_utf8(value) {
        let json = json(text, false);
        forms.extend(
            [json.replace('/', "\\/"), self::json(text, true), json].map(String::into_bytes),
        );
        forms.extend(shell(text).map(String::into_bytes));
    }
    forms.retain(|form| form.len() >= MIN_LENGTH);
    forms.sort();
    forms.dedup();
    forms
}

/// What a value looks like in base64 when `shift` bytes (modulo 3) of something else come before it:
/// the characters that are its alone, and these with the end it has when nothing comes after it.
fn base64(value: &[u8], shift: usize, alphabet: &[u8; 64]) -> [Vec<u8>; 3] {
    let bytes = [&[0_u8; 2][..shift], value].concat();
    let first = (shift * 8).div_ceil(6);
    let sextet = |at: usize| {
        let bit = at * 6;
        let high = u16::from(bytes[bit / 8]) << 8;
        let low = bytes.get(bit / 8 + 1).copied().map_or(0, u16::from);
        alphabet[usize::from((high | low) >> (10 - bit % 8) & 63)]
    };
    let whole = bytes.len() * 8 / 6;
    let own: Vec<u8> = (first..whole).map(sextet).collect();
    let ended: Vec<u8> = (first..(bytes.len() * 8).div_ceil(6)).map(sextet).collect();
    let mut padded = ended.clone();
    padded.resize(
        first.next_multiple_of(4) - first + (ended.len() + first).next_multiple_of(4)
            - first.next_multiple_of(4),
        b'=',
    );
    [own, ended, padded]
}

/// Percent-encoded but for letters, digits and what is in `plain`.
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

/// The inside of a JSON string.
fn json(text: &str, ascii_only: bool) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !ascii_only {
        return inside.to_owned();
    }
    let mut ascii = String::new();
    for c in inside.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// The inside of what shells print with `set -x`, `export -p` and `printf %q`.
fn shell(text: &str) -> [String; 5] {
    let escaped = |special: &str| {
        text.chars()
            .flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c]))
            .collect::<String>()
    };
    [
        text.replace('\'', "'\\''"),
        text.replace('\'', "'\"'\"'"),
        escaped("\"$`\\"),
        escaped(" !\"#$&'()*,;<=>?[\\]^`{|}~"),
        text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\t', "\\t"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        of(value.as_bytes()).iter().any(|found| found == form.as_bytes())
    }

    #[test]
    fn the_ways_programs_write_a_value_down_are_forms_of_it() {
        // Taken from base64(1), python3 and bash.
        for (value, form) in [
            ("hunter2", "hunter2"),
            ("hunter2", "aHVudGVyMg=="),
            ("hunter2", "aHVudGVyM"),
            ("p@ss w/rd", "p%40ss%20w%2Frd"),
            ("p@ss w/rd", "p%40ss%20w/rd"),
            ("p@ss w/rd", "p%40ss+w%2Frd"),
            ("a\"b\\c\nd", "a\\\"b\\\\c\\nd"),
            ("päss", "p\\u00e4ss"),
            ("it's me", "it'\\''s me"),
            ("it's me", "it\\'s\\ me"),
            ("a$b`c", "a\\$b\\`c"),
            ("first line\nsecond line", "second line"),
            ("~~~~???>", "fn5-fj8_Pz4"),
        ] {
            assert!(has(value, form), "{value}: {form}");
        }
    }

    #[test]
    fn base64_is_found_at_every_offset() {
        // `printf 'user:hunter2!' | base64` and its like: dXNlcjpodW50ZXIyIQ==
        for (shift, text) in [(0, "aHVudGVyMiE="), (1, "Omh1bnRlcjIh"), (2, "cjpodW50ZXIyIQ==")] {
            let [own, ..] = base64(b"hunter2", shift, STANDARD);
            let own = String::from_utf8(own).expect("ASCII");
            assert!(text.contains(&own) && own.len() >= 8, "{shift}: {own} in {text}");
        }
        let [_, ended, padded] = base64(b"hunter2", 0, STANDARD);
        assert_eq!(
            (ended.as_slice(), padded.as_slice()),
            (&b"aHVudGVyMg"[..], &b"aHVudGVyMg=="[..])
        );
        let [_, ended, padded] = base64(b"hunter2", 2, STANDARD);
        assert_eq!(ended, padded);
    }
}
