//! A group of version 2 in which what a build runs stands still, and does not notice.
//!
//! Used by the engine of this program's own. The runner makes it, below the group that the container is in,
//! and PID 1 fills it: the numbers of processes are its own namespace's.
#![forbid(unsafe_code)]

use super::find::{Version, hierarchies};
use super::group::{ContainerGroups, remove};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take until all of it stands still.
const FREEZES: Duration = Duration::from_millis(500);

fn is_frozen(events: &mut File) -> io::Result<bool> {
    let mut text = String::new();
    events.rewind()?;
    events.read_to_string(&mut text)?;
    Ok(text.lines().any(|line| line == "frozen 1"))
}

/// The group.
#[derive(Debug)]
pub struct Freezer {
    dir: PathBuf,
}

impl Freezer {
    /// Where the group of a container in these groups goes, if it can have one.
    #[must_use]
    pub fn place(groups: &ContainerGroups, name: &str) -> Option<PathBuf> {
        // What divides its group itself would find its processes in another one.
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

    /// Makes it at such a place.
    ///
    /// # Errors
    /// The kernel, or who owns the group above, does not allow it.
    pub fn make(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir(&dir)?;
        let freezer = Freezer { dir };
        // The topmost group of a machine has none, nor have kernels before 5.2.
        freezer.file("cgroup.freeze").map(|_| freezer)
    }

    /// Takes the numbers of processes, one a write.
    ///
    /// # Errors
    /// It is not ours to open.
    pub fn processes(&self) -> io::Result<File> {
        self.file("cgroup.procs")
    }

    /// Stops what is in it, and waits until it stands still. Otherwise all of it goes on.
    ///
    /// # Errors
    /// It does not stand still in time.
    pub fn freeze(&self) -> io::Result<()> {
        self.stop().inspect_err(|_| {
            // Without a group nothing stands still.
            let _ = self.thaw();
        })
    }

    fn stop(&self) -> io::Result<()> {
        let mut events = File::open(self.dir.join("cgroup.events"))?;
        fs::write(self.dir.join("cgroup.freeze"), "1")?;
        let until = Instant::now() + FREEZES;
        while !is_frozen(&mut events)? {
            let left = until.saturating_duration_since(Instant::now());
            // The file is news to its readers whenever something in it changes.
            let mut news = [PollFd::new(&events, PollFlags::PRI)];
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            if rustix::event::poll(&mut news, Some(&left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// The group is gone.
    pub fn thaw(&self) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.freeze"), "0")
    }

    fn file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join(name))
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // What is still in it is ended with it; whatever is in the way, the next command's sweep tries again.
        let _ = self.thaw();
        let _ = remove(&self.dir);
    }
}
