//! Where a build stops, and what can be decided there: breakpoints, their conditions, decisions.
//!
//! One parser for whoever sets a breakpoint; the machine asks what comes of it. Nothing here runs
//! anything: a condition is held against facts that are there.

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
