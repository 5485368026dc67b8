//! `codebuild-breakpoint` and `codebuild-resume`, the commands a build calls.
//!
//! Called by a command of the build; talks to the runner over the shim socket (`abi::shim`).
//! Without that socket sessions are off, and both do nothing and succeed, as in AWS.

use crate::abi::{SHIM_SOCKET, shim};
use crate::digits;
use crate::place;
use crate::strings::Strings;
use crate::sys::{self, Errno, Fd, POLLIN, Pages, PollFd};

const OK: i32 = 0;
const FAILED: i32 = 1;
/// Longest working directory that the kernel reports, in bytes.
const PATH_MAX: usize = 4096;

/// Blocks until the runner resumes the build.
pub(crate) fn breakpoint(environment: Strings) -> i32 {
    let Some(runner) = connect() else { return OK };
    let Ok(message) = describe(environment) else {
        sys::complain(b"codebuild-breakpoint: no memory to tell the runner about this process\n");
        return FAILED;
    };
    if !send_all(&runner, message.bytes()) {
        sys::complain(b"codebuild-breakpoint: the runner does not listen any more\n");
        return FAILED;
    }
    match answer(&runner) {
        Some(shim::RESUMED) => OK,
        Some(shim::TOO_MANY) => {
            sys::complain(b"codebuild-breakpoint: too many breakpoints wait already\n");
            FAILED
        }
        _ => {
            sys::complain(b"codebuild-breakpoint: the runner is gone\n");
            FAILED
        }
    }
}

/// Resumes the longest waiting breakpoint.
pub(crate) fn resume() -> i32 {
    let Some(runner) = connect() else { return OK };
    let mut head = [0; shim::HEAD_LEN];
    head[4..].copy_from_slice(&shim::RESUME.to_le_bytes());
    if !send_all(&runner, &head) {
        sys::complain(b"codebuild-resume: the runner does not listen any more\n");
        return FAILED;
    }
    match answer(&runner) {
        Some(shim::RESUMED) => {
            sys::complain(b"codebuild-resume: the build goes on\n");
            OK
        }
        Some(shim::ONE_RESUMED) => {
            sys::complain(b"codebuild-resume: one breakpoint is released; another still waits\n");
            OK
        }
        Some(shim::NOTHING_PAUSED) => {
            sys::complain(b"codebuild-resume: nothing is paused\n");
            OK
        }
        _ => {
            sys::complain(b"codebuild-resume: the runner did not answer\n");
            FAILED
        }
    }
}

/// Connects to the socket, which lies beside this program's directory, however deep and whatever
/// its name.
fn connect() -> Option<Fd> {
    let place = place::above_own()?;
    // Through the descriptor: a socket's address holds at most 107 bytes.
    let mut address = [0; 64];
    let mut at = 0;
    let mut number = [0; 10];
    let number = {
        let length = digits::write(place.number(), &mut number)?;
        &number[..length]
    };
    for piece in [b"/proc/self/fd/", number, b"/", SHIM_SOCKET.as_bytes()] {
        address.get_mut(at..at + piece.len())?.copy_from_slice(piece);
        at += piece.len();
    }
    sys::connect(&address[..at]).ok()
}

/// The message with the process's user, directory and variables.
fn describe(environment: Strings) -> sys::SysResult<Pages> {
    const FIXED: usize = shim::HEAD_LEN + 8;
    let variables: usize = environment.clone().map(|variable| variable.len() + 1).sum();
    let mut directory = [0; PATH_MAX];
    // If the directory is gone or deeper than the kernel reports, use the root.
    let directory = match sys::working_directory(&mut directory) {
        Ok(length) if directory[0] == b'/' => &directory[..length],
        _ => b"/\0",
    };
    let mut length = FIXED + directory.len() + variables;
    // An environment too large for the runner is left out; the runner then shows its own copy.
    let fits = length - shim::HEAD_LEN <= shim::MAX_BODY;
    if !fits {
        length -= variables;
    }
    let mut message = Pages::new(length)?;
    let bytes = message.bytes_mut();
    let body = (length - shim::HEAD_LEN) as u32;
    bytes[0..4].copy_from_slice(&body.to_le_bytes());
    bytes[4..8].copy_from_slice(&shim::BREAKPOINT.to_le_bytes());
    bytes[8..12].copy_from_slice(&sys::uid().to_le_bytes());
    bytes[12..16].copy_from_slice(&sys::gid().to_le_bytes());
    let mut at = FIXED;
    bytes[at..at + directory.len()].copy_from_slice(directory);
    at += directory.len();
    for variable in environment.take_while(|_| fits) {
        bytes[at..at + variable.len()].copy_from_slice(variable);
        at += variable.len() + 1;
    }
    Ok(message)
}

fn send_all(runner: &Fd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match sys::send(runner, bytes, None) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => {
                let _ = sys::poll(&mut [PollFd::new(runner, sys::POLLOUT)]);
            }
            Err(Errno::INTR) => {}
            // The runner may have replied and hung up before reading everything; the reply decides.
            Err(_) => return bytes.is_empty() || has_answer(runner),
        }
    }
    true
}

fn has_answer(runner: &Fd) -> bool {
    let mut ready = [PollFd::new(runner, POLLIN)];
    sys::poll(&mut ready).is_ok() && ready[0].ready(POLLIN)
}

fn answer(runner: &Fd) -> Option<u8> {
    let mut byte = [0];
    loop {
        match sys::read(runner, &mut byte) {
            Ok(1) => return Some(byte[0]),
            Err(Errno::INTR) => {}
            _ => return None,
        }
    }
}
