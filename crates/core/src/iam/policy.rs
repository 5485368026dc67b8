//! A policy document.

use super::node::{self, Node, member, only};
use super::statement::Statement;
use super::template::Version;
use super::{Problem, Problems};
use std::collections::BTreeSet;

/// A policy of a user or a group.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

impl Policy {
    /// Reads a document. `name` is what its statements are called by.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let node = node::read(text, &mut problems);
        let policy = node.map(|node| Policy::read(&node, name, &mut problems));
        problems.or(policy)
    }

    pub(super) fn read(node: &Node, name: &str, problems: &mut Problems) -> Self {
        let members = node.map("a policy", problems);
        only(members, &["Version", "Id", "Statement"], "a policy", problems);
        let version = version(members, problems);
        let Some(list) = member(members, "Statement") else {
            problems.add(node.place, "a policy has a Statement");
            return Policy { statements: Vec::new() };
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
        Policy { statements }
    }

    /// The condition keys that it asks for, as they are written.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(Statement::keys).collect()
    }
}

fn version(members: &[node::Member], problems: &mut Problems) -> Version {
    let Some(node) = member(members, "Version") else { return Version::Old };
    match node.text("Version", problems) {
        Some("2012-10-17") => Version::New,
        Some("2008-10-17") | None => Version::Old,
        Some(other) => {
            let text = format!("there is no Version `{other}`, only 2012-10-17 and 2008-10-17");
            problems.add(node.place, text);
            Version::New
        }
    }
}
