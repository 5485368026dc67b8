//! Into a build.
//!
//! Reads this machine's files with the caller's rights, through no link below what is named; the program in
//! the container makes them, as its root's.

use super::path::{Ending, Inside};
use super::{Copied, CopyError, Manner, Remote, is_directory, shown, special};
use crate::beneath::Dir;
use crate::engine::files::{Files, FilesError, Requests};
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK};
use runner_wire::files::{Facts, Node, is_path, make};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, SeekFrom, Stat, fstat, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a file read at once.
const CHUNK: usize = 128 << 10;

/// Copies what is at `from` on this machine to `to` in the container.
pub(super) fn send(
    files: Files,
    from: &Path,
    to: &[u8],
    manner: Manner<'_>,
) -> Result<Copied, CopyError> {
    let ending = Ending::of(from.as_os_str().as_bytes());
    let follows = manner.follows || ending != Ending::Plain;
    let looked = if follows { fs::metadata(from) } else { fs::symlink_metadata(from) };
    let is_directory = looked.map_err(CopyError::local(from))?.is_dir();
    if ending != Ending::Plain && !is_directory {
        return Err(CopyError::local(from)(io::ErrorKind::NotADirectory.into()));
    }
    // What has no name of its own is what is in it.
    let name = from.file_name().filter(|_| ending != Ending::Dot).map(OsStr::as_bytes);
    let mut remote = Remote::new(files);
    let (root, base) = target(&mut remote, to, name, is_directory)?;
    let Remote { requests, replies } = remote;
    let mut sender =
        Sender { manner, copied: Copied::default(), names: HashMap::new(), buffer: vec![0; CHUNK] };
    let written = Files { requests, replies }.write(&root, 0, |requests| match &base {
        Some(base) => {
            let name = Name { place: CWD, name: from.as_os_str(), path: base.clone() };
            sender.entry(requests, &name, follows)
        }
        None => sender.inside(requests, CWD, from.as_os_str(), b"", true),
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

/// The directory of the container that is written to, and the path in it; none: into that directory
/// itself.
fn target(
    remote: &mut Remote,
    to: &[u8],
    name: Option<&[u8]>,
    source_is_directory: bool,
) -> Result<(Vec<u8>, Option<Vec<u8>>), CopyError> {
    let wants_directory = Ending::of(to) != Ending::Plain;
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

struct Sender<'a> {
    manner: Manner<'a>,
    copied: Copied,
    /// Files with more than one name, and the first of them in the container.
    names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// Something on this machine, and the path it gets below the root.
struct Name<'a> {
    place: BorrowedFd<'a>,
    name: &'a OsStr,
    path: Vec<u8>,
}

impl Sender<'_> {
    fn entry(
        &mut self,
        requests: &mut Requests,
        from: &Name<'_>,
        follows: bool,
    ) -> Result<(), CopyError> {
        if !is_path(&from.path) {
            self.problem(&from.path, &Errno::NAMETOOLONG.into());
            return Ok(());
        }
        let flags = if follows { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let facts = match statat(from.place, from.name, flags) {
            Ok(stat) => facts(&stat),
            Err(errno) => {
                self.problem(&from.path, &errno.into());
                return Ok(());
            }
        };
        let node = Node { flags: make::TIMES, facts };
        match facts.kind() {
            DIRECTORY => {
                pipe(requests.make(&node, &from.path, b""))?;
                self.copied.entries += 1;
                self.inside(requests, from.place, from.name, &from.path, follows)?;
                pipe(requests.set(&node, &from.path))
            }
            SYMLINK => match readlinkat(from.place, from.name, Vec::new()) {
                Ok(target) => {
                    self.copied.entries += 1;
                    pipe(requests.make(&node, &from.path, target.as_bytes()))
                }
                Err(errno) => {
                    self.problem(&from.path, &errno.into());
                    Ok(())
                }
            },
            REGULAR => self.file(requests, from, follows),
            kind => {
                self.copied.problems += 1;
                let text = format!("{} is not copied: it is {}", shown(&from.path), special(kind));
                (self.manner.tell)(&text);
                Ok(())
            }
        }
    }

    /// All that is in a directory.
    fn inside(
        &mut self,
        requests: &mut Requests,
        place: BorrowedFd<'_>,
        name: &OsStr,
        path: &[u8],
        follows: bool,
    ) -> Result<(), CopyError> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if !follows {
            flags |= OFlags::NOFOLLOW;
        }
        let opened = openat(place, name, flags, Mode::empty()).map_err(io::Error::from);
        let listed = opened.map(Dir::from).and_then(|dir| Ok((dir.names()?, dir)));
        let (names, directory) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.problem(path, &error);
                return Ok(());
            }
        };
        for name in names {
            let path =
                if path.is_empty() { name.clone() } else { [path, b"/", name.as_slice()].concat() };
            let from = Name { place: directory.as_fd(), name: OsStr::from_bytes(&name), path };
            self.entry(requests, &from, false)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        requests: &mut Requests,
        from: &Name<'_>,
        follows: bool,
    ) -> Result<(), CopyError> {
        let (file, stat) = match open(from, follows) {
            Ok(opened) => opened,
            Err(error) => {
                self.problem(&from.path, &error);
                return Ok(());
            }
        };
        let facts = facts(&stat);
        self.copied.entries += 1;
        let id = (facts.device, facts.inode);
        if facts.names > 1 {
            if let Some(first) = self.names.get(&id) {
                return pipe(requests.link(&from.path, first));
            }
            self.names.insert(id, from.path.clone());
        }
        let node = Node { flags: make::TIMES, facts };
        pipe(requests.make(&node, &from.path, b""))?;
        match self.content(requests, &file, &facts)? {
            Ok(()) => {
                pipe(requests.end())?;
                let now = fstat(&file).ok();
                if now.is_none_or(|now| !is_as_before(&now, &stat)) {
                    let text = "it was written to while it was read, and may be a mixture";
                    self.problem(&from.path, &io::Error::other(text));
                }
                Ok(())
            }
            Err(error) => {
                pipe(requests.abandon())?;
                self.names.remove(&id);
                self.problem(&from.path, &error);
                Ok(())
            }
        }
    }

    /// Exactly as many bytes as the file had when it was opened; what failed here is in the inner
    /// result.
    fn content(
        &mut self,
        requests: &mut Requests,
        file: &fs::File,
        facts: &Facts,
    ) -> Result<io::Result<()>, CopyError> {
        let size = facts.size;
        let may_have_holes = u64::from(facts.blocks) < size.div_ceil(512);
        let mut at = 0;
        while at < size {
            let mut end = size;
            if may_have_holes {
                // A file system that does not tell has no holes.
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

fn open(from: &Name<'_>, follows: bool) -> io::Result<(fs::File, Stat)> {
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if !follows {
        flags |= OFlags::NOFOLLOW;
    }
    let file: OwnedFd = openat(from.place, from.name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::other("it was replaced while it was read"));
    }
    Ok((file.into(), stat))
}

fn is_as_before(now: &Stat, before: &Stat) -> bool {
    now.st_size == before.st_size
        && (now.st_mtime, now.st_mtime_nsec) == (before.st_mtime, before.st_mtime_nsec)
}

fn facts(stat: &Stat) -> Facts {
    Facts {
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

/// A pipe that takes no more has lost its reader.
fn pipe(done: io::Result<()>) -> Result<(), CopyError> {
    done.map_err(|error| FilesError::from(error).into())
}
