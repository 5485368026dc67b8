//! The one-key menu at a pause: open a shell, resume; at a stop also the possible decisions.
//!
//! It runs on a separate thread if there is a terminal. It uses the terminal only while the build
//! is paused. Like any client it uses the build's control socket, to learn of pauses and to send
//! what a key requests.

use super::editor::{EditError, edit};
use super::gate::Gate;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_client::{Client, ClientError, RawMode, attach, can_be_asked};
use runner_core::debug::{self, Decision, DecisionKind};
use runner_core::event::StopFacts;
use runner_folder::events::Follower;
use runner_folder::state::BuildDir;
use runner_host::signals::SignalReader;
use runner_wire::control::{ControlRequest, ControlResponse};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Keys that decide what follows a stop.
static DECISIONS: [(u8, DecisionKind, Decision); 3] = [
    (b't', DecisionKind::Retry, Decision::Retry { text: None }),
    (b'k', DecisionKind::Skip, Decision::Skip { to: None }),
    (b'n', DecisionKind::Step, Decision::Step),
];

/// What the menu works with.
pub(super) struct Menu {
    pub(super) dir: BuildDir,
    pub(super) gate: Arc<Gate>,
    /// Carries the window's size; SIGWINCH must be blocked in every thread.
    pub(super) signals: SignalReader,
}

/// A connection to the build, and the last state it reported.
struct KeysClient {
    client: Client,
    is_paused: bool,
    is_over: bool,
}

impl Menu {
    /// Starts the menu; it ends when the build is over.
    pub(super) fn spawn(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            if let Err(error) = self.run() {
                tracing::debug!(%error, "the key menu has stopped");
            }
        })
    }

    fn run(&self) -> Result<(), ClientError> {
        let mut course = KeysClient::of(&self.dir)?;
        while !course.is_over {
            if course.is_paused && can_be_asked() {
                let asked = self.ask(&mut course);
                self.gate.hear(false);
                asked?;
            } else {
                course.next()?;
            }
        }
        Ok(())
    }

    /// Reads keys while the build is paused, or until one has its effect.
    fn ask(&self, course: &mut KeysClient) -> Result<(), ClientError> {
        let lost = ClientError::Lost;
        let stop = self.stop();
        let applies = |decision| {
            stop.as_ref().is_some_and(|stop: &StopFacts| stop.decisions.contains(&decision))
        };
        let mut mode = RawMode::keys().map_err(lost)?;
        self.gate.hear(true);
        while course.is_paused {
            let stdin = io::stdin();
            let mut ready = [
                PollFd::new(course.client.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            wait(&mut ready).map_err(lost)?;
            if ready[0].any().unwrap_or(false) {
                course.look()?;
                continue;
            }
            let mut key = [0];
            let read = nix::unistd::read(&stdin, &mut key);
            if read.map_err(|errno| lost(errno.into()))? == 0 {
                // Nobody can type there any more.
                return course.until_changed();
            }
            match key[0] {
                b'r' | b'R' => {
                    self.tell(&ControlRequest::Resume);
                    return Ok(());
                }
                b'q' | b'Q' => {
                    self.tell(&ControlRequest::Stop);
                    // Until the stop is shown, keys have no meaning.
                    return course.until_changed();
                }
                b's' | b'S' => mode = self.lend(mode, || self.shell())?,
                b'e' | b'E' if applies(DecisionKind::Edit) => {
                    let mut text = Err(EditError::Empty);
                    let before = stop.as_ref().map_or("", |stop| stop.text.as_str());
                    mode = self.lend(mode, || {
                        text = edit(before);
                        text.as_ref().err().map(ToString::to_string)
                    })?;
                    if let Ok(text) = text
                        && self.decide(Decision::Retry { text: Some(text) })
                    {
                        return course.next();
                    }
                }
                key => {
                    let decided =
                        DECISIONS.iter().find(|(name, ..)| *name == key.to_ascii_lowercase());
                    if let Some((_, kind, decision)) = decided
                        && applies(*kind)
                        && self.decide(decision.clone())
                    {
                        return course.next();
                    }
                }
            }
        }
        Ok(())
    }

    /// The build's current stop, if any.
    fn stop(&self) -> Option<StopFacts> {
        let mut log = Follower::open(&self.dir).ok()?;
        log.catch_up().ok()??.stop.as_ref().map(|(_, stop)| stop.clone())
    }

    /// Lets something else use the terminal and passes on its message. Returns the mode for keys
    /// afterwards.
    fn lend(
        &self,
        mode: RawMode,
        work: impl FnOnce() -> Option<String>,
    ) -> Result<RawMode, ClientError> {
        drop(mode);
        self.gate.close();
        let said = work();
        // Ready for the next key before the menu is shown again.
        let again = RawMode::keys();
        self.gate.open(said);
        again.map_err(ClientError::Lost)
    }

    /// Sends a decision. Returns whether it was accepted; shows the reason if not.
    fn decide(&self, decision: Decision) -> bool {
        let decided = Client::connect_as(&self.dir, debug::DecisionClient::Key)
            .and_then(|mut client| client.ask(&ControlRequest::Decide(decision)));
        if let Err(error) = &decided {
            self.gate.close();
            self.gate.open(Some(error.to_string()));
        }
        decided.is_ok()
    }

    /// Sends what a key requests. The build reports the result.
    fn tell(&self, request: &ControlRequest) {
        let told = Client::connect(&self.dir).and_then(|mut client| client.ask(request));
        if let Err(error) = told {
            tracing::debug!(%error, "a key had no effect");
        }
    }

    /// Runs a shell to its end. Returns the message to show after it, if any.
    fn shell(&self) -> Option<String> {
        let result = Client::connect(&self.dir)
            .and_then(|client| attach(client, Vec::new(), None, &self.signals));
        match result {
            Ok(ended) => ended.message,
            Err(error) => Some(error.to_string()),
        }
    }
}

impl KeysClient {
    fn of(dir: &BuildDir) -> Result<Self, ClientError> {
        let mut client = Client::connect(dir)?;
        client.send(&ControlRequest::WatchPauses)?;
        Ok(KeysClient { client, is_paused: false, is_over: false })
    }

    /// Waits for the next change.
    fn next(&mut self) -> Result<(), ClientError> {
        wait(&mut [PollFd::new(self.client.as_fd(), PollFlags::POLLIN)])
            .map_err(ClientError::Lost)?;
        self.look()
    }

    /// Reads the messages that have arrived.
    fn look(&mut self) -> Result<(), ClientError> {
        while let Some(frame) = self.client.poll_frame()? {
            let Some(body) = frame else {
                (self.is_paused, self.is_over) = (false, true);
                return Ok(());
            };
            let answer = serde_json::from_slice(&body);
            match answer.map_err(|error| ClientError::Lost(error.into()))? {
                ControlResponse::Status(status) => self.is_paused = status.paused > 0,
                other => return Err(other.into()),
            }
        }
        Ok(())
    }

    fn until_changed(&mut self) -> Result<(), ClientError> {
        while self.is_paused && !self.is_over {
            self.next()?;
        }
        Ok(())
    }
}

fn wait(ready: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return done.map(drop).map_err(Into::into),
        }
    }
}
