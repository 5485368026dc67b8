//! Documents of sessions and commands, stored by callers of the endpoint.
//!
//! ```text
//! documents/<name>/document.json  facts about the document and its versions
//! documents/<name>/<number>       content of a version, as given
//! documents/~lock                 locked with flock during a change; document names have no `~`
//! ```
//!
//! Several processes use them: a `runner serve`, and each build's endpoint. Readers take no lock. A
//! document exists while its `document.json` does, which is written last and removed first: a kill
//! half-way leaves no half document.

use super::home::Home;
use runner_core::document::{DocumentFormat, DocumentType, MAX_BYTES};
use runner_core::time::WallTime;
use runner_host::private::{make_private, remove_half_written, write_durably};
use runner_host::users;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FACTS: &str = "document.json";
/// Largest `document.json` in bytes: more than the facts of a thousand versions.
const MAX_FACTS: u64 = 4 << 20;

/// A document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    pub name: String,
    #[serde(rename = "type")]
    kind: String,
    pub owner: String,
    /// Number of the default version.
    pub default: u64,
    /// The highest version number so far.
    pub last: u64,
    /// Sorted by number; never empty.
    pub versions: Vec<StoredVersion>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub target_type: Option<String>,
}

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredVersion {
    pub number: u64,
    /// An optional name in addition to the number.
    pub name: Option<String>,
    format: String,
    /// SHA-256 of the content, in hexadecimal digits.
    pub hash: String,
    pub schema: String,
    pub description: Option<String>,
    /// Microseconds since 1970.
    created: i64,
}

impl Stored {
    pub fn new(name: &str, kind: DocumentType, owner: &str, first: StoredVersion) -> Self {
        Stored {
            name: name.to_owned(),
            kind: kind.name().to_owned(),
            owner: owner.to_owned(),
            default: first.number,
            last: first.number,
            versions: vec![first],
            tags: BTreeMap::new(),
            target_type: None,
        }
    }

    pub fn kind(&self) -> DocumentType {
        DocumentType::named(&self.kind).unwrap_or(DocumentType::Session)
    }

    pub fn version(&self, number: u64) -> Option<&StoredVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    pub fn latest(&self) -> Option<&StoredVersion> {
        self.versions.last()
    }
}

impl StoredVersion {
    pub fn new(
        number: u64,
        format: DocumentFormat,
        hash: String,
        schema: String,
        now: WallTime,
    ) -> Self {
        let format = format.name().to_owned();
        let created = now.0;
        StoredVersion { number, name: None, format, hash, schema, description: None, created }
    }

    pub fn format(&self) -> DocumentFormat {
        DocumentFormat::named(&self.format).unwrap_or(DocumentFormat::Json)
    }

    pub fn created(&self) -> WallTime {
        WallTime(self.created)
    }
}

/// All documents of a state folder.
#[derive(Clone, Debug)]
pub struct Documents {
    dir: PathBuf,
}

/// The right to change documents.
#[derive(Debug)]
pub struct DocumentsWriter<'a> {
    documents: &'a Documents,
    _lock: File,
}

impl Documents {
    pub fn of(home: &Home) -> Self {
        Documents { dir: home.root().join("documents") }
    }

    /// The documents' names, sorted.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str()
                && is_name(name)
                && entry.path().join(FACTS).is_file()
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The document of this name.
    pub fn find(&self, name: &str) -> io::Result<Option<Stored>> {
        let Some(dir) = self.folder(name) else { return Ok(None) };
        let path = dir.join(FACTS);
        let Some(text) = read(&path, MAX_FACTS)? else { return Ok(None) };
        let stored: Stored = serde_json::from_str(&text).map_err(|error| {
            io::Error::other(format!(
                "{} is damaged ({error}): remove {}",
                path.display(),
                dir.display()
            ))
        })?;
        Ok(Some(stored))
    }

    /// The content of a version.
    pub fn content(&self, name: &str, number: u64) -> io::Result<Option<String>> {
        match self.folder(name) {
            Some(dir) => read(&dir.join(number.to_string()), MAX_BYTES as u64),
            None => Ok(None),
        }
    }

    /// Takes the lock. Waits while another process changes documents.
    pub fn lock(&self) -> io::Result<DocumentsWriter<'_>> {
        make_private(&self.dir)?;
        let path = self.dir.join("~lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        users::give(&path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(DocumentsWriter { documents: self, _lock: lock })
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        is_name(name).then(|| self.dir.join(name))
    }
}

impl DocumentsWriter<'_> {
    /// Stores a document, and the content of its latest version if that is new.
    pub fn save(&self, document: &Stored, content: Option<&str>) -> io::Result<()> {
        let dir = self.documents.folder(&document.name).ok_or(io::ErrorKind::InvalidInput)?;
        make_private(&dir)?;
        // The lock is held, so nothing else is being written.
        remove_half_written(&dir, &[])?;
        if let (Some(content), Some(latest)) = (content, document.latest()) {
            write_durably(&dir.join(latest.number.to_string()), content.as_bytes())?;
        }
        write_durably(&dir.join(FACTS), &serde_json::to_vec(document)?)?;
        sync(&dir)?;
        sync(&self.documents.dir)
    }

    /// Removes a document.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let dir = self.documents.folder(name).ok_or(io::ErrorKind::InvalidInput)?;
        fs::remove_file(dir.join(FACTS))?;
        sync(&dir)?;
        // Without its facts the document is gone; leftovers would be found by the next one of this
        // name.
        fs::remove_dir_all(&dir)
    }

    /// Removes a version's content.
    pub fn remove_content(&self, name: &str, number: u64) -> io::Result<()> {
        let dir = self.documents.folder(name).ok_or(io::ErrorKind::InvalidInput)?;
        fs::remove_file(dir.join(number.to_string()))
    }
}

/// Syncs a folder, so that a power loss does not undo a confirmed change.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether the name can be a document's: it does not lead out of the folder and is not `~lock`.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (3..=128).contains(&name.len()) && name.chars().all(is_plain)
}

fn read(path: &Path, most: u64) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text)?;
    match text.len() as u64 > most {
        true => Err(io::Error::other(format!("{} is longer than {most} bytes", path.display()))),
        false => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn version(number: u64) -> StoredVersion {
        StoredVersion::new(
            number,
            DocumentFormat::Json,
            "ab".to_owned(),
            "1.0".to_owned(),
            WallTime(7),
        )
    }

    #[test]
    fn documents_are_kept_with_their_versions() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let documents = Documents::of(&home);
        assert_eq!(documents.names().expect("none"), Vec::<String>::new());
        assert_eq!(documents.find("mine").expect("none"), None);
        let mut mine = Stored::new("mine", DocumentType::Session, "owner", version(1));
        documents.lock().expect("the lock").save(&mine, Some("one")).expect("saved");
        mine.versions.push(version(2));
        documents.lock().expect("the lock").save(&mine, Some("two")).expect("saved");
        assert_eq!(documents.names().expect("names"), ["mine"]);
        let found = documents.find("mine").expect("read").expect("there");
        assert_eq!(found, mine);
        assert_eq!(
            (found.kind(), found.latest().map(|v| v.number)),
            (DocumentType::Session, Some(2))
        );
        assert_eq!(documents.content("mine", 1).expect("read").as_deref(), Some("one"));
        assert_eq!(documents.content("mine", 3).expect("read"), None);
        for name in
            ["documents", "documents/mine", "documents/mine/1", "documents/mine/document.json"]
        {
            let mode =
                fs::metadata(dir.path().join(name)).expect(name).permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        documents.lock().expect("the lock").remove("mine").expect("removed");
        assert_eq!(documents.find("mine").expect("none"), None);
        assert!(!dir.path().join("documents/mine").exists());
    }

    #[test]
    fn what_is_half_there_is_no_document() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let documents = Documents::of(&home);
        // As if killed before the facts were written.
        fs::create_dir_all(dir.path().join("documents/half")).expect("made");
        fs::write(dir.path().join("documents/half/1"), "x").expect("written");
        fs::write(dir.path().join("documents/half/.tmp-x"), "x").expect("written");
        assert!(documents.names().expect("names").is_empty());
        assert_eq!(documents.find("half").expect("none"), None);
        let half = Stored::new("half", DocumentType::Command, "owner", version(1));
        documents.lock().expect("the lock").save(&half, Some("whole")).expect("saved");
        assert_eq!(documents.content("half", 1).expect("read").as_deref(), Some("whole"));
        assert!(!dir.path().join("documents/half/.tmp-x").exists());
        for name in ["..", "../x", "a/b", "~lock", "a", "x y z", ""] {
            assert_eq!(documents.find(name).expect("none"), None, "{name}");
            assert_eq!(documents.content(name, 1).expect("none"), None, "{name}");
        }
        fs::write(dir.path().join("documents/half/document.json"), "{").expect("written");
        let error = documents.find("half").expect_err("damaged").to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
}
