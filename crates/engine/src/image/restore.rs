//! Stacks layers and restores the mode, owner and time of directories that upper layers only
//! imply.
//!
//! A layer with `/root/.profile` need not have an entry for `/root`. Unpacked alone it has a
//! `/root` all the same, and overlayfs shows the topmost one. So the attributes of such directories
//! are looked up once for each image and set in the container's own layer.

use super::store::{ImageStore, InUse, StoredImage, Variant};
use super::{HeldImage as Held, PreparedImage};
use runner_sandbox::{Chore, Restored, UserMap};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A layer's tree, as passed to a chore that may read it.
#[derive(Debug, Serialize, Deserialize)]
struct UnpackedLayer {
    tree: PathBuf,
    /// Implied directories, as in `unpack::Facts`.
    implied: BTreeSet<Vec<u8>>,
}

/// Stacks the layers of an image. Blocks.
pub(super) fn stack(
    store: &ImageStore,
    image: InUse,
    users: Option<&UserMap>,
) -> io::Result<PreparedImage> {
    let variant = Variant::of(users);
    let mut lower = Vec::new();
    let mut seen = BTreeSet::new();
    for descriptor in image.image.layers.iter().rev() {
        // An empty layer may occur twice, but overlayfs takes a directory only once.
        if seen.insert(descriptor.digest.clone()) {
            lower.push(store.layer(&variant, &descriptor.digest).join("tree"));
        }
    }
    let restored = restored(store, &variant, &image.image)?;
    if lower.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has no layers"));
    }
    let config = image.image.config.clone();
    let digest = Some(image.image.digest.to_string());
    Ok(PreparedImage { lower, restored, config, digest, _in_use: Held::Image(Box::new(image)) })
}

fn restored(
    store: &ImageStore,
    variant: &Variant,
    image: &StoredImage,
) -> io::Result<Vec<Restored>> {
    let mut layers = Vec::new();
    for descriptor in image.layers.iter().rev() {
        let implied = store.facts(variant, &descriptor.digest)?.implied;
        let tree = store.layer(variant, &descriptor.digest).join("tree");
        layers.push(UnpackedLayer { tree, implied: implied.into_iter().collect() });
    }
    // The lowest layer has no layer below to look in.
    let count = layers.len().saturating_sub(1);
    if layers[..count].iter().all(|layer| layer.implied.is_empty()) {
        return Ok(Vec::new());
    }
    // Only their own root can inspect files of a container's users.
    let mut question = tempfile::tempfile()?;
    serde_json::to_writer(&mut question, &layers)?;
    question.flush()?;
    io::Seek::rewind(&mut question)?;
    let chore = Chore::start(variant.users.as_ref(), &["look"], Some(question.into()))?;
    Ok(serde_json::from_str(&chore.finish()?)?)
}

/// The chore's half: finds those attributes. `layers` is the JSON that the other half wrote.
pub fn look(layers: impl io::Read) -> io::Result<String> {
    let layers: Vec<UnpackedLayer> = serde_json::from_reader(layers)?;
    let implied = layers.iter().flat_map(|layer| &layer.implied);
    let mut wanted = BTreeSet::new();
    for path in implied.map(|path| Path::new(OsStr::from_bytes(path))) {
        let is_to_restore = looks_of(&layers, path).is_some_and(|(_, is_topmost)| !is_topmost);
        if is_to_restore {
            // Its ancestors are created on the way and need the right attributes, too.
            wanted.extend(path.ancestors().filter(|above| *above != Path::new("/")));
        }
    }
    // Paths sort parents first.
    let restored: Vec<Restored> = wanted
        .into_iter()
        .filter_map(|path| looks_of(&layers, path).map(|(restored, _)| restored))
        .collect();
    Ok(serde_json::to_string(&restored)?)
}

/// A directory's attributes from the topmost layer that records them, and whether no higher layer
/// implies it.
fn looks_of(layers: &[UnpackedLayer], path: &Path) -> Option<(Restored, bool)> {
    let relative = path.strip_prefix("/").ok()?;
    let mut is_topmost = true;
    for layer in layers {
        let metadata = match fs::symlink_metadata(layer.tree.join(relative)) {
            Ok(metadata) => metadata,
            Err(_) => continue,
        };
        // A whiteout or a file hides all below it.
        if !metadata.is_dir() {
            return None;
        }
        if layer.implied.contains(path.as_os_str().as_bytes()) {
            is_topmost = false;
            continue;
        }
        let restored = Restored {
            path: path.to_path_buf(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            modified_s: metadata.mtime(),
        };
        return Some((restored, is_topmost));
    }
    None
}
