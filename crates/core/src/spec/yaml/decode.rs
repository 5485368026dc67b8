//! Decodes a file: UTF-8, or UTF-16 with a byte order mark, as CodeBuild's YAML library does.

use crate::spec::diagnostic::{Diagnostic, DiagnosticCode, Span};
use crate::text::utf16;

/// Decodes a file and removes its byte order mark.
///
/// # Errors
/// The first invalid byte.
pub fn decode(mut bytes: Vec<u8>) -> Result<String, Box<Diagnostic>> {
    if let Some((text, bad)) = utf16(&bytes) {
        return match bad {
            None => Ok(text),
            Some(at) => Err(no_text(&text[..at], "UTF-16")),
        };
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        no_text(&String::from_utf8_lossy(valid), "UTF-8")
    })
}

fn no_text(before: &str, encoding: &str) -> Box<Diagnostic> {
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    let span = Span { line: number(line), column: number(column), length: 1, ..Span::default() };
    Box::new(
        Diagnostic::new(DiagnosticCode::NotText, span, format!("this is not text in {encoding}"))
            .hint("is it the right file? a buildspec is a YAML text"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_how_a_text_is_written() {
        let text = "version: 0.2\n# é 🦀\n";
        let wide = |convert: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(convert).collect()
        };
        for bytes in [
            text.as_bytes().to_vec(),
            ["\u{feff}", text].concat().into_bytes(),
            wide(u16::to_le_bytes),
            wide(u16::to_be_bytes),
        ] {
            assert_eq!(decode(bytes).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let mut half = b"\xff\xfea\x00\n\x00b\x00".to_vec();
        half.extend([0x00, 0xd8, b'c', 0]);
        for (bytes, place) in
            [(b"a\nb\xffc".to_vec(), (2, 2)), (half, (2, 2)), (b"\xff\xfea\x00b".to_vec(), (1, 2))]
        {
            let problem = decode(bytes).expect_err("is none");
            assert_eq!((problem.span.line, problem.span.column), place, "{problem:?}");
            assert_eq!(problem.code, DiagnosticCode::NotText);
        }
    }
}
