//! Documents of sessions and commands: AWS's own, and those that callers have put into the state folder.
//!
//! `lookup` finds one, `change` and `show` are the calls about them, `shape` writes them as AWS does, and `plan` says what
//! a session with one is to be. What stands in a document is `runner_core::document`'s.

mod change;
mod lookup;
mod plan;
mod shape;
mod show;
#[cfg(test)]
mod tests;

pub(super) use change::{
    CreateDocument, DeleteDocument, UpdateDocument, UpdateDocumentDefaultVersion,
};
pub(super) use lookup::{DocumentContent, PREFERENCES, find, hash, resource};
pub(super) use plan::{PlannedSession, SessionAsking, command, plan, preferences};
pub(super) use show::{DescribeDocument, GetDocument, ListDocumentVersions, ListDocuments};
