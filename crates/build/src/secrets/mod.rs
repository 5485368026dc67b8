//! Values that the buildspec takes from Parameter Store and Secrets Manager.
//!
//! Used by the driver when it prepares the environment. Values come from a file of the caller's
//! (`--secrets`), without a call to AWS, or else from AWS.

mod file;

pub use file::{GitCredential, SecretsFile};

use runner_cloud::{Amazon, CallError, CloudIdentity, PARAMETER_STORE, SECRETS_MANAGER};
use runner_core::machine::{BuildSetupError, Fetched, ValueRequests};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::spec::{SecretReference, SecretVariable, SecretVersion, SpecVariable};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Maximum parameters of one `GetParameters` call.
const BATCH: usize = 10;

/// The source of values.
#[derive(Debug)]
pub enum Vault {
    File(SecretsFile),
    Aws(CloudIdentity),
}

fn no_parameter(message: impl Into<String>, hint: Option<String>) -> BuildSetupError {
    BuildSetupError::new(PhaseContext::new(StatusCode::DecryptedVariablesError, message), hint)
}

fn no_secret(message: impl Into<String>, hint: Option<String>) -> BuildSetupError {
    BuildSetupError::new(PhaseContext::new(StatusCode::SecretsManagerError, message), hint)
}

impl Vault {
    /// Credentials for git.
    pub fn git_credentials(&self) -> Vec<GitCredential> {
        match self {
            Vault::File(file) => file.git_credentials(),
            Vault::Aws(_) => Vec::new(),
        }
    }

    /// Names and values of the variables, parameters first: if a secret has the same name, the
    /// secret wins.
    pub async fn fetch(&self, wanted: &ValueRequests) -> Result<Fetched, BuildSetupError> {
        let ValueRequests { parameters, secrets } = wanted;
        let values = match self {
            Vault::File(file) => {
                let parameters = parameters.iter().map(|wanted| {
                    file.parameter(&wanted.value).map_err(|error| error.at(wanted.span))
                });
                let secrets = secrets.iter().map(|wanted| {
                    file.secret(&wanted.secret).map_err(|error| error.at(wanted.span))
                });
                parameters.chain(secrets).collect::<Result<Vec<_>, _>>()?
            }
            Vault::Aws(identity) => from_aws(identity, parameters, secrets).await?,
        };
        let names = parameters.iter().map(|wanted| wanted.name.clone());
        let names = names.chain(secrets.iter().map(|wanted| wanted.name.clone()));
        Ok(Fetched(names.zip(values).collect()))
    }
}

async fn from_aws(
    identity: &CloudIdentity,
    parameters: &[SpecVariable],
    secrets: &[SecretVariable],
) -> Result<Vec<String>, BuildSetupError> {
    let aws = Amazon::load(identity).await;
    let mut found: HashMap<String, String> = HashMap::new();
    let mut names: Vec<&str> = parameters.iter().map(|wanted| wanted.value.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for names in names.chunks(BATCH) {
        let request = json!({"Names": names, "WithDecryption": true});
        let answer =
            aws.call(PARAMETER_STORE, "GetParameters", &request).await.map_err(|error| {
                let told = no_parameter(error.to_string(), hint(&error));
                match parameters.iter().find(|wanted| names.contains(&wanted.value.as_str())) {
                    Some(first) => told.at(first.span),
                    None => told,
                }
            })?;
        let text = |value: &Value, name: &str| value.get(name)?.as_str().map(str::to_owned);
        for parameter in answer["Parameters"].as_array().into_iter().flatten() {
            let Some(value) = text(parameter, "Value") else { continue };
            // A parameter may have been requested by its ARN, or by its name with a version or
            // label.
            let keys = ["Name", "ARN"].map(|key| text(parameter, key));
            let selector = text(parameter, "Selector").unwrap_or_default();
            for key in keys.into_iter().flatten() {
                found.insert(format!("{key}{selector}"), value.clone());
            }
        }
    }
    let mut values = Vec::new();
    for wanted in parameters {
        let value = found.get(&wanted.value).cloned().ok_or_else(|| {
            let message = format!("parameter does not exist: {}", wanted.value);
            let place = format!("looked for in Parameter Store of {}", aws.region());
            no_parameter(message, Some(place)).at(wanted.span)
        });
        values.push(value?);
    }
    // Several keys of one secret need only one call.
    let mut texts: Vec<(&SecretReference, String)> = Vec::new();
    for wanted in secrets {
        let secret = &wanted.secret;
        let is_same = |other: &&(&SecretReference, String)| {
            other.0.id == secret.id && other.0.version == secret.version
        };
        let text = match texts.iter().find(is_same) {
            Some((_, text)) => text.clone(),
            None => {
                let text = secret_text(&aws, secret).await;
                let text = text.map_err(|error| error.at(wanted.span))?;
                texts.push((secret, text.clone()));
                text
            }
        };
        values.push(match &secret.json_key {
            None => text,
            Some(key) => json_key(&text, key).ok_or_else(|| {
                let message = format!("the secret {} has no key {key}", secret.id);
                no_secret(message, None).at(wanted.span)
            })?,
        });
    }
    Ok(values)
}

async fn secret_text(aws: &Amazon, wanted: &SecretReference) -> Result<String, BuildSetupError> {
    let mut request = json!({"SecretId": wanted.id});
    match &wanted.version {
        SecretVersion::Stage(stage) => request["VersionStage"] = json!(stage),
        SecretVersion::Id(id) => request["VersionId"] = json!(id),
    }
    let answer = aws
        .call(SECRETS_MANAGER, "GetSecretValue", &request)
        .await
        .map_err(|error| no_secret(error.to_string(), hint(&error)))?;
    answer["SecretString"].as_str().map(str::to_owned).ok_or_else(|| {
        no_secret(
            format!("the secret {} is binary, and a variable cannot hold it", wanted.id),
            None,
        )
    })
}

/// A hint how the build can still get its values.
fn hint(error: &CallError) -> Option<String> {
    let offline = "give values from a file with --secrets FILE, or single ones with -e NAME=VALUE";
    match error {
        CallError::Credentials(_) => {
            Some(format!("log in to AWS, name a profile with --aws-profile, or {offline}"))
        }
        CallError::Unreachable { .. } => Some(format!("without AWS, {offline}")),
        CallError::Service { .. } => None,
    }
}

/// The value of a key in a JSON text: strings as they are, everything else as JSON.
fn json_key(text: &str, key: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
