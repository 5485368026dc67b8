//! What `--session-log` leaves: a transcript of each session in which something is shown, a recording of each
//! terminal, and a line for whatever happens to a session.
//!
//! Fed by `guests` and `transcript`. [`SessionLog`] is the seam for other destinations; [`LogDir`] is the
//! one there is. What is in it is masked as the build's own log is; what a terminal does not echo is not
//! in it.

use runner_host::beneath::Dir;
use runner_host::clock;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Something that happens to a session.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionNote<'a> {
    /// When; filled in when it is written.
    pub time: String,
    /// `opened`, `connected` (of a session that forwards ports) or `closed`.
    pub event: &'static str,
    pub build: &'a str,
    /// Its number in the build.
    pub session: u64,
    /// Its id at AWS's clients, where one of them has opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<&'a str>,
    /// What runs in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What it is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What ended it, or whether it was connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
}

/// Where it goes.
pub trait SessionLog: Send + Sync {
    /// A place for what a session shows.
    fn transcript(&self, name: &str) -> io::Result<Box<dyn Write + Send>>;
    /// A place for a terminal's recording.
    fn recording(&self, name: &str) -> io::Result<Box<dyn Write + Send>>;
    /// Keeps a line.
    fn note(&self, note: SessionNote<'_>);
}

/// A directory: `NAME.log` for each transcript, `NAME.cast` for each recording, `sessions.jsonl` for the lines.
#[derive(Debug)]
pub struct LogDir {
    dir: Dir,
    /// For messages.
    path: PathBuf,
    writing: Mutex<()>,
}

impl LogDir {
    /// Makes the directory where it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = Dir::make_top(path, 0o700)?;
        let log = LogDir { dir, path: path.to_path_buf(), writing: Mutex::new(()) };
        // Found out now, not when somebody wants in.
        log.lines()?;
        Ok(log)
    }

    fn lines(&self) -> io::Result<File> {
        self.dir.append("sessions.jsonl", 0o600)
    }
}

impl SessionLog for LogDir {
    fn transcript(&self, name: &str) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(self.dir.create(format!("{name}.log"))?))
    }

    fn recording(&self, name: &str) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(self.dir.create(format!("{name}.cast"))?))
    }

    fn note(&self, mut note: SessionNote<'_>) {
        note.time = clock::wall().to_string();
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_string(&note)
            .map_err(io::Error::from)
            .and_then(|line| self.lines()?.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, dir = %self.path.display(), "cannot write a line about a session");
        }
    }
}
