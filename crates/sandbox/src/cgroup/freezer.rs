//! A version 2 control group in which a build's processes are frozen without noticing.
//!
//! Used by our own engine. The runner makes it below the container's group, and PID 1 moves the
//! processes there, because pids are those of its own namespace.
#![forbid(unsafe_code)]

use super::find::{Version, hierarchies};
use super::group::{ContainerGroups, remove};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to freeze all of them.
const FREEZES: Duration = Duration::from_millis(500);

fn is_frozen(events: &mut File) -> io::Result<bool> {
    let mut text = String::new();
    events.rewind()?;
    events.read_to_string(&mut text)?;
    Ok(text.lines().any(|line| line == "frozen 1"))
}

/// The control group, which is thawed and removed with its processes when dropped.
#[derive(Debug)]
pub struct Freezer {
    dir: PathBuf,
}

impl Freezer {
    /// The directory for a container's freezer below its groups, if it can have one.
    #[must_use]
    pub fn place(groups: &ContainerGroups, name: &str) -> Option<PathBuf> {
        // A container that divides its own group would find its processes moved.
        if groups.leaf().is_some() {
            return None;
        }
        if let Some(own) = groups.version_two() {
            return Some(own.join(name));
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
        let all = hierarchies(&mountinfo, &cgroup);
        let two = all.into_iter().find(|hierarchy| hierarchy.version == Version::Two)?;
        Some(two.own.join(name))
    }

    /// Creates the group in this directory.
    ///
    /// # Errors
    /// The kernel or the parent group's owner does not allow it.
    pub fn make(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir(&dir)?;
        let freezer = Freezer { dir };
        // A machine's top group has no such file, nor do kernels before 5.2.
        freezer.file("cgroup.freeze").map(|_| freezer)
    }

    /// The file that takes pids, one per write.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn processes(&self) -> io::Result<File> {
        self.file("cgroup.procs")
    }

    /// Freezes all processes in the group and waits until they are frozen. On failure they go on.
    ///
    /// # Errors
    /// They are not frozen in time.
    pub fn freeze(&self) -> io::Result<()> {
        self.stop().inspect_err(|_| {
            // If the group is gone, nothing is frozen.
            let _ = self.thaw();
        })
    }

    fn stop(&self) -> io::Result<()> {
        let mut events = File::open(self.dir.join("cgroup.events"))?;
        fs::write(self.dir.join("cgroup.freeze"), "1")?;
        let until = Instant::now() + FREEZES;
        while !is_frozen(&mut events)? {
            let left = until.saturating_duration_since(Instant::now());
            // The kernel signals readers of the file at each change.
            let mut news = [PollFd::new(&events, PollFlags::PRI)];
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            if rustix::event::poll(&mut news, Some(&left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Thaws the processes.
    ///
    /// # Errors
    /// The group is gone.
    pub fn thaw(&self) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.freeze"), "0")
    }

    fn file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join(name))
    }

    /// The group's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Kills what is still in it. If something goes wrong, the next command's sweep tries again.
        let _ = self.thaw();
        let _ = remove(&self.dir);
    }
}
