//! Where builds run: what the driver may ask of any engine.
//!
//! An [`Engine`] makes a [`Container`]; a container starts programs and opens files for the host.
//! A build's command, a session's shell and a one-off command are the same [`Container::exec`], so
//! an engine that can run builds can be debugged. Futures are boxed because both traits are used
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
use runner_sandbox::{GroupPlan, Living, Pressure, ResourceLimits, Toolbox};
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

/// Called with the container, or with where it will be, before anything runs in it.
pub type Recorder = Arc<dyn Fn(&LeftoverContainer) -> io::Result<()> + Send + Sync>;
/// Called with what the person should know about the container.
pub type Teller = Arc<dyn Fn(EngineNote) + Send + Sync>;

/// What a container sees of the folder with our programs and sockets.
const READONLY: &str = "/codebuild/readonly";

pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes containers.
pub trait Engine: Send + Sync {
    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>>;

    /// Nobody wants the container any more that is being made: what takes long is left off.
    fn give_up(&self) {}
}

/// A container that runs.
pub trait Container: Send + Sync {
    /// Starts a program.
    fn exec(&self, spec: ExecSpec) -> Fut<'_, Result<StartedProgram, ExecError>>;

    /// Opens a file of the container: the host itself never resolves a path in there. Symbolic
    /// links at the end of `path` are not followed, and what is opened is a regular file or a
    /// directory.
    fn open(&self, path: &Path, mode: OpenMode) -> Fut<'_, io::Result<OwnedFd>>;

    /// Connects to what listens in there; the socket. [`dial::dial`] takes names and more than one
    /// address.
    fn dial(&self, listener: &Listener) -> Fut<'_, io::Result<OwnedFd>>;

    /// Listens in its network; the socket. Only where the container runs on this machine.
    fn listen(&self, at: SocketAddr) -> Fut<'_, io::Result<OwnedFd>>;

    /// Directory of our own programs, as the container sees it.
    fn programs(&self) -> PathBuf;

    /// The engine that has made it, by the name that `--engine` takes.
    fn engine(&self) -> &'static str;

    /// The image it was made of: a digest, or what a daemon calls it. None where that was this machine, or
    /// a directory.
    fn image(&self) -> Option<&str>;

    /// What its image says about how it is run.
    fn image_config(&self) -> &ImageConfig;

    /// Whether there is a toolbox for sessions.
    fn has_toolbox(&self) -> bool {
        false
    }

    /// Whether [`ContainerSpec::cached`] is in it.
    fn has_cache(&self) -> bool {
        false
    }

    /// Whether a cache could be in another container like this one.
    fn can_hold(&self, _: &CachedTrees) -> bool {
        false
    }

    /// Whether it has no user but root.
    fn has_one_user(&self) -> bool;

    /// Whether others than the build can see its files.
    fn is_shared(&self) -> bool;

    /// How often its limits have been in the way so far; always zero where none are enforced.
    fn pressure(&self) -> Fut<'_, Pressure> {
        Box::pin(async { Pressure::default() })
    }

    /// Bytes of memory it takes, where a control group counts them.
    fn memory(&self) -> Option<u64>;

    /// What the build writes, where that can be kept and put back; or why it cannot, in a few words.
    fn layer(&self) -> Result<Arc<KeptLayer>, String> {
        Err(format!(
            "the engine `{}` cannot keep what a build has written; `--engine namespaces` can",
            self.engine()
        ))
    }

    /// Has these overlays of the layer go on in generation `number`, for which [`KeptLayer::save`] has made directories,
    /// if nobody lives in it but its first process; the layer then.
    fn seal(
        &self,
        _number: u32,
        _names: Vec<String>,
    ) -> Fut<'_, Result<Arc<KeptLayer>, NotSealed>> {
        Box::pin(async { Err(NotSealed::intact("this engine cannot do that")) })
    }

    /// What runs in it beside its first process.
    fn living(&self) -> Fut<'_, Vec<Living>> {
        Box::pin(async { Vec::new() })
    }

    /// Sends a signal to every process but PID 1; resolves when none is left.
    fn signal_all(&self, signal: i32) -> Fut<'_, ()>;

    /// Stops what programs with [`ExecSpec::of_build`] have started, if nothing of it can notice; whether it stands
    /// still.
    fn freeze_unnoticed(&self) -> Fut<'_, bool> {
        Box::pin(async { false })
    }

    /// Stops what programs with [`ExecSpec::of_build`] have started, themselves among it.
    fn freeze(&self) -> Fut<'_, Result<FreezeKind, ExecError>>;

    /// Lets it go on.
    fn thaw(&self) -> Fut<'_, ()>;

    /// Kills its first process, and everything with it, without asking it: for one that does not answer.
    /// What can be done without waiting is done by the call itself.
    fn kill(&self) -> Fut<'_, ()>;

    /// Whether its first process answers a question that takes it no time.
    fn answers(&self) -> Fut<'_, bool>;

    /// Resolves when the container has ended by itself.
    fn ended(&self) -> Fut<'_, ()>;

    /// Ends it and all that runs in it.
    fn stop(&self) -> Fut<'_, ()>;
}

/// Why a layer is not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSealed {
    pub why: String,
    /// Whether the container is as it was. Otherwise nobody may trust it.
    pub is_intact: bool,
}

impl NotSealed {
    fn intact(why: impl Into<String>) -> Self {
        NotSealed { why: why.into(), is_intact: true }
    }
}

/// How what a build runs was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeKind {
    /// By the kernel, and nothing of it can notice.
    Unnoticed,
    /// By SIGSTOP.
    Signalled,
}

/// What a container is to be.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub hostname: String,
    pub image: Image,
    /// What the build is made of, the primary source first.
    pub sources: Vec<SourceMount>,
    /// Directory of the host, read-only at /codebuild/readonly.
    pub readonly: PathBuf,
    pub mounts: Vec<UserMount>,
    /// A cache that is to be part of it, where the engine can do that.
    pub cached: Option<CachedTrees>,
    /// Places for the layer, the first choice first.
    pub layers: Vec<PathBuf>,
    /// The layer that a container before this one has left, which this one goes on with.
    pub kept: Option<Arc<KeptLayer>>,
    /// What of the host the container does not see, wherever it lies: our own state.
    pub unseen: Unseen,
    /// What it may use of the machine. Where that cannot be enforced it is a warning and no failure.
    pub limits: ResourceLimits,
    /// Control groups for an engine of our own, where there are to be any; looked up, and recorded,
    /// before they are made.
    pub groups: Option<GroupPlan>,
    pub network: NetworkAccess,
    /// More names of hosts that it knows, with their addresses.
    pub hosts: Vec<(Ipv4Addr, String)>,
    /// A port of the host's loopback that a build in a network of its own can connect to all the same.
    pub loopback_port: Option<u16>,
    /// Whether it is to have the rights that a Docker daemon needs.
    pub privileged: bool,
    /// Programs for sessions.
    pub toolbox: Option<Toolbox>,
}

/// `--network`: what a build can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAccess {
    /// All that this machine can, its loopback included.
    Host,
    /// Nothing but its own loopback.
    None,
    /// The outside, from a network of its own; nothing of this machine's loopback.
    Pasta,
}

/// A source of the build.
#[derive(Clone, Debug)]
pub struct SourceMount {
    /// A directory of the host.
    pub dir: PathBuf,
    /// Where the build sees it.
    pub target: PathBuf,
    /// Directories of the host that source control needs beside it, seen at the same path.
    pub extras: Vec<PathBuf>,
    /// Files in these or in the source that read differently in the container; relative to where the
    /// build sees the source.
    pub files: Vec<(PathBuf, String)>,
}

/// `--mount SRC:DST[:rw|:cow]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserMount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub access: MountAccess,
    /// Names below a source of [`MountAccess::CopyOnWrite`] that are not shown.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
}

/// What a build may do with what is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountAccess {
    Read,
    /// Change it on this machine.
    Write,
    /// Change what it sees: this machine keeps what it has.
    CopyOnWrite,
}

impl ContainerSpec {
    /// Whether something is mounted that only an engine of our own can mount.
    fn copies_on_write(&self) -> bool {
        self.mounts.iter().any(|mount| mount.access == MountAccess::CopyOnWrite)
    }
}

/// A program to start.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    pub argv: Vec<Vec<u8>>,
    /// Directories searched for a program without a slash, parted by colons.
    pub path: Vec<u8>,
    /// Variables as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    /// Whether `/` will do where the directory cannot be entered.
    pub cwd_or_root: bool,
    pub user: Ids,
    pub stdio: Stdio,
    /// Whether it gets the toolbox, where the container has one.
    pub toolbox: bool,
    /// Whether it is the build's, and no session's or chore's.
    pub of_build: bool,
}

/// A user of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// How a program is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// No input; output and error in one pipe, in the order they are written.
    Merged,
    /// Three pipes.
    Separate,
    /// A terminal of this many rows and columns.
    Terminal(u16, u16),
}

/// For what a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    Read,
    /// Nothing but finding out that it is there.
    Look,
    /// Reading and writing; made, for every user to write, where it is missing.
    ReadWriteCreate,
}

/// A program that has been started.
#[derive(Debug)]
pub struct StartedProgram {
    pub ends: ProgramEnds,
    /// How it ended.
    pub exit: oneshot::Receiver<Result<Exit, ExecError>>,
    pub signals: ProgramSignals,
}

/// The host's ends of a program's connections.
#[derive(Debug)]
pub enum ProgramEnds {
    /// What it writes.
    Merged(OwnedFd),
    /// What it reads, writes, and writes as errors.
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

/// Whom of a program's offspring a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalReach {
    /// Its process group.
    Group,
    /// Everything in its session, jobs in the background included.
    Session,
}

impl ProgramSignals {
    pub async fn send(&self, signal: i32, reach: SignalReach) {
        self.init.signal(self.job, signal, reach).await;
    }

    /// Whether there is anybody to send them to.
    pub async fn arrive(&self) -> bool {
        self.init.answers().await
    }

    /// Tells the program's terminal its size.
    pub async fn resize(&self, terminal: BorrowedFd<'_>, rows: u16, cols: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        // It may have gone with its program.
        if rustix::termios::tcsetwinsize(terminal, size) == Err(rustix::io::Errno::NOTTY) {
            // What is here is a stream, and the terminal on another machine.
            self.init.resize(self.job, rows, cols).await;
        }
    }
}

/// There is no container.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// CodeBuild's code for it.
    pub code: StatusCode,
    pub message: String,
    pub hint: Option<String>,
    /// Whether this engine makes no container here at all, so that another one may.
    pub is_incapable: bool,
}

impl EngineError {
    /// The machine's fault, or ours.
    pub fn fault(message: impl Into<String>, hint: Option<&str>) -> Self {
        EngineError {
            code: StatusCode::InternalServiceError,
            message: message.into(),
            hint: hint.map(str::to_owned),
            is_incapable: false,
        }
    }

    /// The engine does not work here.
    fn incapable(message: impl Into<String>, hint: Option<&str>) -> Self {
        EngineError { is_incapable: true, ..Self::fault(message, hint) }
    }

    /// Whoever was to make it has not come back.
    pub fn lost(error: &dyn std::error::Error) -> Self {
        EngineError::fault(format!("the start of the container failed: {error}"), None)
    }

    /// The image cannot be used.
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

/// A program was not started.
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
    /// As shells tell it: 127 not found, 126 not executable, 125 anything of ours.
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

    /// Whether the program's user could not be taken on.
    pub fn is_refused_user(&self) -> bool {
        matches!(self, ExecError::Refused { stage: runner_wire::abi::stage::USER, .. })
    }

    /// Whether there was no room for another process.
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

    /// Whether the program itself is not there.
    pub fn is_missing_program(&self) -> bool {
        self.shell_code() == 127
    }
}

mod libc_errno {
    pub(super) const EAGAIN: i32 = nix::errno::Errno::EAGAIN as i32;
    pub(super) const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
    pub(super) const ENOTDIR: i32 = nix::errno::Errno::ENOTDIR as i32;
}
