//! Removes records and logs after 30 days, or when together they exceed 2 GB.
//!
//! Called when a build has ended, when nobody waits for anything any more. What a folder takes is
//! counted once, when its build has ended; the list of that, `ended` in the state folder, is made
//! anew where it is missing or damaged. So the end of a build costs what is new, and not what all
//! builds have left.

use super::build_dir::BuildDir;
use super::home::Home;
use super::lookup::known;
use runner_host::beneath::Dir;
use runner_host::private::remove_tree;
use runner_host::users;
use rustix::fs::OFlags;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_BYTES: u64 = 2 << 30;
/// Name of the list.
const LIST: &str = "ended";
/// Most of it that is read: more builds than 2 GB can hold.
const MAX_LIST: u64 = 64 << 20;

/// A build that has ended.
struct RetainedBuild {
    /// Seconds since 1970.
    ended: u64,
    bytes: u64,
}

/// Removes builds that are too old, then the oldest ones while the total is too large. A build that
/// cannot be inspected or removed is left for the next time.
pub fn prune_old(home: &Home, now: SystemTime) {
    if let Err(error) = prune(home, seconds(now), MAX_BYTES) {
        tracing::warn!(%error, "old builds stay");
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn prune(home: &Home, now: u64, most: u64) -> io::Result<()> {
    let mut list = open(home)?;
    // Another build is pruning, and the next one that ends counts this one.
    if list.try_lock().is_err() {
        return Ok(());
    }
    let (listed, is_whole) = read(&list)?;
    let mut there: HashSet<String> = std::fs::read_dir(home.builds())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let count = listed.len();
    let mut builds: Vec<(String, RetainedBuild)> =
        listed.into_iter().filter(|(uuid, _)| there.remove(uuid)).collect();
    let are_all_there = builds.len() == count;
    let mut new = Vec::new();
    for uuid in there {
        if let Some(build) = counted(home, &uuid) {
            new.push((uuid, build));
        }
    }
    let mut more = String::new();
    for (uuid, build) in &new {
        line(&mut more, uuid, build);
    }
    builds.extend(new);
    let over = too_much(&mut builds, now, most);
    for (uuid, _) in &over {
        let _ = remove_tree(BuildDir::of(home, uuid).path());
    }
    if over.is_empty() && are_all_there && is_whole {
        list.seek(io::SeekFrom::End(0))?;
        return list.write_all(more.as_bytes());
    }
    // What could not be removed is counted anew the next time.
    let mut all = String::new();
    for (uuid, build) in &builds {
        line(&mut all, uuid, build);
    }
    list.set_len(0)?;
    list.rewind()?;
    list.write_all(all.as_bytes())
}

/// Takes those out that are to go: what is left begins with the newest.
fn too_much(
    builds: &mut Vec<(String, RetainedBuild)>,
    now: u64,
    most: u64,
) -> Vec<(String, RetainedBuild)> {
    builds.sort_by(|(one, a), (other, b)| b.ended.cmp(&a.ended).then_with(|| one.cmp(other)));
    let (mut kept, mut is_first) = (0_u64, true);
    let goes = |(_, build): &mut (String, RetainedBuild)| {
        // The newest is the one whose log is about to be asked for.
        if std::mem::take(&mut is_first) {
            return false;
        }
        let is_old = now.saturating_sub(build.ended) > MAX_AGE.as_secs();
        let with_it = build.bytes.saturating_add(kept);
        let goes = is_old || with_it > most;
        kept = if goes { kept } else { with_it };
        goes
    };
    builds.extract_if(.., goes).collect()
}

fn open(home: &Home) -> io::Result<File> {
    let path = home.root().join(LIST);
    // With sudo the folder is the caller's, who could have another file emptied by a link.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let list = options.open(&path)?;
    if !list.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is not a regular file", path.display())));
    }
    users::give(&path)?;
    Ok(list)
}

/// What stands in the list, and whether that is all: a line that is none is of a process that was
/// killed, and its build is counted again.
fn read(list: &File) -> io::Result<(HashMap<String, RetainedBuild>, bool)> {
    let mut text = Vec::new();
    list.take(MAX_LIST).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let number = |word: Option<&str>| word?.parse().ok();
    let of = |line: &str| -> Option<(String, RetainedBuild)> {
        let mut words = line.strip_suffix('\n')?.split(' ');
        let uuid = words.next()?.to_owned();
        Some((uuid, RetainedBuild { ended: number(words.next())?, bytes: number(words.next())? }))
    };
    let (mut listed, mut is_whole) = (HashMap::new(), true);
    for line in text.split_inclusive('\n') {
        match of(line) {
            Some((uuid, build)) => {
                listed.insert(uuid, build);
            }
            None => is_whole = false,
        }
    }
    Ok((listed, is_whole))
}

fn line(text: &mut String, uuid: &str, RetainedBuild { ended, bytes }: &RetainedBuild) {
    // A String takes everything.
    let _ = writeln!(text, "{uuid} {ended} {bytes}");
}

/// A build that is not in the list, if it has ended and nothing of its folder is still to be
/// removed.
fn counted(home: &Home, uuid: &str) -> Option<RetainedBuild> {
    let dir = known(home, uuid).ok()??.dir;
    if dir.is_listed() {
        return None;
    }
    let folder = Dir::top_itself(dir.path()).ok()?;
    let record = folder.look("record.json").ok()??;
    let ended = u64::try_from(record.st_mtime).unwrap_or(0);
    Some(RetainedBuild { ended, bytes: bytes_below(&folder)? })
}

/// Bytes of all files below a folder; `None` if not all of it can be read now, so that the next end
/// counts it again. Follows no link.
fn bytes_below(folder: &Dir) -> Option<u64> {
    let mut bytes = 0_u64;
    let counted: io::Result<()> = folder.walk(|item| {
        if let Ok(Some(stat)) = item.place.look(item.name) {
            bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        }
        Ok(())
    });
    if let Err(error) = counted {
        tracing::debug!(%error, "a build's folder cannot be counted");
        return None;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_lies_in_folders_counts() -> io::Result<()> {
        let outside = tempfile::tempdir()?;
        fs::write(outside.path().join("large"), vec![1; 1 << 20])?;
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("artifacts/deep"))?;
        std::os::unix::fs::symlink(outside.path(), dir.path().join("artifacts/link"))?;
        let folder = Dir::top_itself(dir.path())?;
        let few = bytes_below(&folder).expect("a count");
        fs::write(dir.path().join("artifacts/deep/f"), vec![1; 300_000])?;
        let more = bytes_below(&folder).expect("a count") - few;
        assert!((300_000..400_000).contains(&more) && few < 100_000, "{few} {more}");
        Ok(())
    }

    /// A folder as an ended build leaves it.
    fn ended(home: &Home, number: u32, bytes: usize, at: u64) -> io::Result<String> {
        let uuid = format!("00000000-0000-4000-8000-{number:012}");
        let folder = home.builds().join(&uuid);
        fs::create_dir(&folder)?;
        let meta = serde_json::json!({
            "schemaVersion": super::super::SCHEMA, "uuid": uuid, "project": "demo", "number": number,
            "runnerPid": 1,
        });
        fs::write(folder.join("meta.json"), meta.to_string())?;
        fs::write(folder.join("output.log"), vec![b'x'; bytes])?;
        fs::write(folder.join("record.json"), "{}")?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        File::options().write(true).open(folder.join("record.json"))?.set_modified(time)?;
        Ok(uuid)
    }

    #[test]
    fn the_oldest_go_and_what_is_counted_is_not_looked_at_again() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let home = Home::at(dir.path().to_path_buf()).map_err(io::Error::other)?;
        let list = home.root().join(LIST);
        let left = || -> Vec<u32> {
            let names = fs::read_dir(home.builds()).expect("a folder").flatten();
            let mut numbers: Vec<u32> =
                names.filter_map(|name| name.file_name().to_str()?[24..].parse().ok()).collect();
            numbers.sort_unstable();
            numbers
        };
        let mut uuids = Vec::new();
        for number in 0..4 {
            uuids.push(ended(&home, number, 100_000, 1000 + u64::from(number))?);
        }
        prune(&home, 2000, 350_000)?;
        assert_eq!(left(), [0, 1, 2, 3], "the newest counts for nothing");
        assert_eq!(fs::read_to_string(&list)?.lines().count(), 4);
        // What is there is not counted again, and what is new is.
        fs::write(home.builds().join(&uuids[2]).join("late"), vec![1; 1_000_000])?;
        ended(&home, 4, 10, 1010)?;
        prune(&home, 2000, 250_000)?;
        assert_eq!(left(), [2, 3, 4]);
        // A list that was cut off, or is none, is made anew.
        for text in [&b"not a list\n\xff"[..], b""] {
            fs::write(&list, text)?;
            prune(&home, 2000, u64::MAX)?;
            let text = fs::read_to_string(&list)?;
            assert_eq!(text.lines().filter(|line| line.starts_with("0000")).count(), 3, "{text}");
        }
        // Those that somebody has deleted leave the list.
        fs::remove_dir_all(home.builds().join(&uuids[3]))?;
        prune(&home, 2000, u64::MAX)?;
        assert_eq!(fs::read_to_string(&list)?.lines().count(), 2);
        // Too old.
        prune(&home, 1011 + MAX_AGE.as_secs(), u64::MAX)?;
        assert_eq!(left(), [4]);
        Ok(())
    }
}
