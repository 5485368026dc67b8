//! What policies come to.

use super::context::RequestContext;
use super::policy::IamPolicy;
use super::statement::{Statement, StatementEffect};

/// The question: may this action be done to this resource?
#[derive(Clone, Debug)]
pub struct IamRequest<'r> {
    /// In lower case: the names of actions know no case.
    pub(super) folded: String,
    pub(super) names: &'r [String],
    pub(super) also: &'r [String],
    pub(super) context: &'r RequestContext,
}

impl<'r> IamRequest<'r> {
    /// Whether `action` may be done to a thing. `names` are those it was called by, one of which a rule that allows has
    /// to match; `also` are its other names, for which a rule that denies counts as well.
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

/// The decision, and the statement that made it.
#[derive(Clone, Copy, Debug)]
pub enum PolicyDecision<'p> {
    /// A statement allows it and none denies it.
    Allowed(&'p Statement),
    /// A statement denies it.
    ExplicitDeny(&'p Statement),
    /// No statement allows it.
    ImplicitDeny,
}

impl PolicyDecision<'_> {
    /// In the words of IAM's simulator.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            PolicyDecision::Allowed(_) => "allowed",
            PolicyDecision::ExplicitDeny(_) => "explicitDeny",
            PolicyDecision::ImplicitDeny => "implicitDeny",
        }
    }
}

/// Decides: a statement that denies goes before one that allows, and what none allows is denied.
pub fn evaluate<'p>(
    policies: impl IntoIterator<Item = &'p IamPolicy>,
    request: &IamRequest<'_>,
) -> PolicyDecision<'p> {
    let mut allowed = None;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        // One that allows is enough.
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
