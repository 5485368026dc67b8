//! Archives the files that would be mounted, to be unpacked at `/` in a container elsewhere.
//!
//! Used by `relay`.

use crate::READONLY;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Everything in a folder but sockets. Root owns all of it; a file with several names is stored
/// once.
pub(super) fn archive(folder: &Path) -> io::Result<Vec<u8>> {
    let mut archive = Archive { tar: Builder::new(Vec::new()), names: HashMap::new() };
    let inside = Path::new(READONLY.trim_start_matches('/'));
    let above: Vec<&Path> = inside.ancestors().skip(1).collect();
    for parent in above.iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
        archive.add(parent, EntryType::Directory, 0o755, b"")?;
    }
    archive.tree(folder, inside)?;
    archive.tar.into_inner()
}

struct Archive {
    tar: Builder<Vec<u8>>,
    /// The first name of each file with several names.
    names: HashMap<u64, std::path::PathBuf>,
}

impl Archive {
    fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.add(to, EntryType::Directory, 0o755, b"")?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (metadata, to) = (entry.metadata()?, to.join(entry.file_name()));
            if metadata.is_dir() {
                self.tree(&entry.path(), &to)?;
            } else if metadata.is_file() {
                if let Some(first) = self.names.get(&metadata.ino()) {
                    let mut header = header(EntryType::Link, 0o755, 0);
                    self.tar.append_link(&mut header, &to, first)?;
                    continue;
                }
                let mode = metadata.permissions().mode() & 0o777;
                self.add(&to, EntryType::Regular, mode, &fs::read(entry.path())?)?;
                self.names.insert(metadata.ino(), to);
            }
        }
        Ok(())
    }

    fn add(&mut self, to: &Path, kind: EntryType, mode: u32, contents: &[u8]) -> io::Result<()> {
        let mut header = header(kind, mode, contents.len() as u64);
        self.tar.append_data(&mut header, to, contents)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}
