//! `--aws-profile`: AWS credentials for the build, from an endpoint like that of containers at AWS.
//!
//! Started by `build`. The build's tools ask for credentials when they need them and get currently
//! valid ones; nothing is written to a file. The endpoint listens on loopback, which other users of
//! this machine can reach too, so each request must carry a token that only the build is given.
//! Credentials are registered for masking before they are handed out.

use aws_credential_types::Credentials;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use runner_cloud::{Amazon, CallError};
use runner_core::mask::SharedSecrets;
use runner_host::peers::{Guest, PeerListener, share};
use serde_json::json;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

/// Credentials with less time left are renewed.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// Stated lifetime of credentials that never expire, so that a change is noticed.
const FOR_EVER: Duration = Duration::from_secs(15 * 60);
/// Maximum connections: the descriptor limit divided by the first value, and at most the second.
const CONNECTIONS: (usize, usize) = (8, 256);
/// Path of the credentials at the endpoint.
const PATH: &str = "/v2/credentials";

/// A running endpoint.
#[derive(Debug)]
pub struct CredentialEndpoint {
    /// The URL the build's tools use.
    pub url: String,
    /// The port on this machine's loopback.
    pub port: u16,
    /// The token that requests must carry.
    pub token: String,
    /// Their AWS Region.
    pub region: String,
    /// Whether the credentials are long-term keys.
    pub is_long_term: bool,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Credentials(#[from] CallError),
    #[error("cannot listen on the loopback address: {0}")]
    Listen(#[from] io::Error),
    #[error("cannot mask the credentials: {0}")]
    Mask(String),
}

/// Serves credentials until the program ends.
pub async fn serve(
    aws: Amazon,
    secrets: SharedSecrets,
) -> Result<CredentialEndpoint, EndpointError> {
    let region = aws.region().to_owned();
    let source = CredentialSource { aws, secrets, current: Mutex::new(None) };
    // If there are no credentials, report it before the build begins.
    let first = source.get().await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    source
        .secrets
        .add([token.clone().into_bytes()])
        .map_err(|e| EndpointError::Mask(e.to_string()))?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}{PATH}");
    let endpoint = CredentialEndpoint {
        url,
        port: address.port(),
        token: token.clone(),
        region,
        is_long_term: first.session_token().is_none(),
    };
    let listener = PeerListener::new(listener, share(CONNECTIONS.0, CONNECTIONS.1));
    tokio::spawn(accept(listener, Arc::new(source), token.into()));
    Ok(endpoint)
}

async fn accept(listener: PeerListener, source: Arc<CredentialSource>, token: Arc<str>) {
    loop {
        let (stream, _, guest) = listener.accept().await;
        let (source, token) = (Arc::clone(&source), Arc::clone(&token));
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &source, &token, &guest));
            let serving = hyper::server::conn::http1::Builder::new()
                // A client that closes its sending side after the request still gets its response
                // (nc does so).
                .half_close(true)
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::debug!(%error, "a client of the credentials endpoint");
                },
                () = guest.has_lost_its_place() => {}
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    source: &CredentialSource,
    token: &str,
    guest: &Guest,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let shown = request.headers().get("authorization").map(http::HeaderValue::as_bytes);
    let (status, body) = if request.method() != Method::GET || request.uri().path() != PATH {
        (StatusCode::NOT_FOUND, json!({"code": "NotFound", "message": "there is nothing here"}))
    } else if !shown.is_some_and(|shown| same(shown, token.as_bytes())) {
        let message = "the token in AWS_CONTAINER_AUTHORIZATION_TOKEN is missing or wrong";
        (StatusCode::UNAUTHORIZED, json!({"code": "Unauthorized", "message": message}))
    } else {
        let _kept = guest.keep();
        match source.get().await {
            Ok(credentials) => (StatusCode::OK, shape(&credentials)),
            Err(error) => {
                let body = json!({"code": "InternalError", "message": error.to_string()});
                (StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Compares in constant time, so that timing does not reveal the correct part.
fn same(shown: &[u8], wanted: &[u8]) -> bool {
    shown.len() == wanted.len()
        && shown.iter().zip(wanted).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

fn shape(credentials: &Credentials) -> serde_json::Value {
    let expires = credentials.expiry().unwrap_or_else(|| SystemTime::now() + FOR_EVER);
    let expires = jiff::Timestamp::try_from(expires).unwrap_or(jiff::Timestamp::MAX);
    let expires = expires.round(jiff::Unit::Second).unwrap_or(expires);
    json!({
        "AccessKeyId": credentials.access_key_id(),
        "SecretAccessKey": credentials.secret_access_key(),
        "Token": credentials.session_token().unwrap_or_default(),
        "Expiration": expires.to_string(),
    })
}

/// Credentials that are renewed before they expire.
struct CredentialSource {
    aws: Amazon,
    secrets: SharedSecrets,
    current: Mutex<Option<Credentials>>,
}

impl CredentialSource {
    async fn get(&self) -> Result<Credentials, EndpointError> {
        let mut current = self.current.lock().await;
        let soon = SystemTime::now() + MARGIN;
        if let Some(credentials) = &*current
            && credentials.expiry().is_some_and(|expiry| expiry > soon)
        {
            return Ok(credentials.clone());
        }
        let credentials = self.aws.credentials().await?;
        let texts = [Some(credentials.secret_access_key()), credentials.session_token()];
        let values = texts.into_iter().flatten().map(|text| text.as_bytes().to_vec());
        self.secrets.add(values).map_err(|error| EndpointError::Mask(error.to_string()))?;
        Ok(current.insert(credentials).clone())
    }
}
