//! A cache as one file: a tar, compressed on all processors.
//!
//! Names and times that a plain tar cannot hold are stored in preceding records, as in POSIX (pax).

use super::super::meter::Meter;
use super::super::transfer::{Chosen, Keeper};
use super::super::zip::Gzip;
use super::super::{OutputError, hex};
use super::gather::{CacheItem, Gathered};
use ::tar::{EntryType, Header};
use runner_wire::files::FileFacts;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

const BLOCK: u64 = 512;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes a cache archive.
pub(super) struct TarKeeper {
    out: Gzip<Summed>,
    place: PathBuf,
    meter: Meter,
    left: u64,
    padding: u64,
}

/// A file, and the digest of the bytes written to it.
struct Summed {
    file: File,
    digest: Sha256,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TarKeeper {
    /// Writes directories and links first.
    pub(super) fn new(
        file: File,
        place: PathBuf,
        meter: Meter,
        gathered: &Gathered,
    ) -> Result<Self, OutputError> {
        let out = Gzip::new(Summed { file, digest: Sha256::new() })
            .map_err(OutputError::folder("write", &place))?;
        let mut tar = TarKeeper { out, place, meter, left: 0, padding: 0 };
        for (name, item) in &gathered.items {
            if item.is_directory() || item.target.is_some() {
                tar.head(name, item).map_err(OutputError::folder("write", &tar.place))?;
            }
        }
        Ok(tar)
    }

    /// Completes the archive. Returns the file and its digest.
    pub(super) fn finish(mut self) -> Result<(File, String), OutputError> {
        let place = self.place.clone();
        let finish = move || -> io::Result<(File, String)> {
            self.out.write_all(&ZEROS[..1024])?;
            let Summed { file, digest } = self.out.finish()?;
            Ok((file, hex(&digest.finalize())))
        };
        finish().map_err(OutputError::folder("write", &place))
    }

    fn head(&mut self, name: &[u8], item: &CacheItem) -> io::Result<()> {
        let FileFacts { mode, uid, gid, size, modified, modified_ns, .. } = item.facts;
        let target = item.target.as_deref().unwrap_or_default();
        let mut records = Vec::new();
        record(&mut records, "mtime", format!("{modified}.{modified_ns:09}").as_bytes());
        if name.len() > 100 {
            record(&mut records, "path", name);
        }
        if target.len() > 100 {
            record(&mut records, "linkpath", target);
        }
        if size >= 8 << 30 && item.is_file() {
            record(&mut records, "size", size.to_string().as_bytes());
        }
        if item.is_passed {
            record(&mut records, PASSED, b"1");
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(&records)?;
        self.pad(records.len() as u64)?;

        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        let put = |bytes: &mut [u8], at: usize, text: &[u8]| {
            let count = text.len().min(100);
            bytes[at..at + count].copy_from_slice(&text[..count]);
        };
        put(bytes, 0, name);
        put(bytes, 157, target);
        header.set_entry_type(match (&item.target, item.is_directory()) {
            (Some(_), _) => EntryType::Symlink,
            (None, true) => EntryType::Directory,
            (None, false) => EntryType::Regular,
        });
        header.set_mode(mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(modified).unwrap_or(0));
        header.set_size(if item.is_file() { size } else { 0 });
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let padding = usize::try_from((BLOCK - length % BLOCK) % BLOCK).unwrap_or(0);
        self.out.write_all(&ZEROS[..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.meter.add(bytes.len() as u64);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.out.write_all(bytes).map_err(OutputError::folder("write", &self.place))
    }
}

/// The runner's own record: marks a directory that is only on the way to cached paths.
pub(super) const PASSED: &str = "RUNNER.passed";

fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length includes its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

impl Keeper for TarKeeper {
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError> {
        let item = CacheItem { facts: *facts, target: None, is_passed: false };
        (self.left, self.padding) = (facts.size, facts.size);
        self.head(&file.name, &item).map_err(OutputError::folder("write", &self.place))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.put(bytes)
    }

    fn hole(&mut self, mut length: u64) -> Result<(), OutputError> {
        while length > 0 {
            let now = usize::try_from(length).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.put(&ZEROS[..now])?;
            length -= now as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        debug_assert_eq!(self.left, 0, "the container sends what it has announced");
        self.pad(self.padding).map_err(OutputError::folder("write", &self.place))
    }

    fn link(&mut self, _: &Chosen, _: &[u8]) -> Result<(), OutputError> {
        // Links were all written at the start.
        Ok(())
    }
}
