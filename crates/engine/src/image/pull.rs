//! Prepares an image: finds it in the store, or fetches it and puts it there.
//!
//! Used by the engine for a build and by `runner image`. Several layers are fetched and unpacked at
//! once, each in one pass. The store records an image once it has all its layers.

use super::at_hand;
use super::from_daemon;
use super::layer::{self, LayerError};
use super::local::{self, LocalImage, LocalLayer};
use super::manifest::{Descriptor, Digest};
use super::progress::PullProgress;
use super::registry::{BlobReader, RegistryClient, RegistryError};
use super::store::{Eyes, ImageStore, InUse, StoredImage, Variant};
use super::{EcrPasswords, Image, ImageError, ImageNote, ImageRequester};
use runner_host::clock;
use runner_sandbox::UserMap;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

/// Layers fetched at once.
const SIDE_BY_SIDE: usize = 4;
/// Default limit on the bytes of one layer's files.
pub const MOST_BYTES: u64 = 64 << 30;

const GIVEN_UP: &str = "not fetched: no longer needed";
const NO_DAEMON: &str = "docker-daemon: needs Docker or Podman on this machine; an image in a \
                         registry needs neither: --image NAME";

/// Fetches images.
#[derive(Clone)]
pub struct Getter {
    pub store: ImageStore,
    /// Whose credentials are used.
    pub asker: ImageRequester,
    /// Asks ECR for the caller's credentials.
    pub ecr: EcrPasswords,
    pub progress: PullProgress,
    /// Called with messages for the user.
    pub tell: Arc<dyn Fn(ImageNote) + Send + Sync>,
    /// Most bytes of one layer's files.
    pub most_bytes: u64,
    /// Notified when the image is no longer wanted.
    pub given_up: Arc<Notify>,
}

/// The result of a fetch.
pub struct Got {
    pub image: InUse,
    /// Layers that the store did not have before.
    pub new_layers: usize,
}

/// How to name a file or directory that is another kind of image, as far as it can be recognized.
/// Reads the whole of an archive.
fn another_kind(image: &Image) -> Option<String> {
    match image {
        Image::OciArchive(path) => local::recognized(path, false, true),
        Image::DockerArchive(path) => local::recognized(path, true, false),
        Image::Layout(dir, _) if dir.is_file() => local::recognized(dir, false, false),
        Image::Layout(dir, _) => dir
            .join("bin")
            .symlink_metadata()
            .is_ok()
            .then(|| format!("a directory with a root file system is rootfs:{}", dir.display())),
        Image::Registry(_) | Image::DockerDaemon(_) | Image::Host | Image::Rootfs(_) => None,
    }
}

impl Got {
    pub fn digest(&self) -> &Digest {
        &self.image.image.digest
    }
}

enum PullSource {
    Registry(RegistryClient),
    Local(LocalImage),
    /// The store has all of them.
    Store,
}

impl Getter {
    /// Prepares an image for these users, under its own name or another. With `refresh`, asks the
    /// registry even if the store knows the name.
    pub async fn get(
        &self,
        image: &Image,
        name: Option<&str>,
        users: Option<&UserMap>,
        refresh: bool,
    ) -> Result<Got, ImageError> {
        let shown = image.to_string();
        let fail = |message: String, hint: Option<String>| ImageError {
            image: shown.clone(),
            message,
            hint,
        };
        let store_failed = |error: io::Error| {
            let hint = "look at the folder `images` of the state folder".to_owned();
            fail(format!("cannot use the image store: {error}"), Some(hint))
        };
        let name = name.unwrap_or(&shown);
        let variant = Variant::of(users);
        self.store.prepare(&variant).map_err(store_failed)?;
        let store = self.store.clone();
        let held = tokio::task::spawn_blocking(move || store.lock_shared());
        // Held until the image is in use, so that nothing of it is removed before.
        let _held =
            held.await.map_err(io::Error::other).and_then(|lock| lock).map_err(store_failed)?;
        if !refresh
            && matches!(image, Image::Registry(_))
            && let Some(known) = self.store.find(name, self.eyes()).map_err(store_failed)?
            && self.store.missing(&variant, &known).is_empty()
        {
            let image = self.store.take(known).map_err(store_failed)?;
            return Ok(Got { image, new_layers: 0 });
        }
        let (stored, source) = tokio::select! {
            looked = self.look_or_hint(image, &variant, &fail) => looked?,
            () = self.given_up.notified() => return Err(fail(GIVEN_UP.to_owned(), None)),
        };
        let eyes = match &source {
            PullSource::Registry(registry) if registry.is_anonymous() => Eyes::Everybodys,
            PullSource::Registry(_) | PullSource::Local(_) | PullSource::Store => Eyes::Callers,
        };
        let missing = self.store.missing(&variant, &stored);
        let new_layers = missing.len();
        if new_layers > 0 {
            let bytes = layer::total(&missing);
            let layers = stored.layers.len();
            (self.tell)(ImageNote::Getting {
                image: shown.clone(),
                missing: new_layers,
                layers,
                bytes,
            });
            self.add_layers(&variant, source, missing, &fail).await?;
        }
        self.tell_devices(&shown, &variant, &stored);
        let now_ms = clock::wall().epoch_millis();
        self.store.remember(name, &stored, eyes, now_ms).map_err(store_failed)?;
        let image = self.store.take(stored).map_err(store_failed)?;
        Ok(Got { image, new_layers })
    }

    /// Like [`Self::look`]; if no registry gives the image, the hint says whether Docker or Podman
    /// has it here. Strangers get no such hint.
    async fn look_or_hint(
        &self,
        image: &Image,
        variant: &Variant,
        fail: &impl Fn(String, Option<String>) -> ImageError,
    ) -> Result<(StoredImage, PullSource), ImageError> {
        let looked = self.look(image, variant, fail).await;
        match (looked, image, &self.asker) {
            (Err(error), Image::Registry(reference), ImageRequester::Caller) => {
                let hint = at_hand::hint(&Image::local_names(reference)).await;
                Err(ImageError { hint: hint.or(error.hint), ..error })
            }
            (looked, ..) => looked,
        }
    }

    /// Which stored images this requester may use.
    fn eyes(&self) -> Eyes {
        match self.asker {
            ImageRequester::Caller => Eyes::Callers,
            ImageRequester::Stranger { .. } => Eyes::Everybodys,
        }
    }

    /// Finds an image's manifest, config and layers.
    async fn look(
        &self,
        image: &Image,
        variant: &Variant,
        fail: &impl Fn(String, Option<String>) -> ImageError,
    ) -> Result<(StoredImage, PullSource), ImageError> {
        let mut saved = None;
        let local = match image {
            Image::Registry(reference) => {
                let failed = |error: RegistryError| match &self.asker {
                    ImageRequester::Stranger { hint } if error.is_refused => {
                        fail(error.message, Some(hint.clone()))
                    }
                    ImageRequester::Stranger { .. } | ImageRequester::Caller => {
                        fail(error.message, error.hint)
                    }
                };
                let registry =
                    RegistryClient::new(reference, &self.asker, &self.ecr).await.map_err(failed)?;
                let (digest, manifest) = registry.manifest().await.map_err(failed)?;
                // The same image under another name, or again: its config is known.
                let known = self.store.image(&digest).ok().flatten();
                let stored = match known {
                    Some(known) => known,
                    None => {
                        let config = registry.config(&manifest.config).await.map_err(failed)?;
                        StoredImage { digest, layers: manifest.layers, config }
                    }
                };
                return Ok((stored, PullSource::Registry(registry)));
            }
            Image::Layout(dir, tag) => {
                let (dir, tag) = (dir.clone(), tag.clone());
                read(move || local::layout(&dir, tag.as_deref())).await
            }
            Image::OciArchive(path) => {
                let path = path.clone();
                read(move || local::oci_archive(&path)).await
            }
            Image::DockerArchive(path) => {
                let path = path.clone();
                read(move || local::docker_archive(&path)).await
            }
            Image::DockerDaemon(name) => {
                let hint = || Some(NO_DAEMON.to_owned());
                let found = from_daemon::find(name).await.map_err(|why| fail(why, hint()))?;
                let known = found.id.as_ref().and_then(|id| self.store.image(id).ok().flatten());
                if let Some(known) = known
                    && self.store.missing(variant, &known).is_empty()
                {
                    return Ok((known, PullSource::Store));
                }
                let file = found.save(self.store.root()).await.map_err(|why| fail(why, None))?;
                let path = file.to_path_buf();
                saved = Some(file);
                read(move || local::docker_archive(&path)).await
            }
            Image::Host | Image::Rootfs(_) => Err("it is not made of layers".to_owned()),
        };
        let mut local = match local {
            Ok(local) => local,
            Err(message) => {
                let image = image.clone();
                let hint = tokio::task::spawn_blocking(move || another_kind(&image)).await;
                return Err(fail(message, hint.ok().flatten()));
            }
        };
        local.saved = saved;
        let layers = local.layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let stored =
            StoredImage { digest: local.digest.clone(), layers, config: local.config.clone() };
        Ok((stored, PullSource::Local(local)))
    }

    async fn add_layers(
        &self,
        variant: &Variant,
        source: PullSource,
        missing: Vec<Descriptor>,
        fail: &impl Fn(String, Option<String>) -> ImageError,
    ) -> Result<(), ImageError> {
        let bars = Arc::new(self.progress.start(layer::total(&missing)));
        let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        let source = Arc::new(source);
        // Dropping this, along with the caller's future, stops all layers.
        let (still_wanted, wanted) = watch::channel(());
        let mut layers = JoinSet::new();
        for descriptor in missing {
            let (store, variant, most_bytes) =
                (self.store.clone(), variant.clone(), self.most_bytes);
            let (bars, turns, source) =
                (Arc::clone(&bars), Arc::clone(&turns), Arc::clone(&source));
            let wanted = wanted.clone();
            layers.spawn(async move {
                let digest = descriptor.digest.clone();
                let Ok(_turn) = turns.acquire().await else { return Ok(()) };
                let (reader, size) = open(&source, &descriptor, wanted.clone());
                let bar = bars.layer(&descriptor.digest, descriptor.size);
                let done = tokio::task::spawn_blocking(move || {
                    let advance = |bytes| {
                        bar.advance(bytes);
                        wanted.has_changed().is_ok()
                    };
                    let digest = &descriptor.digest;
                    let wanted = layer::WantedLayer { variant: &variant, digest, size, most_bytes };
                    layer::add(&store, &wanted, reader, &advance)
                });
                match done.await {
                    Ok(result) => result.map_err(|error| (digest, error)),
                    Err(panic) => Err((digest, LayerError::Read(io::Error::other(panic)))),
                }
            });
        }
        // The first failure stops all layers, because the rest would be useless.
        let mut still_wanted = Some(still_wanted);
        let mut failure = None;
        loop {
            let done = tokio::select! {
                done = layers.join_next() => done,
                () = self.given_up.notified() => {
                    still_wanted = None;
                    failure.get_or_insert_with(|| fail(GIVEN_UP.to_owned(), None));
                    continue;
                }
            };
            let Some(done) = done else { break };
            if let Ok(Err((digest, error))) = done {
                still_wanted = None;
                failure
                    .get_or_insert_with(|| fail(format!("layer {digest}: {error}"), hint(&error)));
            }
        }
        drop(still_wanted);
        failure.map_or(Ok(()), Err)
    }

    fn tell_devices(&self, shown: &str, variant: &Variant, image: &StoredImage) {
        let facts = image.layers.iter().filter_map(|it| self.store.facts(variant, &it.digest).ok());
        let count: u64 = facts.map(|facts| facts.devices).sum();
        if count > 0 {
            (self.tell)(ImageNote::DevicesLeftOut { image: shown.to_owned(), count });
        }
    }
}

/// Reads files on a separate thread, so that a slow disk or a special file blocks nothing else.
async fn read(
    work: impl FnOnce() -> Result<LocalImage, String> + Send + 'static,
) -> Result<LocalImage, String> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| panic.to_string())?
}

type Opener = Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>;

/// An opener for a layer's bytes, to be called on the reading thread, and their number, if known.
fn open(
    source: &Arc<PullSource>,
    descriptor: &Descriptor,
    wanted: watch::Receiver<()>,
) -> (Opener, Option<u64>) {
    match &**source {
        PullSource::Registry(registry) => {
            let (registry, wanted_layer) = (registry.clone(), descriptor.clone());
            // Nothing is asked for before: another pull may be getting this layer.
            let open = move || -> io::Result<Box<dyn Read + Send>> {
                Ok(Box::new(BlobReader::new(registry.blob(&wanted_layer, wanted))))
            };
            (Box::new(open), Some(descriptor.size))
        }
        PullSource::Local(image) => {
            let is_it = |layer: &&LocalLayer| layer.descriptor.digest == descriptor.digest;
            match image.layers.iter().find(is_it).cloned() {
                Some(layer) => {
                    let (files, size) = (image.files.clone(), layer.size());
                    (Box::new(move || layer.open(&files)), size)
                }
                None => (Box::new(|| Err(io::ErrorKind::NotFound.into())), None),
            }
        }
        // The layer was present when checked, and nothing is removed meanwhile.
        PullSource::Store => (Box::new(|| Err(io::ErrorKind::NotFound.into())), None),
    }
}

fn hint(error: &LayerError) -> Option<String> {
    use super::unpack::UnpackErrorKind;
    let text = match error {
        LayerError::Unpack(error) => match error.kind {
            UnpackErrorKind::Limit => {
                "where that is meant to be: runner image pull --max-layer-size SIZE, then run again"
            }
            UnpackErrorKind::Full => super::NO_SPACE,
            UnpackErrorKind::Name | UnpackErrorKind::Damaged | UnpackErrorKind::Other => {
                return None;
            }
        },
        LayerError::Store { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            super::NO_SPACE
        }
        LayerError::Longer { .. } | LayerError::Shorter { .. } | LayerError::Altered(_) => {
            "the registry, or a server on the way to it, sends wrong data for this image; nothing \
             of it is stored"
        }
        LayerError::Read(_) | LayerError::Store { .. } => return None,
    };
    Some(text.to_owned())
}
