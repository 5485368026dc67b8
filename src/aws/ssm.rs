//! Session Manager: sessions begin, go on, end, and are listed.

use super::call::{Call, Refusal, unknown};
use super::documents::{self, Parameters};
use super::endpoint::{Endpoint, Origin};
use super::page::page;
use super::targets::{no_session, reachable, resolve, resource};
use crate::gateway::{Asked, SessionFacts};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) async fn answer(
    call: &Call,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    match call.operation.as_str() {
        "StartSession" => start(&call.input()?, origin, endpoint).await,
        "ResumeSession" => resume(&call.input()?, origin, endpoint).await,
        "TerminateSession" => terminate(&call.input()?, endpoint).await,
        "DescribeSessions" => describe(&call.input()?, endpoint),
        "GetConnectionStatus" => connection(&call.input()?, endpoint).await,
        other => Err(unknown(call.service, other)),
    }
}

fn not_connected(message: impl Into<String>) -> Refusal {
    Refusal::new("TargetNotConnected", message)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartSession {
    target: String,
    document_name: Option<String>,
    parameters: Option<Parameters>,
    reason: Option<String>,
}

async fn start(
    input: &StartSession,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    if input.target.is_empty() || input.target.chars().count() > 400 {
        return Err(Refusal::new("ValidationException", "Target is to have 1 to 400 characters"));
    }
    if input.reason.as_ref().is_some_and(|reason| reason.chars().count() > 256) {
        return Err(Refusal::new("ValidationException", "Reason is to have 1 to 256 characters"));
    }
    let known = resolve(&input.target, endpoint).await.map_err(not_connected)?;
    endpoint.judge(origin, "ssm:StartSession", &resource(&known))?;
    let known = reachable(&input.target, known).await.map_err(not_connected)?;
    let document = input.document_name.as_deref();
    let plan = documents::plan(document, &input.parameters.clone().unwrap_or_default())?;
    let asked = Asked {
        prefix: origin.caller.name.clone(),
        target: input.target.clone(),
        document: input.document_name.clone(),
        reason: input.reason.clone(),
        owner: origin.caller.arn.clone(),
        idle: known.idle,
        longest: known.longest,
        build: known.known.dir,
        plan,
    };
    let (session, token) = endpoint.gateway.open(asked).map_err(|error| no_session(&error))?;
    Ok(json!({
        "SessionId": session,
        "TokenValue": token,
        "StreamUrl": origin.stream_url(&session),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneSession {
    session_id: String,
}

async fn resume(
    input: &OneSession,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    endpoint.judge(origin, "ssm:ResumeSession", &input.session_id)?;
    let resumed = endpoint.gateway.resume(&input.session_id).await;
    let mut answer = json!({
        "SessionId": input.session_id,
        "StreamUrl": origin.stream_url(&input.session_id),
    });
    // Without a token the client knows that the session is over; any error it would repeat for a
    // minute and then hang.
    if let Some(token) = resumed.map_err(|error| no_session(&error))? {
        answer["TokenValue"] = json!(token);
    }
    Ok(answer)
}

async fn terminate(input: &OneSession, endpoint: &Endpoint) -> Result<Value, Refusal> {
    match endpoint.gateway.terminate(&input.session_id).await {
        Ok(()) => Ok(json!({"SessionId": input.session_id})),
        Err(error) => Err(no_session(&error)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeSessions {
    state: String,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    key: String,
    value: String,
}

fn describe(input: &DescribeSessions, endpoint: &Endpoint) -> Result<Value, Refusal> {
    let invalid = |text: String| Refusal::new("ValidationException", text);
    let is_active = match input.state.as_str() {
        "Active" => true,
        "History" => false,
        other => return Err(invalid(format!("State is Active or History, not {other}"))),
    };
    let most = input.max_results.unwrap_or(200);
    if !(1..=200).contains(&most) {
        return Err(invalid("MaxResults is a number from 1 to 200".to_owned()));
    }
    let mut sessions = endpoint.gateway.list(is_active);
    for filter in &input.filters {
        let test = test(filter)?;
        sessions.retain(|facts| test(facts));
    }
    let page = page(&sessions, |facts| &facts.id, input.next_token.as_deref(), most)
        .ok_or_else(|| Refusal::new("InvalidNextToken", "NextToken is none of this list"))?;
    let mut answer = json!({"Sessions": page.items.iter().map(shape).collect::<Vec<_>>()});
    if let Some(next) = page.next {
        answer["NextToken"] = json!(next);
    }
    Ok(answer)
}

type Test = Box<dyn Fn(&SessionFacts) -> bool>;

fn test(filter: &Filter) -> Result<Test, Refusal> {
    let value = filter.value.clone();
    let moment = || {
        value.parse::<Timestamp>().map_err(|_| {
            Refusal::new("ValidationException", format!("{value} is no time in ISO 8601"))
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
            return Err(Refusal::new("InvalidFilterKey", format!("there is no filter {other}")));
        }
    })
}

fn shape(facts: &SessionFacts) -> Value {
    let mut shape = json!({
        "SessionId": facts.id,
        "Target": facts.target,
        "Status": facts.status.name(),
        "StartDate": facts.started.epoch_seconds(),
        "DocumentName": facts.document.as_deref().unwrap_or("SSM-SessionManagerRunShell"),
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
    shape
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Connection {
    target: String,
}

async fn connection(input: &Connection, endpoint: &Endpoint) -> Result<Value, Refusal> {
    let is_connected = match resolve(&input.target, endpoint).await {
        Ok(known) => reachable(&input.target, known).await.is_ok(),
        Err(_) => false,
    };
    let status = if is_connected { "connected" } else { "notconnected" };
    Ok(json!({"Target": input.target, "Status": status}))
}
