//! HTTP to AWS, for our own calls and for the chain that finds credentials.
//!
//! Both, and registries, share one client library (docs/adr/0230). Redirects are not followed: AWS
//! sends them when a Region is wrong, and a signature holds for one address only.

use super::chain;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Client};
use runner_host::trust::certificates;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The variable by which AWS's clients find additional certificates.
const BUNDLE: &str = "AWS_CA_BUNDLE";

pub(super) const CONNECT: Duration = Duration::from_secs(5);
pub(super) const READ: Duration = Duration::from_secs(30);

/// Timeouts and proxy use of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transport {
    pub(super) connect: Option<Duration>,
    /// How long a server may be silent, from the first byte of the request.
    pub(super) read: Option<Duration>,
    /// Whether `HTTPS_PROXY` and similar variables are honoured.
    pub(super) is_proxied: bool,
}

impl Transport {
    /// Builds the client. It trusts the certificates of this machine, of `--ca-file` and, as AWS's
    /// clients do, of the file that `AWS_CA_BUNDLE` names.
    pub(super) fn client(self) -> Result<Client, String> {
        // The first installed provider stays; this program always installs the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let trusted: Result<Vec<Certificate>, _> =
            certificates().iter().map(|pem| Certificate::from_pem(pem.as_bytes())).collect();
        let mut trusted = trusted.map_err(|error| chain(&error))?;
        if let Some(path) = std::env::var_os(BUNDLE).filter(|path| !path.is_empty()) {
            trusted.extend(bundle(Path::new(&path))?);
        }
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .tls_certs_merge(trusted)
            .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")));
        if let Some(connect) = self.connect {
            builder = builder.connect_timeout(connect);
        }
        if let Some(read) = self.read {
            builder = builder.read_timeout(read);
        }
        if !self.is_proxied {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| chain(&error))
    }
}

/// The certificates in a file.
fn bundle(path: &Path) -> Result<Vec<Certificate>, String> {
    let failed = |why: String| format!("{BUNDLE}={}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| failed(chain(&error)))
}

/// The HTTP client of the chain that finds credentials.
#[derive(Debug, Default)]
pub(super) struct ChainClient {
    /// One client for each pair of timeouts; most providers use the same pair.
    clients: Mutex<HashMap<Transport, Client>>,
}

impl HttpClient for ChainClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let (connect, read) = (settings.connect_timeout(), settings.read_timeout());
        let reach = Transport { connect, read, is_proxied: true };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match clients.get(&reach) {
            Some(client) => Ok(client.clone()),
            None => reach.client(),
        };
        if let Ok(client) = &client {
            clients.insert(reach, client.clone());
        }
        SharedHttpConnector::new(ChainConnector(client))
    }
}

/// A client, or why it could not be built.
#[derive(Debug)]
struct ChainConnector(Result<Client, String>);

impl HttpConnector for ChainConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let client = client.map_err(|problem| ConnectorError::user(problem.into()))?;
            let request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = reqwest::Request::try_from(request.map(Body::wrap))
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = client.execute(request).await.map_err(connector_error)?;
            let response = http::Response::from(response).map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|error| ConnectorError::user(error.into()))
        })
    }
}

fn connector_error(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
