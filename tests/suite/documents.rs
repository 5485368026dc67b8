//! Checks documents against the program: the commands for CI, and the picture of the main walk.

use crate::common::{Bed, Terminal, build, cases, image, picture, project, runner, write_program};
use runner_core::spec::yaml::{self, YamlNode, YamlValue};
use serde_json::Value as Json;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

cases! {
    [Root, Containers, Image("busybox")] => the_jobs_for_ci_run, the_picture_is_of_this_program;
}

/// Makes `runner` on PATH the program under test.
fn on_path(bed: &Bed, command: &mut Command) {
    let dir = bed.path("bin");
    fs::create_dir_all(&dir).unwrap();
    if !dir.join("runner").exists() {
        symlink(runner(), dir.join("runner")).unwrap();
    }
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()));
}

/// The YAML blocks of a document.
fn blocks(document: &str) -> Vec<Json> {
    let text = fs::read_to_string(project().join(document)).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| json_of(&yaml::parse(block).unwrap().root)).collect()
}

fn json_of(node: &YamlNode) -> Json {
    match &node.value {
        YamlValue::Null => Json::Null,
        YamlValue::Scalar(text) => text.as_str().into(),
        YamlValue::Sequence(items) => items.iter().map(json_of).collect(),
        YamlValue::Mapping(entries) => {
            let text = |key: &YamlNode| json_of(key).as_str().unwrap().to_owned();
            entries.iter().map(|(key, value)| (text(key), json_of(value))).collect()
        }
    }
}

/// A job of a CI system: its shell commands, and the files it keeps.
#[derive(Debug, Default)]
struct Job {
    script: String,
    kept: Vec<String>,
    /// Third-party actions, which are not run here.
    uses: Vec<String>,
}

fn texts(value: &Json) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Parses jobs of GitHub or GitLab.
fn jobs(block: &Json) -> Vec<Job> {
    if let Some(jobs) = block["jobs"].as_object() {
        return jobs.values().map(job_of_github).collect();
    }
    let jobs = block.as_object().unwrap().values();
    jobs.map(|job| Job {
        script: texts(&job["script"]).join("\n"),
        kept: texts(&job["artifacts"]["paths"]),
        uses: Vec::new(),
    })
    .collect()
}

fn job_of_github(job: &Json) -> Job {
    assert!(job["runs-on"].is_string(), "{job}");
    let mut found = Job::default();
    for step in job["steps"].as_array().unwrap() {
        match (step["run"].as_str(), step["uses"].as_str()) {
            (Some(run), None) => found.script += run,
            (None, Some(uses)) => {
                found.uses.push(uses.to_owned());
                let path = step["with"]["path"].as_str().unwrap_or_default();
                found.kept.extend(path.lines().map(|line| line.trim().to_owned()));
            }
            _ => panic!("a step runs something or uses something: {step}"),
        }
    }
    found
}

/// Every job in the document runs and leaves the files it keeps. Third-party actions are only
/// listed.
fn the_jobs_for_ci_run() {
    let jobs: Vec<Job> = blocks("docs/ci.md").iter().flat_map(jobs).collect();
    assert_eq!(jobs.len(), 4, "{jobs:?}");
    let mut uses: Vec<&String> = jobs.iter().flat_map(|job| &job.uses).collect();
    uses.sort_unstable();
    uses.dedup();
    assert_eq!(uses, ["actions/checkout@v4", "actions/upload-artifact@v4"]);
    for Job { script, kept, .. } in &jobs {
        let bed = Bed::new();
        bed.write("buildspec.yml", build(&["test -d . && echo built"]));
        symlink(image("busybox"), bed.source().join("rootfs")).unwrap();
        let mut shell = bed.other("bash");
        on_path(&bed, &mut shell);
        // sudo depends on the machine, so a stand-in runs the command.
        let sudo = "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n";
        write_program(&bed.path("bin/sudo"), sudo);
        shell.env("CI_PROJECT_DIR", bed.source()).args(["-e", "-c", script]);
        let ended = crate::common::outcome(&mut shell).code(0);
        assert!(ended.stdout.contains("\nbuilt\n"), "{script}: {}", ended.stdout);
        for file in kept {
            assert!(bed.source().join(file).exists(), "{file} is not there after {script}");
        }
    }
}

/// Both terminals of the walk at its end. `cargo xtask picture` redraws the picture.
fn the_picture_is_of_this_program() {
    let bed = Bed::new();
    let hello = fs::read_to_string(project().join("buildspecs/hello-world.yml")).unwrap();
    bed.write("hello-world.yml", hello);
    let terminal = |line: &[&str]| -> Terminal {
        let mut command = bed.other("runner");
        on_path(&bed, &mut command);
        // With a person's environment, so that lines have the same length.
        command.env_remove("RUNNER_HOME").env("NO_COLOR", "").args(line);
        let mut real = Command::new(bed.path("bin/runner"));
        real.args(command.get_args()).current_dir(bed.source()).env_clear();
        real.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bed.terminal(real, picture::ROWS, picture::COLUMNS)
    };
    let rootfs = format!("rootfs:{}", image("busybox").display());
    let run =
        ["run", "hello-world.yml", "--enable-session", "--project", "hello", "--image", &rootfs];
    let first = terminal(&run);
    first.wait_for("[q]");
    let second = terminal(&["attach"]);
    second.wait_for("# ");
    second.send("cat /tmp/hello-world\r");
    second.wait_for_after("Hello World", "# ");
    second.send("codebuild-resume\r");
    second.wait_for("the build has ended: SUCCEEDED");
    let (mut first, mut second) = (first, second);
    assert_eq!((first.wait(), second.wait()), (0, 0));
    let told = first.stream.text();
    let after = |before: &str, ends: &[char]| -> String {
        let (_, rest) = told.rsplit_once(before).unwrap_or_else(|| panic!("no {before} in {told}"));
        rest.split(ends).next().unwrap().to_owned()
    };
    // Not the command, which the status line contains as well.
    let mut dates = told.split("Build completed on ").skip(1).filter(|rest| !rest.starts_with('$'));
    let date = dates.next().unwrap().split('\r').next().unwrap();
    let uuid = after("codebuild:", &[' ', '\r', '\u{1b}']);
    let replaced = [
        (bed.path("home").to_str().unwrap().to_owned(), "/home/you"),
        (after("  directory    ", &['\r', '\u{1b}']), "/codebuild/output/src/hello"),
        (format!("rootfs:{}", image("busybox").display()), "busybox"),
        (after("--endpoint-url http://127.0.0.1:", &[' ']), "40123"),
        (date.to_owned(), "Mon Jan  5 10:00:00 UTC 2026"),
        (uuid.clone(), "0b5e1234-7a44-4f0e-8f6b-3d2a9c51e7f0"),
        (uuid[..8].to_owned(), "0b5e1234"),
    ];
    let drawn = picture::draw(&[
        (
            "a terminal",
            with_command("$ runner run hello-world.yml --enable-session", &first, &replaced),
        ),
        ("another one", with_command("$ runner attach", &second, &replaced)),
    ]);
    let place = project().join("docs/walk.svg");
    if std::env::var_os("RUNNER_PICTURE").is_some() {
        return fs::write(place, drawn).unwrap();
    }
    let kept = fs::read_to_string(place).unwrap_or_default();
    let differing = kept.lines().zip(drawn.lines()).find(|(kept, drawn)| kept != drawn);
    assert!(
        kept == drawn,
        "docs/walk.svg is of another program; cargo xtask picture draws it anew: {differing:?}"
    );
}

/// The output of a typed command. What a shell prints between the resume and its end depends on
/// which of them is faster.
fn with_command(typed: &str, terminal: &Terminal, replaced: &[(String, &str)]) -> Vec<String> {
    let shown = picture::shown(&terminal.stream.bytes(), replaced);
    let resumed = shown.iter().position(|line| line.starts_with("codebuild-resume: "));
    let is_kept = |at: usize, line: &str| {
        resumed.is_none_or(|resumed| at <= resumed || line.starts_with("runner: "))
    };
    // A shell's greeting differs between versions.
    let greeting = |line: &&str| resumed.is_some() && !line.contains(" # ");
    let begin = shown.iter().map(String::as_str).take_while(greeting).count();
    let kept = shown.iter().enumerate().skip(begin).filter(|(at, line)| is_kept(*at, line));
    // The duration of each phase depends on the machine.
    let settled = |line: &String| match line.starts_with("phases: ") {
        true => "phases: PRE_BUILD 0.1s · BUILD 0.1s · POST_BUILD 0.1s".to_owned(),
        false => line.clone(),
    };
    std::iter::once(typed.to_owned()).chain(kept.map(|(_, line)| settled(line))).collect()
}
