//! The cost of rewinds: checkpoints as their number grows, going back to one, and recording runs.

use super::bed::{Bed, Docker, IMAGE};
use super::stops::{events, moment, times};
use super::{median, quiet, text};
use crate::ChoreResult;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A breakpoint that is never hit: a build with one keeps checkpoints.
const NEVER: [&str; 2] = ["--break-on", "failure if status == 77"];
/// Files that going back has to restore.
const MANY: &str = "mkdir many; for at in $(seq 1000); do echo > many/$at; done";
/// Files that a run changes.
const MORE: &str = "mkdir many; for at in $(seq 20000); do echo > many/$at; done";
const TIMES: usize = 10;

pub(super) fn measure(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    growth(bed)?;
    way_back(bed, docker)?;
    told(bed)
}

fn milliseconds(mut work: impl FnMut() -> ChoreResult) -> ChoreResult<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

/// Each command writes one file in the source and one in /tmp, which are two overlays.
fn growth(bed: &Bed) -> ChoreResult {
    println!(
        "### Checkpoints\n\n| commands, each with two more files in two overlays | copied: the \
         checkpoint, ms | more for each command, ms | sealed: the checkpoint, ms | the last one, \
         ms | more for each command, ms |\n|---|---|---|---|---|---|"
    );
    for count in [1, 10, 100, 200] {
        let command = |at| format!("echo {at} > f{at}; echo {at} > /tmp/f{at}");
        let commands: Vec<String> = (0..count).map(command).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let spec = bed.buildspec("grows", &commands)?;
        let of = |kind: &str| -> ChoreResult<f64> {
            let options = [&["--image", &*bed.image], &NEVER[..], &["--checkpoint", kind]].concat();
            milliseconds(|| bed.runner_run(&spec, &options))
        };
        let (mut off, mut copied, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut copies, mut seals, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TIMES / 2 {
            off.push(of("off")?);
            copied.push(of("auto")?);
            copies.extend(taken(bed, "copied")?);
            sealed.push(of("sealed")?);
            let taken = taken(bed, "sealed")?;
            last.extend(taken.last().copied());
            seals.extend(taken);
        }
        let off = median(off);
        let more = |with_them: Vec<f64>| (median(with_them) - off) / f64::from(count);
        let (copied, sealed) = (more(copied), more(sealed));
        let [copies, seals, last] = [copies, seals, last].map(median);
        println!("| {count} | {copies:.2} | {copied:.2} | {seals:.2} | {last:.2} | {sealed:.2} |");
    }
    println!();
    Ok(())
}

/// How long each checkpoint of this kind took in the last build, in milliseconds: from the event
/// before it. Nothing else is done meanwhile.
fn taken(bed: &Bed, kind: &str) -> ChoreResult<Vec<f64>> {
    let dir = newest(bed).ok_or("the build has left nothing")?;
    let all =
        std::fs::read_to_string(dir.join("events.jsonl")).map_err(|error| error.to_string())?;
    let all: Vec<serde_json::Value> =
        all.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let pairs = all
        .windows(2)
        .filter(|pair| pair[1]["type"] == "checkpoint" && pair[1]["data"]["kind"] == kind);
    Ok(pairs.filter_map(|pair| Some(moment(&pair[1])? - moment(&pair[0])?)).collect())
}

fn way_back(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    println!("### The way back, over 1,000 files\n\n| | median, ms |\n|---|---|");
    let mut ours = Vec::new();
    for (option, kind) in [("auto", "copied"), ("sealed", "sealed")] {
        let (taken, back) = back(bed, option, kind)?;
        println!("| the checkpoint after them, {kind} | {taken:.1} |");
        println!("| from the decision to rewind to the command's first output | {back:.1} |");
        ours.push((kind, taken + back));
    }
    if let Some(docker) = docker {
        let (commit, run) = by_docker(docker)?;
        println!("| `docker commit` | {commit:.1} |\n| `docker run` of that | {run:.1} |");
        for (kind, ours) in ours {
            println!(
                "| {kind} and back / `docker commit` and `docker run` | {:.3} |",
                ours / (commit + run)
            );
        }
    }
    println!();
    Ok(())
}

/// How often to look whether a build is as far as wanted. Times come from its events, and a loop
/// without a pause would take one of its processors.
const LOOK: std::time::Duration = std::time::Duration::from_millis(2);

/// The time to take the checkpoint after the files, and to go back to it.
fn back(bed: &Bed, option: &str, kind: &str) -> ChoreResult<(f64, f64)> {
    let failed = |error: std::io::Error| error.to_string();
    let spec = bed.buildspec("back", &[MANY, "echo back; false"])?;
    let options = ["--image", &bed.image, "--break-on", "failure", "--checkpoint", option];
    let mut command = bed.run_command(&spec, &options);
    let before = newest(bed);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let is_new = |dir: &PathBuf| Some(dir) != before.as_ref();
    let dir = loop {
        match newest(bed).filter(is_new) {
            Some(dir) => break dir,
            None => std::thread::sleep(LOOK),
        }
    };
    // `runner wait` also counts a pause that is over.
    let paused = |often: usize| {
        while times(&dir, "paused").map_or(0, |all| all.len()) < often {
            std::thread::sleep(LOOK);
        }
    };
    for often in 1..=TIMES {
        paused(often);
        quiet(bed.runner().args(["rewind", "--to", "build:2", "--resume"]))?;
    }
    paused(TIMES + 1);
    quiet(bed.runner().arg("abort"))?;
    child.wait().map_err(failed)?;
    let (asked, said) =
        (times(&dir, "intervened").map_err(failed)?, times(&dir, "output").map_err(failed)?);
    let back = said.iter().skip(1).zip(&asked).map(|(said, asked)| said - asked).collect();
    let taken = taken(bed, kind)?.get(1).copied().ok_or("there is no such checkpoint")?;
    Ok((taken, median(back)))
}

fn by_docker(docker: &Docker) -> ChoreResult<(f64, f64)> {
    let script = format!("mkdir /w; cd /w; {MANY}; echo filled; sleep 1000");
    let args = ["run", "-d", "--network=none", IMAGE, "sh", "-c", &script];
    let id = text(docker.command().args(args))?.trim().to_owned();
    while text(docker.command().args(["logs", &id]))?.is_empty() {
        std::thread::sleep(LOOK);
    }
    let (mut commits, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..TIMES / 2 {
        commits.push(milliseconds(|| quiet(docker.command().args(["commit", &id, "bench:kept"])))?);
        let again = ["run", "--rm", "--network=none", "bench:kept", "echo", "back"];
        runs.push(milliseconds(|| quiet(docker.command().args(again)))?);
    }
    quiet(docker.command().args(["kill", &id]))?;
    Ok((median(commits), median(runs)))
}

/// Changes of runs: the time to detect them after a run, and to show them later.
fn told(bed: &Bed) -> ChoreResult {
    let spec = bed.buildspec("more", &[MORE, "true"])?;
    bed.runner_run(&spec, &[&["--image", &bed.image], &NEVER[..]].concat())?;
    let dir = newest(bed).ok_or("the build has left nothing")?;
    let found = events(&dir, "files_changed").map_err(|error| error.to_string())?;
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let of = |arguments: &[&str]| -> ChoreResult<f64> {
        let mut all = Vec::new();
        for _ in 0..TIMES {
            let mut command: Command = bed.runner();
            command.args(arguments).stdout(Stdio::null());
            all.push(milliseconds(|| quiet(&mut command))?);
        }
        Ok(median(all))
    };
    println!("### 20,000 files that one run has written\n\n| | ms |\n|---|---|");
    for (what, event) in
        ["changes recorded after the run", "after the next run, which changes nothing"]
            .iter()
            .zip(&found)
    {
        println!("| {what} | {} |", event["data"]["ms"]);
    }
    println!("| `runner diff --run 1` | {:.1} |", of(&["diff", "--run", "1", &id])?);
    println!("| `runner blame` of one | {:.1} |", of(&["blame", &id, "many/7777"])?);
    println!("| `runner history` | {:.1} |\n", of(&["history", &id])?);
    Ok(())
}

/// The folder of the newest build.
fn newest(bed: &Bed) -> Option<PathBuf> {
    let entries = std::fs::read_dir(bed.dir.join("state/builds")).ok()?.flatten();
    // A folder that is being made gets another name.
    let is_made =
        |entry: &std::fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
    let begun = entries.filter(is_made).filter_map(|entry| {
        let meta = entry.path().join("meta.json").metadata().ok()?;
        Some((meta.modified().ok()?, entry.path()))
    });
    begun.max().map(|(_, path)| path)
}
