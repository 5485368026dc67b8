//! Inputs and outputs of the machine.
//!
//! The driver and the tasks that send to its inbox make the inputs. A [`MachineStep`] goes back to
//! the driver.

use crate::debug::{Breakpoint, Decision, Who};
use crate::env;
use crate::event::{
    BreakpointId, ChangedFacts, CheckpointKind, CommandOutcome, EventBody, ExportedVariable, Lost,
    Notice, Scene, StoredArtifact, Stuck, TransferProgress,
};
use crate::installed::InstalledVersions;
use crate::phase::{Phase, PhaseContext, Status};
use crate::report::ReportFacts;
use crate::spec::{SecretVariable, Span, SpecVariable};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An event for the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum MachineInput {
    /// Start the build.
    Start,
    /// The container is ready, or why not.
    Provisioned(Result<ContainerFacts, PhaseContext>),
    /// The values of parameters and secrets, or why one is not available.
    ValuesFetched(Result<Fetched, BuildSetupError>),
    /// The image's variables after its entrypoint has run, or why it did not run.
    EntrypointRan(Result<env::Variables, BuildSetupError>),
    /// The variables of the first command are set, or why not.
    ShellOpened(Result<(), PhaseContext>),
    /// A cache that could become a layer, if there is one.
    CacheFound(Option<FoundCache>),
    /// The new container is ready, or why not.
    Rehoused(Result<ContainerFacts, PhaseContext>),
    /// The cache is restored, if there is one and no error occurred.
    CacheRestored,
    /// The image's catalog of runtimes, if it has one.
    CatalogRead(Option<String>),
    /// The installed runtimes, as far as they could be determined.
    RuntimesFound(InstalledVersions),
    /// A command has ended and its output is in the log.
    CommandEnded {
        /// Its number.
        command: u32,
        /// How it ended.
        outcome: CommandOutcome,
        /// A known cause, such as a limit.
        cause: Option<String>,
        /// Facts about the run, as far as they are wanted.
        facts: RunFacts,
    },
    /// A decision at a stop. Ignored if [`super::BuildMachine::refusal`] rejects it.
    Decide {
        /// The decision.
        decision: Decision,
        /// The person who decided.
        by: Who,
    },
    /// Replaces the breakpoints of one owner.
    SetBreakpoints {
        /// The owner.
        owner: String,
        /// All breakpoints of the owner.
        breakpoints: Vec<Breakpoint>,
    },
    /// A checkpoint was taken, or why not.
    Checkpointed {
        /// The checkpoint.
        id: CheckpointId,
        /// Details of the checkpoint, or why there is none.
        result: Result<TakenCheckpoint, Unkept>,
    },
    /// Files and variables are back at a checkpoint, or why nothing can go on.
    Rewound(Result<Gone, PhaseContext>),
    /// Pause during the run.
    Pause,
    /// End this evaluated text, if it still runs.
    EndEvaluated {
        /// Its number.
        command: u32,
    },
    /// The run is frozen, or why it is not.
    Frozen {
        /// Its number.
        command: u32,
        /// Details of the frozen run, or why it is not frozen.
        result: Result<Standstill, String>,
    },
    /// A breakpoint's condition has occurred during the run.
    Watched {
        /// The run's number.
        command: u32,
        /// The breakpoint.
        breakpoint: BreakpointId,
        /// The last output of the run, if it is wanted.
        output: Option<Arc<str>>,
    },
    /// A process has called `codebuild-breakpoint` and waits.
    BreakpointHit {
        /// Identifies the call in the answer.
        call: CallId,
        /// Working directory of the process.
        directory: String,
    },
    /// A command could not be run, and no other can run either.
    Stuck(Box<Impasse>),
    /// A waiting process has ended.
    BreakpointGone {
        /// Its call.
        call: CallId,
    },
    /// End the oldest pause.
    Resume,
    /// A session has opened.
    SessionOpened {
        /// Number of the session in this build.
        session: u64,
        /// The program in it.
        program: String,
    },
    /// A session has closed.
    SessionClosed {
        /// Its number.
        session: u64,
        /// Why it closed.
        how: String,
    },
    /// End the build.
    Stop {
        /// Whether to kill processes without waiting for them to end.
        at_once: bool,
    },
    /// The build cannot continue; its commands are not the cause.
    Fault(PhaseContext),
    /// A component that was to answer an effect is gone, and no answer will come.
    Lost(PhaseContext),
    /// The runner was suspended (Ctrl-Z) for this long, until now.
    Slept(Duration),
    /// All processes of the container are gone, and their output is in the log.
    ProcessesGone,
    /// Values of the exported variables, taken after the last command.
    Exported(Vec<ExportedVariable>),
    /// A report was read.
    Reported(Box<ReportFacts>),
    /// A log line of CodeBuild's agent about the uploads.
    Line(String),
    /// An artifact was stored.
    Stored(StoredArtifact),
    /// Progress of a transfer.
    Progress(TransferProgress),
    /// Artifacts, reports and cache are stored, or why not.
    Uploaded(Result<(), PhaseContext>),
    /// The container is removed.
    Finalized,
    /// Address where AWS clients reach the build, or why they cannot.
    Endpoint(Result<String, String>),
    /// A message for the user.
    Notice(Notice),
    /// Time has passed; look at the deadlines.
    Tick,
}

/// A `codebuild-breakpoint` call that waits for its answer. The shim socket assigns the number,
/// because only it knows the process. Pauses are numbered separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A build that cannot go on although its container is alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Impasse {
    /// Working directory of the command.
    pub directory: String,
    /// Details for people who look into it.
    pub stuck: Stuck,
    /// Advice, for builds that nobody can look into.
    pub hint: String,
    /// The fault that the build ends with.
    pub fault: PhaseContext,
}

/// Number of a checkpoint, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointId(pub u32);

impl CheckpointId {
    /// The number of the next checkpoint.
    #[must_use]
    pub fn next(self) -> Self {
        CheckpointId(self.0 + 1)
    }
}

/// A checkpoint that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenCheckpoint {
    /// The kind of checkpoint.
    pub kind: CheckpointKind,
    /// A remark about it.
    pub why: Option<String>,
    /// Number of entries changed since the last checkpoint.
    pub entries: u64,
    /// Bytes of these entries.
    pub bytes: u64,
    /// Time it took, in milliseconds.
    pub ms: u64,
    /// Whether anything changed since the last checkpoint.
    pub is_new: bool,
}

/// Why no checkpoint was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// Not possible this time.
    Now {
        /// The reason.
        why: String,
        /// Time it took to find out, in milliseconds.
        ms: u64,
    },
    /// Not possible in this container.
    Never(String),
}

/// What was lost in a rewind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Processes that were killed.
    pub processes: Vec<Lost>,
    /// Number of sessions that were closed.
    pub sessions: u64,
    /// Time it took, in milliseconds.
    pub ms: u64,
}

/// A task for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEffect {
    /// Make the container; answer with [`MachineInput::Provisioned`].
    Provision,
    /// Do one step of DOWNLOAD_SOURCE.
    Prepare(SourcePreparation),
    /// Run a command; answer with [`MachineInput::CommandEnded`].
    Run(CommandRun),
    /// Take a checkpoint; answer with [`MachineInput::Checkpointed`].
    Checkpoint {
        /// Number of the new checkpoint.
        id: CheckpointId,
        /// The next run.
        before: u32,
        /// Whether to reset variables and directory first to those that the last run began with.
        again: bool,
        /// Whether the files were scanned after the last run, and nobody was present since.
        is_seen: bool,
    },
    /// Go back to a checkpoint in a new container; answer with [`MachineInput::Rewound`].
    Rewind {
        /// The checkpoint.
        id: CheckpointId,
    },
    /// Freeze the run and all processes it started; answer with [`MachineInput::Frozen`].
    Freeze {
        /// Its number.
        command: u32,
    },
    /// Thaw everything.
    Thaw,
    /// Kill the frozen run and thaw all other processes; [`MachineInput::CommandEnded`] follows.
    Cut {
        /// Its number.
        command: u32,
    },
    /// Breakpoints need these facts about the current run from now on.
    Watch(Wants),
    /// Release a process that called `codebuild-breakpoint`.
    Release {
        /// Its call.
        call: CallId,
    },
    /// Ask every process to end; answer with [`MachineInput::ProcessesGone`] when all have.
    Terminate,
    /// Kill every process; answer with [`MachineInput::ProcessesGone`].
    Kill,
    /// Collect exported variables, artifacts, reports and cache; answer with
    /// [`MachineInput::Exported`] and [`MachineInput::Uploaded`].
    Upload {
        /// Whether nothing has failed so far.
        succeeding: bool,
    },
    /// Close sessions, remove the container and its layer; answer with [`MachineInput::Finalized`].
    Finalize {
        /// The final status of the build, unless this step fails.
        status: Status,
    },
    /// Give up transfers that are still under way.
    Hurry,
    /// The build is over.
    Finish {
        /// Final status.
        status: Status,
        /// Whether everything of the build was removed.
        is_clear: bool,
    },
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRun {
    /// Its number in the build, from 1.
    pub command: u32,
    /// Its phase.
    pub phase: Phase,
    /// Its text.
    pub text: String,
    /// The user who runs it; root if absent.
    pub user: Option<String>,
    /// Variables to set for this and later commands.
    pub variables: Vec<(String, String)>,
    /// `CODEBUILD_BUILD_SUCCEEDING`.
    pub succeeding: bool,
    /// `CODEBUILD_LAST_EXIT`.
    pub last_exit: i32,
    /// Variables to unset for this and later commands.
    pub unset: Vec<String>,
    /// Whether to use the variables and directory that the previous run began with.
    pub again: bool,
    /// The facts to report about it.
    pub wants: Wants,
}

/// Facts about an ended run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// Working directory of the next command.
    pub directory: String,
    /// Its variables, if they are wanted.
    pub variables: Option<ShellVariables>,
    /// Its last output, masked, if it is wanted.
    pub output: Option<Arc<str>>,
    /// `wrote` breakpoints that it hit.
    pub wrote: Vec<BreakpointId>,
    /// Its file changes, if they are wanted.
    pub changed: Option<ChangedFacts>,
    /// Details for a person, if the build could stop after it.
    pub scene: Scene,
}

/// A frozen run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// The last lines it has written.
    pub output: String,
    /// A note about parts of the build that may notice the freeze.
    pub notice: Option<String>,
}

/// Names and values of a shell's variables.
pub type ShellVariables = Arc<[(Vec<u8>, Vec<u8>)]>;

/// The facts about runs that breakpoints need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The variables after each run.
    pub variables: bool,
    /// The last output of each run.
    pub output: bool,
    /// The details of each run for a person.
    pub scene: bool,
    /// The file changes of each run.
    pub changes: bool,
    /// Breakpoints to watch during a run, or to check after it.
    pub watched: Vec<(BreakpointId, Arc<Breakpoint>)>,
}

/// One step of DOWNLOAD_SOURCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePreparation {
    /// Fetch parameters and secrets; answer with [`MachineInput::ValuesFetched`].
    FetchValues(ValueRequests),
    /// Run the image's entrypoint; answer with [`MachineInput::EntrypointRan`].
    RunEntrypoint {
        /// Its variables.
        variables: env::Variables,
    },
    /// Set the variables and directory of the first command; answer with
    /// [`MachineInput::ShellOpened`].
    OpenShell {
        /// The variables.
        variables: BTreeMap<String, String>,
    },
    /// Find the cache; answer with [`MachineInput::CacheFound`].
    FindCache,
    /// Make a new container with the cache as a layer; answer with [`MachineInput::Rehoused`].
    Rehouse,
    /// Restore the cache that was found; answer with [`MachineInput::CacheRestored`].
    RestoreCache,
    /// Read the image's catalog of runtimes; answer with [`MachineInput::CatalogRead`].
    ReadCatalog,
    /// Ask the installed runtimes for their versions; answer with [`MachineInput::RuntimesFound`].
    FindRuntimes {
        /// Names of the runtimes.
        names: Vec<String>,
        /// All variables of the first command.
        variables: BTreeMap<String, String>,
    },
}

/// Facts about a started container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The engine that runs it.
    pub engine: String,
    /// Unambiguous name of its image.
    pub image: Option<String>,
    /// Variables of its image.
    pub variables: env::Variables,
    /// Whether the image has an entrypoint that must run first.
    pub has_entrypoint: bool,
    /// Whether it was made from an image, rather than from this machine.
    pub has_image: bool,
    /// Whether it contains the cache as a layer.
    pub has_cache: bool,
}

/// Values to fetch for the buildspec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueRequests {
    /// Variables and the names of their parameters in Parameter Store.
    pub parameters: Vec<SpecVariable>,
    /// Variables and their secrets in Secrets Manager.
    pub secrets: Vec<SecretVariable>,
}

impl ValueRequests {
    /// Whether there is nothing to fetch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.secrets.is_empty()
    }
}

/// Fetched variables. The values are secret, so `Debug` shows only the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fetched(pub env::Variables);

impl fmt::Debug for Fetched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a build cannot reach its first command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSetupError {
    /// The reason, for the record.
    pub context: PhaseContext,
    /// Advice on how to fix it.
    pub hint: Option<String>,
    /// The cause's place in the buildspec, if it has one.
    pub place: Option<Span>,
}

impl BuildSetupError {
    /// Makes an error without a place.
    #[must_use]
    pub fn new(context: PhaseContext, hint: Option<String>) -> Self {
        BuildSetupError { context, hint, place: None }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(self, span: Span) -> Self {
        BuildSetupError { place: Some(span), ..self }
    }
}

/// A cache that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundCache {
    /// Number of files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Whether a container of this kind can hold it as a layer.
    pub can_be_layer: bool,
    /// Whether a session is open that a new container would end.
    pub has_guests: bool,
}

/// Whether copying a cache takes longer than making a new container.
#[must_use]
pub fn is_large_cache(files: u64, bytes: u64) -> bool {
    files >= 500 || bytes >= 32 << 20
}

/// The result of one input. Events are logged before effects are performed.
#[derive(Debug, Default, PartialEq)]
pub struct MachineStep {
    /// For the log, in order.
    pub events: Vec<EventBody>,
    /// For the driver, in order.
    pub effects: Vec<MachineEffect>,
}
