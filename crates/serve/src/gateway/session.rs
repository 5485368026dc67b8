//! One session: a task that joins a socket, the channel's state machine and the program in the
//! container.
//!
//! Started by `registry`. A session never waits for a client. It produces no more output than the
//! client reads, and acknowledges no more input than the program takes, so the channel's window
//! bounds its memory, whatever the client does.

use super::agent::{Agent, AgentMessage};
use super::facts::{SessionShared, SessionStatus};
use super::plan::{SessionPlan, SessionWork};
use super::preparation::{BegunSession, PreparationFuture, PreparationResult, SessionPreparation};
use super::socket::{LINGER, Socket, SocketMessage};
use crate::deliveries::DeliveryWriter;
use runner_core::plain;
use runner_core::time::in_words;
use runner_folder::state::BuildDir;
use runner_host::clock;
use runner_wire::ssm::channel::{Now, Room};
use runner_wire::ssm::handshake::ClientVersion;
use runner_wire::ssm::{ChannelEvent, ChannelPhase, DataChannel, Payload};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a client may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Messages for steps that take too long.
const NOT_ANSWERED: &str = "the client has not answered the handshake";
const NOT_ENCRYPTED: &str = "The session could not be encrypted in time.";
const NOT_CHECKED: &str = "Couldn't start the session because AWS has not said in time whether its log can go there as it is to.";
/// The message of AWS's agent.
const ENCRYPTED: &str = "This session is encrypted using AWS KMS.";
/// How long the last output may wait for acknowledgement if this side ended the session. After a
/// program ends by itself, the client has the whole idle time, so that a user who has stopped their
/// terminal for a while still sees everything.
const DRAIN: Duration = Duration::from_secs(2);
/// Silence after which a client is asked whether it is still there.
pub(super) const PING_AFTER: Duration = Duration::from_secs(30);
/// Silence after which a client counts as gone, since a connection can break without notice to
/// either end.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(75);

/// How long a session may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionLimits {
    /// Without input.
    pub(super) idle: Duration,
    /// In total.
    pub(super) longest: Option<Duration>,
}

/// An order to a session's task.
pub(super) enum SessionOrder {
    /// Use this client, and drop any earlier one.
    Attach(Box<Socket>),
    /// A token was issued: a client will come.
    Expect,
    /// End, for this reason; empty if the client asks for it.
    Terminate(String),
    /// End without waiting for an absent client; the last output has this long to arrive.
    ShutDown(String, Option<Duration>),
}

/// The stage of a session.
enum SessionStage {
    /// No client has sent the token yet.
    Waiting,
    /// Waiting until then for the client's handshake or a preparation, with a message if it is
    /// late.
    Handshake {
        until: Duration,
        late: &'static str,
    },
    /// The program runs.
    Running,
    /// The program has ended; its last output is on its way.
    Draining {
        reason: String,
        until: Duration,
    },
    /// The client was told of the end and has time to leave.
    Lingering {
        until: Duration,
    },
    Over,
}

pub(super) struct SessionTask {
    shared: Arc<SessionShared>,
    channel: DataChannel,
    orders: mpsc::Receiver<SessionOrder>,
    socket: Option<Box<Socket>>,
    agent: Option<Agent>,
    stage: SessionStage,
    build: BuildDir,
    plan: SessionPlan,
    limits: SessionLimits,
    started: Duration,
    /// When the client last did something.
    active: Duration,
    /// When anything last came from the client.
    heard: Duration,
    /// Whether the client has been pinged since then.
    is_asked: bool,
    preparation: SessionPreparation,
    /// A preparation before or during the session.
    preparing: Option<PreparationFuture>,
    /// Reports new output for the log at AWS, if there is one.
    writing: Option<DeliveryWriter>,
}

impl SessionTask {
    pub(super) fn new(
        shared: Arc<SessionShared>,
        channel: DataChannel,
        orders: mpsc::Receiver<SessionOrder>,
        build: BuildDir,
        plan: SessionPlan,
        limits: SessionLimits,
        preparation: SessionPreparation,
    ) -> Self {
        let now = shared.clock.now();
        SessionTask {
            shared,
            channel,
            orders,
            socket: None,
            agent: None,
            stage: SessionStage::Waiting,
            build,
            plan,
            limits,
            started: now,
            active: now,
            heard: now,
            is_asked: false,
            preparation,
            preparing: None,
            writing: None,
        }
    }

    fn now(&self) -> Now {
        let wall_ms = u64::try_from(clock::wall().0 / 1000).unwrap_or_default();
        Now { since: self.shared.clock.now(), wall_ms }
    }

    /// Runs until the session is over.
    pub(super) async fn run(mut self) {
        let clock = self.shared.clock.clone();
        loop {
            self.step();
            if let SessionStage::Over = self.stage {
                break;
            }
            let wake = self.wake();
            let room = match &self.socket {
                Some(socket) if !socket.has_room() => 0,
                _ => self.channel.room(),
            };
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => self.stage = SessionStage::Over,
                },
                received = receive(self.socket.as_deref_mut()) => self.received(received),
                said = listen(self.agent.as_mut(), room) => self.said(said),
                prepared = prepare(self.preparing.as_mut()) => self.prepared(prepared),
                () = clock.until(wake) => self.look(),
            }
        }
        self.shared.set(SessionStatus::Terminated);
    }

    /// Makes all progress that is possible now.
    fn step(&mut self) {
        let now = self.now();
        if let SessionStage::Draining { reason, until } = &self.stage
            && self.socket.is_some()
            && (self.channel.is_drained() || now.since >= *until)
        {
            self.channel.close(reason, now);
            self.stage = SessionStage::Lingering { until: now.since + LINGER };
        }
        if let Some(socket) = &mut self.socket
            && self.channel.is_pressing(now)
        {
            while socket.has_room() {
                let Some(frame) = self.channel.next_outgoing() else { break };
                socket.push(frame);
            }
        }
    }

    /// The next time at which something is due without an event.
    fn wake(&self) -> Duration {
        let mut wake = match self.stage {
            // An expired token causes no event, so it is checked regularly.
            SessionStage::Waiting => self.shared.clock.now() + Duration::from_secs(5),
            SessionStage::Handshake { until, .. } | SessionStage::Lingering { until } => until,
            SessionStage::Draining { until, .. } if self.socket.is_some() => until,
            SessionStage::Running | SessionStage::Draining { .. } | SessionStage::Over => {
                let idle = self.active + self.limits.idle;
                let longest = self.limits.longest.map(|longest| self.started + longest);
                longest.map_or(idle, |longest| idle.min(longest))
            }
        };
        if let Some(socket) = &self.socket {
            let silent_for = if self.is_asked { LOST_AFTER } else { PING_AFTER };
            wake = wake.min(self.heard + silent_for);
            // A client that does not read has no use for retransmissions.
            if let Some(deadline) = self.channel.deadline().filter(|_| socket.has_room()) {
                wake = wake.min(deadline);
            }
        }
        wake
    }

    /// Handles everything that is due.
    fn look(&mut self) {
        let now = self.now();
        let time = now.since;
        match &self.stage {
            SessionStage::Waiting if !self.shared.expects_somebody() => {
                self.over("nobody has connected");
            }
            SessionStage::Handshake { until, late } if time >= *until => {
                let late = *late;
                self.stop(late);
            }
            SessionStage::Lingering { until } if time >= *until => self.stage = SessionStage::Over,
            SessionStage::Running | SessionStage::Draining { .. } => {
                let longest = self.limits.longest;
                if time >= self.active + self.limits.idle {
                    let idle = in_words(self.limits.idle);
                    self.stop(&format!("closed: nothing happened for {idle}"));
                } else if longest.is_some_and(|longest| time >= self.started + longest) {
                    self.stop("closed: it was open for as long as a session may be");
                }
            }
            _ => {}
        }
        if let Some(socket) = &mut self.socket {
            let silent_for = time.saturating_sub(self.heard);
            if silent_for >= LOST_AFTER {
                self.lost();
            } else if silent_for >= PING_AFTER && !self.is_asked {
                socket.ping();
                self.is_asked = true;
            }
        }
        if self.socket.as_ref().is_some_and(|socket| socket.has_room()) {
            self.channel.tick(now);
        }
    }

    fn obey(&mut self, order: SessionOrder) {
        let now = self.now();
        match order {
            SessionOrder::Attach(socket) => {
                // Closes the old socket before the new one takes over unacknowledged output.
                self.socket = None;
                self.channel.detach();
                if let SessionStage::Lingering { .. } | SessionStage::Over = self.stage {
                    return;
                }
                self.socket = Some(socket);
                self.heard = now.since;
                self.is_asked = false;
                self.active = now.since;
                self.channel.attach(now);
                match &mut self.stage {
                    SessionStage::Waiting => {
                        // Meanwhile the client calls AWS KMS, several times if necessary.
                        let (longest, late) = match self.preparation.key() {
                            Some(_) => (2 * HANDSHAKE, NOT_ENCRYPTED),
                            None => (HANDSHAKE, NOT_ANSWERED),
                        };
                        self.stage = SessionStage::Handshake { until: now.since + longest, late };
                    }
                    SessionStage::Draining { until, .. } => {
                        *until = (*until).max(now.since + DRAIN);
                    }
                    _ => {}
                }
                if self.channel.phase() == ChannelPhase::Open {
                    self.shared.set(SessionStatus::Connected);
                }
            }
            SessionOrder::Expect => self.active = now.since,
            SessionOrder::Terminate(reason) => self.stop(&reason),
            SessionOrder::ShutDown(reason, drain) => match (&self.stage, &self.socket) {
                // It has its own reason and is about to send it.
                (SessionStage::Lingering { .. }, Some(_)) => {}
                _ => self.stop_within(&reason, drain.unwrap_or(DRAIN)),
            },
        }
    }

    fn received(&mut self, received: SocketMessage) {
        let now = self.now();
        let bytes = match received {
            SocketMessage::Message(bytes) => Some(bytes),
            SocketMessage::Sign => None,
            SocketMessage::Room => return,
            SocketMessage::Lost => return self.lost(),
        };
        self.heard = now.since;
        self.is_asked = false;
        let Some(bytes) = bytes else { return };
        let room = Room {
            to_answer: self.socket.as_ref().is_some_and(|socket| socket.has_room()),
            for_input: self.agent.as_ref().is_some_and(Agent::has_room),
        };
        for event in self.channel.receive(&bytes, now, room) {
            self.happened(event, now);
        }
    }

    /// Handles an event from the client.
    fn happened(&mut self, event: ChannelEvent, now: Now) {
        let begins =
            matches!(event, ChannelEvent::Key(_) | ChannelEvent::Answered | ChannelEvent::Ready(_));
        if begins && !matches!(self.stage, SessionStage::Handshake { .. }) {
            // The session was ended while its client responded.
            return;
        }
        match event {
            ChannelEvent::Key(key) => match self.preparation.read_key(key) {
                Ok(preparing) => self.await_this(preparing, NOT_ENCRYPTED),
                Err(reason) => self.stop(&reason),
            },
            ChannelEvent::Answered => {
                let preparing = self.preparation.begin();
                self.await_this(preparing, NOT_CHECKED);
            }
            ChannelEvent::Ready(version) => self.begin(&version),
            ChannelEvent::Failed(reason) => {
                let reason = self.preparation.explained(&reason);
                self.stop(&reason);
            }
            ChannelEvent::Bytes(bytes) => {
                self.active = now.since;
                self.shared.took(bytes.len());
                if let Some(agent) = &mut self.agent {
                    agent.input(&bytes);
                }
            }
            ChannelEvent::Size { rows, cols } => {
                self.active = now.since;
                if let Some(agent) = &mut self.agent {
                    agent.resize(rows, cols);
                }
            }
            ChannelEvent::Disconnected => {
                if let Some(agent) = &mut self.agent {
                    agent.disconnected();
                }
            }
            ChannelEvent::Terminate => self.stop(""),
        }
    }

    /// Starts the program.
    fn begin(&mut self, version: &ClientVersion) {
        let name = self.channel.config().session.clone();
        let (build, mode) = (self.build.clone(), self.channel.is_multiplexed(version));
        let is_spooled = self.writing.is_some();
        let (plan, shared) = (&self.plan, &self.shared);
        self.agent = Some(Agent::start(plan, version, mode, build, name, shared, is_spooled));
        self.stage = SessionStage::Running;
        self.active = self.now().since;
        // The client may be gone meanwhile; it can come back to the session.
        if self.socket.is_some() {
            self.shared.set(SessionStatus::Connected);
        }
    }

    /// Waits for a preparation, for a limited time.
    fn await_this(&mut self, preparing: PreparationFuture, late: &'static str) {
        self.preparing = Some(preparing);
        self.stage = SessionStage::Handshake { until: self.now().since + HANDSHAKE, late };
    }

    fn prepared(&mut self, prepared: PreparationResult) {
        self.preparing = None;
        let now = self.now();
        match prepared {
            PreparationResult::Key(Ok(cipher)) => {
                self.channel.encrypt(*cipher, self.preparation.proof(), now);
                let until = now.since + HANDSHAKE;
                self.stage = SessionStage::Handshake { until, late: NOT_ENCRYPTED };
            }
            PreparationResult::Key(Err(reason)) => self.stop(&reason),
            PreparationResult::Begun(begun) => self.begun(*begun),
            PreparationResult::Late(notices) => self.found_late(&notices),
        }
    }

    fn begun(&mut self, begun: BegunSession) {
        if let Some(reason) = begun.refusal {
            return self.stop(&reason);
        }
        for notice in &begun.notices {
            self.shared.not_logged(notice);
        }
        let is_encrypted = self.preparation.key().is_some().then_some(ENCRYPTED);
        let said = Some(self.plan.message.as_str()).filter(|said| !said.is_empty());
        let notices = begun.notices.iter().map(String::as_str);
        let all: Vec<&str> = said.into_iter().chain(is_encrypted).chain(notices).collect();
        let message = all.join(" ");
        self.shared.begins_with(&message, begun.to);
        self.writing = begun.writing;
        self.preparing = begun.rest;
        if let Some(ChannelEvent::Ready(version)) = self.channel.complete(&message, self.now()) {
            self.begin(&version);
            let now = self.now();
            for event in self.channel.caught_up(now) {
                self.happened(event, now);
            }
        }
    }

    /// Reports findings that came after the session began.
    fn found_late(&mut self, notices: &[String]) {
        for notice in notices {
            self.shared.not_logged(notice);
        }
        let is_on_terminal =
            matches!(self.plan.work, SessionWork::Shell { .. } | SessionWork::Interactive(_));
        if is_on_terminal && !notices.is_empty() && matches!(self.stage, SessionStage::Running) {
            let line = format!("\r\nrunner: {}\r\n", plain::line(&notices.join(" ")));
            self.channel.number(Payload::Bytes, line.as_bytes(), self.now());
        }
    }

    /// Handles a lost client, which may come back with another socket.
    fn lost(&mut self) {
        self.socket = None;
        self.channel.detach();
        match self.stage {
            SessionStage::Lingering { .. } => self.stage = SessionStage::Over,
            SessionStage::Over => {}
            _ => self.shared.set(SessionStatus::Disconnected),
        }
    }

    fn said(&mut self, said: AgentMessage) {
        match said {
            AgentMessage::Output(payload, message) => {
                self.shared.gave(message.len());
                if let Some(writing) = &self.writing {
                    writing.wrote();
                }
                self.channel.send(payload, message, self.now());
            }
            AgentMessage::Ended(reason) => self.end(&reason),
        }
    }

    /// Ends the session after its program: sends the rest to the client, then the reason.
    fn end(&mut self, reason: &str) {
        if let SessionStage::Draining { .. } | SessionStage::Lingering { .. } | SessionStage::Over =
            self.stage
        {
            return;
        }
        // Dropping the agent's connection ends what still runs.
        self.agent = None;
        self.writing = None;
        self.preparing = None;
        self.shared.ends_because(reason);
        let until = self.shared.clock.now() + self.limits.idle;
        self.stage = SessionStage::Draining { reason: reason.to_owned(), until };
    }

    /// Ends the session from this side, and tells the client if there is one. A session that has
    /// ended already keeps its own reason.
    fn stop(&mut self, reason: &str) {
        self.stop_within(reason, DRAIN);
    }

    fn stop_within(&mut self, reason: &str, drain: Duration) {
        if self.socket.is_none() {
            return self.over(reason);
        }
        self.end(reason);
        let soon = self.shared.clock.now() + drain;
        if let SessionStage::Draining { until, .. } = &mut self.stage {
            *until = soon.min(*until);
        }
    }

    /// Ends the session without telling a client.
    fn over(&mut self, reason: &str) {
        self.agent = None;
        self.writing = None;
        self.preparing = None;
        self.shared.ends_because(reason);
        self.stage = SessionStage::Over;
    }
}

async fn receive(socket: Option<&mut Socket>) -> SocketMessage {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

async fn prepare(preparing: Option<&mut PreparationFuture>) -> PreparationResult {
    match preparing {
        Some(preparing) => preparing.await,
        None => std::future::pending().await,
    }
}

async fn listen(agent: Option<&mut Agent>, room: usize) -> AgentMessage {
    match agent {
        Some(agent) => agent.next(room).await,
        None => std::future::pending().await,
    }
}
