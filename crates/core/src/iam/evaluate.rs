//! Evaluates policies.

use super::context::RequestContext;
use super::policy::IamPolicy;
use super::statement::{Statement, StatementEffect};

/// A request: is this action allowed on this resource?
#[derive(Clone, Debug)]
pub struct IamRequest<'r> {
    /// The action in lower case, because action names ignore case.
    pub(super) folded: String,
    pub(super) names: &'r [String],
    pub(super) also: &'r [String],
    pub(super) context: &'r RequestContext,
}

impl<'r> IamRequest<'r> {
    /// Asks whether `action` is allowed. `names` are the resource's names used in the request; a
    /// rule that allows must match one of them. `also` are its other names, for which rules that
    /// deny count too.
    #[must_use]
    pub fn new(
        action: &str,
        names: &'r [String],
        also: &'r [String],
        context: &'r RequestContext,
    ) -> Self {
        IamRequest { folded: action.to_ascii_lowercase(), names, also, context }
    }
}

/// A decision, and the statement that made it.
#[derive(Clone, Copy, Debug)]
pub enum PolicyDecision<'p> {
    /// A statement allows it, and none denies it.
    Allowed(&'p Statement),
    /// A statement denies it.
    ExplicitDeny(&'p Statement),
    /// No statement allows it.
    ImplicitDeny,
}

impl PolicyDecision<'_> {
    /// The decision in the words of IAM's policy simulator.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            PolicyDecision::Allowed(_) => "allowed",
            PolicyDecision::ExplicitDeny(_) => "explicitDeny",
            PolicyDecision::ImplicitDeny => "implicitDeny",
        }
    }
}

/// Decides a request. Deny overrides allow, and without an allow the request is denied.
pub fn evaluate<'p>(
    policies: impl IntoIterator<Item = &'p IamPolicy>,
    request: &IamRequest<'_>,
) -> PolicyDecision<'p> {
    let mut allowed = None;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        // The first statement that allows is enough.
        if (statement.effect == StatementEffect::Allow && allowed.is_some())
            || !statement.applies(request)
        {
            continue;
        }
        match statement.effect {
            StatementEffect::Deny => return PolicyDecision::ExplicitDeny(statement),
            StatementEffect::Allow => allowed = Some(statement),
        }
    }
    allowed.map_or(PolicyDecision::ImplicitDeny, PolicyDecision::Allowed)
}
