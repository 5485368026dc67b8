//! Selects the files of a container that go into a cache.

use super::super::listing::{Links, ListedPath, ListingStart, list};
use super::super::transfer::{Chosen, TransferRequest, converse};
use super::super::{OutputError, PriorLeavings, Reporter, ShellValues, hex};
use runner_core::select::{FilePattern, starts};
use runner_engine::Container;
use runner_engine::files::{FilesProgram, FilesProgramError};
use runner_wire::files::{FileFacts, Reply};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Root of files below the source directory, whose path differs from build to build.
pub(super) const SOURCE: &[u8] = b"source";
/// Root of all other files.
pub(super) const ROOT: &[u8] = b"root";

/// A file, directory or link of a cache.
#[derive(Clone, Debug)]
pub(super) struct CacheItem {
    pub(super) facts: FileFacts,
    /// Target, if it is a link.
    pub(super) target: Option<Vec<u8>>,
    /// A directory on the way to a cached path, not cached itself.
    pub(super) is_passed: bool,
}

/// All items by their name in the cache: [`SOURCE`] or [`ROOT`], and the path below it.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) items: BTreeMap<Vec<u8>, CacheItem>,
}

/// The patterns of a cache.
pub(super) fn patterns(paths: &[String], values: &ShellValues, source: &str) -> Vec<FilePattern> {
    paths.iter().map(|text| FilePattern::new(&values.expand(text), source.as_bytes())).collect()
}

/// Where to look for the paths of a cache.
pub(super) struct CacheOrigin<'a> {
    pub(super) container: &'a dyn Container,
    /// `CODEBUILD_SRC_DIR`.
    pub(super) source: &'a str,
    /// What to leave out.
    pub(super) leavings: &'a PriorLeavings,
    pub(super) teller: &'a Reporter,
}

/// Lists what to cache.
pub(super) async fn gather(
    from: &CacheOrigin<'_>,
    patterns: &[FilePattern],
) -> Result<Gathered, OutputError> {
    let CacheOrigin { container, source, leavings, teller } = *from;
    let literal = |path: &[u8]| patterns.iter().any(|p| p.is_literal() && p.start() == path);
    let begin: Vec<ListingStart> = starts(patterns)
        .into_iter()
        .map(|(path, _)| ListingStart { is_passed: !literal(&path), path })
        .collect();
    let listing = list(container, source.as_bytes(), begin, Links::All).await?;
    if let Some((path, why)) = listing.failures.into_iter().next() {
        return Err(OutputError::Source { path, problem: format!("cannot list it: {why}") });
    }
    let takes = |path: &[u8]| patterns.iter().any(|pattern| pattern.takes(path));
    let (mut items, mut on_the_way) = (BTreeMap::new(), BTreeSet::new());
    let all = listing.directories.into_iter().chain(listing.files).collect();
    let all = leavings.taken_from(all, source.as_bytes(), patterns, teller).await?;
    for ListedPath { path, facts, target } in all.into_iter().filter(|found| takes(&found.path)) {
        let slashes = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
        for (at, _) in slashes {
            on_the_way.insert(path[..at].to_vec());
        }
        items.insert(name(&path), CacheItem { facts, target, is_passed: false });
    }
    on_the_way.retain(|path| !items.contains_key(&name(path)));
    for (path, facts) in look(container, source, on_the_way).await? {
        items.insert(name(&path), CacheItem { facts, target: None, is_passed: true });
    }
    let gathered = Gathered { items };
    gathered.check()?;
    Ok(gathered)
}

/// Reads the facts of the directories.
async fn look(
    container: &dyn Container,
    source: &str,
    paths: BTreeSet<Vec<u8>>,
) -> Result<Vec<(Vec<u8>, FileFacts)>, OutputError> {
    let paths: Vec<Vec<u8>> = paths.into_iter().collect();
    let whole = |path: &Vec<u8>| match path.starts_with(b"/") {
        true => path.clone(),
        false => [source.as_bytes(), b"/", path].concat(),
    };
    let asks =
        paths.iter().map(|path| TransferRequest { root: whole(path), paths: Vec::new() }).collect();
    let files = FilesProgram::start(container).await?;
    let looked = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        converse(files, asks, |number, reply| {
            if let (Reply::Root(facts), Some(path)) = (reply, paths.get(number)) {
                found.push((path.clone(), facts));
            }
            Ok::<_, FilesProgramError>(())
        })
        .map(|()| found)
    });
    let looked = looked.await.map_err(|error| FilesProgramError::Pipe(io::Error::other(error)))?;
    Ok(looked?)
}

fn name(path: &[u8]) -> Vec<u8> {
    match path.starts_with(b"/") {
        true => [ROOT, path].concat(),
        false => [SOURCE, b"/", path].concat(),
    }
}

/// Splits a name into its side and the path below it.
pub(super) fn parts(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = name.iter().position(|&byte| byte == b'/')?;
    let (side, path) = (&name[..slash], &name[slash + 1..]);
    (matches!(side, SOURCE | ROOT) && !path.is_empty()).then_some((side, path))
}

impl Gathered {
    /// Checks that every item's parent directory is listed too: the program in the container is not
    /// trusted.
    fn check(&self) -> Result<(), OutputError> {
        for name in self.items.keys() {
            let slash = name.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            let above = &name[..slash];
            let is_in_directory = matches!(above, SOURCE | ROOT)
                || self.items.get(above).is_some_and(CacheItem::is_directory);
            if !is_in_directory {
                let shown = |name: &[u8]| parts(name).map_or(Vec::new(), |(_, path)| path.to_vec());
                let problem = format!("{} is not a directory", shown(above).escape_ascii());
                return Err(OutputError::Source { path: shown(name), problem });
            }
        }
        Ok(())
    }

    pub(super) fn files(&self) -> u64 {
        self.items.values().filter(|item| item.is_file()).count() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.items.values().filter(|item| item.is_file()).map(|item| item.facts.size).sum()
    }

    /// The regular files to read, by their names in the cache.
    pub(super) fn chosen(&self, source: &str) -> Vec<Chosen> {
        let files = self.items.iter().filter(|(_, item)| item.is_file());
        files
            .filter_map(|(name, item)| {
                let (side, path) = parts(name)?;
                let base = if side == SOURCE { source.as_bytes() } else { b"/" };
                Some(Chosen {
                    base: base.to_vec(),
                    path: path.to_vec(),
                    name: name.clone(),
                    facts: item.facts,
                    target: None,
                })
            })
            .collect()
    }

    /// Differs if anything visible to a build differs, except the times of directories.
    pub(super) fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (name, item) in self.items.iter().filter(|(_, item)| !item.is_passed) {
            let FileFacts { mode, uid, gid, size, modified, modified_ns, .. } = item.facts;
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            for number in [mode, uid, gid] {
                digest.update(number.to_le_bytes());
            }
            if item.is_file() {
                digest.update(size.to_le_bytes());
                digest.update(modified.to_le_bytes());
                digest.update(modified_ns.to_le_bytes());
            }
            digest.update(item.target.as_deref().unwrap_or_default());
        }
        hex(&digest.finalize())
    }
}

impl CacheItem {
    pub(super) fn is_directory(&self) -> bool {
        self.facts.kind() == runner_wire::abi::files::DIRECTORY
    }

    pub(super) fn is_file(&self) -> bool {
        self.facts.kind() == runner_wire::abi::files::REGULAR
    }

    /// Whether a file owned by the caller with these nine mode bits represents it fully.
    pub(super) fn is_plain(&self) -> bool {
        let FileFacts { mode, uid, gid, .. } = self.facts;
        (uid, gid) == (0, 0) && (self.target.is_some() || mode & 0o7000 == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK};

    #[test]
    fn everything_lies_in_directories_of_the_same_cache() {
        let check = |items: &[(&str, u32)]| {
            let item = |mode: u32| CacheItem {
                facts: FileFacts { mode, ..FileFacts::default() },
                target: (mode == SYMLINK).then(|| b"/home".to_vec()),
                is_passed: false,
            };
            let items = items.iter().map(|(name, mode)| (name.as_bytes().to_vec(), item(*mode)));
            Gathered { items: items.collect() }.check().map_err(|error| error.to_string()).err()
        };
        let refused = |path: &str, above: &str| Some(format!("{path}: {above} is not a directory"));
        assert_eq!(check(&[("source/a", REGULAR), ("root/b", SYMLINK)]), None);
        assert_eq!(check(&[("source/d", DIRECTORY), ("source/d/a", REGULAR)]), None);
        assert_eq!(
            check(&[("source/l", SYMLINK), ("source/l/evil", REGULAR)]),
            refused("l/evil", "l")
        );
        assert_eq!(check(&[("source/f", REGULAR), ("source/f/d", DIRECTORY)]), refused("f/d", "f"));
        assert_eq!(check(&[("source/d/e", DIRECTORY)]), refused("d/e", "d"));
        // Names of the other side.
        let apart = [("root/d", DIRECTORY), ("source/d/e", REGULAR)];
        assert_eq!(check(&apart), refused("d/e", "d"));
    }
}
