//! Manifests, indexes and configs of images: untrusted JSON.
//!
//! Called by `registry` and `local`. Reads OCI image-spec 1.1 and Docker's schema 2, which agree in
//! every field used here. Only parses.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Most bytes of a manifest, an index or a config: the limit of registries themselves.
pub(super) const MOST_JSON: u64 = 4 << 20;
/// Overlayfs takes 500 lower layers, and ours need room.
const MOST_LAYERS: usize = 490;

/// A SHA-256 as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The 64 digits.
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }

    /// The first 12 digits, for messages.
    pub fn short(&self) -> &str {
        &self.0[7..19]
    }

    /// Makes a digest from a finished hash.
    pub(super) fn of(hash: &[u8]) -> Self {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest(format!("sha256:{hex}"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 && hex.bytes().all(is_digit) => {
                Ok(Digest(text.to_owned()))
            }
            _ => {
                let start: String = text.chars().take(80).collect();
                Err(format!("`{}` is not a sha256 digest", start.escape_debug()))
            }
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// A manifest's reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

/// The config and layers of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub config: Descriptor,
    /// Lowest layer first.
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ManifestOrIndex {
    Image(Manifest),
    /// One manifest for each platform.
    Index(Vec<IndexEntry>),
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct IndexEntry {
    #[serde(flatten)]
    pub descriptor: Descriptor,
    #[serde(default)]
    platform: Option<ImagePlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ImagePlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

impl IndexEntry {
    /// The image's name in a layout.
    pub(super) fn tag(&self) -> Option<&str> {
        self.annotations.as_ref()?.get("org.opencontainers.image.ref.name").map(String::as_str)
    }
}

/// This machine's architecture in image terms.
pub(super) const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    #[serde(default)]
    schema_version: u64,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<IndexEntry>>,
}

/// Parses a manifest or an index.
pub(super) fn read(bytes: &[u8]) -> Result<ManifestOrIndex, String> {
    let raw: RawManifest = serde_json::from_slice(bytes)
        .map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if raw.schema_version == 1 {
        return Err("its manifest has Docker's old schema 1; push it again with a tool of this \
                    decade"
            .to_owned());
    }
    match raw {
        RawManifest { manifests: Some(entries), layers: None, .. } => {
            Ok(ManifestOrIndex::Index(entries))
        }
        RawManifest { config: Some(config), layers: Some(layers), .. } => {
            let manifest = Manifest { config, layers };
            check(&manifest).map(|()| ManifestOrIndex::Image(manifest))
        }
        _ => Err("its manifest is neither that of an image nor an index of such".to_owned()),
    }
}

fn check(manifest: &Manifest) -> Result<(), String> {
    let is_image = |kind: &str| {
        matches!(
            kind,
            "" | "application/vnd.oci.image.config.v1+json"
                | "application/vnd.docker.container.image.v1+json"
        )
    };
    let kind = &manifest.config.media_type;
    if !is_image(kind) {
        return Err(format!("it is not an image but something of type `{}`", kind.escape_debug()));
    }
    if manifest.layers.len() > MOST_LAYERS {
        let count = manifest.layers.len();
        return Err(format!("it has {count} layers; overlayfs stacks at most {MOST_LAYERS}"));
    }
    if manifest.config.size > MOST_JSON {
        return Err(format!("the manifest announces a config of {} bytes", manifest.config.size));
    }
    for layer in &manifest.layers {
        let kind = &layer.media_type;
        if kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(format!("layer {} is not in the registry but elsewhere", layer.digest));
        }
        if kind.ends_with("+encrypted") {
            return Err(format!("layer {} is encrypted", layer.digest));
        }
    }
    Ok(())
}

/// The manifest for this machine.
pub(super) fn choose(entries: &[IndexEntry]) -> Result<&Descriptor, String> {
    let fits = |entry: &&IndexEntry| {
        entry
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == ARCHITECTURE)
    };
    // Prefer the plain variant to one for newer processors only.
    let plain = |entry: &&IndexEntry| {
        let variant = entry.platform.as_ref().and_then(|platform| platform.variant.as_deref());
        matches!(variant, None | Some("" | "v1" | "v8"))
    };
    let mut fitting = entries.iter().filter(fits);
    let best = fitting.clone().find(plain).or_else(|| fitting.next());
    // A layout with a single image need not name a platform.
    let only = match entries {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    best.or(only).map(|entry| &entry.descriptor).ok_or_else(|| {
        let platforms: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        format!("it is not there for linux/{ARCHITECTURE}, only for: {}", platforms.join(", "))
    })
}

/// The part of an image's config that tells how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// Environment variables in the config's order.
    pub env: Vec<(String, String)>,
    /// The program to run first.
    pub entrypoint: Vec<String>,
    /// The arguments of the entrypoint, or the whole command if there is no entrypoint.
    #[serde(default)]
    pub command: Vec<String>,
    /// TCP ports that the image declares, lowest first.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Working directory.
    pub working_dir: String,
    /// The user it names. A build's commands run as root regardless.
    pub user: String,
    /// Digests of the decompressed layers, lowest first.
    #[serde(skip)]
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<RawRun>,
    rootfs: Option<RawRootfs>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// The TCP ports among entries like `8080/tcp`, `53/udp` and `80`.
fn ports<'k>(keys: impl Iterator<Item = &'k String>) -> Vec<u16> {
    let port = |key: &'k String| key.strip_suffix("/tcp").unwrap_or(key).parse().ok();
    let mut ports: Vec<u16> = keys.filter_map(port).filter(|port| *port > 0).collect();
    ports.sort_unstable();
    ports
}

/// Parses an image's config.
pub(super) fn read_config(bytes: &[u8]) -> Result<ImageConfig, String> {
    let raw: RawConfig = serde_json::from_slice(bytes)
        .map_err(|error| format!("its config cannot be read: {error}"))?;
    if !raw.os.is_empty() && raw.os != "linux" {
        return Err(format!("it is for {}", raw.os.escape_debug()));
    }
    if !raw.architecture.is_empty() && raw.architecture != ARCHITECTURE {
        let other = raw.architecture.escape_debug();
        return Err(format!("it is for {other}, this machine is {ARCHITECTURE}"));
    }
    let run = raw.config.unwrap_or_default();
    let env = run.env.unwrap_or_default();
    let pairs = env.iter().filter_map(|pair| pair.split_once('='));
    let is_fit =
        |name: &str, value: &str| !name.is_empty() && !name.contains('\0') && !value.contains('\0');
    Ok(ImageConfig {
        env: pairs
            .filter(|(name, value)| is_fit(name, value))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        command: run.cmd.unwrap_or_default(),
        ports: ports(run.exposed_ports.unwrap_or_default().keys()),
        working_dir: run.working_dir.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        diff_ids: raw.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn read_json(value: &serde_json::Value) -> Result<ManifestOrIndex, String> {
        read(value.to_string().as_bytes())
    }

    #[test]
    fn platforms_are_chosen() {
        let entry = |digit, architecture: &str, variant: Option<&str>| {
            json!({"digest": digest(digit), "size": 1, "mediaType": "x",
                   "platform": {"os": "linux", "architecture": architecture, "variant": variant}})
        };
        let chosen = |entries: serde_json::Value| {
            let index = json!({"schemaVersion": 2, "manifests": entries});
            match read_json(&index) {
                Ok(ManifestOrIndex::Index(entries)) => {
                    choose(&entries).map(|it| it.digest.to_string())
                }
                other => panic!("{other:?}"),
            }
        };
        let (ours, theirs) = (ARCHITECTURE, "s390x");
        assert_eq!(
            chosen(json!([entry('1', theirs, None), entry('2', ours, None)])),
            Ok(digest('2'))
        );
        let newer = json!([entry('1', ours, Some("v3")), entry('2', ours, None)]);
        assert_eq!(chosen(newer), Ok(digest('2')));
        let none = chosen(json!([entry('1', theirs, None)])).expect_err("refused");
        assert!(none.contains("only for: linux/s390x"), "{none}");
        assert_eq!(chosen(json!([{"digest": digest('3'), "size": 1}])), Ok(digest('3')));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let layer = json!({"digest": digest('1'), "size": 1, "mediaType": "x"});
        let config = |kind: &str| json!({"digest": digest('2'), "size": 1, "mediaType": kind});
        for (manifest, wanted) in [
            (json!(1), "cannot be read"),
            (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
            (json!({"schemaVersion": 2}), "neither"),
            (
                json!({"schemaVersion": 2, "config": config("application/helm"), "layers": []}),
                "helm",
            ),
            (json!({"schemaVersion": 2, "config": config(""), "layers": vec![layer; 600]}), "600"),
            (
                json!({"schemaVersion": 2, "config": {"digest": "../../etc", "size": 1}, "layers": []}),
                "not a sha256",
            ),
            (
                json!({"schemaVersion": 2, "config": {"digest": digest('1'), "size": -1}, "layers": []}),
                "cannot be read",
            ),
        ] {
            let error = read_json(&manifest).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
        assert!(read_config(b"no json").is_err());
        assert!(
            read_config(br#"{"architecture":"sparc64"}"#).is_err_and(|why| why.contains("sparc64"))
        );
        assert!(read_config(br#"{"os":"windows"}"#).is_err());
        assert_eq!(read_config(b"{}"), Ok(ImageConfig::default()));
    }
}
