//! Who may do what, in the language of IAM's identity policies.
//!
//! [`Directory`] reads the file of users, keys and groups, [`Policy`] one document; both read text as hostile and tell
//! everything that is wrong with it, with places. [`evaluate`] decides. Time and all other facts of a request come in
//! as a [`Context`].

mod condition;
mod context;
mod directory;
mod evaluate;
mod node;
mod pattern;
mod policy;
mod statement;
mod template;
#[cfg(test)]
mod tests;
mod typed;

pub use context::Context;
pub use directory::{AccessKey, Directory, Group, User};
pub use evaluate::{Decision, Request, evaluate};
pub use policy::Policy;
pub use statement::{Effect, Statement};

use crate::spec::Place;
use std::fmt;

/// Something that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, in a sentence without a full stop.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.place.line, self.place.column, self.text)
    }
}

/// What is wrong with a document, as it is found.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, place: Place, text: impl Into<String>) {
        self.0.push(Problem { place, text: text.into() });
    }

    /// The value, if nothing was wrong with it; otherwise everything, in the text's order.
    fn or<T>(mut self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort_by_key(|problem| (problem.place.line, problem.place.column));
                Err(self.0)
            }
        }
    }
}
