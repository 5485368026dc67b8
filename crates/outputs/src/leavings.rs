//! Outputs that earlier builds left in the source. Folders for artifacts, reports and caches may
//! lie there; the next build would collect the last build's outputs, and a cache would include what
//! was just collected.
//!
//! `build` makes [`LeavingPlaces`], and [`PriorLeavings`] from it before the first output is
//! collected; all collecting code uses it. From such a place only files made by this build are
//! collected, unless the base directory or the start of a pattern names the place (docs/adr/0031).

use super::listing::{Links, ListedPath, ListingStart, list};
use super::{OutputError, Reporter};
use runner_core::select::{FilePattern, below, normal};
use runner_engine::Container;
use runner_host::beneath::{Dir, join, kind, real};
use runner_wire::abi::files::DIRECTORY;
use runner_wire::files::FileFacts;
use rustix::fs::{FileType, Stat};
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The files and folders that builds write outputs to and that the build can see.
#[derive(Clone, Debug, Default)]
pub struct LeavingPlaces(Vec<LeavingPlace>);

#[derive(Clone, Debug)]
struct LeavingPlace {
    /// Path on this machine.
    path: PathBuf,
    /// Absolute path as the build sees it.
    inside: Vec<u8>,
    /// Whether it is written to while the build runs.
    is_live: bool,
}

/// The files that existed before anything was collected.
#[derive(Clone, Debug, Default)]
pub struct PriorLeavings {
    places: Arc<Vec<(LeavingPlace, OwnPaths)>>,
    /// Places already reported to the user.
    told: Arc<Mutex<HashSet<PathBuf>>>,
}

/// What a build made at such a place, by path below it; and whether it is a link.
type OwnPaths = HashMap<Vec<u8>, bool>;

/// Kind, size and time of a file; for a directory only the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp(u32, u64, (i64, i64));

impl LeavingPlaces {
    /// `places` are files and folders of this machine, and whether they are written during the
    /// build; `sources` are directories and their paths in the build.
    pub fn new(
        places: impl IntoIterator<Item = (PathBuf, bool)>,
        sources: &[(PathBuf, PathBuf)],
    ) -> Self {
        let mut found = Vec::new();
        for (path, is_live) in places {
            let Ok(path) = real(&path) else { continue };
            for (dir, target) in sources {
                // If the source itself is the place, its content is the source's.
                if let Ok(inner) = path.strip_prefix(dir)
                    && inner != Path::new("")
                {
                    let inside = normal(target.join(inner).as_os_str().as_bytes());
                    found.push(LeavingPlace { path: path.clone(), inside, is_live });
                }
            }
        }
        LeavingPlaces(found)
    }

    /// Compares the places here and in the container: what differs was made by the build.
    pub async fn look(&self, container: &dyn Container) -> PriorLeavings {
        let mut places = Vec::new();
        for place in self.0.clone() {
            match place.own(container).await {
                Ok(own) => places.push((place, own)),
                // The place is then collected like anything else.
                Err(error) => tracing::debug!(%error, "a place in the source cannot be looked at"),
            }
        }
        PriorLeavings { places: Arc::new(places), told: Arc::default() }
    }
}

impl LeavingPlace {
    async fn own(&self, container: &dyn Container) -> Result<OwnPaths, OutputError> {
        if self.is_live {
            return Ok(OwnPaths::new());
        }
        let slash = self.inside.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let (above, name) = (&self.inside[..slash.max(1)], self.inside[slash + 1..].to_vec());
        let start = vec![ListingStart { path: name.clone(), is_passed: false }];
        let listing = list(container, above, start, Links::All).await?;
        let path = self.path.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut there = HashMap::new();
            if let Err(error) = look(&path, &mut there) {
                tracing::debug!(%error, "a place in the source is not there");
            }
            let is_own = |found: &ListedPath, inner: &[u8]| {
                let FileFacts { mode, size, modified, modified_ns, .. } = found.facts;
                there.get(inner) != Some(&looks_of(mode, size, (modified, modified_ns.into())))
            };
            let all = listing.files.iter().chain(&listing.directories);
            all.filter_map(|found| {
                let inner = below(&found.path, &name)?;
                is_own(found, inner).then(|| (inner.to_vec(), found.target.is_some()))
            })
            .collect()
        });
        work.await.map_err(|error| OutputError::Other(error.to_string()))
    }
}

/// Records the state of a place and everything below it. What cannot be read counts as missing.
fn look(path: &Path, there: &mut HashMap<Vec<u8>, FileStamp>) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let above = Dir::real(above)?;
    let stat = above.stat(name.as_bytes())?;
    there.insert(Vec::new(), looks(&stat));
    if kind(&stat) != FileType::Directory {
        return Ok(());
    }
    let top = above.open(name.as_bytes())?;
    let mut ahead = vec![Vec::new()];
    while let Some(path) = ahead.pop() {
        let Ok(here) = top.open(&path) else { continue };
        for entry in here.entries().unwrap_or_default() {
            let Ok(stat) = here.stat(&entry.name) else { continue };
            let inner = join(&path, &entry.name);
            there.insert(inner.clone(), looks(&stat));
            if kind(&stat) == FileType::Directory {
                ahead.push(inner);
            }
        }
    }
    Ok(())
}

fn looks(stat: &Stat) -> FileStamp {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    looks_of(stat.st_mode, size, (stat.st_mtime, nanoseconds))
}

fn looks_of(mode: u32, size: u64, modified: (i64, i64)) -> FileStamp {
    match mode & 0o170_000 {
        DIRECTORY => FileStamp(DIRECTORY, 0, (0, 0)),
        kind => FileStamp(kind, size, modified),
    }
}

impl PriorLeavings {
    /// Filters what was found below `base` (absolute) for these patterns. The number of omitted
    /// files is reported, once for each place.
    pub(super) async fn taken_from(
        &self,
        mut found: Vec<ListedPath>,
        base: &[u8],
        patterns: &[FilePattern],
        teller: &Reporter,
    ) -> Result<Vec<ListedPath>, OutputError> {
        if self.places.is_empty() {
            return Ok(found);
        }
        let (own, base, patterns) = (self.clone(), base.to_vec(), patterns.to_vec());
        let work = tokio::task::spawn_blocking(move || {
            let taken = own.take_from(&mut found, &base, &patterns);
            (found, taken)
        });
        let (found, taken) = work.await.map_err(|error| OutputError::Other(error.to_string()))?;
        for (path, count) in taken {
            let told = || self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told().insert(path.clone()) {
                let path = path.display();
                let text = format!("not collected: {count} file(s) that are in {path} from before");
                teller.note(text).await;
            }
        }
        Ok(found)
    }

    /// Removes them from the list. Returns how many, and from which place.
    fn take_from(
        &self,
        found: &mut Vec<ListedPath>,
        base: &[u8],
        patterns: &[FilePattern],
    ) -> Vec<(PathBuf, u64)> {
        let base = normal(base);
        let whole = |path: &[u8]| match path {
            [b'/', ..] => path.to_vec(),
            _ => normal(&[base.as_slice(), b"/", path].concat()),
        };
        let mut taken = Vec::new();
        for (place, own) in &*self.places {
            if below(&base, &place.inside).is_some() {
                continue;
            }
            let names =
                |pattern: &&FilePattern| below(&whole(pattern.start()), &place.inside).is_some();
            let (naming, others): (Vec<_>, Vec<_>) = patterns.iter().partition(names);
            let mut count = 0;
            found.retain(|file| {
                let path = whole(&file.path);
                let Some(inner) = below(&path, &place.inside) else { return true };
                let stays =
                    is_own(own, inner) || naming.iter().any(|pattern| pattern.takes(&file.path));
                if !stays && file.facts.kind() != DIRECTORY {
                    count += u64::from(others.iter().any(|pattern| pattern.takes(&file.path)));
                }
                stays
            });
            if count > 0 {
                taken.push((place.path.clone(), count));
            }
        }
        taken
    }
}

/// Whether the path was made by the build, or lies behind a link made by the build.
fn is_own(own: &OwnPaths, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut above = slashes.map(|(at, _)| &path[..at]);
    own.contains_key(path) || above.any(|above| own.get(above) == Some(&true))
}
