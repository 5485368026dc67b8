//! Real servers shared by the tests of a run: each is started by the first test that needs it and
//! stopped with the test program.
//!
//! A daemon keeps everything in its own folder. It is stopped by pid; if the test program is
//! killed, the kernel sends the signal.

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
use std::time::Duration;
use tempfile::TempDir;

/// A server that lives as long as the run.
pub(crate) struct Daemon {
    dir: PathBuf,
    /// Its output.
    pub(crate) log: Stream,
}

/// Work for the end of the run.
struct Owned {
    pid: Pid,
    /// The thread that ends with the process.
    watcher: JoinHandle<()>,
    dir: TempDir,
}

static OWNED: Mutex<Vec<Owned>> = Mutex::new(Vec::new());
static AT_END: Mutex<Vec<Box<dyn FnOnce() + Send>>> = Mutex::new(Vec::new());

/// Runs a function when all tests are over.
pub(crate) fn at_end(what: impl FnOnce() + Send + 'static) {
    AT_END.lock().unwrap().push(Box::new(what));
}

impl Daemon {
    /// Creates a folder, and starts the program that `command` returns for it.
    pub(crate) fn start(command: impl FnOnce(&Path) -> Command) -> Self {
        Self::start_with(Stdio::null(), command)
    }

    /// The same with a listening socket, passed on as by systemd: a port that was merely free might
    /// be taken by another test before the program uses it.
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
        // Daemons of other users keep files in it.
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        // It gets SIGTERM when this process has ended.
        let program = within(&["setpriv", "--pdeathsig", "TERM", "--"], &command(&place));
        let (child_tx, child_rx) = mpsc::channel();
        // The kernel sends that signal when the thread that created the process ends, so the thread
        // stays.
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

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Waits for a condition that can only be polled.
    #[track_caller]
    pub(crate) fn answers(&self, mut asks: impl FnMut() -> bool) {
        let begin = std::time::Instant::now();
        while !asks() {
            assert!(begin.elapsed() < PATIENCE, "does not answer:\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The same command, run through another one that execs it.
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

/// Stops every daemon of this run, last one first, and removes their files.
pub(crate) fn end_all() {
    let at_end = std::mem::take(&mut *AT_END.lock().unwrap());
    at_end.into_iter().for_each(|what| what());
    while let Some(Owned { pid, watcher, dir }) = OWNED.lock().unwrap().pop() {
        // One that has ended by itself has not been reaped: only its watcher does that.
        let _ = kill(pid, Signal::SIGTERM);
        until("a daemon has ended", || watcher.is_finished());
        let place = dir.path().to_path_buf();
        unmount_below(&place);
        if let Err(error) = dir.close() {
            eprintln!("cannot remove {}: {error}", place.display());
        }
    }
}

/// Unmounts what a daemon leaves mounted in its folder, newest first.
pub(crate) fn unmount_below(place: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let own: Vec<&str> = points.filter(|point| Path::new(point).starts_with(place)).collect();
    for point in own.iter().rev() {
        // If this fails, the folder cannot be removed, and the test reports it.
        let _ = Command::new("umount").arg(point).status();
    }
}
