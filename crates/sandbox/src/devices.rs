//! Provides the host's devices to a privileged container.
//!
//! Used by `kernel_dirs` once the container has its own /dev.
#![forbid(unsafe_code)]

use crate::handshake::{SandboxSetupError, SetupStep, failing};
use crate::in_root::InRoot;
use crate::mounts;
use rustix::fs::{AtFlags, FileType, Mode};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Entries of /dev that are always the container's own.
const OWN: [&str; 7] = ["pts", "ptmx", "shm", "mqueue", "console", "log", "hugepages"];
/// Devices of use to a user who may create none.
const OF_USERS: [&str; 3] = ["fuse", "net/tun", "kvm"];

/// Adds the devices: as new nodes if the container may create some, else those it can use.
pub(crate) fn show(root: &InRoot, may_make: bool) -> Result<(), SandboxSetupError> {
    let dev = Path::new("/dev");
    if may_make {
        return show_all(root, dev).map_err(failing(SetupStep::Root, "fill", dev));
    }
    for name in OF_USERS {
        let path = dev.join(name);
        if path.exists() {
            mounts::copy(&path, false)
                .and_then(|node| root.attach_file(node, &path))
                .map_err(failing(SetupStep::Root, "mount", &path))?;
        }
    }
    Ok(())
}

fn show_all(root: &InRoot, dev: &Path) -> io::Result<()> {
    let mut pending: Vec<PathBuf> = vec![dev.to_path_buf()];
    while let Some(dir) = pending.pop() {
        // Devices come and go.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_own = OWN.iter().any(|own| path == dev.join(own));
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let kind = FileType::from_raw_mode(metadata.mode());
            match kind {
                _ if is_own => {}
                FileType::Directory => pending.push(path),
                FileType::Symlink => {
                    if let Ok(to) = fs::read_link(&path) {
                        root.link(&path, &to)?;
                    }
                }
                FileType::CharacterDevice | FileType::BlockDevice => make(root, &path, &metadata)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn make(root: &InRoot, path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let (parent, name) = root.parent(path)?;
    let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
    let kind = FileType::from_raw_mode(metadata.mode());
    match rustix::fs::mknodat(&parent, name, kind, mode, metadata.rdev()) {
        // Every container has this one already.
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        done => done?,
    }
    // Undo the umask.
    rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
    let owner = (metadata.uid().into(), metadata.gid().into());
    let (uid, gid): (nix::unistd::Uid, nix::unistd::Gid) = owner;
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    Ok(nix::unistd::fchownat(&parent, name, Some(uid), Some(gid), flags)?)
}
