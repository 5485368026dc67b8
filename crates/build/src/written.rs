//! Paths of this machine that a request names for writing, and the check that none of them belongs
//! to git.

use super::opened::Unusable;
use super::request::BuildRequest;
use runner_outputs::{ArtifactDestination, OutputStore};
use std::path::{Component, Path, PathBuf};

/// Options that name a path to write to.
pub const WRITTEN: [&str; 7] =
    ["session-log", "reports", "artifacts", "cache", "log-file", "build-json", "id-file"];

/// The paths that a request names for writing, with their options.
fn written_places(request: &BuildRequest) -> Vec<(&'static str, PathBuf)> {
    let folder = |store: &OutputStore| match store {
        OutputStore::Folder(folder) => Some(folder.clone()),
        OutputStore::Bucket(_) => None,
    };
    let destination = |to: &ArtifactDestination| {
        let folder = folder(&to.store)?;
        Some(to.settings.name.as_ref().map_or(folder.clone(), |name| folder.join(name)))
    };
    let outputs = &request.outputs;
    let [session_log, reports, artifacts, cache, log_file, build_json, id_file] = WRITTEN;
    let mut places = Vec::new();
    let mut add = |option, place: Option<PathBuf>| places.extend(place.map(|path| (option, path)));
    add(session_log, request.sessions.log.clone());
    add(reports, outputs.reports.clone());
    for to in outputs
        .artifacts
        .iter()
        .flat_map(|all| [&all.primary].into_iter().chain(all.secondary.values()))
    {
        add(artifacts, destination(to));
    }
    add(cache, outputs.cache.as_ref().and_then(|cache| folder(&cache.store)));
    add(log_file, outputs.log_file.clone());
    add(build_json, outputs.build_json.clone());
    add(id_file, outputs.id_file.clone());
    places
}

/// Rejects paths that git uses below a source.
pub(super) fn keep_out_of_git(request: &BuildRequest) -> Result<(), Unusable> {
    let secondary = request.secondary_sources.iter().map(|(_, dir)| dir.as_path());
    let sources: Vec<&Path> = [request.source.as_path()].into_iter().chain(secondary).collect();
    let found = written_places(request)
        .into_iter()
        .find_map(|(option, place)| Some((option, in_git(&place, &sources)?, place.clone())));
    let Some((option, source, place)) = found else { return Ok(()) };
    let message = format!(
        "--{option}: {} lies in what git keeps of the source {}, where nothing is written",
        place.display(),
        source.display()
    );
    let hint = Some("git runs programs that lie there; name another place");
    Err(Unusable { message, hint, is_usage: true })
}

/// The source below which git uses this path, after following links. Nothing may write there: it
/// holds programs that git runs on this machine.
fn in_git<'s>(path: &Path, sources: &[&'s Path]) -> Option<&'s Path> {
    let whole = led_to(path)?;
    let is_git = |part: Component<'_>| part.as_os_str().eq_ignore_ascii_case(".git");
    let keeps = |source: &&&Path| {
        whole.strip_prefix(source).is_ok_and(|below| below.components().any(is_git))
    };
    sources.iter().find(keeps).copied()
}

/// Removes `.` and doubled slashes.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Resolves a path, also through links to missing files.
fn led_to(path: &Path) -> Option<PathBuf> {
    const MAX_LINKS: usize = 40;
    let mut path = plain(&std::path::absolute(path).ok()?);
    for _ in 0..MAX_LINKS {
        let there = path.ancestors().find(|path| std::fs::symlink_metadata(path).is_ok())?;
        let rest = path.strip_prefix(there).ok()?;
        let Ok(mut whole) = std::fs::canonicalize(there) else {
            let link = std::fs::read_link(there).ok()?;
            path = plain(&there.parent()?.join(link).join(rest));
            continue;
        };
        // In the missing part, `..` is resolved by text.
        for part in rest.components() {
            match part {
                Component::ParentDir => drop(whole.pop()),
                Component::Normal(name) => whole.push(name),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        return Some(whole);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_git_keeps_is_found_whichever_way_leads_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let source = std::fs::canonicalize(dir.path()).expect("is there").join("source");
        std::fs::create_dir_all(source.join(".git/hooks")).expect("made");
        symlink(".git/hooks", source.join("out")).expect("made");
        symlink("source", dir.path().join("also")).expect("made");
        symlink(".git/hooks/none", source.join("none-yet")).expect("made");
        symlink("none-yet", source.join("none-either")).expect("made");
        symlink("itself", source.join("itself")).expect("made");
        let sources = [source.as_path()];
        for (path, is_git) in [
            ("source/.git/hooks", true),
            ("source/.git/x/y", true),
            ("source/.GIT/x", true),
            ("source/sub/module/.git/config", true),
            ("source/out/x", true),
            ("also/.git/x", true),
            ("source/none-yet", true),
            ("source/none-either", true),
            ("source/none-yet/", true),
            ("source/itself", false),
            ("source/none/../.git/x", true),
            ("source/.gitlab/x", false),
            ("source/dist", false),
            ("elsewhere/.git/x", false),
        ] {
            let found = in_git(&dir.path().join(path), &sources);
            assert_eq!(found.is_some(), is_git, "{path}");
        }
    }
}
