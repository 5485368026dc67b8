//! What goes into the machine and what comes out of it.
//!
//! Inputs are made by the driver and the edges behind its inbox; a [`Step`] goes back to the driver.

use crate::event::{EventBody, ExportedVariable, Notice, Outcome, Progress, StoredArtifact, Stuck};
use crate::phase::{Phase, PhaseContext, Status};
use crate::report::ReportFacts;
use std::time::Duration;

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Begin.
    Start,
    /// The container is there, or why not.
    Provisioned(Result<(), PhaseContext>),
    /// Source and environment are in place, or why not.
    SourceReady(Setup),
    /// A command has ended and its output is in the log.
    CommandEnded {
        /// Its number.
        command: u32,
        /// How.
        outcome: Outcome,
        /// What else there is to say of why, such as a limit that was in the way.
        cause: Option<String>,
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
    Progress(Progress),
    /// Artifacts, reports and cache are where they belong, or why not.
    Uploaded(Result<(), PhaseContext>),
    /// Nothing is left of the container.
    Finalized,
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

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make the container; answer with [`Input::Provisioned`].
    Provision,
    /// Put source and environment in place; answer with [`Input::SourceReady`].
    DownloadSource,
    /// Run a command; answer with [`Input::CommandEnded`].
    Run(CommandRun),
    /// Let a process go on that has called `codebuild-breakpoint`.
    Release {
        /// Its call.
        call: CallId,
    },
    /// Ask every process to end; answer with [`Input::ProcessesGone`] when they have.
    Terminate,
    /// End every process; answer with [`Input::ProcessesGone`].
    Kill,
    /// Collect exported variables, artifacts, reports and cache; answer with [`Input::Exported`] and
    /// [`Input::Uploaded`].
    Upload {
        /// Whether nothing has failed so far.
        succeeding: bool,
    },
    /// Close sessions, remove the container and its layer; answer with [`Input::Finalized`].
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
}

/// What came of making source and environment ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Lines of CodeBuild's agent about it.
    pub lines: Vec<String>,
    /// And about the cache.
    pub cache: Vec<String>,
    /// Commands that install runtimes, or why the build cannot go on.
    pub commands: Result<Vec<SetupCommand>, PhaseContext>,
}

/// A command that installs a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupCommand {
    /// Its text.
    pub text: String,
    /// Variables that are set before.
    pub variables: Vec<(String, String)>,
}

/// What comes of one input. The events are logged before the effects are performed.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// For the log, in order.
    pub events: Vec<EventBody>,
    /// For the driver, in order.
    pub effects: Vec<Effect>,
}
