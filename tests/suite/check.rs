//! `runner check`: every problem, without a run.

use crate::common::{Bed, cases, list, project};

cases! {
    [] => the_examples, forms, all_problems_in_order, only_warnings_can_be_left_out,
        nothing_is_run_or_written;
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
