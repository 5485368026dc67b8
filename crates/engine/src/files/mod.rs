//! Files of a container. Our own program reads and writes them inside, so the host resolves none of
//! the build's paths and every access has the container's rights.
//!
//! Used to collect and restore files, and by `client` for `runner cp`, which gets the same
//! program's pipes over the control socket. Everything but the start blocks on pipes, so call it on
//! a separate thread or in `spawn_blocking`. Replies are parsed as hostile (`runner_wire::files`).

use super::{Container, ExecError, ExecSpec, Ids, ProgramEnds, StartedProgram, Stdio};
use runner_core::plain;
use runner_wire::abi::FILES_NAME;
use runner_wire::files::{self as wire, Failed, NewFile, Reply};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Bytes gathered before a write.
const GATHERED: usize = 128 << 10;
/// Capacity set on the pipes, if the machine allows it.
const PIPE: usize = 1 << 20;
/// Failures kept of one upload; the rest are counted.
const KEPT_FAILURES: usize = 100;

/// Why the conversation with the program failed.
#[derive(Debug, thiserror::Error)]
pub enum FilesProgramError {
    #[error("cannot start the program that moves files in the container: {0}")]
    Start(#[from] ExecError),
    #[error("the connection to the container's files is broken: {0}")]
    Pipe(#[source] io::Error),
    #[error("the container sends nonsense in place of its files: {0}")]
    Nonsense(#[from] wire::FilesError),
    #[error("the program that moves files in the container has ended early")]
    Ended,
    #[error("{0}")]
    Failed(FileFailure),
}

impl From<io::Error> for FilesProgramError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => FilesProgramError::Ended,
            _ => FilesProgramError::Pipe(error),
        }
    }
}

/// An operation in the container that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFailure {
    /// One of `runner_wire::abi::files::stage`.
    pub stage: u32,
    pub errno: i32,
    /// Relative to the root; empty for the root itself.
    pub path: Vec<u8>,
}

impl fmt::Display for FileFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, what) = (plain::name(&self.path), wire::stage_name(self.stage));
        let why = io::Error::from_raw_os_error(self.errno);
        write!(f, "{path}: cannot {what} in the container: {why}")
    }
}

impl From<Failed<'_>> for FileFailure {
    fn from(failed: Failed<'_>) -> Self {
        FileFailure { stage: failed.stage, errno: failed.errno, path: failed.path.to_vec() }
    }
}

/// The program, before the first request. It ends when both halves are dropped.
#[derive(Debug)]
pub struct FilesProgram {
    pub requests: FileRequests,
    pub replies: FileReplies,
}

/// How to start the program. Relative roots are relative to `cwd`.
pub fn exec_spec(container: &dyn Container, cwd: Vec<u8>) -> ExecSpec {
    ExecSpec {
        argv: vec![container.programs().join(FILES_NAME).as_os_str().as_bytes().to_vec()],
        path: Vec::new(),
        env: Vec::new(),
        cwd,
        cwd_or_root: true,
        user: Ids::default(),
        toolbox: false,
        of_build: false,
        stdio: Stdio::Separate,
    }
}

impl FilesProgram {
    /// Starts the program as root of the container, or as the caller if the container has no root.
    pub async fn start(container: &dyn Container) -> Result<Self, FilesProgramError> {
        let process = container.exec(exec_spec(container, b"/".to_vec())).await?;
        let StartedProgram { ends: ProgramEnds::Separate(pipes), .. } = process else {
            return Err(FilesProgramError::Ended);
        };
        Ok(FilesProgram::over(pipes))
    }

    /// Talks to a running program over its stdin, stdout and stderr.
    pub fn over([stdin, stdout, stderr]: [OwnedFd; 3]) -> Self {
        for pipe in [&stdin, &stdout] {
            // Larger pipes mean fewer context switches; smaller ones work too.
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
        }
        FilesProgram {
            requests: FileRequests {
                pipe: stdin.into(),
                gathered: Vec::with_capacity(2 * GATHERED),
            },
            replies: FileReplies {
                pipe: stdout.into(),
                decoder: wire::Replies::default(),
                _errors: stderr,
            },
        }
    }

    /// Makes files below a root. `make` sends the requests; all are done when this returns.
    /// Operations that failed in the container are returned; the other files are there.
    ///
    /// # Errors
    /// The root cannot be opened, the program broke off, or `make` fails.
    pub fn write<E: From<FilesProgramError>>(
        self,
        root: &[u8],
        flags: u32,
        make: impl FnOnce(&mut FileRequests) -> Result<(), E>,
    ) -> Result<FileFailures, E> {
        let FilesProgram { mut requests, mut replies } = self;
        std::thread::scope(|scope| {
            let told = scope.spawn(move || -> Result<FileFailures, FilesProgramError> {
                let mut failures = FileFailures::default();
                loop {
                    match replies.read()? {
                        Some(Reply::Sync) => return Ok(failures),
                        Some(Reply::Failed(failed)) if failed.path.is_empty() => {
                            let path = root.to_vec();
                            return Err(FilesProgramError::Failed(FileFailure {
                                path,
                                ..failed.into()
                            }));
                        }
                        Some(Reply::Failed(failed)) => failures.add(failed.into()),
                        Some(_) => {}
                        None => return Err(FilesProgramError::Ended),
                    }
                }
            });
            let made = requests
                .root(root, flags)
                .map_err(|error| FilesProgramError::from(error).into())
                .and_then(|()| make(&mut requests))
                .and_then(|()| {
                    requests.sync().map_err(|error| FilesProgramError::from(error).into())
                });
            drop(requests);
            let told = told.join().unwrap_or(Err(FilesProgramError::Ended));
            match (made, told) {
                // Why the program broke off says more than its broken pipe.
                (
                    Err(_),
                    Err(error @ (FilesProgramError::Failed(_) | FilesProgramError::Nonsense(_))),
                ) => Err(error.into()),
                (Err(error), _) => Err(error),
                (Ok(()), told) => Ok(told?),
            }
        })
    }
}

/// Failures of many operations: the first few, and their count.
#[derive(Debug, Default)]
pub struct FileFailures {
    pub first: Vec<FileFailure>,
    pub count: usize,
}

impl FileFailures {
    pub fn add(&mut self, failure: FileFailure) {
        self.count += 1;
        if self.first.len() < KEPT_FAILURES {
            self.first.push(failure);
        }
    }
}

/// The requests' side: gathers them into large writes. Dropping it ends the program.
#[derive(Debug)]
pub struct FileRequests {
    pipe: File,
    gathered: Vec<u8>,
}

impl FileRequests {
    /// Sets the directory to which later paths are relative.
    pub fn root(&mut self, path: &[u8], flags: u32) -> io::Result<()> {
        wire::root_request(&mut self.gathered, flags, path);
        self.pass()
    }

    pub fn select(&mut self, flags: u32, path: &[u8]) -> io::Result<()> {
        wire::select_request(&mut self.gathered, flags, path);
        self.pass()
    }

    /// Makes a directory, a link with its target, or a regular file, whose content and
    /// [`Self::end`] follow. Creates missing parent directories. Refuses a path that could lead
    /// elsewhere (`runner_wire::files::is_path`).
    pub fn make(&mut self, node: &NewFile, path: &[u8], target: &[u8]) -> io::Result<()> {
        check(path)?;
        wire::make_request(&mut self.gathered, node, path, target);
        self.pass()
    }

    /// Makes another name (hard link) for a regular file.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        check(path)?;
        check(target)?;
        wire::link_request(&mut self.gathered, path, target);
        self.pass()
    }

    /// Sets the mode, owner and time of a directory once it is complete. An empty path is the root.
    pub fn set(&mut self, node: &NewFile, path: &[u8]) -> io::Result<()> {
        if !path.is_empty() {
            check(path)?;
        }
        wire::set_request(&mut self.gathered, node, path);
        self.pass()
    }

    /// Removes a name. A directory must be empty.
    pub fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        check(path)?;
        wire::remove_request(&mut self.gathered, path);
        self.pass()
    }

    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        wire::data_request(&mut self.gathered, bytes);
        self.pass()
    }

    /// Appends a hole: zeros that take no space.
    pub fn hole(&mut self, length: u64) -> io::Result<()> {
        wire::hole_request(&mut self.gathered, length);
        self.pass()
    }

    /// Completes the file.
    pub fn end(&mut self) -> io::Result<()> {
        wire::end_request(&mut self.gathered);
        self.pass()
    }

    /// Gives the file up. Whatever was there before stays.
    pub fn abandon(&mut self) -> io::Result<()> {
        wire::abandon_request(&mut self.gathered);
        self.pass()
    }

    /// Asks for [`Reply::Sync`] and sends everything gathered.
    pub fn sync(&mut self) -> io::Result<()> {
        wire::sync_request(&mut self.gathered);
        self.flush()
    }

    /// Sends everything gathered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.pipe.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    fn pass(&mut self) -> io::Result<()> {
        if self.gathered.len() < GATHERED { Ok(()) } else { self.flush() }
    }
}

fn check(path: &[u8]) -> io::Result<()> {
    if wire::is_path(path) { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The replies' side of the conversation.
#[derive(Debug)]
pub struct FileReplies {
    pipe: File,
    decoder: wire::Replies,
    /// Kept open so that a write to stderr does not kill the program; nobody needs to read it.
    _errors: OwnedFd,
}

impl FileReplies {
    /// The next reply; `None` when the program has ended.
    pub fn read(&mut self) -> Result<Option<Reply<'_>>, FilesProgramError> {
        loop {
            // Checked first, because a reply borrows the decoder as long as it lives.
            if self.decoder.has_next() {
                return Ok(self.decoder.next_reply()?);
            }
            match self.pipe.read(self.decoder.space()) {
                Ok(0) if self.decoder.is_at_rest() => return Ok(None),
                Ok(0) => return Err(FilesProgramError::Ended),
                Ok(got) => self.decoder.filled(got),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
