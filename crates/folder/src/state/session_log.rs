//! Where sessions were kept last, for those who look for them later.

use super::{Home, StateError};
use runner_host::private::write_durably;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Holds a path.
const FILE: &str = "session-log";

impl Home {
    /// Keeps the folder that `--session-log` names.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remember_session_log(&self, dir: &Path) -> Result<(), StateError> {
        let file = self.root().join(FILE);
        std::path::absolute(dir)
            .and_then(|dir| write_durably(&file, dir.as_os_str().as_bytes()))
            .map_err(|error| StateError::new("write", &file, error))
    }

    /// The folder that `--session-log` has named last, if any.
    #[must_use]
    pub fn last_session_log(&self) -> Option<PathBuf> {
        let bytes = fs::read(self.root().join(FILE)).ok()?;
        (!bytes.is_empty()).then(|| PathBuf::from(OsString::from_vec(bytes)))
    }
}
