//! Runs the end-to-end tests again, as unprivileged users.
//!
//! This requires root: it creates two users, one with subordinate ids and one without, and a folder
//! that both may read, whatever the permissions of the project itself.

use crate::{ChoreResult, cargo, root, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of the users, and whether they have subordinate ids.
const USERS: [(&str, bool); 2] = [("runner-test", true), ("runner-test-alone", false)];

/// The parts of the project that the tests read.
const PARTS: [&str; 9] = [
    "buildspecs",
    "tests/clients",
    "tests/guards",
    "tests/reports",
    "tests/strangers",
    "tests/suite",
    "target/clients",
    "target/images",
    PYTHON,
];
/// Programs in it contain the absolute path of their interpreter.
const PYTHON: &str = "target/python";

/// Runs the tests as each user, even if another one's fail, with an additional variable. Returns
/// what failed. Arguments are a filter.
pub(crate) fn test(filter: &[String], variable: Option<(&str, &str)>) -> Vec<String> {
    let bed = match prepare() {
        Ok(bed) => bed,
        Err(why) => return vec![format!("the tests as users who are not root: {why}")],
    };
    // In parallel: most of the time the tests wait.
    let bed = &bed;
    let results = std::thread::scope(|scope| {
        let runs = USERS.map(|(user, has_ids)| {
            let made = make_user(user, has_ids);
            scope.spawn(move || made.and_then(|()| test_as(user, bed, filter, variable)))
        });
        runs.map(|run| run.join().unwrap_or_else(|_| Err("a panic".to_owned())))
    });
    let whose = USERS.iter().zip(results);
    whose
        .filter_map(|((user, _), result)| Some((user, result.err()?)))
        .map(|(user, why)| format!("the tests as {user}: {why}"))
        .collect()
}

/// Runs a command, and prints its output when it has ended, so that it does not mix with another's.
fn run_and_show(command: &mut Command) -> ChoreResult {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    println!("xtask: {command:?}\n{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(output.status.to_string()) }
}

/// Copies everything into a folder that both may read.
fn prepare() -> ChoreResult<RootlessBed> {
    let program = test_program()?;
    let bed = RootlessBed::new()?;
    let place = |from: &Path, to: &str| {
        fs::copy(from, bed.0.join(to)).map_err(|error| format!("copy {}: {error}", from.display()))
    };
    place(&program, "e2e")?;
    // Next to the folder of test programs.
    let runner = program.ancestors().nth(2).unwrap_or(&program).join("runner");
    place(&runner, "runner")?;
    // Missing parts have been reported; the tests that need them are not run here either.
    for part in PARTS.iter().filter(|part| root().join(part).exists()) {
        let to = bed.0.join(part);
        fs::create_dir_all(to.parent().unwrap_or(&bed.0)).map_err(|error| error.to_string())?;
        let copy = ["-a", "--reflink=auto", "--"];
        run(Command::new("cp").args(copy).arg(root().join(part)).arg(to))?;
    }
    move_python(&root().join(PYTHON), &bed.0.join(PYTHON))
        .map_err(|error| format!("move Python's programs: {error}"))?;
    Ok(bed)
}

fn test_as(
    user: &str,
    bed: &RootlessBed,
    filter: &[String],
    variable: Option<(&str, &str)>,
) -> ChoreResult {
    let assigned = |name: &str, value: &Path| format!("{name}={}", value.display());
    let runtime_dir = bed.0.join(format!("run-{user}"));
    let mine = ["--directory", "--mode", "700", "--owner", user, "--group", user];
    run(Command::new("install").args(mine).arg(&runtime_dir))?;
    run_and_show(
        Command::new("setpriv")
            .args(["--reuid", user, "--regid", user, "--init-groups", "env", "-i"])
            .arg(format!("HOME=/home/{user}"))
            .arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            // Without it, skopeo and Podman use a folder in /run that root may have made
            // inaccessible.
            .arg(assigned("XDG_RUNTIME_DIR", &runtime_dir))
            .arg(assigned("RUNNER_BIN", &bed.0.join("runner")))
            .arg(assigned("RUNNER_PROJECT", &bed.0))
            .arg("RUNNER_TEST_AGAIN=1")
            .args(variable.map(|(name, value)| format!("{name}={value}")))
            .arg(bed.0.join("e2e"))
            .arg("--quiet")
            .args(filter)
            .current_dir(&bed.0),
    )
}

/// Makes the programs of a copied Python environment use the copied interpreter.
fn move_python(from: &Path, to: &Path) -> std::io::Result<()> {
    if !to.exists() {
        return Ok(());
    }
    let (old, new) = (format!("#!{}/", from.display()), format!("#!{}/", to.display()));
    for entry in fs::read_dir(to.join("bin"))? {
        let path = entry?.path();
        let Ok(bytes) = fs::read(&path) else { continue };
        if let Some(rest) = bytes.strip_prefix(old.as_bytes()) {
            fs::write(&path, [new.as_bytes(), rest].concat())?;
        }
    }
    Ok(())
}

/// The program that cargo has built from `tests/`.
fn test_program() -> ChoreResult<PathBuf> {
    let output = cargo()
        .args(["test", "--test", "e2e", "--no-run", "--message-format", "json"])
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter(|line| line.contains("\"name\":\"e2e\""))
        .filter_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next())
        .next_back()
        .map(PathBuf::from)
        .ok_or_else(|| "cargo names no test program".to_owned())
}

fn make_user(name: &str, has_ids: bool) -> ChoreResult {
    let accounts = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    if !accounts.lines().any(|line| line.split(':').next() == Some(name)) {
        run(Command::new("useradd").args(["--create-home", "--user-group", name]))?;
    }
    for table in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        let is_own = |line: &&str| line.split(':').next() == Some(name);
        let listed = text.lines().any(|line| is_own(&line));
        let wanted = match (has_ids, listed) {
            // Far from the ids that useradd assigns.
            (true, false) => format!("{text}{name}:1000000000:65536\n"),
            (false, true) => {
                text.lines().filter(|line| !is_own(line)).map(|line| format!("{line}\n")).collect()
            }
            (true, true) | (false, false) => continue,
        };
        fs::write(table, wanted).map_err(|error| format!("write {table}: {error}"))?;
    }
    Ok(())
}

/// A folder everyone may read, removed on drop.
struct RootlessBed(PathBuf);

impl RootlessBed {
    fn new() -> ChoreResult<Self> {
        let dir = PathBuf::from(format!("/var/tmp/runner-rootless-{}", std::process::id()));
        let make = || {
            fs::create_dir(&dir)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))
        };
        make().map_err(|error| format!("make {}: {error}", dir.display()))?;
        Ok(RootlessBed(dir))
    }
}

impl Drop for RootlessBed {
    fn drop(&mut self) {
        // What cannot be removed is in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
