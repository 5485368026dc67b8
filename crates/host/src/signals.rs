//! Signals of this program: which ones it heeds, and how they are read.
//!
//! What was ignored when the program started stays ignored (`nohup runner run`). All others that a verb
//! asks for are blocked in every thread and arrive as something to read; children begin without the
//! block, as the standard library and `sandbox` start them.

use crate::duplex::watched;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Signals by which somebody wants the program to end.
pub const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// The same for a program that has more to do than to end.
pub const STOPS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Bits of those that were ignored at the start: the first signal is the lowest.
static IGNORED: LazyLock<u64> = LazyLock::new(|| {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
});

/// Those of them that are not ignored.
fn heeded(signals: &[Signal]) -> SigSet {
    let is_heeded = |signal: &Signal| *IGNORED & (1 << (*signal as i32 - 1)) == 0;
    signals.iter().copied().filter(is_heeded).collect()
}

/// Signals that arrive as something to read.
#[derive(Debug)]
pub struct SignalReader(SignalFd);

impl SignalReader {
    /// Has these arrive here, if they are heeded at all. Before any thread starts: it blocks them in this
    /// one and in all it will start.
    pub fn listen(signals: &[Signal]) -> io::Result<Self> {
        let set = heeded(signals);
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(SignalReader(SignalFd::with_flags(&set, flags)?))
    }

    /// The next signal, if one is there.
    pub fn next(&self) -> Option<Signal> {
        self.next_sent().map(|(signal, _)| signal)
    }

    /// The same, and whether the terminal sends it, which does so to every program at work there.
    pub fn next_sent(&self) -> Option<(Signal, bool)> {
        /// The code of what the kernel itself sends.
        const BY_KERNEL: i32 = 0x80;
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        Some((signal, info.ssi_code == BY_KERNEL))
    }

    /// Resolves with each signal. Called in a runtime.
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

/// Signals, for tasks.
#[derive(Debug)]
pub struct SignalStream {
    signals: SignalReader,
    ready: AsyncFd<OwnedFd>,
}

impl SignalStream {
    /// The next signal. Nothing is lost where the wait is given up.
    pub async fn next(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.signals.next() {
                return signal;
            }
            match self.ready.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime ends.
                Err(_) => std::future::pending().await,
            }
        }
    }
}
