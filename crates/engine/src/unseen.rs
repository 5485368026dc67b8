//! Finds the places where the state folder is visible on this machine, so that it can be hidden
//! from builds.
//!
//! It holds the endpoint's keys, the output of every build, and the layers of running ones. One
//! directory can be visible in many places: through a link, or because its file system or a
//! directory above it is mounted again. Used by every engine that shows or copies directories of
//! this machine.

use runner_sandbox::unescape;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All places of the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen(Vec<PathBuf>);

impl Unseen {
    /// The places of the folder `home`, which must exist.
    pub fn of(home: &Path) -> Self {
        let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_path_buf());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let id = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
        let mut places = vec![home.clone()];
        for FolderView { path, part } in elsewhere(&table, &home) {
            // Another file system may be mounted over it.
            if id(&path).is_some_and(|found| id(&joined(&home, &part)) == Some(found)) {
                places.push(path);
            }
        }
        Unseen(places)
    }

    /// Whether `path`, which has no links, is one of these places.
    pub fn is(&self, path: &Path) -> bool {
        self.0.iter().any(|place| place == path)
    }

    /// The places below a directory, as non-empty paths relative to it.
    pub fn below(&self, dir: &Path) -> impl Iterator<Item = &Path> {
        let below = self.0.iter().filter_map(move |place| place.strip_prefix(dir).ok());
        below.filter(|path| *path != Path::new(""))
    }
}

/// A place where the folder or a part of it is visible.
#[derive(Debug, PartialEq, Eq)]
struct FolderView {
    path: PathBuf,
    part: PathBuf,
}

/// Other places where a mount table shows the folder `home`.
fn elsewhere(table: &str, home: &Path) -> Vec<FolderView> {
    let mounts: Vec<MountLine> = table.lines().filter_map(MountLine::parse).collect();
    // Of several mounts at one point the last one is visible; this finds it.
    let holding = mounts.iter().filter(|mount| home.starts_with(&mount.point));
    let Some(own) = holding.max_by_key(|mount| mount.point.components().count()) else {
        return Vec::new();
    };
    let Ok(below) = home.strip_prefix(&own.point) else { return Vec::new() };
    let folder = joined(&own.root, below);
    let is_same = |mount: &&MountLine| mount.device == own.device;
    let seen = mounts.iter().filter(is_same).filter_map(|mount| {
        if let Ok(rest) = folder.strip_prefix(&mount.root) {
            return Some(FolderView { path: joined(&mount.point, rest), part: PathBuf::new() });
        }
        let part = mount.root.strip_prefix(&folder).ok()?.to_path_buf();
        Some(FolderView { path: mount.point.clone(), part })
    });
    seen.filter(|place| place.path != home).collect()
}

/// `join` without a trailing slash if `rest` is empty.
fn joined(path: &Path, rest: &Path) -> PathBuf {
    if rest == Path::new("") { path.to_path_buf() } else { path.join(rest) }
}

/// A line of /proc/self/mountinfo.
struct MountLine {
    device: String,
    /// The directory of its file system that is mounted.
    root: PathBuf,
    /// The mount point.
    point: PathBuf,
}

impl MountLine {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?.to_owned();
        let mut path = || fields.next().map(unescape);
        Some(MountLine { device, root: path()?, point: path()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        27 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 27 254:1 / /home rw - ext4 /dev/vdb rw\n\
        31 27 254:1 /u /srv/of\\040u rw - ext4 /dev/vdb rw\n\
        32 27 254:1 /other /mnt rw - ext4 /dev/vdb rw\n\
        33 27 254:1 /u/state/builds /opt/builds rw - ext4 /dev/vdb rw\n\
        34 27 254:0 /home /var/lower rw - ext4 /dev/vda rw\n";

    #[test]
    fn a_folder_is_found_wherever_it_is_mounted() {
        let places: Vec<(String, String)> = elsewhere(TABLE, Path::new("/home/u/state"))
            .into_iter()
            .map(|FolderView { path, part }| {
                (path.display().to_string(), part.display().to_string())
            })
            .collect();
        let wanted = [("/srv/of u/state", ""), ("/opt/builds", "builds")];
        assert_eq!(places, wanted.map(|(path, part)| (path.to_owned(), part.to_owned())));
        assert_eq!(elsewhere("", Path::new("/home/u")), []);
    }

    #[test]
    fn what_is_below_a_directory_is_told_relative_to_it() {
        let unseen = Unseen(vec!["/home/u/state".into(), "/srv/state".into()]);
        let below = |dir| unseen.below(Path::new(dir)).collect::<Vec<_>>();
        assert_eq!(below("/home"), [Path::new("u/state")]);
        assert_eq!(below("/"), [Path::new("home/u/state"), Path::new("srv/state")]);
        assert!(below("/srv/state").is_empty());
        assert!(below("/home/u/stat").is_empty());
        assert!(unseen.is(Path::new("/srv/state")) && !unseen.is(Path::new("/srv")));
    }
}
