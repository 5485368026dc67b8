//! Hints for the image `host`: the caller's programs that it hides, and the parts of their home
//! that it shows.

use runner_core::event::Notice;
use runner_engine::home_tools::{self, HomeTools};
use runner_engine::host_image;
use runner_host::users;
use std::path::{Path, PathBuf};

/// Searches for programs that a command did not find.
pub(super) struct Search {
    /// Paths of this machine that the build sees besides the image.
    shown: Vec<PathBuf>,
    has_home_tools: bool,
    /// The caller's PATH.
    path: String,
    home: Option<PathBuf>,
}

impl Search {
    pub(super) fn new(shown: Vec<PathBuf>, has_home_tools: bool) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        Search { shown, has_home_tools, path, home: users::home() }
    }

    /// A hint for a command that was not found although it is in the caller's PATH, or among the
    /// tools of their home, and the image hides it. The hint disappears once it is followed.
    pub(super) fn missing_program(&self, text: &str) -> Option<String> {
        let mut hidden = host_image::hidden_path_entries(&self.path);
        let home = self.home.as_ref().filter(|_| !self.has_home_tools);
        hidden.extend(home.map(|home| home_tools::all_programs(home)).unwrap_or_default());
        let is_word = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).find_map(|word| {
            let dir = hidden.iter().find(|dir| dir.join(word).is_file())?;
            let shown = dir.join(word).display().to_string();
            self.option(dir).map(|option| {
                format!("`{word}` is {shown}, which the build does not see; {option}")
            })
        })
    }

    /// The option that makes a directory of programs visible.
    fn option(&self, dir: &Path) -> Option<String> {
        let is_tool = self.home.as_ref().is_some_and(|home| home_tools::is_tool(home, dir));
        let dir_shown = dir.display();
        match self.shown.iter().any(|shown| dir.starts_with(shown)) {
            // The directory is visible, and the program was not found for another reason.
            true => None,
            false if is_tool && !self.has_home_tools => {
                Some("--home-tools shows the tools of your home".to_owned())
            }
            false => Some(format!("show it with --mount {dir_shown}:{dir_shown} -e PATH")),
        }
    }
}

/// Lists the shown parts of a home, and links that lead out of them.
pub(super) fn home_tools(tools: &HomeTools) -> Vec<Notice> {
    let shown: Vec<String> = tools.shown.iter().map(|tool| users::with_tilde(&tool.dir)).collect();
    let mut notices = Vec::new();
    notices.push(match shown.is_empty() {
        true => Notice::warning("--home-tools: there are none in your home".to_owned()),
        false => Notice::note(format!("tools of your home, copy-on-write: {}", shown.join(" "))),
    });
    if !tools.leading_out.is_empty() {
        let text = format!("not shown, and not followed: {}", tools.leading_out.join(", "));
        notices.push(Notice::warning(text));
    }
    notices
}
