//! Files out of a container: many roots in one conversation, and the content of chosen files.
//!
//! Used by `listing` and by the code that keeps files. Blocks on pipes: on a thread that may.

use super::OutputError;
use runner_engine::files::{FileFailure, FilesProgram, FilesProgramError};
use runner_wire::abi::files::{REGULAR, SYMLINK, stage};
use runner_wire::files::{ContentEnd, FileFacts, Reply, select};
use std::io;

/// What is requested below one root.
pub(super) struct TransferRequest {
    /// Absolute; links in it are followed.
    pub(super) root: Vec<u8>,
    /// Flags and paths; an empty path is all that is in the root.
    pub(super) paths: Vec<(u32, Vec<u8>)>,
}

/// Asks below several roots. `each` hears the number of the ask with every answer: first
/// [`Reply::Root`], or [`Reply::Failed`] of [`stage::ROOT`] and nothing else.
pub(super) fn converse<E: From<FilesProgramError>>(
    files: FilesProgram,
    asks: Vec<TransferRequest>,
    mut each: impl FnMut(usize, Reply<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let FilesProgram { mut requests, mut replies } = files;
    std::thread::scope(|scope| {
        // Requests and replies are under way at once, or a long list would stand still.
        scope.spawn(move || -> io::Result<()> {
            for ask in asks {
                requests.root(&ask.root, 0)?;
                for (flags, path) in ask.paths {
                    requests.select(flags, &path)?;
                }
            }
            requests.sync()
        });
        let mut hear = || {
            let mut roots = 0_usize;
            loop {
                match replies.read()? {
                    Some(Reply::Sync) => return Ok(()),
                    None => return Err(FilesProgramError::Ended.into()),
                    Some(reply) => {
                        let is_root = match &reply {
                            Reply::Root(_) => true,
                            Reply::Failed(failed) => failed.stage == stage::ROOT,
                            _ => false,
                        };
                        roots += usize::from(is_root);
                        // An answer before the first root answers nothing.
                        let Some(ask) = roots.checked_sub(1) else {
                            return Err(FilesProgramError::Ended.into());
                        };
                        each(ask, reply)?;
                    }
                }
            }
        };
        let result = hear();
        // A late question finds the channel closed.
        drop(replies);
        result
    })
}

/// A file that was chosen.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// The directory its path is relative to; absolute.
    pub(super) base: Vec<u8>,
    /// Below that.
    pub(super) path: Vec<u8>,
    /// What it is called where it is kept.
    pub(super) name: Vec<u8>,
    pub(super) facts: FileFacts,
    /// Where it leads, if it is kept as a link.
    pub(super) target: Option<Vec<u8>>,
}

impl Chosen {
    /// Its whole path in the container.
    pub(super) fn whole(&self) -> Vec<u8> {
        [&self.base, &b"/"[..], &self.path].concat()
    }

    fn problem(&self, problem: impl Into<String>) -> OutputError {
        OutputError::Source { path: self.whole(), problem: problem.into() }
    }
}

/// Keeps files, one after the other.
pub(super) trait Keeper {
    /// A file with these facts, which may have changed since it was chosen.
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError>;
    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError>;
    fn hole(&mut self, length: u64) -> Result<(), OutputError>;
    /// The file is whole.
    fn end(&mut self) -> Result<(), OutputError>;
    /// A link that stays one.
    fn link(&mut self, file: &Chosen, target: &[u8]) -> Result<(), OutputError>;
}

/// Hands the content of the chosen files to a keeper, in their order. `warn` hears of those that
/// changed meanwhile.
pub(super) fn keep(
    files: FilesProgram,
    chosen: &[Chosen],
    keeper: &mut dyn Keeper,
    warn: &mut dyn FnMut(String),
) -> Result<(), OutputError> {
    let links = |file: &&Chosen| file.target.is_some();
    for link in chosen.iter().filter(links) {
        keeper.link(link, link.target.as_deref().unwrap_or_default())?;
    }
    let order: Vec<&Chosen> = chosen.iter().filter(|file| !links(file)).collect();
    let mut asks: Vec<TransferRequest> = Vec::new();
    for file in &order {
        let path = (select::CONTENT | select::FOLLOW, file.path.clone());
        match asks.last_mut() {
            Some(ask) if ask.root == file.base => ask.paths.push(path),
            _ => asks.push(TransferRequest { root: file.base.clone(), paths: vec![path] }),
        }
    }
    let mut order = order.into_iter();
    let mut current = None;
    converse(files, asks, |_, reply| {
        match reply {
            Reply::Root(_) | Reply::Sync => {}
            Reply::Entry(entry) => {
                let Some(file) = order.next() else { return Err(FilesProgramError::Ended.into()) };
                match entry.facts.kind() {
                    REGULAR => keeper.begin(file, &entry.facts)?,
                    SYMLINK => return Err(file.problem("it leads nowhere any more")),
                    _ => return Err(file.problem("it is no regular file any more")),
                }
                current = Some(file);
            }
            Reply::Data(bytes) => keeper.data(bytes)?,
            Reply::Hole(length) => keeper.hole(length)?,
            Reply::End(how) => {
                let Some(file) = current.take() else {
                    return Err(FilesProgramError::Ended.into());
                };
                match how {
                    ContentEnd::Whole => {}
                    ContentEnd::Changed => warn(format!(
                        "{} changed while it was read: what is kept of it may never have been in it",
                        file.whole().escape_ascii()
                    )),
                    ContentEnd::Unreadable(errno) => {
                        let why = io::Error::from_raw_os_error(errno);
                        return Err(file.problem(format!("cannot read it to its end: {why}")));
                    }
                }
                keeper.end()?;
            }
            Reply::Failed(failed) => {
                let mut failure = FileFailure::from(failed);
                if let Some(file) = order.next() {
                    failure.path = file.whole();
                }
                return Err(FilesProgramError::Failed(failure).into());
            }
        }
        Ok(())
    })?;
    match order.next() {
        // A program that is not ours leaves answers out.
        Some(file) => Err(file.problem("it was not read")),
        None => Ok(()),
    }
}
