//! Finds and kills everything below a reaper that is stopped and cannot do so itself.
//!
//! Used by `parent` before it kills a reaper. Also lists the processes in a container.
#![forbid(unsafe_code)]

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::HashMap;
use std::fs;

/// Rounds of the search; each kills all descendants found.
const ROUNDS: u8 = 50;

/// Kills everything below a reaper. Orphaned descendants become the reaper's children even while it
/// is stopped, so that none escapes.
pub(crate) fn kill(reaper: u32) {
    for _ in 0..ROUNDS {
        let found = below(reaper, &processes());
        if found.is_empty() {
            return;
        }
        for pid in found {
            let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pidfd = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            // Pinned, then checked again: the pid may have been reused.
            if let Some(pidfd) = pidfd
                && below(reaper, &processes()).contains(&pid)
            {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
    }
}

/// A process in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its pid inside the container.
    pub pid: u32,
    /// Its name, which it chooses itself.
    pub name: String,
}

/// The live processes below a container's first process. The container may start more meanwhile.
#[must_use]
pub fn living(first: u32) -> Vec<Living> {
    let (mut found, mut ahead) = (Vec::new(), vec![first]);
    while let Some(pid) = ahead.pop() {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            ahead.extend(
                children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        if pid != first {
            found.extend(looked_at(pid));
        }
    }
    found
}

fn looked_at(pid: u32) -> Option<Living> {
    // A process may give itself any bytes as a name.
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim())
    };
    if field("State")?.starts_with(['Z', 'X']) {
        return None;
    }
    // Its pid here, in the container, and in namespaces it made itself.
    let pid = field("NSpid")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Living { pid, name: field("Name")?.to_owned() })
}

/// All processes that are not dead, with their parents.
fn processes() -> HashMap<u32, u32> {
    let Ok(list) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let with_parent = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // State and parent follow the name, which may contain anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some((pid, parent))
    };
    pids.filter_map(with_parent).collect()
}

fn below(ancestor: u32, parents: &HashMap<u32, u32>) -> Vec<u32> {
    let is_below = |pid: &u32| {
        let mut at = *pid;
        // A chain of parents is never longer than the number of processes.
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some(&parent) if parent == ancestor => return true,
                Some(&parent) => at = parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(is_below).collect()
}
