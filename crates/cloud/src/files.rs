//! Keys as they stand in the host's AWS files. Nobody is asked for any: a profile that gets its keys elsewhere has none.

use aws_config::profile::{self, ProfileSet};
use aws_credential_types::Credentials;
use aws_types::os_shim_internal::{Env, Fs};

/// What the files say.
#[derive(Debug)]
pub struct KeysInFiles(ProfileSet);

impl KeysInFiles {
    /// Reads the files, where every AWS tool has them.
    ///
    /// # Errors
    /// They cannot be read, in words.
    pub async fn read() -> Result<Self, String> {
        let read = profile::load(&Fs::real(), &Env::real(), &Default::default(), None).await;
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
