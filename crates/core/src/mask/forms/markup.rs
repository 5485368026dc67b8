//! A text inside XML and HTML: between tags, and in attributes.

/// How a library escapes characters.
type MarkupEscapes = &'static [(char, &'static str)];

const STYLES: [MarkupEscapes; 8] = [
    // Between tags
    &[('&', "&amp;"), ('<', "&lt;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")],
    // Attributes of XML
    &[('&', "&amp;"), ('<', "&lt;"), ('"', "&quot;"), ('\n', "&#10;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\n', "&#10;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")],
    // Rails, PHP, JavaScript; Python; Go and Jinja
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#x27;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")],
];

pub(super) fn forms(text: &str) -> Vec<String> {
    let kept = STYLES.iter().map(|style| inside(text, style, false));
    // Python's ElementTree writes non-ASCII characters as numbers.
    let numbered = STYLES.iter().skip(1).take(3).map(|style| inside(text, style, true));
    kept.chain(numbered).collect()
}

fn inside(text: &str, style: MarkupEscapes, is_ascii: bool) -> String {
    let mut inside = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match style.iter().find(|(plain, _)| *plain == c) {
            Some((_, entity)) => inside.push_str(entity),
            None if is_ascii && !c.is_ascii() => inside.push_str(&format!("&#{};", u32::from(c))),
            None => inside.push(c),
        }
    }
    inside
}
