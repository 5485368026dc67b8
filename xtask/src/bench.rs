//! The figures of docs/performance.md, beside their peers in the same run.
//!
//! Each figure is measured in rounds. In a round every contender runs its share, one after the
//! other, so that a machine that slows down slows all of them; the ratio is taken round by round and
//! its median is what counts. Peers that are not installed are named and left out.

use crate::{Result, cargo, images, is_root, packages, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// Debian packages of the peers.
const PEERS: [&str; 3] = ["runc", "crun", "docker.io"];

/// Something that is timed.
struct Contender<'a> {
    name: String,
    /// Once, timed from outside.
    once: Box<dyn FnMut() -> Result + 'a>,
}

impl<'a> Contender<'a> {
    fn new(name: impl Into<String>, once: impl FnMut() -> Result + 'a) -> Self {
        Contender { name: name.into(), once: Box::new(once) }
    }
}

/// Measures everything; prints tables in Markdown.
pub(crate) fn all() -> Result {
    if !is_root() {
        return Err("the peers need root".to_owned());
    }
    packages::install(&PEERS)?;
    images::build(&["busybox".to_owned()])?;
    run(cargo().args(["build", "--release", "--quiet"]))?;
    let bed = Bed::new()?;
    let docker = Docker::start(&bed);
    let docker = docker.as_ref().map_err(|error| println!("docker is left out: {error}")).ok();
    machine();
    start(&bed, docker)?;
    exec(&bed, docker)?;
    hello(&bed, docker)?;
    commands(&bed)?;
    log(&bed, docker)
}

fn machine() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let version = read("/proc/sys/kernel/osrelease");
    let cpus = read("/proc/cpuinfo").matches("processor\t").count();
    println!("\nLinux {}, {cpus} CPUs, {ROUNDS} rounds\n", version.trim());
}

/// Container from nothing to its first output, and gone again.
fn start(bed: &Bed, docker: Option<&Docker>) -> Result {
    let one = bed.buildspec("one", &["echo hi"])?;
    let mut contenders = vec![
        Contender::new("`runner run`, one command", || {
            bed.runner_run(&one, &["--image", &bed.image])
        }),
        Contender::new("`runner run`, image host", || bed.runner_run(&one, &[])),
    ];
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

/// One more program in a container that runs.
fn exec(bed: &Bed, docker: Option<&Docker>) -> Result {
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

/// The documented example, beside the same commands with nothing around them.
fn hello(bed: &Bed, docker: Option<&Docker>) -> Result {
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

/// What one more command of a buildspec costs.
fn commands(bed: &Bed) -> Result {
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

/// Bytes from a command to a file.
fn log(bed: &Bed, docker: Option<&Docker>) -> Result {
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

/// Times the contenders in rounds and prints a row each; ratios are to the first.
fn measure(title: &str, times: usize, contenders: &mut [Contender<'_>]) -> Result {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for contender in &mut *contenders {
        // What is cold the first time is cold for all of them.
        (contender.once)().map_err(|error| format!("{}: {error}", contender.name))?;
    }
    for _ in 0..ROUNDS {
        for (contender, medians) in contenders.iter_mut().zip(&mut rounds) {
            let mut samples = Vec::new();
            for _ in 0..times {
                let begin = Instant::now();
                (contender.once)().map_err(|error| format!("{}: {error}", contender.name))?;
                samples.push(millis(begin.elapsed()));
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

/// The image's name in docker.
const IMAGE: &str = "bench:busybox";

/// A folder for everything, removed afterwards.
struct Bed {
    dir: PathBuf,
    image: String,
}

impl Bed {
    fn new() -> Result<Self> {
        let dir = PathBuf::from(format!("/var/tmp/runner-bench-{}", std::process::id()));
        fs::create_dir_all(dir.join("source")).map_err(|error| error.to_string())?;
        let image = format!("rootfs:{}", root().join("target/images/busybox").display());
        Ok(Bed { dir, image })
    }

    fn runner(&self) -> Command {
        let mut command = Command::new(root().join("target/release/runner"));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("RUNNER_HOME", self.dir.join("state"))
            .current_dir(self.dir.join("source"))
            .stdin(Stdio::null());
        command
    }

    fn run_command(&self, spec: &Path, options: &[&str]) -> Command {
        let mut command = self.runner();
        command.arg("run").arg(spec).arg("--quiet").args(options);
        command
    }

    fn runner_run(&self, spec: &Path, options: &[&str]) -> Result {
        quiet(&mut self.run_command(spec, options))
    }

    fn buildspec(&self, name: &str, commands: &[&str]) -> Result<PathBuf> {
        let mut text = "version: 0.2\nphases:\n  build:\n    commands:\n".to_owned();
        for command in commands {
            text.push_str(&format!("      - '{}'\n", command.replace('\'', "''")));
        }
        let path = self.dir.join(format!("{name}.yml"));
        fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// A bundle for runc and its kin.
    fn bundle(&self, name: &str, arguments: &[&str]) -> Result<PathBuf> {
        let dir = self.dir.join(format!("bundle-{name}"));
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        run(Command::new("cp")
            .arg("-a")
            .arg(root().join("target/images/busybox"))
            .arg(dir.join("rootfs")))?;
        quiet(Command::new("runc").arg("spec").current_dir(&dir))?;
        let path = dir.join("config.json");
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let arguments: Vec<String> = arguments.iter().map(|word| format!("\"{word}\"")).collect();
        let text = text
            .replace("\"terminal\": true", "\"terminal\": false")
            .replace("\"sh\"", &arguments.join(", "));
        fs::write(path, text).map_err(|error| error.to_string())?;
        Ok(dir)
    }

    /// A build that waits at a breakpoint.
    fn paused(&self) -> Result<Ended> {
        let spec = self.buildspec("paused", &["codebuild-breakpoint"])?;
        let options = ["--enable-session", "--image", &self.image];
        let child = self
            .run_command(&spec, &options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut ended = Ended(child);
        let stderr = ended.0.stderr.take().ok_or("no standard error")?;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("stop ")))
            .ok_or("the build did not pause")?
            .map_err(|error| error.to_string())?;
        // Whatever else it says is read, so that it never waits for us.
        std::thread::spawn(move || lines.count());
        Ok(ended)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // What cannot be removed is in a place for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process of ours that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.0.wait();
    }
}

/// A Docker daemon of our own.
struct Docker {
    socket: String,
    _daemon: Ended,
}

impl Docker {
    fn start(bed: &Bed) -> Result<Self> {
        if !packages::has("dockerd") {
            return Err("not installed".to_owned());
        }
        let dir = bed.dir.join("docker");
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", dir.join("sock").display());
        let log = fs::File::create(dir.join("log")).map_err(|error| error.to_string())?;
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .args(["--host", &socket, "--iptables=false", "--ip6tables=false", "--bridge=none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let docker = Docker { socket, _daemon: Ended(daemon) };
        let begin = Instant::now();
        while quiet(docker.command().arg("info")).is_err() {
            if begin.elapsed() > Duration::from_secs(60) {
                return Err("the daemon does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let tar = root().join("target/images/busybox.tar");
        quiet(docker.command().arg("import").arg(tar).arg(IMAGE))?;
        Ok(docker)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]).stdin(Stdio::null());
        command
    }
}

/// Runs a command whose output does not matter.
fn quiet(command: &mut Command) -> Result {
    status(command.stdout(Stdio::null()))
}

fn status(command: &mut Command) -> Result {
    let status = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

fn text(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
