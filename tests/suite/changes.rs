//! Changes of runs to files: `diff --run`, `blame`, `history`, and breakpoints on files.

use super::debugger::wait_for_stops;
use crate::common::{Bed, build, cases};
use serde_json::Value;

cases! {
    [Containers, Image("busybox")] => what_each_run_has_changed, a_file_that_is_written_stops_the_build,
        contents_of_each_run, contents_of_sealed_runs;
    [Containers] => where_nothing_is_recorded;
}

fn changed(bed: &Bed, options: &[&str]) -> String {
    bed.runner([&["diff"], options].concat()).code(0).stdout
}

fn what_each_run_has_changed() {
    let bed = Bed::new();
    for name in ["in", "old", "dir/deep"] {
        bed.write(name, "source\n");
    }
    bed.write("gone", "to go\n");
    let commands = [
        "echo more >> in; mkdir d; echo 1 > d/f; printf 12345 > new; ln -s new link; echo x > dir/x",
        "rm gone; mv old young; chmod 600 dir/deep; rm new; echo \"$SECRET\" > \"/tmp/a $SECRET\"",
        "mv d e; rm -r dir; mkdir dir; echo 1 > dir/deep",
        "false",
    ];
    let options = ["--break-on", "failure", "--env", "SECRET=s3cret-word", "--mask", "SECRET"];
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "because build:4 has failed", 1);
    let first = "M        12 B  in\nA              d/\nA         2 B  dir/x\nA              link\n\
                 A         5 B  new\nA         2 B  d/f\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&changed(&bed, &["--run", "1"])), sorted(first));
    let second = changed(&bed, &["--run", "build:2"]);
    assert_eq!(
        sorted(&second),
        [
            "A        12 B  /tmp/a ***",
            "D         5 B  new",
            "D         6 B  gone",
            "R         7 B  old -> young",
            "t         7 B  dir/deep",
        ]
    );
    let third = changed(&bed, &["--run", "-2"]);
    assert_eq!(
        sorted(&third),
        ["D         2 B  dir/x", "M         2 B  dir/deep", "R              d/ -> e/"]
    );
    assert_eq!(changed(&bed, &["--run", "-1"]), "");
    // A file created and removed again does not count; one created and renamed is new.
    let net = changed(&bed, &["--from", "1", "--", "d", "e", "new", "in"]);
    assert_eq!(sorted(&net), ["A              e/", "A         2 B  e/f", "M        12 B  in"]);
    // People's changes are shown as theirs, also after the build has ended.
    bed.runner(["exec", "--", "sh", "-c", "echo >> in; echo > theirs"]).code(0);
    bed.runner(["eval", "echo > evaluated"]).code(0);
    bed.runner(["retry", "--text", "echo > last"]).code(0);
    running.ends(0);
    let blame = bed.runner(["blame", "in"]).code(0).stdout;
    let runs: Vec<&str> =
        blame.lines().map(|line| line.trim_start().split(' ').next().unwrap()).collect();
    assert_eq!(runs, ["5", "1"], "{blame}");
    assert!(blame.contains("  5  eval     M        13 B  in  echo > evaluated\n"), "{blame}");
    assert!(
        bed.runner(["blame", "gone"])
            .stdout
            .starts_with("   2  build:2  D         6 B  gone  rm gone")
    );
    assert!(bed.runner(["blame", "e/f"]).stdout.contains("R              d/ -> e/"));
    bed.runner(["blame", "/etc/none"]).code(0).says("no run has changed /etc/none");
    assert_eq!(changed(&bed, &["--run", "-1"]), "A         1 B  last\n");
    bed.runner(["diff", "--run", "99"]).code(2).says("there is no run 99");
    bed.runner(["diff", "--from", "3", "--to", "1"]).code(2).says("run 3 comes after run 1");
    let runs: Value =
        serde_json::from_str(&bed.runner(["history", "--format", "json"]).stdout).unwrap();
    let counts = &runs[1]["changes"];
    assert_eq!(
        (
            &counts["added"],
            &counts["modified"],
            &counts["deleted"],
            &counts["renamed"],
            &counts["bytes"]
        ),
        (&1.into(), &1.into(), &2.into(), &1.into(), &12.into())
    );
    let history = bed.runner(["history"]).stdout;
    let first = history.lines().next().unwrap();
    assert!(first.contains("  copied "), "{history}");
    assert!(first.contains("  6 files  echo more"), "{history}");
}

fn contents_of_each_run() {
    shows_contents("auto");
}

fn contents_of_sealed_runs() {
    shows_contents("sealed");
}

fn shows_contents(checkpoint: &str) {
    let bed = Bed::new();
    bed.write("in", "one\ntwo\n");
    bed.write("old", "as it is\n");
    bed.write("dir/deep", "deep\n");
    let large = "dd if=/dev/zero of=large bs=1M count=2 2>/dev/null";
    let first = "echo three >> in; mkdir d many; echo new > d/f; echo outside > /tmp/t; mkdir -p .git; echo git > .git/x";
    let many = "i=0; while [ $i -lt 1001 ]; do : > many/$i; i=$((i+1)); done";
    let commands = [
        &*format!("{first}; {large}; {many}"),
        &*format!(
            "sed -i 1d in; mv old young; chmod 755 d/f; rm -r dir many; {large}; mv large big"
        ),
        "echo last > d/f; chmod 600 big; echo > \"$SECRET\"; false",
    ];
    let mut options = vec!["--break-on", "failure", "--checkpoint", checkpoint];
    options.extend(["--env", "SECRET=s3cret-word", "--mask", "SECRET"]);
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "because build:3 has failed", 1);
    let patch = |run: &str, code| bed.runner(["diff", "--run", run, "--patch"]).code(code);
    let first = patch("1", 3)
        .says("large: too large for a patch")
        .says("1 change is outside of the source, and not shown; `-- /` shows all");
    for part in [
        "--- a/in\n+++ b/in\n@@ -1,2 +1,3 @@\n one\n two\n+three\n",
        "--- /dev/null\n+++ b/d/f\n@@ -0,0 +1 @@\n+new\n",
    ] {
        assert!(first.stdout.contains(part), "{}", first.stdout);
    }
    for part in ["+outside", ".git/x"] {
        assert!(!first.stdout.contains(part), "{}", first.stdout);
    }
    let outside = bed.runner(["diff", "--run", "1", "--patch", "--", "/tmp"]).code(0).stdout;
    assert!(outside.contains("+++ b//tmp/t\n@@ -0,0 +1 @@\n+outside\n"), "{outside}");
    let second = patch("2", 3)
        .says("many: only 1000 of its files are looked at")
        .says("big: too large for a patch")
        .stdout;
    for part in [
        "--- a/in\n+++ b/in\n@@ -1,3 +1,2 @@\n-one\n two\n three\n",
        "rename from old\nrename to young\n",
        "old mode 100644\nnew mode 100755\n",
        "deleted file mode 100644\n",
        "--- a/dir/deep\n+++ /dev/null\n@@ -1 +0,0 @@\n-deep\n",
    ] {
        assert!(second.contains(part), "{second}");
    }
    let renamed = bed.runner(["diff", "--run", "2", "--patch", "--", "old"]).code(0).stdout;
    assert!(renamed.contains("rename from old\n") && !renamed.contains("+++"), "{renamed}");
    let last = patch("-1", 3).says("files are shown as they are now").says("***: not found");
    assert!(last.stdout.contains("@@ -1 +1 @@\n-new\n+last\n"), "{}", last.stdout);
    assert!(!last.stderr.contains("big"), "only its mode is another: {}", last.stderr);
    let one = bed.runner(["diff", "--run", "1", "--patch", "--", "d"]).code(0).stdout;
    assert!(one.contains("+new") && !one.contains("+three"), "{one}");
    bed.runner(["rewind", "--to", "2"]).code(0);
    for undone in ["2", "3"] {
        patch(undone, 2).says("a rewind has removed them");
    }
    assert!(patch("1", 3).stdout.contains("+three\n"));
    // Others have run in their place.
    bed.runner(["resume"]).code(0);
    wait_for_stops(&running, "because build:3 has failed", 2);
    for undone in ["2", "3"] {
        patch(undone, 2).says("a rewind has removed them");
    }
    assert!(patch("1", 3).stdout.contains("+three\n"));
    assert!(patch("-1", 3).stdout.contains("@@ -1 +1 @@\n-new\n+last\n"));
    bed.runner(["abort"]).code(0);
    running.ends(1);
    patch("1", 2).says("the build has ended, and its files are gone");
}

fn a_file_that_is_written_stops_the_build() {
    let bed = Bed::new();
    let commands = ["mkdir dist; echo > dist/a.js", "rm dist/a.js", "echo > /tmp/x", "true"];
    let log = "wrote:dist/*.js log \"{run}\"";
    let options = ["--break-on", "wrote:'/tmp/**'", "--break-on", log];
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "before build:4", 1);
    let logged: Vec<String> = bed
        .events("logged")
        .iter()
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(logged, ["1"], "to remove it is not to write it");
    bed.runner(["break", "add", "wrote:late"]).code(0);
    bed.runner(["retry", "--edit", "--text", "true"]).code(2);
    bed.runner(["eval", "rm -f late; echo > late"]).code(0);
    bed.runner(["resume"]).code(0);
    running.ends(0);
    bed.build(&build(&commands), &["--break-on", "wrote:x", "--checkpoint", "off"])
        .code(2)
        .says("known only with checkpoints");
}

fn where_nothing_is_recorded() {
    let bed = Bed::host();
    let commands = ["true", "false"];
    let running = bed.start(&build(&commands), &["--break-on", "failure", "--checkpoint", "off"]);
    wait_for_stops(&running, "because build:2 has failed", 1);
    bed.runner(["break", "add", "wrote:x"]).code(2).says("no checkpoints: builds with --break-on");
    bed.runner(["abort"]).code(0);
    running.ends(1);
    bed.runner(["diff", "--run", "-1"]).code(2).says("no checkpoints: builds with --break-on");
    bed.runner(["blame", "x"]).code(2).says("no checkpoints: builds with --break-on");
    assert!(!bed.only().join("changes").exists());
    let bed = Bed::host();
    let options = ["--engine", "process", "--break-on", "failure", "--break-on", "wrote:x"];
    let running = bed.start(&build(&commands), &options);
    wait_for_stops(&running, "because build:2 has failed", 1);
    running.stderr.wait_for("breakpoints `wrote:` are never come to: the engine is `process`");
    bed.runner(["diff", "--run", "1"]).code(2).says("`--engine namespaces` has them");
    bed.runner(["abort"]).code(0);
    running.ends(1);
}
