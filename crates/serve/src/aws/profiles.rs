//! Users' keys from the host's AWS files. Read at each call, so that changes by `aws sso login` or
//! by hand take effect at once.

use aws_credential_types::Credentials;
use runner_cloud::KeysInFiles;
use runner_core::iam::{Directory, IamUser};

/// The user of a key, and the credentials.
pub(super) async fn of_key<'d>(
    directory: &'d Directory,
    id: &str,
) -> Option<(&'d IamUser, Credentials)> {
    directory.profiles().next()?;
    let keys = match KeysInFiles::read().await {
        Ok(keys) => keys,
        Err(error) => {
            // Debug level, since anyone can cause this by a call.
            tracing::debug!(error, "cannot read AWS's files");
            return None;
        }
    };
    found(directory, id, |profile| keys.of(profile))
}

fn found<'d>(
    directory: &'d Directory,
    id: &str,
    keys: impl Fn(&str) -> Option<Credentials>,
) -> Option<(&'d IamUser, Credentials)> {
    let all = directory.profiles().filter_map(|(user, name)| Some((user, keys(name)?)));
    let mut all = all.filter(|(_, keys)| keys.access_key_id() == id);
    let first = all.next()?;
    // A key in the profiles of two users is refused: a choice would be a guess.
    all.all(|(user, _)| user.name == first.0.name).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_users() {
        let text = r#"{"users": [
            {"name": "ann", "keys": [{"aws-profile": "one"}, {"aws-profile": "off", "active": false}]},
            {"name": "eve", "keys": [{"aws-profile": "two"}, {"aws-profile": "three"}]}]}"#;
        let directory = Directory::parse(text, &[]).expect("a file");
        let keys = |profile: &str| {
            let id = match profile {
                "one" => "AKIAONE",
                "off" => "AKIAOFF",
                "two" => "AKIATWO",
                _ => "AKIAONE",
            };
            Some(Credentials::new(id, profile, None, None, "test"))
        };
        let whose = |id: &str| found(&directory, id, keys).map(|(user, _)| user.name.clone());
        assert_eq!(whose("AKIATWO").as_deref(), Some("eve"));
        for id in ["AKIAONE", "AKIAOFF", "AKIANONE", ""] {
            assert_eq!(whose(id), None, "{id}");
        }
    }
}
