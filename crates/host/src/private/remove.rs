//! Removes trees that a build made, whatever their state.
//!
//! Also if other users of the container own them.

use crate::beneath::Dir;
use crate::users;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Removes a tree if it exists, even if it contains files of the users of one of our containers.
pub fn remove_tree(path: &Path) -> io::Result<()> {
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

/// Removes a tree with this process's own rights.
pub fn remove_as_we_are(path: &Path) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    match Dir::top(above) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        top => top?.remove_tree(name.as_bytes()),
    }
}
