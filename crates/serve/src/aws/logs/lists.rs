//! Lists log groups and streams.

use super::{GroupName, bad_token, group_arn, invalid, most, name_of, service, stream_arn};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use runner_core::arn::arn;
use runner_service::db::streams::{AfterStream, GroupSelection, StreamOrder, StreamQuery};
use serde::Deserialize;
use serde_json::{Value, json};

/// Groups or streams on one page.
const PAGE: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
    log_group_class: Option<String>,
    next_token: Option<String>,
    limit: Option<u64>,
}

impl OperationInput for DescribeLogGroups {
    type Subject = ();

    fn check(body: &Value) -> Result<(), RefusedCall> {
        if !body["logGroupNamePrefix"].is_null() && !body["logGroupNamePattern"].is_null() {
            return Err(invalid(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        Ok(())
    }

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        // AWS's name for all groups.
        let all = ResourceNames::named(arn("logs", "log-group::log-stream:"));
        Ok((RequestScope::of([all]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let is_here = self.log_group_class.as_deref().is_none_or(|class| class == "STANDARD");
        if !is_here {
            return Ok(json!({"logGroups": []}));
        }
        let has_pattern = self.log_group_name_pattern.is_some();
        let names = self
            .log_group_identifiers
            .map(|names| names.iter().map(|name| name_of(name).to_owned()).collect::<Vec<_>>());
        let kind = format!(
            "log groups {:?}",
            (&self.log_group_name_prefix, &self.log_group_name_pattern, &names)
        );
        let after: Option<String> = match &self.next_token {
            None => None,
            Some(token) => Some(service.sealer().open(&kind, token).ok_or_else(bad_token)?),
        };
        let wanted = GroupSelection {
            prefix: self.log_group_name_prefix,
            part: self.log_group_name_pattern,
            names,
        };
        let most = most(self.limit, PAGE);
        let mut page = service.log_groups(wanted, after, most + 1).await?;
        let has_more = page.len() > most;
        page.truncate(most);
        let mut answer = json!({});
        if let Some((name, _)) = page.last().filter(|_| has_more) {
            answer["nextToken"] = json!(service.sealer().seal(&kind, name));
        }
        answer["logGroups"] =
            page.iter().map(|(name, begun)| described(name, *begun, has_pattern)).collect();
        Ok(answer)
    }
}

fn described(name: &str, begun: i64, is_short: bool) -> Value {
    let arn = group_arn(name);
    let mut group = json!({
        "logGroupName": name, "creationTime": begun, "arn": format!("{arn}:*"), "logGroupArn": arn,
    });
    if !is_short {
        group["metricFilterCount"] = json!(0);
        group["logGroupClass"] = json!("STANDARD");
    }
    group
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct DescribeLogStreams {
    #[serde(flatten)]
    group: GroupName,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<u64>,
}

impl OperationInput for DescribeLogStreams {
    type Subject = ();

    fn check(body: &Value) -> Result<(), RefusedCall> {
        GroupName::check(body)?;
        if body["orderBy"] == "LastEventTime" && !body["logStreamNamePrefix"].is_null() {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        Ok(())
    }

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([self.group.resource(endpoint).await?]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let group = self.group.name().to_owned();
        let order = match self.order_by.as_deref() {
            Some("LastEventTime") => StreamOrder::LastEvent,
            _ => StreamOrder::Name,
        };
        let is_descending = self.descending.unwrap_or(false);
        let kind = format!(
            "log streams {:?}",
            (&group, order, is_descending, &self.log_stream_name_prefix)
        );
        let after: Option<AfterStream> = match &self.next_token {
            None => None,
            Some(token) => Some(service.sealer().open(&kind, token).ok_or_else(bad_token)?),
        };
        let wanted = StreamQuery {
            group: group.clone(),
            prefix: self.log_stream_name_prefix,
            order,
            is_descending,
        };
        let most = most(self.limit, PAGE);
        let mut page = service.log_streams(wanted, after, most + 1).await?;
        let has_more = page.len() > most;
        page.truncate(most);
        let mut answer = json!({});
        if let Some((_, after)) = page.last().filter(|_| has_more) {
            answer["nextToken"] = json!(service.sealer().seal(&kind, after));
        }
        let streams = page.into_iter().map(|(described, _)| {
            let name = &described.stream.name;
            let mut shown = json!({
                "logStreamName": name, "creationTime": described.stream.begun,
                "arn": stream_arn(&group, name), "storedBytes": 0,
            });
            if let (Some(first), Some(last)) = (described.first, described.last) {
                shown["firstEventTimestamp"] = json!(first);
                shown["lastEventTimestamp"] = json!(last.max(first));
                shown["lastIngestionTime"] = json!(last.max(first));
            }
            shown
        });
        answer["logStreams"] = streams.collect();
        Ok(answer)
    }
}
