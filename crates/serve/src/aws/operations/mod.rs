//! The operations of this endpoint: one table, and the one way to perform what stands in it.
//!
//! What is offered and who may have it performed come from here and nowhere else. A row
//! names its input, a type of the service's own file, which says what a request is about ([`Input::subject`]) and
//! answers it. [`perform`] alone calls it, and asks the policy in between, so that nothing is answered unjudged.

use super::call::{Call, Refusal};
use super::endpoint::{Endpoint, Origin};
use super::policy::Context;
use super::resources::Resource;
use runner_service::model::shape::InputProblems;
use runner_service::model::{Described, validate};
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
pub(super) enum Service {
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

impl Service {
    /// As actions are named.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Service::CodeBuild => "codebuild",
            Service::Logs => "logs",
            Service::Ssm => "ssm",
            Service::Ecs => "ecs",
            Service::Sts => "sts",
            Service::Iam => "iam",
            Service::CloudTrail => "cloudtrail",
            Service::Ec2 => "ec2",
            Service::Kms => "kms",
        }
    }

    /// As people name it.
    fn title(self) -> &'static str {
        match self {
            Service::CodeBuild => "CodeBuild",
            Service::Logs => "CloudWatch Logs",
            Service::Ssm => "SSM",
            Service::Ecs => "ECS",
            Service::Sts => "STS",
            Service::Iam => "IAM",
            Service::CloudTrail => "CloudTrail",
            Service::Ec2 => "EC2",
            Service::Kms => "KMS",
        }
    }

    /// The one whose operations follow this in targets and in paths.
    pub(super) fn of_target(prefix: &str) -> Option<Self> {
        match prefix {
            "AmazonSSM" => Some(Service::Ssm),
            "AmazonEC2ContainerServiceV20141113" => Some(Service::Ecs),
            "CodeBuild_20161006" => Some(Service::CodeBuild),
            "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101" => Some(Service::CloudTrail),
            "Logs_20140328" => Some(Service::Logs),
            "TrentService" => Some(Service::Kms),
            _ => None,
        }
    }

    /// The one of the query protocol with this version.
    pub(super) fn of_version(version: &str) -> Option<Self> {
        match version {
            "2011-06-15" => Some(Service::Sts),
            "2010-05-08" => Some(Service::Iam),
            "2016-11-15" => Some(Service::Ec2),
            _ => None,
        }
    }

    /// Holds a call's input against what AWS says of it.
    fn validate(self, call: &Call) -> Result<(), Refusal> {
        let (described, code) = match self {
            Service::CodeBuild => (Described::CodeBuild, "InvalidInputException"),
            Service::Logs => (Described::Logs, "InvalidParameterException"),
            Service::Ssm
            | Service::Ecs
            | Service::Sts
            | Service::Iam
            | Service::CloudTrail
            | Service::Ec2
            | Service::Kms => return Ok(()),
        };
        validate(described, call.operation.name, &call.body).map_err(|problems| {
            let code = match problems {
                InputProblems::Type(_) => "SerializationException",
                InputProblems::Constraints(_) => code,
            };
            Refusal::new(code, problems.to_string())
        })
    }

    /// The code for calls that come too fast.
    pub(super) fn throttled(self) -> &'static str {
        match self {
            Service::Sts | Service::Iam => "Throttling",
            _ => "ThrottlingException",
        }
    }

    /// A refusal of a caller who may not, in this service's words.
    fn denied(self, text: String) -> Refusal {
        match self {
            Service::CodeBuild
            | Service::Logs
            | Service::Ssm
            | Service::Ecs
            | Service::CloudTrail
            | Service::Kms => Refusal::new("AccessDeniedException", text),
            Service::Sts | Service::Iam => Refusal::new("AccessDenied", text).with_status(403),
            Service::Ec2 => Refusal::new("UnauthorizedOperation", text).with_status(403),
        }
    }
}

/// What an operation does to what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Changes,
}

/// What an endpoint knows of an operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) service: Service,
    /// As requests name it.
    pub(super) name: &'static str,
    /// As IAM names it.
    pub(super) action: &'static str,
    pub(super) effect: Effect,
    pub(super) perform: Perform,
}

/// Performs a call of an operation.
type Perform = for<'a> fn(&'a Call, &'a Origin, &'a Endpoint) -> Performing<'a>;
type Performing<'a> = Pin<Box<dyn Future<Output = Result<Value, Refusal>> + Send + 'a>>;

/// The operation of a service that a request names so.
pub(super) fn find(service: Service, name: &str) -> Option<&'static Operation> {
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

/// What a request is about: at least one resource. All have to be allowed.
pub(super) struct Scope {
    resources: Vec<Resource>,
    pub(super) context: Context,
    /// Condition keys whose names the request has made: tags that it gives.
    pub(super) requested: Vec<(String, String)>,
    /// The id of the user who has begun it: what no rule allows or denies them they may.
    pub(super) begun_by: Option<String>,
    /// A document that nobody has named, for rules that ask for [`DOCUMENT_CHECK`].
    pub(super) or_with: Option<Resource>,
}

/// The condition key by which a rule says that a session's document is judged, too.
pub(super) const DOCUMENT_CHECK: &str = "ssm:SessionDocumentAccessCheck";

impl Scope {
    /// Of these; where there are none, of everything, so that something is judged.
    pub(super) fn of(resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut resources: Vec<Resource> = resources.into_iter().collect();
        if resources.is_empty() {
            resources.push(Resource::all());
        }
        let (context, requested) = (Context::new(), Vec::new());
        Scope { resources, context, requested, begun_by: None, or_with: None }
    }

    /// Of an operation that names nothing.
    pub(super) fn all() -> Self {
        Scope::of([])
    }

    /// With condition keys of this operation alone.
    pub(super) fn when(self, context: Context) -> Self {
        Scope { context, ..self }
    }

    /// With condition keys that the request has made.
    pub(super) fn when_also(self, requested: Vec<(String, String)>) -> Self {
        Scope { requested, ..self }
    }

    /// Begun by this caller.
    pub(super) fn begun_by(self, user_id: String) -> Self {
        Scope { begun_by: Some(user_id), ..self }
    }

    /// With this document, where only rules that ask for its check allow the rest.
    pub(super) fn or_with(self, document: Resource) -> Self {
        Scope { or_with: Some(document), ..self }
    }

    pub(super) fn resources(&self) -> &[Resource] {
        &self.resources
    }
}

/// The input of an operation.
pub(super) trait Input: DeserializeOwned + Send + Sync {
    /// What it names, as far as it is there.
    type Subject: Send;

    /// Refuses a body in words that no description has. Asked before anything else.
    ///
    /// # Errors
    /// It is refused.
    fn check(_: &Value) -> Result<(), Refusal> {
        Ok(())
    }

    /// Finds what it is about. That something is not there is no error here: a caller who may not ask does not hear it.
    ///
    /// # Errors
    /// The input is none that this operation takes.
    fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(Scope, Self::Subject), Refusal>> + Send;

    /// Does what is asked for.
    fn answer(
        self,
        subject: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<Value, Refusal>> + Send;
}

/// Reads an input, finds what it is about, has that judged, and answers.
fn perform<'a, I: Input>(
    call: &'a Call,
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
        input.answer(subject, origin, endpoint).await
    })
}
