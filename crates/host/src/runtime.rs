//! The runtime of a program's tasks, or why there is none.
//!
//! tokio itself panics where it can have no descriptors for its signals, or no thread for what blocks. Both
//! are found out before.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Pairs of descriptors that are free before a runtime is made: its own, and a few to work with.
const PAIRS: usize = 4;
/// Descriptors that a build begins with: it would begin with fewer, and fail wherever it runs out of them.
const NEEDED_BY_A_BUILD: u64 = 64;
/// A limit that leaves so many, whatever is open at the start.
const AMPLE: u64 = 1024;
/// For as long as anything runs.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// There is no runtime.
#[derive(Debug, thiserror::Error)]
#[error("cannot start: {0}")]
pub struct NoRuntime(#[source] io::Error);

impl NoRuntime {
    /// What mends it.
    pub fn hint(&self) -> &'static str {
        limit_hint(&self.0).unwrap_or("look at the limits of this process: ulimit -a")
    }
}

/// What mends an error that is a limit of this process, this user or this machine.
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

/// One that runs on this thread.
pub fn start() -> Result<Runtime, NoRuntime> {
    start_with(&mut Builder::new_current_thread())
}

/// One that runs a build, made in another way.
pub fn start_for_build(builder: &mut Builder) -> Result<Runtime, NoRuntime> {
    if descriptors_left() < NEEDED_BY_A_BUILD {
        return Err(NoRuntime(Errno::MFILE.into()));
    }
    start_with(builder)
}

/// How many more descriptors this process may open, where those are few.
fn descriptors_left() -> u64 {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < AMPLE => {
            // Each is a name there; without the list the first open that fails tells.
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            limit.saturating_sub(open as u64)
        }
        Some(_) | None => AMPLE,
    }
}

/// With a thread for what blocks that is there from the start: where no other one can be had, that waits its
/// turn.
fn start_with(builder: &mut Builder) -> Result<Runtime, NoRuntime> {
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    drop(pairs.map_err(NoRuntime)?);
    builder.enable_all().thread_keep_alive(FOR_EVER).build().map_err(NoRuntime)
}

/// Has the first thread for what blocks made now, while its absence is a failure to start and no panic.
pub fn warm(runtime: &Runtime) -> Result<(), NoRuntime> {
    // tokio does not say whether it could have one: what can be had now can be had twice.
    let probe = std::thread::Builder::new().spawn(|| ()).map_err(NoRuntime)?;
    drop(probe.join());
    drop(runtime.spawn_blocking(|| ()));
    Ok(())
}
