//! Gives overlays of a running container a new upper layer; the old one becomes the topmost lower
//! layer (adr/0260).
//!
//! Used by the engine while nobody lives in the container but its first process. [`Restacker`] is
//! the runner's half, and [`serve_restacks`] a process of this program that it starts under the
//! name [`RESTACK_ARG`] and keeps (adr/0280): a process has one mount namespace, and that of the
//! runner must not change.
//!
//! The helper builds the whole tree of mounts a second time on top of the container's root, and
//! turns over to it in one step. Until then nothing is changed but added. Then it goes back to its
//! own mounts, which are those of the host.
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
use rustix::process::{Signal, pidfd_send_signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Descriptors that the helper starts with, in addition to empty 0, 1 and 2 and the directories.
const CHANNEL: i32 = 3;
const CONTAINER: i32 = 4;
const OWNERS: i32 = 5;
const _: () = assert!(handed::FIRST == 6);
/// How long the helper has for an order.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the kernel has to end it, in milliseconds.
const KILLED: u16 = 1000;

/// Why a container's overlays have no new upper layers.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{why}")]
pub struct NotRestacked {
    /// The reason in words.
    pub why: String,
    /// Whether the container is unchanged. Otherwise it must not be trusted.
    pub is_intact: bool,
}

impl NotRestacked {
    /// A failure that leaves the container unchanged.
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

/// The helper's settings, sent once.
#[derive(Serialize, Deserialize)]
struct RestackSetup {
    /// Whether the container has its own users.
    has_users: bool,
    handed: Vec<PathBuf>,
    /// Pid of the container's first process.
    pid: u32,
}

/// The helper's task.
#[derive(Serialize, Deserialize)]
struct Order {
    /// The new state of the container; its layer has the new directories.
    spec: SandboxSpec,
    /// Names of the overlays.
    names: Vec<String>,
}

/// The overlays that were stacked.
type Restacked = Result<Vec<String>, NotRestacked>;
type Answer = mpsc::Sender<Option<Restacked>>;

/// What the helper says of an order.
#[derive(Serialize, Deserialize)]
struct RestackAnswer {
    restacked: Restacked,
    /// It takes another order.
    goes_on: bool,
}

/// The helper of one container. It ends with this value.
#[derive(Debug)]
pub struct Restacker {
    orders: mpsc::Sender<(Order, Answer)>,
    pidfd: OwnedFd,
}

/// Ends a [`Restacker`]'s helper, also one that is at work.
#[derive(Debug)]
pub struct RestackerKill(OwnedFd);

impl RestackerKill {
    /// Does not wait.
    pub fn kill(&self) {
        // It may be dead already.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl Restacker {
    /// Starts it. `container` is the container's first process, `pid` its number.
    ///
    /// # Errors
    /// There can be no such process.
    pub fn start(
        spec: &SandboxSpec,
        handed: &[BorrowedFd<'_>],
        (pid, container): (u32, BorrowedFd<'_>),
    ) -> io::Result<Self> {
        let setup =
            RestackSetup { has_users: spec.users.is_some(), handed: handed::paths(handed)?, pid };
        let container = container.try_clone_to_owned()?;
        let owners = match spec.owner {
            Some(swap) => owner_namespace(swap)?,
            None => null()?,
        };
        let handed = handed.iter().map(BorrowedFd::try_clone_to_owned);
        let handed = handed.collect::<io::Result<Vec<_>>>()?;
        let (orders, incoming) = mpsc::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        // The kernel ends the helper with the thread that has started it.
        std::thread::Builder::new().name("restacker".to_owned()).spawn(move || {
            let helper = spawn(&handed, &container, &owners).and_then(|(mut channel, child)| {
                channel.set_deadline(PATIENCE)?;
                channel.send(&setup)?;
                let pidfd = child.pidfd().try_clone_to_owned()?;
                Ok((channel, child, pidfd))
            });
            drop((handed, container, owners));
            match helper {
                Ok((channel, child, pidfd)) => {
                    // Nobody may be there any more.
                    let _ = ready.send(Ok(pidfd));
                    pass_on(channel, &child, &incoming);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        let pidfd = is_ready.recv().map_err(io::Error::other)??;
        Ok(Restacker { orders, pidfd })
    }

    /// What ends its helper.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn kill(&self) -> io::Result<RestackerKill> {
        Ok(RestackerKill(self.pidfd.try_clone()?))
    }

    /// Stacks the overlays `names` of the container as `spec` has them; those that were there to be
    /// stacked. Blocks. Nothing where the helper has ended before; the container is as it was then.
    ///
    /// # Errors
    /// What failed, and whether the container is as it was.
    pub fn restack(&self, spec: &SandboxSpec, names: &[String]) -> Option<Restacked> {
        let (answer, answered) = mpsc::channel();
        let order = Order { spec: spec.clone(), names: names.to_vec() };
        self.orders.send((order, answer)).ok()?;
        answered.recv().ok()?
    }
}

/// Hands orders to the helper, until nobody has any more, or there is no helper.
fn pass_on(mut channel: SetupChannel, child: &Child, orders: &mpsc::Receiver<(Order, Answer)>) {
    while let Ok((order, answer)) = orders.recv() {
        // It does nothing before it has all of it.
        if channel.send(&order).is_err() {
            let _ = answer.send(None);
            return;
        }
        let answered = match channel.receive() {
            Ok(Some(answered)) => answered,
            answer => {
                let how = match answer {
                    Err(error) => format!("{error}, "),
                    Ok(_) => String::new(),
                };
                child.kill();
                // One that hangs in the kernel is left to this thread, and nobody waits for it.
                let how = match child.has_ended_within(KILLED) {
                    true => how + &child.wait(),
                    false => how + "it cannot be killed",
                };
                let why = format!("the helper has ended without an answer ({how})");
                RestackAnswer { restacked: Err(NotRestacked::broken(why)), goes_on: false }
            }
        };
        let _ = answer.send(Some(answered.restacked));
        if !answered.goes_on {
            return;
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn spawn(
    handed: &[OwnedFd],
    container: &OwnedFd,
    owners: &OwnedFd,
) -> io::Result<(SetupChannel, Child)> {
    let (channel, theirs) = SetupChannel::pair()?;
    // Above their target numbers.
    let lift = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, LIFTED);
    let (null, theirs) = (lift(&null()?)?, lift(&theirs)?);
    let (container, owners) = (lift(container)?, lift(owners)?);
    let handed = handed.iter().map(lift).collect::<Result<Vec<_>, _>>()?;
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
        groups: None,
    })?;
    Ok((channel, Child::new(pidfd)))
}

/// The helper: carries out requests and answers them, until the runner has no more. Its exit code.
#[must_use]
pub fn serve_restacks() -> u8 {
    // If the runner dies, the container ends as well.
    let is_tied = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let Some([channel, container, owners]) = sys::inherited([CHANNEL, CONTAINER, OWNERS]) else {
        return 2;
    };
    let mut channel = SetupChannel::new(channel);
    let Ok(Some(setup)) = channel.receive::<RestackSetup>() else { return 3 };
    let helper = match is_tied {
        true => Helper::new(&setup, container, owners),
        false => Err(NotRestacked::intact("the helper cannot be tied to the runner")),
    };
    while let Ok(Some(order)) = channel.receive::<Order>() {
        let done = helper.as_ref().map_err(Clone::clone).and_then(|helper| helper.perform(&order));
        // After a failure it may be anywhere.
        let goes_on = done.as_ref().is_ok_and(|done| done.is_back);
        let restacked = done.map(|done| done.names);
        if channel.send(&RestackAnswer { restacked, goes_on }).is_err() {
            return 3;
        }
        if !goes_on {
            return 0;
        }
    }
    0
}

/// The helper, in its own mount namespace, which shows the host's mounts.
struct Helper {
    container: OwnedFd,
    owners: OwnedFd,
    pid: u32,
    /// Its mounts, and its root among them.
    home: (OwnedFd, OwnedFd),
    /// Kept open, under the numbers that specs know.
    _handed: Vec<OwnedFd>,
}

/// What has become of an order that was carried out.
struct RestackDone {
    names: Vec<String>,
    /// The helper has its own mounts again.
    is_back: bool,
}

impl Helper {
    fn new(
        setup: &RestackSetup,
        container: OwnedFd,
        owners: OwnedFd,
    ) -> Result<Self, NotRestacked> {
        if setup.has_users {
            setns(&container, CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| failed("join the container's users")(errno.into()))?;
        }
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| failed("make a mount namespace")(errno.into()))?;
        // What the host unmounts is to go here as well, as long as the helper lives.
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", flags).map_err(|errno| failed("keep its mounts")(errno.into()))?;
        let mounts = OpenOptions::new().read(true).open("/proc/self/ns/mnt");
        let mounts = mounts.map_err(failed("open its mount namespace"))?;
        let root = mounts::open_path(Path::new("/")).map_err(failed("open its root"))?;
        let handed = handed::take(&setup.handed)?;
        let home = (mounts.into(), root);
        Ok(Helper { container, owners, pid: setup.pid, home, _handed: handed })
    }

    fn perform(&self, order: &Order) -> Result<RestackDone, NotRestacked> {
        let Order { spec, names } = order;
        let table = MountTable::of(self.pid).map_err(failed("read the container's mounts"))?;
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
        let present: Vec<String> = places.keys().cloned().collect();
        let made = root::overlays(spec, &self.owners, &present)?;
        let names: Vec<String> = made.iter().map(|(name, _)| name.clone()).collect();
        let made = made.into_iter().map(|(name, mount)| (places[&name], mount)).collect();
        self.let_go_of_owners(spec);
        setns(&self.container, CloneFlags::CLONE_NEWNS)
            .map_err(|errno| failed("join the container's mounts")(errno.into()))?;
        Tree::over(&table, root, made)?.enter()?;
        Ok(RestackDone { names, is_back: self.go_back().is_ok() })
    }

    /// The mounts that swap owners: an overlay has copies of them.
    fn let_go_of_owners(&self, spec: &SandboxSpec) {
        let place = root::owners_of(spec);
        // They lie on top of one another.
        while spec.owner.is_some() && unmount(&place, UnmountFlags::DETACH).is_ok() {}
    }

    /// To its own mounts.
    fn go_back(&self) -> io::Result<()> {
        let (mounts, root) = &self.home;
        setns(mounts, CloneFlags::CLONE_NEWNS)?;
        // The runner's root need not be that of its mounts.
        rustix::process::fchdir(root)?;
        Ok(rustix::process::chroot(".")?)
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> NotRestacked {
    move |error| NotRestacked::intact(format!("cannot {doing}: {error}"))
}

/// A second copy of the container's mounts, on top of its root.
struct Tree<'t> {
    table: &'t MountTable,
    old: OwnedFd,
    new: OwnedFd,
    /// New mounts that replace old ones, by mount id.
    made: BTreeMap<u64, Detached>,
}

impl<'t> Tree<'t> {
    /// Builds the tree completely, or leaves nothing of it.
    fn over(
        table: &'t MountTable,
        root: &TableMount,
        mut made: BTreeMap<u64, Detached>,
    ) -> Result<Self, NotRestacked> {
        let failed = |error: io::Error| {
            NotRestacked::intact(format!("cannot remount the container's root: {error}"))
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

    /// Mounts in the copy of a mount everything that is mounted below the original.
    fn fill(&self, mount: &TableMount) -> Result<(), String> {
        for below in self.table.below(mount) {
            let failed =
                |error: io::Error| format!("cannot mount {} again: {error}", below.point.display());
            let old = find(&self.old, &below.point).map_err(failed)?;
            // A mount covered by another is invisible.
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

    /// The same for a covered mount, which gets no copy, to reach the mounts on top of it.
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

    /// Switches the whole container to the new tree.
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

    /// Removes the mounts added so far.
    fn give_up(&self, why: &str) -> NotRestacked {
        let taken_off =
            rustix::process::fchdir(&self.new).and_then(|()| unmount(".", UnmountFlags::DETACH));
        match taken_off {
            Ok(()) => NotRestacked::intact(why),
            Err(error) => NotRestacked::broken(format!("{why}, and cannot take it off: {error}")),
        }
    }
}

/// Opens a path of the container in the topmost mount there.
fn find(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            // A concurrent rename made the kernel unsure; it wants a retry.
            Err(Errno::AGAIN) => {}
            done => return Ok(done?),
        }
    }
}

/// Whether an open place is on this mount.
fn is_root_of(place: &OwnedFd, mount: u64) -> io::Result<bool> {
    let facts = statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(facts.stx_mnt_id == mount)
}
