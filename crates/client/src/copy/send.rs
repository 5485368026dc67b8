//! Copies into a build.
//!
//! Reads this machine's files with the caller's rights and follows no link below the named path.
//! The program in the container creates them as root there.

use super::path::{Inside, PathEnding};
use super::{Copied, CopyError, FilesConversation, Manner, is_directory, shown, special};
use runner_engine::files::{FileRequests, FilesProgram, FilesProgramError};
use runner_host::beneath::{Dir, described, join};
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK};
use runner_wire::files::{FileFacts, NewFile, is_path, make};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a file read at once.
const CHUNK: usize = 128 << 10;

/// Copies `from` on this machine to `to` in the container.
#[expect(clippy::disallowed_methods, reason = "what a person typed leads where it leads")]
pub(super) fn send(
    files: FilesProgram,
    from: &Path,
    to: &[u8],
    manner: Manner<'_>,
) -> Result<Copied, CopyError> {
    let ending = PathEnding::of(from.as_os_str().as_bytes());
    let follows = manner.follows || ending != PathEnding::Plain;
    let looked = if follows { from.metadata() } else { from.symlink_metadata() };
    let is_directory = looked.map_err(CopyError::local(from))?.is_dir();
    if ending != PathEnding::Plain && !is_directory {
        return Err(CopyError::local(from)(io::ErrorKind::NotADirectory.into()));
    }
    // A source without a name stands for its contents.
    let name = from.file_name().filter(|_| ending != PathEnding::Dot).map(OsStr::as_bytes);
    let mut remote = FilesConversation::new(files);
    let (root, base) = target(&mut remote, to, name, is_directory)?;
    let FilesConversation { requests, replies } = remote;
    let mut sender = TreeSender {
        manner,
        copied: Copied::default(),
        names: HashMap::new(),
        buffer: vec![0; CHUNK],
    };
    let written = FilesProgram { requests, replies }.write(&root, 0, |requests| match base {
        Some(base) if is_directory || !follows => sender.itself(requests, from, base, follows),
        Some(base) => sender.followed(requests, from, &base),
        None => sender.inside(requests, from),
    });
    let failures = written?;
    let mut copied = sender.copied;
    for failure in &failures.first {
        (manner.tell)(&failure.to_string());
    }
    if failures.count > failures.first.len() {
        let more = failures.count - failures.first.len();
        (manner.tell)(&format!("and {more} more that failed in the build"));
    }
    copied.problems += failures.count as u64;
    Ok(copied)
}

/// The directory in the container to write to, and the path in it; `None` for the directory itself.
fn target(
    remote: &mut FilesConversation,
    to: &[u8],
    name: Option<&[u8]>,
    source_is_directory: bool,
) -> Result<(Vec<u8>, Option<Vec<u8>>), CopyError> {
    let wants_directory = PathEnding::of(to) != PathEnding::Plain;
    let (path, found) = remote.resolve(Inside::new(to))?;
    match found {
        Some(found) if is_directory(&found.facts) => {
            return Ok((path.whole().to_vec(), name.map(<[u8]>::to_vec)));
        }
        Some(_) if source_is_directory => {
            return Err(CopyError::DirectoryToFile { to: shown(to) });
        }
        Some(_) if wants_directory => return Err(CopyError::NotADirectory { to: shown(to) }),
        None if wants_directory && !source_is_directory => {
            return Err(CopyError::NoSuchDirectory { to: shown(to) });
        }
        Some(_) | None => {}
    }
    Ok((path.parent().to_vec(), path.name().map(<[u8]>::to_vec)))
}

struct TreeSender<'a> {
    manner: Manner<'a>,
    copied: Copied,
    /// Files with several names, and the first of these names in the container.
    names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// The next step of sending a tree.
enum SendStep {
    /// Make a directory in the container and send the contents of a local one.
    Directory { path: Vec<u8>, to: Vec<u8>, node: Option<NewFile> },
    /// Set a directory's mode and time, after its contents.
    Done { to: Vec<u8>, node: NewFile },
}

impl TreeSender<'_> {
    /// Sends the file at a path. If `follows`, a link stands for the directory it leads to.
    fn itself(
        &mut self,
        requests: &mut FileRequests,
        from: &Path,
        base: Vec<u8>,
        follows: bool,
    ) -> Result<(), CopyError> {
        if follows {
            let dir = Dir::top(from).map_err(CopyError::local(from))?;
            let facts = facts(&dir.facts().map_err(CopyError::local(from))?);
            let node = Some(NewFile { flags: make::TIMES, facts });
            return self.tree(
                requests,
                &dir,
                SendStep::Directory { path: Vec::new(), to: base, node },
            );
        }
        let above = match from.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let above = Dir::top(above).map_err(CopyError::local(from))?;
        let name = from.file_name().unwrap_or_default().as_bytes();
        match self.entry(requests, &above, name, base)? {
            Some((to, node)) => {
                let (path, node) = (Vec::new(), Some(node));
                let dir = above.open(name).map_err(CopyError::local(from))?;
                self.tree(requests, &dir, SendStep::Directory { path, to, node })
            }
            None => Ok(()),
        }
    }

    /// Sends the file that a path leads to.
    fn followed(
        &mut self,
        requests: &mut FileRequests,
        from: &Path,
        base: &[u8],
    ) -> Result<(), CopyError> {
        match open(from) {
            Ok(file) => self.file(requests, &file, base),
            Err(error) => {
                self.problem(base, &error);
                Ok(())
            }
        }
    }

    /// Sends the contents of a directory.
    fn inside(&mut self, requests: &mut FileRequests, from: &Path) -> Result<(), CopyError> {
        let dir = Dir::top(from).map_err(CopyError::local(from))?;
        let (path, to) = (Vec::new(), Vec::new());
        self.tree(requests, &dir, SendStep::Directory { path, to, node: None })
    }

    fn tree(
        &mut self,
        requests: &mut FileRequests,
        top: &Dir,
        first: SendStep,
    ) -> Result<(), CopyError> {
        let mut ahead = vec![first];
        while let Some(step) = ahead.pop() {
            let (path, to, node) = match step {
                SendStep::Done { to, node } => {
                    pipe(requests.set(&node, &to))?;
                    continue;
                }
                SendStep::Directory { path, to, node } => (path, to, node),
            };
            if let Some(node) = node {
                pipe(requests.make(&node, &to, b""))?;
                self.copied.entries += 1;
                ahead.push(SendStep::Done { to: to.clone(), node });
            }
            let listed = top.open(&path).and_then(|dir| Ok((dir.names()?, dir)));
            let (names, dir) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    self.problem(&to, &error);
                    continue;
                }
            };
            let mut inner = Vec::new();
            for name in names {
                if let Some((to, node)) = self.entry(requests, &dir, &name, join(&to, &name))? {
                    let path = join(&path, &name);
                    inner.push(SendStep::Directory { path, to, node: Some(node) });
                }
            }
            ahead.extend(inner.into_iter().rev());
        }
        Ok(())
    }

    /// Sends an entry of a directory. For a subdirectory, returns its path and properties instead.
    fn entry(
        &mut self,
        requests: &mut FileRequests,
        place: &Dir,
        name: &[u8],
        to: Vec<u8>,
    ) -> Result<Option<(Vec<u8>, NewFile)>, CopyError> {
        if !is_path(&to) {
            self.problem(&to, &Errno::NAMETOOLONG.into());
            return Ok(None);
        }
        let facts = match place.stat(name) {
            Ok(stat) => facts(&stat),
            Err(error) => {
                self.problem(&to, &error);
                return Ok(None);
            }
        };
        let node = NewFile { flags: make::TIMES, facts };
        match facts.kind() {
            DIRECTORY => return Ok(Some((to, node))),
            SYMLINK => match place.read_link(name) {
                Ok(target) => {
                    self.copied.entries += 1;
                    pipe(requests.make(&node, &to, &target))?;
                }
                Err(error) => self.problem(&to, &error),
            },
            REGULAR => match place.file(name) {
                Ok(file) => self.file(requests, &file, &to)?,
                Err(error) => self.problem(&to, &error),
            },
            kind => {
                self.copied.problems += 1;
                let text = format!("{} is not copied: it is {}", shown(&to), special(kind));
                (self.manner.tell)(&text);
            }
        }
        Ok(None)
    }

    fn file(
        &mut self,
        requests: &mut FileRequests,
        file: &File,
        to: &[u8],
    ) -> Result<(), CopyError> {
        let stat = match fstat(file) {
            Ok(stat) => stat,
            Err(errno) => {
                self.problem(to, &errno.into());
                return Ok(());
            }
        };
        let facts = facts(&stat);
        self.copied.entries += 1;
        let id = (facts.device, facts.inode);
        if facts.names > 1 {
            if let Some(first) = self.names.get(&id) {
                return pipe(requests.link(to, first));
            }
            self.names.insert(id, to.to_vec());
        }
        let node = NewFile { flags: make::TIMES, facts };
        pipe(requests.make(&node, to, b""))?;
        match self.content(requests, file, &facts)? {
            Ok(()) => {
                pipe(requests.end())?;
                let now = fstat(file).ok();
                if now.is_none_or(|now| !is_as_before(&now, &stat)) {
                    let text = "it was written to while it was read, and may be a mixture";
                    self.problem(to, &io::Error::other(text));
                }
                Ok(())
            }
            Err(error) => {
                pipe(requests.abandon())?;
                self.names.remove(&id);
                self.problem(to, &error);
                Ok(())
            }
        }
    }

    /// Sends exactly as many bytes as the file had when it was opened. The inner result has errors
    /// of reading.
    fn content(
        &mut self,
        requests: &mut FileRequests,
        file: &File,
        facts: &FileFacts,
    ) -> Result<io::Result<()>, CopyError> {
        let size = facts.size;
        let may_have_holes = u64::from(facts.blocks) < size.div_ceil(512);
        let mut at = 0;
        while at < size {
            let mut end = size;
            if may_have_holes {
                // A file system that cannot report holes is treated as having none.
                let data = match seek(file, SeekFrom::Data(at)) {
                    Ok(data) => data.min(size),
                    Err(Errno::NXIO) => size,
                    Err(_) => at,
                };
                if data > at {
                    pipe(requests.hole(data - at))?;
                    self.copied.bytes += data - at;
                    at = data;
                }
                if at < size {
                    let hole = seek(file, SeekFrom::Hole(at));
                    end = hole.map_or(size, |hole| hole.clamp(at + 1, size));
                }
            }
            while at < end {
                let most = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
                match file.read_at(&mut self.buffer[..most], at) {
                    Ok(0) => {
                        return Ok(Err(io::Error::other("it was cut while it was read")));
                    }
                    Ok(got) => {
                        pipe(requests.data(&self.buffer[..got]))?;
                        self.copied.bytes += got as u64;
                        at += got as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        Ok(Ok(()))
    }

    fn problem(&mut self, path: &[u8], error: &io::Error) {
        self.copied.problems += 1;
        (self.manner.tell)(&format!("{}: {error}", shown(path)));
    }
}

/// Opens the regular file that a path leads to.
#[expect(clippy::disallowed_methods, reason = "what a person typed leads where it leads")]
fn open(from: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(from, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        kind => Err(io::Error::other(format!("it is {}", described(kind)))),
    }
}

fn is_as_before(now: &Stat, before: &Stat) -> bool {
    now.st_size == before.st_size
        && (now.st_mtime, now.st_mtime_nsec) == (before.st_mtime, before.st_mtime_nsec)
}

fn facts(stat: &Stat) -> FileFacts {
    FileFacts {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        names: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        device: stat.st_dev,
        inode: stat.st_ino,
        modified: stat.st_mtime,
        modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        blocks: u32::try_from(stat.st_blocks).unwrap_or(u32::MAX),
        path_len: 0,
    }
}

/// A failed write means that the reader is gone.
fn pipe(done: io::Result<()>) -> Result<(), CopyError> {
    done.map_err(|error| FilesProgramError::from(error).into())
}
