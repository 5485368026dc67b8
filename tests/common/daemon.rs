//! Real servers that the tests of a run share: each started by the first test that asks for it, ended
//! with the test program.
//!
//! A daemon has its own folder for all it keeps. Its process is asked to end by pid; should the
//! test program be killed, the kernel asks it.

use super::{PATIENCE, Stream, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// A server that lives as long as the run.
pub(crate) struct Daemon {
    dir: PathBuf,
    /// What it says.
    pub(crate) log: Stream,
}

/// What is left to be done at the end of the run.
struct Owned {
    pid: Pid,
    /// Ends when the process has.
    watcher: JoinHandle<()>,
    dir: TempDir,
}

static OWNED: Mutex<Vec<Owned>> = Mutex::new(Vec::new());
static AT_END: Mutex<Vec<Box<dyn FnOnce() + Send>>> = Mutex::new(Vec::new());

/// Has something done when all tests are over.
pub(crate) fn at_end(what: impl FnOnce() + Send + 'static) {
    AT_END.lock().unwrap().push(Box::new(what));
}

impl Daemon {
    /// Makes a folder, and starts the program that `command` makes of it.
    pub(crate) fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        Self::start_with(Stdio::null(), command)
    }

    /// The same with a socket that listens already, handed over as systemd does it: a port that was merely
    /// free a moment ago may be another test's when the program gets to it.
    pub(crate) fn start_listening(
        socket: TcpListener,
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let script = "exec 3<&0 < /dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        Self::start_with(Stdio::from(OwnedFd::from(socket)), |dir| {
            within(&["sh", "-c", script, "sh"], &command(dir))
        })
    }

    fn start_with(stdin: Stdio, command: impl FnOnce(&Path) -> Command) -> Self {
        let dir = tempfile::Builder::new().prefix("runner-daemon-").tempdir_in("/var/tmp").unwrap();
        let place = dir.path().to_path_buf();
        // Daemons of other users keep things in it.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        // It gets SIGTERM when this one has ended.
        let program = within(&["setpriv", "--pdeathsig", "TERM", "--"], &command(&place));
        let (child_tx, child_rx) = mpsc::channel();
        // That signal comes at the end of the thread that has made the process, so the thread stays.
        let watcher = std::thread::spawn(move || {
            let mut child = spawn(program, stdin);
            child_tx.send((child.id(), child.stderr.take().unwrap())).unwrap();
            child.wait().unwrap();
        });
        let (pid, stderr) = child_rx.recv().unwrap();
        let pid = Pid::from_raw(pid.try_into().unwrap());
        OWNED.lock().unwrap().push(Owned { pid, watcher, dir });
        Daemon { dir: place, log: Stream::gather(stderr) }
    }

    /// Its folder, or something in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits for something only asking tells.
    #[track_caller]
    pub(crate) fn answers(&self, mut asks: impl FnMut() -> bool) {
        let begin = std::time::Instant::now();
        while !asks() {
            assert!(begin.elapsed() < PATIENCE, "does not answer:\n{}", self.log.text());
        }
    }
}

/// The same command, run by another one that becomes it.
fn within(outer: &[&str], command: &Command) -> Command {
    let mut program = Command::new(outer[0]);
    program.args(&outer[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => program.env(name, value),
            None => program.env_remove(name),
        };
    }
    program
}

fn spawn(mut program: Command, stdin: Stdio) -> Child {
    program.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ends every daemon of this run, the last one first, and removes what they kept.
pub(crate) fn end_all() {
    let at_end = std::mem::take(&mut *AT_END.lock().unwrap());
    at_end.into_iter().for_each(|what| what());
    while let Some(Owned { pid, watcher, dir }) = OWNED.lock().unwrap().pop() {
        // One that has ended by itself is still collected by its watcher only.
        let _ = kill(pid, Signal::SIGTERM);
        until("a daemon has ended", || watcher.is_finished());
        let place = dir.path().to_path_buf();
        unmount_below(&place);
        if let Err(error) = dir.close() {
            eprintln!("cannot remove {}: {error}", place.display());
        }
    }
}

/// Takes off what a daemon leaves mounted in its own folder, the newest first.
pub(crate) fn unmount_below(place: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let own: Vec<&str> = points.filter(|point| Path::new(point).starts_with(place)).collect();
    for point in own.iter().rev() {
        // Where it fails, the folder cannot be removed, and the test says so.
        let _ = Command::new("umount").arg(point).status();
    }
}
