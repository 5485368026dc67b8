//! Files of `--session-log`: a transcript of each session with output, a recording of each
//! terminal, and one line for each event of a session.
//!
//! Fed by `guests` and `transcript`. [`SessionLog`] allows other destinations; [`LogDir`] is the
//! only one. The content is masked like the build's own log; input that a terminal does not echo is
//! not in it.

use runner_host::beneath::Dir;
use runner_host::clock;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An event of a session.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionNote<'a> {
    /// Time of the event; filled in when it is written.
    pub time: String,
    /// `opened`, `connected` (for a session that forwards ports) or `closed`.
    pub event: &'static str,
    pub build: &'a str,
    /// Its number in the build.
    pub session: u64,
    /// Its id at AWS's clients, if one of them opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<&'a str>,
    /// The session's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What it was connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What ended it, or whether the connection succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
}

/// A destination for transcripts, recordings and events.
pub trait SessionLog: Send + Sync {
    /// Opens a transcript for a session.
    fn transcript(&self, name: &str) -> io::Result<Box<dyn Write + Send>>;
    /// Opens a recording for a terminal.
    fn recording(&self, name: &str) -> io::Result<Box<dyn Write + Send>>;
    /// Writes an event.
    fn note(&self, note: SessionNote<'_>);
}

/// A directory: `NAME.log` for each transcript, `NAME.cast` for each recording, `sessions.jsonl`
/// for the lines.
#[derive(Debug)]
pub struct LogDir {
    dir: Dir,
    /// For messages.
    path: PathBuf,
    writing: Mutex<()>,
}

impl LogDir {
    /// Opens the directory, and creates it if missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = Dir::make_top(path, 0o700)?;
        let log = LogDir { dir, path: path.to_path_buf(), writing: Mutex::new(()) };
        // Fail now, not when someone wants to connect.
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
