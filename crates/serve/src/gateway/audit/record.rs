//! A record in CloudTrail's form.

use jiff::Timestamp;
use runner_core::arn::{ACCOUNT, REGION};
use runner_host::clock;
use serde::Serialize;
use serde_json::{Value, json};

/// Replaces values that must not be readable.
pub const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// The author of an action.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerIdentity {
    /// `IAMUser`, or `Unknown` for unauthenticated callers.
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
}

impl CallerIdentity {
    /// A user: ARN, an id that survives a change of the name, and the key of the call.
    pub fn user(arn: &str, principal_id: &str, access_key_id: &str) -> Self {
        CallerIdentity {
            r#type: "IAMUser",
            principal_id: Some(principal_id.to_owned()),
            arn: Some(arn.to_owned()),
            account_id: Some(ACCOUNT),
            access_key_id: Some(access_key_id.to_owned()),
            user_name: arn.rsplit('/').next().map(str::to_owned),
        }
    }

    /// An unauthenticated caller.
    pub fn unknown() -> Self {
        CallerIdentity {
            r#type: "Unknown",
            principal_id: None,
            arn: None,
            account_id: None,
            access_key_id: None,
            user_name: None,
        }
    }
}

/// The origin of a call.
#[derive(Clone, Debug, Default)]
pub struct CallSource {
    /// An IP address.
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// A resource of a call's access check.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedResource {
    #[serde(rename = "ARN")]
    pub arn: String,
    /// AWS's type of the resource: `AWS::CodeBuild::Project`.
    pub r#type: &'static str,
}

/// An event of a session or a command.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum AuditDetails {
    #[serde(rename = "SessionConnected")]
    SessionConnected {
        /// The session's document and its version.
        #[serde(skip_serializing_if = "Option::is_none")]
        document: Option<String>,
        /// A message to the client, such as that the session is not logged.
        #[serde(skip_serializing_if = "Option::is_none")]
        notice: Option<String>,
        /// The key of AWS KMS for encryption.
        #[serde(skip_serializing_if = "Option::is_none")]
        kms_key_id: Option<String>,
    },
    /// The log has not arrived, or not yet.
    #[serde(rename = "SessionNotLogged")]
    SessionNotLogged { why: String },
    /// The log has arrived.
    #[serde(rename = "SessionLogged")]
    SessionLogged { to: String },
    /// Output of a command at a node has not arrived.
    #[serde(rename = "CommandOutputNotSent")]
    CommandOutputNotSent { why: String },
    #[serde(rename = "SessionDisconnected")]
    SessionDisconnected,
    #[serde(rename = "SessionResumed")]
    SessionResumed,
    /// With the bytes received from and sent to the client.
    #[serde(rename = "SessionEnded")]
    SessionEnded { reason: String, bytes_in: u64, bytes_out: u64 },
    /// A connection through a forwarded port.
    #[serde(rename = "PortConnected")]
    PortConnected { host: String, port: u16 },
}

impl AuditDetails {
    fn name(&self) -> &'static str {
        match self {
            AuditDetails::SessionConnected { .. } => "SessionConnected",
            AuditDetails::SessionNotLogged { .. } => "SessionNotLogged",
            AuditDetails::SessionLogged { .. } => "SessionLogged",
            AuditDetails::CommandOutputNotSent { .. } => "CommandOutputNotSent",
            AuditDetails::SessionDisconnected => "SessionDisconnected",
            AuditDetails::SessionResumed => "SessionResumed",
            AuditDetails::SessionEnded { .. } => "SessionEnded",
            AuditDetails::PortConnected { .. } => "PortConnected",
        }
    }
}

/// One record.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    event_version: &'static str,
    user_identity: CallerIdentity,
    event_time: String,
    event_source: String,
    event_name: String,
    aws_region: &'static str,
    #[serde(rename = "sourceIPAddress", skip_serializing_if = "Option::is_none")]
    source_ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    request_parameters: Value,
    response_elements: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_event_data: Option<Value>,
    #[serde(rename = "requestID", skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(rename = "eventID")]
    event_id: String,
    read_only: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<AuditedResource>,
    event_type: &'static str,
    management_event: bool,
    recipient_account_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_event_details: Option<Value>,
    event_category: &'static str,
}

impl AuditRecord {
    fn new(who: CallerIdentity, service: &str, name: &str, r#type: &'static str) -> Self {
        let now = Timestamp::from_microsecond(clock::wall().0).unwrap_or_default();
        let second = Timestamp::from_second(now.as_second()).unwrap_or_default();
        AuditRecord {
            event_version: "1.09",
            user_identity: who,
            event_time: second.to_string(),
            event_source: format!("{service}.amazonaws.com"),
            event_name: name.to_owned(),
            aws_region: REGION,
            source_ip_address: None,
            user_agent: None,
            error_code: None,
            error_message: None,
            request_parameters: Value::Null,
            response_elements: Value::Null,
            additional_event_data: None,
            request_id: None,
            event_id: uuid::Uuid::new_v4().to_string(),
            read_only: false,
            resources: Vec::new(),
            event_type: r#type,
            management_event: true,
            recipient_account_id: ACCOUNT,
            service_event_details: None,
            event_category: "Management",
        }
    }

    /// A call of an operation.
    pub fn call(who: CallerIdentity, service: &str, name: &str) -> Self {
        AuditRecord::new(who, service, name, "AwsApiCall")
    }

    /// An event in a session to a target.
    pub fn session(who: CallerIdentity, id: &str, target: &str, details: &AuditDetails) -> Self {
        let name = details.name();
        let mut shown = serde_json::to_value(details).unwrap_or_default();
        if let Some(members) = shown.as_object_mut() {
            members.remove("event");
            members.insert("sessionId".to_owned(), json!(id));
            members.insert("target".to_owned(), json!(target));
        }
        let record = AuditRecord::new(who, "ssm", name, "AwsServiceEvent");
        AuditRecord { service_event_details: Some(shown), ..record }
    }

    /// The end of a command on a target.
    pub fn command(who: CallerIdentity, id: &str, target: &str, status: &str, code: i32) -> Self {
        let details = json!({"commandId": id, "target": target, "status": status, "code": code});
        let record = AuditRecord::new(who, "ssm", "CommandFinished", "AwsServiceEvent");
        AuditRecord { service_event_details: Some(details), ..record }
    }

    #[must_use]
    pub fn from(self, source: CallSource) -> Self {
        AuditRecord { source_ip_address: source.address, user_agent: source.user_agent, ..self }
    }

    /// Adds the request's parameters, which must be free of secrets.
    #[must_use]
    pub fn asking(self, parameters: Value, is_read_only: bool) -> Self {
        AuditRecord { request_parameters: parameters, read_only: is_read_only, ..self }
    }

    /// Adds the response, which must be free of secrets.
    #[must_use]
    pub fn answered(self, elements: Value) -> Self {
        AuditRecord { response_elements: elements, ..self }
    }

    /// Adds the error.
    #[must_use]
    pub fn failed(self, code: &str, message: &str) -> Self {
        AuditRecord {
            error_code: Some(code.to_owned()),
            error_message: Some(message.to_owned()),
            ..self
        }
    }

    /// Adds the request id that the caller received.
    #[must_use]
    pub fn with_request(self, id: &str) -> Self {
        AuditRecord { request_id: Some(id.to_owned()), ..self }
    }

    /// Adds the checked resources, and the deciding statement if there is one.
    #[must_use]
    pub fn judged(mut self, resources: Vec<AuditedResource>, by: Option<String>) -> Self {
        self.resources = resources;
        if let Some(by) = by {
            self.add("decidedBy", json!(by));
        }
        self
    }

    /// Adds the number of earlier records that were left out.
    pub(super) fn left_out(&mut self, count: u64) {
        if count > 0 {
            self.add("leftOut", json!(count));
        }
    }

    fn add(&mut self, name: &str, value: Value) {
        let data = self.additional_event_data.get_or_insert_with(|| json!({}));
        data[name] = value;
    }
}
