//! GetCommandInvocation: the result of a command on one node.

use super::{is_id, is_named, read, seen, shape};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use runner_folder::state::CommandStep;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetCommandInvocation {
    command_id: String,
    instance_id: String,
    plugin_name: Option<String>,
}

fn not_there() -> RefusedCall {
    RefusedCall::new(
        "InvocationDoesNotExist",
        "there is no such command, or it was not sent to that node",
    )
}

impl OperationInput for GetCommandInvocation {
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
        let action = "ssm:GetCommandInvocation";
        let found =
            seen(&self.command_id, action, origin, endpoint).await?.ok_or_else(not_there)?;
        let named = found.command.nodes.iter().find(|node| is_named(node, &self.instance_id));
        let node = named.ok_or_else(not_there)?.clone();
        let (at, step) = step(&found.command.steps, self.plugin_name.as_deref())?;
        let step = step.clone();
        let [output_url, errors_url] =
            shape::urls(&found.command, &node, &step, &endpoint.deliveries);
        read(move || {
            let invocation = found.invocation(&node)?;
            let state = invocation.steps.get(at).cloned();
            let mut state = state.unwrap_or_else(|| shape::unbegun(&invocation));
            let is_alone = found.command.steps.len() == 1;
            let outputs = found.step(&node, &step);
            let mut cut = match outputs.kept()? {
                Some(cut) => cut,
                None => outputs.so_far()?,
            };
            if cut.errors.is_empty() && invocation.details.is_end() {
                // The reason why nothing ran or no output was kept.
                cut.errors.clone_from(&invocation.trace);
            }
            if is_alone || (state.ended.is_none() && invocation.details.is_end()) {
                invocation.details.status().clone_into(&mut state.status);
                invocation.details.name().clone_into(&mut state.details);
            }
            let command = &found.command;
            Ok(json!({
                "CommandId": command.id,
                "InstanceId": self.instance_id,
                "Comment": command.comment,
                "DocumentName": command.document,
                "DocumentVersion": command.document_version,
                "PluginName": step.name,
                "ResponseCode": if state.ended.is_some() { state.code } else { -1 },
                "ExecutionStartDateTime": shape::iso(state.started),
                "ExecutionElapsedTime": shape::elapsed(&state),
                "ExecutionEndDateTime": shape::iso(state.ended),
                "Status": state.status,
                "StatusDetails": state.details,
                "StandardOutputContent": cut.output,
                "StandardOutputUrl": output_url,
                "StandardErrorContent": cut.errors,
                "StandardErrorUrl": errors_url,
                "CloudWatchOutputConfig": shape::cloud_watch(command),
            }))
        })
        .await
    }
}

/// The requested step. If there are several, the request must name one.
fn step<'s>(
    steps: &'s [CommandStep],
    named: Option<&str>,
) -> Result<(usize, &'s CommandStep), RefusedCall> {
    let names = || steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
    let wrong = |text: String| RefusedCall::new("InvalidPluginName", text);
    match (steps, named.filter(|name| !name.is_empty())) {
        ([only], None) => Ok((0, only)),
        (_, None) => Err(wrong(format!("PluginName: the document has several steps: {}", names()))),
        (_, Some(name)) => {
            let mut all = steps.iter().enumerate();
            all.find(|(_, step)| step.name == name || step.folder == name).ok_or_else(|| {
                wrong(format!("PluginName: the document has only these steps: {}", names()))
            })
        }
    }
}
