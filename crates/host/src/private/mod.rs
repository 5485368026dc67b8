//! Private folders, files and sockets of the caller, and the removal of a build's files in them.

mod remove;
mod socket;

pub use remove::{remove_as_we_are, remove_tree};
pub use socket::{ShortPath, listen};

use crate::users;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Name prefix of unfinished files.
const HALF_WRITTEN: &str = ".tmp-";

/// Creates a folder and missing parents, accessible to the caller alone.
pub fn make_private(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_private(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        // Someone else has created it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.and_then(|()| users::give(dir)),
    }
}

/// Writes a file atomically; after a power loss it is complete or absent.
pub fn write_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::Builder::new().prefix(HALF_WRITTEN).tempfile_in(dir)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    users::give(file.path())?;
    file.persist(path)?;
    Ok(())
}

/// Removes files that a killed process left unfinished in [`write_durably`], and files of the given
/// names. Only for a folder that no process writes to any more.
pub fn remove_half_written(dir: &Path, names: &[&str]) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(HALF_WRITTEN.as_bytes())
            || names.iter().any(|it| name == *it)
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
