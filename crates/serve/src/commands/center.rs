//! The center: runs commands and keeps their records.

use super::lanes::Lanes;
use super::run::{Around, NodeRun};
use crate::deliveries::Deliveries;
use crate::gateway::Audit;
use runner_core::agent::AgentConfig;
use runner_core::document::command::DocumentStep;
use runner_folder::state::{BuildDir, Commands, Home, SentCommand};
use runner_host::clock;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long records are kept.
const RECORDS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Counts a command as running until this is dropped.
struct CommandPermit<'c>(&'c watch::Sender<usize>);

impl Drop for CommandPermit<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A command to run, with its steps and builds.
pub struct CommandOrder {
    pub command: SentCommand,
    pub steps: Vec<DocumentStep>,
    /// The folders of the command's nodes, in the same order.
    pub builds: Vec<BuildDir>,
    pub max_concurrency: usize,
    /// Whether to start few nodes first, and more as they succeed.
    pub ramps_up: bool,
}

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    #[error("as many commands wait at {0} as may")]
    TooMany(String),
    #[error("the endpoint is being stopped")]
    Stopping,
    #[error("cannot keep the command: {0}")]
    Unkept(#[from] io::Error),
}

/// The progress of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopProgress {
    No,
    /// Nothing new starts.
    Begun,
    /// Running scripts are ended.
    Now,
}

/// Runs commands and stores their records.
pub struct Center {
    pub store: Commands,
    agent: AgentConfig,
    audit: Arc<Audit>,
    lanes: Arc<Lanes>,
    stop: watch::Sender<StopProgress>,
    running: watch::Sender<usize>,
    deliveries: Arc<Deliveries>,
}

impl Center {
    /// A center for a state folder.
    pub fn new(
        home: &Home,
        agent: &AgentConfig,
        audit: Arc<Audit>,
        deliveries: Arc<Deliveries>,
    ) -> Arc<Self> {
        Arc::new(Center {
            store: Commands::of(home),
            lanes: Lanes::new(agent.command_workers().max(1)),
            agent: agent.clone(),
            audit,
            stop: watch::Sender::new(StopProgress::No),
            running: watch::Sender::new(0),
            deliveries,
        })
    }

    /// Starts a command. Its record is on disk when this returns.
    pub async fn send(self: &Arc<Self>, order: CommandOrder) -> Result<(), NotSent> {
        if *self.stop.borrow() != StopProgress::No {
            return Err(NotSent::Stopping);
        }
        let mut lanes = Vec::new();
        for node in &order.command.nodes {
            let lane = self.lanes.enter(&node.uuid);
            lanes.push(Some(lane.ok_or_else(|| NotSent::TooMany(node.name.clone()))?));
        }
        let (store, command) = (self.store.clone(), order.command.clone());
        let created = tokio::task::spawn_blocking(move || store.create(&command));
        let owned = created.await.map_err(io::Error::other)??;
        let around = Around {
            agent: self.agent.clone(),
            audit: Arc::clone(&self.audit),
            deliveries: Arc::clone(&self.deliveries),
        };
        let run = NodeRun::new(order, owned, lanes, self.stop.subscribe(), around)?;
        self.running.send_modify(|count| *count += 1);
        let center = Arc::clone(self);
        tokio::spawn(async move {
            let running = CommandPermit(&center.running);
            run.run().await;
            drop(running);
            center.sweep().await;
        });
        Ok(())
    }

    /// Removes old records.
    pub async fn sweep(&self) {
        let (store, kept) = (self.store.clone(), self.agent.command_outputs_kept());
        let swept =
            tokio::task::spawn_blocking(move || store.sweep(clock::wall(), kept, RECORDS_KEPT));
        let swept = swept.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = swept {
            tracing::warn!(%error, "cannot remove old commands");
        }
    }

    /// The number of running commands, and how long they may go on once this stops.
    pub fn running(&self) -> (usize, Duration) {
        (*self.running.borrow(), self.agent.commands_stop())
    }

    /// Starts nothing new, waits for running commands if `waits`, and then ends them.
    pub async fn close(&self, waits: bool) {
        self.stop.send_replace(StopProgress::Begun);
        let mut running = self.running.subscribe();
        // If the build is ending, its scripts then record that as their reason.
        let patience = if waits { self.agent.commands_stop() } else { BRIEF };
        let all = running.wait_for(|count| *count == 0);
        let _ = tokio::time::timeout(patience, all).await;
        self.stop.send_replace(StopProgress::Now);
        // Longer than ending any script takes.
        let _ = tokio::time::timeout(LAST, running.wait_for(|count| *count == 0)).await;
    }
}

/// How long a shutdown that does not wait gives running commands.
const BRIEF: Duration = Duration::from_secs(1);
/// How long ending the scripts may take.
const LAST: Duration = Duration::from_secs(5);
