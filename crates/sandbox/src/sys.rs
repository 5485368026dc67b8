//! Kernel calls that neither nix nor rustix has, each behind a function that safe code cannot
//! misuse. This module has every unsafe block of the crate.
//!
//! Used by `parent` (clone3) and `child` (the rest).

use std::convert::Infallible;
use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How a new process starts its program.
pub(crate) struct NewProcess<'a> {
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u64,
    /// The process writes a byte here when its maps may be written and waits for a byte; then it
    /// becomes root of its user namespace. Otherwise it would lose its rights there on exec.
    pub(crate) gate: Option<BorrowedFd<'a>>,
    /// These become the program's descriptors 0, 1, 2 and so on. None may be below their count, or
    /// one would be overwritten before use.
    pub(crate) fds: &'a [BorrowedFd<'a>],
    pub(crate) program: ProcessImage<'a>,
    /// Its arguments, starting with its own name. Its environment is empty.
    pub(crate) arguments: &'a [&'a CStr],
    /// Its descriptor limit, if it differs from ours.
    pub(crate) descriptors: Option<[u64; 2]>,
    /// Groups that it is born in or enters by itself, if the kernel lets it.
    pub(crate) groups: Option<&'a GroupDoors>,
}

/// Ways into control groups that make nobody wait. To move another process the kernel first waits
/// until no processor is in the middle of a fork or an exit, for some 10 ms.
#[derive(Debug, Default)]
pub struct GroupDoors {
    /// Files `tasks` of groups of version 1, where a process without threads may put itself.
    pub(crate) tasks: Vec<OwnedFd>,
    /// The directory of the group of version 2, where a process may be born.
    pub(crate) birthplace: Option<OwnedFd>,
}

/// The program that a new process executes.
#[derive(Clone, Copy)]
pub(crate) enum ProcessImage<'a> {
    /// A path.
    Path(&'a CStr),
    /// An open file.
    File(BorrowedFd<'a>),
}

/// The arguments of clone3, as of the kernel that has learnt `CLONE_INTO_CGROUP`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The process is born in the group of `cgroup`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Bytes of their first published form, which any kernel with clone3 takes.
const FIRST_CLONE_ARGS: usize = 64;

/// Makes a process in new namespaces that executes a program at once. Returns its pid and pidfd.
/// The program starts with every signal blocked.
pub(crate) fn spawn(new: &NewProcess<'_>) -> io::Result<(u32, OwnedFd)> {
    let mut arguments: Vec<*const libc::c_char> =
        new.arguments.iter().map(|argument| argument.as_ptr()).collect();
    arguments.push(std::ptr::null());
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    let child = || -> Infallible {
        // SAFETY: runs in the new process; the arrays are complete and end in null.
        unsafe { become_program(new, arguments.as_ptr(), environment.as_ptr()) }
    };
    if let Some(group) = new.groups.and_then(|groups| groups.birthplace.as_ref()) {
        // SAFETY: `become_program` makes system calls only.
        let born = unsafe { clone_into(new.namespaces, Some(group.as_fd()), &child) };
        // An older kernel, or a group that it may not be born in: the caller finds it elsewhere.
        if born.is_ok() {
            return born;
        }
    }
    // SAFETY: as above.
    unsafe { clone(new.namespaces, &child) }
}

/// Makes an idle process in new namespaces. It ends when the returned socket closes, which also
/// happens if its owner is killed. Its namespaces can be opened once this returns.
pub(crate) fn spawn_idle(namespaces: u64) -> io::Result<(u32, OwnedFd, UnixStream)> {
    let (mut key, gate) = UnixStream::pair()?;
    let child = || -> Infallible {
        // SAFETY: system calls on numbers and on a byte of this process.
        unsafe {
            libc::syscall(libc::SYS_dup3, gate.as_raw_fd(), 0, 0);
            // Keep nothing else of the caller's: neither the other end, nor the lock that shows
            // others that the caller lives.
            libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0);
            wait_at_gate(0);
            libc::_exit(0)
        }
    };
    // SAFETY: the child makes system calls only.
    let (pid, pidfd) = unsafe { clone(namespaces, &child) }?;
    drop(gate);
    if let Err(error) = key.read_exact(&mut [0]) {
        // It is ending or will end now: nothing else waits for it.
        drop(key);
        let options = rustix::process::WaitIdOptions::EXITED;
        let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), options);
        return Err(error);
    }
    Ok((pid, pidfd, key))
}

/// Reports that this process waits, and waits for a reply. Returns whether one came.
///
/// The /proc files of a non-dumpable process belong to root, so its maps could not be written nor
/// its namespaces opened. It is dumpable meanwhile, although its memory is still a copy of the
/// runner's.
///
/// # Safety
/// Only in a child just cloned.
unsafe fn wait_at_gate(gate: usize) -> bool {
    let mut byte = 0_u8;
    // SAFETY: plain system calls on numbers and on a byte of this process.
    unsafe {
        libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        libc::syscall(libc::SYS_write, gate, &raw const byte, 1);
        let read = libc::syscall(libc::SYS_read, gate, &raw mut byte, 1);
        libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        read == 1
    }
}

/// Makes a process that runs `child` with its own copy of the memory, as after fork.
///
/// # Safety
/// This process may have other threads, and the child's memory is a copy of their locks and
/// half-done work. So `child` may only make system calls on memory prepared before.
unsafe fn clone(namespaces: u64, child: &dyn Fn() -> Infallible) -> io::Result<(u32, OwnedFd)> {
    // SAFETY: the caller vouches for the child.
    unsafe { clone_into(namespaces, None, child) }
}

/// The same, born in a control group of version 2.
///
/// # Safety
/// As of [`clone`].
unsafe fn clone_into(
    namespaces: u64,
    group: Option<BorrowedFd<'_>>,
    child: &dyn Fn() -> Infallible,
) -> io::Result<(u32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let mut clone = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let mut size = FIRST_CLONE_ARGS;
    if let Some(group) = group {
        clone.flags |= CLONE_INTO_CGROUP;
        clone.cgroup = group.as_raw_fd() as u64;
        size = size_of::<CloneArgs>();
    }
    // A signal handler in the child would be such other work.
    let blocked = block_signals()?;
    // SAFETY: `clone` lives across the call; the caller vouches for the child.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size) };
    // Many containers' filters hide clone3, because they cannot check its arguments. Without
    // namespaces the old call will do.
    let is_hidden = pid < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS);
    if is_hidden && namespaces == 0 && group.is_none() {
        let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
        // SAFETY: as above; without its own stack the child continues on a copy of this one.
        pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    }
    if pid == 0 {
        child();
    }
    let result = match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has put a new descriptor there, and nothing else owns it.
        pid => Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    };
    restore_signals(&blocked)?;
    result
}

/// # Safety
/// Only in a child just cloned; `arguments` and `environment` must end in null.
unsafe fn become_program(
    new: &NewProcess<'_>,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
) -> Infallible {
    // SAFETY: all of these are plain system calls on numbers and on memory prepared before the
    // clone; none allocates, locks or inspects other threads.
    unsafe {
        for tasks in new.groups.iter().flat_map(|groups| &groups.tasks) {
            // Where that is refused, the parent sees it.
            libc::syscall(libc::SYS_write, tasks.as_raw_fd(), c"0".as_ptr(), 1);
        }
        // Leave the caller's terminal: the runner handles its Ctrl-C.
        libc::syscall(libc::SYS_setsid);
        let count = new.fds.len();
        let (gate, file) = (count, count + 1);
        let or_end = |result: libc::c_long| if result < 0 { libc::_exit(126) } else { result };
        // Clear of the numbers placed below.
        let aside = |fd: BorrowedFd<'_>| {
            or_end(libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD, count + 2))
        };
        let gate_aside = new.gate.map(aside);
        let file_aside = match new.program {
            ProcessImage::File(fd) => Some(aside(fd)),
            ProcessImage::Path(_) => None,
        };
        for (number, fd) in new.fds.iter().enumerate() {
            or_end(libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0));
        }
        for (fd, number) in [(gate_aside, gate), (file_aside, file)] {
            if let Some(fd) = fd {
                or_end(libc::syscall(libc::SYS_dup3, fd, number, libc::O_CLOEXEC));
            }
        }
        // Closed now rather than by the exec: this process waits at the gate first. If the runner
        // is killed meanwhile, it would keep the other ends of all gates and pipes open.
        libc::syscall(libc::SYS_close_range, file + 1, libc::c_uint::MAX, 0);
        if new.gate.is_some() {
            if !wait_at_gate(gate) {
                libc::_exit(125);
            }
            // Refused if the map has only one group; then there are none to drop.
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
            if libc::syscall(libc::SYS_setresgid, 0, 0, 0) < 0
                || libc::syscall(libc::SYS_setresuid, 0, 0, 0) < 0
            {
                libc::_exit(124);
            }
        }
        // Numbers not used above may still have descriptors inherited from the caller.
        let cloexec = libc::CLOSE_RANGE_CLOEXEC;
        libc::syscall(libc::SYS_close_range, count, libc::c_uint::MAX, cloexec);
        if let Some(limits) = &new.descriptors {
            set_descriptor_limit(limits);
        }
        match new.program {
            ProcessImage::Path(path) => {
                libc::syscall(libc::SYS_execve, path.as_ptr(), arguments, environment);
            }
            ProcessImage::File(_) => {
                libc::syscall(
                    libc::SYS_execveat,
                    file,
                    c"".as_ptr(),
                    arguments,
                    environment,
                    libc::AT_EMPTY_PATH,
                );
            }
        }
        libc::_exit(127)
    }
}

/// Sets this process's descriptor limit.
fn set_descriptor_limit(limits: &[u64; 2]) -> libc::c_long {
    let nothing = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads two numbers; this is one system call, which a new child may make.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limits.as_ptr(), nothing) }
}

/// Makes the program of `command` start with this descriptor limit.
pub(crate) fn limit_descriptors(command: &mut Command, limits: [u64; 2]) -> &mut Command {
    let set = move || match set_descriptor_limit(&limits) {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(set) }
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: an all-zero set is a valid value for the calls to overwrite.
    let (mut all, mut old) = unsafe { std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
    // SAFETY: both sets are valid for writes.
    let result = unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old)
    };
    if result == 0 { Ok(old) } else { Err(io::Error::from_raw_os_error(result)) }
}

fn restore_signals(old: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `old` was filled by the call above it.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// A change for [`set_mount_attributes`].
#[derive(Default)]
pub(crate) struct MountAttributes<'a> {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// The user namespace through whose maps the mount shows its files.
    pub(crate) id_map: Option<BorrowedFd<'a>>,
    /// Whether mounts below change as well.
    pub(crate) recursive: bool,
}

/// Changes the attributes of the mount behind `mount`.
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    wanted: &MountAttributes<'_>,
) -> io::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: wanted.set,
        attr_clr: wanted.clear,
        propagation: 0,
        userns_fd: 0,
    };
    if let Some(namespace) = wanted.id_map {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = namespace.as_raw_fd() as u64;
    }
    let recursive = if wanted.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path and the attributes are valid for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Installs a system call filter for this process and its descendants. With `listens`, also returns
/// the descriptor that reports calls which the filter leaves to a supervisor; `None` if an outer
/// filter has one already or the kernel does not support it: then these calls do not exist.
pub(crate) fn install_filter(
    program: &[libc::sock_filter],
    listens: bool,
) -> io::Result<Option<OwnedFd>> {
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions and keeps its own copy.
    let install = |flags: libc::c_ulong| match unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    } {
        ..0 => Err(io::Error::last_os_error()),
        fd => Ok(fd as i32),
    };
    if listens {
        // Once the supervisor handles a call, only a fatal signal may interrupt it.
        let flags =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        match install(flags) {
            // SAFETY: the descriptor is new and has no other owner.
            Ok(fd) => return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
    install(0).map(|_| None)
}

/// Keeps this process and its descendants from connecting to others' abstract sockets, whose
/// listeners could pass in a descriptor of the host's root. Does nothing if the kernel cannot do
/// that (before Linux 6.12, or without Landlock).
pub(crate) fn scope_abstract_sockets() -> io::Result<()> {
    /// `struct landlock_ruleset_attr` of Linux 6.12: file system, network, scopes.
    const SCOPES: [u64; 3] = [0, 0, 1];
    // SAFETY: the kernel reads as many bytes as it is told; the new descriptor has no other owner.
    let ruleset = unsafe {
        let size = size_of_val(&SCOPES);
        libc::syscall(libc::SYS_landlock_create_ruleset, SCOPES.as_ptr(), size, 0)
    };
    if ruleset < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            // Some filters around the runner return the last one for calls they do not know.
            Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::E2BIG | libc::EINVAL | libc::EPERM) => {
                Ok(())
            }
            _ => Err(error),
        };
    }
    // SAFETY: as above.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as i32) };
    // SAFETY: a descriptor and a number.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings up the loopback interface of this process's network. The kernel assigns its addresses.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: a name of all zeros and no flags is a valid request.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid for the call, which reads its name and its flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Replaces this program by the one in `file`, with an empty environment. Returns only on failure.
pub(crate) fn execute(file: BorrowedFd<'_>, name: &CStr) -> io::Error {
    let arguments = [name.as_ptr(), std::ptr::null()];
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: both arrays end in null and hold C strings; the path is empty.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Takes over descriptors that this program was started with, by number.
///
/// `None` if a number is not open.
pub(crate) fn inherited<const N: usize>(numbers: [i32; N]) -> Option<[OwnedFd; N]> {
    for number in numbers {
        // SAFETY: only queries a number.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return None;
        }
    }
    // SAFETY: they are open, and only the start of the re-executed program calls this, once for
    // each number.
    Some(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Copies `fd` to `number`, kept open across exec, and replaces whatever is there.
pub(crate) fn copy_to(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let result = if fd.as_raw_fd() == number {
        // SAFETY: plain numbers.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) }
    } else {
        // SAFETY: plain numbers; by now nothing owns what was at `number` (`child::confine`).
        unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from `first` on as close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: plain numbers; nothing is closed before the exec.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Child;
    use std::os::fd::AsFd;

    /// The same for an idle process.
    #[test]
    fn an_idle_process_ends_with_its_owner() -> io::Result<()> {
        let (_pid, process, key) = spawn_idle(0)?;
        drop(key);
        let patience = nix::poll::PollTimeout::from(60_000_u16);
        assert!(crate::process::ends_within(&process, patience)?);
        assert_eq!(Child::new(process).wait_for_code(), Some(0));
        Ok(())
    }

    #[test]
    fn a_process_enters_its_groups_by_itself() -> io::Result<()> {
        let null = std::fs::File::open("/dev/null")?;
        let mut tasks = tempfile::tempfile()?;
        let groups = GroupDoors { tasks: vec![tasks.try_clone()?.into()], birthplace: None };
        let (_pid, process) = spawn(&NewProcess {
            namespaces: 0,
            gate: None,
            fds: &[null.as_fd(), null.as_fd(), null.as_fd()],
            program: ProcessImage::Path(c"/bin/true"),
            arguments: &[c"true"],
            descriptors: None,
            groups: Some(&groups),
        })?;
        assert_eq!(Child::new(process).wait_for_code(), Some(0));
        let mut text = String::new();
        std::io::Seek::rewind(&mut tasks)?;
        tasks.read_to_string(&mut text)?;
        assert_eq!(text, "0");
        // What is no group lets nobody be born in it, and keeps nobody from being born.
        let groups = GroupDoors { tasks: Vec::new(), birthplace: Some(null.try_clone()?.into()) };
        let (_pid, process) = spawn(&NewProcess {
            namespaces: 0,
            gate: None,
            fds: &[null.as_fd(), null.as_fd(), null.as_fd()],
            program: ProcessImage::Path(c"/bin/true"),
            arguments: &[c"true"],
            descriptors: None,
            groups: Some(&groups),
        })?;
        assert_eq!(Child::new(process).wait_for_code(), Some(0));
        Ok(())
    }

    /// The owner of a waiting process is killed.
    #[test]
    fn a_gate_that_nobody_opens_any_more() -> io::Result<()> {
        let null = std::fs::File::open("/dev/null")?;
        let (gate, key) = UnixStream::pair()?;
        let (_pidfd, process) = {
            let new = NewProcess {
                namespaces: 0,
                gate: Some(gate.as_fd()),
                fds: &[null.as_fd(), null.as_fd(), null.as_fd()],
                program: ProcessImage::Path(c"/bin/true"),
                arguments: &[c"true"],
                descriptors: None,
                groups: None,
            };
            spawn(&new)?
        };
        drop(key);
        let patience = nix::poll::PollTimeout::from(60_000_u16);
        // If it had gone on waiting, a signal would have ended it, without an exit code.
        assert!(crate::process::ends_within(&process, patience)?);
        assert_eq!(Child::new(process).wait_for_code(), Some(125));
        Ok(())
    }
}
