//! Hostile trees and the accesses that they must not cause.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Bed {
    dir: tempfile::TempDir,
    top: Dir,
}

/// Makes `top`, and beside it files that must never be touched.
fn bed() -> Bed {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("top/real/inner")).expect("made");
    fs::create_dir(dir.path().join("outside")).expect("made");
    fs::write(dir.path().join("outside/kept"), "kept").expect("written");
    let top = Dir::top(&dir.path().join("top")).expect("opened");
    Bed { dir, top }
}

impl Bed {
    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn outside_is_as_it_was(&self) {
        let names: Vec<_> = fs::read_dir(self.path("outside")).expect("read").collect();
        assert_eq!(names.len(), 1);
        assert_eq!(fs::read_to_string(self.path("outside/kept")).expect("read"), "kept");
    }
}

fn zero() -> Timestamps {
    let time = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[test]
fn no_call_passes_a_link_at_any_depth() {
    for (link, target) in [
        ("link", "../outside"),
        ("real/link", "../../outside"),
        ("real/inner/link", "/proc/self/cwd"),
        ("link", "real"),
    ] {
        let bed = bed();
        symlink(target, bed.path("top").join(link)).expect("linked");
        let (top, below) = (&bed.top, format!("{link}/x"));
        let kept = format!("{link}/kept");
        let failed = [
            top.open(link).err(),
            top.open(&below).err(),
            top.make(&below, 0o755).err(),
            top.make_all(format!("{below}/y"), 0o755).err(),
            top.create(&below).err(),
            top.append(&below, 0o600).err(),
            top.append(link, 0o600).err(),
            top.file(&kept).err(),
            top.file(link).err(),
            top.read_small(&kept, 100).err(),
            top.stat(&kept).err(),
            top.write(&below, 0o644, |_| Ok(())).err(),
            top.write(link, 0o644, |_| Ok(())).err(),
            top.symlink(b"a", &below).err(),
            top.set_times(&kept, &zero()).err(),
            top.dress(link, 0o700, &zero()).err(),
            top.remove_file(&kept).err(),
            top.remove_tree(&kept).err(),
            top.rename(&kept, top, "new").err(),
            top.rename("real", top, &below).err(),
            top.replace(&kept, top, "new").err(),
            top.put(&kept, top, "new").err(),
            top.hard_link(&kept, top, "new").err(),
            DirectoryCursor::new(top.again().expect("one more")).find(&below.into_bytes()).err(),
        ];
        for (number, error) in failed.into_iter().enumerate() {
            let error = error.unwrap_or_else(|| panic!("{link}: call {number} passed it"));
            let is_told = error.to_string().contains("is a symbolic link");
            assert!(is_told || error.raw_os_error().is_some(), "{link}: call {number}: {error}");
        }
        bed.outside_is_as_it_was();
        let error = top.create(format!("{link}/x")).expect_err("a link is in the way");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert_eq!(error.to_string(), format!("{link} is a symbolic link"));
        top.remove_tree("real").expect("removed");
        top.remove_tree("link").expect("removed");
        bed.outside_is_as_it_was();
    }
}

#[test]
fn no_path_leads_out() {
    let bed = bed();
    for path in
        ["", "/", "/etc", "..", "../outside", "real/../../outside", "a//b", "a/", "./a", "a\0"]
    {
        assert!(bed.top.create(path).is_err(), "{path:?}");
        assert!(bed.top.make(path, 0o755).is_err(), "{path:?}");
        assert!(bed.top.remove_tree(path).is_err(), "{path:?}");
        let mut cursor = DirectoryCursor::new(bed.top.again().expect("one more"));
        assert!(cursor.find(path.as_bytes()).is_err(), "{path:?}");
        assert!(path.is_empty() || bed.top.open(path).is_err(), "{path:?}");
    }
    bed.outside_is_as_it_was();
}

#[test]
fn tops_are_as_typed_unless_they_must_be_themselves() {
    let bed = bed();
    symlink("top", bed.path("typed")).expect("linked");
    Dir::top(&bed.path("typed")).expect("what was typed leads where it leads");
    assert!(Dir::top_itself(&bed.path("typed")).is_err());
    Dir::make_top(&bed.path("typed/a/b"), 0o755).expect("made").create("file").expect("made");
    assert!(bed.path("top/a/b/file").is_file());
}

#[test]
fn only_regular_files_are_read_and_replaced() {
    let bed = bed();
    let top = &bed.top;
    rustix::fs::mkfifoat(top, "fifo", Mode::from_raw_mode(0o600)).expect("made");
    fs::write(bed.path("top/file"), "12345").expect("written");
    symlink("file", bed.path("top/link")).expect("linked");
    symlink("/dev/zero", bed.path("top/zero")).expect("linked");
    for name in ["fifo", "link", "zero", "real"] {
        assert!(top.read_small(name, 10).is_err(), "{name}");
        assert!(top.append(name, 0o600).is_err(), "{name}");
        let error = top.write(name, 0o644, |_| Ok(())).expect_err(name);
        assert!(error.to_string().starts_with(&format!("{name} is a")), "{error}");
    }
    assert_eq!(top.read_small("file", 5).expect("read"), b"12345");
    let error = top.read_small("file", 4).expect_err("too large");
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    top.write_durably("file", 0o640, b"new").expect("replaced");
    let there = fs::metadata(bed.path("top/file")).expect("there");
    assert_eq!((there.mode() & 0o7777, there.len()), (0o640, 3));
    assert_eq!(top.names().expect("read"), ["fifo", "file", "link", "real", "zero"].map(Vec::from));
}

#[test]
fn a_file_that_does_not_become_whole_leaves_what_was_there() {
    let bed = bed();
    fs::write(bed.path("top/file"), "old").expect("written");
    let failed = bed.top.write("file", 0o644, |file| {
        file.write_all(b"ne")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert!(failed.is_err());
    assert_eq!(bed.top.names().expect("read"), ["file", "real"].map(Vec::from));
    assert_eq!(bed.top.read_small("file", 9).expect("read"), b"old");
}

/// Longer than the longest path, deeper than the number of descriptors.
#[test]
fn deep_trees_are_made_walked_and_removed() {
    let bed = bed();
    let names = vec!["directory"; 1500];
    let path = names.join("/");
    bed.top.make_all(&path, 0o755).expect("made");
    bed.top.create(format!("{path}/file")).expect("made");
    symlink("../../outside", bed.path("top/directory/link")).expect("linked");
    let mut seen = 0;
    bed.top
        .walk(|item| {
            seen += 1;
            item.place.stat(item.name).map(drop)
        })
        .expect("walked");
    assert_eq!(seen, 1500 + 4);
    bed.top.remove_tree("directory").expect("removed");
    bed.top.remove_tree("directory").expect("nothing to remove");
    assert_eq!(bed.top.names().expect("read"), [b"real".to_vec()]);
    bed.outside_is_as_it_was();
}

#[test]
fn nothing_is_left_of_a_tree() {
    let bed = bed();
    for name in ["a", "b", "c"] {
        let dir = bed.path("top/tree").join(name);
        fs::create_dir_all(dir.join("in")).expect("made");
        fs::write(dir.join("in/file"), "").expect("written");
        symlink("../../../outside/kept", dir.join("link")).expect("linked");
        symlink("../../../outside", dir.join("dir")).expect("linked");
        fs::set_permissions(dir.join("in"), fs::Permissions::from_mode(0o000)).expect("closed");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o500)).expect("closed");
    }
    bed.top.remove_tree("tree").expect("removed");
    assert!(!bed.path("top/tree").exists());
    bed.outside_is_as_it_was();
}
