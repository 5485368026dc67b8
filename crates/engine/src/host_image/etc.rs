//! /etc of the image `host`: a copy of this machine's, without its secrets.
//!
//! ```text
//! etc/
//!   lock                   held while copies are made or removed
//!   UID-FINGERPRINT/tree   the files that builds see; complete whenever it has this name
//!                   lock   held shared by each build that uses it
//!   .new-*                 being made, or left by a killed runner
//! ```
//!
//! A copy, because secrets can be hidden only once they exist: a live layer would show any file
//! that appears later, even private ones (adr/0076). All builds that find the same state of /etc
//! share one copy. Used by the engine; `shown` and `copy` decide what is in a copy.

use super::copy::HostImageCopy;
use super::shown::{ShownAs, walk};
use runner_host::private::{make_private, remove_tree};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A copy that cannot be removed while this value lives.
#[derive(Debug)]
pub struct EtcCopy {
    pub(super) tree: PathBuf,
    _lock: File,
}

/// The copies in a state folder.
#[derive(Clone, Debug)]
pub struct EtcCopies {
    /// The folder `etc` of the state folder.
    dir: PathBuf,
    /// The state folder, in case it is in /etc itself.
    home: PathBuf,
}

impl EtcCopies {
    /// The copies in the state folder `home`.
    pub fn new(home: &Path) -> Self {
        EtcCopies { dir: home.join("etc"), home: home.to_path_buf() }
    }

    /// A copy of the current /etc. Makes one if there is none.
    pub fn current(&self) -> io::Result<EtcCopy> {
        self.of(Path::new("/etc"))
    }

    fn of(&self, etc: &Path) -> io::Result<EtcCopy> {
        let uid = nix::unistd::geteuid();
        let name = |print: &str| format!("{uid}-{print}");
        let found = name(&walk(etc, &self.home, |_, _, _| Ok(()))?);
        if let Some(copy) = self.enter(&found)? {
            return Ok(copy);
        }
        make_private(&self.dir)?;
        let only_one = open_lock(&self.dir.join("lock"))?;
        only_one.lock()?;
        // Another runner may have made it meanwhile.
        if let Some(copy) = self.enter(&found)? {
            return Ok(copy);
        }
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.dir)?;
        open_lock(&new.path().join("lock"))?;
        let mut copy = HostImageCopy::new(etc, new.path().join("tree"), uid.is_root())?;
        // Named by what this pass saw: if a file changes between check and read, /etc never gets
        // that name again.
        let made = name(&walk(etc, &self.home, |path, metadata, shown| match shown {
            ShownAs::Not => Ok(()),
            shown => copy.add(path, metadata, shown),
        })?);
        copy.finish()?;
        match rustix::fs::rename(new.path(), self.dir.join(&made)) {
            Ok(()) => drop(new.keep()),
            // /etc has gone back to an earlier state.
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(errno.into()),
        }
        let copy = self.enter(&made)?.ok_or(io::ErrorKind::NotFound)?;
        self.sweep(&name(""), &made);
        Ok(copy)
    }

    /// An existing copy, locked for use.
    fn enter(&self, name: &str) -> io::Result<Option<EtcCopy>> {
        let dir = self.dir.join(name);
        let path = dir.join("lock");
        loop {
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            lock.lock_shared()?;
            // Removal begins with a rename: check that the path still leads to the locked file.
            match fs::metadata(&path) {
                Ok(now) if now.ino() == lock.metadata()?.ino() => {
                    return Ok(Some(EtcCopy { tree: dir.join("tree"), _lock: lock }));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Removes this user's other copies if unused, and unfinished ones. A copy that cannot be
    /// removed is left for the next sweep.
    fn sweep(&self, mine: &str, current: &str) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_old = name.starts_with(mine) && name != current;
            if is_old || name.starts_with(".new-") {
                let removed = if is_old { self.remove(&name) } else { remove_tree(&entry.path()) };
                if let Err(error) = removed {
                    tracing::debug!(name, %error, "a copy of /etc is left");
                }
            }
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (path, gone) = (self.dir.join(name), self.dir.join(format!(".new-{name}")));
        let lock = File::open(path.join("lock"))?;
        lock.try_lock()?;
        fs::rename(path, &gone)?;
        remove_tree(&gone)
    }
}

/// Opens a lock file. Creates it if missing.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    runner_host::users::give(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("listed");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("listed").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_copy_has_what_everybody_may_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let etc = dir.path().join("etc");
        for sub in ["apt/auth.conf.d", "ssl/private", "closed"] {
            fs::create_dir_all(etc.join(sub)).expect("made");
        }
        for (name, mode) in [
            ("passwd", 0o644),
            ("shadow", 0o640),
            ("apt/auth.conf.d/mine.conf", 0o600),
            ("ssl/private/x.pem", 0o644),
            ("closed/note", 0o644),
            ("site.key", 0o644),
            ("run.sh", 0o755),
        ] {
            fs::write(etc.join(name), name).expect("written");
            chmod(&etc.join(name), mode);
        }
        chmod(&etc.join("closed"), 0o700);
        symlink("../run/here", etc.join("link")).expect("made");
        nix::unistd::mkfifo(&etc.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");

        let copies = EtcCopies::new(&dir.path().join("state"));
        let copy = copies.of(&etc).expect("copied");
        let tree = &copy.tree;
        assert_eq!(names(tree), ["apt", "closed", "link", "passwd", "run.sh", "ssl"]);
        assert_eq!(names(&tree.join("apt/auth.conf.d")), [""; 0]);
        assert_eq!(names(&tree.join("ssl/private")), [""; 0]);
        assert_eq!(names(&tree.join("closed")), [""; 0]);
        assert_eq!(fs::read_link(tree.join("link")).expect("a link"), Path::new("../run/here"));
        let (old, new) = (etc.join("run.sh"), tree.join("run.sh"));
        let (old, new) = (fs::metadata(old).expect("there"), fs::metadata(new).expect("there"));
        assert_eq!((old.mode(), old.mtime()), (new.mode(), new.mtime()));
        let mode = fs::metadata(tree.join("closed")).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn one_copy_for_each_state_as_long_as_it_is_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let (etc, place) = (dir.path().join("etc"), dir.path().join("state/etc"));
        fs::create_dir(&etc).expect("made");
        fs::write(etc.join("one"), "1").expect("written");
        let copies = EtcCopies::new(&dir.path().join("state"));
        let first = copies.of(&etc).expect("copied");
        let again = copies.of(&etc).expect("found");
        assert_eq!(first.tree, again.tree);
        // The leftovers of a killed runner.
        fs::create_dir_all(place.join(".new-x/tree")).expect("made");
        fs::write(etc.join("two"), "2").expect("written");
        let second = copies.of(&etc).expect("copied");
        assert_eq!(names(&second.tree), ["one", "two"]);
        // The first copy is in use.
        assert_eq!(names(&first.tree), ["one"]);
        assert_eq!(names(&place).len(), 3, "{:?}", names(&place));
        drop((first, again));
        fs::remove_file(etc.join("one")).expect("removed");
        let third = copies.of(&etc).expect("copied");
        assert_eq!(names(&third.tree), ["two"]);
        // The lock, the second copy and the third.
        assert_eq!(names(&place).len(), 3, "{:?}", names(&place));
        assert_eq!(names(&second.tree), ["one", "two"]);
    }

    #[test]
    fn runners_at_once_make_one_copy() {
        let dir = tempfile::tempdir().expect("a directory");
        let (etc, place) = (dir.path().join("etc"), dir.path().join("state/etc"));
        fs::create_dir(&etc).expect("made");
        for number in 0..50 {
            fs::write(etc.join(number.to_string()), "x").expect("written");
        }
        let copies = EtcCopies::new(&dir.path().join("state"));
        let made: Vec<EtcCopy> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| copies.of(&etc))).collect();
            threads.into_iter().map(|it| it.join().expect("ran").expect("copied")).collect()
        });
        assert!(made.iter().all(|copy| copy.tree == made[0].tree));
        assert_eq!(names(&place).len(), 2, "{:?}", names(&place));
        assert_eq!(names(&made[0].tree).len(), 50);
    }
}
