//! A container's control groups: creates, joins, reads and removes them.
//!
//! Used by the engines. A missing feature is a [`Problem`] rather than a failure: most users may
//! create no groups.
#![forbid(unsafe_code)]

use super::find::{Hierarchy, Version, hierarchies};
use super::limits::{Pressure, ResourceLimits};
use crate::process::ends_within;
use crate::sys::GroupDoors;
use nix::poll::PollTimeout;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The period for CPU quotas, in microseconds.
const PERIOD: u64 = 100_000;
/// Name of the child group for the programs of a privileged container: in version 2 a group with
/// processes cannot give controllers to children.
const LEAF: &str = "init";

/// The groups planned for a container.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    limits: ResourceLimits,
    /// Whether to make a group in every hierarchy, which the container may divide further.
    whole: bool,
    hierarchies: Vec<Hierarchy>,
}

/// A limit that is not enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The missing controller.
    pub controller: &'static str,
    /// Why.
    pub cause: String,
}

/// Plans a container's groups, all named `name`.
///
/// `whole`: a group in every hierarchy, which the container may divide further.
///
/// # Errors
/// The kernel does not report this process's groups.
pub fn plan(name: &str, limits: ResourceLimits, whole: bool) -> io::Result<Plan> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let cgroup = fs::read_to_string("/proc/self/cgroup")?;
    let hierarchies = hierarchies(&mountinfo, &cgroup);
    Ok(Plan { name: name.to_owned(), limits, whole, hierarchies })
}

/// A limit as written to a group's files.
struct LimitSetting {
    controller: &'static str,
    /// Files and values. Only the first file must exist; the others matter only if they exist.
    files: Vec<(&'static str, String)>,
}

impl Plan {
    /// A plan for existing groups.
    pub(super) fn of(limits: ResourceLimits, hierarchies: Vec<Hierarchy>) -> Self {
        Plan { name: String::new(), limits, whole: false, hierarchies }
    }

    /// Every directory that may be created.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().filter_map(|hierarchy| self.place(hierarchy)).collect()
    }

    /// The directory for the group in a hierarchy, if there is a place.
    fn place(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        let above = match hierarchy.version {
            Version::One => Some(&*hierarchy.own),
            // Only a machine's top group may have both processes, such as this one, and children
            // with controllers. Any other group would refuse the memory controller, and for CPU
            // would become a threaded one, whose children accept no processes.
            Version::Two if is_top(&hierarchy.own) => Some(&*hierarchy.own),
            Version::Two if hierarchy.own == hierarchy.mount => None,
            Version::Two => hierarchy.own.parent(),
        };
        Some(above?.join(&self.name))
    }

    /// Creates the groups and sets the limits.
    #[must_use]
    pub fn make(&self) -> (ContainerGroups, Vec<Problem>) {
        let mut groups = ContainerGroups::default();
        let mut problems = Vec::new();
        for wanted in [LimitKind::Memory, LimitKind::Cpu, LimitKind::Pids] {
            let Some(setting) = wanted.one(&self.limits) else { continue };
            let controller = setting.controller;
            let done = match self.hierarchy_of(controller) {
                Some(hierarchy) => groups.of(self, hierarchy, &[controller]).and_then(|group| {
                    let settings = match group.version {
                        Version::One => setting,
                        Version::Two => wanted.two(&self.limits).unwrap_or(setting),
                    };
                    group.set(&settings)?;
                    group.controllers.push(controller);
                    Ok(())
                }),
                None => Err(format!("no hierarchy of groups here has the controller {controller}")),
            };
            if let Err(cause) = done {
                problems.push(Problem { controller, cause });
            }
        }
        if self.whole {
            for hierarchy in &self.hierarchies {
                // If this fails, programs in the container cannot divide it and will say so.
                let _ = groups.of(self, hierarchy, &[]);
                for controller in controllers(&hierarchy.mount) {
                    let _ = groups.of(self, hierarchy, &[&controller]);
                }
            }
            groups.make_leaf();
        }
        // A group without a limit is useless.
        if !self.whole {
            groups.groups.retain(|group| {
                let is_used = !group.controllers.is_empty();
                if !is_used {
                    let _ = fs::remove_dir(&group.dir);
                }
                is_used
            });
        }
        (groups, problems)
    }

    pub(super) fn hierarchy_of(&self, controller: &str) -> Option<&Hierarchy> {
        let has = |hierarchy: &&Hierarchy| match hierarchy.version {
            Version::One => hierarchy.options.iter().any(|option| option == controller),
            Version::Two => listed(&hierarchy.mount.join("cgroup.controllers"), controller),
        };
        self.hierarchies.iter().find(has)
    }
}

/// Whether a version 2 group is the machine's top one, not just the top of the visible part.
fn is_top(group: &Path) -> bool {
    group.join("cgroup.controllers").exists() && !group.join("cgroup.type").exists()
}

/// A version 2 group's controllers; empty for version 1.
fn controllers(group: &Path) -> Vec<String> {
    let list = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Whether a file lists a controller.
fn listed(file: &Path, controller: &str) -> bool {
    let list = fs::read_to_string(file).unwrap_or_default();
    list.split_ascii_whitespace().any(|listed| listed == controller)
}

/// A limit that can be requested.
#[derive(Clone, Copy)]
enum LimitKind {
    Memory,
    Cpu,
    Pids,
}

impl LimitKind {
    /// The settings for version 1.
    fn one(self, limits: &ResourceLimits) -> Option<LimitSetting> {
        let (controller, files) = match self {
            LimitKind::Memory => {
                let bytes = limits.memory?.to_string();
                // The second file exists if swap is counted; without it, swap is not limited.
                let both = ("memory.memsw.limit_in_bytes", bytes.clone());
                ("memory", vec![("memory.limit_in_bytes", bytes), both])
            }
            LimitKind::Cpu => {
                let quota = quota(limits)?;
                let period = ("cpu.cfs_period_us", PERIOD.to_string());
                ("cpu", vec![period, ("cpu.cfs_quota_us", quota.to_string())])
            }
            LimitKind::Pids => ("pids", vec![("pids.max", limits.pids?.to_string())]),
        };
        Some(LimitSetting { controller, files })
    }

    /// The settings for version 2.
    fn two(self, limits: &ResourceLimits) -> Option<LimitSetting> {
        let (controller, files) = match self {
            LimitKind::Memory => {
                let bytes = limits.memory?.to_string();
                ("memory", vec![("memory.max", bytes), ("memory.swap.max", "0".to_owned())])
            }
            LimitKind::Cpu => ("cpu", vec![("cpu.max", format!("{} {PERIOD}", quota(limits)?))]),
            LimitKind::Pids => ("pids", vec![("pids.max", limits.pids?.to_string())]),
        };
        Some(LimitSetting { controller, files })
    }
}

/// CPU time in each period, in microseconds.
fn quota(limits: &ResourceLimits) -> Option<u64> {
    let thousandths = u64::from(limits.cpus?.0);
    // The kernel accepts no less than a millisecond.
    Some((thousandths * PERIOD / 1000).max(1000))
}

/// A container's groups, removed when dropped; nothing may run in them by then.
#[derive(Debug, Default)]
pub struct ContainerGroups {
    groups: Vec<ControlGroup>,
    leaf: Option<PathBuf>,
}

#[derive(Debug)]
struct ControlGroup {
    version: Version,
    dir: PathBuf,
    /// The controllers with a limit here.
    controllers: Vec<&'static str>,
}

impl ContainerGroups {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The child group that a container's PID 1 must join once its own group is the root of its
    /// view.
    #[must_use]
    pub fn leaf(&self) -> Option<&Path> {
        self.leaf.as_deref()
    }

    /// Lets programs in the container divide the groups. Call it once PID 1 has joined
    /// [`Self::leaf`]: a group that gives controllers to children accepts no processes.
    pub fn open_for_division(&self) {
        for group in self.groups.iter().filter(|_| self.leaf.is_some()) {
            group.open_for_division();
        }
    }

    /// Ways into them for a process that is about to be made. Where there is none, [`Self::add`]
    /// puts it there.
    #[must_use]
    pub fn doors(&self) -> GroupDoors {
        let mut doors = GroupDoors::default();
        for group in &self.groups {
            match group.version {
                Version::One => {
                    let tasks = OpenOptions::new().write(true).open(group.dir.join("tasks"));
                    doors.tasks.extend(tasks.ok().map(OwnedFd::from));
                }
                Version::Two => {
                    doors.birthplace = File::open(&group.dir).ok().map(OwnedFd::from);
                }
            }
        }
        doors
    }

    /// Puts a process into all of them that it is not in.
    ///
    /// # Errors
    /// The first that does not take it.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for group in &self.groups {
            let file = group.dir.join("cgroup.procs");
            let there = fs::read_to_string(&file).unwrap_or_default();
            if there.lines().any(|line| line.parse() == Ok(pid)) {
                continue;
            }
            fs::write(&file, pid.to_string()).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        Ok(())
    }

    /// How often the limits were hit.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let mut pressure = Pressure::default();
        for group in &self.groups {
            for controller in &group.controllers {
                match (*controller, group.version) {
                    ("memory", Version::One) => {
                        pressure.oom_kills = group.count("memory.oom_control", "oom_kill");
                    }
                    ("memory", Version::Two) => {
                        pressure.oom_kills = group.count("memory.events", "oom_kill");
                    }
                    ("pids", _) => pressure.refused_forks = group.count("pids.events", "max"),
                    _ => {}
                }
            }
        }
        pressure
    }

    /// The container's own version 2 group, if it has one.
    pub(super) fn version_two(&self) -> Option<&Path> {
        let two = self.groups.iter().find(|group| group.version == Version::Two);
        two.map(|group| &*group.dir)
    }

    /// Memory in use, in bytes; `None` if no group counts it.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let counts = |group: &&ControlGroup| group.controllers.contains(&"memory");
        let group = self.groups.iter().find(counts)?;
        let file = match group.version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        };
        fs::read_to_string(group.dir.join(file)).ok()?.trim().parse().ok()
    }

    /// Adopts a group made by someone else.
    pub(super) fn watch(&mut self, hierarchy: &Hierarchy, controller: &'static str) {
        let (version, dir) = (hierarchy.version, hierarchy.own.clone());
        self.groups.push(ControlGroup { version, dir, controllers: vec![controller] });
    }

    /// The group in a hierarchy with these controllers, created if needed.
    fn of(
        &mut self,
        plan: &Plan,
        hierarchy: &Hierarchy,
        controllers: &[&str],
    ) -> Result<&mut ControlGroup, String> {
        let dir = plan.place(hierarchy).ok_or_else(|| {
            format!(
                "{} is as far as this process sees, has processes itself and can have no children",
                hierarchy.own.display()
            )
        })?;
        enable(hierarchy, &dir, controllers)?;
        let known = self.groups.iter().position(|group| group.dir == dir);
        let index = match known {
            Some(index) => index,
            None => {
                make(&dir)?;
                let version = hierarchy.version;
                self.groups.push(ControlGroup { version, dir, controllers: Vec::new() });
                self.groups.len() - 1
            }
        };
        Ok(&mut self.groups[index])
    }

    /// Creates the group for PID 1 of a container that divides its own group.
    fn make_leaf(&mut self) {
        let two = self.groups.iter().find(|group| group.version == Version::Two);
        // On a hybrid machine version 2 has nothing to divide.
        let Some(group) = two.filter(|group| group.has_controllers()) else { return };
        let leaf = group.dir.join(LEAF);
        if fs::create_dir(&leaf).is_ok() {
            self.leaf = Some(leaf);
        }
    }
}

impl ControlGroup {
    fn set(&self, setting: &LimitSetting) -> Result<(), String> {
        for (number, (file, value)) in setting.files.iter().enumerate() {
            let path = self.dir.join(file);
            match fs::write(&path, value) {
                Err(error) if number == 0 || error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("cannot write {value} to {}: {error}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The value after a key in one of its files.
    fn count(&self, file: &str, word: &str) -> u64 {
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    fn has_controllers(&self) -> bool {
        !controllers(&self.dir).is_empty()
    }

    /// Gives all of the group's controllers to its children, now that it has no processes.
    fn open_for_division(&self) {
        if self.version != Version::Two {
            return;
        }
        for controller in controllers(&self.dir) {
            let _ = fs::write(self.dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

impl Drop for ContainerGroups {
    fn drop(&mut self) {
        for group in &self.groups {
            // If something goes wrong, the next command's sweep tries again.
            let _ = remove(&group.dir);
        }
    }
}

/// Enables controllers for the children of `dir`'s parent; version 1 needs nothing.
fn enable(hierarchy: &Hierarchy, dir: &Path, controllers: &[&str]) -> Result<(), String> {
    if hierarchy.version == Version::One {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(&hierarchy.mount);
    // From the top: a group has only the controllers that its parent gives.
    let below = parent.strip_prefix(&hierarchy.mount).unwrap_or(Path::new(""));
    let mut above = vec![hierarchy.mount.clone()];
    for part in below {
        above.extend(above.last().map(|last| last.join(part)));
    }
    for controller in controllers {
        for file in above.iter().map(|group| group.join("cgroup.subtree_control")) {
            if !listed(&file, controller) {
                fs::write(&file, format!("+{controller}")).map_err(|error| {
                    format!("cannot write +{controller} to {}: {error}", file.display())
                })?;
            }
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<(), String> {
    fs::create_dir(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
    // Without CPUs and memory nodes, a version 1 group accepts no processes.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty())
            && let Some(text) = dir.parent().and_then(|up| fs::read_to_string(up.join(file)).ok())
        {
            // In version 2 an empty file is normal, and the parent's may be missing.
            let _ = fs::write(&own, text);
        }
    }
    Ok(())
}

/// Removes a group with its child groups and kills what still runs in them. A missing group is no
/// error.
///
/// # Errors
/// The group could not be removed.
pub fn remove(dir: &Path) -> io::Result<()> {
    /// The kernel takes a moment to forget a process that has ended.
    const TRIES: u32 = 200;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TRIES => {
                tries += 1;
                if !end_all(dir) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            done => return done,
        }
    }
}

/// Kills all processes in a group. Returns whether there were any.
fn end_all(dir: &Path) -> bool {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut found = false;
    for pid in list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // The pid may have been reused; the descriptor refers to one process.
        let is_still_there = fs::read_to_string(dir.join("cgroup.procs"))
            .is_ok_and(|list| list.lines().any(|line| line.parse() == Ok(pid.as_raw_pid())));
        if !is_still_there {
            continue;
        }
        found = true;
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(_) => continue,
        }
        let _ = ends_within(&process, PollTimeout::from(1000_u16));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Imitates a group's files.
    fn group(dir: &Path, is_top: bool) -> PathBuf {
        fs::create_dir_all(dir).expect("a directory");
        fs::write(dir.join("cgroup.controllers"), "cpu memory\n").expect("a file");
        if !is_top {
            fs::write(dir.join("cgroup.type"), "domain\n").expect("a file");
        }
        dir.to_path_buf()
    }

    #[test]
    fn in_version_2_only_the_topmost_group_has_children_beside_processes() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = group(&dir.path().join("machine"), true);
        let session = group(&top.join("session"), false);
        let container = group(&dir.path().join("container"), false);
        let place = |mount: &Path, own: &Path| {
            let (mount, own) = (mount.to_path_buf(), own.to_path_buf());
            let hierarchy = Hierarchy { version: Version::Two, options: Vec::new(), mount, own };
            let limits = ResourceLimits::default();
            let plan = Plan { name: "x".into(), limits, whole: false, hierarchies: Vec::new() };
            plan.place(&hierarchy)
        };
        assert_eq!(place(&top, &top), Some(top.join("x")));
        assert_eq!(place(&top, &session), Some(top.join("x")));
        // A container does not see the groups above its own.
        assert_eq!(place(&container, &container), None);
    }
}
