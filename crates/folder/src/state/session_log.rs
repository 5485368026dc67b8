//! Remembers where session logs were last written, for later lookups.

use super::{Home, StateError};
use runner_host::private::write_durably;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// File that holds the path.
const FILE: &str = "session-log";

impl Home {
    /// Remembers the folder that `--session-log` names.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember_session_log(&self, dir: &Path) -> Result<(), StateError> {
        let file = self.root().join(FILE);
        std::path::absolute(dir)
            .and_then(|dir| write_durably(&file, dir.as_os_str().as_bytes()))
            .map_err(|error| StateError::new("write", &file, error))
    }

    /// The folder last named with `--session-log`, if any.
    #[must_use]
    pub fn last_session_log(&self) -> Option<PathBuf> {
        let bytes = fs::read(self.root().join(FILE)).ok()?;
        (!bytes.is_empty()).then(|| PathBuf::from(OsString::from_vec(bytes)))
    }
}
