//! Where a build's log goes besides the terminal, and how it is read later.

use crate::common::{Bed, build, cases};
use std::fs;

cases! {
    [Containers, Image("busybox")] => a_log_file_holds_the_log, a_log_file_that_cannot_be_written,
        logs_of_ended_builds, commands_that_fail_are_annotated, a_bad_buildspec_is_annotated;
}

fn a_log_file_holds_the_log() {
    let bed = Bed::new();
    let file = bed.path("build.log");
    fs::write(&file, "of another build").unwrap();
    let options = ["--log-file", file.to_str().unwrap(), "--log-format", "json"];
    bed.build(&build(&["echo one; printf two", "exit 3"]), &options).code(1);
    let written = fs::read_to_string(&file).unwrap();
    // What it holds is what a later reader gets.
    assert_eq!(written, bed.runner(["logs"]).code(0).stdout);
    assert!(written.contains("\none\ntwo\n\n[Container]"), "{written}");
    assert!(
        written.contains("Command did not exit successfully exit 3 exit status 3"),
        "{written}"
    );
}

fn a_log_file_that_cannot_be_written() {
    let bed = Bed::new();
    let outcome = bed.build(&build(&["true"]), &["--log-file", "nosuch/build.log"]).code(2);
    outcome.says("--log-file: cannot write nosuch/build.log: No such file or directory");
    // A full disk behind it is no reason for a build to fail, and is told.
    let outcome = bed.build(&build(&["echo on"]), &["--log-file", "/dev/full"]).code(0);
    assert_eq!(outcome.output(), "on\n");
    outcome.says("warning: the log in /dev/full is not complete: No space left on device");
}

fn logs_of_ended_builds() {
    let bed = Bed::new();
    let first = bed.build(&build(&["echo first"]), &[]).code(0).stdout;
    let id = bed.record()["id"].as_str().unwrap().to_owned();
    let uuid = id.split(':').next_back().unwrap();
    bed.build(&build(&["echo second"]), &[]).code(0);
    for name in [id.as_str(), uuid, &uuid[..13]] {
        assert_eq!(bed.runner(["logs", name]).code(0).stdout, first);
        assert_eq!(bed.runner(["logs", "--follow", name]).code(0).stdout, first);
    }
    // The newest where none is named.
    assert!(bed.runner(["logs"]).code(0).stdout.contains("\nsecond\n"));
    bed.runner(["logs", "nosuch"]).code(2).says("nosuch");
}

fn commands_that_fail_are_annotated() {
    let bed = Bed::new();
    let buildspec = "version: 0.2\nphases:\n  build:\n    commands:\n      - 'true'\n      - |\n        echo '::error::no, 50%'\n        \
                     exit 4\n    finally:\n      - 'false'\n";
    let outcome = bed.build(buildspec, &["--annotations", "github"]).code(1);
    let outcome = outcome.says(
        "::error file=buildspec.yml,line=7,title=BUILD failed::echo '::error::no, 50%25'%0Aexit 4%0Aexit \
         status 4\n",
    );
    outcome.says("::error file=buildspec.yml,line=10,title=BUILD failed::false%0Aexit status 1\n");

    // Seen from the root of the work tree, as GitHub sees it.
    let mut command = bed.build_command(buildspec, &["--annotations", "github"]);
    command.env("GITHUB_WORKSPACE", bed.path(""));
    crate::common::outcome(&mut command).code(1).says("::error file=source/buildspec.yml,line=7,");
    let quiet = bed.build(buildspec, &[]).code(1);
    assert!(!quiet.stderr.contains("::error file"), "{}", quiet.stderr);
}

fn a_bad_buildspec_is_annotated() {
    let bed = Bed::new();
    let outcome =
        bed.build("version: 0.3\nphases: {build: {commands: [x]}}\n", &["--annotations", "github"]);
    outcome.code(2).says("::error file=buildspec.yml,line=1,col=10,title=bad-value::");
}
