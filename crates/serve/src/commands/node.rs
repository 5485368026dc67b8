//! A command at one node: waits for a place, then runs the document's steps in turn.

use super::delivery::Delivery;
use super::lanes::InLane;
use super::script::{self, Ran, RunScript};
use crate::deliveries::DeliveryWriter;
use runner_client::{ClientError, SharedClient};
use runner_core::document::command::{DocumentStep, StepScript};
use runner_core::document::command_run::{
    DocumentRun, EndedStep, NextStep, ScriptEnd, StepOutcome,
};
use runner_core::run_command::StatusDetails;
use runner_folder::state::{BuildDir, CommandNode, CommandStep, OwnedCommand, StepState};
use runner_host::clock;
use runner_wire::control;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Pause before a node that does not respond is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Orders to a node. A later variant replaces earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeOrder {
    Wait,
    /// Run the steps.
    Begin,
    /// End the running script: a user cancelled the command.
    Cancel,
    /// End the running script: this program is shutting down.
    Stop,
    /// End without having started.
    Withdraw,
}

/// A message from a node.
#[derive(Debug)]
pub(super) enum NodeMessage {
    /// The node does not respond.
    Delayed(usize),
    /// It has a place and a connection and waits for `Begin`.
    Ready(usize),
    /// The current state of its steps.
    Steps(usize, Vec<StepState>),
    /// The command has ended at the node.
    Ended { node: usize, details: StatusDetails, trace: String, steps: Vec<StepState> },
}

/// A node and the id of its command.
pub(super) struct NodePlace {
    pub(super) node: CommandNode,
    pub(super) command: String,
}

/// The work at one node.
pub(super) struct NodeWork {
    pub(super) number: usize,
    pub(super) at: NodePlace,
    pub(super) build: BuildDir,
    pub(super) lane: InLane,
    pub(super) steps: Arc<Vec<DocumentStep>>,
    pub(super) names: Vec<CommandStep>,
    pub(super) owned: Arc<OwnedCommand>,
    pub(super) told: watch::Receiver<NodeOrder>,
    pub(super) said: mpsc::Sender<NodeMessage>,
    /// Variables for the scripts, besides those that identify the node.
    pub(super) variables: Vec<(String, String)>,
    pub(super) delivery: Delivery,
}

impl NodeWork {
    pub(super) async fn run(mut self) {
        let mut told = self.told.clone();
        let withdrawn = async {
            // The command's task is gone, so this ends as well.
            let _ = told.wait_for(|told| *told == NodeOrder::Withdraw).await;
        };
        let ready = tokio::select! {
            () = withdrawn => return,
            ready = self.ready() => ready,
        };
        let (place, link) = match ready {
            Ok(ready) => ready,
            Err(why) => return self.end(StatusDetails::Undeliverable, why, Vec::new()).await,
        };
        if self.said.send(NodeMessage::Ready(self.number)).await.is_err() {
            return;
        }
        let told = self.told.wait_for(|told| *told > NodeOrder::Wait).await.map(|told| *told);
        if !told.is_ok_and(|told| told != NodeOrder::Withdraw) {
            return;
        }
        let (details, trace, steps) = self.carry_out(link).await;
        drop(place);
        self.end(details, trace, steps).await;
    }

    /// A place and a connection, or why there is none.
    async fn ready(&self) -> Result<(tokio::sync::OwnedSemaphorePermit, SharedClient), String> {
        let ended = || "the build has ended".to_owned();
        let place = self.lane.place().await.ok_or_else(ended)?;
        loop {
            match self.link().await {
                Ok(link) => return Ok((place, link)),
                Err(ClientError::Silent | ClientError::Stopped { .. }) => {
                    let _ = self.said.send(NodeMessage::Delayed(self.number)).await;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error @ ClientError::Refused { .. }) => return Err(error.to_string()),
                Err(_) => return Err(ended()),
            }
        }
    }

    /// A connection on which the build has granted a place for a script.
    async fn link(&self) -> Result<SharedClient, ClientError> {
        let mut link = SharedClient::connect(&self.build).await?;
        link.send(&control::ControlRequest::ScriptPlace { limit: self.lane.workers() }).await?;
        // Without a time limit, as other scripts may take long: the next request shows whether the
        // build still responds.
        let frame = link.next().await?.ok_or(ClientError::Closed)?;
        match serde_json::from_slice(&frame) {
            Ok(control::ControlResponse::Done) => Ok(link),
            Ok(other) => Err(other.into()),
            Err(error) => Err(ClientError::Lost(error.into())),
        }
    }

    async fn end(self, details: StatusDetails, trace: String, steps: Vec<StepState>) {
        let said = NodeMessage::Ended { node: self.number, details, trace, steps };
        let _ = self.said.send(said).await;
    }

    /// Runs the steps in turn. Returns their outcome.
    async fn carry_out(&mut self, link: SharedClient) -> (StatusDetails, String, Vec<StepState>) {
        let all = Arc::clone(&self.steps);
        let mut run = DocumentRun::new(all.to_vec());
        let (mut states, mut link, mut trace) = (Vec::new(), Some(link), String::new());
        let mut is_stopped = false;
        let mut writing: Option<Arc<DeliveryWriter>> = None;
        loop {
            let started = clock::wall();
            let mut state = StepState {
                status: "InProgress".to_owned(),
                details: "InProgress".to_owned(),
                code: -1,
                started: Some(started),
                ended: None,
            };
            let Some(name) = self.names.get(states.len()).cloned() else { break };
            let (ended, notes) = match run.go_on() {
                NextStep::Done => break,
                NextStep::Over(_, ended) => (ended, Ran::default()),
                NextStep::Run(step, script) => {
                    let (step, script) = (step.clone(), script.clone());
                    states.push(state.clone());
                    self.say(&states).await;
                    states.pop();
                    let number = states.len();
                    writing = match self.delivery.begin(&self.at.node, &name, number).await {
                        Ok(writing) => writing.map(Arc::new),
                        Err(error) => {
                            trace = format!("the output is not sent to AWS: {error}");
                            None
                        }
                    };
                    let link = link.take();
                    let (end, ran) =
                        self.script(&name, &step, &script, link, writing.clone()).await;
                    is_stopped |= ran.is_stopped;
                    (run.ended(end), ran)
                }
            };
            state.ended = Some(clock::wall());
            state.code = ended.code;
            (state.status, state.details) = step_status(ended.outcome);
            if let Some(error) = &notes.unkept {
                trace = format!("a part of the output is not stored: {error}");
            }
            self.keep(&name, ended, notes).await;
            if let Some(writing) = writing.take() {
                writing.ended();
            }
            states.push(state);
            if states.len() < all.len() {
                self.say(&states).await;
            }
        }
        let details = match run.outcome() {
            StepOutcome::Success | StepOutcome::Skipped => StatusDetails::Success,
            StepOutcome::Failed => StatusDetails::Failed,
            StepOutcome::TimedOut => StatusDetails::ExecutionTimedOut,
            StepOutcome::Cancelled => StatusDetails::Cancelled,
        };
        if is_stopped {
            runner_folder::state::STOPPED.clone_into(&mut trace);
        }
        (details, trace, states)
    }

    async fn say(&self, states: &[StepState]) {
        let _ = self.said.send(NodeMessage::Steps(self.number, states.to_vec())).await;
    }

    async fn script(
        &mut self,
        name: &CommandStep,
        step: &DocumentStep,
        script: &StepScript,
        link: Option<SharedClient>,
        writing: Option<Arc<DeliveryWriter>>,
    ) -> (ScriptEnd, Ran) {
        let (owned, node, of_step) = (Arc::clone(&self.owned), self.at.node.clone(), name.clone());
        let opened = tokio::task::spawn_blocking(move || owned.step(&node, &of_step).files());
        let files = match opened.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(files) => files,
            Err(error) => {
                let why = format!("cannot keep the output of the script: {error}");
                return (ScriptEnd::NotStarted(1, why), Ran::default());
            }
        };
        let link = match link {
            Some(link) => link,
            None => {
                let mut told = self.told.clone();
                let linked = tokio::select! {
                    linked = self.link() => linked,
                    why = script::is_to_end(&mut told) => {
                        return script::never_run(why, files.map(script::OutputFile::new));
                    }
                };
                match linked {
                    Ok(link) => link,
                    Err(error) => {
                        let outputs = files.map(script::OutputFile::new);
                        return script::not_run(error, outputs, Ran::default());
                    }
                }
            }
        };
        let environment =
            [("AWS_SSM_INSTANCE_ID", &*self.at.node.id), ("SSM_COMMAND_ID", &*self.at.command)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = environment.into_iter().chain(self.variables.iter().cloned());
        let of_step = script.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
        let asked = control::Script {
            command: self.at.command.clone(),
            step: step.folder.clone(),
            text: script.text.clone(),
            directory: script.directory.clone(),
            environment: environment.chain(of_step).collect(),
        };
        let run = RunScript {
            link,
            asked,
            files,
            timeout: script.timeout,
            told: self.told.clone(),
            writing,
        };
        script::run(run).await
    }

    /// Stores the results of an ended step for later responses.
    async fn keep(&self, name: &CommandStep, ended: EndedStep, ran: Ran) {
        let (owned, node, step) = (Arc::clone(&self.owned), self.at.node.clone(), name.clone());
        let id = self.at.command.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let Ran { files, notes, unkept, .. } = ran;
            let outputs = owned.step(&node, &step);
            let has_none = ended.output.is_empty() && ended.errors.is_empty();
            let [mut output, mut errors] = match files {
                Some(files) => files,
                None if has_none && notes.is_empty() && unkept.is_none() => return Ok(()),
                None => outputs.files()?.map(script::OutputFile::new),
            };
            add(&mut output, &ended.output)?;
            for note in notes.iter().chain([&ended.errors]) {
                add(&mut errors, note)?;
            }
            outputs.keep()
        });
        let kept = kept.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = kept {
            tracing::warn!(%error, command = %id, "cannot store a command's output");
        }
    }
}

/// Appends a line to a script's output.
fn add(file: &mut script::OutputFile, text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let start = if file.is_at_line_start { "" } else { "\n" };
    file.is_at_line_start = text.ends_with('\n');
    file.file.write_all(format!("{start}{text}").as_bytes())
}

/// The status and details of a step, in AWS's terms.
fn step_status(outcome: StepOutcome) -> (String, String) {
    let (status, details) = match outcome {
        StepOutcome::Skipped => ("Success", "Skipped"),
        StepOutcome::Success => ("Success", "Success"),
        StepOutcome::Cancelled => ("Cancelled", "Cancelled"),
        StepOutcome::TimedOut => ("TimedOut", "ExecutionTimedOut"),
        StepOutcome::Failed => ("Failed", "Failed"),
    };
    (status.to_owned(), details.to_owned())
}
