//! What has become of output on its way to AWS, at each node of a command.

use super::{Commands, replace};
use std::fs;
use std::io;
use std::path::Path;

const DELIVERY: &str = "delivery";

impl Commands {
    /// Keeps what has become of output on its way to AWS, at a node; nothing where all of it has arrived.
    pub fn note_delivery(&self, id: &str, node: &str, told: &str) -> io::Result<()> {
        let dir = self.folder(id).filter(|_| is_node(node)).ok_or(io::ErrorKind::InvalidInput)?;
        let path = dir.join(node).join(DELIVERY);
        // A record that was removed has nobody who reads of it.
        match (told, dir.join(node).is_dir()) {
            (_, false) => Ok(()),
            ("", true) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            (told, true) => replace(&path, told.as_bytes()),
        }
    }
}

/// Adds that to what is said of a node.
pub(super) fn add(node: &Path, trace: &mut String) {
    if let Ok(told) = fs::read_to_string(node.join(DELIVERY)) {
        let line = if trace.is_empty() { "" } else { "\n" };
        trace.push_str(&format!("{line}output for AWS: {told}"));
    }
}

/// Whether it can be a node's id.
fn is_node(name: &str) -> bool {
    name.starts_with("mi-") && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}
