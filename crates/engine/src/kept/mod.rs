//! Checkpoints: keeps what a build has written so far and puts it back later.
//!
//! Used by the driver between two commands. A checkpoint is a copy of the directories that the
//! container's overlays write to. It lies beside them in the layer and disappears with it. Files
//! unchanged since the last checkpoint are hard links to its copy: nothing ever writes to a copy.
//! Without root, a chore does all of it as root of the container's users.
//!
//! What is too much to copy is sealed: the overlays write to new directories, and what they have
//! written so far lies below those (adr/0260). Those are empty then, and no copy is made of them.

#![deny(clippy::disallowed_methods)]

mod changes;
mod contents;
mod index;
mod lower;
#[cfg(test)]
mod tests;
mod tree;

pub use contents::{
    ContentText, FoundFile, FoundFiles, KeptNode, LeftOutPaths, OverlayView, RunLine, Wanted,
    chore_of_contents, contents, lines,
};
use index::{LayerEntry, LayerIndex, Moment};
use runner_core::changes::to_text;
use runner_host::beneath::Dir;
use runner_sandbox::{Stack, UserMap, WritableDirectory, chore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tree::Same;

/// Directory of the copies, in the layer.
const SHELF: &str = "checkpoints";

/// Index of the last look, on the shelf.
const SEEN: &str = "seen.index";

/// Most files, directories and links that are examined.
const MOST_SEEN: usize = 50_000;
/// Most entries of a copy.
const MOST_ENTRIES: u64 = 30_000;
/// Most entries copied at once.
const MOST_CHANGED: u64 = 25_000;
/// Most bytes copied at once.
const MOST_BYTES: u64 = 256 << 20;
/// Most attempts at a look or a copy while files disappear.
const TRIES: u32 = 5;
/// Directory for what a rewind removed, below the copies.
const ASIDE: &str = "aside";
/// Threads that remove them.
const REMOVERS: usize = 8;
/// Bytes of the file system left free for the build.
const ROOM: u64 = 1 << 30;
/// Most sealed layers of an overlay: each one slows directory listings.
const MOST_SEALED: usize = 200;

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

/// What was seen of a layer, between two orders. Those of a chore find it in files.
#[derive(Debug, Default)]
pub struct LayerMemory(Mutex<BTreeMap<String, Arc<LayerIndex>>>);

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
    /// Put back what was kept.
    Restore(ShelfMark),
}

/// The result of a command.
#[derive(Debug, Serialize, Deserialize)]
enum LayerDone {
    Looked(Looked),
    Saved(Saved, Option<Looked>),
    Settled(LayerCopies),
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

    /// The layer once these overlays write to generation `number`.
    #[must_use]
    pub fn sealed(&self, number: u32, names: &[String]) -> Self {
        let stack = self.stack.with(number, names);
        let sealed = |upper: &WritableDirectory| match names.contains(&upper.name) {
            true => {
                let below = std::iter::once(self.dir.join(&upper.dir)).chain(upper.lower.clone());
                let dir = stack.upper(&upper.name);
                WritableDirectory { dir, lower: below.collect(), ..upper.clone() }
            }
            false => upper.clone(),
        };
        let uppers = self.uppers.iter().map(sealed).collect();
        KeptLayer { uppers, stack, ..self.clone() }
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
            LayerOrder::Restore(mark) => {
                work.put_back(mark)?;
                LayerDone::Obeyed
            }
        })
    }
}

/// Where indexes are.
enum Store<'m> {
    Memory(&'m LayerMemory),
    Files(Dir),
}

impl Store<'_> {
    fn read(&self, name: &str) -> io::Result<Option<Arc<LayerIndex>>> {
        match self {
            Store::Memory(memory) => Ok(memory.lock().get(name).cloned()),
            Store::Files(shelf) => match LayerIndex::read(shelf, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                done => done.map(|index| Some(Arc::new(index))),
            },
        }
    }

    fn write(&self, name: &str, index: &Arc<LayerIndex>) -> io::Result<()> {
        match self {
            Store::Memory(memory) => {
                let mut all = memory.lock();
                // That of the last look, and that of the last checkpoint.
                all.retain(|other, _| other == SEEN || name == SEEN);
                all.insert(name.to_owned(), Arc::clone(index));
                Ok(())
            }
            Store::Files(shelf) => index.write(shelf, name),
        }
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        match self {
            Store::Memory(memory) => {
                memory.lock().remove(name);
                Ok(())
            }
            Store::Files(shelf) => shelf.remove_tree(name),
        }
    }
}

impl LayerMemory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<LayerIndex>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Retries while a living process removes files during the work.
fn again<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    work()
}

/// An open layer.
struct LayerWork<'a> {
    layer: Dir,
    shelf: Dir,
    store: Store<'a>,
    uppers: &'a [WritableDirectory],
    stack: &'a Stack,
}

/// The last checkpoint.
struct LayerBefore {
    /// Of each overlay its copy, where there is one.
    tops: Vec<Option<Dir>>,
    index: Arc<LayerIndex>,
}

impl LayerWork<'_> {
    /// Finds the changes since the last look. Also returns the new index unless it would be too
    /// large.
    fn look(&self, is_quiet: bool) -> io::Result<(Looked, Option<Arc<LayerIndex>>)> {
        let moment = Moment::now(is_quiet);
        let before = self.store.read(SEEN)?;
        let tops = self.tops()?;
        let index = LayerIndex::of(&tops, self.uppers, before.as_deref(), moment, MOST_SEEN)?;
        let Some(index) = index.map(Arc::new) else {
            self.store.forget(SEEN)?;
            return Ok((Looked::TooMuch, None));
        };
        self.store.write(SEEN, &index)?;
        let looked = match before {
            None => Looked::First,
            Some(before) => {
                Looked::Changes(to_text(&changes::changes(self.uppers, &before, &index)))
            }
        };
        Ok((looked, Some(index)))
    }

    fn save(&self, keep: &Keep) -> io::Result<(Saved, Option<Looked>)> {
        let (mut saved, looked) = self.save_or_seal(keep)?;
        if let Saved::Not { why, seal } = &mut saved
            && keep.begins
            && let Some(begun) = seal
            && let Err(error) = self.begin(keep.number, &begun.names)
        {
            self.abandon(keep.number)?;
            *why = format!("{why}; it cannot be sealed: {error}");
            *seal = None;
        }
        Ok((saved, looked))
    }

    fn save_or_seal(&self, keep: &Keep) -> io::Result<(Saved, Option<Looked>)> {
        let known = if keep.is_seen { self.store.read(SEEN)? } else { None };
        let (looked, index) = match known {
            Some(index) => (None, Some(index)),
            None => {
                let (looked, index) = self.look(keep.is_quiet)?;
                (Some(looked), index)
            }
        };
        let Some(index) = index else {
            let why = format!("too much to copy: {}", Looked::too_much());
            return Ok((Saved::Not { why, seal: self.seal_unseen()? }, looked));
        };
        let before = self.before(keep)?;
        let same = tree::unchanged(&self.tops()?, &index, before.as_ref())?;
        if keep.seals {
            match self.seal(&index, &same, before.as_ref())? {
                // Nothing has changed.
                Some(seal) if seal.names.is_empty() => {}
                seal => {
                    let why = if room(&self.shelf)? < ROOM { NO_ROOM } else { DEEP };
                    return Ok((Saved::Not { why: why.to_owned(), seal }, looked));
                }
            }
        }
        let saved = match self.copy(&index, &same, before.as_ref(), keep)? {
            Saved::Not { why, .. } => {
                Saved::Not { why, seal: self.seal(&index, &same, before.as_ref())? }
            }
            saved => saved,
        };
        Ok((saved, looked))
    }

    /// The directories that overlays write to.
    fn tops(&self) -> io::Result<Vec<Dir>> {
        self.uppers.iter().map(|upper| self.layer.open(&upper.dir)).collect()
    }

    fn before(&self, keep: &Keep) -> io::Result<Option<LayerBefore>> {
        let Some(last) = &keep.last else { return Ok(None) };
        let index = self.store.read(&name(last.number))?.ok_or(io::ErrorKind::NotFound)?;
        let tops = self.uppers.iter().map(|upper| self.copy_of(&upper.name, &last.copies));
        Ok(Some(LayerBefore { tops: tops.collect::<io::Result<_>>()?, index }))
    }

    /// The copy of what an overlay has written.
    fn copy_of(&self, name: &str, copies: &LayerCopies) -> io::Result<Option<Dir>> {
        let copy = copies.get(name).map(|number| self.shelf.open(format!("{number}/{name}")));
        copy.transpose()
    }

    /// Removes a half-made copy if the work fails.
    fn or_nothing<T>(&self, keep: &Keep, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let done = work();
        if done.is_err() {
            self.shelf.remove_tree(keep.number.to_string())?;
        }
        done
    }

    /// Makes a copy, or none if it would be too large. [`Self::or_nothing`] removes a failed one.
    fn copy(
        &self,
        index: &Arc<LayerIndex>,
        same: &Same,
        before: Option<&LayerBefore>,
        keep: &Keep,
    ) -> io::Result<Saved> {
        let shelf = &self.shelf;
        let not = |why: String| Ok(Saved::Not { why, seal: None });
        if index.count() > MOST_ENTRIES {
            return not(format!("too much to copy: {} files in all", index.count()));
        }
        let (entries, bytes) = index.changed(same, before.map(|before| &*before.index));
        if before.is_some() && entries == 0 {
            return Ok(Saved::Same);
        }
        let copied = index.count() - same.count();
        if copied > MOST_CHANGED || bytes > MOST_BYTES {
            return not(format!(
                "too much to copy: {copied} files and {} MiB have changed, {} files in all",
                bytes >> 20,
                index.count()
            ));
        }
        if room(shelf)? < ROOM + bytes {
            return not(NO_ROOM.to_owned());
        }
        let mut copies = LayerCopies::new();
        let last = keep.last.as_ref().map(|last| &last.copies);
        for (upper, (written, from)) in self.uppers.iter().zip(self.tops()?).enumerate() {
            let is_same = before.is_some_and(|it| index.is_same(upper, same, &it.index));
            let number = match last.filter(|_| is_same) {
                // The copy there is holds it, or none is needed.
                Some(last) => last.get(&written.name).copied(),
                None => {
                    let links = before.and_then(|before| before.tops[upper].as_ref());
                    let links = links.map(|dir| (dir, same.of(upper)));
                    self.copy_one(keep.number, &written.name, (&from, index.below(upper)), links)?;
                    Some(keep.number)
                }
            };
            copies.extend(number.map(|number| (written.name.clone(), number)));
        }
        self.store.write(&name(keep.number), index)?;
        Ok(Saved::Copied { entries, bytes, copies })
    }

    fn copy_one(
        &self,
        number: u32,
        name: &str,
        (from, entries): (&Dir, &[LayerEntry]),
        links: Option<(&Dir, &[bool])>,
    ) -> io::Result<()> {
        let to = self.shelf.make_all(number.to_string(), 0o700)?.make(name, 0o700)?;
        tree::copy(from, &to, entries, links)
    }

    /// What to seal, if sealing is possible.
    fn seal(
        &self,
        index: &LayerIndex,
        same: &Same,
        before: Option<&LayerBefore>,
    ) -> io::Result<Option<Seal>> {
        let before = before.map(|before| &*before.index);
        let (entries, bytes) = index.changed(same, before);
        let mut seal = Seal { entries, bytes, ..Seal::default() };
        for (upper, written) in self.uppers.iter().enumerate() {
            if !index.has_changed(upper, same, before) {
                continue;
            }
            seal.names.push(written.name.clone());
            seal.linked += index.linked(upper);
        }
        self.if_possible(seal)
    }

    /// The same if there is too much to examine: every overlay that is not empty.
    fn seal_unseen(&self) -> io::Result<Option<Seal>> {
        let mut names = Vec::new();
        for (written, top) in self.uppers.iter().zip(self.tops()?) {
            if !top.entries()?.is_empty() {
                names.push(written.name.clone());
            }
        }
        self.if_possible(Seal { names, ..Seal::default() })
    }

    fn if_possible(&self, seal: Seal) -> io::Result<Option<Seal>> {
        let is_deep = seal.names.iter().any(|name| self.stack.depth(name) >= MOST_SEALED);
        Ok(Some(seal).filter(|_| !is_deep && room(&self.shelf).is_ok_and(|free| free >= ROOM)))
    }

    /// Creates directories with the attributes of those now written to.
    fn begin(&self, number: u32, names: &[String]) -> io::Result<()> {
        let dir = self.layer.make_all(Stack::SEALED, 0o700)?.make(number.to_string(), 0o700)?;
        for (written, top) in self.uppers.iter().zip(self.tops()?) {
            if names.contains(&written.name) {
                dir.make(&written.name, 0o700)?.dress_as(&top)?;
                dir.make(format!("{}.work", written.name), 0o700)?;
            }
        }
        Ok(())
    }

    fn abandon(&self, number: u32) -> io::Result<()> {
        self.layer.remove_tree(format!("{}/{number}", Stack::SEALED))
    }

    /// The index of what is new and empty beside what has not changed, and copies of what has none
    /// yet.
    fn settle(&self, keep: &Keep, names: &[String]) -> io::Result<LayerCopies> {
        let tops = self.tops()?;
        let moment = Moment::now(keep.is_quiet);
        let is_sealed: Vec<bool> =
            self.uppers.iter().map(|upper| names.contains(&upper.name)).collect();
        // Whoever has come since the last look may have written.
        let seen = self.store.read(SEEN)?;
        let index = LayerIndex::of(&tops, self.uppers, seen.as_deref(), moment, MOST_SEEN)?;
        let Some(index) = index.map(Arc::new) else {
            return Err(io::Error::other(Looked::too_much()));
        };
        let before = match seen {
            Some(_) => self.before(keep)?,
            // There was too much; that is sealed now, and nothing is known of the rest.
            None => None,
        };
        let same = tree::unchanged(&tops, &index, before.as_ref())?;
        let last = keep.last.as_ref().map(|last| &last.copies);
        let mut copies = LayerCopies::new();
        for (upper, (written, top)) in self.uppers.iter().zip(&tops).enumerate() {
            if is_sealed[upper] && index.is_new(upper, &written.path) {
                continue;
            }
            let before = before.as_ref().filter(|_| !is_sealed[upper]);
            let is_same =
                before.is_some_and(|it| !index.has_changed(upper, &same, Some(&it.index)));
            let number = match last.filter(|_| is_same) {
                Some(last) => last.get(&written.name).copied(),
                None => {
                    let links = before.and_then(|before| before.tops[upper].as_ref());
                    let links = links.map(|dir| (dir, same.of(upper)));
                    self.copy_one(keep.number, &written.name, (top, index.below(upper)), links)?;
                    Some(keep.number)
                }
            };
            copies.extend(number.map(|number| (written.name.clone(), number)));
        }
        self.store.write(SEEN, &index)?;
        self.store.write(&name(keep.number), &index)?;
        Ok(copies)
    }

    /// Restores a copy. The current contents move aside and disappear with the layer: removing them
    /// takes time.
    fn put_back(&self, mark: &ShelfMark) -> io::Result<()> {
        let LayerWork { layer, shelf, uppers, stack, .. } = self;
        // What the previous rewind moved aside takes room.
        shelf.remove_tree(ASIDE)?;
        let (mut of, mut copies) = (Vec::new(), Vec::new());
        for upper in *uppers {
            if let Some(copy) = self.copy_of(&upper.name, &mark.copies)? {
                of.push(upper.clone());
                copies.push(copy);
            }
        }
        let kept = all(&copies, &of)?;
        let aside = shelf.make(ASIDE, 0o700)?;
        for WritableDirectory { name, dir, .. } in *uppers {
            for (gone, name) in
                [(dir.clone(), name.clone()), (format!("{dir}.work"), format!("{name}.work"))]
            {
                match layer.rename(&gone, &aside, &name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
        }
        self.put_later_aside(&aside, stack.newest())?;
        let needed = kept.bytes();
        if room(shelf)? < needed {
            shelf.remove_tree(ASIDE)?;
            if room(shelf)? < needed {
                let free = room(shelf)? >> 20;
                let text = format!("it takes {} MiB, and {free} MiB are free", needed >> 20);
                return Err(io::Error::new(io::ErrorKind::StorageFull, text));
            }
        }
        for WritableDirectory { name, dir, .. } in *uppers {
            let to = layer.make(dir, 0o700)?;
            match of.iter().position(|upper| upper.name == *name) {
                Some(at) => tree::copy(&copies[at], &to, kept.below(at), None)?,
                None => {
                    let sealed = stack.sealed(name).into_iter().next();
                    let sealed = sealed.ok_or(io::ErrorKind::NotFound)?;
                    to.dress_as(&layer.open(sealed)?)?;
                }
            }
        }
        // The next checkpoint and the next look compare with this state.
        let index = Arc::new(all(&self.tops()?, uppers)?);
        self.store.write(SEEN, &index)?;
        self.store.write(&name(mark.number), &index)
    }

    /// Moves aside generations newer than the restored stack: nothing refers to them any more.
    fn put_later_aside(&self, aside: &Dir, newest: u32) -> io::Result<()> {
        let sealed = match self.layer.open(Stack::SEALED) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        };
        for name in sealed.names()? {
            let number = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<u32>().ok());
            if number.is_some_and(|number| number > newest) {
                sealed.rename(&name, aside, &name)?;
            }
        }
        Ok(())
    }
}

/// Of directories that nobody writes to.
fn all(tops: &[Dir], uppers: &[WritableDirectory]) -> io::Result<LayerIndex> {
    let index = LayerIndex::of(tops, uppers, None, Moment::now(true), usize::MAX)?;
    index.ok_or_else(|| io::ErrorKind::InvalidData.into())
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
            // What is left is removed, and told of, by whoever removes the layer.
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

/// Reason when the disk is full.
const NO_ROOM: &str = "less than 1 GiB is free for it";

/// Reason when no more layers can be sealed.
const DEEP: &str = "200 layers are sealed already";

/// File name of a checkpoint's index on the shelf.
fn name(number: u32) -> String {
    format!("{number}.index")
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

/// Free bytes.
fn room(dir: &Dir) -> io::Result<u64> {
    let at = dir.file_system()?;
    Ok(at.f_bavail.saturating_mul(at.f_frsize))
}

/// Nanoseconds since 1970.
fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}
