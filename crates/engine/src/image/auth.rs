//! Credentials for a registry.
//!
//! Looked up in this order: Docker's config.json with its credential helpers, Podman's auth.json,
//! and for an ECR registry the caller's AWS identity. Otherwise none.

use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    Nobody,
    Password { user: String, password: String },
}

/// Asks ECR for user name and password, given a registry's name and Region.
pub type EcrPasswords = Arc<
    dyn Fn(String, String) -> BoxFuture<'static, Result<(String, String), String>> + Send + Sync,
>;

/// Who chose an image, which decides whose credentials are used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRequester {
    Caller,
    /// An untrusted file: no credentials are used. The hint tells the caller what to do about it.
    Stranger {
        hint: String,
    },
}

impl ImageRequester {
    /// The requester's credentials for a registry. Credential helpers are the caller's own programs
    /// and run here.
    pub async fn login(&self, registry: &str, ecr: &EcrPasswords) -> Result<Login, String> {
        match self {
            ImageRequester::Caller => credentials(registry, ecr).await,
            ImageRequester::Stranger { .. } => Ok(Login::Nobody),
        }
    }
}

async fn credentials(registry: &str, ecr: &EcrPasswords) -> Result<Login, String> {
    let name = registry.to_owned();
    let known = tokio::task::spawn_blocking(move || look_up(&name)).await;
    match known.map_err(|panic| panic.to_string())?? {
        Some(DockerCredential::UsernamePassword(user, password)) => {
            return Ok(Login::Password { user, password });
        }
        Some(DockerCredential::IdentityToken(_)) => {
            return Err(format!(
                "Docker's config.json has an identity token for {registry}, which cannot be used \
                 here; log in with a password or an access token: docker login {registry}"
            ));
        }
        None => {}
    }
    match ecr_region(registry) {
        Some(region) => {
            let (user, password) = ecr(registry.to_owned(), region.to_owned()).await?;
            Ok(Login::Password { user, password })
        }
        None => Ok(Login::Nobody),
    }
}

fn look_up(registry: &str) -> Result<Option<DockerCredential>, String> {
    // The config lists Docker's own registry under an old name.
    let docker_name = match registry {
        "docker.io" | "index.docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    let found = known(docker_credential::get_credential(docker_name), "Docker's config.json")?;
    if found.is_some() {
        return Ok(found);
    }
    let found = known(docker_credential::get_podman_credential(registry), "Podman's auth.json")?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let Some(home) = home.filter(|_| found.is_none()) else { return Ok(found) };
    // Podman keeps lasting credentials here.
    match std::fs::File::open(home.join(".config/containers/auth.json")) {
        Ok(file) => known(
            docker_credential::get_credential_from_reader(file, registry),
            "~/.config/containers/auth.json",
        ),
        Err(_) => Ok(None),
    }
}

/// A lookup's result, with "no credentials" as `None`.
fn known(
    answer: Result<DockerCredential, CredentialRetrievalError>,
    whose: &str,
) -> Result<Option<DockerCredential>, String> {
    use CredentialRetrievalError::{
        ConfigNotFound, ConfigReadError, HelperFailure, NoCredentialConfigured,
    };
    match answer {
        Ok(credential) => Ok(Some(credential)),
        Err(ConfigNotFound | ConfigReadError | NoCredentialConfigured) => Ok(None),
        // A helper's message if it has no credentials.
        Err(HelperFailure { ref stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(error) => Err(format!("{whose}: {error}")),
    }
}

/// The Region in an ECR registry's name.
fn ecr_region(registry: &str) -> Option<&str> {
    let mut parts = registry.split('.');
    let account = parts.next()?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let is_ecr = is_account
        && parts.next() == Some("dkr")
        && matches!(parts.next(), Some("ecr" | "ecr-fips"));
    let region = parts.next().filter(|_| is_ecr)?;
    let rest: Vec<&str> = parts.collect();
    matches!(rest.as_slice(), ["amazonaws", "com"] | ["amazonaws", "com", "cn"]).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_ecr_are_known_by_their_names() {
        for (registry, region) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", Some("us-east-1")),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.org", None),
            ("12345678901.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("public.ecr.aws", None),
            ("docker.io", None),
        ] {
            assert_eq!(ecr_region(registry), region, "{registry}");
        }
    }
}
