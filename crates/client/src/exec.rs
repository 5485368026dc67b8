//! `runner exec`: runs a program in the build with the caller's standard input, output and error.
//!
//! The response carries the program's pipes, so its bytes do not pass through the build's owner.
//! One loop, no thread and no runtime. Started by `cli`.

use super::connection::{Client, ClientError};
use super::ended::{SessionEnd, ended};
use nix::poll::{PollFd, PollFlags, poll};
use runner_host::signals::SignalReader;
use runner_host::stdio::of_output;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;
/// The wanted capacity of the program's pipes in bytes, if the machine allows it.
const PIPE: usize = 1 << 20;

/// Runs a program with our own standard input, output and error.
pub fn exec(
    mut client: Client,
    argv: Vec<String>,
    user: Option<String>,
    signals: &SignalReader,
) -> Result<SessionEnd, ClientError> {
    let open = OpenProgram { argv, user, ..OpenProgram::default() };
    match client.ask(&ControlRequest::Open(open))? {
        ControlResponse::Opened { .. } => {}
        other => return Err(other.into()),
    }
    let lost = ClientError::Lost;
    let fds: [OwnedFd; 3] = client
        .take_fds()
        .try_into()
        .map_err(|_| lost(io::Error::other("the program's pipes did not come along")))?;
    let [stdin, stdout, stderr] = fds;
    for pipe in [&stdin, &stdout] {
        // Larger pipes mean fewer context switches; smaller ones work as well.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
    }
    let mut input = InputPump::new(stdin).map_err(lost)?;
    let mut outputs =
        [OutputCopy::new(stdout, OutputStream::Out), OutputCopy::new(stderr, OutputStream::Error)];
    loop {
        let mut ready = vec![
            PollFd::new(client.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let stdin = io::stdin();
        let input_at = input.poll_fd(&stdin).map(|fd| {
            ready.push(fd);
            ready.len() - 1
        });
        let output_at = outputs.each_ref().map(|output| {
            let from = output.from.as_ref()?;
            ready.push(PollFd::new(from.as_fd(), PollFlags::POLLIN));
            Some(ready.len() - 1)
        });
        match poll(&mut ready, client.patience()?) {
            Err(nix::errno::Errno::EINTR) => continue,
            done => done.map_err(|errno| lost(errno.into()))?,
        };
        let is_ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(ready);
        for (output, at) in outputs.iter_mut().zip(output_at) {
            if at.is_some_and(|at| is_ready[at]) {
                output.move_some()?;
            }
        }
        if input_at.is_some_and(|at| is_ready[at]) {
            input.move_some(&stdin).map_err(lost)?;
        }
        if is_ready[1]
            && let Some(signal) = signals.next()
        {
            client.signal(signal as i32);
        }
        if is_ready[0]
            && let Some(frame) = client.poll_frame()?
            && !frame.as_ref().is_some_and(|body| client.is_taken(body))
        {
            let ended = ended(frame)?;
            // It wrote all this before it ended.
            for output in &mut outputs {
                output.move_rest()?;
            }
            return Ok(ended);
        }
    }
}

#[derive(Clone, Copy)]
enum OutputStream {
    Out,
    Error,
}

impl OutputStream {
    fn write(self, bytes: &[u8]) -> nix::Result<usize> {
        match self {
            OutputStream::Out => nix::unistd::write(io::stdout(), bytes),
            OutputStream::Error => nix::unistd::write(io::stderr(), bytes),
        }
    }

    fn failed(self, errno: nix::errno::Errno) -> ClientError {
        ClientError::Output(match self {
            OutputStream::Out => of_output(errno.into()),
            OutputStream::Error => {
                io::Error::other(format!("cannot write to standard error: {errno}"))
            }
        })
    }

    /// Closes the stream for its reader while this program still runs.
    fn end(self) -> io::Result<()> {
        let nothing = std::fs::File::options().write(true).open("/dev/null")?;
        match self {
            OutputStream::Out => rustix::stdio::dup2_stdout(nothing)?,
            // Standard error stays open for messages.
            OutputStream::Error => {}
        }
        Ok(())
    }
}

/// One of the program's outputs and its target.
struct OutputCopy {
    from: Option<OwnedFd>,
    to: OutputStream,
    buffer: Vec<u8>,
}

impl OutputCopy {
    fn new(from: OwnedFd, to: OutputStream) -> Self {
        OutputCopy { from: Some(from), to, buffer: vec![0; CHUNK] }
    }

    fn move_some(&mut self) -> Result<usize, ClientError> {
        let Some(from) = &self.from else { return Ok(0) };
        let got = match nix::unistd::read(from, &mut self.buffer) {
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => return Ok(0),
            done => done.map_err(|errno| ClientError::Lost(errno.into()))?,
        };
        let mut rest = &self.buffer[..got];
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(nix::errno::Errno::EINTR) => {}
                // Our reader is gone; the program learns it from a closed pipe as well.
                Err(nix::errno::Errno::EPIPE) => {
                    self.from = None;
                    return Ok(got);
                }
                Err(errno) => return Err(self.to.failed(errno)),
            }
        }
        if got == 0 {
            self.from = None;
            self.to.end().map_err(ClientError::Lost)?;
        }
        Ok(got)
    }

    /// Moves what is left now; other processes may still write more.
    fn move_rest(&mut self) -> Result<(), ClientError> {
        let Some(from) = &self.from else { return Ok(()) };
        let mut left = rustix::io::ioctl_fionread(from).map_err(|e| ClientError::Lost(e.into()))?;
        while left > 0 && self.from.is_some() {
            left = left.saturating_sub(self.move_some()? as u64);
        }
        Ok(())
    }
}

/// Our input on its way to the program in the build.
struct InputPump {
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// The part of the buffer that is read but not yet written.
    pending: std::ops::Range<usize>,
    is_over: bool,
}

impl InputPump {
    fn new(to: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&to, true)?;
        Ok(InputPump { to: Some(to), buffer: vec![0; CHUNK], pending: 0..0, is_over: false })
    }

    fn poll_fd<'a>(&'a self, stdin: &'a io::Stdin) -> Option<PollFd<'a>> {
        let to = self.to.as_ref()?;
        Some(if self.pending.is_empty() {
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN)
        } else {
            PollFd::new(to.as_fd(), PollFlags::POLLOUT)
        })
    }

    fn move_some(&mut self, stdin: &io::Stdin) -> io::Result<()> {
        if self.pending.is_empty() {
            match nix::unistd::read(stdin, &mut self.buffer) {
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => return Ok(()),
                // A terminal that is gone, or that this program may not read, is the end of input.
                Err(_) | Ok(0) => self.is_over = true,
                Ok(got) => self.pending = 0..got,
            }
        }
        if let Some(to) = &self.to
            && !self.pending.is_empty()
        {
            match nix::unistd::write(to, &self.buffer[self.pending.clone()]) {
                Ok(written) => self.pending.start += written,
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                // The program reads no more.
                Err(_) => {
                    self.pending = 0..0;
                    self.is_over = true;
                }
            }
        }
        if self.is_over && self.pending.is_empty() {
            self.to = None;
        }
        Ok(())
    }
}
