//! The policy language, by tables.

mod documents;
mod laws;
mod rules;

use super::*;

/// The decision of a policy for an action on one name.
pub(super) fn judged(
    policy: &str,
    action: &str,
    name: &str,
    context: &RequestContext,
) -> &'static str {
    let policy = read(policy);
    let names = [name.to_owned()];
    evaluate([&policy], &IamRequest::new(action, &names, &[], context)).name()
}

pub(super) fn read(text: &str) -> IamPolicy {
    IamPolicy::parse("p", text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

pub(super) fn context(facts: &[(&str, &str)]) -> RequestContext {
    let mut context = RequestContext::default();
    for (key, value) in facts {
        context.add(key, *value);
    }
    context
}

/// A policy with one statement.
pub(super) fn statement(effect: &str, action: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "{effect}", "Action": "{action}",
            "Resource": "{resource}", "Condition": {{{condition}}}}}}}"#
    )
}
