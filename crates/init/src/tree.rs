//! The descendants of a reaper: found, signalled, ended.
//!
//! Used by `pid1` where no namespace draws the line. On a machine that is not ours alone nothing but a
//! descendant may ever be hit: a process is pinned by a descriptor first, then its line of parents is
//! followed, and the signal goes to what was pinned.

use crate::digits;
use crate::exec::pids;
use crate::sys::{self, Errno, Fd, SysResult};

/// Longest line of parents that is followed.
const DEEPEST: usize = 4096;
const SIGKILL: i32 = 9;

/// Most rounds of SIGKILL at one request: a process in the kernel's hands may take its time, and the
/// runner may have something else to say meanwhile.
const ROUNDS: usize = 1000;

/// Sends a signal to all descendants; SIGKILL until nobody is left to take it. In this process and not
/// in a child, which would be a descendant itself and could be hit by the next request.
pub(crate) fn signal(signal: i32) {
    for _ in 0..ROUNDS {
        if send(signal) == 0 || signal != SIGKILL {
            return;
        }
        sys::rest();
    }
}

/// Kills and collects until there is no child. Orphans become children, so nobody is left then.
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

/// One round; how many were hit.
fn send(signal: i32) -> usize {
    let mut hit = 0;
    // What cannot be listed is not hit.
    let _ = each(|pid, found, pinned| {
        if !found.is_dead() && signal_one(pid, pinned, signal).is_ok() {
            hit += 1;
        }
    });
    hit
}

/// A signal to what was pinned; by number where nothing could be.
pub(crate) fn signal_one(pid: i32, pinned: Option<&Fd>, signal: i32) -> SysResult<()> {
    match pinned {
        Some(pinned) => sys::signal_pinned(pinned, signal),
        None => sys::kill(pid, signal),
    }
}

/// Looks at each descendant, pinned first.
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
                // Hidden by the filter of a container around us; by number, then.
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
    /// As /proc has it.
    pub(crate) state: u8,
    pub(crate) session: i32,
    /// The child of the root that it comes from, or is.
    pub(crate) from: i32,
}

impl Descendant {
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// A process that `root` is among the parents of.
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

/// `PID (name) state parent group session ...`; the name may hold anything.
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
