//! Real buildspecs, if they are stored next to the project: accepted unchanged, rejected when
//! broken, and run.

use crate::common::{Bed, cases, corpus, image, list, outcome, python};
use runner_core::spec::{self, Diagnostic, DiagnosticCode};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

cases! {
    [Corpus] => all_are_taken, broken_ones_are_told_at_their_line;
    [Corpus, Python] => the_schema_agrees;
    [Corpus, Containers, Image("debian")] => a_handful_runs;
}

fn files() -> Vec<(String, String)> {
    let is_yaml = |name: &String| name.ends_with(".yml") || name.ends_with(".yaml");
    let read = |name: String| {
        let text = fs::read_to_string(corpus().join(&name)).unwrap();
        (name, text)
    };
    let files: Vec<_> = list(&corpus()).into_iter().filter(is_yaml).map(read).collect();
    assert!(files.len() > 70, "{} files", files.len());
    files
}

/// AWS accepts them all.
fn all_are_taken() {
    let bed = Bed::new();
    for (name, _) in files() {
        bed.runner(["check", corpus().join(name).to_str().unwrap()]).code(0);
    }
}

/// A text's errors, or its warnings if it is valid.
fn problems(text: &str) -> Vec<Diagnostic> {
    match spec::parse(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    }
}

/// A way to break a file: returns the broken line and the whole text, if the file has a suitable
/// place.
type Mutation = fn(&[&str]) -> Option<(usize, Vec<String>)>;

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

/// The first line that consists of this key, outside commands.
fn key(lines: &[&str], name: &str) -> Option<usize> {
    lines
        .iter()
        .position(|line| line.trim_end().strip_suffix(':').is_some_and(|k| k.trim() == name))
}

/// The first command: an item directly below `commands:`, on its own line.
fn command(lines: &[&str]) -> Option<usize> {
    let at = key(lines, "commands")? + 1;
    let text = lines.get(at)?.trim_start().strip_prefix("- ")?;
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || " -_./$=".contains(c));
    is_plain.then_some(at)
}

const MUTATIONS: [(&str, Mutation, &[DiagnosticCode]); 6] = [
    (
        "a misspelt key",
        |lines| {
            let at = key(lines, "commands")?;
            let mut broken = owned(lines);
            broken[at] = broken[at].replace("commands", "comands");
            Some((at, broken))
        },
        &[DiagnosticCode::UnknownKey],
    ),
    (
        "a misspelt phase",
        |lines| {
            let at = key(lines, "build")?;
            let mut broken = owned(lines);
            broken[at] = broken[at].replace("build", "biuld");
            Some((at, broken))
        },
        &[DiagnosticCode::UnknownKey],
    ),
    (
        "a tab",
        |lines| {
            let at = key(lines, "commands")?;
            let mut broken = owned(lines);
            broken[at] = format!("\t{}", broken[at].trim_start());
            Some((at, broken))
        },
        &[DiagnosticCode::Syntax],
    ),
    (
        "a command that is a map",
        |lines| {
            let at = command(lines)?;
            let mut broken = owned(lines);
            broken[at] = format!("{}: more", broken[at].trim_end());
            Some((at, broken))
        },
        &[DiagnosticCode::CommandIsMap],
    ),
    (
        "no phases",
        |lines| {
            let at = key(lines, "phases")?;
            let mut broken = owned(lines);
            broken[at] = "fases:".to_owned();
            Some((at, broken))
        },
        &[DiagnosticCode::UnknownKey],
    ),
    (
        "a wrong indent",
        |lines| {
            // Deeper than the keys above it.
            let at = key(lines, "phases")?;
            if at == 0 {
                return None;
            }
            let mut broken = owned(lines);
            broken[at] = format!("   {}", broken[at]);
            Some((at, broken))
        },
        &[DiagnosticCode::Syntax, DiagnosticCode::UnknownKey, DiagnosticCode::WrongShape],
    ),
];

fn broken_ones_are_told_at_their_line() {
    let mut counts = [0; MUTATIONS.len()];
    for (name, text) in files() {
        let lines: Vec<&str> = text.lines().collect();
        for (count, (what, mutate, codes)) in counts.iter_mut().zip(MUTATIONS) {
            let Some((at, broken)) = mutate(&lines) else { continue };
            let broken = broken.join("\n") + "\n";
            // The parser notices a wrong indent at one of the surrounding lines.
            let near = if what == "a wrong indent" { 3 } else { 0 };
            let line = u32::try_from(at + 1).unwrap();
            let told = problems(&broken);
            let hit = told.iter().any(|problem| {
                codes.contains(&problem.code) && problem.span.line.abs_diff(line) <= near
            });
            assert!(hit, "{name}, {what} on line {line}: {told:#?}");
            *count += 1;
        }
    }
    // Each was tried on many files.
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
    for (_, text) in files() {
        let without = text.replace("phases:", "fases:");
        if !text.contains("\nbatch:") {
            let told = problems(&without);
            assert!(
                told.iter().any(|p| p.code == DiagnosticCode::MissingKey && p.is_error()),
                "{told:?}"
            );
        }
    }
}

/// The schema accepts every file that `check` accepts.
fn the_schema_agrees() {
    let bed = Bed::new();
    let schema = bed.path("schema.json");
    fs::write(&schema, bed.runner(["check", "--schema"]).code(0).stdout).unwrap();
    let dir = bed.path("files");
    fs::create_dir(&dir).unwrap();
    let mut expected = Vec::new();
    for (name, text) in files() {
        fs::write(dir.join(&name), &text).unwrap();
        let is_clean = problems(&text).iter().all(|p| {
            !matches!(
                p.code,
                DiagnosticCode::UnknownKey
                    | DiagnosticCode::WrongShape
                    | DiagnosticCode::BadValue
                    | DiagnosticCode::CommandIsMap
            )
        });
        expected.push(format!("{name} {}", if is_clean { "ok" } else { "refused" }));
    }
    let script = "
import json, pathlib, sys, yaml, jsonschema
validator = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))
jsonschema.Draft202012Validator.check_schema(validator.schema)
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    document = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
    print(path.name, 'ok' if validator.is_valid(document) else 'refused')
";
    let output = Command::new(python("python")).args(["-c", script]).args([&schema, &dir]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    expected.sort();
    let mut told: Vec<&str> = told.lines().collect();
    told.sort_unstable();
    assert_eq!(told, expected);
    assert!(expected.iter().filter(|line| line.ends_with(" ok")).count() > 60);
}

/// Programs that these files call and tests cannot have: stand-ins print their arguments.
const STUBS: [&str; 16] = [
    "apt-get", "aws", "curl", "docker", "git", "go", "jq", "make", "node", "npm", "pip", "python",
    "python3", "tox", "unzip", "wget",
];

/// Files that need only these programs, with their number of commands.
const HANDFUL: [(&str, usize); 8] = [
    ("aws-samples__aws-codebuild-samples__buildspecs__build-test-suite-1.yml", 2),
    ("aws__amazon-ecs-agent__buildspec.yml", 1),
    ("aws__amazon-ecs-agent__buildspecs__copy.yml", 9),
    ("aws__amazon-ssm-agent__extra__aws-sdk-go__buildspec.yml", 10),
    ("aws__aws-encryption-sdk-python__codebuild__coverage__coverage.yml", 2),
    ("aws__aws-encryption-sdk-python__codebuild__py310__examples.yml", 2),
    ("aws__aws-encryption-sdk-python__codebuild__py310__integ.yml", 2),
    ("aws__aws-encryption-sdk-python__codebuild__py311__examples_mpl.yml", 9),
];

fn a_handful_runs() {
    let bed = Bed::new();
    let root = bed.path("image");
    let copied = Command::new("cp").arg("-a").arg(image("debian")).arg(&root).status().unwrap();
    assert!(copied.success());
    for name in STUBS {
        let path = root.join("usr/local/bin").join(name);
        fs::write(&path, "#!/bin/sh\necho \"stub ${0##*/} $*\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let root = format!("rootfs:{}", root.display());
    for (name, commands) in HANDFUL {
        let file = corpus().join(name);
        let run = ["run", file.to_str().unwrap(), "--image", &root, "--timeout", "60s"];
        let outcome = outcome(&mut bed.command(run));
        assert_eq!(outcome.code, 0, "{name}\n{}\n{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.stdout.matches("Running command ").count(), commands, "{name}");
        assert!(outcome.stdout.contains("Phase complete: POST_BUILD State: SUCCEEDED"), "{name}");
    }
}
