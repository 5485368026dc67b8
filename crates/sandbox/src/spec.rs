//! The description of a container, as data.
//!
//! Made by the engine (`crates/engine/src/namespaces`), sent through `handshake`, carried out by
//! `child`. Host paths and container paths are both absolute; the latter are resolved inside the
//! new root, whatever symbolic links the image contains.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A whole container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its host name.
    pub hostname: String,
    /// Stores the container's writes.
    pub layer: BuildLayer,
    /// Its root directory.
    pub root: Root,
    /// Entries of the root, created in this order.
    pub entries: Vec<RootEntry>,
    /// The owner to swap with the container's root, in overlays that ask for it.
    pub owner: Option<IdSwap>,
    /// The users of a container whose runner is not root; `None` for the host's own.
    pub users: Option<UserMap>,
    /// Its network.
    pub network: ContainerNetwork,
    /// Restrictions on its root user.
    pub confinement: Confinement,
    /// Its view of its own control groups; `None` for the host's, read-only.
    pub groups: Option<GroupsSpec>,
    /// Programs for sessions, invisible to builds.
    pub toolbox: Option<Toolbox>,
}

impl SandboxSpec {
    /// The layer's directories that receive the container's writes, except those of
    /// [`RootEntry::Plain`].
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

/// A directory of the layer that receives the container's writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritableDirectory {
    /// The overlay's name, which stays the same when it is sealed.
    pub name: String,
    /// The directory, relative to the layer.
    pub dir: String,
    /// The path in the container.
    pub path: PathBuf,
    /// The directories below it, topmost first.
    pub lower: Vec<PathBuf>,
}

/// The layer's directory on which the root is mounted; without an image also the root's contents.
pub(crate) const ROOT: &str = "root";
/// The layer's directory for writes to the image.
pub(crate) const IMAGE: &str = "image";

/// The directory name for a path: `usr/local` and `usr-local` must differ.
pub(crate) fn name_of(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c == '/' { '%' } else { c }).collect()
}

/// A program that acts as many, depending on the name it is called by.
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
    /// The host's, including loopback.
    Host,
    /// A separate one, with only its own loopback.
    Own,
}

/// The rights of a container's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// Listed capabilities and system calls only; the kernel's own files are hidden or read-only.
    Build,
    /// Everything that its user namespace allows, with the host's devices and the kernel's own
    /// files.
    Privileged,
}

/// A container's own control groups, which are the root of its view.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupsSpec {
    /// Whether the container may divide them further.
    pub writable: bool,
    /// The child group for PID 1, if the container may divide its groups.
    pub leaf: Option<PathBuf>,
}

/// The host's users and groups in a container, with their numbers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMap {
    /// Ranges of users; root is in the first.
    pub uids: Vec<IdRange>,
    /// Ranges of groups.
    pub gids: Vec<IdRange>,
}

/// A range of consecutive ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id in the container.
    pub inside: u32,
    /// The first id on the host.
    pub outside: u32,
    /// The number of ids.
    pub count: u32,
}

impl UserMap {
    /// One user and one group, as root: all that a caller without subordinate ids can have.
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

/// The build's own layer: a host directory that only this container uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BuildLayer {
    /// An existing directory, empty unless kept.
    pub dir: PathBuf,
    /// Where the bytes are stored.
    pub store: LayerStore,
    /// Whether an earlier container left it: then it has everything but mounts.
    pub is_kept: bool,
    /// Its sealed parts.
    pub stack: Stack,
}

impl BuildLayer {
    fn written(&self, name: String, path: PathBuf, lower: Vec<PathBuf>) -> WritableDirectory {
        let sealed = self.stack.sealed(&name).into_iter().map(|dir| self.dir.join(dir));
        let lower = sealed.chain(lower).collect();
        WritableDirectory { dir: self.stack.upper(&name), name, path, lower }
    }
}

/// For each overlay, by name, the directories that it writes to and has written to. Every overlay
/// starts with generation 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack(BTreeMap<String, OverlayStack>);

/// The directories of one overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OverlayStack {
    /// The sealed ones, newest last.
    sealed: Vec<SealedPart>,
    /// The generation being written to.
    upper: u32,
}

/// A sealed directory of an overlay: one generation, or several that were merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SealedPart {
    /// The oldest generation in it.
    pub first: u32,
    /// The generation beside which the merged directory lies.
    merged: Option<u32>,
    /// How often its contents were merged.
    level: u8,
}

/// Neighbouring sealed parts of an overlay that become one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMerge {
    /// The overlay.
    pub name: String,
    /// Newest last.
    pub parts: Vec<SealedPart>,
    /// What replaces them.
    pub into: SealedPart,
}

/// Number of parts that are merged into one.
const MERGED_AT_ONCE: usize = 8;

impl SealedPart {
    const fn generation(number: u32) -> Self {
        SealedPart { first: number, merged: None, level: 0 }
    }

    /// Its directory for an overlay, relative to the layer.
    #[must_use]
    pub fn dir(&self, name: &str) -> String {
        match self.merged {
            // No overlay has this name: names of paths begin with `%`.
            Some(beside) => format!("{}/{beside}/merged/{name}", Stack::SEALED),
            None => Stack::dir(name, self.first),
        }
    }
}

impl Stack {
    /// The layer's directory for generations from 1 on.
    pub const SEALED: &'static str = "sealed";

    /// The directory being written to.
    #[must_use]
    pub fn upper(&self, name: &str) -> String {
        Self::dir(name, self.0.get(name).map_or(0, |stack| stack.upper))
    }

    /// The sealed directories, topmost first.
    #[must_use]
    pub fn sealed(&self, name: &str) -> Vec<String> {
        self.parts(name).iter().rev().map(|part| part.dir(name)).collect()
    }

    /// The number of sealed directories.
    #[must_use]
    pub fn depth(&self, name: &str) -> usize {
        self.parts(name).len()
    }

    /// The newest generation.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.0.values().map(|stack| stack.upper).max().unwrap_or(0)
    }

    /// The stack once these overlays write to generation `number`. Merges of other overlays, or of
    /// parts that are not there, change nothing.
    #[must_use]
    pub fn with(&self, number: u32, names: &[String], merges: &[LayerMerge]) -> Self {
        let mut stack = self.clone();
        for name in names {
            let overlay = stack.0.entry(name.clone()).or_default();
            for merge in merges.iter().filter(|merge| merge.name == *name) {
                overlay.replace(merge);
            }
            overlay.sealed.push(SealedPart::generation(overlay.upper));
            overlay.upper = number;
        }
        stack
    }

    /// What to merge, so that few layers are left however many are sealed. `stays` names parts
    /// that cannot be merged.
    #[must_use]
    pub fn merges(&self, stays: impl Fn(&str, &SealedPart) -> bool) -> Vec<LayerMerge> {
        let beside = self.newest();
        let due = self.0.iter().filter_map(|(name, stack)| {
            let stays = |part: &SealedPart| part.first == 0 || stays(name, part);
            let same = |one: &SealedPart, other: &SealedPart| {
                one.level == other.level && stays(one) == stays(other)
            };
            let is_due =
                |run: &&[SealedPart]| run.len() >= MERGED_AT_ONCE && !run.iter().any(stays);
            // The newest first: those are looked through before the others.
            let parts = stack.sealed.chunk_by(same).rfind(is_due)?;
            let parts = parts[..MERGED_AT_ONCE].to_vec();
            let (first, level) = (parts[0].first, parts[0].level.saturating_add(1));
            let into = SealedPart { first, merged: Some(beside), level };
            Some(LayerMerge { name: name.clone(), parts, into })
        });
        due.collect()
    }

    fn parts(&self, name: &str) -> &[SealedPart] {
        self.0.get(name).map_or(&[], |stack| &stack.sealed)
    }

    fn dir(name: &str, number: u32) -> String {
        match number {
            0 => name.to_owned(),
            number => format!("{}/{number}/{name}", Self::SEALED),
        }
    }
}

impl OverlayStack {
    fn replace(&mut self, merge: &LayerMerge) {
        let count = merge.parts.len();
        let at = self.sealed.windows(count.max(1)).position(|parts| parts == merge.parts);
        if let Some(at) = at {
            self.sealed.splice(at..at + count, [merge.into]);
        }
    }
}

/// Where a layer's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerStore {
    /// On the directory's file system.
    Directory,
    /// In memory, at most this many bytes, mounted over the directory inside the container's mount
    /// namespace: for hosts where no file system can hold an overlay's upper layer.
    Memory(u64),
}

/// The root directory a container starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Only the entries.
    Empty,
    /// An unpacked image, never written to: the layer receives changes.
    Image {
        /// Its layers, topmost first.
        lower: Vec<PathBuf>,
        /// Directories whose attributes differ from those in the topmost layer.
        restored: Vec<Restored>,
    },
}

/// The attributes of a directory in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its path.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Its owner's id in the container.
    pub uid: u32,
    /// Its group's id in the container.
    pub gid: u32,
    /// Modification time, in seconds since 1970.
    pub modified_s: i64,
}

/// An entry of the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RootEntry {
    /// A directory. An existing one gets the mode.
    Directory {
        /// Path in the container.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A regular file that replaces whatever is there.
    File {
        /// Path in the container.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
        /// A host file whose contents come first, if it exists.
        from: Option<PathBuf>,
        /// Contents after those of `from`.
        text: String,
    },
    /// Text appended to a regular file, created if missing.
    Append {
        /// Path in the container.
        path: PathBuf,
        /// The text to append.
        text: String,
    },
    /// A symbolic link, unless the name is taken.
    Link {
        /// Path in the container.
        path: PathBuf,
        /// Target of the link.
        to: PathBuf,
    },
    /// A host directory that the container can change without changing the host.
    Overlay {
        /// Path in the container.
        path: PathBuf,
        /// The directory on the host.
        lower: PathBuf,
        /// Parts that the container does not see.
        hidden: Vec<Hidden>,
        /// Host directories laid over it, topmost first.
        over: Vec<PathBuf>,
        /// Whether [`SandboxSpec::owner`] applies to it, if the file system supports that.
        owned: bool,
    },
    /// A directory of the layer itself, initially empty, without an overlay above: programs that
    /// make their own overlays, such as Docker, can do so there.
    Plain {
        /// Path in the container.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A file or directory of the host itself.
    Bind {
        /// Path in the container.
        path: PathBuf,
        /// The file or directory on the host.
        source: PathBuf,
        /// Whether the container may change it.
        writable: bool,
        /// Directories in it, by relative path, that are empty in the container.
        hidden: Vec<PathBuf>,
    },
}

impl RootEntry {
    /// Path in the container.
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

/// A hidden path in an overlay's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hidden {
    /// The name does not exist.
    Gone(PathBuf),
    /// The directory exists and is empty.
    Emptied(PathBuf),
}

impl Hidden {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Hidden::Gone(path) | Hidden::Emptied(path) => path,
        }
    }
}

/// Swaps a user and its group with root's in the files shown.
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
        let stack = stack.with(2, &[image.clone(), source], &[]).with(5, &[image], &[]);
        assert_eq!(stack.upper("image"), "sealed/5/image");
        assert_eq!(stack.sealed("image"), ["sealed/2/image", "image"]);
        assert_eq!((stack.depth("image"), stack.newest()), (2, 5));
        assert_eq!(
            (stack.upper("%src"), stack.sealed("%src")),
            ("sealed/2/%src".to_owned(), vec!["%src".to_owned()])
        );
        assert_eq!((stack.upper("%usr"), stack.depth("%usr")), ("%usr".to_owned(), 0));
    }
    fn sealed_often(mut stack: Stack, numbers: std::ops::RangeInclusive<u32>) -> Stack {
        for number in numbers {
            let merges = stack.merges(|_, _| false);
            stack = stack.with(number, &["image".to_owned()], &merges);
        }
        stack
    }

    #[test]
    fn merges_keep_the_number_of_layers_small() {
        let mut deepest = 0;
        let mut stack = Stack::default();
        for number in 1..=1000 {
            stack = sealed_often(stack, number..=number);
            deepest = deepest.max(stack.depth("image"));
        }
        assert!(deepest <= 30, "{deepest}");
        assert_eq!(stack.upper("image"), "sealed/1000/image");
    }

    #[test]
    fn a_merged_layer_lies_where_its_parts_were() {
        let stack = sealed_often(Stack::default(), 1..=11);
        let wanted = ["sealed/10/image", "sealed/9/image", "sealed/9/merged/image", "image"];
        assert_eq!(stack.sealed("image"), wanted);
        let merge = &sealed_often(Stack::default(), 1..=9).merges(|_, _| false)[0];
        let before = Stack::default().with(1, &["image".to_owned()], std::slice::from_ref(merge));
        assert_eq!(before.sealed("image"), ["image"], "parts that are not there");
        let other = stack.with(12, &["%src".to_owned()], std::slice::from_ref(merge));
        assert_eq!(other.sealed("image"), wanted, "another overlay");
    }

    #[test]
    fn parts_that_stay_are_not_merged() {
        let mut stack = Stack::default();
        for number in 1..=20 {
            stack = stack.with(number, &["image".to_owned()], &[]);
        }
        assert!(stack.merges(|_, part| part.first.is_multiple_of(8)).is_empty());
        let merge = &stack.merges(|_, part| part.first == 10)[0];
        let first: Vec<u32> = merge.parts.iter().map(|part| part.first).collect();
        assert_eq!(first, (11..=18).collect::<Vec<_>>());
    }
}
