//! The system calls this program makes, each as a function that cannot be misused from safe code.
//!
//! Used by every other module; depends on `arch_*` alone. A failed call is an [`Errno`].

pub(crate) mod dial;
mod files;
pub(crate) mod listener;
pub(crate) mod nodes;
pub(crate) mod stream;

pub(crate) use files::{
    change_directory, list, open_below, open_directory, open_directory_below, open_file_below,
    open_for_runner, open_null, open_place, open_proc, own_path, working_directory,
};

use crate::arch::{nr, syscall};
use files::c_path;

/// The kernel's reason for a refusal, as a positive number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub(crate) const PERM: Errno = Errno(1);
    pub(crate) const SRCH: Errno = Errno(3);
    pub(crate) const NOSYS: Errno = Errno(38);
    pub(crate) const NOENT: Errno = Errno(2);
    pub(crate) const INTR: Errno = Errno(4);
    pub(crate) const NXIO: Errno = Errno(6);
    pub(crate) const TOOBIG: Errno = Errno(7);
    pub(crate) const NOEXEC: Errno = Errno(8);
    pub(crate) const AGAIN: Errno = Errno(11);
    pub(crate) const ACCES: Errno = Errno(13);
    pub(crate) const FAULT: Errno = Errno(14);
    pub(crate) const EXIST: Errno = Errno(17);
    pub(crate) const NOTDIR: Errno = Errno(20);
    pub(crate) const ISDIR: Errno = Errno(21);
    pub(crate) const INVAL: Errno = Errno(22);
    pub(crate) const FBIG: Errno = Errno(27);
    pub(crate) const NAMETOOLONG: Errno = Errno(36);
    pub(crate) const LOOP: Errno = Errno(40);
    pub(crate) const STALE: Errno = Errno(116);
}

pub(crate) type SysResult<T> = core::result::Result<T, Errno>;

pub(crate) const SIGCHLD: i32 = 17;

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;
pub(crate) const POLLHUP: i16 = 16;

const O_RDWR: usize = 2;
const O_NOCTTY: usize = 0o400;
const O_NONBLOCK: usize = 0o4000;
const O_CLOEXEC: usize = 0o2_000_000;

/// A descriptor, closed when dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Fd(i32);

impl Fd {
    /// Takes over a descriptor that nothing else closes.
    pub(crate) fn from_number(number: i32) -> Self {
        Fd(number)
    }

    /// Gives the number away; nothing closes it any more.
    pub(crate) fn into_number(self) -> i32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }

    pub(crate) fn number(&self) -> i32 {
        self.0
    }

    fn arg(&self) -> usize {
        self.0 as usize
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: close takes a number only, and this value owns it.
        unsafe { syscall(nr::CLOSE, [self.arg(), 0, 0, 0, 0, 0]) };
    }
}

/// Makes a call that takes only numbers, so that no memory can be misused.
fn plain(nr: usize, args: [usize; 6]) -> SysResult<usize> {
    // SAFETY: every caller in this file passes numbers, not pointers, for this call.
    checked(unsafe { syscall(nr, args) })
}

fn checked(result: isize) -> SysResult<usize> {
    if result < 0 { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = plain(nr::EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]);
    }
}

pub(crate) fn write(fd: &Fd, bytes: &[u8]) -> SysResult<usize> {
    // SAFETY: the slice is valid for its length while the call runs.
    checked(unsafe {
        syscall(nr::WRITE, [fd.arg(), bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
    })
}

pub(crate) fn read(fd: &Fd, bytes: &mut [u8]) -> SysResult<usize> {
    // SAFETY: the slice is valid for writes of its length while the call runs.
    checked(unsafe {
        syscall(nr::READ, [fd.arg(), bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0])
    })
}

/// Writes a line to standard error. Errors are ignored, because nobody could act on them.
pub(crate) fn complain(text: &[u8]) {
    let stderr = Fd(2);
    let _ = write(&stderr, text);
    core::mem::forget(stderr);
}

/// Writes to standard output: everything, unless nobody reads it.
pub(crate) fn say(mut text: &[u8]) {
    let stdout = Fd(1);
    while let Ok(written @ 1..) = write(&stdout, text) {
        text = &text[written..];
        if text.is_empty() {
            break;
        }
    }
    core::mem::forget(stdout);
}

/// Memory straight from the kernel, zeroed, freed when dropped.
pub(crate) struct Pages {
    at: *mut u8,
    len: usize,
}

impl Pages {
    pub(crate) fn new(len: usize) -> SysResult<Self> {
        const PROT_READ_WRITE: usize = 3;
        const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
        let len = len.max(1);
        let at = plain(nr::MMAP, [0, len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, usize::MAX, 0])?;
        Ok(Pages { at: at as *mut u8, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `len` readable, initialised bytes that this value alone owns.
        unsafe { core::slice::from_raw_parts(self.at, self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes this the only view.
        unsafe { core::slice::from_raw_parts_mut(self.at, self.len) }
    }

    /// The same memory as words; a mapping starts at a page, so it is aligned.
    pub(crate) fn words_mut(&mut self) -> &mut [usize] {
        let words = self.len / size_of::<usize>();
        // SAFETY: aligned, owned, initialised, and any bytes make a number.
        unsafe { core::slice::from_raw_parts_mut(self.at.cast(), words) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = plain(nr::MUNMAP, [self.at as usize, self.len, 0, 0, 0, 0]);
    }
}

#[repr(C)]
pub(crate) struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

impl PollFd {
    pub(crate) fn new(fd: &Fd, events: i16) -> Self {
        PollFd { fd: fd.0, events, revents: 0 }
    }

    /// An entry that waits for nothing.
    pub(crate) const fn idle() -> Self {
        PollFd { fd: -1, events: 0, revents: 0 }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.revents != 0
    }

    pub(crate) fn ready(&self, events: i16) -> bool {
        self.revents & events != 0
    }
}

/// Waits, without a time limit, until one of the descriptors is ready.
pub(crate) fn poll(fds: &mut [PollFd]) -> SysResult<usize> {
    // SAFETY: the slice is valid for reads and writes while the call runs; no time, no mask.
    checked(unsafe { syscall(nr::PPOLL, [fds.as_mut_ptr() as usize, fds.len(), 0, 0, 8, 0]) })
}

#[repr(C)]
struct IoVec {
    base: usize,
    len: usize,
}

#[repr(C)]
struct MsgHdr {
    name: usize,
    name_len: usize,
    iov: usize,
    iov_len: usize,
    control: usize,
    control_len: usize,
    flags: usize,
}

/// A control message with room for three descriptors, in the kernel's alignment.
#[repr(C, align(8))]
struct RightsMsg {
    len: usize,
    level: i32,
    kind: i32,
    fds: [i32; 4],
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const RIGHTS_HEAD: usize = 16;
const MSG_CTRUNC: usize = 8;
const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;

/// Sends bytes, with a descriptor if given. Never blocks.
pub(crate) fn send(socket: &Fd, bytes: &[u8], fd: Option<&Fd>) -> SysResult<usize> {
    let iov = IoVec { base: bytes.as_ptr() as usize, len: bytes.len() };
    let mut rights = RightsMsg {
        len: RIGHTS_HEAD + size_of::<i32>(),
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fds: [0; 4],
    };
    let mut message = MsgHdr {
        name: 0,
        name_len: 0,
        iov: &raw const iov as usize,
        iov_len: 1,
        control: 0,
        control_len: 0,
        flags: 0,
    };
    if let Some(fd) = fd {
        rights.fds[0] = fd.0;
        message.control = &raw const rights as usize;
        message.control_len = RIGHTS_HEAD + size_of::<usize>();
    }
    // SAFETY: `message` and everything it points to live until the call returns.
    checked(unsafe {
        syscall(
            nr::SENDMSG,
            [socket.arg(), &raw const message as usize, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0, 0],
        )
    })
}

/// Receives bytes and up to three descriptors. Never blocks. Zero bytes mean that the other end is
/// closed. More descriptors than expected are an error.
pub(crate) fn receive(
    socket: &Fd,
    bytes: &mut [u8],
    fds: &mut [Option<Fd>; crate::abi::MAX_FDS],
) -> SysResult<usize> {
    let iov = IoVec { base: bytes.as_mut_ptr() as usize, len: bytes.len() };
    let mut rights = RightsMsg { len: 0, level: 0, kind: 0, fds: [0; 4] };
    let mut message = MsgHdr {
        name: 0,
        name_len: 0,
        iov: &raw const iov as usize,
        iov_len: 1,
        control: &raw mut rights as usize,
        control_len: RIGHTS_HEAD + size_of::<i32>() * crate::abi::MAX_FDS,
        flags: 0,
    };
    // SAFETY: `message` and everything it points to live until the call returns, writable where the
    // kernel writes.
    let got = checked(unsafe {
        syscall(
            nr::RECVMSG,
            [socket.arg(), &raw mut message as usize, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0, 0, 0],
        )
    })?;
    if message.control_len >= RIGHTS_HEAD && rights.level == SOL_SOCKET && rights.kind == SCM_RIGHTS
    {
        let count = (rights.len.saturating_sub(RIGHTS_HEAD)) / size_of::<i32>();
        for (slot, number) in fds.iter_mut().zip(&rights.fds[..count.min(crate::abi::MAX_FDS)]) {
            *slot = Some(Fd(*number));
        }
    }
    if message.flags & MSG_CTRUNC != 0 { Err(Errno::TOOBIG) } else { Ok(got) }
}

fn pair(kind: usize) -> SysResult<(Fd, Fd)> {
    const AF_UNIX: usize = 1;
    let mut fds = [0_i32; 2];
    // SAFETY: the kernel writes two numbers into `fds`.
    checked(unsafe {
        syscall(nr::SOCKETPAIR, [AF_UNIX, kind, 0, fds.as_mut_ptr() as usize, 0, 0])
    })?;
    Ok((Fd(fds[0]), Fd(fds[1])))
}

/// Two connected ends that keep messages apart, close-on-exec.
pub(crate) fn message_pair() -> SysResult<(Fd, Fd)> {
    const SOCK_SEQPACKET_CLOEXEC: usize = 5 | O_CLOEXEC;
    pair(SOCK_SEQPACKET_CLOEXEC)
}

/// Connects to a unix socket by path.
pub(crate) fn connect(path: &[u8]) -> SysResult<Fd> {
    const SOCK_STREAM_CLOEXEC: usize = 1 | O_CLOEXEC;
    let mut address = [0_u8; 110];
    address[0] = 1;
    address.get_mut(2..2 + path.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(path);
    let socket = Fd(plain(nr::SOCKET, [1, SOCK_STREAM_CLOEXEC, 0, 0, 0, 0])? as i32);
    // SAFETY: the address is valid for its length while the call runs.
    checked(unsafe {
        syscall(nr::CONNECT, [socket.arg(), address.as_ptr() as usize, 3 + path.len(), 0, 0, 0])
    })?;
    Ok(socket)
}

/// Forks this process. The child gets `Ok(0)`.
///
/// Not vfork: the parent is PID 1, which must not wait while a child's exec hangs on a dead mount.
pub(crate) fn fork() -> SysResult<i32> {
    // SAFETY: with SIGCHLD alone this is fork: the child has its own copy of memory and stack.
    checked(unsafe { syscall(nr::CLONE, [SIGCHLD as usize, 0, 0, 0, 0, 0]) }).map(|pid| pid as i32)
}

/// Reaps the next ended child, with its wait status; `None` if all others still run.
pub(crate) fn reap() -> SysResult<Option<(i32, u32)>> {
    const WNOHANG: usize = 1;
    let mut status = 0_u32;
    // SAFETY: the kernel writes one number into `status`.
    let pid = checked(unsafe {
        syscall(nr::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0, 0, 0])
    })?;
    Ok(if pid == 0 { None } else { Some((pid as i32, status)) })
}

/// `pid` as in kill(2): below zero a group, -1 all other processes.
pub(crate) fn kill(pid: i32, signal: i32) -> SysResult<()> {
    plain(nr::KILL, [pid as usize, signal as usize, 0, 0, 0, 0]).map(drop)
}

pub(crate) fn session_of(pid: i32) -> SysResult<i32> {
    plain(nr::GETSID, [pid as usize, 0, 0, 0, 0, 0]).map(|sid| sid as i32)
}

pub(crate) fn pid() -> i32 {
    plain(nr::GETPID, [0; 6]).unwrap_or(0) as i32
}

pub(crate) fn uid() -> u32 {
    plain(nr::GETUID, [0; 6]).unwrap_or(0) as u32
}

pub(crate) fn gid() -> u32 {
    plain(nr::GETGID, [0; 6]).unwrap_or(0) as u32
}

/// Resets every signal to its default: a Rust parent ignores SIGPIPE, and exec would pass that on.
pub(crate) fn default_signals() {
    let default = [0_usize; 4];
    for signal in 1..=64 {
        // SAFETY: an all-zero action means SIG_DFL with no flags, for any signal. KILL and STOP are
        // refused, which does no harm.
        let _ = checked(unsafe {
            syscall(nr::RT_SIGACTION, [signal, default.as_ptr() as usize, 0, 8, 0, 0])
        });
    }
}

/// Makes a write without a reader an error instead of a fatal signal.
pub(crate) fn ignore_broken_pipes() {
    const SIGPIPE: usize = 13;
    const SIG_IGN: usize = 1;
    let action = [SIG_IGN, 0, 0, 0];
    // SAFETY: the kernel reads an action of four words.
    let _ = checked(unsafe {
        syscall(nr::RT_SIGACTION, [SIGPIPE, action.as_ptr() as usize, 0, 8, 0, 0])
    });
}

fn signal_mask(mask: u64) {
    const SIG_SETMASK: usize = 2;
    // SAFETY: the mask is 8 bytes, as the last argument says.
    let _ = checked(unsafe {
        syscall(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, 0, 8, 0, 0])
    });
}

/// Unblocks every signal, as a new program expects.
pub(crate) fn unblock_signals() {
    signal_mask(0);
}

/// Blocks SIGCHLD and returns the descriptor that becomes readable instead.
pub(crate) fn child_signals() -> SysResult<Fd> {
    const NONBLOCK_CLOEXEC: usize = O_NONBLOCK | O_CLOEXEC;
    let mask: u64 = 1 << (SIGCHLD - 1);
    signal_mask(mask);
    // SAFETY: the mask is 8 bytes, as the third argument says.
    checked(unsafe {
        syscall(nr::SIGNALFD4, [usize::MAX, &raw const mask as usize, 8, NONBLOCK_CLOEXEC, 0, 0])
    })
    .map(|fd| Fd(fd as i32))
}

/// Keeps other processes, root included, from reading this one through /proc.
pub(crate) fn hide_from_tracers() {
    const PR_SET_DUMPABLE: usize = 4;
    let _ = plain(nr::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0, 0]);
}

/// Sets the name shown in process lists.
pub(crate) fn set_name(name: &core::ffi::CStr) {
    const PR_SET_NAME: usize = 15;
    // SAFETY: the kernel reads a C string of at most 16 bytes.
    let _ =
        checked(unsafe { syscall(nr::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0, 0]) });
}

pub(crate) fn umask(mask: u32) {
    let _ = plain(nr::UMASK, [mask as usize, 0, 0, 0, 0, 0]);
}

/// Marks the descriptor close-on-exec.
pub(crate) fn close_on_exec(fd: &Fd) -> SysResult<()> {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    plain(nr::FCNTL, [fd.arg(), F_SETFD, FD_CLOEXEC, 0, 0, 0]).map(drop)
}

/// Copies `fd` to `number`, open across exec.
pub(crate) fn copy_to(fd: &Fd, number: i32) -> SysResult<()> {
    plain(nr::DUP3, [fd.arg(), number as usize, 0, 0, 0, 0]).map(drop)
}

/// Moves a descriptor to an expected number and closes what was there.
pub(crate) fn place(fd: Fd, number: i32) -> SysResult<()> {
    if fd.0 == number {
        fd.into_number();
        return Ok(());
    }
    copy_to(&fd, number)
}

pub(crate) fn new_session() -> SysResult<()> {
    plain(nr::SETSID, [0; 6]).map(drop)
}

/// Switches groups and user, in the order in which the rights to do so are lost. `groups` holds
/// four bytes for each.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u8]) -> SysResult<()> {
    // SAFETY: the slice holds `len / 4` numbers; the kernel copies them regardless of alignment.
    checked(unsafe {
        syscall(nr::SETGROUPS, [groups.len() / 4, groups.as_ptr() as usize, 0, 0, 0, 0])
    })
    // A user namespace with a single group does not allow this call, and has no other groups.
    .or_else(|errno| if errno == Errno::PERM && uid == 0 { Ok(0) } else { Err(errno) })?;
    plain(nr::SETRESGID, [gid as usize, gid as usize, gid as usize, 0, 0, 0])?;
    plain(nr::SETRESUID, [uid as usize, uid as usize, uid as usize, 0, 0, 0]).map(drop)
}

/// A descriptor that stays with one process even if its pid is reused.
pub(crate) fn pin(pid: i32) -> SysResult<Fd> {
    plain(nr::PIDFD_OPEN, [pid as usize, 0, 0, 0, 0, 0]).map(|fd| Fd(fd as i32))
}

pub(crate) fn signal_pinned(process: &Fd, signal: i32) -> SysResult<()> {
    plain(nr::PIDFD_SEND_SIGNAL, [process.arg(), signal as usize, 0, 0, 0, 0]).map(drop)
}

/// Makes this process adopt its orphaned descendants.
pub(crate) fn adopt_descendants() -> SysResult<()> {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    plain(nr::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0]).map(drop)
}

/// Sleeps for a millisecond.
pub(crate) fn rest() {
    let time = [0_u64, 1_000_000];
    // SAFETY: the kernel reads two numbers; there is nothing to poll.
    let _ = unsafe { syscall(nr::PPOLL, [0, 0, time.as_ptr() as usize, 0, 0, 0]) };
}

/// The directory at a path, if it is the one that is open, on whatever mount.
pub(crate) fn shown_again(open: &Fd, path: &[u8]) -> Option<Fd> {
    let shown = open_place(path).ok()?;
    let [open, there] = [open, &shown].map(nodes::stat_open);
    let (open, there) = (open.ok()?, there.ok()?);
    ((open.device, open.inode) == (there.device, there.inode)).then_some(shown)
}

/// A new pseudo-terminal of the given size in the devpts whose root is `devpts`: master and slave.
///
/// The multiplexer is reached through a descriptor of the container's own devpts, so nothing the
/// build does to /dev can divert it.
pub(crate) fn open_pty(devpts: &Fd, rows: u16, cols: u16) -> SysResult<(Fd, Fd)> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    let flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    let path = c"ptmx".as_ptr() as usize;
    // SAFETY: the path is a C string.
    let master = checked(unsafe { syscall(nr::OPENAT, [devpts.arg(), path, flags, 0, 0, 0]) })
        .map(|fd| Fd(fd as i32))?;
    let unlocked = 0_i32;
    // SAFETY: the call reads one number.
    checked(unsafe {
        syscall(nr::IOCTL, [master.arg(), TIOCSPTLCK, &raw const unlocked as usize, 0, 0, 0])
    })?;
    set_size(&master, rows, cols)?;
    let slave = Fd(plain(nr::IOCTL, [master.arg(), TIOCGPTPEER, flags, 0, 0, 0])? as i32);
    Ok((master, slave))
}

pub(crate) fn set_size(terminal: &Fd, rows: u16, cols: u16) -> SysResult<()> {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [rows, cols, 0, 0];
    // SAFETY: the call reads four 16-bit numbers.
    checked(unsafe {
        syscall(nr::IOCTL, [terminal.arg(), TIOCSWINSZ, size.as_ptr() as usize, 0, 0, 0])
    })
    .map(drop)
}

/// Makes the terminal the controlling one of this (new) session and gives it to `uid`.
pub(crate) fn take_terminal(terminal: &Fd, uid: u32) -> SysResult<()> {
    const TIOCSCTTY: usize = 0x540E;
    const SAME_GROUP: usize = u32::MAX as usize;
    plain(nr::IOCTL, [terminal.arg(), TIOCSCTTY, 0, 0, 0, 0])?;
    plain(nr::FCHOWN, [terminal.arg(), uid as usize, SAME_GROUP, 0, 0, 0]).map(drop)
}

/// Replaces this program. Returns only on failure.
///
/// # Safety
/// `path` must end in NUL; `argv` and `envp` must be arrays of C strings that end in a null
/// pointer.
pub(crate) unsafe fn execute(path: &[u8], argv: *const usize, envp: *const usize) -> Errno {
    let path = match c_path(path) {
        Ok(path) => path,
        Err(errno) => return errno,
    };
    // SAFETY: the caller vouches for the arrays, `c_path` for the path.
    let result =
        checked(unsafe { syscall(nr::EXECVE, [path, argv as usize, envp as usize, 0, 0, 0]) });
    result.err().unwrap_or(Errno::INVAL)
}
