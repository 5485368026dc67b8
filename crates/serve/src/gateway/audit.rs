//! What was done through the endpoint, one line an event, and what was not let in.
//!
//! Fed by `aws` and by `session`. No line holds a token, a key, or anything that was typed or shown. A stranger can
//! cause any number of refusals, so refusals go to a second file at a limited rate and push nothing out of the first.

use runner_folder::state::Home;
use runner_host::clock;
use runner_host::users;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A file longer than this is put aside, and what was put aside before is gone.
const MAX_BYTES: u64 = 16 << 20;
/// The same for what was refused.
const MAX_REFUSED_BYTES: u64 = 1 << 20;
/// Refusals that are written at once, and how long until there is room for one more.
const BURST: u32 = 100;
const PAUSE: Duration = Duration::from_secs(1);

/// An event.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When; filled in when it is written.
    pub time: String,
    /// The call, or what happened to a session.
    pub event: String,
    /// Of a call: whether it changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Program and arguments, where the caller has named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The access key they asked with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The statement that decided, where a policy did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Where the call came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `ok`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Refusals before this one that were too many to be written; filled in when it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// The lists of events in the state folder, for the caller alone: `audit.jsonl`, and `refused.jsonl`.
#[derive(Debug)]
pub struct Audit {
    done: Lines,
    refused: Lines,
    rate: Mutex<Rate>,
}

impl Audit {
    pub fn of(home: &Home) -> Self {
        let lines = |name, most| {
            let path = home.root().join(name);
            Lines { path, most, writing: Mutex::new(()) }
        };
        Audit {
            done: lines("audit.jsonl", MAX_BYTES),
            refused: lines("refused.jsonl", MAX_REFUSED_BYTES),
            rate: Mutex::new(Rate::new(clock::boot())),
        }
    }

    /// Writes what the owner has asked for, and what became of it.
    pub fn write(&self, entry: Entry) {
        self.done.write(entry);
    }

    /// Writes a refusal of a caller who has not shown who they are, unless there were too many.
    pub fn write_refused(&self, mut entry: Entry) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = rate.take(clock::boot()) else { return };
        drop(rate);
        entry.left_out = Some(left_out).filter(|count| *count > 0);
        self.refused.write(entry);
    }
}

/// A token bucket.
#[derive(Debug)]
struct Rate {
    left: u32,
    /// The time of the last refill.
    counted: Duration,
    left_out: u64,
}

impl Rate {
    fn new(now: Duration) -> Self {
        Rate { left: BURST, counted: now, left_out: 0 }
    }

    /// Takes one: how many were left out before it; `None` where this one is left out.
    fn take(&mut self, now: Duration) -> Option<u64> {
        let passed = now.saturating_sub(self.counted).as_secs() / PAUSE.as_secs();
        let gained = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(gained).min(BURST);
        self.counted += PAUSE.saturating_mul(gained);
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A file of lines, and the one before it.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    most: u64,
    /// Lines are written one at a time.
    writing: Mutex<()>,
}

impl Lines {
    /// Writes a line. One that cannot be written is said where this program talks about itself: a
    /// full disk does not lock anybody out of their build.
    fn write(&self, mut entry: Entry) {
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
        } else if length > self.most {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
            users::give(&self.path)?;
        }
        file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_a_rate() {
        let second = Duration::from_secs(1);
        let mut now = second * 1000;
        let mut rate = Rate::new(now);
        for _ in 0..BURST {
            assert_eq!(rate.take(now), Some(0));
        }
        now += second / 2;
        assert_eq!([rate.take(now), rate.take(now)], [None, None]);
        now += second / 2;
        assert_eq!([rate.take(now), rate.take(now)], [Some(2), None]);
        now += second * 2;
        assert_eq!([rate.take(now), rate.take(now), rate.take(now)], [Some(1), Some(0), None]);
        // The bucket holds no more than that.
        now += second * 100_000;
        let written = (0..1000).filter(|_| rate.take(now).is_some()).count();
        assert_eq!(written, BURST as usize);
    }
}
