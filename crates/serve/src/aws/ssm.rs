//! Session Manager: start, resume, terminate and list sessions.

use super::builds::VisibleBuild;
use super::call::RefusedCall;
use super::documents::{self, DocumentContent, PREFERENCES, PlannedSession, SessionAsking};
use super::endpoint::{Endpoint, Origin};
use super::operations::{DOCUMENT_CHECK, OperationInput, RequestScope};
use super::page::page;
use super::policy::ConditionKeys;
use super::resources::{ResourceNames, last};
use super::targets::{agent_of, demanded, no_session, reachable, resolve};
use crate::gateway::{SessionFacts, SessionRequest};
use jiff::Timestamp;
use runner_core::agent::AgentConfig;
use runner_core::document::GivenParameters;
use serde::Deserialize;
use serde_json::{Value, json};

fn not_connected(message: impl Into<String>) -> RefusedCall {
    RefusedCall::new("TargetNotConnected", message)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartSession {
    target: String,
    document_name: Option<String>,
    #[serde(default)]
    parameters: Option<GivenParameters>,
    reason: Option<String>,
}

impl OperationInput for StartSession {
    /// The target build, or why there is none.
    type Subject = Result<VisibleBuild, String>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let invalid = |text: &str| Err(RefusedCall::new("ValidationException", text));
        if self.target.is_empty() || self.target.chars().count() > 400 {
            return invalid("Target is to have 1 to 400 characters");
        }
        if self.reason.as_ref().is_some_and(|reason| reason.chars().count() > 256) {
            return invalid("Reason is to have 1 to 256 characters");
        }
        let known = resolve(&self.target, endpoint).await;
        let target = ResourceNames::target(&self.target, known.as_ref().ok());
        let named = match self.document_name.as_deref() {
            Some(name) => Some(documents::resource(endpoint, name).await),
            None => None,
        };
        let scope = match named {
            Some(document) => {
                RequestScope::of([target, document]).when(vec![(DOCUMENT_CHECK, "true".to_owned())])
            }
            None => {
                let preferences = documents::resource(endpoint, PREFERENCES).await;
                RequestScope::of([target]).or_with(preferences)
            }
        };
        Ok((scope, known))
    }

    async fn answer(
        self,
        known: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let known = known.map_err(not_connected)?;
        let reached = reachable(&self.target, known).await.map_err(not_connected)?;
        let agent = agent_of(&reached.known, endpoint).await.map_err(not_connected)?;
        let named = self.document_name.as_deref();
        let (planned, version) =
            begin(named, self.parameters.as_ref(), &agent, origin, endpoint).await?;
        let idle = match planned.idle {
            _ if reached.is_idle_fixed => reached.idle,
            Some(idle) if reached.is_idle_given => idle.min(reached.idle),
            idle => idle.unwrap_or(reached.idle),
        };
        let longest = [planned.longest, reached.longest].into_iter().flatten().min();
        let plan = demanded(planned.plan, reached.requires_log, endpoint)?;
        let asked = SessionRequest {
            prefix: origin.caller.name.clone(),
            target: self.target,
            document: self.document_name.or_else(|| version.map(|_| PREFERENCES.to_owned())),
            reason: self.reason,
            owner: origin.caller.arn.clone(),
            user_id: origin.caller.user_id.clone(),
            key_id: origin.caller.key_id.clone(),
            version,
            idle,
            longest,
            agent,
            region: origin.region.clone(),
            build: reached.known.dir,
            plan,
        };
        let (session, token) = endpoint.gateway.open(asked).map_err(|error| no_session(&error))?;
        Ok(json!({
            "SessionId": session,
            "TokenValue": token,
            "StreamUrl": origin.stream_url(&session),
        }))
    }
}

/// A session's plan, and the version of its document. Documents are read once, now; later changes
/// affect later sessions only.
async fn begin(
    name: Option<&str>,
    parameters: Option<&GivenParameters>,
    agent: &AgentConfig,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<(PlannedSession, Option<u64>), RefusedCall> {
    let preferences = match documents::find(endpoint, PREFERENCES, Some("$LATEST")).await {
        Ok(found) => Some(found),
        // Without this document defaults apply.
        Err(refusal) if refusal.code == "InvalidDocument" => None,
        Err(refusal) => return Err(refusal),
    };
    let document: Option<DocumentContent> = match name {
        None => preferences.clone(),
        Some(name) if last(name) == PREFERENCES => preferences.clone(),
        Some(name) => Some(documents::find(endpoint, name, None).await?),
    };
    let tag = origin.caller.bound.as_ref().and_then(|bound| {
        let user = bound.directory.user(&bound.user)?;
        let tag = user.tags.iter().find(|(key, _)| key == "SSMSessionRunAs");
        tag.map(|(_, value)| value.clone())
    });
    let none = GivenParameters::new();
    let planned = documents::plan(&SessionAsking {
        document: document.as_ref(),
        preferences: preferences.as_ref(),
        parameters: parameters.unwrap_or(&none),
        agent,
        run_as: tag.as_deref(),
    })?;
    Ok((planned, document.map(|found| found.version)))
}

/// A session as a resource, with condition keys for its starter and its target.
fn session(id: &str, endpoint: &Endpoint) -> RequestScope {
    let scope = RequestScope::of([ResourceNames::session(id)]);
    match endpoint.gateway.facts(id) {
        Some(facts) => {
            let context: ConditionKeys = vec![
                ("ssm:resourceTag/aws:ssmmessages:session-id", facts.user_id.clone()),
                ("ssm:resourceTag/aws:ssmmessages:target-id", facts.target.clone()),
                ("aws:ResourceTag/aws:ssmmessages:session-id", facts.user_id.clone()),
                ("aws:ResourceTag/aws:ssmmessages:target-id", facts.target),
            ];
            scope.when(context).begun_by(facts.user_id)
        }
        None => scope,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResumeSession {
    session_id: String,
}

impl OperationInput for ResumeSession {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((session(&self.session_id, endpoint), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let resumed = endpoint.gateway.resume(&self.session_id).await;
        let mut answer = json!({
            "SessionId": self.session_id,
            "StreamUrl": origin.stream_url(&self.session_id),
        });
        // A response without a token tells the client that the session is over. Any error would
        // make it retry for a minute and then hang.
        if let Some(token) = resumed.map_err(|error| no_session(&error))? {
            answer["TokenValue"] = json!(token);
        }
        Ok(answer)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TerminateSession {
    session_id: String,
}

impl OperationInput for TerminateSession {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((session(&self.session_id, endpoint), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        match endpoint.gateway.terminate(&self.session_id, "").await {
            Ok(()) => Ok(json!({"SessionId": self.session_id})),
            Err(error) => Err(no_session(&error)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeSessions {
    state: String,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<SessionFilter>,
}

#[derive(Deserialize)]
struct SessionFilter {
    key: String,
    value: String,
}

impl OperationInput for DescribeSessions {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let invalid = |text: String| RefusedCall::new("ValidationException", text);
        let is_active = match self.state.as_str() {
            "Active" => true,
            "History" => false,
            other => return Err(invalid(format!("State is Active or History, not {other}"))),
        };
        let most = self.max_results.unwrap_or(200);
        if !(1..=200).contains(&most) {
            return Err(invalid("MaxResults is a number from 1 to 200".to_owned()));
        }
        let mut sessions = endpoint.gateway.list(is_active);
        for filter in &self.filters {
            let test = test(filter)?;
            sessions.retain(|facts| test(facts));
        }
        let page = page(&sessions, |facts| &facts.id, self.next_token.as_deref(), most)
            .ok_or_else(|| {
                RefusedCall::new("InvalidNextToken", "NextToken is none of this list")
            })?;
        let mut answer = json!({"Sessions": page.items.iter().map(|facts| shape(facts, endpoint)).collect::<Vec<_>>()});
        if let Some(next) = page.next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }
}

type SessionTest = Box<dyn Fn(&SessionFacts) -> bool>;

fn test(filter: &SessionFilter) -> Result<SessionTest, RefusedCall> {
    let value = filter.value.clone();
    let moment = || {
        value.parse::<Timestamp>().map_err(|_| {
            RefusedCall::new("ValidationException", format!("{value} is not a time in ISO 8601"))
        })
    };
    Ok(match filter.key.as_str() {
        "InvokedAfter" => {
            let moment = moment()?.as_microsecond();
            Box::new(move |facts| facts.started.0 >= moment)
        }
        "InvokedBefore" => {
            let moment = moment()?.as_microsecond();
            Box::new(move |facts| facts.started.0 <= moment)
        }
        "Target" => Box::new(move |facts| facts.target == value),
        "Owner" => Box::new(move |facts| facts.owner == value),
        "Status" => Box::new(move |facts| facts.status.name() == value),
        "SessionId" => Box::new(move |facts| facts.id == value),
        "AccessType" => Box::new(move |_| value == "Standard"),
        other => {
            return Err(RefusedCall::new(
                "InvalidFilterKey",
                format!("there is no filter {other}"),
            ));
        }
    })
}

fn shape(facts: &SessionFacts, endpoint: &Endpoint) -> Value {
    let mut shape = json!({
        "SessionId": facts.id,
        "Target": facts.target,
        "Status": facts.status.name(),
        "StartDate": facts.started.epoch_seconds(),
        "DocumentName": facts.document.as_deref().unwrap_or(PREFERENCES),
        "Owner": facts.owner,
        "AccessType": "Standard",
    });
    if let Some(ended) = facts.ended {
        shape["EndDate"] = json!(ended.epoch_seconds());
    }
    if let Some(longest) = facts.longest {
        shape["MaxSessionDuration"] = json!(longest.as_secs().div_ceil(60).to_string());
    }
    if let Some(reason) = &facts.reason {
        shape["Reason"] = json!(reason);
    }
    if !facts.details.is_empty() {
        shape["Details"] = json!(facts.details);
    }
    if let Some(bucket) = &facts.logs.bucket {
        let key = bucket.key(&format!("{}.log", facts.id));
        shape["OutputUrl"]["S3OutputUrl"] =
            json!(endpoint.deliveries.object_url(&bucket.name, &key));
    }
    if let Some(group) = &facts.logs.group {
        let url = endpoint.deliveries.stream_url(&group.name, &facts.id);
        shape["OutputUrl"]["CloudWatchOutputUrl"] = json!(url);
    }
    shape
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetConnectionStatus {
    target: String,
}

impl OperationInput for GetConnectionStatus {
    type Subject = Option<VisibleBuild>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let known = resolve(&self.target, endpoint).await.ok();
        Ok((RequestScope::of([ResourceNames::target(&self.target, known.as_ref())]), known))
    }

    async fn answer(
        self,
        known: Self::Subject,
        _: &Origin,
        _: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let is_connected = match known {
            Some(known) => reachable(&self.target, known).await.is_ok(),
            None => false,
        };
        let status = if is_connected { "connected" } else { "notconnected" };
        Ok(json!({"Target": self.target, "Status": status}))
    }
}
