//! Decodes a report file: UTF-8, UTF-16 with a byte order mark, or Latin-1 if the file declares it.

use super::Malformed;
use super::xml::position;
use crate::text::utf16;
use std::borrow::Cow;

/// Returns the text, and the place of the first invalid byte. An invalid byte does not hide the
/// rest.
pub(super) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Option<Malformed>) {
    if let Some((text, _)) = utf16(bytes) {
        return (Cow::Owned(text), None);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Err(error) = std::str::from_utf8(bytes) else {
        return (String::from_utf8_lossy(bytes), None);
    };
    if is_latin(bytes) {
        return (Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()), None);
    }
    let text = String::from_utf8_lossy(bytes);
    let place = position(&text, error.valid_up_to());
    (text, Some(Malformed::at(place, "this is not text in UTF-8".to_owned())))
}

/// Whether the XML declaration names Latin-1 or its Windows variant.
fn is_latin(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(200)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let declaration = head.split("?>").next().unwrap_or_default();
    ["iso-8859-1", "iso-8859-15", "windows-1252", "latin1", "us-ascii"]
        .iter()
        .any(|name| declaration.contains(name))
}
