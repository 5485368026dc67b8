//! Connects or listens inside the container for the runner.
//!
//! `pid1` passes the body of a request. This runs in a child of PID 1, in the container's network
//! and file system, with the rights of its root. The runner gets the socket.

use crate::abi::{family, u32_at};
use crate::digits;
use crate::path::{PATH_MAX, Path};
use crate::sys::dial::{self, Address, connect};
use crate::sys::{self, Errno, Fd, SysResult};

/// Makes the connection that a request asks for.
pub(crate) fn dial(body: &[u8]) -> SysResult<Fd> {
    match u32_at(body, 0) {
        Some(family::UNIX) => unix(body.get(4..).ok_or(Errno::INVAL)?),
        _ => connect(&tcp(body)?),
    }
}

/// Makes a listening socket at a request's address.
pub(crate) fn listen(body: &[u8]) -> SysResult<Fd> {
    dial::listen(&tcp(body)?)
}

fn tcp(body: &[u8]) -> SysResult<Address> {
    let wrong = Errno::INVAL;
    let (port, scope, address) = body.get(4..).and_then(inet).ok_or(wrong)?;
    match u32_at(body, 0) {
        Some(family::INET) => Ok(Address::inet(address.try_into().map_err(|_| wrong)?, port)),
        Some(family::INET6) => {
            Ok(Address::inet6(address.try_into().map_err(|_| wrong)?, port, scope))
        }
        _ => Err(wrong),
    }
}

fn inet(body: &[u8]) -> Option<(u16, u32, &[u8])> {
    let port = u16::try_from(u32_at(body, 0)?).ok()?;
    Some((port, u32_at(body, 4)?, body.get(8..)?))
}

fn unix(body: &[u8]) -> SysResult<Fd> {
    let path = body.strip_suffix(b"\0").ok_or(Errno::INVAL)?;
    if let Some(address) = Address::unix(path) {
        return connect(&address);
    }
    // Through a descriptor: a socket address holds at most 107 bytes.
    let mut whole = Path::new();
    if path.first() == Some(&0) || !whole.set(path) {
        return Err(Errno::NAMETOOLONG);
    }
    let name = whole.last();
    let above = whole.len() + 1 - name.len();
    let mut directory = [0; PATH_MAX];
    directory[..above].copy_from_slice(&whole.text()[..above]);
    let place = sys::open_place(&directory[..=above])?;
    let mut short = [0; 64];
    let mut number = [0; 10];
    let digits = digits::write(place.number(), &mut number).ok_or(Errno::INVAL)?;
    let mut at = 0;
    for piece in [b"/proc/self/fd/", &number[..digits], b"/", &name[..name.len() - 1]] {
        short.get_mut(at..at + piece.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(piece);
        at += piece.len();
    }
    connect(&Address::unix(&short[..at]).ok_or(Errno::NAMETOOLONG)?)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::net::UnixListener;
    use std::vec::Vec;

    fn request(family: u32, rest: &[u8]) -> Vec<u8> {
        [&family.to_le_bytes()[..], rest].concat()
    }

    fn body(port: u16, address: &[u8]) -> Vec<u8> {
        [&u32::from(port).to_le_bytes()[..], &[0; 4], address].concat()
    }

    fn greets(fd: Fd) {
        // SAFETY: `fd` gives up its number, which nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd.into_number()) };
        let mut text = std::string::String::new();
        std::fs::File::from(socket).read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
    }

    #[test]
    fn whatever_listens_is_reached() {
        for (name, family, address) in [
            ("127.0.0.1:0", family::INET, &[127, 0, 0, 1][..]),
            ("[::1]:0", family::INET6, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            let Ok(listener) = std::net::TcpListener::bind(name) else { continue };
            let port = listener.local_addr().expect("bound").port();
            let served = std::thread::spawn(move || {
                listener.accept().expect("called").0.write_all(b"hello").expect("sent");
            });
            greets(dial(&request(family, &body(port, address))).expect("connected"));
            served.join().expect("served");
            let refused = dial(&request(family, &body(port, address)));
            assert_eq!(refused.err(), Some(Errno(111)));
        }
    }

    #[test]
    fn what_listens_is_reached_by_others() {
        let loopback = [127, 0, 0, 1];
        let socket = listen(&request(family::INET, &body(0, &loopback))).expect("listening");
        // SAFETY: `socket` gives up its number, which nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket.into_number()) };
        let listener = std::net::TcpListener::from(socket);
        let port = listener.local_addr().expect("bound").port();
        let served = std::thread::spawn(move || {
            listener.accept().expect("called").0.write_all(b"hello").expect("sent");
        });
        greets(dial(&request(family::INET, &body(port, &loopback))).expect("connected"));
        served.join().expect("served");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = taken.local_addr().expect("bound").port();
        let refused = listen(&request(family::INET, &body(port, &loopback)));
        assert_eq!(refused.err(), Some(Errno(98)));
    }

    #[test]
    fn a_socket_may_lie_deep() {
        let dir = std::env::temp_dir().join(std::format!("dial-{}", std::process::id()));
        let deep = dir.join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).expect("made");
        let path = deep.join("z.sock");
        let here = std::fs::File::open(&deep).expect("opened");
        let short = std::format!("/proc/self/fd/{}/z.sock", std::os::fd::AsRawFd::as_raw_fd(&here));
        let listener = UnixListener::bind(short).expect("bound");
        let served = std::thread::spawn(move || {
            listener.accept().expect("called").0.write_all(b"hello").expect("sent");
        });
        let body = std::format!("{}\0", path.display());
        greets(dial(&request(family::UNIX, body.as_bytes())).expect("connected"));
        served.join().expect("served");
        std::fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn nonsense_is_refused() {
        for body in [
            request(77, b""),
            request(family::INET, b"1234"),
            request(family::INET, &body(1, &[1; 5])),
            request(family::UNIX, b"/no/end"),
            Vec::new(),
        ] {
            assert_eq!(dial(&body).err(), Some(Errno::INVAL), "{body:?}");
            assert_eq!(listen(&body).err(), Some(Errno::INVAL), "{body:?}");
        }
    }
}
