//! Records and logs of the past go after 30 days, or when together they pass 2 GB.
//!
//! Called when a build has ended, when nobody waits for anything any more.

use super::build_dir::BuildDir;
use super::home::Home;
use super::lookup::all_builds;
use runner_host::private::remove_tree;
use std::fs;
use std::time::{Duration, SystemTime};

const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_BYTES: u64 = 2 << 30;

struct Ended {
    dir: BuildDir,
    ended: SystemTime,
    bytes: u64,
}

/// Removes builds that are too old, and the oldest while all together are too large. A build that
/// cannot be looked at or removed is left for the next time.
pub fn prune_old(home: &Home, now: SystemTime) {
    let Ok((builds, _)) = all_builds(home) else { return };
    let mut ended: Vec<Ended> =
        builds.into_iter().filter_map(|build| ended_build(build.dir)).collect();
    ended.sort_by_key(|build| std::cmp::Reverse(build.ended));
    let mut kept = 0;
    // The newest is the one whose log is about to be asked for.
    for build in ended.into_iter().skip(1) {
        let is_old = now.duration_since(build.ended).is_ok_and(|age| age > MAX_AGE);
        if is_old || kept + build.bytes > MAX_BYTES {
            let _ = remove_tree(build.dir.path());
        } else {
            kept += build.bytes;
        }
    }
}

fn ended_build(dir: BuildDir) -> Option<Ended> {
    let ended = fs::metadata(dir.path().join("record.json")).ok()?.modified().ok()?;
    let bytes = fs::read_dir(dir.path())
        .ok()?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    Some(Ended { dir, ended, bytes })
}
