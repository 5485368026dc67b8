//! Copies of report files without secrets.

use super::text::decode;
use crate::mask::Secrets;
use std::borrow::Cow;

/// Maximum number of nested escapes.
const DEPTH: usize = 3;

/// The file with its secrets masked. `None` if a secret cannot be replaced in the bytes, because of
/// another encoding or unknown escapes.
#[must_use]
pub fn raw<'b>(bytes: &'b [u8], secrets: &Secrets) -> Option<Cow<'b, [u8]>> {
    if secrets.is_empty() {
        return Some(Cow::Borrowed(bytes));
    }
    let masked = secrets.mask_bytes(bytes);
    let (text, _) = decode(&masked);
    let mut text = text.into_owned();
    for _ in 0..DEPTH {
        if secrets.occur_in(text.as_bytes()) {
            return None;
        }
        let plain = unescaped(&text);
        if plain == text {
            break;
        }
        text = plain;
    }
    Some(masked)
}

/// Resolves escapes of XML and JSON.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '\\']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let resolved = if rest.starts_with('&') { entity(rest) } else { escape(rest) };
        let (resolved, length) = resolved.unwrap_or_else(|| (rest[..1].into(), 1));
        plain.push_str(&resolved);
        rest = &rest[length..];
    }
    plain.push_str(rest);
    plain
}

/// The text of an entity, and its length.
fn entity(text: &str) -> Option<(Cow<'_, str>, usize)> {
    /// Length of the longest one, `&#x10FFFF;`.
    const LONGEST: usize = 10;
    let end = text.bytes().take(LONGEST).position(|byte| byte == b';')?;
    let name = &text[1..end];
    let plain = match name {
        "lt" => "<".into(),
        "gt" => ">".into(),
        "amp" => "&".into(),
        "quot" => "\"".into(),
        "apos" => "'".into(),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?.to_string().into()
        }
    };
    Some((plain, end + 1))
}

/// The text of a JSON escape, and its length.
fn escape(text: &str) -> Option<(Cow<'_, str>, usize)> {
    let plain = match text.as_bytes().get(1)? {
        b'n' => "\n",
        b'r' => "\r",
        b't' => "\t",
        b'b' => "\u{8}",
        b'f' => "\u{c}",
        b'"' => "\"",
        b'/' => "/",
        b'\\' => "\\",
        b'u' => {
            let unit = |at: usize| u16::from_str_radix(text.get(at..at + 4)?, 16).ok();
            let first = unit(2)?;
            let pair = (text.get(6..8) == Some("\\u")).then(|| unit(8)).flatten();
            let both = [first, pair.unwrap_or_default()];
            let (units, length) = match pair {
                Some(_) if (0xD800..0xDC00).contains(&first) => (&both[..], 12),
                _ => (&both[..1], 6),
            };
            return Some((String::from_utf16(units).ok()?.into(), length));
        }
        _ => return None,
    };
    Some((plain.into(), 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: &[u8]) -> Option<String> {
        let secrets =
            Secrets::new([b"p<ss\"w\xC3\xB6rd".to_vec(), b"hunter2".to_vec()]).expect("two");
        raw(bytes, &secrets).map(|kept| String::from_utf8_lossy(&kept).into_owned())
    }

    #[test]
    fn secrets_are_masked_or_the_file_is_refused() {
        assert_eq!(kept(b"<a>hunter2 &amp; x</a>").as_deref(), Some("<a>*** &amp; x</a>"));
        assert_eq!(kept(b"\xff\xfeplain, \\x &no; & \\").map(|_| ()), Some(()));
        let wide: Vec<u8> =
            "\u{feff}<a>hunter2</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for text in [
            &wide[..],
            b"<?xml version='1.0' encoding='iso-8859-1'?><a>p<ss\"w\xF6rd</a>",
            "p&#60;ss&#x22;wörd".as_bytes(),
            "{\"m\": \"p\\u003css\\\"w\\u00f6rd\"}".as_bytes(),
            "p&amp;lt;ss&amp;quot;wörd".as_bytes(),
            b"h&#x75;nter2",
        ] {
            assert_eq!(kept(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in
            ["", "&", "\\", "\\u12", "\\ud83d\\ude00 &#x110000; &#; &lt", "a\\qb", "\u{e4}\\\u{e4}"]
        {
            assert_eq!(kept(text.as_bytes()).as_deref(), Some(text));
        }
        assert_eq!(unescaped("\\ud83d\\ude00\\ud83d&lt;\\u00e4"), "\u{1f600}\\ud83d<\u{e4}");
    }
}
