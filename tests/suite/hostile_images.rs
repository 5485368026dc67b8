//! Malicious images: nothing outside the store is touched, and each is rejected with its reason.

use crate::common::crafted::{
    Blob, CONFIG, Crafted, LAYER, MANIFEST, entry, entry_like, header, shell, tar,
};
use crate::common::registry::{Layout, Registry};
use crate::common::{Bed, build, cases, list, outcome, python};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

cases! {
    [Containers, Image("busybox")] =>
        names_that_leave, links_that_leave, whiteouts_that_leave, more_than_is_said, bombs,
        a_million_entries, papers_that_lie, layers_that_are_none, devices_are_left_out,
        nobody_else_may_look;
    [Containers, Image("busybox"), Python] => attributes_of_overlays;
    [Containers, Image("busybox"), Program("docker-registry"), Program("skopeo"), Program("umoci")] =>
        a_registry_that_lies;
}

/// A folder that must not change, and everything above the tree that a layer is unpacked to.
struct Outside {
    dir: PathBuf,
}

impl Outside {
    fn new(bed: &Bed) -> Self {
        let dir = bed.path("outside");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("canary"), "alive").unwrap();
        Outside { dir }
    }

    #[track_caller]
    fn is_untouched(&self, what: &str) {
        assert_eq!(list(&self.dir), ["canary"], "{what}");
        assert_eq!(fs::read_to_string(self.dir.join("canary")).unwrap(), "alive", "{what}");
        let metadata = fs::metadata(self.dir.join("canary")).unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o6777), (1, 0o644), "{what}");
    }
}

/// Layers and anything else beside them.
fn kept(bed: &Bed) -> Vec<String> {
    let dir = bed.home().join("images/layers");
    list(&dir).iter().flat_map(|variant| list(&dir.join(variant))).collect()
}

/// Tries each image in its own store: expects this error, or a successful build.
fn judge(name: &str, entries: &[Vec<u8>], refusal: Option<&str>) {
    let bed = Bed::new();
    let outside = Outside::new(&bed);
    // The path a name needs to lead out of a layer's tree.
    let entries: Vec<Vec<u8>> = entries.to_vec();
    let crafted = Crafted::with_layers(bed.path("layout"), &[&tar(&[shell()]), &tar(&entries)]);
    let spec = build(&["echo hello"]);
    let outcome = bed.build(&spec, &["--image", &crafted.reference()]);
    match refusal {
        Some(why) => {
            outcome.code(3).says(why);
            assert!(kept(&bed).iter().all(|name| !name.starts_with('.')), "{name}");
            // At most the valid one.
            assert!(kept(&bed).len() <= 1, "{name}: {:?}", kept(&bed));
            let context = &bed.record()["phases"][2]["contexts"][0];
            assert_eq!(context["statusCode"], "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE");
        }
        None => assert_eq!(outcome.code(0).output(), "hello\n", "{name}"),
    }
    outside.is_untouched(name);
    assert_eq!(
        list(&bed.path("")).len(),
        list_of_bed().len() + 2,
        "{name}: {:?}",
        list(&bed.path(""))
    );
}

/// What a bed contains after a build.
fn list_of_bed() -> Vec<String> {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    list(&bed.path(""))
}

const UP: &str = "../../../../../../../../../outside/new";

fn names_that_leave() {
    let up = [entry(UP, b'0', "", b"x")];
    judge("dots", &up, Some("leaves the tree"));
    let inner = [entry("a/../../../../../../outside/new", b'0', "", b"x")];
    judge("inner dots", &inner, Some("leaves the tree"));
    judge("a directory", &[entry("../outside", b'5', "", b"")], Some("leaves the tree"));
    judge("only dots", &[entry("..", b'5', "", b"")], Some("leaves the tree"));
    // Resolved from the image's own root, as other tools do.
    judge("absolute", &[entry("/outside/new", b'0', "", b"x")], None);
    judge("many slashes", &[entry("//outside//new", b'0', "", b"x")], None);
    judge(
        "a pax name",
        &[pax("path", UP), entry("innocent", b'0', "", b"x")],
        Some("leaves the tree"),
    );
}

/// An extended header for the next entry.
fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    // Its length includes the digits of the length.
    let length = (rest.len()..).find(|n| n.to_string().len() + rest.len() == *n).unwrap();
    entry("PaxHeaders/x", b'x', "", format!("{length}{rest}").as_bytes())
}

fn links_that_leave() {
    for to in ["/", "../../../../../../../..", "../../../../../../../../../var/tmp"] {
        let through = [entry("out", b'2', to, b""), entry("out/outside-new", b'0', "", b"x")];
        judge(&format!("through a link to {to}"), &through, None);
        let under = [entry("out", b'2', to, b""), entry("out/a/b", b'5', "", b"")];
        judge(&format!("a directory under a link to {to}"), &under, None);
    }
    let bed = Bed::new();
    let canary = Outside::new(&bed).dir.join("canary");
    let absolute = canary.to_str().unwrap();
    let hard = |to: &str| [entry("stolen", b'1', to, b"")];
    judge(
        "a hard link up",
        &hard("../../../../../../../../../etc/passwd"),
        Some("a link to nothing"),
    );
    judge("an absolute hard link", &hard(absolute), Some("a link to nothing"));
    let around = [entry("out", b'2', "/etc", b""), entry("stolen", b'1', "out/passwd", b"")];
    judge("a hard link through a link", &around, Some("a link to nothing"));
    // A link in place of a created directory, and back.
    let swapped = [
        entry("dir/", b'5', "", b""),
        entry("dir/a", b'0', "", b"x"),
        entry("link", b'2', "dir", b""),
        entry("link/b", b'0', "", b"x"),
        entry("link", b'2', "/var/tmp", b""),
        entry("link/c", b'0', "", b"x"),
    ];
    judge("links that change", &swapped, None);
    // Writing to a file that is a link to the outside.
    let written = [entry("file", b'2', absolute, b""), entry("file", b'0', "", b"x")];
    judge("a file in place of a link", &written, None);
    let owned = [entry("file", b'2', absolute, b""), entry_like("file", b'5', "", b"", 0o777)];
    judge("a directory in place of a link", &owned, None);
    Outside { dir: bed.path("outside") }.is_untouched("all of them");
}

fn whiteouts_that_leave() {
    let takes_away = Some("removes something that is not in the tree");
    judge("dots", &[entry("a/.wh...", b'0', "", b"")], takes_away);
    judge("a dot", &[entry(".wh..", b'0', "", b"")], takes_away);
    judge("nothing", &[entry(".wh.", b'0', "", b"")], takes_away);
    judge("up", &[entry("../.wh.outside", b'0', "", b"")], Some("leaves the tree"));
    let through = [entry("out", b'2', "/var/tmp", b""), entry("out/.wh.x", b'0', "", b"")];
    judge("through a link", &through, None);
    let opaque = [entry("out", b'2', "/", b""), entry("out/.wh..wh..opq", b'0', "", b"")];
    judge("opaque through a link", &opaque, None);
    judge("papers of AUFS", &[entry(".wh..wh.plnk", b'0', "", b"")], None);
}

/// A blob whose length differs from its manifest, or whose content differs from its name.
fn more_than_is_said() {
    let spec = build(&["echo never"]);
    let check = |name: &str, spoil: &dyn Fn(&Crafted, &mut Blob), wanted: &str| {
        let bed = Bed::new();
        let crafted = Crafted::new(bed.path("layout"));
        let config = crafted.config(&serde_json::json!({}));
        let mut layer = crafted.blob(&tar(&[shell()]));
        spoil(&crafted, &mut layer);
        crafted.image(&config, &[layer]);
        let reference = crafted.reference();
        bed.build(&spec, &["--image", &reference])
            .code(3)
            .says(wanted)
            .says("nothing of it is stored");
        assert_eq!(kept(&bed), Vec::<String>::new(), "{name}");
    };
    check("said to be longer", &|_, layer| layer.size += 10, "it ends after");
    check("said to be shorter", &|_, layer| layer.size -= 10, "bytes more than the");
    let cut = |crafted: &Crafted, layer: &mut Blob| {
        let path = crafted.path_of(layer);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check("cut", &cut, "it ends after");
    let altered = |crafted: &Crafted, layer: &mut Blob| {
        let path = crafted.path_of(layer);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
    };
    check("altered", &altered, "not the requested one");
    // Invalid as a tar, too: the message still names the cause.
    let junk = |crafted: &Crafted, layer: &mut Blob| {
        fs::write(crafted.path_of(layer), vec![7; layer.size]).unwrap();
    };
    check("junk", &junk, "not the requested one");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A few megabytes that unpack to very many.
fn bombs() {
    let chunk = vec![0; 8 << 20];
    let member = gzip(&chunk);
    let bomb = [gzip(&header("zeros", b'0', "", 7 << 30, 0o644)), member.repeat(160)].concat();
    assert!(bomb.len() < 8 << 20, "{}", bomb.len());
    let bed = Bed::new();
    let crafted = Crafted::with_layers(bed.path("layout"), &[&tar(&[shell()]), &bomb]);
    bed.build(&build(&["echo never"]), &["--image", &crafted.reference()])
        .code(3)
        .says("more than 200 times its compressed size")
        .says("--max-layer-size");
    assert!(kept(&bed).len() <= 1);
    let big = tar(&[entry("big", b'0', "", &vec![1; 3 << 20])]);
    let crafted = Crafted::with_layers(bed.path("honest"), &[&tar(&[shell()]), &big]);
    let import = |limit: &str| {
        let reference = crafted.reference();
        bed.runner(["image", "import", &reference, "--max-layer-size", limit])
    };
    import("2M").code(3).says("it would unpack to more than 2 MiB");
    import("4M").code(0);
}

/// That many entries only take time.
fn a_million_entries() {
    let names = |kind: u8, end: &str| -> Vec<u8> {
        (0..1000).flat_map(|number| entry(&format!("many/{number}{end}"), kind, "", b"")).collect()
    };
    // Files once and directories repeatedly: a million new files would test the disk.
    let layer =
        [gzip(&names(b'5', "/")).repeat(998), gzip(&names(b'0', "/file")), gzip(&[0; 1024])];
    let bed = Bed::new();
    let crafted = Crafted::with_layers(bed.path("layout"), &[&tar(&[shell()]), &layer.concat()]);
    let spec = build(&["find /many -type f | grep -c ."]);
    assert_eq!(bed.build(&spec, &["--image", &crafted.reference()]).code(0).output(), "1000\n");
}

fn papers_that_lie() {
    let bed = Bed::new();
    let spec = build(&["echo never"]);
    let mut number = 0;
    let mut check = |write: &dyn Fn(&Crafted), wanted: &str| {
        number += 1;
        let crafted = Crafted::new(bed.path(&format!("layout{number}")));
        write(&crafted);
        bed.build(&spec, &["--image", &crafted.reference()]).code(3).says(wanted);
    };
    let layer = |crafted: &Crafted| crafted.blob(&tar(&[shell()]));
    check(
        &|crafted| {
            let config = crafted.blob(b"{ no json");
            crafted.image(&config, &[layer(crafted)]);
        },
        "its config cannot be read",
    );
    check(
        &|crafted| {
            let config = crafted.blob(b"[]");
            crafted.image(&config, &[layer(crafted)]);
        },
        "its config cannot be read",
    );
    check(
        &|crafted| {
            let config = crafted.config(&serde_json::json!({}));
            fs::write(crafted.path_of(&config), "{}").unwrap();
            crafted.image(&config, &[layer(crafted)]);
        },
        "has the digest",
    );
    check(
        &|crafted| crafted.index(&[crafted.blob(b"{").descriptor(MANIFEST)]),
        "its manifest cannot",
    );
    check(
        &|crafted| {
            let manifest =
                crafted.image(&crafted.config(&serde_json::json!({})), &[layer(crafted)]);
            fs::write(crafted.path_of(&manifest), b"{}").unwrap();
        },
        "has the digest",
    );
    check(
        &|crafted| {
            let mut config = crafted.config(&serde_json::json!({}));
            config.digest = "sha256:../../../../../../etc/passwd".to_owned();
            crafted.index(&[crafted
                .blob(
                    serde_json::json!({"schemaVersion": 2, "config": config.descriptor(CONFIG),
                                     "layers": []})
                    .to_string()
                    .as_bytes(),
                )
                .descriptor(MANIFEST)]);
        },
        "is not a sha256 digest",
    );
    check(&|crafted| crafted.index(&[]), "");
    check(
        &|crafted| {
            // An index that refers to itself in the end.
            let mut descriptor = crafted.blob(b"{}").descriptor(MANIFEST);
            for _ in 0..10 {
                let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]});
                descriptor = crafted.blob(index.to_string().as_bytes()).descriptor(MANIFEST);
            }
            crafted.index(&[descriptor]);
        },
        "lead to indexes",
    );
    check(
        &|crafted| {
            let layers = vec![layer(crafted).descriptor(LAYER); 600];
            let config = crafted.config(&serde_json::json!({})).descriptor(CONFIG);
            let manifest =
                serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
            crafted.index(&[crafted.blob(manifest.to_string().as_bytes()).descriptor(MANIFEST)]);
        },
        "600 layers",
    );
    check(
        &|crafted| {
            let manifest = format!("{{\"schemaVersion\": 2, \"x\": \"{}\"}}", "y".repeat(5 << 20));
            crafted.index(&[crafted.blob(manifest.as_bytes()).descriptor(MANIFEST)]);
        },
        "bytes",
    );
    check(
        &|crafted| {
            crafted.image(&crafted.config(&serde_json::json!({})), &[]);
        },
        "it has no layers",
    );
}

fn layers_that_are_none() {
    for (name, bytes, wanted) in [
        ("junk", vec![7; 5000], "cannot read it"),
        ("a cut tar", tar(&[shell()])[..100_000].to_vec(), "cannot"),
        ("a cut gzip", gzip(&tar(&[shell()]))[..100_000].to_vec(), "cannot"),
        ("xz", b"\xfd7zXZ\0and so on".to_vec(), "xz -d"),
    ] {
        let bed = Bed::new();
        let crafted = Crafted::with_layers(bed.path("layout"), &[&bytes]);
        bed.build(&build(&["echo"]), &["--image", &crafted.reference()]).code(3).says(wanted);
        assert_eq!(kept(&bed), Vec::<String>::new(), "{name}");
    }
}

fn devices_are_left_out() {
    let bed = Bed::new();
    let nodes = [shell(), entry("dev/sda", b'4', "", b""), entry("zero", b'3', "", b"")];
    let crafted = Crafted::with_layers(bed.path("layout"), &[&tar(&nodes)]);
    bed.build(
        &build(&["test ! -e /zero && test ! -e /dev/sda"]),
        &["--image", &crafted.reference()],
    )
    .code(0)
    .says("2 device nodes are left out");
}

/// A set-uid program of an image works only in the container: no other user of this machine can
/// reach it.
fn nobody_else_may_look() {
    let bed = Bed::new();
    let layer = tar(&[shell(), entry_like("root", b'0', "", b"#!/bin/sh", 0o4755)]);
    let crafted = Crafted::with_layers(bed.path("layout"), &[&layer]);
    bed.runner(["image", "import", &crafted.reference()]).code(0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for dir in ["", "images", "images/layers"] {
        assert_eq!(mode(&bed.home().join(dir)), 0o700, "{dir}");
    }
}

/// Attributes that redirect overlayfs are not taken from an image.
fn attributes_of_overlays() {
    let bed = Bed::new();
    let layer = tar(&[
        shell(),
        pax("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
        entry("dir/", b'5', "", b""),
        pax("SCHILY.xattr.user.overlay.opaque", "y"),
        entry("file", b'0', "", b""),
        pax("SCHILY.xattr.trusted.overlay.metacopy", "y"),
        entry("meta", b'0', "", b""),
    ]);
    let crafted = Crafted::with_layers(bed.path("layout"), &[&layer]);
    bed.runner(["image", "import", &crafted.reference()]).code(0);
    let layers = bed.home().join("images/layers");
    let variant = list(&layers).remove(0);
    let tree = layers.join(&variant).join(list(&layers.join(&variant)).remove(0)).join("tree");
    let script =
        "import os,sys\nfor n in ['dir','file','meta']: print(os.listxattr(sys.argv[1]+'/'+n))";
    let mut command = Command::new(python("python"));
    let seen = outcome(command.args(["-c", script]).arg(&tree)).code(0).stdout;
    assert!(!seen.contains("overlay"), "{seen}");
}

fn a_registry_that_lies() {
    let bed = Bed::new();
    let registry = Registry::open();
    // A layer that no other test uses: the registry stores identical layers once, for all of them.
    let layer = bed.path("lies.tar");
    fs::write(&layer, tar(&[shell(), entry("lies", b'0', "", b"")])).unwrap();
    let name = registry.push(&Layout::of_tars(&[&layer]), "hostile/lies:one");
    let blobs = registry.storage().join("blobs/sha256");
    // The largest of this name's blobs is the layer.
    let links = registry.storage().join("repositories/hostile/lies/_layers/sha256");
    let mut data: Vec<PathBuf> =
        list(&links).iter().map(|hex| blobs.join(&hex[..2]).join(hex).join("data")).collect();
    data.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    let good = fs::read(&data[0]).unwrap();
    assert!(good.len() > 100_000);
    let mut altered = good.clone();
    altered[50_000] ^= 1;
    for (name_of, bytes, wanted) in [
        ("altered", altered, "not the requested one"),
        ("longer", [good.clone(), vec![0; 10]].concat(), "bytes more than the"),
        ("shorter", good[..60_000].to_vec(), "it ends after 60000 of"),
    ] {
        let spoilt = data[0].with_extension(name_of);
        fs::write(&spoilt, &bytes).unwrap();
        let _guard = Spoilt::new(&data[0], &spoilt);
        bed.runner(["image", "pull", &name]).code(3).says(wanted);
        assert_eq!(kept(&bed), Vec::<String>::new(), "{name_of}");
    }
    bed.runner(["image", "pull", &name]).code(0);
}

/// A blob that is replaced temporarily.
struct Spoilt {
    path: PathBuf,
    kept: PathBuf,
}

impl Spoilt {
    fn new(path: &Path, by: &Path) -> Self {
        let kept = path.with_extension("kept");
        fs::rename(path, &kept).unwrap();
        fs::rename(by, path).unwrap();
        Spoilt { path: path.to_path_buf(), kept }
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        let _ = fs::rename(&self.kept, &self.path);
    }
}
