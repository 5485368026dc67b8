//! What policies come to.

use super::context::Context;
use super::policy::Policy;
use super::statement::{Effect, Statement};

/// What is to be decided.
#[derive(Clone, Debug)]
pub struct Request<'r> {
    /// In lower case: the names of actions know no case.
    pub(super) folded: String,
    pub(super) names: &'r [String],
    pub(super) also: &'r [String],
    pub(super) context: &'r Context,
}

impl<'r> Request<'r> {
    /// Whether `action` may be done to a thing. `names` are those it was called by, one of which a rule that allows has
    /// to match; `also` are its other names, for which a rule that denies counts as well.
    #[must_use]
    pub fn new(
        action: &str,
        names: &'r [String],
        also: &'r [String],
        context: &'r Context,
    ) -> Self {
        Request { folded: action.to_ascii_lowercase(), names, also, context }
    }
}

/// What was decided, and by which statement.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'p> {
    /// A statement allows it and none denies it.
    Allowed(&'p Statement),
    /// A statement denies it.
    ExplicitDeny(&'p Statement),
    /// No statement allows it.
    ImplicitDeny,
}

impl Decision<'_> {
    /// In the words of IAM's simulator.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Decision::Allowed(_) => "allowed",
            Decision::ExplicitDeny(_) => "explicitDeny",
            Decision::ImplicitDeny => "implicitDeny",
        }
    }
}

/// Decides: a statement that denies goes before one that allows, and what none allows is denied.
pub fn evaluate<'p>(
    policies: impl IntoIterator<Item = &'p Policy>,
    request: &Request<'_>,
) -> Decision<'p> {
    let mut allowed = None;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        // One that allows is enough.
        if (statement.effect == Effect::Allow && allowed.is_some()) || !statement.applies(request) {
            continue;
        }
        match statement.effect {
            Effect::Deny => return Decision::ExplicitDeny(statement),
            Effect::Allow => allowed = Some(statement),
        }
    }
    allowed.map_or(Decision::ImplicitDeny, Decision::Allowed)
}
