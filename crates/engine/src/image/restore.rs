//! Layers, stacked: what each has only named on the way looks as the layers below have it.
//!
//! A layer that holds `/root/.profile` need not say what `/root` is like. Unpacked by itself it has
//! a `/root` all the same, and overlayfs shows the topmost one. So the looks of such directories are
//! found once for each image, and given back in the container's own layer.

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

/// A layer's tree, for a chore that may read it.
#[derive(Debug, Serialize, Deserialize)]
struct UnpackedLayer {
    tree: PathBuf,
    /// As `unpack::Facts` has them.
    implied: BTreeSet<Vec<u8>>,
}

/// The directories of an image. Blocks.
pub(super) fn stack(
    store: &ImageStore,
    image: InUse,
    users: Option<&UserMap>,
) -> io::Result<PreparedImage> {
    let variant = Variant::of(users);
    let mut lower = Vec::new();
    let mut seen = BTreeSet::new();
    for descriptor in image.image.layers.iter().rev() {
        // An empty layer may be there twice, and overlayfs takes a directory once.
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
    // In the lowest there is nobody to ask.
    let count = layers.len().saturating_sub(1);
    if layers[..count].iter().all(|layer| layer.implied.is_empty()) {
        return Ok(Vec::new());
    }
    // Files of a container's users can be looked at as their root only.
    let mut question = tempfile::tempfile()?;
    serde_json::to_writer(&mut question, &layers)?;
    question.flush()?;
    io::Seek::rewind(&mut question)?;
    let chore = Chore::start(variant.users.as_ref(), &["look"], Some(question.into()))?;
    Ok(serde_json::from_str(&chore.finish()?)?)
}

/// Finds those looks; the chore's half. `layers` is what its other half has written.
pub fn look(layers: impl io::Read) -> io::Result<String> {
    let layers: Vec<UnpackedLayer> = serde_json::from_reader(layers)?;
    let implied = layers.iter().flat_map(|layer| &layer.implied);
    let mut wanted = BTreeSet::new();
    for path in implied.map(|path| Path::new(OsStr::from_bytes(path))) {
        let is_to_restore = looks_of(&layers, path).is_some_and(|(_, is_topmost)| !is_topmost);
        if is_to_restore {
            // Those above it are made on the way to it, and have to look right, too.
            wanted.extend(path.ancestors().filter(|above| *above != Path::new("/")));
        }
    }
    // Parents first, as paths sort.
    let restored: Vec<Restored> = wanted
        .into_iter()
        .filter_map(|path| looks_of(&layers, path).map(|(restored, _)| restored))
        .collect();
    Ok(serde_json::to_string(&restored)?)
}

/// What the topmost layer that knows says of a directory, and whether none above it has one.
fn looks_of(layers: &[UnpackedLayer], path: &Path) -> Option<(Restored, bool)> {
    let relative = path.strip_prefix("/").ok()?;
    let mut is_topmost = true;
    for layer in layers {
        let metadata = match fs::symlink_metadata(layer.tree.join(relative)) {
            Ok(metadata) => metadata,
            Err(_) => continue,
        };
        // A whiteout or a file: what is further below does not count.
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
