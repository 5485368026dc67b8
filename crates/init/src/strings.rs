//! Arguments and variables as the kernel leaves them: addresses of C strings, terminated by 0.
//!
//! Made by `entry`, read by it and by `shim`.

use core::ffi::{CStr, c_char};

/// Iterates over the strings of a null-terminated array made by the kernel.
#[derive(Clone)]
pub(crate) struct Strings(*const usize);

impl Strings {
    /// # Safety
    /// `array` must hold addresses of C strings that live as long as the program, then a 0.
    pub(crate) unsafe fn new(array: *const usize) -> Self {
        Strings(array)
    }

    /// The rest of the array, from the next unread string on.
    pub(crate) fn as_ptr(&self) -> *const usize {
        self.0
    }
}

impl Iterator for Strings {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: `new` requires an array that ends in 0, and nothing is read past that.
        let address = unsafe { *self.0 };
        if address == 0 {
            return None;
        }
        // SAFETY: not at the end yet, so there is one more word.
        self.0 = unsafe { self.0.add(1) };
        // SAFETY: `new` requires C strings that live as long as the program.
        Some(unsafe { CStr::from_ptr(address as *const c_char) }.to_bytes())
    }
}
