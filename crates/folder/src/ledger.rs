//! The file changes of each run of a build, stored in the build's folder: one text for each run,
//! and one for each stop at which users changed something.
//!
//! `build` writes it while a build runs; `src/cli` reads it, also after the build.

use crate::state::BuildDir;
use runner_core::changes::{FileChange, from_text};
use runner_host::private::make_private;
use runner_host::users;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Most bytes kept for a build.
const MOST: u64 = 20 << 20;
/// Suffix of the number of the run that follows a stop.
const STOP: &str = ".stop";

/// When a change was made. A stop before a run sorts before that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LedgerTime {
    pub run: u32,
    /// Whether the run itself made the change, rather than users at the stop before it.
    pub is_run: bool,
}

impl LedgerTime {
    fn name(self) -> String {
        format!("{}{}", self.run, if self.is_run { "" } else { STOP })
    }

    fn of(name: &str) -> Option<Self> {
        let (run, is_run) = match name.strip_suffix(STOP) {
            Some(run) => (run, false),
            None => (name, true),
        };
        Some(LedgerTime { run: run.parse().ok()?, is_run })
    }
}

/// The changes of one build.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    written: u64,
}

impl Ledger {
    pub fn of(dir: &BuildDir) -> Self {
        Ledger { dir: dir.changes(), written: 0 }
    }

    /// Stores changes. Returns whether there was room.
    pub fn write(&mut self, at: LedgerTime, changes: &str) -> io::Result<bool> {
        let length = changes.len() as u64;
        if self.written + length > MOST {
            return Ok(false);
        }
        if changes.is_empty() {
            return Ok(true);
        }
        make_private(&self.dir)?;
        let path = self.dir.join(at.name());
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        users::give(&path)?;
        file?.write_all(changes.as_bytes())?;
        self.written += length;
        Ok(true)
    }

    /// All entries in chronological order.
    pub fn all(&self) -> io::Result<Vec<LedgerTime>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            all.extend(entry?.file_name().to_str().and_then(LedgerTime::of));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The first changes of an entry, at most `most`, and their total number. Only these are held
    /// in memory.
    pub fn first(&self, at: LedgerTime, most: usize) -> io::Result<(Vec<FileChange>, usize)> {
        let file = fs::File::open(self.dir.join(at.name()))?;
        let mut lines = BufReader::new(file.take(MOST));
        let (mut first, mut count, mut line) = (Vec::new(), 0, String::new());
        loop {
            line.clear();
            lines.read_line(&mut line)?;
            if !line.ends_with('\n') {
                return Ok((first, count));
            }
            if first.len() < most {
                first.extend(from_text(&line).ok_or(io::ErrorKind::InvalidData)?);
            }
            count += 1;
        }
    }

    pub fn read(&self, at: LedgerTime) -> io::Result<Vec<FileChange>> {
        let text = fs::read_to_string(self.dir.join(at.name()))?;
        // A last line without its end is incomplete or was torn by a kill.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        from_text(whole).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_in_its_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger { dir: dir.path().join("changes"), written: 0 };
        assert_eq!(ledger.all().expect("read"), []);
        let at = |run, is_run| LedgerTime { run, is_run };
        assert!(ledger.write(at(10, true), "Af 1 /a\n").expect("written"));
        assert!(ledger.write(at(2, true), "Df 1 /a\n").expect("written"));
        assert!(ledger.write(at(2, false), "Mf 1 /a\n").expect("written"));
        assert!(ledger.write(at(2, false), "Mf 2 /a\nMf").expect("written"));
        assert!(ledger.write(at(3, true), "").expect("nothing"));
        let all = ledger.all().expect("read");
        assert_eq!(all, [at(2, false), at(2, true), at(10, true)]);
        let sizes: Vec<u64> =
            ledger.read(all[0]).expect("read").iter().map(|change| change.size).collect();
        assert_eq!(sizes, [1, 2]);
        let (first, count) = ledger.first(all[0], 1).expect("read");
        assert_eq!((first.len(), first[0].size, count), (1, 1, 2));
        assert_eq!(ledger.first(all[0], 9).expect("read").0.len(), 2);
        ledger.written = MOST;
        assert!(!ledger.write(at(4, true), "Af 1 /a\n").expect("no room"));
    }
}
