//! Users on the host: who called this program, and which users a container may have if its runner
//! is not root.
//!
//! The latter come from the host's tables of subordinate ids, as for `newuidmap`. Used by `engine`
//! for containers and by `state` for file owners.

use runner_sandbox::{IdRange, UserMap};
use std::path::{Path, PathBuf};

/// The user who called this program through sudo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SudoCaller {
    pub uid: u32,
    pub gid: u32,
}

/// The caller, if this program runs as another user.
pub fn caller() -> Option<SudoCaller> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let id = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let uid = id("SUDO_UID").filter(|&uid| uid != 0)?;
    Some(SudoCaller { uid, gid: id("SUDO_GID").unwrap_or(uid) })
}

/// A path for messages, with the user's home as `~`.
pub fn with_tilde(path: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_path_buf)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// The caller's home; under sudo that is not root's.
pub fn home() -> Option<PathBuf> {
    let of_caller = caller().and_then(|caller| {
        nix::unistd::User::from_uid(caller.uid.into()).ok().flatten().map(|user| user.dir)
    });
    let home = of_caller.or_else(|| std::env::var_os("HOME").map(PathBuf::from));
    home.filter(|home| home.is_absolute() && home.as_os_str() != "/")
}

/// Gives a new file to the caller, who under sudo is not its creator.
pub fn give(path: &Path) -> std::io::Result<()> {
    match caller() {
        Some(SudoCaller { uid, gid }) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// User maps that this user may use, best first; empty for a root that needs none.
pub fn maps() -> Vec<UserMap> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return if may_mount() { Vec::new() } else { vec![everybody()] };
    }
    let (uid, gid) = (uid.as_raw(), nix::unistd::getegid().as_raw());
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let table = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let owner = SubidOwner { name: name.as_deref(), uid };
    ranged(&owner, gid, &table("/etc/subuid"), &table("/etc/subgid"))
        .into_iter()
        .chain([UserMap::single(uid, gid)])
        .collect()
}

/// Whether this process has the capability for namespaces and mounts. Root of a container around
/// the runner, for example, has not.
fn may_mount() -> bool {
    // If the kernel does not tell, the mounts themselves will fail.
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

/// Maps all of the host's users into a user namespace: root without capabilities has them only
/// there.
fn everybody() -> UserMap {
    let all = vec![IdRange { inside: 0, outside: 0, count: 65536 }];
    UserMap { uids: all.clone(), gids: all }
}

/// The user whose subordinate ids are looked up.
struct SubidOwner<'a> {
    name: Option<&'a str>,
    uid: u32,
}

fn ranged(owner: &SubidOwner<'_>, gid: u32, subuid: &str, subgid: &str) -> Option<UserMap> {
    Some(UserMap { uids: ranges(owner, owner.uid, subuid)?, gids: ranges(owner, gid, subgid)? })
}

/// Maps root to the caller and the rest to the table's ranges; `None` if the table has none.
fn ranges(owner: &SubidOwner<'_>, own: u32, table: &str) -> Option<Vec<IdRange>> {
    let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut inside: u32 = 1;
    for line in table.lines() {
        let mut fields = line.trim().split(':');
        let (Some(who), Some(first), Some(count)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (Ok(outside), Ok(count)) = (first.parse(), count.parse::<u32>()) else { continue };
        let is_own = owner.name == Some(who) || who.parse() == Ok(owner.uid);
        let Some(next) = inside.checked_add(count).filter(|_| is_own && count > 0) else {
            continue;
        };
        ranges.push(IdRange { inside, outside, count });
        inside = next;
    }
    (ranges.len() > 1).then_some(ranges)
}

/// Advice for a build that has only one user.
pub fn advice() -> String {
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    };
    let name = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| "USER".to_owned(), |user| user.name);
    if has("newuidmap") && has("newgidmap") {
        format!(
            "give this user subordinate ids: sudo usermod --add-subuids 100000-165535 \
             --add-subgids 100000-165535 {name}"
        )
    } else if Path::new("/etc/debian_version").exists() {
        "install newuidmap: sudo apt-get install uidmap".to_owned()
    } else {
        "install newuidmap and newgidmap (package uidmap or shadow-utils)".to_owned()
    }
}

/// Advice for a command that may have failed because other users are missing.
pub fn advice_for(command: &str) -> Option<String> {
    const NEED: [&str; 14] = [
        "apt", "apt-get", "dpkg", "yum", "dnf", "rpm", "apk", "sudo", "su", "chown", "chgrp",
        "useradd", "adduser", "runuser",
    ];
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let word = command.split(|c| !is_word(c)).find(|word| NEED.contains(word))?;
    Some(format!(
        "`{word}` needs more users than root, and this container has no other; {}",
        advice()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_need_users_are_known() {
        for command in ["apt-get install -y x", "cd x && chown a:b c", "a=$(sudo id)"] {
            assert!(advice_for(command).is_some(), "{command}");
        }
        assert_eq!(advice_for("make my-apt sudoers"), None);
    }

    #[test]
    fn own_ranges_follow_each_other() {
        let table = "al:100000:65536\nbob:165536:10\n\n# x\nbob:x:1\n1000:300000:5\nbob:7\n";
        let bob = SubidOwner { name: Some("bob"), uid: 1000 };
        let range = |inside, outside, count| IdRange { inside, outside, count };
        assert_eq!(
            ranges(&bob, 1000, table),
            Some(vec![range(0, 1000, 1), range(1, 165_536, 10), range(11, 300_000, 5)])
        );
        assert_eq!(ranges(&SubidOwner { name: Some("eve"), uid: 7 }, 7, table), None);
        assert_eq!(ranged(&bob, 1000, table, "al:1:2"), None);
    }
}
