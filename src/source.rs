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

/// Looks at a directory. It may be anybody's: what its files name is believed only where it names
/// this directory in turn.
pub(crate) fn facts(source: &Path) -> SourceFacts {
    let Some(Repository { git_dir, common }) = repository(source) else {
        return SourceFacts::default();
    };
    let head = read(&git_dir.join("HEAD")).unwrap_or_default();
    let head = head.trim_end();
    let (branch, commit) = match head.strip_prefix("ref: ") {
        Some(name) if is_plain(name) => (name.strip_prefix("refs/heads/"), resolve(&common, name)),
        Some(_) => (None, None),
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
        url: read(&common.join("config")).and_then(|text| origin(&text)),
        outside,
        rewritten: rewritten(source, &git_dir),
    }
}

/// What git keeps for a work tree.
struct Repository {
    git_dir: PathBuf,
    /// A linked work tree keeps its HEAD to itself and shares the rest.
    common: PathBuf,
}

/// The repository of a directory, if it is one of its own, or one that knows this directory: a work
/// tree's or a submodule's. A source could name any directory of the machine, and would find it in
/// its container.
fn repository(source: &Path) -> Option<Repository> {
    let dot_git = source.join(".git");
    let kind = fs::symlink_metadata(&dot_git).ok()?;
    if kind.is_dir() {
        let git_dir = fs::canonicalize(dot_git).ok()?;
        let shares = git_dir.join("commondir").exists();
        return (!shares).then(|| Repository { common: git_dir.clone(), git_dir });
    }
    if !kind.is_file() {
        return None;
    }
    let text = read(&dot_git)?;
    let target = text.strip_prefix("gitdir: ")?.trim_end();
    let git_dir = fs::canonicalize(source.join(target)).ok()?;
    if let Some(common) = read(&git_dir.join("commondir")) {
        let common = fs::canonicalize(git_dir.join(common.trim_end())).ok()?;
        let names_source = || {
            let back = fs::canonicalize(read(&git_dir.join("gitdir"))?.trim_end()).ok()?;
            (back == fs::canonicalize(&dot_git).ok()?).then_some(())
        };
        let is_work_tree = git_dir.parent() == Some(&common.join("worktrees"));
        return (is_work_tree && is_repository(&common) && names_source().is_some())
            .then_some(Repository { git_dir, common });
    }
    let names_source = || {
        let config = read(&git_dir.join("config"))?;
        let line = config.lines().find(|line| names_work_tree(line))?;
        let (_, place) = line.split_once('=')?;
        let back = fs::canonicalize(git_dir.join(place.trim().trim_matches('"'))).ok()?;
        (back == source).then_some(())
    };
    (is_repository(&git_dir) && names_source().is_some())
        .then(|| Repository { common: git_dir.clone(), git_dir })
}

/// Whether a directory is what git takes for a repository.
fn is_repository(dir: &Path) -> bool {
    let is_dir = |name: &str| fs::symlink_metadata(dir.join(name)).is_ok_and(|kind| kind.is_dir());
    is_dir("objects") && is_dir("refs") && read(&dir.join("HEAD")).is_some()
}

fn names_work_tree(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("worktree"))
}

/// Most of a file of git's that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A file's text, if it is a file: a FIFO or a device could make this wait, or never end.
fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let mut text = String::new();
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    is_file.then(|| file.take(MAX_BYTES).read_to_string(&mut text).ok())??;
    Some(text)
}

/// Whether the name of a reference stays below the repository.
fn is_plain(name: &str) -> bool {
    name.starts_with("refs/") && !name.split('/').any(|part| part == "..")
}

/// A submodule's `.git` names its repository relative to itself, and the repository names its work
/// tree in return. Without the latter git takes the directory that `.git` is in.
fn rewritten(source: &Path, git_dir: &Path) -> Vec<(PathBuf, String)> {
    if source.join(".git").is_dir() || git_dir.starts_with(source) {
        return Vec::new();
    }
    let mut files = vec![(PathBuf::from(".git"), format!("gitdir: {}\n", git_dir.display()))];
    let config = git_dir.join("config");
    if let Some(text) = read(&config)
        && text.lines().any(names_work_tree)
    {
        let kept = text.lines().filter(|line| !names_work_tree(line));
        files.push((config, kept.map(|line| format!("{line}\n")).collect()));
    }
    files
}

/// The commit a name stands for.
fn resolve(common: &Path, name: &str) -> Option<String> {
    if let Some(text) = read(&common.join(name)) {
        return Some(text.trim_end().to_owned());
    }
    let packed = read(&common.join("packed-refs"))?;
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
