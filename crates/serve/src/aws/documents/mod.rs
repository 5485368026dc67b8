//! Documents of sessions and commands: AWS's own, and those of callers in the state folder.
//!
//! `lookup` finds documents, `change` and `show` are the calls for them, `shape` writes them as AWS
//! does, and `plan` derives a session from one. `runner_core::document` parses their content.

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
