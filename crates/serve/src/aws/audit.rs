//! Audit records of calls: in CloudTrail's form, without secrets.

use super::call::{AwsCall, OperationName, RefusedCall};
use super::endpoint::{Endpoint, Origin};
use super::hidden::ShownCall;
use super::operations::{CallAnswer, Operation, OperationEffect};
use super::owner::Deed;
use crate::gateway::{AuditRecord, AuditResource, CallSource, CallerIdentity};
use crate::http::ConnectionEnds;
use http::request::Parts;
use serde_json::Value;

/// Most characters of a client's user agent that are kept.
const MAX_TEXT: usize = 200;
/// Operations by which a user acts in a build. They are refused if they cannot be recorded.
/// Operations that end something are carried out anyway.
const ACCOUNTABLE: [&str; 8] = [
    "ssm:StartSession",
    "ssm:ResumeSession",
    "ssm:SendCommand",
    "ecs:ExecuteCommand",
    "codebuild:StartBuild",
    "codebuild:RetryBuild",
    "codebuild:StartBuildBatch",
    "codebuild:RetryBuildBatch",
];
/// An operation that is not recorded at each call.
const LOOKUP: &str = "cloudtrail:LookupEvents";

/// A request's source and id, for its record.
pub(super) struct AuditedRequest {
    source: CallSource,
    /// The id sent to the client.
    pub(super) request_id: String,
}

impl AuditedRequest {
    pub(super) fn of(parts: &Parts, ends: ConnectionEnds) -> Self {
        let agent = parts.headers.get("user-agent").and_then(|agent| agent.to_str().ok());
        let source = CallSource {
            address: Some(ends.peer.ip().to_canonical().to_string()),
            user_agent: agent.map(plain),
        };
        AuditedRequest { source, request_id: uuid::Uuid::new_v4().to_string() }
    }

    fn record(&self, who: CallerIdentity, service: &str, name: &str) -> AuditRecord {
        AuditRecord::call(who, service, name)
            .from(self.source.clone())
            .with_request(&self.request_id)
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

fn identity(origin: &Origin) -> CallerIdentity {
    let caller = &origin.caller;
    CallerIdentity::user(&caller.arn, &caller.user_id, &caller.key_id)
}

impl Endpoint {
    /// Checks that a call which needs a record can get one.
    ///
    /// # Errors
    /// If it cannot, for calls of users; or if a key's changes come faster than the audit allows.
    pub(super) async fn accountable(
        &self,
        call: &AwsCall,
        origin: &Origin,
    ) -> Result<(), RefusedCall> {
        let is_user = origin.caller.bound.is_some();
        let Operation { action, effect, service, .. } = *call.operation;
        if is_user
            && effect == OperationEffect::Changes
            && !self.gateway.audit.may_change(&origin.caller.key_id)
        {
            let text = "Rate exceeded: with one key at most five calls a second change something, after the first \
                        thousand";
            return Err(RefusedCall::new(service.throttled(), text));
        }
        if !is_user || !ACCOUNTABLE.contains(&action) {
            return Ok(());
        }
        self.gateway.audit.reserve().await.map_err(|error| {
            tracing::warn!(%error, action, "a call cannot be audited");
            let text = "the call is not carried out: it cannot be audited (the disk of the endpoint may be full)";
            RefusedCall::new("InternalServerError", text).with_status(500)
        })
    }

    /// Records a call and its outcome.
    pub(super) async fn record(
        &self,
        call: &AwsCall,
        origin: &Origin,
        asked: &AuditedRequest,
        answer: &Result<CallAnswer, RefusedCall>,
    ) {
        let Operation { service, name, action, effect, .. } = *call.operation;
        let audit = &self.gateway.audit;
        let is_lookup = action == LOOKUP && answer.is_ok();
        if is_lookup && !audit.records_lookup(&origin.caller.key_id) {
            return;
        }
        let secrets = self.secrets();
        let shown = ShownCall::new(action, &secrets);
        let is_read_only = effect == OperationEffect::Reads;
        let judged = origin.judged();
        let resources = judged.resources.into_iter().filter_map(resource).collect();
        let record = asked
            .record(identity(origin), service.name(), name)
            .asking(shown.parameters(&call.body), is_read_only)
            .judged(resources, judged.by);
        let record = match answer {
            // The record leaves out what was read.
            Ok(_) if is_read_only => record,
            Ok(CallAnswer::Members(answer)) => record.answered(shown.elements(answer)),
            // Only what reads is answered so.
            Ok(CallAnswer::Json(_)) => record,
            Err(refusal) => {
                record.failed(refusal.code, &shown.message(refusal.code, &refusal.message))
            }
        };
        let has_changed = !is_read_only && answer.is_ok();
        if origin.caller.bound.is_some() && !has_changed {
            audit.write_of_user(&origin.caller.key_id, record);
        } else {
            audit.write(record);
        }
        // The record is on disk before the client gets its response.
        audit.written().await;
    }

    /// Records an action of the page that is not an operation of AWS.
    pub(super) async fn record_deed(
        &self,
        origin: &Origin,
        asked: &AuditedRequest,
        deed: Deed,
        parameters: Value,
        refusal: Option<&RefusedCall>,
    ) {
        let judged = origin.judged();
        let resources = judged.resources.into_iter().filter_map(resource).collect();
        let record = asked
            .record(identity(origin), "runner", deed.name)
            .asking(parameters, deed.is_read_only)
            .judged(resources, judged.by);
        self.gateway.audit.write(match refusal {
            None => record,
            Some(refusal) => record.failed(refusal.code, &refusal.message),
        });
        self.gateway.audit.written().await;
    }

    /// Records a call that could not be read, or of an operation that is not offered.
    pub(super) async fn record_unread(
        &self,
        name: &OperationName,
        origin: &Origin,
        asked: &AuditedRequest,
        why: &RefusedCall,
    ) {
        let record = asked
            .record(identity(origin), &plain(&name.service), &plain(&name.operation))
            .failed(why.code, &why.message);
        match &origin.caller.bound {
            Some(_) => self.gateway.audit.write_of_user(&origin.caller.key_id, record),
            None => self.gateway.audit.write(record),
        }
        self.gateway.audit.written().await;
    }

    /// Records a call that failed authentication.
    pub(super) async fn record_refused(
        &self,
        name: &OperationName,
        asked: &AuditedRequest,
        why: &RefusedCall,
    ) {
        let record =
            asked.record(CallerIdentity::unknown(), &plain(&name.service), &plain(&name.operation));
        self.gateway.audit.write_refused(record.failed(why.code, &why.message));
        self.gateway.audit.written().await;
    }
}

/// The resource of an ARN; `None` if it names no single thing.
fn resource(arn: String) -> Option<AuditResource> {
    let mut parts = arn.splitn(6, ':').skip(2);
    let (service, rest) = (parts.next()?, parts.nth(2)?);
    let kind = rest.split_once('/').map_or(rest, |(kind, _)| kind);
    let kind = match (service, kind) {
        ("codebuild", "build") => "AWS::CodeBuild::Build",
        ("codebuild", "build-batch") => "AWS::CodeBuild::BuildBatch",
        ("codebuild", "project") => "AWS::CodeBuild::Project",
        ("ecs", "task") => "AWS::ECS::Task",
        ("ecs", "cluster") => "AWS::ECS::Cluster",
        ("ssm", "session") => "AWS::SSM::Session",
        ("ssm", "document") => "AWS::SSM::Document",
        ("ssm", "managed-instance") => "AWS::SSM::ManagedInstance",
        ("iam", "user") => "AWS::IAM::User",
        ("iam", "group") => "AWS::IAM::Group",
        ("logs", _) => "AWS::Logs::LogGroup",
        _ => return None,
    };
    Some(AuditResource { arn, r#type: kind })
}
