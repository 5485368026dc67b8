//! The operations of this endpoint: one table, and the one way to perform what stands in it.
//!
//! What is offered and who may have it performed come from here and nowhere else. A row
//! names its input, a type of the service's own file, which says what a request is about ([`OperationInput::subject`]) and
//! answers it. [`perform`] alone calls it, and asks the policy in between, so that nothing is answered unjudged.

use super::call::{AwsCall, RefusedCall};
use super::endpoint::{Endpoint, Origin};
use super::policy::ConditionKeys;
use super::resources::ResourceNames;
use runner_service::model::shape::InputProblems;
use runner_service::model::{DescribedService, validate};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::pin::Pin;
use std::sync::LazyLock;

mod table;
#[cfg(test)]
mod tests;

pub(super) use table::OPERATIONS;

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AwsService {
    CodeBuild,
    Logs,
    Ssm,
    Ecs,
    Sts,
    Iam,
    CloudTrail,
    Ec2,
    Kms,
}

impl AwsService {
    /// As actions are named.
    pub(super) const fn name(self) -> &'static str {
        match self {
            AwsService::CodeBuild => "codebuild",
            AwsService::Logs => "logs",
            AwsService::Ssm => "ssm",
            AwsService::Ecs => "ecs",
            AwsService::Sts => "sts",
            AwsService::Iam => "iam",
            AwsService::CloudTrail => "cloudtrail",
            AwsService::Ec2 => "ec2",
            AwsService::Kms => "kms",
        }
    }

    /// As people name it.
    fn title(self) -> &'static str {
        match self {
            AwsService::CodeBuild => "CodeBuild",
            AwsService::Logs => "CloudWatch Logs",
            AwsService::Ssm => "SSM",
            AwsService::Ecs => "ECS",
            AwsService::Sts => "STS",
            AwsService::Iam => "IAM",
            AwsService::CloudTrail => "CloudTrail",
            AwsService::Ec2 => "EC2",
            AwsService::Kms => "KMS",
        }
    }

    /// The one whose operations follow this in targets and in paths.
    pub(super) fn of_target(prefix: &str) -> Option<Self> {
        match prefix {
            "AmazonSSM" => Some(AwsService::Ssm),
            "AmazonEC2ContainerServiceV20141113" => Some(AwsService::Ecs),
            "CodeBuild_20161006" => Some(AwsService::CodeBuild),
            "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101" => {
                Some(AwsService::CloudTrail)
            }
            "Logs_20140328" => Some(AwsService::Logs),
            "TrentService" => Some(AwsService::Kms),
            _ => None,
        }
    }

    /// The one of the query protocol with this version.
    pub(super) fn of_version(version: &str) -> Option<Self> {
        match version {
            "2011-06-15" => Some(AwsService::Sts),
            "2010-05-08" => Some(AwsService::Iam),
            "2016-11-15" => Some(AwsService::Ec2),
            _ => None,
        }
    }

    /// Holds a call's input against what AWS says of it.
    fn validate(self, call: &AwsCall) -> Result<(), RefusedCall> {
        let (described, code) = match self {
            AwsService::CodeBuild => (DescribedService::CodeBuild, "InvalidInputException"),
            AwsService::Logs => (DescribedService::Logs, "InvalidParameterException"),
            AwsService::Ssm
            | AwsService::Ecs
            | AwsService::Sts
            | AwsService::Iam
            | AwsService::CloudTrail
            | AwsService::Ec2
            | AwsService::Kms => return Ok(()),
        };
        validate(described, call.operation.name, &call.body).map_err(|problems| {
            let code = match problems {
                InputProblems::Type(_) => "SerializationException",
                InputProblems::Constraints(_) => code,
            };
            RefusedCall::new(code, problems.to_string())
        })
    }

    /// The code for calls that come too fast.
    pub(super) fn throttled(self) -> &'static str {
        match self {
            AwsService::Sts | AwsService::Iam => "Throttling",
            _ => "ThrottlingException",
        }
    }

    /// A refusal of a caller who may not, in this service's words.
    fn denied(self, text: String) -> RefusedCall {
        match self {
            AwsService::CodeBuild
            | AwsService::Logs
            | AwsService::Ssm
            | AwsService::Ecs
            | AwsService::CloudTrail
            | AwsService::Kms => RefusedCall::new("AccessDeniedException", text),
            AwsService::Sts | AwsService::Iam => {
                RefusedCall::new("AccessDenied", text).with_status(403)
            }
            AwsService::Ec2 => RefusedCall::new("UnauthorizedOperation", text).with_status(403),
        }
    }
}

/// What an operation does to what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperationEffect {
    Reads,
    Changes,
}

/// What an endpoint knows of an operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) service: AwsService,
    /// As requests name it.
    pub(super) name: &'static str,
    /// As IAM names it.
    pub(super) action: &'static str,
    pub(super) effect: OperationEffect,
    pub(super) perform: Perform,
}

/// Performs a call of an operation.
type Perform = for<'a> fn(&'a AwsCall, &'a Origin, &'a Endpoint) -> Performing<'a>;
type Performing<'a> = Pin<Box<dyn Future<Output = Result<CallAnswer, RefusedCall>> + Send + 'a>>;

/// The operation of a service that a request names so.
pub(super) fn find(service: AwsService, name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.service == service && operation.name == name)
}

/// What there is, in words.
pub(super) fn offered() -> &'static str {
    static OFFERED: LazyLock<String> = LazyLock::new(|| {
        let services = OPERATIONS.chunk_by(|one, next| one.service == next.service);
        let lists = services.filter_map(|rows| {
            let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
            Some(format!("{} of {}", names.join(", "), rows.first()?.service.title()))
        });
        lists.collect::<Vec<_>>().join("; ")
    });
    &OFFERED
}

/// What a call is answered with.
#[derive(Debug)]
pub(super) enum CallAnswer {
    Members(Value),
    /// As JSON, where it is that already: large answers are not read only to be written again.
    Json(String),
}

impl CallAnswer {
    /// # Errors
    /// It is no JSON.
    pub(super) fn into_members(self) -> Result<Value, RefusedCall> {
        match self {
            CallAnswer::Members(members) => Ok(members),
            CallAnswer::Json(text) => serde_json::from_str(&text).map_err(|error| {
                RefusedCall::new("InternalFailure", error.to_string()).with_status(500)
            }),
        }
    }
}

/// What a request is about: at least one resource. All have to be allowed.
pub(super) struct RequestScope {
    resources: Vec<ResourceNames>,
    pub(super) context: ConditionKeys,
    /// Condition keys whose names the request has made: tags that it gives.
    pub(super) requested: Vec<(String, String)>,
    /// The id of the user who has begun it: what no rule allows or denies them they may.
    pub(super) begun_by: Option<String>,
    /// A document that nobody has named, for rules that ask for [`DOCUMENT_CHECK`].
    pub(super) or_with: Option<ResourceNames>,
}

/// The condition key by which a rule says that a session's document is judged, too.
pub(super) const DOCUMENT_CHECK: &str = "ssm:SessionDocumentAccessCheck";

impl RequestScope {
    /// Of these; where there are none, of everything, so that something is judged.
    pub(super) fn of(resources: impl IntoIterator<Item = ResourceNames>) -> Self {
        let mut resources: Vec<ResourceNames> = resources.into_iter().collect();
        if resources.is_empty() {
            resources.push(ResourceNames::all());
        }
        let (context, requested) = (ConditionKeys::new(), Vec::new());
        RequestScope { resources, context, requested, begun_by: None, or_with: None }
    }

    /// Of an operation that names nothing.
    pub(super) fn all() -> Self {
        RequestScope::of([])
    }

    /// With condition keys of this operation alone.
    pub(super) fn when(self, context: ConditionKeys) -> Self {
        RequestScope { context, ..self }
    }

    /// With condition keys that the request has made.
    pub(super) fn when_also(self, requested: Vec<(String, String)>) -> Self {
        RequestScope { requested, ..self }
    }

    /// Begun by this caller.
    pub(super) fn begun_by(self, user_id: String) -> Self {
        RequestScope { begun_by: Some(user_id), ..self }
    }

    /// With this document, where only rules that ask for its check allow the rest.
    pub(super) fn or_with(self, document: ResourceNames) -> Self {
        RequestScope { or_with: Some(document), ..self }
    }

    pub(super) fn resources(&self) -> &[ResourceNames] {
        &self.resources
    }
}

/// The input of an operation.
pub(super) trait OperationInput: DeserializeOwned + Send + Sync {
    /// What it names, as far as it is there.
    type Subject: Send;

    /// Refuses a body in words that no description has. Asked before anything else.
    ///
    /// # Errors
    /// It is refused.
    fn check(_: &Value) -> Result<(), RefusedCall> {
        Ok(())
    }

    /// Finds what it is about. That something is not there is no error here: a caller who may not ask does not hear it.
    ///
    /// # Errors
    /// The input is none that this operation takes.
    fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(RequestScope, Self::Subject), RefusedCall>> + Send;

    /// Does what is asked for.
    fn answer(
        self,
        subject: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<Value, RefusedCall>> + Send;

    /// The same, for operations that have their answers as JSON.
    fn reply(
        self,
        subject: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<CallAnswer, RefusedCall>> + Send {
        async move { self.answer(subject, origin, endpoint).await.map(CallAnswer::Members) }
    }
}

/// Reads an input, finds what it is about, has that judged, and answers.
fn perform<'a, I: OperationInput>(
    call: &'a AwsCall,
    origin: &'a Origin,
    endpoint: &'a Endpoint,
) -> Performing<'a> {
    Box::pin(async move {
        I::check(&call.body)?;
        call.operation.service.validate(call)?;
        let input: I = call.input()?;
        let (scope, subject) = input.subject(endpoint).await?;
        endpoint
            .judge(origin, call.operation.action, &scope)
            .map_err(|text| call.operation.service.denied(text))?;
        input.reply(subject, origin, endpoint).await
    })
}
