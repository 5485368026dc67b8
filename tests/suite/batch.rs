//! `runner batch`: several builds of one buildspec.

use super::service_faults::Disk;
use crate::common::{Bed, Running, build, cases, image, list, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => twelve_with_two_failures, three_by_three, two_hundred_files_in_four_parts,
        a_paused_build_and_a_source_that_changes, an_owner_that_is_killed, a_build_that_is_killed,
        a_build_that_a_person_stops, all_stop_at_once, what_people_and_programs_see, files_of_a_build_are_its_own,
        builds_are_called_by_name, reports_are_gathered;
    [Containers, Root] => a_full_disk;
    [] => nothing_runs_that_is_not_sound, buildspecs_of_its_builds_are_checked, who_waits_for_whom, what_needs_trust;
}

/// The command that runs this buildspec as a batch in the image busybox.
fn command(bed: &Bed, buildspec: &str, options: &[&str]) -> Command {
    bed.write("buildspec.yml", buildspec);
    let image = format!("rootfs:{}", image("busybox").display());
    let mut command = bed.command(["batch", "--project", "demo", "--image", &image]);
    command.args(options);
    command
}

pub(super) fn start(bed: &Bed, buildspec: &str, options: &[&str]) -> Running {
    Running::spawn(command(bed, buildspec, options))
}

/// The record of the only batch.
fn record(bed: &Bed) -> Value {
    let batches = bed.home().join("batches");
    let [uuid] = list(&batches).try_into().expect("one batch");
    let folder = batches.join(uuid);
    let mut files = list(&folder);
    files.sort();
    // Nothing of the source is left, and the batch is not listed as live.
    assert_eq!(files, ["lock", "record.json"]);
    assert_eq!(list(&bed.home().join("live-batches")), [""; 0]);
    serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap()
}

/// The final status of each build of a batch.
fn statuses(record: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let groups = record["buildGroups"].as_array().unwrap().iter();
    groups
        .map(|it| (text(&it["identifier"]), text(&it["currentBuildSummary"]["buildStatus"])))
        .collect()
}

/// The uuid of a build, by its name in the batch.
pub(super) fn uuid(record: &Value, name: &str) -> String {
    let groups = record["buildGroups"].as_array().unwrap();
    let group = groups.iter().find(|it| it["identifier"] == name).unwrap();
    let arn = group["currentBuildSummary"]["arn"].as_str().unwrap();
    arn.rsplit(':').next().unwrap().to_owned()
}

/// Names of the builds that ran, with their commands' output.
fn outputs(bed: &Bed) -> Vec<(String, String)> {
    let builds = bed.home().join("builds");
    let read = |uuid: String| {
        let dir = builds.join(uuid);
        let events = fs::read_to_string(dir.join("events.jsonl")).unwrap();
        let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
        let name = first["data"]["batch"]["identifier"].as_str().unwrap().to_owned();
        (name, fs::read_to_string(dir.join("output.log")).unwrap())
    };
    let mut found: Vec<_> = list(&builds).into_iter().map(read).collect();
    found.sort();
    found
}

/// A graph whose builds run this command, one build per entry: its name, and its dependencies.
pub(super) fn graph(text: &str, builds: &[(&str, &[&str])]) -> String {
    let tasks = builds
        .iter()
        .map(|(name, on)| format!("    - {{identifier: {name}, depend-on: {on:?}}}\n"));
    format!("{}batch:\n  build-graph:\n{}", build(&[text]), tasks.collect::<String>())
}

fn twelve_with_two_failures() {
    let bed = Bed::new();
    let of_name = "case $CODEBUILD_BATCH_BUILD_IDENTIFIER in b|g) echo $NAME; exit 1;; esac; \
                   echo batch $CODEBUILD_BUILD_BATCH_NUMBER";
    let spec = graph(
        of_name,
        &[
            ("a", &[]),
            ("b", &["a"]),
            ("c", &["a"]),
            ("d", &["b"]),
            ("e", &["d", "c"]),
            ("f", &["c"]),
            ("g", &[]),
            ("h", &["g"]),
            ("i", &["f", "a"]),
            ("j", &[]),
            ("k", &["j"]),
            ("l", &["h"]),
        ],
    );
    let json = bed.path("batch.json");
    let running = start(&bed, &spec, &["-e", "NAME=typed", "--build-json", json.to_str().unwrap()]);
    running.stderr.wait_for("FAILED (");
    running.ends(1);
    let record = record(&bed);
    let wanted = "a SUCCEEDED b FAILED c SUCCEEDED d STOPPED e STOPPED f SUCCEEDED g FAILED h STOPPED i \
                  SUCCEEDED j SUCCEEDED k SUCCEEDED l STOPPED";
    let told = statuses(&record).into_iter().map(|(name, status)| format!("{name} {status}"));
    assert_eq!(told.collect::<Vec<_>>().join(" "), wanted);
    assert_eq!(
        (&record["buildBatchStatus"], &record["buildBatchNumber"]),
        (&"FAILED".into(), &1.into())
    );
    // Skipped builds never began.
    let ran = outputs(&bed);
    assert_eq!(ran.len(), 8, "{ran:?}");
    assert!(ran.iter().all(|(_, said)| said == "batch 1\n" || said == "typed\n"), "{ran:?}");
    let written: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(written, record);
    // A child is an ordinary build.
    let child = uuid(&record, "b");
    let log = bed.runner(["logs", &child]).code(0).stdout;
    assert!(log.contains("Phase complete: BUILD State: FAILED"), "{log}");
    let of_child: Value = serde_json::from_slice(
        &fs::read(bed.home().join("builds").join(child).join("record.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(of_child["buildBatchArn"], record["arn"]);
}

fn three_by_three() {
    let bed = Bed::new();
    let busybox = image("busybox");
    let busybox = busybox.display();
    let spec = format!(
        "{}batch:\n  build-matrix:\n    dynamic:\n      env:\n        variables: {{A: [1, 2, 3]}}\n        image: \
         ['rootfs:{busybox}', host, 'rootfs:{busybox}']\n",
        build(&["echo $A $CODEBUILD_BUILD_IMAGE $CODEBUILD_BATCH_BUILD_IDENTIFIER"])
    );
    bed.write("buildspec.yml", spec);
    // The buildspec's choice of images needs its user's consent.
    bed.runner(["batch", "--project", "demo"]).code(2).says("--trust-project");
    bed.runner(["batch", "--project", "demo", "--trust-project"]).code(0);
    let images = [format!("rootfs:{busybox}"), "host".to_owned(), format!("rootfs:{busybox}")];
    let wanted: Vec<(String, String)> = (0..9)
        .map(|at| {
            let name = format!("build{at}");
            (name.clone(), format!("{} {} {name}\n", at / 3 + 1, images[at % 3]))
        })
        .collect();
    assert_eq!(outputs(&bed), wanted);
    assert!(statuses(&record(&bed)).values().all(|status| status == "SUCCEEDED"));
}

fn two_hundred_files_in_four_parts() {
    let bed = Bed::new();
    for at in 0..200 {
        bed.write(&format!("tests/case {at:03}.t"), "");
    }
    // The files follow the command, each as a separate word.
    let run = |strategy: &str| {
        format!(
            "codebuild-tests-run --test-command 'printf \"%s|\\n\"' --files-search 'find tests -name \"*.t\"' \
             --sharding-strategy {strategy} || exit 1"
        )
    };
    let commands = [run("equal-distribution"), "echo --".to_owned(), run("stability")];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let spec = format!("{}batch:\n  build-fanout:\n    parallelism: 4\n", build(&commands));
    start(&bed, &spec, &[]).ends(0);
    let outputs = outputs(&bed);
    assert_eq!(outputs.len(), 4);
    let mut all: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for (_, said) in outputs {
        let parts: [&str; 2] = said.split("--\n").collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(parts[0].lines().count(), 50, "{said}");
        assert!((20..90).contains(&parts[1].lines().count()), "{said}");
        for (all, part) in all.iter_mut().zip(parts) {
            all.extend(part.lines().map(str::to_owned));
        }
    }
    for mut all in all {
        all.sort();
        let wanted: Vec<String> = (0..200).map(|at| format!("tests/case {at:03}.t|")).collect();
        assert_eq!(all, wanted);
    }
}

fn a_paused_build_and_a_source_that_changes() {
    let bed = Bed::new();
    bed.write("file", "as it was\n");
    let text = "if [ $CODEBUILD_BATCH_BUILD_IDENTIFIER = first ]; then codebuild-breakpoint; else cat file; fi";
    let spec = graph(text, &[("first", &[]), ("other", &[]), ("last", &["first"])]);
    let running = start(&bed, &spec, &["--enable-session", "--max-builds", "1"]);
    running.stderr.wait_for("first: build demo:");
    running.stderr.wait_for("is paused at a breakpoint");
    // It uses the only place, and gives it up while paused.
    running.stderr.wait_until("other has run", |said| {
        let said = String::from_utf8_lossy(said);
        said.lines().any(|line| line.contains("other: build") && line.contains("SUCCEEDED"))
    });
    bed.write("file", "changed\n");
    bed.write("new", "");
    assert_eq!(bed.runner(["exec", "--", "cat", "file"]).code(0).stdout, "as it was\n");
    bed.runner(["resume"]).code(0);
    running.ends(0);
    let said = outputs(&bed);
    let wanted = [("first", ""), ("last", "as it was\n"), ("other", "as it was\n")];
    assert_eq!(said, wanted.map(|(name, said)| (name.to_owned(), said.to_owned())));
    record(&bed);
}

/// Two builds at a breakpoint, and one that depends on them.
fn two_paused(bed: &Bed) -> Running {
    // No uuid begins like these.
    let spec = graph("codebuild-breakpoint", &[("x", &[]), ("y", &[]), ("z", &["x", "y"])]);
    let running = start(bed, &spec, &["--enable-session", "--max-builds", "2"]);
    running.stderr.wait_until("both", |said| {
        String::from_utf8_lossy(said).matches("is paused at a breakpoint").count() == 2
    });
    running
}

fn an_owner_that_is_killed() {
    let bed = Bed::new();
    let mut running = two_paused(&bed);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    let builds = bed.home().join("builds");
    let is_dead = |uuid: &String| {
        let lock = fs::File::open(builds.join(uuid).join("lock")).unwrap();
        lock.try_lock_shared().is_ok()
    };
    until("its builds are gone", || list(&builds).iter().all(is_dead));
    // What it could have been writing.
    let batches = bed.home().join("batches");
    let folder = batches.join(&list(&batches)[0]);
    fs::write(folder.join("record.new"), "{").unwrap();
    fs::write(folder.join(".tmp-abc"), "{").unwrap();
    bed.runner(["ps"]).code(0).says("batch demo:").says("it is ended now (FAULT)");
    let record = record(&bed);
    assert_eq!((&record["buildBatchStatus"], &record["complete"]), (&"FAULT".into(), &true.into()));
    let told: Vec<String> = statuses(&record).into_values().collect();
    assert_eq!(told, ["FAULT", "FAULT", "STOPPED"]);
}

fn a_build_that_is_killed() {
    let bed = Bed::new();
    let running = two_paused(&bed);
    let live = list(&bed.home().join("live"));
    let meta = |uuid: &String| -> Value {
        let meta = bed.home().join("builds").join(uuid).join("meta.json");
        serde_json::from_slice(&fs::read(meta).unwrap()).unwrap()
    };
    let pid = meta(&live[0])["runnerPid"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    running.stderr.wait_for("FAULT after");
    bed.runner(["resume", &live[1]]).code(0);
    running.ends(3);
    let record = record(&bed);
    let mut told: Vec<String> = statuses(&record).into_values().collect();
    told.sort();
    assert_eq!(told, ["FAULT", "STOPPED", "SUCCEEDED"]);
    assert_eq!(record["buildBatchStatus"], "FAILED");
}

/// Builds that depend on it never run; the others continue.
fn a_build_that_a_person_stops() {
    let bed = Bed::new();
    let running = two_paused(&bed);
    let live = list(&bed.home().join("live"));
    bed.runner(["stop", &live[0]]).code(0);
    running.stderr.wait_for("STOPPED after");
    bed.runner(["resume", &live[1]]).code(0);
    running.ends(5);
    let record = record(&bed);
    let mut told: Vec<String> = statuses(&record).into_values().collect();
    told.sort();
    assert_eq!(told, ["STOPPED", "STOPPED", "SUCCEEDED"]);
    assert_eq!(record["buildBatchStatus"], "FAILED");
}

/// There is no space for the copy of the source: no build begins, and nothing of it remains.
fn a_full_disk() {
    let bed = Bed::host();
    let disk = Disk::for_home(&bed, 8);
    fs::create_dir_all(bed.source()).unwrap();
    fs::write(bed.source().join("large"), vec![b'x'; 12 << 20]).unwrap();
    bed.write("buildspec.yml", graph("true", &[("a", &[]), ("b", &["a"])]));
    let full = bed.runner(["batch"]).code(3).says("cannot copy the source for the batch");
    full.says("No space left").says("RUNNER_HOME");
    assert_eq!(record(&bed)["buildBatchStatus"], "FAULT");
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
    drop(disk);
}

fn all_stop_at_once() {
    let bed = Bed::new();
    let running = two_paused(&bed);
    running.signal(Signal::SIGINT);
    running.ends(5);
    let record = record(&bed);
    assert_eq!(record["buildBatchStatus"], "STOPPED");
    assert!(statuses(&record).values().all(|status| status == "STOPPED"));
}

fn what_people_and_programs_see() {
    let bed = Bed::new();
    let text = "echo from $CODEBUILD_BATCH_BUILD_IDENTIFIER; test $CODEBUILD_BATCH_BUILD_IDENTIFIER != bad";
    let spec = graph(text, &[("good", &[]), ("bad", &[])]);
    let terminal = bed.terminal(command(&bed, &spec, &[]), 24, 100);
    let screen = String::from_utf8_lossy(&terminal.stream.wait_for_end()).into_owned();
    // Only the log of the failed build is shown.
    assert!(screen.contains("from bad") && !screen.contains("from good"), "{screen}");
    assert!(screen.contains("✓ good") && screen.contains("FAILED"), "{screen}");
    let mut running =
        start(&bed, &spec, &["--log-format", "json", "--fail-fast", "--max-builds", "1"]);
    assert_eq!(running.wait(), 1);
    let said = running.stdout.text();
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, events) = events.split_last().unwrap();
    assert_eq!((&last["type"], &last["data"]["status"]), (&"batch_ended".into(), &"FAILED".into()));
    assert!(
        events.iter().all(|event| event["child"] == "good" || event["child"] == "bad"),
        "{said}"
    );
    assert!(events.iter().any(|event| event["data"]["text"] == "from bad\n"), "{said}");
    // In CodeBuild's format each log is in one piece.
    let mut running = start(&bed, &spec, &["--only", "good"]);
    assert_eq!(running.wait(), 0);
    let said = running.stdout.text();
    assert!(said.starts_with("── good: build demo:") && said.contains("from good\n"), "{said}");
}

fn files_of_a_build_are_its_own() {
    let bed = Bed::new();
    let spec = format!(
        "{}artifacts:\n  files: [made]\nbatch:\n  build-list:\n    - {{identifier: one}}\n    - {{identifier: \
         two, buildspec: ci/two.yml, env: {{variables: {{OWN: x}}}}}}\n    - {{identifier: none, \
         ignore-failure: true, buildspec: ../two.yml}}\n",
        build(&["echo one > made"])
    );
    bed.write("ci/two.yml", "version: 0.2\nphases: {build: {commands: ['echo two $OWN > made']}}\nartifacts: {files: [made]}\n");
    let (out, log) = (bed.path("out"), bed.path("build.log"));
    let options = ["--artifacts", out.to_str().unwrap(), "--log-file", log.to_str().unwrap()];
    start(&bed, &spec, &options).ends(0);
    let read = |path: &str| fs::read_to_string(bed.path(path)).unwrap();
    assert_eq!(
        (read("out/one/made"), read("out/two/made")),
        ("one\n".to_owned(), "two x\n".to_owned())
    );
    assert!(
        read("build.one.log").contains("Entering phase BUILD")
            && read("build.two.log").contains("two $OWN")
    );
    assert!(
        read("build.none.log")
            .contains("YAML_FILE_ERROR Message: ../two.yml is not below the source")
    );
}

fn nothing_runs_that_is_not_sound() {
    let bed = Bed::host();
    let refused = |batch: &str, wanted: &[&str]| {
        let text = format!("version: 0.2\nphases: {{build: {{commands: [a]}}}}\nbatch:\n{batch}");
        bed.write("buildspec.yml", &text);
        let outcome = bed.runner(["batch"]).code(2);
        wanted.iter().fold(outcome, |outcome, text| outcome.says(text));
        let checked = bed.runner(["check"]).code(2).stdout;
        assert!(checked.contains(wanted[0]), "{checked}");
    };
    refused(
        "  build-graph:\n    - {identifier: a, depend-on: [b]}\n    - {identifier: b, depend-on: [a, x]}\n",
        &[
            "`a` waits for `b`, which waits for `a`",
            "there is no build `x`",
            "buildspec.yml:5:",
            "2 errors",
        ],
    );
    let tasks: String = (0..101).map(|at| format!("    - identifier: b{at}\n")).collect();
    refused(
        &format!("  build-list:\n{tasks}"),
        &["here are 101 builds, and a batch has 100 at most"],
    );
    bed.write("buildspec.yml", build(&["a"]));
    bed.runner(["batch"]).code(2).says("has no `batch`").says("runner run");
    // Nothing has begun.
    assert!(!bed.home().join("batches").exists());
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}

/// All problems at once: those of the file, and those of the files that its builds name.
fn buildspecs_of_its_builds_are_checked() {
    let bed = Bed::host();
    let spec = format!(
        "{}batch:\n  build-graph:\n    - identifier: none\n      buildspec: ci/none.yml\n    - identifier: bad\n      \
         buildspec: ci/bad.yml\n      depend-on: [x]\n    - identifier: again\n      buildspec: ci/bad.yml\n    - \
         identifier: inline\n      buildspec: |\n        version: 0.2\n    - identifier: good\n      buildspec: \
         ci/good.yml\n    - identifier: own\n      buildspec: buildspec.yml\n",
        build(&["true"])
    );
    bed.write("buildspec.yml", spec);
    bed.write(
        "ci/bad.yml",
        "version: 0.2\nphases:\n  biuld:\n  build:\n    commands: {a: b}\n    on-failure: PANIC\n",
    );
    bed.write("ci/good.yml", build(&["true"]));
    let report = bed.runner(["check"]).code(2).stdout;
    for wanted in [
        "there is no ci/none.yml in the source\n --> buildspec.yml:9:18\n",
        "ci/bad.yml, line 5: a list of commands belongs here, not a map\n  --> buildspec.yml:11:18\n",
        "ci/bad.yml, line 6: on-failure cannot be `PANIC`",
        "there is no build `x`",
        "the buildspec of this build, line 1: `phases` is missing",
        "buildspec.yml: 5 errors, no warnings",
    ] {
        assert!(report.contains(wanted), "{wanted}: {report}");
    }
    assert_eq!(report.matches("cannot be `PANIC`").count(), 1, "{report}");
    let matrix = "batch:\n  build-matrix:\n    dynamic:\n      buildspec: [ci/good.yml, ci/none.yml, ../out.yml]\n";
    bed.write("buildspec.yml", format!("version: 0.2\n{matrix}"));
    let report = bed.runner(["check"]).code(2).stdout;
    assert!(report.contains("../out.yml is not below the source directory"), "{report}");
    assert!(report.contains("2 errors"), "{report}");
}

/// Every verb takes a build's name in the batch: of the live one, or of the one that ended last.
fn builds_are_called_by_name() {
    let bed = Bed::new();
    let running = two_paused(&bed);
    let table = bed.runner(["ps"]).code(0).stdout;
    assert!(table.starts_with("BUILD") && table.contains("IN BATCH"), "{table}");
    let name = |verb: &str| {
        let script = "echo $CODEBUILD_BATCH_BUILD_IDENTIFIER";
        bed.runner(["exec", verb, "--", "sh", "-c", script]).code(0).stdout
    };
    assert_eq!((name("x"), name("y")), ("x\n".to_owned(), "y\n".to_owned()));
    bed.runner(["resume", "z"]).code(2).says("there is no build `z`");
    let log = bed.runner(["logs", "y"]).code(0).stdout;
    assert!(log.contains("Running command codebuild-breakpoint"), "{log}");
    bed.runner(["stop", "y"]).code(0);
    bed.runner(["resume", "y"]).code(2).says("has ended");
    bed.runner(["resume", "x"]).code(0);
    running.ends(5);
    let record = record(&bed);
    let told: Vec<String> = statuses(&record).into_values().collect();
    assert_eq!(told, ["SUCCEEDED", "STOPPED", "STOPPED"]);
    let log = bed.runner(["logs", "x"]).code(0).stdout;
    assert!(log.contains("Phase complete: BUILD State: SUCCEEDED"), "{log}");
}

/// The batch's record names the reports of all its builds.
fn reports_are_gathered() {
    let bed = Bed::new();
    let junit = r#"<testsuite name=\"s\" tests=\"1\"><testcase name=\"t\"/></testsuite>"#;
    let text = format!("echo '{}' > r.xml", junit.replace('\\', ""));
    let spec = format!(
        "{}reports:\n  unit:\n    files: [r.xml]\nbatch:\n  build-list:\n    - {{identifier: one}}\n    - {{identifier: two}}\n",
        build(&[&text])
    );
    start(&bed, &spec, &[]).ends(0);
    let arns = record(&bed)["reportArns"].clone();
    let arns = arns.as_array().unwrap();
    assert!(arns.len() == 2 && arns[0] != arns[1], "{arns:?}");
}

fn who_waits_for_whom() {
    let bed = Bed::host();
    bed.write("buildspec.yml", graph("false", &[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])]));
    let tree = bed.runner(["batch", "--graph"]).code(0).stdout;
    assert_eq!(tree, "a\n└─ b\n   └─ c  (also after a)\n");
    let json = bed.runner(["batch", "--graph", "--format", "json"]).code(0).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["builds"][2]["dependsOn"], serde_json::json!(["a", "b"]));
    let part = bed.runner(["batch", "--graph", "--only", "a", "c"]).code(0).stdout;
    assert_eq!(part, "a\n└─ c\n");
    bed.runner(["batch", "--only", "x"]).code(2).says("there is no build x").says("--graph");
    bed.runner(["batch", "--format", "json"]).code(2).says("--graph");
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}

fn what_needs_trust() {
    let bed = Bed::host();
    let spec = format!(
        "{}batch:\n  build-list:\n    - {{identifier: a, env: {{privileged-mode: true}}}}\n    - {{identifier: b, \
         env: {{image: 'rootfs:/etc'}}}}\n",
        build(&["true"])
    );
    bed.write("buildspec.yml", spec);
    bed.runner(["batch"])
        .code(2)
        .says("a: `privileged-mode` gives the build rights over this machine")
        .says("b: image rootfs:/etc: it shows a file or directory of this machine")
        .says("2 problems");
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}
