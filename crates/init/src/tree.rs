//! Finds, signals and ends the descendants of a reaper.
//!
//! Used by `pid1` if there is no pid namespace. On a shared machine nothing but a descendant may
//! ever be hit: a process is first pinned by a descriptor, then its ancestors are checked, and the
//! signal goes to the pinned process.

use crate::digits;
use crate::exec::pids;
use crate::sys::{self, Errno, Fd, SysResult};

/// Longest chain of parents that is followed.
const DEEPEST: usize = 4096;
const SIGKILL: i32 = 9;

/// Most rounds of SIGKILL per request: a process inside the kernel may take its time, and the
/// runner may send other requests meanwhile.
const ROUNDS: usize = 1000;

/// Sends a signal to all descendants; SIGKILL until none is left. Runs in this process: a child
/// would itself be a descendant and could be hit by the next request.
pub(crate) fn signal(signal: i32) {
    for _ in 0..ROUNDS {
        if send(signal) == 0 || signal != SIGKILL {
            return;
        }
        sys::rest();
    }
}

/// Kills and reaps until there are no children. Orphans become children, so nothing is left then.
pub(crate) fn end() {
    loop {
        send(SIGKILL);
        loop {
            match sys::reap() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        sys::rest();
    }
}

/// Runs one round. Returns how many processes were signalled.
fn send(signal: i32) -> usize {
    let mut hit = 0;
    // Without a list, no process is signalled.
    let _ = each(|pid, found, pinned| {
        if !found.is_dead() && signal_one(pid, pinned, signal).is_ok() {
            hit += 1;
        }
    });
    hit
}

/// Signals the pinned process, or the pid if it could not be pinned.
pub(crate) fn signal_one(pid: i32, pinned: Option<&Fd>, signal: i32) -> SysResult<()> {
    match pinned {
        Some(pinned) => sys::signal_pinned(pinned, signal),
        None => sys::kill(pid, signal),
    }
}

/// Visits each descendant, pinned first.
pub(crate) fn each(mut look: impl FnMut(i32, &Descendant, Option<&Fd>)) -> SysResult<()> {
    let root = sys::pid();
    let proc = sys::open_proc()?;
    let mut entries = [0_u8; 4096];
    while let length @ 1.. = sys::list(&proc, &mut entries)? {
        for pid in pids(&entries[..length]) {
            if pid == root {
                continue;
            }
            let pinned = match sys::pin(pid) {
                Ok(pinned) => Some(pinned),
                // An outer container's filter hides pidfds; use the pid.
                Err(Errno::NOSYS | Errno::PERM) => None,
                Err(_) => continue,
            };
            if let Some(found) = line(&proc, pid, root) {
                look(pid, &found, pinned.as_ref());
            }
        }
    }
    Ok(())
}

/// A descendant.
pub(crate) struct Descendant {
    /// The state letter in /proc.
    pub(crate) state: u8,
    pub(crate) session: i32,
    /// The root's child that it descends from, or is.
    pub(crate) from: i32,
}

impl Descendant {
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Reads a process and checks that it descends from `root`.
fn line(proc: &Fd, pid: i32, root: i32) -> Option<Descendant> {
    let ProcStat { state, mut parent, session } = stat(proc, pid)?;
    let mut from = pid;
    for _ in 0..DEEPEST {
        if parent == root {
            return Some(Descendant { state, session, from });
        }
        if parent <= 1 {
            return None;
        }
        from = parent;
        parent = stat(proc, parent)?.parent;
    }
    None
}

#[derive(Debug, PartialEq, Eq)]
struct ProcStat {
    state: u8,
    parent: i32,
    session: i32,
}

fn stat(proc: &Fd, pid: i32) -> Option<ProcStat> {
    let mut path = [0_u8; 24];
    let length = digits::write(pid, &mut path)?;
    let name = b"/stat\0";
    path.get_mut(length..length + name.len())?.copy_from_slice(name);
    let file = sys::open_below(proc, &path[..length + name.len()]).ok()?;
    let mut text = [0_u8; 512];
    let got = sys::read(&file, &mut text).ok()?;
    parse(&text[..got])
}

/// `PID (name) state parent group session ...`; the name may contain anything.
fn parse(stat: &[u8]) -> Option<ProcStat> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = stat[end + 1..].split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let parent = digits::read(fields.next()?)?;
    let session = digits::read(fields.nth(1)?)?;
    Some(ProcStat { state, parent, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pretend_to_be_a_parent() {
        let stat = |state, parent, session| Some(ProcStat { state, parent, session });
        assert_eq!(parse(b"12 (sh) S 7 12 11 0"), stat(b'S', 7, 11));
        assert_eq!(parse(b"12 (a) R 1 (b)) Z 4194304 1 2"), stat(b'Z', 4_194_304, 2));
        assert_eq!(parse(b"12 (cut"), None);
        assert_eq!(parse(b"12 (cut) S"), None);
    }
}
