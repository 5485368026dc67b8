//! Decides whether a call may go on: checks each of its resources against the policy and notes the
//! deciding statement for the audit.

use super::endpoint::{Endpoint, Origin};
use super::operations::{DOCUMENT_CHECK, RequestScope};
use super::policy::{ConditionKeys, Question, Verdict};
use super::resources::ResourceNames;

/// Why a call is denied.
enum Against<'r> {
    Statement(&'r ResourceNames, String),
    Nothing(&'r ResourceNames),
}

impl Endpoint {
    /// Checks a caller's action on every resource of a call.
    ///
    /// # Errors
    /// If it is not allowed, with the reason for the caller. The audit alone names the statement.
    pub(super) fn judge(
        &self,
        origin: &Origin,
        action: &'static str,
        scope: &RequestScope,
    ) -> Result<(), String> {
        origin.is_about(scope.resources());
        let judged = match &scope.or_with {
            None => self.all(origin, action, scope.resources(), &scope.context, &scope.requested),
            Some(besides) => self.with_default(origin, action, scope, besides),
        };
        let (resource, why) = match judged {
            Ok(by) => {
                origin.decided(by);
                return Ok(());
            }
            // The user who began it may go on with it, unless a statement denies that.
            Err(Against::Nothing(_)) if scope.begun_by.as_ref() == Some(&origin.caller.user_id) => {
                origin.decided(Some("the caller has begun it".to_owned()));
                return Ok(());
            }
            Err(Against::Statement(resource, by)) => {
                origin.decided(Some(by));
                (resource, "with an explicit deny in an identity-based policy".to_owned())
            }
            Err(Against::Nothing(resource)) => {
                (resource, format!("because no identity-based policy allows the {action} action"))
            }
        };
        let (who, shown) = (&origin.caller.arn, &resource.shown);
        Err(format!(
            "User: {who} is not authorized to perform: {action} on resource: {shown} {why}"
        ))
    }

    /// Checks one resource without noting the decision, since callers filter lists with it.
    pub(super) fn allows(
        &self,
        origin: &Origin,
        action: &'static str,
        resource: &ResourceNames,
    ) -> bool {
        let context = ConditionKeys::new();
        let (context, facts) = (&context, &origin.facts);
        let question = Question { action, resource, context, requested: &[], facts };
        matches!(self.policy.judge(&origin.caller, &question), Verdict::Allowed(_))
    }

    /// If no document is named, the default one is checked only if the call is allowed by nothing
    /// but statements that ask for the check of documents.
    fn with_default<'s>(
        &self,
        origin: &Origin,
        action: &'static str,
        scope: &'s RequestScope,
        document: &'s ResourceNames,
    ) -> Result<Option<String>, Against<'s>> {
        let checked = |is_checked: bool| {
            let mut context = scope.context.clone();
            context.push((DOCUMENT_CHECK, is_checked.to_string()));
            context
        };
        let requested = &scope.requested;
        match self.all(origin, action, scope.resources(), &checked(false), requested) {
            Err(Against::Nothing(_)) => {
                let resources = scope.resources().iter().chain([document]);
                self.all(origin, action, resources, &checked(true), requested)
            }
            judged => judged,
        }
    }

    /// Requires every resource to be allowed. An explicit deny for one takes precedence over a
    /// missing allow for another.
    fn all<'s>(
        &self,
        origin: &Origin,
        action: &'static str,
        resources: impl IntoIterator<Item = &'s ResourceNames>,
        context: &ConditionKeys,
        requested: &[(String, String)],
    ) -> Result<Option<String>, Against<'s>> {
        let (mut allowed, mut against) = (None, None);
        for resource in resources {
            let facts = &origin.facts;
            let question = Question { action, resource, context, requested, facts };
            match self.policy.judge(&origin.caller, &question) {
                Verdict::Allowed(by) => allowed = allowed.or(by),
                Verdict::Denied(by) => return Err(Against::Statement(resource, by)),
                Verdict::NotAllowed => against = against.or(Some(Against::Nothing(resource))),
            }
        }
        against.map_or(Ok(allowed), Err)
    }
}
