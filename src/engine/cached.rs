//! A cache as part of the container: read-only layers below everything the build writes.
//!
//! Used by `namespaces`. Nothing is copied, so it takes as long for a hundred thousand files as for one.
//! Only where the build cannot tell the difference: below its source, and below /root and /home, where
//! no mount and no file of another kind is in the way. Anything else is copied.

use super::ContainerSpec;
use runner_sandbox::{Entry, Root};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Top directories that a cache may have in the root.
const TOPS: [&str; 2] = ["root", "home"];

/// A cache's trees, which nobody changes.
#[derive(Clone, Debug)]
pub(crate) struct CachedTrees {
    /// What lies below the source directory.
    pub(crate) source: PathBuf,
    /// What lies anywhere else.
    pub(crate) root: PathBuf,
}

/// Lays the trees over the source and the image; whether that could be.
pub(super) fn lay(spec: &ContainerSpec, root: &mut Root, entries: &mut Vec<Entry>) -> bool {
    let Some(cached) = &spec.cached else { return false };
    can_lay(cached, spec, root) && place(cached, spec, root, entries).unwrap_or(false)
}

/// Whether that can be, as far as it shows beforehand.
pub(super) fn can_lay(cached: &CachedTrees, spec: &ContainerSpec, root: &Root) -> bool {
    fits(cached, spec, root).unwrap_or(false)
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    // What is not text is nothing of ours.
    let name = |entry: io::Result<fs::DirEntry>| {
        entry?.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData.into())
    };
    fs::read_dir(dir)?.map(name).collect()
}

fn fits(cached: &CachedTrees, spec: &ContainerSpec, root: &Root) -> io::Result<bool> {
    let own = nix::unistd::geteuid().as_raw();
    let tops = names(&cached.root)?;
    let is_covered = |top: &String| {
        spec.mounts.iter().any(|mount| mount.target.starts_with(Path::new("/").join(top)))
    };
    let source = spec.sources.first().ok_or(io::ErrorKind::NotFound)?;
    let is_mounted = spec.mounts.iter().any(|mount| mount.target.starts_with(&source.target));
    if [&cached.source, &cached.root]
        .iter()
        .any(|tree| fs::metadata(tree).is_ok_and(|m| m.uid() != own))
        || tops.iter().any(|top| !TOPS.contains(&top.as_str()) || is_covered(top))
        || is_mounted
        || !agree(&cached.source, &source.dir)?
    {
        return Ok(false);
    }
    match root {
        Root::Empty => Ok(true),
        Root::Image { lower, .. } => Ok(lower
            .iter()
            .map(|layer| agree(&cached.root, layer))
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .all(|agrees| agrees)),
    }
}

/// Whether directories of a cache meet directories only, and files no directories.
fn agree(tree: &Path, below: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        let other = below.join(entry.file_name());
        let is_directory = entry.file_type()?.is_dir();
        match fs::symlink_metadata(&other) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(there) if there.is_dir() != is_directory => return Ok(false),
            Ok(_) if is_directory && !agree(&entry.path(), &other)? => return Ok(false),
            Ok(_) => {}
        }
    }
    Ok(true)
}

fn place(
    cached: &CachedTrees,
    spec: &ContainerSpec,
    root: &mut Root,
    entries: &mut Vec<Entry>,
) -> io::Result<bool> {
    let tops = names(&cached.root)?;
    if let Root::Image { lower, .. } = root
        && !tops.is_empty()
    {
        lower.insert(0, cached.root.clone());
    }
    if matches!(root, Root::Empty) {
        for top in tops {
            let path = Path::new("/").join(&top);
            let made = entries.iter().position(
                |entry| matches!(entry, Entry::Directory { path: made, .. } if *made == path),
            );
            let Some(at) = made else { return Ok(false) };
            // The same directory once more, for its mode.
            let again = entries[at].clone();
            let lower = cached.root.join(top);
            let (hidden, over) = (Vec::new(), Vec::new());
            entries.insert(at + 1, Entry::Overlay { path, lower, hidden, over, owned: false });
            entries.insert(at + 2, again);
        }
    }
    if names(&cached.source)?.is_empty() {
        return Ok(true);
    }
    let target = spec.sources.first().map(|source| &source.target);
    for entry in entries {
        if let Entry::Overlay { path, over, .. } = entry
            && Some(&*path) == target
        {
            over.push(cached.source.clone());
            return Ok(true);
        }
    }
    Ok(false)
}
