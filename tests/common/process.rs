//! A process whose output can be waited for.

use super::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex};

/// A process, killed on drop.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
}

/// A process's output so far.
#[derive(Clone, Default)]
pub(crate) struct Stream(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Stream {
    /// Collects everything read from `from`.
    pub(crate) fn gather(mut from: impl Read + Send + 'static) -> Self {
        let stream = Stream::default();
        let shared = stream.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                // A terminal whose last writer has closed it ends with an error.
                let got = from.read(&mut buffer).unwrap_or(0);
                let (state, changed) = &*shared.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..got]);
                state.is_over = got == 0;
                changed.notify_all();
                if got == 0 {
                    return;
                }
            }
        });
        stream
    }

    /// Waits until `done` is true for the whole output.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut(&[u8]) -> bool) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, timeout) = changed
            .wait_timeout_while(state, PATIENCE, |state| !done(&state.bytes) && !state.is_over)
            .unwrap();
        let text = String::from_utf8_lossy(&state.bytes);
        assert!(!timeout.timed_out(), "waited in vain for {what}; so far:\n{text}");
        assert!(done(&state.bytes), "ended before {what}:\n{text}");
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_until(text, |bytes| String::from_utf8_lossy(bytes).contains(text));
    }

    /// Waits for a number after this text, and for a character that ends it.
    #[track_caller]
    pub(crate) fn number_after<T: FromStr>(&self, before: &str) -> T {
        let mut found = None;
        self.wait_until(before, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            // The text alone may appear earlier, in the text of a command.
            found = text.split(before).skip(1).find_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_digit())?;
                rest[..end].parse().ok()
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for the end of the stream. Returns all output.
    #[track_caller]
    pub(crate) fn wait_for_end(&self) -> Vec<u8> {
        let (state, changed) = &*self.0;
        let (state, timeout) = changed
            .wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| !state.is_over)
            .unwrap();
        assert!(!timeout.timed_out(), "does not end");
        state.bytes.clone()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl Running {
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self::spawn_from(&mut command)
    }

    pub(crate) fn spawn_from(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Stream::gather(child.stdout.take().unwrap());
        let stderr = Stream::gather(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until the process and its output have ended. Returns the exit code, or 128 plus the
    /// signal.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        let status = self.child.wait().unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Waits for its end by a signal. Returns whether the kernel has written a core file.
    #[track_caller]
    pub(crate) fn dumps_core(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.stderr.wait_for_end();
        let status = self.child.wait().unwrap();
        assert!(status.signal().is_some(), "{status}");
        status.core_dumped()
    }

    /// Waits and checks the exit code.
    #[track_caller]
    pub(crate) fn ends(mut self, wanted: i32) {
        let code = self.wait();
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        assert_eq!(code, wanted, "stdout:\n{stdout}\nstderr:\n{stderr}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In every test that passes it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
