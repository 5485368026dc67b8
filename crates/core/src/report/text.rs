//! Bytes of a report file to text: UTF-8, UTF-16 with its mark, or Latin-1 where the file says so.

use super::Malformed;
use super::xml::position;
use std::borrow::Cow;

/// The text, and where it is none. A byte that is no text does not hide the rest.
pub(super) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Option<Malformed>) {
    let wide = |convert: fn([u8; 2]) -> u16, rest: &[u8]| {
        let units = rest.chunks_exact(2).map(|pair| convert([pair[0], pair[1]]));
        let text: String = char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        (Cow::Owned(text), None)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => return wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => return wide(u16::from_be_bytes, rest),
        _ => {}
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

/// Whether the XML declaration names Latin-1, or its neighbour of Windows.
fn is_latin(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(200)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let declaration = head.split("?>").next().unwrap_or_default();
    ["iso-8859-1", "iso-8859-15", "windows-1252", "latin1", "us-ascii"]
        .iter()
        .any(|name| declaration.contains(name))
}
