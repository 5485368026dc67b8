//! OCI image layouts built by hand, with content that no honest tool writes.

use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;

/// One entry of a tar: a header of 512 bytes, and contents.
pub(crate) fn entry(name: &str, kind: u8, link: &str, contents: &[u8]) -> Vec<u8> {
    entry_like(name, kind, link, contents, 0o755)
}

/// The same with permission bits.
pub(crate) fn entry_like(name: &str, kind: u8, link: &str, contents: &[u8], mode: u32) -> Vec<u8> {
    let mut bytes = header(name, kind, link, contents.len() as u64, mode).to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A header that announces this many bytes.
pub(crate) fn header(name: &str, kind: u8, link: &str, size: u64, mode: u32) -> [u8; 512] {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[329..337].copy_from_slice(b"0000007\0");
    header[337..345].copy_from_slice(b"0000000\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A layout in a folder.
pub(crate) struct Crafted {
    dir: PathBuf,
}

/// A blob, as a descriptor names it.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: usize,
}

impl Blob {
    pub(crate) fn descriptor(&self, media_type: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": self.digest, "size": self.size})
    }
}

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Crafted {
    /// An empty layout.
    pub(crate) fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Crafted { dir }
    }

    /// A layout with an image of these layers, lowest first, and a valid config.
    pub(crate) fn with_layers(dir: PathBuf, layers: &[&[u8]]) -> Self {
        let crafted = Crafted::new(dir);
        let config = crafted.config(&serde_json::json!({}));
        let layers: Vec<Blob> = layers.iter().map(|layer| crafted.blob(layer)).collect();
        crafted.image(&config, &layers);
        crafted
    }

    pub(crate) fn reference(&self) -> String {
        format!("oci:{}", self.dir.display())
    }

    pub(crate) fn path_of(&self, blob: &Blob) -> PathBuf {
        self.dir.join("blobs/sha256").join(blob.digest.strip_prefix("sha256:").unwrap())
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Blob {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let blob = Blob { digest: format!("sha256:{hex}"), size: bytes.len() };
        fs::write(self.path_of(&blob), bytes).unwrap();
        blob
    }

    /// A config for this machine with these run settings.
    pub(crate) fn config(&self, run: &serde_json::Value) -> Blob {
        let config = serde_json::json!({"architecture": architecture(), "os": "linux", "config": run,
                                        "rootfs": {"type": "layers", "diff_ids": []}});
        self.blob(config.to_string().as_bytes())
    }

    /// A manifest, and an index that names it.
    pub(crate) fn image(&self, config: &Blob, layers: &[Blob]) -> Blob {
        let layers: Vec<_> = layers.iter().map(|layer| layer.descriptor(LAYER)).collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
                                          "config": config.descriptor(CONFIG), "layers": layers});
        let manifest = self.blob(manifest.to_string().as_bytes());
        self.index(&[manifest.descriptor(MANIFEST)]);
        manifest
    }

    pub(crate) fn index(&self, manifests: &[serde_json::Value]) {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// This machine's architecture, as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A complete tar of these entries.
pub(crate) fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

/// Busybox and a shell, so that the image can run a build.
pub(crate) fn shell() -> Vec<u8> {
    let busybox = fs::read(super::image("busybox").join("bin/busybox")).unwrap();
    let programs = ["sh", "ls", "cat", "id", "stat", "find", "grep"];
    let links =
        programs.iter().flat_map(|name| entry(&format!("bin/{name}"), b'2', "busybox", b""));
    entry("bin/busybox", b'0', "", &busybox).into_iter().chain(links).collect()
}
