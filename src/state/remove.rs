//! Removal of trees that a build has made, whatever it made of them.
//!
//! Deeper than paths may be long or descriptors open, closed to their own owner, or owned by other
//! users of the container. Used for layers and everything else in the state folder. Nothing may run
//! in a tree while it is removed.

use crate::users;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Removes a tree, whether it is there or not, also where files in it belong to the users of a
/// container of ours.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let mut result = remove_as_we_are(path);
    for map in users::maps() {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            _ => break,
        }
        let Some(name) = path.to_str() else { break };
        if runner_sandbox::chore(&map, &["remove", name]).is_ok() {
            result = Ok(());
        }
    }
    result
}

/// Removes a tree with the rights this process has.
pub(crate) fn remove_as_we_are(path: &Path) -> io::Result<()> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    empty(enter(&rustix::fs::openat(CWD, ".", OFlags::PATH, Mode::empty())?, path)?)?;
    Ok(rustix::fs::rmdir(path)?)
}

/// Removes everything in a directory. One descriptor is open at a time: the way back is `..`.
fn empty(top: OwnedFd) -> Result<(), Errno> {
    let mut here = top;
    let mut way: Vec<CString> = Vec::new();
    loop {
        match empty_but_for_one(&here)? {
            Some(name) => {
                here = enter(&here, name.as_c_str())?;
                way.push(name);
            }
            None => {
                let Some(name) = way.pop() else { return Ok(()) };
                here = enter(&here, c"..")?;
                rustix::fs::unlinkat(&here, &name, AtFlags::REMOVEDIR)?;
            }
        }
    }
}

/// Removes the files and empty directories of a directory up to the first directory that is not
/// empty; its name.
fn empty_but_for_one(here: &OwnedFd) -> Result<Option<CString>, Errno> {
    for entry in Dir::read_from(here)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = entry.file_type() == FileType::Directory;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let remove = |flags| match rustix::fs::unlinkat(here, name, flags) {
            // Closed to writing by its owner, that is by us.
            Err(Errno::ACCESS) => {
                rustix::fs::fchmod(here, Mode::RWXU)?;
                rustix::fs::unlinkat(here, name, flags)
            }
            done => done,
        };
        match remove(flags) {
            Ok(()) => {}
            // A file system that does not tell what is what.
            Err(Errno::ISDIR) => match remove(AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
                done => done?,
            },
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

fn enter<P: rustix::path::Arg + Copy>(from: &OwnedFd, name: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(from, name, flags, Mode::empty()) {
        // An overlay's work directory is closed to its own owner, and a build may close others.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(from, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(from, name, flags, Mode::empty())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_is_left_of_a_tree() {
        let bed = tempfile::tempdir().expect("a directory");
        let kept = bed.path().join("kept");
        fs::write(&kept, "").expect("written");
        let tree = bed.path().join("tree");
        // Deeper than there are descriptors for, and than a path may be long.
        let mut here = {
            fs::create_dir(&tree).expect("made");
            rustix::fs::openat(CWD, &tree, OFlags::RDONLY, Mode::empty()).expect("opened")
        };
        for _ in 0..5000 {
            rustix::fs::mkdirat(&here, "deep", Mode::RWXU).expect("made");
            here = enter(&here, "deep").expect("entered");
        }
        for name in ["a", "b", "c"] {
            let dir = tree.join(name);
            fs::create_dir_all(dir.join("in")).expect("made");
            fs::write(dir.join("in/file"), "").expect("written");
            std::os::unix::fs::symlink(&kept, dir.join("link")).expect("linked");
            std::os::unix::fs::symlink(bed.path(), dir.join("dir")).expect("linked");
            fs::set_permissions(dir.join("in"), fs::Permissions::from_mode(0o000)).expect("closed");
            fs::set_permissions(dir, fs::Permissions::from_mode(0o500)).expect("closed");
        }
        remove_as_we_are(&tree).expect("removed");
        assert!(!tree.exists() && kept.exists());
        remove_as_we_are(&tree).expect("nothing to remove");
    }
}
