//! Sealed checkpoints: when a copy would be too large, and on request. That a build sees no
//! difference is tested in `fidelity`.

use super::debugger::wait_for_stops;
use crate::common::{Bed, build, cases, is_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

cases! {
    [Containers, Image("busybox")] => what_is_too_much_to_copy_is_sealed, what_lives_is_in_the_way,
        files_with_several_names_are_told_of, sessions_find_what_is_there,
        nothing_is_left_of_a_seal_that_was_cut_off, a_helper_that_is_killed_ends_the_build;
    [Extended, Containers, Image("busybox")] => a_long_build_has_few_layers,
        nothing_is_left_of_a_merge_that_was_cut_off;
    [Root, Containers, Image("busybox")] => mounts_of_a_build_are_in_the_way;
}

/// Too much for a copy: more than 256 MiB.
const LARGE: &str = "truncate -s 300M large";

fn kinds(bed: &Bed) -> Vec<String> {
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    bed.events("checkpoint").iter().map(kind).collect()
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn what_is_too_much_to_copy_is_sealed() {
    let bed = Bed::new();
    bed.write("dir/deep/f", "source\n");
    let commands = [
        "mkdir d; echo one > d/f; echo one > /tmp/f; chmod 700 /root",
        &format!("{LARGE}; echo two >> d/f; mv dir/deep dir/moved || true; export A=2; cd /tmp"),
        "rm f; cd $CODEBUILD_SRC_DIR; rm -r d; mkdir d; echo three > d/g; echo more >> dir/moved/f; mv large small",
        "echo 4 > four",
        "exit 3",
    ];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:5 has failed", 1);
    assert_eq!(kinds(&bed), ["copied", "copied", "sealed", "sealed", "copied"]);
    let changed = bed.runner(["diff", "--run", "2"]).code(0).stdout;
    // Without root a directory of the source is moved by copying.
    let is_renamed = changed.contains("R              dir/deep/ -> dir/moved/\n");
    assert_eq!(is_renamed, is_root(), "{changed}");
    let changed = bed.runner(["diff", "--run", "3"]).code(0).stdout;
    let wanted = [
        "A         6 B  d/g",
        "D         4 B  /tmp/f",
        "D         8 B  d/f",
        "M        12 B  dir/moved/f",
        "R  300.00 MiB  large -> small",
    ];
    assert_eq!(sorted(&changed), sorted(&wanted.join("\n")));
    let blame = bed.runner(["blame", "dir/moved/f"]).code(0).stdout;
    assert!(blame.starts_with("   3  build:3  M        12 B  dir/moved/f"), "{blame}");
    let history = bed.runner(["history"]).code(0).stdout;
    assert!(history.lines().nth(2).unwrap().contains("  sealed "), "{history}");
    let look = "echo $A $PWD; cd $CODEBUILD_SRC_DIR; \
                find . /tmp -type f ! -name buildspec.yml | sort; cat d/* dir/moved/f 2>/dev/null; \
                stat -c %a /root; stat -c %s large small 2>/dev/null; true";
    let at = |place: &str| {
        bed.runner(["rewind", "--to", place]).code(0);
        bed.runner(["eval", look]).code(0).stdout.replace('\n', " ")
    };
    let end = |text: &str, end: &str| assert!(text.ends_with(end), "{text}");
    end(&at("build:4"), "/src ./d/g ./dir/moved/f ./small three source more 700 314572800 ");
    end(&at("build:3"), "2 /tmp ./d/f ./dir/moved/f ./large /tmp/f one two source 700 314572800 ");
    // Continue from there, on a sealed layer.
    bed.runner(["resume"]).code(0);
    wait_for_stops(&running, "because build:5 has failed", 2);
    // The first belongs to the earlier seal, to which nothing was added.
    assert_eq!(kinds(&bed)[5..], ["copied", "sealed", "copied"]);
    end(&at("build:2"), "./d/f ./dir/deep/f /tmp/f one 700 ");
    bed.runner(["resume"]).code(0);
    wait_for_stops(&running, "because build:5 has failed", 3);
    bed.runner(["abort"]).code(0);
    running.ends(1);
}

fn what_lives_is_in_the_way() {
    let bed = Bed::new();
    let begin = "sleep 600 & until grep -q sleep /proc/$!/comm; do :; done";
    let commands = [
        begin,
        LARGE,
        "kill %1 2>/dev/null; kill $(pidof sleep); until ! pidof sleep; do :; done",
        "false",
    ];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:4 has failed", 1);
    assert_eq!(kinds(&bed), ["copied", "copied", "none", "sealed"]);
    let history = bed.runner(["history"]).code(0).stdout;
    assert!(history.contains("no checkpoint before run 3: too much to copy: "), "{history}");
    assert!(history.contains("; not sealed while sleep ("), "{history}");
    bed.runner(["abort"]).code(0);
    running.ends(1);
}

fn files_with_several_names_are_told_of() {
    let bed = Bed::new();
    let commands = ["echo > a; ln a b; ln a c; echo > d; ln d e", "echo > f; ln f g", "false"];
    let options = ["--break-on", "failure", "--checkpoint", "sealed"];
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "because build:3 has failed", 1);
    assert_eq!(kinds(&bed), ["sealed", "sealed", "sealed"]);
    bed.runner(["abort"]).code(0);
    let text = running.stderr.text();
    assert_eq!(text.matches("2 files have several names").count(), 1, "{text}");
    assert!(text.contains("--checkpoint off"), "{text}");
    running.ends(1);
}

/// Sessions prevent a seal, and see the layer once it is sealed.
fn sessions_find_what_is_there() {
    let bed = Bed::new();
    let commands = ["echo 1 > f", "echo 2 > f", "false"];
    let running = bed.start(&build(&commands), &["--step", "--checkpoint", "sealed"]);
    for (run, place) in (1..).zip(["its first command", "build:2", "build:3"]) {
        wait_for_stops(&running, &format!("before {place}"), 1);
        bed.runner(["exec", "--", "sh", "-c", "cat f; echo theirs >> t"]);
        if run < 3 {
            bed.runner(["step"]).code(0);
        }
    }
    let seen = bed.runner([
        "exec",
        "--",
        "sh",
        "-c",
        "cat f t; ls /proc/self/fd /dev/pts /dev/shm >/dev/null && mount | grep -c ' / '",
    ]);
    assert_eq!(seen.code(0).stdout, "2\ntheirs\ntheirs\ntheirs\n1\n");
    // In a terminal, too.
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("test -t 0 && echo is a $((40 + 2))\n");
    terminal.wait_for("is a 42");
    // By its own name, as musl looks for it.
    terminal.send("readlink /proc/self/fd/0\n");
    terminal.wait_for("/dev/pts/");
    drop(terminal);
    bed.runner(["abort"]).code(0);
    running.ends(5);
}

/// kill -9 in the steps of a seal.
fn nothing_is_left_of_a_seal_that_was_cut_off() {
    let commands: Vec<String> = (1..=40).map(|at| format!("mkdir d{at}; echo > d{at}/f")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let steps =
        ["sealed/1", "sealed/2/image.work", "checkpoints/3", "checkpoints/4.index", "sealed/5"];
    for (step, number) in steps.iter().zip(1..) {
        let bed = Bed::new();
        let options = ["--break-on", "failure", "--checkpoint", "sealed"];
        let mut running = bed.start(&build(&commands), &options);
        // Other users must not see what the container's users have created.
        let is_there = |dir: PathBuf| {
            let events = fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
            let taken = events.matches("\"type\":\"checkpoint\"").count();
            dir.join("layer").join(step).exists() || taken >= number
        };
        until(step, || folder(&bed).is_some_and(is_there));
        let layer = bed.live().join("layer");
        running.signal(Signal::SIGKILL);
        running.wait();
        bed.runner(["ps"]).code(0);
        assert!(!layer.exists(), "{step}");
        assert_eq!(bed.record()["buildStatus"], "FAULT", "{step}");
    }
}

/// The build's folder, once it exists.
fn folder(bed: &Bed) -> Option<PathBuf> {
    let builds = bed.home().join("builds");
    let mut found = fs::read_dir(builds).ok()?.flatten();
    Some(found.next()?.path())
}

/// The helper process of a runner's seal.
fn helper(runner: u32) -> Option<Pid> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        line.ends_with(b"\0__restack\0") && parent == Some(runner)
    };
    pids.find(is_it).map(Pid::from_raw)
}

fn a_helper_that_is_killed_ends_the_build() {
    let commands: Vec<String> = (1..=150).map(|at| format!("echo > f{at}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let bed = Bed::new();
    let options = ["--break-on", "failure", "--checkpoint", "sealed"];
    let mut running = bed.start(&build(&commands), &options);
    // It may have finished by then; in that case the next one is caught.
    until("the build ends", || {
        let caught = helper(running.pid());
        caught.is_some_and(|helper| kill(helper, Signal::SIGKILL).is_err())
            || folder(&bed).is_some_and(|dir| dir.join("record.json").exists())
    });
    assert_eq!(running.wait(), 3);
    let text = running.stderr.text();
    assert!(
        text.contains("is neither as it was nor sealed: the helper has ended without an answer"),
        "{text}"
    );
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

/// A privileged build can create any mount, so only copies are possible.
fn mounts_of_a_build_are_in_the_way() {
    let bed = Bed::new();
    let commands = [
        "mkdir d /tmp/m /tmp/t; echo 1 > d/f; mount -t tmpfs none /tmp/t; echo kept > /tmp/t/f",
        "cat /tmp/t/f; mount --bind d /tmp/m; echo 2 > d/f",
        "cat /tmp/m/f; echo 3 > /tmp/m/f; cat d/f; umount /tmp/m",
        "cat /tmp/t/f; false",
    ];
    let options = ["--privileged", "--break-on", "failure", "--checkpoint", "sealed"];
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "because build:4 has failed", 1);
    assert_eq!(kinds(&bed), ["copied"; 4]);
    let events = fs::read_to_string(bed.live().join("events.jsonl")).unwrap();
    assert!(events.contains("a build with --privileged may have mounted parts of it"), "{events}");
    bed.runner(["abort"]).code(0);
    running.ends(1);
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(log, "kept\n2\n3\nkept\n");
}

/// The layers of the container's root, as its own mount list names them.
const LAYERS: &str =
    r"grep -o 'lowerdir[^ ]*' /proc/self/mountinfo | tr , '\n' | grep lowerdir | tr : '\n' | wc -l";

fn a_long_build_has_few_layers() {
    let command = |at| match at % 5 {
        0 => format!("echo {at} > f{at}; rm -rf d; mkdir d; echo {at} > d/new{at}"),
        1 => format!("mkdir -p d; echo {at} > d/f{at}; rm -f f{}", at - 1),
        2 => format!("echo {at} >> d/f{}; echo {at} > /tmp/f{at}; mv d/f{} /tmp", at - 1, at - 1),
        // The attributes of an older file alone: such a layer is not merged.
        3 if at == 103 => format!("chmod 700 /tmp/f{}", at - 1),
        3 => format!("echo {at} > f{at}; ln -sf f{at} link; chmod 700 f{at}"),
        _ => format!("echo {at} > f{at}; rm /tmp/f{}; rm -r d", at - 3),
    };
    // The builds that are compared have different buildspecs.
    let state = "find . /tmp /root | sort; cat $(find . /tmp /root -type f ! -name buildspec.yml | sort); \
                 readlink link; ls -ld f* | cut -c1-20";
    let mut commands: Vec<String> = (1..=210).map(command).collect();
    commands.push("false".to_owned());
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let bed = Bed::new();
    let options = ["--break-on", "failure", "--checkpoint", "sealed"];
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "because build:211 has failed", 1);
    assert!(kinds(&bed)[..210].iter().all(|kind| kind == "sealed"), "{:?}", kinds(&bed));
    let layers = bed.runner(["eval", LAYERS]).code(0).stdout;
    let layers: usize = layers.trim().parse().expect("a number");
    assert!(layers <= 60, "{layers} layers of all overlays");
    let seen = |run: &str| {
        bed.runner(["rewind", "--to", run]).code(0);
        bed.runner(["eval", state]).code(0).stdout
    };
    let found: Vec<String> = ["173", "100", "37", "12"].iter().map(|run| seen(run)).collect();
    bed.runner(["abort"]).code(0);
    running.ends(5);
    // The same without any checkpoint.
    for (run, found) in [173, 100, 37, 12].iter().zip(found) {
        let bed = Bed::new();
        let mut commands = commands[..run - 1].to_vec();
        commands.push("false");
        let options = ["--break-on", "failure", "--checkpoint", "off"];
        let running = bed.start(&build(&commands), &options);
        wait_for_stops(&running, &format!("because build:{run} has failed"), 1);
        assert_eq!(found, bed.runner(["eval", state]).code(0).stdout, "before run {run}");
        bed.runner(["abort"]).code(0);
        running.ends(1);
    }
}

/// kill -9 while layers are merged, or right behind that.
fn nothing_is_left_of_a_merge_that_was_cut_off() {
    let many = "for at in $(seq 200); do echo $at > f$at; done";
    let commands: Vec<String> =
        (1..=30).map(|at| format!("mkdir d{at}; cd d{at}; {many}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let bed = Bed::new();
    let options = ["--break-on", "failure", "--checkpoint", "sealed"];
    let mut running = bed.start(&build(&commands), &options);
    let is_merging = |dir: PathBuf| {
        let sealed = fs::read_dir(dir.join("layer/sealed")).into_iter().flatten().flatten();
        sealed.map(|entry| entry.path().join("merged")).any(|merged| merged.exists())
    };
    until("layers are merged", || folder(&bed).is_some_and(is_merging));
    let layer = bed.live().join("layer");
    running.signal(Signal::SIGKILL);
    running.wait();
    bed.runner(["ps"]).code(0);
    assert!(!layer.exists());
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}
