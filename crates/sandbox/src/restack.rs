//! Gives overlays of a container that runs a new upper layer; what they have written so far becomes the topmost of those below
//! (adr/0260).
//!
//! Used by the engine while nobody lives in the container but its first process. [`restack`] runs in the runner, and
//! [`restack_and_answer`] in a process of this program that it starts under the name [`RESTACK_ARG`]: a process has one
//! mount namespace, and that of the runner must not change.
//!
//! The helper builds the whole tree of mounts a second time on top of the container's root, and turns over to it in one
//! step. Until then nothing is changed but added.
#![forbid(unsafe_code)]

use crate::descriptors;
use crate::handed;
use crate::handshake::{RESTACK_ARG, SandboxSetupError, SetupChannel};
use crate::in_root::attach_at;
use crate::mount_table::{MountTable, TableMount};
use crate::mounts::{self, Detached};
use crate::parent::{LIFTED, owner_namespace};
use crate::process::Child;
use crate::root;
use crate::spec::SandboxSpec;
use crate::sys::{self, NewProcess, ProcessImage};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Descriptors that the helper is started with, beside an empty 0, 1 and 2 and those that are handed over.
const CHANNEL: i32 = 3;
const CONTAINER: i32 = 4;
const OWNERS: i32 = 5;
const _: () = assert!(handed::FIRST == 6);

/// Why a container's overlays have no new upper layers.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{why}")]
pub struct NotRestacked {
    /// In words.
    pub why: String,
    /// Whether the container is as it was. Otherwise nobody may trust it.
    pub is_intact: bool,
}

impl NotRestacked {
    /// The container is as it was.
    pub fn intact(why: impl ToString) -> Self {
        NotRestacked { why: why.to_string(), is_intact: true }
    }

    fn broken(why: impl ToString) -> Self {
        NotRestacked { why: why.to_string(), is_intact: false }
    }
}

impl From<SandboxSetupError> for NotRestacked {
    fn from(error: SandboxSetupError) -> Self {
        NotRestacked::intact(error)
    }
}

/// What the helper is to do.
#[derive(Serialize, Deserialize)]
struct RestackRequest {
    /// The container as it is to be; its layer has the new directories.
    spec: SandboxSpec,
    handed: Vec<PathBuf>,
    /// The overlays.
    names: Vec<String>,
    /// The container's first process.
    pid: u32,
}

/// Stacks the overlays `names` of a container as `spec` has them; those that were there to be stacked. Blocks, on the thread
/// that the helper lives and dies with.
///
/// `container` is the container's first process, `pid` its number.
///
/// # Errors
/// What failed, and whether the container is as it was.
pub fn restack(
    spec: &SandboxSpec,
    handed: &[BorrowedFd<'_>],
    names: &[String],
    (pid, container): (u32, BorrowedFd<'_>),
) -> Result<Vec<String>, NotRestacked> {
    let (mut channel, child) = start(spec, handed, container)
        .map_err(|error| NotRestacked::intact(format!("no helper: {error}")))?;
    let handed = handed::paths(handed).map_err(NotRestacked::intact)?;
    let order = RestackRequest { spec: spec.clone(), handed, names: names.to_vec(), pid };
    // It does nothing before it has all of it.
    channel.send(&order).map_err(NotRestacked::intact)?;
    match channel.receive::<Result<Vec<String>, NotRestacked>>() {
        Ok(Some(answer)) => answer,
        Ok(None) | Err(_) => {
            let how = child.wait();
            Err(NotRestacked::broken(format!("the helper has ended without an answer ({how})")))
        }
    }
}

fn start(
    spec: &SandboxSpec,
    handed: &[BorrowedFd<'_>],
    container: BorrowedFd<'_>,
) -> io::Result<(SetupChannel, Child)> {
    let (channel, theirs) = SetupChannel::pair()?;
    let null: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
    let owners = match spec.owner {
        Some(swap) => owner_namespace(swap)?,
        None => null.try_clone()?,
    };
    // Above the numbers that they are to be copied to.
    let lift = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, LIFTED);
    let (null, theirs) = (lift(null.as_fd())?, lift(theirs.as_fd())?);
    let (container, owners) = (lift(container)?, lift(owners.as_fd())?);
    let handed = handed.iter().map(|fd| lift(*fd)).collect::<Result<Vec<_>, _>>()?;
    let mut fds = [&null, &null, &null, &theirs, &container, &owners].map(AsFd::as_fd).to_vec();
    fds.extend(handed.iter().map(AsFd::as_fd));
    let argument = CString::new(RESTACK_ARG).map_err(io::Error::other)?;
    let (_pid, pidfd) = sys::spawn(&NewProcess {
        namespaces: 0,
        gate: None,
        fds: &fds,
        program: ProcessImage::Path(c"/proc/self/exe"),
        arguments: &[c"runner", &argument],
        descriptors: descriptors::before(),
    })?;
    Ok((channel, Child::new(pidfd)))
}

/// The helper: carries out one request and answers it. Its exit code.
#[must_use]
pub fn restack_and_answer() -> u8 {
    // With the runner the container ends as well.
    let is_tied = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let Some([channel, container, owners]) = sys::inherited([CHANNEL, CONTAINER, OWNERS]) else {
        return 2;
    };
    let mut channel = SetupChannel::new(channel);
    let Ok(Some(order)) = channel.receive::<RestackRequest>() else { return 3 };
    let done = match is_tied {
        true => perform(&order, &container, &owners),
        false => Err(NotRestacked::intact("the helper cannot be tied to the runner")),
    };
    match channel.send(&done) {
        Ok(()) => 0,
        Err(_) => 3,
    }
}

fn perform(
    order: &RestackRequest,
    container: &OwnedFd,
    owners: &OwnedFd,
) -> Result<Vec<String>, NotRestacked> {
    let RestackRequest { spec, handed, names, pid } = order;
    let failed = |doing: &'static str| {
        move |error: io::Error| NotRestacked::intact(format!("cannot {doing}: {error}"))
    };
    let table = MountTable::of(*pid).map_err(failed("read the container's mounts"))?;
    let root = table.root().ok_or_else(|| NotRestacked::intact("the container has no root"))?;
    // What is not there as an overlay takes nothing that is written.
    let uppers = spec.uppers();
    let place = |name: &String| match uppers.iter().position(|upper| upper.name == *name)? {
        0 => Some(root.id),
        number => Some(table.overlay(&root::source_of(number))?.id),
    };
    let places: BTreeMap<String, u64> =
        names.iter().filter_map(|name| Some((name.clone(), place(name)?))).collect();
    if let Some(again) = places.values().find_map(|id| table.shown_again(*id)) {
        let point = again.point.display();
        return Err(NotRestacked::intact(format!("{point} is a mount of something in it")));
    }
    if spec.users.is_some() {
        setns(container, CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| failed("join the container's users")(errno.into()))?;
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| failed("make a mount namespace")(errno.into()))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| failed("make the mounts private")(errno.into()))?;
    let _handed = handed::take(handed)?;
    let present: Vec<String> = places.keys().cloned().collect();
    let made = root::overlays(spec, owners, &present)?;
    let names: Vec<String> = made.iter().map(|(name, _)| name.clone()).collect();
    let made = made.into_iter().map(|(name, mount)| (places[&name], mount)).collect();
    setns(container, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| failed("join the container's mounts")(errno.into()))?;
    Tree::over(&table, root, made)?.enter()?;
    Ok(names)
}

/// The container's mounts once more, on top of its root.
struct Tree<'t> {
    table: &'t MountTable,
    old: OwnedFd,
    new: OwnedFd,
    /// What comes in the place of a mount.
    made: BTreeMap<u64, Detached>,
}

impl<'t> Tree<'t> {
    /// Builds it, or leaves nothing of it.
    fn over(
        table: &'t MountTable,
        root: &TableMount,
        mut made: BTreeMap<u64, Detached>,
    ) -> Result<Self, NotRestacked> {
        let failed = |error: io::Error| {
            NotRestacked::intact(format!("cannot mount the container's root anew: {error}"))
        };
        let old = mounts::open_path(Path::new("/")).map_err(failed)?;
        if !is_root_of(&old, root.id).map_err(failed)? {
            return Err(NotRestacked::intact("something lies over the container's root"));
        }
        let new = match made.remove(&root.id) {
            Some(new) => new,
            None => mounts::copy_open(&old, false).map_err(failed)?,
        };
        attach_at(&new, &old).map_err(failed)?;
        let tree = Tree { table, old, new, made };
        match tree.fill(root) {
            Ok(()) => Ok(tree),
            Err(error) => Err(tree.give_up(&error)),
        }
    }

    /// Puts into the place of a mount's copy what is mounted below the mount.
    fn fill(&self, mount: &TableMount) -> Result<(), String> {
        for below in self.table.below(mount) {
            let failed =
                |error: io::Error| format!("cannot mount {} anew: {error}", below.point.display());
            let old = find(&self.old, &below.point).map_err(failed)?;
            // What is covered by another mount is seen by nobody.
            if !is_root_of(&old, below.id).map_err(failed)? {
                self.fill_covered(below)?;
                continue;
            }
            let (has_new, has_new_below) = (self.made.get(&below.id), self.has_new_below(below));
            let copy;
            let new = match has_new {
                Some(new) => new,
                None => {
                    copy = mounts::copy_open(&old, !has_new_below).map_err(failed)?;
                    &copy
                }
            };
            let place = find(&self.new, &below.point).map_err(failed)?;
            attach_at(new, place).map_err(failed)?;
            if has_new.is_some() || has_new_below {
                self.fill(below)?;
            }
        }
        Ok(())
    }

    /// The same of a mount that has no copy, for what lies over it.
    fn fill_covered(&self, mount: &TableMount) -> Result<(), String> {
        let mut above = self.table.below(mount).filter(|above| above.point == mount.point);
        match above.next() {
            Some(_) => self.fill(mount),
            None => Ok(()),
        }
    }

    fn has_new_below(&self, mount: &TableMount) -> bool {
        self.table
            .below(mount)
            .any(|below| self.made.contains_key(&below.id) || self.has_new_below(below))
    }

    /// Has the container, all of it, go over to the new tree.
    fn enter(self) -> Result<(), NotRestacked> {
        let turn = || -> io::Result<()> {
            rustix::process::fchdir(&self.new)?;
            Ok(rustix::process::pivot_root(".", ".")?)
        };
        if let Err(error) = turn() {
            return Err(self.give_up(&format!("cannot turn over to the new mounts: {error}")));
        }
        unmount(".", UnmountFlags::DETACH).map_err(|error| {
            NotRestacked::broken(format!("cannot take the old mounts off: {error}"))
        })
    }

    /// Takes off what has been put on.
    fn give_up(&self, why: &str) -> NotRestacked {
        let taken_off =
            rustix::process::fchdir(&self.new).and_then(|()| unmount(".", UnmountFlags::DETACH));
        match taken_off {
            Ok(()) => NotRestacked::intact(why),
            Err(error) => NotRestacked::broken(format!("{why}, and cannot take it off: {error}")),
        }
    }
}

/// What is at a path of the container, on top of all that is mounted there.
fn find(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            // A rename elsewhere made the kernel unsure; it asks to be asked again.
            Err(Errno::AGAIN) => {}
            done => return Ok(done?),
        }
    }
}

/// Whether what is open is on this mount.
fn is_root_of(place: &OwnedFd, mount: u64) -> io::Result<bool> {
    let facts = statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(facts.stx_mnt_id == mount)
}
