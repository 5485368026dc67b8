//! CodeBuild: the builds of this machine, as records.

use super::builds::{Builds, Known};
use super::call::Refusal;
use super::endpoint::{Endpoint, Origin};
use super::operations::{Input, Scope};
use super::page::page;
use super::resources::Resource;
use runner_client::Link;
use runner_wire::control::{Answer, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Builds of one page of a list.
const PAGE: usize = 100;
/// How long a build that is stopped is waited for: longer than its processes have to end.
const STOPPING: Duration = Duration::from_secs(8);

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidInputException", message)
}

#[derive(Deserialize)]
pub(super) struct BatchGetBuilds {
    ids: Vec<String>,
}

impl Input for BatchGetBuilds {
    /// What each id names.
    type Subject = Vec<Option<Known>>;

    async fn subject(&self, endpoint: &Endpoint) -> Result<(Scope, Self::Subject), Refusal> {
        if self.ids.is_empty() {
            return Err(invalid("The input build ID list cannot be empty."));
        }
        if self.ids.len() > PAGE {
            return Err(invalid(format!("at most {PAGE} builds can be asked for at once")));
        }
        let mut builds = Vec::with_capacity(self.ids.len());
        for id in &self.ids {
            builds.push(find(id, &endpoint.builds).await);
        }
        let named = self.ids.iter().zip(&builds);
        let scope = Scope::of(named.map(|(id, known)| Resource::build(id, known.as_ref())));
        Ok((scope, builds))
    }

    async fn answer(
        self,
        builds: Self::Subject,
        _: &Origin,
        _: &Endpoint,
    ) -> Result<Value, Refusal> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (id, known) in self.ids.into_iter().zip(builds) {
            match known {
                Some(known) => found.push(shape(&known)?),
                None => missing.push(id),
            }
        }
        Ok(json!({"builds": found, "buildsNotFound": missing}))
    }
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
pub(super) struct ListBuilds {
    sort_order: Option<String>,
    next_token: Option<String>,
}

impl Input for ListBuilds {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        Ok((Scope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, Refusal> {
        let all = endpoint.builds.all().await?;
        let mut ids: Vec<String> = all.into_iter().map(|known| known.record.id).collect();
        match self.sort_order.as_deref() {
            None | Some("DESCENDING") => {}
            Some("ASCENDING") => ids.reverse(),
            Some(other) => {
                return Err(invalid(format!("sortOrder is ASCENDING or DESCENDING, not {other}")));
            }
        }
        let page = page(&ids, |id| id, self.next_token.as_deref(), PAGE)
            .ok_or_else(|| invalid("nextToken is none of this list"))?;
        let mut answer = json!({"ids": page.items});
        if let Some(next) = page.next {
            answer["nextToken"] = json!(next);
        }
        Ok(answer)
    }
}

#[derive(Deserialize)]
pub(super) struct StopBuild {
    id: String,
}

impl Input for StopBuild {
    type Subject = Option<Known>;

    async fn subject(&self, endpoint: &Endpoint) -> Result<(Scope, Self::Subject), Refusal> {
        let known = find(&self.id, &endpoint.builds).await;
        Ok((Scope::of([Resource::build(&self.id, known.as_ref())]), known))
    }

    async fn answer(
        self,
        known: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, Refusal> {
        let not_found =
            || Refusal::new("ResourceNotFoundException", format!("there is no build {}", self.id));
        let known = known.ok_or_else(not_found)?;
        if known.is_live {
            // Gone meanwhile is ended, too.
            let _ = tokio::time::timeout(STOPPING, end(&known)).await;
        }
        let known = find(&self.id, &endpoint.builds).await.ok_or_else(not_found)?;
        Ok(json!({"build": shape(&known)?}))
    }
}

/// Stops a build; resolves when it has ended.
async fn end(known: &Known) -> Result<(), runner_client::ClientError> {
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
