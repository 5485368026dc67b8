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
    Save { number: u32, last: Option<u32>, is_quiet: bool },
    /// Put back what was kept under this number.
    Restore { number: u32 },
}

impl KeptLayer {
    /// Keeps what is there under a number that has never been used. `is_quiet`: no process lives that could write
    /// meanwhile. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or there is no room.
    pub fn save(&self, number: u32, last: Option<u32>, is_quiet: bool) -> io::Result<Saved> {
        self.order(&Order::Save { number, last, is_quiet })
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
            Order::Save { number, last, is_quiet } => {
                self.copy_whole(&layer, &shelf, number, last, is_quiet)
            }
            Order::Restore { number } => {
                self.put_back(&layer, &shelf, number).map(|()| Saved::Same)
            }
        }
    }

    /// A copy, or nothing of one. What disappears meanwhile, beside a process that lives, is tried again without it.
    fn copy_whole(
        &self,
        layer: &Dir,
        shelf: &Dir,
        number: u32,
        last: Option<u32>,
        is_quiet: bool,
    ) -> io::Result<Saved> {
        let mut left = TRIES;
        loop {
            left -= 1;
            let error = match self.copy(layer, shelf, number, last, is_quiet) {
                Ok(saved) => return Ok(saved),
                Err(error) => error,
            };
            shelf.remove_tree(number.to_string())?;
            if error.kind() != io::ErrorKind::NotFound || left == 0 {
                return Err(error);
            }
        }
    }

    fn copy(
        &self,
        layer: &Dir,
        shelf: &Dir,
        number: u32,
        last: Option<u32>,
        is_quiet: bool,
    ) -> io::Result<Saved> {
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
        index.write(shelf, number, began, is_quiet)?;
        Ok(Saved::Copied { entries, bytes })
    }

    /// What is there now goes aside, and goes with the layer: to remove it takes time.
    fn put_back(&self, layer: &Dir, shelf: &Dir, number: u32) -> io::Result<()> {
        let copy = shelf.open(number.to_string())?;
        // That of the rewind before is in nobody's way, but takes room.
        shelf.remove_tree(ASIDE)?;
        let aside = shelf.make(ASIDE, 0o700)?;
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
        Index::of(layer, &self.uppers)?.write(shelf, number, now(), true)
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

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "folders of the test's alone")]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    fn layer(dir: &Path) -> KeptLayer {
        KeptLayer { dir: dir.to_owned(), uppers: vec!["image".to_owned()], users: None }
    }

    fn copied(saved: io::Result<Saved>) -> bool {
        match saved.expect("saved") {
            Saved::Copied { .. } => true,
            Saved::Same => false,
            Saved::Not(why) => panic!("{why}"),
        }
    }

    #[test]
    fn what_changes_is_copied_and_comes_back() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let top = dir.path().join("image");
        fs::create_dir_all(top.join("d")).expect("made");
        fs::write(top.join("d/f"), "one").expect("written");
        let layer = layer(dir.path());
        assert!(copied(layer.save(1, None, true)));
        // The top itself.
        fs::set_permissions(&top, Permissions::from_mode(0o700)).expect("changed");
        assert!(copied(layer.save(2, Some(1), true)));
        // A directory's attributes alone.
        let has_attributes =
            rustix::fs::setxattr(top.join("d"), c"user.a", b"b", rustix::fs::XattrFlags::empty())
                .is_ok();
        assert_eq!(copied(layer.save(3, Some(2), true)), has_attributes);
        let last = if has_attributes { 3 } else { 2 };
        fs::set_permissions(&top, Permissions::from_mode(0o755)).expect("changed");
        fs::remove_dir_all(top.join("d")).expect("removed");
        layer.restore(last).expect("put back");
        assert_eq!(fs::metadata(&top).expect("there").mode() & 0o7777, 0o700);
        assert_eq!(fs::read(top.join("d/f")).expect("there"), b"one");
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(top.join("d"), c"user.a", &mut value);
        assert_eq!(length.is_ok_and(|length| &value[..length] == b"b"), has_attributes);
        layer.restore(1).expect("put back");
        assert_eq!(fs::metadata(&top).expect("there").mode() & 0o7777, 0o755);
    }

    /// A mapped page that is written shows in no time of the file: what a living process could write is compared.
    #[test]
    fn what_a_process_could_write_is_never_settled() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder");
        fs::create_dir(dir.path().join("image")).expect("made");
        fs::write(dir.path().join("image/m"), "A").expect("written");
        let layer = layer(dir.path());
        let shelf = Dir::top_itself(dir.path()).expect("there");
        let index = Index::of(&shelf, &layer.uppers).expect("read");
        let later = now() + 1_000_000_000;
        let is_settled = |is_quiet| {
            index.write(&shelf, 1, later, is_quiet).expect("written");
            Index::read(&shelf, 1).expect("read").find(0, b"m").expect("there").is_settled
        };
        assert_eq!((is_settled(false), is_settled(true)), (false, true));
    }
}
