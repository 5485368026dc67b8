//! CloudWatch Logs, read only: the logs of builds, if there is a service (`runner_service::logs`).

mod events;
mod lists;

pub(super) use events::{FilterLogEvents, GetLogEvents};
pub(super) use lists::{DescribeLogGroups, DescribeLogStreams};

use super::call::RefusedCall;
use super::endpoint::Endpoint;
use super::resources::ResourceNames;
use runner_core::arn::{ACCOUNT, REGION, arn};
use runner_service::Service;
use runner_service::logs::LogError;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

fn invalid(message: impl Into<String>) -> RefusedCall {
    RefusedCall::new("InvalidParameterException", message)
}

fn bad_token() -> RefusedCall {
    invalid("The specified nextToken is invalid.")
}

impl From<LogError> for RefusedCall {
    fn from(error: LogError) -> Self {
        match error {
            LogError::NoGroup | LogError::NoStream => {
                RefusedCall::new("ResourceNotFoundException", error.to_string())
            }
            LogError::Db(error) => error.into(),
            LogError::Read(..) => {
                RefusedCall::new("InternalFailure", error.to_string()).with_status(500)
            }
        }
    }
}

/// The service, which only `runner serve` has.
fn service(endpoint: &Endpoint) -> Result<&Arc<Service>, RefusedCall> {
    endpoint.service.as_ref().ok_or_else(|| {
        let text =
            "a build's own endpoint has no logs: `runner serve` has them, and `runner logs` prints them";
        RefusedCall::new("UnknownOperationException", text)
    })
}

fn group_arn(group: &str) -> String {
    arn("logs", &format!("log-group:{group}"))
}

fn stream_arn(group: &str, stream: &str) -> String {
    arn("logs", &format!("log-group:{group}:log-stream:{stream}"))
}

/// A group given by name or ARN.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupName {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
}

impl GroupName {
    fn check(body: &Value) -> Result<(), RefusedCall> {
        match (body["logGroupName"].is_null(), body["logGroupIdentifier"].is_null()) {
            (false, false) => Err(RefusedCall::new(
                "ValidationException",
                "LogGroup name and LogGroup ARN are mutually exclusive parameters.",
            )),
            (true, true) => Err(invalid(
                "1 validation error detected: Value null at 'logGroupName' failed to satisfy constraint: \
                 Member must not be null",
            )),
            _ => Ok(()),
        }
    }

    /// The group's name. An ARN of another account or Region matches no group.
    fn name(&self) -> &str {
        let named = self.log_group_name.as_deref().or(self.log_group_identifier.as_deref());
        name_of(named.unwrap_or_default())
    }

    /// The group as a resource. Rules that deny a project whose logs it holds also apply.
    async fn resource(&self, endpoint: &Endpoint) -> Result<ResourceNames, RefusedCall> {
        let name = self.name();
        let projects = match &endpoint.service {
            Some(service) => service.projects_of_group(name).await?,
            None => Vec::new(),
        };
        Ok(ResourceNames::log_group(&group_arn(name), &projects))
    }
}

fn name_of(named: &str) -> &str {
    let own = format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:");
    let name = named.strip_prefix(&own).unwrap_or(named);
    name.strip_suffix(":*").unwrap_or(name)
}

/// The limit of the request, or the page size.
fn most(limit: Option<u64>, page: usize) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(page)
}
