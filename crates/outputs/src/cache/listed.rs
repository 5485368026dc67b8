//! A cache as listed, wherever it is stored, and the choice of caches to remove.

use super::super::OutputError;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

/// A cache unused for this long is removed.
pub const OLDEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Beyond this total size, the least recently used caches are removed.
pub const LARGEST: u64 = 10 << 30;

/// One line of the list of caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCache {
    /// Its identifier in the store.
    pub id: String,
    pub project: String,
    /// Digest of the paths that were cached.
    pub paths: String,
    pub key: Option<String>,
    pub files: u64,
    /// Size in the store.
    pub bytes: u64,
    /// Milliseconds since 1970.
    pub created: u64,
    /// When it was last restored, or saved if the store does not record uses.
    pub used: SystemTime,
}

/// The result of a prune.
#[derive(Debug)]
pub struct Pruned {
    pub removed: Vec<ListedCache>,
    /// Caches saved again since they were listed, and therefore kept.
    pub renewed: usize,
    /// Why other caches could not be removed.
    pub failures: Vec<OutputError>,
    /// Incomplete uploads that were aborted.
    pub abandoned: Result<usize, OutputError>,
}

impl From<Vec<ListedCache>> for Pruned {
    fn from(removed: Vec<ListedCache>) -> Self {
        Pruned { removed, renewed: 0, failures: Vec::new(), abandoned: Ok(0) }
    }
}

/// The caches to remove, of a list sorted newest first: those not used since `before`, those
/// superseded by a newer one of the same name, and beyond `most` bytes the least recently used.
pub(super) fn superfluous(
    listed: Vec<ListedCache>,
    before: SystemTime,
    most: u64,
) -> Vec<ListedCache> {
    let (mut kept, mut gone, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for entry in listed {
        let name = (entry.project.clone(), entry.paths.clone(), entry.key.clone());
        if entry.used < before || !names.insert(name) {
            gone.push(entry);
        } else {
            kept.push(entry);
        }
    }
    kept.sort_by_key(|entry| Reverse(entry.used));
    let mut total = 0_u64;
    for entry in kept {
        total = total.saturating_add(entry.bytes);
        if total > most {
            gone.push(entry);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with this key, of this many bytes, last used at this second.
    fn cache(key: &str, bytes: u64, used: u64) -> ListedCache {
        ListedCache {
            id: format!("{key}-{used}"),
            project: "demo".to_owned(),
            paths: "0".to_owned(),
            key: Some(key.to_owned()),
            files: 1,
            bytes,
            created: 0,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(used),
        }
    }

    #[test]
    fn old_ones_go_and_then_those_without_room() {
        let listed =
            || vec![cache("d", 10, 40), cache("c", 10, 50), cache("b", 10, 30), cache("a", 10, 20)];
        let gone = |before, most| {
            let before = SystemTime::UNIX_EPOCH + Duration::from_secs(before);
            let gone = superfluous(listed(), before, most);
            gone.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
        };
        assert_eq!(gone(0, 40), [""; 0]);
        assert_eq!(gone(0, 39), ["a-20"]);
        // Caches removed for their age take no room.
        assert_eq!(gone(30, 30), ["a-20"]);
        assert_eq!(gone(31, 10), ["b-30", "a-20", "d-40"]);
        assert_eq!(gone(100, 0), ["d-40", "c-50", "b-30", "a-20"]);
    }

    #[test]
    fn one_of_a_name_is_enough() {
        let listed = vec![cache("a", 10, 20), cache("a", 10, 50)];
        let gone = superfluous(listed, SystemTime::UNIX_EPOCH, 100);
        assert_eq!(gone.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), ["a-50"]);
    }
}
