//! The hub: opens sessions while there is a container, and closes them when the build ends.
//!
//! `control::host` passes on what clients ask for. The hub uses the engine's `exec`, as do build
//! commands. A session gets the variables and directory of the process that waits at a breakpoint,
//! otherwise those of the last finished command.

use super::forwards::{ClientForwards, Forwards};
use super::guests::{Guests, Presence, STOPPING};
use super::image_agent;
use super::log::SessionLog;
use super::places::{ScriptPlace, ScriptPlaces};
use super::program::{Course, GRACE, ProgramSession, TerminalLimits, end};
use super::recording::Recording;
use super::refusal::{DEAF, LAST_RESORT, SessionOpenError, refusal};
use super::run_as;
use super::script::{self, ScriptCourse, ScriptFile};
use super::transcript::Transcript;
use crate::driver::inbox::Inbox;
use crate::driver::{PausedProcesses, Sessions, SharedSnapshot};
use runner_core::agent::{AgentConfig, PropertyLayer};
use runner_core::env::DEFAULT_PATH;
use runner_core::exports;
use runner_core::machine::MachineInput;
use runner_core::mask::SharedSecrets;
use runner_core::phase::Status;
use runner_engine::dial::{self, Remote};
use runner_engine::{Container, ExecSpec, Fut, Ids, OpenMode, Stdio, files, users};
use runner_folder::state::Spool;
use runner_wire::abi::TOOLBOX_PATH;
use runner_wire::control::{ForwardLine, OpenProgram, Platform, Script, TerminalSize};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Shells a session may start, in order of preference.
const SHELLS: [&str; 3] = ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"];
/// `TERM` for a client that sends none.
const TERM: &str = "xterm-256color";

/// Files that describe the system. The first is often a link to the second.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Maximum bytes read of such a file.
const MAX_OS_RELEASE: u64 = 64 << 10;

/// How long a request may take before the container is checked for a response.
const LOOK: Duration = Duration::from_secs(1);

/// Settings of a build's sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionOptions {
    /// Whether codebuild-breakpoint pauses the build and AWS's clients may connect.
    pub is_enabled: bool,
    /// A terminal session without input or output for this long is closed.
    pub idle_timeout: Duration,
    /// Whether the caller has set it.
    #[serde(default)]
    pub is_idle_given: bool,
    /// Maximum duration of a terminal session.
    pub longest: Option<Duration>,
    /// Where transcripts go, if requested.
    pub log: Option<PathBuf>,
    /// Whether sessions of AWS's clients require that their output can be sent to AWS.
    #[serde(default)]
    pub requires_log: bool,
    /// Configuration of AWS's agent on this host.
    #[serde(default)]
    pub agent: AgentConfig,
}

/// The parts of a hub.
pub struct HubParts {
    pub inbox: Inbox,
    pub breakpoints: Arc<PausedProcesses>,
    pub snapshot: SharedSnapshot,
    pub options: SessionOptions,
    /// The build's uuid.
    pub build: String,
    /// Where transcripts go, if requested.
    pub log: Option<Arc<dyn SessionLog>>,
    /// Where data for AWS is queued.
    pub spool: Option<Spool>,
    /// Whether the container's ports are this machine's own.
    pub shares_network: bool,
}

/// Where a session's output is kept.
#[derive(Clone, Copy)]
struct Keeping<'a> {
    log: Option<&'a dyn SessionLog>,
    /// Also in the state folder, to be sent to AWS.
    is_spooled: bool,
}

/// Opens and ends sessions.
pub struct Hub {
    breakpoints: Arc<PausedProcesses>,
    snapshot: SharedSnapshot,
    options: SessionOptions,
    container: Mutex<Option<Arc<dyn Container>>>,
    guests: Arc<Guests>,
    inbox: Inbox,
    /// The image's own configuration of AWS's agent, once someone has asked for it.
    image_agent: OnceCell<Option<PropertyLayer>>,
    /// Ensures that users are created one at a time.
    making: tokio::sync::Mutex<()>,
    /// The container's operating system, once a script has been run.
    platform: OnceCell<Platform>,
    places: Arc<ScriptPlaces>,
    forwards: Arc<Forwards>,
    spool: Option<Spool>,
    shares_network: bool,
}

impl Hub {
    pub fn new(parts: HubParts) -> Self {
        Hub {
            breakpoints: parts.breakpoints,
            snapshot: parts.snapshot,
            options: parts.options,
            container: Mutex::new(None),
            inbox: parts.inbox.clone(),
            image_agent: OnceCell::new(),
            making: tokio::sync::Mutex::new(()),
            platform: OnceCell::new(),
            places: ScriptPlaces::new(),
            forwards: Arc::default(),
            spool: parts.spool,
            shares_network: parts.shares_network,
            guests: Arc::new(Guests::new(parts.inbox, parts.build, parts.log)),
        }
    }

    /// Starts a program for a client.
    pub async fn open(&self, request: &OpenProgram) -> Result<ProgramSession, SessionOpenError> {
        self.unless_deaf(self.start_program(request)).await
    }

    async fn start_program(
        &self,
        request: &OpenProgram,
    ) -> Result<ProgramSession, SessionOpenError> {
        let container = self.container()?;
        let user = match &request.user {
            None => Ids::default(),
            Some(name) => users::resolve(&*container, name).await.ok_or_else(|| {
                SessionOpenError::ours(format!("the container has no user `{name}`"))
            })?,
        };
        let run_as = match &request.run_as {
            None => None,
            Some(run_as) => {
                let _one = self.making.lock().await;
                Some(run_as::find(&*container, run_as).await?)
            }
        };
        let (user, home) = match run_as {
            Some((ids, home)) => (ids, Some(home)),
            None => (user, None),
        };
        let mut spec = self.exec_spec(&*container, request, user).await;
        if let Some(home) = home {
            spec.env.retain(|variable| !variable.starts_with(b"HOME="));
            spec.env.push(format!("HOME={home}").into_bytes());
        }
        let label = String::from_utf8_lossy(&spec.argv.join(&b' ')).into_owned();
        let limits = TerminalLimits {
            idle: (!request.keeps_time).then_some(self.options.idle_timeout),
            longest: self.options.longest,
        };
        let keeping = Keeping { log: self.guests.log(), is_spooled: request.spooled };
        self.start(&*container, spec, label, request.name.clone(), limits, keeping).await
    }

    /// The image's configuration of AWS's agent. Its errors are reported once, to the user at the
    /// build.
    pub async fn image_agent(&self) -> Option<PropertyLayer> {
        let container = self.container().ok()?;
        let read = async {
            let (layer, notice) = image_agent::read(&*container).await;
            if let Some(notice) = notice {
                self.inbox.send(MachineInput::Notice(notice)).await;
            }
            Ok(layer)
        };
        // If the container does not respond, nothing is known yet.
        let read = self.image_agent.get_or_try_init(|| self.unless_deaf(read));
        read.await.ok().cloned().flatten()
    }

    /// Waits for a place for a script. The limit is the lowest of the client's, the host's and the
    /// image's.
    pub async fn script_place(&self, limit: usize) -> ScriptPlace {
        let image = self.image_agent().await;
        let host = self.options.agent.with_command_workers(limit);
        let config = image.map_or(host.clone(), |image| host.tightened(&image).0);
        self.places.enter(config.command_workers()).await
    }

    /// Runs a script for a client.
    pub async fn run(&self, script: &Script) -> Result<ProgramSession, SessionOpenError> {
        self.unless_deaf(self.start_script(script)).await
    }

    async fn start_script(&self, script: &Script) -> Result<ProgramSession, SessionOpenError> {
        let container = self.container()?;
        let file = ScriptFile::put(&*container, script).await?;
        let argv = vec!["sh".to_owned(), "-c".to_owned(), exports::quote(&file.path())];
        let open = OpenProgram { argv, ..OpenProgram::default() };
        let mut spec = self.exec_spec(&*container, &open, Ids::default()).await;
        let platform = self.platform.get_or_try_init(|| self.read_platform(&*container)).await?;
        let platform = [
            ("AWS_SSM_PLATFORM_NAME", &platform.name),
            ("AWS_SSM_PLATFORM_VERSION", &platform.version),
        ];
        let platform = platform.map(|(name, value)| (name.to_owned(), value.clone()));
        for (name, value) in platform.iter().chain(&script.environment) {
            let start = format!("{name}=");
            spec.env.retain(|variable| !variable.starts_with(start.as_bytes()));
            spec.env.push(format!("{start}{value}").into_bytes());
        }
        if !script.directory.is_empty() {
            spec.cwd_or_root = false;
            spec.cwd = below(&spec.cwd, &script.directory);
        }
        let directory = String::from_utf8_lossy(&spec.cwd).into_owned();
        let process = match container.exec(spec).await {
            Ok(process) => process,
            Err(error) => {
                file.remove().await;
                return Err(script::refused(&error, &directory));
            }
        };
        let signals = process.signals.clone();
        let (secrets, closing) = (self.guests.secrets(), self.guests.closing());
        match ScriptCourse::connect(process, file, directory, &secrets, closing) {
            Ok(running) => Ok(ProgramSession {
                number: 0,
                ends: running.ends,
                controls: running.controls,
                course: Course::Script(Box::new(running.course)),
            }),
            Err(error) => {
                end(&signals).await;
                Err(SessionOpenError::ours(format!("cannot connect to the script: {error}")))
            }
        }
    }

    /// The container's operating system. Its description is returned as it is, without control
    /// characters.
    pub async fn platform(&self) -> Result<Platform, SessionOpenError> {
        let container = self.container()?;
        let read = self.platform.get_or_try_init(|| self.read_platform(&*container)).await;
        read.cloned()
    }

    async fn read_platform(&self, container: &dyn Container) -> Result<Platform, SessionOpenError> {
        let read = async {
            for path in OS_RELEASE {
                if let Ok(fd) = container.open(Path::new(path), OpenMode::Read).await {
                    let read = tokio::task::spawn_blocking(move || platform_of(fd)).await;
                    return Ok(read.unwrap_or_default());
                }
            }
            Ok(Platform { name: "Linux".to_owned(), version: String::new() })
        };
        self.unless_deaf(read).await
    }

    /// Sets the values that transcripts and audit lines must not show.
    pub fn mask(&self, secrets: SharedSecrets) {
        self.guests.mask(secrets);
    }

    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Whether the container's ports are this machine's own.
    pub fn shares_network(&self) -> bool {
        self.shares_network
    }

    /// Whether there is a container for sessions.
    pub fn has_container(&self) -> bool {
        self.container().is_ok()
    }

    /// Starts the program that moves files, for a client that talks to it over its pipes. Relative
    /// paths are resolved as for a program started now.
    pub async fn open_files(&self) -> Result<ProgramSession, SessionOpenError> {
        let container = self.container()?;
        // The client waits for the program's first message, and could not be told that none will
        // come.
        if !container.answers().await {
            return Err(SessionOpenError::ours(DEAF));
        }
        let (_, cwd) = self.context();
        let spec = files::exec_spec(&*container, cwd);
        let limits = TerminalLimits { idle: None, longest: None };
        let keeping = Keeping { log: None, is_spooled: false };
        self.start(&*container, spec, "cp".to_owned(), None, limits, keeping).await
    }

    /// Registers a client that connects to listeners in the container.
    pub async fn enter(
        &self,
        label: String,
        name: Option<String>,
    ) -> Result<Presence, SessionOpenError> {
        self.container()?;
        Ok(self.guests.enter(label, name).await)
    }

    /// Lists ports of this machine that lead into the build.
    pub fn list_forwards(&self, lines: Vec<ForwardLine>) -> ClientForwards {
        self.forwards.list(lines)
    }

    /// The listed ports.
    pub fn forwards(&self) -> Vec<ForwardLine> {
        self.forwards.all()
    }

    /// Connects to a listener in the container.
    pub async fn dial(
        &self,
        remote: &Remote,
        denied: &[IpAddr],
    ) -> Result<OwnedFd, SessionOpenError> {
        let container = self.container()?;
        let dialled = dial::dial(&*container, remote, denied);
        self.unless_deaf(async {
            dialled.await.map_err(|error| SessionOpenError::ours(error.to_string()))
        })
        .await
    }

    /// Waits for the container's answer, as long as the container responds at all.
    async fn unless_deaf<T>(
        &self,
        asked: impl Future<Output = Result<T, SessionOpenError>>,
    ) -> Result<T, SessionOpenError> {
        let mut asked = pin!(asked);
        loop {
            tokio::select! {
                done = &mut asked => return done,
                () = tokio::time::sleep(LOOK) => {
                    // If there is no container, the request itself reports that.
                    if let Ok(container) = self.container()
                        && !container.answers().await
                    {
                        return Err(SessionOpenError::ours(DEAF));
                    }
                }
            }
        }
    }

    async fn start(
        &self,
        container: &dyn Container,
        spec: ExecSpec,
        label: String,
        id: Option<String>,
        limits: TerminalLimits,
        keeping: Keeping<'_>,
    ) -> Result<ProgramSession, SessionOpenError> {
        let name = String::from_utf8_lossy(&spec.argv[0]).into_owned();
        let size = match spec.stdio {
            Stdio::Terminal(rows, cols) => Some(TerminalSize { rows, cols }),
            _ => None,
        };
        let process = container.exec(spec).await.map_err(|error| refusal(&error, &name))?;
        let signals = process.signals.clone();
        let presence = self.guests.enter(label.clone(), id.clone()).await;
        let number = presence.number;
        let transcript = self.transcript(keeping, id.as_deref(), number, size, &label);
        let failed = match transcript {
            Ok(transcript) => {
                match ProgramSession::new(presence, name, process, limits, transcript) {
                    Ok(session) => return Ok(session),
                    Err(error) => format!("cannot connect to the session's program: {error}"),
                }
            }
            Err(error) => format!("cannot keep a transcript of this session: {error}"),
        };
        end(&signals).await;
        Err(SessionOpenError::ours(failed))
    }

    /// The transcript of a new session, if one is kept.
    fn transcript(
        &self,
        keeping: Keeping<'_>,
        id: Option<&str>,
        number: u64,
        size: Option<TerminalSize>,
        program: &str,
    ) -> io::Result<Option<Transcript>> {
        // Clients choose these ids, and they become file names; they contain users' names
        // (docs/access-control.md).
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_.@=,+-".contains(c);
        let is_plain = |name: &&str| !name.starts_with('.') && name.chars().all(is_part);
        let name = id.filter(is_plain).map_or_else(|| self.guests.name_of(number), str::to_owned);
        let mut files: Vec<Box<dyn io::Write + Send>> = Vec::new();
        if let Some(log) = keeping.log {
            files.push(log.transcript(&name)?);
        }
        if keeping.is_spooled {
            let spool = self.spool.as_ref().zip(id);
            let (spool, id) = spool.ok_or_else(|| io::Error::other("it has no name"))?;
            files.push(Box::new(spool.write_text(id)?));
        }
        if files.is_empty() {
            return Ok(None);
        }
        let transcript = Transcript::new(self.guests.secrets(), files);
        let (Some(size), Some(log)) = (size, keeping.log) else { return Ok(Some(transcript)) };
        let program = self.guests.masked(program);
        let recording = Recording::begin(log.recording(&name)?, size, &program)?;
        Ok(Some(transcript.with(Arc::new(recording))))
    }

    /// The container, while clients may enter.
    fn container(&self) -> Result<Arc<dyn Container>, SessionOpenError> {
        if let Some(closing) = self.guests.closed() {
            return Err(SessionOpenError::ours(closing.message));
        }
        let container = self.container.lock().unwrap_or_else(PoisonError::into_inner).clone();
        container.ok_or_else(|| SessionOpenError::ours("the build's container is not there yet"))
    }

    async fn exec_spec(
        &self,
        container: &dyn Container,
        request: &OpenProgram,
        user: Ids,
    ) -> ExecSpec {
        let (mut env, cwd) = self.context();
        let mut argv: Vec<Vec<u8>> =
            request.argv.iter().map(|argument| argument.clone().into_bytes()).collect();
        if argv.is_empty() {
            argv.push(shell(container).await.into_bytes());
        }
        let stdio = match request.terminal {
            Some(TerminalSize { rows, cols }) => {
                env.retain(|variable| !variable.starts_with(b"TERM="));
                let term = request.term.as_deref().filter(|term| !term.contains('\0'));
                env.push(format!("TERM={}", term.unwrap_or(TERM)).into_bytes());
                Stdio::Terminal(rows, cols)
            }
            None if request.merged => Stdio::Merged,
            None => Stdio::Separate,
        };
        // A build with a broken PATH is one that a person may want to inspect.
        let path = match env.iter().find_map(|variable| variable.strip_prefix(b"PATH=")) {
            Some(path) => [path, b":", DEFAULT_PATH.as_bytes()].concat(),
            None => DEFAULT_PATH.as_bytes().to_vec(),
        };
        let toolbox = container.has_toolbox();
        if toolbox {
            // Placed after the image's directories: what a person tries here must match what the
            // build does.
            let own = env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
            let own = own.unwrap_or(DEFAULT_PATH.as_bytes());
            let variable = [b"PATH=", own, b":", TOOLBOX_PATH.as_bytes()].concat();
            env.retain(|variable| !variable.starts_with(b"PATH="));
            env.push(variable);
        }
        let path =
            if toolbox { [path.as_slice(), b":", TOOLBOX_PATH.as_bytes()].concat() } else { path };
        let of_build = false;
        ExecSpec { argv, path, env, cwd, cwd_or_root: true, user, stdio, toolbox, of_build }
    }

    /// Variables and directory for a new session.
    fn context(&self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.breakpoints.first_waiting() {
            Some(caller) if caller.environment.is_empty() => (snapshot.env, caller.cwd),
            Some(caller) => (caller.environment, caller.cwd),
            None => (snapshot.env, snapshot.cwd),
        }
    }
}

impl Sessions for Hub {
    fn connect(&self, container: Arc<dyn Container>) {
        *self.container.lock().unwrap_or_else(PoisonError::into_inner) = Some(container);
    }

    fn has_guests(&self) -> bool {
        self.guests.is_any()
    }

    fn has_shell(&self) -> Fut<'_, bool> {
        Box::pin(async {
            let Ok(container) = self.container() else { return false };
            let shell = shell(&*container).await;
            container.has_toolbox() || is_there(&*container, &shell).await
        })
    }

    fn hang_up(&self) {
        self.guests.send_off(STOPPING.to_owned(), false);
    }

    fn put_out(&self, message: String) -> Fut<'_, u64> {
        Box::pin(async move {
            let count = self.guests.count() as u64;
            self.guests.send_off(message.clone(), false);
            *self.container.lock().unwrap_or_else(PoisonError::into_inner) = None;
            // What does not exit by itself is killed with the container.
            let _ = tokio::time::timeout(2 * GRACE, self.guests.all_gone()).await;
            self.guests.let_in(&message);
            count
        })
    }

    fn close(&self, status: Status) -> Fut<'_, ()> {
        self.guests.send_off(format!("the build has ended: {status}"), true);
        Box::pin(async move {
            let _ = tokio::time::timeout(2 * GRACE, self.guests.all_gone()).await;
        })
    }
}

/// A directory, relative to another unless it is absolute.
fn below(cwd: &[u8], directory: &str) -> Vec<u8> {
    if directory.starts_with('/') {
        return directory.as_bytes().to_vec();
    }
    [cwd, b"/", directory.as_bytes()].concat()
}

/// Parses an os-release file.
fn platform_of(fd: OwnedFd) -> Platform {
    let mut text = Vec::new();
    // An unreadable file counts as empty.
    let _ = std::fs::File::from(fd).take(MAX_OS_RELEASE).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let value = |key: &str| -> String {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = line.unwrap_or_default().trim().trim_matches(['"', '\'']);
        value.chars().filter(|c| !c.is_control()).take(128).collect()
    };
    // A system without a name still gets an entry.
    let name = Some(value("NAME")).filter(|name| !name.is_empty());
    Platform { name: name.unwrap_or_else(|| "Linux".to_owned()), version: value("VERSION_ID") }
}

/// The best shell in the image.
async fn shell(container: &dyn Container) -> String {
    for path in SHELLS {
        if is_there(container, path).await {
            return path.to_owned();
        }
    }
    if container.has_toolbox() && !is_there(container, LAST_RESORT).await {
        return format!("{TOOLBOX_PATH}/sh");
    }
    LAST_RESORT.to_owned()
}

async fn is_there(container: &dyn Container, path: &str) -> bool {
    match container.open(Path::new(path), OpenMode::Look).await {
        Ok(_) => true,
        // It is a link, which is not followed, but it exists.
        Err(error) => error.kind() == io::ErrorKind::InvalidInput,
    }
}
