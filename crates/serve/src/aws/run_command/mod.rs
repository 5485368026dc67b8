//! Run Command's calls: send, list, read and cancel commands; list builds as managed nodes.
//!
//! `send` and `cancel` pass commands to `crate::commands`, which runs them; the other calls read
//! the state folder.

mod cancel;
mod document;
mod get;
mod instances;
mod list;
mod nodes;
mod send;
mod shape;

pub(super) use cancel::CancelCommand;
pub(super) use get::GetCommandInvocation;
pub(super) use instances::DescribeInstanceInformation;
pub(super) use list::{ListCommandInvocations, ListCommands};
pub(super) use send::SendCommand;

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::resources::{ResourceNames, node_id};
use super::targets::{TARGET, task_of_target};
use runner_folder::state::{CommandNode, FoundCommand, SentCommand};
use std::io;

fn invalid(text: impl Into<String>) -> RefusedCall {
    RefusedCall::new("ValidationException", text)
}

fn failed(error: impl std::fmt::Display) -> RefusedCall {
    RefusedCall::new("InternalServerError", error.to_string()).with_status(500)
}

/// Whether `wanted` is a name of this node.
fn is_named(node: &CommandNode, wanted: &str) -> bool {
    wanted == node.name || is_build(wanted, &node.uuid, &node.build)
}

/// Whether `wanted` is a name of a build: node id, uuid or build id, with or without `codebuild:`,
/// or task.
fn is_build(wanted: &str, uuid: &str, id: &str) -> bool {
    let bare = wanted.strip_prefix(TARGET).unwrap_or(wanted);
    wanted == node_id(uuid)
        || bare == uuid
        || bare == id
        || task_of_target(wanted).is_some_and(|(_, task)| task == uuid)
}

/// Reads the state folder on a blocking thread.
async fn read<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RefusedCall> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(failed)?.map_err(failed)
}

/// Refuses what cannot be a command's id.
fn is_id(id: &str) -> Result<(), RefusedCall> {
    if uuid::Uuid::try_parse(id).is_err() {
        let shown: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(RefusedCall::new(
            "InvalidCommandId",
            format!("`{shown}` is not the id of a command"),
        ));
    }
    Ok(())
}

/// The command with this id.
async fn find(id: &str, endpoint: &Endpoint) -> Result<Option<FoundCommand>, RefusedCall> {
    is_id(id)?;
    let (store, id) = (endpoint.commands.store.clone(), id.to_owned());
    read(move || store.find(&id)).await
}

/// The command with this id, if the caller may see it.
async fn seen(
    id: &str,
    action: &'static str,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Option<FoundCommand>, RefusedCall> {
    let found = find(id, endpoint).await?;
    Ok(found.filter(|found| may_see(&found.command, action, origin, endpoint)))
}

/// Whether a caller may see another's command: the action must be allowed on each of its nodes.
fn may_see(
    command: &SentCommand,
    action: &'static str,
    origin: &Origin,
    endpoint: &Endpoint,
) -> bool {
    if command.owner_id == origin.caller.user_id || origin.caller.bound.is_none() {
        return true;
    }
    // A command without nodes is visible to its sender alone.
    !command.nodes.is_empty()
        && command.nodes.iter().all(|node| {
            // If the task cannot be read, the command stays hidden.
            endpoint.builds.task(&node.uuid).is_some_and(|task| {
                endpoint.allows(origin, action, &ResourceNames::node(node, Some(&task)))
            })
        })
}
