//! Decodes text with a byte order mark.

/// Decodes UTF-16 with a byte order mark and removes the mark. Also returns the offset of the first
/// invalid character. `None` for other bytes.
pub(crate) fn utf16(bytes: &[u8]) -> Option<(String, Option<usize>)> {
    let (convert, rest): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return None,
    };
    let units = rest.chunks_exact(2).map(|pair| convert([pair[0], pair[1]]));
    let mut text = String::with_capacity(rest.len() / 2);
    let mut bad = None;
    for unit in char::decode_utf16(units) {
        text.push(unit.unwrap_or_else(|_| {
            bad.get_or_insert(text.len());
            char::REPLACEMENT_CHARACTER
        }));
    }
    if rest.len() % 2 == 1 {
        bad.get_or_insert(text.len());
    }
    Some((text, bad))
}
