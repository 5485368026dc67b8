//! CloudTrail: finds past actions in the audit.

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::operations::{OperationInput, RequestScope};
use crate::gateway::{Attribute, AuditLookupError, Lookup, MAX_FOUND, resource_name};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LookupEvents {
    #[serde(default)]
    lookup_attributes: Vec<LookupAttribute>,
    /// Seconds since 1970.
    start_time: Option<f64>,
    end_time: Option<f64>,
    event_category: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LookupAttribute {
    attribute_key: String,
    attribute_value: String,
}

impl LookupAttribute {
    fn read(self) -> Result<Attribute, RefusedCall> {
        let invalid = |text: String| RefusedCall::new("InvalidLookupAttributesException", text);
        let value = self.attribute_value;
        if value.is_empty() || value.chars().count() > 2000 {
            return Err(invalid("AttributeValue is to have 1 to 2000 characters".to_owned()));
        }
        Ok(match self.attribute_key.as_str() {
            "EventId" => Attribute::EventId(value),
            "EventName" => Attribute::EventName(value),
            "ReadOnly" => match value.as_str() {
                "true" => Attribute::ReadOnly(true),
                "false" => Attribute::ReadOnly(false),
                _ => return Err(invalid(format!("ReadOnly is true or false, not {value}"))),
            },
            "Username" => Attribute::Username(value),
            "ResourceType" => Attribute::ResourceType(value),
            "ResourceName" => Attribute::ResourceName(value),
            "EventSource" => Attribute::EventSource(value),
            "AccessKeyId" => Attribute::AccessKeyId(value),
            other => {
                return Err(invalid(format!(
                    "AttributeKey is one of EventId, EventName, ReadOnly, Username, ResourceType, ResourceName, \
                     EventSource, AccessKeyId, not {other}"
                )));
            }
        })
    }
}

impl LookupEvents {
    fn lookup(self) -> Result<Lookup, RefusedCall> {
        let mut attributes = self.lookup_attributes;
        if attributes.len() > 1 {
            let text = "LookupAttributes can have one item";
            return Err(RefusedCall::new("InvalidLookupAttributesException", text));
        }
        let most =
            usize::try_from(self.max_results.unwrap_or(MAX_FOUND as i64)).unwrap_or_default();
        if !(1..=MAX_FOUND).contains(&most) {
            let text = format!("MaxResults is a number from 1 to {MAX_FOUND}");
            return Err(RefusedCall::new("InvalidMaxResultsException", text));
        }
        if let Some(category) = self.event_category {
            let text = format!(
                "{category}: there are management events alone, which have no category here"
            );
            return Err(RefusedCall::new("InvalidEventCategoryException", text));
        }
        let second = |time: Option<f64>, round: fn(f64) -> f64| match time {
            None => Ok(None),
            Some(time) if time.is_finite() => {
                let whole = Timestamp::from_second(round(time) as i64).ok();
                Ok(Some(whole.map_or(i64::MAX, Timestamp::as_second)))
            }
            Some(_) => Err(()),
        };
        let invalid = |_| RefusedCall::new("InvalidTimeRangeException", "the times are none");
        let from = second(self.start_time, f64::ceil).map_err(invalid)?;
        let to = second(self.end_time, f64::floor).map_err(invalid)?;
        if let (Some(from), Some(to)) = (self.start_time, self.end_time)
            && from > to
        {
            let text = "StartTime is later than EndTime";
            return Err(RefusedCall::new("InvalidTimeRangeException", text));
        }
        let attribute = attributes.pop().map(LookupAttribute::read).transpose()?;
        Ok(Lookup { attribute, from, to, most, token: self.next_token })
    }
}

impl OperationInput for LookupEvents {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let lookup = self.lookup()?;
        let gateway = Arc::clone(&endpoint.gateway);
        let failed = |text: String| RefusedCall::new("InternalFailure", text).with_status(500);
        // Waits for records of sessions that are not yet written.
        gateway.audit.written().await;
        let found = tokio::task::spawn_blocking(move || gateway.audit.lookup(&lookup))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| match &error {
                AuditLookupError::Token => {
                    RefusedCall::new("InvalidNextTokenException", error.to_string())
                }
                AuditLookupError::Io(_) => failed(error.to_string()),
            })?;
        let events: Vec<Value> =
            found.records.iter().map(|(text, record)| event(text, record)).collect();
        let mut answer = json!({"Events": events});
        if let Some(next) = found.next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }
}

/// A record in CloudTrail's event form.
fn event(text: &str, record: &Value) -> Value {
    let time = record["eventTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let resources: Vec<Value> = record["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|resource| {
            let name = resource_name(resource["ARN"].as_str().unwrap_or_default());
            json!({"ResourceType": resource["type"], "ResourceName": name})
        })
        .collect();
    let mut event = Map::new();
    event.insert("EventId".to_owned(), record["eventID"].clone());
    event.insert("EventName".to_owned(), record["eventName"].clone());
    event.insert("ReadOnly".to_owned(), json!((record["readOnly"] == true).to_string()));
    event.insert("EventTime".to_owned(), json!(time.map(Timestamp::as_second)));
    event.insert("EventSource".to_owned(), record["eventSource"].clone());
    event.insert("Resources".to_owned(), Value::Array(resources));
    event.insert("CloudTrailEvent".to_owned(), json!(text));
    for (member, pointer) in
        [("AccessKeyId", "/userIdentity/accessKeyId"), ("Username", "/userIdentity/userName")]
    {
        if let Some(text) = record.pointer(pointer).and_then(Value::as_str) {
            event.insert(member.to_owned(), json!(text));
        }
    }
    Value::Object(event)
}
