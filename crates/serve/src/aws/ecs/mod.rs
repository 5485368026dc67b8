//! ECS: a build as a task with one container and an agent that runs commands in it.

mod clusters;
mod execute;
mod tasks;

pub(super) use clusters::{DescribeClusters, ListClusters};
pub(super) use execute::ExecuteCommand;
pub(super) use tasks::{DescribeTasks, ListTasks};

use super::call::Refusal;
use super::page::page;
use serde_json::{Value, json};

/// The one container of a task.
const CONTAINER: &str = "build";
/// Most items of a page.
const PAGE: usize = 100;

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidParameterException", message)
}

/// Some of a list, under this name.
fn paged(
    name: &str,
    arns: &[String],
    after: Option<&str>,
    most: Option<usize>,
) -> Result<Value, Refusal> {
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
