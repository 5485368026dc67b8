//! The image store: layers, images and their names, on disk.
//!
//! ```text
//! images/
//!   layers/<variant>/<digest>/tree         a layer, unpacked, and what overlayfs wants to know of it
//!                             facts.json   how much it is, and what it leaves to the layers below
//!   manifests/<digest>.json                what an image is made of, and its config
//!   refs/<name>.json                       under which name an image was got, and when
//!   locks/                                 flocks: a layer being got, an image in use
//!   lock                                   shared while something is looked for or got, exclusive
//!                                          while what nobody uses is removed
//!   rootfs-<key>/                          a root file system's tar, unpacked (`trees`)
//! ```
//!
//! A variant is whose numbers the files' owners are: root's own, or those of a user namespace.
//! Whatever has its final name is whole and verified. Used by `pull`, by the engine and by
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

/// Whose files a layer's are.
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
            // Another range of ids is another tree.
            Some(users) => {
                let first = users.uids.get(1).map_or(0, |range| range.outside);
                format!("mapped-{first}")
            }
        };
        let marks = if users.is_some() { OpaqueMarks::User } else { OpaqueMarks::Trusted };
        Variant { name, marks, users: users.cloned() }
    }
}

/// An image, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredImage {
    pub digest: Digest,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
    pub config: ImageConfig,
}

/// A name for an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedImage {
    pub name: String,
    pub digest: Digest,
    /// When it was got, in milliseconds since 1970.
    pub pulled_ms: i64,
    /// A registry has given it without asking who we are. All else is the caller's own.
    #[serde(default)]
    pub is_public: bool,
}

/// Who may see an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eyes {
    /// The caller, and what they have chosen it for.
    Callers,
    /// Any build, because its registry gives it to anybody.
    Everybodys,
}

/// An image that nobody removes as long as this value lives.
#[derive(Debug)]
pub struct InUse {
    pub(super) image: StoredImage,
    _lock: File,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    pub layers: u64,
    /// Root file systems of tars.
    pub trees: u64,
    pub bytes: u64,
}

impl Freed {
    /// One more tree.
    pub(super) fn add(&mut self, bytes: u64) {
        self.trees += 1;
        self.bytes += bytes;
    }
}

impl ImageStore {
    /// `root`: the folder `images` of the state folder.
    pub fn new(root: PathBuf) -> Self {
        ImageStore { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A layer's place.
    pub(super) fn layer(&self, variant: &Variant, digest: &Digest) -> PathBuf {
        self.root.join("layers").join(&variant.name).join(digest.hex())
    }

    /// Makes the folders.
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

    /// Waits until nobody else gets this layer.
    pub(super) fn lock_layer(&self, variant: &Variant, digest: &Digest) -> io::Result<File> {
        let name = format!("layer-{}-{}", variant.name, digest.hex());
        let file = self.lock_file(&self.root.join("locks").join(name))?;
        file.lock()?;
        Ok(file)
    }

    /// Waits until nothing is being removed; nothing is while the value lives.
    pub(super) fn lock_shared(&self) -> io::Result<File> {
        let file = self.lock_file(&self.root.join("lock"))?;
        file.lock_shared()?;
        Ok(file)
    }

    fn image_lock(&self, digest: &Digest) -> io::Result<File> {
        self.lock_file(&self.root.join("locks").join(format!("image-{}", digest.hex())))
    }

    /// Takes an image into use. The caller holds the shared lock.
    pub(super) fn take(&self, image: StoredImage) -> io::Result<InUse> {
        let lock = self.image_lock(&image.digest)?;
        lock.lock_shared()?;
        Ok(InUse { image, _lock: lock })
    }

    fn ref_path(&self, name: &str) -> PathBuf {
        self.root.join("refs").join(format!("{}.json", escaped(name)))
    }

    /// The image a name stands for, if it is for these eyes.
    pub(super) fn find(&self, name: &str, eyes: Eyes) -> io::Result<Option<StoredImage>> {
        match read_json::<NamedImage>(&self.ref_path(name))? {
            Some(named) if named.is_public || eyes == Eyes::Callers => self.image(&named.digest),
            _ => Ok(None),
        }
    }

    /// An image by its digest.
    pub(super) fn image(&self, digest: &Digest) -> io::Result<Option<StoredImage>> {
        read_json(&self.root.join("manifests").join(format!("{}.json", digest.hex())))
    }

    /// Remembers an image, its name, and who may have it by that name.
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

    /// The layers of an image that are not there.
    pub(super) fn missing(&self, variant: &Variant, image: &StoredImage) -> Vec<Descriptor> {
        let mut seen = HashSet::new();
        let is_missing = |layer: &&Descriptor| !self.layer(variant, &layer.digest).is_dir();
        let is_first = |layer: &&Descriptor| seen.insert(layer.digest.clone());
        image.layers.iter().filter(is_missing).filter(is_first).cloned().collect()
    }

    /// What was unpacked of a layer.
    pub(super) fn facts(&self, variant: &Variant, digest: &Digest) -> io::Result<UnpackTotals> {
        let path = self.layer(variant, digest).join("facts.json");
        read_json(&path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// All names, by name, each with the bytes its image takes here.
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

    /// Bytes of a layer's files, in whichever variant there is.
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

    /// Forgets a name; whether there was one.
    pub fn forget(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.ref_path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes what no image uses, and what killed pulls have left. `wait` is called where a pull
    /// has to be waited for.
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
            // A build in progress keeps its image, named or not.
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
                // Under its final name a layer is whole; so it goes under another.
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
        // Nobody can hold one of these now: who gets a layer holds the store's own lock.
        for lock in entries(&self.root.join("locks"))? {
            let name = lock.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("layer-") {
                let _ = fs::remove_file(lock);
            }
        }
        Ok(freed)
    }
}

/// A name as the name of a file.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let text: String = name
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect();
    // Longer than a file's name may be: its hash tells it from others as well.
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

/// What stands in a file of ours; nothing where it is not there, or not ours.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
