//! Looks up a container's users, by name or number, in its own /etc/passwd and /etc/group.
//!
//! Used for `run-as`, `--user` and an image's `USER`. The files come out of the container through
//! PID 1 and are untrusted: their size is limited, and lines that do not parse are ignored.

use super::{Container, Ids, OpenMode};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes read of an account file.
const MAX_BYTES: u64 = 4 << 20;

/// The ids of user `name`; `None` if the container has no such user. A number needs no entry.
pub async fn resolve(container: &dyn Container, name: &str) -> Option<Ids> {
    if matches!(name, "root" | "0") {
        return Some(Ids::default());
    }
    let passwd = read(container, "/etc/passwd").await;
    let group = read(container, "/etc/group").await;
    find(&passwd, &group, name)
}

/// A container's account files.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub async fn read(container: &dyn Container) -> Self {
        let passwd = read(container, "/etc/passwd").await;
        let group = read(container, "/etc/group").await;
        Accounts { passwd, group }
    }

    /// The ids of a user with an entry.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Ids> {
        entry(&self.passwd, name).and_then(|_| find(&self.passwd, &self.group, name))
    }

    #[must_use]
    pub fn passwd(&self) -> &str {
        &self.passwd
    }

    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// A number that no user and no group has.
    #[must_use]
    pub fn free_id(&self) -> u32 {
        const OF_PEOPLE: std::ops::Range<u32> = 1000..60_000;
        let lines = self.passwd.lines().chain(self.group.lines());
        let taken = lines.filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok());
        let last = taken.filter(|id| OF_PEOPLE.contains(id)).max();
        last.map_or(1001, |last| last + 1)
    }
}

/// The user that an image's program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUser {
    pub ids: Ids,
    pub home: String,
}

/// The user that an image names, as Docker reads it: `USER` or `USER:GROUP`, by name or number. The
/// error says what is missing.
pub async fn of_image(container: &dyn Container, named: &str) -> Result<ImageUser, String> {
    let passwd = read(container, "/etc/passwd").await;
    let group = read(container, "/etc/group").await;
    find_of_image(&passwd, &group, named)
}

fn find_of_image(passwd: &str, group: &str, named: &str) -> Result<ImageUser, String> {
    let (user, own_group) = named.split_once(':').unwrap_or((named, ""));
    let user = if user.is_empty() { "0" } else { user };
    let ids = match (find(passwd, group, user), user.parse::<u32>()) {
        // A number without an entry runs in root's group.
        (Some(_), Ok(uid)) if entry(passwd, user).is_none() => Ids { uid, gid: 0, groups: vec![0] },
        (Some(ids), _) => ids,
        (None, _) => return Err(format!("its image has no user `{user}`")),
    };
    let home = entry(passwd, user).map(|entry| entry.home).filter(|home| !home.is_empty());
    let home = home.map_or_else(
        || if ids.uid == 0 { "/root".to_owned() } else { "/".to_owned() },
        str::to_owned,
    );
    if own_group.is_empty() {
        return Ok(ImageUser { ids, home });
    }
    let gid = group.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid: u32 = fields.get(2)?.parse().ok()?;
        (fields[0] == own_group || own_group.parse() == Ok(gid)).then_some(gid)
    });
    let gid = gid.or_else(|| own_group.parse().ok());
    let gid = gid.ok_or_else(|| format!("its image has no group `{own_group}`"))?;
    Ok(ImageUser { ids: Ids { gid, groups: vec![gid], ..ids }, home })
}

async fn read(container: &dyn Container, path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(fd) = container.open(Path::new(path), OpenMode::Read).await {
        // A file that cannot be read counts as empty.
        let _ = File::from(fd).take(MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of /etc/passwd.
struct PasswdEntry<'t> {
    name: &'t str,
    uid: u32,
    gid: u32,
    home: &'t str,
}

fn entry<'t>(passwd: &'t str, name: &str) -> Option<PasswdEntry<'t>> {
    let number = name.parse::<u32>().ok();
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let home = fields.get(5).copied().unwrap_or_default();
        (fields[0] == name || number == Some(uid)).then_some(PasswdEntry {
            name: fields[0],
            uid,
            gid,
            home,
        })
    })
}

fn find(passwd: &str, group: &str, name: &str) -> Option<Ids> {
    let (user, uid, gid) = match (entry(passwd, name), name.parse()) {
        (Some(PasswdEntry { name, uid, gid, .. }), _) => (name, uid, gid),
        // As in containers, a number without an entry is a nameless user.
        (None, Ok(uid)) => return Some(Ids { uid, gid: uid, groups: vec![uid] }),
        (None, Err(_)) => return None,
    };
    let mut groups = vec![gid];
    groups.extend(group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_member = fields.get(3)?.split(',').any(|member| member == user);
        let other: u32 = fields.get(2)?.parse().ok()?;
        (is_member && other != gid).then_some(other)
    }));
    Some(Ids { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nbob:x:1000:1001::/home/bob:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nbob:x:1001:bob\nstaff:x:50:al,bob\ndocker:x:999:bobby\n";

    #[test]
    fn names_and_numbers_find_the_same_user() {
        let bob = Ids { uid: 1000, gid: 1001, groups: vec![1001, 50] };
        assert_eq!(find(PASSWD, GROUP, "bob"), Some(bob.clone()));
        assert_eq!(find(PASSWD, GROUP, "1000"), Some(bob));
        assert_eq!(find(PASSWD, GROUP, "7"), Some(Ids { uid: 7, gid: 7, groups: vec![7] }));
        assert_eq!(find(PASSWD, GROUP, "nobody"), None);
        assert_eq!(find("", "", "bob"), None);
    }

    #[test]
    fn an_image_names_its_user_as_docker_reads_it() {
        let user = |named: &str| {
            let user = find_of_image(PASSWD, GROUP, named)?;
            Ok::<_, String>((user.ids.uid, user.ids.gid, user.ids.groups, user.home))
        };
        for (named, uid, gid, groups, home) in [
            ("", 0, 0, vec![0], "/root"),
            ("root", 0, 0, vec![0], "/root"),
            ("bob", 1000, 1001, vec![1001, 50], "/home/bob"),
            ("1000", 1000, 1001, vec![1001, 50], "/home/bob"),
            ("bob:staff", 1000, 50, vec![50], "/home/bob"),
            ("7", 7, 0, vec![0], "/"),
            ("7:9", 7, 9, vec![9], "/"),
            ("7:docker", 7, 999, vec![999], "/"),
        ] {
            assert_eq!(user(named), Ok((uid, gid, groups, home.to_owned())), "{named}");
        }
        assert_eq!(user("eve"), Err("its image has no user `eve`".to_owned()));
        assert_eq!(user("bob:eves"), Err("its image has no group `eves`".to_owned()));
        let bare = find_of_image("", "", "").map(|user| (user.ids.uid, user.home));
        assert_eq!(bare, Ok((0, "/root".to_owned())));
    }
}
