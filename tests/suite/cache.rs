//! Caches: found by key, complete or not at all, and never a reason to fail.

use crate::common::aws::{Fault, Proxy, bucket, cli, keys, surround, with_aws, with_aws_at};
use crate::common::{Bed, Outcome, Running, cases, is_root, list, outcome};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

cases! {
    [Containers, Image("busybox")] => the_next_build_finds_it, keys_and_their_beginnings,
        a_key_stands_for_one_thing, actions, what_is_kept_of_files, builds_change_their_own_copy,
        a_failed_build_saves_nothing, trouble_fails_no_build, listed_and_pruned, bytes_are_kept_once,
        what_a_killed_build_leaves, in_the_image_host, of_the_engine_process, many_files,
        two_builds_at_once, a_layer_for_a_key_of_the_shell, builds_that_share_a_layer,
        where_no_layer_can_be, without_the_option;
    [Containers, Image("busybox"), Pasta] => a_layer_and_a_network;
    [Containers, Image("busybox"), Users] => owners_are_kept;
    [Containers, Image("busybox"), Root] => under_sudo_it_is_the_callers;
    [Containers, Image("busybox"), Python] => in_a_bucket, a_bucket_that_stumbles,
        a_bucket_that_stalls, a_bucket_that_spoils_it;
}

fn store(bed: &Bed) -> PathBuf {
    bed.path("cache")
}

/// A buildspec with these commands and this `cache`.
fn spec(commands: &[&str], cache: &str) -> String {
    format!("{}cache:\n{cache}", crate::common::build(commands))
}

fn run(bed: &Bed, commands: &[&str], cache: &str) -> Outcome {
    bed.build(&spec(commands, cache), &["--cache", store(bed).to_str().unwrap()])
}

const PATHS: &str = "  paths: ['/root/.deps/**/*', 'local/**/*']\n";

fn the_next_build_finds_it() {
    let bed = Bed::new();
    let make = "mkdir -p /root/.deps/a local; echo one > /root/.deps/a/one; echo two > local/two";
    run(&bed, &["test ! -e /root/.deps", make], PATHS)
        .code(0)
        .says("cache: none yet")
        .says("cache: saved 2 file(s), 8 bytes");
    let read = "cat /root/.deps/a/one local/two";
    // Restored and unchanged, so not saved again.
    let outcome =
        run(&bed, &[read], PATHS).code(0).says("cache: restored 2 file(s), 8 bytes, as a layer");
    assert_eq!(outcome.output(), "one\ntwo\n");
    assert!(!outcome.stderr.contains("saved"), "{}", outcome.stderr);
    assert_eq!(list(&store(&bed).join("entries")).len(), 1);
    // Changed, so saved in place of the old one.
    run(&bed, &["echo three > local/three; rm /root/.deps/a/one"], PATHS)
        .code(0)
        .says("saved 2 file(s)");
    assert_eq!(list(&store(&bed).join("entries")).len(), 1);
    let outcome = run(&bed, &["find /root/.deps local -type f | sort"], PATHS).code(0);
    assert_eq!(outcome.output(), "local/three\nlocal/two\n");
    // Other paths make another cache, and so does another project.
    let other = "  paths: ['local/**/*']\n";
    run(&bed, &["test ! -e local"], other).code(0).says("none yet");
    let options =
        ["--cache", store(&bed).to_str().unwrap(), "--project", "other"].map(str::to_owned);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    bed.build(&spec(&["test ! -e local"], PATHS), &options).code(0).says("none yet");
}

fn keys_and_their_beginnings() {
    let bed = Bed::new();
    bed.write("lock", "v1\n");
    let cache = "  key: deps-$(codebuild-hash-files lock)\n  fallback-keys: [deps-, d]\n  paths: ['d/**/*']\n";
    run(&bed, &["mkdir d; echo v1 > d/x"], cache).code(0).says("cache: none for the key deps-");
    run(&bed, &["test $(cat d/x) = v1"], cache).code(0).says("cache of the key deps-");
    bed.write("lock", "v2\n");
    let outcome = run(&bed, &["cat d/x; echo v2 > d/x"], cache).code(0);
    assert_eq!(outcome.output(), "v1\n");
    outcome.says("cache of the similar key deps-").says("saved 1 file(s)");
    assert_eq!(run(&bed, &["cat d/x"], cache).code(0).output(), "v2\n");
    bed.write("lock", "v1\n");
    assert_eq!(run(&bed, &["cat d/x"], cache).code(0).output(), "v1\n");
    // A different key that shares no prefix.
    let other = "  key: other\n  fallback-keys: [oth, x]\n  paths: ['d/**/*']\n";
    run(&bed, &["test ! -e d"], other).code(0).says("cache: none for the key other");
    let bad = "  key: $(exit 7)\n  paths: ['d/**/*']\n";
    run(&bed, &["test ! -e d"], bad).code(0).says("cannot evaluate the key").says("exit status 7");
}

fn a_key_stands_for_one_thing() {
    let bed = Bed::new();
    let cache = "  key: fixed\n  paths: ['d/**/*']\n";
    run(&bed, &["mkdir d; echo first > d/x"], cache).code(0).says("saved");
    let outcome = run(&bed, &["echo second > d/x"], cache).code(0);
    assert!(!outcome.stderr.contains("saved"), "{}", outcome.stderr);
    assert_eq!(run(&bed, &["cat d/x"], cache).code(0).output(), "first\n");
}

fn actions() {
    let bed = Bed::new();
    let cache = |action: &str| format!("  action: {action}\n  paths: ['d/**/*']\n");
    let outcome = run(&bed, &["mkdir d; touch d/x"], &cache("restore")).code(0);
    assert!(!outcome.stderr.contains("saved"), "{}", outcome.stderr);
    run(&bed, &["mkdir d; touch d/x"], &cache("save")).code(0).says("saved 1 file(s)");
    run(&bed, &["test ! -e d"], &cache("save")).code(0);
    run(&bed, &["test -e d/x"], &cache("restore")).code(0).says("restored 1 file(s)");
}

fn what_is_kept_of_files() {
    let bed = Bed::new();
    let make = [
        "mkdir -p d/empty d/closed; printf x > d/exec; chmod 751 d/exec; touch -d '2001-09-09 01:46:40' d/exec",
        "ln -s exec d/link; ln -s /gone d/dangling; printf y > \"$(printf 'd/n\\nl')\"; printf z > \"$(printf 'd/\\377')\"",
        "echo in > d/closed/x; chmod 500 d/closed; truncate -s 3M d/holes; echo end >> d/holes",
    ];
    run(&bed, &make, "  paths: [d]\n").code(0).says("saved 5 file(s)");
    let look = "stat -c '%a %Y' d/exec; readlink d/link; readlink d/dangling; stat -c '%a %F' d/empty d/closed; \
                cat d/n?l d/closed/x; wc -c < d/holes; tail -c 4 d/holes; cat \"$(printf 'd/\\377')\"";
    let outcome = run(&bed, &[look], "  paths: [d]\n").code(0);
    assert_eq!(
        outcome.output(),
        "751 1000000000\nexec\n/gone\n755 directory\n500 directory\nyin\n3145732\nend\nz\n"
    );
    assert!(!outcome.stderr.contains("saved"), "{}", outcome.stderr);
    let own = nix::unistd::geteuid().as_raw();
    for path in everything(&store(&bed)) {
        assert_eq!(fs::symlink_metadata(&path).unwrap().uid(), own, "{}", path.display());
    }
}

/// Every path below a directory.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_path_buf()];
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => found.extend(everything(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Changes to a restored cache stay in the build: appending, replacing, removing, renaming.
fn builds_change_their_own_copy() {
    let bed = Bed::new();
    let cache = "  key: k\n  paths: ['d/**/*', '/root/.deps/**/*']\n";
    let make =
        "mkdir -p d/e /root/.deps; for f in d/a d/b d/c d/e/f /root/.deps/g; do echo $f > $f; done";
    run(&bed, &[make], cache).code(0);
    let spoil = [
        "echo more >> d/a; rm d/b; mv d/c d/moved; mv d/e d/elsewhere; chmod 600 d/moved",
        "rm -r d; rm -rf /root/.deps; mkdir d; echo new > d/a; ls -A /root",
    ];
    let outcome = run(&bed, &spoil, cache).code(0);
    assert!(!outcome.output().contains(".deps"), "{}", outcome.output());
    let read = "cat d/a d/b d/c d/e/f /root/.deps/g; stat -c %a d/c";
    assert_eq!(
        run(&bed, &[read], cache).code(0).output(),
        "d/a\nd/b\nd/c\nd/e/f\n/root/.deps/g\n644\n"
    );
}

/// More files than are copied while a container is created, of every kind that a layer can hold.
const MAKE_MANY: &str = "mkdir -p d/empty d/closed d/sub /root/.deps; i=0; while [ $i -lt 600 ]; do echo $i > \
    d/sub/$i; i=$((i + 1)); done; printf x > d/exec; chmod 751 d/exec; touch -d @1000000000 d/exec; ln -s exec \
    d/link; ln -s /gone d/dangling; printf y > \"$(printf 'd/n\\nl')\"; printf z > \"$(printf 'd/\\377')\"; echo in > \
    d/closed/x; chmod 500 d/closed; truncate -s 3M d/holes; echo g > /root/.deps/g; touch -d @1000000001 \
    d/sub /root/.deps";

/// Everything a build can see of them, except the sizes of directories, which differ between file
/// systems.
const LOOK: &str = "find d /root/.deps -type d -exec stat -c '%n %F %a %u:%g %Y' {} + | grep -v 'd directory' | \
    sort; find d /root/.deps ! -type d -exec stat -c '%n %F %a %u:%g %s %Y %N' {} + | sort; find d /root/.deps \
    -type f -exec md5sum {} + | sort";

/// A key that needs a shell is evaluated in the container, which is then created again with the
/// cache in it. A build finds the same files as if they were copied, or a layer from the beginning.
fn a_layer_for_a_key_of_the_shell() {
    let bed = Bed::new();
    bed.write("lock", "v1\n");
    let cache =
        |key: &str| format!("  key: {key}\n  fallback-keys: [deps-]\n  paths: [d, /root/.deps]\n");
    let of_shell = cache("deps-$(codebuild-hash-files lock)");
    let made = run(&bed, &[MAKE_MANY, LOOK], &of_shell).code(0).says("saved 606 file(s)").output();
    let saved = list(&store(&bed).join("entries"));
    let spoil =
        "rm -rf d/sub /root/.deps; mv d/exec d/moved; echo more >> d/holes; chmod 700 d/closed";
    for _ in 0..2 {
        let outcome = run(&bed, &[LOOK, spoil], &of_shell).code(0);
        assert_eq!(outcome.output(), made);
        let outcome = outcome.says("cache of the key deps-").says("606 file(s)").says("as a layer");
        assert!(!outcome.stderr.contains("saved"), "{}", outcome.stderr);
    }
    // A mount is in the way of a layer.
    let mount = format!("{}:/root/mounted", bed.path("home").display());
    let place = store(&bed).to_str().unwrap().to_owned();
    let outcome =
        bed.build(&spec(&[LOOK], &of_shell), &["--cache", &place, "--mount", &mount]).code(0);
    assert_eq!(outcome.output(), made);
    assert!(!outcome.stderr.contains("layer"), "{}", outcome.stderr);
    // A layer of the first container.
    let hash = bed.runner(["cache", "ls", "--format", "json"]).code(0).stdout;
    let hash: serde_json::Value = serde_json::from_str(&hash).unwrap();
    let outcome = run(&bed, &[LOOK], &cache(hash[0]["key"].as_str().unwrap())).code(0);
    assert_eq!(outcome.says("as a layer").output(), made);
    assert_eq!(list(&store(&bed).join("entries")), saved);
    // Changes are saved under another key and leave the first one unchanged.
    bed.write("lock", "v2\n");
    run(&bed, &["rm d/sub/5; echo new > d/new"], &of_shell)
        .code(0)
        .says("cache of the similar key deps-")
        .says("as a layer")
        .says("saved 606 file(s)");
    let outcome = run(&bed, &["cat d/new; ls d/sub | wc -l"], &of_shell).code(0);
    assert_eq!(outcome.says("as a layer").output(), "new\n599\n");
    bed.write("lock", "v1\n");
    assert_eq!(run(&bed, &[LOOK], &of_shell).code(0).output(), made);
}

/// Everything that belongs to a container is created again with it.
fn a_layer_and_a_network() {
    let bed = Bed::new();
    let cache = "  key: $(echo k)\n  paths: [d, /root/.deps]\n";
    let made = run(&bed, &[MAKE_MANY, LOOK], cache).code(0).says("saved").output();
    let place = store(&bed).to_str().unwrap().to_owned();
    let options = ["--cache", &place, "--network", "pasta"];
    let outcome = bed.build(&spec(&[LOOK], cache), &options).code(0).says("as a layer");
    assert_eq!(outcome.output(), made);
}

/// Builds that share a cache see all of it, however many they are, and nobody removes it meanwhile.
fn builds_that_share_a_layer() {
    let bed = Bed::new();
    let cache = "  key: $(echo k)\n  paths: [d, /root/.deps]\n";
    let made = run(&bed, &[MAKE_MANY, LOOK], cache).code(0).says("saved").output();
    let place = store(&bed).to_str().unwrap().to_owned();
    let paused = bed.paused(&spec(&["codebuild-breakpoint", LOOK], cache), &["--cache", &place]);
    paused.stderr.wait_for("as a layer");
    let text = spec(&[LOOK, "rm -rf d /root/.deps"], cache);
    let commands: Vec<_> = (0..3).map(|_| bed.build_command(&text, &["--cache", &place])).collect();
    std::thread::scope(|scope| {
        for mut command in commands {
            let made = &made;
            scope.spawn(move || {
                let outcome = outcome(&mut command).code(0).says("as a layer");
                assert_eq!(outcome.output(), *made);
            });
        }
    });
    assert!(bed.runner(["cache", "prune", "--all"]).code(0).stdout.contains(": 0 removed"));
    let shell = bed.runner(["exec", "--", "sh", "-c", "cat d/sub/599 && ls d/sub | wc -l"]).code(0);
    assert_eq!(shell.stdout, "599\n600\n");
    bed.resume(paused);
    assert!(bed.runner(["cache", "prune", "--all"]).code(0).stdout.contains(": 1 removed"));
}

/// At the place of a layer there is already something of another kind.
fn where_no_layer_can_be() {
    let bed = Bed::new();
    run(&bed, &["mkdir -p d /srv/x; echo x > d/x; echo y > /srv/x/y"], "  paths: [d, /srv/x]\n")
        .code(0);
    // Below a directory other than those.
    let outcome = run(&bed, &["cat d/x /srv/x/y"], "  paths: [d, /srv/x]\n").code(0);
    assert_eq!(outcome.output(), "x\ny\n");
    assert!(!outcome.stderr.contains("layer"), "{}", outcome.stderr);
    // The source has a file where the cache has a directory.
    let bed = Bed::new();
    run(&bed, &["mkdir -p d/e; echo x > d/e/x; echo z > d/z"], "  paths: [d]\n").code(0);
    bed.write("d/e", "a file");
    let outcome =
        run(&bed, &["cat d/e d/z"], "  paths: [d]\n").code(0).says("not all of it is restored");
    assert_eq!(outcome.output(), "a filez\n");
    // A directory of this machine is mounted there.
    let bed = Bed::new();
    run(&bed, &["mkdir -p /root/.deps; echo x > /root/.deps/x"], "  paths: ['/root/.deps/*']\n")
        .code(0);
    let mount = format!("{}:/root/.deps:rw", bed.path("home").display());
    let text = spec(&["cat /root/.deps/x"], "  paths: ['/root/.deps/*']\n");
    let options = ["--cache", store(&bed).to_str().unwrap(), "--mount", &mount].map(str::to_owned);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert_eq!(bed.build(&text, &options).code(0).output(), "x\n");
}

fn owners_are_kept() {
    let bed = Bed::new();
    let make =
        "mkdir d; echo x > d/theirs; chown 1000:1000 d/theirs; echo y > d/ours; chmod 4755 d/ours";
    run(&bed, &[make], "  paths: [d]\n").code(0);
    let outcome = run(&bed, &["stat -c '%u:%g %a' d/theirs d/ours"], "  paths: [d]\n").code(0);
    assert_eq!(outcome.output(), "1000:1000 644\n0:0 4755\n");
}

fn a_failed_build_saves_nothing() {
    let bed = Bed::new();
    let outcome = run(&bed, &["mkdir d; touch d/x; exit 1"], "  paths: [d]\n").code(1);
    assert!(!outcome.stderr.contains("saved"), "{}", outcome.stderr);
}

fn trouble_fails_no_build() {
    let bed = Bed::new();
    // A place that cannot be a folder is reported before the build.
    fs::write(store(&bed), "a file").unwrap();
    run(&bed, &["true"], "  paths: [d]\n").code(2).says("is not a directory");
    // Nothing can be created there.
    fs::remove_file(store(&bed)).unwrap();
    fs::create_dir(store(&bed)).unwrap();
    fs::write(store(&bed).join("entries"), "a file").unwrap();
    run(&bed, &["mkdir d; touch d/x"], "  paths: [d]\n")
        .code(0)
        .says("warning: the cache cannot be restored: cannot read")
        .says("warning: the cache cannot be saved: cannot make")
        .says("the build continues");
    // A damaged cache.
    let bed = Bed::new();
    run(&bed, &["mkdir d; echo x > d/x"], "  paths: [d]\n").code(0);
    let entry = store(&bed).join("entries").join(&list(&store(&bed).join("entries"))[0]);
    fs::write(entry.join("entry.json"), "{").unwrap();
    run(&bed, &["test ! -e d"], "  paths: [d]\n").code(0).says("none yet");
    // Nothing to save.
    run(&bed, &["true"], "  paths: [gone]\n").code(0).says("nothing to save");
    run(&bed, &["true"], "  key: k\n").code(0);
}

fn listed_and_pruned() {
    let bed = Bed::new();
    for key in ["one", "two", "three"] {
        let cache = format!("  key: {key}\n  paths: [d]\n");
        run(&bed, &["mkdir d; head -c 100000 /dev/urandom > d/x"], &cache).code(0);
    }
    let listed = bed.runner(["cache", "ls"]).code(0).stdout;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("demo") && listed.contains("97.66 KiB"), "{listed}");
    let json =
        bed.runner(["cache", "ls", "--format", "json", store(&bed).to_str().unwrap()]).code(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let keys: Vec<&str> =
        json.as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["three", "two", "one"]);
    assert_eq!((&json[0]["files"], &json[0]["bytes"]), (&1.into(), &100_000.into()));
    // Nothing is old, and everything fits.
    assert!(bed.runner(["cache", "prune"]).code(0).stdout.contains(": 0 removed"));
    // The least recently used one goes first.
    let used = |number: usize, ago| {
        let id = json[number]["id"].as_str().unwrap();
        let lock = store(&bed).join("entries").join(id).join("lock");
        let lock = fs::OpenOptions::new().write(true).open(lock).unwrap();
        lock.set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
    };
    used(0, 5000);
    used(1, 90_000);
    used(2, 100);
    assert!(
        bed.runner(["cache", "prune", "--keep", "250k"]).code(0).stdout.contains(": 1 removed")
    );
    let left = |bed: &Bed| bed.runner(["cache", "ls"]).code(0).stdout;
    assert!(!left(&bed).contains("two"), "{}", left(&bed));
    assert!(
        bed.runner(["cache", "prune", "--unused", "1h"]).code(0).stdout.contains(": 1 removed")
    );
    assert!(left(&bed).contains("one") && !left(&bed).contains("three"), "{}", left(&bed));
    bed.runner(["cache", "prune", "--all"]).code(0);
    assert_eq!(left(&bed).lines().count(), 1);
    assert_eq!(everything(&store(&bed)).iter().filter(|path| path.is_file()).count(), 0);
    bed.runner(["cache", "ls", "nosuch"]).code(2).says("there is no folder nosuch");
}

fn bytes_are_kept_once() {
    let bed = Bed::new();
    let make = "mkdir d; yes equal | head -c 1000000 > d/same; touch -d @1000000000 d/same; date +%N > d/new";
    for key in ["a", "b"] {
        run(&bed, &[make], &format!("  key: {key}\n  paths: [d]\n")).code(0);
    }
    let same: Vec<u64> = everything(&store(&bed))
        .iter()
        .filter(|path| path.ends_with("d/same"))
        .map(|path| fs::metadata(path).unwrap().ino())
        .collect();
    assert_eq!(same.len(), 2);
    assert_eq!(same[0], same[1]);
}

/// An interrupted save leaves nothing that looks like a cache, and the next one cleans up.
fn what_a_killed_build_leaves() {
    let bed = Bed::new();
    let left = store(&bed).join("new/0b0e4a3c-5f8f-4f0e-9a55-0d6a6c5f2a11");
    fs::create_dir_all(left.join("tree/source/d")).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    fs::write(left.join("tree/source/d/half"), "half").unwrap();
    run(&bed, &["test ! -e d; mkdir d; touch d/x"], "  paths: [d]\n").code(0).says("none yet");
    assert!(!left.exists());
}

fn in_the_image_host() {
    let bed = Bed::host();
    let cache = "  paths: ['/root/.deps/**/*', '/opt/thing/**/*', 'd/**/*']\n";
    let make = "mkdir -p /root/.deps /opt/thing d; echo a > /root/.deps/a; echo b > /opt/thing/b; echo c > d/c";
    run(&bed, &[make], cache).code(0).says("saved 3 file(s)");
    let outcome =
        run(&bed, &["cat /root/.deps/a /opt/thing/b d/c; stat -c '%a %u' /root /opt"], cache);
    assert_eq!(outcome.code(0).says("restored 3 file(s)").output(), "a\nb\nc\n700 0\n755 0\n");
}

fn of_the_engine_process() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        spec(&["ls d 2>/dev/null; mkdir -p d; touch d/x"], "  paths: [d]\n"),
    );
    let place = store(&bed);
    let go = || bed.runner(["run", "--engine", "process", "--cache", place.to_str().unwrap()]);
    go().code(0).says("saved 1 file(s)");
    assert_eq!(go().code(0).says("restored 1 file(s)").output(), "x\n");
}

fn many_files() {
    let bed = Bed::new();
    let make = "for d in $(seq 50); do mkdir -p d/$d; done; i=0; while [ $i -lt 20000 ]; do echo $i > \
                d/$((i % 50 + 1))/$i; i=$((i + 1)); done";
    run(&bed, &[make], "  paths: [d]\n").code(0).says("saved 20000 file(s)");
    let outcome = run(&bed, &["find d -type f | wc -l; cat d/50/19999"], "  paths: [d]\n").code(0);
    assert_eq!(outcome.output(), "20000\n19999\n");
}

/// Builds that save at the same time: the next one finds the cache of one of them, complete.
fn two_builds_at_once() {
    let bed = Bed::new();
    let text =
        spec(&["mkdir -p d; for i in $(seq 500); do echo $1 $i > d/$i; done"], "  paths: [d]\n");
    let options = ["--cache".to_owned(), store(&bed).to_str().unwrap().to_owned()];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let commands: Vec<_> = (0..4).map(|_| bed.build_command(&text, &options)).collect();
    let running: Vec<Running> = commands.into_iter().map(Running::spawn).collect();
    running.into_iter().for_each(|running| running.ends(0));
    let outcome = run(&bed, &["ls d | wc -l"], "  paths: [d]\n").code(0);
    assert_eq!(outcome.output(), "500\n");
    assert_eq!(list(&store(&bed).join("new")), [""; 0]);
}

fn without_the_option() {
    let bed = Bed::new();
    let outcome = bed.build(&spec(&["touch x"], "  paths: [x]\n"), &[]).code(0);
    outcome.says("not collected: cache").says("--cache DIR");
    assert_eq!(bed.record()["cache"], serde_json::json!({"type": "NO_CACHE"}));
    run(&bed, &["true"], "  paths: [x]\n").code(0);
}

fn under_sudo_it_is_the_callers() {
    const CALLER: &str = "65534";
    let bed = Bed::new();
    bed.open_to_others();
    let text = spec(&["ls -l d | tail -n 1; mkdir -p d/e; echo x > d/e/x"], "  paths: [d]\n");
    for wanted in ["saved", "restored"] {
        let mut command = bed.build_command(&text, &["--cache", store(&bed).to_str().unwrap()]);
        outcome(command.env("SUDO_UID", CALLER).env("SUDO_GID", CALLER)).code(0).says(wanted);
    }
    for path in everything(&store(&bed)) {
        let owner = fs::symlink_metadata(&path).unwrap().uid();
        assert_eq!(owner.to_string(), CALLER, "{}", path.display());
    }
    assert!(is_root());
}

fn in_a_bucket() {
    let name = bucket("cache-plain");
    let place = format!("s3://{name}/pre");
    let cache = "  key: k-$N\n  fallback-keys: [k-]\n  paths: ['/root/.deps/**/*', 'd/**/*']\n";
    let make = [
        "mkdir -p /root/.deps d/empty d/closed; echo a > /root/.deps/a; head -c 12000000 /dev/urandom > d/large",
        "ln -s /root/.deps/a d/link; printf y > \"$(printf 'd/n\\nl')\"; chmod 751 d/n*; touch -d @1000000000 d/n*",
        "L=$(printf '%0130d' 7); mkdir d/$L; echo long > d/$L/$L; chmod 500 d/closed; md5sum d/large",
    ];
    let bed = Bed::new();
    let options = |n: &'static str| ["--cache", place.as_str(), "-e", n].map(str::to_owned);
    let go = |n, commands: &[&str]| {
        let options = options(n);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        with_aws(&bed, &spec(commands, cache), &options)
    };
    let made =
        go("N=1", &make).code(0).says("none for the key k-1").says("saved 4 file(s)").output();
    let names = keys(&name);
    assert!(names.len() == 1 && names[0].starts_with("pre/demo/"), "{names:?}");
    assert!(names[0].ends_with("/k-1.tar.gz"), "{names:?}");
    let look = "cat /root/.deps/a d/link d/0*/0*; stat -c '%a %Y' d/n*; stat -c '%a %F' d/closed d/empty; md5sum d/large";
    let wanted = format!("a\na\nlong\n751 1000000000\n500 directory\n755 directory\n{made}");
    let outcome = go("N=1", &[look]).code(0).says("cache of the key k-1: restored 4 file(s)");
    assert_eq!(outcome.output(), wanted);
    let outcome = go("N=2", &[look]).code(0).says("similar key k-1").says("saved 4 file(s)");
    assert_eq!(outcome.output(), wanted);
    assert_eq!(keys(&name).len(), 2);
    // Others can read it.
    let tar = bed.path("back.tar.gz");
    cli(&["s3", "cp", &format!("s3://{name}/{}", names[0]), tar.to_str().unwrap()]);
    let listed = Command::new("tar").arg("-tzf").arg(&tar).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("source/d/large\n") && listed.contains("root/root/.deps/a\n"),
        "{listed}"
    );
    // Without a key there is one cache for the project.
    let plain = spec(&["mkdir -p x; date +%N > x/x"], "  paths: [x]\n");
    for _ in 0..2 {
        with_aws(&bed, &plain, &["--cache", &place]).code(0).says("saved 1 file(s)");
    }
    assert_eq!(keys(&name).len(), 3);
}

fn a_bucket_that_stumbles() {
    let name = bucket("cache-stumbles");
    let place = format!("s3://{name}");
    let bed = Bed::new();
    let text = spec(
        &["mkdir -p d; test -e d/x || head -c 20000000 /dev/urandom > d/x; wc -c < d/x"],
        "  key: k\n  paths: [d]\n",
    );
    with_aws(&bed, &text, &["--cache", &place]).code(0).says("saved");
    // Cut in the middle of its body, again and again: continued from there.
    let proxy = Proxy::start(&[
        ("GET", "/k.tar.gz", 1, Fault::Status(503)),
        ("GET", "/k.tar.gz", 3, Fault::Cut(5_000_000)),
    ]);
    let outcome = with_aws_at(proxy.port, &bed, &text, &["--cache", &place])
        .code(0)
        .says("restored 1 file(s)");
    assert_eq!(outcome.output(), "20000000\n");
    assert!(proxy.count("GET", "/k.tar.gz") >= 4);
    // Permanently: the build continues without a cache.
    let proxy = Proxy::start(&[("GET", "/k.tar.gz", 1000, Fault::Cut(0))]);
    with_aws_at(proxy.port, &bed, &text, &["--cache", &place])
        .code(0)
        .says("the cache cannot be restored: cannot fetch")
        .says("broke off after");
    // No server.
    with_aws_at(1, &bed, &text, &["--cache", &place]).code(0).says("cannot be restored");
    let nosuch = spec(&["mkdir d; touch d/x"], "  paths: [d]\n");
    with_aws(&bed, &nosuch, &["--cache", "s3://cache-nosuch"])
        .code(0)
        .says("hint: make the bucket");
}

/// A bucket that never responds, or stops in the middle of a response, fails no build.
fn a_bucket_that_stalls() {
    let name = bucket("cache-stalls");
    let place = format!("s3://{name}");
    let text = spec(
        &["mkdir -p d; test -e d/x || head -c 20000000 /dev/urandom > d/x; wc -c < d/x"],
        "  key: k\n  paths: [d]\n",
    );
    with_aws(&Bed::new(), &text, &["--cache", &place]).code(0).says("saved");
    let meets = |method, fault, key: &str| {
        let proxy = Proxy::start(&[(method, ".tar.gz", 1, fault)]);
        let bed = Bed::new();
        let text = text.replace("key: k", &format!("key: {key}"));
        let mut command = bed.build_command(&text, &["--cache", &place]);
        surround(&mut command, proxy.port).env("AWS_MAX_ATTEMPTS", "1");
        let outcome = outcome(&mut command).code(0);
        assert_eq!(outcome.output(), "20000000\n");
        outcome
    };
    let silent = "the server has been silent for 20 seconds; the build continues";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            meets("GET", Fault::Held, "k")
                .says("warning: the cache cannot be restored: cannot fetch s3://cache-stalls/demo/")
                .says(silent);
        });
        // Continued from there.
        scope.spawn(|| meets("GET", Fault::Stalled(5_000_000), "k").says("restored 1 file(s)"));
        scope.spawn(|| {
            meets("PUT", Fault::Held, "other")
                .says("warning: the cache cannot be saved: cannot put s3://cache-stalls/demo/")
                .says(silent);
        });
    });
    assert_eq!(keys(&name).len(), 1);
}

/// Anything other than what was saved is not restored, not even in part.
fn a_bucket_that_spoils_it() {
    let name = bucket("cache-spoils");
    let place = format!("s3://{name}");
    let bed = Bed::new();
    let text = spec(&["ls d 2>/dev/null; mkdir -p d; touch d/x"], "  key: k\n  paths: [d]\n");
    with_aws(&bed, &text, &["--cache", &place]).code(0).says("saved");
    let key = keys(&name).remove(0);
    let other = bed.path("other");
    fs::write(&other, "not a cache").unwrap();
    let mut copy = Command::new(crate::common::python("aws"));
    surround(&mut copy, crate::common::aws::aws());
    copy.args(["s3", "cp"]).arg(&other).arg(format!("s3://{name}/{key}"));
    outcome(&mut copy).code(0);
    let outcome = with_aws(&bed, &text, &["--cache", &place]).code(0);
    assert_eq!(outcome.says("its bytes are not those that were saved").output(), "");
}
