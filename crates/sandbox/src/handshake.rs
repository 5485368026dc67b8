//! Messages between the two halves of a start: the spec one way, at most one failure back.
//!
//! Used by `parent` and `child`. Success is silence: the child's end closes when it becomes PID 1,
//! which then says hello on its own socket.
#![forbid(unsafe_code)]

use crate::spec::SandboxSpec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// First argument when the runner executes itself to set up a container.
pub const REEXEC_ARG: &str = "__init";
/// First argument when it executes itself for a chore with a container's users.
pub const CHORE_ARG: &str = "__chore";

/// First argument when it executes itself to give a container's overlays new upper layers.
pub const RESTACK_ARG: &str = "__restack";

/// A failed step of a set-up.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("cannot {what}: {}", io::Error::from_raw_os_error(*errno))]
pub struct SandboxSetupError {
    /// The kind of step, for the hint and for trying another way.
    pub step: SetupStep,
    /// The action, with its path.
    pub what: String,
    /// The kernel's reason.
    pub errno: i32,
}

/// Kinds of steps that need different advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupStep {
    /// Making or entering namespaces.
    Namespaces,
    /// Using a directory as an overlay's upper layer; another file system may work.
    Layer,
    /// Reading files of the host or the image.
    Source,
    /// Mounting, creating or writing anything else in the new root.
    Root,
    /// Dropping rights or executing PID 1.
    Confine,
}

impl SandboxSetupError {
    pub(crate) fn new(step: SetupStep, what: impl Into<String>, error: &io::Error) -> Self {
        // Errors made by std carry no errno; no better one is available.
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        SandboxSetupError { step, what: what.into(), errno }
    }
}

/// For `map_err`: makes the error of a step on a path.
pub(crate) fn failing<'a>(
    step: SetupStep,
    doing: &'a str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> SandboxSetupError + 'a {
    move |error| SandboxSetupError::new(step, format!("{doing} {}", path.display()), &error)
}

/// One end of the connection.
pub(crate) struct SetupChannel(UnixStream);

impl SetupChannel {
    pub(crate) fn pair() -> io::Result<(SetupChannel, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((SetupChannel(ours), theirs.into()))
    }

    pub(crate) fn new(fd: OwnedFd) -> Self {
        SetupChannel(fd.into())
    }

    /// Fails where the other end takes or gives nothing for so long.
    pub(crate) fn set_deadline(&self, time: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(time))?;
        self.0.set_write_timeout(Some(time))
    }

    /// Waits until a child reaches [`crate::sys::NewProcess::gate`]; only then may its maps be
    /// written.
    pub(crate) fn wait_for_gate(&mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }

    /// Lets a child waiting at [`crate::sys::NewProcess::gate`] go on.
    pub(crate) fn open_gate(&mut self) -> io::Result<()> {
        self.0.write_all(&[0])
    }

    /// `handed` are the paths of the directories passed as descriptors.
    pub(crate) fn send_spec(&mut self, spec: &SandboxSpec, handed: &[PathBuf]) -> io::Result<()> {
        self.send(&(spec, handed))
    }

    /// `None` if the parent is gone.
    pub(crate) fn receive_spec(&mut self) -> io::Result<Option<(SandboxSpec, Vec<PathBuf>)>> {
        self.receive()
    }

    pub(crate) fn send_failure(&mut self, failure: &SandboxSetupError) -> io::Result<()> {
        self.send(failure)
    }

    /// `None` if the child has become PID 1 or died silently.
    pub(crate) fn receive_failure(&mut self) -> io::Result<Option<SandboxSetupError>> {
        self.receive()
    }

    pub(crate) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&text)
    }

    /// `None` if the other end is closed.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            done => done?,
        }
        let mut text = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }
}
