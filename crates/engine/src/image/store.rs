//! The image store: layers, images and their names, on disk.
//!
//! ```text
//! images/
//!   layers/<variant>/<digest>/tree         an unpacked layer with overlayfs's marks
//!                             facts.json   totals, and directories that it only implies
//!   manifests/<digest>.json                an image's layers and config
//!   refs/<name>.json                       the digest of a name, and when it was pulled
//!   locks/                                 flocks: layers being fetched, images in use
//!   lock                                   shared during lookups and fetches, exclusive
//!                                          during the removal of unused data
//!   rootfs-<key>/                          a root file system unpacked from a tar (`trees`)
//! ```
//!
//! A variant is named after the ids that own the files: root's own, or those of a user namespace.
//! Anything under its final name is complete and verified. Used by `pull`, by the engine and by
//! `runner image`.

use super::manifest::{Descriptor, Digest, ImageConfig};
use super::unpack::{OpaqueMarks, UnpackTotals};
use runner_host::private::{make_private, remove_tree, write_durably};
use runner_sandbox::UserMap;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The images below one folder.
#[derive(Clone, Debug)]
pub struct ImageStore {
    root: PathBuf,
}

/// The users that own a layer's files.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    name: String,
    pub(super) marks: OpaqueMarks,
    pub(super) users: Option<UserMap>,
}

impl Variant {
    pub(super) fn of(users: Option<&UserMap>) -> Self {
        let name = match users {
            None => "root".to_owned(),
            Some(users) if users.is_single() => "single".to_owned(),
            // Another range of ids needs another tree.
            Some(users) => {
                let first = users.uids.get(1).map_or(0, |range| range.outside);
                format!("mapped-{first}")
            }
        };
        let marks = if users.is_some() { OpaqueMarks::User } else { OpaqueMarks::Trusted };
        Variant { name, marks, users: users.cloned() }
    }
}

/// A stored image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredImage {
    pub digest: Digest,
    /// Lowest layer first.
    pub layers: Vec<Descriptor>,
    pub config: ImageConfig,
}

/// An image under one of its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedImage {
    pub name: String,
    pub digest: Digest,
    /// Time of the pull, in milliseconds since 1970.
    pub pulled_ms: i64,
    /// Whether a registry gave it without credentials. All others are the caller's own.
    #[serde(default)]
    pub is_public: bool,
}

/// Who may use an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eyes {
    /// The caller, and builds for which they chose the image.
    Callers,
    /// Any build, because its registry gives it to anyone.
    Everybodys,
}

/// An image that cannot be removed while this value lives.
#[derive(Debug)]
pub struct InUse {
    pub(super) image: StoredImage,
    _lock: File,
}

/// Totals of what was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    pub layers: u64,
    /// Root file systems unpacked from tars.
    pub trees: u64,
    pub bytes: u64,
}

impl Freed {
    /// Counts one more tree.
    pub(super) fn add(&mut self, bytes: u64) {
        self.trees += 1;
        self.bytes += bytes;
    }
}

impl ImageStore {
    /// `root` is the folder `images` of the state folder.
    pub fn new(root: PathBuf) -> Self {
        ImageStore { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A layer's directory.
    pub(super) fn layer(&self, variant: &Variant, digest: &Digest) -> PathBuf {
        self.root.join("layers").join(&variant.name).join(digest.hex())
    }

    /// Creates the folders.
    pub(super) fn prepare(&self, variant: &Variant) -> io::Result<()> {
        make_private(&self.root.join("layers").join(&variant.name))?;
        ["manifests", "refs", "locks"]
            .iter()
            .try_for_each(|name| make_private(&self.root.join(name)))
    }

    fn lock_file(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        runner_host::users::give(path)?;
        Ok(file)
    }

    /// Locks a layer. Waits while another pull fetches it.
    pub(super) fn lock_layer(&self, variant: &Variant, digest: &Digest) -> io::Result<File> {
        let name = format!("layer-{}-{}", variant.name, digest.hex());
        let file = self.lock_file(&self.root.join("locks").join(name))?;
        file.lock()?;
        Ok(file)
    }

    /// Takes the store's shared lock, which prevents removal while it is held. Waits for a running
    /// removal.
    pub(super) fn lock_shared(&self) -> io::Result<File> {
        let file = self.lock_file(&self.root.join("lock"))?;
        file.lock_shared()?;
        Ok(file)
    }

    fn image_lock(&self, digest: &Digest) -> io::Result<File> {
        self.lock_file(&self.root.join("locks").join(format!("image-{}", digest.hex())))
    }

    /// Takes an image into use. The caller must hold the shared lock.
    pub(super) fn take(&self, image: StoredImage) -> io::Result<InUse> {
        let lock = self.image_lock(&image.digest)?;
        lock.lock_shared()?;
        Ok(InUse { image, _lock: lock })
    }

    fn ref_path(&self, name: &str) -> PathBuf {
        self.root.join("refs").join(format!("{}.json", escaped(name)))
    }

    /// The image of a name, if `eyes` may see it.
    pub(super) fn find(&self, name: &str, eyes: Eyes) -> io::Result<Option<StoredImage>> {
        match read_json::<NamedImage>(&self.ref_path(name))? {
            Some(named) if named.is_public || eyes == Eyes::Callers => self.image(&named.digest),
            _ => Ok(None),
        }
    }

    /// The image with this digest.
    pub(super) fn image(&self, digest: &Digest) -> io::Result<Option<StoredImage>> {
        read_json(&self.root.join("manifests").join(format!("{}.json", digest.hex())))
    }

    /// Records an image under a name, with who may use it.
    pub(super) fn remember(
        &self,
        name: &str,
        image: &StoredImage,
        eyes: Eyes,
        now_ms: i64,
    ) -> io::Result<()> {
        let path = self.root.join("manifests").join(format!("{}.json", image.digest.hex()));
        write_durably(&path, &serde_json::to_vec(image)?)?;
        let named = NamedImage {
            name: name.to_owned(),
            digest: image.digest.clone(),
            pulled_ms: now_ms,
            is_public: eyes == Eyes::Everybodys,
        };
        write_durably(&self.ref_path(name), &serde_json::to_vec(&named)?)
    }

    /// The layers of an image that the store lacks.
    pub(super) fn missing(&self, variant: &Variant, image: &StoredImage) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let is_missing = |layer: &&Descriptor| !self.layer(variant, &layer.digest).is_dir();
        let is_first = |layer: &&Descriptor| seen.insert(layer.digest.clone());
        image.layers.iter().filter(is_missing).filter(is_first).cloned().collect()
    }

    /// Totals of an unpacked layer.
    pub(super) fn facts(&self, variant: &Variant, digest: &Digest) -> io::Result<UnpackTotals> {
        let path = self.layer(variant, digest).join("facts.json");
        read_json(&path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// All names, sorted, each with the bytes its image takes in the store.
    pub fn list(&self) -> io::Result<Vec<(NamedImage, u64)>> {
        let mut list = Vec::new();
        for path in entries(&self.root.join("refs"))? {
            let Some(named) = read_json::<NamedImage>(&path)? else { continue };
            let image = self.image(&named.digest)?;
            let size = image
                .map_or(0, |image| image.layers.iter().map(|layer| self.size(&layer.digest)).sum());
            list.push((named, size));
        }
        list.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(list)
    }

    /// Bytes of a layer's files, from whichever variant exists.
    fn size(&self, digest: &Digest) -> u64 {
        let variants = entries(&self.root.join("layers")).unwrap_or_default();
        variants
            .iter()
            .find_map(|variant| {
                let path = variant.join(digest.hex()).join("facts.json");
                read_json::<UnpackTotals>(&path).ok().flatten().map(|facts| facts.bytes)
            })
            .unwrap_or(0)
    }

    /// Removes a name. Returns whether it existed.
    pub fn forget(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.ref_path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes everything that no image uses, and the leftovers of killed pulls. Calls `wait` if it
    /// has to wait for a pull.
    pub fn prune(&self, wait: impl FnOnce()) -> io::Result<Freed> {
        let lock = self.lock_file(&self.root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                wait();
                lock.lock()?;
            }
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut named = HashSet::new();
        for path in entries(&self.root.join("refs"))? {
            named.extend(read_json::<NamedImage>(&path)?.map(|named| named.digest));
        }
        let mut used = HashSet::new();
        let mut unused = Vec::new();
        for path in entries(&self.root.join("manifests"))? {
            let Some(image) = read_json::<StoredImage>(&path)? else { continue };
            // A running build keeps its image, named or not.
            let is_used = named.contains(&image.digest)
                || self.image_lock(&image.digest)?.try_lock().is_err();
            if is_used {
                used.extend(image.layers.iter().map(|layer| layer.digest.hex().to_owned()));
            } else {
                unused.push((path, image.digest));
            }
        }
        let mut freed = self.prune_trees()?;
        for variant in entries(&self.root.join("layers"))? {
            for dir in entries(&variant)? {
                let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if used.contains(&name) {
                    continue;
                }
                let facts = read_json::<UnpackTotals>(&dir.join("facts.json")).ok().flatten();
                // Rename it first: under its final name a layer counts as complete.
                let doomed = dir.with_file_name(format!(".gone-{}", name.trim_start_matches('.')));
                fs::rename(&dir, &doomed)?;
                remove_tree(&doomed)?;
                freed.layers += 1;
                freed.bytes += facts.map_or(0, |facts| facts.bytes);
            }
        }
        for (path, digest) in unused {
            fs::remove_file(path)?;
            let _ =
                fs::remove_file(self.root.join("locks").join(format!("image-{}", digest.hex())));
        }
        // Nobody can hold one of these now: fetching a layer takes the store's shared lock.
        for lock in entries(&self.root.join("locks"))? {
            let name = lock.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("layer-") {
                let _ = fs::remove_file(lock);
            }
        }
        Ok(freed)
    }
}

/// Escapes an image's name for use as a file name.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let text: String = name
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect();
    // A longer text would not fit a file name: use its hash.
    if text.len() <= 240 {
        return text;
    }
    use sha2::Digest as _;
    Digest::of(&sha2::Sha256::digest(name)).hex().to_owned()
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(list) => list.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reads one of our JSON files; `None` if it is missing or cannot be parsed.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
