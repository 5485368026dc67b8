//! `rootfs:DIR` and `rootfs:TAR`: a root file system without a registry.
//!
//! A directory is used in place. A tar is unpacked once into the state folder and kept until it
//! changes; the next version of the same file replaces it. The tar is untrusted: nothing outside
//! its own tree is touched, and entries that could only be meant to escape are refused.

use super::layer;
use super::local::regular;
use super::store::{ImageStore, Variant};
use super::trees;
use super::unpack::{Rules, UnpackError, UnpackErrorKind};
use super::{ImageError, ImageNote, MOST_BYTES, NO_SPACE, PreparedImage};
use runner_sandbox::UserMap;
use std::fs;
use std::path::Path;

/// Directory for the tar's contents.
const TREE: &str = "tree";

/// Prepares the image at `path`. `tell` gets messages for the user. `users` are the container's
/// users if they differ from the host's. Blocks.
pub(super) fn prepare(
    store: &ImageStore,
    path: &Path,
    users: Option<&UserMap>,
    tell: &dyn Fn(ImageNote),
) -> Result<PreparedImage, ImageError> {
    let fail = |message: String, hint: Option<&str>| ImageError {
        image: format!("rootfs:{}", path.display()),
        message,
        hint: hint.map(str::to_owned),
    };
    let metadata = fs::metadata(path).map_err(|error| {
        fail(error.to_string(), Some("name an unpacked root directory or a tar of one"))
    })?;
    if metadata.is_dir() {
        let is_empty =
            fs::read_dir(path).map_err(|error| fail(error.to_string(), None))?.next().is_none();
        if is_empty {
            let hint = Some("unpack a root file system into it first");
            return Err(fail("the directory is empty".to_owned(), hint));
        }
        return Ok(PreparedImage::tree(path.to_path_buf(), None));
    }
    if !metadata.is_file() {
        return Err(fail("neither a directory nor a tar".to_owned(), None));
    }
    unpacked(store, path, &metadata, users, tell).map_err(|error| {
        let hint = match error.kind {
            UnpackErrorKind::Name => {
                Some("make the tar with names relative to its root: tar -C DIR -cf FILE .")
            }
            UnpackErrorKind::Damaged => Some(
                "is it a tar, plain or compressed with gzip or zstd? Check with `tar -tf FILE`",
            ),
            UnpackErrorKind::Full => Some(NO_SPACE),
            UnpackErrorKind::Limit | UnpackErrorKind::Other => None,
        };
        fail(error.message, hint)
    })
}

fn unpacked(
    store: &ImageStore,
    path: &Path,
    metadata: &fs::Metadata,
    users: Option<&UserMap>,
    tell: &dyn Fn(ImageNote),
) -> Result<PreparedImage, UnpackError> {
    let source = fs::canonicalize(path)?;
    let variant = match users {
        None => "",
        Some(users) if users.is_single() => "-single",
        Some(_) => "-mapped",
    };
    // The file's identity and version: a rewritten file is another image.
    let key = trees::key(metadata, variant);
    let lock = store.use_tree(&key, |dir| {
        let tree = dir.join(TREE);
        fs::create_dir(&tree)?;
        let rules = Rules { marks: None, most_bytes: MOST_BYTES };
        let input = regular(path)?;
        let chore = layer::start(&Variant::of(users), &tree, rules, input.into())?;
        let facts = layer::finish(chore)?;
        if facts.devices > 0 {
            let image = path.display().to_string();
            tell(ImageNote::DevicesLeftOut { image, count: facts.devices });
        }
        trees::complete(dir, &source, &facts)?;
        Ok::<_, UnpackError>(())
    })?;
    store.forget_older(&key, &source);
    Ok(PreparedImage::tree(store.tree_dir(&key).join(TREE), Some(lock)))
}
