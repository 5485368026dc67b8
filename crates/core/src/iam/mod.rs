//! Who may do what, in the language of IAM's identity policies.
//!
//! [`Directory`] reads the file of users, keys and groups, [`Policy`] one document; both read text as hostile and tell
//! everything that is wrong with it, with places. [`evaluate`] decides. Time and all other facts of a request come in
//! as a [`Context`].

mod condition;
mod context;
mod directory;
mod evaluate;
mod pattern;
mod policy;
mod statement;
mod template;
#[cfg(test)]
mod tests;
mod typed;

pub use crate::placed::Problem;
pub use context::Context;
pub use directory::{AccessKey, Directory, Group, KeyProfile, User};
pub use evaluate::{Decision, Request, evaluate};
pub use policy::Policy;
pub use statement::{Effect, Statement};

use crate::placed as node;
use crate::placed::Problems;
