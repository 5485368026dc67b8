//! Sends the output of a command's steps to AWS.

use crate::deliveries::{Deliveries, DeliveryWriter};
use runner_core::arn::REGION;
use runner_core::destination::events::EventContext;
use runner_folder::state::{
    CommandNode, CommandStep, JobOf, OwnedCommand, SentCommand, SpoolJob, SpoolSource, StepOutputs,
};
use runner_host::clock;
use std::sync::Arc;

/// Sends the output of one command's steps.
#[derive(Clone)]
pub(super) struct Delivery {
    deliveries: Arc<Deliveries>,
    command: Arc<SentCommand>,
}

impl Delivery {
    pub(super) fn of(command: &SentCommand, deliveries: &Arc<Deliveries>) -> Self {
        Delivery { deliveries: Arc::clone(deliveries), command: Arc::new(command.clone()) }
    }

    /// Starts the delivery of a step at a node. `None` without targets; the error says why it
    /// cannot start.
    pub(super) async fn begin(
        &self,
        node: &CommandNode,
        step: &CommandStep,
        number: usize,
    ) -> Result<Option<DeliveryWriter>, String> {
        if self.command.destinations.is_empty() {
            return Ok(None);
        }
        let job = self.job(node, step, number);
        self.deliveries.begin(job).await.map(Some).map_err(|error| error.to_string())
    }

    fn job(&self, node: &CommandNode, step: &CommandStep, number: usize) -> SpoolJob {
        let SentCommand { id, destinations: to, owner, owner_id, owner_key, .. } = &*self.command;
        let source = |(name, path): (String, _)| {
            let key = format!("{id}/{}/{}/{name}", node.id, step.path());
            let key = to.bucket.as_ref().map_or_else(String::new, |bucket| bucket.key(&key));
            SpoolSource::new(path, key, format!("{id}/{}/{}/{name}", node.id, step.stream()))
        };
        SpoolJob {
            id: format!("{id}-{}-{number}", node.id),
            of: JobOf::Command { id: id.clone(), node: node.id.clone(), step: number },
            to: to.clone(),
            context: EventContext {
                session: id.clone(),
                target: node.name.clone(),
                owner: owner.clone(),
                user: "root".to_owned(),
                region: REGION.to_owned(),
            },
            user_id: owner_id.clone(),
            key_id: owner_key.clone(),
            identity: String::new(),
            sources: StepOutputs::sources(&self.command, node, step)
                .into_iter()
                .map(source)
                .collect(),
            writer: OwnedCommand::lock_path(id),
            made: clock::wall(),
            problem: String::new(),
        }
    }
}
