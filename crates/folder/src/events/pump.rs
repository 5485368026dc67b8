//! The pump: one for each command, from its pipe through the masker into the log.
//!
//! Started by the driver on a thread that may wait. It outlives its command: what a background
//! child writes later is logged as that command's output until the pipe closes.
//!
//! A command's end is two facts. When its process has exited, the driver asks for a drain: exactly
//! what lies in the pipe at that moment is read and logged, and only then is the command over,
//! the process that still holds the pipe.

use crate::events::LogWriter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use runner_core::mask::{Masker, SharedSecrets};
use runner_host::clock;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Bytes an output event holds at most.
const CHUNK: usize = 64 << 10;
/// Bytes a pipe holds, so that its writer goes on while the pump gathers.
const PIPE: usize = 1 << 20;
/// How long a short read waits for more, in milliseconds. A producer that flushes each line would
/// otherwise cost an event a line, and be slowed by being read so eagerly.
const GATHER_MS: u8 = 1;

/// Drains asked for; `None` once the pump has ended and everything is in the log.
type Drains = Arc<Mutex<Option<Vec<oneshot::Sender<()>>>>>;

/// The driver's end of a pump.
#[derive(Debug)]
pub struct PumpHandle {
    wake: Arc<EventFd>,
    drains: Drains,
}

impl PumpHandle {
    /// Resolves when all that is in the pipe now is in the log.
    pub async fn drain(&self) {
        let (done_tx, done_rx) = oneshot::channel();
        match &mut *lock(&self.drains) {
            Some(waiting) => waiting.push(done_tx),
            None => return,
        }
        // Its counter being full would mean that a wake-up is under way already.
        let _ = self.wake.write(1);
        // A pump that ends has logged everything, and drops what waits.
        let _ = done_rx.await;
    }
}

fn lock(drains: &Drains) -> MutexGuard<'_, Option<Vec<oneshot::Sender<()>>>> {
    drains.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pump that does not run yet.
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
    /// Sees what has been logged.
    sees: Sees,
}

/// Sees what a command has written, masked, once it is in the log.
pub type Sees = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What a pump has been woken by.
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
        // Refused where the user has too many large pipes; a small one only is slower.
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
    /// An error means that the log cannot be written any more; the pipe is closed then, and what
    /// writes to it learns so.
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
                // Not looking at the pipe: the next line is what is waited for, not what should
                // end the wait.
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

    /// Logs what lies in the pipe now, and no more; whether that was the end of the stream.
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
            // A driver that no longer waits does not need to know.
            let _ = done.send(());
        }
        Ok(ended)
    }

    /// Whether the last writer is gone and nothing is left to read.
    fn is_closed(&self) -> io::Result<bool> {
        let mut ready = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO)?;
        let events = ready[0].revents().unwrap_or(PollFlags::empty());
        Ok(events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN))
    }

    /// Reads, as far as there is room, what is there without waiting.
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

/// Logs bytes. What was held back comes on top of a full buffer.
fn append(log: &LogWriter, command: u32, bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(CHUNK).try_for_each(|chunk| log.append_output(command, chunk, clock::wall()))
}
