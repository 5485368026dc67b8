//! Messages between `runner` commands and the owner of a build, over `control.sock`.
//!
//! Messages are JSON in `frame`s. The client begins with [`ControlRequest::Hello`]. Each request
//! gets one response, except that [`ControlRequest::Watch`], [`ControlRequest::WatchPauses`],
//! [`ControlRequest::Open`], [`ControlRequest::Files`] and [`ControlRequest::Forward`] get a stream
//! of responses.

use crate::frame;
use runner_core::agent::{AgentConfig, PropertyLayer};
use runner_core::debug::{Decision, DecisionClient};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Protocol version. Raised when an older peer would misunderstand a message.
pub const PROTOCOL: u32 = 9;

/// Minimum time between two [`ControlRequest::Active`] messages of a client with a terminal.
pub const ACTIVITY_PACE: Duration = Duration::from_millis(250);

/// Encodes a message as JSON in a frame.
///
/// # Errors
/// The message is longer than a peer accepts.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    frame::encode(&serde_json::to_vec(message)?).map_err(io::Error::other)
}

/// A request from a client to the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// The greeting; always the first request.
    Hello {
        /// [`PROTOCOL`] of the client.
        protocol: u32,
        /// Version of the client's program, for messages.
        version: String,
        /// The client that a person uses, for the record of decisions.
        #[serde(default)]
        client: DecisionClient,
    },
    /// Get the status of the build.
    Status,
    /// Release the oldest breakpoint.
    Resume,
    /// A decision at a stop.
    Decide(Decision),
    /// Pause during the current command. Answered once it is frozen.
    Pause,
    /// Evaluate a text at a stop, in the shell state of the build's commands. Answered by
    /// [`ControlResponse::Runs`]. Its output and result are in the build's log, as for any run.
    Eval {
        /// The text.
        text: String,
    },
    /// End an evaluated text, if it still runs.
    EndEval {
        /// Its number.
        run: u32,
    },
    /// Set a variable for later commands.
    Set {
        /// Its name.
        name: String,
        /// Its value; absent to unset the variable.
        #[serde(default)]
        value: Option<String>,
    },
    /// Get the variables of the next command. Answered by [`ControlResponse::Variables`].
    Variables,
    /// List the breakpoints. Answered by [`ControlResponse::Breakpoints`], like the next two.
    Breakpoints,
    /// Add a breakpoint.
    AddBreakpoint {
        /// Its text.
        text: String,
    },
    /// Remove a breakpoint.
    RemoveBreakpoint {
        /// Its number.
        id: u64,
    },
    /// End the build.
    Stop,
    /// Send every change of [`ControlStatus`] until the build is over.
    Watch,
    /// The same, but only for changes that concern pauses.
    WatchPauses,
    /// The client has opened an endpoint for AWS clients, which leads to this build from now on.
    EndpointOpened {
        /// Address on this machine, as `HOST:PORT`.
        address: String,
    },
    /// The client could not open the endpoint.
    EndpointFailed {
        /// The reason.
        problem: String,
    },
    /// Start a program in the container and connect this client to it.
    Open(OpenProgram),
    /// Wait for a place to run a script, and keep it while this connection is open. Answered by
    /// [`ControlResponse::Done`] once fewer than `limit` scripts run. The image's config may set a
    /// lower limit.
    ScriptPlace {
        /// Maximum number of concurrent scripts in the build.
        limit: usize,
    },
    /// Run a script in the container and connect this client to it. Works like
    /// [`ControlRequest::Open`], but output is masked.
    Script(Script),
    /// Get the container's operating system.
    Platform,
    /// Start the program that reads and writes files in the container and pass its pipes, as for
    /// [`ControlRequest::Open`].
    Files,
    /// This client will ask for connections until it disconnects or the build ends.
    Forward {
        /// The forwarded ports, for the log.
        ports: Vec<String>,
        /// The session's name in audit lines, if it has one besides its number.
        #[serde(default)]
        name: Option<String>,
        /// Addresses to which connections are denied; the default ones if absent.
        #[serde(default)]
        denied: Option<Vec<IpAddr>>,
        /// The local address of each port on the client's machine, as `ADDRESS:PORT`; empty if
        /// unknown.
        #[serde(default)]
        locals: Vec<String>,
    },
    /// Get the config of AWS's agent. Answered by [`ControlResponse::Agent`].
    Agent,
    /// Connect to a listener in the container. Only after [`ControlRequest::Forward`]. Several
    /// requests may be open at once.
    Dial {
        /// ID of the connection in the response, chosen by the client.
        id: u64,
        /// `PORT`, `HOST:PORT`, `[IPV6]:PORT`, an absolute path or `@NAME`.
        remote: String,
    },
    /// The size of the client's terminal has changed.
    Resize(TerminalSize),
    /// Input or output on the program's terminal. A client that does not track idle time itself
    /// must send this, or its session counts as idle.
    Active,
    /// Send a signal to the program. Answered by [`ControlResponse::Signalled`], possibly after
    /// other responses.
    Signal(i32),
}

impl ControlRequest {
    /// Makes the greeting of a command-line client.
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
    /// Program and arguments; empty for an interactive shell.
    pub argv: Vec<String>,
    /// Size of the client's terminal; if absent, the program gets pipes.
    pub terminal: Option<TerminalSize>,
    /// The client's `TERM`.
    pub term: Option<String>,
    /// Name or ID of a user in the container; root if absent.
    pub user: Option<String>,
    /// Without a terminal: use one pipe for output and error, in order, and no input. Only one
    /// descriptor is passed then.
    pub merged: bool,
    /// The session's name in transcripts and audit lines, if it has one besides its number.
    pub name: Option<String>,
    /// Whether the client itself ends an idle session.
    pub keeps_time: bool,
    /// The user of the session, instead of `user`.
    pub run_as: Option<RunAs>,
    /// Whether the masked output is stored in `sessions-log` in the state folder, under `name`.
    pub spooled: bool,
}

/// A user of the container with a home directory; never root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// User name.
    pub name: String,
    /// Whether to create the user if it does not exist.
    pub is_made: bool,
}

/// A script to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// ID of its command, for folders and audit lines.
    pub command: String,
    /// Name of its step, for the same.
    pub step: String,
    /// Content of the script file.
    pub text: String,
    /// Working directory, relative to the one that programs start in; empty for that one.
    pub directory: String,
    /// Variables that are added to the usual ones or replace them.
    pub environment: Vec<(String, String)>,
}

/// A container's operating system, from its os-release. Empty if unknown.
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

/// A response from the owner to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlResponse {
    /// The greeting.
    Hello {
        /// [`PROTOCOL`] of the owner.
        protocol: u32,
        /// Version of the owner's program.
        version: String,
    },
    /// How the build stands.
    Status(ControlStatus),
    /// The request was carried out.
    Done,
    /// The config of AWS's agent.
    Agent {
        /// The config for the build's own endpoints.
        host: AgentConfig,
        /// The image's settings; `None` if it has no readable config file.
        image: Option<PropertyLayer>,
    },
    /// The breakpoints.
    Breakpoints(Vec<BreakpointLine>),
    /// The evaluated text runs.
    Runs {
        /// Number of the run in the log's events.
        run: u32,
    },
    /// The container's operating system.
    Platform(Platform),
    /// The variables by name, including those that are now unset.
    Variables(Vec<VariableLine>),
    /// The request was refused.
    Refused {
        /// Exit code for the client, as `exec` and `attach` use it.
        code: u8,
        /// The reason.
        message: String,
    },
    /// The program has started. Its descriptors are passed along; those of a terminal are
    /// non-blocking. They are the host's end of the terminal, for reading and writing; or input,
    /// output and error; or only the merged output; or, for a script, output and error.
    Opened {
        /// Number of the session in the build.
        session: u64,
    },
    /// The connection is open; its socket is passed along.
    Dialled {
        /// ID from the request.
        id: u64,
    },
    /// The connection failed.
    NotDialled {
        /// ID from the request.
        id: u64,
        /// The reason.
        message: String,
    },
    /// The signal was sent, and the container is still there.
    Signalled,
    /// A message for the person at the program's terminal, or for a script's error output. Sent
    /// only to clients with such a program.
    Told {
        /// One line.
        message: String,
    },
    /// The program has ended by itself. All of its output is in its terminal or pipes.
    Exited {
        /// Exit code as shells report it.
        code: u8,
    },
    /// The owner has ended the session.
    Closed {
        /// One line for the person.
        message: String,
    },
}

/// A breakpoint of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakpointLine {
    /// Its number.
    pub id: u64,
    /// Its owner.
    pub owner: String,
    /// Its text.
    pub text: String,
}

/// A variable for later commands. Secrets in it are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableLine {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it is unset.
    pub value: Option<String>,
    /// Its value before the last run.
    pub before: Option<String>,
    /// Whether the value has changed. Both values may look the same, because they are masked.
    pub is_changed: bool,
}

/// A port on this machine that is forwarded into a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardLine {
    /// Local address, as `ADDRESS:PORT`.
    pub local: String,
    /// Target in the container, as requested.
    pub remote: String,
}

/// The status of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlStatus {
    /// `running`, `paused` or a final status.
    pub state: String,
    /// The current phase.
    pub phase: String,
    /// First line of the current command.
    pub command: Option<String>,
    /// Number of open sessions.
    pub sessions: usize,
    /// Number of processes that wait at breakpoints.
    pub paused: usize,
    /// Address for AWS clients, as `HOST:PORT`.
    pub endpoint: Option<String>,
    /// Seconds until the build times out; `None` while its clock is stopped.
    pub time_left_s: Option<u64>,
    /// Seconds until the pause ends by itself; `None` while a person is connected, or without a
    /// limit.
    #[serde(default)]
    pub pause_left_s: Option<u64>,
    /// Whether `codebuild-breakpoint` pauses the build and AWS clients are allowed.
    pub sessions_enabled: bool,
    /// Whether there is a container for sessions.
    pub has_container: bool,
    /// Seconds without input until a session is closed.
    pub session_idle_s: u64,
    /// Whether the user who started the build has set this limit.
    #[serde(default)]
    pub is_idle_given: bool,
    /// Maximum duration of a session, in seconds.
    pub session_longest_s: Option<u64>,
    /// Ports of this machine that are forwarded into the build.
    #[serde(default)]
    pub forwards: Vec<ForwardLine>,
    /// Whether sessions of AWS clients require that AWS stores their transcripts.
    #[serde(default)]
    pub requires_session_log: bool,
    /// Length of `events.jsonl`, in bytes.
    pub events: u64,
    /// Length of `output.log`, in bytes.
    pub output: u64,
}
