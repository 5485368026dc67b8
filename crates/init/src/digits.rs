//! Decimal numbers, as in the kernel's own files.

/// Parses a decimal number.
pub(crate) fn read(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i32, |sum, &byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(i32::from(byte - b'0')),
        _ => None,
    })
}

/// Writes a non-negative number. Returns its length in bytes.
pub(crate) fn write(value: i32, into: &mut [u8]) -> Option<usize> {
    let mut digits = [0_u8; 10];
    let mut rest = u32::try_from(value).ok()?;
    let mut length = 0;
    loop {
        digits[length] = b'0' + (rest % 10) as u8;
        length += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let place = into.get_mut(..length)?;
    for (to, from) in place.iter_mut().zip(digits[..length].iter().rev()) {
        *to = *from;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut text = [0; 24];
        for value in [0, 1, 120, 4_194_304, i32::MAX] {
            let length = write(value, &mut text).unwrap_or(0);
            assert_eq!(read(&text[..length]), Some(value));
        }
        assert_eq!(write(-1, &mut text), None);
        assert_eq!(write(12, &mut text[..1]), None);
    }
}
