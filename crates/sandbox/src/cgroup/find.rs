//! Finds this process's place in the control group hierarchies. Pure: parses two of the kernel's
//! texts.
//!
//! Used by `group`. Version 1 has a hierarchy for each controller or a few of them, version 2 a
//! single one. A hybrid machine has both, with each controller in only one of them.
#![forbid(unsafe_code)]

use crate::mounts::unescape;
use std::path::{Component, Path, PathBuf};

/// The version of a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Its controllers and name as the kernel writes them: `cpu`, `name=systemd`. Empty for version
    /// 2, where every group lists its own.
    pub(crate) options: Vec<String>,
    /// Its mount point.
    pub(crate) mount: PathBuf,
    /// The directory of this process's own group.
    pub(crate) own: PathBuf,
}

/// The hierarchies whose mount shows this process's own group. The arguments are the texts of
/// `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(crate) fn hierarchies(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts(mountinfo) {
        let Some(path) = path_in(cgroup, &mount) else { continue };
        // A mount may show only a part of the hierarchy, for example a container's.
        let Some(below) = below(&mount.root, path) else { continue };
        let own =
            if below == Path::new("") { mount.point.clone() } else { mount.point.join(below) };
        let is_known = found
            .iter()
            .any(|other| other.version == mount.version && other.options == mount.options);
        if !is_known {
            let HierarchyMount { version, options, point, .. } = mount;
            found.push(Hierarchy { version, options, mount: point, own });
        }
    }
    found
}

/// The mounts of hierarchies.
pub(crate) fn mounts(mountinfo: &str) -> impl Iterator<Item = HierarchyMount> {
    mountinfo.lines().filter_map(HierarchyMount::parse)
}

/// A mount of a hierarchy.
pub(crate) struct HierarchyMount {
    pub(crate) version: Version,
    /// As [`Hierarchy::options`].
    pub(crate) options: Vec<String>,
    /// The group at the mount's root.
    root: PathBuf,
    pub(crate) point: PathBuf,
}

impl HierarchyMount {
    /// Parses a line such as `35 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`.
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescape(place.next()?), unescape(place.next()?));
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = match version {
            Version::One => controllers_of(kind.nth(1)?),
            Version::Two => Vec::new(),
        };
        Some(HierarchyMount { version, options, root, point })
    }
}

/// The mount options that name the hierarchy.
fn controllers_of(options: &str) -> Vec<String> {
    const OTHERS: [&str; 6] =
        ["rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods"];
    let is_other = |option: &str| OTHERS.contains(&option) || option.starts_with("release_agent=");
    options.split(',').filter(|option| !is_other(option)).map(str::to_owned).collect()
}

/// This process's group in the hierarchy of a mount, from a line such as `4:memory:/build` or, for
/// version 2, `0::/build`.
fn path_in<'a>(cgroup: &'a str, mount: &HierarchyMount) -> Option<&'a Path> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let is_it = match mount.version {
            Version::One => {
                let mut names = names.split(',');
                mount.options.first().is_some_and(|wanted| names.any(|name| name == wanted))
            }
            Version::Two => names.is_empty(),
        };
        is_it.then_some(Path::new(path))
    })
}

/// A group relative to a mount's root, if the mount shows it.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(root).ok()?;
    // The kernel writes `..` for groups above the root of this cgroup namespace.
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| below.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(mountinfo: &str, cgroup: &str) -> Vec<(Version, String, String)> {
        hierarchies(mountinfo, cgroup)
            .into_iter()
            .map(|found| (found.version, found.options.join(","), found.own.display().to_string()))
            .collect()
    }

    #[test]
    fn a_machine_of_version_1() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
                      31 30 0:27 / /sys/fs/cgroup/systemd rw shared:5 - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd\n\
                      32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct\n\
                      33 30 0:29 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory\n";
        let groups =
            "4:memory:/user.slice\n3:cpuacct,cpu:/\n1:name=systemd:/user.slice/session-1.scope\n";
        let one = |options: &str, own: &str| (Version::One, options.to_owned(), own.to_owned());
        assert_eq!(
            own(mounts, groups),
            [
                one("name=systemd", "/sys/fs/cgroup/systemd/user.slice/session-1.scope"),
                one("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                one("memory", "/sys/fs/cgroup/memory/user.slice"),
            ]
        );
    }

    #[test]
    fn a_hybrid_machine_has_both() {
        let mounts = "35 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = own(mounts, "4:memory:/a b\n0::/\n");
        assert_eq!(found[0], (Version::One, "memory".into(), "/sys/fs/cgroup/memory/a b".into()));
        assert_eq!(found[1], (Version::Two, String::new(), "/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_machine_of_version_2() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = own(mounts, "0::/user.slice/user-1000.slice/session-3.scope\n");
        let wanted = "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope";
        assert_eq!(found, [(Version::Two, String::new(), wanted.to_owned())]);
    }

    #[test]
    fn a_container_shows_its_own_part() {
        let mounts =
            "712 700 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = own(mounts, "4:memory:/docker/abc/inner\n");
        assert_eq!(found[0].2, "/sys/fs/cgroup/memory/inner");
        // Another container's part, and a group outside of this namespace.
        assert_eq!(own(mounts, "4:memory:/docker/other\n"), []);
        let outside = "31 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(own(outside, "4:memory:/../x\n"), []);
        assert_eq!(own("nonsense\n- cgroup\n", "nonsense\n::\n"), []);
    }
}
