//! CancelCommand.

use super::nodes::shown;
use super::{find, is_named, may_see, read};
use crate::aws::call::Refusal;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{Input, Scope};
use runner_folder::state::{CommandNode, FoundCommand};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CancelCommand {
    command_id: String,
    #[serde(default)]
    instance_ids: Vec<String>,
}

impl Input for CancelCommand {
    type Subject = Option<FoundCommand>;

    async fn subject(&self, endpoint: &Endpoint) -> Result<(Scope, Self::Subject), Refusal> {
        Ok((Scope::all(), find(&self.command_id, endpoint).await?))
    }

    async fn answer(
        self,
        found: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, Refusal> {
        let found = found
            .filter(|it| may_see(&it.command, "ssm:CancelCommand", origin, endpoint))
            .ok_or_else(|| Refusal::new("InvalidCommandId", "there is no such command"))?;
        let nodes = self.nodes(&found.command.nodes)?;
        if found.is_live {
            read(move || found.cancel(&nodes.iter().collect::<Vec<_>>())).await?;
        }
        // One that has ended has ended.
        Ok(json!({}))
    }
}

impl CancelCommand {
    /// Those that are meant: all, where none is named.
    fn nodes(&self, all: &[CommandNode]) -> Result<Vec<CommandNode>, Refusal> {
        if self.instance_ids.is_empty() {
            return Ok(all.to_vec());
        }
        let mut nodes: Vec<CommandNode> = Vec::new();
        for name in &self.instance_ids {
            let named = all.iter().find(|node| is_named(node, name)).ok_or_else(|| {
                let text = format!("InstanceIds: the command was not sent to {}", shown(name));
                Refusal::new("InvalidInstanceId", text)
            })?;
            if nodes.contains(named) {
                let text = format!("InstanceIds: {} stands there twice", shown(name));
                return Err(Refusal::new("DuplicateInstanceId", text));
            }
            nodes.push(named.clone());
        }
        Ok(nodes)
    }
}
