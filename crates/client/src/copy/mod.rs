//! `runner cp`: copies files and trees between this machine and a build.
//!
//! Started by `cli`. The build's owner starts the program that moves files in the container and
//! hands its pipes over; their bytes pass through this program alone. The name of a copy follows
//! the rules of `docker cp`: [`fetch`] and [`send`] choose it, each for its direction. Input from
//! the container is parsed as hostile, and [`tree`] makes nothing outside the directory that it was
//! given.
#![deny(clippy::disallowed_methods)]

mod fetch;
mod path;
mod send;
mod tree;

use super::connection::{Client, ClientError};
use path::Inside;
use runner_core::plain::name as shown;
use runner_engine::files::{
    FileFailure, FileReplies, FileRequests, FilesProgram, FilesProgramError,
};
use runner_wire::abi::files::{DIRECTORY, SYMLINK, stage};
use runner_wire::control::{ControlRequest, ControlResponse};
use runner_wire::files::{FileFacts, Reply, select};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use tree::Unfinished;

/// Most links followed before they count as a loop.
const MAX_LINKS: usize = 40;
/// Milliseconds that the owner has to say why the program broke off.
const LAST_WORD_MS: u16 = 3000;

/// Source and target, which set the direction.
#[derive(Clone, Copy, Debug)]
pub enum CopyDirection<'a> {
    /// Out of the build.
    Out { from: &'a [u8], to: &'a Path },
    /// Into the build.
    In { from: &'a Path, to: &'a [u8] },
}

/// Options of a copy.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Whether a link as the source stands for its target.
    pub follows: bool,
    /// Called with a message for everything that could not be copied.
    pub tell: &'a dyn Fn(&str),
    /// The file now being written here, removed if this program ends before it is whole.
    pub unfinished: &'a Unfinished,
}

/// The result of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Entries that were not copied, or not correctly; each was reported.
    pub problems: u64,
}

/// Why a copy failed or stayed incomplete.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Files(#[from] FilesProgramError),
    #[error("{}: {source}", shown(path.as_os_str().as_bytes()))]
    Local { path: PathBuf, source: io::Error },
    #[error("{}: {source} (in the build)", shown(path))]
    Remote { path: Vec<u8>, source: io::Error },
    #[error("cannot copy a directory to the file {to}")]
    DirectoryToFile { to: String },
    #[error("{to} is not there, and a file cannot be copied into it")]
    NoSuchDirectory { to: String },
    #[error("{to} is not a directory")]
    NotADirectory { to: String },
    #[error("the build has ended: {0}")]
    Ended(String),
}

impl CopyError {
    pub(crate) fn local(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| CopyError::Local { path, source }
    }

    pub(crate) fn remote(path: &[u8], failure: &FileFailure) -> Self {
        let source = io::Error::from_raw_os_error(failure.errno);
        CopyError::Remote { path: path.to_vec(), source }
    }
}

/// Copies in one direction.
pub fn copy(
    mut client: Client,
    way: CopyDirection<'_>,
    manner: Manner<'_>,
) -> Result<Copied, CopyError> {
    let files = files_of(&mut client)?;
    let copied = match way {
        CopyDirection::Out { from, to } => fetch::fetch(files, from, to, manner),
        CopyDirection::In { from, to } => send::send(files, from, to, manner),
    };
    match copied {
        // The program was killed, mostly because the build has ended. Then the owner says how.
        Err(CopyError::Files(error @ (FilesProgramError::Ended | FilesProgramError::Pipe(_)))) => {
            Err(last_word(client).map_or(error.into(), CopyError::Ended))
        }
        done => done,
    }
}

/// Has the owner start the program that moves files in the container.
pub(crate) fn files_of(client: &mut Client) -> Result<FilesProgram, CopyError> {
    match client.ask(&ControlRequest::Files)? {
        ControlResponse::Opened { .. } => {}
        other => return Err(ClientError::from(other).into()),
    }
    let pipes: [OwnedFd; 3] = client.take_fds().try_into().map_err(|_| {
        ClientError::Lost(io::Error::other("the program's pipes did not come along"))
    })?;
    Ok(FilesProgram::over(pipes))
}

fn last_word(mut client: Client) -> Option<String> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        match client.poll_frame().ok()? {
            Some(frame) => {
                return match serde_json::from_slice(&frame?).ok()? {
                    ControlResponse::Closed { message } => {
                        let told = message.strip_prefix("the build has ended: ");
                        Some(told.unwrap_or(&message).to_owned())
                    }
                    _ => None,
                };
            }
            None => {
                let mut ready = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
                if poll(&mut ready, PollTimeout::from(LAST_WORD_MS)).ok()? == 0 {
                    return None;
                }
            }
        }
    }
}

/// The program in the container: one response for each request.
struct FilesConversation {
    requests: FileRequests,
    replies: FileReplies,
}

/// An entry in the container.
struct RemoteEntry {
    facts: FileFacts,
    /// A link's target.
    target: Vec<u8>,
}

impl FilesConversation {
    fn new(files: FilesProgram) -> Self {
        FilesConversation { requests: files.requests, replies: files.replies }
    }

    /// The entry at a path; `None` if nothing is there.
    fn look(&mut self, path: &Inside, follows: bool) -> Result<Option<RemoteEntry>, CopyError> {
        let pipe = |error: io::Error| CopyError::from(FilesProgramError::from(error));
        match path.name() {
            Some(name) => {
                let flags = if follows { select::FOLLOW } else { 0 };
                self.requests.root(path.parent(), 0).map_err(pipe)?;
                self.requests.select(flags, name).map_err(pipe)?;
            }
            None => self.requests.root(path.whole(), 0).map_err(pipe)?,
        }
        self.requests.sync().map_err(pipe)?;
        let (mut found, mut failure) = (None, None);
        loop {
            match self.replies.read()?.ok_or(FilesProgramError::Ended)? {
                Reply::Sync => break,
                Reply::Root(facts) if path.name().is_none() => {
                    found = Some(RemoteEntry { facts, target: Vec::new() });
                }
                Reply::Root(_) => {}
                Reply::Entry(entry) => {
                    let target = entry.target.to_vec();
                    found = Some(RemoteEntry { facts: entry.facts, target });
                }
                Reply::Failed(failed) => failure = Some(FileFailure::from(failed)),
                Reply::Data(_) | Reply::Hole(_) | Reply::End(_) => {
                    return Err(nonsense());
                }
            }
        }
        match (found, failure) {
            (Some(found), _) => Ok(Some(found)),
            // The parent directory must exist, the name in it need not.
            (None, Some(failure))
                if failure.stage == stage::FIND && failure.errno == nix::libc::ENOENT =>
            {
                Ok(None)
            }
            (None, Some(failure)) => {
                let place = if failure.stage == stage::ROOT { path.parent() } else { path.whole() };
                Err(CopyError::remote(place, &failure))
            }
            (None, None) => Err(nonsense()),
        }
    }

    /// Like [`Self::look`], and also returns where the entry is: follows links at the end of the
    /// path as far as they exist.
    fn resolve(&mut self, mut path: Inside) -> Result<(Inside, Option<RemoteEntry>), CopyError> {
        for _ in 0..MAX_LINKS {
            match self.look(&path, false)? {
                Some(found) if found.facts.kind() == SYMLINK => path = path.beside(&found.target),
                found => return Ok((path, found)),
            }
        }
        let source = io::Error::from_raw_os_error(nix::libc::ELOOP);
        Err(CopyError::Remote { path: path.whole().to_vec(), source })
    }
}

fn nonsense() -> CopyError {
    FilesProgramError::Nonsense(runner_wire::files::FilesError::Content).into()
}

fn is_directory(facts: &FileFacts) -> bool {
    facts.kind() == DIRECTORY
}

/// The kind of an entry that is skipped, for messages.
fn special(kind: u32) -> &'static str {
    match kind {
        0o010_000 => "a FIFO",
        0o020_000 | 0o060_000 => "a device",
        0o140_000 => "a socket",
        _ => "no file, directory or link",
    }
}
