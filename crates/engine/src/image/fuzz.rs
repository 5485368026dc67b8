//! Feeds hostile bytes to the image readers, from a seed, so that a failure can be repeated. Tests
//! only.

use super::manifest::{self, ManifestOrIndex};
use super::unpack::{OpaqueMarks, Rules, unpack};
use std::fs;
use std::path::{Path, PathBuf};

/// Rounds of each case; set `RUNNER_FUZZ_ROUNDS` for more.
fn rounds() -> usize {
    std::env::var("RUNNER_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// xorshift64*: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

/// Names that have misled other unpackers, with whiteouts among them.
const NAMES: [&str; 16] = [
    "a",
    "a/b",
    "a/b/c",
    "../x",
    "/x",
    "a/../../x",
    ".",
    "",
    ".wh.a",
    ".wh..wh..opq",
    "a/.wh.b",
    ".wh...",
    ".wh.",
    "a/.wh..wh..opq",
    "link/x",
    "link",
];
const LINKS: [&str; 8] = ["/", "..", "a", "../../canary", "/a/b", "link", "", "a/b/c"];
const KINDS: &[u8] = b"0012233456x gLK";

fn entry(random: &mut Random) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let contents = vec![b'x'; random.below(700)];
    header.set_size(contents.len() as u64);
    header.set_mode(u32::try_from(random.below(0o10000)).unwrap_or(0));
    header.set_uid(random.below(3) as u64);
    header.set_gid(random.below(3) as u64);
    let name = NAMES[random.below(NAMES.len())].as_bytes();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    let link = LINKS[random.below(LINKS.len())].as_bytes();
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.as_mut_bytes()[156] = KINDS[random.below(KINDS.len())];
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Everything below a directory, without following links.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut list = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let metadata = entry.metadata().expect("looked at");
        // A directory's size depends on its file system: on tmpfs it changes with each entry.
        list.push((entry.path(), if metadata.is_dir() { 0 } else { metadata.len() }));
        if metadata.is_dir() && entry.file_name() != "tree" {
            list.extend(listing(&entry.path()));
        }
    }
    list.sort();
    list
}

/// Whatever a tar says, nothing outside its tree is made, changed or removed.
#[test]
fn no_tar_leaves_its_tree() {
    let bed = tempfile::tempdir().expect("a directory");
    fs::write(bed.path().join("canary"), "alive").expect("written");
    fs::create_dir(bed.path().join("x")).expect("made");
    let mut random = Random(0x7A12);
    let mut unpacked = 0;
    for round in 0..rounds() {
        let inner = bed.path().join("in");
        let tree = inner.join("tree");
        fs::create_dir_all(&tree).expect("made");
        let mut bytes: Vec<u8> =
            (0..1 + random.below(12)).flat_map(|_| entry(&mut random)).collect();
        for _ in 0..random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        bytes.extend(vec![0; 1024]);
        let marks = [None, Some(OpaqueMarks::User)][random.below(2)];
        let before = listing(bed.path());
        let most_bytes = 1 << 20;
        unpacked += usize::from(unpack(&*bytes, &tree, Rules { marks, most_bytes }).is_ok());
        assert_eq!(listing(bed.path()), before, "round {round}");
        runner_host::private::remove_as_we_are(&inner).expect("removed");
    }
    // Otherwise the test has tried nothing.
    assert!(unpacked > rounds() / 20, "{unpacked}");
}

/// Mutated JSON is read or refused; JSON that is read obeys the rules.
#[test]
fn papers_are_answered() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
        "digest":"{digest}","size":7}},"layers":[{{"digest":"{digest}","size":9}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":3,"platform":
        {{"os":"linux","architecture":"amd64"}}}}]}}"#
    );
    let config = format!(
        r#"{{"os":"linux","config":{{"Env":["A=b"],"User":"0"}},"rootfs":{{"diff_ids":["{digest}"]}}}}"#
    );
    let mut random = Random(0x0C1);
    for _ in 0..rounds() * 10 {
        for text in [&manifest, &index, &config] {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => drop(bytes.drain(at..(at + random.below(30)).min(bytes.len()))),
                    _ => {
                        let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
                if bytes.is_empty() {
                    bytes.push(b'{');
                }
            }
            if let Ok(config) = manifest::read_config(&bytes) {
                assert!(config.env.iter().all(|(name, _)| !name.is_empty()));
            }
            match manifest::read(&bytes) {
                Ok(ManifestOrIndex::Image(manifest)) => {
                    for layer in manifest.layers.iter().chain([&manifest.config]) {
                        // The digest becomes a file name.
                        let hex = layer.digest.hex();
                        assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
                    }
                }
                Ok(ManifestOrIndex::Index(entries)) => drop(manifest::choose(&entries)),
                Err(message) => assert!(!message.is_empty()),
            }
        }
    }
}
