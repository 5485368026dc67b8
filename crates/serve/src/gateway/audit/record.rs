//! One record, as CloudTrail writes it.

use jiff::Timestamp;
use runner_core::arn::{ACCOUNT, REGION};
use runner_host::clock;
use serde::Serialize;
use serde_json::{Value, json};

/// Stands for what is not to be read.
pub const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// Who did it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerIdentity {
    /// `IAMUser`, or `Unknown` for callers who have not shown who they are.
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
    /// A user by their ARN, the id that outlasts their name, and the key they have called with.
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

    /// Somebody who has not shown who they are.
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

/// Where a call comes from.
#[derive(Clone, Debug, Default)]
pub struct CallSource {
    /// An IP address.
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// What a call was judged on.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedResource {
    #[serde(rename = "ARN")]
    pub arn: String,
    /// As AWS names kinds of resources: `AWS::CodeBuild::Project`.
    pub r#type: &'static str,
}

/// What happened in a session.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum AuditDetails {
    #[serde(rename = "SessionConnected")]
    SessionConnected {
        /// Its document and the version of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        document: Option<String>,
        /// What its client was told, such as that it is not logged.
        #[serde(skip_serializing_if = "Option::is_none")]
        notice: Option<String>,
        /// The key of AWS KMS that it is encrypted with.
        #[serde(skip_serializing_if = "Option::is_none")]
        kms_key_id: Option<String>,
    },
    /// What it shows is not, or not yet, where it is to be kept.
    #[serde(rename = "SessionNotLogged")]
    SessionNotLogged { why: String },
    /// What it has shown is kept there.
    #[serde(rename = "SessionLogged")]
    SessionLogged { to: String },
    /// The same of what a command has written at a node.
    #[serde(rename = "CommandOutputNotSent")]
    CommandOutputNotSent { why: String },
    #[serde(rename = "SessionDisconnected")]
    SessionDisconnected,
    #[serde(rename = "SessionResumed")]
    SessionResumed,
    /// With the bytes that the session has taken and given.
    #[serde(rename = "SessionEnded")]
    SessionEnded { reason: String, bytes_in: u64, bytes_out: u64 },
    /// Somebody connects through a forwarded port.
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

/// A record.
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

    /// A call of a service's operation.
    pub fn call(who: CallerIdentity, service: &str, name: &str) -> Self {
        AuditRecord::new(who, service, name, "AwsApiCall")
    }

    /// Something that happened in a session, to a target.
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

    /// The end of a command at a target.
    pub fn command(who: CallerIdentity, id: &str, target: &str, status: &str, code: i32) -> Self {
        let details = json!({"commandId": id, "target": target, "status": status, "code": code});
        let record = AuditRecord::new(who, "ssm", "CommandFinished", "AwsServiceEvent");
        AuditRecord { service_event_details: Some(details), ..record }
    }

    #[must_use]
    pub fn from(self, source: CallSource) -> Self {
        AuditRecord { source_ip_address: source.address, user_agent: source.user_agent, ..self }
    }

    /// What was asked for, without what is not to be read.
    #[must_use]
    pub fn asking(self, parameters: Value, is_read_only: bool) -> Self {
        AuditRecord { request_parameters: parameters, read_only: is_read_only, ..self }
    }

    /// What was answered, without what is not to be read.
    #[must_use]
    pub fn answered(self, elements: Value) -> Self {
        AuditRecord { response_elements: elements, ..self }
    }

    /// Why it was not done.
    #[must_use]
    pub fn failed(self, code: &str, message: &str) -> Self {
        AuditRecord {
            error_code: Some(code.to_owned()),
            error_message: Some(message.to_owned()),
            ..self
        }
    }

    /// The id that the caller has been given.
    #[must_use]
    pub fn with_request(self, id: &str) -> Self {
        AuditRecord { request_id: Some(id.to_owned()), ..self }
    }

    /// What it was about, and the statement that has decided, where one has.
    #[must_use]
    pub fn judged(mut self, resources: Vec<AuditedResource>, by: Option<String>) -> Self {
        self.resources = resources;
        if let Some(by) = by {
            self.add("decidedBy", json!(by));
        }
        self
    }

    /// Records before this one that were too many to be written.
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
