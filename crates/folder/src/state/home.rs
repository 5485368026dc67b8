//! The state folder: its place and its contents.
//!
//! ```text
//! builds/<uuid>/     one folder a build (`build_dir`)
//! live/<uuid>        a name for each build that may still run, so that looking for those does not
//!                    cost more with every build of the past
//! batches/<uuid>/    one folder a batch (`batch_dir`)
//! live-batches/<uuid>  the same as live/, for them
//! counters/<project> number of the project's last build
//! batch-counters/<project>  number of its last batch
//! caches             folders of caches that builds have used, each ended by NUL
//! images/            unpacked root file systems
//! ended              what the folder of each build takes that has ended (`retention`)
//! documents/<name>/  one folder a document of sessions or commands (`documents`)
//! sessions-log/<id>/  output on its way to AWS (`spool`)
//! signing-key        by which caches are known that this user's runner has made (`signing_key`)
//! ```
//!
//! Everything in it is private to the caller: folders have mode 0700.

use runner_host::private::make_private;
use runner_host::runtime::limit_hint;
use runner_host::users;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct StateError {
    pub doing: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl StateError {
    pub fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        StateError { doing, path: path.to_path_buf(), source }
    }

    /// How to fix it.
    pub fn hint(&self) -> &'static str {
        if let Some(foreign) = self.source.get_ref().and_then(|why| why.downcast_ref::<Foreign>()) {
            return foreign.hint();
        }
        if let Some(hint) = limit_hint(&self.source) {
            return hint;
        }
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space, or set RUNNER_HOME to a directory on another disk"
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                "set RUNNER_HOME to a directory you can write to"
            }
            _ => "set RUNNER_HOME to another directory",
        }
    }
}

/// Why a folder is not safely ours: others own it or may write to it.
#[derive(Debug, thiserror::Error)]
enum Foreign {
    #[error("it belongs to {}", shown(*.0))]
    Owner(u32),
    #[error("others may write to it (mode {:04o})", .0)]
    Open(u32),
    #[error("it is not a directory")]
    NoDirectory,
}

impl Foreign {
    fn hint(&self) -> &'static str {
        match self {
            Foreign::Owner(_) => {
                "builds of another user are not touched: run as that user, or set RUNNER_HOME to a \
                 directory of your own"
            }
            Foreign::Open(_) => "check its contents, and close it: chmod go-w",
            Foreign::NoDirectory => "move it away, or set RUNNER_HOME to another directory",
        }
    }
}

fn shown(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("user {} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

/// Checks that the caller owns a folder. A stranger's link would lead where the stranger wants.
fn check_owner(metadata: &Metadata) -> io::Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    let is_ours = |uid| uid == me || users::caller().is_some_and(|caller| caller.uid == uid);
    if !is_ours(metadata.uid()) {
        return Err(foreign(Foreign::Owner(metadata.uid())));
    }
    if metadata.is_dir() { Ok(()) } else { Err(foreign(Foreign::NoDirectory)) }
}

fn foreign(why: Foreign) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Checks the top folder, which the caller may also use for other things: nobody else may replace
/// its contents. The caller's own group is allowed.
fn check_top(top: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(top)?;
    check_owner(&metadata)?;
    let own_group = [Some(nix::unistd::getegid().as_raw()), users::caller().map(|c| c.gid)];
    let others = if own_group.contains(&Some(metadata.gid())) { 0o002 } else { 0o022 };
    match metadata.mode() & others {
        0 => Ok(()),
        _ => Err(foreign(Foreign::Open(metadata.mode() & 0o7777))),
    }
}

/// Checks one of our folders in it, and closes it to others again if it has been opened.
fn check_own(dir: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(dir)?;
    check_owner(&metadata)?;
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The state folder.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// `$RUNNER_HOME`, else `$XDG_STATE_HOME/runner`, else `~/.local/state/runner`. Creates it if
    /// missing.
    pub fn open() -> Result<Self, StateError> {
        Self::at(Self::locate())
    }

    /// The state folder at this place. Creates it if missing.
    pub fn at(root: PathBuf) -> Result<Self, StateError> {
        let home = Home { root };
        make_private(&home.root).map_err(|error| StateError::new("make", &home.root, error))?;
        check_top(&home.root).map_err(|error| StateError::new("use", &home.root, error))?;
        for dir in [home.builds(), home.live(), home.counters(), home.images()] {
            make_private(&dir).map_err(|error| StateError::new("make", &dir, error))?;
            check_own(&dir).map_err(|error| StateError::new("use", &dir, error))?;
        }
        Ok(home)
    }

    fn locate() -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home_of = |uid: u32| nix::unistd::User::from_uid(uid.into()).ok().flatten();
        if let Some(home) = set("RUNNER_HOME") {
            return std::path::absolute(&home).unwrap_or_else(|_| home.into());
        }
        // Under sudo, use the caller's own home, whatever sudo made of HOME: without sudo they look
        // there.
        if let Some(user) = users::caller().and_then(|caller| home_of(caller.uid)) {
            return user.dir.join(".local/state/runner");
        }
        // The XDG specification says to ignore relative values.
        if let Some(state) = set("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()) {
            return state.join("runner");
        }
        let user_home = set("HOME")
            .map(PathBuf::from)
            .or_else(|| home_of(nix::unistd::geteuid().as_raw()).map(|user| user.dir));
        user_home.unwrap_or_else(|| PathBuf::from("/root")).join(".local/state/runner")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    pub fn live(&self) -> PathBuf {
        self.root.join("live")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Existing cache folders that builds have used.
    pub fn cache_folders(&self) -> Vec<PathBuf> {
        self.noted("caches").into_iter().filter(|path| path.is_dir()).collect()
    }

    /// Records a cache folder.
    pub fn note_cache_folder(&self, folder: &Path) -> io::Result<()> {
        if self.cache_folders().iter().any(|known| known == folder) {
            return Ok(());
        }
        self.note("caches", folder)
    }

    /// Places that builds created because a project file named them.
    pub fn places(&self) -> HashSet<PathBuf> {
        self.noted("places").into_iter().collect()
    }

    /// Records a place that a build is about to create.
    pub fn note_place(&self, place: &Path) -> io::Result<()> {
        self.note("places", place)
    }

    fn noted(&self, list: &str) -> Vec<PathBuf> {
        let list = std::fs::read(self.root.join(list)).unwrap_or_default();
        let lines = list.split(|&byte| byte == b'\0').filter(|line| !line.is_empty());
        lines.map(|line| PathBuf::from(OsStr::from_bytes(line))).collect()
    }

    fn note(&self, list: &str, what: &Path) -> io::Result<()> {
        let path = self.root.join(list);
        let mut list = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        users::give(&path)?;
        list.write_all(&[what.as_os_str().as_bytes(), b"\0"].concat())
    }

    fn counters(&self) -> PathBuf {
        self.root.join("counters")
    }

    /// A project's next build number; starts at 1.
    pub fn next_number(&self, project: &str) -> Result<u64, StateError> {
        count_in(&self.counters(), project)
    }

    /// A project's next batch number; starts at 1.
    pub fn next_batch_number(&self, project: &str) -> Result<u64, StateError> {
        let counters = self.root.join("batch-counters");
        make_private(&counters).map_err(|error| StateError::new("make", &counters, error))?;
        count_in(&counters, project)
    }
}

fn count_in(counters: &Path, project: &str) -> Result<u64, StateError> {
    let path = counters.join(project);
    let count = || -> io::Result<u64> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        users::give(&path)?;
        // Two builds of one project may start at once.
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let number = text.trim().parse::<u64>().unwrap_or(0) + 1;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(format!("{number}\n").as_bytes())?;
        Ok(number)
    };
    count().map_err(|error| StateError::new("count a build in", &path, error))
}
