//! What a build has written, kept as it is at one time and put back later.
//!
//! Used by the driver, between two commands. A checkpoint is a copy of the directories that the container's overlays
//! write to, beside them in the layer, so that it goes with the layer. Files that have not changed since the last
//! checkpoint are one file in both copies: nobody ever writes to a copy. Without root all of it is done by a chore, as
//! root of the container's users.

#![deny(clippy::disallowed_methods)]

mod changes;
mod index;
mod lower;
#[cfg(test)]
mod tests;
mod tree;

use index::{Index, Moment};
use runner_core::changes::to_text;
use runner_host::beneath::Dir;
use runner_sandbox::{UserMap, Written, chore};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where copies are, in the layer.
const SHELF: &str = "checkpoints";

/// What was there when it was looked at last, on the shelf.
const SEEN: &str = "seen.index";

/// Most files, directories and links that are looked at.
const MOST_SEEN: usize = 50_000;
/// Most of those of a copy.
const MOST_ENTRIES: u64 = 30_000;
/// Most of those that have to be copied at once.
const MOST_CHANGED: u64 = 25_000;
/// Most bytes that are copied at once.
const MOST_BYTES: u64 = 256 << 20;
/// How often a copy is begun while files disappear from under it.
const TRIES: u32 = 5;
/// Where what a rewind has taken away lies, below the copies.
const ASIDE: &str = "aside";
/// Room on the file system that is left to the build.
const ROOM: u64 = 1 << 30;

/// A layer whose contents can be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLayer {
    pub dir: PathBuf,
    /// The directories in it that overlays write to.
    pub uppers: Vec<Written>,
    /// The users of its container; none: this machine's.
    pub users: Option<UserMap>,
}

/// What came of keeping it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Saved {
    /// Nothing has changed since the last time.
    Same,
    /// There is a copy.
    Copied { entries: u64, bytes: u64 },
    /// It is not copied, for this reason.
    Not(String),
}

/// What has changed in it since the last look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looked {
    /// It is looked at for the first time, or again after there was too much.
    First,
    /// This has changed, as [`runner_core::changes`] writes it.
    Changes(String),
    /// There is more than is looked at.
    TooMuch,
}

impl Looked {
    /// In words.
    #[must_use]
    pub fn too_much() -> String {
        format!(
            "the build has written more than {MOST_SEEN} files, or paths that are too long together"
        )
    }
}

/// How a layer is kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Keep {
    /// Under this number, which has never been used.
    pub number: u32,
    /// The last one.
    pub last: Option<u32>,
    /// No process lives that could write meanwhile.
    pub is_quiet: bool,
    /// It was looked at just now.
    pub is_seen: bool,
}

/// What is to be done with a layer.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Look {
        is_quiet: bool,
    },
    Save(Keep),
    /// Put back what was kept under this number.
    Restore {
        number: u32,
    },
}

/// What has come of an order.
#[derive(Debug, Serialize, Deserialize)]
enum Done {
    Looked(Looked),
    Saved(Saved, Option<Looked>),
    Restored,
}

impl KeptLayer {
    /// Finds out what has changed since the last look. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(&self, is_quiet: bool) -> io::Result<Looked> {
        match self.order(&Order::Look { is_quiet })? {
            Done::Looked(looked) => Ok(looked),
            Done::Saved(..) | Done::Restored => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Keeps what is there; also what has changed since the last look, where it was looked at again. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or there is no room.
    pub fn save(&self, keep: Keep) -> io::Result<(Saved, Option<Looked>)> {
        match self.order(&Order::Save(keep))? {
            Done::Saved(saved, looked) => Ok((saved, looked)),
            Done::Looked(_) | Done::Restored => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Puts back what was kept. No container may use the layer. Blocks.
    ///
    /// # Errors
    /// It cannot be put back; what there is in the layer then is neither.
    pub fn restore(&self, number: u32) -> io::Result<()> {
        self.order(&Order::Restore { number }).map(drop)
    }

    fn order(&self, order: &Order) -> io::Result<Done> {
        match &self.users {
            None => self.obey(order),
            Some(users) => {
                let text = serde_json::to_string(&(self, order))?;
                Ok(serde_json::from_str(&chore(users, &["layer", &text])?)?)
            }
        }
    }

    fn obey(&self, order: &Order) -> io::Result<Done> {
        let layer = Dir::top_itself(&self.dir)?;
        let shelf = layer.make_all(SHELF, 0o700)?;
        let work = Work { layer, shelf, uppers: &self.uppers };
        Ok(match *order {
            Order::Look { is_quiet } => Done::Looked(again(|| work.look(is_quiet))?.0),
            Order::Save(keep) => {
                let saved = again(|| {
                    let saved = work.save(keep);
                    if saved.is_err() {
                        work.shelf.remove_tree(keep.number.to_string())?;
                    }
                    saved
                });
                let (saved, looked) = saved?;
                Done::Saved(saved, looked)
            }
            Order::Restore { number } => {
                work.put_back(number)?;
                Done::Restored
            }
        })
    }
}

/// What disappears meanwhile, beside a process that lives, is tried again without it.
fn again<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    work()
}

/// A layer that is open.
struct Work<'a> {
    layer: Dir,
    shelf: Dir,
    uppers: &'a [Written],
}

impl Work<'_> {
    /// What has changed since the last look, and all there is, unless that is too much.
    fn look(&self, is_quiet: bool) -> io::Result<(Looked, Option<Index>)> {
        let moment = Moment::now(is_quiet);
        let before = self.read(SEEN)?;
        let index = Index::of(&self.layer, self.uppers, before.as_ref(), moment, MOST_SEEN)?;
        let Some(index) = index else {
            self.shelf.remove_tree(SEEN)?;
            return Ok((Looked::TooMuch, None));
        };
        index.write(&self.shelf, SEEN)?;
        let looked = match before {
            None => Looked::First,
            Some(before) => {
                Looked::Changes(to_text(&changes::changes(self.uppers, &before, &index)))
            }
        };
        Ok((looked, Some(index)))
    }

    fn save(&self, keep: Keep) -> io::Result<(Saved, Option<Looked>)> {
        let known = if keep.is_seen { self.read(SEEN)? } else { None };
        let (looked, index) = match known {
            Some(index) => (None, Some(index)),
            None => {
                let (looked, index) = self.look(keep.is_quiet)?;
                (Some(looked), index)
            }
        };
        let saved = match index {
            Some(index) => self.copy(&index, keep)?,
            None => Saved::Not(format!("too much to copy: {}", Looked::too_much())),
        };
        Ok((saved, looked))
    }

    /// A copy, or nothing of one.
    fn copy(&self, index: &Index, keep: Keep) -> io::Result<Saved> {
        let Work { layer, shelf, uppers } = self;
        let before = match keep.last {
            Some(last) => Some((shelf.open(last.to_string())?, Index::read(shelf, &name(last))?)),
            None => None,
        };
        if index.count() > MOST_ENTRIES {
            let why = format!("too much to copy: {} files in all", index.count());
            return Ok(Saved::Not(why));
        }
        let same = tree::unchanged(layer, uppers, index, before.as_ref())?;
        let (entries, bytes) = index.changed(&same, before.as_ref().map(|(_, index)| index));
        if before.is_some() && entries == 0 {
            return Ok(Saved::Same);
        }
        let copied = index.count() - same.count();
        if copied > MOST_CHANGED || bytes > MOST_BYTES {
            return Ok(Saved::Not(format!(
                "too much to copy: {copied} files and {} MiB have changed, {} files in all",
                bytes >> 20,
                index.count()
            )));
        }
        if room(shelf)? < ROOM + bytes {
            return Ok(Saved::Not("less than 1 GiB is free for it".to_owned()));
        }
        let to = shelf.make(keep.number.to_string(), 0o700)?;
        for (upper, Written { name, .. }) in uppers.iter().enumerate() {
            let from = layer.open(name)?;
            let to = to.make(name, 0o700)?;
            let links = match &before {
                Some((copy, _)) => copy.open(name).ok(),
                None => None,
            };
            let entries = index.below(upper);
            tree::copy(&from, &to, entries, links.as_ref().map(|dir| (dir, same.of(upper))))?;
        }
        index.write(shelf, &name(keep.number))?;
        Ok(Saved::Copied { entries, bytes })
    }

    /// What is there now goes aside, and goes with the layer: to remove it takes time.
    fn put_back(&self, number: u32) -> io::Result<()> {
        let Work { layer, shelf, uppers } = self;
        let copy = shelf.open(number.to_string())?;
        // That of the rewind before is in nobody's way, but takes room.
        shelf.remove_tree(ASIDE)?;
        let kept = self.all(&copy)?;
        let aside = shelf.make(ASIDE, 0o700)?;
        for Written { name, .. } in *uppers {
            for gone in [name.clone(), format!("{name}.work")] {
                match layer.rename(&gone, &aside, &gone) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
        }
        let needed = kept.bytes();
        if room(shelf)? < needed {
            shelf.remove_tree(ASIDE)?;
            if room(shelf)? < needed {
                let free = room(shelf)? >> 20;
                let text = format!("it takes {} MiB, and {free} MiB are free", needed >> 20);
                return Err(io::Error::new(io::ErrorKind::StorageFull, text));
            }
        }
        for (upper, Written { name, .. }) in uppers.iter().enumerate() {
            let to = layer.make(name, 0o700)?;
            tree::copy(&copy.open(name)?, &to, kept.below(upper), None)?;
        }
        // What has been put back is what the next checkpoint, and the next look, is held against.
        let index = self.all(layer)?;
        index.write(shelf, SEEN)?;
        index.write(shelf, &name(number))
    }

    fn all(&self, top: &Dir) -> io::Result<Index> {
        let index = Index::of(top, self.uppers, None, Moment::now(true), usize::MAX)?;
        index.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn read(&self, name: &str) -> io::Result<Option<Index>> {
        match Index::read(&self.shelf, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.map(Some),
        }
    }
}

/// An index's, on the shelf.
fn name(number: u32) -> String {
    format!("{number}.index")
}

/// The chore of the orders.
///
/// # Errors
/// In words.
pub fn chore_of_layer(text: &str) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (layer, order): (KeptLayer, Order) =
        serde_json::from_str(text).map_err(|error| told(&error))?;
    let done = layer.obey(&order).map_err(|error| told(&error))?;
    serde_json::to_string(&done).map_err(|error| told(&error))
}

/// Bytes that are free.
fn room(dir: &Dir) -> io::Result<u64> {
    let at = dir.file_system()?;
    Ok(at.f_bavail.saturating_mul(at.f_frsize))
}

/// Nanoseconds since 1970.
fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}
