//! A process on a new terminal whose screen can be read.

use super::process::Stream;
use pty_process::Size;
use pty_process::blocking::Pty;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::Arc;

/// A process on a terminal, killed on drop.
pub(crate) struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    pub(crate) stream: Stream,
}

struct Reader(Arc<Pty>);

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Terminal {
    pub(crate) fn spawn(command: Command, rows: u16, cols: u16) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(Size::new(rows, cols)).unwrap();
        let null = command;
        // The bed's commands have no input; here they read the terminal.
        let mut inherited = Command::new(null.get_program());
        inherited.args(null.get_args()).env_clear();
        inherited.envs(null.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = null.get_current_dir() {
            inherited.current_dir(dir);
        }
        let child = pty_process::blocking::Command::from(inherited).spawn(pts).unwrap();
        let pty = Arc::new(pty);
        let stream = Stream::gather(Reader(Arc::clone(&pty)));
        Terminal { child, pty, stream }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, cols: u16) {
        self.pty.resize(Size::new(rows, cols)).unwrap();
    }

    /// Whether input is echoed and line-edited: the mode a shell's user expects.
    pub(crate) fn is_cooked(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let mode = tcgetattr(&*self.pty).unwrap();
        mode.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.stream.wait_for(text);
    }

    /// Waits for text after the last occurrence of `after`.
    #[track_caller]
    pub(crate) fn wait_for_after(&self, after: &str, text: &str) {
        self.stream.wait_until(text, |bytes| {
            let all = String::from_utf8_lossy(bytes);
            all.rfind(after).is_some_and(|at| all[at + after.len()..].contains(text))
        });
    }

    /// Waits for its end. Returns its exit code.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.stream.wait_for_end();
        let status = self.child.wait().unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    #[track_caller]
    pub(crate) fn ends(mut self, wanted: i32) -> String {
        let code = self.wait();
        assert_eq!(code, wanted, "{}", self.stream.text());
        self.stream.text()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // In every test that passes it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A terminal's screen after these bytes.
pub(crate) fn screen_of(bytes: &[u8], rows: u16, cols: u16) -> String {
    let mut parser = vt100::Parser::new(rows.try_into().unwrap(), cols.try_into().unwrap(), 0);
    parser.process(bytes);
    parser.screen().contents()
}
