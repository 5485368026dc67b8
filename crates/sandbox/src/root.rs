//! Builds a container's root: the image or an empty directory, with the spec's entries on top.
//!
//! Used by `child` in the new mount namespace. Sources are paths of the host; `in_root` resolves
//! targets.
#![forbid(unsafe_code)]

use crate::handshake::{SandboxSetupError, SetupStep, failing};
use crate::in_root::{InRoot, attach_at};
use crate::masks;
use crate::mounts::{self, Detached, Nodes, OverlayXattrs, Upper};
use crate::spec::{
    Confinement, Hidden, IMAGE, IdSwap, LayerStore, ROOT, Restored, Root, RootEntry, SandboxSpec,
    Stack, name_of,
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::mount::MountAttrFlags;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the kernel reports for a user or group that a user namespace does not map.
const OVERFLOW_ID: u32 = 65534;

/// Builds the root. `owners` is the user namespace that swaps owners, if the spec asks for it.
pub(crate) fn build(spec: &SandboxSpec, owners: &OwnedFd) -> Result<InRoot, SandboxSetupError> {
    let maker = Maker::new(spec, owners)?;
    let root = maker.mount_root()?;
    let builder = Builder { root, maker };
    spec.entries.iter().try_for_each(|entry| builder.make(entry))?;
    Ok(builder.root)
}

/// Makes these overlays of a kept layer again, detached. Leaves out those that cannot be made.
pub(crate) fn overlays(
    spec: &SandboxSpec,
    owners: &OwnedFd,
    names: &[String],
) -> Result<Vec<(String, Detached)>, SandboxSetupError> {
    let maker = Maker::new(spec, owners)?;
    let mut made = Vec::new();
    for written in spec.uppers().iter().skip(1).filter(|written| names.contains(&written.name)) {
        let is_it = |entry: &&RootEntry| match entry {
            RootEntry::Overlay { path, .. } => *path == written.path,
            _ => false,
        };
        let entry = spec.entries.iter().find(is_it);
        if let Some(RootEntry::Overlay { path, lower, hidden, over, owned }) = entry
            && let Some(mount) = maker.overlay(path, lower, hidden, over, *owned)?
        {
            made.push((written.name.clone(), mount));
        }
    }
    for written in spec.uppers().iter().take(1).filter(|written| names.contains(&written.name)) {
        made.push((written.name.clone(), maker.root()?));
    }
    Ok(made)
}

/// Where mounts that swap owners are attached.
pub(crate) fn owners_of(spec: &SandboxSpec) -> PathBuf {
    spec.layer.dir.join("owners")
}

/// An overlay's name in the mount list, by its number among [`SandboxSpec::uppers`].
pub(crate) fn source_of(number: usize) -> String {
    // No colon: GNU tools take a source with one for a network file system.
    format!("runner-{number}")
}

/// The directories that receive a build's writes.
struct LayerDir {
    dir: PathBuf,
    /// Whether they exist, with the files of an earlier container.
    is_kept: bool,
    stack: Stack,
}

impl LayerDir {
    fn prepare(spec: &SandboxSpec) -> Result<Self, SandboxSetupError> {
        let dir = spec.layer.dir.clone();
        if let LayerStore::Memory(bytes) = spec.layer.store {
            let size = format!("size={bytes}");
            mounts::kernel("tmpfs", &["mode=0700", &size], MountAttrFlags::empty())
                .and_then(|memory| {
                    let target = mounts::open_path(&dir)?;
                    attach_at(&memory, &target)
                })
                .map_err(failing(SetupStep::Layer, "mount memory on", &dir))?;
        }
        Ok(LayerDir { dir, is_kept: spec.layer.is_kept, stack: spec.layer.stack.clone() })
    }

    /// The pair of directories for an overlay's writes.
    fn upper(&self, name: &str) -> Result<Upper, SandboxSetupError> {
        let dir = self.stack.upper(name);
        let upper =
            Upper { upper: self.dir.join(&dir), work: self.dir.join(format!("{dir}.work")) };
        for dir in [&upper.upper, &upper.work] {
            self.make(dir).map_err(failing(SetupStep::Layer, "make", dir))?;
        }
        Ok(upper)
    }

    /// An overlay's sealed directories, topmost first.
    fn sealed(&self, name: &str) -> Result<Vec<OwnedFd>, SandboxSetupError> {
        let open = |dir: String| {
            let dir = self.dir.join(dir);
            mounts::open_path(&dir).map_err(failing(SetupStep::Layer, "open", &dir))
        };
        self.stack.sealed(name).into_iter().map(open).collect()
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(error) if self.is_kept && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }
}

/// Makes the mounts of the root.
struct Maker<'a> {
    layer: LayerDir,
    /// The user namespace that swaps owners, if the spec asks for it.
    owners: &'a OwnedFd,
    swap: Option<IdSwap>,
    marks: OverlayXattrs,
    nodes: Nodes,
    spec: &'a SandboxSpec,
}

impl<'a> Maker<'a> {
    fn new(spec: &'a SandboxSpec, owners: &'a OwnedFd) -> Result<Self, SandboxSetupError> {
        let layer = LayerDir::prepare(spec)?;
        let nodes = match spec.confinement {
            Confinement::Build => Nodes::Files,
            Confinement::Privileged => Nodes::Devices,
        };
        Ok(Maker { layer, owners, swap: spec.owner, marks: OverlayXattrs::ours(), nodes, spec })
    }

    /// The new root, mounted on the layer's `root` directory.
    fn mount_root(&self) -> Result<InRoot, SandboxSetupError> {
        let place = self.layer.dir.join(ROOT);
        self.layer.make(&place).map_err(failing(SetupStep::Layer, "make", &place))?;
        let mount = self.root()?;
        mounts::open_path(&place)
            .and_then(|target| attach_at(&mount, target))
            .and_then(|()| InRoot::open(&place))
            .map_err(failing(SetupStep::Root, "mount the root on", &place))
    }

    fn root(&self) -> Result<Detached, SandboxSetupError> {
        match &self.spec.root {
            Root::Empty if self.layer.stack.depth(ROOT) == 0 => {
                let place = self.layer.dir.join(ROOT);
                mounts::copy(&place, false)
                    .and_then(|mount| mounts::make_root_like(&mount, self.nodes).map(|()| mount))
                    .map_err(failing(SetupStep::Layer, "mount", &place))
            }
            Root::Empty => self.root_overlay(ROOT, &[], &self.layer.upper(ROOT)?),
            Root::Image { lower, restored } => {
                let upper = self.layer.upper(IMAGE)?;
                let restored = if self.layer.is_kept { &[] } else { restored.as_slice() };
                restored.iter().try_for_each(|dir| restore(&upper.upper, dir)).map_err(failing(
                    SetupStep::Layer,
                    "prepare",
                    &upper.upper,
                ))?;
                if self.marks == OverlayXattrs::User && !self.layer.is_kept {
                    for dir in lower.iter().rev() {
                        own_directories(self.spec, Path::new("/"), dir, &upper.upper)
                            .map_err(failing(SetupStep::Layer, "prepare", &upper.upper))?;
                    }
                }
                self.root_overlay(IMAGE, lower, &upper)
            }
        }
    }

    fn root_overlay(
        &self,
        name: &str,
        lower: &[PathBuf],
        upper: &Upper,
    ) -> Result<Detached, SandboxSetupError> {
        let mut handles = self.layer.sealed(name)?;
        for dir in lower {
            let open = mounts::open_path(dir);
            handles.push(open.map_err(failing(SetupStep::Source, "open the image", dir))?);
        }
        let source = source_of(0);
        mounts::overlay(&handles, upper, &source, self.marks, self.nodes).map_err(failing(
            SetupStep::Layer,
            "mount an overlay that writes to",
            &upper.upper,
        ))
    }

    /// `None` if the kernel refuses an overlay of the directory.
    fn overlay(
        &self,
        path: &Path,
        lower: &Path,
        hidden: &[Hidden],
        over: &[PathBuf],
        owned: bool,
    ) -> Result<Option<Detached>, SandboxSetupError> {
        let name = name_of(path);
        let upper = self.layer.upper(&name)?;
        // If the file system cannot map owners, the files are shown as they are.
        let swapped = self.swap.filter(|_| owned).and_then(|_| self.with_owners(lower).ok());
        let swap = self.swap.filter(|_| swapped.is_some());
        let lower_dir = match swapped {
            Some(swapped) => swapped,
            None => mounts::open_path(lower).map_err(failing(SetupStep::Source, "open", lower))?,
        };
        if !self.layer.is_kept {
            copy_mode(lower, &upper.upper, swap).map_err(failing(
                SetupStep::Source,
                "look at",
                lower,
            ))?;
            for name in outermost(hidden, Hidden::path) {
                hide(&upper.upper, lower, name, swap, self.marks)?;
            }
        }
        if self.marks == OverlayXattrs::User && !self.layer.is_kept {
            own_directories(self.spec, path, lower, &upper.upper).map_err(failing(
                SetupStep::Layer,
                "prepare",
                &upper.upper,
            ))?;
        }
        let open =
            |dir: &PathBuf| mounts::open_path(dir).map_err(failing(SetupStep::Source, "open", dir));
        let mut lower_dirs = self.layer.sealed(&name)?;
        for dir in over {
            lower_dirs.push(open(dir)?);
        }
        lower_dirs.push(lower_dir);
        let overlays =
            self.spec.entries.iter().filter(|it| matches!(it, RootEntry::Overlay { .. }));
        let number = overlays.take_while(|entry| entry.path() != path).count() + 1;
        let source = source_of(number);
        match mounts::overlay(&lower_dirs, &upper, &source, self.marks, self.nodes) {
            // The kernel refuses a lower layer with mounts below it that this user namespace may
            // not unmount.
            Err(error)
                if self.marks == OverlayXattrs::User
                    && over.is_empty()
                    && error.raw_os_error() == Some(libc::EINVAL)
                    && mounts::has_mounts_below(lower) =>
            {
                Ok(None)
            }
            done => done.map(Some).map_err(failing(SetupStep::Layer, "mount an overlay of", lower)),
        }
    }

    /// A copy of `lower`'s mount that swaps owners.
    fn with_owners(&self, lower: &Path) -> io::Result<OwnedFd> {
        let place = owners_of(self.spec);
        fs::create_dir_all(&place)?;
        let copy = mounts::copy(lower, false)?;
        mounts::map_owners(&copy, self.owners.as_fd())?;
        // An overlay accepts only layers that are mounted somewhere in this namespace. The mount
        // stays below the old root and disappears with it.
        attach_at(&copy, mounts::open_path(&place)?)?;
        mounts::open_path(&place)
    }
}

/// Sets the attributes of an image's directory in the upper layer, where they are visible.
///
/// Parents precede their children in the image's list; `upper` contains only such directories yet.
fn restore(upper: &Path, dir: &Restored) -> io::Result<()> {
    let Ok(relative) = dir.path.strip_prefix("/") else { return Ok(()) };
    let place = upper.join(relative);
    fs::create_dir_all(&place)?;
    match std::os::unix::fs::chown(&place, Some(dir.uid), Some(dir.gid)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => done?,
    }
    fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(dir.mode))?;
    let time = Timespec { tv_sec: dir.modified_s, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, &place, &times, AtFlags::empty())?)
}

/// Creates the entries of the root.
struct Builder<'a> {
    root: InRoot,
    maker: Maker<'a>,
}

impl Builder<'_> {
    fn make(&self, entry: &RootEntry) -> Result<(), SandboxSetupError> {
        match entry {
            RootEntry::Directory { .. }
            | RootEntry::File { .. }
            | RootEntry::Append { .. }
            | RootEntry::Link { .. }
                if self.maker.layer.is_kept =>
            {
                Ok(())
            }
            RootEntry::Directory { path, mode } => self
                .root
                .make_directory_with(path, *mode)
                .map_err(failing(SetupStep::Root, "make the directory", path)),
            RootEntry::File { path, mode, from, text } => {
                self.write(path, *mode, from.as_deref(), text)
            }
            RootEntry::Append { path, text } => self
                .root
                .append(path, text.as_bytes())
                .map_err(failing(SetupStep::Root, "add to", path)),
            RootEntry::Link { path, to } => {
                self.root.link(path, to).map_err(failing(SetupStep::Root, "make the link", path))
            }
            RootEntry::Overlay { path, lower, hidden, over, owned } => {
                self.overlay(path, lower, hidden, over, *owned)
            }
            RootEntry::Plain { path, mode } => self.plain(path, *mode),
            RootEntry::Bind { path, source, writable, hidden } => {
                self.bind(path, source, *writable)?;
                outermost(hidden, PathBuf::as_path)
                    .try_for_each(|name| self.cover(&path.join(name)))
            }
        }
    }

    fn write(
        &self,
        path: &Path,
        mode: u32,
        from: Option<&Path>,
        text: &str,
    ) -> Result<(), SandboxSetupError> {
        let mut before: Box<dyn Read> = match from.map(fs::File::open) {
            Some(Ok(file)) => Box::new(file),
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failing(SetupStep::Source, "read", from.unwrap_or(path))(error));
            }
            Some(Err(_)) | None => Box::new(io::empty()),
        };
        let mut contents = (&mut before).chain(text.as_bytes());
        self.root.write_file(path, mode, &mut contents).map_err(failing(
            SetupStep::Root,
            "write",
            path,
        ))
    }

    fn overlay(
        &self,
        path: &Path,
        lower: &Path,
        hidden: &[Hidden],
        over: &[PathBuf],
        owned: bool,
    ) -> Result<(), SandboxSetupError> {
        match self.maker.overlay(path, lower, hidden, over, owned)? {
            Some(mount) => {
                let failed = failing(SetupStep::Root, "mount an overlay on", path);
                self.root.attach(mount, path).map_err(failed)
            }
            None => self.stand_in(path, lower, hidden),
        }
    }

    fn plain(&self, path: &Path, mode: u32) -> Result<(), SandboxSetupError> {
        let dir = self.maker.layer.dir.join(name_of(path));
        let make = || {
            let is_new = !self.maker.layer.is_kept || !dir.exists();
            self.maker.layer.make(&dir)?;
            if is_new {
                fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            }
            let mount = mounts::copy(&dir, false)?;
            mounts::make_root_like(&mount, self.maker.nodes).map(|()| mount)
        };
        let mount = make().map_err(failing(SetupStep::Layer, "make", &dir))?;
        self.root.attach(mount, path).map_err(failing(SetupStep::Root, "mount on", path))
    }

    /// Replaces an overlay that cannot be made: mounts the directory itself, read-only.
    fn stand_in(
        &self,
        path: &Path,
        lower: &Path,
        hidden: &[Hidden],
    ) -> Result<(), SandboxSetupError> {
        self.bind(path, lower, false)?;
        outermost(hidden, Hidden::path).try_for_each(|hidden| self.cover(&path.join(hidden.path())))
    }

    fn cover(&self, path: &Path) -> Result<(), SandboxSetupError> {
        masks::cover(&self.root, path).map_err(failing(SetupStep::Root, "hide", path))
    }

    fn bind(&self, path: &Path, source: &Path, writable: bool) -> Result<(), SandboxSetupError> {
        let is_directory =
            fs::metadata(source).map_err(failing(SetupStep::Source, "mount", source))?.is_dir();
        let mount = mounts::copy(source, true)
            .and_then(|mount| {
                if !writable {
                    mounts::make_read_only(&mount)?;
                }
                if self.maker.nodes == Nodes::Files {
                    mounts::forbid_devices(&mount)?;
                }
                Ok(mount)
            })
            .map_err(failing(SetupStep::Source, "mount", source))?;
        if is_directory {
            self.root.attach(mount, path)
        } else {
            self.root.attach_file(mount, path)
        }
        .map_err(failing(SetupStep::Root, "mount on", path))
    }
}

/// Creates in the upper layer the directories of an overlay at `path` that will get entries.
///
/// Those of the lower layer may belong to users that this user namespace does not map, and the
/// kernel cannot copy such a directory up when something is added to it.
fn own_directories(spec: &SandboxSpec, path: &Path, lower: &Path, upper: &Path) -> io::Result<()> {
    for entry in &spec.entries {
        let Ok(place) = entry.path().strip_prefix(path) else { continue };
        let dir = match entry {
            RootEntry::Directory { .. } => Some(place),
            _ => place.parent(),
        };
        let mut below = PathBuf::new();
        for part in dir.unwrap_or(Path::new("")) {
            below.push(part);
            let is_directory = fs::symlink_metadata(lower.join(&below)).is_ok_and(|it| it.is_dir());
            if !is_directory {
                break;
            }
            let own = upper.join(&below);
            if !own.exists() {
                fs::create_dir(&own)?;
                copy_mode(&lower.join(&below), &own, None)?;
            }
        }
    }
    Ok(())
}

/// Copies mode and owner to the upper layer, because an overlay shows the upper directory's.
fn copy_mode(from: &Path, to: &Path, swap: Option<IdSwap>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let swapped = |id, other: Option<u32>| match other {
        Some(other) if id == other => 0,
        Some(other) if id == 0 => other,
        // An owner that this namespace does not map; on the host usually root.
        _ if id == OVERFLOW_ID => 0,
        _ => id,
    };
    let metadata = fs::metadata(from)?;
    let uid = swapped(metadata.uid(), swap.map(|swap| swap.uid));
    let gid = swapped(metadata.gid(), swap.map(|swap| swap.gid));
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    // If it may not be given away, it stays the caller's.
    match chown(to, Some(uid), Some(gid)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// The entries that lie in none of the others, each once: a hidden directory hides its contents.
fn outermost<H>(hidden: &[H], path: impl Fn(&H) -> &Path + Copy) -> impl Iterator<Item = &H> {
    let all: BTreeSet<PathBuf> = hidden.iter().map(|it| path(it).to_path_buf()).collect();
    let mut seen = BTreeSet::new();
    hidden.iter().filter(move |it| {
        let mut above = path(it).ancestors().skip(1);
        !above.any(|above| all.contains(above)) && seen.insert(path(it).to_path_buf())
    })
}

/// Prepares an overlay's upper layer so that a name of the lower layer is hidden.
fn hide(
    upper: &Path,
    lower: &Path,
    hidden: &Hidden,
    swap: Option<IdSwap>,
    marks: OverlayXattrs,
) -> Result<(), SandboxSetupError> {
    let (name, emptied) = (hidden.path(), matches!(hidden, Hidden::Emptied(_)));
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
            rustix::fs::setxattr(&place, marks.opaque(), b"y", flags)?;
        } else {
            let mode = Mode::empty();
            rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, mode, 0)?;
        }
        Ok(())
    };
    make().map_err(failing(SetupStep::Layer, "hide", &place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_hides_what_is_in_it() {
        let gone = |name: &str| Hidden::Gone(name.into());
        let hidden = [
            gone("a/b"),
            gone("a"),
            Hidden::Emptied("a/c".into()),
            gone("ab"),
            gone("ab"),
            gone("c/d"),
        ];
        let left: Vec<_> = outermost(&hidden, Hidden::path).map(Hidden::path).collect();
        assert_eq!(left, ["a", "ab", "c/d"].map(Path::new));
    }
}
