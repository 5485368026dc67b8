//! A value in base64: on its own, inside something longer, and split into lines.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Line widths: 76 in base64(1) and mail, 64 in PEM.
const WIDTHS: [usize; 2] = [76, 64];
/// Shortest line that differs enough from harmless text.
const MIN_ROW: usize = 8;

/// The forms in both alphabets and at all three offsets.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let offsets = [STANDARD, URL_SAFE].into_iter().flat_map(|a| (0..3).map(move |at| (a, at)));
    let mut forms: Vec<Vec<u8>> =
        offsets.flat_map(|(alphabet, shift)| encoded(value, shift, alphabet)).collect();
    let whole = alone(value);
    for width in WIDTHS {
        for form in &whole {
            let rows = form.chunks(width).filter(|row| form.len() > width && row.len() >= MIN_ROW);
            forms.extend(rows.map(<[u8]>::to_vec));
        }
    }
    forms
}

/// The forms of a value encoded on its own.
pub(super) fn alone(value: &[u8]) -> [Vec<u8>; 3] {
    encoded(value, 0, STANDARD)
}

/// Encodes a value that follows `shift` bytes (modulo 3) of something else: the characters that
/// depend only on the value, and the same with the ending it has if nothing follows.
fn encoded(value: &[u8], shift: usize, alphabet: &[u8; 64]) -> [Vec<u8>; 3] {
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
    padded.resize((ended.len() + first).next_multiple_of(4) - first, b'=');
    [own, ended, padded]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_at_every_offset() {
        // `printf 'user:hunter2!' | base64` and its like: dXNlcjpodW50ZXIyIQ==
        for (shift, text) in [(0, "aHVudGVyMiE="), (1, "Omh1bnRlcjIh"), (2, "cjpodW50ZXIyIQ==")] {
            let [own, ..] = encoded(b"hunter2", shift, STANDARD);
            let own = String::from_utf8(own).expect("ASCII");
            assert!(text.contains(&own) && own.len() >= 8, "{shift}: {own} in {text}");
        }
        let [_, ended, padded] = encoded(b"hunter2", 0, STANDARD);
        assert_eq!(
            (ended.as_slice(), padded.as_slice()),
            (&b"aHVudGVyMg"[..], &b"aHVudGVyMg=="[..])
        );
        let [_, ended, padded] = encoded(b"hunter2", 2, STANDARD);
        assert_eq!(ended, padded);
    }
}
