//! Access control: the one place that decides before an operation does anything.
//!
//! `operations` asks for every operation and each resource that a request names. The holder of the
//! machine's key pair owns these builds and may do everything; users may do what their policies
//! allow.

use super::resources::ResourceNames;
use runner_core::iam::{self, Directory, IamUser, PolicyDecision};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The caller of an operation.
#[derive(Clone, Debug)]
pub(super) struct PolicyCaller {
    /// The name used in ids of sessions.
    pub(super) name: String,
    /// The ARN.
    pub(super) arn: String,
    /// An id that survives a change of the name.
    pub(super) user_id: String,
    /// The access key; the owner's for calls without a signature.
    pub(super) key_id: String,
    /// The user whose policies apply; `None` for the owner.
    pub(super) bound: Option<Bound>,
}

/// A user, as in the file at the time of the call.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) directory: Arc<Directory>,
    pub(super) user: String,
}

/// The id of a user: from the file, else derived from the name.
pub(super) fn user_id(user: &IamUser) -> String {
    user.id.clone().unwrap_or_else(|| id_of_name(&user.name))
}

/// The id derived from a user's name.
pub(super) fn id_of_name(name: &str) -> String {
    format!("AIDA{}", letters_of(&format!("a user of runner: {name}")))
}

/// The id derived from a group's name.
pub(super) fn group_id(name: &str) -> String {
    format!("AGPA{}", letters_of(&format!("a group of runner: {name}")))
}

/// The part of an IAM id after its kind.
fn letters_of(text: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text);
    digest.iter().take(17).map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

/// Condition keys of one operation by IAM's names, and their values.
pub(super) type ConditionKeys = Vec<(&'static str, String)>;

/// A question to a policy.
pub(super) struct Question<'q> {
    pub(super) action: &'static str,
    pub(super) resource: &'q ResourceNames,
    /// Condition keys from the operation.
    pub(super) context: &'q ConditionKeys,
    /// Condition keys that contain names from the request: tags that it sets.
    pub(super) requested: &'q [(String, String)],
    /// Condition keys from the call itself: caller, address, time. Empty for the owner.
    pub(super) facts: &'q iam::RequestContext,
}

/// A policy's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Allowed, by this statement if there is one.
    Allowed(Option<String>),
    /// Denied by this statement.
    Denied(String),
    /// No statement allows it.
    NotAllowed,
}

/// Decides about calls.
pub(super) trait Policy: Send + Sync {
    /// Whether `caller` may do this.
    fn judge(&self, caller: &PolicyCaller, question: &Question<'_>) -> Verdict;
}

/// Allows the owner everything, and users what their policies say.
#[derive(Debug)]
pub(super) struct UserPolicies;

impl Policy for UserPolicies {
    fn judge(&self, caller: &PolicyCaller, question: &Question<'_>) -> Verdict {
        let Some(bound) = &caller.bound else { return Verdict::Allowed(None) };
        let Some(user) = bound.directory.user(&bound.user) else { return Verdict::NotAllowed };
        let mut context = question.facts.clone();
        for (key, value) in question.context {
            context.set(key, value.as_str());
        }
        for (key, value) in question.requested {
            context.set(key, value.as_str());
        }
        tagged(&mut context, question.resource);
        let ResourceNames { names, also, .. } = question.resource;
        let request = iam::IamRequest::new(question.action, names, also, &context);
        match iam::evaluate(bound.directory.policies(user), &request) {
            PolicyDecision::Allowed(statement) => Verdict::Allowed(Some(statement.to_string())),
            PolicyDecision::ExplicitDeny(statement) => Verdict::Denied(statement.to_string()),
            PolicyDecision::ImplicitDeny => Verdict::NotAllowed,
        }
    }
}

/// Adds a resource's tags, under each service's key for them.
pub(super) fn tagged(context: &mut iam::RequestContext, resource: &ResourceNames) {
    for (key, value) in &resource.tags {
        for prefix in ["aws:ResourceTag", "ssm:resourceTag", "ecs:ResourceTag"] {
            context.set(&format!("{prefix}/{key}"), value.as_str());
        }
    }
}

/// Adds the condition keys that always hold for a user: identity and tags.
pub(super) fn identified(context: &mut iam::RequestContext, user: &IamUser, arn: &str) {
    context.set("aws:username", user.name.as_str());
    context.set("aws:userid", user_id(user));
    context.set("aws:PrincipalArn", arn);
    context.set("aws:PrincipalType", "User");
    for (key, value) in &user.tags {
        context.set(&format!("aws:PrincipalTag/{key}"), value.as_str());
    }
}
