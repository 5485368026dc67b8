//! `runner cp`: copies files in and out, unchanged, and nowhere else.

use crate::common::{Bed, Outcome, Running, build, cases, until, write_program};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

cases! {
    [Containers, Image("busybox")] => names_as_docker_cp_gives_them, names_the_other_way_round,
        a_tree_there_and_back, twenty_thousand_files, a_deep_tree, links_of_the_build_lead_nowhere_outside,
        links_of_the_build_are_not_written_through, what_is_no_file_is_named, names_are_bytes,
        paths_are_those_of_exec, a_link_that_is_named, mistakes, projects_and_ended_builds;
    [Users, Image("busybox")] => owners;
    [Root, Image("busybox")] => under_sudo_it_belongs_to_the_caller;
    [] => in_engine_process;
    [Program("python3")] => a_hostile_program_writes_nothing_outside, the_build_ends_meanwhile,
        a_signal_leaves_no_half_file;
}

fn paused(bed: &Bed, command: &str) -> Running {
    bed.paused(&build(&[command, "codebuild-breakpoint"]), &[])
}

fn cp(bed: &Bed, words: &[&str]) -> Outcome {
    bed.runner(["cp"].iter().chain(words))
}

fn sh(bed: &Bed, script: &str) -> String {
    bed.runner(["exec", "--", "sh", "-c", script]).code(0).stdout
}

/// Every path below a directory and its facts: kind and mode, time, content or target.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let what = if stat.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if stat.is_dir() {
                pending.push(path.clone());
                String::new()
            } else {
                let bytes = fs::read(&path).unwrap();
                let sum = bytes
                    .iter()
                    .fold(0_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
                format!("{} bytes, {sum:x}", bytes.len())
            };
            let time = (stat.mtime(), stat.mtime_nsec());
            let text = format!("{:o} {time:?} {what}", stat.mode());
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
        }
    }
    found
}

/// Deeper than the number of descriptors, both ways.
fn a_deep_tree() {
    let bed = Bed::new();
    let running = paused(&bed, "true");
    let deep = vec!["d"; 1500].join("/");
    let there = bed.source().join("tree").join(&deep);
    fs::create_dir_all(&there).unwrap();
    fs::write(there.join("f"), "deep").unwrap();
    cp(&bed, &["tree", ":/tmp/"]).code(0);
    cp(&bed, &[":/tmp/tree", "back"]).code(0);
    assert_eq!(fs::read(bed.source().join("back").join(&deep).join("f")).unwrap(), b"deep");
    bed.resume(running);
}

/// The documented behaviour of `docker cp`, line by line.
fn names_as_docker_cp_gives_them() {
    let bed = Bed::new();
    let running = paused(&bed, "cd /tmp; echo one > file; mkdir -p dir/sub; echo two > dir/sub/x");
    let here = |name: &str| bed.source().join(name);
    // A file: to a new name, over a file, into a directory; not into a missing one.
    cp(&bed, &[":/tmp/file", "new"]).code(0);
    assert_eq!(fs::read(here("new")).unwrap(), b"one\n");
    fs::write(here("old"), "something longer").unwrap();
    cp(&bed, &[":/tmp/file", "old"]).code(0);
    assert_eq!(fs::read(here("old")).unwrap(), b"one\n");
    fs::create_dir(here("into")).unwrap();
    cp(&bed, &[":/tmp/file", "into"]).code(0);
    cp(&bed, &[":/tmp/file", "into/"]).code(0);
    assert_eq!(fs::read(here("into/file")).unwrap(), b"one\n");
    cp(&bed, &[":/tmp/file", "nosuch/"]).code(3).says("nosuch/ is not there").says("hint:");
    cp(&bed, &[":/tmp/file", "nosuch/name"]).code(3).says("nosuch: No such file");
    assert!(!here("nosuch").exists());
    // A directory: to a new name, into another, only its content; not over a file.
    cp(&bed, &[":/tmp/dir", "fresh"]).code(0);
    assert_eq!(fs::read(here("fresh/sub/x")).unwrap(), b"two\n");
    cp(&bed, &[":/tmp/dir", "fresh2/"]).code(0);
    assert_eq!(fs::read(here("fresh2/sub/x")).unwrap(), b"two\n");
    cp(&bed, &[":/tmp/dir/", "into"]).code(0);
    assert_eq!(fs::read(here("into/dir/sub/x")).unwrap(), b"two\n");
    cp(&bed, &[":/tmp/dir/.", "into"]).code(0);
    assert_eq!(fs::read(here("into/sub/x")).unwrap(), b"two\n");
    cp(&bed, &[":/tmp/dir/.", "fresh3"]).code(0);
    assert_eq!(fs::read(here("fresh3/sub/x")).unwrap(), b"two\n");
    cp(&bed, &[":/tmp/dir", "old"]).code(3).says("cannot copy a directory to the file old");
    // A trailing slash means a directory.
    cp(&bed, &[":/tmp/file/", "x"]).code(3).says("Not a directory");
    cp(&bed, &[":/tmp/file", "old/"]).code(3).says("old/ is not a directory");
    assert!(!here("x").exists());
    bed.resume(running);
}

fn names_the_other_way_round() {
    let bed = Bed::new();
    bed.write("file", "one\n");
    bed.write("dir/sub/x", "two\n");
    let running =
        paused(&bed, "mkdir -p /tmp/w/into /tmp/w/into2; echo something longer > /tmp/w/old");
    let to = |words: [&str; 2]| cp(&bed, &[words[0], &format!(":/tmp/w/{}", words[1])]);
    for words in [
        ["file", "new"],
        ["file", "old"],
        ["file", "into"],
        ["file", "into2/"],
        ["dir", "fresh"],
        ["dir", "fresh2/"],
        ["dir/", "into"],
        ["dir/.", "into2"],
    ] {
        to(words).code(0);
    }
    let seen = sh(&bed, "cd /tmp/w; find . -type f | sort; cat new old into/file into2/file");
    let files = "./fresh/sub/x\n./fresh2/sub/x\n./into/dir/sub/x\n./into/file\n./into2/file\n\
                 ./into2/sub/x\n./new\n./old\n";
    assert_eq!(seen, format!("{files}{}", "one\n".repeat(4)));
    to(["file", "nosuch/"]).code(3).says("/tmp/w/nosuch/ is not there");
    to(["file", "nosuch/name"]).code(3).says("/tmp/w/nosuch: No such file").says("(in the build)");
    to(["dir", "old"]).code(3).says("cannot copy a directory to the file /tmp/w/old");
    to(["file", "old/"]).code(3).says("/tmp/w/old/ is not a directory");
    to(["file/", "x"]).code(3).says("file/: Not a directory");
    to(["nosuch", "x"]).code(3).says("nosuch: No such file");
    bed.resume(running);
}

/// Modes, times, links, holes, empty directories and hard links.
fn a_tree_there_and_back() {
    let bed = Bed::new();
    let running = paused(&bed, "mkdir /tmp/w");
    let first = bed.path("first");
    fs::create_dir_all(first.join("deep/er/empty")).unwrap();
    for (name, mode) in
        [("a", 0o644), ("deep/script", 0o755), ("deep/er/secret", 0o600), ("ro", 0o444)]
    {
        let path = first.join(name);
        fs::write(&path, name.repeat(1000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    fs::write(first.join("empty"), "").unwrap();
    fs::write(first.join("large"), (0..3_000_000_u32).map(|i| (i >> 5) as u8).collect::<Vec<_>>())
        .unwrap();
    fs::hard_link(first.join("large"), first.join("deep/same")).unwrap();
    let sparse = fs::File::create(first.join("sparse")).unwrap();
    sparse.set_len(100 << 20).unwrap();
    sparse.write_all_at(b"x", 50 << 20).unwrap();
    symlink("../a", first.join("deep/link")).unwrap();
    symlink("/no/such", first.join("dangling")).unwrap();
    fs::set_permissions(first.join("deep/er"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(first.join("deep"), fs::Permissions::from_mode(0o750)).unwrap();
    let times = fs::File::open(first.join("deep")).unwrap();
    times.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400)).unwrap();
    let wanted = tree(&first);

    cp(&bed, &[first.to_str().unwrap(), ":/tmp/w/tree"]).code(0);
    let second = bed.path("second");
    cp(&bed, &[":/tmp/w/tree", second.to_str().unwrap()]).code(0);
    assert_eq!(tree(&second), wanted);
    // Copying over itself changes nothing.
    cp(&bed, &[":/tmp/w/tree/.", second.to_str().unwrap()]).code(0);
    assert_eq!(tree(&second), wanted);
    let stat = |name: &str| fs::metadata(second.join(name)).unwrap();
    assert_eq!(stat("large").ino(), stat("deep/same").ino());
    assert!(stat("sparse").blocks() < 10_000, "{} blocks", stat("sparse").blocks());
    let blocks = sh(&bed, "stat -c %b /tmp/w/tree/sparse; stat -c %h /tmp/w/tree/large");
    let (blocks, names) = blocks.split_once('\n').unwrap();
    assert!(blocks.parse::<u64>().unwrap() < 10_000 && names.trim() == "2", "{blocks} {names}");
    for dir in [&first, &second] {
        fs::set_permissions(dir.join("deep/er"), fs::Permissions::from_mode(0o700)).unwrap();
    }
    bed.resume(running);
}

fn twenty_thousand_files() {
    let bed = Bed::new();
    let running = paused(&bed, "true");
    let first = bed.path("first");
    for dir in 0..100 {
        let dir = first.join(format!("dir{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..200 {
            fs::write(dir.join(format!("file{file}")), format!("{file} ")).unwrap();
        }
    }
    cp(&bed, &[first.to_str().unwrap(), ":/tmp/tree"]).code(0);
    assert_eq!(sh(&bed, "find /tmp/tree -type f | wc -l"), "20000\n");
    let second = bed.path("second");
    cp(&bed, &[":/tmp/tree", second.to_str().unwrap()]).code(0);
    assert_eq!(tree(&second), tree(&first));
    bed.resume(running);
}

/// Whatever names a build chooses, they stay inside the copy.
fn links_of_the_build_lead_nowhere_outside() {
    let bed = Bed::new();
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "mine").unwrap();
    let script = format!(
        "mkdir -p /tmp/t/b /tmp/u/b; cd /tmp/t; ln -s {0} a; ln -s {0}/file c; cd /tmp/u; mkdir a; \
         echo evil > a/file; echo evil > c; echo evil > b/new",
        outside.display()
    );
    let running = paused(&bed, &script);
    let copy = bed.path("copy");
    let to = copy.to_str().unwrap();
    cp(&bed, &[":/tmp/t", to]).code(0);
    assert_eq!(fs::read_link(copy.join("a")).unwrap(), outside);
    // The second copy meets the links of the first.
    cp(&bed, &[":/tmp/u/.", to]).code(3).says("a: File exists").says("a/file: ");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(copy.join("c")).unwrap(), b"evil\n");
    assert!(fs::symlink_metadata(copy.join("c")).unwrap().is_file());
    assert_eq!(fs::read(copy.join("b/new")).unwrap(), b"evil\n");
    bed.resume(running);
}

fn links_of_the_build_are_not_written_through() {
    let bed = Bed::new();
    bed.write("tree/sub/file", "sent");
    bed.write("tree/other", "sent");
    let running =
        paused(&bed, "mkdir -p /tmp/outside /tmp/t/tree; ln -s /tmp/outside /tmp/t/tree/sub");
    cp(&bed, &["tree", ":/tmp/t"]).code(3).says("tree/sub: ").says("tree/sub/file: ");
    assert_eq!(sh(&bed, "ls /tmp/outside; cat /tmp/t/tree/other"), "sent");
    // Links that the caller names are followed, as by cp.
    cp(&bed, &["tree/other", ":/tmp/t/tree/sub"]).code(0);
    assert_eq!(sh(&bed, "ls /tmp/outside"), "other\n");
    sh(&bed, "echo x > /tmp/real; ln -s real /tmp/name");
    cp(&bed, &["tree/other", ":/tmp/name"]).code(0);
    assert_eq!(sh(&bed, "readlink /tmp/name; cat /tmp/real"), "real\nsent");
    bed.resume(running);
}

/// FIFOs do not block; setuid and setgid bits stay in the build.
fn what_is_no_file_is_named() {
    let bed = Bed::new();
    let running = paused(
        &bed,
        "mkdir /tmp/t; cd /tmp/t; mkfifo pipe; echo x > set; chmod 6755 set; chmod 1777 .",
    );
    let copy = bed.path("copy");
    let outcome = cp(&bed, &[":/tmp/t", copy.to_str().unwrap()]).code(3);
    let outcome = outcome.says("pipe is not copied: it is a FIFO");
    outcome.says("1 path could not be copied completely");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&copy), mode(&copy.join("set"))), (0o777, 0o755));
    nix::unistd::mkfifo(&copy.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    cp(&bed, &[copy.to_str().unwrap(), ":/tmp/u"]).code(3).says("pipe is not copied: it is a FIFO");
    cp(&bed, &[":/dev/null", "null"]).code(3).says("null is not copied: it is a device");
    bed.resume(running);
}

fn names_are_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bed = Bed::new();
    let running = paused(
        &bed,
        r"mkdir /tmp/t; cd /tmp/t; echo x > $(printf 'a\377b'); mkfifo $(printf 'c\033d')",
    );
    let copy = bed.path("copy");
    let outcome = cp(&bed, &[":/tmp/t", copy.to_str().unwrap()]).code(3);
    assert!(!outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
    assert_eq!(fs::read(copy.join(OsStr::from_bytes(b"a\xffb"))).unwrap(), b"x\n");
    let from = OsStr::from_bytes(b":/tmp/t/a\xffb");
    bed.runner([OsStr::new("cp"), from, OsStr::from_bytes(b"e\xfff")]).code(0);
    bed.runner([OsStr::new("cp"), OsStr::from_bytes(b"e\xfff"), OsStr::from_bytes(b":/tmp/g\xff")])
        .code(0);
    assert_eq!(sh(&bed, "cat /tmp/g*"), "x\n");
    bed.resume(running);
}

fn paths_are_those_of_exec() {
    let bed = Bed::new();
    let running = bed.paused(
        &build(&["mkdir -p /tmp/here; cd /tmp/here; echo x > f; codebuild-breakpoint"]),
        &[],
    );
    cp(&bed, &[":f", "a"]).code(0);
    cp(&bed, &[":./f", "b"]).code(0);
    cp(&bed, &[":.", "c"]).code(0);
    cp(&bed, &["a", ":g"]).code(0);
    cp(&bed, &["a", ":"]).code(2).says("name a path after `:`");
    cp(&bed, &["a", ":../h"]).code(0);
    for file in ["a", "b", "c/f"] {
        assert_eq!(fs::read(bed.source().join(file)).unwrap(), b"x\n", "{file}");
    }
    assert_eq!(sh(&bed, "ls /tmp/here /tmp/h"), "/tmp/h\n\n/tmp/here:\nf\ng\n");
    bed.resume(running);
}

fn a_link_that_is_named() {
    let bed = Bed::new();
    bed.write("dir/f", "x\n");
    symlink("dir", bed.source().join("link")).unwrap();
    let running =
        paused(&bed, "cd /tmp; mkdir dir; echo x > dir/f; ln -s dir link; ln -s f dir/flink");
    cp(&bed, &[":/tmp/link", "one"]).code(0);
    assert_eq!(fs::read_link(bed.source().join("one")).unwrap(), Path::new("dir"));
    for (number, words) in
        [[":/tmp/link/", ""], [":/tmp/link/.", ""], [":/tmp/link", "-L"]].iter().enumerate()
    {
        let to = format!("two{number}");
        let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
        cp(&bed, &[words.as_slice(), &[&to]].concat()).code(0);
        assert_eq!(fs::read(bed.source().join(to).join("f")).unwrap(), b"x\n");
    }
    cp(&bed, &["-L", ":/tmp/dir/flink", "three"]).code(0);
    assert!(fs::symlink_metadata(bed.source().join("three")).unwrap().is_file());
    cp(&bed, &["link", ":/tmp/one"]).code(0);
    cp(&bed, &["link/", ":/tmp/two"]).code(0);
    cp(&bed, &["-L", "link", ":/tmp/three"]).code(0);
    assert_eq!(sh(&bed, "readlink /tmp/one; cat /tmp/two/f /tmp/three/f"), "dir\nx\nx\n");
    bed.resume(running);
}

fn mistakes() {
    let bed = Bed::new();
    bed.write("file", "x");
    cp(&bed, &[":/x", "y"]).code(2).says("no build is live");
    let running = paused(&bed, "true");
    cp(&bed, &["file", "y"]).code(2).says("neither SRC nor DST is in a build");
    cp(&bed, &[":x", ":y"]).code(2).says("both in a build");
    cp(&bed, &["nosuch:/x", "y"]).code(2).says("no build `nosuch`").says("live builds: demo:");
    cp(&bed, &["-", ":/x"]).code(2).says("exec BUILD");
    cp(&bed, &[":/nosuch", "y"])
        .code(3)
        .says("/nosuch: No such file or directory")
        .says("(in the build)");
    cp(&bed, &[":/etc/passwd/x", "y"]).code(3).says("Not a directory");
    assert!(!bed.source().join("y").exists());
    bed.resume(running);
}

fn projects_and_ended_builds() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    let ended = fs::read_dir(bed.home().join("builds")).unwrap().next().unwrap().unwrap();
    let ended = ended.file_name().into_string().unwrap();
    let running = paused(&bed, "echo x > /tmp/x");
    let live = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    for build in ["demo", &live, &format!("demo:{live}"), &live[..13]] {
        let to = bed.path("to");
        cp(&bed, &[&format!("{build}:/tmp/x"), to.to_str().unwrap()]).code(0);
        fs::remove_file(to).unwrap();
    }
    cp(&bed, &[&format!("{ended}:/tmp/x"), "y"]).code(2).says("has ended");
    bed.resume(running);
}

/// Owned by root in the build, by the caller outside.
fn owners() {
    let bed = Bed::new();
    bed.write("file", "x");
    let running =
        paused(&bed, "mkdir -m 777 /tmp/t; cd /tmp/t; echo x > f; ln -s f l; chown -hR builder .");
    cp(&bed, &["file", ":/tmp/t/sent"]).code(0);
    assert_eq!(sh(&bed, "stat -c %u:%g /tmp/t/sent"), "0:0\n");
    cp(&bed, &[":/tmp/t", "got"]).code(0);
    for name in ["got", "got/f", "got/l"] {
        let stat = fs::symlink_metadata(bed.source().join(name)).unwrap();
        assert_eq!(stat.uid(), nix::unistd::geteuid().as_raw(), "{name}");
    }
    bed.resume(running);
}

fn under_sudo_it_belongs_to_the_caller() {
    let bed = Bed::new();
    let running = paused(&bed, "mkdir -p /tmp/t/d; cd /tmp/t; echo x > d/f; ln -s f l");
    let mut command = bed.command(["cp", ":/tmp/t", "got"]);
    command.env("SUDO_UID", "12345").env("SUDO_GID", "12346");
    assert!(command.status().unwrap().success());
    for name in ["got", "got/d", "got/d/f", "got/l"] {
        let stat = fs::symlink_metadata(bed.source().join(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (12345, 12346), "{name}");
    }
    bed.resume(running);
}

fn in_engine(bed: &Bed) -> Running {
    bed.write("buildspec.yml", build(&["codebuild-breakpoint"]));
    let mut command = bed.command(["run", "--project", "demo", "--engine", "process"]);
    let running = Running::spawn_from(command.arg("--enable-session"));
    running.stderr.wait_for("stop ");
    running
}

fn in_engine_process() {
    let bed = Bed::new();
    bed.write("dir/file", "from the source\n");
    let running = in_engine(&bed);
    // Relative to the build's own copy of the source.
    cp(&bed, &[":dir", "got"]).code(0);
    assert_eq!(fs::read(bed.source().join("got/file")).unwrap(), b"from the source\n");
    cp(&bed, &["got/file", ":new"]).code(0);
    assert_eq!(sh(&bed, "cat $CODEBUILD_SRC_DIR/new"), "from the source\n");
    assert!(!bed.source().join("new").exists());
    bed.resume(running);
}

/// Replaces the program that moves files, which a build with the caller's own rights can do. It
/// prints the output of `script` after answering the request for the kind of /tmp/x.
fn hostile(bed: &Bed, script: &str) {
    let layer = format!("/var/tmp/runner-{}", bed.live().file_name().unwrap().to_str().unwrap());
    let program = format!("{layer}/codebuild/readonly/bin/runner-files");
    fs::remove_file(&program).unwrap();
    let text = format!(
        r#"#!/usr/bin/env python3
import os, struct, sys, time
def say(kind, body=b""):
    sys.stdout.buffer.write(struct.pack("<II", len(body), kind) + body)
    sys.stdout.buffer.flush()
def facts(mode, size, path):
    return struct.pack("<IIIIQQQqIII", mode, 0, 0, 1, size, 1, 1, 0, 0, 0, len(path)) + path
def entry(mode, size, path, target=b""):
    say(2, facts(mode, size, path) + target)
FILE, DIR, LINK = 0o100644, 0o040755, 0o120777
def looked_at(mode):
    say(1, facts(DIR, 0, b""))
    entry(mode, 0 if mode != FILE else 5, b"x")
    say(7)
    say(1, facts(DIR, 0, b""))
{script}
say(7)
time.sleep(1000)
"#
    );
    write_program(Path::new(&program), &text);
}

fn a_hostile_program_writes_nothing_outside() {
    let bed = Bed::new();
    let running = in_engine(&bed);
    let outside = bed.path("outside");
    let link = format!("entry(LINK, 1, b'l', b'{}')\n", outside.display());
    let through = format!("{link}entry(FILE, 5, b'l/evil')\nsay(3, b'12345')\nsay(5, bytes(8))");
    for (number, (script, wanted)) in [
        ("entry(FILE, 5, b'../evil')", "leads out of its root"),
        ("entry(FILE, 5, b'/tmp/evil')", "leads out of its root"),
        ("entry(FILE, 5, b'a/../../evil')", "leads out of its root"),
        ("entry(DIR, 5, b'..')", "leads out of its root"),
        (through.as_str(), "l is a symbolic link"),
        ("entry(FILE, 5, b'f')\nsay(3, b'123456')", "content that fits no file"),
        ("entry(FILE, 5, b'f')\nentry(FILE, 5, b'g')", "in place of its files"),
        ("entry(FILE, 2**62, b'f')\nsay(4, struct.pack('<Q', 2**62))\nsay(5, bytes(8))", "f: "),
        ("say(99)", "unknown kind 99"),
        ("sys.stdout.buffer.write(b'\\xff' * 100)\nsys.stdout.buffer.flush()", "nonsense"),
        ("os._exit(0)", "has ended early"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::create_dir(&outside).unwrap();
        hostile(&bed, &format!("looked_at(DIR)\n{script}"));
        let to = bed.path(&format!("copies/{number}/to"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        cp(&bed, &[":x", to.to_str().unwrap()]).code(3).says(wanted);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{script}");
        assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1, "{script}");
        fs::remove_dir(&outside).unwrap();
    }
    // One file was requested: no other arrives.
    hostile(&bed, "looked_at(FILE)\nentry(FILE, 5, b'other')\nsay(3, b'12345')\nsay(5, bytes(8))");
    cp(&bed, &[":x", "copy"]).code(3).says("in place of its files");
    assert!(!bed.source().join("copy").exists());
    bed.resume(running);
}

fn the_build_ends_meanwhile() {
    let bed = Bed::new();
    let running = in_engine(&bed);
    hostile(&bed, "time.sleep(1000)");
    let copy = Running::spawn(bed.command(["cp", ":x", "copy"]));
    until("it is a session", || {
        bed.runner(["ps", "--format", "json"]).stdout.contains("\"sessions\": 1")
    });
    bed.resume(running);
    copy.stderr.wait_for("the build has ended: SUCCEEDED");
    copy.ends(3);
}

fn a_signal_leaves_no_half_file() {
    let bed = Bed::new();
    let running = in_engine(&bed);
    hostile(&bed, "looked_at(FILE)\nentry(FILE, 5, b'x')\nsay(3, b'12')\ntime.sleep(1000)");
    let to = bed.path("to");
    for is_there in [false, true] {
        if is_there {
            fs::write(&to, "what was there").unwrap();
        }
        let copy = Running::spawn(bed.command(["cp", ":x", to.to_str().unwrap()]));
        let names = || fs::read_dir(bed.path("")).unwrap().flatten().map(|entry| entry.path());
        let is_begun = || {
            names().any(|path| {
                let is_part = path == to || path.to_str().unwrap().contains(".runner-part-");
                is_part && fs::read(path).is_ok_and(|bytes| bytes == b"12")
            })
        };
        until("the file has begun", is_begun);
        copy.signal(Signal::SIGINT);
        copy.ends(130);
        assert!(!names().any(|path| path.to_str().unwrap().contains(".runner-part-")));
        assert_eq!(fs::read(&to).ok(), is_there.then(|| b"what was there".to_vec()));
    }
    bed.resume(running);
}
