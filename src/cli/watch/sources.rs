//! Watches sources with inotify: every directory except `.git` and those excluded by `.gitignore`,
//! and single files anywhere.
//!
//! Others may have shaped a source: links in it are not followed, and directories are watched by
//! descriptor.
#![deny(clippy::disallowed_methods)]

use super::super::error::CliError;
use runner_core::gitignore::Ignored;
use runner_host::beneath::{Dir, join};
use rustix::fs::FileType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Buffer for many events; any others are read right after.
const BUFFER: usize = 16 << 10;
/// Maximum bytes read of a `.gitignore`.
const MAX_BYTES: u64 = 1 << 20;
const GITIGNORE: &[u8] = b".gitignore";
/// Prefix of this program's temporary files.
const OWN: &[u8] = b".runner-";

/// What to watch. All paths are absolute and free of links.
#[derive(Debug, Default)]
pub(super) struct WatchedSources {
    pub(super) sources: Vec<PathBuf>,
    /// Watched whatever `.gitignore` says.
    pub(super) files: Vec<PathBuf>,
    /// Places that builds write to: changes there do not count.
    pub(super) left: Vec<PathBuf>,
}

/// The watched sources.
pub(super) struct Sources {
    notify: OwnedFd,
    wanted: WatchedSources,
    places: HashMap<i32, WatchedDirectory>,
}

/// A watched directory.
struct WatchedDirectory {
    path: Vec<u8>,
    /// Ignore rules for it; `None` if only single files matter.
    ignored: Option<Ignored>,
}

/// The changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    first: Option<PathBuf>,
    has_others: bool,
}

impl Changed {
    pub(super) fn is_none(&self) -> bool {
        self.first.is_none()
    }

    fn add(&mut self, path: PathBuf) {
        match &self.first {
            None => self.first = Some(path),
            Some(first) => self.has_others |= *first != path,
        }
    }

    pub(super) fn join(&mut self, more: Changed) {
        self.has_others |= more.has_others;
        if let Some(path) = more.first {
            self.add(path);
        }
    }

    /// A description of the changes.
    pub(super) fn shown(&self, source: &Path) -> String {
        let first = self.first.as_deref().unwrap_or(source);
        let first = first.strip_prefix(source).unwrap_or(first).display();
        match self.has_others {
            true => format!("{first} and others have changed"),
            false => format!("{first} has changed"),
        }
    }
}

impl AsFd for Sources {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

impl Sources {
    /// Starts watching.
    pub(super) fn of(wanted: WatchedSources) -> Result<Self, CliError> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let notify =
            inotify::init(flags).map_err(|errno| not_watched("the source", errno.into()))?;
        let mut sources = Sources { notify, wanted, places: HashMap::new() };
        sources.walk_all()?;
        Ok(sources)
    }

    /// Takes the changes so far.
    pub(super) fn take(&mut self) -> Result<Changed, CliError> {
        let (changed, has_moved) = self.read().map_err(|error| not_watched("the source", error))?;
        if has_moved {
            self.walk_all()?;
        }
        Ok(changed)
    }

    /// Watches all current directories and no others. A directory that is watched already keeps its
    /// watch, so that no event is lost; the number of watches per user is limited.
    fn walk_all(&mut self) -> Result<(), CliError> {
        let old = std::mem::take(&mut self.places);
        let wanted = std::mem::take(&mut self.wanted);
        let walked = self.walk_wanted(&wanted);
        self.wanted = wanted;
        for number in old.into_keys().filter(|number| !self.places.contains_key(number)) {
            // A removed directory has taken its watch with it.
            let _ = inotify::remove_watch(&self.notify, number);
        }
        walked
    }

    fn walk_wanted(&mut self, wanted: &WatchedSources) -> Result<(), CliError> {
        for file in &wanted.files {
            let dir = file.parent().unwrap_or(Path::new("/"));
            // If the source is inaccessible, the build itself reports it.
            let Ok(top) = Dir::real(dir) else { continue };
            self.add(&top, dir.as_os_str().as_bytes(), None)
                .map_err(|error| not_watched(&dir.display().to_string(), error))?;
        }
        for source in &wanted.sources {
            self.walk(source, wanted)
                .map_err(|error| not_watched(&source.display().to_string(), error))?;
        }
        Ok(())
    }

    /// Reads all pending events. Returns the changes, and whether the tree must be walked again.
    fn read(&self) -> io::Result<(Changed, bool)> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.notify, &mut buffer);
        let (mut changed, mut has_moved) = (Changed::default(), false);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok((changed, has_moved)),
                Err(errno) => return Err(errno.into()),
            };
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                has_moved = true;
                self.wanted.sources.iter().take(1).for_each(|source| changed.add(source.clone()));
            }
            let Some(place) = self.places.get(&event.wd()) else { continue };
            if kind.contains(ReadFlags::IGNORED) {
                has_moved = true;
                continue;
            }
            // An event without a name is about the directory itself, and its parent reports it.
            let Some(name) = event.file_name().map(CStr::to_bytes) else { continue };
            let path = join(&place.path, name);
            let is_directory = kind.contains(ReadFlags::ISDIR);
            if self.is_change(place, &path, name, kind) {
                has_moved |= is_directory || name == GITIGNORE;
                changed.add(Path::new(OsStr::from_bytes(&path)).to_path_buf());
            } else if is_directory && kind.contains(ReadFlags::CREATE) {
                // It may contain more than the builds' outputs.
                has_moved |= self.wanted.left.iter().any(|left| left.starts_with(path_of(&path)));
            }
        }
    }

    fn is_change(
        &self,
        place: &WatchedDirectory,
        path: &[u8],
        name: &[u8],
        kind: ReadFlags,
    ) -> bool {
        let is_directory = kind.contains(ReadFlags::ISDIR);
        let here = path_of(path);
        if self.wanted.files.iter().any(|file| file == here) {
            return true;
        }
        let Some(ignored) = &place.ignored else { return false };
        let is_made = kind.intersects(ReadFlags::CREATE | ReadFlags::ATTRIB);
        let is_left = |left: &PathBuf| {
            here.starts_with(left) || is_directory && is_made && left.starts_with(here)
        };
        !(is_left_out(name, is_directory)
            || self.wanted.left.iter().any(is_left)
            || ignored.has(path, is_directory))
    }

    /// Watches a source and all directories in it.
    fn walk(&mut self, source: &Path, wanted: &WatchedSources) -> io::Result<()> {
        let top = Dir::real(source)?;
        let path = source.as_os_str().as_bytes();
        let mut ahead = vec![(Vec::new(), above(source))];
        while let Some((inner, ignored)) = ahead.pop() {
            let here = match top.open(&inner) {
                Ok(here) => here,
                Err(error) if inner.is_empty() => return Err(error),
                // It was removed, or is not readable.
                Err(_) => continue,
            };
            let whole = if inner.is_empty() { path.to_vec() } else { join(path, &inner) };
            let ignored = read_ignored(&here, &whole, &ignored);
            if let Err(error) = self.add(&here, &whole, Some(ignored.clone())) {
                match Errno::from_io_error(&error) {
                    Some(Errno::ACCESS | Errno::NOENT) if !inner.is_empty() => continue,
                    _ => return Err(error),
                }
            }
            for entry in here.entries().unwrap_or_default() {
                let below = join(&whole, &entry.name);
                let is_left = |left: &PathBuf| path_of(&below).starts_with(left);
                if entry.kind == FileType::Directory
                    && !is_left_out(&entry.name, true)
                    && !wanted.left.iter().any(is_left)
                    && !ignored.has(&below, true)
                {
                    ahead.push((join(&inner, &entry.name), ignored.clone()));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, dir: &Dir, path: &[u8], ignored: Option<Ignored>) -> io::Result<()> {
        let flags = WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::MOVE;
        // Whatever the path leads to by now, this is the directory that was opened.
        let itself = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let number = inotify::add_watch(&self.notify, itself, flags | WatchFlags::ONLYDIR)?;
        let place = self.places.entry(number);
        let place =
            place.or_insert_with(|| WatchedDirectory { path: path.to_vec(), ignored: None });
        if ignored.is_some() {
            place.ignored = ignored;
        }
        Ok(())
    }
}

fn path_of(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Files that are not part of the source: git's own, this program's, and temporary files of
/// editors.
fn is_left_out(name: &[u8], is_directory: bool) -> bool {
    if is_directory {
        return name == b".git";
    }
    let is_swap = name.starts_with(b".")
        && [&b".swp"[..], b".swx", b".swo"].iter().any(|end| name.ends_with(end));
    let is_lock = name.starts_with(b".#");
    let is_saved = name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#");
    let is_probe = name == b"4913";
    name == b".git"
        || name.starts_with(OWN)
        || is_swap
        || is_lock
        || is_saved
        || is_probe
        || name.ends_with(b"~")
}

/// The ignore rules for a source from files above it in its repository.
fn above(source: &Path) -> Ignored {
    let is_top = |dir: &Path| {
        Dir::real(dir).and_then(|dir| dir.look(b".git")).is_ok_and(|git| git.is_some())
    };
    let Some(depth) = source.ancestors().position(is_top) else { return Ignored::default() };
    let mut dirs: Vec<&Path> = source.ancestors().take(depth + 1).skip(1).collect();
    dirs.reverse();
    dirs.into_iter().fold(Ignored::default(), |ignored, path| match Dir::real(path) {
        Ok(dir) => read_ignored(&dir, path.as_os_str().as_bytes(), &ignored),
        Err(_) => ignored,
    })
}

/// Adds the rules of the directory's own file, if it is a readable file.
fn read_ignored(dir: &Dir, path: &[u8], ignored: &Ignored) -> Ignored {
    dir.read_small(GITIGNORE, MAX_BYTES)
        .map_or_else(|_| ignored.clone(), |text| ignored.with(path, &text))
}

fn not_watched(what: &str, error: io::Error) -> CliError {
    let hint = match Errno::from_io_error(&error) {
        Some(Errno::NOSPC) => Some(
            "this user has no more watches: raise fs.inotify.max_user_watches with sysctl, or name big directories \
             in .gitignore",
        ),
        Some(Errno::MFILE) => Some(
            "this user watches too much at once: raise fs.inotify.max_user_instances with sysctl",
        ),
        _ => None,
    };
    CliError::ours(format!("cannot watch {what}: {error}")).hints(hint).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Changes a source with a shell. Returns the description of the changes.
    fn told(before: &str, left: &[&str], script: &str) -> Option<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let source = runner_host::beneath::real(dir.path()).expect("its path");
        let shell = |script: &str| {
            let mut shell = Command::new("sh");
            let status = shell.args(["-ec", script]).current_dir(&source).status();
            assert!(status.expect("a shell").success());
        };
        shell(before);
        let wanted = WatchedSources {
            sources: vec![source.join("src")],
            files: vec![source.join("src/buildspec.yml"), source.join("other.yml")],
            left: left.iter().map(|left| source.join(left)).collect(),
        };
        let mut sources = Sources::of(wanted).expect("watched");
        shell(script);
        let changed = sources.take().expect("read");
        (!changed.is_none()).then(|| changed.shown(&source.join("src")))
    }

    #[test]
    fn a_change_is_told_by_its_path() {
        let before = "mkdir -p src/a/b src/out src/.git; echo out/ > src/.gitignore; echo '*.o' > src/a/.gitignore";
        for (script, wanted) in [
            ("echo x > src/a/b/c", Some("a/b/c has changed")),
            ("chmod +x src/a/.gitignore", Some("a/.gitignore has changed")),
            ("mkdir src/new", Some("new has changed")),
            ("mv src/a src/c", Some("a and others have changed")),
            ("ln -s x src/link", Some("link has changed")),
            ("touch src/out/x src/.git/x src/a/b/x.o; cat src/a/.gitignore > /dev/null", None),
            ("touch src/.x.swp src/x~ 'src/#x#' src/4913 src/.runner-part-1-0", None),
            ("echo x > other.yml", None),
            ("touch another.yml", None),
            ("mkdir -p src/left/a; touch src/left/a/x src/report.json", None),
            ("mkdir src/deep; touch src/deep/x", Some("deep has changed")),
        ] {
            let told = told(before, &["src/left", "src/report.json", "src/deep/left"], script);
            let wanted = match script {
                // Outside the source, and watched all the same.
                "echo x > other.yml" => {
                    told.clone().filter(|told| told.ends_with("/other.yml has changed"))
                }
                // A place below it belongs to the builds.
                "mkdir src/deep; touch src/deep/x" => None,
                _ => wanted.map(str::to_owned),
            };
            assert_eq!(told, wanted, "{script}");
        }
    }

    #[test]
    fn directories_that_come_and_go_are_walked_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let source = runner_host::beneath::real(dir.path()).expect("its path");
        let wanted = WatchedSources { sources: vec![source.clone()], ..WatchedSources::default() };
        let mut sources = Sources::of(wanted).expect("watched");
        let mut told = |script: &str| {
            let mut shell = Command::new("sh");
            let status = shell.args(["-ec", script]).current_dir(&source).status();
            assert!(status.expect("a shell").success());
            let changed = sources.take().expect("read");
            (!changed.is_none()).then(|| changed.shown(&source))
        };
        assert_eq!(told("mkdir -p a/b").as_deref(), Some("a has changed"));
        assert_eq!(told("touch a/b/c").as_deref(), Some("a/b/c has changed"));
        assert_eq!(told("mv a d").as_deref(), Some("a and others have changed"));
        assert_eq!(told("touch d/b/c").as_deref(), Some("d/b/c has changed"));
        assert_eq!(told("echo d > .gitignore").as_deref(), Some(".gitignore has changed"));
        assert_eq!(told("touch d/b/c"), None);
        assert_eq!(told("rm .gitignore").as_deref(), Some(".gitignore has changed"));
        assert_eq!(told("touch d/b/c").as_deref(), Some("d/b/c has changed"));
    }

    #[test]
    fn the_repository_above_has_its_say() {
        let before = "mkdir -p .git src/node_modules/x src/a; echo node_modules > .gitignore";
        assert_eq!(told(before, &[], "touch src/node_modules/x/y"), None);
        assert_eq!(told(before, &[], "touch src/a/y").as_deref(), Some("a/y has changed"));
        // The rule matches the buildspec, too.
        let before = "mkdir src; echo '*.yml' > src/.gitignore";
        assert_eq!(told(before, &[], "touch src/x.yml"), None);
        let changed = told(before, &[], "touch src/buildspec.yml");
        assert_eq!(changed.as_deref(), Some("buildspec.yml has changed"));
    }

    #[test]
    fn a_second_walk_takes_no_second_watch() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = runner_host::beneath::real(dir.path()).expect("its path");
        let shell = |script: &str| {
            let mut shell = Command::new("sh");
            let output = shell.args(["-ec", script]).current_dir(&top).output().expect("a shell");
            assert!(output.status.success());
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        shell("mkdir -p source/a/b source/c");
        let wanted =
            WatchedSources { sources: vec![top.join("source")], ..WatchedSources::default() };
        let mut sources = Sources::of(wanted).expect("watched");
        let watches = |sources: &Sources| {
            let (own, number) = (std::process::id(), sources.notify.as_raw_fd());
            let facts = shell(&format!("cat /proc/{own}/fdinfo/{number}"));
            facts.lines().filter(|line| line.starts_with("inotify ")).count()
        };
        assert_eq!(watches(&sources), 4);
        let before: Vec<i32> = sources.places.keys().copied().collect();
        shell("mkdir source/d");
        assert!(!sources.take().expect("read").is_none());
        assert_eq!(watches(&sources), 5);
        assert!(before.iter().all(|number| sources.places.contains_key(number)));
        // A directory that was moved away is no longer watched.
        shell("mv source/a a");
        assert!(!sources.take().expect("read").is_none());
        assert_eq!(watches(&sources), 3);
        shell("echo x > a/b/x");
        assert!(sources.take().expect("read").is_none());
        assert_eq!(watches(&sources), 3);
    }
}
