//! Delivery of steps' output to AWS, at each node of a command.

use super::{CommandNode, CommandStep, Commands, StepOutputs, replace};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest text for a node in responses (`TraceOutput`), in characters.
const MOST: usize = 2500;

impl Commands {
    /// Stores the delivery state of a step's output at a node. An empty text means that all of it
    /// has arrived, and stays for [`forget_arrived`].
    pub fn note_delivery(&self, id: &str, node: &str, step: usize, told: &str) -> io::Result<()> {
        let dir = self.folder(id).filter(|_| is_node(node)).ok_or(io::ErrorKind::InvalidInput)?;
        let path = note(&dir.join(node), step);
        // A removed record has no readers.
        if dir.join(node).is_dir() { replace(&path, told.as_bytes()) } else { Ok(()) }
    }
}

/// Removes the full outputs of the steps at a node that have arrived. The excerpts stay.
///
/// An arrival is noted before the node's state is read, and an end is stored before the notes are
/// read, so the later of the two removes what has arrived.
pub(super) fn forget_arrived(
    dir: &Path,
    root: &str,
    node: &CommandNode,
    steps: &[CommandStep],
) -> io::Result<()> {
    for (number, step) in steps.iter().enumerate() {
        let told = fs::metadata(note(&dir.join(&node.id), number));
        if told.is_ok_and(|told| told.len() == 0) {
            StepOutputs::of(dir, root, node, step).forget()?;
        }
    }
    Ok(())
}

fn note(node: &Path, step: usize) -> PathBuf {
    node.join(format!("delivery-{step}"))
}

/// Appends these notes to a node's trace: one line per step, with the step's name if there are
/// several.
pub(super) fn add(node: &Path, steps: &[CommandStep], trace: &mut String) {
    for (number, step) in steps.iter().enumerate() {
        let told = fs::read_to_string(note(node, number)).unwrap_or_default();
        if told.is_empty() {
            continue;
        }
        let of = if steps.len() > 1 { format!(" of {}", step.name) } else { String::new() };
        let end = if trace.is_empty() { "" } else { "\n" };
        let line = format!("{end}output{of} for AWS: {told}");
        let room = MOST.saturating_sub(trace.chars().count());
        trace.extend(line.chars().take(room));
    }
}

/// Whether the name can be a node's id.
fn is_node(name: &str) -> bool {
    name.starts_with("mi-") && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::super::tests::command;
    use super::*;
    use crate::state::{Home, Invocation};

    const ID: &str = "0199f000-0000-7000-8000-00000000000a";

    #[test]
    fn each_step_has_its_own_note() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let commands = Commands::of(&home);
        let mut asked = command(ID);
        let mut second = asked.steps[0].clone();
        "second".clone_into(&mut second.name);
        asked.steps.push(second);
        let node = asked.nodes[0].clone();
        let owned = commands.create(&asked).expect("created");
        owned.save(&node, &Invocation::pending()).expect("saved");
        let trace = || {
            let found = commands.find(ID).expect("read").expect("there");
            found.invocation(&node).expect("read").trace
        };
        assert_eq!(trace(), "");
        commands.note_delivery(ID, &node.id, 0, "not yet: a").expect("noted");
        commands.note_delivery(ID, &node.id, 1, "not yet: b").expect("noted");
        let both = "output of aws:runShellScript for AWS: not yet: a\noutput of second for AWS: not yet: b";
        assert_eq!(trace(), both);
        // Delivery of one step's output says nothing about the other.
        commands.note_delivery(ID, &node.id, 1, "").expect("noted");
        commands.note_delivery(ID, &node.id, 1, "").expect("noted");
        assert_eq!(trace(), "output of aws:runShellScript for AWS: not yet: a");
        commands.note_delivery(ID, &node.id, 0, &"x".repeat(9000)).expect("noted");
        assert_eq!(trace().chars().count(), MOST);
        assert!(commands.note_delivery(ID, "../x", 0, "x").is_err());
    }
}
