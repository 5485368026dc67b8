//! Output folders that someone has prepared: no links in them are followed, and git's own files are
//! never written.

use super::artifacts::{spec, tree};
use crate::common::{Bed, Outcome, build, cases, list, until};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

cases! {
    [Containers, Image("busybox")] => links_in_a_folder_for_artifacts, links_in_place_of_files,
        links_in_a_folder_for_reports, links_made_while_the_build_runs, git_is_never_written,
        links_in_a_folder_for_transcripts, deep_trees_are_merged, raw_reports_are_masked, killed_while_reading_reports;
}

/// A bed with a folder whose content must not change.
struct Trap {
    bed: Bed,
    canary: PathBuf,
}

impl Trap {
    fn new() -> Self {
        let bed = Bed::new();
        let canary = bed.path("canary");
        fs::create_dir_all(canary.join("raw")).unwrap();
        fs::write(canary.join("key"), "secret").unwrap();
        Trap { bed, canary }
    }

    /// Makes a link to the canary, or to something in it, below the source.
    fn link(&self, at: &str, to: &str) {
        let at = self.bed.source().join(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(self.canary.join(to), at).unwrap();
    }

    #[track_caller]
    fn is_untouched(&self, outcome: &Outcome) {
        let said = &outcome.stderr;
        assert_eq!(tree(&self.canary), ["key"], "{said}");
        assert_eq!(fs::read_to_string(self.canary.join("key")).unwrap(), "secret", "{said}");
        assert_eq!(fs::read_dir(self.canary.join("raw")).unwrap().count(), 0, "{said}");
    }
}

/// A typed folder with a link in it, at each depth.
fn links_in_a_folder_for_artifacts() {
    for (link, file) in [
        ("out/link", "link/key"),
        ("out/a/link", "a/link/new"),
        ("out/a/b/link", "a/b/link/deep/er/new"),
    ] {
        let trap = Trap::new();
        trap.link(link, "");
        let dir = Path::new(file).parent().unwrap().display();
        let make = format!("mkdir -p made/{dir}; echo evil > made/{file}; echo fine > made/fine");
        let text = spec(&[&make], "  base-directory: made\n  files: ['**/*']\n");
        let outcome = trap.bed.build(&text, &["--artifacts", "out"]).code(1);
        let outcome = outcome.says("link is a symbolic link").says("something else is in the way");
        trap.is_untouched(&outcome);
        let left = fs::read_dir(trap.bed.source().join("out")).unwrap();
        let hidden = left.filter(|entry| {
            entry.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b".")
        });
        assert_eq!(hidden.count(), 0, "what was being made is left");
    }
}

/// An artifact's file replaces only a regular file.
fn links_in_place_of_files() {
    for artifacts in [
        "  files: [app.zip]\n",
        "  files: [app.zip]\n  name: sub\n",
        "  files: [x]\n  name: app.zip\n",
    ] {
        let trap = Trap::new();
        for place in ["out/app.zip", "out/sub/app.zip"] {
            trap.link(place, "key");
        }
        let text = spec(&["echo evil > app.zip; cp app.zip x"], artifacts);
        let outcome = trap.bed.build(&text, &["--artifacts", "out"]).code(1);
        let outcome = outcome.says("app.zip is a symbolic link");
        trap.is_untouched(&outcome);
        assert!(trap.bed.source().join("out/app.zip").is_symlink());
    }
}

const TESTS: &str = "<testsuite name='s'><testcase name='t' classname='c'/></testsuite>";

fn reports(commands: &[&str]) -> String {
    format!("{}reports:\n  g:\n    files: ['*.xml']\n", build(commands))
}

/// Raw copies of report files, and the reports themselves.
fn links_in_a_folder_for_reports() {
    for (link, to) in [
        ("r/demo-g/raw", ""),
        ("r/demo-g/raw", "raw"),
        ("r/demo-g", ""),
        ("r/demo-g/report.json", "key"),
        ("r/demo-g/raw/key.xml", "key"),
    ] {
        let trap = Trap::new();
        trap.link(link, to);
        let make = format!("echo \"{TESTS}\" > key.xml; cp key.xml key");
        let outcome = trap.bed.build(&reports(&[&make]), &["--reports", "r"]);
        let outcome = outcome.says("reports are not written").says("is a symbolic link");
        trap.is_untouched(&outcome);
    }
}

/// A build that may write to the output folder creates the links itself.
fn links_made_while_the_build_runs() {
    let trap = Trap::new();
    let shared = trap.bed.path("shared");
    fs::create_dir_all(shared.join("out")).unwrap();
    let canary = trap.canary.display();
    let make = format!(
        "cd /shared; rmdir out r; ln -s {canary} out; ln -s {canary} r; ln -s {canary}/key b.json; \
         cd $CODEBUILD_SRC_DIR; echo evil > key; echo \"{TESTS}\" > key.xml"
    );
    let text = format!("{}artifacts:\n  files: [key]\n", reports(&[&make]));
    let at = |name: &str| shared.join(name).display().to_string();
    let outcome = trap.bed.build(
        &text,
        &[
            "--mount",
            &format!("{}:/shared:rw", shared.display()),
            "--artifacts",
            &at("out"),
            "--reports",
            &at("r"),
            "--build-json",
            &at("b.json"),
        ],
    );
    let outcome = outcome.code(3).says("out is a symbolic link").says("r is a symbolic link");
    trap.is_untouched(&outcome.says("b.json is a symbolic link"));
}

/// Hooks are programs that git runs on this machine.
fn git_is_never_written() {
    let bed = Bed::new();
    let hooks = bed.source().join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    let make = "mkdir -p made/.git/hooks made/sub/.GIT; cp buildspec.yml made/.git/hooks/post-checkout; \
                echo x > made/sub/.GIT/config; echo x > made/sub/.git; echo fine > made/fine";
    let artifacts = "  base-directory: made\n  files: ['**/*']\n";
    let outcome = bed.build(&spec(&[make], artifacts), &["--artifacts", "."]).code(0);
    outcome.says("not collected: 3 file(s) below .git").says("a ZIP takes them");
    assert_eq!(fs::read_dir(&hooks).unwrap().count(), 0);
    assert!(bed.source().join("fine").is_file() && !bed.source().join("sub").exists());
    // The directory above the source.
    let artifacts = "  files: [source/.git/hooks/post-checkout]\n";
    let make = "mkdir -p source/.git/hooks; cp buildspec.yml source/.git/hooks/post-checkout";
    bed.build(&spec(&[make], artifacts), &["--artifacts", ".."]).code(1);
    assert_eq!(fs::read_dir(&hooks).unwrap().count(), 0);
    // Through the artifact's name.
    for name in [".git/hooks", ".git/hooks/post-checkout.zip"] {
        let artifacts = format!("  files: [buildspec.yml]\n  name: {name}\n");
        let outcome = bed.build(&spec(&["true"], &artifacts), &["--artifacts", "."]).code(1);
        outcome.says("git runs programs that are there");
        assert_eq!(fs::read_dir(&hooks).unwrap().count(), 0);
    }
    // Elsewhere it is an ordinary directory.
    let artifacts = "  files: ['.git/**/*']\n";
    let make = "mkdir -p .git/hooks; echo x > .git/hooks/update";
    bed.build(&spec(&[make], artifacts), &["--artifacts", "../out"]).code(0);
    assert_eq!(tree(&bed.path("out")), [".git/hooks/update"]);
}

/// Session lines are not appended to a file behind a link.
fn links_in_a_folder_for_transcripts() {
    let trap = Trap::new();
    trap.link("log/sessions.jsonl", "key");
    let outcome = trap.bed.build(&build(&["true"]), &["--session-log", "log"]).code(2);
    trap.is_untouched(&outcome.says("--session-log").says("symbolic link"));
}

/// A tree deeper than the number of descriptors is merged into an existing one.
fn deep_trees_are_merged() {
    let bed = Bed::new();
    let make = "i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done; echo $CODEBUILD_BUILD_NUMBER > f";
    let text = spec(&[make], "  files: ['d/**/*']\n");
    let out = bed.path("out");
    for number in ["1", "2"] {
        bed.build(&text, &["--artifacts", out.to_str().unwrap()]).code(0);
        let deep = out.join(vec!["d"; 1500].join("/")).join("f");
        assert_eq!(fs::read_to_string(&deep).unwrap().trim(), number);
    }
}

/// Secrets masked in a report are masked in the copies of its files, too.
fn raw_reports_are_masked() {
    let bed = Bed::new();
    let make = "printf '%s' \"<testsuite name='s'><testcase name='$TOKEN' classname='c'/></testsuite>\" > a.xml; \
                printf '\\377\\376<\\0a\\0>\\0h\\0u\\0n\\0t\\0e\\0r\\0002\\0-\\0x\\0' > wide.xml; \
                echo '<a>h&#117;nter2-x</a>' > escaped.xml";
    let options = ["--reports", "r", "--mask", "TOKEN", "-e", "TOKEN=hunter2-x"];
    let outcome = bed.build(&reports(&[make]), &options);
    let outcome = outcome.says("wide.xml: a secret in it cannot be masked");
    outcome.says("escaped.xml: a secret in it cannot be masked");
    let raw = bed.source().join("r/demo-g/raw");
    assert_eq!(tree(&raw), ["a.xml"]);
    let text = fs::read_to_string(raw.join("a.xml")).unwrap();
    assert_eq!(text, "<testsuite name='s'><testcase name='***' classname='c'/></testsuite>");
}

/// The next command removes what a killed runner was making of reports.
fn killed_while_reading_reports() {
    let bed = Bed::new();
    let out = bed.path("reports");
    // A program that never answers replaces ours.
    let hang = "mv /codebuild /elsewhere; mkdir -p /codebuild/readonly/bin; \
                printf '#!/bin/sh\\nexec sleep 1000\\n' > /codebuild/readonly/bin/runner-files; \
                chmod 755 /codebuild/readonly/bin/runner-files";
    let mut running = bed.start(&reports(&[hang]), &["--reports", out.to_str().unwrap()]);
    // Before the build begins a file is written there to check whether that is possible.
    running.stdout.wait_for("Entering phase BUILD");
    until("reports are begun", || !list(&out).is_empty());
    running.signal(Signal::SIGKILL);
    running.wait();
    bed.runner(["ps"]).code(0).says("was left by a runner that was killed");
    assert_eq!(list(&out), [""; 0]);
}
