//! The control socket: how the build's owner and root reach a live build.
//!
//! Started by `build`. One task per connection. The data of a session's program does not pass
//! through here: the client receives the ends of its terminal or pipes.

use super::connection::{ControlConnection, Frames, send};
use super::forward::{self, ForwardedPorts};
use crate::driver::BuildProgressView;
use crate::driver::inbox::{BreakpointChange, Inbox};
use crate::session::{
    DEAF, Hub, ProgramEnding, ProgramSession, ScriptPlace, SessionControls, SessionOpenError,
};
use runner_core::debug::{self, Decision, ParseError, Who};
use runner_core::event::BreakpointId;
use runner_core::machine::MachineInput;
use runner_core::phase::Status as BuildStatus;
use runner_folder::events::Heads;
use runner_host::clock;
use runner_host::duplex::Duplex;
use runner_host::users;
use runner_wire::control::{ControlRequest, ControlResponse, ControlStatus, PROTOCOL};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// What the handlers of requests need.
#[derive(Clone)]
pub struct Host {
    pub inbox: Inbox,
    pub hub: Arc<Hub>,
    pub progress: watch::Receiver<BuildProgressView>,
    pub heads: watch::Receiver<Heads>,
}

/// Listens at `path`, accessible to the caller only. Must be called in the runtime.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    runner_host::private::listen(path, 0o600)
}

/// Serves until the runtime ends.
pub async fn serve(listener: UnixListener, host: Host) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let host = host.clone();
        // A client that disconnects needs no response.
        tokio::spawn(async move {
            let _ = host.serve_one(stream).await;
        });
    }
}

impl Host {
    async fn serve_one(mut self, stream: UnixStream) -> io::Result<()> {
        // The folder's mode keeps others out; this check also rejects a process that was handed the
        // socket.
        let credentials = stream.peer_cred()?;
        let peer = credentials.uid();
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        let me = nix::unistd::geteuid().as_raw();
        let caller = users::caller().map(|caller| caller.uid);
        let mut connection = ControlConnection::new(stream)?;
        if peer != me && peer != 0 && Some(peer) != caller {
            let message = "this build belongs to another user".to_owned();
            return connection.answer(&ControlResponse::Refused { code: 125, message }).await;
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let by = match connection.request().await? {
            Some(ControlRequest::Hello { protocol: PROTOCOL, client, .. }) => client,
            Some(ControlRequest::Hello { version: theirs, .. }) => {
                let message = format!(
                    "this build is run by version {version}, which does not understand version \
                     {theirs}: use the same program for both"
                );
                return connection.answer(&ControlResponse::Refused { code: 125, message }).await;
            }
            _ => return Ok(()),
        };
        connection.answer(&ControlResponse::Hello { protocol: PROTOCOL, version }).await?;
        // Held until the connection ends.
        let mut held: Option<ScriptPlace> = None;
        while let Some(request) = connection.request().await? {
            match request {
                ControlRequest::ScriptPlace { limit } => {
                    tokio::select! {
                        place = self.hub.script_place(limit) => drop(held.replace(place)),
                        // The client has disconnected, or has sent something out of turn.
                        _ = connection.next() => return Ok(()),
                    }
                    connection.answer(&ControlResponse::Done).await?;
                }
                ControlRequest::Status => {
                    let status = self.status();
                    connection.answer(&ControlResponse::Status(status)).await?;
                }
                ControlRequest::Resume => {
                    let answer = if self.inbox.resume().await.is_some() {
                        ControlResponse::Done
                    } else {
                        let message = "nothing is paused in this build".to_owned();
                        ControlResponse::Refused { code: 0, message }
                    };
                    connection.answer(&answer).await?;
                }
                ControlRequest::Decide(decision) => {
                    let done = self.inbox.decide(decision, who(peer, &by)).await;
                    connection.answer(&answer(done, |_| ControlResponse::Done)).await?;
                }
                ControlRequest::Eval { text } => {
                    let decision = Decision::Eval { text };
                    let done = self.inbox.decide(decision, who(peer, &by)).await;
                    connection.answer(&answer(done, |run| ControlResponse::Runs { run })).await?;
                }
                ControlRequest::EndEval { run } => {
                    self.inbox.send(MachineInput::EndEvaluated { command: run }).await;
                    connection.answer(&ControlResponse::Done).await?;
                }
                ControlRequest::Set { name, value } => {
                    let decision = Decision::Set { name, value };
                    let done = self.inbox.decide(decision, who(peer, &by)).await;
                    connection.answer(&answer(done, |_| ControlResponse::Done)).await?;
                }
                ControlRequest::Pause => {
                    let done = self.inbox.pause().await.map_or(Ok(()), Err);
                    connection.answer(&answer(done, |()| ControlResponse::Done)).await?;
                }
                ControlRequest::Variables => {
                    let all = self.inbox.variables().await;
                    connection.answer(&answer(all, ControlResponse::Variables)).await?;
                }
                ControlRequest::Breakpoints => {
                    let answer = self.breakpoints(Ok(BreakpointChange::None)).await;
                    connection.answer(&answer).await?;
                }
                ControlRequest::AddBreakpoint { text } => {
                    let parsed = text.parse().map_err(|error: ParseError| error.to_string());
                    let change =
                        parsed.map(|breakpoint| BreakpointChange::Add(Box::new(breakpoint)));
                    connection.answer(&self.breakpoints(change).await).await?;
                }
                ControlRequest::RemoveBreakpoint { id } => {
                    let change = Ok(BreakpointChange::Remove(BreakpointId(id)));
                    connection.answer(&self.breakpoints(change).await).await?;
                }
                ControlRequest::Stop => {
                    self.inbox.send(MachineInput::Stop { at_once: false }).await;
                    connection.answer(&ControlResponse::Done).await?;
                }
                ControlRequest::Agent => {
                    let image = self.hub.image_agent().await;
                    let host = self.hub.options().agent.clone();
                    connection.answer(&ControlResponse::Agent { host, image }).await?;
                }
                ControlRequest::Watch => return self.watch(connection).await,
                ControlRequest::WatchPauses => return self.watch_pauses(connection).await,
                ControlRequest::EndpointOpened { address } => {
                    self.inbox.send(MachineInput::Endpoint(Ok(address))).await;
                    connection.answer(&ControlResponse::Done).await?;
                }
                ControlRequest::EndpointFailed { problem } => {
                    self.inbox.send(MachineInput::Endpoint(Err(problem))).await;
                    connection.answer(&ControlResponse::Done).await?;
                }
                ControlRequest::Open(open) => {
                    let session = self.hub.open(&open).await;
                    let pauses = open.terminal.map(|_| HostPauses::of(self.progress));
                    return serve_session(connection, session, pauses).await;
                }
                ControlRequest::Script(script) => {
                    let session = self.hub.run(&script).await;
                    return serve_session(connection, session, None).await;
                }
                ControlRequest::Platform => {
                    let answer = match self.hub.platform().await {
                        Ok(platform) => ControlResponse::Platform(platform),
                        Err(SessionOpenError { code, message }) => {
                            ControlResponse::Refused { code, message }
                        }
                    };
                    connection.answer(&answer).await?;
                }
                ControlRequest::Files => {
                    let session = self.hub.open_files().await;
                    return serve_session(connection, session, None).await;
                }
                ControlRequest::Forward { ports, name, denied, locals } => {
                    let ports = ForwardedPorts { remotes: ports, locals };
                    return forward::serve(&self.hub, connection, pid, ports, name, denied).await;
                }
                // Valid only within a session.
                ControlRequest::Hello { .. }
                | ControlRequest::Dial { .. }
                | ControlRequest::Resize(_)
                | ControlRequest::Active
                | ControlRequest::Signal(_) => {}
            }
        }
        Ok(())
    }

    async fn breakpoints(&self, change: Result<BreakpointChange, String>) -> ControlResponse {
        let all = match change {
            Ok(change) => self.inbox.breakpoints(change).await,
            Err(message) => Err(message),
        };
        answer(all, ControlResponse::Breakpoints)
    }

    fn status(&self) -> ControlStatus {
        let progress = self.progress.borrow();
        let heads = *self.heads.borrow();
        let options = self.hub.options();
        let view = progress.view.as_ref();
        let state = match view {
            Some(view) if view.status != BuildStatus::InProgress => view.status.name(),
            Some(view) if !view.paused.is_empty() => "paused",
            _ => "running",
        };
        ControlStatus {
            state: state.to_owned(),
            phase: view.map_or("SUBMITTED", |view| view.phase().name()).to_owned(),
            command: view.and_then(|view| view.command.as_ref()).map(|c| c.text.clone()),
            sessions: view.map_or(0, |view| view.sessions.len()),
            paused: view.map_or(0, |view| view.paused.len()),
            endpoint: view.and_then(|view| view.endpoint.clone()),
            time_left_s: progress.times_out.map(seconds_to),
            pause_left_s: progress.pause_ends.map(seconds_to),
            sessions_enabled: options.is_enabled,
            has_container: self.hub.has_container(),
            session_idle_s: options.idle_timeout.as_secs(),
            is_idle_given: options.is_idle_given,
            session_longest_s: options.longest.map(|longest| longest.as_secs()),
            forwards: self.hub.forwards(),
            requires_session_log: options.requires_log,
            events: heads.events,
            output: heads.output,
        }
    }

    /// Reports each change until the build is over or the client has disconnected.
    async fn watch(&mut self, mut connection: ControlConnection) -> io::Result<()> {
        loop {
            // Mark it as seen first: a change made in between is reported in the next round.
            let is_over = self.heads.borrow_and_update().closed;
            self.progress.mark_unchanged();
            let status = self.status();
            connection.answer(&ControlResponse::Status(status)).await?;
            if is_over {
                return Ok(());
            }
            tokio::select! {
                changed = self.heads.changed() => changed.map_err(io::Error::other)?,
                changed = self.progress.changed() => changed.map_err(io::Error::other)?,
                frame = connection.next() => {
                    if frame?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reports the build's state, and again whenever a pause begins or ends, until the build is
    /// over or the client has disconnected.
    async fn watch_pauses(&mut self, mut connection: ControlConnection) -> io::Result<()> {
        let mut told = None;
        loop {
            let (is_over, pauses) = {
                let progress = self.progress.borrow_and_update();
                let view = progress.view.as_ref();
                (progress.is_over, view.map(|view| (view.pauses, view.paused.len())))
            };
            if told != Some(pauses) || is_over {
                told = Some(pauses);
                let status = self.status();
                connection.answer(&ControlResponse::Status(status)).await?;
            }
            if is_over {
                return Ok(());
            }
            tokio::select! {
                changed = self.progress.changed() => changed.map_err(io::Error::other)?,
                frame = connection.next() => {
                    if frame?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Warning about output that was not waited for.
const NOT_KEPT: &str = "output of background processes after the end is not kept";

/// Turns the result of a request into a response.
fn answer<T>(done: Result<T, String>, is: impl FnOnce(T) -> ControlResponse) -> ControlResponse {
    match done {
        Ok(done) => is(done),
        Err(message) => ControlResponse::Refused { code: 2, message },
    }
}

/// Whole seconds until `at`.
fn seconds_to(at: Duration) -> u64 {
    at.saturating_sub(clock::boot()).as_secs()
}

/// The user and client at the other end.
fn who(uid: u32, by: &debug::DecisionClient) -> Who {
    let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    let user = known.map_or_else(|| uid.to_string(), |known| known.name);
    Who { uid, user, client: by.clone() }
}

/// Reports pauses that begin while a client is connected.
struct HostPauses {
    progress: watch::Receiver<BuildProgressView>,
    known: u32,
}

impl HostPauses {
    /// Starts with the next pause.
    fn of(progress: watch::Receiver<BuildProgressView>) -> Self {
        let known = progress.borrow().view.as_ref().map_or(0, |view| view.pauses);
        HostPauses { progress, known }
    }

    /// Waits for the next pause and returns a message for the user.
    async fn next(&mut self) -> String {
        loop {
            if self.progress.changed().await.is_err() {
                return std::future::pending().await;
            }
            let progress = self.progress.borrow();
            let Some(view) = &progress.view else { continue };
            if view.pauses > self.known && !view.paused.is_empty() {
                self.known = view.pauses;
                return match view.paused.len() {
                    1 => "the build is paused".to_owned(),
                    count => format!(
                        "the build is paused at another breakpoint: {count} wait, and each needs \
                         its own codebuild-resume"
                    ),
                };
            }
        }
    }
}

/// Reports each pause to a client until it disconnects.
async fn announce(client: &Duplex, pauses: Option<HostPauses>) -> io::Error {
    let Some(mut pauses) = pauses else { return std::future::pending().await };
    loop {
        let message = pauses.next().await;
        if let Err(error) = send(client, &ControlResponse::Told { message }).await {
            return error;
        }
    }
}

/// Connects a client and a program until one of them ends. Sends each pause in `pauses` to
/// the client.
async fn serve_session(
    connection: ControlConnection,
    session: Result<ProgramSession, SessionOpenError>,
    pauses: Option<HostPauses>,
) -> io::Result<()> {
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            let refused = ControlResponse::Refused { code: error.code, message: error.message };
            return connection.answer(&refused).await;
        }
    };
    let ProgramSession { number, ends, controls, course } = session;
    let fds: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
    let sent = connection.answer_with(&ControlResponse::Opened { session: number }, &fds).await;
    // Only the client holds these ends now, so that the program notices when it closes them.
    drop(ends);
    if sent.is_err() {
        controls.abandon().await;
        return sent;
    }
    let ControlConnection { stream: client, frames } = connection;
    tokio::select! {
        ending = course.end() => {
            let last = match ending {
                ProgramEnding::Ran { code, is_cut } => {
                    if is_cut {
                        let message = NOT_KEPT.to_owned();
                        let _ = send(&client, &ControlResponse::Told { message }).await;
                    }
                    ControlResponse::Exited { code }
                }
                ProgramEnding::Exited(code) => ControlResponse::Exited { code },
                ProgramEnding::Failed { code, message } => ControlResponse::Refused { code, message },
                ProgramEnding::Closed { message } => ControlResponse::Closed { message },
            };
            let said = send(&client, &last).await;
            if said.is_err() {
                controls.abandon().await;
            }
            said
        }
        // A failed message is harmless: a disconnected client is noticed by its own stream.
        _ = async { announce(&client, pauses).await; std::future::pending::<()>().await } => Ok(()),
        gone = obey(&controls, &client, frames) => {
            let said = match gone {
                Ok(Left::Gone) => Ok(()),
                Ok(Left::Deaf) => {
                    send(&client, &ControlResponse::Refused { code: 125, message: DEAF.to_owned() }).await
                }
                Err(error) => Err(error),
            };
            drop(client);
            controls.abandon().await;
            said
        }
    }
}

/// Why a client is no longer served.
enum Left {
    /// The client disconnected.
    Gone,
    /// The container does not respond.
    Deaf,
}

/// Carries out the client's requests until it disconnects.
async fn obey(controls: &SessionControls, client: &Duplex, mut frames: Frames) -> io::Result<Left> {
    while let Some(request) = frames.request(client).await? {
        match request {
            ControlRequest::Resize(size) => controls.resize(size).await,
            ControlRequest::Signal(signal) if controls.signal(signal).await => {
                send(client, &ControlResponse::Signalled).await?;
            }
            ControlRequest::Signal(_) => return Ok(Left::Deaf),
            ControlRequest::Active => controls.active(),
            _ => {}
        }
    }
    Ok(Left::Gone)
}
