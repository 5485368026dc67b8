//! The signals that this program handles, and how it reads them.
//!
//! A signal ignored at the start stays ignored (`nohup runner run`). All others that a verb asks
//! for are blocked in every thread and read from a descriptor. Children start with them unblocked,
//! because the standard library and `sandbox` start them that way.

use crate::duplex::watched;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Signals that ask the program to end.
pub const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// The same without SIGQUIT, for a program that must shut down cleanly.
pub const STOPS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Bits of the signals ignored at the start: the lowest bit is signal 1.
static IGNORED: LazyLock<u64> = LazyLock::new(|| {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
});

/// Stops this program by the default action of SIGTSTP, which must be blocked. Returns when the
/// program is continued, or at once in an orphaned process group: no shell could continue it there,
/// and the kernel leaves the action out.
pub fn suspend() -> io::Result<()> {
    let stop = SigSet::from(Signal::SIGTSTP);
    raise(Signal::SIGTSTP)?;
    stop.thread_unblock()?;
    Ok(stop.thread_block()?)
}

/// The given signals that are not ignored.
fn heeded(signals: &[Signal]) -> SigSet {
    let is_heeded = |signal: &Signal| *IGNORED & (1 << (*signal as i32 - 1)) == 0;
    signals.iter().copied().filter(is_heeded).collect()
}

/// Reads signals from a descriptor.
#[derive(Debug)]
pub struct SignalReader(SignalFd);

impl SignalReader {
    /// Routes these signals here unless they are ignored. Call it before any thread starts: it
    /// blocks them in this thread and in all that it starts.
    pub fn listen(signals: &[Signal]) -> io::Result<Self> {
        let set = heeded(signals);
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(SignalReader(SignalFd::with_flags(&set, flags)?))
    }

    /// The next pending signal.
    pub fn next(&self) -> Option<Signal> {
        self.next_sent().map(|(signal, _)| signal)
    }

    /// The same, and whether the terminal sent it, which it does to every foreground program.
    pub fn next_sent(&self) -> Option<(Signal, bool)> {
        /// `si_code` of signals that the kernel itself sends.
        const BY_KERNEL: i32 = 0x80;
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        Some((signal, info.ssi_code == BY_KERNEL))
    }

    /// A stream of the signals. Call it in a runtime.
    pub fn stream(self) -> io::Result<SignalStream> {
        let ready = watched(self.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(SignalStream { signals: self, ready })
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Signals for tasks.
#[derive(Debug)]
pub struct SignalStream {
    signals: SignalReader,
    ready: AsyncFd<OwnedFd>,
}

impl SignalStream {
    /// The next signal. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.signals.next() {
                return signal;
            }
            match self.ready.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is ending.
                Err(_) => std::future::pending().await,
            }
        }
    }
}
