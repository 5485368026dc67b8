//! What the holder of an open layer does for each order: looks, copies, seals, puts back.

use super::index::{LayerEntry, LayerIndex, Moment};
use super::store::Store;
use super::tree::{self, Same};
use super::{Keep, LayerCopies, Looked, MOST_SEEN, SEEN, Saved, Seal, ShelfMark, changes};
use runner_core::changes::to_text;
use runner_host::beneath::Dir;
use runner_sandbox::{Stack, WritableDirectory};
use std::io;
use std::sync::Arc;

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
/// Bytes of the file system left free for the build.
pub(super) const ROOM: u64 = 1 << 30;
/// Most sealed layers of an overlay: each one slows directory listings.
const MOST_SEALED: usize = 200;

/// Reason when the disk is full.
const NO_ROOM: &str = "less than 1 GiB is free for it";

/// Reason when no more layers can be sealed.
const DEEP: &str = "200 layers are sealed already";

/// File name of a checkpoint's index on the shelf.
pub(super) fn name(number: u32) -> String {
    format!("{number}.index")
}

/// Retries while a living process removes files during the work.
pub(super) fn again<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    work()
}

/// An open layer.
pub(super) struct LayerWork<'a> {
    pub(super) layer: Dir,
    pub(super) shelf: Dir,
    pub(super) store: Store<'a>,
    pub(super) uppers: &'a [WritableDirectory],
    pub(super) stack: &'a Stack,
}

/// The last checkpoint.
pub(super) struct LayerBefore {
    /// Of each overlay its copy, where there is one.
    pub(super) tops: Vec<Option<Dir>>,
    pub(super) index: Arc<LayerIndex>,
}

impl LayerWork<'_> {
    /// Finds the changes since the last look. Also returns the new index unless it would be too
    /// large.
    pub(super) fn look(&self, is_quiet: bool) -> io::Result<(Looked, Option<Arc<LayerIndex>>)> {
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

    pub(super) fn save(&self, keep: &Keep) -> io::Result<(Saved, Option<Looked>)> {
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

    pub(super) fn save_or_seal(&self, keep: &Keep) -> io::Result<(Saved, Option<Looked>)> {
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
    pub(super) fn tops(&self) -> io::Result<Vec<Dir>> {
        self.uppers.iter().map(|upper| self.layer.open(&upper.dir)).collect()
    }

    pub(super) fn before(&self, keep: &Keep) -> io::Result<Option<LayerBefore>> {
        let Some(last) = &keep.last else { return Ok(None) };
        let index = self.store.read(&name(last.number))?.ok_or(io::ErrorKind::NotFound)?;
        let tops = self.uppers.iter().map(|upper| self.copy_of(&upper.name, &last.copies));
        Ok(Some(LayerBefore { tops: tops.collect::<io::Result<_>>()?, index }))
    }

    /// The copy of what an overlay has written.
    pub(super) fn copy_of(&self, name: &str, copies: &LayerCopies) -> io::Result<Option<Dir>> {
        let copy = copies.get(name).map(|number| self.shelf.open(format!("{number}/{name}")));
        copy.transpose()
    }

    /// Removes a half-made copy if the work fails.
    pub(super) fn or_nothing<T>(
        &self,
        keep: &Keep,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let done = work();
        if done.is_err() {
            self.shelf.remove_tree(keep.number.to_string())?;
        }
        done
    }

    /// Makes a copy, or none if it would be too large. [`Self::or_nothing`] removes a failed one.
    pub(super) fn copy(
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

    pub(super) fn copy_one(
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
    pub(super) fn seal(
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
    pub(super) fn seal_unseen(&self) -> io::Result<Option<Seal>> {
        let mut names = Vec::new();
        for (written, top) in self.uppers.iter().zip(self.tops()?) {
            if !top.entries()?.is_empty() {
                names.push(written.name.clone());
            }
        }
        self.if_possible(Seal { names, ..Seal::default() })
    }

    pub(super) fn if_possible(&self, seal: Seal) -> io::Result<Option<Seal>> {
        let is_deep = seal.names.iter().any(|name| self.stack.depth(name) >= MOST_SEALED);
        Ok(Some(seal).filter(|_| !is_deep && room(&self.shelf).is_ok_and(|free| free >= ROOM)))
    }

    /// Creates directories with the attributes of those now written to.
    pub(super) fn begin(&self, number: u32, names: &[String]) -> io::Result<()> {
        let dir = self.layer.make_all(Stack::SEALED, 0o700)?.make(number.to_string(), 0o700)?;
        for (written, top) in self.uppers.iter().zip(self.tops()?) {
            if names.contains(&written.name) {
                dir.make(&written.name, 0o700)?.dress_as(&top)?;
                dir.make(format!("{}.work", written.name), 0o700)?;
            }
        }
        Ok(())
    }

    pub(super) fn abandon(&self, number: u32) -> io::Result<()> {
        self.layer.remove_tree(format!("{}/{number}", Stack::SEALED))
    }

    /// The index of what is new and empty beside what has not changed, and copies of what has none
    /// yet.
    pub(super) fn settle(&self, keep: &Keep, names: &[String]) -> io::Result<LayerCopies> {
        let tops = self.tops()?;
        let moment = Moment::now(keep.is_quiet);
        let is_sealed: Vec<bool> =
            self.uppers.iter().map(|upper| names.contains(&upper.name)).collect();
        // Processes that started since the last look may have written.
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
    pub(super) fn put_back(&self, mark: &ShelfMark) -> io::Result<()> {
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
                let text = format!("it needs {} MiB, and {free} MiB are free", needed >> 20);
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
    pub(super) fn put_later_aside(&self, aside: &Dir, newest: u32) -> io::Result<()> {
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
pub(super) fn all(tops: &[Dir], uppers: &[WritableDirectory]) -> io::Result<LayerIndex> {
    let index = LayerIndex::of(tops, uppers, None, Moment::now(true), usize::MAX)?;
    index.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Free bytes.
pub(super) fn room(dir: &Dir) -> io::Result<u64> {
    let at = dir.file_system()?;
    Ok(at.f_bavail.saturating_mul(at.f_frsize))
}
