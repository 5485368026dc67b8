//! CodeBuild: the builds of this machine, as records.

use super::builds::{Builds, Known};
use super::call::{Call, Refusal, unknown};
use super::endpoint::{Endpoint, Origin};
use super::page::page;
use crate::client::Link;
use runner_wire::control::{Answer, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Builds of one page of a list.
const PAGE: usize = 100;
/// How long a build that is stopped is waited for: longer than its processes have to end.
const STOPPING: Duration = Duration::from_secs(8);

pub(super) async fn answer(
    call: &Call,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    let builds = &endpoint.builds;
    match call.operation.as_str() {
        "BatchGetBuilds" => batch_get(&call.input()?, builds).await,
        "ListBuilds" => list(&call.input()?, builds).await,
        "StopBuild" => {
            let input: StopBuild = call.input()?;
            endpoint.judge(origin, "codebuild:StopBuild", &input.id)?;
            stop(&input, builds).await
        }
        other => Err(unknown(call.service, other)),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidInputException", message)
}

#[derive(Deserialize)]
struct BatchGetBuilds {
    ids: Vec<String>,
}

async fn batch_get(input: &BatchGetBuilds, builds: &Builds) -> Result<Value, Refusal> {
    if input.ids.is_empty() {
        return Err(invalid("The input build ID list cannot be empty."));
    }
    if input.ids.len() > PAGE {
        return Err(invalid(format!("at most {PAGE} builds can be asked for at once")));
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in &input.ids {
        match find(id, builds).await {
            Some(known) => found.push(shape(&known)?),
            None => missing.push(id),
        }
    }
    Ok(json!({"builds": found, "buildsNotFound": missing}))
}

/// The build of an id or an ARN.
async fn find(id: &str, builds: &Builds) -> Option<Known> {
    let id = id.rsplit_once(":build/").map_or(id, |(_, id)| id);
    let known = builds.get(id.rsplit_once(':')?.1).await?;
    (known.record.id == id).then_some(known)
}

fn shape(known: &Known) -> Result<Value, Refusal> {
    serde_json::to_value(&known.record).map_err(|error| {
        Refusal::new("InternalServerException", error.to_string()).with_status(500)
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListBuilds {
    sort_order: Option<String>,
    next_token: Option<String>,
}

async fn list(input: &ListBuilds, builds: &Builds) -> Result<Value, Refusal> {
    let mut ids: Vec<String> =
        builds.all().await?.into_iter().map(|known| known.record.id).collect();
    match input.sort_order.as_deref() {
        None | Some("DESCENDING") => {}
        Some("ASCENDING") => ids.reverse(),
        Some(other) => {
            return Err(invalid(format!("sortOrder is ASCENDING or DESCENDING, not {other}")));
        }
    }
    let page = page(&ids, |id| id, input.next_token.as_deref(), PAGE)
        .ok_or_else(|| invalid("nextToken is none of this list"))?;
    let mut answer = json!({"ids": page.items});
    if let Some(next) = page.next {
        answer["nextToken"] = json!(next);
    }
    Ok(answer)
}

#[derive(Deserialize)]
struct StopBuild {
    id: String,
}

async fn stop(input: &StopBuild, builds: &Builds) -> Result<Value, Refusal> {
    let not_found =
        || Refusal::new("ResourceNotFoundException", format!("there is no build {}", input.id));
    let known = find(&input.id, builds).await.ok_or_else(not_found)?;
    if known.is_live {
        // Gone meanwhile is ended, too.
        let _ = tokio::time::timeout(STOPPING, end(&known)).await;
    }
    let known = find(&input.id, builds).await.ok_or_else(not_found)?;
    Ok(json!({"build": shape(&known)?}))
}

/// Stops a build; resolves when it has ended.
async fn end(known: &Known) -> Result<(), crate::client::ClientError> {
    let mut link = Link::connect(&known.dir).await?;
    link.ask(&Request::Stop).await?;
    link.send(&Request::Watch).await?;
    while let Some(body) = link.next().await? {
        match serde_json::from_slice(&body) {
            Ok(Answer::Status(status)) if matches!(status.state.as_str(), "running" | "paused") => {
            }
            _ => break,
        }
    }
    Ok(())
}
