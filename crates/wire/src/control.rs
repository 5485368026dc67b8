//! What the program's commands and the owner of a build say to each other over `control.sock`.
//!
//! Messages travel as JSON in `frame`s. The client speaks first, with [`ControlRequest::Hello`]; each
//! request is answered by one message, [`ControlRequest::Watch`], [`ControlRequest::WatchPauses`], [`ControlRequest::Open`],
//! [`ControlRequest::Files`] and [`ControlRequest::Forward`] by a stream of them.

use crate::frame;
use runner_core::agent::{AgentConfig, PropertyLayer};
use runner_core::debug::{Decision, DecisionClient};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Version of this file; raised when an old peer would misunderstand.
pub const PROTOCOL: u32 = 9;

/// A client on a terminal says [`ControlRequest::Active`] no more often than this.
pub const ACTIVITY_PACE: Duration = Duration::from_millis(250);

/// A message of this file as it travels: JSON in a frame.
///
/// # Errors
/// It is longer than a peer would take.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    frame::encode(&serde_json::to_vec(message)?).map_err(io::Error::other)
}

/// Client to owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// First of all.
    Hello {
        /// [`PROTOCOL`] of the client.
        protocol: u32,
        /// Version of the client's program, for messages.
        version: String,
        /// By what a person decides there.
        #[serde(default)]
        client: DecisionClient,
    },
    /// How does the build stand?
    Status,
    /// Release the first breakpoint.
    Resume,
    /// What is to follow a stop.
    Decide(Decision),
    /// Stop in the middle of the command that runs. Answered once it stands still.
    Pause,
    /// Run a text at a stop, in the state of the build's commands. Answered by [`ControlResponse::Runs`]: what it
    /// writes and how it ends are in the build's log, as of any run.
    Eval {
        /// The text.
        text: String,
    },
    /// End such a text, if it still runs.
    EndEval {
        /// Its number.
        run: u32,
    },
    /// Set a variable of the commands to come.
    Set {
        /// Its name.
        name: String,
        /// Its value; none unsets it.
        #[serde(default)]
        value: Option<String>,
    },
    /// Which variables will the next command have? Answered by [`ControlResponse::Variables`].
    Variables,
    /// Where does it stop? Answered by [`ControlResponse::Breakpoints`], as the next two.
    Breakpoints,
    /// Stop there, too.
    AddBreakpoint {
        /// As it is written.
        text: String,
    },
    /// Stop there no more.
    RemoveBreakpoint {
        /// Its number.
        id: u64,
    },
    /// End the build.
    Stop,
    /// Tell each change of [`ControlStatus`], until the build is over.
    Watch,
    /// The same, of what concerns pauses alone.
    WatchPauses,
    /// The client has opened an endpoint for AWS's clients, which is the way into this build from now on.
    EndpointOpened {
        /// `HOST:PORT`, on this machine.
        address: String,
    },
    /// The client was to open one, and could not.
    EndpointFailed {
        /// Why.
        problem: String,
    },
    /// Start a program in the container and connect this client to it.
    Open(OpenProgram),
    /// A place for a script, for as long as this connection lives: answered once fewer run than that, by
    /// [`ControlResponse::Done`]. The image may want fewer still.
    ScriptPlace {
        /// How many scripts may run in the build at once.
        limit: usize,
    },
    /// Run a script in the container and connect this client to it. As [`ControlRequest::Open`]; what it writes is masked.
    Script(Script),
    /// Which system does the container have?
    Platform,
    /// Start the program that reads and writes files in the container and hand over its pipes, as with
    /// [`ControlRequest::Open`].
    Files,
    /// From now on this client asks for connections; until it goes, or the build ends.
    Forward {
        /// What it forwards, for the log.
        ports: Vec<String>,
        /// The session's name in audit lines, where it has one beside its number.
        #[serde(default)]
        name: Option<String>,
        /// Addresses that it connects to for nobody; the usual ones where none are given.
        #[serde(default)]
        denied: Option<Vec<IpAddr>>,
        /// Where it listens on its machine for each of them, as `ADDRESS:PORT`; empty where nobody knows.
        #[serde(default)]
        locals: Vec<String>,
    },
    /// How is AWS's agent configured? Answered by [`ControlResponse::Agent`].
    Agent,
    /// Connect to something that listens in the container. Only after [`ControlRequest::Forward`]; more than one
    /// may be under way.
    Dial {
        /// Chosen by the client; names the connection in the answer.
        id: u64,
        /// `PORT`, `HOST:PORT`, `[IPV6]:PORT`, an absolute path or `@NAME`.
        remote: String,
    },
    /// The client's terminal has another size.
    Resize(TerminalSize),
    /// Something was typed or shown on the program's terminal. A client that does not keep the time
    /// itself says so, or its session is idle.
    Active,
    /// Send a signal to the program. Answered by [`ControlResponse::Signalled`], among whatever else is said.
    Signal(i32),
}

impl ControlRequest {
    /// The greeting of a client whose decisions are verbs.
    #[must_use]
    pub fn hello(version: &str) -> Self {
        let (protocol, client) = (PROTOCOL, DecisionClient::Cli);
        ControlRequest::Hello { protocol, version: version.to_owned(), client }
    }
}

/// A program to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenProgram {
    /// Program and arguments; none: an interactive shell.
    pub argv: Vec<String>,
    /// Size of the client's terminal; none: pipes instead of a terminal.
    pub terminal: Option<TerminalSize>,
    /// The client's `TERM`.
    pub term: Option<String>,
    /// A user of the container, by name or id; root where it is absent.
    pub user: Option<String>,
    /// Without a terminal: one pipe for output and error, in the order they are written, and no
    /// input. One descriptor comes along then.
    pub merged: bool,
    /// The session's name in transcripts and audit lines, where it has one beside its number.
    pub name: Option<String>,
    /// The client itself ends the session when nothing happens in it.
    pub keeps_time: bool,
    /// A user whose session it is, in place of `user`.
    pub run_as: Option<RunAs>,
    /// Whether what is shown is kept, masked, in the state folder's `sessions-log`, below `name`.
    pub spooled: bool,
}

/// A user of the container whose session it is: with a home, and never root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// Their name.
    pub name: String,
    /// Whether they are made where there is none of this name.
    pub is_made: bool,
}

/// A script to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The command it belongs to: a name for folders and audit lines.
    pub command: String,
    /// Its step, as well.
    pub step: String,
    /// What stands in its file.
    pub text: String,
    /// Where it runs, below the directory that programs are started in; empty: there.
    pub directory: String,
    /// Variables beside those that programs are started with, and instead of them.
    pub environment: Vec<(String, String)>,
}

/// A container's system, as its os-release says. Empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// Owner to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlResponse {
    /// The owner takes requests.
    Hello {
        /// [`PROTOCOL`] of the owner.
        protocol: u32,
        /// Version of the owner's program.
        version: String,
    },
    /// How the build stands.
    Status(ControlStatus),
    /// It is done.
    Done,
    /// How AWS's agent is configured.
    Agent {
        /// What holds for endpoints of the build's own.
        host: AgentConfig,
        /// What the image says; none where it has no such file that can be read.
        image: Option<PropertyLayer>,
    },
    /// Where it stops.
    Breakpoints(Vec<BreakpointLine>),
    /// The text runs, under this number.
    Runs {
        /// As in the log's events.
        run: u32,
    },
    /// Which system it is.
    Platform(Platform),
    /// The variables by their names, those among them that are gone.
    Variables(Vec<VariableLine>),
    /// It cannot be done.
    Refused {
        /// Exit code for the client, as `exec` and `attach` use it.
        code: u8,
        /// Why.
        message: String,
    },
    /// The program runs. Descriptors come along, which do not block where they are of a terminal: the
    /// host's end of its terminal, which is read and written; or of its input, output and error; or of its
    /// merged output alone; of a script its output and its errors.
    Opened {
        /// Number of the session in the build.
        session: u64,
    },
    /// The connection is made; its socket comes along.
    Dialled {
        /// That of the request.
        id: u64,
    },
    /// The connection is not made.
    NotDialled {
        /// That of the request.
        id: u64,
        /// Why.
        message: String,
    },
    /// The signal was sent, and the container is there to take it.
    Signalled,
    /// Something a person at the program's terminal should know, or of a script what should be put to its errors. Only
    /// to clients whose program is such.
    Told {
        /// One line.
        message: String,
    },
    /// The program has ended by itself. All it has written lies in its terminal or its pipes.
    Exited {
        /// As shells tell it.
        code: u8,
    },
    /// The session was ended from this side.
    Closed {
        /// One line for the person.
        message: String,
    },
}

/// Where a build stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakpointLine {
    /// Its number.
    pub id: u64,
    /// Whose it is.
    pub owner: String,
    /// As it is written.
    pub text: String,
}

/// A variable of the commands to come. Secrets are masked in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableLine {
    /// Its name.
    pub name: String,
    /// Its value; none where it is unset.
    pub value: Option<String>,
    /// Its value before the last run.
    pub before: Option<String>,
    /// Whether the two differ. They may and look the same: masked, both do.
    pub is_changed: bool,
}

/// A port of this machine that leads into a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardLine {
    /// `ADDRESS:PORT` of this machine.
    pub local: String,
    /// What listens in the container, as it was asked for.
    pub remote: String,
}

/// How a build stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlStatus {
    /// `running`, `paused` or an ended status.
    pub state: String,
    /// Phase it is in.
    pub phase: String,
    /// First line of the command that runs.
    pub command: Option<String>,
    /// Open sessions.
    pub sessions: usize,
    /// Breakpoints at which processes wait.
    pub paused: usize,
    /// Where AWS's clients find the build, as `HOST:PORT`.
    pub endpoint: Option<String>,
    /// Seconds until the build times out; none while the clock stands still.
    pub time_left_s: Option<u64>,
    /// Seconds until its pause ends by itself; none while somebody is there, and where it waits for ever.
    #[serde(default)]
    pub pause_left_s: Option<u64>,
    /// Whether codebuild-breakpoint pauses the build and AWS's clients are let in.
    pub sessions_enabled: bool,
    /// Whether there is a container that sessions can be opened in.
    pub has_container: bool,
    /// Seconds without input after which a session is closed.
    pub session_idle_s: u64,
    /// Whether whoever started the build has said so.
    #[serde(default)]
    pub is_idle_given: bool,
    /// Seconds a session may be open.
    pub session_longest_s: Option<u64>,
    /// Ports of this machine that lead into it.
    #[serde(default)]
    pub forwards: Vec<ForwardLine>,
    /// Whether sessions of AWS's clients begin only where AWS gets what they show.
    #[serde(default)]
    pub requires_session_log: bool,
    /// Length of `events.jsonl`, in bytes.
    pub events: u64,
    /// Length of `output.log`, in bytes.
    pub output: u64,
}
