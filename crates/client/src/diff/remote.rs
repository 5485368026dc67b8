//! The build's side of a diff, listed and read by the program that moves files.

use crate::copy::CopyError;
use runner_engine::files::{
    FileFailure, FileReplies, FileRequests, FilesProgram, FilesProgramError,
};
use runner_wire::abi::files::{DIRECTORY, stage};
use runner_wire::files::{ContentEnd, FileFacts, Reply, select, stage_name};
use std::io;

/// Mode, size and time of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteStat {
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) modified: (i64, u32),
    /// A link's target.
    pub(super) target: Vec<u8>,
}

impl RemoteStat {
    fn of(facts: &FileFacts, target: &[u8]) -> Self {
        RemoteStat {
            mode: facts.mode,
            size: facts.size,
            modified: (facts.modified, facts.modified_ns),
            target: target.to_vec(),
        }
    }
}

pub(super) struct RemoteDirectory {
    requests: FileRequests,
    replies: FileReplies,
}

impl RemoteDirectory {
    pub(super) fn open(files: FilesProgram, root: &[u8]) -> Result<Self, CopyError> {
        let FilesProgram { requests, replies } = files;
        let mut remote = RemoteDirectory { requests, replies };
        remote.requests.root(root, 0).map_err(FilesProgramError::from)?;
        remote.requests.sync().map_err(FilesProgramError::from)?;
        loop {
            match remote.replies.read()?.ok_or(FilesProgramError::Ended)? {
                Reply::Sync => return Ok(remote),
                Reply::Root(_) => {}
                Reply::Failed(failed) => {
                    return Err(CopyError::remote(root, &FileFailure::from(failed)));
                }
                _ => return Err(nonsense()),
            }
        }
    }

    /// Reports every entry except directories, and what could not be read.
    pub(super) fn list(
        &mut self,
        mut each: impl FnMut(&[u8], Result<RemoteStat, String>) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        self.requests.select(select::RECURSIVE, b"").map_err(FilesProgramError::from)?;
        self.requests.sync().map_err(FilesProgramError::from)?;
        loop {
            match self.replies.read()?.ok_or(FilesProgramError::Ended)? {
                Reply::Sync => return Ok(()),
                Reply::Root(_) => {}
                Reply::Entry(entry) if entry.facts.kind() == DIRECTORY => {}
                Reply::Entry(entry) => {
                    each(entry.path, Ok(RemoteStat::of(&entry.facts, entry.target)))?;
                }
                Reply::Failed(failed) => each(failed.path, Err(why(failed.stage, failed.errno)))?,
                Reply::Data(_) | Reply::Hole(_) | Reply::End(_) => return Err(nonsense()),
            }
        }
    }

    /// Passes on a file's content, piece by piece. Returns why it is incomplete, if it is.
    pub(super) fn read(
        &mut self,
        path: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<Result<(), String>, CopyError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        self.requests.select(select::CONTENT, path).map_err(FilesProgramError::from)?;
        self.requests.sync().map_err(FilesProgramError::from)?;
        let mut whole = Err("it is gone".to_owned());
        loop {
            match self.replies.read()?.ok_or(FilesProgramError::Ended)? {
                Reply::Sync => return Ok(whole),
                Reply::Root(_) => {}
                Reply::Entry(entry) => {
                    if entry.path != path {
                        return Err(nonsense());
                    }
                }
                Reply::Data(bytes) => each(bytes),
                Reply::Hole(mut left) => {
                    while left > 0 {
                        let piece =
                            usize::try_from(left).map_or(ZEROS.len(), |n| n.min(ZEROS.len()));
                        each(&ZEROS[..piece]);
                        left -= piece as u64;
                    }
                }
                Reply::End(ContentEnd::Whole) => whole = Ok(()),
                Reply::End(ContentEnd::Changed) => {
                    whole = Err("it was written to while it was read".to_owned());
                }
                Reply::End(ContentEnd::Unreadable(errno)) => {
                    whole = Err(io::Error::from_raw_os_error(errno).to_string());
                }
                Reply::Failed(failed) => whole = Err(why(failed.stage, failed.errno)),
            }
        }
    }
}

fn why(stage: u32, errno: i32) -> String {
    debug_assert!(stage != stage::REQUEST, "a request of ours makes no sense");
    format!("cannot {}: {}", stage_name(stage), io::Error::from_raw_os_error(errno))
}

fn nonsense() -> CopyError {
    FilesProgramError::Nonsense(runner_wire::files::FilesError::Content).into()
}
