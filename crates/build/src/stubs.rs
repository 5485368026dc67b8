//! Stand-ins: executables that replace programs the build cannot use here.
//!
//! They are in a read-only folder of the container, which comes first in the build's PATH.

use runner_host::beneath::Dir;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the stand-ins' folder, below the read-only folder.
pub(super) const DIRECTORY: &str = "stubs";

/// A stand-in for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stub {
    /// The program's name.
    pub name: String,
    /// The executable; `None`: a script that does nothing and succeeds.
    pub file: Option<PathBuf>,
}

/// The default stand-in. It prints its arguments to standard error, because a program may read its
/// output, and consumes its input, so that the writer does not fail.
fn stand_in(name: &str) -> String {
    format!(
        "#!/bin/sh\nprintf '%s' 'stub: {name}' >&2\nfor argument; do printf ' %s' \"$argument\" >&2; \
         done\necho >&2\n[ -t 0 ] || cat > /dev/null\nexit 0\n"
    )
}

/// Writes the stand-ins.
pub(super) fn make(stubs: &[Stub], source: &Path, readonly: &Path) -> io::Result<()> {
    if stubs.is_empty() {
        return Ok(());
    }
    let dir = readonly.join(DIRECTORY);
    fs::DirBuilder::new().mode(0o755).create(&dir)?;
    for Stub { name, file } in stubs {
        let mut made =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(dir.join(name))?;
        match file {
            None => made.write_all(stand_in(name).as_bytes())?,
            Some(file) => {
                let copied = open(file, source).and_then(|mut from| io::copy(&mut from, &mut made));
                copied.map_err(|error| {
                    io::Error::new(error.kind(), format!("--stub: {}: {error}", file.display()))
                })?;
            }
        }
    }
    Ok(())
}

/// Opens a regular file without blocking. Below the source, which others may have changed since the
/// project file was trusted, links are not followed.
fn open(file: &Path, source: &Path) -> io::Result<File> {
    let whole = std::path::absolute(file)?;
    let opened = match whole.strip_prefix(source) {
        Ok(below) => Dir::top(source)?.file(below.as_os_str().as_bytes())?,
        Err(_) => {
            let mut options = fs::OpenOptions::new();
            options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&whole)?
        }
    };
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::other("is not a file")),
    }
}
