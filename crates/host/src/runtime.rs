//! Starts the runtime of a program's tasks, or says why it cannot.
//!
//! tokio panics if it gets no descriptors for its signals or no thread for blocking work. Both are
//! checked here first.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Descriptor pairs that must be free for a runtime: its own and a few to work with.
const PAIRS: usize = 4;
/// Descriptors that must be free for a build; with fewer it would fail somewhere in the middle.
const NEEDED_BY_A_BUILD: u64 = 64;
/// A descriptor limit that is enough, however many are open at the start.
const AMPLE: u64 = 1024;
/// Longer than anything runs.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why the runtime could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start: {0}")]
pub struct NoRuntime(#[source] io::Error);

impl NoRuntime {
    /// How to fix it.
    pub fn hint(&self) -> &'static str {
        limit_hint(&self.0).unwrap_or("look at the limits of this process: ulimit -a")
    }
}

/// How to fix an error caused by a limit of this process, user or machine.
pub fn limit_hint(error: &io::Error) -> Option<&'static str> {
    match Errno::from_raw_os_error(error.raw_os_error()?) {
        Errno::MFILE => Some("this program may open too few files: ulimit -n 1024"),
        Errno::AGAIN => Some(
            "this user may have no more processes and threads: see ulimit -u, and pids.max of this \
             control group",
        ),
        Errno::NFILE => Some("the machine has too many files open: see fs.file-max in sysctl"),
        _ => None,
    }
}

/// A runtime on this thread.
pub fn start() -> Result<Runtime, NoRuntime> {
    start_with(&mut Builder::new_current_thread())
}

/// A runtime for a build, from the given builder.
pub fn start_for_build(builder: &mut Builder) -> Result<Runtime, NoRuntime> {
    if descriptors_left() < NEEDED_BY_A_BUILD {
        return Err(NoRuntime(Errno::MFILE.into()));
    }
    start_with(builder)
}

/// How many more descriptors this process may open. Exact only if few.
fn descriptors_left() -> u64 {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < AMPLE => {
            // Each entry is an open descriptor. Without the list, the first failing open will tell.
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            limit.saturating_sub(open as u64)
        }
        Some(_) | None => AMPLE,
    }
}

/// Keeps one thread for blocking work from the start: if no other can be had, blocking work waits
/// its turn.
fn start_with(builder: &mut Builder) -> Result<Runtime, NoRuntime> {
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    drop(pairs.map_err(NoRuntime)?);
    builder.enable_all().thread_keep_alive(FOR_EVER).build().map_err(NoRuntime)
}

/// Starts the first thread for blocking work now, while failure is an error rather than a panic.
pub fn warm(runtime: &Runtime) -> Result<(), NoRuntime> {
    // tokio does not report whether it got a thread: if one can be started now, so can a second.
    let probe = std::thread::Builder::new().spawn(|| ()).map_err(NoRuntime)?;
    drop(probe.join());
    drop(runtime.spawn_blocking(|| ()));
    Ok(())
}
