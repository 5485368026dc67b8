//! Images: turns a name into the directories of a container's root.
//!
//! Used by the engine before a container is made, and by `runner image`. Images are untrusted: see
//! `unpack` for limits on layers and `manifest` for limits on JSON.

mod at_hand;
mod auth;
mod certificates;
mod curated;
mod from_daemon;
#[cfg(test)]
mod fuzz;
mod layer;
mod local;
mod manifest;
mod name;
mod note;
mod progress;
mod pull;
mod registry;
mod restore;
mod rootfs;
mod store;
mod swap;
mod trees;
mod unpack;

pub use auth::{EcrPasswords, ImageRequester, Login};
pub use certificates::check as check_certificates;
pub use manifest::ImageConfig;
pub use name::Image;
pub use note::ImageNote;
pub use progress::{Curtain, LayerBar, PullProgress};
pub use pull::{Getter, MOST_BYTES};
pub use restore::look as look_at_layers;
pub use store::{Freed, ImageStore};
pub use swap::Swap;
pub use unpack::{Rules, unpack};

use runner_sandbox::{Restored, UserMap};
use std::fs::File;
use std::path::PathBuf;

const NO_SPACE: &str = "free some space, or set RUNNER_HOME to a directory on another disk";

/// An image ready for use.
#[derive(Debug)]
pub struct PreparedImage {
    /// Directories to stack, the topmost first.
    pub lower: Vec<PathBuf>,
    /// Directories whose mode, owner and time the topmost layer does not record.
    pub restored: Vec<Restored>,
    /// The image's config.
    pub config: ImageConfig,
    /// The image's digest, if it has one.
    pub digest: Option<String>,
    /// Held while a build uses the image, so that nothing replaces or removes it.
    _in_use: HeldImage,
}

#[derive(Debug)]
enum HeldImage {
    Tree(#[allow(dead_code, reason = "held for its lock")] Option<File>),
    Image(#[allow(dead_code, reason = "held for its lock")] Box<store::InUse>),
}

impl PreparedImage {
    fn tree(tree: PathBuf, lock: Option<File>) -> Self {
        PreparedImage {
            lower: vec![tree],
            restored: Vec::new(),
            config: ImageConfig::default(),
            digest: None,
            _in_use: HeldImage::Tree(lock),
        }
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("image {image}: {message}")]
pub struct ImageError {
    pub image: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Getter {
    /// Prepares an image for a container with these users. `host` needs no preparation and gives
    /// `None`.
    pub async fn prepare(
        &self,
        image: &Image,
        users: Option<&UserMap>,
    ) -> Result<Option<PreparedImage>, ImageError> {
        match image {
            Image::Host => Ok(None),
            Image::Rootfs(path) => {
                let (getter, path, users) = (self.clone(), path.clone(), users.cloned());
                let prepared = tokio::task::spawn_blocking(move || {
                    rootfs::prepare(&getter.store, &path, users.as_ref(), &*getter.tell)
                });
                prepared.await.map_err(|panic| self.panicked(image, &panic))?.map(Some)
            }
            _ => {
                let got = self.get(image, None, users, false).await?;
                let (getter, users) = (self.clone(), users.cloned());
                let stacked = tokio::task::spawn_blocking(move || {
                    restore::stack(&getter.store, got.image, users.as_ref())
                });
                stacked.await.map_err(|panic| self.panicked(image, &panic))?.map(Some).map_err(
                    |error| ImageError {
                        image: image.to_string(),
                        message: format!("cannot read its layers: {error}"),
                        hint: Some("get it again: runner image rm, runner image pull".to_owned()),
                    },
                )
            }
        }
    }

    fn panicked(&self, image: &Image, panic: &tokio::task::JoinError) -> ImageError {
        ImageError { image: image.to_string(), message: panic.to_string(), hint: None }
    }
}
