//! Copies a source, for engines that cannot put a layer over it and for builds that must all see
//! the same bytes even if the source changes.

use super::unseen::Unseen;
use runner_host::beneath::{self, Dir, join, kind};
use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Copies a source: files and links with their times, files and directories with their modes. Skips
/// our own state in it and files that disappear during the copy, such as editors' files and git's
/// locks. If the file system can, files share their blocks with the copy. `stop` ends the copy
/// early with [`io::ErrorKind::Interrupted`]; `failed` decides whether to go on after an error.
pub fn copy_tree(
    from: &Path,
    to: &Path,
    unseen: &Unseen,
    stop: &AtomicBool,
    failed: &mut dyn FnMut(&Path, io::Error) -> io::Result<()>,
) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let top = Dir::top(from)?;
    let (mut pending, mut modes) = (vec![Vec::new()], Vec::new());
    while let Some(path) = pending.pop() {
        let below = Path::new(OsStr::from_bytes(&path));
        let listed = top.open(&path).and_then(|here| Ok((here.entries()?, here)));
        let (entries, here) = match listed {
            Err(error) if path.is_empty() => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                failed(below, not_copied(&from.join(below), &error))?;
                continue;
            }
            Ok(listed) => listed,
        };
        for beneath::DirectoryEntry { name, .. } in entries {
            let path = join(&path, &name);
            let below = Path::new(OsStr::from_bytes(&path));
            let (source, target) = (from.join(below), to.join(below));
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if unseen.is(&source) {
                continue;
            }
            match copy_one(&here, &name, &target) {
                Ok(Some(mode)) => {
                    modes.push((target, mode));
                    pending.push(path);
                }
                Ok(None) => {}
                Err(error) => {
                    // It may have come back.
                    let is_gone = error.kind() == io::ErrorKind::NotFound
                        || here.look(&name).is_ok_and(|there| there.is_none());
                    if !is_gone {
                        failed(below, not_copied(&source, &error))?;
                    }
                    // A partial copy may exist.
                    let _ = fs::remove_file(&target);
                }
            }
        }
    }
    // Last, because a mode may forbid writing to its directory.
    modes.into_iter().try_for_each(|(dir, mode)| fs::set_permissions(dir, mode))
}

fn not_copied(source: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot copy {}: {error}", source.display()))
}

/// Copies one entry. For a directory, makes it empty and returns the mode to set later.
fn copy_one(here: &Dir, name: &[u8], to: &Path) -> io::Result<Option<Permissions>> {
    let there = here.stat(name)?;
    let mode = Permissions::from_mode(there.st_mode & 0o7777);
    match kind(&there) {
        FileType::Directory => return fs::create_dir(to).map(|()| Some(mode)),
        FileType::Symlink => symlink(OsStr::from_bytes(&here.read_link(name)?), to)?,
        FileType::RegularFile => {
            let mut file = here.file(name)?;
            let mut copy = fs::File::create_new(to)?;
            io::copy(&mut file, &mut copy)?;
            copy.set_permissions(mode)?;
        }
        _ => return Ok(None),
    }
    // `make`, for example, relies on file times.
    let nanoseconds = i64::try_from(there.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: there.st_mtime, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_in_which_files_come_and_go() -> io::Result<()> {
        let bed = tempfile::tempdir()?;
        let (from, unseen) = (bed.path().join("from"), Unseen::of(&bed.path().join("state")));
        fs::create_dir(&from)?;
        fs::write(from.join("kept"), "as it was")?;
        let (is_over, never) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let coming_and_going = scope.spawn(|| -> io::Result<()> {
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(from.join("lock"), "")?;
                    fs::remove_file(from.join("lock"))?;
                    fs::create_dir(from.join("dir"))?;
                    fs::remove_dir(from.join("dir"))?;
                }
                Ok(())
            });
            let copied = (0..200).try_for_each(|number| {
                let to = bed.path().join(number.to_string());
                copy_tree(&from, &to, &unseen, &never, &mut |_, error| Err(error))?;
                assert_eq!(fs::read_to_string(to.join("kept"))?, "as it was");
                Ok(())
            });
            is_over.store(true, Ordering::Relaxed);
            coming_and_going.join().map_err(|_| io::ErrorKind::Other)?.and(copied)
        })
    }
}
