//! Why a program of the caller's is not in the image `host`.

use runner_engine::host_image;
use std::path::PathBuf;

/// Advice for a command that was not found though it lies in a directory of the caller's PATH that
/// the image `host` does not show.
pub(super) fn missing_program(text: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let hidden = host_image::hidden_path_entries(&path);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).find_map(|word| {
        let program: PathBuf =
            hidden.iter().map(|dir| dir.join(word)).find(|program| program.is_file())?;
        let dir = program.parent()?.display().to_string();
        Some(format!(
            "`{word}` is {}, which the image `host` does not show; show it with --mount \
             {dir}:{dir} -e PATH",
            program.display()
        ))
    })
}
