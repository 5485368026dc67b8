//! Transfers files out of a container: lists several roots in one exchange, and reads selected
//! files.
//!
//! Used by `listing` and by the code that keeps files. Blocks on pipes, so it needs a thread that
//! may block.

use super::OutputError;
use runner_engine::files::{FileFailure, FilesProgram, FilesProgramError};
use runner_wire::abi::files::{REGULAR, SYMLINK, stage};
use runner_wire::files::{ContentEnd, FileFacts, Reply, select};
use std::io;

/// A request below one root.
pub(super) struct TransferRequest {
    /// Absolute path; links in it are followed.
    pub(super) root: Vec<u8>,
    /// Flags and paths; an empty path means everything in the root.
    pub(super) paths: Vec<(u32, Vec<u8>)>,
}

/// Requests paths below several roots. `each` gets the index of the request with every reply: first
/// [`Reply::Root`], or else a single [`Reply::Failed`] of [`stage::ROOT`].
pub(super) fn converse<E: From<FilesProgramError>>(
    files: FilesProgram,
    asks: Vec<TransferRequest>,
    mut each: impl FnMut(usize, Reply<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let FilesProgram { mut requests, mut replies } = files;
    std::thread::scope(|scope| {
        // Send requests and read replies at the same time; a long list would otherwise block.
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
                        // A reply before the first root belongs to no request.
                        let Some(ask) = roots.checked_sub(1) else {
                            return Err(FilesProgramError::Ended.into());
                        };
                        each(ask, reply)?;
                    }
                }
            }
        };
        let result = hear();
        // A late request then finds the channel closed.
        drop(replies);
        result
    })
}

/// A selected file.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// The directory its path is relative to; absolute.
    pub(super) base: Vec<u8>,
    /// Path relative to the base.
    pub(super) path: Vec<u8>,
    /// Name in the output.
    pub(super) name: Vec<u8>,
    pub(super) facts: FileFacts,
    /// The link's target, if it is kept as a link.
    pub(super) target: Option<Vec<u8>>,
}

impl Chosen {
    /// Absolute path in the container.
    pub(super) fn whole(&self) -> Vec<u8> {
        [&self.base, &b"/"[..], &self.path].concat()
    }

    fn problem(&self, problem: impl Into<String>) -> OutputError {
        OutputError::Source { path: self.whole(), problem: problem.into() }
    }
}

/// Stores files, one after the other.
pub(super) trait Keeper {
    /// Begins a file. `facts` may differ from those at selection.
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError>;
    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError>;
    fn hole(&mut self, length: u64) -> Result<(), OutputError>;
    /// Ends the current file.
    fn end(&mut self) -> Result<(), OutputError>;
    /// Adds a link that stays a link.
    fn link(&mut self, file: &Chosen, target: &[u8]) -> Result<(), OutputError>;
}

/// Passes the content of the selected files to a keeper, in order. `warn` gets messages about files
/// that changed meanwhile.
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
                    _ => return Err(file.problem("it is no longer a regular file")),
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
                        "{} changed while it was read: the copy may be a mixture of its versions",
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
        // An untrusted program may omit replies.
        Some(file) => Err(file.problem("it was not read")),
        None => Ok(()),
    }
}
