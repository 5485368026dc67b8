//! Unpredictable random bytes.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// `N` such bytes.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
