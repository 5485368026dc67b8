//! Files named by a project file: they are trusted with their content, like the project file
//! itself.
//!
//! Used by `trust`. Stand-ins for programs, variables, secrets and certificates may come with the
//! source, like the project file, and change with it.

use super::trust::TrustNeed;
use super::{FileOption, open};
use crate::cli::reach::{Field, OptionReach, PathIn};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// Files by path, with digests of their content.
pub(super) type FileContents = BTreeMap<String, String>;

/// The file that an option's value names, if it needs trust. Images and directories do not count.
pub(super) fn file(field: &Field, value: Option<&str>, need: &TrustNeed) -> Option<PathBuf> {
    // Files that builds write change with each build.
    let is_written = matches!(field.reach, OptionReach::Written) || value?.ends_with(":rw");
    let names_one = !is_written
        && matches!(field.path, PathIn::Whole | PathIn::AfterEquals | PathIn::BeforeColon);
    let path = field.path(value?)?;
    (names_one && matches!(need, TrustNeed::Trust(_))).then(|| path.to_path_buf())
}

/// The content of the files that settings name.
pub(super) fn files<'s>(settings: impl IntoIterator<Item = &'s FileOption>) -> FileContents {
    let named = settings.into_iter().filter_map(|setting| setting.file.as_ref());
    named.map(|path| (path.display().to_string(), contents(path))).collect()
}

/// Files that have changed.
pub(super) fn changed(before: &FileContents, now: &FileContents) -> Vec<String> {
    now.iter()
        .filter(|(path, is)| before.get(*path) != Some(is))
        .map(|(path, _)| path.clone())
        .collect()
}

/// A digest of a file's content, or the reason why there is none.
fn contents(path: &Path) -> String {
    match digest(path) {
        Ok(Some(digest)) => digest,
        Ok(None) => "no file".to_owned(),
        Err(error) => error.kind().to_string(),
    }
}

fn digest(path: &Path) -> io::Result<Option<String>> {
    // Before it is opened: opening a device may have effects.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut file = open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    Ok(Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_known_by_what_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        let now = || FileContents::from([("a".to_owned(), contents(&path))]);
        let missing = now();
        fs::write(&path, "one").expect("written");
        let one = now();
        assert_eq!(changed(&missing, &one), ["a"]);
        fs::write(&path, "two").expect("written");
        assert_eq!(changed(&one, &now()), ["a"]);
        fs::write(&path, "one").expect("written");
        assert_eq!(changed(&one, &now()), Vec::<String>::new());
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert_eq!(contents(&path), "no file");
    }
}
