//! Requests to S3: addresses of buckets, signing and retries.
//!
//! S3's own SDK is not used: it would be the largest crate of this program (docs/adr/0230). Retries
//! and pauses follow the SDKs: `AWS_MAX_ATTEMPTS`, `AWS_RETRY_MODE`.

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
/// Defaults, used without configuration.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Codes of refusals that a retry may overcome.
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
    /// Empty for a request about the bucket itself.
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

    /// Adds a parameter. Its value may be empty.
    pub(super) fn query(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds a header, if there is a value.
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

    /// Adds the body's checksum, which S3 verifies and stores.
    pub(super) async fn checked(self) -> Self {
        let body = self.body.clone();
        let sum = digest::of(body.len(), move || crc32(&body)).await;
        self.header(CRC32, Some(&sum))
    }
}

/// The header of a CRC-32 checksum.
pub(super) const CRC32: &str = "x-amz-checksum-crc32";

/// A checksum as S3 writes it: base64 of the big-endian value.
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
    /// The response's status; `None` without a response.
    pub(super) status: Option<u16>,
    /// S3's code; empty if it gives none.
    pub(super) code: String,
    pub(super) message: String,
    /// The bucket's Region, if S3 says that it is another one.
    pub(super) region: Option<String>,
    may_pass: bool,
}

impl S3Failure {
    /// A failure that a retry cannot overcome.
    fn lasting(message: String) -> Self {
        S3Failure { status: None, code: String::new(), message, region: None, may_pass: false }
    }

    /// A missing response, which a retry may bring.
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

/// Where requests go, and whose credentials they carry.
#[derive(Debug)]
pub(super) struct S3Client {
    amazon: Amazon,
    http: Result<reqwest::Client, String>,
    /// Whether to send checksums that S3 does not demand.
    pub(super) checks: bool,
    silence: Duration,
}

impl S3Client {
    pub(super) fn new(amazon: &Amazon) -> Self {
        let wanted = amazon.config.request_checksum_calculation();
        let checks = !matches!(wanted, Some(RequestChecksumCalculation::WhenRequired));
        // `patience` watches for silence.
        let reach = Transport { connect: Some(CONNECT), read: None, is_proxied: true };
        S3Client { amazon: amazon.clone(), http: reach.client(), checks, silence: SILENCE }
    }

    /// Sends a request. The caller reads the response's body.
    pub(super) async fn stream(&self, request: &S3Request<'_>) -> Result<Response, S3Failure> {
        let mut attempts = self.attempts();
        loop {
            match self.send(request).await {
                Ok(response) => return Ok(response),
                Err(failure) => attempts.again(failure).await?,
            }
        }
    }

    /// Sends a request and reads the response.
    pub(super) async fn call(&self, request: &S3Request<'_>) -> Result<S3Response, S3Failure> {
        let mut attempts = self.attempts();
        loop {
            match self.call_once(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => attempts.again(failure).await?,
            }
        }
    }

    /// Sends once. An error document is an error, even with a success status, as S3 sometimes
    /// sends.
    async fn call_once(&self, request: &S3Request<'_>) -> Result<S3Response, S3Failure> {
        let response = self.send(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = self.text(response).await?;
        match xml::error(&body) {
            Some(_) => Err(S3Failure::refusal(status, &headers, &body)),
            None => Ok(S3Response { headers, body }),
        }
    }

    /// The next bytes of a response.
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

    /// Sends a request once.
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
        // A refusal counts even if its body breaks off.
        let body = self.text(response).await.unwrap_or_default();
        Err(S3Failure::refusal(status, &headers, &body))
    }

    /// The whole body of a response.
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

    /// The URL of an object, or of its bucket.
    fn place(&self, bucket: &str, key: &str) -> Result<String, S3Failure> {
        // HTTP clients resolve such parts, in any spelling, and would ask for another object.
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            let problem = "a key with `.` or `..` as one of its parts cannot be sent";
            return Err(S3Failure::lasting(problem.to_owned()));
        }
        let key = encoded(key, true);
        // Servers other than AWS have no host name for each bucket.
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

/// The attempts left for a request.
struct Attempts {
    left: u32,
    pause: Duration,
    longest: Duration,
}

impl Attempts {
    /// Waits before the next attempt; returns the failure if none is left.
    async fn again(&mut self, failure: S3Failure) -> Result<(), S3Failure> {
        if !failure.may_pass || self.left == 0 {
            return Err(failure);
        }
        tracing::debug!(?failure, left = self.left, "trying again");
        self.left -= 1;
        // Clients that were refused at the same time should not all come back at the same time.
        tokio::time::sleep(self.pause.min(self.longest).mul_f64(fastrand::f64())).await;
        self.pause = self.pause.saturating_mul(2);
        Ok(())
    }
}

/// Whether a certificate can cover the bucket's host name.
fn has_a_name(bucket: &str) -> bool {
    bucket.len() <= 63 && !bucket.contains(['.', '_'])
}

/// Percent-encodes text for a URL. Keeps slashes in a path.
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
