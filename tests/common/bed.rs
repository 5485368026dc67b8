//! A bed: a state folder, a home and a source directory used by only one test.

use super::process::Running;
use super::{Terminal, image, runner};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Created for one test and removed after it. Its drop checks that nothing is left behind.
pub(crate) struct Bed {
    dir: TempDir,
    image: String,
    /// Variables that every command gets in addition to the usual ones.
    variables: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bed {
    /// Builds run in the image busybox.
    pub(crate) fn new() -> Self {
        Self::with_image(&format!("rootfs:{}", image("busybox").display()))
    }

    /// Builds run in the image busybox with separate owners, so that they may change all of it:
    /// only root can change files of this machine's root.
    pub(crate) fn owned() -> Self {
        let mut bed = Self::new();
        let file = bed.path("busybox.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(image("busybox")).arg("-cf").arg(&file).arg(".");
        outcome(&mut tar).code(0);
        bed.image = format!("rootfs:{}", file.display());
        bed
    }

    /// Builds run in the image host.
    pub(crate) fn host() -> Self {
        Self::with_image("host")
    }

    pub(crate) fn with_image(image: &str) -> Self {
        // On disk: if temporary files were in memory, overlays would be, too.
        let dir = tempfile::Builder::new().prefix("runner-test-").tempdir_in("/var/tmp").unwrap();
        let bed = Bed { dir, image: image.to_owned(), variables: Vec::new() };
        fs::create_dir(bed.source()).unwrap();
        fs::create_dir(bed.path("home")).unwrap();
        bed
    }

    /// Adds variables for everything that runs in the bed.
    pub(crate) fn with_variables(mut self, variables: Vec<(String, String)>) -> Self {
        self.variables = variables;
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The source directory; commands run in it.
    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// The state folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file of the source directory.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The program under test, in the bed's own environment.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(runner());
        self.surround(&mut command);
        command.args(arguments);
        command
    }

    /// Another program in the same environment. git must have finished when it returns: otherwise
    /// it maintains the repository in the background, and its lock disturbs the next command.
    pub(crate) fn other(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.surround(&mut command);
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "maintenance.auto")
            .env("GIT_CONFIG_VALUE_0", "false");
        command
    }

    fn surround(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("RUNNER_HOME", self.home())
            .env("TERM", "xterm")
            .env("RUST_BACKTRACE", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.source())
            .stdin(Stdio::null());
    }

    /// Runs the program to its end.
    pub(crate) fn runner<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// Runs a buildspec to its end, with additional options.
    pub(crate) fn build(&self, buildspec: &str, options: &[&str]) -> Outcome {
        outcome(&mut self.build_command(buildspec, options))
    }

    /// The command of [`Self::build`].
    pub(crate) fn build_command(&self, buildspec: &str, options: &[&str]) -> Command {
        self.write("buildspec.yml", buildspec);
        let mut command = self.command(["run", "--image", &self.image, "--project", "demo"]);
        command.args(options);
        command
    }

    /// Starts a buildspec and does not wait.
    pub(crate) fn start(&self, buildspec: &str, options: &[&str]) -> Running {
        Running::spawn(self.build_command(buildspec, options))
    }

    /// Starts a build with sessions and waits until it is paused.
    pub(crate) fn paused(&self, buildspec: &str, options: &[&str]) -> Running {
        let mut all = vec!["--enable-session"];
        all.extend(options);
        let running = self.start(buildspec, &all);
        running.stderr.wait_for("is paused at a breakpoint");
        running.stderr.wait_for("stop ");
        running
    }

    /// Resumes a paused build, which then succeeds.
    #[track_caller]
    pub(crate) fn resume(&self, running: Running) {
        self.runner(["resume"]).code(0);
        running.ends(0);
    }

    /// Starts the program on a new terminal.
    pub(crate) fn terminal(&self, command: Command, rows: u16, cols: u16) -> Terminal {
        Terminal::spawn(command, rows, cols)
    }

    /// Runs a script as root of a new mount namespace, which ends with it.
    pub(crate) fn in_own_mounts(&self, script: &str) -> Outcome {
        let mut command = self.other("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
        outcome(&mut command)
    }

    /// Runs a buildspec in the image host of a machine with another /etc: a copy, which `change`
    /// modifies. Requires root; the machine's own /etc, which other tests read, stays unchanged.
    pub(crate) fn build_with_etc(&self, buildspec: &str, change: impl FnOnce(&Path)) -> Outcome {
        let etc = self.path("etc");
        outcome(Command::new("cp").args(["-a", "/etc"]).arg(&etc)).code(0);
        change(&etc);
        self.write("buildspec.yml", buildspec);
        let (etc, runner) = (etc.display(), runner());
        self.in_own_mounts(&format!("mount --bind {etc} /etc; {} run", runner.display()))
    }

    /// Gives other users access, and a copy of the program they may run.
    pub(crate) fn open_to_others(&self) -> PathBuf {
        fs::set_permissions(self.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let program = self.path("runner");
        // As in `write_program`.
        outcome(Command::new("cp").args([&runner(), &program])).code(0);
        program
    }

    /// The one live build's folder.
    pub(crate) fn live(&self) -> PathBuf {
        let mut live: Vec<_> = list(&self.home().join("live"));
        assert_eq!(live.len(), 1, "live builds: {live:?}");
        self.home().join("builds").join(live.remove(0))
    }

    /// The one build's folder, live or ended.
    pub(crate) fn only(&self) -> PathBuf {
        let mut builds: Vec<_> = list(&self.home().join("builds"));
        assert_eq!(builds.len(), 1, "builds: {builds:?}");
        self.home().join("builds").join(builds.remove(0))
    }

    /// The events of one type, of the only build.
    pub(crate) fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.only().join("events.jsonl")).unwrap();
        let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event: &serde_json::Value| event["type"] == kind)
            .map(|event| event["data"].clone())
            .collect()
    }

    /// The record of the only build.
    pub(crate) fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.only().join("record.json")).unwrap()).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert_eq!(list(&self.home().join("live")), [""; 0], "builds are still listed as live");
        for build in list(&self.home().join("builds")) {
            let dir = self.home().join("builds").join(build);
            let mut files = list(&dir);
            files.sort();
            // If it has any.
            files.retain(|name| {
                !["artifacts", "reports", "services", "changes"].contains(&name.as_str())
            });
            assert_eq!(
                files,
                ["events.jsonl", "lock", "meta.json", "output.log", "record.json"],
                "in {}",
                dir.display()
            );
        }
    }
}

/// A buildspec whose build phase runs these commands.
pub(crate) fn build(commands: &[&str]) -> String {
    let list: String =
        commands.iter().map(|text| format!("      - {}\n", serde_json::json!(text))).collect();
    format!("version: 0.2\nphases:\n  build:\n    commands:\n{list}")
}

/// Writes an executable program. A separate process does it: a file that is open for writing cannot
/// be executed, and a child that another test has just forked keeps all of this program's files
/// open until it executes something itself.
pub(crate) fn write_program(path: &Path, text: &str) {
    let script = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    outcome(Command::new("sh").args(["-c", script]).arg(path).arg(text)).code(0);
}

/// Names in a directory; empty if it does not exist.
pub(crate) fn list(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs a command to its end.
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let mut running = Running::spawn_from(command);
    let code = running.wait();
    Outcome { code, stdout: running.stdout.text(), stderr: running.stderr.text() }
}

impl Outcome {
    /// Checks the exit code; prints everything if it differs.
    #[track_caller]
    pub(crate) fn code(self, wanted: i32) -> Self {
        assert_eq!(self.code, wanted, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that standard error contains a text.
    #[track_caller]
    pub(crate) fn says(self, wanted: &str) -> Self {
        assert!(
            self.stderr.contains(wanted),
            "standard error does not say {wanted:?}\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The commands' output: standard output without the lines of CodeBuild's agent and the empty
    /// line after each command.
    pub(crate) fn output(&self) -> String {
        let mut kept = String::new();
        let mut in_command = false;
        let mut lines = self.stdout.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let is_agent = line.starts_with("[Container] ");
            if is_agent {
                in_command = line.contains(" Running command ");
                continue;
            }
            let ends_command =
                line == "\n" && lines.peek().is_none_or(|next| next.starts_with("[Container] "));
            if in_command && !ends_command {
                kept.push_str(line);
            }
        }
        kept
    }
}
