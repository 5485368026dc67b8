//! Merges sealed layers of an overlay into one that shows the same, so that an overlay never has
//! many.
//!
//! Every look, every mount and every lookup of a name goes through all layers. Only small layers
//! are merged, and only those without marks that point to other layers; nothing writes to the
//! others meanwhile, and earlier checkpoints keep using them.

use super::LayerMerged;
use super::index::EntryIdentity;
use super::work::{LayerWork, ROOM, room};
use runner_host::beneath::{Dir, WalkItem, join};
use runner_sandbox::{LayerMerge, overlay_marks};
use rustix::fs::FileType;
use std::collections::{BTreeSet, HashMap};
use std::io;

/// Most entries of a part that is merged.
const MOST_IN_PART: usize = 250;
/// Most bytes of a part's files.
const MOST_BYTES_IN_PART: u64 = 4 << 20;
/// Deepest directory in a part.
const DEEPEST: usize = 32;

/// Why a part stays as it is.
enum Obstacle {
    /// It is too large, or has a mark that is not understood here.
    Stays,
    Failed(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Obstacle::Failed(error)
    }
}

impl LayerWork<'_> {
    pub(super) fn merge(&self, merge: &LayerMerge) -> io::Result<LayerMerged> {
        // Topmost first.
        let (mut tops, mut stay) = (Vec::new(), Vec::new());
        for part in merge.parts.iter().rev() {
            let top = self.layer.open(part.dir(&merge.name))?;
            match examine(&top) {
                Ok(()) => tops.push(top),
                Err(Obstacle::Stays) => stay.push(*part),
                Err(Obstacle::Failed(error)) => return Err(error),
            }
        }
        if !stay.is_empty() {
            return Ok(LayerMerged::Stay(stay));
        }
        let most = MOST_BYTES_IN_PART.saturating_mul(tops.len() as u64);
        if room(&self.shelf)? < ROOM.saturating_add(most) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let to = merge.into.dir(&merge.name);
        let made = self.layer.make_all(&to, 0o700).and_then(|dir| fill(tops, &dir));
        if made.is_err() {
            self.layer.remove_tree(&to)?;
        }
        made.map(|()| LayerMerged::Made)
    }
}

/// Whether a part can be merged.
fn examine(top: &Dir) -> Result<(), Obstacle> {
    let prefix = overlay_marks();
    let [opaque, redirect, metacopy] =
        ["opaque", "redirect", "metacopy"].map(|mark| format!("{prefix}{mark}"));
    let (mut count, mut bytes) = (0, 0);
    top.walk(|item: WalkItem<'_>| {
        let facts = EntryIdentity::of(&item.place.stat(item.name)?);
        count += 1;
        let is_file = facts.kind() == FileType::RegularFile;
        if is_file {
            bytes += u64::try_from(facts.size).unwrap_or(0);
        }
        let depth = item.path.iter().filter(|&&byte| byte == b'/').count();
        if count > MOST_IN_PART || bytes > MOST_BYTES_IN_PART || depth >= DEEPEST {
            return Err(Obstacle::Stays);
        }
        if !is_file && !facts.is_directory() {
            return Ok(());
        }
        let mark = |mark: &str| item.place.attribute(item.name, mark);
        let points_elsewhere = mark(&redirect)?.is_some()
            || mark(&metacopy)?.is_some()
            || mark(&opaque)?.is_some_and(|value| value != b"y");
        if points_elsewhere { Err(Obstacle::Stays) } else { Ok(()) }
    })
}

/// Fills an empty directory with what these layers show, the topmost first.
fn fill(tops: Vec<Dir>, to: &Dir) -> io::Result<()> {
    let opaque = format!("{}opaque", overlay_marks());
    let parts: Vec<(usize, Dir)> = tops.into_iter().enumerate().collect();
    let mut merging = Merging { to, opaque, names: HashMap::new() };
    merging.directory(&parts, b"", to)
}

struct Merging<'d> {
    to: &'d Dir,
    opaque: String,
    /// Where files with several names are, by layer and inode.
    names: HashMap<(usize, u64), Vec<u8>>,
}

impl Merging<'_> {
    /// `parts` are a directory's part in each layer that shows it.
    fn directory(&mut self, parts: &[(usize, Dir)], path: &[u8], to: &Dir) -> io::Result<()> {
        let mut seen = BTreeSet::new();
        for (at, (layer, dir)) in parts.iter().enumerate() {
            for name in dir.names()? {
                if seen.contains(&name) {
                    continue;
                }
                let stat = dir.stat(&name)?;
                let facts = EntryIdentity::of(&stat);
                let whole = join(path, &name);
                if facts.is_directory() {
                    let (inner, hides) = self.inner(&parts[at..], &name)?;
                    dir.twin(&name, &stat, to)?;
                    let made = to.open(&name)?;
                    self.directory(&inner, &whole, &made)?;
                    if hides {
                        made.set_attribute(&self.opaque, b"y")?;
                    }
                } else if !self.is_linked(*layer, &facts, to, (&whole, &name)) {
                    dir.twin(&name, &stat, to)?;
                }
                seen.insert(name);
            }
        }
        // Last: adding to a directory changes its time.
        match parts.first() {
            Some((_, topmost)) => to.dress_as(topmost),
            None => Ok(()),
        }
    }

    /// The parts of a directory in these, and whether they hide the layers below.
    fn inner(&self, parts: &[(usize, Dir)], name: &[u8]) -> io::Result<(Vec<(usize, Dir)>, bool)> {
        let mut inner = Vec::new();
        for (layer, dir) in parts {
            let Some(stat) = dir.look(name)? else { continue };
            if !EntryIdentity::of(&stat).is_directory() {
                return Ok((inner, true));
            }
            inner.push((*layer, dir.open(name)?));
            if dir.attribute(name, &self.opaque)?.is_some() {
                return Ok((inner, true));
            }
        }
        Ok((inner, false))
    }

    /// Whether this is one more name of a file that is there, and could be made so.
    fn is_linked(
        &mut self,
        layer: usize,
        facts: &EntryIdentity,
        to: &Dir,
        (path, name): (&[u8], &[u8]),
    ) -> bool {
        // An overlay uses one inode for many whiteouts.
        if facts.links < 2 || facts.is_whiteout() {
            return false;
        }
        let key = (layer, facts.inode);
        let known = self.names.get(&key);
        let is_linked = known.is_some_and(|first| self.to.hard_link(first, to, name).is_ok());
        if !is_linked {
            self.names.insert(key, path.to_vec());
        }
        is_linked
    }
}
