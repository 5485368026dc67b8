//! Client of AWS: identities, and calls of its JSON services.
//!
//! Used by `secrets` and by `credentials`. Credentials, Region and endpoints come from the usual
//! sources of AWS tools: variables, profiles, sso-session, credential_process, containers,
//! instances. An SDK for each of two small JSON services would be too much (design decision 27): a
//! call is a JSON post signed by `aws-sigv4`, and S3 (`s3`) is a few requests more. Proxy variables
//! are honoured.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

mod digest;
pub mod ecr;
mod files;
pub mod kms;
pub mod logs;
mod patience;
pub mod s3;
mod sign;
mod transport;

pub use files::{FilesSeen, KeysInFiles};
pub use runner_core::arn::{ACCOUNT, REGION};

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sign::SigningScope;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use transport::{CONNECT, ChainClient, READ, Transport};

/// Attempts for one call, and the pause before the second one.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// Most bytes of a response that are read.
const MAX_ANSWER: usize = 16 << 20;

/// An AWS service.
#[derive(Clone, Copy, Debug)]
pub struct CloudService {
    /// Its name in host names and signatures.
    name: &'static str,
    /// Its name in configuration files.
    id: &'static str,
    /// The variable that sets another endpoint.
    variable: &'static str,
    /// The prefix of an operation's name in `X-Amz-Target`.
    target: &'static str,
}

impl CloudService {
    /// The variable that sets another endpoint.
    pub fn variable(self) -> &'static str {
        self.variable
    }
}

pub const PARAMETER_STORE: CloudService =
    CloudService { name: "ssm", id: "ssm", variable: "AWS_ENDPOINT_URL_SSM", target: "AmazonSSM" };
pub const SECRETS_MANAGER: CloudService = CloudService {
    name: "secretsmanager",
    id: "secrets_manager",
    variable: "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    target: "secretsmanager",
};

const ECR: CloudService = CloudService {
    name: "ecr",
    id: "ecr",
    variable: "AWS_ENDPOINT_URL_ECR",
    target: "AmazonEC2ContainerRegistry_V20150921",
};
pub const CODEBUILD: CloudService = CloudService {
    name: "codebuild",
    id: "codebuild",
    variable: "AWS_ENDPOINT_URL_CODEBUILD",
    target: "CodeBuild_20161006",
};
/// Called by `s3`, whose requests differ; listed here for its endpoint.
pub const SIMPLE_STORAGE: CloudService =
    CloudService { name: "s3", id: "s3", variable: "AWS_ENDPOINT_URL_S3", target: "" };
pub const CLOUDWATCH_LOGS: CloudService = CloudService {
    name: "logs",
    id: "cloudwatch_logs",
    variable: "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    target: "Logs_20140328",
};

pub const KMS: CloudService = CloudService {
    name: "kms",
    id: "kms",
    variable: "AWS_ENDPOINT_URL_KMS",
    target: "TrentService",
};

/// The source of credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudIdentity {
    /// The first credentials that the chain finds.
    Default,
    /// A profile of the configuration files.
    Profile(String),
    /// Only the keys in the caller's own variables.
    Environment,
}

/// AWS, called with one identity.
#[derive(Clone, Debug)]
pub struct Amazon {
    config: SdkConfig,
    client: Result<reqwest::Client, String>,
    /// Overrides the configured Region.
    region: Option<String>,
    /// The most recent credentials.
    found: Arc<Mutex<Option<Credentials>>>,
    /// Endpoints by service name, used if nothing else sets one.
    endpoints: Vec<(&'static str, String)>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There are no credentials.
    #[error("no AWS credentials can be had: {0}")]
    Credentials(String),
    /// The service refused the call.
    #[error("{code}: {message}")]
    Service { code: String, message: String },
    /// There was no response, or an unreadable one.
    #[error("cannot reach {endpoint}: {problem}")]
    Unreachable { endpoint: String, problem: String },
}

/// Credentials that expire within this time are renewed.
const SOON: Duration = Duration::from_secs(60);

impl Amazon {
    /// Loads the configuration. Makes no call.
    pub async fn load(identity: &CloudIdentity) -> Self {
        let client = SharedHttpClient::new(ChainClient::default());
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(client.clone());
        match identity {
            CloudIdentity::Default => {}
            CloudIdentity::Profile(name) => {
                // The profile's own credentials, even if variables hold others.
                let provider = aws_config::profile::ProfileFileCredentialsProvider::builder()
                    .configure(&ProviderConfig::default().with_http_client(client.clone()))
                    .profile_name(name)
                    .build();
                loader = loader.profile_name(name).credentials_provider(provider);
            }
            CloudIdentity::Environment => {
                loader = loader.credentials_provider(EnvironmentVariableCredentialsProvider::new());
            }
        }
        let reach = Transport { connect: Some(CONNECT), read: Some(READ), is_proxied: true };
        Amazon {
            config: loader.load().await,
            client: reach.client(),
            region: None,
            found: Arc::default(),
            endpoints: Vec::new(),
        }
    }

    /// The same client for another Region.
    pub fn in_region(self, region: &str) -> Self {
        Amazon { region: Some(region.to_owned()), ..self }
    }

    /// Sets an endpoint of a service, used unless a variable or a file names one for it. Ignores an
    /// empty URL.
    pub fn with_endpoint(mut self, service: CloudService, url: &str) -> Self {
        if !url.is_empty() {
            self.endpoints.push((service.name, url.to_owned()));
        }
        self
    }

    pub fn region(&self) -> &str {
        let configured = || self.config.region().map(AsRef::as_ref);
        self.region.as_deref().or_else(configured).unwrap_or(REGION)
    }

    /// Credentials that have not expired.
    pub async fn credentials(&self) -> Result<Credentials, CallError> {
        // If many callers ask at once, one looks and the others wait for it.
        let mut found = self.found.lock().await;
        let until = SystemTime::now() + SOON;
        let is_good = |found: &Credentials| found.expiry().is_none_or(|expiry| expiry > until);
        if let Some(good) = found.as_ref().filter(|found| is_good(found)) {
            return Ok(good.clone());
        }
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| CallError::Credentials("none are configured".to_owned()))?;
        let provided = provider.provide_credentials().await;
        let provided = provided.map_err(|error| CallError::Credentials(chain(&error)))?;
        Ok(found.insert(provided).clone())
    }

    /// Calls an operation. Retries failures that may pass.
    pub async fn call(
        &self,
        service: CloudService,
        operation: &str,
        body: &Value,
    ) -> Result<Value, CallError> {
        let credentials = self.credentials().await?;
        let mut attempt = 1;
        loop {
            match self.call_once(service, operation, body, &credentials).await {
                Err(error) if attempt < ATTEMPTS && error.may_pass() => {
                    tracing::debug!(%error, attempt, operation, "trying again");
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn call_once(
        &self,
        service: CloudService,
        operation: &str,
        body: &Value,
        credentials: &Credentials,
    ) -> Result<Value, CallError> {
        let call = CloudCall { service, operation, body, credentials };
        post(&self.client, &self.endpoint(service), self.region(), call).await
    }

    /// The endpoint of a service: the one set for it, else the one set for all, else AWS's own.
    pub fn endpoint(&self, service: CloudService) -> String {
        self.given_endpoint(service).unwrap_or_else(|| {
            let region = self.region();
            format!("https://{}.{region}.{}", service.name, domain(region))
        })
    }

    /// The configured endpoint, if it is not AWS's own.
    pub fn given_endpoint(&self, service: CloudService) -> Option<String> {
        let own = std::env::var(service.variable).ok().filter(|url| !url.is_empty());
        let of_service = || {
            let key = ServiceConfigKey::builder()
                .service_id(service.id)
                .env("AWS_ENDPOINT_URL")
                .profile("endpoint_url")
                .build();
            self.config.service_config()?.load_config(key.ok()?)
        };
        let here = || {
            let mut here = self.endpoints.iter();
            here.find(|(name, _)| *name == service.name).map(|(_, url)| url.clone())
        };
        let of_all = || self.config.endpoint_url().map(str::to_owned);
        own.or_else(of_service).or_else(here).or_else(of_all)
    }
}

/// The domain of AWS's services in a Region.
fn domain(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ if region.starts_with("eusc-") => "amazonaws.eu",
        _ => "amazonaws.com",
    }
}

impl CallError {
    /// Whether the service refused with this code.
    pub fn has_code(&self, wanted: &str) -> bool {
        matches!(self, CallError::Service { code, .. } if code == wanted)
    }

    /// Whether the same call may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            CallError::Credentials(_) => false,
            CallError::Unreachable { .. } => true,
            CallError::Service { code, .. } => {
                let passing = ["Throttl", "TooManyRequests", "InternalS", "ServiceUnavailable"];
                passing.iter().any(|part| code.contains(part))
            }
        }
    }
}

/// One call, with the credentials that sign it.
struct CloudCall<'a> {
    service: CloudService,
    operation: &'a str,
    body: &'a Value,
    credentials: &'a Credentials,
}

/// Calls an endpoint on this machine once with these keys. Reads no configuration and uses no
/// proxy.
pub async fn call_here(
    endpoint: &str,
    service: CloudService,
    operation: &str,
    body: &Value,
    credentials: &Credentials,
) -> Result<Value, CallError> {
    let reach = Transport { connect: Some(CONNECT), read: Some(CONNECT), is_proxied: false };
    let call = CloudCall { service, operation, body, credentials };
    post(&reach.client(), endpoint, REGION, call).await
}

/// Signs and sends a call and reads the response.
async fn post(
    client: &Result<reqwest::Client, String>,
    endpoint: &str,
    region: &str,
    call: CloudCall<'_>,
) -> Result<Value, CallError> {
    let CloudCall { service, operation, body, credentials } = call;
    let unreachable = |problem: &dyn fmt::Display| CallError::Unreachable {
        endpoint: endpoint.to_owned(),
        problem: problem.to_string(),
    };
    let client = client.as_ref().map_err(|problem| unreachable(problem))?;
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("{}/", endpoint.trim_end_matches('/')))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("{}.{operation}", service.target))
        .body(Bytes::from(body.to_string()))
        .map_err(|error| unreachable(&error))?;
    let (credentials, region) = (credentials.clone(), region.to_owned());
    let scope = SigningScope { credentials, region, service: service.name };
    let request = scope.signed(request).await.map_err(|problem| unreachable(&problem))?;
    let request =
        reqwest::Request::try_from(request).map_err(|error| unreachable(&chain(&error)))?;
    let mut response =
        client.execute(request).await.map_err(|error| unreachable(&chain(&error)))?;
    let status = response.status().as_u16();
    let mut answer = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| unreachable(&chain(&error)))? {
        if answer.len() + bytes.len() > MAX_ANSWER {
            return Err(unreachable(&"the answer is too large"));
        }
        answer.extend_from_slice(&bytes);
    }
    // Some operations have an empty response.
    let value: Option<Value> = match answer.is_empty() {
        true => Some(Value::Null),
        false => serde_json::from_slice(&answer).ok(),
    };
    match (status, value) {
        (200, Some(value)) => Ok(value),
        (200, None) => Err(unreachable(&"the answer is not JSON")),
        (_, value) => Err(refusal(status, value.as_ref())),
    }
}

fn refusal(status: u16, answer: Option<&Value>) -> CallError {
    let text = |names: [&str; 2]| {
        let field = |name: &str| answer?.get(name)?.as_str().map(str::to_owned);
        names.into_iter().find_map(field)
    };
    // `com.amazonaws.x#Code:http://...` in some services.
    let code = text(["__type", "code"]).map_or_else(
        || if status >= 500 { "ServiceUnavailable".to_owned() } else { format!("HTTP {status}") },
        |code| code.rsplit('#').next().unwrap_or(&code).split(':').next().unwrap_or("").to_owned(),
    );
    CallError::Service { code, message: text(["message", "Message"]).unwrap_or_default() }
}

/// An error's text with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_are_read_in_all_their_forms() {
        for (status, answer, wanted) in [
            (
                400,
                json!({"__type": "ResourceNotFoundException", "message": "no"}),
                "ResourceNotFoundException: no",
            ),
            (
                400,
                json!({"__type": "com.amazonaws.ssm#AccessDenied:x", "Message": "no"}),
                "AccessDenied: no",
            ),
            (503, json!({}), "ServiceUnavailable: "),
            (403, json!("no"), "HTTP 403: "),
        ] {
            assert_eq!(refusal(status, Some(&answer)).to_string(), wanted);
        }
        assert!(refusal(503, None).may_pass() && !refusal(400, None).may_pass());
    }
}
