//! Records and logs of the past go after 30 days, or when together they pass 2 GB.
//!
//! Called when a build has ended, when nobody waits for anything any more.

use super::build_dir::BuildDir;
use super::home::Home;
use super::lookup::all_builds;
use runner_host::private::remove_tree;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_BYTES: u64 = 2 << 30;

struct RetainedBuild {
    dir: BuildDir,
    ended: SystemTime,
    bytes: u64,
}

/// Removes builds that are too old, and the oldest while all together are too large. A build that
/// cannot be looked at or removed is left for the next time.
pub fn prune_old(home: &Home, now: SystemTime) {
    let Ok((builds, _)) = all_builds(home) else { return };
    let mut ended: Vec<RetainedBuild> =
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

fn ended_build(dir: BuildDir) -> Option<RetainedBuild> {
    let ended = fs::metadata(dir.path().join("record.json")).ok()?.modified().ok()?;
    let bytes = bytes_below(dir.path());
    Some(RetainedBuild { dir, ended, bytes })
}

/// What all below a folder take. No link is followed, and what cannot be looked at counts for nothing.
fn bytes_below(folder: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.len();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_folders_counts() -> std::io::Result<()> {
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("large"), vec![1; 1 << 20])?;
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("artifacts/deep"))?;
        std::os::unix::fs::symlink(outside.path(), dir.path().join("artifacts/link"))?;
        let few = bytes_below(dir.path());
        fs::write(dir.path().join("artifacts/deep/f"), vec![1; 300_000])?;
        let more = bytes_below(dir.path()) - few;
        assert!((300_000..400_000).contains(&more) && few < 100_000, "{few} {more}");
        Ok(())
    }
}
