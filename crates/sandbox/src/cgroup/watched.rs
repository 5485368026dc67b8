//! Reads the groups that a daemon made for a container; never creates or removes any.
//!
//! Used by the engines `docker` and `podman` if daemon and runner share a kernel.
#![forbid(unsafe_code)]

use super::find::{Version, hierarchies};
use super::group::{ContainerGroups, Plan, Problem};
use super::limits::{Pressure, ResourceLimits};
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;

/// The groups that limit a process.
#[derive(Debug)]
pub struct WatchedGroups(ManuallyDrop<ContainerGroups>);

/// Finds the groups that enforce the requested limits on a process. Also returns a problem for each
/// limit that is not enforced.
///
/// # Errors
/// The kernel does not report the process's groups.
pub fn watch(pid: u32, limits: ResourceLimits) -> io::Result<(WatchedGroups, Vec<Problem>)> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let plan = Plan::of(limits, hierarchies(&mountinfo, &cgroup));
    let mut groups = ContainerGroups::default();
    let mut problems = Vec::new();
    let wanted = [
        ("memory", limits.memory.is_some()),
        ("cpu", limits.cpus.is_some()),
        ("pids", limits.pids.is_some()),
    ];
    for (controller, _) in wanted.into_iter().filter(|(_, is_wanted)| *is_wanted) {
        match plan.hierarchy_of(controller) {
            Some(found) if is_set(found.version, controller, &found.own) => {
                groups.watch(found, controller);
            }
            Some(_) => {
                let cause = "the container has no such limit".to_owned();
                problems.push(Problem { controller, cause });
            }
            None => {
                let cause = format!("no hierarchy of groups here has the controller {controller}");
                problems.push(Problem { controller, cause });
            }
        }
    }
    Ok((WatchedGroups(ManuallyDrop::new(groups)), problems))
}

impl WatchedGroups {
    /// How often the limits were hit.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.0.pressure()
    }

    /// Memory in use, in bytes; `None` if it is not counted.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.0.memory()
    }
}

/// Whether any limit is set.
fn is_set(version: Version, controller: &str, dir: &Path) -> bool {
    let file = match (version, controller) {
        (Version::One, "memory") => "memory.limit_in_bytes",
        (Version::Two, "memory") => "memory.max",
        (Version::One, "cpu") => "cpu.cfs_quota_us",
        (Version::Two, "cpu") => "cpu.max",
        _ => "pids.max",
    };
    let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
    let first = text.split_ascii_whitespace().next().and_then(|number| number.parse::<i64>().ok());
    // "max", -1, or for memory a value near the maximum mean no limit.
    first.is_some_and(|number| (1..i64::MAX / 2).contains(&number))
}
