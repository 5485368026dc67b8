//! A folder of caches that someone else has prepared as a trap, through a build or a cloned source.

use crate::common::aws::{bucket, keys, with_aws};
use crate::common::{Bed, Outcome, Running, build, cases, list, outcome, write_program};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

cases! {
    [Containers] => a_top_that_is_a_link;
    [Containers, Image("busybox")] => links_in_place_of_directories, content_that_is_a_link,
        content_that_was_planted,
        unfinished_caches_that_are_links, small_files_that_are_none, a_prune_passes_no_link,
        a_cache_from_elsewhere, a_signature_that_is_copied, secrets_in_keys, keys_that_drive_terminals;
    [Containers, Image("busybox"), Python] => secrets_in_keys_of_a_bucket;
    [] => a_hostile_program_saves_nothing_outside;
}

const CANARY: &str = "for nobody's eyes";
const PATHS: &str = "  paths: ['/root/.deps/**/*', 'd/**/*']\n";
const MAKE: &str = "mkdir -p /root/.deps d; echo one > /root/.deps/one; echo two > d/two";

fn store(bed: &Bed) -> PathBuf {
    bed.path("cache")
}

fn spec(commands: &[&str], cache: &str) -> String {
    format!("{}cache:\n{cache}", build(commands))
}

fn run_with(bed: &Bed, store: &Path, commands: &[&str], cache: &str) -> Outcome {
    bed.build(&spec(commands, cache), &["--cache", store.to_str().unwrap()])
}

fn run(bed: &Bed, commands: &[&str], cache: &str) -> Outcome {
    run_with(bed, &store(bed), commands, cache)
}

/// The folder of the only cache.
fn entry(bed: &Bed) -> PathBuf {
    let entries = list(&store(bed).join("entries"));
    assert_eq!(entries.len(), 1, "{entries:?}");
    store(bed).join("entries").join(&entries[0])
}

/// A directory of the caller that no build may see or change, with directories named as in a cache.
fn private(bed: &Bed) -> PathBuf {
    let dir = bed.path("private");
    for inner in ["", "d", "root", "root/.deps", "tree/source/d", "tree/root/root/.deps", ".ssh"] {
        fs::create_dir_all(dir.join(inner)).unwrap();
        fs::write(dir.join(inner).join("canary"), CANARY).unwrap();
    }
    dir
}

#[track_caller]
fn is_whole(private: &Path) {
    for inner in ["", "d", "root", "root/.deps", "tree/source/d", "tree/root/root/.deps", ".ssh"] {
        let text = fs::read_to_string(private.join(inner).join("canary"));
        assert_eq!(text.unwrap(), CANARY, "{inner}");
    }
}

fn copy(from: &Path, to: &Path) {
    outcome(std::process::Command::new("cp").arg("-a").arg(from).arg(to)).code(0);
}

/// Whatever a build puts in the place of /home leads only into the next build's own container.
fn a_top_that_is_a_link() {
    let bed = Bed::host();
    let private = private(&bed);
    let canary = private.join("canary");
    let look = format!("cat /home{0} /home/canary {0} 2>&1; true", canary.display());
    // Without root, nobody can mount the whole machine over something, but a home can be mounted.
    for (key, target) in [("a", Path::new("/")), ("b", &private)] {
        let target = target.display();
        let make =
            format!("mkdir -p deps; truncate -s 33M deps/pad; rmdir /home; ln -s {target} /home");
        let cache = format!("  key: {key}\n  paths: ['deps/*', '/home']\n");
        run(&bed, &[&make], &cache).code(0).says("saved");
        for _ in 0..2 {
            let output = run(&bed, &[&look, "ls deps"], &cache).code(0).output();
            assert!(!output.contains(CANARY) && output.contains("No such file"), "{output}");
            assert!(output.contains("pad"), "{output}");
        }
    }
}

/// If any directory of a cache is a link, the build does not see its target.
fn links_in_place_of_directories() {
    let look = "cat canary d/canary /root/canary /root/.deps/canary /root/root/canary; \
                find . /root -name canary";
    for place in ["tree/source", "tree/root", "tree/root/root", "tree", "", ".."] {
        let bed = Bed::new();
        let private = private(&bed);
        run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
        let dir = match place {
            ".." => store(&bed).join("entries"),
            place => entry(&bed).components().chain(Path::new(place).components()).collect(),
        };
        let aside = bed.path("aside");
        fs::rename(&dir, &aside).unwrap();
        match place {
            // With everything that makes it look like a cache.
            "" | ".." => {
                let name = aside.file_name().unwrap();
                copy(&aside, &private.join(name));
                symlink(private.join(name), &dir).unwrap();
            }
            _ => symlink(&private, &dir).unwrap(),
        }
        for store in [store(&bed), bed.path("copied")] {
            copy(&bed.path("cache"), &bed.path("copied"));
            let outcome = run_with(&bed, &store, &[&format!("{look}; true")], PATHS).code(0);
            assert!(!outcome.stdout.contains(CANARY), "{place:?}: {outcome:?}");
            assert!(!outcome.stdout.contains("/canary\n"), "{place:?}: {outcome:?}");
            fs::remove_dir_all(bed.path("copied")).unwrap();
        }
        is_whole(&private);
    }
}

/// Only a cache's content is swept, and links are not followed.
fn content_that_is_a_link() {
    let digest = "0123456789abcdef".repeat(4);
    let of_a_cache = format!("{digest}.644.0.0");
    let bed = Bed::new();
    let private = private(&bed);
    fs::create_dir(private.join("01")).unwrap();
    fs::write(private.join("01").join(&of_a_cache), CANARY).unwrap();
    fs::create_dir(store(&bed)).unwrap();
    symlink(&private, store(&bed).join("content")).unwrap();
    run(&bed, &[MAKE], PATHS).code(0);
    bed.runner(["cache", "prune", "--all"]);
    is_whole(&private);
    assert!(private.join("01").join(&of_a_cache).exists());
    // One level deeper.
    let bed = Bed::new();
    fs::create_dir_all(store(&bed).join("content")).unwrap();
    symlink(private.join("01"), store(&bed).join("content/01")).unwrap();
    symlink(private.join(".ssh"), store(&bed).join("content/02")).unwrap();
    // A project's own folder of that name.
    let own = store(&bed).join("content/posts/first.md");
    fs::create_dir(own.parent().unwrap()).unwrap();
    fs::write(&own, "text").unwrap();
    // And content that no cache uses any more.
    let left = store(&bed).join("content/ab").join(of_a_cache.replacen("01", "ab", 1));
    fs::create_dir(left.parent().unwrap()).unwrap();
    fs::write(&left, "left").unwrap();
    run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
    run(&bed, &["cat d/two"], PATHS).code(0).says("restored 2 file(s)");
    bed.runner(["cache", "prune", "--all"]).code(0);
    is_whole(&private);
    assert!(private.join("01").join(&of_a_cache).exists());
    assert!(own.exists() && !left.exists());
}

/// Content that someone has planted among shared content is not used as a build's.
fn content_that_was_planted() {
    const OF_100_TIMES_A: &str = "2816597888e4a0d3a36b82b83316ab32680eb8f00f8cd3b904d681246d285a0e";
    let bed = Bed::new();
    let planted = store(&bed).join("content").join(&OF_100_TIMES_A[..2]);
    fs::create_dir_all(&planted).unwrap();
    let planted = planted.join(format!("{OF_100_TIMES_A}.644.1000000000.0"));
    fs::write(&planted, "b".repeat(100)).unwrap();
    let make = "mkdir d; printf 'a%.0s' $(seq 100) > d/x; touch -d @1000000000 d/x";
    let cache = "  key: k\n  paths: [d]\n";
    run(&bed, &[make], cache).code(0).says("saved 1 file(s), 100 bytes");
    let seen = run(&bed, &["cat d/x"], cache).code(0).output();
    assert_eq!(seen.trim_end(), "a".repeat(100));
}

/// Leftovers of killed runners are removed, and nothing that only resembles them.
fn unfinished_caches_that_are_links() {
    let bed = Bed::new();
    let private = private(&bed);
    let id = "0b0e4a3c-5f8f-4f0e-9a55-0d6a6c5f2a11";
    let locked = [private.join("d"), private.join(id)];
    fs::create_dir(&locked[1]).unwrap();
    locked.iter().for_each(|dir| fs::write(dir.join("lock"), "").unwrap());
    fs::create_dir(store(&bed)).unwrap();
    symlink(&private, store(&bed).join("new")).unwrap();
    run(&bed, &[MAKE], PATHS).code(0);
    bed.runner(["cache", "prune", "--all"]);
    locked.iter().for_each(|dir| assert!(dir.join("lock").exists()));
    is_whole(&private);
    let bed = Bed::new();
    let new = store(&bed).join("new");
    fs::create_dir_all(new.join("notes")).unwrap();
    fs::write(new.join("notes/lock"), "").unwrap();
    symlink(&locked[1], new.join(id)).unwrap();
    run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
    bed.runner(["cache", "prune", "--all"]).code(0);
    locked.iter().for_each(|dir| assert!(dir.join("lock").exists()));
    assert!(new.join("notes/lock").exists());
    is_whole(&private);
}

/// Special or large files are not read as a cache's description, and nothing blocks on them.
fn small_files_that_are_none() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 4] = [
        ("a FIFO", |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("a device", |path| symlink("/dev/zero", path).unwrap()),
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("too much", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
    ];
    for (what, spoil) in spoils {
        for name in ["entry.json", "lock", "details.json", "signature"] {
            let bed = Bed::new();
            run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
            let path = entry(&bed).join(name);
            if what == "too much" && name == "lock" {
                continue;
            }
            let _ = fs::remove_file(&path);
            spoil(&path);
            bed.write("buildspec.yml", spec(&["true"], PATHS));
            // A runner that reads without limit fails here instead of exhausting the machine.
            let limited = |arguments: String| {
                let script = format!(
                    "ulimit -v 8000000; exec {} {arguments}",
                    crate::common::runner().display()
                );
                outcome(bed.other("sh").args(["-c", &script])).code(0)
            };
            let image = crate::common::image("busybox");
            let store = store(&bed);
            let (image, store) = (image.display(), store.display());
            limited(format!("run --project demo --image rootfs:{image} --cache {store}"));
            limited(format!("cache ls {store}"));
            limited(format!("cache prune --all {store}"));
        }
    }
}

/// Pruning removes only what it has listed, and lists nothing behind a link.
fn a_prune_passes_no_link() {
    let bed = Bed::new();
    run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
    let kept = bed.path("kept");
    let name = entry(&bed).file_name().unwrap().to_owned();
    fs::create_dir(&kept).unwrap();
    copy(&entry(&bed), &kept);
    let prune = || bed.runner(["cache", "prune", "--all", store(&bed).to_str().unwrap()]);
    prune().code(0);
    // Of one cache, and of all of them.
    symlink(kept.join(&name), store(&bed).join("entries").join(&name)).unwrap();
    prune().code(0);
    assert!(kept.join(&name).join("entry.json").exists());
    fs::remove_dir_all(store(&bed)).unwrap();
    fs::create_dir(store(&bed)).unwrap();
    symlink(&kept, store(&bed).join("entries")).unwrap();
    prune();
    bed.runner(["cache", "ls", store(&bed).to_str().unwrap()]);
    assert!(kept.join(&name).join("entry.json").exists());
    // Someone else's directory beside the caches.
    fs::remove_file(store(&bed).join("entries")).unwrap();
    let other = store(&bed).join("entries/notes");
    fs::create_dir_all(&other).unwrap();
    fs::copy(kept.join(&name).join("entry.json"), other.join("entry.json")).unwrap();
    fs::write(other.join("lock"), "").unwrap();
    prune().code(0);
    assert!(other.join("entry.json").exists());
}

/// A cache that this user's runner has not saved here is copied file by file, and is no layer.
fn a_cache_from_elsewhere() {
    let bed = Bed::new();
    let make = format!("{MAKE}; ln -s two d/link; chmod 700 d");
    run(&bed, &[&make], PATHS).code(0).says("saved 2 file(s)");
    let look = "cat /root/.deps/one d/link; readlink d/link; stat -c '%a %u' d /root/.deps";
    let looked = run(&bed, &[look], PATHS).code(0).says("as a layer").output();
    assert!(looked.starts_with("one\ntwo\ntwo\n"), "{looked}");
    // As a service does that transfers caches to the next machine.
    let copied = bed.path("copied");
    copy(&store(&bed), &copied);
    let second = run_with(&bed, &copied, &[look], PATHS).code(0).says("restored 2 file(s)");
    assert_eq!(second.output(), looked);
    assert!(!second.stderr.contains("as a layer"), "{second:?}");
    assert!(!second.stderr.contains("saved"), "{second:?}");
    // On that machine, a cache saved there is a layer again.
    run_with(&bed, &copied, &["echo more > d/more"], PATHS).code(0).says("saved");
    let second = run_with(&bed, &copied, &["cat d/more"], PATHS).code(0).says("as a layer");
    assert_eq!(second.output(), "more\n");
    // Another state folder is another runner.
    let text = spec(&[look], PATHS);
    let mut command = bed.build_command(&text, &["--cache", store(&bed).to_str().unwrap()]);
    let elsewhere = outcome(command.env("RUNNER_HOME", bed.path("other"))).code(0);
    assert_eq!(elsewhere.output(), looked);
    assert!(!elsewhere.stderr.contains("as a layer"), "{elsewhere:?}");
}

/// One cache's signature does not validate another.
fn a_signature_that_is_copied() {
    let bed = Bed::new();
    run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
    let (own, aside) = (entry(&bed), bed.path("aside"));
    // The same name and description, for another tree.
    fs::rename(&own, &aside).unwrap();
    copy(&aside, &own);
    fs::write(own.join("tree/source/d/two"), "other").unwrap();
    let outcome = run(&bed, &["cat d/two"], PATHS).code(0);
    assert!(!outcome.stderr.contains("as a layer"), "{outcome:?}");
    // The same tree with another description.
    fs::remove_dir_all(store(&bed)).unwrap();
    run(&bed, &[MAKE], PATHS).code(0).says("saved 2 file(s)");
    let words = entry(&bed).join("entry.json");
    let text = fs::read_to_string(&words).unwrap();
    fs::write(&words, text.replace("demo", "other")).unwrap();
    bed.write("buildspec.yml", spec(&["cat d/two"], PATHS));
    let image = format!("rootfs:{}", crate::common::image("busybox").display());
    let store = store(&bed).to_str().unwrap().to_owned();
    let options = ["run", "--image", &image, "--project", "other", "--cache", &store];
    let outcome = bed.runner(options).code(0).says("restored 2 file(s)");
    assert!(!outcome.stderr.contains("as a layer"), "{outcome:?}");
}

/// A secret in a key distinguishes keys and is never displayed.
fn secrets_in_keys() {
    let bed = Bed::new();
    let cache = "  key: deps-$TOKEN-v1\n  fallback-keys: [deps-$TOKEN-]\n  paths: [d]\n";
    let go = |token: &str, key: &str, commands: &[&str]| {
        let token = format!("TOKEN={token}");
        let store = store(&bed);
        let options = ["--cache", store.to_str().unwrap(), "-e", &token, "--mask", "TOKEN"];
        bed.build(&spec(commands, &cache.replace("v1", key)), &options).code(0)
    };
    let first = go("hunter2-secret", "v1", &["mkdir d; echo one > d/x"]).says("saved 1 file(s)");
    let again = go("hunter2-secret", "v1", &["cat d/x"]).says("restored 1 file(s)");
    assert_eq!(again.output(), "one\n");
    let similar = go("hunter2-secret", "v2", &["cat d/x"]).says("similar key");
    assert_eq!(similar.output(), "one\n");
    let other = go("another-secret", "v1", &["test ! -e d; mkdir d; touch d/y"]);
    let other = other.says("none for the key").says("saved 1 file(s)");
    let listed = bed.runner(["cache", "ls"]).code(0).stdout;
    let json = bed.runner(["cache", "ls", "--format", "json"]).code(0).stdout;
    assert_eq!(listed.matches("deps-").count(), 3, "{listed}");
    let mut said = vec![listed, json];
    said.extend([first, again, similar, other].map(|outcome| outcome.stderr + &outcome.stdout));
    for id in list(&store(&bed).join("entries")) {
        let dir = store(&bed).join("entries").join(id);
        said.extend(
            ["entry.json", "details.json"].map(|n| fs::read_to_string(dir.join(n)).unwrap()),
        );
    }
    for text in said {
        assert!(!text.contains("hunter2") && !text.contains("another-secret"), "{text}");
    }
}

/// Caches shared by many machines have no keys with secrets.
fn secrets_in_keys_of_a_bucket() {
    let name = bucket("cache-secrets");
    let place = format!("s3://{name}");
    let bed = Bed::new();
    let text = spec(&["mkdir d; touch d/x"], "  key: deps-$TOKEN\n  paths: [d]\n");
    let options = ["--cache", &place, "-e", "TOKEN=hunter2-secret", "--mask", "TOKEN"];
    let outcome = with_aws(&bed, &text, &options).code(0);
    outcome.says("warning: cache: a secret is in the key deps-$TOKEN").says("continues without");
    assert_eq!(keys(&name), [""; 0]);
}

fn keys_that_drive_terminals() {
    let bed = Bed::new();
    let cache = "  key: k$(printf '\\033]0;own\\007')\n  paths: [d]\n";
    let outcome = run(&bed, &["mkdir d; touch d/x"], cache).code(0).says("saved 1 file(s)");
    let listed = bed.runner(["cache", "ls"]).code(0).stdout;
    assert!(listed.contains("]0;own"), "{listed:?}");
    for text in [listed, outcome.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }
}

/// Answers like `runner-files`, and claims that `d` contains a link and a file behind it.
const HOSTILE: &str = r#"#!/usr/bin/env python3
import struct, sys
asked, told = sys.stdin.buffer, sys.stdout.buffer
FILE, DIR, LINK = 0o100644, 0o040755, 0o120777
def say(kind, body=b""):
    told.write(struct.pack("<II", len(body), kind) + body)
def facts(mode, size, path):
    return struct.pack("<IIIIQQQqIII", mode, 0, 0, 1, size, 1, 1, 0, 0, 0, len(path)) + path
def entry(mode, path, target=b""):
    say(2, facts(mode, 5 if mode == FILE else 0, path) + target)
root = b""
while head := asked.read(8):
    length, kind = struct.unpack("<II", head)
    body = asked.read(length)
    flags, path = struct.unpack("<I", body[:4])[0] if length else 0, body[4:]
    if kind == 1:
        root = path
        say(1, facts(DIR, 0, b""))
    elif kind == 2 and flags & 2:
        entry(FILE, path)
        say(3, b"12345")
        say(5, bytes(8))
    elif kind == 2 and path == b"d":
        entry(DIR, path)
    elif kind == 2 and root.endswith(b"/d"):
        entry(LINK, b"l", b"OUTSIDE")
        entry(FILE, b"l/evil")
        entry(FILE, b"plain")
    elif kind == 3:
        say(7)
        told.flush()
"#;

/// If the program makes impossible claims about its files, nothing is saved, and nothing written
/// elsewhere.
fn a_hostile_program_saves_nothing_outside() {
    let bed = Bed::new();
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    bed.write(
        "buildspec.yml",
        spec(&["mkdir d; touch d/plain; codebuild-breakpoint"], "  paths: ['d/**/*']\n"),
    );
    let mut command = bed.command(["run", "--project", "demo", "--engine", "process"]);
    command.args(["--enable-session", "--cache", store(&bed).to_str().unwrap()]);
    let running = Running::spawn_from(&mut command);
    running.stderr.wait_for("stop ");
    let layer = format!("/var/tmp/runner-{}", bed.live().file_name().unwrap().to_str().unwrap());
    let program = format!("{layer}/codebuild/readonly/bin/runner-files");
    fs::remove_file(&program).unwrap();
    let text = HOSTILE.replace("OUTSIDE", outside.to_str().unwrap());
    write_program(Path::new(&program), &text);
    bed.runner(["resume"]).code(0);
    running.stderr.wait_for("the cache cannot be saved: d/l/evil: ");
    running.ends(0);
    assert_eq!(list(&outside), [""; 0]);
    assert_eq!(list(&store(&bed).join("entries")), [""; 0]);
}
