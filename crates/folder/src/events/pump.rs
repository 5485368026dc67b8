//! The pump: one per command, from its pipe through the masker into the log.
//!
//! The driver starts it on a thread that may block. It outlives its command: output of a background
//! child is logged as that command's until the pipe closes.
//!
//! A command's end has two parts. When its process has exited, the driver requests a drain: the
//! pump reads and logs exactly the bytes in the pipe at that moment. Only then is the command over,
//! even if another process still holds the pipe.

use crate::events::LogWriter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use runner_core::mask::{Masker, SharedSecrets};
use runner_host::clock;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Most bytes of one output event.
const CHUNK: usize = 64 << 10;
/// Pipe capacity in bytes, so that the writer continues while the pump gathers.
const PIPE: usize = 1 << 20;
/// How long a short read waits for more, in milliseconds. Otherwise a producer that flushes each
/// line would cost an event per line, and reading so eagerly would slow it down.
const GATHER_MS: u8 = 1;

/// Requested drains; `None` once the pump has ended and everything is in the log.
type Drains = Arc<Mutex<Option<Vec<oneshot::Sender<()>>>>>;

/// The driver's end of a pump.
#[derive(Debug)]
pub struct PumpHandle {
    wake: Arc<EventFd>,
    drains: Drains,
}

impl PumpHandle {
    /// Resolves when all bytes now in the pipe are in the log.
    pub async fn drain(&self) {
        let (done_tx, done_rx) = oneshot::channel();
        match &mut *lock(&self.drains) {
            Some(waiting) => waiting.push(done_tx),
            None => return,
        }
        // If the counter is full, a wake-up is already pending.
        let _ = self.wake.write(1);
        // A pump that ends has logged everything and drops the waiting senders.
        let _ = done_rx.await;
    }
}

fn lock(drains: &Drains) -> MutexGuard<'_, Option<Vec<oneshot::Sender<()>>>> {
    drains.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pump that has not started.
pub struct Pump {
    pipe: OwnedFd,
    command: u32,
    log: LogWriter,
    secrets: SharedSecrets,
    masker: Masker,
    wake: Arc<EventFd>,
    drains: Drains,
    buffer: Vec<u8>,
    filled: usize,
    /// Receives each piece of output after it is logged.
    sees: Sees,
}

/// Receives a command's masked output once it is in the log.
pub type Sees = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Why a pump woke up.
enum PumpWake {
    Drain,
    Pipe,
    Time,
}

impl Pump {
    pub fn new(
        pipe: OwnedFd,
        command: u32,
        log: LogWriter,
        secrets: SharedSecrets,
        sees: Sees,
    ) -> io::Result<(Self, PumpHandle)> {
        // Refused if the user has too many large pipes; a small one is just slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let drains: Drains = Arc::new(Mutex::new(Some(Vec::new())));
        let handle = PumpHandle { wake: Arc::clone(&wake), drains: Arc::clone(&drains) };
        let masker = Masker::new(secrets.get());
        let buffer = vec![0; CHUNK];
        let filled = 0;
        let pump = Pump { pipe, command, log, secrets, masker, wake, drains, buffer, filled, sees };
        Ok((pump, handle))
    }

    /// Runs until the pipe closes. Blocks.
    ///
    /// # Errors
    /// The log cannot be written; then the pipe is closed, and its writers notice.
    pub fn run(mut self) -> io::Result<()> {
        let result = self.pump();
        *lock(&self.drains) = None;
        result
    }

    fn pump(&mut self) -> io::Result<()> {
        loop {
            match self.wait(true, PollTimeout::NONE)? {
                PumpWake::Drain => {
                    if self.drain()? {
                        return Ok(());
                    }
                    continue;
                }
                PumpWake::Pipe | PumpWake::Time => {}
            }
            if self.read()? == 0 {
                return self.finish();
            }
            if self.filled < CHUNK {
                // Do not watch the pipe: the next line is expected and should not end the wait.
                if let PumpWake::Drain = self.wait(false, PollTimeout::from(GATHER_MS))? {
                    if self.drain()? {
                        return Ok(());
                    }
                    continue;
                }
                self.fill()?;
            }
            self.log_buffer()?;
        }
    }

    fn wait(&self, pipe: bool, timeout: PollTimeout) -> io::Result<PumpWake> {
        let mut ready = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN),
        ];
        let watched = if pipe { &mut ready[..] } else { &mut ready[..1] };
        loop {
            match poll(watched, timeout) {
                Err(nix::errno::Errno::EINTR) => {}
                Ok(0) => return Ok(PumpWake::Time),
                done => {
                    done?;
                    break;
                }
            }
        }
        if ready[0].any().unwrap_or(false) {
            self.wake.read()?;
            return Ok(PumpWake::Drain);
        }
        Ok(PumpWake::Pipe)
    }

    /// Logs exactly the bytes in the pipe now. Returns whether the stream has ended.
    fn drain(&mut self) -> io::Result<bool> {
        let waiting = lock(&self.drains).as_mut().map(std::mem::take).unwrap_or_default();
        let mut left = rustix::io::ioctl_fionread(&self.pipe)?;
        while left > 0 {
            if self.filled == CHUNK {
                self.log_buffer()?;
            }
            left = left.saturating_sub(self.read()? as u64);
        }
        self.log_buffer()?;
        let ended = self.is_closed()?;
        if ended {
            self.finish()?;
        }
        for done in waiting {
            // The driver may have stopped waiting.
            let _ = done.send(());
        }
        Ok(ended)
    }

    /// Whether the last writer is gone and the pipe is empty.
    fn is_closed(&self) -> io::Result<bool> {
        let mut ready = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO)?;
        let events = ready[0].revents().unwrap_or(PollFlags::empty());
        Ok(events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN))
    }

    /// Reads available bytes, as far as they fit, without blocking.
    fn fill(&mut self) -> io::Result<()> {
        let mut left = rustix::io::ioctl_fionread(&self.pipe)?;
        while left > 0 && self.filled < CHUNK {
            left = left.saturating_sub(self.read()? as u64);
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<usize> {
        loop {
            match nix::unistd::read(&self.pipe, &mut self.buffer[self.filled..]) {
                Err(nix::errno::Errno::EINTR) => {}
                done => {
                    let got = done?;
                    self.filled += got;
                    return Ok(got);
                }
            }
        }
    }

    fn log_buffer(&mut self) -> io::Result<()> {
        // Credentials may have been renewed since the command began.
        self.masker.renew(self.secrets.get());
        let mut masked = Vec::new();
        let shown = self.masker.push(&self.buffer[..self.filled], &mut masked);
        append(&self.log, self.command, shown)?;
        (self.sees)(shown);
        self.filled = 0;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.log_buffer()?;
        let rest = self.masker.finish();
        append(&self.log, self.command, &rest)?;
        (self.sees)(&rest);
        Ok(())
    }
}

/// Logs bytes. Text held back by the masker comes on top of a full buffer.
fn append(log: &LogWriter, command: u32, bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(CHUNK).try_for_each(|chunk| log.append_output(command, chunk, clock::wall()))
}
