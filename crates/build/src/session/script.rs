//! Runs a script for a client: puts it in a file in the container, and masks its output.
//!
//! Started by `hub`. It is not a session: nobody is connected, so it delays neither the end of the
//! build nor the end of a pause. Its output passes through here, since the client stores it.

use super::guests::{Closing, STOPPING};
use super::program::{ProgramEnding, SessionControls};
use super::refusal::SessionOpenError;
use runner_core::mask::{Masker, SharedSecrets};
use runner_engine::files::{FilesProgram, FilesProgramError};
use runner_engine::{Container, ExecError, ProgramEnds, StartedProgram};
use runner_host::duplex::Duplex;
use runner_wire::abi::stage;
use runner_wire::control::Script;
use runner_wire::files::{FileFacts, NewFile, Reply, root};
use runner_wire::init::Exit;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long output is read after the script's end if processes it left keep it open.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;
/// Name of the script file.
const NAME: &str = "_script.sh";
/// A regular file that its owner may read, write and execute.
const MODE: u32 = 0o100_700;

/// Directory for scripts, as the container sees it.
fn place(container: &dyn Container) -> Vec<u8> {
    // The runner's read-only directory lies in the same parent.
    let programs = container.programs();
    let top = programs.ancestors().nth(2).unwrap_or(&programs);
    top.join(".ssm").as_os_str().as_bytes().to_vec()
}

/// A script's file. Removed on drop, or with the container.
pub(super) struct ScriptFile(Option<Placed>);

/// The program that writes and removes the file, and the path.
struct Placed {
    files: FilesProgram,
    place: Vec<u8>,
    /// Below that place.
    folder: String,
}

impl ScriptFile {
    /// Puts a script in the container.
    pub(super) async fn put(
        container: &dyn Container,
        script: &Script,
    ) -> Result<Self, SessionOpenError> {
        for name in [&script.command, &script.step] {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(is_part) {
                return Err(SessionOpenError::ours("a script's names are a-z A-Z 0-9 _ . -"));
            }
        }
        let failed = |error: FilesProgramError| {
            SessionOpenError::ours(format!("cannot put the script into the container: {error}"))
        };
        let files = FilesProgram::start(container).await.map_err(failed)?;
        let folder = format!("{}/{}", script.command, script.step);
        let placed = Placed { files, place: place(container), folder };
        let text = script.text.clone();
        let put = tokio::task::spawn_blocking(move || {
            let mut file = ScriptFile(Some(placed));
            if let Some(placed) = &mut file.0 {
                placed.write(text.as_bytes())?;
            }
            Ok(file)
        });
        put.await.unwrap_or(Err(FilesProgramError::Ended)).map_err(failed)
    }

    /// Path in the container.
    pub(super) fn path(&self) -> String {
        match &self.0 {
            Some(Placed { place, folder, .. }) => {
                format!("{}/{folder}/{NAME}", String::from_utf8_lossy(place))
            }
            None => String::new(),
        }
    }

    /// Removes the file; resolves when it is gone.
    pub(super) async fn remove(mut self) {
        if let Some(placed) = self.0.take() {
            let _ = tokio::task::spawn_blocking(move || placed.remove()).await;
        }
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        // If this program is exiting, the container is going away too.
        if let (Some(placed), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn_blocking(move || placed.remove());
        }
    }
}

impl Placed {
    fn write(&mut self, text: &[u8]) -> Result<(), FilesProgramError> {
        let at = [self.place.as_slice(), b"/", self.folder.as_bytes()].concat();
        let facts = FileFacts { mode: MODE, size: text.len() as u64, ..FileFacts::default() };
        let requests = &mut self.files.requests;
        requests.root(&at, root::CREATE)?;
        requests.make(&NewFile { flags: 0, facts }, NAME.as_bytes(), b"")?;
        requests.data(text)?;
        requests.end()?;
        self.settle()
    }

    /// Waits until all requests are done.
    fn settle(&mut self) -> Result<(), FilesProgramError> {
        self.files.requests.sync()?;
        let mut failed = None;
        loop {
            match self.files.replies.read()? {
                Some(Reply::Sync) => break,
                Some(Reply::Failed(what)) => {
                    failed.get_or_insert(FilesProgramError::Failed(what.into()));
                }
                Some(_) => {}
                None => return Err(FilesProgramError::Ended),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes the file and its folders. Anything else in them belongs to the build.
    fn remove(mut self) {
        let mut remove = || {
            let script = format!("{}/{NAME}", self.folder);
            let folder = self.folder.clone();
            let command = folder.split('/').next().unwrap_or_default();
            self.files.requests.root(&self.place, 0)?;
            for path in [&*script, &*folder, command] {
                self.files.requests.remove(path.as_bytes())?;
            }
            self.settle()
        };
        if let Err(error) = remove() {
            tracing::debug!(%error, "a script's file stays in the container");
        }
    }
}

/// A running script.
pub struct ScriptCourse {
    exit: oneshot::Receiver<Result<Exit, ExecError>>,
    outputs: Vec<JoinHandle<bool>>,
    cut: watch::Sender<bool>,
    file: ScriptFile,
    /// For messages.
    directory: String,
    closing: watch::Receiver<Option<Closing>>,
}

/// A running script, with the descriptors and controls for the client.
pub(super) struct RunningScript {
    pub(super) ends: Vec<OwnedFd>,
    pub(super) controls: SessionControls,
    pub(super) course: ScriptCourse,
}

impl ScriptCourse {
    /// Connects the script's output.
    pub(super) fn connect(
        process: StartedProgram,
        file: ScriptFile,
        directory: String,
        secrets: &SharedSecrets,
        closing: watch::Receiver<Option<Closing>>,
    ) -> io::Result<RunningScript> {
        let ProgramEnds::Separate([input, output, errors]) = process.ends else {
            return Err(io::Error::other("the script's pipes did not come along"));
        };
        // The script reads the end of input at once.
        drop(input);
        let (cut, cut_rx) = watch::channel(false);
        let (mut ends, mut outputs) = (Vec::new(), Vec::new());
        for from in [output, errors] {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let (from, to) = (Duplex::new(from)?, Duplex::new(write)?);
            outputs.push(tokio::spawn(carry(from, to, secrets.clone(), cut_rx.clone())));
            ends.push(read);
        }
        let controls = SessionControls::of(process.signals);
        let course = ScriptCourse { exit: process.exit, outputs, cut, file, directory, closing };
        Ok(RunningScript { ends, controls, course })
    }

    /// Resolves when the script has ended and the client has received, or can read, all its output.
    pub async fn end(self) -> ProgramEnding {
        let exit = self.exit.await.unwrap_or(Err(ExecError::ContainerGone));
        let all = async {
            let mut is_cut = false;
            for output in self.outputs {
                is_cut |= output.await.unwrap_or(false);
            }
            is_cut
        };
        let mut all = std::pin::pin!(all);
        let is_cut = match tokio::time::timeout(AFTERWARDS, &mut all).await {
            Ok(is_cut) => is_cut,
            Err(_) => {
                let _ = self.cut.send(true);
                all.await
            }
        };
        // A kill caused by the end of the build counts as the build's end.
        let is_killed = |exit: &Exit| exit.shell_code() > 128 && self.closing.borrow().is_some();
        match exit {
            Ok(exit) if !is_killed(&exit) => {
                self.file.remove().await;
                ProgramEnding::Ran { code: exit.shell_code(), is_cut }
            }
            Ok(_) | Err(ExecError::ContainerGone) => {
                let newest = self.closing.borrow().clone();
                let message = newest.map(|closing| closing.message);
                // The build is no longer being stopped: it has ended.
                let message = message.filter(|message| message != STOPPING);
                ProgramEnding::Closed {
                    message: message.unwrap_or_else(|| "the build has ended".to_owned()),
                }
            }
            Err(error) => {
                self.file.remove().await;
                let refused = refused(&error, &self.directory);
                ProgramEnding::Failed { code: refused.code, message: refused.message }
            }
        }
    }
}

/// The error of a script that was not started.
pub(super) fn refused(error: &ExecError, directory: &str) -> SessionOpenError {
    if error.is_missing_program() {
        return SessionOpenError { code: 127, message: "this image has no /bin/sh".to_owned() };
    }
    let message = match error {
        ExecError::Refused { stage: stage::CHDIR, errno, .. } => {
            match rustix::io::Errno::from_raw_os_error(*errno) {
                rustix::io::Errno::NOENT => {
                    format!("workingDirectory {directory} does not exist in the container")
                }
                errno => format!("workingDirectory {directory} cannot be entered: {errno}"),
            }
        }
        error => format!("sh: {error}"),
    };
    SessionOpenError { code: 1, message }
}

/// Forwards one output, masked, until it ends or is cut. Returns whether it was cut.
async fn carry(
    from: Duplex,
    to: Duplex,
    secrets: SharedSecrets,
    mut cut: watch::Receiver<bool>,
) -> bool {
    let mut masker = Masker::new(secrets.get());
    let (mut space, mut masked) = (vec![0; CHUNK], Vec::new());
    let is_cut = loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut space) => read,
            _ = cut.wait_for(|is| *is) => break true,
        };
        let Ok(got @ 1..) = read else { break false };
        // Credentials may have been renewed since the script began.
        masker.renew(secrets.get());
        if to.write_all(masker.push(&space[..got], &mut masked)).await.is_err() {
            // Nobody reads it any more.
            return false;
        }
        // Endless output is cut as well.
        if *cut.borrow() {
            break true;
        }
    };
    let _ = to.write_all(&masker.finish()).await;
    is_cut
}
