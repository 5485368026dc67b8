//! Rewinds: checkpoints are kept before each command, and the build goes back to them. That
//! everything is restored is tested in `fidelity`.

use super::debugger::wait_for_stops;
use crate::common::{Bed, Running, build, cases, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;

cases! {
    [Containers, Image("busybox")] => a_build_goes_back, what_comes_back_is_all_of_it,
        what_does_not_come_back_is_named, where_there_is_nothing_to_go_back_to, a_clean_retry,
        nothing_is_left_of_a_build_that_went_back;
    [Containers] => the_image_host_goes_back;
}

/// All files, with their facts, in places that commands may write to.
const TREE: &str = "cd /; find root tmp home etc var opt $CODEBUILD_SRC_DIR -xdev 2>/dev/null | sort | while read -r f; do \
                    stat -c '%n %F %a %u %g %y %s %h' \"$f\" 2>/dev/null | sed 's/^\\(.* directory .*\\) .* .*$/\\1/'; \
                    test -h \"$f\" && readlink \"$f\"; test -f \"$f\" && md5sum < \"$f\"; done; true";

fn kinds(bed: &Bed) -> Vec<String> {
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    bed.events("checkpoint").iter().map(kind).collect()
}

fn a_build_goes_back() {
    let bed = Bed::new();
    bed.write("in", "source\n");
    let commands = [
        "export A=1; cd /tmp; echo one > /tmp/f; echo changed > $CODEBUILD_SRC_DIR/in",
        "A=2; rm /tmp/f; mkdir /tmp/d; rm $CODEBUILD_SRC_DIR/in; cd /",
        "test -e /tmp/there",
    ];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:3 has failed", 1);
    bed.runner(["rewind", "--to", "build:2"]).code(0).says("rewound to before run 2 (build:2)");
    wait_for_stops(&running, "before build:2", 1);
    let look = "echo $A $PWD $(cat f) $(cat $CODEBUILD_SRC_DIR/in) $(ls -d d 2>/dev/null)";
    let seen = bed.runner(["eval", look]).code(0).stdout;
    assert_eq!(seen, "1 /tmp one changed\n");
    // Further back, to the initial source.
    bed.runner(["rewind", "--to", "1"]).code(0);
    let look = "echo $A- $(ls /tmp) $(cat in)";
    assert_eq!(bed.runner(["eval", look]).code(0).stdout, "- source\n");
    bed.runner(["exec", "--", "touch", "/tmp/there"]).code(0);
    bed.runner(["resume"]).code(0);
    running.ends(0);
    let runs: Value =
        serde_json::from_str(&bed.runner(["history", "--format", "json"]).stdout).unwrap();
    let gone = |run: &Value| run["rewound"].as_bool().unwrap_or(false);
    let gone: Vec<bool> = runs.as_array().unwrap().iter().map(gone).collect();
    assert_eq!(gone, [true, true, true, false, false, false, false, false], "{runs}");
    assert_eq!(kinds(&bed).iter().filter(|kind| *kind != "copied").count(), 0);
    assert_eq!(bed.record()["buildStatus"], "SUCCEEDED");
    assert_eq!(fs::read_to_string(bed.source().join("in")).unwrap(), "source\n");
}

/// One command that creates all kinds of files, and the next one that damages them.
fn what_comes_back_is_all_of_it() {
    let bed = Bed::owned();
    bed.write("dir/kept", "1");
    bed.write("dir/gone", "1");
    let commands = [
        "echo x > a; ln a b; ln -s a c; mkdir -p e/f; chmod 2750 e; mkfifo p; rm dir/gone; mv dir/kept dir/new; \
         chmod 600 /etc/passwd; mkdir /var/empty; echo y > /var/empty/z; chmod 4755 a; \
         touch -d '2001-01-01 00:00:00' a e; mkdir /root/r; chmod 000 /root/r; head -c 3000000 /dev/zero > big",
        &format!("({TREE}) > /dev/shm/tree; cat /dev/shm/tree"),
        "rm -rf a c e p dir /root/r /var/empty; echo more >> b; mkdir c; echo >> /etc/passwd; echo x > big",
        "false",
        &format!("({TREE}) > /dev/shm/tree; cat /dev/shm/tree"),
    ];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:4 has failed", 1);
    bed.runner(["rewind", "--to", "build:3"]).code(0);
    bed.runner(["skip", "--to", "build:5"]).code(0);
    running.ends(1);
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    let half = log.len() / 2;
    assert!(
        log.contains("/src/a regular file 4755 0 0 2001-01-01 00:00:00.000000000 +0000 2 2\n"),
        "{log}"
    );
    let (first, second) = log.split_at(half);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (one, other) in lines(first).iter().zip(lines(second)) {
        assert_eq!(*one, other);
    }
}

fn what_does_not_come_back_is_named() {
    let bed = Bed::new();
    // It gets its name only once the shell's child has executed it.
    let begin = "sleep 600 & until grep -q sleep /proc/$!/comm; do :; done";
    let running = bed.start(&build(&[begin, "false"]), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:2 has failed", 1);
    let session = Running::spawn(bed.command(["exec", "--", "sh", "-c", "echo in; sleep 600"]));
    session.stdout.wait_for("in\n");
    bed.runner(["rewind"]).code(0).says("killed, and not started again: ");
    session.stderr.wait_for("the build was rewound");
    drop(session);
    let event = &bed.events("rewound")[0];
    assert!(event["processes"].to_string().contains("\"sleep\""), "{event}");
    assert_eq!(
        (&event["to"], &event["lost"], &event["sessions"]),
        (&2.into(), &serde_json::json!([2]), &1.into())
    );
    let why = bed.events("checkpoint")[1]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("sleep ("), "{why}");
    // All its processes are dead, and new ones can be started.
    assert_eq!(
        bed.runner(["exec", "--", "sh", "-c", "pidof sleep || echo none"]).code(0).stdout,
        "none\n"
    );
    bed.runner(["abort"]).code(0);
    running.ends(5);
}

fn where_there_is_nothing_to_go_back_to() {
    let bed = Bed::new();
    let options = ["--break-on", "failure", "--checkpoint", "off"];
    let running = bed.start(&build(&["true", "false"]), &options);
    wait_for_stops(&running, "because build:2 has failed", 1);
    bed.runner(["rewind"]).code(2).says("no checkpoints: ");
    bed.runner(["abort"]).code(0);
    running.ends(1);
    assert_eq!(bed.events("checkpoint").len(), 0);
    let bed = Bed::new();
    // A background process prevents sealing.
    let commands = ["sleep 600 & true", "truncate -s 300M large", "false"];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:3 has failed", 1);
    bed.runner(["rewind"]).code(2).says("too much to copy").says("--nearest");
    bed.runner(["rewind", "--to", "9"]).code(2).says("has not been yet");
    bed.runner(["rewind", "--nearest"]).code(0).says("before run 2 (build:2)");
    bed.runner(["abort"]).code(0);
    running.ends(5);
}

fn a_clean_retry() {
    let bed = Bed::new();
    let commands = ["true", "test ! -e f && touch f && test -e /tmp/there"];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:2 has failed", 1);
    // With its own files it fails for another reason.
    bed.runner(["retry", "--clean"]).code(0);
    wait_for_stops(&running, "because build:2 has failed", 2);
    bed.runner(["retry", "--clean", "--text", "test ! -e f && echo clean"]).code(0);
    running.ends(0);
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(log, "clean\n");
    let done = bed.record()["interventions"].clone();
    assert_eq!((&done[0]["what"], &done[1]["what"]), (&"clean".into(), &"clean".into()));
}

/// Killed in each step of a rewind.
fn nothing_is_left_of_a_build_that_went_back() {
    let commands = [
        "mkdir -p /root/d many; chmod 0 /root/d; i=0; while test $i -lt 900; do : > many/$i; i=$((i+1)); done",
        "false",
    ];
    let steps = ["intervened", "checkpoints/aside", "checkpoints/aside/image.work", "rewound"];
    for (step, kept) in steps.iter().flat_map(|step| [(*step, "auto"), (*step, "sealed")]) {
        let bed = Bed::new();
        let options = ["--break-on", "failure", "--checkpoint", kept];
        let mut running = bed.start(&build(&commands), &options);
        wait_for_stops(&running, "because build:2 has failed", 1);
        let layer = bed.live().join("layer");
        let rewind = Running::spawn(bed.command(["rewind"]));
        match step {
            "intervened" | "rewound" => until(step, || !bed.events(step).is_empty()),
            path => until(step, || layer.join(path).exists() || !bed.events("rewound").is_empty()),
        }
        running.signal(Signal::SIGKILL);
        running.wait();
        drop(rewind);
        bed.runner(["ps"]).code(0);
        assert!(!layer.exists(), "{step}");
        assert_eq!(bed.record()["buildStatus"], "FAULT", "{step}");
    }
}

fn the_image_host_goes_back() {
    let bed = Bed::host();
    let commands = ["echo one > /tmp/f; echo one > ~/f; echo x > f", "rm /tmp/f ~/f f", "exit 3"];
    let running = bed.start(&build(&commands), &["--break-on", "failure"]);
    wait_for_stops(&running, "because build:3 has failed", 1);
    bed.runner(["rewind", "--to", "-2"]).code(0);
    let seen =
        bed.runner(["eval", "cat /tmp/f ~/f f; ls /usr/bin/env; git --version >/dev/null; true"]);
    assert_eq!(seen.code(0).stdout, "one\none\nx\n/usr/bin/env\n");
    bed.runner(["abort"]).code(0);
    running.ends(5);
}
