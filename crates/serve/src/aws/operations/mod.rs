//! The operations of this endpoint: one table, and the only way to perform its rows.
//!
//! The table alone decides which operations are offered. A row names its input, a type in the
//! service's own file, which finds the resources of a request ([`OperationInput::subject`]) and
//! answers it. Only [`perform`] calls it, and asks the policy in between, so no request is answered
//! unchecked.

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
    /// The prefix in IAM actions.
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

    /// The name for messages.
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

    /// The service of a target's or path's prefix.
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

    /// The service of the query protocol with this API version.
    pub(super) fn of_version(version: &str) -> Option<Self> {
        match version {
            "2011-06-15" => Some(AwsService::Sts),
            "2010-05-08" => Some(AwsService::Iam),
            "2016-11-15" => Some(AwsService::Ec2),
            _ => None,
        }
    }

    /// Validates a call's input against AWS's service description.
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

    /// The error code for calls that come too fast.
    pub(super) fn throttled(self) -> &'static str {
        match self {
            AwsService::Sts | AwsService::Iam => "Throttling",
            _ => "ThrottlingException",
        }
    }

    /// The refusal for a caller without permission, in this service's form.
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

/// The effect of an operation on its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperationEffect {
    Reads,
    Changes,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) service: AwsService,
    /// The name in requests.
    pub(super) name: &'static str,
    /// The name in IAM policies.
    pub(super) action: &'static str,
    pub(super) effect: OperationEffect,
    pub(super) perform: Perform,
}

/// Performs a call of an operation.
type Perform = for<'a> fn(&'a AwsCall, &'a Origin, &'a Endpoint) -> Performing<'a>;
type Performing<'a> = Pin<Box<dyn Future<Output = Result<CallAnswer, RefusedCall>> + Send + 'a>>;

/// The operation of a service with this name.
pub(super) fn find(service: AwsService, name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.service == service && operation.name == name)
}

/// All offered operations, as text.
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

/// The resources of a request, at least one. All must be allowed.
pub(super) struct RequestScope {
    resources: Vec<ResourceNames>,
    pub(super) context: ConditionKeys,
    /// Condition keys that contain names from the request: tags that it sets.
    pub(super) requested: Vec<(String, String)>,
    /// The id of the user who began it, whom only an explicit deny stops.
    pub(super) begun_by: Option<String>,
    /// A default document that the request does not name, for rules with [`DOCUMENT_CHECK`].
    pub(super) or_with: Option<ResourceNames>,
}

/// The condition key by which a rule demands that a session's document is checked, too.
pub(super) const DOCUMENT_CHECK: &str = "ssm:SessionDocumentAccessCheck";

impl RequestScope {
    /// These resources; without any it covers everything, so that something is checked.
    pub(super) fn of(resources: impl IntoIterator<Item = ResourceNames>) -> Self {
        let mut resources: Vec<ResourceNames> = resources.into_iter().collect();
        if resources.is_empty() {
            resources.push(ResourceNames::all());
        }
        let (context, requested) = (ConditionKeys::new(), Vec::new());
        RequestScope { resources, context, requested, begun_by: None, or_with: None }
    }

    /// The scope of an operation that names no resource.
    pub(super) fn all() -> Self {
        RequestScope::of([])
    }

    /// Adds condition keys of this operation.
    pub(super) fn when(self, context: ConditionKeys) -> Self {
        RequestScope { context, ..self }
    }

    /// Adds condition keys from the request.
    pub(super) fn when_also(self, requested: Vec<(String, String)>) -> Self {
        RequestScope { requested, ..self }
    }

    /// Sets the user who began it.
    pub(super) fn begun_by(self, user_id: String) -> Self {
        RequestScope { begun_by: Some(user_id), ..self }
    }

    /// Adds this document, checked only if nothing but rules that demand the check allow the rest.
    pub(super) fn or_with(self, document: ResourceNames) -> Self {
        RequestScope { or_with: Some(document), ..self }
    }

    pub(super) fn resources(&self) -> &[ResourceNames] {
        &self.resources
    }
}

/// The input of an operation.
pub(super) trait OperationInput: DeserializeOwned + Send + Sync {
    /// The resources that were found.
    type Subject: Send;

    /// Refuses a body with a message that the service descriptions cannot give. Runs first.
    ///
    /// # Errors
    /// If the body is refused.
    fn check(_: &Value) -> Result<(), RefusedCall> {
        Ok(())
    }

    /// Finds the resources. A missing one is no error here: a caller without permission must not
    /// learn of it.
    ///
    /// # Errors
    /// If this operation does not take the input.
    fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(RequestScope, Self::Subject), RefusedCall>> + Send;

    /// Carries the operation out.
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

/// Reads an input, finds its resources, checks them and answers.
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
