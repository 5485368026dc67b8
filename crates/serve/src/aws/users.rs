//! The users of an endpoint, from a file that is reread after changes.
//!
//! The file is `$RUNNER_HOME/iam.json`, if it exists, or the one named by `--iam`. If it has
//! errors, all of them are reported and its last valid version stays in force. IAM's operations
//! change the first file; the second is only read.

use super::call::RefusedCall;
use super::iam::IamDocument;
use runner_core::iam::{Directory, DocumentProblem};
use runner_folder::state::Home;
use runner_host::private::write_durably;
use runner_host::stdio::say;
use runner_host::users::{caller, give, with_tilde};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Most bytes of a file of users.
const MAX_BYTES: u64 = 1 << 20;
/// The prefix of ids of ECS's sessions.
const ECS_SESSIONS: &str = "ecs-execute-command";
/// A file written this recently may be rewritten without a visible change of its stamp.
const SETTLED: Duration = Duration::from_secs(1);

/// Why users cannot be loaded.
#[derive(Debug)]
pub struct UsersError {
    path: PathBuf,
    why: UsersFileError,
}

#[derive(Debug)]
enum UsersFileError {
    Unreadable(io::Error),
    Unsafe(&'static str),
    Wrong(Vec<DocumentProblem>),
}

impl std::error::Error for UsersError {}

impl fmt::Display for UsersError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = with_tilde(&self.path);
        match &self.why {
            UsersFileError::Unreadable(error) => write!(formatter, "cannot read {path}: {error}"),
            UsersFileError::Unsafe(why) => write!(formatter, "cannot use {path}: {why}"),
            UsersFileError::Wrong(problems) => {
                let lines: Vec<String> =
                    problems.iter().map(|problem| format!("{path}:{problem}")).collect();
                formatter.write_str(&lines.join("\n"))
            }
        }
    }
}

/// The users and their file.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    /// Whether the file must exist.
    is_named: bool,
    known: Mutex<KnownUsers>,
}

#[derive(Debug, Default)]
struct KnownUsers {
    directory: Arc<Directory>,
    /// The stamp of the file as last read; `None` if it must be read again.
    from: Option<UsersFileStamp>,
    /// The errors last reported for the file.
    said: Option<String>,
}

/// Identifies a version of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UsersFileStamp {
    Missing,
    File { place: (u64, u64), len: u64, changed: (i64, i64), modified: (i64, i64) },
}

/// The machine's owner: the user name, and its form in ids of sessions.
pub(super) fn owner() -> (String, String) {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let name = user.map_or_else(|| "unknown".to_owned(), |user| user.name);
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    // Ids are parts of paths.
    let plain = name.chars().filter(is_plain).take(40).collect();
    (name, plain)
}

impl Users {
    /// Opens the named file, or the one in the state folder, which may be missing.
    ///
    /// # Errors
    /// If the file cannot be used or has errors; lists all errors.
    pub fn open(home: &Home, named: Option<&Path>) -> Result<Self, UsersError> {
        let path = named.map_or_else(|| home.root().join("iam.json"), Path::to_path_buf);
        let users = Users { path, is_named: named.is_some(), known: Mutex::default() };
        let (directory, from) = users.read()?;
        *users.lock() = KnownUsers { directory: Arc::new(directory), from, said: None };
        Ok(users)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, KnownUsers> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The users in the file now. An invalid file changes nothing.
    pub(super) fn current(&self) -> Arc<Directory> {
        let mut known = self.lock();
        if known.from.is_none() || self.stamp().ok() != known.from {
            match self.read() {
                Ok((directory, from)) => {
                    *known = KnownUsers { directory: Arc::new(directory), from, said: None };
                }
                Err(error) => {
                    let text = error.to_string();
                    if known.said.as_ref() != Some(&text) {
                        say("error: the users stay as they were:");
                        text.lines().for_each(|line| say(&format!("error: {line}")));
                        known.said = Some(text);
                    }
                    // A file that is only half written looks invalid as well, so it is read again.
                    known.from = None;
                }
            }
        }
        Arc::clone(&known.directory)
    }

    /// The current file, for reading or changing.
    pub(super) fn document(&self) -> Result<IamDocument, RefusedCall> {
        let broken = |error: String| RefusedCall::new("ServiceFailure", error).with_status(500);
        let text = match self.opened().map_err(|error| broken(error.to_string()))? {
            Some((_, text)) => text,
            None => r#"{"users": []}"#.to_owned(),
        };
        self.parsed(&text).map_err(|error| broken(error.to_string()))?;
        IamDocument::read(&text).map_err(|error| broken(error.to_string()))
    }

    /// Changes the file in the state folder and creates it if missing. A change that would make it
    /// invalid is refused and has no effect.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut IamDocument) -> Result<T, RefusedCall>,
    ) -> Result<T, RefusedCall> {
        let path = with_tilde(&self.path);
        if self.is_named {
            let text = format!(
                "the users of this endpoint stand in {path}, which --iam has named: change that file"
            );
            return Err(RefusedCall::new("UnmodifiableEntity", text));
        }
        let failed = |error: io::Error| {
            let text = format!("cannot change {path}: {error}");
            RefusedCall::new("ServiceFailure", text).with_status(500)
        };
        // One change at a time, across processes.
        let _changing = self.locked().map_err(failed)?;
        let mut document = self.document()?;
        let done = change(&mut document)?;
        let text = document.text();
        if text.len() as u64 > MAX_BYTES {
            let text = format!("{path} would be longer than 1 MiB");
            return Err(RefusedCall::new("LimitExceeded", text).with_status(409));
        }
        self.parsed(&text).map_err(|error| match error.why {
            UsersFileError::Wrong(problems) => {
                let texts = problems.iter().map(|problem| problem.text.as_str());
                RefusedCall::new("InvalidInput", texts.collect::<Vec<_>>().join("; "))
            }
            _ => RefusedCall::new("InvalidInput", error.to_string()),
        })?;
        write_durably(&self.path, text.as_bytes()).map_err(failed)?;
        give(&self.path).map_err(failed)?;
        // The new stamp may equal the old one.
        self.lock().from = None;
        Ok(done)
    }

    fn locked(&self) -> io::Result<File> {
        let path = self.path.with_extension("lock");
        let flags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(&path)?;
        give(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn stamp(&self) -> io::Result<UsersFileStamp> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(stamp(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(UsersFileStamp::Missing),
            Err(error) => Err(error),
        }
    }

    fn read(&self) -> Result<(Directory, Option<UsersFileStamp>), UsersError> {
        let Some((metadata, text)) = self.opened()? else {
            return Ok((Directory::default(), Some(UsersFileStamp::Missing)));
        };
        let directory = self.parsed(&text)?;
        let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let is_settled = age.is_some_and(|age| age > SETTLED);
        Ok((directory, is_settled.then(|| stamp(&metadata))))
    }

    /// The file and its text; `None` if it is missing and need not exist.
    fn opened(&self) -> Result<Option<(Metadata, String)>, UsersError> {
        let unreadable = |error| self.failed(UsersFileError::Unreadable(error));
        // Opening a FIFO must not block.
        let flags = OFlags::NONBLOCK.union(OFlags::CLOEXEC).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_named => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = file.metadata().map_err(unreadable)?;
        safe(&metadata).map_err(|why| self.failed(UsersFileError::Unsafe(why)))?;
        let text = text(&file).map_err(unreadable)?;
        Ok(Some((metadata, text)))
    }

    fn parsed(&self, text: &str) -> Result<Directory, UsersError> {
        let (name, plain) = owner();
        Directory::parse(text, &[&name, &plain, ECS_SESSIONS])
            .map_err(|problems| self.failed(UsersFileError::Wrong(problems)))
    }

    fn failed(&self, why: UsersFileError) -> UsersError {
        UsersError { path: self.path.clone(), why }
    }
}

fn stamp(metadata: &Metadata) -> UsersFileStamp {
    UsersFileStamp::File {
        place: (metadata.dev(), metadata.ino()),
        len: metadata.len(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

/// Checks that only this user can have written the file and can read its secrets.
fn safe(metadata: &Metadata) -> Result<(), &'static str> {
    let owners =
        [Some(nix::unistd::geteuid().as_raw()), Some(0), caller().map(|caller| caller.uid)];
    if !metadata.is_file() {
        return Err("it is not a regular file");
    }
    if !owners.contains(&Some(metadata.uid())) {
        return Err("it belongs to another user");
    }
    if metadata.mode() & 0o077 != 0 {
        return Err("it contains secrets and others may use it: chmod 600");
    }
    Ok(())
}

fn text(file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other("it is longer than 1 MiB")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(path: &Path, name: &str, mode: u32) {
        let text = format!(r#"{{"users": [{{"name": "{name}"}}]}}"#);
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
    }

    fn names(users: &Users) -> Vec<String> {
        users.current().names().map(str::to_owned).collect()
    }

    #[test]
    fn the_file_is_read_again_and_one_that_is_wrong_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let path = dir.path().join("iam.json");
        let users = Users::open(&home, None).expect("none");
        assert!(names(&users).is_empty());
        write(&path, "eve", 0o600);
        assert_eq!(names(&users), ["eve"]);
        write(&path, "bob", 0o600);
        assert_eq!(names(&users), ["bob"]);
        for (name, mode) in [("eve", 0o640), ("e/e", 0o600), ("eve\"", 0o600)] {
            write(&path, name, mode);
            assert_eq!(names(&users), ["bob"], "{name}");
        }
        let error = Users::open(&home, None).expect_err("no JSON").to_string();
        assert!(error.contains("iam.json:1:") && error.contains("this is not JSON"), "{error}");
        write(&path, "eve", 0o600);
        assert_eq!(names(&users), ["eve"]);
        // Without the default file there are no users; a named file must exist.
        std::fs::remove_file(&path).expect("removed");
        assert!(names(&users).is_empty());
        assert!(Users::open(&home, Some(&path)).is_err());
        write(&path, "eve", 0o600);
        let named = Users::open(&home, Some(&path)).expect("a file");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(names(&named), ["eve"]);
    }

    #[test]
    fn changes_keep_the_rest_and_make_nothing_wrong() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let path = dir.path().join("iam.json");
        let users = Users::open(&home, None).expect("none");
        let add = |users: &Users, name: &str| {
            users.change(|document| document.add("users", name).map(|_| ()))
        };
        add(&users, "ann").expect("added");
        assert_eq!(names(&users), ["ann"]);
        assert_eq!(std::fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        // Names that the file rejects.
        let before = std::fs::read_to_string(&path).expect("a file");
        for (name, code) in
            [("Ann", "EntityAlreadyExists"), ("ann-b", "InvalidInput"), ("a/b", "InvalidInput")]
        {
            assert_eq!(add(&users, name).expect_err(name).code, code, "{name}");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), before);
        // Concurrent changes from several endpoints.
        std::thread::scope(|scope| {
            for number in 0..4 {
                let home = home.clone();
                scope.spawn(move || {
                    let users = Users::open(&home, None).expect("users");
                    for user in 0..5 {
                        add(&users, &format!("u{number}x{user}")).expect("added");
                    }
                });
            }
        });
        assert_eq!(names(&users).len(), 21);
        // An invalid file is not changed, and a named file is read only.
        std::fs::write(&path, "{").expect("written");
        assert_eq!(add(&users, "eve").expect_err("wrong").code, "ServiceFailure");
        write(&path, "eve", 0o600);
        let named = Users::open(&home, Some(&path)).expect("a file");
        assert_eq!(add(&named, "bob").expect_err("named").code, "UnmodifiableEntity");
    }

    #[test]
    fn what_cannot_be_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let path = dir.path().join("users");
        let refused = |wanted: &str| {
            let error = Users::open(&home, Some(&path)).expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        };
        refused("No such file");
        std::fs::create_dir(&path).expect("made");
        refused("not a regular file");
        std::fs::remove_dir(&path).expect("removed");
        write(&path, "eve", 0o604);
        refused("chmod 600");
        std::fs::write(&path, vec![b' '; 2 << 20]).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a mode");
        refused("longer than 1 MiB");
    }
}
