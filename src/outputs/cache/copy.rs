//! A cache of a folder, copied into the container.

use super::super::OutputError;
use super::caching::Caching;
use super::folder::{Entry, Remarks};
use super::gather::{Item, ROOT, SOURCE};
use crate::engine::files::{Failures, Files, FilesError, Requests};
use runner_wire::abi::files::{SYMLINK, make, root};
use runner_wire::files::{Facts, Node};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that are handed on at once.
const CHUNK: usize = 256 << 10;

/// Copies it; the cache again.
pub(super) async fn restore(caching: &Caching, entry: Entry) -> Result<Entry, OutputError> {
    let mut entry = entry;
    for (side, to) in [(SOURCE, caching.at.source.as_bytes()), (ROOT, b"/")] {
        let files = Files::start(&*caching.at.container).await?;
        let to = to.to_vec();
        let work = tokio::task::spawn_blocking(move || {
            let tree = entry.side(side);
            let remarks = entry.details()?;
            let copied = files.write(&to, root::CREATE, |requests| {
                Copy { requests, remarks: &remarks, buffer: vec![0; CHUNK] }
                    .directory(&tree, side, b"")
            })?;
            Ok::<_, OutputError>((entry, copied))
        });
        let (back, failures) =
            work.await.map_err(|error| OutputError::Other(error.to_string()))??;
        tell(caching, &failures).await;
        entry = back;
    }
    Ok(entry)
}

/// What did not work, in a few words.
pub(super) async fn tell(caching: &Caching, failures: &Failures) {
    if let Some(first) = failures.first.first() {
        let more = failures.count - 1;
        let text = format!("cache: not all of it is restored: {first} (and {more} more)");
        caching.at.teller.warn(text).await;
    }
}

struct Copy<'a> {
    requests: &'a mut Requests,
    remarks: &'a Remarks,
    buffer: Vec<u8>,
}

impl Copy<'_> {
    /// All that is in a directory of the cache; `path` is its place below the root.
    fn directory(&mut self, dir: &Path, side: &[u8], path: &[u8]) -> Result<(), OutputError> {
        let mut entries = fs::read_dir(dir)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(OutputError::folder("read", dir))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let place = entry.path();
            let path = match path {
                b"" => entry.file_name().as_bytes().to_vec(),
                above => [above, b"/", entry.file_name().as_bytes()].concat(),
            };
            let name = [side, b"/", &path].concat();
            let metadata = entry.metadata().map_err(OutputError::folder("read", &place))?;
            let item = self.remarks.facts(&name, &metadata);
            if metadata.is_dir() {
                make_item(self.requests, &item, &path, b"")?;
                self.directory(&place, side, &path)?;
                finish_directory(self.requests, &item, &path)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&place).map_err(OutputError::folder("read", &place))?;
                make_item(self.requests, &item, &path, target.as_os_str().as_bytes())?;
            } else if metadata.is_file() {
                self.file(&place, &item, &path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, place: &Path, item: &Item, path: &[u8]) -> Result<(), OutputError> {
        let mut file = File::open(place).map_err(OutputError::folder("read", place))?;
        make_item(self.requests, item, path, b"")?;
        let mut left = item.facts.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let got = match file.read(&mut self.buffer[..most]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                done => done,
            };
            let got = got.map_err(OutputError::folder("read", place))?;
            self.requests.data(&self.buffer[..got]).map_err(broken)?;
            left -= got as u64;
        }
        self.requests.end().map_err(broken)
    }
}

/// Asks for an item; the content of a file follows.
pub(super) fn make_item(
    requests: &mut Requests,
    item: &Item,
    path: &[u8],
    target: &[u8],
) -> Result<(), OutputError> {
    let facts =
        if target.is_empty() { item.facts } else { Facts { mode: SYMLINK | 0o777, ..item.facts } };
    requests.make(&node(facts), path, target).map_err(broken)
}

/// Mode and time of a directory that is cached itself, once all is in it.
pub(super) fn finish_directory(
    requests: &mut Requests,
    item: &Item,
    path: &[u8],
) -> Result<(), OutputError> {
    if item.is_passed {
        return Ok(());
    }
    requests.set(&node(item.facts), path).map_err(broken)
}

fn node(facts: Facts) -> Node {
    // What is made is root's as it is, or the caller's where there is no other.
    let owner = if (facts.uid, facts.gid) == (0, 0) { 0 } else { make::OWNER };
    Node { flags: make::TIMES | owner, facts }
}

pub(super) fn broken(error: io::Error) -> OutputError {
    FilesError::from(error).into()
}
