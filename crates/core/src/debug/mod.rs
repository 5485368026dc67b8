//! Breakpoints, their conditions, and the decisions a user can make at a stop.
//!
//! All clients share one parser for breakpoints, and the machine evaluates the result. Nothing here
//! runs anything: conditions are evaluated against existing facts.

mod breakpoint;
mod condition;
mod cursor;
mod decision;
mod facts;
mod place;
mod rewind;
mod template;
#[cfg(test)]
mod tests;
mod variables;

pub use breakpoint::{Breakpoint, HitCondition, What};
pub use condition::{Comparison, Condition, Name};
pub use cursor::{ParseError, Pattern};
pub use decision::{Decision, DecisionClient, DecisionKind, Who};
pub use facts::StopContext;
pub use place::CommandPlace;
pub use rewind::{NO_CHECKPOINTS, Rewind, RunRef, Then};
pub use template::Template;
pub use variables::{Compared, compare, no_name};
