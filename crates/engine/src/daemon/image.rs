//! A build's image at a daemon: found there, pulled, or loaded from a file.
//!
//! Used by the engine. Images belong to the daemon and stay there, except one made from a directory
//! for a single build.

use crate::EngineError;
use crate::docker::{Daemon, said};
use crate::image::{Getter, Image, ImageConfig, ImageNote, ImageRequester, LayerBar, Login};
use bollard::auth::DockerCredentials;
use bollard::body_try_stream;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptions, RemoveImageOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use oci_spec::distribution::Reference;
use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes handed to the daemon at a time.
const PIECE: usize = 256 << 10;
/// Pieces that may wait for the daemon.
const PIECES: usize = 4;
/// Name of an image made from a root file system. Podman imports only under its own kind of tag.
fn rootfs_name(of: &str) -> String {
    format!("localhost/runner-rootfs-{of}:latest")
}

/// An image from which the daemon can make containers.
pub(super) struct DaemonImage {
    /// Its name at the daemon.
    pub(super) reference: String,
    /// Its config.
    pub(super) config: ImageConfig,
    /// The image's id. It stays the same even if another image takes the name.
    pub(super) id: Option<String>,
    /// Whether to remove it after this build.
    pub(super) is_passing: bool,
}

/// Makes sure that the daemon has the image.
pub(super) async fn prepare(
    daemon: &Daemon,
    image: &Image,
    build: &str,
    images: &Getter,
) -> Result<DaemonImage, EngineError> {
    let mut is_passing = false;
    let reference = match image {
        Image::Host => {
            return Err(EngineError::image(
                format!("{} makes containers of images, and `host` is none", daemon.program),
                Some("name an image: --image NAME"),
            ));
        }
        Image::Registry(name) => {
            let reference = name.whole();
            if let ImageRequester::Stranger { hint } = &images.asker {
                return Err(EngineError::image(
                    format!("{} has {reference}, or gets it, as you", daemon.program),
                    Some(hint),
                ));
            }
            if inspect(daemon, &reference).await?.is_none() {
                pull(daemon, name, images).await?;
            }
            reference
        }
        Image::DockerDaemon(reference) => reference.clone(),
        Image::DockerArchive(path) | Image::OciArchive(path) => {
            let file = path.clone();
            load(daemon, image, move |to| write_file(&file, to)).await?
        }
        Image::Layout(path, _) => {
            let directory = path.clone();
            load(daemon, image, move |to| write_tree(&directory, to)).await?
        }
        Image::Rootfs(path) if path.is_dir() => {
            let reference = rootfs_name(build);
            let directory = path.clone();
            import(daemon, &reference, path, move |to| write_tree(&directory, to)).await?;
            is_passing = true;
            reference
        }
        Image::Rootfs(path) => {
            let reference = rootfs_name(&version_of(path)?);
            if inspect(daemon, &reference).await?.is_none() {
                let file = path.clone();
                import(daemon, &reference, path, move |to| write_file(&file, to)).await?;
            }
            reference
        }
    };
    let found = inspect(daemon, &reference).await?.ok_or_else(|| {
        EngineError::image(
            format!("{} at {} has no image {reference}", daemon.program, daemon.address),
            Some("docker-daemon: names an image that is there; without it, it is pulled"),
        )
    })?;
    let id = found.id.clone();
    Ok(DaemonImage { reference, config: config_of(found), id, is_passing })
}

/// Removes an image that was made for one build.
pub(super) async fn remove(client: &bollard::Docker, reference: &str) {
    // If it cannot be removed now, it stays in the daemon's list.
    let _ = client.remove_image(reference, None::<RemoveImageOptions>, None).await;
}

/// The daemon's facts about an image; `None` if it has no image of that name.
async fn inspect(daemon: &Daemon, reference: &str) -> Result<Option<ImageInspect>, EngineError> {
    match daemon.client.inspect_image(reference).await {
        Ok(image) => Ok(Some(image)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(EngineError::fault(
            format!("{} does not say whether it has {reference}: {}", daemon.program, said(&error)),
            None,
        )),
    }
}

fn config_of(image: ImageInspect) -> ImageConfig {
    let config = image.config.unwrap_or_default();
    let pair = |text: String| text.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
    ImageConfig {
        env: config.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        ..ImageConfig::default()
    }
}

/// Has the daemon pull the image with the caller's login.
async fn pull(daemon: &Daemon, name: &Reference, images: &Getter) -> Result<(), EngineError> {
    let reference = name.whole();
    let failed = |why: String| {
        EngineError::image(
            format!("{} cannot pull {reference}: {why}", daemon.program),
            Some("is the name right, and may you pull it? docker login, or podman login"),
        )
    };
    let known = images.asker.login(name.resolve_registry(), &images.ecr).await;
    let credentials = match known.map_err(failed)? {
        Login::Password { user, password } => Some(DockerCredentials {
            username: Some(user),
            password: Some(password),
            serveraddress: Some(name.registry().to_owned()),
            ..DockerCredentials::default()
        }),
        Login::Nobody => None,
    };
    let (program, image) = (daemon.program, reference.clone());
    (images.tell)(ImageNote::Pulling { program, image: image.clone() });
    let begin = Instant::now();
    let options = CreateImageOptionsBuilder::new().from_image(&reference).build();
    let mut progress = pin!(daemon.client.create_image(Some(options), None, credentials));
    let bars = images.progress.start(0);
    let mut layers: HashMap<String, LayerBar> = HashMap::new();
    while let Some(step) = progress.next().await {
        let step = step.map_err(|error| failed(said(&error)))?;
        let detail = step.progress_detail.unwrap_or_default();
        if let (Some(id), Some("Downloading"), Some(current), Some(total)) =
            (step.id, step.status.as_deref(), detail.current, detail.total)
        {
            let bar = layers.entry(id).or_insert_with_key(|id| bars.told(id));
            bar.set(u64::try_from(current).unwrap_or(0), u64::try_from(total).unwrap_or(0));
        }
    }
    drop((layers, bars));
    (images.tell)(ImageNote::Pulled { program, image, time: begin.elapsed() });
    Ok(())
}

/// Makes an image from a tar of a root file system.
async fn import(
    daemon: &Daemon,
    reference: &str,
    path: &Path,
    write: impl FnOnce(ChannelWriter) -> io::Result<()> + Send + 'static,
) -> Result<(), EngineError> {
    let failed = |why: String| {
        let message = format!("cannot bring {} to {}: {why}", path.display(), daemon.program);
        EngineError::image(message, None)
    };
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag(tag).build();
    let (body, written) = pieces(write);
    let mut progress =
        pin!(daemon.client.create_image(Some(options), Some(body_try_stream(body)), None));
    let mut outcome = Ok(());
    while let Some(step) = progress.next().await {
        if let Err(error) = step {
            outcome = Err(failed(said(&error)));
        }
    }
    // Why the bytes ended says more than the daemon's error.
    match written.await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failed(error.to_string()))
        }
        _ => outcome,
    }
}

/// The body of a request, which a thread writes.
fn pieces(
    write: impl FnOnce(ChannelWriter) -> io::Result<()> + Send + 'static,
) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, JoinHandle<io::Result<()>>) {
    let (piece_tx, piece_rx) = mpsc::channel(PIECES);
    let task = tokio::task::spawn_blocking(move || {
        let last = piece_tx.clone();
        let written = write(ChannelWriter(piece_tx));
        if let Err(error) = &written {
            // A body that just ends would look complete.
            let _ = last.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
        }
        written
    });
    let stream = futures_util::stream::unfold(piece_rx, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    });
    (stream, task)
}

/// Sends a thread's writes to a channel.
struct ChannelWriter(mpsc::Sender<io::Result<Bytes>>);

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(piece)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_tree(directory: &Path, to: ChannelWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(PIECE, to));
    archive.follow_symlinks(false);
    archive.append_dir_all(".", directory)?;
    archive.into_inner()?.flush()
}

fn write_file(path: &Path, mut to: ChannelWriter) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            got => to.write_all(&buffer[..got])?,
        }
    }
}

/// A name for a tar that changes when the tar does.
fn version_of(path: &Path) -> Result<String, EngineError> {
    let failed =
        |error: io::Error| EngineError::image(format!("{}: {error}", path.display()), None);
    let whole = fs::canonicalize(path).map_err(failed)?;
    let metadata = fs::metadata(&whole).map_err(failed)?;
    let mut hasher = DefaultHasher::new();
    let time = (metadata.mtime(), metadata.mtime_nsec());
    (whole, metadata.dev(), metadata.ino(), metadata.len(), time).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Loads an archive. Returns the daemon's name for the image in it.
async fn load(
    daemon: &Daemon,
    image: &Image,
    write: impl FnOnce(ChannelWriter) -> io::Result<()> + Send + 'static,
) -> Result<String, EngineError> {
    let failed = |why: String| {
        let hint = matches!(image, Image::OciArchive(_) | Image::Layout(..)).then_some(
            "older daemons take Docker's archives only: skopeo copy SOURCE docker-archive:FILE",
        );
        let message = format!("{} cannot load {image}: {why}", daemon.program);
        EngineError::image(message, hint)
    };
    let (body, written) = pieces(write);
    let options = ImportImageOptions::default();
    let mut progress = pin!(daemon.client.import_image(options, body_try_stream(body), None));
    let (mut loaded, mut refused) = (None, None);
    while let Some(step) = progress.next().await {
        match step {
            Ok(step) => {
                let text = step.stream.unwrap_or_default();
                let forms = ["Loaded image: ", "Loaded image ID: ", "Loaded image(s): "];
                let mut names = text
                    .lines()
                    .filter_map(|line| forms.iter().find_map(|form| line.strip_prefix(form)));
                loaded = names.next_back().map(str::to_owned).or(loaded);
            }
            Err(error) => refused = Some(said(&error)),
        }
    }
    // Why the bytes ended says more than the daemon's error.
    match (written.await, refused) {
        (Ok(Err(error)), _) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failed(error.to_string()))
        }
        (_, Some(why)) => Err(failed(why)),
        _ => loaded.ok_or_else(|| failed("it does not say which image was in it".to_owned())),
    }
}
