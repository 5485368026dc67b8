//! A registry as its client: manifests, and blobs that go on after a cut.
//!
//! Used by `pull`, which hashes and limits the bytes of a blob. All other answers of a registry have their limits
//! here.

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

/// How often in a row a transfer may break without a byte in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// Chunks under way between the network and the hash.
const AHEAD: usize = 32;

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A repository of a registry, and whose credentials are used there.
pub(super) struct RegistryClient {
    inner: Arc<RegistryInner>,
    reference: Reference,
    is_anonymous: bool,
}

struct RegistryInner {
    http: Http,
    entrance: Entrance,
    /// As it is called in messages.
    name: String,
    repository: String,
}

impl RegistryClient {
    pub(super) async fn new(
        reference: &Reference,
        asker: &ImageRequester,
        ecr: &EcrPasswords,
    ) -> Result<Self, RegistryError> {
        // An earlier caller has chosen the same.
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

    /// Whether it gives to everybody what it gives to us.
    pub(super) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// The manifest for this machine, and its digest.
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

    /// A blob's bytes as they come, until the other end of `wanted` is dropped.
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
                // Nobody may be waiting for it any more.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }
}

impl RegistryInner {
    /// A manifest's bytes, by its tag or its digest.
    async fn manifest(&self, under: &str) -> Result<Vec<u8>, RegistryFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let path = format!("{}/manifests/{under}", self.repository);
        let response = self.ask(Want::Manifest, &path, &headers).await?;
        let told = response.headers().get("docker-content-digest").cloned();
        let bytes = whole(response, MOST_JSON, "manifest").await?;
        // Of another kind of digest nothing is known here.
        let told: Option<Digest> = told.and_then(|told| told.to_str().ok()?.parse().ok());
        let digest = Digest::of(&Sha256::digest(&bytes));
        match told {
            Some(told) if told != digest => Err(RegistryFailure::Answer(format!(
                "its manifest has the digest {digest}, not {told}"
            ))),
            _ => Ok(bytes),
        }
    }

    /// Asks as nobody, and as who we are where that is not enough.
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
        // A host that the registry has redirected to is shown nothing.
        let is_refused =
            response.status() == StatusCode::UNAUTHORIZED && self.http.base.is_home(response.url());
        if !is_refused {
            return Ok(response);
        }
        // Once: a registry that refuses each new token would go on for ever.
        match self.entrance.renew(&self.http, shown.as_ref(), response.headers()).await? {
            Some(value) => ask(url, Some(&value)).await,
            None => Ok(response),
        }
    }

    /// Sends a blob, asking for the rest of it whenever a transfer breaks. One that is shorter or longer
    /// than it should be is sent as it is.
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
            tracing::debug!(?error, got, failures, "a transfer broke; going on");
            tokio::time::sleep(PAUSE * failures).await;
        }
    }

    /// Sends what comes of a blob from where it broke off.
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
            // A registry that cannot go on in the middle.
            StatusCode::OK => *got,
            // There is no more of it, says the registry.
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

/// How much of a blob has arrived.
enum BlobArrival {
    Whole,
    Short,
    /// Nobody takes it any more.
    Unwanted,
}

/// A blob's bytes, for a thread that may block.
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
