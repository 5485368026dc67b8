//! CancelCommand: cancels a command on some or all of its nodes.

use super::nodes::shown;
use super::{is_id, is_named, read, seen};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use runner_folder::state::CommandNode;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CancelCommand {
    command_id: String,
    #[serde(default)]
    instance_ids: Vec<String>,
}

impl OperationInput for CancelCommand {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        is_id(&self.command_id)?;
        Ok((RequestScope::all(), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let found = seen(&self.command_id, "ssm:CancelCommand", origin, endpoint)
            .await?
            .ok_or_else(|| RefusedCall::new("InvalidCommandId", "there is no such command"))?;
        let nodes = self.nodes(&found.command.nodes)?;
        if found.is_live {
            read(move || found.cancel(&nodes.iter().collect::<Vec<_>>())).await?;
        }
        // Cancelling an ended command is no error.
        Ok(json!({}))
    }
}

impl CancelCommand {
    /// The nodes to cancel: the named ones, or all.
    fn nodes(&self, all: &[CommandNode]) -> Result<Vec<CommandNode>, RefusedCall> {
        if self.instance_ids.is_empty() {
            return Ok(all.to_vec());
        }
        let mut nodes: Vec<CommandNode> = Vec::new();
        for name in &self.instance_ids {
            let named = all.iter().find(|node| is_named(node, name)).ok_or_else(|| {
                let text = format!("InstanceIds: the command was not sent to {}", shown(name));
                RefusedCall::new("InvalidInstanceId", text)
            })?;
            if nodes.contains(named) {
                let text = format!("InstanceIds: {} stands there twice", shown(name));
                return Err(RefusedCall::new("DuplicateInstanceId", text));
            }
            nodes.push(named.clone());
        }
        Ok(nodes)
    }
}
