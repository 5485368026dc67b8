//! Layers in folders of the test's alone.
#![allow(clippy::disallowed_methods, reason = "folders of the test's alone")]

use super::index::{LayerIndex, Moment};
use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn layer(dir: &Path) -> KeptLayer {
    let lower = vec![dir.join("lower")];
    let name = "image".to_owned();
    let image = WritableDirectory { dir: name.clone(), name, path: "/".into(), lower };
    let (dir, stack) = (dir.to_owned(), Stack::default());
    KeptLayer { dir, uppers: vec![image], stack, users: None }
}

/// A layer, what is known of it, and its last checkpoint.
struct Keeper {
    layer: KeptLayer,
    memory: LayerMemory,
    last: Option<ShelfMark>,
    marks: BTreeMap<u32, ShelfMark>,
}

impl Keeper {
    fn of(dir: &Path) -> Self {
        let (last, marks) = (None, BTreeMap::new());
        Keeper { layer: layer(dir), memory: LayerMemory::default(), last, marks }
    }

    fn keep(&self, number: u32, seals: bool) -> Keep {
        let last = self.last.clone();
        Keep { number, last, is_quiet: true, is_seen: false, seals, begins: seals }
    }

    /// Whether there is another copy.
    fn copies(&mut self, number: u32) -> bool {
        match self.layer.save(&self.memory, self.keep(number, false)).expect("saved").0 {
            Saved::Copied { copies, .. } => {
                self.keeps(ShelfMark { number, copies });
                true
            }
            Saved::Same => false,
            Saved::Not { why, .. } => panic!("{why}"),
        }
    }

    /// Seals what has changed; what that is.
    fn seals(&mut self, number: u32) -> Seal {
        self.seals_while(number, || {})
    }

    fn seals_while(&mut self, number: u32, other: impl FnOnce()) -> Seal {
        let keep = self.keep(number, true);
        let Saved::Not { seal: Some(seal), .. } =
            self.layer.save(&self.memory, keep.clone()).expect("looked at").0
        else {
            panic!("it is to be sealed")
        };
        self.layer = self.layer.sealed(number, &seal.names, &[]);
        other();
        let settled = self.layer.settle(&self.memory, keep, seal.names.clone());
        self.keeps(ShelfMark { number, copies: settled.expect("settled") });
        seal
    }

    fn keeps(&mut self, mark: ShelfMark) {
        self.marks.insert(mark.number, mark.clone());
        self.last = Some(mark);
    }

    fn restores(&mut self, number: u32) {
        let mark = self.marks[&number].clone();
        self.layer.restore(&self.memory, mark.clone()).expect("put back");
        self.last = Some(mark);
    }

    /// What has changed since the last look.
    fn looks(&self) -> Looked {
        self.layer.look(&self.memory, true).expect("looked")
    }

    fn changes(&self) -> String {
        match self.looks() {
            Looked::Changes(text) => text,
            other => panic!("{other:?}"),
        }
    }
}

fn whiteout(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode};
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).expect("made");
}

/// Not below /tmp: a tmpfs may lack `user.*` extended attributes.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a folder")
}

#[test]
fn what_changes_is_copied_and_comes_back() {
    let dir = folder();
    let top = dir.path().join("image");
    fs::create_dir_all(top.join("d")).expect("made");
    fs::write(top.join("d/f"), "one").expect("written");
    let mut keeper = Keeper::of(dir.path());
    assert!(keeper.copies(1));
    // The top directory itself.
    fs::set_permissions(&top, Permissions::from_mode(0o700)).expect("changed");
    assert!(keeper.copies(2));
    // A directory's attributes alone.
    rustix::fs::setxattr(top.join("d"), c"user.a", b"b", rustix::fs::XattrFlags::empty())
        .expect("attributes of users");
    assert!(keeper.copies(3));
    fs::set_permissions(&top, Permissions::from_mode(0o755)).expect("changed");
    fs::remove_dir_all(top.join("d")).expect("removed");
    keeper.restores(3);
    assert_eq!(fs::metadata(&top).expect("there").mode() & 0o7777, 0o700);
    assert_eq!(fs::read(top.join("d/f")).expect("there"), b"one");
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(top.join("d"), c"user.a", &mut value);
    assert_eq!(&value[..length.expect("it is there")], b"b");
    keeper.restores(1);
    assert_eq!(fs::metadata(&top).expect("there").mode() & 0o7777, 0o755);
}

/// A write to a mapped page changes no file time: anything a living process could write is
/// compared.
#[test]
fn what_a_process_could_write_is_never_settled() {
    let dir = folder();
    fs::create_dir(dir.path().join("image")).expect("made");
    fs::write(dir.path().join("image/m"), "A").expect("written");
    let layer = layer(dir.path());
    let shelf = Dir::top_itself(dir.path()).expect("there");
    let later = now() + 1_000_000_000;
    let is_settled = |is_quiet| {
        let moment = Moment { began: later, is_quiet };
        let tops = [shelf.open("image").expect("there")];
        let index =
            LayerIndex::of(&tops, &layer.uppers, None, moment, 9).expect("read").expect("few");
        index.write(&shelf, "1.index").expect("written");
        LayerIndex::read(&shelf, "1.index").expect("read").find(0, b"m").expect("there").is_settled
    };
    assert_eq!((is_settled(false), is_settled(true)), (false, true));
}

#[test]
fn what_has_changed_is_told_as_the_container_sees_it() {
    let dir = folder();
    let (top, lower) = (dir.path().join("image"), dir.path().join("lower"));
    fs::create_dir_all(lower.join("d")).expect("made");
    fs::create_dir_all(lower.join("gone")).expect("made");
    for name in ["a", "b", "d/x", "d/y", "old", "gone/f"] {
        fs::write(lower.join(name), "lower").expect("written");
    }
    fs::write(lower.join("old"), "of old").expect("written");
    fs::create_dir(&top).expect("made");
    let keeper = Keeper::of(dir.path());
    assert_eq!(keeper.looks(), Looked::First);
    assert_eq!(keeper.changes(), "");
    // Added, modified, added to an existing directory, removed, mode changed, renamed.
    fs::write(top.join("new"), "1234").expect("written");
    fs::write(top.join("a"), "changed").expect("written");
    fs::create_dir(top.join("d")).expect("made");
    fs::write(top.join("d/z"), "").expect("written");
    whiteout(&top.join("d/x"));
    whiteout(&top.join("gone"));
    whiteout(&top.join("nothing"));
    fs::copy(lower.join("b"), top.join("b")).expect("copied");
    fs::copy(lower.join("old"), top.join("young")).expect("copied");
    whiteout(&top.join("old"));
    for (from, to) in [("b", "b"), ("old", "young")] {
        let modified = fs::metadata(lower.join(from)).expect("there").modified().expect("known");
        let file = fs::OpenOptions::new().write(true).open(top.join(to)).expect("open");
        file.set_modified(modified).expect("set");
    }
    assert_eq!(
        keeper.changes(),
        "Rf 6 /young\t/old\nMf 7 /a\ntf 5 /b\nDd 0 /gone\nAf 4 /new\nDf 5 /d/x\nAf 0 /d/z\n"
    );
    // The same for files of the layer itself.
    fs::rename(top.join("new"), top.join("newer")).expect("renamed");
    fs::write(top.join("a"), "once more").expect("written");
    fs::remove_file(top.join("d/z")).expect("removed");
    fs::set_permissions(top.join("b"), Permissions::from_mode(0o600)).expect("changed");
    fs::remove_file(top.join("gone")).expect("removed");
    fs::write(top.join("gone"), "x").expect("written");
    assert_eq!(keeper.changes(), "Rf 4 /newer\t/new\nMf 9 /a\ntf 5 /b\nAf 1 /gone\nDf 0 /d/z\n");
}

#[test]
fn a_directory_that_has_another_name_is_one_change() {
    let dir = folder();
    let top = dir.path().join("image");
    fs::create_dir_all(top.join("p/in")).expect("made");
    for name in ["p/1", "p/2", "p/in/3"] {
        fs::write(top.join(name), name).expect("written");
    }
    let keeper = Keeper::of(dir.path());
    assert_eq!(keeper.looks(), Looked::First);
    fs::rename(top.join("p"), top.join("q")).expect("renamed");
    fs::write(top.join("q/1"), "longer").expect("written");
    fs::remove_file(top.join("q/2")).expect("removed");
    fs::create_dir(top.join("p")).expect("made");
    fs::write(top.join("p/1"), "p/1").expect("written");
    assert_eq!(keeper.changes(), "Rd 0 /q\t/p\nAd 0 /p\nAf 3 /p/1\nMf 6 /q/1\nDf 3 /q/2\n");
    // Delete all of it.
    fs::remove_dir_all(top.join("q")).expect("removed");
    assert_eq!(keeper.changes(), "Dd 0 /q\n");
}

#[test]
fn a_look_ends_where_there_is_too_much() {
    let dir = folder();
    fs::create_dir(dir.path().join("image")).expect("made");
    for name in ["1", "2", "3"] {
        fs::write(dir.path().join("image").join(name), "").expect("written");
    }
    let shelf = Dir::top_itself(dir.path()).expect("there");
    let seen = |most| {
        let uppers = layer(dir.path()).uppers;
        let tops = [shelf.open("image").expect("there")];
        LayerIndex::of(&tops, &uppers, None, Moment::now(true), most).expect("read").is_some()
    };
    assert_eq!((seen(3), seen(4)), (false, true), "the top is one of them");
}

/// A sealed layer may contain renames: the layers below have other names for the same files.
#[test]
fn what_stands_below_is_found_through_renames() {
    let dir = folder();
    let (top, sealed, lower) =
        (dir.path().join("image"), dir.path().join("sealed/1/image"), dir.path().join("lower"));
    for dir in [top.join("new/in"), top.join("c/d"), sealed.join("new"), sealed.join("c/d")] {
        fs::create_dir_all(dir).expect("made");
    }
    for name in ["old/in/f", "old/g", "a/b/f"] {
        let path = lower.join(name);
        fs::create_dir_all(path.parent().expect("above")).expect("made");
        fs::write(path, "lower").expect("written");
    }
    let redirect = format!("{}redirect", runner_sandbox::overlay_marks());
    for (name, to) in [("new", &b"old"[..]), ("c/d", b"/a/b")] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(sealed.join(name), &*redirect, to, flags).expect("a mark");
    }
    let mut keeper = Keeper::of(dir.path());
    keeper.layer.uppers[0].lower = vec![sealed, lower];
    fs::remove_dir_all(top.join("new")).expect("removed");
    fs::remove_dir_all(top.join("c")).expect("removed");
    assert_eq!(keeper.looks(), Looked::First);
    fs::create_dir_all(top.join("new/in")).expect("made");
    fs::create_dir_all(top.join("c/d")).expect("made");
    fs::write(top.join("new/in/f"), "changed").expect("written");
    fs::write(top.join("c/d/f"), "changed").expect("written");
    fs::write(top.join("c/d/g"), "new").expect("written");
    whiteout(&top.join("new/g"));
    let mut changes: Vec<String> = keeper.changes().lines().map(str::to_owned).collect();
    changes.sort();
    assert_eq!(changes, ["Af 3 /c/d/g", "Df 5 /new/g", "Mf 7 /c/d/f", "Mf 7 /new/in/f"]);
}

/// A new upper directory has the attributes of the one it covers. A checkpoint is a stack and a
/// copy.
#[test]
fn what_is_sealed_comes_back() {
    let dir = folder();
    let top = dir.path().join("image");
    fs::create_dir(&top).expect("made");
    fs::set_permissions(&top, Permissions::from_mode(0o710)).expect("changed");
    fs::write(top.join("f"), "one").expect("written");
    let mut keeper = Keeper::of(dir.path());
    let first = keeper.layer.clone();
    let seal = keeper.seals(1);
    assert_eq!((&*seal.names, seal.entries), (&["image".to_owned()][..], 1));
    assert_eq!(keeper.layer.uppers[0].lower[0], top);
    let new = dir.path().join("sealed/1/image");
    assert_eq!(fs::metadata(&new).expect("there").mode() & 0o7777, 0o710);
    assert!(!dir.path().join("checkpoints/1").exists(), "what is empty is not copied");
    // Without changes, then with a change.
    let again = keeper.layer.save(&keeper.memory, keeper.keep(4, true)).expect("looked at").0;
    match again {
        Saved::Same => {}
        Saved::Copied { copies, .. } => keeper.keeps(ShelfMark { number: 4, copies }),
        Saved::Not { .. } => panic!("it is not sealed again"),
    }
    fs::write(new.join("g"), "two").expect("written");
    let second = keeper.layer.clone();
    keeper.seals(2);
    assert_eq!(keeper.layer.stack.sealed("image"), ["sealed/1/image", "image"]);
    keeper.layer = second;
    keeper.restores(1);
    assert!(new.is_dir() && !new.join("g").exists() && top.join("f").exists());
    assert_eq!(fs::metadata(&new).expect("there").mode() & 0o7777, 0o710);
    assert!(!dir.path().join("sealed/2").exists(), "nobody comes back to it");
    // A copy of what was written to it since.
    fs::write(new.join("h"), "three").expect("written");
    assert!(keeper.copies(5));
    fs::remove_file(new.join("h")).expect("removed");
    keeper.restores(5);
    assert!(new.join("h").exists());
    fs::write(new.join("i"), "").expect("written");
    assert!(matches!(
        keeper.layer.save(&keeper.memory, keeper.keep(6, true)).expect("looked at").0,
        Saved::Not { seal: Some(_), .. }
    ));
    assert!(dir.path().join("sealed/6/image.work").exists());
    first.abandon(&keeper.memory, 6).expect("removed");
    assert!(!dir.path().join("sealed/6").exists());
}

/// Where the overlays of a keeper write.
fn upper(keeper: &Keeper) -> PathBuf {
    keeper.layer.dir.join(&keeper.layer.uppers[0].dir)
}

fn mark(path: &Path, name: &str, value: &str) {
    let name = format!("{}{name}", runner_sandbox::overlay_marks());
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, name, value.as_bytes(), flags).expect("marked");
}

fn has_mark(path: &Path, name: &str) -> bool {
    let name = format!("{}{name}", runner_sandbox::overlay_marks());
    rustix::fs::getxattr(path, name, &mut [0_u8; 8][..]).is_ok()
}

/// Each step writes to the layer, which is sealed then.
fn seal_each(keeper: &mut Keeper, steps: &[&dyn Fn(&Path)]) {
    for (step, number) in steps.iter().zip(1..) {
        step(&upper(keeper));
        fs::write(upper(keeper).join(format!("step{number}")), "").expect("written");
        keeper.seals(number);
    }
}

fn merge(keeper: &Keeper) -> (LayerMerge, LayerMerged) {
    let merge = keeper.layer.stack.merges(|_, _| false).remove(0);
    let merged = keeper.layer.merge(&keeper.memory, merge.clone()).expect("merged");
    (merge, merged)
}

#[test]
fn a_merged_layer_shows_what_its_parts_show() {
    let dir = folder();
    fs::create_dir(dir.path().join("image")).expect("made");
    let mut keeper = Keeper::of(dir.path());
    let write = |path: &Path, text: &str| fs::write(path, text).expect("written");
    let make = |path: &Path| fs::create_dir(path).expect("made");
    seal_each(
        &mut keeper,
        &[
            // Generation 0 is not merged.
            &|_| {},
            &|top| {
                write(&top.join("gone"), "1");
                write(&top.join("changed"), "1");
                for name in ["both", "hidden", "replaced"] {
                    make(&top.join(name));
                    write(&top.join(name).join("old"), "1");
                }
                write(&top.join("linked"), "1");
                fs::hard_link(top.join("linked"), top.join("both/linked")).expect("linked");
            },
            &|top| whiteout(&top.join("gone")),
            &|top| {
                write(&top.join("changed"), "22");
                make(&top.join("both"));
                write(&top.join("both/new"), "22");
                fs::set_permissions(top.join("both"), Permissions::from_mode(0o711)).expect("set");
            },
            &|top| {
                make(&top.join("hidden"));
                write(&top.join("hidden/new"), "22");
                mark(&top.join("hidden"), "opaque", "y");
            },
            &|top| write(&top.join("replaced"), "a file"),
            &|top| whiteout(&top.join("below")),
            &|top| {
                make(&top.join("below"));
                write(&top.join("below/new"), "22");
            },
            &|top| {
                make(&top.join("both"));
                whiteout(&top.join("both/new"));
                fs::set_permissions(top.join("both"), Permissions::from_mode(0o700)).expect("set");
            },
        ],
    );
    let (merge, merged) = merge(&keeper);
    assert_eq!(merged, LayerMerged::Made);
    let there = dir.path().join("sealed/9/merged/image");
    let text = |path: &str| fs::read_to_string(there.join(path)).expect("read");
    let is_whiteout = |path: &str| {
        let stat = fs::symlink_metadata(there.join(path)).expect("there");
        stat.mode() & 0o170_000 == 0o020_000 && stat.rdev() == 0
    };
    assert!(is_whiteout("gone") && is_whiteout("both/new"));
    assert_eq!(
        (text("changed"), text("both/old"), text("replaced")),
        ("22".into(), "1".into(), "a file".into())
    );
    assert_eq!(fs::metadata(there.join("both")).expect("there").mode() & 0o7777, 0o700);
    assert!(!has_mark(&there.join("both"), "opaque"), "what lies below shows");
    assert!(!there.join("hidden/old").exists() && text("hidden/new") == "22");
    assert!(has_mark(&there.join("hidden"), "opaque"));
    assert!(has_mark(&there.join("below"), "opaque"), "a whiteout was below it");
    let inode = |path: &str| fs::metadata(there.join(path)).expect("there").ino();
    assert_eq!(inode("linked"), inode("both/linked"));
    let time = |path: &Path| fs::metadata(path).expect("there").modified().expect("known");
    assert_eq!(time(&there.join("both")), time(&dir.path().join("sealed/8/image/both")));
    // It takes effect with the next seal, and a checkpoint from before it comes back as it was.
    let before = keeper.layer.clone();
    fs::write(upper(&keeper).join("f"), "").expect("written");
    keeper.layer = keeper.layer.sealed(10, &["image".to_owned()], &[merge]);
    let lower = ["sealed/9/image", "sealed/9/merged/image", "image", "lower"];
    assert_eq!(keeper.layer.uppers[0].lower, lower.map(|part| dir.path().join(part)));
    keeper.layer = before;
    keeper.restores(9);
    assert!(!upper(&keeper).join("f").exists());
    assert!(dir.path().join("sealed/3/image/changed").exists());
}

#[test]
fn layers_that_point_elsewhere_or_are_large_stay() {
    let dir = folder();
    fs::create_dir(dir.path().join("image")).expect("made");
    let mut keeper = Keeper::of(dir.path());
    let nothing: &dyn Fn(&Path) = &|_| {};
    let mut steps = vec![nothing; 9];
    steps[3] = &|top| {
        fs::create_dir(top.join("moved")).expect("made");
        mark(&top.join("moved"), "redirect", "/elsewhere");
    };
    steps[4] = &|top| {
        fs::write(top.join("attributes"), "").expect("written");
        mark(&top.join("attributes"), "metacopy", "");
    };
    steps[5] = &|top| {
        for at in 0..300 {
            fs::write(top.join(at.to_string()), "").expect("written");
        }
    };
    seal_each(&mut keeper, &steps);
    let (merge, merged) = merge(&keeper);
    let LayerMerged::Stay(stay) = merged else { panic!("{merged:?}") };
    assert_eq!(stay, [merge.parts[4], merge.parts[3], merge.parts[2]]);
    assert!(!dir.path().join("sealed/9/merged/image").exists());
    let stays = |_: &str, part: &SealedPart| stay.contains(part);
    assert!(keeper.layer.stack.merges(stays).is_empty());
}

/// What has not changed is not copied again, and a checkpoint knows the copy that holds it.
#[test]
fn an_overlay_that_is_as_it_was_has_one_copy() {
    let dir = folder();
    for name in ["image", "%src"] {
        fs::create_dir(dir.path().join(name)).expect("made");
        fs::write(dir.path().join(name).join("f"), "1").expect("written");
    }
    let mut keeper = Keeper::of(dir.path());
    let source = WritableDirectory {
        name: "%src".to_owned(),
        dir: "%src".to_owned(),
        path: "/src".into(),
        lower: vec![dir.path().join("lower")],
    };
    keeper.layer.uppers.push(source);
    assert!(keeper.copies(1));
    // The clock of files is coarse: at first they are copied again.
    let last =
        (2..).find(|number| !keeper.copies(*number)).expect("their times tell some time") - 1;
    let number = last + 2;
    fs::write(dir.path().join("%src/f"), "two").expect("written");
    assert!(keeper.copies(number));
    let copies = &keeper.marks[&number].copies;
    assert_eq!((copies["image"] <= last, copies["%src"]), (true, number));
    assert!(!dir.path().join(format!("checkpoints/{number}/image")).exists());
    fs::write(dir.path().join("image/f"), "two").expect("written");
    keeper.restores(number);
    assert_eq!(fs::read(dir.path().join("image/f")).expect("there"), b"1");
    assert_eq!(fs::read(dir.path().join("%src/f")).expect("there"), b"two");
}

/// Somebody who comes between the look and the seal writes where it is not known any more.
#[test]
fn what_is_written_beside_a_seal_is_kept() {
    let dir = folder();
    for name in ["image", "%src"] {
        fs::create_dir(dir.path().join(name)).expect("made");
        fs::write(dir.path().join(name).join("f"), "one").expect("written");
    }
    let mut keeper = Keeper::of(dir.path());
    let source = WritableDirectory {
        name: "%src".to_owned(),
        dir: "%src".to_owned(),
        path: "/src".into(),
        lower: vec![dir.path().join("lower")],
    };
    keeper.layer.uppers.push(source);
    assert!(keeper.copies(1));
    fs::write(dir.path().join("image/g"), "two").expect("written");
    let (unsealed, sealed) = (dir.path().join("%src/f"), dir.path().join("sealed/2/image/h"));
    let seal = keeper.seals_while(2, || {
        fs::write(&unsealed, "other").expect("written");
        fs::write(&sealed, "new").expect("written");
    });
    assert_eq!(seal.names, ["image"]);
    for file in [&unsealed, &sealed] {
        fs::write(file, "later").expect("written");
    }
    keeper.restores(2);
    assert_eq!(fs::read(&unsealed).expect("there"), b"other");
    assert_eq!(fs::read(&sealed).expect("there"), b"new");
}

/// A full disk cuts a line off; those behind it are read all the same.
#[test]
fn a_line_that_is_cut_off_spoils_no_other() {
    let dir = folder();
    let layer = layer(dir.path());
    let write =
        |before| layer.write_line(&layer.line(before, &LayerCopies::new())).expect("written");
    write(1);
    let path = dir.path().join("runs");
    let whole = fs::read(&path).expect("there");
    fs::write(&path, [&*whole, b"{\"Kept\":{\"bef"].concat()).expect("written");
    write(3);
    let kept = lines(dir.path()).expect("read");
    assert_eq!(kept, [1, 3].map(|before| layer.line(before, &LayerCopies::new())));
}

/// Names of one file are one file.
#[test]
fn files_with_several_names_are_counted_once() {
    let dir = folder();
    let top = dir.path().join("image");
    fs::create_dir(&top).expect("made");
    for (one, others) in [("a", &["b", "c"][..]), ("d", &["e"]), ("f", &[])] {
        fs::write(top.join(one), "").expect("written");
        others.iter().for_each(|it| fs::hard_link(top.join(one), top.join(it)).expect("linked"));
    }
    assert_eq!(Keeper::of(dir.path()).seals(1).linked, 2);
}

/// A file with one name unchanged since the last copy and one new name is still one file.
#[test]
fn a_file_with_a_new_name_is_one_file() {
    let dir = folder();
    let top = dir.path().join("image");
    fs::create_dir_all(top.join("m")).expect("made");
    fs::write(top.join("m/one"), "1").expect("written");
    fs::hard_link(top.join("m/one"), top.join("two")).expect("linked");
    let mut keeper = Keeper::of(dir.path());
    assert!(keeper.copies(1));
    for (number, (from, to)) in [("m", "a"), ("two", "z")].into_iter().enumerate() {
        fs::rename(top.join(from), top.join(to)).expect("renamed");
        let number = u32::try_from(number).expect("small") + 2;
        assert!(keeper.copies(number));
        keeper.restores(number);
        let inode = |name: &str| fs::metadata(top.join(name)).expect("there").ino();
        let other = if number == 2 { "two" } else { "z" };
        assert_eq!(inode("a/one"), inode(other));
    }
}
