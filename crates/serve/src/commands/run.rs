//! Runs one command from beginning to end: follows its course and stores its state.
//!
//! The only writer of the command's records. Nodes report what happens, but only this task lets a
//! node begin, so a withdrawn node never does.

use super::center::{CommandOrder, StopProgress};
use super::delivery::Delivery;
use super::lanes::InLane;
use super::node::{NodeMessage, NodeOrder, NodePlace, NodeWork};
use crate::deliveries::Deliveries;
use crate::gateway::{Audit, AuditRecord, CallerIdentity};
use runner_core::agent::AgentConfig;
use runner_core::arn::REGION;
use runner_core::document::command::DocumentStep;
use runner_core::run_command::{CommandCourse, CourseEffect, CourseInput, StatusDetails};
use runner_folder::state::{BuildDir, Invocation, OwnedCommand, STOPPED, SentCommand};
use runner_host::clock;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::sync::{mpsc, watch};

/// A running command.
pub(super) struct NodeRun {
    command: SentCommand,
    owned: Arc<OwnedCommand>,
    course: CommandCourse,
    nodes: Vec<RunNode>,
    steps: Arc<Vec<DocumentStep>>,
    cancels: Lines<BufReader<Receiver>>,
    said: mpsc::Receiver<NodeMessage>,
    to_us: mpsc::Sender<NodeMessage>,
    stop: watch::Receiver<StopProgress>,
    late_at: tokio::time::Instant,
    around: Around,
}

/// What all commands share.
pub(super) struct Around {
    pub(super) agent: AgentConfig,
    pub(super) audit: Arc<Audit>,
    pub(super) deliveries: Arc<Deliveries>,
}

/// An event in the life of a command.
enum CommandEvent {
    Said(NodeMessage),
    /// The time to start is over for nodes that have not begun.
    Late,
    /// A user cancels the command at this node.
    Cancel(String),
    Stop(StopProgress),
}

struct RunNode {
    build: BuildDir,
    invocation: Invocation,
    lane: Option<InLane>,
    told: watch::Sender<NodeOrder>,
}

impl NodeRun {
    pub(super) fn new(
        order: CommandOrder,
        owned: OwnedCommand,
        lanes: Vec<Option<InLane>>,
        stop: watch::Receiver<StopProgress>,
        around: Around,
    ) -> io::Result<Self> {
        // Opened for writing as well, so that it never ends, however many writers come and go.
        let cancels = OpenOptions::new().read_write(true).open_receiver(owned.cancel_path())?;
        let (to_us, said) = mpsc::channel(16);
        let CommandOrder { command, steps, builds, max_concurrency, ramps_up } = order;
        let count = command.nodes.len();
        let course = CommandCourse::new(count, max_concurrency, command.errors_allowed, ramps_up);
        let node = |(build, lane)| RunNode {
            build,
            invocation: Invocation::pending(),
            lane,
            told: watch::Sender::new(NodeOrder::Wait),
        };
        Ok(NodeRun {
            late_at: tokio::time::Instant::now() + Duration::from_secs(command.timeout_s),
            nodes: builds.into_iter().zip(lanes).map(node).collect(),
            command,
            owned: Arc::new(owned),
            course,
            steps: Arc::new(steps),
            cancels: BufReader::new(cancels).lines(),
            said,
            to_us,
            stop,
            around,
        })
    }

    pub(super) async fn run(mut self) {
        self.apply(CourseInput::Begin, "").await;
        let mut is_late = false;
        let mut stop = StopProgress::No;
        while !self.course.is_over() {
            match self.next(is_late, stop).await {
                CommandEvent::Said(said) => self.hear(said).await,
                CommandEvent::Late => {
                    is_late = true;
                    self.apply(CourseInput::Late, "").await;
                }
                CommandEvent::Cancel(id) => self.cancel(&id).await,
                CommandEvent::Stop(now) => {
                    stop = now;
                    self.apply(CourseInput::Stop, STOPPED).await;
                    if stop == StopProgress::Now {
                        (0..self.nodes.len()).for_each(|node| self.tell(node, NodeOrder::Stop));
                    }
                }
            }
        }
        self.end().await;
    }

    /// The next event. Cancel safe.
    async fn next(&mut self, is_late: bool, stop: StopProgress) -> CommandEvent {
        tokio::select! {
            Some(said) = self.said.recv() => CommandEvent::Said(said),
            () = tokio::time::sleep_until(self.late_at), if !is_late => CommandEvent::Late,
            Ok(Some(id)) = self.cancels.next_line() => CommandEvent::Cancel(id),
            now = further(&mut self.stop, stop) => CommandEvent::Stop(now),
        }
    }

    async fn cancel(&mut self, id: &str) {
        if let Some(node) = self.command.nodes.iter().position(|node| node.id == id) {
            self.apply(CourseInput::Cancel(node), "").await;
        }
    }

    async fn hear(&mut self, said: NodeMessage) {
        match said {
            NodeMessage::Delayed(node) => self.apply(CourseInput::Delayed(node), "").await,
            NodeMessage::Ready(node) => self.apply(CourseInput::Begun(node), "").await,
            NodeMessage::Steps(node, steps) => {
                if let Some(at) = self.nodes.get_mut(node) {
                    at.invocation.steps = steps;
                }
                self.save(node).await;
            }
            NodeMessage::Ended { node, details, trace, steps } => {
                if let Some(at) = self.nodes.get_mut(node) {
                    at.invocation.steps = steps;
                    at.lane = None;
                }
                self.apply(CourseInput::Ended(node, details), &trace).await;
            }
        }
    }

    /// Applies an event and carries out its effects. `trace` explains invocations that end by it.
    async fn apply(&mut self, input: CourseInput, trace: &str) {
        for effect in self.course.apply(input) {
            match effect {
                CourseEffect::Go(node) => self.go(node),
                CourseEffect::Withdraw(node) => self.tell(node, NodeOrder::Withdraw),
                CourseEffect::Kill(node) => self.tell(node, NodeOrder::Cancel),
                CourseEffect::Changed(node) => {
                    let details = self.course.details(node).unwrap_or(StatusDetails::Failed);
                    let has_ended = details.is_end();
                    if let Some(at) = self.nodes.get_mut(node) {
                        at.invocation.details = details;
                        if details.is_end() {
                            trace.clone_into(&mut at.invocation.trace);
                            at.lane = None;
                        }
                    }
                    if details == StatusDetails::InProgress {
                        // The node starts while its state is saved.
                        self.tell(node, NodeOrder::Begin);
                    }
                    self.save(node).await;
                    if has_ended {
                        self.has_ended(node, details);
                    }
                }
            }
        }
    }

    /// Records the end at a node, and removes its outputs if they are to go at once.
    fn has_ended(&self, node: usize, details: StatusDetails) {
        let (Some(at), Some(place)) = (self.nodes.get(node), self.command.nodes.get(node)) else {
            return;
        };
        let command = &self.command;
        let who = CallerIdentity::user(&command.owner, &command.owner_id, &command.owner_key);
        let code = at.invocation.steps.last().map_or(-1, |step| step.code);
        self.around.audit.write(AuditRecord::command(
            who,
            &command.id,
            &place.name,
            details.name(),
            code,
        ));
        // Output for AWS is removed once it has arrived.
        let is_sent = !command.destinations.is_empty();
        if self.around.agent.removes_outputs(details, is_sent) {
            let (owned, place) = (Arc::clone(&self.owned), place.clone());
            let steps = command.steps.clone();
            tokio::task::spawn_blocking(move || {
                let removed = match is_sent {
                    true => owned.forget_arrived(&place, &steps),
                    false => owned.forget(&place, &steps),
                };
                if let Err(error) = removed {
                    tracing::warn!(%error, "cannot remove a command's output");
                }
            });
        }
    }

    fn tell(&self, node: usize, what: NodeOrder) {
        if let Some(at) = self.nodes.get(node) {
            at.told.send_if_modified(|told| {
                // An order never replaces a later one.
                let is_more = what > *told;
                if is_more {
                    *told = what;
                }
                is_more
            });
        }
    }

    fn go(&mut self, node: usize) {
        let Some(at) = self.nodes.get_mut(node) else { return };
        let (Some(place), Some(lane)) = (self.command.nodes.get(node), at.lane.take()) else {
            return;
        };
        let work = NodeWork {
            number: node,
            at: NodePlace { node: place.clone(), command: self.command.id.clone() },
            build: at.build.clone(),
            lane,
            steps: Arc::clone(&self.steps),
            names: self.command.steps.clone(),
            owned: Arc::clone(&self.owned),
            told: at.told.subscribe(),
            said: self.to_us.clone(),
            variables: variables(&self.around.agent),
            delivery: Delivery::of(&self.command, &self.around.deliveries),
        };
        tokio::spawn(work.run());
    }

    /// Saves the state at a node.
    async fn save(&mut self, node: usize) {
        let (Some(at), Some(place)) = (self.nodes.get_mut(node), self.command.nodes.get(node))
        else {
            return;
        };
        at.invocation.changed = Some(clock::wall());
        let (owned, place) = (Arc::clone(&self.owned), place.clone());
        let invocation = at.invocation.clone();
        let saved = tokio::task::spawn_blocking(move || owned.save(&place, &invocation));
        let saved = saved.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = saved {
            tracing::warn!(%error, command = %self.command.id, "cannot keep how a command stands");
        }
    }

    /// Ends the command, which has ended at all nodes.
    async fn end(mut self) {
        let count = self.command.nodes.len();
        self.command.ended = (0..count).map(|node| self.course.details(node)).collect();
        let (owned, command) = (self.owned, self.command);
        let id = command.id.clone();
        let kept = tokio::task::spawn_blocking(move || owned.end(&command));
        let kept = kept.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = kept {
            tracing::warn!(%error, command = %id, "cannot keep that a command has ended");
        }
    }
}

/// The scripts' variables from the agent's configuration.
fn variables(agent: &AgentConfig) -> Vec<(String, String)> {
    let region = agent.region().unwrap_or_else(|| REGION.to_owned());
    let profile = agent.shared_profile().map(|profile| ("AWS_PROFILE".to_owned(), profile));
    [("AWS_SSM_REGION_NAME".to_owned(), region)].into_iter().chain(profile).collect()
}

/// Waits until the shutdown has progressed further than `than`.
async fn further(stop: &mut watch::Receiver<StopProgress>, than: StopProgress) -> StopProgress {
    let now = stop.wait_for(|now| *now > than).await.map(|now| *now);
    match now {
        Ok(now) => now,
        // The center is gone.
        Err(_) if than < StopProgress::Now => StopProgress::Now,
        Err(_) => std::future::pending().await,
    }
}
