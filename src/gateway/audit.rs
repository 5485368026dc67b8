//! What was done through the endpoint, one line an event.
//!
//! Fed by `aws` and by `session`. No line holds a token, a key, or anything that was typed or shown.

use crate::clock;
use crate::state::Home;
use crate::users;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A file longer than this is put aside, and what was put aside before is gone.
const MAX_BYTES: u64 = 16 << 20;

/// An event.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// When; filled in when it is written.
    pub(crate) time: String,
    /// The call, or what happened to a session.
    pub(crate) event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) document: Option<String>,
    /// Program and arguments, where the caller has named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<String>,
    /// Where the call came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<String>,
    /// `ok`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<String>,
}

/// The list of events: `audit.jsonl` in the state folder, for the caller alone.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    /// Lines are written one at a time.
    writing: Mutex<()>,
}

impl Audit {
    pub(crate) fn of(home: &Home) -> Self {
        Audit { path: home.root().join("audit.jsonl"), writing: Mutex::new(()) }
    }

    /// Writes a line. One that cannot be written is said where this program talks about itself: a
    /// full disk does not lock anybody out of their build.
    pub(crate) fn write(&self, mut entry: Entry) {
        entry.time = clock::wall().to_string();
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append(&entry) {
            tracing::warn!(%error, path = %self.path.display(), "cannot write an audit line");
        }
    }

    fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut text = serde_json::to_string(entry)?;
        text.push('\n');
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            users::give(&self.path)?;
        } else if length > MAX_BYTES {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
            users::give(&self.path)?;
        }
        file.write_all(text.as_bytes())
    }
}
