//! Groups of a container: made, joined, read and removed.
//!
//! Used by the engines. What cannot be had is a [`Problem`] and no failure: most users of a machine may
//! make no groups.
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

/// The part of a second over which processors are shared out, in microseconds.
const PERIOD: u64 = 100_000;
/// Name of the group in which the programs of a container with privileges are, below its own: the
/// kernel gives a group of version 2 that has processes no children with controllers.
const LEAF: &str = "init";

/// Groups that a container is to have.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    limits: ResourceLimits,
    /// Whether there is to be a group in every hierarchy, to be divided further from inside.
    whole: bool,
    hierarchies: Vec<Hierarchy>,
}

/// A limit that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The controller that is lacking.
    pub controller: &'static str,
    /// Why.
    pub cause: String,
}

/// Looks for the places of a container's groups, all called `name`.
///
/// `whole`: one in every hierarchy, which what runs in the container may divide further.
///
/// # Errors
/// The kernel does not tell where this process is.
pub fn plan(name: &str, limits: ResourceLimits, whole: bool) -> io::Result<Plan> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let cgroup = fs::read_to_string("/proc/self/cgroup")?;
    let hierarchies = hierarchies(&mountinfo, &cgroup);
    Ok(Plan { name: name.to_owned(), limits, whole, hierarchies })
}

/// A limit as the files of a group have it.
struct LimitSetting {
    controller: &'static str,
    /// Files and values. One that is not there is none that would matter, but for the first.
    files: Vec<(&'static str, String)>,
}

impl Plan {
    /// For groups that are there already.
    pub(super) fn of(limits: ResourceLimits, hierarchies: Vec<Hierarchy>) -> Self {
        Plan { name: String::new(), limits, whole: false, hierarchies }
    }

    /// Every directory that may be made.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().filter_map(|hierarchy| self.place(hierarchy)).collect()
    }

    /// Where the group of a hierarchy goes, if there is a place.
    fn place(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        let above = match hierarchy.version {
            Version::One => Some(&*hierarchy.own),
            // The topmost group of a machine is the only one with processes, as this one, that has
            // children with controllers. Any other would be asked in vain for memory, and for
            // processors would become one of threads, whose children take no process.
            Version::Two if is_top(&hierarchy.own) => Some(&*hierarchy.own),
            Version::Two if hierarchy.own == hierarchy.mount => None,
            Version::Two => hierarchy.own.parent(),
        };
        Some(above?.join(&self.name))
    }

    /// Makes them, and sets the limits.
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
                // Without it, what runs in the container cannot divide it, and will say so.
                let _ = groups.of(self, hierarchy, &[]);
                for controller in controllers(&hierarchy.mount) {
                    let _ = groups.of(self, hierarchy, &[&controller]);
                }
            }
            groups.make_leaf();
        }
        // One in which nothing was set is of no use.
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

/// Whether a group of version 2 is the topmost of the machine, and not only of what is seen of it.
fn is_top(group: &Path) -> bool {
    group.join("cgroup.controllers").exists() && !group.join("cgroup.type").exists()
}

/// What a group of version 2 has; nothing in version 1.
fn controllers(group: &Path) -> Vec<String> {
    let list = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Whether a controller is in a file that lists some.
fn listed(file: &Path, controller: &str) -> bool {
    let list = fs::read_to_string(file).unwrap_or_default();
    list.split_ascii_whitespace().any(|listed| listed == controller)
}

/// A limit that may be wanted.
#[derive(Clone, Copy)]
enum LimitKind {
    Memory,
    Cpu,
    Pids,
}

impl LimitKind {
    /// For version 1.
    fn one(self, limits: &ResourceLimits) -> Option<LimitSetting> {
        let (controller, files) = match self {
            LimitKind::Memory => {
                let bytes = limits.memory?.to_string();
                // The second is there where swap is counted; without it, swap is left open.
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

    /// For version 2.
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

/// Microseconds of each period.
fn quota(limits: &ResourceLimits) -> Option<u64> {
    let thousandths = u64::from(limits.cpus?.0);
    // The kernel takes no less than a thousandth of a second.
    Some((thousandths * PERIOD / 1000).max(1000))
}

/// Groups of a container, removed when they go out of scope; by then nothing may run in them.
#[derive(Debug, Default)]
pub struct ContainerGroups {
    groups: Vec<ControlGroup>,
    leaf: Option<PathBuf>,
}

#[derive(Debug)]
struct ControlGroup {
    version: Version,
    dir: PathBuf,
    /// What is limited here.
    controllers: Vec<&'static str>,
}

impl ContainerGroups {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The group below its own that a container's PID 1 has to join once its own is the root of what it
    /// sees.
    #[must_use]
    pub fn leaf(&self) -> Option<&Path> {
        self.leaf.as_deref()
    }

    /// Lets what runs in the container divide them, once its PID 1 is where [`Self::leaf`] says: the
    /// kernel takes no process into a group that gives controllers to children.
    pub fn open_for_division(&self) {
        for group in self.groups.iter().filter(|_| self.leaf.is_some()) {
            group.open_for_division();
        }
    }

    /// Ways into them for a process that is about to be made. Where there is none, [`Self::add`] puts it there.
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

    /// How often the limits were in the way.
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

    /// The container's own group of version 2, where it has one.
    pub(super) fn version_two(&self) -> Option<&Path> {
        let two = self.groups.iter().find(|group| group.version == Version::Two);
        two.map(|group| &*group.dir)
    }

    /// Bytes of memory that are taken in it; nothing where no group counts them.
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

    /// Takes a group that somebody else has made.
    pub(super) fn watch(&mut self, hierarchy: &Hierarchy, controller: &'static str) {
        let (version, dir) = (hierarchy.version, hierarchy.own.clone());
        self.groups.push(ControlGroup { version, dir, controllers: vec![controller] });
    }

    /// The group in a hierarchy, made if need be, with these controllers.
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

    /// Makes the group for PID 1 of a container that divides its own.
    fn make_leaf(&mut self) {
        let two = self.groups.iter().find(|group| group.version == Version::Two);
        // On a hybrid machine there is nothing to divide in version 2.
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

    /// What stands behind a word in one of its files.
    fn count(&self, file: &str, word: &str) -> u64 {
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    fn has_controllers(&self) -> bool {
        !controllers(&self.dir).is_empty()
    }

    /// Gives all that this group has to its children, now that it has no processes.
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
            // Whatever is in the way, the next command's sweep has another try.
            let _ = remove(&group.dir);
        }
    }
}

/// Has the children of the group above `dir` get controllers; nothing to do in version 1.
fn enable(hierarchy: &Hierarchy, dir: &Path, controllers: &[&str]) -> Result<(), String> {
    if hierarchy.version == Version::One {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(&hierarchy.mount);
    // From the top: a group has only what the one above it gives.
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
    // Without processors and memory nodes a group of version 1 takes no process.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty())
            && let Some(text) = dir.parent().and_then(|up| fs::read_to_string(up.join(file)).ok())
        {
            // In version 2 an empty one is all there is, and the file above may be missing.
            let _ = fs::write(&own, text);
        }
    }
    Ok(())
}

/// Removes a group, those below it, and what still runs in them. One that is not there is no failure.
///
/// # Errors
/// It could not be removed.
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

/// Kills what is in a group; whether there was anything.
fn end_all(dir: &Path) -> bool {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut found = false;
    for pid in list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // The number may be somebody else's by now; the descriptor holds on to one process.
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

    /// A group as its files show it.
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
        // What is above the group of a container, it does not see.
        assert_eq!(place(&container, &container), None);
    }
}
