//! System calls on the pipes, sockets and terminals that `relay` passes on.
//!
//! A part of `sys`.

use super::dial::{self, Address, UNIX_PATH_MAX};
use super::{
    Errno, Fd, IoVec, MSG_DONTWAIT, MSG_NOSIGNAL, MsgHdr, O_CLOEXEC, O_NONBLOCK, POLLIN, PollFd,
    RIGHTS_HEAD, RightsMsg, SCM_RIGHTS, SOL_SOCKET, SysResult, checked, plain,
};
use crate::arch::{nr, syscall};

const F_GETFL: usize = 3;
const F_SETFL: usize = 4;

/// Listens at a path, which must be free.
pub(crate) fn listen(path: &[u8]) -> SysResult<Fd> {
    dial::listen(&Address::unix(path).ok_or(Errno::NAMETOOLONG)?)
}

/// Removes a listener's path; connections stay.
pub(crate) fn unname(path: &[u8]) {
    const AT_FDCWD: usize = -100_isize as usize;
    let mut text = [0; UNIX_PATH_MAX + 1];
    if let Some(space) = text[..UNIX_PATH_MAX].get_mut(..path.len()) {
        space.copy_from_slice(path);
        // SAFETY: the last byte is a NUL, whatever comes before. A path that stays does no harm.
        let _ = unsafe { syscall(nr::UNLINKAT, [AT_FDCWD, text.as_ptr() as usize, 0, 0, 0, 0]) };
    }
}

/// The next connection.
pub(crate) fn accept(listener: &Fd) -> SysResult<Fd> {
    plain(nr::ACCEPT4, [listener.arg(), 0, 0, O_CLOEXEC, 0, 0]).map(|number| Fd(number as i32))
}

/// Waits until there is something to read; fails after this many milliseconds.
pub(crate) fn wait_to_read(fd: &Fd, milliseconds: u32) -> SysResult<()> {
    let time = [u64::from(milliseconds / 1000), u64::from(milliseconds % 1000) * 1_000_000];
    let mut polled = [PollFd::new(fd, POLLIN)];
    let (at, until) = (polled.as_mut_ptr() as usize, time.as_ptr() as usize);
    // SAFETY: one entry is valid for reads and writes while the call runs, two numbers for reads.
    match checked(unsafe { syscall(nr::PPOLL, [at, 1, until, 0, 8, 0]) })? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// A pipe: its reading end and its writing end.
pub(crate) fn pipe() -> SysResult<(Fd, Fd)> {
    let mut fds = [0_i32; 2];
    // SAFETY: the kernel writes two numbers into `fds`.
    checked(unsafe { syscall(nr::PIPE2, [fds.as_mut_ptr() as usize, O_CLOEXEC, 0, 0, 0, 0]) })?;
    Ok((Fd(fds[0]), Fd(fds[1])))
}

/// Makes reads and writes fail instead of blocking.
pub(crate) fn never_wait(fd: &Fd) -> SysResult<()> {
    let flags = plain(nr::FCNTL, [fd.arg(), F_GETFL, 0, 0, 0, 0])?;
    plain(nr::FCNTL, [fd.arg(), F_SETFL, flags | O_NONBLOCK, 0, 0, 0]).map(drop)
}

/// Whether it was opened for writing.
pub(crate) fn is_writable(fd: &Fd) -> bool {
    const O_ACCMODE: usize = 3;
    plain(nr::FCNTL, [fd.arg(), F_GETFL, 0, 0, 0, 0]).is_ok_and(|flags| flags & O_ACCMODE != 0)
}

/// The number of bytes ready to be read.
pub(crate) fn readable(fd: &Fd) -> usize {
    const FIONREAD: usize = 0x541B;
    let mut count = 0_i32;
    let to = &raw mut count as usize;
    // SAFETY: the call writes one number.
    let asked = checked(unsafe { syscall(nr::IOCTL, [fd.arg(), FIONREAD, to, 0, 0, 0]) });
    if asked.is_ok() { count.max(0) as usize } else { 0 }
}

/// Tells the other end that no more bytes follow.
pub(crate) fn end_writing(socket: &Fd) {
    const SHUT_WR: usize = 1;
    // The other end may be gone.
    let _ = plain(nr::SHUTDOWN, [socket.arg(), SHUT_WR, 0, 0, 0, 0]);
}

pub(crate) fn write_at(file: &Fd, bytes: &[u8], at: u64) -> SysResult<usize> {
    let args = [file.arg(), bytes.as_ptr() as usize, bytes.len(), at as usize, 0, 0];
    // SAFETY: the slice is valid for its length while the call runs.
    checked(unsafe { syscall(nr::PWRITE64, args) })
}

/// Sends bytes and up to three descriptors. Never blocks.
pub(crate) fn send_with(socket: &Fd, bytes: &[u8], fds: &[i32]) -> SysResult<usize> {
    let iov = IoVec { base: bytes.as_ptr() as usize, len: bytes.len() };
    let mut rights = RightsMsg {
        len: RIGHTS_HEAD + size_of_val(fds),
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fds: [0; 4],
    };
    rights.fds.get_mut(..fds.len()).ok_or(Errno::INVAL)?.copy_from_slice(fds);
    let has_fds = !fds.is_empty();
    let message = MsgHdr {
        name: 0,
        name_len: 0,
        iov: &raw const iov as usize,
        iov_len: 1,
        control: if has_fds { &raw const rights as usize } else { 0 },
        control_len: if has_fds { rights.len.next_multiple_of(size_of::<usize>()) } else { 0 },
        flags: 0,
    };
    let how = MSG_DONTWAIT | MSG_NOSIGNAL;
    // SAFETY: `message` and everything it points to live until the call returns.
    checked(unsafe {
        syscall(nr::SENDMSG, [socket.arg(), &raw const message as usize, how, 0, 0, 0])
    })
}
