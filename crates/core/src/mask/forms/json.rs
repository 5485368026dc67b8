//! A text inside a JSON string, as libraries of several languages write it, and inside a nested
//! JSON string.

use super::escaped;

/// Escapes of a library beyond those that JSON requires.
struct JsonStyle {
    /// Characters written as `\uXXXX`.
    coded: &'static str,
    is_ascii: bool,
    is_upper: bool,
    /// Whether backspace and form feed are written as letters.
    has_letters: bool,
}

const PLAIN: JsonStyle =
    JsonStyle { coded: "", is_ascii: false, is_upper: false, has_letters: true };

const STYLES: [JsonStyle; 6] = [
    PLAIN,
    // Python
    JsonStyle { is_ascii: true, ..PLAIN },
    // Jackson
    JsonStyle { is_ascii: true, is_upper: true, ..PLAIN },
    // Go, and with it Docker, Kubernetes, Terraform
    JsonStyle { coded: "<>&\u{2028}\u{2029}", has_letters: false, ..PLAIN },
    // Gson
    JsonStyle { coded: "<>&='\u{2028}\u{2029}", ..PLAIN },
    // .NET, PowerShell 7
    JsonStyle { coded: "\"<>&'+`\u{7f}", is_ascii: true, is_upper: true, ..PLAIN },
];

pub(super) fn forms(text: &str) -> Vec<String> {
    let mut forms: Vec<String> = STYLES.iter().map(|style| inside(text, style)).collect();
    // PHP
    let slashed: Vec<String> = forms[..2].iter().map(|form| form.replace('/', "\\/")).collect();
    forms.extend(slashed);
    forms.sort();
    forms.dedup();
    let doubled: Vec<String> = forms.iter().map(|form| escaped(form, "\"\\")).collect();
    forms.extend(doubled);
    forms
}

fn inside(text: &str, style: &JsonStyle) -> String {
    let mut inside = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        let letter = match c {
            '\u{8}' if style.has_letters => Some('b'),
            '\u{c}' if style.has_letters => Some('f'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '"' | '\\' => Some(c),
            _ => None,
        };
        if style.coded.contains(c) || style.is_ascii && !c.is_ascii() {
            code(&mut inside, c, style.is_upper);
        } else if let Some(letter) = letter {
            inside.extend(['\\', letter]);
        } else if c < ' ' {
            code(&mut inside, c, style.is_upper);
        } else {
            inside.push(c);
        }
    }
    inside
}

fn code(inside: &mut String, c: char, is_upper: bool) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        inside.push_str(&match is_upper {
            true => format!("\\u{unit:04X}"),
            false => format!("\\u{unit:04x}"),
        });
    }
}
