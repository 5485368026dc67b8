//! Authorization in the language of IAM identity policies.
//!
//! [`Directory`] reads the file of users, keys and groups; [`IamPolicy`] reads one policy document.
//! Both treat their text as untrusted and report every problem with its place. [`evaluate`]
//! decides. The time and all other facts of a request come in as a [`RequestContext`].

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
