//! A log that several processes append to: the current file and older ones.
//!
//! ```text
//! audit.jsonl     the current file
//! audit.7.jsonl   the one before it; the highest number is the newest
//! ```
//!
//! Each endpoint of a state folder appends under a lock on the file itself. After getting the lock,
//! it checks that the name still leads to that file.

use runner_host::users;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long older segments are kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes allocated ahead for lines that must be written.
const RESERVED: u64 = 256 << 10;

/// The files of one log.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    /// The prefix of their names.
    stem: &'static str,
    path: PathBuf,
    /// Bytes above which a segment is put aside.
    most_bytes: u64,
    /// Most older segments kept.
    most_segments: usize,
    /// How long they are kept.
    kept: Duration,
}

impl Segments {
    /// The log of actions: at most a gigabyte, kept for thirty days by default.
    pub(super) fn done(dir: &Path, kept: Option<Duration>) -> Self {
        Segments { kept: kept.unwrap_or(KEPT), ..Segments::new(dir, "audit", 16 << 20, 64) }
    }

    /// The log of refusals to unauthenticated callers.
    pub(super) fn refused(dir: &Path) -> Self {
        Segments::new(dir, "refused", 1 << 20, 1)
    }

    fn new(dir: &Path, stem: &'static str, most_bytes: u64, most_segments: usize) -> Self {
        let path = dir.join(format!("{stem}.jsonl"));
        let dir = dir.to_path_buf();
        Segments { dir, stem, path, most_bytes, most_segments, kept: KEPT }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record as a line.
    pub(super) fn append(&self, record: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(record)?;
        text.push(b'\n');
        let (mut file, length) = self.open()?;
        if length > 0 {
            let mut last = [0];
            file.read_exact_at(&mut last, length - 1)?;
            if last != *b"\n" {
                // A writer was killed in the middle of a line, so this record begins on a new one.
                text.insert(0, b'\n');
            }
        }
        file.write_all(&text)
    }

    /// Allocates room for a line ahead.
    pub(super) fn reserve(&self) -> io::Result<()> {
        let (file, length) = self.open()?;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, length, RESERVED) {
            // A file system without this call can still be written to.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    /// The current segment, locked, and its length.
    fn open(&self) -> io::Result<(File, u64)> {
        loop {
            let file = self.opened()?;
            flock(&file, FlockOperation::LockExclusive)?;
            let held = file.metadata()?;
            let place = |data: &fs::Metadata| (data.dev(), data.ino());
            match fs::symlink_metadata(&self.path) {
                Ok(named) if place(&named) == place(&held) => {}
                // Meanwhile another process has put it aside.
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            if held.len() == 0 {
                users::give(&self.path)?;
            } else if held.len() > self.most_bytes {
                self.put_aside()?;
                continue;
            }
            return Ok((file, held.len()));
        }
    }

    fn opened(&self) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        let file = options.open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(file)
    }

    /// Gives the current segment, which the caller has locked, the next number, and removes old
    /// ones.
    fn put_aside(&self) -> io::Result<()> {
        let mut older = self.older()?;
        let next = older.first().map_or(1, |(number, _)| number + 1);
        let aside = self.numbered(next);
        fs::rename(&self.path, &aside)?;
        older.insert(0, (next, aside));
        self.remove_old(&older)
    }

    /// Removes segments that are too old or too many. `older` begins with the newest.
    fn remove_old(&self, older: &[(u64, PathBuf)]) -> io::Result<()> {
        let now = SystemTime::now();
        for (index, (_, path)) in older.iter().enumerate() {
            let is_old = fs::symlink_metadata(path)
                .and_then(|data| data.modified())
                .is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > self.kept));
            if is_old || index >= self.most_segments {
                match fs::remove_file(path) {
                    // Another endpoint has removed it.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes segments that are too old.
    pub(super) fn sweep(&self) -> io::Result<()> {
        self.remove_old(&self.older()?)
    }

    fn numbered(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{}.{number}.jsonl", self.stem))
    }

    /// Older segments, the newest first.
    fn older(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut older = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(self.stem)?.strip_prefix('.'))
                .and_then(|rest| rest.strip_suffix(".jsonl")?.parse().ok());
            if let Some(number) = number {
                older.push((number, self.numbered(number)));
            }
        }
        older.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(older)
    }

    /// All segments, the newest first.
    pub(super) fn all(&self) -> io::Result<Vec<PathBuf>> {
        let older = self.older()?.into_iter().map(|(_, path)| path);
        Ok(std::iter::once(self.path.clone()).chain(older).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(dir: &Path, most_bytes: u64, most_segments: usize) -> Segments {
        Segments::new(dir, "audit", most_bytes, most_segments)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
        names.sort();
        names
    }

    #[test]
    fn segments_are_put_aside_and_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let segments = segments(dir.path(), 20, 2);
        for number in 0..9 {
            segments.append(&format!("line {number:010}")).expect("written");
        }
        // Two lines exceed a segment's limit.
        assert_eq!(names(dir.path()), ["audit.3.jsonl", "audit.4.jsonl", "audit.jsonl"]);
        let text: String = segments
            .all()
            .expect("a list")
            .iter()
            .map(|path| fs::read_to_string(path).expect("a file"))
            .collect();
        let wanted = [8, 6, 7, 4, 5].map(|number| format!("\"line {number:010}\"\n"));
        assert_eq!(text, wanted.concat());
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let segments = segments(dir.path(), 1000, 2);
        fs::write(segments.path(), "{\"half").expect("written");
        segments.append(&1).expect("written");
        segments.reserve().expect("room");
        segments.append(&2).expect("written");
        assert_eq!(fs::read_to_string(segments.path()).expect("a file"), "{\"half\n1\n2\n");
    }

    #[test]
    fn processes_that_write_at_once_lose_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = dir.path();
                scope.spawn(move || {
                    // Separate locks, as in separate processes.
                    let segments = segments(path, 300, 1000);
                    for line in 0..50 {
                        segments.append(&(writer, line)).expect("written");
                    }
                });
            }
        });
        let all = segments(dir.path(), 300, 1000).all().expect("a list");
        let texts = all.iter().map(|path| fs::read_to_string(path).expect("a file"));
        let mut lines: Vec<String> =
            texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), 200);
    }

    #[test]
    fn what_leads_elsewhere_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let segments = segments(dir.path(), 1000, 2);
        std::os::unix::fs::symlink(dir.path().join("else"), segments.path()).expect("a link");
        assert!(segments.append(&1).is_err());
        fs::remove_file(segments.path()).expect("removed");
        fs::create_dir(segments.path()).expect("a folder");
        assert!(segments.append(&1).is_err() && segments.reserve().is_err());
    }
}
