//! The key pair of this machine's endpoints, made on first use and kept.
//!
//! A credentials file in the format of AWS's tools, readable by the caller alone. It grants only
//! what the caller could do anyway, with `runner attach`.

use aws_credential_types::Credentials;
use runner_folder::state::random;
use runner_folder::state::{Home, StateError};
use runner_host::private::write_durably;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The profile of the key pair in the file.
pub const PROFILE: &str = "runner";
/// The alphabet of AWS's access key ids.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new access key: its id and its secret.
pub(super) fn new_pair() -> io::Result<(String, String)> {
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte & 31)]);
    let id: String = random::<16>()?.iter().map(letter).collect();
    let secret: String = random::<20>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((format!("AKIA{id}"), secret))
}

/// The id of a new user.
pub(super) fn new_user_id() -> io::Result<String> {
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte & 31)]);
    Ok(format!("AIDA{}", random::<17>()?.iter().map(letter).collect::<String>()))
}

/// An access key and its secret.
#[derive(Clone)]
pub struct KeyPair {
    pub(super) id: String,
    pub(super) secret: String,
    path: PathBuf,
}

impl KeyPair {
    /// The path of this state folder's file, which may not exist yet.
    pub fn place(home: &Home) -> PathBuf {
        home.root().join("aws-credentials")
    }

    /// The key pair of this state folder, made if missing.
    pub fn open(home: &Home) -> Result<Self, StateError> {
        let path = Self::place(home);
        let failed = |doing| move |error| StateError::new(doing, &Self::place(home), error);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mode = fs::metadata(&path).map_err(failed("look at"))?.mode();
                if mode & 0o077 != 0 {
                    let error = io::Error::other("others may read it: chmod 600, or remove it");
                    return Err(StateError::new("use", &path, error));
                }
                Self::parse(&text, &path).ok_or_else(|| {
                    let error = io::Error::other("it contains no key pair: remove it");
                    StateError::new("use", &path, error)
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pair = Self::make(&path).map_err(failed("make"))?;
                // If two processes make it at once, the file holds one of them.
                let text = fs::read_to_string(&path).map_err(failed("read"))?;
                Ok(Self::parse(&text, &path).unwrap_or(pair))
            }
            Err(error) => Err(failed("read")(error)),
        }
    }

    /// The key pair of this state folder, if it exists.
    pub fn existing(home: &Home) -> Result<Option<Self>, StateError> {
        match fs::symlink_metadata(Self::place(home)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Self::open(home).map(Some),
        }
    }

    /// Credentials for signing calls.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(&self.id, &self.secret, None, None, "runner")
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn make(path: &Path) -> io::Result<Self> {
        let (id, secret) = new_pair()?;
        let pair = KeyPair { id, secret, path: path.to_path_buf() };
        let keys =
            format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", pair.id, pair.secret);
        let text = format!(
            "# Made by runner: opens its own endpoint on this machine and nothing at AWS.\n\
             [default]\n{keys}[{PROFILE}]\n{keys}"
        );
        write_durably(path, text.as_bytes())?;
        Ok(pair)
    }

    fn parse(text: &str, path: &Path) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name && !value.trim().is_empty()).then(|| value.trim().to_owned())
            })
        };
        Some(KeyPair {
            id: value("aws_access_key_id")?,
            secret: value("aws_secret_access_key")?,
            path: path.to_path_buf(),
        })
    }
}

#[cfg(test)]
impl KeyPair {
    pub(super) fn for_tests(id: &str, secret: &str) -> Self {
        KeyPair { id: id.to_owned(), secret: secret.to_owned(), path: PathBuf::new() }
    }
}
