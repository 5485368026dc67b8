//! Output on its way to AWS: what is left to send, and how much has arrived.
//!
//! ```text
//! sessions-log/<id>/job.json  destinations and progress
//! sessions-log/<id>/lock      locked with flock by the process that sends it
//! sessions-log/<id>/text      a session's output, masked; locked with flock while the build writes
//! ```
//!
//! A folder gets its final name when it is complete and locked, so a folder whose lock nobody holds
//! may be taken over: its process is gone. Output other than a session's lies in other folders of
//! the state folder and is only named here.

use super::home::Home;
use runner_core::destination::Destinations;
use runner_core::destination::events::EventContext;
use runner_core::time::WallTime;
use runner_host::private::{make_private, write_durably};
use runner_host::users;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name prefix of incomplete folders. No session id begins like this.
const NEW: &str = "~new-";
const JOB: &str = "job.json";
const LOCK: &str = "lock";
const TEXT: &str = "text";
const MAX_JOB: u64 = 1 << 20;
/// A folder still incomplete after this time was abandoned.
const LEFT: Duration = Duration::from_secs(3600);

/// Output to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolJob {
    /// A session's id, or a name of another kind.
    pub id: String,
    pub of: JobOf,
    pub to: Destinations,
    /// Facts for events and for the audit.
    pub context: EventContext,
    /// The owner's id that survives a change of their name, and the key they used.
    pub user_id: String,
    pub key_id: String,
    /// The identity used to call AWS; empty for the first credentials found.
    #[serde(default)]
    pub identity: String,
    pub sources: Vec<SpoolSource>,
    /// The file, relative to the state folder, that is locked while more may be written.
    pub writer: PathBuf,
    pub made: WallTime,
    /// The last message about the current problem.
    #[serde(default)]
    pub problem: String,
}

/// The origin of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobOf {
    Session,
    /// A step of a command, by number, at one of the nodes.
    Command {
        id: String,
        node: String,
        #[serde(default)]
        step: usize,
    },
}

/// A file to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpoolSource {
    /// Relative to the state folder.
    pub path: PathBuf,
    /// Its key in the bucket.
    pub key: String,
    /// Its stream in the log group.
    pub stream: String,
    /// Bytes of it already in the log group.
    #[serde(default)]
    pub sent: u64,
    /// Whether the log group has all of it.
    #[serde(default)]
    pub is_streamed: bool,
    /// Whether the bucket has it.
    #[serde(default)]
    pub is_stored: bool,
}

impl SpoolSource {
    pub fn new(path: PathBuf, key: String, stream: String) -> Self {
        SpoolSource { path, key, stream, sent: 0, is_streamed: false, is_stored: false }
    }
}

impl SpoolJob {
    /// Whether everything has arrived.
    pub fn is_done(&self) -> bool {
        let has_group = self.to.group.is_some();
        let has_bucket = self.to.bucket.is_some();
        self.sources
            .iter()
            .all(|source| (!has_group || source.is_streamed) && (!has_bucket || source.is_stored))
    }
}

/// All jobs of a state folder.
#[derive(Clone, Debug)]
pub struct Spool {
    root: PathBuf,
}

/// A job that only this process sends.
#[derive(Debug)]
pub struct OwnedJob {
    /// The job as it was when taken.
    pub job: SpoolJob,
    root: PathBuf,
    _lock: File,
}

impl Spool {
    pub fn of(home: &Home) -> Self {
        Spool { root: home.root().to_path_buf() }
    }

    /// The spool of the state folder that contains a build's folder.
    pub fn of_build(build: &Path) -> Option<Self> {
        Some(Spool { root: build.parent()?.parent()?.to_path_buf() })
    }

    fn dir(&self) -> PathBuf {
        self.root.join("sessions-log")
    }

    fn folder(&self, id: &str) -> io::Result<PathBuf> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_.@=,+-".contains(c);
        let is_name = !id.is_empty() && id.len() <= 128 && !id.starts_with('.');
        match is_name && id.chars().all(is_part) {
            true => Ok(self.dir().join(id)),
            false => {
                Err(io::Error::other(format!("`{}` cannot be a file's name", id.escape_debug())))
            }
        }
    }

    /// The path of a session's text, relative to the state folder.
    pub fn text_of(id: &str) -> PathBuf {
        Path::new("sessions-log").join(id).join(TEXT)
    }

    /// Creates a job's folder. The caller owns it and must send it.
    pub fn begin(&self, job: SpoolJob) -> io::Result<OwnedJob> {
        let folder = self.folder(&job.id)?;
        make_private(&self.dir())?;
        let new = self.dir().join(format!("{NEW}{}", job.id));
        make_private(&new)?;
        let lock = open_lock(&new)?;
        lock.try_lock()?;
        write_durably(&new.join(JOB), &serde_json::to_vec(&job)?)?;
        fs::rename(&new, &folder)?;
        Ok(OwnedJob { job, root: self.root.clone(), _lock: lock })
    }

    /// Opens a file for a session's output, locked until it is closed.
    pub fn write_text(&self, id: &str) -> io::Result<File> {
        let folder = self.folder(id)?;
        let path = folder.join(TEXT);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        // A process that checks the lock may hold it for a moment.
        file.lock()?;
        users::give(&path)?;
        Ok(file)
    }

    /// Jobs whose processes are gone. The caller takes them over.
    pub fn left(&self, now: WallTime) -> io::Result<Vec<OwnedJob>> {
        let entries = match fs::read_dir(self.dir()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut left = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(NEW) {
                remove_half_made(&path, now);
                continue;
            }
            // A job that cannot be taken now can be taken later.
            match self.take(&path) {
                Ok(Some(job)) => left.push(job),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "cannot take up a log");
                }
            }
        }
        Ok(left)
    }

    fn take(&self, folder: &Path) -> io::Result<Option<OwnedJob>> {
        let lock = match File::open(folder.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            lock => lock?,
        };
        if !is_ours(&lock)? {
            return Ok(None);
        }
        let file = match File::open(folder.join(JOB)) {
            // Sent, and being removed right now, or a kill interrupted its removal.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(folder);
                return Ok(None);
            }
            file => file?,
        };
        let mut text = String::new();
        file.take(MAX_JOB).read_to_string(&mut text)?;
        let job = serde_json::from_str(&text)?;
        Ok(Some(OwnedJob { job, root: self.root.clone(), _lock: lock }))
    }
}

/// Tries to lock a file. Returns whether it is now ours.
fn is_ours(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open_lock(folder: &Path) -> io::Result<File> {
    let path = folder.join(LOCK);
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    users::give(&path)?;
    Ok(lock)
}

/// Removes the folder of a process that was killed before naming it.
fn remove_half_made(path: &Path, now: WallTime) {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let Ok(modified) = modified else { return };
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let since = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let left = i64::try_from(LEFT.as_micros()).unwrap_or(i64::MAX);
    if now.0.saturating_sub(since) > left {
        let _ = fs::remove_dir_all(path);
    }
}

impl OwnedJob {
    fn folder(&self) -> PathBuf {
        self.root.join("sessions-log").join(&self.job.id)
    }

    /// Stores the progress. After a power loss some output may be sent twice.
    pub fn save(&self, job: &SpoolJob) -> io::Result<()> {
        let path = self.folder().join(JOB);
        let new = self.folder().join(format!("{JOB}.new"));
        fs::write(&new, serde_json::to_vec(job)?)?;
        users::give(&new)?;
        fs::rename(&new, &path)
    }

    /// Removes a job that has arrived or been given up.
    pub fn remove(&self) -> io::Result<()> {
        // Remove the job first: without it nobody takes the folder over.
        fs::remove_file(self.folder().join(JOB))?;
        fs::remove_dir_all(self.folder())
    }

    /// Whether more may still be written.
    pub fn is_written_to(&self) -> io::Result<bool> {
        match File::open(self.root.join(&self.job.writer)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            file => match file?.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(error),
            },
        }
    }

    /// At most `most` bytes of a source from `from` on, and its time of last change. A missing
    /// source is empty.
    pub fn read(&self, source: usize, from: u64, most: usize) -> io::Result<(Vec<u8>, WallTime)> {
        let Some(mut file) = self.open(source)? else {
            return Ok((Vec::new(), self.job.made));
        };
        let modified = file.metadata()?.modified()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok((bytes, WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))))
    }

    /// Opens a source; `None` if it is missing.
    pub fn open(&self, source: usize) -> io::Result<Option<File>> {
        let Some(source) = self.job.sources.get(source) else { return Ok(None) };
        match File::open(self.root.join(&source.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn job(id: &str) -> SpoolJob {
        SpoolJob {
            id: id.to_owned(),
            of: JobOf::Session,
            to: Destinations::default(),
            context: EventContext::default(),
            user_id: String::new(),
            key_id: String::new(),
            identity: String::new(),
            sources: vec![SpoolSource::new(
                Spool::text_of(id),
                "p/x.log".to_owned(),
                id.to_owned(),
            )],
            writer: Spool::text_of(id),
            made: WallTime(1_000_000),
            problem: String::new(),
        }
    }

    #[test]
    fn a_job_is_of_one_process_until_that_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().join("home")).expect("a home");
        let spool = Spool::of(&home);
        assert!(spool.left(WallTime(0)).expect("read").is_empty());
        let owned = spool.begin(job("ann.x@y-1")).expect("begun");
        // The second attempt is an error, not a second owner.
        assert!(spool.begin(job("ann.x@y-1")).is_err());
        assert!(spool.left(WallTime(0)).expect("read").is_empty());
        assert_eq!(owned.read(0, 0, 9).expect("nothing yet").0, b"");
        assert!(!owned.is_written_to().expect("nobody"));
        let mut text = spool.write_text("ann.x@y-1").expect("a file");
        assert!(spool.write_text("ann.x@y-1").is_err());
        text.write_all(b"0123456789").expect("written");
        assert!(owned.is_written_to().expect("the build"));
        assert_eq!(owned.read(0, 2, 3).expect("read").0, b"234");
        drop(text);
        assert!(!owned.is_written_to().expect("nobody"));
        let mut further = owned.job.clone();
        further.sources[0].sent = 5;
        owned.save(&further).expect("saved");
        // As if its process were killed.
        drop(owned);
        let mut left = spool.left(WallTime(0)).expect("read");
        let owned = left.pop().expect("one");
        assert_eq!((owned.job.sources[0].sent, left.len()), (5, 0));
        assert!(spool.left(WallTime(0)).expect("read").is_empty());
        owned.remove().expect("removed");
        assert!(spool.left(WallTime(0)).expect("read").is_empty());
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool { root: dir.path().to_path_buf() };
        for id in ["", ".", "..", "../x", "a/b", "a\nb", "~new-x", ".hidden", &"x".repeat(129)] {
            assert!(spool.begin(job(id)).is_err(), "{id:?}");
            assert!(spool.write_text(id).is_err(), "{id:?}");
        }
    }
}
