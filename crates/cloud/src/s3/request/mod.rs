//! Requests to S3: where a bucket is, how a request is signed, and how often it is made.
//!
//! S3's own SDK is not used: it is the largest crate that this program would have (docs/adr/0230). What is tried
//! again, how often and after which pause is as SDKs have it: `AWS_MAX_ATTEMPTS`, `AWS_RETRY_MODE`.

use super::xml;
use crate::digest;
use crate::patience::{self, patiently};
use crate::sign::SigningScope;
use crate::transport::{CONNECT, Transport};
use crate::{Amazon, CallError, MAX_ANSWER, SIMPLE_STORAGE, chain, domain};
use aws_smithy_types::checksum_config::RequestChecksumCalculation;
use aws_smithy_types::retry::RetryConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use reqwest::{Body, Response};
use std::fmt;
use std::time::Duration;

/// How long a server may be silent before a request is made again.
const SILENCE: Duration = Duration::from_secs(20);
/// What is done where no configuration says otherwise.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Codes of refusals that may pass.
const PASSING: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "InternalError",
    "LimitExceededException",
    "OperationAborted",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
];

/// A request about a bucket or an object in it.
#[derive(Debug)]
pub(super) struct S3Request<'a> {
    method: Method,
    bucket: &'a str,
    /// Empty for the bucket itself.
    key: &'a str,
    query: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl<'a> S3Request<'a> {
    pub(super) fn new(method: Method, bucket: &'a str, key: &'a str) -> Self {
        let (query, headers, body) = (Vec::new(), Vec::new(), Bytes::new());
        S3Request { method, bucket, key, query, headers, body }
    }

    /// A parameter; one without a value has an empty one.
    pub(super) fn query(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// A header, where there is a value for it.
    pub(super) fn header(mut self, name: impl Into<String>, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.headers.push((name.into(), value.to_owned()));
        }
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// With the body's checksum, which S3 compares with what has arrived and keeps.
    pub(super) async fn checked(self) -> Self {
        let body = self.body.clone();
        let sum = digest::of(body.len(), move || crc32(&body)).await;
        self.header(CRC32, Some(&sum))
    }
}

/// The header of a checksum.
pub(super) const CRC32: &str = "x-amz-checksum-crc32";

/// A checksum as S3 writes it.
pub(super) fn crc32(bytes: &[u8]) -> String {
    STANDARD.encode(crc32fast::hash(bytes).to_be_bytes())
}

/// A response, read to its end.
#[derive(Debug)]
pub(super) struct S3Response {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct S3Failure {
    /// The answer's status; `None` where there was none.
    pub(super) status: Option<u16>,
    /// S3's code; empty where it gives none.
    pub(super) code: String,
    pub(super) message: String,
    /// The Region where the bucket is, where S3 says that it is not here.
    pub(super) region: Option<String>,
    may_pass: bool,
}

impl S3Failure {
    /// No server was asked, or none can be.
    fn lasting(message: String) -> Self {
        S3Failure { status: None, code: String::new(), message, region: None, may_pass: false }
    }

    /// There was no answer, this time.
    fn silent(message: String) -> Self {
        S3Failure { may_pass: true, ..S3Failure::lasting(message) }
    }

    fn refusal(status: u16, headers: &HeaderMap, body: &str) -> Self {
        let (code, message) = xml::error(body).unwrap_or_default();
        let region = headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        let region = region.filter(|_| matches!(status, 301 | 307 | 400)).map(str::to_owned);
        let is_busy = matches!(status, 500 | 502 | 503 | 504);
        let may_pass = region.is_none() && (is_busy || PASSING.contains(&code.as_str()));
        S3Failure { status: Some(status), code, message, region, may_pass }
    }
}

/// Where requests go, and with whose credentials.
#[derive(Debug)]
pub(super) struct S3Client {
    amazon: Amazon,
    http: Result<reqwest::Client, String>,
    /// Whether checksums are sent that S3 does not demand.
    pub(super) checks: bool,
    silence: Duration,
}

impl S3Client {
    pub(super) fn new(amazon: &Amazon) -> Self {
        let wanted = amazon.config.request_checksum_calculation();
        let checks = !matches!(wanted, Some(RequestChecksumCalculation::WhenRequired));
        // Silence is watched over by `patience`.
        let reach = Transport { connect: Some(CONNECT), read: None, is_proxied: true };
        S3Client { amazon: amazon.clone(), http: reach.client(), checks, silence: SILENCE }
    }

    /// Makes a request whose answer's body is read by the caller.
    pub(super) async fn stream(&self, request: &S3Request<'_>) -> Result<Response, S3Failure> {
        let mut attempts = self.attempts();
        loop {
            match self.send(request).await {
                Ok(response) => return Ok(response),
                Err(failure) => attempts.again(failure).await?,
            }
        }
    }

    /// Makes a request and reads the answer.
    pub(super) async fn call(&self, request: &S3Request<'_>) -> Result<S3Response, S3Failure> {
        let mut attempts = self.attempts();
        loop {
            match self.call_once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => attempts.again(failure).await?,
            }
        }
    }

    /// An error that comes as a success, as S3 tells some, is an error.
    async fn call_once(&self, request: &S3Request<'_>) -> Result<S3Response, S3Failure> {
        let response = self.send(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.text(response).await?;
        match xml::error(&body) {
            Some(_) => Err(S3Failure::refusal(status, &headers, &body)),
            None => Ok(S3Response { headers, body }),
        }
    }

    /// The next bytes of an answer.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, String> {
        match patience::next(self.silence, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| chain(&error)),
            Err(silent) => Err(silent.to_string()),
        }
    }

    fn attempts(&self) -> Attempts {
        let retry = self.amazon.config.retry_config();
        Attempts {
            left: retry.map_or(ATTEMPTS, RetryConfig::max_attempts).max(1) - 1,
            pause: retry.map_or(FIRST_PAUSE, RetryConfig::initial_backoff),
            longest: retry.map_or(LONGEST_PAUSE, RetryConfig::max_backoff),
        }
    }

    /// Makes a request once.
    async fn send(&self, request: &S3Request<'_>) -> Result<Response, S3Failure> {
        let http = self.http.as_ref().map_err(|problem| S3Failure::lasting(problem.clone()))?;
        let credentials = self.amazon.credentials().await.map_err(|error| match error {
            CallError::Credentials(_) => S3Failure::lasting(error.to_string()),
            other => S3Failure::silent(other.to_string()),
        })?;
        let region = self.amazon.region().to_owned();
        let scope = SigningScope { credentials, region, service: "s3" };
        let signed = scope.signed(self.unsigned(request)?).await.map_err(S3Failure::lasting)?;
        let response = patiently(self.silence, request.body.clone(), |body| async move {
            let length = signed.body().len();
            let request =
                signed.map(|_| if length == 0 { Body::default() } else { Body::wrap(body) });
            let mut request = reqwest::Request::try_from(request)?;
            if length == 0 && matches!(*request.method(), Method::PUT | Method::POST) {
                request.headers_mut().insert(http::header::CONTENT_LENGTH, 0.into());
            }
            http.execute(request).await
        });
        let response = match response.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_builder() => return Err(S3Failure::lasting(chain(&error))),
            Ok(Err(error)) => return Err(S3Failure::silent(chain(&error))),
            Err(silent) => return Err(S3Failure::silent(silent.to_string())),
        };
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // A refusal that breaks off is a refusal.
        let body = self.text(response).await.unwrap_or_default();
        Err(S3Failure::refusal(status, &headers, &body))
    }

    /// The whole of an answer.
    async fn text(&self, mut response: Response) -> Result<String, S3Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await.map_err(S3Failure::silent)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(S3Failure::lasting("the answer is too large".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body)
            .map_err(|_| S3Failure::lasting("the answer is not UTF-8".to_owned()))
    }

    fn unsigned(&self, request: &S3Request<'_>) -> Result<http::Request<Bytes>, S3Failure> {
        let uri = self.place(request.bucket, request.key)?;
        let query: Vec<String> = request
            .query
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value, false)))
            .collect();
        let uri = match query.is_empty() {
            true => uri,
            false => format!("{uri}?{}", query.join("&")),
        };
        let mut builder = http::Request::builder().method(request.method.clone()).uri(uri);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        builder.body(request.body.clone()).map_err(|error| S3Failure::lasting(error.to_string()))
    }

    /// The address of an object, or of its bucket.
    fn place(&self, bucket: &str, key: &str) -> Result<String, S3Failure> {
        // HTTP clients resolve such parts, however they are written, and would ask for another object.
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            let problem = "a key with `.` or `..` as one of its parts cannot be sent";
            return Err(S3Failure::lasting(problem.to_owned()));
        }
        let key = encoded(key, true);
        // A server that is not AWS's has no name for each bucket.
        if let Some(endpoint) = self.amazon.given_endpoint(SIMPLE_STORAGE) {
            return Ok(format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')));
        }
        let (region, config) = (self.amazon.region(), &self.amazon.config);
        let fips = if config.use_fips() == Some(true) { "-fips" } else { "" };
        let dual_stack = if config.use_dual_stack() == Some(true) { ".dualstack" } else { "" };
        let host = format!("s3{fips}{dual_stack}.{region}.{}", domain(region));
        Ok(match has_a_name(bucket) {
            true => format!("https://{bucket}.{host}/{key}"),
            false => format!("https://{host}/{bucket}/{key}"),
        })
    }
}

/// How often a request may still be made.
struct Attempts {
    left: u32,
    pause: Duration,
    longest: Duration,
}

impl Attempts {
    /// Waits before the next attempt; the failure comes back where there is none.
    async fn again(&mut self, failure: S3Failure) -> Result<(), S3Failure> {
        if !failure.may_pass || self.left == 0 {
            return Err(failure);
        }
        tracing::debug!(?failure, left = self.left, "trying again");
        self.left -= 1;
        // Others that were refused at the same time do not all come back at the same time.
        tokio::time::sleep(self.pause.min(self.longest).mul_f64(fastrand::f64())).await;
        self.pause = self.pause.saturating_mul(2);
        Ok(())
    }
}

/// Whether a bucket has a host name that certificates are good for.
fn has_a_name(bucket: &str) -> bool {
    bucket.len() <= 63 && !bucket.contains(['.', '_'])
}

/// Text as part of an address; slashes stay where it is a path.
fn encoded(text: &str, is_path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if is_path => encoded.push('/'),
            byte => {
                encoded.push('%');
                for half in [byte >> 4, byte & 15] {
                    encoded.push(char::from(b"0123456789ABCDEF"[usize::from(half)]));
                }
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
