//! The buildspec language: text -> [`yaml`] tree -> [`raw`] document -> [`BuildSpec`].
//!
//! Each step takes the last one's result. [`parse`] is the whole way; what it returns is either a
//! buildspec that can be planned, with warnings, or every problem that stands in the way.

mod diagnostic;
mod model;
mod raw;
mod validate;
pub mod yaml;

pub use diagnostic::{Code, Diagnostic, Severity, Span};
pub use model::{
    BuildSpec, Command, OnFailure, PhaseSpec, Retry, Shell, USER_PHASES, UserPhase, Variable,
    Version,
};

/// Reads a buildspec's text. Warnings come along in file order.
///
/// # Errors
/// Every problem found, errors and warnings, in file order.
pub fn parse(source: &str) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let node = yaml::parse(source).map_err(|problem| vec![*problem])?;
    let mut problems = Vec::new();
    let document = raw::read(&node, &mut problems);
    let spec = document.and_then(|document| validate::validate(document, &mut problems));
    problems.sort_by_key(|problem| (problem.span.line, problem.span.column));
    match spec {
        Some(spec) if !problems.iter().any(Diagnostic::is_error) => Ok((spec, problems)),
        _ => Err(problems),
    }
}
