//! Access keys stored in the host's AWS files. Only keys written there count: a profile that gets
//! its keys from a role, a program or a login has none.

use aws_config::profile::{self, ProfileSet};
use aws_credential_types::Credentials;
use aws_types::os_shim_internal::{Env, Fs};
use std::env::var_os;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The profiles in the files.
#[derive(Debug)]
pub struct KeysInFiles(ProfileSet);

impl KeysInFiles {
    /// Reads the files from the usual places of AWS tools.
    ///
    /// # Errors
    /// If they cannot be read, with the reason as text.
    pub async fn read() -> Result<Self, String> {
        Self::read_from(&Fs::real(), &Env::real()).await
    }

    async fn read_from(fs: &Fs, env: &Env) -> Result<Self, String> {
        let read = profile::load(fs, env, &Default::default(), None).await;
        read.map(KeysInFiles).map_err(|error| super::chain(&error))
    }

    /// The keys of a profile.
    pub fn of(&self, profile: &str) -> Option<Credentials> {
        let profile = self.0.get_profile(profile)?;
        let get = |name: &str| profile.get(name).filter(|value| !value.is_empty());
        let (id, secret) = (get("aws_access_key_id")?, get("aws_secret_access_key")?);
        let token = get("aws_session_token").map(str::to_owned);
        Some(Credentials::new(id, secret, token, None, "profile"))
    }
}

/// The version of both files on disk. If it differs, they have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSeen([Option<FileVersion>; 2]);

/// A file's inode, modification time (seconds, nanoseconds) and size.
type FileVersion = (u64, i64, i64, u64);

impl FilesSeen {
    /// The current version. Reads file metadata.
    pub fn now() -> Self {
        let files = [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
        FilesSeen(files.map(|(variable, usual)| {
            let seen = metadata(place(variable, usual)?).ok()?;
            Some((seen.ino(), seen.mtime(), seen.mtime_nsec(), seen.size()))
        }))
    }
}

/// The path of a file: from its variable, in which a leading `~` is the home, else in `.aws`.
fn place(variable: &str, usual: &str) -> Option<PathBuf> {
    let home = || var_os("HOME").map(PathBuf::from);
    match var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) {
        Some(path) => match path.strip_prefix("~") {
            Ok(rest) => Some(home()?.join(rest)),
            Err(_) => Some(path),
        },
        None => Some(home()?.join(".aws").join(usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile whose keys come from a role, a program or a login has none here.
    #[tokio::test]
    async fn keys_that_come_from_elsewhere_are_none() {
        let config = "\
[profile own]
aws_access_key_id = AKIAOWN
aws_secret_access_key = secret
aws_session_token = token
[profile by-role]
role_arn = arn:aws:iam::111111111111:role/r
source_profile = own
[profile by-program]
credential_process = /bin/keys
[profile by-login]
sso_session = s
sso_account_id = 1
sso_role_name = r
[profile half]
aws_access_key_id = AKIAHALF
";
        let fs = Fs::from_slice(&[("config", config)]);
        let env = Env::from_slice(&[("AWS_CONFIG_FILE", "config"), ("HOME", "/")]);
        let keys = KeysInFiles::read_from(&fs, &env).await.expect("files");
        let own = keys.of("own").expect("keys");
        assert_eq!((own.access_key_id(), own.session_token()), ("AKIAOWN", Some("token")));
        for profile in ["by-role", "by-program", "by-login", "half", "none", "default"] {
            assert!(keys.of(profile).is_none(), "{profile}");
        }
    }
}
