//! Opens a text in the user's editor.

use std::io::{self, Write};
use std::process::{Command, ExitStatus};

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    #[error("neither VISUAL nor EDITOR names an editor")]
    NoEditor,
    #[error("the editor has failed ({0}); nothing is run")]
    Failed(ExitStatus),
    #[error("the text is empty; nothing is run")]
    Empty,
    #[error("cannot edit the command: {0}")]
    Io(#[from] io::Error),
}

/// Lets the user edit a text, and waits for the editor to exit.
pub(crate) fn edit(text: &str) -> Result<String, EditError> {
    let editor = ["VISUAL", "EDITOR"].iter().filter_map(std::env::var_os);
    let editor = editor.into_iter().find(|editor| !editor.to_string_lossy().trim().is_empty());
    let editor = editor.ok_or(EditError::NoEditor)?;
    let mut file = tempfile::Builder::new().suffix(".sh").tempfile()?;
    writeln!(file, "{}", text.trim_end_matches('\n'))?;
    // As git does it: the variable may contain arguments.
    let status = Command::new("sh")
        .args(["-c", &format!("{} \"$@\"", editor.to_string_lossy()), "editor"])
        .arg(file.path())
        .status()?;
    if !status.success() {
        return Err(EditError::Failed(status));
    }
    let text = std::fs::read_to_string(file.path())?;
    match text.trim().is_empty() {
        true => Err(EditError::Empty),
        false => Ok(text.trim_end_matches('\n').to_owned()),
    }
}
