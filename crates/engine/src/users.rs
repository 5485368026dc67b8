//! Users of a container, by name or number, from its own /etc/passwd and /etc/group.
//!
//! Used for `run-as` and `--user`. The files come out of the container through PID 1 and are read as
//! hostile: bounded, and what does not parse is not there.

use super::{Container, Ids, OpenMode};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most of an account file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Who `name` is; `None` where the container has no such user. A number needs no entry.
pub async fn resolve(container: &dyn Container, name: &str) -> Option<Ids> {
    if matches!(name, "root" | "0") {
        return Some(Ids::default());
    }
    let passwd = read(container, "/etc/passwd").await;
    let group = read(container, "/etc/group").await;
    find(&passwd, &group, name)
}

async fn read(container: &dyn Container, path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(fd) = container.open(Path::new(path), OpenMode::Read).await {
        // A file that cannot be read is as good as none.
        let _ = File::from(fd).take(MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find(passwd: &str, group: &str, name: &str) -> Option<Ids> {
    let number = name.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (fields[0] == name || number == Some(uid)).then_some((fields[0], uid, gid))
    });
    let (user, uid, gid) = match (entry, number) {
        (Some(entry), _) => entry,
        // As containers have it: a number without an entry is a user without a name.
        (None, Some(uid)) => return Some(Ids { uid, gid: uid, groups: vec![uid] }),
        (None, None) => return None,
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
}
