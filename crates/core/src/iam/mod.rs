//! Who may do what, in the language of IAM's identity policies.
//!
//! [`Directory`] reads the file of users, keys and groups, [`IamPolicy`] one document. Both treat the
//! text as hostile and report all that is wrong with it, with places. [`evaluate`] decides. Time and
//! all other facts of a request come in as a [`RequestContext`].

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

pub use crate::placed::DocumentProblem;
pub use context::RequestContext;
pub use directory::{AccessKey, Directory, IamGroup, IamUser, KeyProfile};
pub use evaluate::{IamRequest, PolicyDecision, evaluate};
pub use policy::IamPolicy;
pub use statement::{Statement, StatementEffect};

use crate::placed as node;
use crate::placed::DocumentProblems;
