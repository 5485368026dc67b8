//! Images in local files: OCI image layouts, as a directory or a tar, and archives of `docker
//! save`.
//!
//! Used by `pull`. An archive is read in place: its entries are found once, and each blob is read
//! from its offset. Only layers are unpacked.

use super::manifest::{
    self, Descriptor, Digest, ImageConfig, MOST_JSON, Manifest, ManifestOrIndex,
};
use runner_host::beneath::Dir;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

/// Most entries of an archive, which holds a manifest, an index and blobs, not a file system.
const MOST_ENTRIES: usize = 100_000;

#[derive(Clone, Debug)]
pub(super) enum BlobFiles {
    /// A directory, and its name for messages.
    Dir(Arc<Dir>, PathBuf),
    /// A tar with the offset and length of each file in it.
    Tar(PathBuf, HashMap<PathBuf, (u64, u64)>),
}

/// An image in local files.
pub(super) struct LocalImage {
    pub(super) files: BlobFiles,
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<LocalLayer>,
    /// The temporary archive, if it was exported for this image.
    pub(super) saved: Option<TempPath>,
}

/// A layer in local files.
#[derive(Clone, Debug)]
pub(super) struct LocalLayer {
    pub(super) descriptor: Descriptor,
    path: PathBuf,
    /// Whether the digest is that of the decompressed bytes.
    is_of_contents: bool,
}

impl BlobFiles {
    /// Reads a tar's table of contents.
    fn of_tar(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let failed = |error: io::Error| format!("cannot read {shown}: {error}");
        let file = regular(path).map_err(failed)?;
        let mut magic = [0; 4];
        let count = (&file).read(&mut magic).map_err(failed)?;
        if magic[..count].starts_with(&[0x1f, 0x8b]) {
            return Err(format!("{shown} is compressed as a whole; decompress it: gzip -d"));
        }
        (&file).seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut archive = tar::Archive::new(BufReader::new(file));
        let mut places = HashMap::new();
        let mut links = Vec::new();
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = plain(&entry.path().map_err(failed)?);
            // Older versions of `docker save` write a layer once and link to it.
            if let Ok(Some(to)) = entry.link_name() {
                links.push((name, plain(&name_beside(&entry.path().map_err(failed)?, &to))));
                continue;
            }
            places.insert(name, (entry.raw_file_position(), entry.size()));
            if places.len() > MOST_ENTRIES {
                return Err(format!("{shown} has more than {MOST_ENTRIES} entries"));
            }
        }
        for (name, to) in links {
            if let Some(place) = places.get(&to).copied() {
                places.insert(name, place);
            }
        }
        Ok(BlobFiles::Tar(path.to_path_buf(), places))
    }

    /// Opens one of the files. Also returns its offset and length.
    fn open(&self, name: &Path) -> Result<(File, u64, u64), String> {
        let failed =
            |path: &Path, error: io::Error| format!("cannot read {}: {error}", path.display());
        match self {
            BlobFiles::Dir(dir, shown) => {
                let path = shown.join(name);
                let failed = |error: io::Error| failed(&path, error);
                let file = dir.file(name.as_os_str().as_bytes()).map_err(failed)?;
                let length = file.metadata().map_err(failed)?.len();
                Ok((file, 0, length))
            }
            BlobFiles::Tar(path, places) => {
                let (start, length) = places
                    .get(&plain(name))
                    .copied()
                    .ok_or_else(|| format!("{} contains no {}", path.display(), name.display()))?;
                let mut file = regular(path).map_err(|error| failed(path, error))?;
                file.seek(SeekFrom::Start(start)).map_err(|error| failed(path, error))?;
                Ok((file, start, length))
            }
        }
    }

    /// Reads a small file.
    fn read(&self, name: &Path) -> Result<Vec<u8>, String> {
        let (file, _, length) = self.open(name)?;
        if length > MOST_JSON {
            return Err(format!("{} has {length} bytes", name.display()));
        }
        let mut bytes = Vec::new();
        file.take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read {}: {error}", name.display()))?;
        Ok(bytes)
    }

    /// Reads a small blob and verifies its digest.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        use sha2::Digest as _;
        let bytes = self.read(&blob_path(&descriptor.digest))?;
        let actual = Digest::of(&sha2::Sha256::digest(&bytes));
        if actual != descriptor.digest {
            return Err(format!("blob {} has the digest {actual}", descriptor.digest));
        }
        Ok(bytes)
    }
}

impl LocalLayer {
    /// Opens the layer's bytes in the form the digest covers.
    pub(super) fn open(&self, files: &BlobFiles) -> io::Result<Box<dyn Read + Send>> {
        let (file, _, length) = files.open(&self.path).map_err(io::Error::other)?;
        let mut file = file.take(length);
        if !self.is_of_contents {
            return Ok(Box::new(file));
        }
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic)?;
        let is_gzip = magic.starts_with(&[0x1f, 0x8b]);
        let whole = io::Cursor::new(magic).chain(file);
        Ok(match is_gzip {
            true => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(whole))),
            false => Box::new(whole),
        })
    }

    /// The number of those bytes, if known.
    pub(super) fn size(&self) -> Option<u64> {
        (!self.is_of_contents).then_some(self.descriptor.size)
    }
}

fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

/// A name's normal components only, so that it cannot lead outside.
fn plain(name: &Path) -> PathBuf {
    name.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// A link's target in an archive.
fn name_beside(name: &Path, to: &Path) -> PathBuf {
    let mut parts: Vec<Component<'_>> =
        name.parent().map(|dir| dir.components().collect()).unwrap_or_default();
    for part in to.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.into_iter().collect()
}

/// The image in a layout.
pub(super) fn layout(dir: &Path, tag: Option<&str>) -> Result<LocalImage, String> {
    let shown = dir.display();
    let top = Dir::top(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no directory {shown}"),
        _ => format!("{shown}: {error}"),
    })?;
    if let Err(error) = top.file("oci-layout") {
        return Err(format!(
            "{shown} is not an OCI image layout: it contains no file `oci-layout` ({error})"
        ));
    }
    of_layout(BlobFiles::Dir(Arc::new(top), dir.to_path_buf()), tag)
}

/// Opens a file that the user named. It must be regular; opening it never blocks.
pub(super) fn regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// How to name a tar, by what it holds. An archive of `docker save` may be the archive of an OCI
/// layout, too.
pub(super) fn recognized(path: &Path, is_docker: bool, is_oci: bool) -> Option<String> {
    let BlobFiles::Tar(_, places) = BlobFiles::of_tar(path).ok()? else { return None };
    let shown = path.display();
    let has = |name: &str| places.contains_key(Path::new(name));
    let has_below = |name: &str| places.keys().any(|file| file.starts_with(name));
    let (holds_docker, holds_oci) = (has("manifest.json"), has("oci-layout"));
    if is_docker && holds_docker || is_oci && holds_oci {
        return None;
    }
    if holds_docker {
        return Some(format!("it is an archive of `docker save`: docker-archive:{shown}"));
    }
    if holds_oci {
        return Some(format!("it is the archive of an OCI layout: oci-archive:{shown}"));
    }
    ["bin", "usr", "etc"].into_iter().any(has_below).then(|| {
        format!("it is a tar of a root file system, as of `docker export`: rootfs:{shown}")
    })
}

/// The image in a layout's tar.
pub(super) fn oci_archive(path: &Path) -> Result<LocalImage, String> {
    of_layout(BlobFiles::of_tar(path)?, None)
}

fn of_layout(files: BlobFiles, tag: Option<&str>) -> Result<LocalImage, String> {
    let index = manifest::read(&files.read(Path::new("index.json"))?)?;
    let ManifestOrIndex::Index(entries) = index else {
        return Err("its index.json is not an index".to_owned());
    };
    let found = match tag {
        Some(tag) => {
            let named = |entry: &&manifest::IndexEntry| entry.tag() == Some(tag);
            entries
                .iter()
                .find(named)
                .map(|entry| &entry.descriptor)
                .ok_or_else(|| format!("it contains no image `{tag}`{}", tags(&entries)))?
        }
        None => match entries.as_slice() {
            [only] => &only.descriptor,
            several => manifest::choose(several)
                .map_err(|_| format!("name one of its images{}", tags(&entries)))?,
        },
    };
    let mut found = found.clone();
    // The layout's index may name an index of platforms.
    for _ in 0..3 {
        match manifest::read(&files.blob(&found)?)? {
            ManifestOrIndex::Index(entries) => found = manifest::choose(&entries)?.clone(),
            ManifestOrIndex::Image(Manifest { config, layers }) => {
                let config = manifest::read_config(&files.blob(&config)?)?;
                let layer = |descriptor: Descriptor| LocalLayer {
                    path: blob_path(&descriptor.digest),
                    is_of_contents: false,
                    descriptor,
                };
                let layers = layers.into_iter().map(layer).collect();
                return Ok(LocalImage { files, digest: found.digest, config, layers, saved: None });
            }
        }
    }
    Err("its indexes lead to indexes".to_owned())
}

fn tags(entries: &[manifest::IndexEntry]) -> String {
    let tags: Vec<String> = entries
        .iter()
        .filter_map(manifest::IndexEntry::tag)
        .map(|tag| format!("`{tag}`"))
        .collect();
    match tags.as_slice() {
        [] => String::new(),
        tags => format!(": it has {}", tags.join(", ")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedManifest {
    config: String,
    layers: Vec<String>,
}

/// The image in a `docker save` archive; of several, the first.
pub(super) fn docker_archive(path: &Path) -> Result<LocalImage, String> {
    use sha2::Digest as _;
    let files = BlobFiles::of_tar(path)?;
    let list = files.read(Path::new("manifest.json"))?;
    let list: Vec<SavedManifest> = serde_json::from_slice(&list)
        .map_err(|error| format!("its manifest.json cannot be read: {error}"))?;
    let saved = list.first().ok_or("its manifest.json names no image")?;
    let config = files.read(Path::new(&saved.config))?;
    // The image id: the digest of the config, which names the contents of each layer.
    let digest = Digest::of(&sha2::Sha256::digest(&config));
    let config = manifest::read_config(&config)?;
    if config.diff_ids.len() != saved.layers.len() {
        return Err(format!(
            "its config names {} layers, its manifest.json {}",
            config.diff_ids.len(),
            saved.layers.len()
        ));
    }
    let layer = |(name, digest): (&String, &Digest)| {
        let (_, _, size) = files.open(Path::new(name))?;
        let descriptor = Descriptor { media_type: String::new(), digest: digest.clone(), size };
        Ok(LocalLayer { descriptor, path: PathBuf::from(name), is_of_contents: true })
    };
    let layers = saved.layers.iter().zip(&config.diff_ids).map(layer);
    let layers = layers.collect::<Result<Vec<_>, String>>()?;
    Ok(LocalImage { files, digest, config, layers, saved: None })
}
