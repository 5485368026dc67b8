//! The listener of a system call filter, and the calls needed to act for another process.
//!
//! A part of `sys`, made for `sockets`.

use super::{Errno, Fd, IoVec, SysResult, checked, plain};
use crate::arch::{nr, syscall};

/// A system call that waits for an answer, in the kernel's layout.
#[repr(C)]
#[derive(Default)]
pub(crate) struct SeccompNotice {
    pub(crate) id: u64,
    /// The thread that made the call.
    pub(crate) thread: u32,
    flags: u32,
    pub(crate) number: i32,
    pub(crate) arch: u32,
    instruction: u64,
    pub(crate) arguments: [u64; 6],
}

#[repr(C)]
struct NotifyAnswer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct Added {
    id: u64,
    flags: u32,
    from: i32,
    to: u32,
    to_flags: u32,
}

const RECEIVE: usize = 0xc050_2100;
const ANSWER: usize = 0xc018_2101;
const IS_VALID: usize = 0x4008_2102;
const ADD: usize = 0x4018_2103;
/// The added descriptor is the call's result.
const ADD_AND_ANSWER: u32 = 2;

/// The next call. Does not block if the descriptor is readable and nothing else reads it: every
/// call can be taken once, and one that was given up meanwhile returns an error.
pub(crate) fn next(listener: &Fd) -> SysResult<SeccompNotice> {
    let mut notice = SeccompNotice::default();
    // SAFETY: the kernel writes one notice, of the size in the request's number, over zeros.
    checked(unsafe {
        syscall(nr::IOCTL, [listener.arg(), RECEIVE, &raw mut notice as usize, 0, 0, 0])
    })?;
    Ok(notice)
}

/// Whether the call still waits, so that its thread's id cannot have been reused.
pub(crate) fn is_waiting(listener: &Fd, id: u64) -> bool {
    // SAFETY: the kernel reads one number.
    checked(unsafe {
        syscall(nr::IOCTL, [listener.arg(), IS_VALID, &raw const id as usize, 0, 0, 0])
    })
    .is_ok()
}

/// Ends a call with an error. Ignores a call that has been answered.
pub(crate) fn refuse(listener: &Fd, id: u64, errno: Errno) {
    let answer = NotifyAnswer { id, value: 0, error: -errno.0, flags: 0 };
    // SAFETY: the kernel reads one answer, of the size in the request's number.
    let _ = checked(unsafe {
        syscall(nr::IOCTL, [listener.arg(), ANSWER, &raw const answer as usize, 0, 0, 0])
    });
}

/// Ends a call with a duplicate of `fd`.
pub(crate) fn hand_over(listener: &Fd, id: u64, fd: &Fd, closes_on_exec: bool) -> SysResult<()> {
    let to_flags = if closes_on_exec { super::O_CLOEXEC as u32 } else { 0 };
    let added = Added { id, flags: ADD_AND_ANSWER, from: fd.0, to: 0, to_flags };
    // SAFETY: the kernel reads one such request, of the size in its number.
    checked(unsafe {
        syscall(nr::IOCTL, [listener.arg(), ADD, &raw const added as usize, 0, 0, 0])
    })
    .map(drop)
}

/// Reads another process's memory: all of `words` or nothing.
pub(crate) fn read_words(thread: u32, at: usize, words: &mut [u32]) -> SysResult<()> {
    let len = size_of_val(words);
    let here = IoVec { base: words.as_mut_ptr() as usize, len };
    let there = IoVec { base: at, len };
    let (here, there) = (&raw const here as usize, &raw const there as usize);
    // SAFETY: the kernel writes only into `words`; the other address is in the other process.
    let got =
        checked(unsafe { syscall(nr::PROCESS_VM_READV, [thread as usize, here, 1, there, 1, 0]) })?;
    if got == len { Ok(()) } else { Err(Errno::FAULT) }
}

pub(crate) fn socket(family: u32, kind: u32, protocol: u32) -> SysResult<Fd> {
    const SOCK_CLOEXEC: u32 = super::O_CLOEXEC as u32;
    let kind = (kind | SOCK_CLOEXEC) as usize;
    let made = plain(nr::SOCKET, [family as usize, kind, protocol as usize, 0, 0, 0])?;
    Ok(Fd(made as i32))
}

/// Takes on another process's identity as far as sockets depend on it: its group, its file system
/// user, and no more capabilities than it has.
pub(crate) fn act_for(uid: u32, gid: u32, capabilities: u64) -> SysResult<()> {
    // If the map has only one group, there are none to drop.
    let _ = plain(nr::SETGROUPS, [0; 6]);
    let gid = gid as usize;
    plain(nr::SETRESGID, [gid, gid, gid, 0, 0, 0])?;
    // This call returns the previous value instead of an error.
    plain(nr::SETFSUID, [uid as usize, 0, 0, 0, 0, 0])?;
    let mut sets = capability_sets()?;
    for (set, half) in sets.iter_mut().zip([capabilities as u32, (capabilities >> 32) as u32]) {
        *set = Capabilities {
            effective: set.effective & half,
            permitted: set.permitted,
            inheritable: 0,
        };
    }
    set_capabilities(&sets)
}

/// Clears the inheritable capabilities, so that no later program gets them.
pub(crate) fn end_inheritance() -> SysResult<()> {
    let mut sets = capability_sets()?;
    for set in &mut sets {
        set.inheritable = 0;
    }
    set_capabilities(&sets)
}

/// Half of this process's capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Capabilities {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The version of the layout, and 0 for this process.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

fn capability_sets() -> SysResult<[Capabilities; 2]> {
    let mut sets = [Capabilities::default(); 2];
    // SAFETY: the kernel reads the header and writes two halves, as its version says.
    checked(unsafe {
        let header = CAPABILITY_HEADER.as_ptr() as usize;
        syscall(nr::CAPGET, [header, sets.as_mut_ptr() as usize, 0, 0, 0, 0])
    })?;
    Ok(sets)
}

fn set_capabilities(sets: &[Capabilities; 2]) -> SysResult<()> {
    // SAFETY: the kernel reads the header and two halves, as its version says.
    checked(unsafe {
        let header = CAPABILITY_HEADER.as_ptr() as usize;
        syscall(nr::CAPSET, [header, sets.as_ptr() as usize, 0, 0, 0, 0])
    })
    .map(drop)
}
