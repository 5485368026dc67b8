//! Takes images from Docker or Podman for our own containers.
//!
//! Used by `pull`. A daemon exports an image in the format of `docker save`; the file is kept only
//! while its layers are unpacked.

use super::manifest::Digest;
use crate::docker::{self, Daemon, DaemonProgram, Storage, said};
use futures_util::StreamExt;
use std::io::{self, Write};
use std::path::Path;
use std::pin::pin;
use tempfile::{NamedTempFile, TempDir, TempPath};

pub(super) struct ExportedImage {
    daemon: Daemon,
    name: String,
    /// The image's id, if it is the digest of the config.
    pub(super) id: Option<Digest>,
    /// Where our own Podman listens.
    _place: TempDir,
}

/// Looks in Docker, then in Podman.
pub(super) async fn find(name: &str) -> Result<ExportedImage, String> {
    let place = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
    let mut unreachable = Vec::new();
    for program in [DaemonProgram::Docker, DaemonProgram::Podman] {
        let daemon = match docker::find(program, place.path(), &Storage::Callers).await {
            Ok(daemon) => daemon,
            Err(why) => {
                unreachable.push(why.to_string());
                continue;
            }
        };
        let image = daemon.client.inspect_image(name).await.map_err(|error| said(&error))?;
        let id = image.id.and_then(|id| id.parse().ok());
        return Ok(ExportedImage { daemon, name: name.to_owned(), id, _place: place });
    }
    Err(unreachable.join("; "))
}

impl ExportedImage {
    /// Exports the image to a temporary file in `store`, which disappears with the returned path.
    pub(super) async fn save(self, store: &Path) -> Result<TempPath, String> {
        let failed = |error: io::Error| format!("cannot keep it in {}: {error}", store.display());
        let mut file = NamedTempFile::with_prefix_in(".saved-", store).map_err(failed)?;
        let saved = {
            let mut pieces = pin!(self.daemon.client.export_image(&self.name));
            loop {
                match pieces.next().await {
                    None => break Ok(()),
                    // A blocking write: it goes to the page cache at the daemon's pace.
                    Some(Ok(piece)) => file.write_all(&piece).map_err(failed)?,
                    Some(Err(error)) => break Err(said(&error)),
                }
            }
        };
        self.daemon.end().await;
        saved.map(|()| file.into_temp_path())
    }
}
