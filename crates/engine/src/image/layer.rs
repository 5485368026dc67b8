//! Unpacks one layer into the store: the whole directory or nothing.
//!
//! `pull` calls this on a thread that may block. The bytes are hashed on their way to the chore
//! that unpacks them. The directory appears under the layer's digest only when both succeed.

use super::manifest::{Descriptor, Digest};
use super::store::{ImageStore, Variant};
use super::unpack::{Rules, UnpackError, UnpackErrorKind, UnpackTotals};
use runner_host::private::{make_private, remove_tree};
use runner_sandbox::Chore;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

/// Bytes handed over at once.
const CHUNK: usize = 256 << 10;

/// Why a layer could not be added.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    #[error("it has {got} bytes more than the announced {said}")]
    Longer { said: u64, got: u64 },
    #[error("it ends after {got} of {said} bytes")]
    Shorter { said: u64, got: u64 },
    #[error("its contents have the digest {0}, not the requested one")]
    Altered(Digest),
    #[error("{0}")]
    Unpack(#[from] UnpackError),
    #[error("cannot get it: {0}")]
    Read(io::Error),
    #[error("{doing}: {source}")]
    Store { doing: &'static str, source: io::Error },
}

pub(super) struct WantedLayer<'a> {
    pub(super) variant: &'a Variant,
    pub(super) digest: &'a Digest,
    /// Size in bytes, if known.
    pub(super) size: Option<u64>,
    /// Most bytes of unpacked files.
    pub(super) most_bytes: u64,
}

/// Puts a layer into the store unless it is there. `progress` gets the number of bytes just read
/// and returns false to cancel.
pub(super) fn add(
    store: &ImageStore,
    wanted: &WantedLayer<'_>,
    open: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
    progress: &dyn Fn(u64) -> bool,
) -> Result<(), LayerError> {
    let failed = |doing| move |source| LayerError::Store { doing, source };
    let (variant, digest) = (wanted.variant, wanted.digest);
    let dir = store.layer(variant, digest);
    // If two pulls want the same layer, one fetches it; the other waits and finds it.
    let _lock = store.lock_layer(variant, digest).map_err(failed("cannot lock the layer"))?;
    if dir.is_dir() {
        return Ok(());
    }
    let new = dir.with_file_name(format!(".new-{}", digest.hex()));
    remove_tree(&new).map_err(failed("cannot remove what an earlier pull left"))?;
    make_private(&new).map_err(failed("cannot make a directory for it"))?;
    let result = fill(&new, wanted, open, progress).and_then(|facts| {
        let text = serde_json::to_vec(&facts).map_err(io::Error::from);
        text.and_then(|text| fs::write(new.join("facts.json"), text))
            .and_then(|()| fs::rename(&new, &dir))
            .map_err(failed("cannot put it into the store"))
    });
    if result.is_err() {
        // If removal fails now, the next pull or a prune does it.
        let _ = remove_tree(&new);
    }
    result
}

fn fill(
    new: &std::path::Path,
    wanted: &WantedLayer<'_>,
    open: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
    progress: &dyn Fn(u64) -> bool,
) -> Result<UnpackTotals, LayerError> {
    let WantedLayer { variant, digest, size, most_bytes } = *wanted;
    let failed = |doing| move |source| LayerError::Store { doing, source };
    let tree = new.join("tree");
    fs::create_dir(&tree).map_err(failed("cannot make a directory for it"))?;
    let (reading, writing) = io::pipe().map_err(failed("cannot make a pipe"))?;
    // A larger pipe saves context switches. It is optional.
    let _ = nix::fcntl::fcntl(&writing, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
    let rules = Rules { marks: Some(variant.marks), most_bytes };
    let chore = start(variant, &tree, rules, reading.into())
        .map_err(failed("cannot start the unpacking"))?;
    let mut pipe = Some(writing);
    let mut hash = Sha256::new();
    let mut got: u64 = 0;
    let mut reader = open().map_err(LayerError::Read)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(LayerError::Read(error)),
        };
        got += count as u64;
        if let Some(said) = size.filter(|said| got > *said) {
            return Err(LayerError::Longer { said, got: got - said });
        }
        hash.update(&buffer[..count]);
        // If the chore has given up, its reason is read below; only the digest tells whose fault it
        // is.
        if pipe.as_mut().is_some_and(|pipe| pipe.write_all(&buffer[..count]).is_err()) {
            pipe = None;
        }
        if !progress(count as u64) {
            return Err(LayerError::Read(io::ErrorKind::Interrupted.into()));
        }
    }
    drop(pipe);
    if let Some(said) = size.filter(|said| got < *said) {
        return Err(LayerError::Shorter { said, got });
    }
    let actual = Digest::of(&hash.finalize());
    if actual != *digest {
        return Err(LayerError::Altered(actual));
    }
    Ok(finish(chore)?)
}

/// Starts the chore that unpacks a layer from `input`.
pub(super) fn start(
    variant: &Variant,
    tree: &std::path::Path,
    rules: Rules,
    input: OwnedFd,
) -> io::Result<Chore> {
    let tree = tree.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path of the state folder is not UTF-8")
    })?;
    let [marks, most] = rules.words();
    Chore::start(variant.users.as_ref(), &["unpack", tree, &marks, &most], Some(input))
}

/// The chore's result.
pub(super) fn finish(chore: Chore) -> Result<UnpackTotals, UnpackError> {
    let other = |message: String| UnpackError { kind: UnpackErrorKind::Other, message };
    match chore.finish() {
        Ok(text) => serde_json::from_str(&text).map_err(|error| other(error.to_string())),
        Err(error) => {
            let text = error.to_string();
            Err(serde_json::from_str(&text)
                .unwrap_or_else(|_| other(format!("the unpacking ended at once: {text}"))))
        }
    }
}

/// Size of all layers in bytes, as the manifest gives it, for the progress bars.
pub(super) fn total(layers: &[Descriptor]) -> u64 {
    layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)
}
