//! The runtime of a program's tasks, or why there is none.
//!
//! tokio itself panics where it can have no descriptors for its signals, or no thread for what blocks. Both
//! are found out before.

use rustix::io::Errno;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Pairs of descriptors that are free before a runtime is made: its own, and a few to work with.
const PAIRS: usize = 4;
/// For as long as anything runs.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// There is no runtime.
#[derive(Debug, thiserror::Error)]
#[error("cannot start: {0}")]
pub(crate) struct NoRuntime(#[source] io::Error);

impl NoRuntime {
    /// What mends it.
    pub(crate) fn hint(&self) -> &'static str {
        match self.0.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE) => "this program may open too few files: ulimit -n 1024",
            Some(Errno::AGAIN) => {
                "this user may have no more processes and threads: see ulimit -u, and pids.max of this \
                 control group"
            }
            Some(Errno::NFILE) => "the machine has too many files open: see fs.file-max in sysctl",
            _ => "look at the limits of this process: ulimit -a",
        }
    }
}

/// One that runs on this thread.
pub(crate) fn start() -> Result<Runtime, NoRuntime> {
    start_with(&mut Builder::new_current_thread())
}

/// The same, made in another way; with a thread for what blocks that is there from the start: where no other
/// one can be had, that waits its turn.
pub(crate) fn start_with(builder: &mut Builder) -> Result<Runtime, NoRuntime> {
    let pairs: io::Result<Vec<_>> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    drop(pairs.map_err(NoRuntime)?);
    builder.enable_all().thread_keep_alive(FOR_EVER).build().map_err(NoRuntime)
}

/// Has the first thread for what blocks made now, while its absence is a failure to start and no panic.
pub(crate) fn warm(runtime: &Runtime) -> Result<(), NoRuntime> {
    // tokio does not say whether it could have one: what can be had now can be had twice.
    let probe = std::thread::Builder::new().spawn(|| ()).map_err(NoRuntime)?;
    drop(probe.join());
    drop(runtime.spawn_blocking(|| ()));
    Ok(())
}
