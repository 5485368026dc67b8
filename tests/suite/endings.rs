//! The end of a build as displayed at a terminal, in GitHub's log and in GitLab's.

use crate::common::{Bed, Outcome, build, cases, outcome};
use std::fs;

cases! {
    [Containers, Image("busybox")] => a_failure_is_summed_up, a_success_tells_its_times, sections_of_github,
        sections_of_gitlab, paths_begin_at_the_repository;
}

const FAILS: &str = "version: 0.2\nphases:\n  install:\n    commands:\n      - 'true'\n  build:\n    commands:\n      \
                     - echo fine\n      - seq 100; echo '| <b>'; exit 3\n";

fn a_failure_is_summed_up() {
    let bed = Bed::new();
    let told = bed.build(FAILS, &[]).code(1);
    let lines: Vec<&str> = told.stderr.lines().collect();
    let at = |text: &str| {
        lines.iter().position(|line| line.starts_with(text)).unwrap_or_else(|| panic!("{lines:?}"))
    };
    let failed = at("runner: failed: build:2 (buildspec.yml:9): exit status 3 after ");
    assert!(
        lines[at("runner: phases: ")].contains("BUILD 0.")
            && lines[at("runner: phases: ")].contains("s FAILED")
    );
    assert_eq!(lines[failed + 1], "runner:   seq 100; echo '| <b>'; exit 3");
    assert_eq!(
        lines[failed + 2..failed + 12],
        (92..=100)
            .map(|n| format!("runner:   | {n}"))
            .chain(["runner:   | | <b>".to_owned()])
            .collect::<Vec<_>>()
    );
    assert!(lines[failed + 12].contains("the same with --break-on failure, then "), "{lines:?}");
    assert!(lines.last().unwrap().contains(": FAILED: "), "{lines:?}");
    assert!(!bed.build(FAILS, &["--no-hints"]).code(1).stderr.contains("--break-on"));
    let quiet = bed.build(FAILS, &["--quiet"]).code(1);
    assert_eq!(quiet.stderr.lines().count(), 1, "{}", quiet.stderr);
}

fn a_success_tells_its_times() {
    let bed = Bed::new();
    let told = bed.build("version: 0.2\nphases:\n  build:\n    on-failure: RETRY-1\n    commands: ['test -e x || { touch x; false; }']\n", &[]).code(0).stderr;
    let times = told.lines().find(|line| line.starts_with("runner: phases: ")).unwrap();
    assert_eq!(times.matches("BUILD ").count(), 1, "{told}");
    assert!(told.contains("runner: phases: ") && !told.contains("failed:"), "{told}");
}

fn in_ci(bed: &Bed, variable: &str, options: &[&str]) -> Outcome {
    let mut command = bed.build_command(FAILS, options);
    command.env(variable, "true").env("GITHUB_STEP_SUMMARY", bed.path("summary.md"));
    outcome(&mut command).code(1)
}

fn sections_of_github() {
    let bed = Bed::new();
    let told = in_ci(&bed, "GITHUB_ACTIONS", &[]);
    for phase in ["DOWNLOAD_SOURCE", "INSTALL", "BUILD", "UPLOAD_ARTIFACTS"] {
        let (_, rest) = told.stdout.split_once(&format!("\n::group::{phase}\n")).unwrap();
        let (section, _) = rest.split_once("\n::endgroup::\n").unwrap();
        assert!(section.contains(&format!("Phase complete: {phase} ")), "{}", told.stdout);
    }
    let page = fs::read_to_string(bed.path("summary.md")).unwrap();
    assert!(page.contains("| BUILD | FAILED | 0."), "{page}");
    assert!(page.contains("\nbuild:2 \\(buildspec.yml:9\\): exit status 3 after "), "{page}");
    assert!(page.contains("\n    | <b>\n"), "{page}");
    told.says("::error file=buildspec.yml,line=9,title=BUILD failed::");

    let plain = in_ci(&bed, "GITHUB_ACTIONS", &["--annotations", "none"]);
    assert!(!format!("{}{}", plain.stdout, plain.stderr).contains("::"), "{}", plain.stdout);
    assert_eq!(fs::read_to_string(bed.path("summary.md")).unwrap(), page);
}

fn sections_of_gitlab() {
    let bed = Bed::new();
    let told = in_ci(&bed, "GITLAB_CI", &[]);
    let (_, rest) = told.stdout.split_once("\u{1b}[0Ksection_start:").unwrap();
    let (time, rest) = rest.split_once(':').unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000, "{}", told.stdout);
    assert!(
        rest.starts_with("runner_download_source_1\r\u{1b}[0KDOWNLOAD_SOURCE\n"),
        "{}",
        told.stdout
    );
    assert!(
        told.stdout.contains(":runner_build_5\r\u{1b}[0KBUILD\n")
            || told.stdout.contains(":runner_build_4\r\u{1b}[0KBUILD\n"),
        "{}",
        told.stdout
    );
    assert_eq!(
        told.stdout.matches("section_start:").count(),
        told.stdout.matches("section_end:").count()
    );
    assert!(
        !told.stderr.contains("::error") && !bed.path("summary.md").exists(),
        "{}",
        told.stderr
    );
    // A JSON log contains nothing but events.
    let json = in_ci(&bed, "GITLAB_CI", &["--log-format", "json"]);
    assert!(json.stdout.lines().all(|line| line.starts_with('{')), "{}", json.stdout);
}

fn paths_begin_at_the_repository() {
    let bed = Bed::new();
    fs::create_dir(bed.path(".git")).unwrap();
    let told = bed.build(&build(&["false"]), &["--annotations", "github"]).code(1);
    told.says("::error file=source/buildspec.yml,line=5,title=BUILD failed::");
}
