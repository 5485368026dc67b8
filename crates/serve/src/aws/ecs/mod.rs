//! ECS: presents a build as a task with one container and an agent that runs commands in it.

mod clusters;
mod configuration;
mod definition;
mod execute;
mod start;
mod tags;
mod tasks;

pub(super) use clusters::{
    CreateCluster, DeleteCluster, DescribeClusters, ListClusters, UpdateCluster,
};
pub(super) use definition::DescribeTaskDefinition;
pub(super) use execute::ExecuteCommand;
pub(super) use execute::asked_for;
pub(super) use start::{CreateService, RunTask, StartTask, StopTask, UpdateService};
pub(super) use tags::{ListTagsForResource, TagResource, UntagResource};
pub(super) use tasks::{DescribeTasks, ListTasks};

use super::call::RefusedCall;
use super::endpoint::Endpoint;
use super::page::page;
use runner_folder::state::ClusterTable;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

/// The only container of a task.
const CONTAINER: &str = "build";
/// Most items on a page.
const PAGE: usize = 100;

/// The role given for all tasks.
const ROLE_ARN: &str = "arn:aws:iam::000000000000:role/runner-build";

/// The error for an unusable file of clusters.
fn broken(error: &io::Error) -> RefusedCall {
    RefusedCall::new("ServerException", error.to_string()).with_status(500)
}

/// Why the clusters were not changed.
enum NotChanged {
    Refused(RefusedCall),
    Broken(io::Error),
}

impl From<io::Error> for NotChanged {
    fn from(error: io::Error) -> Self {
        NotChanged::Broken(error)
    }
}

/// Changes clusters and tasks on a blocking thread.
async fn changed<T: Send + 'static>(
    endpoint: &Endpoint,
    change: impl FnOnce(&mut ClusterTable) -> Result<T, RefusedCall> + Send + 'static,
) -> Result<T, RefusedCall> {
    let clusters = Arc::clone(&endpoint.builds.clusters);
    let done = tokio::task::spawn_blocking(move || {
        clusters.change(|table| change(table).map_err(NotChanged::Refused))
    });
    match done.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(NotChanged::Refused(refusal))) => Err(refusal),
        Ok(Err(NotChanged::Broken(error))) => Err(broken(&error)),
        Err(error) => Err(broken(&io::Error::other(error))),
    }
}

fn invalid(message: impl Into<String>) -> RefusedCall {
    RefusedCall::new("InvalidParameterException", message)
}

/// A page of a list, under this name.
fn paged(
    name: &str,
    arns: &[String],
    after: Option<&str>,
    most: Option<usize>,
) -> Result<Value, RefusedCall> {
    let most = most.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&most) {
        return Err(invalid(format!("maxResults is a number from 1 to {PAGE}.")));
    }
    let page = page(arns, |arn| arn, after, most)
        .ok_or_else(|| invalid("nextToken is none of this list"))?;
    let mut answer = json!({name: page.items});
    if let Some(next) = page.next {
        answer["nextToken"] = json!(next);
    }
    Ok(answer)
}
