//! Checkpoints: keeps what a build has written so far and puts it back later.
//!
//! Used by the driver between two commands. A checkpoint is a copy of the directories that the
//! container's overlays write to. It lies beside them in the layer and disappears with it. Files
//! unchanged since the last checkpoint are hard links to its copy: nothing ever writes to a copy.
//! Without root, a chore does all of it as root of the container's users.
//!
//! What is too much to copy is sealed: the overlays write to new directories, and what they have
//! written so far lies below those (adr/0260). Those are empty then, and no copy is made of them.
//! Sealed layers are merged now and then, so that there are never many of them (adr/0282).

#![deny(clippy::disallowed_methods)]

mod changes;
mod contents;
mod index;
mod lower;
mod merge;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod work;

pub use contents::{
    ContentText, FoundFile, FoundFiles, KeptNode, LeftOutPaths, OverlayView, RunLine, Wanted,
    chore_of_contents, contents, lines,
};
use runner_host::beneath::Dir;
use runner_sandbox::{LayerMerge, SealedPart, Stack, UserMap, WritableDirectory, chore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
pub use store::LayerMemory;
use store::Store;
use work::{LayerWork, again};

/// Directory of the copies, in the layer.
const SHELF: &str = "checkpoints";

/// Index of the last look, on the shelf.
const SEEN: &str = "seen.index";

/// Most files, directories and links that are examined.
const MOST_SEEN: usize = 50_000;
/// Threads that remove what checkpoints have left.
const REMOVERS: usize = 8;

/// A layer that can be checkpointed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLayer {
    pub dir: PathBuf,
    /// Its directories that overlays write to.
    pub uppers: Vec<WritableDirectory>,
    /// Its sealed parts.
    pub stack: Stack,
    /// The container's users; `None` for this machine's.
    pub users: Option<UserMap>,
}

/// Where what each overlay has written was copied to, by its name: the number of the checkpoint.
/// One that has no copy wrote to a directory that was new and empty.
pub type LayerCopies = BTreeMap<String, u32>;

/// A checkpoint as far as it lies on the shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfMark {
    /// That of its index.
    pub number: u32,
    pub copies: LayerCopies,
}

/// The result of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Saved {
    /// Nothing has changed since the last one.
    Same,
    /// A copy was made.
    Copied { entries: u64, bytes: u64, copies: LayerCopies },
    /// It is not copied, for this reason. It can be sealed where there is a seal to be made; the
    /// directories for that are there, if they were asked for.
    Not { why: String, seal: Option<Seal> },
}

/// What to seal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Names of the overlays.
    pub names: Vec<String>,
    /// Files, directories and links changed since the last checkpoint, and the files' bytes, as far
    /// as known.
    pub entries: u64,
    pub bytes: u64,
    /// Files in those overlays that have several names.
    pub linked: u64,
}

/// The result of a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerMerged {
    /// Its directory is complete.
    Made,
    /// Nothing was made, because these parts cannot be merged.
    Stay(Vec<SealedPart>),
}

/// What has changed since the last look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looked {
    /// The first look, or the first after there was too much.
    First,
    /// The changes in the format of [`runner_core::changes`].
    Changes(String),
    /// The layer exceeds the limits.
    TooMuch,
}

impl Looked {
    /// The limit in words.
    #[must_use]
    pub fn too_much() -> String {
        format!(
            "the build has written more than {MOST_SEEN} files, or paths that are too long together"
        )
    }
}

/// How to keep a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keep {
    /// Number of the checkpoint, never used before.
    pub number: u32,
    /// Number of the last checkpoint.
    pub last: Option<ShelfMark>,
    /// Whether no process lives that could write meanwhile.
    pub is_quiet: bool,
    /// Whether the layer has just been looked at.
    pub is_seen: bool,
    /// Whether to seal rather than copy, if sealing is possible.
    pub seals: bool,
    /// Directories are made for what can be sealed.
    pub begins: bool,
}

/// A command to the chore.
#[derive(Debug, Serialize, Deserialize)]
enum LayerOrder {
    Look {
        is_quiet: bool,
    },
    Save(Keep),
    /// Remove directories that were made for a seal.
    Abandon {
        number: u32,
    },
    /// Keep what was sealed just now: these overlays.
    Settle {
        keep: Keep,
        names: Vec<String>,
    },
    /// Merge sealed parts of an overlay.
    Merge(LayerMerge),
    /// Put back what was kept.
    Restore(ShelfMark),
}

/// The result of a command.
#[derive(Debug, Serialize, Deserialize)]
enum LayerDone {
    Looked(Looked),
    Saved(Saved, Option<Looked>),
    Settled(LayerCopies),
    Merged(LayerMerged),
    Obeyed,
}

impl KeptLayer {
    /// Finds the changes since the last look. Blocks.
    ///
    /// # Errors
    /// The layer cannot be read.
    pub fn look(&self, memory: &LayerMemory, is_quiet: bool) -> io::Result<Looked> {
        match self.order(memory, &LayerOrder::Look { is_quiet })? {
            LayerDone::Looked(looked) => Ok(looked),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Makes a checkpoint. If that needed a new look, also returns the changes since the last one.
    /// Blocks.
    ///
    /// # Errors
    /// The layer cannot be read, or there is no room.
    pub fn save(&self, memory: &LayerMemory, keep: Keep) -> io::Result<(Saved, Option<Looked>)> {
        match self.order(memory, &LayerOrder::Save(keep))? {
            LayerDone::Saved(saved, looked) => Ok((saved, looked)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Removes the directories that were made for a seal: no overlay writes to them. Blocks.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn abandon(&self, memory: &LayerMemory, number: u32) -> io::Result<()> {
        self.order(memory, &LayerOrder::Abandon { number }).map(drop)
    }

    /// The layer once these overlays write to generation `number`, with these merges done.
    #[must_use]
    pub fn sealed(&self, number: u32, names: &[String], merges: &[LayerMerge]) -> Self {
        let stack = self.stack.with(number, names, merges);
        let sealed = |upper: &WritableDirectory| {
            let parts = stack.sealed(&upper.name).into_iter().map(|dir| self.dir.join(dir));
            let rest = upper.lower.iter().skip(self.stack.depth(&upper.name)).cloned();
            let dir = stack.upper(&upper.name);
            WritableDirectory { dir, lower: parts.chain(rest).collect(), ..upper.clone() }
        };
        let uppers = self.uppers.iter().map(sealed).collect();
        KeptLayer { uppers, stack, ..self.clone() }
    }

    /// Merges sealed parts of an overlay into one directory that shows the same. No container uses
    /// that directory yet. Blocks.
    ///
    /// # Errors
    /// A part cannot be read, or there is no room. Nothing is left of the directory.
    pub fn merge(&self, memory: &LayerMemory, merge: LayerMerge) -> io::Result<LayerMerged> {
        match self.order(memory, &LayerOrder::Merge(merge))? {
            LayerDone::Merged(merged) => Ok(merged),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Keeps a layer of which these overlays were sealed just now; the next look is held against
    /// it. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or there is no room.
    pub fn settle(
        &self,
        memory: &LayerMemory,
        keep: Keep,
        names: Vec<String>,
    ) -> io::Result<LayerCopies> {
        match self.order(memory, &LayerOrder::Settle { keep, names })? {
            LayerDone::Settled(copies) => Ok(copies),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Restores a checkpoint. No container may use the layer. Blocks.
    ///
    /// # Errors
    /// The checkpoint cannot be restored. The layer may then hold neither its former contents nor
    /// the checkpoint's.
    pub fn restore(&self, memory: &LayerMemory, mark: ShelfMark) -> io::Result<()> {
        self.order(memory, &LayerOrder::Restore(mark)).map(drop)
    }

    /// The overlay that a place in the container belongs to.
    #[must_use]
    pub fn overlay_of(&self, place: &Path) -> Option<&WritableDirectory> {
        let above = self.uppers.iter().filter(|upper| place.starts_with(&upper.path));
        above.max_by_key(|upper| upper.path.as_os_str().len())
    }

    fn order(&self, memory: &LayerMemory, order: &LayerOrder) -> io::Result<LayerDone> {
        match &self.users {
            None => self.obey(order, |_| Ok(Store::Memory(memory))),
            Some(users) => {
                let text = serde_json::to_string(&(self, order))?;
                Ok(serde_json::from_str(&chore(users, &["layer", &text])?)?)
            }
        }
    }

    fn obey<'m>(
        &self,
        order: &LayerOrder,
        store: impl FnOnce(&Dir) -> io::Result<Store<'m>>,
    ) -> io::Result<LayerDone> {
        let layer = Dir::top_itself(&self.dir)?;
        let shelf = layer.make_all(SHELF, 0o700)?;
        let store = store(&shelf)?;
        let work = LayerWork { layer, shelf, store, uppers: &self.uppers, stack: &self.stack };
        Ok(match order {
            LayerOrder::Look { is_quiet } => LayerDone::Looked(again(|| work.look(*is_quiet))?.0),
            LayerOrder::Save(keep) => {
                let (saved, looked) = again(|| work.or_nothing(keep, || work.save(keep)))?;
                LayerDone::Saved(saved, looked)
            }
            LayerOrder::Abandon { number } => {
                work.abandon(*number)?;
                LayerDone::Obeyed
            }
            LayerOrder::Settle { keep, names } => {
                LayerDone::Settled(again(|| work.or_nothing(keep, || work.settle(keep, names)))?)
            }
            LayerOrder::Merge(merge) => LayerDone::Merged(work.merge(merge)?),
            LayerOrder::Restore(mark) => {
                work.put_back(mark)?;
                LayerDone::Obeyed
            }
        })
    }
}

/// Removes what checkpoints have left in a layer, as far as this process may: many directories side
/// by side, since file systems that discard blocks at once wait for the disk with each of them.
pub(super) fn remove_quickly(layer: &Path) {
    let Ok(layer) = Dir::top_itself(layer) else { return };
    let mut all = Vec::new();
    for top in [SHELF, Stack::SEALED] {
        let names = layer.open(top).and_then(|dir| dir.names()).unwrap_or_default();
        all.extend(names.into_iter().map(|name| [top.as_bytes(), b"/", &name].concat()));
    }
    let next = AtomicUsize::new(0);
    let remove = || {
        while let Some(path) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            // The removal of the layer removes and reports the rest.
            let _ = layer.remove_tree(path);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..all.len().min(REMOVERS) {
            // Without threads nothing is left but for the caller.
            let _ = std::thread::Builder::new().spawn_scoped(scope, remove);
        }
    });
}

/// The chore that carries out these commands.
///
/// # Errors
/// A message.
pub fn chore_of_layer(text: &str) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (layer, order): (KeptLayer, LayerOrder) =
        serde_json::from_str(text).map_err(|error| told(&error))?;
    let done = layer.obey(&order, |shelf| Ok(Store::Files(shelf.again()?)));
    let done = done.map_err(|error| told(&error))?;
    serde_json::to_string(&done).map_err(|error| told(&error))
}

/// Nanoseconds since 1970.
fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}
