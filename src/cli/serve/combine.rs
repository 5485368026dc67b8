//! Combines the artifacts of a batch's builds into one tree: a later build's file replaces an
//! earlier one's.

#![deny(clippy::disallowed_methods)]

use runner_folder::state::BatchDir;
use runner_host::beneath::{Dir, DirectoryCursor};
use rustix::fs::FileType;
use serde_json::json;
use std::io;
use std::path::PathBuf;

/// Maximum number of replaced files that are reported with their builds.
const MOST_TOLD: usize = 100;

/// Name of the tree in the batch's folder.
const NAME: &str = "combined";

/// A combined tree.
pub(super) struct Combined {
    pub(super) dir: PathBuf,
    /// Files from several builds: the file, and the build whose version is kept.
    pub(super) twice: Vec<(String, String)>,
    is_empty: bool,
}

/// Combines the artifacts of the named builds, in order.
pub(super) fn combine(batch: &BatchDir, parts: &[String]) -> io::Result<Combined> {
    let dir = batch.path().join(NAME);
    let above = Dir::top(batch.path())?;
    above.remove_tree(NAME)?;
    let mut to = DirectoryCursor::new(above.make(NAME, 0o700)?);
    let (mut twice, mut is_empty) = (Vec::new(), true);
    for part in parts {
        let from = match Dir::top(&batch.artifacts(part)) {
            // It has no artifacts.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            from => from?,
        };
        from.walk(|item| -> io::Result<()> {
            let (place, name) = to.find_or_make(item.path, 0o755)?;
            let there = place.look(name)?;
            match item.kind {
                FileType::Directory => match there {
                    Some(stat) if runner_host::beneath::kind(&stat) == FileType::Directory => {
                        Ok(())
                    }
                    Some(_) => {
                        place.remove_file(name)?;
                        place.make(name, 0o755).map(drop)
                    }
                    None => place.make(name, 0o755).map(drop),
                },
                FileType::RegularFile => {
                    is_empty = false;
                    if there.is_some() {
                        place.remove_tree(name)?;
                        twice.push((String::from_utf8_lossy(item.path).into_owned(), part.clone()));
                    }
                    item.place.hard_link(item.name, place, name)
                }
                // Other types of files are not artifacts.
                _ => Ok(()),
            }
        })?;
    }
    Ok(Combined { dir, twice, is_empty })
}

impl Combined {
    /// A buildspec that reports duplicates and keeps the whole tree as its artifact.
    pub(super) fn buildspec(&self) -> String {
        let told = self.twice.iter().take(MOST_TOLD).map(|(file, part)| {
            let plain: String =
                file.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            format!(
                "echo {}",
                quoted(&format!("{plain}: several builds wrote it; the one of {part} is kept"))
            )
        });
        let mut commands: Vec<String> = told.collect();
        if let more @ 1.. = self.twice.len().saturating_sub(MOST_TOLD) {
            commands.push(format!("echo 'and {more} more files'"));
        }
        let mut spec = json!({"version": 0.2, "phases": {"build": {"commands": commands}}});
        if !self.is_empty {
            spec["artifacts"] = json!({"files": ["**/*"]});
        }
        spec.to_string()
    }
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_folder::state::Home;
    use std::fs;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "folders of the test's alone")]
    fn a_later_build_goes_before_and_that_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let batch = BatchDir::of_service(&home, "b").expect("a folder");
        for (part, file, text) in [
            ("one", "a/same", "1"),
            ("one", "a/b", "file"),
            ("one", "only", "1"),
            ("two", "a/same", "2"),
            ("two", "a/b/c", "deep"),
            ("two", "it's", "2"),
        ] {
            let path = batch.artifacts(part).join(file);
            fs::create_dir_all(path.parent().expect("above")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        let parts = ["one", "none", "two"].map(str::to_owned);
        // Twice, because a killed run leaves a partial tree.
        for _ in 0..2 {
            let combined = combine(&batch, &parts).expect("combined");
            let read = |file: &str| fs::read_to_string(combined.dir.join(file)).expect("a file");
            assert_eq!(
                (read("a/same"), read("a/b/c"), read("only")),
                ("2".into(), "deep".into(), "1".into())
            );
            assert_eq!(combined.twice, [("a/same".to_owned(), "two".to_owned())]);
            assert!(combined.buildspec().contains("a/same: several builds"));
            assert!(combined.buildspec().contains("**/*"));
        }
        let none = combine(&batch, &["none".to_owned()]).expect("nothing");
        assert!(!none.buildspec().contains("artifacts"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
