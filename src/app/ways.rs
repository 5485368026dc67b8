//! What a person at this machine can type to get at a build, and why a program of theirs is not
//! there.

use crate::engine::host_image;
use crate::sinks::{AwsWay, WaysIn};
use std::path::{Path, PathBuf};

/// How a second terminal reaches the build.
pub(super) fn ways_in(uuid: &uuid::Uuid, keys: bool, aws: AwsWay) -> WaysIn {
    let mut program = String::new();
    // A second terminal looks in the default place unless it is told.
    if let Ok(home) = std::env::var("RUNNER_HOME")
        && !home.is_empty()
    {
        program = format!("RUNNER_HOME={} ", word(&home));
    }
    program.push_str(&own_name());
    let build = uuid.to_string()[..8].to_owned();
    WaysIn { program, build, keys, aws }
}

/// `runner` where typing that starts this very program, else its path.
fn own_name() -> String {
    let Ok(own) = std::env::current_exe() else { return "runner".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("runner"))
        .find(|candidate| candidate.is_file())
        .and_then(|candidate| std::fs::canonicalize(candidate).ok());
    if found.as_deref() == Some(&own) {
        return "runner".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    // A bare name would be looked for on PATH.
    let shown = match own.strip_prefix(&here) {
        Ok(inside) if inside.components().count() == 1 => Path::new(".").join(inside),
        Ok(inside) => inside.to_path_buf(),
        Err(_) => own,
    };
    word(&shown.display().to_string())
}

/// Quoted where a shell would part it.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    runner_core::exports::quote(text)
}

/// A path with the caller's home as `~`.
pub(super) fn short(path: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_path_buf)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// Advice for a command that was not found though it lies in a directory of the caller's PATH that
/// the image `host` does not show.
pub(super) fn missing_program_hint(text: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_only_where_they_must_be() {
        assert_eq!(word("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(word("/my dir/it's"), "'/my dir/it'\\''s'");
    }
}
