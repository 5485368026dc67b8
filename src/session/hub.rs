//! The hub: opens sessions, knows which are open, ends them when the build ends.
//!
//! Fed by `control::host` with what a client asks for; uses the engine's `exec`, the same that build
//! commands use. A session sees the variables and the directory of the process that waits at a
//! breakpoint, or else those of the last finished command.

use super::log::{SessionLog, SessionNote, Transcript};
use crate::driver::inbox::Inbox;
use crate::driver::{Breakpoints, Sessions, SharedSnapshot};
use crate::duplex::Duplex;
use crate::engine::dial::{self, Remote};
use crate::engine::{
    Container, Ends, ExecError, ExecSpec, Fut, Ids, OpenMode, Process, Reach, Signals, Stdio,
    files, users,
};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use runner_core::env::DEFAULT_PATH;
use runner_core::machine::Input;
use runner_core::mask::SharedSecrets;
use runner_core::phase::Status;
use runner_wire::abi::TOOLBOX_PATH;
use runner_wire::control::{Open, Size};
use runner_wire::init::Exit;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Shells a session may start, the most comfortable first.
const SHELLS: [&str; 3] = ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"];
const LAST_RESORT: &str = "/bin/sh";
/// How long a session's programs have between SIGHUP and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);
/// `TERM` for a client that does not tell its own.
const TERM: &str = "xterm-256color";

/// What a hub works with.
pub(crate) struct HubParts {
    pub(crate) inbox: Inbox,
    pub(crate) breakpoints: Arc<Breakpoints>,
    pub(crate) snapshot: SharedSnapshot,
    /// A terminal session without input or output for so long is closed.
    pub(crate) idle_timeout: Duration,
    /// The longest a terminal session may be open.
    pub(crate) longest: Option<Duration>,
    /// Whether AWS's clients are let in.
    pub(crate) is_enabled: bool,
    /// The build's uuid.
    pub(crate) build: String,
    /// Where transcripts go, where they are wanted.
    pub(crate) log: Option<Arc<dyn SessionLog>>,
}

/// Opens and ends sessions.
pub(crate) struct Hub {
    parts: HubParts,
    container: Mutex<Option<Arc<dyn Container>>>,
    next: AtomicU64,
    closing: watch::Sender<Option<Closing>>,
    /// What no transcript shows; known before there is a container.
    secrets: OnceLock<SharedSecrets>,
    /// Open sessions.
    count: watch::Sender<usize>,
}

/// Why all sessions are being closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    /// One line for the person.
    pub(crate) message: String,
}

/// A session that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct OpenError {
    /// Exit code for the client.
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl OpenError {
    fn ours(message: impl Into<String>) -> Self {
        OpenError { code: 125, message: message.into() }
    }
}

impl Hub {
    pub(crate) fn new(parts: HubParts) -> Self {
        Hub {
            parts,
            container: Mutex::new(None),
            next: AtomicU64::new(1),
            closing: watch::Sender::new(None),
            secrets: OnceLock::new(),
            count: watch::Sender::new(0),
        }
    }

    /// Starts a program for a client.
    pub(crate) async fn open(self: &Arc<Self>, request: &Open) -> Result<Session, OpenError> {
        let container = self.container()?;
        let user = match &request.user {
            None => Ids::default(),
            Some(name) => users::resolve(&*container, name)
                .await
                .ok_or_else(|| OpenError::ours(format!("the container has no user `{name}`")))?,
        };
        let spec = self.exec_spec(&*container, request, user).await;
        let label = String::from_utf8_lossy(&spec.argv.join(&b' ')).into_owned();
        let name = request.name.clone();
        let mut session = self.start(&*container, spec, label, name.clone()).await?;
        session.output.keeps_time = request.keeps_time;
        if let (Some(log), Some(_)) = (&self.parts.log, &session.output.terminal) {
            let name = name
                .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
                .unwrap_or_else(|| format!("{}-{}", self.parts.build, session.number));
            match log.transcript(&name) {
                Ok(to) => {
                    let secrets = self.secrets.get().cloned().unwrap_or_default();
                    session.output.transcript = Some(Transcript::new(secrets, to));
                }
                Err(error) => {
                    session.input.abandon().await;
                    let text = format!("cannot keep a transcript of this session: {error}");
                    return Err(OpenError::ours(text));
                }
            }
        }
        Ok(session)
    }

    /// What no transcript is to show.
    pub(crate) fn mask(&self, secrets: SharedSecrets) {
        // Said once.
        let _ = self.secrets.set(secrets);
    }

    /// The longest a session may be open.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.parts.longest
    }

    fn note(&self, note: SessionNote<'_>) {
        if let Some(log) = &self.parts.log {
            log.note(note);
        }
    }

    /// Text for an audit line.
    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(secrets) = self.secrets.get() {
            secrets.get().mask_text(&mut text);
        }
        text
    }

    /// Whether there is a container that sessions can be opened in.
    pub(crate) fn has_container(&self) -> bool {
        self.container().is_ok()
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.parts.idle_timeout
    }

    /// Whether AWS's clients are let in.
    pub(crate) fn is_enabled(&self) -> bool {
        self.parts.is_enabled
    }

    /// Starts the program that moves files, for a client that talks to it over its pipes. Relative
    /// paths mean what they mean to a program that is started now.
    pub(crate) async fn open_files(self: &Arc<Self>) -> Result<Session, OpenError> {
        let container = self.container()?;
        let (_, cwd) = self.context();
        let spec = files::exec_spec(&*container, cwd);
        self.start(&*container, spec, "cp".to_owned(), None).await
    }

    /// A client that connects to what listens in the container is there.
    pub(crate) async fn enter(self: &Arc<Self>, label: String) -> Result<Presence, OpenError> {
        self.container()?;
        Ok(Presence::new(self, label, None).await)
    }

    /// Connects to what listens in the container.
    pub(crate) async fn dial(&self, remote: &Remote) -> Result<OwnedFd, OpenError> {
        let container = self.container()?;
        dial::dial(&*container, remote).await.map_err(|error| OpenError::ours(error.to_string()))
    }

    async fn start(
        self: &Arc<Self>,
        container: &dyn Container,
        spec: ExecSpec,
        label: String,
        id: Option<String>,
    ) -> Result<Session, OpenError> {
        let name = String::from_utf8_lossy(&spec.argv[0]).into_owned();
        let process = container.exec(spec).await.map_err(|error| refusal(&error, &name))?;
        let presence = Presence::new(self, label, id).await;
        Session::new(presence, name, process).map_err(|error| {
            OpenError::ours(format!("cannot watch the session's terminal: {error}"))
        })
    }

    /// The container, while new guests are let in.
    fn container(&self) -> Result<Arc<dyn Container>, OpenError> {
        if let Some(closing) = &*self.closing.borrow() {
            return Err(OpenError::ours(closing.message.clone()));
        }
        let container = self.container.lock().unwrap_or_else(PoisonError::into_inner).clone();
        container.ok_or_else(|| OpenError::ours("the build's container is not there yet"))
    }

    async fn exec_spec(&self, container: &dyn Container, request: &Open, user: Ids) -> ExecSpec {
        let (mut env, cwd) = self.context();
        let mut argv: Vec<Vec<u8>> =
            request.argv.iter().map(|argument| argument.clone().into_bytes()).collect();
        if argv.is_empty() {
            argv.push(shell(container).await.into_bytes());
        }
        let stdio = match request.terminal {
            Some(Size { rows, cols }) => {
                env.retain(|variable| !variable.starts_with(b"TERM="));
                let term = request.term.as_deref().filter(|term| !term.contains('\0'));
                env.push(format!("TERM={}", term.unwrap_or(TERM)).into_bytes());
                Stdio::Terminal(rows, cols)
            }
            None if request.merged => Stdio::Merged,
            None => Stdio::Separate,
        };
        // A build that has spoilt its PATH is one that somebody wants to look into.
        let path = match env.iter().find_map(|variable| variable.strip_prefix(b"PATH=")) {
            Some(path) => [path, b":", DEFAULT_PATH.as_bytes()].concat(),
            None => DEFAULT_PATH.as_bytes().to_vec(),
        };
        let toolbox = container.has_toolbox();
        if toolbox {
            // After everything of the image: what a person tries here is to be what the build does.
            let own = env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
            let own = own.unwrap_or(DEFAULT_PATH.as_bytes());
            let variable = [b"PATH=", own, b":", TOOLBOX_PATH.as_bytes()].concat();
            env.retain(|variable| !variable.starts_with(b"PATH="));
            env.push(variable);
        }
        let path =
            if toolbox { [path.as_slice(), b":", TOOLBOX_PATH.as_bytes()].concat() } else { path };
        ExecSpec { argv, path, env, cwd, cwd_or_root: true, user, stdio, toolbox }
    }

    /// Variables and directory for a new session.
    fn context(&self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let snapshot = self.parts.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.parts.breakpoints.first_waiting() {
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

    fn hang_up(&self) {
        let message = "the build is being stopped".to_owned();
        self.closing.send_if_modified(|closing| closing.replace(Closing { message }).is_none());
    }

    fn close(&self, status: Status) -> Fut<'_, ()> {
        let message = format!("the build has ended: {status}");
        self.closing.send_replace(Some(Closing { message }));
        let mut count = self.count.subscribe();
        Box::pin(async move {
            // Fails only when the hub is gone, and with it every session.
            let _ = tokio::time::timeout(2 * GRACE, count.wait_for(|count| *count == 0)).await;
        })
    }
}

/// The best shell the image has.
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
    match container.open(Path::new(path), OpenMode::Read).await {
        Ok(_) => true,
        // A link at the end is not followed; it is there.
        Err(error) => error.raw_os_error() == Some(Errno::ELOOP as i32),
    }
}

fn refusal(error: &ExecError, program: &str) -> OpenError {
    let message = if error.is_missing_program() && program == LAST_RESORT {
        "the image has no shell; run one of its programs: runner exec BUILD -- PROGRAM; or \
         start the build with --toolbox"
            .to_owned()
    } else {
        format!("{program}: {error}")
    };
    OpenError { code: error.shell_code(), message }
}

/// A client that is in the build: the log and `ps` know of it until this goes.
pub(crate) struct Presence {
    pub(crate) number: u64,
    /// Its id at AWS's clients.
    id: Option<String>,
    hub: Arc<Hub>,
    closing: watch::Receiver<Option<Closing>>,
    how: Option<String>,
}

impl Presence {
    async fn new(hub: &Arc<Hub>, program: String, id: Option<String>) -> Self {
        let number = hub.next.fetch_add(1, Ordering::Relaxed);
        hub.note(SessionNote {
            time: String::new(),
            event: "opened",
            build: &hub.parts.build,
            session: number,
            session_id: id.as_deref(),
            program: Some(hub.masked(&program)),
            how: None,
        });
        hub.parts.inbox.send(Input::SessionOpened { session: number, program }).await;
        hub.count.send_modify(|count| *count += 1);
        let closing = hub.closing.subscribe();
        Presence { number, id, hub: Arc::clone(hub), closing, how: None }
    }

    /// Resolves when all clients are to go: with a line for the person.
    pub(crate) async fn closing(&mut self) -> String {
        let closing = closing(&mut self.closing).await;
        // What is known by now says more than what was known when the end began.
        let message = self.closing.borrow().as_ref().map(|newest| newest.message.clone());
        let message = message.unwrap_or(closing.message);
        self.how = Some(message.clone());
        message
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let how = self.how.take().unwrap_or_else(|| "the client has gone".to_owned());
        let (hub, session) = (Arc::clone(&self.hub), self.number);
        hub.note(SessionNote {
            time: String::new(),
            event: "closed",
            build: &hub.parts.build,
            session,
            session_id: self.id.as_deref(),
            program: None,
            how: Some(hub.masked(&how)),
        });
        // None when this program is on its way out, and nobody is interested any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            hub.parts.inbox.send(Input::SessionClosed { session, how }).await;
            // Whoever waits for the last session finds its end in the log.
            hub.count.send_modify(|count| *count = count.saturating_sub(1));
        });
    }
}

/// A program that runs for a client.
pub(crate) struct Session {
    pub(crate) number: u64,
    /// Pipes for a client that asked for no terminal; to be handed over.
    pub(crate) pipes: Option<Vec<OwnedFd>>,
    pub(crate) input: SessionInput,
    pub(crate) output: SessionOutput,
}

/// The way to a session's program.
pub(crate) struct SessionInput {
    terminal: Option<Arc<Duplex>>,
    signals: Signals,
    activity: watch::Sender<()>,
}

/// The way from a session's program.
pub(crate) struct SessionOutput {
    presence: Presence,
    program: String,
    terminal: Option<Arc<Duplex>>,
    exit: oneshot::Receiver<Result<Exit, ExecError>>,
    ended: Option<Result<Exit, ExecError>>,
    signals: Signals,
    activity: watch::Receiver<()>,
    /// The client has a clock of its own.
    keeps_time: bool,
    /// When it is closed, however busy it is.
    until: Option<tokio::time::Instant>,
    transcript: Option<Transcript>,
    /// Set when the session was ended from this side: why, and what the client is told.
    closed: Option<Closing>,
}

/// What a session has to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Bytes of its terminal are in the buffer.
    Bytes(usize),
    /// The program has ended by itself.
    Exited(u8),
    /// The program could not be executed.
    Failed { code: u8, message: String },
    /// The session was ended from this side.
    Closed { message: String },
}

impl Session {
    fn new(presence: Presence, program: String, process: Process) -> io::Result<Self> {
        let (terminal, pipes) = match process.ends {
            Ends::Terminal(master) => (Some(Arc::new(Duplex::new(master)?)), None),
            Ends::Separate(pipes) => (None, Some(Vec::from(pipes))),
            Ends::Merged(pipe) => (None, Some(vec![pipe])),
        };
        let activity = watch::Sender::new(());
        let number = presence.number;
        let until = presence.hub.parts.longest.map(|longest| tokio::time::Instant::now() + longest);
        let output = SessionOutput {
            presence,
            program,
            terminal: terminal.clone(),
            exit: process.exit,
            ended: None,
            signals: process.signals.clone(),
            activity: activity.subscribe(),
            keeps_time: false,
            until,
            transcript: None,
            closed: None,
        };
        let input = SessionInput { terminal, signals: process.signals, activity };
        Ok(Session { number, pipes, input, output })
    }
}

impl SessionInput {
    /// Types bytes; resolves when the terminal has taken them all.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        self.activity.send_replace(());
        terminal.write_all(bytes).await
    }

    pub(crate) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            self.activity.send_replace(());
            let size = rustix::termios::Winsize {
                ws_row: size.rows,
                ws_col: size.cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // The terminal may have gone with its program.
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    pub(crate) async fn signal(&self, signal: i32) {
        self.signals.send(signal, Reach::Group).await;
    }

    /// Ends the session because its client is gone.
    pub(crate) async fn abandon(self) {
        self.signals.send(Signal::SIGHUP as i32, Reach::Session).await;
        tokio::time::sleep(GRACE).await;
        self.signals.send(Signal::SIGKILL as i32, Reach::Session).await;
    }
}

impl SessionOutput {
    /// The next thing the session has to say. After anything but bytes it is over.
    pub(crate) async fn next(&mut self, buffer: &mut [u8]) -> Output {
        loop {
            // Bytes first: what a program wrote before it ended comes before its end.
            if let Some(read) = self.read_now(buffer) {
                if let Some(transcript) = &mut self.transcript
                    && let Err(error) = transcript.write(&buffer[..read])
                {
                    // A session that is to be recorded is not continued in the dark.
                    self.transcript = None;
                    let message = format!("closed: its transcript cannot be written: {error}");
                    self.end(Closing { message }).await;
                }
                return Output::Bytes(read);
            }
            if let Some(output) = self.ending() {
                return output;
            }
            let terminal = self.terminal.clone();
            let idle_timeout = self.presence.hub.parts.idle_timeout;
            tokio::select! {
                exit = &mut self.exit, if self.ended.is_none() => {
                    self.ended = Some(exit.unwrap_or(Err(ExecError::ContainerGone)));
                }
                ready = readable(terminal.as_deref()), if self.terminal.is_some() => {
                    if !ready {
                        self.terminal = None;
                    }
                }
                closing = closing(&mut self.presence.closing), if self.closed.is_none() => {
                    self.end(closing).await;
                }
                () = until(self.until), if self.closed.is_none() && terminal.is_some() => {
                    let message = "closed: it was open for as long as a session may be".to_owned();
                    self.end(Closing { message }).await;
                }
                () = idle(&mut self.activity, idle_timeout),
                        if self.closed.is_none() && terminal.is_some() && !self.keeps_time => {
                    let minutes = idle_timeout.as_secs() / 60;
                    let message = format!("closed: nothing happened for {minutes} minutes");
                    self.end(Closing { message }).await;
                }
            }
        }
    }

    /// SIGHUP now, SIGKILL later, and the rest of the output meanwhile.
    async fn end(&mut self, closing: Closing) {
        self.closed = Some(closing);
        self.signals.send(Signal::SIGHUP as i32, Reach::Session).await;
        let signals = self.signals.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            signals.send(Signal::SIGKILL as i32, Reach::Session).await;
        });
    }

    /// What to say last, once the program has ended and nothing is left to be read.
    fn ending(&mut self) -> Option<Output> {
        let ended = self.ended.as_ref()?;
        let output = match (&self.closed, ended) {
            (Some(_), _) | (None, Err(ExecError::ContainerGone)) => {
                // What is known by now says more than what was known when the end began.
                let newest = self.presence.closing.borrow().clone();
                let newest = newest.or_else(|| self.closed.clone());
                let message = newest.map_or_else(
                    || "the build's container has ended".to_owned(),
                    |closing| closing.message,
                );
                Output::Closed { message }
            }
            (None, Ok(exit)) => Output::Exited(exit.shell_code()),
            (None, Err(error)) => {
                let refusal = refusal(error, &self.program);
                Output::Failed { code: refusal.code, message: refusal.message }
            }
        };
        self.presence.how = Some(match &output {
            Output::Closed { message } | Output::Failed { message, .. } => message.clone(),
            Output::Exited(code) => format!("exit code {code}"),
            Output::Bytes(_) => String::new(),
        });
        Some(output)
    }

    /// Reads without waiting; `None` when nothing is there.
    fn read_now(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let terminal = self.terminal.as_ref()?;
        match terminal.read_now(buffer) {
            Ok(None) => return None,
            Ok(Some(read)) if read > 0 => return Some(read),
            // EIO: the last process that had the terminal open is gone.
            Ok(Some(_)) | Err(_) => {}
        }
        self.terminal = None;
        None
    }
}

/// Whether there is something to read; an error is for the reader to find.
async fn readable(terminal: Option<&Duplex>) -> bool {
    match terminal {
        None => std::future::pending().await,
        Some(terminal) => terminal.readable().await.is_ok(),
    }
}

async fn closing(closing: &mut watch::Receiver<Option<Closing>>) -> Closing {
    let wanted = closing.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
    match wanted {
        Some(closing) => closing,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Resolves when nothing was typed for that long. Output starts the wait anew, because `next` does.
async fn idle(activity: &mut watch::Receiver<()>, timeout: Duration) {
    while let Ok(Ok(())) = tokio::time::timeout(timeout, activity.changed()).await {}
}
