//! Files of the container that the engine has opened: copies in this machine's memory.
//!
//! Used by `carrier`. The engine's writes to a copy are sent before anything that could read the
//! file: before the next program or the next open. The engine sees programs' writes by opening the
//! file again, as it does with any file that has lost its name, like these.

use super::flows::Say;
use runner_wire::relay::{end, put};
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Files opened for writing, by path.
#[derive(Default)]
pub(super) struct FileCopies(HashMap<Vec<u8>, FileCopy>);

struct FileCopy {
    id: u64,
    file: File,
    /// Mode of the container's file; its contents follow.
    mode: u32,
    contents: Vec<u8>,
}

impl FileCopies {
    /// Adds an arrived file. Only one opened for writing is kept.
    pub(super) fn add(
        &mut self,
        id: u64,
        written: Option<Vec<u8>>,
        mode: u32,
        contents: &[u8],
        say: &Say,
    ) -> io::Result<File> {
        let mut file = File::from(memfd_create("runner-copy", MemfdFlags::CLOEXEC)?);
        file.write_all(contents)?;
        file.rewind()?;
        file.set_permissions(Permissions::from_mode(mode))?;
        if let Some(path) = written {
            let copy = FileCopy { id, file: file.try_clone()?, mode, contents: contents.to_vec() };
            if let Some(before) = self.0.insert(path, copy) {
                say.later(&end(before.id));
            }
        }
        Ok(file)
    }

    /// Sends the engine's writes, ahead of the next request.
    pub(super) fn bring(&mut self, say: &Say) -> io::Result<()> {
        for copy in self.0.values_mut() {
            let metadata = copy.file.metadata()?;
            let mut contents = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
            copy.file.read_exact_at(&mut contents, 0)?;
            let mode = metadata.permissions().mode() & 0o7777;
            if (mode, &contents) != (copy.mode, &copy.contents) {
                say.later(&put(copy.id, mode, &contents));
                (copy.mode, copy.contents) = (mode, contents);
            }
        }
        Ok(())
    }
}
