//! A cache as part of the container: read-only layers below everything the build writes.
//!
//! Used by `namespaces`. Nothing is copied, so a hundred thousand files take no longer than one.
//! Layers are used only where the build cannot tell the difference: below its source, and below
//! /root and /home where no mount and no file of another kind is in the way. Everything else is
//! copied.
//!
//! The cache's directories are already open here and go to the sandbox as descriptors, so later
//! changes to their names do not matter.

#![deny(clippy::disallowed_methods)]

use super::ContainerSpec;
use runner_host::beneath::{Dir, kind};
use runner_sandbox::{Root, RootEntry, WritableDirectory, handed};
use rustix::fs::FileType;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

/// Top-level directories that a cache may contain in its root.
const TOPS: [&str; 2] = ["root", "home"];

/// A cache's trees. Nothing changes them.
#[derive(Clone, Debug)]
pub struct CachedTrees {
    /// Files below the source directory.
    pub source: Arc<Dir>,
    /// All other files.
    pub root: Arc<Dir>,
}

/// Directories passed to the sandbox as descriptors. [`handed`] turns an index into a name.
#[derive(Debug, Default)]
pub(super) struct Handed(Vec<Arc<Dir>>);

impl Handed {
    /// Adds a directory and returns the path that names it in a spec.
    fn add(&mut self, dir: Arc<Dir>) -> std::path::PathBuf {
        self.0.push(dir);
        handed(self.0.len() - 1)
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|dir| dir.as_fd()).collect()
    }

    /// The writable directories with each lower layer as a path the kernel knows: the names in
    /// specs mean something only to the sandbox.
    pub(super) fn named(&self, mut uppers: Vec<WritableDirectory>) -> Vec<WritableDirectory> {
        for (index, dir) in self.0.iter().enumerate() {
            let Ok(path) = dir.path() else { continue };
            let lower = uppers.iter_mut().flat_map(|upper| upper.lower.iter_mut());
            lower
                .filter(|lower| **lower == handed(index))
                .for_each(|lower| lower.clone_from(&path));
        }
        uppers
    }
}

/// Lays the trees over the source and the image. Returns the directories to hand over, or `None` if
/// the trees do not fit.
pub(super) fn lay(
    spec: &ContainerSpec,
    root: &mut Root,
    entries: &mut Vec<RootEntry>,
) -> Option<Handed> {
    let cached = spec.cached.as_ref()?;
    if !can_lay(cached, spec, root) {
        return None;
    }
    let (mut with_root, mut with_entries) = (root.clone(), entries.clone());
    let handed = place(cached, spec, &mut with_root, &mut with_entries).ok().flatten()?;
    (*root, *entries) = (with_root, with_entries);
    Some(handed)
}

/// Whether the trees can be laid, as far as can be told beforehand.
pub(super) fn can_lay(cached: &CachedTrees, spec: &ContainerSpec, root: &Root) -> bool {
    fits(cached, spec, root).unwrap_or(false)
}

/// Names of the directories in a cache's root. Fails if it contains anything else.
fn tops(cached: &CachedTrees) -> io::Result<Vec<String>> {
    let name = |entry: runner_host::beneath::DirectoryEntry| match entry.kind {
        // The runner writes no names that are not text.
        FileType::Directory => {
            String::from_utf8(entry.name).map_err(|_| io::ErrorKind::InvalidData.into())
        }
        _ => Err(io::ErrorKind::NotADirectory.into()),
    };
    cached.root.entries()?.into_iter().map(name).collect()
}

fn fits(cached: &CachedTrees, spec: &ContainerSpec, root: &Root) -> io::Result<bool> {
    let own = nix::unistd::geteuid().as_raw();
    let tops = tops(cached)?;
    let is_covered = |top: &String| {
        spec.mounts.iter().any(|mount| mount.target.starts_with(Path::new("/").join(top)))
    };
    let source = spec.sources.first().ok_or(io::ErrorKind::NotFound)?;
    let is_mounted = spec.mounts.iter().any(|mount| mount.target.starts_with(&source.target));
    if [&cached.source, &cached.root].iter().any(|t| t.facts().is_ok_and(|f| f.st_uid != own))
        || tops.iter().any(|top| !TOPS.contains(&top.as_str()) || is_covered(top))
        || is_mounted
        || !agree(&cached.source, &Dir::top(&source.dir)?)?
    {
        return Ok(false);
    }
    let Root::Image { lower, .. } = root else { return Ok(true) };
    for layer in lower {
        if !agree(&cached.root, &Dir::top(layer)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the cache's directories coincide only with directories, and its files never with one.
fn agree(tree: &Dir, below: &Dir) -> io::Result<bool> {
    let mut ahead = vec![Vec::new()];
    while let Some(path) = ahead.pop() {
        let (here, there) = (tree.open(&path)?, below.open(&path)?);
        for entry in here.entries()? {
            let is_directory = entry.kind == FileType::Directory;
            let Some(other) = there.look(&entry.name)? else { continue };
            if (kind(&other) == FileType::Directory) != is_directory {
                return Ok(false);
            }
            if is_directory {
                ahead.push(match &*path {
                    b"" => entry.name,
                    above => [above, b"/", &entry.name].concat(),
                });
            }
        }
    }
    Ok(true)
}

/// Returns `None` if a directory it needs is missing.
fn place(
    cached: &CachedTrees,
    spec: &ContainerSpec,
    root: &mut Root,
    entries: &mut Vec<RootEntry>,
) -> io::Result<Option<Handed>> {
    let (tops, mut handed) = (tops(cached)?, Handed::default());
    match root {
        Root::Image { lower, .. } if !tops.is_empty() => {
            lower.insert(0, handed.add(Arc::clone(&cached.root)));
        }
        Root::Image { .. } => {}
        Root::Empty => {
            for top in tops {
                let path = Path::new("/").join(&top);
                let made = entries.iter().position(
                    |entry| matches!(entry, RootEntry::Directory { path: made, .. } if *made == path),
                );
                let Some(at) = made else { return Ok(None) };
                // The directory entry goes in again after the overlay, to set its mode.
                let again = entries[at].clone();
                let lower = handed.add(Arc::new(cached.root.open(&top)?));
                let (hidden, over) = (Vec::new(), Vec::new());
                entries
                    .insert(at + 1, RootEntry::Overlay { path, lower, hidden, over, owned: false });
                entries.insert(at + 2, again);
            }
        }
    }
    if cached.source.entries()?.is_empty() {
        return Ok(Some(handed));
    }
    let target = spec.sources.first().map(|source| &source.target);
    let over = entries.iter_mut().find_map(|entry| match entry {
        RootEntry::Overlay { path, over, .. } if Some(&*path) == target => Some(over),
        _ => None,
    });
    let Some(over) = over else { return Ok(None) };
    over.push(handed.add(Arc::clone(&cached.source)));
    Ok(Some(handed))
}
