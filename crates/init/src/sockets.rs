//! Sockets for 32-bit programs, whose C libraries request them with socketcall(2).
//!
//! There the family is in the program's memory, where a filter cannot look; so the filter leaves
//! the call to PID 1. `pid1` takes it and has a child process answer it (here), which may wait for
//! that memory: the child reads the request, checks it as the filter checks all others
//! (`abi::sockets`), makes the socket itself, so that the checked request is the one carried out,
//! and hands it over. If the child fails, `pid1` refuses the call.

use crate::abi::sockets::refusal;
use crate::digits;
use crate::sys::listener::{
    self, SeccompNotice, act_for, hand_over, is_waiting, read_words, socket,
};
use crate::sys::{self, Errno, Fd, SysResult};

/// The instruction set of 32-bit programs, and its socketcall(2).
const I386: u32 = 0x4000_0003;
const SOCKETCALL: i32 = 102;
/// The subcall that makes a socket.
const SOCKET: u64 = 1;
/// `SOCK_CLOEXEC` in a socket's type.
const CLOSES_ON_EXEC: u32 = 0o2_000_000;

/// Most calls answered at once; more wait in the kernel.
const MOST: usize = 32;

/// Calls being answered by children.
pub(crate) struct Sockets {
    listener: Fd,
    /// Each child, 0 if the slot is free, and its call.
    answering: [(i32, u64); MOST],
}

impl Sockets {
    pub(crate) fn new(listener: Fd) -> Self {
        Sockets { listener, answering: [(0, 0); MOST] }
    }

    /// The descriptor that reports the next call; `None` while there is no room for one.
    pub(crate) fn source(&self) -> Option<&Fd> {
        self.answering.iter().any(|(pid, _)| *pid == 0).then_some(&self.listener)
    }

    /// Takes a call and starts a child to answer it.
    pub(crate) fn take(&mut self) {
        let Some(place) = self.answering.iter().position(|(pid, _)| *pid == 0) else { return };
        // An error means that the call was given up meanwhile.
        let Ok(notice) = listener::next(&self.listener) else { return };
        match sys::fork() {
            Ok(0) => answer(&self.listener, &notice),
            Ok(pid) => self.answering[place] = (pid, notice.id),
            Err(errno) => listener::refuse(&self.listener, notice.id, errno),
        }
    }

    /// Notes a child's death. Returns whether it was one of these.
    pub(crate) fn bury(&mut self, pid: i32) -> bool {
        let Some(place) = self.answering.iter().position(|(child, _)| *child == pid) else {
            return false;
        };
        let (_, id) = core::mem::take(&mut self.answering[place]);
        // It may have been killed before it answered.
        listener::refuse(&self.listener, id, Errno::AGAIN);
        true
    }
}

fn answer(listener: &Fd, notice: &SeccompNotice) -> ! {
    if let Err(errno) = make(listener, notice) {
        listener::refuse(listener, notice.id, errno);
    }
    sys::exit(0)
}

fn make(listener: &Fd, notice: &SeccompNotice) -> SysResult<()> {
    let [call, at, ..] = notice.arguments;
    if (notice.arch, notice.number, call & 0xffff_ffff) != (I386, SOCKETCALL, SOCKET) {
        return Err(Errno::NOSYS);
    }
    let mut arguments = [0; 3];
    read_words(notice.thread, at as u32 as usize, &mut arguments)?;
    let status = ThreadStatus::of(notice.thread)?;
    // The call still waits, so the memory read was the caller's.
    if !is_waiting(listener, notice.id) {
        return Err(Errno::NOENT);
    }
    let [family, kind, protocol] = arguments;
    if let Some(errno) = refusal(family, protocol) {
        return Err(Errno(errno));
    }
    act_for(status.uid, status.gid, status.capabilities)?;
    let socket = socket(family, kind, protocol)?;
    hand_over(listener, notice.id, &socket, kind & CLOSES_ON_EXEC != 0)
}

/// A thread's ids and capabilities.
#[derive(Debug, PartialEq, Eq)]
struct ThreadStatus {
    /// The file system user: the owner of what it makes.
    uid: u32,
    /// The effective group.
    gid: u32,
    /// The effective capabilities.
    capabilities: u64,
}

impl ThreadStatus {
    fn of(thread: u32) -> SysResult<Self> {
        let mut path = [0; 24];
        let thread = i32::try_from(thread).map_err(|_| Errno::INVAL)?;
        let end = digits::write(thread, &mut path).ok_or(Errno::INVAL)?;
        path[end..end + 8].copy_from_slice(b"/status\0");
        let file = sys::open_below(&sys::open_proc()?, &path[..end + 8])?;
        let mut text = [0; 4096];
        let length = sys::read(&file, &mut text)?;
        Self::read(&text[..length]).ok_or(Errno::INVAL)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let line = |name: &[u8]| {
            let mut lines = text.split(|&byte| byte == b'\n');
            lines.find_map(|line| line.strip_prefix(name))
        };
        let number = |name, place| {
            let mut words = line(name)?.split(|&byte| byte == b'\t').skip(1);
            unsigned(words.nth(place)?)
        };
        // Real, effective, saved, file system.
        Some(ThreadStatus {
            uid: number(b"Uid:", 3)?,
            gid: number(b"Gid:", 1)?,
            capabilities: hexadecimal(line(b"CapEff:\t")?)?,
        })
    }
}

fn unsigned(digits: &[u8]) -> Option<u32> {
    let digit = |byte: u8| (byte as char).to_digit(10);
    digits.iter().try_fold(0_u32, |sum, &byte| sum.checked_mul(10)?.checked_add(digit(byte)?))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    digits.iter().try_fold(0, |sum: u64, &byte| {
        (sum >> 60 == 0).then_some(sum << 4 | u64::from(digit(byte)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_its_names() {
        let text = b"Name:\tUid:\t7\nUmask:\t0022\nUid:\t1\t2\t3\t4294967294\nGid:\t5\t6\t7\t8\n\
                     Groups:\t9 \nCapPrm:\t00000000a80425fb\nCapEff:\t00000001a80425fb\n";
        let status = ThreadStatus { uid: 4_294_967_294, gid: 6, capabilities: 0x1_a804_25fb };
        assert_eq!(ThreadStatus::read(text), Some(status));
        assert_eq!(ThreadStatus::read(&text[..80]), None);
        assert_eq!(ThreadStatus::read(b"Uid:\t1\t2\t3\tx\nGid:\t5\t6\nCapEff:\t0\n"), None);
        assert_eq!(unsigned(b"4294967296"), None);
        assert_eq!(hexadecimal(b"11111111111111111"), None);
    }
}
