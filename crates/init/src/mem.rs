//! The six memory functions that the compiler may call, for a program without a libc.
//!
//! They have their C names only in the freestanding program. In the library build they have Rust
//! names, so that they can be tested without replacing the test program's own.

/// # Safety
/// `to` and `from` must be valid for `len` bytes and must not overlap.
#[cfg_attr(freestanding, unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: `rep movsb` copies `len` bytes upwards between regions the caller vouches for.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// `to` and `from` must be valid for `len` bytes.
#[cfg_attr(freestanding, unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: the start of `to` does not lie inside `from`, so copying upwards is right.
        return unsafe { memcpy(to, from, len) };
    }
    let mut at = len;
    while at > 0 {
        at -= 1;
        // SAFETY: `at` is below `len`, for which the caller vouches. Volatile, because the compiler
        // would otherwise recognise the loop and call this very function.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

/// # Safety
/// `to` must be valid for `len` bytes.
#[cfg_attr(freestanding, unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: `rep stosb` writes `len` bytes of `al` upwards into a region the caller vouches for.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            in("al") byte as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// `left` and `right` must be valid for `len` bytes.
#[cfg_attr(freestanding, unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` is below `len`, for which the caller vouches.
        let (l, r) = unsafe { (left.add(at).read_volatile(), right.add(at).read_volatile()) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
        at += 1;
    }
    0
}

/// # Safety
/// `left` and `right` must be valid for `len` bytes.
#[cfg_attr(freestanding, unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(left, right, len) }
}

/// # Safety
/// `string` must end in NUL.
#[cfg_attr(freestanding, unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: nothing is read past the NUL, for which the caller vouches.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_compares_and_fills() {
        let mut buffer = *b"0123456789";
        let at = buffer.as_mut_ptr();
        // SAFETY: all ranges lie inside `buffer`.
        unsafe {
            memmove(at.add(2), at, 6);
            assert_eq!(&buffer, b"0101234589");
            let at = buffer.as_mut_ptr();
            memmove(at, at.add(2), 6);
            assert_eq!(&buffer, b"0123454589");
            memset(buffer.as_mut_ptr(), 0x178, 3);
            assert_eq!(&buffer, b"xxx3454589");
            assert_eq!(memcmp(b"abc".as_ptr(), b"abc".as_ptr(), 3), 0);
            assert_eq!(strlen(c"four".as_ptr().cast()), 4);
            assert!(bcmp(b"abc".as_ptr(), b"abd".as_ptr(), 3) < 0);
            assert!(memcmp([0xff_u8].as_ptr(), [1_u8].as_ptr(), 1) > 0);
        }
    }
}
