//! Connecting and listening: addresses in the kernel's layout.
//!
//! A part of `sys`, made for `dial`.

use super::{Fd, O_CLOEXEC, SysResult, checked, plain};
use crate::arch::{nr, syscall};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Longest path that fits into an address, in bytes, without its NUL.
pub(crate) const UNIX_PATH_MAX: usize = 107;

/// A socket address. The longest is a unix socket's, of 110 bytes.
pub(crate) struct Address {
    bytes: [u8; 112],
    length: usize,
}

impl Address {
    fn new(family: u16) -> Self {
        let mut address = Address { bytes: [0; 112], length: 0 };
        address.push(&family.to_ne_bytes());
        address
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(crate) fn inet(address: [u8; 4], port: u16) -> Self {
        let mut all = Self::new(AF_INET);
        all.push(&port.to_be_bytes());
        all.push(&address);
        all.push(&[0; 8]);
        all
    }

    pub(crate) fn inet6(address: [u8; 16], port: u16, scope: u32) -> Self {
        let mut all = Self::new(AF_INET6);
        all.push(&port.to_be_bytes());
        all.push(&[0; 4]);
        all.push(&address);
        all.push(&scope.to_ne_bytes());
        all
    }

    /// The address of a path or, after a NUL, of an abstract name; `None` if it is too long.
    pub(crate) fn unix(path: &[u8]) -> Option<Self> {
        if path.len() > UNIX_PATH_MAX {
            return None;
        }
        let mut all = Self::new(AF_UNIX);
        all.push(path);
        if path.first() != Some(&0) {
            all.push(&[0]);
        }
        Some(all)
    }

    /// Its memory address and length.
    pub(super) fn raw(&self) -> (usize, usize) {
        (self.bytes.as_ptr() as usize, self.length)
    }

    fn family(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]])
    }
}

/// Connects and waits as long as that takes, for TCP half a minute at most.
pub(crate) fn connect(address: &Address) -> SysResult<Fd> {
    const SOCK_STREAM_CLOEXEC: usize = 1 | O_CLOEXEC;
    let family = address.family();
    let socket = plain(nr::SOCKET, [usize::from(family), SOCK_STREAM_CLOEXEC, 0, 0, 0, 0])?;
    let socket = Fd(socket as i32);
    if family != AF_UNIX {
        const IPPROTO_TCP: usize = 6;
        const TCP_SYNCNT: usize = 7;
        // Retries after 1, 2, 4 and 8 seconds.
        let again = 4_i32;
        let value = &raw const again as usize;
        // SAFETY: the kernel reads one number of four bytes. The result does not matter.
        let _ = unsafe {
            syscall(nr::SETSOCKOPT, [socket.arg(), IPPROTO_TCP, TCP_SYNCNT, value, 4, 0])
        };
    }
    let at = address.bytes.as_ptr() as usize;
    // SAFETY: the address is valid for its length while the call runs.
    checked(unsafe { syscall(nr::CONNECT, [socket.arg(), at, address.length, 0, 0, 0]) })?;
    Ok(socket)
}

/// Listens at an address, which must be free.
pub(crate) fn listen(address: &Address) -> SysResult<Fd> {
    const SOCK_STREAM_CLOEXEC: usize = 1 | O_CLOEXEC;
    const BACKLOG: usize = 128;
    let family = usize::from(address.family());
    let socket = Fd(plain(nr::SOCKET, [family, SOCK_STREAM_CLOEXEC, 0, 0, 0, 0])? as i32);
    let (at, length) = address.raw();
    // SAFETY: the address is valid for its length while the call runs.
    checked(unsafe { syscall(nr::BIND, [socket.arg(), at, length, 0, 0, 0]) })?;
    plain(nr::LISTEN, [socket.arg(), BACKLOG, 0, 0, 0, 0])?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_long_as_the_kernel_has_them() {
        assert_eq!(Address::inet([127, 0, 0, 1], 80).length, 16);
        assert_eq!(Address::inet6([0; 16], 80, 0).length, 28);
        let named = |path: &[u8]| Address::unix(path).map(|address| address.length);
        assert_eq!((named(b"/a"), named(b"\0a")), (Some(5), Some(4)));
        assert_eq!((named(&[b'/'; 107]), named(&[b'/'; 108])), (Some(110), None));
    }
}
