//! The half of a start that runs inside the new namespaces: builds the root, gives up rights,
//! becomes PID 1.
//!
//! Entered through the program's own start (`main.rs`, before anything else is set up) in the
//! process that `parent` made. Fed by `handshake`; uses `mounts` and `in_root`. Nothing is ever
//! unmounted or cleaned up here: all of it ends with the namespaces, that is with PID 1.
#![forbid(unsafe_code)]

use crate::handshake::{Channel, SetupError, Step};
use crate::in_root::InRoot;
use crate::mounts::{self, Upper};
use crate::spec::{Entry, Hidden, IdSwap, Root, SandboxSpec, Store};
use crate::{caps, seccomp, sys};
use rustix::fs::{CWD, FileType, MemfdFlags, Mode, SealFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Descriptors this half is started with, beside an empty 0, 1 and 2.
pub(crate) const CONTROL: i32 = runner_init::abi::CONTROL_FD;
pub(crate) const HANDSHAKE: i32 = 4;
pub(crate) const OWNERS: i32 = 5;

const NO_SUID_DEV_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Kernel files that tell about, or change, more than the container. Hidden.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// Kernel files that may be read but not written.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Device nodes every program expects: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Builds the container this process was made for and becomes its PID 1. Returns the exit code
/// where that fails; what failed has gone to the parent by then.
#[must_use]
pub fn set_up_and_become_init() -> u8 {
    let Some([control, handshake, owners]) = sys::inherited([CONTROL, HANDSHAKE, OWNERS]) else {
        // Started by hand; there is nobody to tell but the terminal.
        let _ = writeln!(io::stderr(), "runner: this argument is for the runner's own use");
        return 2;
    };
    // PID 1 expects something else at that number, and gets it last of all (`confine`). Until then
    // the number stays taken, so that nothing made on the way lands on it.
    let Ok(copy) = handshake.try_clone() else { return 3 };
    let mut parent = Channel::new(copy);
    let spec = match parent.receive_spec() {
        Ok(Some(spec)) => spec,
        // The parent died before it had anything to say.
        Ok(None) => return 3,
        Err(error) => {
            let failure = SetupError::new(Step::Namespaces, "read the container's spec", &error);
            let _ = parent.send_failure(&failure);
            return 3;
        }
    };
    let failure = match set_up(&spec, &owners) {
        Ok(devpts) => confine(&devpts),
        Err(failure) => failure,
    };
    let _ = parent.send_failure(&failure);
    // Only now: its end tells the parent to look for the failure.
    drop((control, handshake));
    3
}

/// `map_err` for a step on a path.
fn failing<'a>(
    step: Step,
    doing: &'a str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> SetupError + 'a {
    move |error| SetupError::new(step, format!("{doing} {}", path.display()), &error)
}

/// Everything up to the point where only rights are left to give up; the devpts root.
fn set_up(spec: &SandboxSpec, owners: &OwnedFd) -> Result<OwnedFd, SetupError> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Before the first mount: on most hosts mounts propagate, and ours would appear there.
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| {
            SetupError::new(Step::Namespaces, "make the mounts private", &errno.into())
        })?;
    let layer = LayerDir::prepare(spec)?;
    let root = mount_root(spec, &layer)?;
    let builder = Builder { root, layer, owners, swap: spec.owner };
    for entry in &spec.entries {
        builder.make(entry)?;
    }
    builder.mount_proc()?;
    builder.mount_sys()?;
    let devpts = builder.mount_dev()?;
    builder.mask()?;
    enter(&builder.root)?;
    nix::unistd::sethostname(&spec.hostname)
        .map_err(|errno| SetupError::new(Step::Namespaces, "set the host name", &errno.into()))?;
    Ok(devpts)
}

/// The directories a build's writes go to.
struct LayerDir {
    dir: PathBuf,
}

impl LayerDir {
    fn prepare(spec: &SandboxSpec) -> Result<Self, SetupError> {
        let dir = spec.layer.dir.clone();
        if let Store::Memory(bytes) = spec.layer.store {
            let size = format!("size={bytes}");
            mounts::kernel("tmpfs", &["mode=0700", &size], MountAttrFlags::empty())
                .and_then(|memory| {
                    let target = mounts::open_path(&dir)?;
                    attach(&memory, &target)
                })
                .map_err(failing(Step::Layer, "mount memory on", &dir))?;
        }
        Ok(LayerDir { dir })
    }

    /// A pair of directories for an overlay's writes.
    fn upper(&self, name: &str) -> Result<Upper, SetupError> {
        let upper =
            Upper { upper: self.dir.join(name), work: self.dir.join(format!("{name}.work")) };
        for dir in [&upper.upper, &upper.work] {
            fs::create_dir(dir).map_err(failing(Step::Layer, "make", dir))?;
        }
        Ok(upper)
    }
}

fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    use rustix::mount::MoveMountFlags as Flags;
    let flags = Flags::MOVE_MOUNT_F_EMPTY_PATH | Flags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// The new root, mounted on the layer's `root` directory.
fn mount_root(spec: &SandboxSpec, layer: &LayerDir) -> Result<InRoot, SetupError> {
    let place = layer.dir.join("root");
    fs::create_dir(&place).map_err(failing(Step::Layer, "make", &place))?;
    let mount = match &spec.root {
        Root::Empty => mounts::copy(&place, false)
            .and_then(|mount| mounts::make_root_like(&mount).map(|()| mount))
            .map_err(failing(Step::Layer, "mount", &place))?,
        Root::Image { lower } => {
            let handles = lower
                .iter()
                .map(|dir| {
                    mounts::open_path(dir).map_err(failing(Step::Source, "open the image", dir))
                })
                .collect::<Result<Vec<_>, _>>()?;
            let upper = layer.upper("image")?;
            mounts::overlay(&handles, &upper).map_err(failing(
                Step::Layer,
                "mount an overlay that writes to",
                &upper.upper,
            ))?
        }
    };
    mounts::open_path(&place)
        .and_then(|target| attach(&mount, target))
        .and_then(|()| InRoot::open(&place))
        .map_err(failing(Step::Root, "mount the root on", &place))
}

/// Makes what stands in the root.
struct Builder<'a> {
    root: InRoot,
    layer: LayerDir,
    /// The user namespace that swaps owners, where the spec asks for it.
    owners: &'a OwnedFd,
    swap: Option<IdSwap>,
}

impl Builder<'_> {
    fn make(&self, entry: &Entry) -> Result<(), SetupError> {
        match entry {
            Entry::Directory { path, mode } => self
                .root
                .make_directory_with(path, *mode)
                .map_err(failing(Step::Root, "make the directory", path)),
            Entry::File { path, mode, from, text } => {
                self.write(path, *mode, from.as_deref(), text)
            }
            Entry::Append { path, text } => {
                self.root.append(path, text.as_bytes()).map_err(failing(Step::Root, "add to", path))
            }
            Entry::Link { path, to } => {
                self.root.link(path, to).map_err(failing(Step::Root, "make the link", path))
            }
            Entry::Overlay { path, lower, hidden, owned } => {
                self.overlay(path, lower, hidden, *owned)
            }
            Entry::Bind { path, source, writable } => self.bind(path, source, *writable),
        }
    }

    fn write(
        &self,
        path: &Path,
        mode: u32,
        from: Option<&Path>,
        text: &str,
    ) -> Result<(), SetupError> {
        let mut before: Box<dyn Read> = match from.map(fs::File::open) {
            Some(Ok(file)) => Box::new(file),
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failing(Step::Source, "read", from.unwrap_or(path))(error));
            }
            Some(Err(_)) | None => Box::new(io::empty()),
        };
        let mut contents = (&mut before).chain(text.as_bytes());
        self.root.write_file(path, mode, &mut contents).map_err(failing(Step::Root, "write", path))
    }

    fn overlay(
        &self,
        path: &Path,
        lower: &Path,
        hidden: &[Hidden],
        owned: bool,
    ) -> Result<(), SetupError> {
        // One directory name for the place: `usr/local` and `usr-local` must not meet.
        let name: String =
            path.to_string_lossy().chars().map(|c| if c == '/' { '%' } else { c }).collect();
        let upper = self.layer.upper(&name)?;
        // Where the file system cannot map owners, the files are shown as they are.
        let swapped = self.swap.filter(|_| owned).and_then(|_| self.with_owners(lower).ok());
        let swap = self.swap.filter(|_| swapped.is_some());
        let lower_dir = match swapped {
            Some(swapped) => swapped,
            None => mounts::open_path(lower).map_err(failing(Step::Source, "open", lower))?,
        };
        copy_mode(lower, &upper.upper, swap).map_err(failing(Step::Source, "look at", lower))?;
        for name in hidden {
            hide(&upper.upper, lower, name, swap)?;
        }
        let mount = mounts::overlay(std::slice::from_ref(&lower_dir), &upper).map_err(failing(
            Step::Layer,
            "mount an overlay of",
            lower,
        ))?;
        self.root.attach(mount, path).map_err(failing(Step::Root, "mount an overlay on", path))
    }

    /// A copy of `lower`'s mount that swaps owners.
    fn with_owners(&self, lower: &Path) -> io::Result<OwnedFd> {
        let place = self.layer.dir.join("owners");
        fs::create_dir_all(&place)?;
        let copy = mounts::copy(lower, false)?;
        mounts::map_owners(&copy, self.owners.as_fd())?;
        // An overlay takes only layers that are mounted somewhere in this namespace. The mount
        // stays below the old root and goes with it.
        attach(&copy, mounts::open_path(&place)?)?;
        mounts::open_path(&place)
    }

    fn bind(&self, path: &Path, source: &Path, writable: bool) -> Result<(), SetupError> {
        let is_directory =
            fs::metadata(source).map_err(failing(Step::Source, "mount", source))?.is_dir();
        let mount = mounts::copy(source, true)
            .and_then(|mount| {
                if writable {
                    mounts::forbid_devices(&mount)?;
                } else {
                    mounts::make_read_only(&mount)?;
                    mounts::forbid_devices(&mount)?;
                }
                Ok(mount)
            })
            .map_err(failing(Step::Source, "mount", source))?;
        if is_directory {
            self.root.attach(mount, path)
        } else {
            self.root.attach_file(mount, path)
        }
        .map_err(failing(Step::Root, "mount on", path))
    }

    fn mount_proc(&self) -> Result<(), SetupError> {
        mounts::kernel("proc", &[], NO_SUID_DEV_EXEC)
            .and_then(|proc| self.root.attach_kernel(proc, "proc"))
            .map_err(failing(Step::Root, "mount", Path::new("/proc")))
    }

    /// The host's /sys as it is, read-only: a new one would need a network namespace of its own.
    fn mount_sys(&self) -> Result<(), SetupError> {
        let host = Path::new("/sys");
        mounts::copy(host, true)
            .and_then(|sys| mounts::make_read_only(&sys).map(|()| sys))
            .and_then(|sys| self.root.attach_kernel(sys, "sys"))
            .map_err(failing(Step::Root, "mount", host))
    }

    /// A /dev of the container's own; the root of its devpts.
    fn mount_dev(&self) -> Result<OwnedFd, SetupError> {
        let build = || -> io::Result<OwnedFd> {
            let dev = mounts::kernel(
                "tmpfs",
                &["mode=0755", "size=65536k"],
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            )?;
            self.root.attach_kernel(&dev, "dev")?;
            for (name, major, minor) in DEVICES {
                self.make_device(&dev, name, rustix::fs::makedev(major, minor))?;
            }
            for (name, to) in [
                ("fd", "/proc/self/fd"),
                ("stdin", "/proc/self/fd/0"),
                ("stdout", "/proc/self/fd/1"),
                ("stderr", "/proc/self/fd/2"),
                ("ptmx", "pts/ptmx"),
            ] {
                rustix::fs::symlinkat(to, &dev, name)?;
            }
            let no_suid_exec =
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            let pts = ["ptmxmode=0666", "mode=0620"];
            // Group 5 is tty wherever there is one; a user namespace may not have it.
            let pts = mounts::kernel("devpts", &[pts[0], pts[1], "gid=5"], no_suid_exec)
                .or_else(|_| mounts::kernel("devpts", &pts, no_suid_exec))?;
            self.root.attach(&pts, Path::new("/dev/pts"))?;
            let nodev = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let shm = mounts::kernel("tmpfs", &["mode=1777"], nodev)?;
            self.root.attach(shm, Path::new("/dev/shm"))?;
            // A kernel without message queues has programs that do without.
            if let Ok(mqueue) = mounts::kernel("mqueue", &[], NO_SUID_DEV_EXEC) {
                self.root.attach(mqueue, Path::new("/dev/mqueue"))?;
            }
            self.root.open_directory(Path::new("/dev/pts"))
        };
        build().map_err(failing(Step::Root, "build", Path::new("/dev")))
    }

    fn make_device(&self, dev: &OwnedFd, name: &str, number: u64) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number) {
            // Not allowed to make nodes: the host's own, bound in, is the same device.
            Err(Errno::PERM) => {
                let node = mounts::copy(&Path::new("/dev").join(name), false)?;
                self.root.attach_file(node, &Path::new("/dev").join(name))
            }
            // What umask took away again.
            done => Ok(done.and_then(|()| {
                rustix::fs::chmodat(dev, name, mode, rustix::fs::AtFlags::empty())
            })?),
        }
    }

    fn mask(&self) -> Result<(), SetupError> {
        for path in MASKED.map(Path::new) {
            self.mask_one(path).map_err(failing(Step::Root, "hide", path))?;
        }
        for path in READ_ONLY.map(Path::new) {
            self.freeze_one(path).map_err(failing(Step::Root, "make read-only", path))?;
        }
        Ok(())
    }

    fn mask_one(&self, path: &Path) -> io::Result<()> {
        let Some(target) = existing(self.root.resolve(path))? else { return Ok(()) };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
        let cover = if kind == FileType::Directory {
            let read_only = NO_SUID_DEV_EXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
            mounts::kernel("tmpfs", &["mode=0555", "size=0"], read_only)?
        } else {
            mounts::copy_open(self.root.resolve(Path::new("/dev/null"))?, false)?
        };
        attach(cover, target)
    }

    fn freeze_one(&self, path: &Path) -> io::Result<()> {
        let Some(target) = existing(self.root.resolve(path))? else { return Ok(()) };
        let frozen = mounts::copy_open(&target, true)?;
        mounts::make_read_only(&frozen)?;
        attach(frozen, target)
    }
}

fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An overlay's directory shows the mode and owner of its upper half.
fn copy_mode(from: &Path, to: &Path, swap: Option<IdSwap>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let swapped = |id, other: Option<u32>| match other {
        Some(other) if id == other => 0,
        Some(other) if id == 0 => other,
        _ => id,
    };
    let metadata = fs::metadata(from)?;
    let uid = swapped(metadata.uid(), swap.map(|swap| swap.uid));
    let gid = swapped(metadata.gid(), swap.map(|swap| swap.gid));
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    // Not allowed to give it away: then it is the caller's own.
    match chown(to, Some(uid), Some(gid)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// Prepares an overlay's upper half so that a name of the lower half does not show.
fn hide(
    upper: &Path,
    lower: &Path,
    hidden: &Hidden,
    swap: Option<IdSwap>,
) -> Result<(), SetupError> {
    let (name, emptied) = match hidden {
        Hidden::Gone(name) => (name, false),
        Hidden::Emptied(name) => (name, true),
    };
    let place = upper.join(name);
    let make = || -> io::Result<()> {
        let mut above = PathBuf::new();
        for part in name.parent().unwrap_or(Path::new("")) {
            above.push(part);
            let dir = upper.join(&above);
            if !dir.is_dir() {
                fs::create_dir(&dir)?;
                copy_mode(&lower.join(&above), &dir, swap)?;
            }
        }
        if emptied {
            fs::create_dir(&place)?;
            copy_mode(&lower.join(name), &place, swap)?;
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(&place, "trusted.overlay.opaque", b"y", flags)?;
        } else {
            let mode = Mode::empty();
            rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, mode, 0)?;
        }
        Ok(())
    };
    make().map_err(failing(Step::Layer, "hide", &place))
}

/// Makes the new root the root, and the old one unreachable.
fn enter(root: &InRoot) -> Result<(), SetupError> {
    let enter = || -> io::Result<()> {
        rustix::process::fchdir(root)?;
        // The old root ends up on top of the new one, and there it is taken off. No name for it
        // ever exists.
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    };
    enter().map_err(|error| SetupError::new(Step::Root, "enter the new root", &error))
}

/// Gives up rights for good and becomes PID 1. Comes back with what went wrong.
fn confine(devpts: &OwnedFd) -> SetupError {
    let become_init = || -> io::Result<std::convert::Infallible> {
        let init = sealed_program()?;
        caps::limit()?;
        // Installed while CAP_SYS_ADMIN is still held, so "no new privileges" stays off: build
        // images need sudo.
        sys::install_filter(&seccomp::filter())?;
        sys::close_on_exec_from(CONTROL as u32 + 1)?;
        sys::copy_to(devpts.as_fd(), runner_init::abi::DEVPTS_FD)?;
        Err(sys::execute(init.as_fd(), c"runner-init"))
    };
    let Err(error) = become_init();
    SetupError::new(Step::Confine, "start PID 1 from memory", &error)
}

/// PID 1's program in memory that nothing can change any more, so that no process of the build can
/// reach a file of the host through /proc/1/exe.
fn sealed_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("runner-init", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file may be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create("runner-init", flags)?,
        done => done?,
    };
    let mut file = fs::File::from(file);
    file.write_all(runner_init::PROGRAM)?;
    let file = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}
