//! Copies a tree and finds the files that are unchanged since a copy.

use super::index::{EntryIdentity, LayerEntry, LayerIndex};
use super::work::LayerBefore;
use runner_host::beneath::{Dir, DirectoryCursor, split};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::io::{self, Read};

/// For each entry of an index, in order, whether it is unchanged.
#[derive(Debug)]
pub(super) struct Same {
    all: Vec<bool>,
    /// Where the entries of each directory begin.
    begins: Vec<usize>,
}

impl Same {
    pub(super) fn all(&self) -> &[bool] {
        &self.all
    }

    pub(super) fn count(&self) -> u64 {
        self.all.iter().filter(|is_same| **is_same).count() as u64
    }

    /// The flags of one directory's entries.
    pub(super) fn of(&self, upper: usize) -> &[bool] {
        let end = self.begins.get(upper + 1).copied().unwrap_or(self.all.len());
        &self.all[self.begins[upper]..end]
    }
}

/// Finds the entries unchanged since the copy was made.
pub(super) fn unchanged(
    tops: &[Dir],
    index: &LayerIndex,
    before: Option<&LayerBefore>,
) -> io::Result<Same> {
    let (mut all, mut begins) = (Vec::new(), Vec::new());
    for (upper, top) in tops.iter().enumerate() {
        begins.push(all.len());
        let entries = index.below(upper);
        let Some(LayerBefore { tops: copies, index: before }) = before else {
            all.extend(entries.iter().map(|_| false));
            continue;
        };
        let copy = copies[upper].as_ref();
        let there = copy.map(|copy| copy.again().map(DirectoryCursor::new)).transpose()?;
        let (mut here, mut there) = (DirectoryCursor::new(top.again()?), there);
        for entry in entries {
            if entry.path.is_empty() {
                let known = before.find(upper, b"").filter(|it| entry.facts.is_as(&it.facts));
                all.push(known.is_some_and(|known| known.is_settled));
                continue;
            }
            let known = before.find(upper, &entry.path);
            let is_same = match known.filter(|known| entry.facts.is_as(&known.facts)) {
                None => false,
                Some(known) if known.is_settled => true,
                Some(_) => match &mut there {
                    Some(there) => is_alike(&entry.path, &entry.facts, &mut here, there)?,
                    // Directories that the shell's files need, in a layer that has no copy.
                    None => entry.facts.is_directory(),
                },
            };
            all.push(is_same);
        }
    }
    Ok(Same { all, begins })
}

/// Whether entries with the same times also have the same contents.
fn is_alike(
    path: &[u8],
    facts: &EntryIdentity,
    here: &mut DirectoryCursor,
    there: &mut DirectoryCursor,
) -> io::Result<bool> {
    let ((here, name), (there, _)) = (here.find(path)?, there.find(path)?);
    Ok(match facts.kind() {
        FileType::RegularFile => {
            let (mut one, mut other) = (here.file(name)?, there.file(name)?);
            has_same_bytes(&mut one, &mut other)?
        }
        FileType::Symlink => here.read_link(name)? == there.read_link(name)?,
        FileType::Directory => here.has_same_attributes(name, there)?,
        _ => true,
    })
}

fn has_same_bytes(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    const PART: u64 = 1 << 20;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    loop {
        first.clear();
        second.clear();
        one.take(PART).read_to_end(&mut first)?;
        other.take(PART).read_to_end(&mut second)?;
        if first != second || first.is_empty() {
            return Ok(first == second);
        }
    }
}

/// Copies a tree into an empty directory. Files flagged in `links` become hard links to that copy.
pub(super) fn copy(
    from: &Dir,
    to: &Dir,
    entries: &[LayerEntry],
    links: Option<(&Dir, &[bool])>,
) -> io::Result<()> {
    let (mut here, mut there) =
        (DirectoryCursor::new(from.again()?), DirectoryCursor::new(to.again()?));
    let mut before = match links {
        Some((dir, same)) => Some((DirectoryCursor::new(dir.again()?), same)),
        None => None,
    };
    // A file with several names stays one file.
    let mut names: HashMap<u64, &[u8]> = HashMap::new();
    for (at, LayerEntry { path, facts, .. }) in entries.iter().enumerate() {
        if path.is_empty() {
            // The top directory comes last.
            continue;
        }
        let ((here, name), (there, _)) = (here.find(path)?, there.find(path)?);
        if facts.kind() == FileType::Directory {
            here.twin(name, &here.stat(name)?, there)?;
            continue;
        }
        // A file whose other name is unchanged keeps one inode, too.
        if facts.links > 1 {
            if let Some(first) = names.get(&facts.inode)
                && to.hard_link(first, there, name).is_ok()
            {
                continue;
            }
            names.insert(facts.inode, path);
        }
        if let Some((before, same)) = &mut before
            && same[at]
            && before.find(path).and_then(|(before, _)| before.hard_link(name, there, name)).is_ok()
        {
            continue;
        }
        let stat = match here.stat(name) {
            // A running process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            done => done?,
        };
        here.twin(name, &stat, there)?;
    }
    // Deepest first: adding to a directory changes its time.
    let is_below = |it: &&LayerEntry| it.facts.kind() == FileType::Directory && !it.path.is_empty();
    let directories = entries.iter().rev().filter(is_below);
    for LayerEntry { path, .. } in directories {
        let (above, name) = split(path);
        let made = to.open(above)?.open(name)?;
        made.dress_as(&from.open(above)?.open(name)?)?;
    }
    to.dress_as(from)
}
