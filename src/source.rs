//! What the source directory says about itself, read from git's own files.
//!
//! Used by `app` for the build's variables and record, and to know which directories git needs
//! beside the source. No git program is run: it need not be installed, and what it would say of
//! somebody else's directory depends on its configuration.

use std::fs;
use std::path::{Path, PathBuf};

/// A source directory's facts; all empty where it is no git work tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceFacts {
    /// The commit it stands at.
    pub(crate) commit: Option<String>,
    /// The branch it is on.
    pub(crate) branch: Option<String>,
    /// Where it was cloned from, without credentials.
    pub(crate) url: Option<String>,
    /// Directories outside of it that git needs: a linked work tree's repository.
    pub(crate) outside: Vec<PathBuf>,
    /// Files of git's that name places: how they read where the source is seen elsewhere, without a
    /// change of the files themselves. A relative name is one in the source.
    pub(crate) rewritten: Vec<(PathBuf, String)>,
}

/// Looks at a directory.
pub(crate) fn facts(source: &Path) -> SourceFacts {
    let Some(git_dir) = git_dir(source) else { return SourceFacts::default() };
    // A linked work tree keeps its HEAD to itself and shares the rest.
    let common = fs::read_to_string(git_dir.join("commondir"))
        .map(|text| git_dir.join(text.trim_end()))
        .ok()
        .and_then(|dir| fs::canonicalize(dir).ok())
        .unwrap_or_else(|| git_dir.clone());
    let head = fs::read_to_string(git_dir.join("HEAD")).unwrap_or_default();
    let head = head.trim_end();
    let (branch, commit) = match head.strip_prefix("ref: ") {
        Some(name) => (name.strip_prefix("refs/heads/"), resolve(&common, name)),
        None => (None, Some(head.to_owned())),
    };
    let mut outside: Vec<PathBuf> = Vec::new();
    for dir in [&common, &git_dir] {
        if !dir.starts_with(source) && !outside.iter().any(|known| dir.starts_with(known)) {
            outside.push(dir.clone());
        }
    }
    SourceFacts {
        commit: commit.filter(|commit| is_object_id(commit)),
        branch: branch.map(str::to_owned),
        url: fs::read_to_string(common.join("config")).ok().and_then(|text| origin(&text)),
        outside,
        rewritten: rewritten(source, &git_dir),
    }
}

/// A submodule's `.git` names its repository relative to itself, and the repository names its work
/// tree in return. Without the latter git takes the directory that `.git` is in.
fn rewritten(source: &Path, git_dir: &Path) -> Vec<(PathBuf, String)> {
    if source.join(".git").is_dir() {
        return Vec::new();
    }
    let mut files = vec![(PathBuf::from(".git"), format!("gitdir: {}\n", git_dir.display()))];
    let config = git_dir.join("config");
    if let Ok(text) = fs::read_to_string(&config) {
        let names_work_tree = |line: &&str| {
            line.split_once('=').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("worktree"))
        };
        if text.lines().any(|line| names_work_tree(&line)) {
            let kept = text.lines().filter(|line| !names_work_tree(line));
            files.push((config, kept.map(|line| format!("{line}\n")).collect()));
        }
    }
    files
}

/// The directory git keeps for a work tree.
fn git_dir(source: &Path) -> Option<PathBuf> {
    let dot_git = source.join(".git");
    if dot_git.is_dir() {
        return fs::canonicalize(dot_git).ok();
    }
    let text = fs::read_to_string(dot_git).ok()?;
    let target = text.strip_prefix("gitdir: ")?.trim_end();
    fs::canonicalize(source.join(target)).ok()
}

/// The commit a name stands for.
fn resolve(common: &Path, name: &str) -> Option<String> {
    if let Ok(text) = fs::read_to_string(common.join(name)) {
        return Some(text.trim_end().to_owned());
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| {
        let (id, found) = line.split_once(' ')?;
        (found == name).then(|| id.to_owned())
    })
}

fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `remote.origin.url` of a configuration file.
fn origin(config: &str) -> Option<String> {
    let mut in_origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line.replace(' ', "") == "[remote\"origin\"]";
        } else if in_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "url"
        {
            return Some(without_credentials(value.trim()));
        }
    }
    None
}

/// A URL without what stands before an `@` in its host part.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if scheme.starts_with("http") => format!("{scheme}://{}", &rest[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out_of_the_url() {
        let config =
            "[core]\n\turl = no\n[remote \"origin\"]\n\turl = https://u:p@example.com/a@b\n";
        assert_eq!(origin(config).as_deref(), Some("https://example.com/a@b"));
        assert_eq!(without_credentials("ssh://git@example.com/a"), "ssh://git@example.com/a");
        assert_eq!(without_credentials("git@example.com:a/b"), "git@example.com:a/b");
    }

    #[test]
    fn heads_and_packed_refs_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let git = dir.path().join(".git");
        fs::create_dir_all(git.join("refs/heads")).expect("made");
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").expect("written");
        assert_eq!(facts(dir.path()).commit, None);
        let id = "0123456789012345678901234567890123456789";
        fs::write(git.join("packed-refs"), format!("# pack-refs\n{id} refs/heads/main\n"))
            .expect("written");
        let found = facts(dir.path());
        assert_eq!(found.commit.as_deref(), Some(id));
        assert_eq!(found.branch.as_deref(), Some("main"));
        assert!(found.outside.is_empty());
        assert_eq!(facts(Path::new("/proc")), SourceFacts::default());
    }
}
