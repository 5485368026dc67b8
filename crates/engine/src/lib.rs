//! Engines, which run builds: the interface that the driver uses.
//!
//! An [`Engine`] makes a [`Container`]; a container starts programs and opens files for the host. A
//! build's command, a session's shell and a one-off command all use [`Container::exec`], so any
//! engine that can run builds can also be debugged. Futures are boxed because both traits are used
//! through `dyn`.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod chores;
pub mod docker;
pub mod image;

mod auto;
mod cached;
mod container;
pub mod daemon;
pub mod dial;
pub mod files;
mod freezing;
pub mod home_tools;
pub mod host_image;
mod init;
pub mod kept;
mod kind;
pub mod leftover;
mod limits;
pub mod namespaces;
mod note;
pub mod pasta;
mod process;
mod relay;
pub mod toolbox;
pub mod tree;
pub mod unseen;
pub mod users;
mod written;

use crate::image::{Image, ImageConfig, ImageError};
pub use cached::CachedTrees;
use kept::KeptLayer;
pub use kind::{EngineKind, EngineParts, SERVICES, Traits};
use leftover::LeftoverContainer;
pub use limits::{mend as limits_mend, what_was_in_the_way};
use nix::errno::Errno;
pub use note::EngineNote;
use runner_core::phase::StatusCode;
use runner_sandbox::{GroupPlan, LayerMerge, Living, Pressure, ResourceLimits, Toolbox};
use runner_wire::init::{Exit, Listener};
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;
use unseen::Unseen;

/// Called with the container, or with its future place, before anything runs in it.
pub type Recorder = Arc<dyn Fn(&LeftoverContainer) -> io::Result<()> + Send + Sync>;
/// Called with notes about the container for the user.
pub type Teller = Arc<dyn Fn(EngineNote) + Send + Sync>;

/// Where a container sees the folder with our programs and sockets.
const READONLY: &str = "/codebuild/readonly";

pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes containers.
pub trait Engine: Send + Sync {
    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>>;

    /// Tells the engine that nobody waits for the container any more, so that it stops slow work.
    fn give_up(&self) {}
}

/// A running container.
pub trait Container: Send + Sync {
    /// Starts a program.
    fn exec(&self, spec: ExecSpec) -> Fut<'_, Result<StartedProgram, ExecError>>;

    /// Opens a file in the container: the host itself never resolves a path in there. Does not
    /// follow a symbolic link at the end of `path`, and opens only regular files and directories.
    fn open(&self, path: &Path, mode: OpenMode) -> Fut<'_, io::Result<OwnedFd>>;

    /// Connects to a listener in the container and returns the socket. [`dial::dial`] also takes
    /// names and several addresses.
    fn dial(&self, listener: &Listener) -> Fut<'_, io::Result<OwnedFd>>;

    /// Listens in the container's network and returns the socket. Only for a container on this
    /// machine.
    fn listen(&self, at: SocketAddr) -> Fut<'_, io::Result<OwnedFd>>;

    /// Directory of our own programs, as the container sees it.
    fn programs(&self) -> PathBuf;

    /// Name of the engine that made it, as in `--engine`.
    fn engine(&self) -> &'static str;

    /// Its image: a digest, or the daemon's name for it. `None` if the container was made from this
    /// machine or a directory.
    fn image(&self) -> Option<&str>;

    /// Its image's config.
    fn image_config(&self) -> &ImageConfig;

    /// Whether sessions have a toolbox.
    fn has_toolbox(&self) -> bool {
        false
    }

    /// Whether [`ContainerSpec::cached`] is part of it.
    fn has_cache(&self) -> bool {
        false
    }

    /// Whether a cache could be part of another container like this one.
    fn can_hold(&self, _: &CachedTrees) -> bool {
        false
    }

    /// Whether root is its only user.
    fn has_one_user(&self) -> bool;

    /// Whether anyone besides the build can see its files.
    fn is_shared(&self) -> bool;

    /// How often it has hit its limits so far; always zero if none are enforced.
    fn pressure(&self) -> Fut<'_, Pressure> {
        Box::pin(async { Pressure::default() })
    }

    /// Bytes of memory it uses, if a control group counts them.
    fn memory(&self) -> Option<u64>;

    /// The build's layer, if it can be kept and put back, or a short reason why not.
    fn layer(&self) -> Result<Arc<KeptLayer>, String> {
        Err(format!(
            "the engine `{}` cannot save what a build has written; `--engine namespaces` can",
            self.engine()
        ))
    }

    /// Has these overlays of the layer go on in generation `number`, for which [`KeptLayer::save`]
    /// has made directories, if nobody lives in it but its first process; the layer then. What was
    /// merged takes the place of its parts.
    fn seal(
        &self,
        _number: u32,
        _names: Vec<String>,
        _merges: Vec<LayerMerge>,
    ) -> Fut<'_, Result<Arc<KeptLayer>, NotSealed>> {
        Box::pin(async { Err(NotSealed::intact("this engine cannot do that")) })
    }

    /// Processes in the container besides the first.
    fn living(&self) -> Fut<'_, Vec<Living>> {
        Box::pin(async { Vec::new() })
    }

    /// Sends a signal to every process but PID 1; resolves when none is left.
    fn signal_all(&self, signal: i32) -> Fut<'_, ()>;

    /// Freezes the processes of programs with [`ExecSpec::of_build`] if they cannot notice it.
    /// Returns whether it did.
    fn freeze_unnoticed(&self) -> Fut<'_, bool> {
        Box::pin(async { false })
    }

    /// Stops programs with [`ExecSpec::of_build`] and everything they started.
    fn freeze(&self) -> Fut<'_, Result<FreezeKind, ExecError>>;

    /// Lets those processes go on.
    fn thaw(&self) -> Fut<'_, ()>;

    /// Kills its first process without asking it, and so everything in it: for a container that
    /// does not answer. The call itself does all that needs no waiting.
    fn kill(&self) -> Fut<'_, ()>;

    /// Whether its first process answers a request that needs no work.
    fn answers(&self) -> Fut<'_, bool>;

    /// Resolves when the container has ended by itself.
    fn ended(&self) -> Fut<'_, ()>;

    /// Ends the container and everything in it.
    fn stop(&self) -> Fut<'_, ()>;
}

/// Why a layer was not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSealed {
    pub why: String,
    /// Whether the container is unchanged. Otherwise it must not be trusted.
    pub is_intact: bool,
}

impl NotSealed {
    fn intact(why: impl Into<String>) -> Self {
        NotSealed { why: why.into(), is_intact: true }
    }
}

/// How the build's processes were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeKind {
    /// By the kernel, unnoticeably.
    Unnoticed,
    /// By SIGSTOP.
    Signalled,
}

/// The properties of a container to make.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub hostname: String,
    pub image: Image,
    /// The build's sources, the primary one first.
    pub sources: Vec<SourceMount>,
    /// Directory of the host, read-only at /codebuild/readonly.
    pub readonly: PathBuf,
    pub mounts: Vec<UserMount>,
    /// A cache to lay into it, if the engine can.
    pub cached: Option<CachedTrees>,
    /// Places for the layer, the first choice first.
    pub layers: Vec<PathBuf>,
    /// The layer of an earlier container, to continue with.
    pub kept: Option<Arc<KeptLayer>>,
    /// Parts of the host hidden from the container, wherever they are: our own state.
    pub unseen: Unseen,
    /// Limits on the machine's resources. One that cannot be enforced is a warning, not a failure.
    pub limits: ResourceLimits,
    /// Control groups for our own engines, if any; checked and recorded before they are made.
    pub groups: Option<GroupPlan>,
    pub network: NetworkAccess,
    /// Additional host names with their addresses.
    pub hosts: Vec<(Ipv4Addr, String)>,
    /// A port of the host's loopback that the build can reach even from a separate network.
    pub loopback_port: Option<u16>,
    /// Whether to give it the rights that a Docker daemon needs.
    pub privileged: bool,
    /// Programs for sessions.
    pub toolbox: Option<Toolbox>,
}

/// `--network`: what a build can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAccess {
    /// Everything that this machine can reach, including its loopback.
    Host,
    /// Only its own loopback.
    None,
    /// The outside, from a separate network; nothing on this machine's loopback.
    Pasta,
}

/// A source of the build.
#[derive(Clone, Debug)]
pub struct SourceMount {
    /// A directory of the host.
    pub dir: PathBuf,
    /// Where the build sees it.
    pub target: PathBuf,
    /// Directories of the host that source control also needs, mounted at the same path.
    pub extras: Vec<PathBuf>,
    /// Files in these or in the source whose text is replaced in the container; paths are relative
    /// to `target`.
    pub files: Vec<(PathBuf, String)>,
}

/// `--mount SRC:DST[:rw|:cow]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserMount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub access: MountAccess,
    /// Paths below a source of [`MountAccess::CopyOnWrite`] that are hidden.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
}

/// What a build may do with a mounted directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountAccess {
    Read,
    /// Change it on this machine.
    Write,
    /// Change its own view; this machine's files stay as they are.
    CopyOnWrite,
}

impl ContainerSpec {
    /// Whether it has a mount that only our own engines support.
    fn copies_on_write(&self) -> bool {
        self.mounts.iter().any(|mount| mount.access == MountAccess::CopyOnWrite)
    }
}

/// A program to start.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    pub argv: Vec<Vec<u8>>,
    /// Directories to search for a program without a slash, separated by colons.
    pub path: Vec<u8>,
    /// Variables as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    /// Whether to start in `/` if the directory cannot be entered.
    pub cwd_or_root: bool,
    pub user: Ids,
    pub stdio: Stdio,
    /// Whether it gets the toolbox, if the container has one.
    pub toolbox: bool,
    /// Whether it belongs to the build rather than to a session or chore.
    pub of_build: bool,
}

/// A user of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// How a program's streams are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// No input; output and error in one pipe, in the order they are written.
    Merged,
    /// Three pipes.
    Separate,
    /// A terminal of this many rows and columns.
    Terminal(u16, u16),
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    Read,
    /// Only to check that it exists.
    Look,
    /// Reading and writing. A missing file is created, writable for every user.
    ReadWriteCreate,
}

/// A started program.
#[derive(Debug)]
pub struct StartedProgram {
    pub ends: ProgramEnds,
    /// Resolves with its exit.
    pub exit: oneshot::Receiver<Result<Exit, ExecError>>,
    pub signals: ProgramSignals,
}

/// The host's ends of a program's streams.
#[derive(Debug)]
pub enum ProgramEnds {
    /// Its output and errors.
    Merged(OwnedFd),
    /// Its stdin, stdout and stderr.
    Separate([OwnedFd; 3]),
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// Sends signals to a program.
#[derive(Clone, Debug)]
pub struct ProgramSignals {
    job: u64,
    init: Arc<init::InitClient>,
}

/// Which of a program's descendants a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalReach {
    /// Its process group.
    Group,
    /// Its whole session, including background jobs.
    Session,
}

impl ProgramSignals {
    pub async fn send(&self, signal: i32, reach: SignalReach) {
        self.init.signal(self.job, signal, reach).await;
    }

    /// Whether anything is there to receive them.
    pub async fn arrive(&self) -> bool {
        self.init.answers().await
    }

    /// Sets the size of the program's terminal.
    pub async fn resize(&self, terminal: BorrowedFd<'_>, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        // The terminal may be gone with its program.
        if rustix::termios::tcsetwinsize(terminal, size) == Err(rustix::io::Errno::NOTTY) {
            // This end is a stream; the terminal is on another machine.
            self.init.resize(self.job, rows, cols).await;
        }
    }
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// CodeBuild's status code for this error.
    pub code: StatusCode,
    pub message: String,
    pub hint: Option<String>,
    /// Whether this engine cannot run here at all, so that another one should be tried.
    pub is_incapable: bool,
}

impl EngineError {
    /// A fault of this machine or of this program.
    pub fn fault(message: impl Into<String>, hint: Option<&str>) -> Self {
        EngineError {
            code: StatusCode::InternalServiceError,
            message: message.into(),
            hint: hint.map(str::to_owned),
            is_incapable: false,
        }
    }

    /// An engine that does not work here.
    fn incapable(message: impl Into<String>, hint: Option<&str>) -> Self {
        EngineError { is_incapable: true, ..Self::fault(message, hint) }
    }

    /// The task that was to make the container was lost.
    pub fn lost(error: &dyn std::error::Error) -> Self {
        EngineError::fault(format!("the start of the container failed: {error}"), None)
    }

    /// An image that cannot be used.
    fn image(message: impl Into<String>, hint: Option<&str>) -> Self {
        EngineError {
            code: StatusCode::UnableToPullImage,
            message: message.into(),
            hint: hint.map(str::to_owned),
            is_incapable: false,
        }
    }
}

impl From<ImageError> for EngineError {
    fn from(error: ImageError) -> Self {
        EngineError::image(error.to_string(), error.hint.as_deref())
    }
}

/// Why a program was not started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecError {
    #[error("cannot {doing}: {}", Errno::from_raw(*errno).desc())]
    Refused { stage: u32, doing: &'static str, errno: i32 },
    #[error("{0}")]
    Unfit(#[from] runner_wire::init::EncodeError),
    #[error("the container has ended")]
    ContainerGone,
    #[error("cannot make a pipe: {0}")]
    Pipe(String),
    #[error("cannot let the user into the build's directory: {0}")]
    Admit(String),
}

impl ExecError {
    /// Exit code as in shells: 127 not found, 126 not executable, 125 for our own errors.
    pub fn shell_code(&self) -> u8 {
        use runner_wire::abi::stage;
        match self {
            ExecError::Refused { stage: stage::EXEC, errno, .. } => match *errno {
                libc_errno::ENOENT | libc_errno::ENOTDIR => 127,
                _ => 126,
            },
            _ => 125,
        }
    }

    /// Whether switching to the program's user failed.
    pub fn is_refused_user(&self) -> bool {
        matches!(self, ExecError::Refused { stage: runner_wire::abi::stage::USER, .. })
    }

    /// Whether another process could not be started.
    pub fn is_refused_process(&self) -> bool {
        matches!(
            self,
            ExecError::Refused {
                stage: runner_wire::abi::stage::FORK,
                errno: libc_errno::EAGAIN,
                ..
            }
        )
    }

    /// Whether the program does not exist.
    pub fn is_missing_program(&self) -> bool {
        self.shell_code() == 127
    }
}

mod libc_errno {
    pub(super) const EAGAIN: i32 = nix::errno::Errno::EAGAIN as i32;
    pub(super) const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
    pub(super) const ENOTDIR: i32 = nix::errno::Errno::ENOTDIR as i32;
}
