//! Invalid input: rejected with a position and a hint, and still with a record.

use crate::common::{Bed, cases};
use std::fs;

cases! {
    [Containers] => buildspecs_that_cannot_be_read, buildspecs_that_are_wrong, usage_errors,
        unknown_builds, all_problems_at_once, a_very_large_buildspec;
}

fn rejected(bed: &Bed) -> String {
    let record = bed.record();
    assert_eq!(record["buildStatus"], "FAILED");
    let phase = record["phases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|phase| phase["phaseType"] == "DOWNLOAD_SOURCE")
        .unwrap();
    assert_eq!(phase["phaseStatus"], "FAILED");
    assert_eq!(phase["contexts"][0]["statusCode"], "YAML_FILE_ERROR");
    phase["contexts"][0]["message"].as_str().unwrap().to_owned()
}

fn buildspecs_that_cannot_be_read() {
    let bed = Bed::host();
    bed.runner(["run"]).code(2).says("there is no").says("hint: name the buildspec");
    assert_eq!(rejected(&bed), "YAML file does not exist");

    let bed = Bed::host();
    bed.runner(["run", "nosuch.yml"]).code(2).says("there is no nosuch.yml");
    assert_eq!(rejected(&bed), "stat nosuch.yml: no such file or directory");

    let bed = Bed::host();
    fs::create_dir(bed.source().join("dir")).unwrap();
    bed.runner(["run", "dir"]).code(2).says("dir is a directory");
    rejected(&bed);

    let bed = Bed::host();
    bed.write("binary.yml", [b"version: 0.2\nphases: ".as_slice(), &[0xff, 0xfe, 0, 1]].concat());
    bed.runner(["run", "binary.yml"]).code(2).says("not text in UTF-8").says("binary.yml:2:9");
    rejected(&bed);
}

fn buildspecs_that_are_wrong() {
    for (text, place, message, hint, aws) in [
        ("[".repeat(200_000), "b.yml:1:", "too deeply nested", "nested", ""),
        (
            "version: 0.2\nphases:\n\tbuild:\n".to_owned(),
            "b.yml:3:2",
            "tabs disallowed",
            "indent with spaces",
            "found character that cannot start any token at line 2",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    commands:\n      - echo a: b\n".to_owned(),
            "b.yml:5:9",
            "YAML reads this command as a map",
            "quote the whole command",
            "Expected Commands[0] to be of string type: found subkeys instead at line 5, value of \
             the key tag on line 4 might be empty",
        ),
        (
            "version: 0.2\nphases:\n  build:\n    commands:\n      - {a: b}\n".to_owned(),
            "b.yml:5:9",
            "YAML reads this command as a map",
            "quote",
            "Expected Commands[0]",
        ),
        (
            "version: 9\nphases: {build: {commands: [a]}}\n".to_owned(),
            "b.yml:1:10",
            "no buildspec version `9`",
            "0.2",
            "Invalid buildspec version: 9",
        ),
        ("version: 0.2\nphases: {build: {commands: [a}}\n".to_owned(), "b.yml:2:", "", "", ""),
        ("just a text\n".to_owned(), "b.yml:1:1", "must be a map", "", ""),
        (
            "version: 0.2\nphases:\n  build:\n    commands\n      - a\n".to_owned(),
            "b.yml:4:5",
            "but here is a text",
            "there is no colon after `commands`: write `commands:`",
            "",
        ),
        (
            "version: 0.2\nphases:\n  build\n    commands: [a]\n".to_owned(),
            "b.yml:3:3",
            "there is no colon after `build`",
            "write `build:`",
            "mapping values are not allowed in this context",
        ),
        (
            "version 0.2\n\n# phases\nphases: {build: {commands: [a]}}\n".to_owned(),
            "b.yml:1:1",
            "there is no colon after `version`",
            "write `version:`",
            "",
        ),
        (String::new(), "b.yml:1:1", "empty", "version: 0.2", ""),
        (
            "version: 0.2\nbatch:\n  build-list: []\n".to_owned(),
            "b.yml:2:1",
            "batch builds only",
            "",
            "",
        ),
    ] {
        let bed = Bed::host();
        bed.write("b.yml", &text);
        let outcome = bed.runner(["run", "b.yml"]).code(2).says(place).says(message).says(hint);
        assert_eq!(outcome.stderr.matches("error[").count(), 1, "{}", outcome.stderr);
        let told = rejected(&bed);
        assert!(told.contains(aws), "{told}");
        assert!(
            outcome.stdout.contains("Phase complete: DOWNLOAD_SOURCE State: FAILED"),
            "{}",
            outcome.stdout
        );
        assert!(outcome.stdout.contains("status code: YAML_FILE_ERROR"), "{}", outcome.stdout);
    }
}

fn all_problems_at_once() {
    let bed = Bed::host();
    bed.write(
        "b.yml",
        "version: 0.2\nenv:\n  shell: fish\n  variables: [a]\nphases:\n  build:\n    on-failure: \
         PANIC\n    commands:\n      - a: b\n      - [c]\n",
    );
    let outcome = bed.runner(["run", "b.yml"]).code(2).says("5 errors in b.yml");
    for place in ["b.yml:3:10", "b.yml:4:14", "b.yml:7:17", "b.yml:9:9", "b.yml:10:9"] {
        assert!(outcome.stderr.contains(place), "{place}\n{}", outcome.stderr);
    }
    rejected(&bed);
}

fn a_very_large_buildspec() {
    let bed = Bed::host();
    let mut text = "version: 0.2\nphases:\n  build:\n    commands:\n".to_owned();
    for number in 0..200_000 {
        text.push_str(&format!("      - echo this is command number {number}\n"));
    }
    text.push_str("      - oops: this one is a map\n");
    bed.write("b.yml", &text);
    bed.runner(["run", "b.yml"]).code(2).says("b.yml:200005:9");

    let bed = Bed::host();
    bed.write("b.yml", "#".repeat(20 << 20));
    bed.runner(["run", "b.yml"]).code(2).says("bytes, more than");
}

fn usage_errors() {
    let bed = Bed::host();
    for arguments in [
        &["run", "--source", "/nosuch"][..],
        &["run", "--source", "/etc/passwd"],
        &["run", "--source", "/"],
        &["run", "--image", "oci:"],
        &["run", "--image", "rootfs:"],
        &["run", "--engine", "kubernetes"],
        &["run", "--mount", "/nosuch:/a"],
        &["run", "--mount", "/etc:relative"],
        &["run", "--timeout", "soon"],
        &["run", "-e", "1A=b"],
        &["run", "-e", "NOT_SET_ANYWHERE"],
        &["run", "--project", "a/b"],
        &["run", "--artifacts", "s3://"],
        &["run", "--reports", "/dev/null/x"],
        &["run", "--annotations", "bitbucket"],
        &["run", "--project-json", "/nosuch"],
        &["debug"],
        &["nonsense"],
        &["exec"],
        &["wait"],
    ] {
        let outcome = bed.runner(arguments).code(2);
        assert!(!outcome.stderr.is_empty() && outcome.stdout.is_empty(), "{arguments:?}");
    }
    // None of them has created a build.
    assert_eq!(crate::common::list(&bed.home().join("builds")), [""; 0]);
    // What is not implemented yet is not offered either.
    let help = bed.runner(["run", "--help"]).code(0).stdout;
    assert!(help.contains("--enable-session") && !help.contains("--server"), "{help}");
}

fn unknown_builds() {
    let bed = Bed::host();
    for verb in [&["resume"][..], &["stop"], &["logs"], &["wait", "--for", "ended"]] {
        let mut arguments = verb.to_vec();
        arguments.push("nosuch");
        bed.runner(&arguments).code(2).says("no build `nosuch`").says("no build is live");
    }
    bed.runner(["stop"]).code(2).says("no build is live");
    bed.runner(["exec", "nosuch", "--", "id"]).code(125).says("no build `nosuch`");
}
