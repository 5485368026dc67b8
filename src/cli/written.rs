//! Places of this machine that options of `runner run` name for writing, and the one kind of place that
//! none of them may name.

use super::error::CliError;
use super::reach;
use super::run_args::RunArgs;
use runner_outputs::Store;
use std::path::{Component, Path, PathBuf};

/// Places of this machine that options name for writing, with their options.
fn written_places(args: &RunArgs) -> Vec<(&'static str, PathBuf)> {
    let artifacts = args.artifacts.as_ref().and_then(|to| {
        let Store::Folder(folder) = &to.store else { return None };
        Some(to.settings.name.as_ref().map_or(folder.clone(), |name| folder.join(name)))
    });
    let cache = args.cache.as_ref().and_then(|store| match store {
        Store::Folder(folder) => Some(folder.clone()),
        Store::Bucket(_) => None,
    });
    let places = [
        ("session-log", args.session_log.clone()),
        ("reports", args.reports.clone()),
        ("artifacts", artifacts),
        ("cache", cache),
        ("log-file", args.log_file.clone()),
        ("build-json", args.build_json.clone()),
    ];
    places.into_iter().filter_map(|(option, place)| Some((option, place?))).collect()
}

/// Refuses to write into what git keeps below a source.
pub(super) fn keep_out_of_git(args: &RunArgs, source: &Path) -> Result<(), CliError> {
    let secondary = args.secondary_source.iter().map(|(_, dir)| dir.as_path());
    let sources: Vec<&Path> = [source].into_iter().chain(secondary).collect();
    let found = written_places(args)
        .into_iter()
        .find_map(|(option, place)| Some((option, in_git(&place, &sources)?, place.clone())));
    let Some((option, source, place)) = found else { return Ok(()) };
    Err(CliError::usage(format!(
        "--{option}: {} lies in what git keeps of the source {}, where nothing is written",
        place.display(),
        source.display()
    ))
    .hint("git runs programs that lie there; name another place"))
}

/// The part of a path that git keeps below one of these sources, whichever links lead there. Nothing
/// writes there, whoever asks: what lies there are programs that git runs on this machine.
fn in_git<'s>(path: &Path, sources: &[&'s Path]) -> Option<&'s Path> {
    let whole = led_to(path)?;
    let is_git = |part: Component<'_>| part.as_os_str().eq_ignore_ascii_case(".git");
    let keeps = |source: &&&Path| {
        whole.strip_prefix(source).is_ok_and(|below| below.components().any(is_git))
    };
    sources.iter().find(keeps).copied()
}

/// Where a path leads, also through links to what is not there yet.
fn led_to(path: &Path) -> Option<PathBuf> {
    const MAX_LINKS: usize = 40;
    let mut path = reach::plain(&std::path::absolute(path).ok()?);
    for _ in 0..MAX_LINKS {
        let there = path.ancestors().find(|path| std::fs::symlink_metadata(path).is_ok())?;
        let rest = path.strip_prefix(there).ok()?;
        let Ok(mut whole) = std::fs::canonicalize(there) else {
            let link = std::fs::read_link(there).ok()?;
            path = reach::plain(&there.parent()?.join(link).join(rest));
            continue;
        };
        // `..` of what is not there yet leads to where it looks.
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
    use crate::cli::reach::{FIELDS, Reach};
    use clap::{Args, Command, FromArgMatches};
    use std::os::unix::fs::symlink;

    #[test]
    fn every_option_that_writes_is_kept_out_of_git() {
        let written: Vec<_> = FIELDS.iter().filter(|field| field.reach == Reach::Written).collect();
        let words = written.iter().map(|field| format!("--{}=/x/y.zip", field.name));
        let command = <RunArgs as Args>::augment_args(Command::new("run"));
        let matches = command.try_get_matches_from(["run".to_owned()].into_iter().chain(words));
        let args = RunArgs::from_arg_matches(&matches.expect("parses")).expect("fits");
        let places: Vec<_> = written_places(&args);
        assert_eq!(places.len(), written.len());
        for field in written {
            let place = places.iter().find(|(option, _)| *option == field.name);
            assert_eq!(place.expect("is one").1, Path::new("/x/y.zip"), "{}", field.name);
        }
    }

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
