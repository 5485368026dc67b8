//! A registry as its client: manifests, and blobs that go on after a cut.
//!
//! Used by `pull`. `oci-client` speaks the protocol; what it hands over is hashed and limited by
//! whoever takes it.

use super::auth;
use super::manifest::{self, Config, Descriptor, Digest, Document, MOST_JSON, Manifest};
use crate::amazon::Identity;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::Reference;
use oci_client::client::{BlobResponse, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use std::error::Error;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const CONNECT: Duration = Duration::from_secs(15);
/// How long a registry may say nothing.
const READ: Duration = Duration::from_secs(60);
/// How often in a row a transfer may break without a byte in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// Chunks under way between the network and the hash.
const AHEAD: usize = 32;

const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A registry, as somebody.
pub(super) struct Registry {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

/// Why a registry gives nothing.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct RegistryError {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl RegistryError {
    fn new(message: impl Into<String>) -> Self {
        RegistryError { message: message.into(), hint: None }
    }
}

impl Registry {
    pub(super) async fn new(
        reference: &Reference,
        identity: &Identity,
    ) -> Result<Self, RegistryError> {
        // Whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = reference.resolve_registry();
        let plain = if is_loopback(registry) { vec![registry.to_owned()] } else { Vec::new() };
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            connect_timeout: Some(CONNECT),
            read_timeout: Some(READ),
            user_agent: concat!("runner/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| explain(&error, reference))?;
        let auth =
            auth::credentials(reference.registry(), identity).await.map_err(RegistryError::new)?;
        Ok(Registry { client, reference: reference.clone(), auth })
    }

    /// The manifest for this machine, and its digest.
    pub(super) async fn manifest(&self) -> Result<(Digest, Manifest), RegistryError> {
        let mut reference = self.reference.clone();
        for _ in 0..3 {
            let (bytes, digest) = self
                .client
                .pull_manifest_raw(&reference, &self.auth, &MANIFESTS)
                .await
                .map_err(|error| explain(&error, &reference))?;
            let digest: Digest = digest.parse().map_err(RegistryError::new)?;
            match manifest::read(&bytes).map_err(RegistryError::new)? {
                Document::Image(manifest) => return Ok((digest, manifest)),
                Document::Index(entries) => {
                    let found = manifest::choose(&entries).map_err(RegistryError::new)?;
                    reference = reference.clone_with_digest(found.digest.to_string());
                }
            }
        }
        Err(RegistryError::new("its indexes lead to indexes"))
    }

    pub(super) async fn config(&self, descriptor: &Descriptor) -> Result<Config, RegistryError> {
        use sha2::Digest as _;
        let (_wanted, wanted) = watch::channel(());
        let mut reader = self.blob(descriptor, wanted);
        let mut bytes = Vec::new();
        let most = descriptor.size.min(MOST_JSON) + 1;
        while let Some(chunk) = reader.recv().await {
            bytes.extend_from_slice(&chunk.map_err(|error| RegistryError::new(error.to_string()))?);
            if bytes.len() as u64 > most {
                break;
            }
        }
        let actual = Digest::of(&sha2::Sha256::digest(&bytes));
        if actual != descriptor.digest {
            return Err(RegistryError::new(format!(
                "its config has the digest {actual}, not {}",
                descriptor.digest
            )));
        }
        manifest::read_config(&bytes).map_err(RegistryError::new)
    }

    /// A blob's bytes as they come, until the other end of `wanted` is dropped.
    pub(super) fn blob(
        &self,
        descriptor: &Descriptor,
        mut wanted: watch::Receiver<()>,
    ) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (client, reference) = (self.client.clone(), self.reference.clone());
        let descriptor = descriptor.clone();
        tokio::spawn(async move {
            let fetched = tokio::select! {
                fetched = fetch(&client, &reference, &descriptor, &sender) => fetched,
                _ = wanted.changed() => return,
            };
            if let Err(error) = fetched {
                // Nobody may be waiting for it any more.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }
}

/// Sends a blob, asking for the rest of it whenever a transfer breaks. One that is shorter or longer
/// than it should be is sent as it is.
async fn fetch(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut got: u64 = 0;
    let mut failures = 0;
    loop {
        let digest = descriptor.digest.as_str();
        let error = match client.pull_blob_stream_partial(reference, &digest, got, None).await {
            Ok(response) => {
                let (mut stream, mut skip) = match response {
                    BlobResponse::Partial(stream) => (stream, 0),
                    // A registry that cannot go on in the middle.
                    BlobResponse::Full(stream) => (stream, got),
                };
                let mut broken = None;
                while let Some(chunk) = stream.next().await {
                    let mut chunk = match chunk {
                        Ok(chunk) => chunk,
                        Err(error) => {
                            let why = innermost(&error);
                            let message =
                                format!("the transfer from {} broke: {why}", reference.registry());
                            broken = Some(io::Error::other(message));
                            break;
                        }
                    };
                    let known = skip.min(chunk.len() as u64);
                    skip -= known;
                    let _ = chunk.split_to(usize::try_from(known).unwrap_or(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    got += chunk.len() as u64;
                    failures = 0;
                    if sender.send(Ok(chunk)).await.is_err() {
                        return Ok(());
                    }
                }
                if got >= descriptor.size {
                    return Ok(());
                }
                broken
            }
            Err(error) if is_final(&error) => {
                return Err(io::Error::other(explain(&error, reference).message));
            }
            // There is no more of it, says the registry.
            Err(OciDistributionError::ServerError { code: 416, .. }) => return Ok(()),
            Err(error) => Some(io::Error::other(explain(&error, reference).message)),
        };
        failures += 1;
        if failures >= ATTEMPTS {
            return error.map_or(Ok(()), Err);
        }
        tracing::debug!(?error, got, failures, "a transfer broke; going on");
        tokio::time::sleep(PAUSE * failures).await;
    }
}

/// Whether asking again would bring the same answer.
fn is_final(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RegistryError { .. }
        | OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => true,
        OciDistributionError::ServerError { code, .. } => {
            (400..500).contains(code) && ![408, 416, 429].contains(code)
        }
        _ => false,
    }
}

/// In words for whoever typed the name.
fn explain(error: &OciDistributionError, reference: &Reference) -> RegistryError {
    let registry = reference.registry();
    let login = || Some(format!("log in where you have an account: docker login {registry}"));
    let refused = |message: String| RegistryError { message, hint: login() };
    match error {
        OciDistributionError::UnauthorizedError { .. } => {
            refused(format!("{registry} does not give it to us (401)"))
        }
        OciDistributionError::AuthenticationFailure(why) => {
            let why: String = why.trim().chars().take(300).collect();
            refused(format!("{registry} does not let us in: {}", why.escape_debug()))
        }
        OciDistributionError::ImageManifestNotFoundError(_) => {
            RegistryError::new(format!("{registry} has no such image"))
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let first = envelope.errors.first();
            match first.map(|error| &error.code) {
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound,
                ) => RegistryError {
                    message: format!("{registry} has no such image"),
                    hint: Some("look at the name and the tag".to_owned()),
                },
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => {
                    refused(format!("{registry} does not give it to us, if it is there"))
                }
                Some(OciErrorCode::Toomanyrequests) => {
                    refused(format!("{registry} has had too many requests from here for now"))
                }
                _ => RegistryError::new(format!(
                    "{registry} refuses: {}",
                    first
                        .map_or_else(String::new, |error| error.message.escape_debug().to_string())
                )),
            }
        }
        OciDistributionError::ServerError { code: 404, .. } => {
            RegistryError::new(format!("{registry} has no such image"))
        }
        OciDistributionError::ServerError { code, message, .. } => {
            let message: String = message.chars().take(300).collect();
            RegistryError::new(format!("{registry} answers {code}: {}", message.escape_debug()))
        }
        OciDistributionError::RequestError(error) if error.is_body() || error.is_decode() => {
            RegistryError::new(format!("the transfer from {registry} broke: {}", innermost(error)))
        }
        OciDistributionError::RequestError(error) => {
            let hint = error.is_connect().then(|| {
                "is the network there? Without it: runner image import, or --image oci-archive:FILE"
                    .to_owned()
            });
            RegistryError {
                message: format!("cannot reach {registry}: {}", innermost(error)),
                hint,
            }
        }
        other => RegistryError::new(format!("{registry}: {other}")),
    }
}

/// What is at the bottom of an error: the layers above it say little.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Whether a registry is on this machine, where nobody listens in.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A blob's bytes, for a thread that may wait.
pub(super) struct Incoming {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Incoming {
    pub(super) fn new(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Incoming { receiver, chunk: Bytes::new() }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for (registry, is_ours) in [
            ("localhost:5000", true),
            ("localhost", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.10", true),
            ("[::1]:5000", true),
            ("localhost.evil.org", false),
            ("127.0.0.1.evil.org:5000", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(registry), is_ours, "{registry}");
        }
    }
}
