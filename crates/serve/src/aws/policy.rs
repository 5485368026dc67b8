//! Who may do what: the one place that is asked before an operation does anything.
//!
//! `operations` asks, for every operation and each thing that a request names. Whoever holds the machine's key pair is
//! the owner of these builds and may do everything; users may do what their policies say.

use super::resources::ResourceNames;
use runner_core::iam::{self, Directory, IamUser, PolicyDecision};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct PolicyCaller {
    /// Their name in ids of sessions.
    pub(super) name: String,
    /// As AWS names them.
    pub(super) arn: String,
    /// The id that outlasts their name.
    pub(super) user_id: String,
    /// Their access key; the one there is where calls need no signature.
    pub(super) key_id: String,
    /// Whose policies bind them; nobody's where they are the owner.
    pub(super) bound: Option<Bound>,
}

/// A user, as the file had them when they called.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) directory: Arc<Directory>,
    pub(super) user: String,
}

/// The id of a user: their own, or, where the file has none, the same for one name, always.
pub(super) fn user_id(user: &IamUser) -> String {
    user.id.clone().unwrap_or_else(|| id_of_name(&user.name))
}

/// The id of a user whose file says nothing of it.
pub(super) fn id_of_name(name: &str) -> String {
    format!("AIDA{}", letters_of(&format!("a user of runner: {name}")))
}

/// The id of a group, likewise.
pub(super) fn group_id(name: &str) -> String {
    format!("AGPA{}", letters_of(&format!("a group of runner: {name}")))
}

/// What ids of IAM are made of, after their kind.
fn letters_of(text: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text);
    digest.iter().take(17).map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

/// Condition keys of one operation as IAM names them, and their values.
pub(super) type ConditionKeys = Vec<(&'static str, String)>;

/// What is asked of a policy.
pub(super) struct Question<'q> {
    pub(super) action: &'static str,
    pub(super) resource: &'q ResourceNames,
    /// What the operation knows.
    pub(super) context: &'q ConditionKeys,
    /// What the request has named itself: tags that it gives.
    pub(super) requested: &'q [(String, String)],
    /// What the call itself tells: who, from where, when. Empty for the owner.
    pub(super) facts: &'q iam::RequestContext,
}

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// By this statement, where it was one.
    Allowed(Option<String>),
    /// By a statement that denies.
    Denied(String),
    /// By none that allows.
    NotAllowed,
}

/// Decides.
pub(super) trait Policy: Send + Sync {
    /// Whether `caller` may do what is asked for.
    fn judge(&self, caller: &PolicyCaller, question: &Question<'_>) -> Verdict;
}

/// Everything for the owner, for users what their policies say.
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

/// Adds a thing's tags, under every name that services have for them.
pub(super) fn tagged(context: &mut iam::RequestContext, resource: &ResourceNames) {
    for (key, value) in &resource.tags {
        for prefix in ["aws:ResourceTag", "ssm:resourceTag", "ecs:ResourceTag"] {
            context.set(&format!("{prefix}/{key}"), value.as_str());
        }
    }
}

/// Adds what is known of a user whoever asks: who they are, and their tags.
pub(super) fn identified(context: &mut iam::RequestContext, user: &IamUser, arn: &str) {
    context.set("aws:username", user.name.as_str());
    context.set("aws:userid", user_id(user));
    context.set("aws:PrincipalArn", arn);
    context.set("aws:PrincipalType", "User");
    for (key, value) in &user.tags {
        context.set(&format!("aws:PrincipalTag/{key}"), value.as_str());
    }
}
