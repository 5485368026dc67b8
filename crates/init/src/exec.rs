//! The child's half of a job: from a fork of PID 1 to the requested program or the opened path.
//!
//! `pid1` calls this right after the fork; everything here runs in the child and ends it. Errors go
//! over the job's report socket, which exec closes on success.

use crate::abi::{flags, stage};
use crate::digits;
use crate::request::ExecRequest;
use crate::sys::{self, Errno, Fd, Pages};

pub(crate) enum ChildStdio<'a> {
    Given([&'a Fd; 3]),
    /// Output and error; PID 1's own standard input stays.
    OutputOnly([&'a Fd; 2]),
    Terminal(&'a Fd),
}

/// The stage that failed, and the errno.
struct ExecFailure(u32, Errno);

/// Becomes the program that `request` names.
pub(crate) fn program(
    request: &ExecRequest<'_>,
    pointers: &mut Pages,
    stdio: &ChildStdio<'_>,
    toolbox: Option<&Fd>,
    report: &Fd,
) -> ! {
    let ExecFailure(stage, errno) = become_program(request, pointers, stdio, toolbox);
    tell(report, stage, errno)
}

fn become_program(
    request: &ExecRequest<'_>,
    pointers: &mut Pages,
    stdio: &ChildStdio<'_>,
    toolbox: Option<&Fd>,
) -> ExecFailure {
    match prepare(request, stdio, toolbox) {
        Ok(()) => ExecFailure(
            stage::EXEC,
            execute(request, pointers.words_mut()).err().unwrap_or(Errno::INVAL),
        ),
        Err(failure) => failure,
    }
}

fn prepare(
    request: &ExecRequest<'_>,
    stdio: &ChildStdio<'_>,
    toolbox: Option<&Fd>,
) -> Result<(), ExecFailure> {
    let at = |stage| move |errno| ExecFailure(stage, errno);
    sys::unblock_signals();
    sys::new_session().map_err(at(stage::STDIO))?;
    let keeps_user = request.head.flags & flags::KEEP_USER != 0;
    let uid = if keeps_user { sys::uid() } else { request.head.uid };
    match stdio {
        ChildStdio::Terminal(slave) => {
            sys::take_terminal(slave, uid).map_err(at(stage::PTY))?;
            for number in 0..3 {
                sys::copy_to(slave, number).map_err(at(stage::STDIO))?;
            }
        }
        ChildStdio::OutputOnly(fds) => {
            for (fd, number) in fds.iter().zip(1..) {
                sys::copy_to(fd, number).map_err(at(stage::STDIO))?;
            }
        }
        // PID 1 keeps 0 to 2 occupied, so the given descriptors all lie above.
        ChildStdio::Given(fds) => {
            for (number, fd) in fds.iter().enumerate() {
                sys::copy_to(fd, number as i32).map_err(at(stage::STDIO))?;
            }
        }
    }
    if let Some(toolbox) = toolbox.filter(|_| request.head.flags & flags::TOOLBOX != 0) {
        sys::copy_to(toolbox, crate::abi::TOOLBOX_IN_PROGRAM).map_err(at(stage::STDIO))?;
    }
    if !keeps_user {
        sys::become_user(request.head.uid, request.head.gid, request.groups)
            .map_err(at(stage::USER))?;
    }
    match sys::change_directory(request.cwd) {
        Err(_) if request.head.flags & flags::CWD_OR_ROOT != 0 => sys::change_directory(b"/\0"),
        done => done,
    }
    .map_err(at(stage::CHDIR))
}

fn execute(request: &ExecRequest<'_>, words: &mut [usize]) -> sys::SysResult<()> {
    let (argv, envp) = request.fill_pointers(words).ok_or(Errno::INVAL)?;
    let program = request.program();
    if program.contains(&b'/') || program.len() < 2 {
        return Err(execute_file(program, words, argv, envp));
    }
    // Search as a shell does: skip a directory without the program, but remember one where it may
    // not be executed.
    let mut outcome = Errno::NOENT;
    let mut candidate = [0_u8; 4096];
    for directory in request.path[..request.path.len() - 1].split(|&byte| byte == b':') {
        let directory = if directory.is_empty() { b".".as_slice() } else { directory };
        let length = directory.len() + 1 + program.len();
        let Some(space) = candidate.get_mut(..length) else { continue };
        space[..directory.len()].copy_from_slice(directory);
        space[directory.len()] = b'/';
        space[directory.len() + 1..].copy_from_slice(program);
        match execute_file(&candidate[..length], words, argv, envp) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCES => outcome = Errno::ACCES,
            errno => return Err(errno),
        }
    }
    Err(outcome)
}

fn execute_file(path: &[u8], words: &mut [usize], argv: usize, envp: usize) -> Errno {
    // SAFETY: `fill_pointers` has terminated both arrays with 0 and filled them with C strings.
    let errno = unsafe { sys::execute(path, &raw const words[argv], &raw const words[envp]) };
    if errno != Errno::NOEXEC {
        return errno;
    }
    // A script without `#!`: the shell runs it, as in execvp.
    let spared = (words[argv - 1], words[argv]);
    words[argv - 1] = c"/bin/sh".as_ptr() as usize;
    words[argv] = path.as_ptr() as usize;
    // SAFETY: as above; the spare word before the arguments is part of the array.
    let second =
        unsafe { sys::execute(b"/bin/sh\0", &raw const words[argv - 1], &raw const words[envp]) };
    (words[argv - 1], words[argv]) = spared;
    if second == Errno::NOENT { Errno::NOEXEC } else { second }
}

/// Opens a path for the runner and hands the descriptor to PID 1.
pub(crate) fn open(path: &[u8], flags: u32, mode: u32, report: &Fd) -> ! {
    sys::unblock_signals();
    // The runner gives the full mode, and may have no right to change it later.
    sys::umask(0);
    match sys::open_for_runner(path, flags, mode) {
        Ok(fd) => match sys::send(report, &[0; 8], Some(&fd)) {
            Ok(_) => sys::exit(0),
            Err(errno) => tell(report, stage::OPEN, errno),
        },
        Err(errno) => tell(report, stage::OPEN, errno),
    }
}

/// Connects for the runner and hands the socket to PID 1.
pub(crate) fn dial(body: &[u8], report: &Fd) -> ! {
    sys::unblock_signals();
    hand_over(crate::dial::dial(body), report, stage::DIAL)
}

/// Listens for the runner and hands the socket to PID 1.
pub(crate) fn listen(body: &[u8], report: &Fd) -> ! {
    sys::unblock_signals();
    hand_over(crate::dial::listen(body), report, stage::LISTEN)
}

fn hand_over(socket: sys::SysResult<Fd>, report: &Fd, stage: u32) -> ! {
    match socket.and_then(|socket| sys::send(report, &[0; 8], Some(&socket))) {
        Ok(_) => sys::exit(0),
        Err(errno) => tell(report, stage, errno),
    }
}

/// Sends a signal to every process of a session.
pub(crate) fn signal_session(session: i32, signal: i32) -> ! {
    let me = sys::pid();
    let mut entries = [0_u8; 4096];
    if let Ok(proc) = sys::open_proc() {
        while let Ok(length @ 1..) = sys::list(&proc, &mut entries) {
            for pid in pids(&entries[..length]) {
                if pid > 1 && pid != me && sys::session_of(pid) == Ok(session) {
                    let _ = sys::kill(pid, signal);
                }
            }
        }
    }
    sys::exit(0)
}

/// The pids among the names of directory entries.
pub(crate) fn pids(mut entries: &[u8]) -> impl Iterator<Item = i32> {
    const NAME_AT: usize = 19;
    core::iter::from_fn(move || {
        loop {
            let length = usize::from(crate::abi::u16_at(entries, 16)?);
            let entry = entries.get(..length)?;
            entries = &entries[length..];
            let name = entry.get(NAME_AT..)?;
            let name = &name[..name.iter().position(|&byte| byte == 0)?];
            if let Some(pid) = digits::read(name) {
                return Some(pid);
            }
        }
    })
}

fn tell(report: &Fd, stage: u32, errno: Errno) -> ! {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&stage.to_le_bytes());
    bytes[4..].copy_from_slice(&errno.0.to_le_bytes());
    let _ = sys::send(report, &bytes, None);
    sys::exit(127)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn entry(name: &[u8]) -> Vec<u8> {
        let mut bytes = std::vec![0; 16];
        bytes.extend_from_slice(&((19 + name.len() + 1) as u16).to_le_bytes());
        bytes.push(4);
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes
    }

    #[test]
    fn only_numbers_are_processes() {
        let mut entries = Vec::new();
        for name in [&b"1"[..], b"self", b"4194304", b"99999999999", b"12a"] {
            entries.extend(entry(name));
        }
        assert_eq!(pids(&entries).collect::<Vec<_>>(), [1, 4_194_304]);
        assert_eq!(pids(&entries[..10]).count(), 0);
    }
}
