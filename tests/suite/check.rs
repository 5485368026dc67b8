//! `runner check`: reports every problem without running the build.

use crate::common::{Bed, cases, list, outcome, project, python};
use std::process::Command;

cases! {
    [] => the_examples, forms, all_problems_in_order, a_number_in_place_of_commands, only_warnings_can_be_left_out,
        nothing_is_run_or_written, no_terminal_is_driven, thousands_of_problems,
        scalars_that_look_like_numbers, several_documents, keys_left_empty, places_of_what_is_meant, words_of_codebuild,
        utf_16, words_that_become_tags, a_hostile_file_of_megabytes;
    [Python] => the_schema_takes_what_check_takes;
}

fn the_examples() {
    let bed = Bed::new();
    for (folder, code) in [("valid", 0), ("batch", 0), ("breakpoint", 0), ("invalid", 2)] {
        for name in list(&project().join("buildspecs").join(folder)) {
            let path = project().join("buildspecs").join(folder).join(&name);
            bed.runner(["check", path.to_str().unwrap()]).code(code);
        }
    }
}

const WRONG: &str = "version: 0.2\nphases:\n  build:\n    on-failure: NEVER\n    commands:\n      - echo a: b\n  biuld: {}\n";

fn all_problems_in_order() {
    let bed = Bed::new();
    bed.write("buildspec.yml", WRONG);
    let report = bed.runner(["check"]).code(2).stdout;
    let places: Vec<&str> =
        report.lines().filter_map(|line| line.trim().strip_prefix("--> ")).collect();
    assert_eq!(places, ["buildspec.yml:4:17", "buildspec.yml:6:9", "buildspec.yml:7:3"]);
    assert!(report.contains("did you mean `build`?") && report.contains("quote the whole command"));
    assert!(report.ends_with("buildspec.yml: 2 errors, 1 warning\n"), "{report}");
}

/// Their text is run, as CodeBuild's decoder reads it; that is hardly what the author means.
fn a_number_in_place_of_commands() {
    let bed = Bed::new();
    let told = |commands: &str| {
        let spec = format!("version: 0.2\nphases:\n  build:\n    commands: {commands}\n");
        bed.write("buildspec.yml", spec);
        bed.runner(["check"]).code(0).stdout
    };
    for commands in ["7", "-1.5", "yes"] {
        let report = told(commands);
        assert!(report.contains("warning[scalar-command]"), "{commands}: {report}");
    }
    for commands in ["'7'", "make", "[true]", "[7]"] {
        let report = told(commands);
        assert!(report.contains("no errors, no warnings"), "{commands}: {report}");
    }
}

fn forms() {
    let bed = Bed::new();
    bed.write("buildspec.yml", WRONG);
    let text = bed.runner(["check", "--format", "json"]).code(2).stdout;
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["file"], "buildspec.yml");
    let second = &report["problems"][1];
    assert_eq!(second["code"], "command-is-map");
    assert_eq!((&second["line"], &second["column"]), (&6.into(), &9.into()));
    assert_eq!(second["source"], "      - echo a: b");

    let text = bed.runner(["check", "--format", "sarif"]).code(2).stdout;
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["version"], "2.1.0");
    let run = &report["runs"][0];
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    for result in run["results"].as_array().unwrap() {
        assert!(rules.contains(&result["ruleId"].as_str().unwrap()), "{result}");
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["region"]["startLine"].as_u64().unwrap() > 0, "{result}");
    }
    assert_eq!(run["results"].as_array().unwrap().len(), 3);
}

fn only_warnings_can_be_left_out() {
    let bed = Bed::new();
    bed.write("buildspec.yml", WRONG);
    let report = bed.runner(["check", "--allow", "unknown-key"]).code(2).stdout;
    assert!(!report.contains("biuld") && report.contains("2 errors, no warnings"), "{report}");
    bed.runner(["check", "--allow", "command-is-map"]).code(2).says("no such kind of warning");
    bed.runner(["check", "--allow", "nosuch"]).code(2).says("unknown-key");
}

fn nothing_is_run_or_written() {
    let bed = Bed::new();
    bed.write("buildspec.yml", "version: 0.2\nphases: {build: {commands: [touch /x]}}\n");
    let report = bed.runner(["check"]).code(0).stdout;
    assert_eq!(report, "buildspec.yml: no errors, no warnings\n");
    assert!(!bed.home().exists());
    bed.runner(["check", "nosuch.yml"]).code(2);
}

/// An untrusted file is displayed without controlling the reader's terminal.
fn no_terminal_is_driven() {
    let bed = Bed::new();
    let acts = ['\u{1b}', '\u{7}', '\u{9b}', '\r', '\u{202e}', '\u{2066}'];
    let files = [
        // Unescaped, which is not YAML; escaped, in a key, a value and a list.
        "version: 0.2\nx\u{1b}]52;c;cm0=\u{7}: 1\n".to_owned(),
        "version: 0.2\n\"x\\e]52;c;cm0=\\a\\n\\r\": 1 # \u{202e}\nphases: {build: {commands: [a]}}\n".to_owned(),
        "version: \"\\e]52;c;cm0=\\a\\u202e\\x9b\"\nphases:\n  build:\n    on-failure: \"\\e]52;c;cm0=\"\n".to_owned(),
    ];
    for text in files {
        bed.write("buildspec.yml", &text);
        for format in ["text", "json", "sarif"] {
            let report = bed.runner(["check", "--format", format]).stdout;
            assert!(!report.contains(acts), "{format}: {report:?}");
            // SARIF contains messages, but no lines of the file.
            let is_shown = format != "sarif" || !report.contains("unexpected character");
            assert_eq!(report.contains("52;c;cm0="), is_shown, "{format}: {report:?}");
        }
        let told = bed.runner(["run", "--engine", "process"]).stderr;
        assert!(!told.contains(acts), "{told:?}");
    }
    // A project file: its keys, its values, and its problems.
    bed.write("buildspec.yml", "version: 0.2\nphases: {build: {commands: ['true']}}\n");
    for text in [
        "\"x\\u001b]52;c;cm0=\\u0007\" = 1 # \u{202e}\n",
        "timeout = \"\\u001b]52;c;cm0=\\u0007\"\n",
        "x = \u{1b}]52;c;cm0=\n",
    ] {
        bed.write("runner.toml", text);
        let told = bed.runner(["run", "--engine", "process"]).code(2).stderr;
        assert!(!told.contains(acts) && told.contains("52;c;cm0="), "{told:?}");
    }
}

/// As many as a person reads, worst first, and the number of the others.
fn thousands_of_problems() {
    let bed = Bed::new();
    let phases = "phases: {build: {on-failure: NEVER, commands: [a]}}";
    let keys: Vec<String> = (0..16_000).map(|n| format!("key{n}: x")).collect();
    for text in [
        format!("version: 0.2\n{}\n{phases}\n", keys.join("\n")),
        // All on one line, which would be printed for each.
        format!("{{version: 0.2, {}, {phases}}}\n", keys.join(", ")),
    ] {
        bed.write("buildspec.yml", &text);
        let report = bed.runner(["check"]).code(2).stdout;
        assert_eq!(report.matches("[unknown-key]").count(), 99, "{}", &report[..1000]);
        assert_eq!(report.matches("error[bad-value]").count(), 1);
        let end = "and 15901 warnings more\nbuildspec.yml: 1 error, 16000 warnings\n";
        assert!(report.ends_with(end), "{}", &report[report.len() - 200..]);
        let json = bed.runner(["check", "--format", "json"]).code(2).stdout;
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["problems"].as_array().unwrap().len(), 100);
        assert_eq!(report["omitted"], 15_901);
        let sarif = bed.runner(["check", "--format", "sarif"]).code(2).stdout;
        assert!(sarif.contains("and 15901 warnings more"));
        let told = bed.runner(["run"]).code(2).stderr;
        assert!(told.contains("and 15901 warnings more"), "{}", &told[told.len() - 300..]);
    }
    let keys: Vec<String> = (0..16_000).map(|n| format!("key{n} = 1\n")).collect();
    bed.write("runner.toml", keys.concat());
    bed.runner(["run"]).code(2).says("and 15900 errors more\n").says("16000 errors in runner.toml");
}

/// Even for a hundred thousand problems, with names of any length, a report is a page or two.
fn a_hostile_file_of_megabytes() {
    let bed = Bed::new();
    let many = |item: &dyn Fn(usize) -> String| (0..100_000).map(item).collect::<String>();
    let head = "version: 0.2\nphases: {build: {commands: [a]}}\n";
    let commands = "version: 0.2\nphases:\n  build:\n    commands:\n";
    let name = "x".repeat(40);
    for (text, code) in [
        (format!("{head}{}", many(&|n| format!("{name}{n}: x\n"))), 0),
        (format!("{commands}{}", many(&|_| "      - '[[ a ]] && source b'\n".to_owned())), 0),
        (format!("{commands}{}", many(&|_| "      - echo a: b\n".to_owned())), 2),
        (format!("{head}{}: x\n", "x".repeat(8 << 20)), 2),
        (format!("{head}x: '{}\n", "x\n".repeat(2 << 20)), 2),
    ] {
        let report = checked(&bed, &text, code);
        let (lines, bytes) = (report.lines().count(), report.len());
        assert!(lines <= 100 * 7 + 2 && bytes <= 64 << 10, "{lines} lines, {bytes} bytes");
    }
}

fn checked(bed: &Bed, text: impl AsRef<[u8]>, code: i32) -> String {
    bed.write("buildspec.yml", text);
    bed.runner(["check"]).code(code).stdout
}

/// Codes in a report with their positions.
fn told(report: &str) -> Vec<(&str, &str)> {
    let codes = report.lines().filter_map(|line| line.split_once('[')?.1.split_once("]: "));
    let places = report.lines().filter_map(|line| line.trim().strip_prefix("--> buildspec.yml:"));
    codes.map(|(code, _)| code).zip(places).collect()
}

const NO_PROBLEMS: &str = "buildspec.yml: no errors, no warnings\n";

/// No value is ever parsed as a number: neither one too large nor one that is none.
fn scalars_that_look_like_numbers() {
    let bed = Bed::new();
    let report = checked(
        &bed,
        "version: 0.2\nenv:\n  variables: {A: 12e4567, B: .inf, C: .nan, D: 1e400, E: -.INF, F: !!int \"5\", G: !!float x}\n\
         phases:\n  build:\n    commands: [12e4567, .nan, 1e400]\nartifacts:\n  files: [1e999, .inf]\n  name: 12e4567\n",
        0,
    );
    assert_eq!(report, NO_PROBLEMS);
}

fn several_documents() {
    let bed = Bed::new();
    let first = "version: 0.2\nphases:\n  build:\n    commands:\n      - echo one\n";
    for rest in ["---\n", "---\nversion: 0.2\n", "---\nnot: [yaml\n", "...\n---\nx: y\n"] {
        let report = checked(&bed, format!("{first}{rest}"), 0);
        let line = if rest.starts_with('.') { "7:1" } else { "6:1" };
        assert_eq!(told(&report), [("more-documents", line)], "{report}");
        assert!(report.contains("CodeBuild reads the first document"), "{report}");
        // No messages meant for programmers.
        assert!(!report.contains("from_") && !report.contains("::"), "{report}");
    }
    assert_eq!(checked(&bed, format!("---\n{first}...\n"), 0), NO_PROBLEMS);
    // The first problem may be a misleading one.
    let indented = "  version: 0.2\n  phases: {build: {commands: [a]}}\nenv: {}\n";
    let report = checked(&bed, indented, 0);
    assert_eq!(told(&report), [("more-documents", "3:1")], "{report}");
    assert!(report.contains("hint: indent it as the first key"), "{report}");
    let report = checked(&bed, format!("---\n---\n{first}"), 2);
    assert!(report.contains("[more-documents]") && report.contains("is empty"), "{report}");
}

/// An optional key without a value counts as missing; so does an item.
fn keys_left_empty() {
    let bed = Bed::new();
    let report = checked(
        &bed,
        "version: 0.2\nrun-as:\nenv:\n  shell:\n  variables:\n    A:\n  git-credential-helper:\nphases:\n  install:\n    \
         runtime-versions:\n  build:\n    on-failure:\n    commands:\n      - touch a\n      -\n      - ~\n    \
         finally:\nartifacts:\n  files:\n    - a\n    -\n  name:\n  base-directory:\n  discard-paths:\nreports:\ncache:\n",
        0,
    );
    let lines: Vec<&str> = told(&report)
        .into_iter()
        .map(|(code, place)| {
            assert_eq!(code, "empty", "{report}");
            place.split(':').next().unwrap()
        })
        .collect();
    let wanted = ["2", "4", "7", "10", "12", "15", "16", "17", "21", "22", "23", "24", "25", "26"];
    assert_eq!(lines, wanted, "{report}");
    assert!(report.contains("`base-directory` of artifacts has no value"), "{report}");
    // A required key is reported as missing.
    let report = checked(
        &bed,
        "version: 0.2\nphases: {build: {commands: [a]}}\nreports:\n  unit:\n    files:\n",
        2,
    );
    assert!(report.contains("`files` is missing in reports.unit"), "{report}");
    // And reported only once.
    let report = checked(&bed, "version: 0.2\nphases:\n", 2);
    assert_eq!(told(&report), [("missing-key", "2:1")], "{report}");
}

/// A problem is reported at the place that causes it.
fn places_of_what_is_meant() {
    let bed = Bed::new();
    let alias = "version: 0.2\nx-common: &common\n  - echo common1\nphases:\n  build:\n    commands:\n      - *common\n      - echo hi\n";
    let report = checked(&bed, alias, 2);
    assert_eq!(told(&report), [("unknown-key", "2:1"), ("command-is-map", "7:9")], "{report}");
    assert!(report.contains("7 |       - *common\n  |         ^^^^^^^\n"), "{report}");
    assert!(report.contains("  = note: its text is at buildspec.yml:3:3\n"), "{report}");
    assert!(report.contains("hint: an alias of a list is one item"), "{report}");
    let json = bed.runner(["check", "--format", "json"]).code(2).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let written = serde_json::json!({"line": 3, "column": 3});
    assert_eq!(json["problems"][1]["written"], written);
    let sarif = bed.runner(["check", "--format", "sarif"]).code(2).stdout;
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    let related = &sarif["runs"][0]["results"][1]["relatedLocations"][0]["physicalLocation"];
    assert_eq!(related["region"]["startLine"], 3);

    let block = "version: 0.2\nphases:\n  build:\n    commands:\n      - |\n        echo one\n        echo two\n        if [[ a == a ]]; then echo y; fi\n";
    let report = checked(&bed, block, 0);
    assert_eq!(told(&report), [("bashism", "8:9")], "{report}");
    let line = "8 |         if [[ a == a ]]; then echo y; fi\n  |         ^^^^^^^^^^^";
    assert!(report.contains(line), "{report}");
}

/// A shell's negation is a tag in YAML.
fn words_that_become_tags() {
    let bed = Bed::new();
    let text = "version: 0.2\nenv:\n  variables: {A: !Ref B, C: !x, D: !!str 5}\nphases:\n  pre_build:\n    \
                commands: ! test -d x\n  build:\n    commands:\n      - ! test -f x\n      - !ls\n      \
                - '! test -f y'\n    finally:\n      - ! |\n        grep x y\nartifacts:\n  files:\n    \
                - !secret\n    - a\n  name: !sub y\n";
    let report = checked(&bed, text, 0);
    let places = ["3:23", "3:31", "6:17", "9:11", "10:12", "14:9", "17:14", "19:14"];
    assert_eq!(told(&report), places.map(|place| ("lost-tag", place)), "{report}");
    for words in [
        "`!Ref` for a tag: the value is `B`",
        "`!x` for a tag: nothing is left of the value",
        "`!` for a tag: the command that is run is `test -d x`",
        "`!` for a tag: the command that is run is `test -f x`",
        "`!ls` for a tag: nothing is left of the item",
        "`!secret` for a tag: nothing is left of the item",
        "`!sub` for a tag: the value is `y`",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
}

/// The record of a build has CodeBuild's own message for invalid YAML, with a line number counted
/// from 0.
fn words_of_codebuild() {
    let bed = Bed::new();
    let spec =
        "version: 0.2\nphases:\n  build:\n    commands:\n      - echo @x\n      - @echo off\n";
    bed.write("buildspec.yml", spec);
    let outcome = bed.runner(["run"]).code(2);
    let wanted = "Phase context status code: YAML_FILE_ERROR Message: found character that cannot start any token at line 5\n";
    assert!(outcome.stdout.contains(wanted), "{}", outcome.stdout);
    outcome.says("buildspec.yml:6:9");
}

/// As PowerShell writes it.
fn utf_16() {
    let bed = Bed::new();
    let text = "\u{feff}version: 0.2\r\nphases:\r\n  biuld:\r\n    commands: [é]\r\n  build: {commands: [a]}\r\n";
    let wide = |convert: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(convert).collect();
    let texts: [Vec<u8>; 3] =
        [wide(u16::to_le_bytes), wide(u16::to_be_bytes), text.as_bytes().to_vec()];
    for text in texts {
        let report = checked(&bed, text, 0);
        assert_eq!(told(&report), [("unknown-key", "3:3")], "{report}");
    }
    let half: Vec<u8> = wide(u16::to_le_bytes);
    let report = checked(&bed, &half[..half.len() - 1], 2);
    assert!(report.contains("error[not-text]: this is not text in UTF-16"), "{report}");
}

/// The editor's schema accepts what `check` accepts.
fn the_schema_takes_what_check_takes() {
    let bed = Bed::new();
    let schema = bed.path("schema.json");
    std::fs::write(&schema, bed.runner(["check", "--schema"]).code(0).stdout).unwrap();
    let taken = [
        "reports: {a: {files: x, file-format: JunitXml}}",
        "reports: {a: {files: x, file-format: VisualStudioTrx}}",
        "reports: {a: {files: x, file-format: CucumberJson}}",
        "reports: {a: {files: x, file-format: junitxml}}",
        "reports: {a: {files: [x, ~], file-format: , base-directory: , discard-paths: }}",
        "reports: {a: {files: x, discard-paths: Yes}}",
        "reports: {a: {files: x, discard-paths: 'YES'}}",
        "reports: {a: {files: x, discard-paths: y}}",
        "cache: {paths: [a], action: Restore, key: , fallback-keys: }",
        "cache: {paths: a, key: 1e400, fallback-keys: [.nan, 5]}",
        "artifacts: {files: [a, null], name: , base-directory: , discard-paths: , exclude-paths: }",
        "artifacts: {files: 12e4567, name: .inf, secondary-artifacts: {a: {files: x}}}",
        "artifacts: {files: x, enable-symlinks: TRUE, s3-prefix: 5, secondary-artifacts: }",
        "env: {shell: , variables: , git-credential-helper: 'No', exported-variables: }",
        "env: {shell: /bin/sh, variables: {A: , B: 12e4567, C: .nan, D: true, E: 010}}",
        "env: {exported-variables: A, parameter-store: {A: x}, secrets-manager: {A: 'x:y'}}",
        "run-as:\nproxy:\nreports:\ncache:\nartifacts:\nbatch:",
        "proxy: {logs: Yes, upload-artifacts: }",
        "batch: {build-list: [{identifier: 5, env: , buildspec: }], fast-fail: No}",
        "batch: {build-graph: [{identifier: a, depend-on: }, {identifier: b, depend-on: a}]}",
        "batch: {build-fanout: {parallelism: '3', ignore-failure: }}",
        "batch: {build-matrix: {static: , dynamic: {env: {image: x, variables: {A: [1, ~], B: x, C: }}}}}",
    ];
    let phases = [
        "{install: {runtime-versions: , commands: }, build: {commands: [a, null], finally: , on-failure: }}",
        "{install: {runtime-versions: {python: 3.10, nodejs: 20}}, build: {commands: a, finally: b}}",
        "{build: {commands: [1, true, 1e400], on-failure: continue, run-as: 1000}}",
        "{build: {commands: [a], on-failure: RETRY-3-.*x}}",
        "{install: , build: {commands: [a]}}",
    ];
    let refused = [
        "reports: {a: {files: x, file-format: JunitXm}}",
        "reports: {a: {files: x, discard-paths: maybe}}",
        "reports: {a: {file-format: JunitXml}}",
        "cache: {paths: [a], action: keep}",
        "cache: []",
        "artifacts: {files: {a: b}}",
        "env: {variables: []}",
        "env: {variables: {A: [x]}}",
        "env: {exported-variables: {A: 1}}",
        "batch: {build-list: [{buildspec: x}]}",
        "batch: {build-fanout: {parallelism: many}}",
        "batch: {build-fanout: {parallelism: -1}}",
        "batch: {build-fanout: {parallelism: 1.5}}",
    ];
    let refused_phases = [
        "{build: {commands: [{a: b}]}}",
        "{build: {commands: [[a]]}}",
        "{build: {commands: {a: b}}}",
        "{build: {commands: [a], on-failure: NEVER}}",
    ];
    let head = "version: 0.2\nphases: {build: {commands: [a]}}\n";
    let with_head = |rest: &&str| format!("{head}{rest}\n");
    let with_version = |phases: &&str| format!("version: 0.2\nphases: {phases}\n");
    let good = taken.iter().map(with_head).chain(phases.iter().map(with_version));
    let bad = refused.iter().map(with_head).chain(refused_phases.iter().map(with_version));
    let texts: Vec<(String, bool)> =
        good.map(|text| (text, true)).chain(bad.map(|text| (text, false))).collect();
    for (text, is_taken) in &texts {
        checked(&bed, text, if *is_taken { 0 } else { 2 });
    }
    // One program for all of them.
    let program = "import json, sys, yaml, jsonschema\n\
                   schema = json.load(open(sys.argv[1]))\n\
                   validator = jsonschema.Draft202012Validator(schema)\n\
                   validator.check_schema(schema)\n\
                   texts = json.load(open(sys.argv[2]))\n\
                   print(json.dumps([validator.is_valid(yaml.safe_load(text)) for text, _ in texts]))\n";
    let list = bed.path("texts.json");
    std::fs::write(&list, serde_json::to_string(&texts).unwrap()).unwrap();
    let mut command = Command::new(python("python"));
    command.args(["-c", program]).args([&schema, &list]);
    let judged: Vec<bool> = serde_json::from_str(&outcome(&mut command).code(0).stdout).unwrap();
    for ((text, is_taken), judged) in texts.iter().zip(judged) {
        assert_eq!(*is_taken, judged, "{text}");
    }
}
