//! A build that stands still: its processes are stopped until none of them runs, and let go on.
//!
//! Used by `pid1`. Programs of sessions and of the runner are left alone, and so is what they have
//! started, as far as its line or its session leads to them.

use crate::digits;
use crate::sys::{self, Errno, Fd, Result};
use crate::tree::{self, Descendant};

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// Most rounds, a millisecond each: one that is in the kernel's hands stops when it comes back.
const ROUNDS: usize = 200;
/// Most rounds in which processes are put into a group. One that forks all the time is in it after two.
const GATHERS: usize = 10;
/// Most processes that are remembered to have been stopped before.
const MOST: usize = 256;

/// Processes that were stopped already, by the build itself: they stay so.
pub(crate) struct Before {
    pids: [i32; MOST],
    count: usize,
}

impl Before {
    pub(crate) const fn new() -> Self {
        Before { pids: [0; MOST], count: 0 }
    }

    fn remember(&mut self, pid: i32) {
        if let Some(place) = self.pids.get_mut(self.count) {
            *place = pid;
            self.count += 1;
        }
    }

    fn has(&self, pid: i32) -> bool {
        self.pids[..self.count].contains(&pid)
    }
}

/// Stops all of them. `is_spared` says so of a child of this process.
pub(crate) fn stop(before: &mut Before, is_spared: impl Fn(i32) -> bool) -> Result<()> {
    *before = Before::new();
    for round in 0..ROUNDS {
        let mut running = 0;
        let mut refused = None;
        visit(&is_spared, |pid, process, pinned| match process.state {
            b'T' | b't' if round == 0 => before.remember(pid),
            b'T' | b't' => {}
            state => match tree::signal_one(pid, pinned, SIGSTOP) {
                // One in the kernel's hands takes it when it comes back, and does nothing until then.
                Ok(()) => running += usize::from(!matches!(state, b'D' | b'Z' | b'X')),
                Err(Errno::SRCH) => {}
                Err(errno) if !process.is_dead() => refused = Some(errno),
                Err(_) => {}
            },
        })?;
        match refused {
            Some(errno) => return Err(errno),
            None if running == 0 => return Ok(()),
            None => sys::rest(),
        }
    }
    Err(Errno::AGAIN)
}

/// Puts all of them into the group whose `cgroup.procs` this is, until no new one appears: what a process in it
/// has forked is in it, too.
pub(crate) fn gather(group: &Fd, is_spared: impl Fn(i32) -> bool) -> Result<()> {
    let mut last = (0, 0);
    for _ in 0..GATHERS {
        let (mut found, mut refused) = ((0_usize, 0_i64), None);
        visit(&is_spared, |pid, process, _| {
            if process.is_dead() {
                return;
            }
            found = (found.0 + 1, found.1 + i64::from(pid));
            let mut digits = [0_u8; 12];
            let Some(length) = digits::write(pid, &mut digits) else { return };
            match sys::write(group, &digits[..length]) {
                Ok(_) | Err(Errno::SRCH) => {}
                Err(errno) => refused = Some(errno),
            }
        })?;
        if let Some(errno) = refused {
            return Err(errno);
        }
        if found == last {
            break;
        }
        last = found;
    }
    Ok(())
}

/// Lets all of them go on, but for those that had been stopped before.
pub(crate) fn go_on(before: &mut Before, is_spared: impl Fn(i32) -> bool) {
    let done = visit(&is_spared, |pid, process, pinned| {
        if !process.is_dead() && !before.has(pid) {
            let _ = tree::signal_one(pid, pinned, SIGCONT);
        }
    });
    // Without /proc none was stopped.
    let _ = done;
    *before = Before::new();
}

/// Looks at each process of the build's.
fn visit(
    is_spared: &impl Fn(i32) -> bool,
    mut look: impl FnMut(i32, &Descendant, Option<&Fd>),
) -> Result<()> {
    // What this process itself has forked is in its session; each program has another one.
    let root = sys::pid();
    let own = sys::session_of(root).unwrap_or(root);
    tree::each(|pid, process, pinned| {
        if process.session != own && !is_spared(process.from) && !is_spared(process.session) {
            look(pid, process, pinned);
        }
    })
}
