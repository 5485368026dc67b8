//! Encodes requests to PID 1. Its replies are [`abi::Pid1Reply`].
//!
//! Used by the engine (`crates/engine/src/init.rs`).

use crate::abi::{self, ExecHead, Header, MAX_BODY, request};
use std::net::SocketAddr;

/// A program to start.
#[derive(Clone, Debug)]
pub struct Exec<'a> {
    /// Bits of [`abi::flags`].
    pub flags: u32,
    /// User, as an ID in the container.
    pub uid: u32,
    /// Group, as an ID in the container.
    pub gid: u32,
    /// Supplementary groups, as IDs in the container.
    pub groups: &'a [u32],
    /// Rows and columns of the terminal; only with [`abi::flags::PTY`].
    pub size: (u16, u16),
    /// Working directory.
    pub cwd: &'a [u8],
    /// Search path for a program without a slash, separated by colons.
    pub path: &'a [u8],
    /// Program and arguments.
    pub argv: Vec<&'a [u8]>,
    /// Variables, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
}

/// Why a request cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than PID 1 or a kernel accepts.
    #[error("arguments and environment together are too long ({0} bytes)")]
    TooLong(usize),
    /// Contains a NUL, which ends a C string.
    #[error("a NUL byte in an argument, a variable or a path")]
    Nul,
}

/// Makes the header and body of an `EXEC` request.
///
/// # Errors
/// The request cannot be encoded.
pub fn exec(id: u64, exec: &Exec<'_>) -> Result<(Header, Vec<u8>), EncodeError> {
    let count = |length: usize| u32::try_from(length).map_err(|_| EncodeError::TooLong(length));
    let head = ExecHead {
        flags: exec.flags,
        uid: exec.uid,
        gid: exec.gid,
        rows: exec.size.0,
        cols: exec.size.1,
        groups: count(exec.groups.len())?,
        argc: count(exec.argv.len())?,
        envc: count(exec.env.len())?,
    };
    let mut body = head.to_bytes().to_vec();
    for group in exec.groups {
        body.extend_from_slice(&group.to_le_bytes());
    }
    let strings = [exec.cwd, exec.path]
        .into_iter()
        .chain(exec.argv.iter().copied())
        .chain(exec.env.iter().map(Vec::as_slice));
    for string in strings {
        if string.contains(&0) {
            return Err(EncodeError::Nul);
        }
        body.extend_from_slice(string);
        body.push(0);
    }
    Ok((header(request::EXEC, id, body.len())?, body))
}

/// Makes the header and body of an `OPEN` request. `flags` are those of open(2).
///
/// # Errors
/// The request cannot be encoded.
pub fn open(id: u64, path: &[u8], flags: u32, mode: u32) -> Result<(Header, Vec<u8>), EncodeError> {
    if path.contains(&0) {
        return Err(EncodeError::Nul);
    }
    let mut body = Vec::with_capacity(path.len() + 9);
    body.extend_from_slice(&flags.to_le_bytes());
    body.extend_from_slice(&mode.to_le_bytes());
    body.extend_from_slice(path);
    body.push(0);
    Ok((header(request::OPEN, id, body.len())?, body))
}

/// A listener inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix stream socket: its path, or a NUL and its abstract name.
    Unix(Vec<u8>),
}

/// Makes the header and body of a `DIAL` request.
///
/// # Errors
/// The request cannot be encoded.
pub fn dial(id: u64, listener: &Listener) -> Result<(Header, Vec<u8>), EncodeError> {
    let body = match listener {
        Listener::Tcp(address) => tcp(address),
        Listener::Unix(path) => {
            if path.iter().skip(1).any(|&byte| byte == 0) {
                return Err(EncodeError::Nul);
            }
            [&abi::family::UNIX.to_le_bytes(), path.as_slice(), &[0]].concat()
        }
    };
    Ok((header(request::DIAL, id, body.len())?, body))
}

/// Makes the header and body of a `LISTEN` request.
///
/// # Errors
/// None in practice, because such a request is short.
pub fn listen(id: u64, at: &SocketAddr) -> Result<(Header, Vec<u8>), EncodeError> {
    let body = tcp(at);
    Ok((header(request::LISTEN, id, body.len())?, body))
}

fn tcp(address: &SocketAddr) -> Vec<u8> {
    let body = |family: u32, scope: u32, address: &[u8], port: u16| {
        let numbers = [family, u32::from(port), scope].map(u32::to_le_bytes);
        [numbers.as_flattened(), address].concat()
    };
    match address {
        SocketAddr::V4(at) => body(abi::family::INET, 0, &at.ip().octets(), at.port()),
        SocketAddr::V6(at) => body(abi::family::INET6, at.scope_id(), &at.ip().octets(), at.port()),
    }
}

/// Makes the header and body of a `SIGNAL` request. `scope` is one of [`abi::scope`].
#[must_use]
pub fn signal(id: u64, signal: u32, scope: u32) -> (Header, Vec<u8>) {
    let mut body = signal.to_le_bytes().to_vec();
    body.extend_from_slice(&scope.to_le_bytes());
    (Header { body_len: 8, kind: request::SIGNAL, id }, body)
}

/// Makes the header and body of a `KILL_ALL` request.
#[must_use]
pub fn kill_all(id: u64, signal: u32) -> (Header, Vec<u8>) {
    (Header { body_len: 4, kind: request::KILL_ALL, id }, signal.to_le_bytes().to_vec())
}

/// Makes a request that PID 1 answers if it is alive.
#[must_use]
pub fn ping(id: u64) -> Header {
    Header { body_len: 0, kind: request::PING, id }
}

/// Makes a request to freeze all processes of the build.
#[must_use]
pub fn freeze(id: u64) -> Header {
    Header { body_len: 0, kind: request::FREEZE, id }
}

/// Makes a request that asks whether any process lives in the container.
#[must_use]
pub fn census(id: u64) -> Header {
    Header { body_len: 0, kind: request::CENSUS, id }
}

/// Makes a request to thaw all processes.
#[must_use]
pub fn thaw() -> Header {
    Header { body_len: 0, kind: request::THAW, id: 0 }
}

fn header(kind: u32, id: u64, length: usize) -> Result<Header, EncodeError> {
    match u32::try_from(length) {
        Ok(body_len) if length <= MAX_BODY => Ok(Header { body_len, kind, id }),
        _ => Err(EncodeError::TooLong(length)),
    }
}

/// How a program ended, from the kernel's wait status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Decodes a wait status.
    #[must_use]
    pub fn from_wait_status(status: u32) -> Self {
        let signal = (status & 0x7f) as i32;
        if signal == 0 { Exit::Code((status >> 8 & 0xff) as i32) } else { Exit::Signal(signal) }
    }

    /// The exit code as shells report it: the code, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Exit::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Exit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// The operation in which PID 1 failed, in words that follow "cannot".
#[must_use]
pub fn stage_name(stage: u32) -> &'static str {
    match stage {
        abi::stage::FORK => "make a process in the container",
        abi::stage::PTY => "open a terminal in the container",
        abi::stage::STDIO => "set up standard input and output",
        abi::stage::USER => "become the user",
        abi::stage::CHDIR => "enter the working directory",
        abi::stage::EXEC => "execute the program",
        abi::stage::OPEN => "open the path",
        abi::stage::DIAL => "connect",
        abi::stage::LISTEN => "listen",
        abi::stage::FREEZE => "stop every process of the build",
        abi::stage::LOST => "keep the process alive until it had answered",
        _ => "understand the request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read_as_the_kernel_writes_them() {
        assert_eq!(Exit::from_wait_status(0), Exit::Code(0));
        assert_eq!(Exit::from_wait_status(255 << 8), Exit::Code(255));
        assert_eq!(Exit::from_wait_status(9), Exit::Signal(9));
        assert_eq!(Exit::from_wait_status(0x80 | 11), Exit::Signal(11));
        assert_eq!(Exit::Signal(15).shell_code(), 143);
    }

    #[test]
    fn a_nul_in_a_string_is_refused() {
        let request = Exec {
            flags: 0,
            uid: 0,
            gid: 0,
            groups: &[],
            size: (0, 0),
            cwd: b"/",
            path: b"",
            argv: vec![b"a\0b"],
            env: Vec::new(),
        };
        assert_eq!(exec(1, &request).err(), Some(EncodeError::Nul));
        assert_eq!(open(1, b"/a\0", 0, 0).err(), Some(EncodeError::Nul));
    }
}
