//! Measures the figures of docs/performance.md, with peers in the same run.
//!
//! Each figure is measured in rounds. In a round every contender runs once, one after the other, so
//! that a machine that slows down slows all of them; the ratio is computed per round, and its
//! median is reported. Peers that are not installed are named and left out.

mod batch;
mod bed;
mod browser;
mod command;
mod forward;
mod gateway;
mod images;
mod judged;
mod outputs;
mod page;
mod paused;
mod rewinds;
mod rootless;
mod service;
mod session;
mod stops;

use crate::{ChoreResult, cargo, is_root, packages, root, run};
use bed::{Bed, Docker, IMAGE};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// Debian packages of the peers.
const PEERS: [&str; 3] = ["runc", "crun", "docker.io"];

/// Something to measure.
struct Contender<'a> {
    name: String,
    /// Runs it once. Returns how long it took.
    once: Box<dyn FnMut() -> ChoreResult<Duration> + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender measured from outside.
    fn new(name: impl Into<String>, mut once: impl FnMut() -> ChoreResult + 'a) -> Self {
        Contender::timed(name, move || {
            let begin = Instant::now();
            once()?;
            Ok(begin.elapsed())
        })
    }

    /// A contender that measures itself.
    fn timed(name: impl Into<String>, once: impl FnMut() -> ChoreResult<Duration> + 'a) -> Self {
        Contender { name: name.into(), once: Box::new(once) }
    }
}

/// A table's name on the command line, and the function that measures it.
type Bench = (&'static str, fn(&Bed, Option<&Docker>) -> ChoreResult);

const PARTS: &[Bench] = &[
    ("check", |bed, _| check(bed)),
    ("mask", |bed, _| mask(bed)),
    ("first", first_output),
    ("start", start),
    ("rootless", |bed, _| rootless::start(bed)),
    ("exec", exec),
    ("hello", hello),
    ("commands", |bed, _| commands(bed)),
    ("log", log),
    ("session", |bed, _| session::measure_exec(bed)),
    ("engines", session::measure_engines),
    ("paused", |bed, _| paused::measure(bed)),
    ("stops", |bed, _| stops::measure(bed)),
    ("rewinds", rewinds::measure),
    ("pull", images::pull),
    ("layers", images::layers),
    ("forward", |bed, _| forward::forward(bed)),
    ("zip", |bed, _| outputs::zip(bed)),
    ("cache", |bed, _| outputs::cache(bed)),
    ("s3", |bed, _| outputs::s3(bed)),
    ("echo", |bed, _| gateway::echo(bed)),
    ("logged", |bed, _| gateway::logged(bed)),
    ("download", |bed, _| gateway::download(bed)),
    ("idle", |bed, _| gateway::idle(bed)),
    ("batch", |bed, _| batch::measure_batch(bed)),
    ("service", |bed, _| service::measure_service(bed)),
    ("command", |bed, _| command::measure(bed)),
    ("judged", |bed, _| judged::measure(bed)),
    ("page", |bed, _| page::measure(bed)),
];

/// Measures everything, or only the named tables; prints them as Markdown.
pub(crate) fn all(names: &[String]) -> ChoreResult {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|part| part.0 != *name)) {
        let known: Vec<_> = PARTS.iter().map(|part| part.0).collect();
        return Err(format!("no table `{unknown}`; there are {}", known.join(", ")));
    }
    if !is_root() {
        return Err("the peers need root".to_owned());
    }
    packages::install(&PEERS)?;
    crate::images::build(&["busybox".to_owned()])?;
    if std::env::var_os(bed::PROGRAM).is_none() {
        run(cargo().args(["build", "--release", "--quiet"]))?;
    }
    let bed = Bed::new()?;
    let docker = Docker::start(&bed);
    let docker = docker.as_ref().map_err(|error| println!("docker is left out: {error}")).ok();
    machine();
    PARTS
        .iter()
        .filter(|part| names.is_empty() || names.iter().any(|name| name == part.0))
        .try_for_each(|part| part.1(&bed, docker))
}

fn machine() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let version = read("/proc/sys/kernel/osrelease");
    let cpus = read("/proc/cpuinfo").matches("processor\t").count();
    println!("\nLinux {}, {cpus} CPUs, {ROUNDS} rounds\n", version.trim());
}

/// A container from its creation to its first output and its removal.
fn start(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    let one = bed.buildspec("one", &["echo hi"])?;
    let sleeping = bed.bundle("sleeping", &["/bin/sleep", "1000"])?;
    let mut contenders = vec![
        Contender::new("`runner run`, one command", || {
            bed.runner_run(&one, &["--image", &bed.image])
        }),
        Contender::new("`runner run`, image host", || bed.runner_run(&one, &[])),
    ];
    if packages::has("runc") {
        contenders.push(Contender::new("`runc run -d`, `runc exec`, `runc delete -f`", || {
            quiet(Command::new("runc").args(["run", "-d", "up"]).current_dir(&sleeping))?;
            let hello = quiet(Command::new("runc").args(["exec", "up", "/bin/echo", "hi"]));
            hello.and(quiet(Command::new("runc").args(["delete", "-f", "up"])))
        }));
    }
    for runtime in ["runc", "crun"] {
        let bundle = bed.bundle(runtime, &["/bin/echo", "hi"])?;
        let mut number = 0;
        let mut once = move || {
            number += 1;
            let name = format!("bench-{number}");
            quiet(Command::new(runtime).args(["run", &name]).current_dir(&bundle))
        };
        match packages::has(runtime).then(&mut once) {
            Some(Ok(())) => contenders.push(Contender::new(format!("`{runtime} run`"), once)),
            Some(Err(error)) => println!("{runtime} is left out: {error}"),
            None => println!("{runtime} is left out: not installed"),
        }
    }
    if let Some(docker) = docker {
        contenders.push(Contender::new("`docker run --rm`", || {
            quiet(docker.command().args([
                "run",
                "--rm",
                "--network",
                "none",
                IMAGE,
                "/bin/echo",
                "hi",
            ]))
        }));
    }
    measure("Container up, first output, gone (whole process)", 10, &mut contenders)
}

/// A container from its creation to its first output; what follows is not measured.
fn first_output(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    let one = bed.buildspec("first", &["echo hi"])?;
    let sleeping = bed.bundle("first", &["/bin/sleep", "1000"])?;
    let mut contenders = vec![
        Contender::timed("`runner run`, one command", || {
            until_hi(&mut bed.run_command(&one, &["--image", &bed.image]))
        }),
        Contender::timed("`runner run`, image host", || until_hi(&mut bed.run_command(&one, &[]))),
    ];
    if packages::has("runc") {
        contenders.push(Contender::timed("`runc run -d`, `runc exec`", || {
            let begin = Instant::now();
            quiet(Command::new("runc").args(["run", "-d", "first"]).current_dir(&sleeping))?;
            let up = begin.elapsed();
            let hello = until_hi(Command::new("runc").args(["exec", "first", "/bin/echo", "hi"]));
            hello.and_then(|took| {
                quiet(Command::new("runc").args(["delete", "-f", "first"]))?;
                Ok(up + took)
            })
        }));
    }
    if let Some(docker) = docker {
        contenders.push(Contender::timed("`docker run --rm`", || {
            let args = ["run", "--rm", "--network", "none", IMAGE, "/bin/echo", "hi"];
            until_hi(docker.command().args(args))
        }));
    }
    measure("Container up, first output", 10, &mut contenders)
}

/// Time until a command prints hi; its end is awaited but not measured.
fn until_hi(command: &mut Command) -> ChoreResult<Duration> {
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
    let said = lines.find(|line| line.as_ref().is_ok_and(|line| line == "hi"));
    let took = begin.elapsed();
    // Further output is read, so that it can finish.
    lines.for_each(drop);
    let status = child.wait().map_err(|error| error.to_string())?;
    match said {
        Some(Ok(_)) if status.success() => Ok(took),
        _ => Err(format!("it did not say hi: {status}")),
    }
}

/// Another program in a running container.
fn exec(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    let paused = bed.paused()?;
    let container = match docker {
        Some(docker) => {
            let args = ["run", "-d", "--rm", "--network", "none", IMAGE, "/bin/sleep", "1000"];
            Some((docker, text(docker.command().args(args))?))
        }
        None => None,
    };
    let mut contenders = vec![
        Contender::new("`runner exec -- /bin/true`", || {
            quiet(bed.runner().args(["exec", "--", "/bin/true"]))
        }),
        Contender::new("posix_spawn of /bin/true on the host", || {
            quiet(&mut Command::new("/bin/true"))
        }),
    ];
    let bundle = bed.bundle("exec", &["/bin/sleep", "1000"])?;
    let runc = packages::has("runc")
        && quiet(Command::new("runc").args(["run", "-d", "bench-exec"]).current_dir(&bundle))
            .is_ok();
    if runc {
        contenders.push(Contender::new("`runc exec`", || {
            quiet(Command::new("runc").args(["exec", "bench-exec", "/bin/true"]))
        }));
    }
    if let Some((docker, id)) = &container {
        contenders.push(Contender::new("`docker exec`", || {
            quiet(docker.command().args(["exec", id, "/bin/true"]))
        }));
    }
    let result = measure("One more program (whole process)", 30, &mut contenders);
    drop(contenders);
    if runc {
        quiet(Command::new("runc").args(["delete", "-f", "bench-exec"]))?;
    }
    if let Some((docker, id)) = &container {
        quiet(docker.command().args(["kill", id]))?;
    }
    drop(paused);
    result
}

/// The documented example, compared with the same commands run directly.
fn hello(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    let script = "echo Entered the pre_build phase...\necho \"Hello World\" > /tmp/hello-world\n\
                  echo Entered the build phase...\ncat /tmp/hello-world\necho Build completed on \
                  $(date)\n";
    let file = bed.dir.join("hello.sh");
    fs::write(&file, script).map_err(|error| error.to_string())?;
    let spec = root().join("buildspecs/hello-world.yml");
    let mut contenders = vec![
        Contender::new("`runner run buildspecs/hello-world.yml`", || bed.runner_run(&spec, &[])),
        Contender::new("the same commands, `sh FILE`", || quiet(Command::new("sh").arg(&file))),
    ];
    if let Some(docker) = docker {
        contenders.push(Contender::new("the same commands, `docker run --rm IMAGE sh -c`", || {
            let args = ["run", "--rm", "--network", "none", IMAGE, "/bin/sh", "-c", script];
            quiet(docker.command().args(args))
        }));
    }
    measure("The hello build (whole process)", 15, &mut contenders)
}

/// The cost of another command in a buildspec.
fn commands(bed: &Bed) -> ChoreResult {
    const COUNT: usize = 200;
    let many = bed.buildspec("many", &[":"; COUNT])?;
    let file = bed.dir.join("one.sh");
    fs::write(&file, ":\n").map_err(|error| error.to_string())?;
    let mut contenders = vec![
        Contender::new(format!("`runner run`, {COUNT} commands `:`"), || {
            bed.runner_run(&many, &[])
        }),
        Contender::new(format!("`sh FILE`, {COUNT} times"), || {
            (0..COUNT).try_for_each(|_| quiet(Command::new("sh").arg(&file)))
        }),
    ];
    measure("Commands of a buildspec", 1, &mut contenders)
}

/// Throughput of a command's output to a file.
fn log(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    const MIB: usize = 1024;
    let command = format!("dd if=/dev/zero bs=64k count={} 2>/dev/null", MIB * 16);
    let spec = bed.buildspec("log", &[&command])?;
    let out = bed.dir.join("out");
    let mut contenders = vec![
        Contender::new("`runner run`, codebuild log into a file", || {
            let file = fs::File::create(&out).map_err(|error| error.to_string())?;
            status(bed.run_command(&spec, &["--image", &bed.image]).stdout(file))
        }),
        Contender::new("`sh -c '... | cat'` into a file", || {
            let file = fs::File::create(&out).map_err(|error| error.to_string())?;
            status(Command::new("sh").args(["-c", &format!("{command} | cat")]).stdout(file))
        }),
    ];
    if let Some(docker) = docker {
        contenders.push(Contender::new("`docker run --rm` into a file", || {
            let file = fs::File::create(&out).map_err(|error| error.to_string())?;
            let args = ["run", "--rm", "--network", "none", IMAGE, "/bin/sh", "-c", &command];
            status(docker.command().args(args).stdout(file))
        }));
    }
    measure(&format!("{MIB} MiB of output in blocks of 64 KiB"), 1, &mut contenders)
}

/// The cost of masking secrets.
fn mask(bed: &Bed) -> ChoreResult {
    const MIB: usize = 512;
    let line = "INFO 2026-01-01T00:00:00Z compiling unit 42 of 4711: /src/module/file.c ok";
    let command = format!("yes \"{line}\" | head -c {}", MIB << 20);
    let spec = bed.buildspec("mask", &[&command])?;
    let secrets: Vec<String> = (0..50)
        .flat_map(|n| {
            let value = format!(
                "SECRET_{n}=p@ss/{n}-{:016x}",
                0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(n + 1)
            );
            ["-e".to_owned(), value, "--mask".to_owned(), format!("SECRET_{n}")]
        })
        .collect();
    let out = bed.dir.join("out");
    let into = |command: &mut Command| {
        let file = fs::File::create(&out).map_err(|error| error.to_string())?;
        status(command.stdout(file))
    };
    let with = |options: &[&str]| {
        let all = [&["--image", &bed.image], options].concat();
        into(&mut bed.run_command(&spec, &all))
    };
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let mut contenders = vec![
        Contender::new("`runner run`, 50 secrets", || with(&secrets)),
        Contender::new("`runner run`, access key ids only", || with(&[])),
        Contender::new("`sh -c '... | cat'` into a file", || {
            into(Command::new("sh").args(["-c", &format!("{command} | cat")]))
        }),
    ];
    measure(&format!("{MIB} MiB of log lines"), 1, &mut contenders)
}

/// Checks the largest real buildspec, one of 24 kB, and a tiny one.
fn check(bed: &Bed) -> ChoreResult {
    let corpus = root().join("../shared/corpus");
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let files = fs::read_dir(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|e| e == "yml" || e == "yaml");
    let largest =
        files.filter_map(|entry| Some(entry.ok()?.path())).filter(is_yaml).max_by_key(size);
    let largest = largest.ok_or("the corpus is empty")?;
    let line = "if [ -f package.json ]; then npm ci --no-audit; fi; echo done $?";
    let small = bed.buildspec("small", &["true"])?;
    let medium = bed.buildspec("medium", &[line; 24_000 / 74])?;
    let check = |path: &PathBuf| quiet(bed.runner().arg("check").arg(path));
    let mut contenders = vec![
        Contender::new(format!("`runner check`, {} kB", size(&largest) / 1000), || check(&largest)),
        Contender::new(format!("`runner check`, {} kB", size(&medium) / 1000), || check(&medium)),
        Contender::new("`runner check`, one command", || check(&small)),
        Contender::new("`runner --version`", || quiet(bed.runner().arg("--version"))),
    ];
    measure("Looking at a buildspec", 30, &mut contenders)
}

/// Times the contenders in rounds and prints a row for each; ratios are relative to the first.
fn measure(title: &str, times: usize, contenders: &mut [Contender<'_>]) -> ChoreResult {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for contender in &mut *contenders {
        // The first run warms up caches for all of them.
        (contender.once)().map_err(|error| format!("{}: {error}", contender.name))?;
    }
    for _ in 0..ROUNDS {
        for (contender, medians) in contenders.iter_mut().zip(&mut rounds) {
            let mut samples = Vec::new();
            for _ in 0..times {
                let took = (contender.once)();
                let took = took.map_err(|error| format!("{}: {error}", contender.name))?;
                samples.push(millis(took));
            }
            medians.push(median(samples));
        }
    }
    println!("### {title}\n\n| | median, ms | ours / it |\n|---|---|---|");
    for (contender, own) in contenders.iter().zip(&rounds) {
        let ratios = rounds[0].iter().zip(own).map(|(first, own)| first / own).collect();
        println!("| {} | {:.2} | {:.2} |", contender.name, median(own.clone()), median(ratios));
    }
    println!();
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Runs a command and discards its output.
fn quiet(command: &mut Command) -> ChoreResult {
    status(command.stdout(Stdio::null()))
}

fn status(command: &mut Command) -> ChoreResult {
    let status = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

fn text(command: &mut Command) -> ChoreResult<String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
