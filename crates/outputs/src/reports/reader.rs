//! Handles each report file: reads it, and keeps the original if requested.
//!
//! Used by `reports`, on a thread that may block.

use super::super::folder::FolderKeeper;
use super::super::transfer::{Chosen, Keeper};
use super::super::{OutputError, SourceDirectories};
use runner_core::mask::Secrets;
use runner_core::report::{self, MAX_BYTES, ReportFile, ReportGroupReader};
use runner_host::beneath::join;
use runner_wire::files::FileFacts;
use std::path::PathBuf;

/// Receives report files.
pub(super) trait Takes {
    /// `bytes` is `None` for a file larger than the limit.
    fn take(&mut self, file: ReportFile, bytes: Option<&[u8]>);
}

/// All files belong to one group.
impl Takes for ReportGroupReader {
    fn take(&mut self, file: ReportFile, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.add(file, report::read(self.format, bytes)),
            None => {
                let most = MAX_BYTES >> 20;
                self.problem(format!("{}: larger than {most} MiB", file.shown));
            }
        }
    }
}

/// The format of each file is detected; there is one group per format.
impl Takes for Vec<ReportGroupReader> {
    fn take(&mut self, file: ReportFile, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return };
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(16 << 10)]);
        let Some(format) = report::detect(&head) else { return };
        let at = self.iter().position(|group| group.format == format).unwrap_or_else(|| {
            self.push(ReportGroupReader::new(String::new(), format));
            self.len() - 1
        });
        self[at].take(file, Some(bytes));
    }
}

/// Keeps a group's files unchanged, except for masked secrets.
pub(super) struct RawKeeper {
    pub(super) keeper: FolderKeeper,
    pub(super) secrets: Secrets,
    pub(super) sources: SourceDirectories,
    /// Root of all reports, and the path below it.
    pub(super) dir: PathBuf,
    pub(super) path: Vec<u8>,
    /// Files that were not kept, with the reason.
    pub(super) left_out: Vec<String>,
}

impl RawKeeper {
    /// Keeps a file; `bytes` is `None` if it is too large to be searched for secrets.
    fn keep(
        &mut self,
        file: &Chosen,
        facts: &FileFacts,
        bytes: Option<&Vec<u8>>,
    ) -> Result<(), OutputError> {
        let masked = if self.sources.keep(&self.dir, &join(&self.path, &file.name)) {
            Err("git would take it for its own")
        } else if let Some(bytes) = bytes {
            report::raw(bytes, &self.secrets).ok_or("a secret in it cannot be masked")
        } else {
            Err("it is too large to be masked")
        };
        match masked {
            Ok(bytes) => {
                self.keeper.begin(file, facts)?;
                self.keeper.data(&bytes)?;
                self.keeper.end()
            }
            Err(why) => {
                self.left_out.push(format!("{}: {why}", file.name.escape_ascii()));
                Ok(())
            }
        }
    }
}

/// Reads files one after the other.
pub(super) struct ReportReader<T> {
    pub(super) taker: T,
    pub(super) raw: Option<RawKeeper>,
    source: String,
    /// The file being read.
    file: Option<(Chosen, FileFacts)>,
    bytes: Vec<u8>,
}

impl<T: Takes> ReportReader<T> {
    /// Paths are shown relative to `source`.
    pub(super) fn new(taker: T, raw: Option<RawKeeper>, source: &str) -> Self {
        ReportReader { taker, raw, source: source.to_owned(), file: None, bytes: Vec::new() }
    }

    fn is_too_large(&self) -> bool {
        self.file.as_ref().is_some_and(|(_, facts)| facts.size > MAX_BYTES)
    }

    fn named(&self, file: &Chosen) -> ReportFile {
        let path = String::from_utf8_lossy(&file.whole()).into_owned();
        ReportFile {
            name: String::from_utf8_lossy(&file.name).into_owned(),
            shown: report::relative(&path, &self.source),
            path,
        }
    }
}

impl<T: Takes> Keeper for ReportReader<T> {
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError> {
        self.bytes.clear();
        self.file = Some((file.clone(), *facts));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if !self.is_too_large() {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), OutputError> {
        if !self.is_too_large() {
            let length = usize::try_from(length).unwrap_or(0);
            self.bytes.resize(self.bytes.len() + length, 0);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        let is_whole = !self.is_too_large();
        let Some((file, facts)) = self.file.take() else { return Ok(()) };
        if let Some(raw) = &mut self.raw {
            raw.keep(&file, &facts, is_whole.then_some(&self.bytes))?;
        }
        let named = self.named(&file);
        self.taker.take(named, is_whole.then_some(&self.bytes));
        self.bytes = Vec::new();
        Ok(())
    }

    /// Links are read as files; none stays a link.
    fn link(&mut self, _: &Chosen, _: &[u8]) -> Result<(), OutputError> {
        Ok(())
    }
}
