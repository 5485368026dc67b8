//! Client of CloudWatch Logs: looks up a log group and puts events into a stream.

use super::{Amazon, CLOUDWATCH_LOGS, CallError};
use serde_json::{Value, json};

/// The properties of a log group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroupInfo {
    /// Whether it is encrypted with a key of AWS KMS.
    pub has_key: bool,
}

/// Most pages of groups with the same prefix that are searched.
const PAGES: usize = 20;

/// A log group; `None` if none has exactly this name.
pub async fn group(amazon: &Amazon, name: &str) -> Result<Option<LogGroupInfo>, CallError> {
    let mut token = None;
    for _ in 0..PAGES {
        let mut body = json!({"logGroupNamePrefix": name});
        if let Some(token) = token {
            body["nextToken"] = token;
        }
        let page = amazon.call(CLOUDWATCH_LOGS, "DescribeLogGroups", &body).await?;
        let mut groups = page["logGroups"].as_array().into_iter().flatten();
        if let Some(found) = groups.find(|group| group["logGroupName"] == name) {
            let has_key = found["kmsKeyId"].as_str().is_some_and(|key| !key.is_empty());
            return Ok(Some(LogGroupInfo { has_key }));
        }
        token = page.get("nextToken").filter(|token| token.is_string()).cloned();
        if token.is_none() {
            break;
        }
    }
    Ok(None)
}

/// A log stream, created with the first events.
#[derive(Debug)]
pub struct LogStream {
    group: String,
    name: String,
    /// Whether to create a missing group as well.
    makes_group: bool,
    is_there: bool,
}

impl LogStream {
    pub fn new(group: String, name: String, makes_group: bool) -> Self {
        LogStream { group, name, makes_group, is_there: false }
    }

    /// Puts events, each with `timestamp` and `message`. They must fit the limits of one call.
    pub async fn put(&mut self, amazon: &Amazon, events: &[Value]) -> Result<(), CallError> {
        self.make(amazon).await?;
        let body = json!({
            "logGroupName": self.group,
            "logStreamName": self.name,
            "logEvents": events,
        });
        let answer = amazon.call(CLOUDWATCH_LOGS, "PutLogEvents", &body).await;
        if answer.as_ref().is_err_and(|error| error.has_code("ResourceNotFoundException")) {
            // Someone removed the stream or its group: the next attempt creates it again.
            self.is_there = false;
        }
        let answer = answer?;
        match answer.get("rejectedLogEventsInfo") {
            None | Some(Value::Null) => Ok(()),
            Some(info) => Err(CallError::Service {
                code: "rejectedLogEventsInfo".to_owned(),
                message: info.to_string(),
            }),
        }
    }

    async fn make(&mut self, amazon: &Amazon) -> Result<(), CallError> {
        if self.is_there {
            return Ok(());
        }
        let names = json!({"logGroupName": self.group, "logStreamName": self.name});
        let call =
            |operation, body| async move { amazon.call(CLOUDWATCH_LOGS, operation, &body).await };
        let is_there = |made: &Result<Value, CallError>| {
            made.as_ref().is_err_and(|error| error.has_code("ResourceAlreadyExistsException"))
        };
        let mut made = call("CreateLogStream", names.clone()).await;
        let is_missing =
            made.as_ref().is_err_and(|error| error.has_code("ResourceNotFoundException"));
        if is_missing && self.makes_group {
            let group = call("CreateLogGroup", json!({"logGroupName": self.group})).await;
            if !is_there(&group) {
                group?;
            }
            made = call("CreateLogStream", names).await;
        }
        if !is_there(&made) {
            made?;
        }
        self.is_there = true;
        Ok(())
    }
}
