//! Requests and responses in the protocols of AWS's services: JSON 1.1, rpc-v2-cbor for services
//! that list it, and the query protocol of STS, IAM and EC2.
//!
//! The target or action in a request selects the service, never the host or the signed service
//! name: the plugin sends Session Manager's calls to the endpoint of the ECS client.

use super::operations::{self, AwsService, CallAnswer, Operation, offered};
use super::others;
use crate::http::{Body, HttpResponse};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use runner_wire::cbor;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::borrow::Cow;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Json,
    Cbor,
    Query,
    /// Like `Query`, with another form of errors.
    Ec2,
}

/// A call that was read.
#[derive(Debug)]
pub(super) struct AwsCall {
    pub(super) operation: &'static Operation,
    pub(super) body: Value,
}

impl AwsCall {
    /// The body, parsed as an operation's input.
    pub(super) fn input<T: DeserializeOwned>(&self) -> Result<T, RefusedCall> {
        T::deserialize(&self.body)
            .map_err(|error| RefusedCall::new("ValidationException", error.to_string()))
    }
}

/// An error response to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedCall {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) status: u16,
}

impl RefusedCall {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        RefusedCall { code, message: message.into(), status: 400 }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// Whether a request is a call in one of these protocols.
pub(super) fn is_one(parts: &Parts) -> bool {
    let is_named = protocol(parts) != Protocol::Json || parts.headers.contains_key("x-amz-target");
    parts.method == Method::POST && is_named
}

/// The protocol of a request.
pub(super) fn protocol(parts: &Parts) -> Protocol {
    let header = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
    if header("smithy-protocol") == Some(b"rpc-v2-cbor") {
        return Protocol::Cbor;
    }
    if parts.headers.contains_key("x-amz-target") {
        return Protocol::Json;
    }
    match header("content-type") {
        Some(kind) if kind.starts_with(b"application/x-www-form-urlencoded") => {
            match others::service(parts).as_deref() {
                Some("ec2") => Protocol::Ec2,
                _ => Protocol::Query,
            }
        }
        _ => Protocol::Json,
    }
}

/// The service and operation that a request names, which may not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OperationName {
    /// The service's prefix in IAM actions; the name from the request if the service is unknown.
    pub(super) service: String,
    pub(super) operation: String,
}

/// The operation that a request names.
pub(super) fn named(parts: &Parts, protocol: Protocol, body: &[u8]) -> OperationName {
    let (prefix, operation) = match protocol {
        Protocol::Json => {
            let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
            target.and_then(|target| target.rsplit_once('.')).map(both).unwrap_or_default()
        }
        Protocol::Cbor => {
            let path = parts.uri.path().trim_start_matches("/service/");
            path.split_once("/operation/").map(both).unwrap_or_default()
        }
        Protocol::Query | Protocol::Ec2 => {
            let fields = form(body);
            let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            let known = AwsService::of_version(&text("Version")).map(AwsService::name);
            let signed = || others::service(parts).unwrap_or_default();
            (known.map_or_else(signed, str::to_owned), text("Action"))
        }
    };
    let service = AwsService::of_target(&prefix).map_or(prefix, |known| known.name().to_owned());
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    OperationName { service: or(service, "unknown"), operation: or(operation, parts.uri.path()) }
}

fn both((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

/// Reads a call from a request.
pub(super) fn read(parts: &Parts, protocol: Protocol, body: &[u8]) -> Result<AwsCall, RefusedCall> {
    let unreadable = |error: String| RefusedCall::new("SerializationException", error);
    match protocol {
        Protocol::Json => {
            let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
            let (prefix, name) =
                target.and_then(|target| target.rsplit_once('.')).unwrap_or_default();
            let Some(service) = AwsService::of_target(prefix) else {
                return Err(unknown(None, target.unwrap_or("(no X-Amz-Target)")));
            };
            let operation = offered_by(service, name)?;
            let body = match body {
                b"" => json!({}),
                body => {
                    serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?
                }
            };
            Ok(AwsCall { operation, body })
        }
        Protocol::Cbor => {
            // CodeBuild alone lists this protocol.
            let path: Vec<&str> = parts.uri.path().split('/').collect();
            let ["", "service", "CodeBuild_20161006", "operation", name] = path[..] else {
                return Err(unknown(None, parts.uri.path()));
            };
            let operation = offered_by(AwsService::CodeBuild, name)?;
            let body = cbor::decode(body).map_err(|error| unreadable(error.to_string()))?;
            Ok(AwsCall { operation, body })
        }
        Protocol::Query | Protocol::Ec2 => {
            let fields = form(body);
            let name = fields["Action"].as_str().unwrap_or_default();
            let version = fields["Version"].as_str().unwrap_or_default();
            let Some(service) = AwsService::of_version(version) else {
                return Err(unknown(None, name));
            };
            Ok(AwsCall { operation: offered_by(service, name)?, body: fields })
        }
    }
}

fn offered_by(service: AwsService, name: &str) -> Result<&'static Operation, RefusedCall> {
    operations::find(service, name).ok_or_else(|| unknown(Some(service), name))
}

/// The error for an operation that is not offered.
pub(super) fn unknown(service: Option<AwsService>, operation: &str) -> RefusedCall {
    let shown: String = operation.chars().filter(|c| !c.is_control()).take(120).collect();
    let code = match service {
        Some(AwsService::Sts | AwsService::Iam) => "InvalidAction",
        _ => "UnknownOperationException",
    };
    let offered = offered();
    RefusedCall::new(code, format!("{shown} is not offered by this endpoint, which has {offered}"))
}

/// The fields of a form or a query string.
pub(crate) fn form(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    let fields = text.split('&').filter_map(|pair| pair.split_once('='));
    fields.map(|(name, value)| (decoded(name), Value::String(decoded(value)))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the services' models declare this field as a time.
fn is_time(name: &str) -> bool {
    matches!(
        name,
        "startTime"
            | "endTime"
            | "StartDate"
            | "EndDate"
            | "createdAt"
            | "startedAt"
            | "stoppedAt"
            | "lastStartedAt"
            | "created"
            | "lastModified"
            | "expired"
            | "requestedOn"
            | "submitTime"
            | "requestTime"
            | "lastModifiedSecret"
    )
}

/// Writes the response to the request with this id.
pub(super) fn write(
    protocol: Protocol,
    operation: Option<&Operation>,
    answer: Result<CallAnswer, RefusedCall>,
    id: &str,
) -> HttpResponse {
    let answer = match answer {
        Ok(CallAnswer::Json(text)) if protocol == Protocol::Json => {
            return respond(protocol, 200, (JSON, text.into_bytes()), id);
        }
        answer => answer.and_then(CallAnswer::into_members),
    };
    let (status, body) = match &answer {
        Ok(value) => (200, Cow::Borrowed(value)),
        Err(refusal) => {
            let told = json!({"__type": refusal.code, "message": refusal.message});
            (refusal.status, Cow::Owned(told))
        }
    };
    let written = match protocol {
        Protocol::Json => (JSON, body.to_string().into_bytes()),
        Protocol::Cbor => ("application/cbor", cbor::encode(&body, is_time)),
        Protocol::Query => ("text/xml", xml(operation, &answer, id).into_bytes()),
        Protocol::Ec2 => ("text/xml", ec2(operation, &answer, id).into_bytes()),
    };
    respond(protocol, status, written, id)
}

const JSON: &str = "application/x-amz-json-1.1";

fn respond(
    protocol: Protocol,
    status: u16,
    (kind, bytes): (&'static str, Vec<u8>),
    id: &str,
) -> HttpResponse {
    let mut response = Response::new(Body::from(Bytes::from(bytes)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if protocol == Protocol::Cbor {
        headers.insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn ec2(operation: Option<&Operation>, answer: &Result<Value, RefusedCall>, id: &str) -> String {
    let (code, message) = match answer {
        Ok(value) => {
            let name = operation.map_or("", |operation| operation.name);
            let space = "xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"";
            let fields = elements(value, "item");
            // The operation is offered, so its name needs no escaping.
            return format!(
                "<{name}Response {space}><requestId>{id}</requestId>{fields}</{name}Response>"
            );
        }
        Err(refusal) => (refusal.code, refusal.message.as_str()),
    };
    format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error></Errors>\
         <RequestID>{id}</RequestID></Response>",
        escaped(message)
    )
}

/// A value as XML: members under their own names, items of lists under `item`.
fn elements(value: &Value, item: &str) -> String {
    let element = |name: &str, value: &Value| format!("<{name}>{}</{name}>", elements(value, item));
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| element(name, value)).collect()
        }
        Value::Array(items) => items.iter().map(|one| element(item, one)).collect(),
        Value::String(text) => escaped(text),
        other => other.to_string(),
    }
}

fn xml(operation: Option<&Operation>, answer: &Result<Value, RefusedCall>, id: &str) -> String {
    let space = match operation.map(|operation| operation.service) {
        Some(AwsService::Iam) => "xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"",
        _ => "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"",
    };
    match answer {
        Ok(value) => {
            let operation = operation.map_or("", |operation| operation.name);
            let fields = elements(value, "member");
            // The operation is offered, so its name needs no escaping.
            format!(
                "<{operation}Response {space}><{operation}Result>{fields}</{operation}Result>\
                 <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
                 </{operation}Response>"
            )
        }
        Err(refusal) => format!(
            "<ErrorResponse {space}><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message>\
             </Error><RequestId>{id}</RequestId></ErrorResponse>",
            refusal.code,
            escaped(&refusal.message)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name is found for unreadable and refused calls as well.
    #[test]
    fn what_calls_name() {
        let named = |headers: &[(&str, &str)], path: &str, protocol, body: &str| {
            let request = http::Request::builder().uri(path);
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            let OperationName { service, operation } = named(&parts, protocol, body.as_bytes());
            format!("{service}:{operation}")
        };
        let query = "Action=CreateUser&Version=2010-05-08&UserName=x";
        assert_eq!(named(&[], "/", Protocol::Query, query), "iam:CreateUser");
        let query = "Version=2011-06-15&Action=AssumeRole";
        assert_eq!(named(&[], "/", Protocol::Query, query), "sts:AssumeRole");
        assert_eq!(named(&[], "/", Protocol::Query, ""), "unknown:/");
        let target = [("x-amz-target", "AmazonSSM.Nothing")];
        assert_eq!(named(&target, "/", Protocol::Json, ""), "ssm:Nothing");
        let target = [("x-amz-target", "Other_1.Nothing")];
        assert_eq!(named(&target, "/", Protocol::Json, ""), "Other_1:Nothing");
        let path = "/service/CodeBuild_20161006/operation/Nothing";
        assert_eq!(named(&[], path, Protocol::Cbor, ""), "codebuild:Nothing");
    }
}
