//! Lists a directory of the container, following links as the buildspec reference defines.
//!
//! Used by `artifacts` and by caches. A link to a file stands for that file. A link to a directory
//! is followed if its target is below the base directory or if it was named; never in a cycle.

use super::transfer::{TransferRequest, converse};
use runner_core::select::{below, normal};
use runner_engine::Container;
use runner_engine::files::{FileFailure, FilesProgram, FilesProgramError};
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK};
use runner_wire::files::{FileFacts, Reply, select};
use std::collections::HashMap;
use std::io;

/// Maximum number of listed files. A few links can multiply into any number.
const MAX_FILES: usize = 5_000_000;
/// Maximum depth of links within linked directories.
const MAX_ROUNDS: usize = 40;

/// A path in the container, below the base directory or absolute.
#[derive(Clone, Debug)]
pub(super) struct ListedPath {
    pub(super) path: Vec<u8>,
    pub(super) facts: FileFacts,
    /// The link's target, if it stays a link.
    pub(super) target: Option<Vec<u8>>,
}

/// The result of a listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files and links that stay links, sorted by path.
    pub(super) files: Vec<ListedPath>,
    pub(super) directories: Vec<ListedPath>,
    /// Paths that could not be listed, with the reason.
    pub(super) problems: Vec<(Vec<u8>, String)>,
    /// Unreadable paths below which selected files may lie.
    pub(super) failures: Vec<(Vec<u8>, String)>,
}

#[derive(Clone, Debug)]
pub(super) struct ListingStart {
    /// Below the base directory (empty: the base itself) or absolute.
    pub(super) path: Vec<u8>,
    /// Whether only paths below it are of interest.
    pub(super) is_passed: bool,
}

/// Which links stay links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    None,
    /// Links whose target is below the base directory.
    Inner,
    All,
}

/// Lists what is at and below `starts`. `base` is absolute.
pub(super) async fn list(
    container: &dyn Container,
    base: &[u8],
    starts: Vec<ListingStart>,
    links: Links,
) -> Result<Listing, FilesProgramError> {
    let mut walk = ListingWalk {
        base: normal(base),
        links,
        inodes: HashMap::new(),
        listing: Listing::default(),
        tasks: Vec::new(),
    };
    for ListingStart { path, is_passed } in starts {
        let is_directory = path.is_empty() || path == b"/";
        walk.tasks.push(if is_directory {
            ListingTask::Inside(path)
        } else {
            ListingTask::Look(path, is_passed)
        });
    }
    for _ in 0..MAX_ROUNDS {
        let tasks = std::mem::take(&mut walk.tasks);
        if tasks.is_empty() {
            break;
        }
        let files = FilesProgram::start(container).await?;
        walk = tokio::task::spawn_blocking(move || walk.round(files, &tasks))
            .await
            .map_err(|error| FilesProgramError::Pipe(io::Error::other(error)))??;
    }
    for task in std::mem::take(&mut walk.tasks) {
        walk.listing.problems.push((task.path().to_vec(), "too many links in each other".into()));
    }
    walk.listing.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    walk.listing.directories.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.listing)
}

/// Whether an absolute path leads to a directory.
pub(super) async fn is_directory(
    container: &dyn Container,
    path: &[u8],
) -> Result<bool, FilesProgramError> {
    let files = FilesProgram::start(container).await?;
    let ask = TransferRequest { root: path.to_vec(), paths: Vec::new() };
    let looked = tokio::task::spawn_blocking(move || {
        let mut is_directory = false;
        converse(files, vec![ask], |_, reply| {
            is_directory |= matches!(reply, Reply::Root(_));
            Ok::<_, FilesProgramError>(())
        })
        .map(|()| is_directory)
    });
    looked.await.map_err(|error| FilesProgramError::Pipe(io::Error::other(error)))?
}

#[derive(Debug)]
enum ListingTask {
    /// Examine one path; `true` if only paths below it are of interest.
    Look(Vec<u8>, bool),
    /// List a directory's content.
    Inside(Vec<u8>),
    /// Follow a link; `anywhere` if its target may lie outside the base directory.
    Follow { path: Vec<u8>, target: Vec<u8>, anywhere: bool },
}

impl ListingTask {
    fn path(&self) -> &[u8] {
        match self {
            ListingTask::Look(path, _)
            | ListingTask::Inside(path)
            | ListingTask::Follow { path, .. } => path,
        }
    }
}

struct ListingWalk {
    base: Vec<u8>,
    links: Links,
    /// Directories by path, to notice a link to a directory above.
    inodes: HashMap<Vec<u8>, (u64, u64)>,
    listing: Listing,
    tasks: Vec<ListingTask>,
}

impl ListingWalk {
    fn round(
        mut self,
        files: FilesProgram,
        tasks: &[ListingTask],
    ) -> Result<Self, FilesProgramError> {
        let asks = tasks.iter().map(|task| self.ask(task)).collect();
        converse(files, asks, |number, reply| match tasks.get(number) {
            Some(task) => self.hear(task, &reply),
            None => Err(FilesProgramError::Ended),
        })?;
        Ok(self)
    }

    fn ask(&self, task: &ListingTask) -> TransferRequest {
        let whole = self.whole(task.path());
        let slash = whole.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let above = || whole[..slash.max(1)].to_vec();
        let name = || whole[slash + 1..].to_vec();
        match task {
            ListingTask::Look(..) => TransferRequest { root: above(), paths: vec![(0, name())] },
            ListingTask::Inside(_) => {
                TransferRequest { root: whole, paths: vec![(select::RECURSIVE, Vec::new())] }
            }
            ListingTask::Follow { .. } => {
                TransferRequest { root: above(), paths: vec![(select::FOLLOW, name())] }
            }
        }
    }

    fn hear(&mut self, task: &ListingTask, reply: &Reply<'_>) -> Result<(), FilesProgramError> {
        match (task, reply) {
            (ListingTask::Inside(path), Reply::Root(facts)) => {
                self.inodes.insert(path.clone(), (facts.device, facts.inode));
            }
            (ListingTask::Look(..), Reply::Failed(failed)) if is_missing(failed.errno) => {}
            (task, Reply::Failed(failed)) => {
                let failure = FileFailure::from(*failed);
                let why = io::Error::from_raw_os_error(failure.errno).to_string();
                match task {
                    ListingTask::Inside(at) => {
                        self.listing.failures.push((join(at, &failure.path), why));
                    }
                    ListingTask::Look(path, _) => self.listing.failures.push((path.clone(), why)),
                    ListingTask::Follow { path, .. } => self.problem(path, why),
                }
            }
            (ListingTask::Look(path, is_passed), Reply::Entry(entry)) => match entry.facts.kind() {
                DIRECTORY => {
                    self.directory(path.clone(), entry.facts);
                    self.tasks.push(ListingTask::Inside(path.clone()));
                }
                SYMLINK if *is_passed => self.tasks.push(ListingTask::Follow {
                    path: path.clone(),
                    target: entry.target.to_vec(),
                    anywhere: true,
                }),
                _ => self.entry(path.clone(), entry.facts, entry.target, true),
            },
            (ListingTask::Inside(at), Reply::Entry(entry)) => {
                self.entry(join(at, entry.path), entry.facts, entry.target, false);
            }
            (ListingTask::Follow { path, target, anywhere }, Reply::Entry(entry)) => {
                self.followed(path, target, *anywhere, entry.facts);
            }
            (_, Reply::Root(_) | Reply::Data(_) | Reply::Hole(_) | Reply::End(_) | Reply::Sync) => {
            }
        }
        match self.listing.files.len() + self.listing.directories.len() {
            0..=MAX_FILES => Ok(()),
            // The alternative is to run out of memory.
            _ => Err(FilesProgramError::Pipe(io::Error::other(format!(
                "more than {MAX_FILES} files"
            )))),
        }
    }

    /// Handles one path that exists. `anywhere`: it was named.
    fn entry(&mut self, path: Vec<u8>, facts: FileFacts, target: &[u8], anywhere: bool) {
        match facts.kind() {
            REGULAR => self.listing.files.push(ListedPath { path, facts, target: None }),
            DIRECTORY => self.directory(path, facts),
            SYMLINK => {
                let stays = match self.links {
                    Links::None => false,
                    Links::All => true,
                    Links::Inner => self.is_inner(&path, target),
                };
                let target = target.to_vec();
                if stays {
                    self.listing.files.push(ListedPath { path, facts, target: Some(target) });
                } else {
                    self.tasks.push(ListingTask::Follow { path, target, anywhere });
                }
            }
            _ => self.problem(&path, "it is neither a file nor a directory".to_owned()),
        }
    }

    fn followed(&mut self, path: &[u8], target: &[u8], anywhere: bool, facts: FileFacts) {
        let shown = target.escape_ascii();
        match facts.kind() {
            REGULAR => {
                self.listing.files.push(ListedPath { path: path.to_vec(), facts, target: None });
            }
            DIRECTORY if !anywhere && !self.is_inner(path, target) => {
                self.problem(path, format!("it leads out of the base directory, to {shown}"));
            }
            DIRECTORY if self.is_within(path, (facts.device, facts.inode)) => {
                self.problem(path, format!("it leads to {shown}, which it is in itself"));
            }
            DIRECTORY => {
                self.directory(path.to_vec(), facts);
                self.tasks.push(ListingTask::Inside(path.to_vec()));
            }
            SYMLINK => self.problem(path, format!("it leads nowhere ({shown})")),
            _ => self.problem(path, format!("it leads to {shown}, which is not a file")),
        }
    }

    fn directory(&mut self, path: Vec<u8>, facts: FileFacts) {
        self.inodes.insert(path.clone(), (facts.device, facts.inode));
        self.listing.directories.push(ListedPath { path, facts, target: None });
    }

    fn problem(&mut self, path: &[u8], why: String) {
        self.listing.problems.push((path.to_vec(), why));
    }

    fn whole(&self, path: &[u8]) -> Vec<u8> {
        match path {
            b"" => self.base.clone(),
            [b'/', ..] => path.to_vec(),
            _ => join(&self.base, path),
        }
    }

    /// Whether a link's target, read as text, lies below the base directory.
    fn is_inner(&self, path: &[u8], target: &[u8]) -> bool {
        let whole = self.whole(path);
        let slash = whole.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let target = match target {
            [b'/', ..] => normal(target),
            _ => normal(&join(&whole[..slash], target)),
        };
        below(&target, &self.base).is_some()
    }

    /// Whether the directory is one that the path itself leads through.
    fn is_within(&self, path: &[u8], inode: (u64, u64)) -> bool {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let above = slashes.map(|(at, _)| &path[..at]).chain([&b""[..]]);
        above.into_iter().any(|above| self.inodes.get(above) == Some(&inode))
    }
}

fn join(directory: &[u8], path: &[u8]) -> Vec<u8> {
    match (directory, path) {
        (b"", path) => path.to_vec(),
        (directory, b"") => directory.to_vec(),
        (b"/", path) => [b"/", path].concat(),
        (directory, path) => [directory, b"/", path].concat(),
    }
}

fn is_missing(errno: i32) -> bool {
    use nix::errno::Errno;
    matches!(Errno::from_raw(errno), Errno::ENOENT | Errno::ENOTDIR)
}
