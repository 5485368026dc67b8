//! A policy document.

use super::node::{self, JsonNode, member, only};
use super::statement::Statement;
use super::template::PolicyVersion;
use super::{DocumentProblem, DocumentProblems};
use std::collections::BTreeSet;

/// A policy of a user or group.
#[derive(Clone, Debug)]
pub struct IamPolicy {
    pub(super) statements: Vec<Statement>,
}

impl IamPolicy {
    /// Parses a document. `name` identifies its statements.
    ///
    /// # Errors
    /// Every problem with the document.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<DocumentProblem>> {
        let mut problems = DocumentProblems::default();
        let node = node::read(text, &mut problems);
        let policy = node.map(|node| IamPolicy::read(&node, name, &mut problems));
        problems.or(policy)
    }

    pub(super) fn read(node: &JsonNode, name: &str, problems: &mut DocumentProblems) -> Self {
        let members = node.map("a policy", problems);
        only(members, &["Version", "Id", "Statement"], "a policy", problems);
        let version = version(members, problems);
        let Some(list) = member(members, "Statement") else {
            problems.add(node.place, "a policy has a Statement");
            return IamPolicy { statements: Vec::new() };
        };
        let nodes = list.one_or_more();
        if nodes.is_empty() {
            problems.add(list.place, "Statement lists nothing");
        }
        let mut statements = Vec::with_capacity(nodes.len());
        let mut sids = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            if let Some(statement) = Statement::read(node, (name, number), version, problems) {
                match statement.sid().map(str::to_owned) {
                    Some(sid) if sids.contains(&sid) => {
                        problems.add(node.place, format!("two statements have the Sid {sid}"));
                    }
                    sid => sids.extend(sid),
                }
                statements.push(statement);
            }
        }
        IamPolicy { statements }
    }

    /// The condition keys it uses, as written.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(Statement::keys).collect()
    }
}

fn version(members: &[node::JsonMember], problems: &mut DocumentProblems) -> PolicyVersion {
    let Some(node) = member(members, "Version") else { return PolicyVersion::Old };
    match node.text("Version", problems) {
        Some("2012-10-17") => PolicyVersion::New,
        Some("2008-10-17") | None => PolicyVersion::Old,
        Some(other) => {
            let text = format!("there is no Version `{other}`, only 2012-10-17 and 2008-10-17");
            problems.add(node.place, text);
            PolicyVersion::New
        }
    }
}
