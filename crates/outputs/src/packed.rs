//! Artifacts in a ZIP: adds files, and computes the ZIP's checksums.

use super::meter::Meter;
use super::transfer::{Chosen, Keeper};
use super::zip::{ZipMember, ZipWriter};
use super::{OutputError, hex};
use md5::Md5;
use runner_wire::files::FileFacts;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// Zeros written at a time.
const ZEROS: usize = 1 << 20;

/// Adds files to a ZIP.
pub(super) struct ZipKeeper {
    zip: ZipWriter<Summing>,
    /// Path of the ZIP, for messages.
    place: PathBuf,
    meter: Meter,
    zeros: Vec<u8>,
}

/// Checksums of a ZIP, in hexadecimal digits.
pub(super) struct Sums {
    pub(super) sha256: String,
    pub(super) md5: String,
}

impl ZipKeeper {
    /// Writes to a new file.
    pub(super) fn new(file: File, place: PathBuf, meter: Meter) -> Result<Self, OutputError> {
        let out = Summing { file, sha256: Sha256::new(), md5: Md5::new(), buffer: Vec::new() };
        let zip = ZipWriter::new(out).map_err(OutputError::folder("write", &place))?;
        Ok(ZipKeeper { zip, place, meter, zeros: Vec::new() })
    }

    /// Completes the ZIP.
    pub(super) fn finish(self) -> Result<(File, Sums), OutputError> {
        let out = self.zip.finish().map_err(OutputError::folder("write", &self.place))?;
        let sums = Sums { sha256: hex(&out.sha256.finalize()), md5: hex(&out.md5.finalize()) };
        Ok((out.file, sums))
    }

    fn put(
        &mut self,
        act: impl FnOnce(&mut ZipWriter<Summing>) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        act(&mut self.zip).map_err(OutputError::folder("write", &self.place))
    }
}

fn member(file: &Chosen, facts: &FileFacts) -> ZipMember {
    ZipMember {
        name: file.name.clone(),
        mode: facts.mode,
        modified: facts.modified,
        size: facts.size,
    }
}

impl Keeper for ZipKeeper {
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError> {
        let member = member(file, facts);
        self.put(|zip| zip.begin(member))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.meter.add(bytes.len() as u64);
        self.put(|zip| zip.write(bytes))
    }

    fn hole(&mut self, mut length: u64) -> Result<(), OutputError> {
        self.zeros.resize(ZEROS, 0);
        let zeros = std::mem::take(&mut self.zeros);
        while length > 0 {
            let now = usize::try_from(length).unwrap_or(ZEROS).min(ZEROS);
            self.meter.add(now as u64);
            self.put(|zip| zip.write(&zeros[..now]))?;
            length -= now as u64;
        }
        self.zeros = zeros;
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        self.put(ZipWriter::end)
    }

    fn link(&mut self, file: &Chosen, target: &[u8]) -> Result<(), OutputError> {
        let member = member(file, &file.facts);
        self.put(|zip| {
            zip.begin(member)?;
            zip.write(target)?;
            zip.end()
        })
    }
}

/// Computes checksums of what is written.
struct Summing {
    file: File,
    sha256: Sha256,
    md5: Md5,
    buffer: Vec<u8>,
}

impl Summing {
    fn pass(&mut self) -> io::Result<()> {
        self.sha256.update(&self.buffer);
        self.md5.update(&self.buffer);
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 256 << 10 {
            self.pass()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()
    }
}
