//! Protects git's own files below the local sources: no output of a build is written there.
//!
//! Hooks and settings are programs that git runs as the caller, outside any container. The driver
//! creates this from the directories given to the build as sources; the code that writes files to a
//! folder asks it.

use runner_engine::SourceMount;
use runner_host::beneath::join;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The local directories that a build gets as sources, and the directories where git keeps the rest
/// of their repositories. All paths are free of links.
#[derive(Clone, Debug, Default)]
pub struct SourceDirectories {
    sources: Vec<PathBuf>,
    repositories: Vec<PathBuf>,
}

impl SourceDirectories {
    pub fn new<'m>(mounts: impl IntoIterator<Item = &'m SourceMount>) -> Self {
        let mut found = SourceDirectories::default();
        for SourceMount { dir, extras, .. } in mounts {
            found.sources.push(dir.clone());
            found.repositories.extend(extras.iter().cloned());
        }
        found
    }

    /// Whether a path below a link-free folder belongs to git in one of the sources.
    pub(super) fn keep(&self, folder: &Path, path: &[u8]) -> bool {
        let is_git = |name: &[u8]| name.eq_ignore_ascii_case(b".git");
        let names_git = path.split(|&byte| byte == b'/').any(is_git);
        if !names_git && self.repositories.is_empty() {
            return false;
        }
        let whole = join(folder.as_os_str().as_bytes(), path);
        let whole = Path::new(OsStr::from_bytes(&whole));
        let is_within = |source: &PathBuf| {
            let rest = whole.strip_prefix(source).ok();
            rest.is_some_and(|rest| rest.iter().any(|name| is_git(name.as_bytes())))
        };
        self.repositories.iter().any(|repository| whole.starts_with(repository))
            || self.sources.iter().any(is_within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_kept_below_sources_only() {
        let sources = SourceDirectories {
            sources: vec!["/home/me/shop".into(), "/srv/lib".into()],
            repositories: vec!["/srv/bare".into()],
        };
        for (folder, path, is) in [
            ("/home/me/shop", ".git/hooks/post-checkout", true),
            ("/home/me/shop", "sub/.GIT/config", true),
            ("/home/me/shop", "sub/.git", true),
            ("/home/me/shop/out", ".git/config", true),
            ("/home/me", "shop/.git/config", true),
            ("/", "srv/lib/.git/config", true),
            ("/srv", "bare/hooks/update", true),
            ("/srv", "barely/hooks/update", false),
            ("/home/me", "shopping/.git/config", false),
            ("/home/me/shop", ".gitignore", false),
            ("/home/me/shop", ".github/git", false),
            ("/tmp/out", ".git/config", false),
        ] {
            assert_eq!(sources.keep(Path::new(folder), path.as_bytes()), is, "{folder} {path}");
        }
    }
}
