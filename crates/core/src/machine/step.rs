//! What goes into the machine and what comes out of it.
//!
//! Inputs are made by the driver and the edges behind its inbox; a [`MachineStep`] goes back to the driver.

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

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum MachineInput {
    /// Begin.
    Start,
    /// The container is there, or why not.
    Provisioned(Result<ContainerFacts, PhaseContext>),
    /// Values of parameters and secrets, or why one of them cannot be had.
    ValuesFetched(Result<Fetched, BuildSetupError>),
    /// The image's variables as its entrypoint has left them, or why it did not run.
    EntrypointRan(Result<env::Variables, BuildSetupError>),
    /// The first command's variables are in place, or why not.
    ShellOpened(Result<(), PhaseContext>),
    /// A cache that could be a layer, where there is one.
    CacheFound(Option<FoundCache>),
    /// The container is there once more, or why not.
    Rehoused(Result<ContainerFacts, PhaseContext>),
    /// The cache is in place, as far as there is one and nothing went wrong with it.
    CacheRestored,
    /// The image's catalog of runtimes, where it has one.
    CatalogRead(Option<String>),
    /// The runtimes that were looked for, as far as they could be.
    RuntimesFound(InstalledVersions),
    /// A command has ended and its output is in the log.
    CommandEnded {
        /// Its number.
        command: u32,
        /// How.
        outcome: CommandOutcome,
        /// What else there is to say of why, such as a limit that was in the way.
        cause: Option<String>,
        /// What it has left, as far as that is wanted.
        facts: RunFacts,
    },
    /// What somebody has decided at a stop. Where [`super::BuildMachine::refusal`] says no, nothing follows.
    Decide {
        /// What.
        decision: Decision,
        /// Who.
        by: Who,
    },
    /// All breakpoints of one owner.
    SetBreakpoints {
        /// Whose.
        owner: String,
        /// All of them.
        breakpoints: Vec<Breakpoint>,
    },
    /// What the build has written is kept, or why not.
    Checkpointed {
        /// By what it is known.
        id: CheckpointId,
        /// What there is to say of it.
        result: Result<TakenCheckpoint, Unkept>,
    },
    /// The build's files and variables are those of a checkpoint, or why nothing can go on.
    Rewound(Result<Gone, PhaseContext>),
    /// Stop in the middle of the run.
    Pause,
    /// End an evaluated text, if this is the one that runs.
    EndEvaluated {
        /// Its number.
        command: u32,
    },
    /// The run stands still, or why it does not.
    Frozen {
        /// Its number.
        command: u32,
        /// How, or why it does not.
        result: Result<Standstill, String>,
    },
    /// What a breakpoint waits for has come to pass in the run.
    Watched {
        /// The run's number.
        command: u32,
        /// The breakpoint.
        breakpoint: BreakpointId,
        /// What the run has written last, if that is wanted.
        output: Option<Arc<str>>,
    },
    /// A process has called `codebuild-breakpoint` and waits.
    BreakpointHit {
        /// Names the call when it is answered.
        call: CallId,
        /// Working directory of the process.
        directory: String,
    },
    /// A command could not be run, and no other can be.
    Stuck(Box<Impasse>),
    /// A process that waited is gone.
    BreakpointGone {
        /// Its call.
        call: CallId,
    },
    /// End the pause that has been open longest.
    Resume,
    /// Somebody has connected.
    SessionOpened {
        /// Number of the session in this build.
        session: u64,
        /// What runs in it.
        program: String,
    },
    /// A session is over.
    SessionClosed {
        /// Its number.
        session: u64,
        /// What ended it.
        how: String,
    },
    /// End the build.
    Stop {
        /// Without waiting for processes to end by themselves.
        at_once: bool,
    },
    /// The build cannot go on, through no fault of its own.
    Fault(PhaseContext),
    /// Whatever was to answer an effect is gone, and nothing else will.
    Lost(PhaseContext),
    /// The runner was stopped (Ctrl-Z) until now, for this long.
    Slept(Duration),
    /// All processes of the container are gone and their output is in the log.
    ProcessesGone,
    /// Values of the exported variables, at the end of the build's commands.
    Exported(Vec<ExportedVariable>),
    /// A report has been read.
    Reported(Box<ReportFacts>),
    /// A line of CodeBuild's agent about what is being collected.
    Line(String),
    /// An artifact is where it belongs.
    Stored(StoredArtifact),
    /// How far a transfer is.
    Progress(TransferProgress),
    /// Artifacts, reports and cache are where they belong, or why not.
    Uploaded(Result<(), PhaseContext>),
    /// Nothing is left of the container.
    Finalized,
    /// AWS's clients find the build at this address; or why nowhere.
    Endpoint(Result<String, String>),
    /// Something the person at the terminal should know.
    Notice(Notice),
    /// Time has passed; look at the deadlines.
    Tick,
}

/// A call of `codebuild-breakpoint` that waits for its answer. Numbered by the shim socket, which alone
/// knows the process; a pause has a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A build that cannot go on, in a container that lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Impasse {
    /// Directory of the command.
    pub directory: String,
    /// What whoever looks is told.
    pub stuck: Stuck,
    /// How to mend it, for where nobody can.
    pub hint: String,
    /// What the build ends with.
    pub fault: PhaseContext,
}

/// Names a checkpoint, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointId(pub u32);

impl CheckpointId {
    /// That of the checkpoint after this one.
    #[must_use]
    pub fn next(self) -> Self {
        CheckpointId(self.0 + 1)
    }
}

/// A checkpoint that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenCheckpoint {
    /// What kind.
    pub kind: CheckpointKind,
    /// What is to be known of it.
    pub why: Option<String>,
    /// What has changed since the one before.
    pub entries: u64,
    /// Bytes of that.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether anything has changed since the one before.
    pub is_new: bool,
}

/// Why there is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// This time.
    Now {
        /// Why.
        why: String,
        /// How long it took to find out, in milliseconds.
        ms: u64,
    },
    /// In this container.
    Never(String),
}

/// What a rewind has cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// What ran then and was killed.
    pub processes: Vec<Lost>,
    /// How many sessions were closed.
    pub sessions: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEffect {
    /// Make the container; answer with [`MachineInput::Provisioned`].
    Provision,
    /// Do one thing of DOWNLOAD_SOURCE.
    Prepare(SourcePreparation),
    /// Run a command; answer with [`MachineInput::CommandEnded`].
    Run(CommandRun),
    /// Keep what the build has written; answer with [`MachineInput::Checkpointed`].
    Checkpoint {
        /// By what it is known from then on.
        id: CheckpointId,
        /// The run to come.
        before: u32,
        /// Whether variables and directory are first made those the last run has begun with.
        again: bool,
        /// Whether the files were looked at when the last run had ended, and nobody was there since.
        is_seen: bool,
    },
    /// Go back to a checkpoint, with a new container; answer with [`MachineInput::Rewound`].
    Rewind {
        /// Which.
        id: CheckpointId,
    },
    /// Let the run stand still, and what it has started; answer with [`MachineInput::Frozen`].
    Freeze {
        /// Its number.
        command: u32,
    },
    /// Let it go on.
    Thaw,
    /// End the run that stands still, and let what else there is go on; [`MachineInput::CommandEnded`] follows.
    Cut {
        /// Its number.
        command: u32,
    },
    /// From now on breakpoints need to know this of the run at hand.
    Watch(Wants),
    /// Let a process go on that has called `codebuild-breakpoint`.
    Release {
        /// Its call.
        call: CallId,
    },
    /// Ask every process to end; answer with [`MachineInput::ProcessesGone`] when they have.
    Terminate,
    /// End every process; answer with [`MachineInput::ProcessesGone`].
    Kill,
    /// Collect exported variables, artifacts, reports and cache; answer with [`MachineInput::Exported`] and
    /// [`MachineInput::Uploaded`].
    Upload {
        /// Whether nothing has failed so far.
        succeeding: bool,
    },
    /// Close sessions, remove the container and its layer; answer with [`MachineInput::Finalized`].
    Finalize {
        /// How the build will have ended, unless this fails.
        status: Status,
    },
    /// Give up what is still sent elsewhere.
    Hurry,
    /// Nothing more will come.
    Finish {
        /// How the build ended.
        status: Status,
        /// Whether nothing of it is left to be removed.
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
    /// Who runs it; root where it is absent.
    pub user: Option<String>,
    /// Variables that are set for it and those after it.
    pub variables: Vec<(String, String)>,
    /// `CODEBUILD_BUILD_SUCCEEDING`.
    pub succeeding: bool,
    /// `CODEBUILD_LAST_EXIT`.
    pub last_exit: i32,
    /// Names of variables that are not set for it and those after it.
    pub unset: Vec<String>,
    /// Whether variables and directory are those the run before it has begun with.
    pub again: bool,
    /// What is to be told of it.
    pub wants: Wants,
}

/// What a run has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// The directory of the next command.
    pub directory: String,
    /// Variables, if they are wanted.
    pub variables: Option<ShellVariables>,
    /// What it has written last, masked, if that is wanted.
    pub output: Option<Arc<str>>,
    /// Breakpoints whose files it has written.
    pub wrote: Vec<BreakpointId>,
    /// What it has changed in the files, if that is wanted.
    pub changed: Option<ChangedFacts>,
    /// What a person wants to see of it, if it could stop.
    pub scene: Scene,
}

/// A run that stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// The last lines it has written.
    pub output: String,
    /// What of the build may notice it, if anything can.
    pub notice: Option<String>,
}

/// Names and values of a shell's variables.
pub type ShellVariables = Arc<[(Vec<u8>, Vec<u8>)]>;

/// What breakpoints need to know of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Variables after each.
    pub variables: bool,
    /// What each has written last.
    pub output: bool,
    /// What a person wants to see of each.
    pub scene: bool,
    /// What each has changed in the files.
    pub changes: bool,
    /// Breakpoints that are watched for in a run, or looked at behind it.
    pub watched: Vec<(BreakpointId, Arc<Breakpoint>)>,
}

/// One thing of DOWNLOAD_SOURCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePreparation {
    /// Get values of parameters and secrets; answer with [`MachineInput::ValuesFetched`].
    FetchValues(ValueRequests),
    /// Run the image's entrypoint; answer with [`MachineInput::EntrypointRan`].
    RunEntrypoint {
        /// Variables it finds.
        variables: env::Variables,
    },
    /// Put variables and directory of the first command in place; answer with
    /// [`MachineInput::ShellOpened`].
    OpenShell {
        /// The variables.
        variables: BTreeMap<String, String>,
    },
    /// Find the cache; answer with [`MachineInput::CacheFound`].
    FindCache,
    /// Make the container once more, with the cache found as a layer; answer with [`MachineInput::Rehoused`].
    Rehouse,
    /// Put the cache in place that was found; answer with [`MachineInput::CacheRestored`].
    RestoreCache,
    /// Read the image's catalog of runtimes; answer with [`MachineInput::CatalogRead`].
    ReadCatalog,
    /// Ask the container's own runtimes for their versions; answer with [`MachineInput::RuntimesFound`].
    FindRuntimes {
        /// Their names.
        names: Vec<String>,
        /// Variables, as the first command finds them.
        variables: BTreeMap<String, String>,
    },
}

/// What a container turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The engine that has made it.
    pub engine: String,
    /// The image it was made of, by a name that means no other.
    pub image: Option<String>,
    /// Variables of its image.
    pub variables: env::Variables,
    /// Whether its image names a program that is to run first.
    pub has_entrypoint: bool,
    /// Whether it is made of an image, and not of this machine.
    pub has_image: bool,
    /// Whether the cache is in it as a layer.
    pub has_cache: bool,
}

/// Values that the buildspec takes from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueRequests {
    /// Variables with the names of their parameters in Parameter Store.
    pub parameters: Vec<SpecVariable>,
    /// Variables with their secrets in Secrets Manager.
    pub secrets: Vec<SecretVariable>,
}

impl ValueRequests {
    /// Whether there is nothing to be got.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.secrets.is_empty()
    }
}

/// Names of variables and their values, which are secret: shown are the names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fetched(pub env::Variables);

impl fmt::Debug for Fetched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a build does not come to its first command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSetupError {
    /// For the record.
    pub context: PhaseContext,
    /// How to mend it.
    pub hint: Option<String>,
    /// Where in the buildspec the reason stands, where it does.
    pub place: Option<Span>,
}

impl BuildSetupError {
    /// Without a place.
    #[must_use]
    pub fn new(context: PhaseContext, hint: Option<String>) -> Self {
        BuildSetupError { context, hint, place: None }
    }

    /// At this place.
    #[must_use]
    pub fn at(self, span: Span) -> Self {
        BuildSetupError { place: Some(span), ..self }
    }
}

/// A cache that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundCache {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether a container like this one could hold it as a layer.
    pub can_be_layer: bool,
    /// Whether somebody is in the container, and would be put out with it.
    pub has_guests: bool,
}

/// Whether a cache takes longer to be copied than a container to be made once more.
#[must_use]
pub fn is_large_cache(files: u64, bytes: u64) -> bool {
    files >= 500 || bytes >= 32 << 20
}

/// What comes of one input. The events are logged before the effects are performed.
#[derive(Debug, Default, PartialEq)]
pub struct MachineStep {
    /// For the log, in order.
    pub events: Vec<EventBody>,
    /// For the driver, in order.
    pub effects: Vec<MachineEffect>,
}
