//! `rootfs:DIR` and `rootfs:TAR`: a root file system without a registry.
//!
//! A directory is used as it is. A tar is unpacked once into the state folder and kept as long as
//! it does not change; the next version of the same file replaces it. The tar is not trusted:
//! nothing outside its own tree is ever touched, and what could only be meant to do so is refused.

use super::layer;
use super::local::regular;
use super::store::{Store, Variant};
use super::unpack::{Kind, Rules, UnpackError};
use super::{ImageError, MOST_BYTES, NO_SPACE, Prepared, devices_left_out};
use crate::state::{make_private, remove_tree};
use runner_sandbox::UserMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Makes the image at `path` ready. `tell` hears what the person should know.
/// `users` are those the container will have, where they are not the host's own. Blocks.
pub(super) fn prepare(
    store: &Store,
    path: &Path,
    users: Option<&UserMap>,
    tell: &dyn Fn(String),
) -> Result<Prepared, ImageError> {
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
        return Ok(Prepared::tree(path.to_path_buf(), None));
    }
    if !metadata.is_file() {
        return Err(fail("neither a directory nor a tar".to_owned(), None));
    }
    unpacked(store.root(), path, &metadata, users, tell).map_err(|error| {
        let hint = match error.kind {
            Kind::Name => {
                Some("make the tar with names relative to its root: tar -C DIR -cf FILE .")
            }
            Kind::Damaged => {
                Some("is it a tar, plain or compressed with gzip or zstd? `tar -tf FILE` tells")
            }
            Kind::Full => Some(NO_SPACE),
            Kind::Limit | Kind::Other => None,
        };
        fail(error.message, hint)
    })
}

fn unpacked(
    images: &Path,
    path: &Path,
    metadata: &fs::Metadata,
    users: Option<&UserMap>,
    tell: &dyn Fn(String),
) -> Result<Prepared, UnpackError> {
    let source = fs::canonicalize(path)?;
    // The file's identity and version; a rewritten file is another image. The same for other users
    // has other owners.
    let key = format!(
        "rootfs-{}-{}-{}-{}.{:09}{}",
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        match users {
            None => "",
            Some(users) if users.is_single() => "-single",
            Some(_) => "-mapped",
        }
    );
    let dir = images.join(&key);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(images.join(format!("{key}.lock")))?;
    // Two builds may want the same tar at once: one unpacks, the other waits and finds it.
    lock.lock()?;
    let tree = dir.join("tree");
    if !dir.join("source").exists() {
        remove_tree(&dir)?;
        make_private(&dir)?;
        fs::create_dir(&tree)?;
        let rules = Rules { marks: None, most_bytes: MOST_BYTES };
        let input = regular(path)?;
        let chore = layer::start(&Variant::of(users), &tree, rules, input.into())?;
        let facts = layer::finish(chore)?;
        if facts.devices > 0 {
            tell(devices_left_out(&path.display().to_string(), facts.devices));
        }
        // Last: it says that the tree is whole.
        fs::write(dir.join("source"), source.as_os_str().as_encoded_bytes())?;
        remove_older(images, &key, &source);
    }
    lock.unlock()?;
    lock.lock_shared()?;
    Ok(Prepared::tree(tree, Some(lock)))
}

/// Removes what earlier versions of the same file left, unless a build still uses it.
fn remove_older(images: &Path, key: &str, source: &Path) {
    let Ok(list) = fs::read_dir(images) else { return };
    for entry in list.flatten() {
        let name = entry.file_name();
        let is_same_file = fs::read(entry.path().join("source"))
            .is_ok_and(|text| text == source.as_os_str().as_encoded_bytes());
        if name == OsStr::new(key) || !is_same_file {
            continue;
        }
        let mut lock_name = name.clone();
        lock_name.push(".lock");
        let lock_path = images.join(lock_name);
        let is_free = File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_ok());
        // What cannot be removed now is found again next time.
        if is_free && remove_tree(&entry.path()).is_ok() {
            let _ = fs::remove_file(&lock_path);
        }
    }
}
