//! Mounts a container's /sys/fs/cgroup.
//!
//! Used by `kernel_dirs` in the container's own cgroup namespace.
#![forbid(unsafe_code)]

use super::find::{HierarchyMount, Version, mounts};
use crate::in_root::InRoot;
use crate::mounts::{NO_SUID_DEV_EXEC, copy, kernel, make_read_only};
use crate::spec::GroupsSpec;
use rustix::mount::MountAttrFlags;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where programs look for control groups.
pub(crate) const PLACE: &str = "/sys/fs/cgroup";

/// Mounts the hierarchies there: the container's own, with its group as the root, or else the
/// host's. `is_bare`: the /sys below does not have the host's yet.
pub(crate) fn show(root: &InRoot, groups: Option<&GroupsSpec>, is_bare: bool) -> io::Result<()> {
    let host = Path::new(PLACE);
    if !host.is_dir() {
        return Ok(());
    }
    let own = groups.map(|groups| show_own(root, groups));
    match own {
        // In a user namespace the kernel may refuse to mount them.
        None | Some(Err(_)) if is_bare => {
            let host_groups = copy(host, true)?;
            make_read_only(&host_groups)?;
            root.attach(host_groups, host)
        }
        None | Some(_) => Ok(()),
    }
}

fn show_own(root: &InRoot, groups: &GroupsSpec) -> io::Result<()> {
    let mut attributes = NO_SUID_DEV_EXEC;
    if !groups.writable {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let place = Path::new(PLACE);
    let mut hierarchies: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for HierarchyMount { version, options, point, .. } in
        mounts(&fs::read_to_string("/proc/self/mountinfo")?)
    {
        if !point.starts_with(place) || hierarchies.iter().any(|(known, _)| *known == point) {
            continue;
        }
        let mount = match version {
            Version::Two => kernel("cgroup2", &[], attributes)?,
            Version::One => {
                // A named hierarchy has no controllers and must be requested as such.
                let none = options.iter().any(|option| option.starts_with("name="));
                let options: Vec<&str> = none
                    .then_some("none")
                    .into_iter()
                    .chain(options.iter().map(|o| &**o))
                    .collect();
                kernel("cgroup", &options, attributes)?
            }
        };
        hierarchies.push((point, mount));
    }
    if let [(point, mount)] = hierarchies.as_slice()
        && point == place
    {
        return root.attach(mount, place);
    }
    // Each in its own directory, as on the host.
    let list = kernel("tmpfs", &["mode=0755", "size=64k"], NO_SUID_DEV_EXEC)?;
    root.attach(&list, place)?;
    for (point, mount) in &hierarchies {
        root.attach(mount, point)?;
    }
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        // `cpu` and `cpuacct` are links if one hierarchy has both.
        if let Ok(to) = fs::read_link(&path) {
            root.link(&path, &to)?;
        }
    }
    if groups.writable { Ok(()) } else { make_read_only(&list) }
}
