//! Facts about the source directory, read from git's own files.
//!
//! Used by `build` for the build's variables and record, and to find the directories outside the
//! source that git needs. No git program is run: it may not be installed, and its answer about
//! someone else's directory depends on its configuration.
#![deny(clippy::disallowed_methods)]

use runner_host::beneath::{Dir, kind};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A source directory's facts; all empty if it is not a git work tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// The current commit.
    pub commit: Option<String>,
    /// The current branch.
    pub branch: Option<String>,
    /// The URL it was cloned from, without credentials.
    pub url: Option<String>,
    /// Directories outside the source that git needs: the repository of a linked work tree.
    pub outside: Vec<PathBuf>,
    /// Git files that contain paths, and their content for a source mounted at another path; the
    /// files themselves are not changed. A relative name is below the source.
    pub rewritten: Vec<(PathBuf, String)>,
}

/// Reads a directory's facts. Anyone may have made the directory: paths in its files are trusted
/// only if their target points back to it, and no file is read through a link.
pub fn facts(source: &Path) -> SourceFacts {
    let Some(Repository { git_dir, common }) = repository(source) else {
        return SourceFacts::default();
    };
    let head = git_dir.read("HEAD").unwrap_or_default();
    let head = head.trim_end();
    let (branch, commit) = match head.strip_prefix("ref: ") {
        Some(name) if is_plain(name) => (name.strip_prefix("refs/heads/"), resolve(&common, name)),
        Some(_) => (None, None),
        None => (None, Some(head.to_owned())),
    };
    let mut outside: Vec<PathBuf> = Vec::new();
    for GitDirectory { path, .. } in [&common, &git_dir] {
        if !path.starts_with(source) && !outside.iter().any(|known| path.starts_with(known)) {
            outside.push(path.clone());
        }
    }
    SourceFacts {
        commit: commit.filter(|commit| is_object_id(commit)),
        branch: branch.map(str::to_owned),
        url: common.read("config").and_then(|text| origin(&text)),
        outside,
        rewritten: rewritten(source, &git_dir),
    }
}

/// The git directories of a work tree.
struct Repository {
    git_dir: GitDirectory,
    /// A linked work tree has its own HEAD and shares the rest.
    common: GitDirectory,
}

/// One of git's directories.
struct GitDirectory {
    path: PathBuf,
    dir: Dir,
}

impl GitDirectory {
    /// Resolves a path, following links: it is trusted only once it has named the source.
    fn find(path: &Path) -> Option<Self> {
        let path = real(path)?;
        Some(GitDirectory { dir: Dir::top_itself(&path).ok()?, path })
    }

    /// Reads a file in the directory.
    fn read(&self, name: &str) -> Option<String> {
        read(&self.dir, name)
    }

    fn again(&self) -> Option<Self> {
        Some(GitDirectory { dir: self.dir.again().ok()?, path: self.path.clone() })
    }

    /// Whether git would accept it as a repository.
    fn is_repository(&self) -> bool {
        let is_dir = |name| self.dir.stat(name).is_ok_and(|it| kind(&it) == FileType::Directory);
        is_dir("objects") && is_dir("refs") && self.read("HEAD").is_some()
    }
}

/// The repository of a directory: its own, or one that points back to it as its work tree or
/// submodule. Otherwise a source could name any directory of the machine and get it mounted into
/// its container.
fn repository(source: &Path) -> Option<Repository> {
    let top = Dir::top(source).ok()?;
    let dot_git = source.join(".git");
    match kind(&top.stat(".git").ok()?) {
        FileType::Directory => {
            let dir = top.open(".git").ok()?;
            let shares = dir.look("commondir").ok()?.is_some();
            let git_dir = GitDirectory { dir, path: real(&dot_git)? };
            return (!shares).then_some(Repository { common: git_dir.again()?, git_dir });
        }
        FileType::RegularFile => {}
        _ => return None,
    }
    let text = read(&top, ".git")?;
    let git_dir = GitDirectory::find(&source.join(text.strip_prefix("gitdir: ")?.trim_end()))?;
    if let Some(shared) = git_dir.read("commondir") {
        let common = GitDirectory::find(&git_dir.path.join(shared.trim_end()))?;
        let names_source = || {
            let back = real(Path::new(git_dir.read("gitdir")?.trim_end()))?;
            (back == real(&dot_git)?).then_some(())
        };
        let is_work_tree = git_dir.path.parent() == Some(&common.path.join("worktrees"));
        return (is_work_tree && common.is_repository() && names_source().is_some())
            .then_some(Repository { git_dir, common });
    }
    let names_source = || {
        let config = git_dir.read("config")?;
        let line = config.lines().find(|line| names_work_tree(line))?;
        let (_, place) = line.split_once('=')?;
        let back = real(&git_dir.path.join(place.trim().trim_matches('"')))?;
        (back == source).then_some(())
    };
    let is_ours = git_dir.is_repository() && names_source().is_some();
    is_ours.then_some(Repository { common: git_dir.again()?, git_dir })
}

/// Resolves a path, following links. Only for names: files are never opened through links.
#[expect(
    clippy::disallowed_methods,
    reason = "what git names leads where it leads, and proves nothing"
)]
fn real(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

fn names_work_tree(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("worktree"))
}

/// Maximum bytes read of a git file.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a regular file by a path without links.
fn read(dir: &Dir, path: &str) -> Option<String> {
    String::from_utf8(dir.read_small(path, MAX_BYTES).ok()?).ok()
}

/// Whether a reference's name stays below the repository.
fn is_plain(name: &str) -> bool {
    name.starts_with("refs/") && !name.split('/').any(|part| part == "..")
}

/// A submodule's `.git` names its repository by a relative path, and the repository names its work
/// tree in return. Without the latter git uses the directory that contains `.git`.
fn rewritten(source: &Path, git_dir: &GitDirectory) -> Vec<(PathBuf, String)> {
    if git_dir.path.starts_with(source) {
        return Vec::new();
    }
    let text = format!("gitdir: {}\n", git_dir.path.display());
    let mut files = vec![(PathBuf::from(".git"), text)];
    if let Some(text) = git_dir.read("config")
        && text.lines().any(names_work_tree)
    {
        let kept = text.lines().filter(|line| !names_work_tree(line));
        let kept = kept.map(|line| format!("{line}\n")).collect();
        files.push((git_dir.path.join("config"), kept));
    }
    files
}

/// The commit a name refers to.
fn resolve(common: &GitDirectory, name: &str) -> Option<String> {
    if let Some(text) = common.read(name) {
        return Some(text.trim_end().to_owned());
    }
    let packed = common.read("packed-refs")?;
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

/// A URL without the part before an `@` in its host.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if scheme.starts_with("http") => format!("{scheme}://{}", &rest[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a folder of the test's own")]
mod tests {
    use super::*;
    use std::fs;

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
