//! A registry client: fetches manifests, and blobs with resumption after a break.
//!
//! Used by `pull`, which hashes a blob's bytes and limits their number. All other responses are
//! limited here.

mod failure;
mod http;
mod route;
mod token;

pub(super) use failure::RegistryError;

use super::auth::{EcrPasswords, ImageRequester, Login};
use super::manifest::{
    self, Descriptor, Digest, ImageConfig, MOST_JSON, Manifest, ManifestOrIndex,
};
use ::http::header::{ACCEPT, HeaderMap, HeaderValue, RANGE};
use bytes::Bytes;
use failure::RegistryFailure;
use http::{Http, RegistryRequest, refusal, whole};
use oci_spec::distribution::Reference;
use reqwest::{Response, StatusCode};
use route::{RegistryBase, Want};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use token::Entrance;
use tokio::sync::{mpsc, watch};

/// How often in a row a transfer may break without progress.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// Chunks buffered between the network and the hash.
const AHEAD: usize = 32;

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A repository of a registry, with the credentials used there.
#[derive(Clone)]
pub(super) struct RegistryClient {
    inner: Arc<RegistryInner>,
    reference: Reference,
    is_anonymous: bool,
}

struct RegistryInner {
    http: Http,
    entrance: Entrance,
    /// The registry's name in messages.
    name: String,
    repository: String,
}

impl RegistryClient {
    pub(super) async fn new(
        reference: &Reference,
        asker: &ImageRequester,
        ecr: &EcrPasswords,
    ) -> Result<Self, RegistryError> {
        // Fails if an earlier call has already installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = reference.registry().to_owned();
        let base = RegistryBase::new(reference.resolve_registry()).map_err(RegistryError::new)?;
        let http = Http::new(base).map_err(|error| error.explain(&name))?;
        let login = asker.login(&name, ecr).await.map_err(RegistryError::new)?;
        let is_anonymous = login == Login::Nobody;
        let repository = reference.repository().to_owned();
        let entrance = Entrance::new(login, &repository);
        let inner = Arc::new(RegistryInner { http, entrance, name, repository });
        Ok(RegistryClient { inner, reference: reference.clone(), is_anonymous })
    }

    /// Whether the registry gives this image to anyone.
    pub(super) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// The manifest for this machine, with its digest.
    pub(super) async fn manifest(&self) -> Result<(Digest, Manifest), RegistryError> {
        let mut wanted = self.reference.digest().map(str::to_owned);
        for _ in 0..3 {
            let under = wanted.as_deref().or(self.reference.tag()).unwrap_or("latest");
            let bytes = self
                .inner
                .manifest(under)
                .await
                .map_err(|error| error.explain(&self.inner.name))?;
            let digest = Digest::of(&Sha256::digest(&bytes));
            if let Some(wanted) = &wanted {
                let wanted: Digest = wanted.parse().map_err(RegistryError::new)?;
                if digest != wanted {
                    return Err(RegistryError::new(format!(
                        "its manifest has the digest {digest}, not {wanted}"
                    )));
                }
            }
            match manifest::read(&bytes).map_err(RegistryError::new)? {
                ManifestOrIndex::Image(manifest) => return Ok((digest, manifest)),
                ManifestOrIndex::Index(entries) => {
                    let found = manifest::choose(&entries).map_err(RegistryError::new)?;
                    wanted = Some(found.digest.to_string());
                }
            }
        }
        Err(RegistryError::new("its indexes lead to indexes"))
    }

    pub(super) async fn config(
        &self,
        descriptor: &Descriptor,
    ) -> Result<ImageConfig, RegistryError> {
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
        let actual = Digest::of(&Sha256::digest(&bytes));
        if actual != descriptor.digest {
            return Err(RegistryError::new(format!(
                "its config has the digest {actual}, not {}",
                descriptor.digest
            )));
        }
        manifest::read_config(&bytes).map_err(RegistryError::new)
    }

    /// A blob's bytes as they arrive, until the sender of `wanted` is dropped.
    pub(super) fn blob(
        &self,
        descriptor: &Descriptor,
        mut wanted: watch::Receiver<()>,
    ) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let inner = Arc::clone(&self.inner);
        let descriptor = descriptor.clone();
        tokio::spawn(async move {
            let fetched = tokio::select! {
                fetched = inner.fetch(&descriptor, &sender) => fetched,
                _ = wanted.changed() => return,
            };
            if let Err(error) = fetched {
                // The receiver may be gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }
}

impl RegistryInner {
    /// Fetches a manifest by tag or digest.
    async fn manifest(&self, under: &str) -> Result<Vec<u8>, RegistryFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let path = format!("{}/manifests/{under}", self.repository);
        let response = self.ask(Want::Manifest, &path, &headers).await?;
        let told = response.headers().get("docker-content-digest").cloned();
        let bytes = whole(response, MOST_JSON, "manifest").await?;
        // Other kinds of digest are ignored.
        let told: Option<Digest> = told.and_then(|told| told.to_str().ok()?.parse().ok());
        let digest = Digest::of(&Sha256::digest(&bytes));
        match told {
            Some(told) if told != digest => Err(RegistryFailure::Answer(format!(
                "its manifest has the digest {digest}, not {told}"
            ))),
            _ => Ok(bytes),
        }
    }

    /// Sends a request without credentials, and with them if refused.
    async fn ask(
        &self,
        want: Want,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response, RegistryFailure> {
        let url = self.http.base.at(path).map_err(RegistryFailure::Answer)?;
        let shown = self.entrance.shown().await;
        let ask = |url, authorization| {
            self.http.get(RegistryRequest { want, url, headers, authorization })
        };
        let response = ask(url.clone(), shown.as_ref()).await?;
        // A host the registry redirected to gets no credentials.
        let is_refused =
            response.status() == StatusCode::UNAUTHORIZED && self.http.base.is_home(response.url());
        if !is_refused {
            return Ok(response);
        }
        // Only once: a registry that refuses each new token would loop forever.
        match self.entrance.renew(&self.http, shown.as_ref(), response.headers()).await? {
            Some(value) => ask(url, Some(&value)).await,
            None => Ok(response),
        }
    }

    /// Sends a blob to the receiver and resumes whenever the transfer breaks. Passes on a blob of
    /// the wrong length as it is.
    async fn fetch(
        &self,
        descriptor: &Descriptor,
        sender: &mpsc::Sender<io::Result<Bytes>>,
    ) -> io::Result<()> {
        let mut got: u64 = 0;
        let mut failures = 0;
        loop {
            let before = got;
            let error = match self.part(descriptor, &mut got, sender).await {
                Ok(BlobArrival::Whole | BlobArrival::Unwanted) => return Ok(()),
                Ok(BlobArrival::Short) => None,
                Err(error) if error.is_final() => {
                    return Err(io::Error::other(error.explain(&self.name).message));
                }
                Err(error) => Some(io::Error::other(error.explain(&self.name).message)),
            };
            failures = if got > before { 1 } else { failures + 1 };
            if failures >= ATTEMPTS {
                return error.map_or(Ok(()), Err);
            }
            tracing::debug!(?error, got, failures, "a transfer broke off; continuing");
            tokio::time::sleep(PAUSE * failures).await;
        }
    }

    /// Sends the rest of a blob, from where it broke off.
    async fn part(
        &self,
        descriptor: &Descriptor,
        got: &mut u64,
        sender: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<BlobArrival, RegistryFailure> {
        let mut headers = HeaderMap::new();
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={got}-")) {
            headers.insert(RANGE, range);
        }
        let path = format!("{}/blobs/{}", self.repository, descriptor.digest);
        let mut response = self.ask(Want::Blob, &path, &headers).await?;
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => 0,
            // This registry cannot resume.
            StatusCode::OK => *got,
            // The registry says that there is no more of it.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(BlobArrival::Whole),
            _ => return Err(refusal(response).await),
        };
        while let Some(mut chunk) = response.chunk().await? {
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let _ = chunk.split_to(usize::try_from(known).unwrap_or(chunk.len()));
            if chunk.is_empty() {
                continue;
            }
            *got += chunk.len() as u64;
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(BlobArrival::Unwanted);
            }
        }
        Ok(if *got >= descriptor.size { BlobArrival::Whole } else { BlobArrival::Short })
    }
}

/// How far a blob has arrived.
enum BlobArrival {
    Whole,
    Short,
    /// The receiver is gone.
    Unwanted,
}

/// A blob's bytes for a thread that may block.
pub(super) struct BlobReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl BlobReader {
    pub(super) fn new(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        BlobReader { receiver, chunk: Bytes::new() }
    }
}

impl Read for BlobReader {
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
