//! Log lines: of one stream, or the matching ones of a group.

use super::{GroupName, bad_token, group_arn, invalid, most, service, stream_arn};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use runner_service::db::streams::{Names, StoredStream};
use runner_service::logs::{FilterPattern, From, LineKey, LogFilter, TimeRange, number};
use serde::Deserialize;
use serde_json::{Value, json};

/// Lines on one page.
const PAGE: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct GetLogEvents {
    #[serde(flatten)]
    group: GroupName,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<u64>,
    start_from_head: Option<bool>,
}

impl OperationInput for GetLogEvents {
    type Subject = Option<StoredStream>;

    fn check(body: &Value) -> Result<(), RefusedCall> {
        GroupName::check(body)
    }

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let group = self.group.name();
        let found = match &endpoint.service {
            Some(service) => service.log_stream(group, &self.log_stream_name).await?,
            None => None,
        };
        let arn = stream_arn(group, &self.log_stream_name);
        let build = found.as_ref().map(|stream| {
            let task = endpoint.builds.task(&stream.uuid);
            (stream.project.as_str(), stream.uuid.as_str(), task)
        });
        Ok((RequestScope::of([ResourceNames::log_stream(&arn, &group_arn(group), build)]), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let stream = found.as_ref().map(number).unwrap_or_default();
        let from = match &self.next_token {
            Some(token) => open(token, stream).ok_or_else(bad_token)?,
            None if self.start_from_head == Some(true) => From::Head,
            None => From::Tail,
        };
        let range = TimeRange { start: self.start_time, end: self.end_time };
        let group = self.group.name().to_owned();
        let limit = most(self.limit, PAGE);
        let page = service.log_events(group, self.log_stream_name, range, from, limit).await?;
        let events = page.entries.iter().map(|entry| {
            json!({"timestamp": entry.time, "message": entry.text, "ingestionTime": entry.time})
        });
        Ok(json!({
            "events": events.collect::<Vec<_>>(),
            "nextForwardToken": seal('f', stream, page.next),
            "nextBackwardToken": seal('b', stream, page.first),
        }))
    }
}

/// A token that continues a stream at this line.
fn seal(way: char, stream: u64, line: u64) -> String {
    format!("{way}/{stream:020}{line:036}")
}

/// The position of a token, if it belongs to this stream.
fn open(token: &str, stream: u64) -> Option<From> {
    let (way, place) = token.split_once('/')?;
    let is_number = place.len() == 56 && place.bytes().all(|byte| byte.is_ascii_digit());
    let (of, line) = place.split_at_checked(20).filter(|_| is_number)?;
    let line = line.parse().ok().filter(|_| of.parse() == Ok(stream))?;
    match way {
        "f" => Some(From::Forward(line)),
        "b" => Some(From::Backward(line)),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct FilterLogEvents {
    #[serde(flatten)]
    group: GroupName,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<u64>,
}

impl OperationInput for FilterLogEvents {
    type Subject = ();

    fn check(body: &Value) -> Result<(), RefusedCall> {
        GroupName::check(body)?;
        if !body["logStreamNames"].is_null() && !body["logStreamNamePrefix"].is_null() {
            return Err(invalid(
                "logStreamNamePrefix and logStreamNames are mutually exclusive parameters.",
            ));
        }
        if body["startFromHead"] == false && body["nextToken"].is_null() {
            return Err(invalid(
                "startFromHead false is not offered here: the earliest lines come first",
            ));
        }
        Ok(())
    }

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([self.group.resource(endpoint).await?]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let group = self.group.name().to_owned();
        let kind = format!(
            "log events {:?}",
            (
                &group,
                &self.log_stream_names,
                &self.log_stream_name_prefix,
                self.start_time,
                self.end_time,
                &self.filter_pattern,
            )
        );
        let after: Option<LineKey> = match &self.next_token {
            None => None,
            Some(token) => Some(service.sealer().open(&kind, token).ok_or_else(bad_token)?),
        };
        let names = match (self.log_stream_names, self.log_stream_name_prefix) {
            (Some(names), _) => Names::These(names),
            (None, Some(prefix)) => Names::Prefix(prefix),
            (None, None) => Names::All,
        };
        let pattern = FilterPattern::parse(self.filter_pattern.as_deref().unwrap_or_default());
        let filter = LogFilter {
            group,
            names,
            start: self.start_time,
            end: self.end_time,
            pattern: pattern.map_err(invalid)?,
            limit: most(self.limit, PAGE),
            after,
        };
        let found = service.filter_log_events(filter).await?;
        let events = found.entries.iter().map(|(stream, key, entry)| {
            json!({
                "logStreamName": stream, "timestamp": entry.time, "message": entry.text,
                "ingestionTime": entry.time, "eventId": event_id(*key),
            })
        });
        let mut answer = json!({"events": events.collect::<Vec<_>>(), "searchedLogStreams": []});
        if let Some(next) = found.next {
            answer["nextToken"] = json!(service.sealer().seal(&kind, &next));
        }
        Ok(answer)
    }
}

/// An id that is stable across restarts and sorts by time.
fn event_id((time, stream, line): LineKey) -> String {
    format!("{time:014}{stream:020}{line:022}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_one_stream() {
        assert_eq!(open(&seal('f', 7, 12), 7), Some(From::Forward(12)));
        assert_eq!(open(&seal('b', u64::MAX, 0), u64::MAX), Some(From::Backward(0)));
        let token = seal('f', 7, 12);
        for bad in [
            "",
            "f",
            "f/",
            "x/0",
            &token[..57],
            &token.replace('f', "x"),
            &format!("{token}0"),
            "f/é",
        ] {
            assert_eq!(open(bad, 7), None, "{bad}");
        }
        assert_eq!(open(&token, 8), None);
        assert_eq!(event_id((i64::from(i32::MAX), u64::MAX, 1)).len(), 56);
    }
}
