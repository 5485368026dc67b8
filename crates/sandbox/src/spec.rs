//! What a container is to look like, as data.
//!
//! Made by the engine (`crates/engine/src/namespaces`), sent through `handshake`, carried out by
//! `child`. Paths of the host and paths in the container are both absolute; the latter are resolved
//! inside the new root whatever symbolic links the image holds.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A whole container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its host name.
    pub hostname: String,
    /// Where what it writes is kept.
    pub layer: BuildLayer,
    /// Its root directory.
    pub root: Root,
    /// What stands in the root, made in this order.
    pub entries: Vec<RootEntry>,
    /// Whose files the container's root is to own, in the overlays that ask for it.
    pub owner: Option<IdSwap>,
    /// The users of a container whose runner is not root; `None`: the host's own.
    pub users: Option<UserMap>,
    /// Its network.
    pub network: ContainerNetwork,
    /// What keeps its root from being root of the machine.
    pub confinement: Confinement,
    /// How it sees control groups, where it has some of its own; `None`: the host's, read-only.
    pub groups: Option<GroupsSpec>,
    /// Programs for sessions, which builds do not see.
    pub toolbox: Option<Toolbox>,
}

impl SandboxSpec {
    /// The directories in the layer that take what the container writes, but for those of [`RootEntry::Plain`].
    #[must_use]
    pub fn uppers(&self) -> Vec<WritableDirectory> {
        let (root, lower) = match &self.root {
            Root::Empty => (ROOT, Vec::new()),
            Root::Image { lower, .. } => (IMAGE, lower.clone()),
        };
        let overlays = self.entries.iter().filter_map(|entry| match entry {
            RootEntry::Overlay { path, lower, over, .. } => {
                let lower = over.iter().chain([lower]).cloned().collect();
                Some(self.layer.written(name_of(path), path.clone(), lower))
            }
            _ => None,
        });
        let root = self.layer.written(root.to_owned(), PathBuf::from("/"), lower);
        std::iter::once(root).chain(overlays).collect()
    }
}

/// A directory of the layer that takes what the container writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritableDirectory {
    /// The overlay's name, whatever has been sealed.
    pub name: String,
    /// The directory, in the layer.
    pub dir: String,
    /// Where the container sees it.
    pub path: PathBuf,
    /// The directories below it, the topmost first.
    pub lower: Vec<PathBuf>,
}

/// The layer's directory that the root is mounted on; where there is no image, also what it is made of.
pub(crate) const ROOT: &str = "root";
/// The layer's directory for what is written to the image.
pub(crate) const IMAGE: &str = "image";

/// One directory name for a place: `usr/local` and `usr-local` must not meet.
pub(crate) fn name_of(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c == '/' { '%' } else { c }).collect()
}

/// One program that is many, by the name it is called by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolbox {
    /// A static program of the host.
    pub program: PathBuf,
    /// Its names.
    pub names: Vec<String>,
}

/// A container's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerNetwork {
    /// That of the host, loopback included.
    Host,
    /// One of its own, with nothing in it but its own loopback.
    Own,
}

/// What a container's root may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// A list of capabilities and system calls; the kernel's own files are hidden or read-only.
    Build,
    /// All that its user namespace allows, with the host's devices and the kernel's own files.
    Privileged,
}

/// Control groups of a container's own, which are the root of what it sees of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupsSpec {
    /// Whether it may divide them further.
    pub writable: bool,
    /// The group below its own that PID 1 goes to, where it may.
    pub leaf: Option<PathBuf>,
}

/// Which users and groups of the host a container has, and by which numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMap {
    /// Ranges of users; root is in the first.
    pub uids: Vec<IdRange>,
    /// Ranges of groups.
    pub gids: Vec<IdRange>,
}

/// Consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first, in the container.
    pub inside: u32,
    /// The first, on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl UserMap {
    /// One user and one group, as root: all that a caller without subordinate ids may have.
    #[must_use]
    pub fn single(uid: u32, gid: u32) -> Self {
        let one = |outside| vec![IdRange { inside: 0, outside, count: 1 }];
        UserMap { uids: one(uid), gids: one(gid) }
    }

    /// Whether there is only one user.
    #[must_use]
    pub fn is_single(&self) -> bool {
        [&self.uids, &self.gids]
            .iter()
            .all(|ranges| matches!(ranges.as_slice(), [IdRange { count: 1, .. }]))
    }
}

/// The build's own layer: a directory of the host that only this container uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BuildLayer {
    /// An existing directory, empty where it is not kept.
    pub dir: PathBuf,
    /// What keeps the bytes.
    pub store: LayerStore,
    /// Whether a container before this one has left it: all but mounts is in it then.
    pub is_kept: bool,
    /// What of it is sealed.
    pub stack: Stack,
}

impl BuildLayer {
    fn written(&self, name: String, path: PathBuf, lower: Vec<PathBuf>) -> WritableDirectory {
        let sealed = self.stack.sealed(&name).into_iter().map(|dir| self.dir.join(dir));
        let lower = sealed.chain(lower).collect();
        WritableDirectory { dir: self.stack.upper(&name), name, path, lower }
    }
}

/// Of each overlay, by its name, the generations of directories that have taken what was written, the newest last: that one
/// is written to, and the others are sealed. All begin with generation 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack(BTreeMap<String, Vec<u32>>);

impl Stack {
    /// The layer's directory with the generations from 1 on.
    pub const SEALED: &'static str = "sealed";

    /// The directory that is written to.
    #[must_use]
    pub fn upper(&self, name: &str) -> String {
        Self::dir(name, self.later(name).last().copied().unwrap_or(0))
    }

    /// The sealed ones, the topmost first.
    #[must_use]
    pub fn sealed(&self, name: &str) -> Vec<String> {
        let all = std::iter::once(0).chain(self.later(name).iter().copied());
        let mut sealed: Vec<String> = all.map(|number| Self::dir(name, number)).collect();
        sealed.pop();
        sealed.reverse();
        sealed
    }

    /// How many are sealed.
    #[must_use]
    pub fn depth(&self, name: &str) -> usize {
        self.later(name).len()
    }

    /// The newest generation there is.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.0.values().filter_map(|all| all.last()).copied().max().unwrap_or(0)
    }

    /// The stack when these overlays are written to generation `number`.
    #[must_use]
    pub fn with(&self, number: u32, names: &[String]) -> Self {
        let mut stack = self.clone();
        for name in names {
            stack.0.entry(name.clone()).or_default().push(number);
        }
        stack
    }

    fn later(&self, name: &str) -> &[u32] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn dir(name: &str, number: u32) -> String {
        match number {
            0 => name.to_owned(),
            number => format!("{}/{number}/{name}", Self::SEALED),
        }
    }
}

/// What keeps a layer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerStore {
    /// The file system the directory is on.
    Directory,
    /// Memory of at most this many bytes, mounted over the directory inside the container's own
    /// mount namespace: for hosts where no file system can hold an overlay's upper layer.
    Memory(u64),
}

/// The root directory a container starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Nothing but what the entries put there.
    Empty,
    /// An unpacked image, never written to: the layer takes what changes.
    Image {
        /// Its layers, the topmost first.
        lower: Vec<PathBuf>,
        /// Directories that do not look as the topmost layer has them.
        restored: Vec<Restored>,
    },
}

/// How a directory of an image looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its place.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Its owner, by the container's numbers.
    pub uid: u32,
    /// Its group, likewise.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub modified_s: i64,
}

/// One thing in the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RootEntry {
    /// A directory; an existing one gets the mode.
    Directory {
        /// Its place.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A regular file in place of whatever stands there.
    File {
        /// Its place.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
        /// A file of the host whose contents come first, where it exists.
        from: Option<PathBuf>,
        /// Contents.
        text: String,
    },
    /// A regular file with more text at its end; made where it is missing.
    Append {
        /// Its place.
        path: PathBuf,
        /// What comes at the end.
        text: String,
    },
    /// A symbolic link, where nothing stands yet.
    Link {
        /// Its place.
        path: PathBuf,
        /// What it points at.
        to: PathBuf,
    },
    /// A directory of the host that can be changed without changing the host.
    Overlay {
        /// Its place.
        path: PathBuf,
        /// The host's directory.
        lower: PathBuf,
        /// What of it the container does not see.
        hidden: Vec<Hidden>,
        /// Directories of the host that lie over it, the topmost first.
        over: Vec<PathBuf>,
        /// Whether [`SandboxSpec::owner`] applies to it, where the file system can do that.
        owned: bool,
    },
    /// A directory of the layer itself, empty at the start, with no overlay above it: what makes
    /// overlays of its own, as Docker does, can do so there.
    Plain {
        /// Its place.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A file or directory of the host itself.
    Bind {
        /// Its place.
        path: PathBuf,
        /// The host's file or directory.
        source: PathBuf,
        /// Whether the container may change it.
        writable: bool,
        /// Directories in it that are empty in the container, relative to it.
        hidden: Vec<PathBuf>,
    },
}

impl RootEntry {
    /// Its place in the container.
    pub(crate) fn path(&self) -> &Path {
        match self {
            RootEntry::Directory { path, .. }
            | RootEntry::File { path, .. }
            | RootEntry::Append { path, .. }
            | RootEntry::Link { path, .. }
            | RootEntry::Overlay { path, .. }
            | RootEntry::Plain { path, .. }
            | RootEntry::Bind { path, .. } => path,
        }
    }
}

/// Something below an overlay's directory that is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hidden {
    /// The name is gone.
    Gone(PathBuf),
    /// The directory is there and empty.
    Emptied(PathBuf),
}

impl Hidden {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Hidden::Gone(path) | Hidden::Emptied(path) => path,
        }
    }
}

/// Shows one user's files as root's, and root's as that user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdSwap {
    /// Owner on the host.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_lies_below_what_is_written_to() {
        let (source, image) = ("%src".to_owned(), "image".to_owned());
        let stack = Stack::default();
        assert_eq!((stack.upper("image"), stack.sealed("image")), ("image".to_owned(), vec![]));
        let stack = stack.with(2, &[image.clone(), source]).with(5, &[image]);
        assert_eq!(stack.upper("image"), "sealed/5/image");
        assert_eq!(stack.sealed("image"), ["sealed/2/image", "image"]);
        assert_eq!((stack.depth("image"), stack.newest()), (2, 5));
        assert_eq!(
            (stack.upper("%src"), stack.sealed("%src")),
            ("sealed/2/%src".to_owned(), vec!["%src".to_owned()])
        );
        assert_eq!((stack.upper("%usr"), stack.depth("%usr")), ("%usr".to_owned(), 0));
    }
}
