//! What a build has written, kept as it is at one time and put back later.
//!
//! Used by the driver, between two commands. A checkpoint is a copy of the directories that the container's overlays
//! write to, beside them in the layer, so that it goes with the layer. Files that have not changed since the last
//! checkpoint are one file in both copies: nobody ever writes to a copy. Without root all of it is done by a chore, as
//! root of the container's users.

#![deny(clippy::disallowed_methods)]

mod index;
mod tree;

use index::Index;
use runner_host::beneath::Dir;
use runner_sandbox::{UserMap, chore};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where copies are, in the layer.
const SHELF: &str = "checkpoints";

/// Most files, directories and links of a copy.
const MOST_ENTRIES: u64 = 20_000;
/// Most of those that have to be copied at once.
const MOST_CHANGED: u64 = 5_000;
/// Most bytes that are copied at once.
const MOST_BYTES: u64 = 64 << 20;
/// Room on the file system that is left to the build.
const ROOM: u64 = 1 << 30;

/// A layer whose contents can be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLayer {
    pub dir: PathBuf,
    /// Names of the directories in it that overlays write to.
    pub uppers: Vec<String>,
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

/// What is to be done with a layer.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Keep it under this number. The last one is that.
    Save { number: u32, last: Option<u32> },
    /// Put back what was kept under this number.
    Restore { number: u32 },
}

impl KeptLayer {
    /// Keeps what is there under a number that has never been used. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or there is no room.
    pub fn save(&self, number: u32, last: Option<u32>) -> io::Result<Saved> {
        self.order(&Order::Save { number, last })
    }

    /// Puts back what was kept. No container may use the layer. Blocks.
    ///
    /// # Errors
    /// It cannot be put back; what there is in the layer then is neither.
    pub fn restore(&self, number: u32) -> io::Result<()> {
        self.order(&Order::Restore { number }).map(drop)
    }

    fn order(&self, order: &Order) -> io::Result<Saved> {
        match &self.users {
            None => self.obey(order),
            Some(users) => {
                let text = serde_json::to_string(&(self, order))?;
                Ok(serde_json::from_str(&chore(users, &["layer", &text])?)?)
            }
        }
    }

    fn obey(&self, order: &Order) -> io::Result<Saved> {
        let layer = Dir::top_itself(&self.dir)?;
        let shelf = layer.make_all(SHELF, 0o700)?;
        match *order {
            Order::Save { number, last } => self.copy(&layer, &shelf, number, last),
            Order::Restore { number } => {
                self.put_back(&layer, &shelf, number).map(|()| Saved::Same)
            }
        }
    }

    fn copy(&self, layer: &Dir, shelf: &Dir, number: u32, last: Option<u32>) -> io::Result<Saved> {
        let began = now();
        let index = Index::of(layer, &self.uppers)?;
        let before = match last {
            Some(last) => Some((shelf.open(last.to_string())?, Index::read(shelf, last)?)),
            None => None,
        };
        let same = tree::unchanged(layer, &self.uppers, &index, before.as_ref())?;
        let (entries, bytes) = index.changed(&same, before.as_ref().map(|(_, index)| index));
        if before.is_some() && entries == 0 {
            return Ok(Saved::Same);
        }
        let copied = index.count() - same.count();
        if index.count() > MOST_ENTRIES || copied > MOST_CHANGED || bytes > MOST_BYTES {
            return Ok(Saved::Not(format!(
                "too much to copy: {copied} files and {} MiB have changed, {} files in all",
                bytes >> 20,
                index.count()
            )));
        }
        if room(shelf)? < ROOM + bytes {
            return Ok(Saved::Not("less than 1 GiB is free for it".to_owned()));
        }
        let to = shelf.make(number.to_string(), 0o700)?;
        for (upper, name) in self.uppers.iter().enumerate() {
            let from = layer.open(name)?;
            let to = to.make(name, 0o700)?;
            let links = match &before {
                Some((copy, _)) => copy.open(name).ok(),
                None => None,
            };
            let entries = index.below(upper);
            tree::copy(&from, &to, entries, links.as_ref().map(|dir| (dir, same.of(upper))))?;
        }
        index.write(shelf, number, began)?;
        Ok(Saved::Copied { entries, bytes })
    }

    /// What is there now goes aside, and goes with the layer: to remove it takes time.
    fn put_back(&self, layer: &Dir, shelf: &Dir, number: u32) -> io::Result<()> {
        let copy = shelf.open(number.to_string())?;
        let aside = (0..u32::MAX).find_map(|round| {
            let name = format!("aside-{round}");
            match shelf.make(name, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                done => Some(done),
            }
        });
        let aside = aside.ok_or(io::ErrorKind::AlreadyExists)??;
        let kept = Index::of(&copy, &self.uppers)?;
        for (upper, name) in self.uppers.iter().enumerate() {
            for gone in [name.clone(), format!("{name}.work")] {
                match layer.rename(&gone, &aside, &gone) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
            let to = layer.make(name, 0o700)?;
            tree::copy(&copy.open(name)?, &to, kept.below(upper), None)?;
        }
        // What has been put back is what the next checkpoint is held against.
        Index::of(layer, &self.uppers)?.write(shelf, number, now())
    }
}

/// The chore of [`KeptLayer::save`] and [`KeptLayer::restore`].
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
