//! Shared basis of the benchmarks: a folder, a paused build, bundles for runc, a Docker daemon.

use super::quiet;
use crate::{ChoreResult, packages, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// The image's name in docker.
pub(super) const IMAGE: &str = "bench:busybox";

/// Where the folders are; the process's number follows.
const FOLDER: &str = "/var/tmp/runner-bench-";

/// A folder for everything, removed afterwards.
pub(super) struct Bed {
    pub(super) dir: PathBuf,
    pub(super) image: String,
}

/// Names another program to measure, for example a debug build.
pub(super) const PROGRAM: &str = "RUNNER_BENCH_PROGRAM";

impl Bed {
    pub(super) fn new() -> ChoreResult<Self> {
        remove_abandoned();
        let dir = PathBuf::from(format!("{FOLDER}{}", std::process::id()));
        fs::create_dir_all(dir.join("source")).map_err(|error| error.to_string())?;
        let image = format!("rootfs:{}", root().join("target/images/busybox").display());
        Ok(Bed { dir, image })
    }

    pub(super) fn runner(&self) -> Command {
        let other = std::env::var_os(PROGRAM).map(PathBuf::from);
        let program = other.unwrap_or_else(|| "target/release/runner".into());
        let mut command = Command::new(root().join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("RUNNER_HOME", self.dir.join("state"))
            .current_dir(self.dir.join("source"))
            .stdin(Stdio::null());
        command
    }

    pub(super) fn run_command(&self, spec: &Path, options: &[&str]) -> Command {
        let mut command = self.runner();
        command.arg("run").arg(spec).arg("--quiet").args(options);
        command
    }

    pub(super) fn runner_run(&self, spec: &Path, options: &[&str]) -> ChoreResult {
        quiet(&mut self.run_command(spec, options))
    }

    pub(super) fn buildspec(&self, name: &str, commands: &[&str]) -> ChoreResult<PathBuf> {
        let mut text = "version: 0.2\nphases:\n  build:\n    commands:\n".to_owned();
        for command in commands {
            text.push_str(&format!("      - '{}'\n", command.replace('\'', "''")));
        }
        let path = self.dir.join(format!("{name}.yml"));
        fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// A bundle for runc and similar runtimes.
    pub(super) fn bundle(&self, name: &str, arguments: &[&str]) -> ChoreResult<PathBuf> {
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

    /// A build paused at a breakpoint.
    pub(super) fn paused(&self) -> ChoreResult<OwnedProcess> {
        self.paused_with(&[]).map(|(paused, _)| paused)
    }

    /// The same with variables, and the lines that it writes to standard error from now on.
    pub(super) fn paused_with(
        &self,
        variables: &[(&str, &str)],
    ) -> ChoreResult<(OwnedProcess, Receiver<String>)> {
        self.paused_in(&["--image", &self.image], variables)
    }

    /// The same with options, too.
    pub(super) fn paused_in(
        &self,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> ChoreResult<(OwnedProcess, Receiver<String>)> {
        let spec = self.buildspec("paused", &["codebuild-breakpoint"])?;
        let child = self
            .run_command(&spec, &[&["--enable-session"], options].concat())
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut ended = OwnedProcess(child);
        let stderr = ended.0.stderr.take().ok_or("no standard error")?;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("stop ")))
            .ok_or("the build did not pause")?
            .map_err(|error| error.to_string())?;
        // Further output is read, so that it never blocks.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The receiver may be gone.
                let _ = sender.send(line);
            }
        });
        Ok((ended, receiver))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        clear(&self.dir);
    }
}

/// Removes the folders of benchmarks that were killed.
fn remove_abandoned() {
    let (above, prefix) = FOLDER.rsplit_once('/').unwrap_or(("", FOLDER));
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            clear(&entry.path());
        }
    }
}

/// Removes a folder and unmounts what is mounted below it: a killed daemon leaves its data mounted.
fn clear(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    let below: Vec<&str> = points.filter(|point| Path::new(point).starts_with(dir)).collect();
    for point in below.iter().rev() {
        // One that is still in use disappears with its last user.
        let _ = quiet(Command::new("umount").arg("--lazy").arg(point));
    }
    // What cannot be removed is in a directory for temporary files.
    let _ = fs::remove_dir_all(dir);
}

/// A process that is killed on drop.
pub(super) struct OwnedProcess(pub(super) Child);

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.0.wait();
    }
}

/// Our own Docker daemon.
pub(super) struct Docker {
    pub(super) socket: String,
    _daemon: OwnedProcess,
}

impl Docker {
    pub(super) fn start(bed: &Bed) -> ChoreResult<Self> {
        if !packages::has("dockerd") {
            return Err("not installed".to_owned());
        }
        let dir = bed.dir.join("docker");
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let socket = format!("unix://{}", dir.join("sock").display());
        let log = fs::File::create(dir.join("log")).map_err(|error| error.to_string())?;
        // It ends and unmounts its data also when the benchmark is killed.
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "dockerd", "--data-root"])
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
        let docker = Docker { socket, _daemon: OwnedProcess(daemon) };
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

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]).stdin(Stdio::null());
        command
    }
}
