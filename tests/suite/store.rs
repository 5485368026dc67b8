//! The image store through the real program: registries, layouts, archives; what is shared, kept
//! and removed.

use crate::common::crafted::{Crafted, MANIFEST, architecture, entry, entry_like, shell, tar};
use crate::common::registry::{Layout, Registry};
use crate::common::{Bed, Running, build, cases, image, is_root, list, outcome, until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

cases! {
    [Containers, Image("busybox"), Program("docker-registry"), Program("skopeo"), Program("umoci")] =>
        pulled_and_run, which_image_it_was, the_second_pull_is_nothing, two_pulls_at_once, a_tag_that_moves,
        a_transfer_that_breaks, a_pull_that_was_killed, a_stop_while_pulling, archives,
        builds_of_a_batch_share_one_pull,
        compressed_with_zstd;
    [Containers, Image("busybox")] =>
        as_the_image_says, directories_look_as_below, platforms, what_is_removed,
        names_that_are_none, a_build_keeps_its_image, bars_on_a_terminal, tars_that_are_unpacked;
    [Root, Image("busybox"), Program("umoci")] => the_same_tree_as_umoci;
    [Root, Image("busybox")] => files_may_have_any_owner;
}

/// The layers in the store.
fn layers(bed: &Bed) -> Vec<String> {
    let dir = bed.home().join("images/layers");
    let mut names: Vec<String> =
        list(&dir).iter().flat_map(|variant| list(&dir.join(variant))).collect();
    names.sort();
    names
}

fn tar_file(bed: &Bed, name: &str, entries: &[Vec<u8>]) -> PathBuf {
    let path = bed.path(name);
    fs::write(&path, tar(entries)).unwrap();
    path
}

/// An image of two layers; the upper one contains a file with this text.
fn two_layers(bed: &Bed, text: &str) -> Layout {
    let upper = tar_file(bed, &format!("{text}.tar"), &[entry("words", b'0', "", text.as_bytes())]);
    Layout::of_tars(&[&image("busybox").with_extension("tar"), &upper])
}

fn pulled_and_run() {
    let bed = Bed::new();
    let name = Registry::open().push(&two_layers(&bed, "pulled"), "store/run:one");
    let spec = build(&["cat /words; echo; id -u"]);
    let first = bed.build(&spec, &["--image", &name]).code(0).says("2 of 2 layers");
    assert_eq!(first.output(), "pulled\n0\n");
    let second = bed.build(&spec, &["--image", &name]).code(0);
    assert!(!second.stderr.contains("getting"), "{}", second.stderr);
    assert_eq!(second.output(), "pulled\n0\n");
    let text = bed.runner(["image", "ls"]).code(0).stdout;
    assert!(text.contains(&name), "{text}");
}

/// A name may refer to another image tomorrow.
fn which_image_it_was() {
    let bed = Bed::new();
    let name = Registry::open().push(&two_layers(&bed, "which"), "store/which:one");
    let pulled = bed.runner(["image", "pull", &name]).code(0).stdout;
    let digest = pulled.split_whitespace().nth(1).unwrap();
    assert!(digest.starts_with("sha256:"), "{pulled}");
    bed.build(&build(&["true"]), &["--image", &name]).code(0);
    let made = bed.events("container_started");
    assert_eq!(made, [serde_json::json!({"engine": "namespaces", "image": digest})]);
    // The record contains what was requested, as in AWS.
    assert_eq!(bed.events("build_started")[0]["engine"], "auto");
    assert_eq!(bed.record()["environment"]["image"].as_str(), Some(&*name));
}

fn the_second_pull_is_nothing() {
    let bed = Bed::new();
    let registry = Registry::open();
    let name = registry.push(&two_layers(&bed, "one"), "store/twice:one");
    let pull = |name: &str| bed.runner(["image", "pull", name]).code(0);
    let first = pull(&name);
    assert!(first.stdout.starts_with(&format!("{name} sha256:")), "{}", first.stdout);
    let second = pull(&name);
    assert!(second.stdout.contains("(up to date)"), "{}", second.stdout);
    assert!(!second.stderr.contains("getting"), "{}", second.stderr);
    // Another image with the same lower layer.
    let other = registry.push(&two_layers(&bed, "two"), "store/other:one");
    pull(&other).says("getting").says("1 of 2 layers");
    assert_eq!(layers(&bed).len(), 3);
}

fn two_pulls_at_once() {
    let bed = Bed::new();
    let name = Registry::open().push(&two_layers(&bed, "both"), "store/both:one");
    let pulls: Vec<Running> =
        (0..4).map(|_| Running::spawn(bed.command(["image", "pull", &name]))).collect();
    for pull in pulls {
        pull.ends(0);
    }
    assert_eq!(layers(&bed).len(), 2);
    let spec = build(&["cat /words; echo"]);
    assert_eq!(bed.build(&spec, &["--image", &name]).code(0).output(), "both\n");
}

fn a_tag_that_moves() {
    let bed = Bed::new();
    let registry = Registry::open();
    let spec = build(&["cat /words; echo"]);
    let name = registry.push(&two_layers(&bed, "old"), "store/moves:tag");
    assert_eq!(bed.build(&spec, &["--image", &name]).code(0).output(), "old\n");
    registry.push(&two_layers(&bed, "new"), "store/moves:tag");
    // An existing image is used; a pull checks the registry.
    assert_eq!(bed.build(&spec, &["--image", &name]).code(0).output(), "old\n");
    bed.runner(["image", "pull", &name]).code(0).says("1 of 2 layers");
    assert_eq!(bed.build(&spec, &["--image", &name]).code(0).output(), "new\n");
    // Nothing refers to the old one any more.
    bed.runner(["image", "prune"]).code(0);
    assert_eq!(layers(&bed).len(), 2);
}

/// A proxy in front of a registry that passes on only this many bytes of each of the first
/// connections.
struct Breaking {
    address: String,
    connections: Arc<AtomicUsize>,
    passed: Arc<AtomicU64>,
    is_mended: Arc<AtomicBool>,
}

impl Breaking {
    /// `cut`: bytes passed on before the connection is closed or, if `hang`, before it stalls for
    /// ever.
    fn before(registry: &str, cut: u64, times: usize, hang: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (connections, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let is_mended = Arc::new(AtomicBool::new(false));
        let (count, sum, registry) =
            (Arc::clone(&connections), Arc::clone(&passed), registry.to_owned());
        let mended = Arc::clone(&is_mended);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(&registry).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let breaks = number < times && !mended.load(Ordering::SeqCst);
                let limit = if breaks { cut } else { u64::MAX };
                let (mut from_client, mut to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                });
                let sum = Arc::clone(&sum);
                std::thread::spawn(move || {
                    let (mut server, mut client) = (server, client);
                    let mut left = limit;
                    let mut buffer = [0; 4096];
                    while left > 0 {
                        let most = buffer.len().min(usize::try_from(left).unwrap_or(buffer.len()));
                        let Ok(count @ 1..) = server.read(&mut buffer[..most]) else { break };
                        if client.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                        left -= count as u64;
                        sum.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    if hang && left == 0 {
                        std::thread::park();
                    }
                    let _ = client.shutdown(std::net::Shutdown::Both);
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Breaking { address, connections, passed, is_mended }
    }

    /// New connections get everything.
    fn mend(&self) {
        self.is_mended.store(true, Ordering::SeqCst);
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{}", self.address, name.split_once('/').unwrap().1)
    }
}

/// Five builds begin at once; the registry sends the image once.
fn builds_of_a_batch_share_one_pull() {
    let registry = Registry::open();
    let name = registry.push(&two_layers(&Bed::new(), "shared"), "store/batch:one");
    let sent = |options: &[&str]| {
        let bed = Bed::new();
        let tasks: String = (0..5).map(|at| format!("    - identifier: b{at}\n")).collect();
        let spec = build(&["grep shared /words"]);
        bed.write("buildspec.yml", format!("{spec}batch:\n  build-list:\n{tasks}"));
        let proxy = Breaking::before(&registry.address, 0, 0, false);
        let image = proxy.name(&name);
        bed.runner(options.iter().copied().chain(["--image", &image])).code(0);
        assert_eq!(layers(&bed).len(), 2);
        proxy.passed.load(Ordering::SeqCst)
    };
    let alone = sent(&["run"]);
    let shared = sent(&["batch", "--max-builds", "5"]);
    assert!(shared < alone + alone / 2, "{shared} bytes for five builds, {alone} for one");
}

/// An interrupted download continues where it stopped.
fn a_transfer_that_breaks() {
    let bed = Bed::new();
    let registry = Registry::open();
    let name = registry.push(&two_layers(&bed, "broken"), "store/breaks:one");
    let cut = 300_000;
    let proxy = Breaking::before(&registry.address, cut, 4, false);
    bed.runner(["image", "pull", &proxy.name(&name)]).code(0);
    assert!(proxy.connections.load(Ordering::SeqCst) > 3);
    // If each attempt had begun anew, only the last would have succeeded.
    let size = fs::metadata(image("busybox").with_extension("tar")).unwrap().len();
    let passed = proxy.passed.load(Ordering::SeqCst);
    assert!(passed < size + cut, "{passed} of {size}");
    let spec = build(&["cat /words; echo"]);
    let output = bed.build(&spec, &["--image", &proxy.name(&name)]).code(0).output();
    assert_eq!(output, "broken\n");
}

fn nothing_half_done(bed: &Bed) {
    assert_eq!(layers(bed), Vec::<String>::new());
}

fn a_stop_while_pulling() {
    let bed = Bed::new();
    let registry = Registry::open();
    // With one layer: a second one could be complete before the stop.
    let name = registry.push(&Layout::of_image("busybox"), "store/stops:one");
    let proxy = Breaking::before(&registry.address, 200_000, 100, true);
    let name = proxy.name(&name);
    let running = bed.start(&build(&["echo never"]), &["--image", &name]);
    running.stderr.wait_for("1 of 1 layers");
    running.signal(Signal::SIGINT);
    running.ends(5);
    assert_eq!(bed.record()["buildStatus"], "STOPPED");
    let pull = Running::spawn(bed.command(["image", "pull", &name]));
    pull.stderr.wait_for("1 of 1 layers");
    pull.signal(Signal::SIGINT);
    pull.ends(130);
    nothing_half_done(&bed);
}

fn a_pull_that_was_killed() {
    let bed = Bed::new();
    let registry = Registry::open();
    // With one layer, as above.
    let name = registry.push(&Layout::of_image("busybox"), "store/killed:one");
    let proxy = Breaking::before(&registry.address, 200_000, 100, true);
    let name = proxy.name(&name);
    let mut pull = Running::spawn(bed.command(["image", "pull", &name]));
    until("a layer is begun", || !layers(&bed).is_empty());
    pull.signal(Signal::SIGKILL);
    pull.wait();
    assert!(layers(&bed).iter().all(|name| name.starts_with('.')), "{:?}", layers(&bed));
    bed.runner(["image", "prune"]).code(0);
    nothing_half_done(&bed);
    // The next one has everything it needs, too.
    proxy.mend();
    bed.runner(["image", "pull", &name]).code(0);
    assert_eq!(layers(&bed).len(), 1);
}

fn archives() {
    let bed = Bed::new();
    let layout = two_layers(&bed, "archived");
    let spec = build(&["cat /words; echo"]);
    let oci = bed.path("image.oci.tar");
    let docker = bed.path("image.docker.tar");
    for to in [
        format!("oci-archive:{}", oci.display()),
        format!("docker-archive:{}:a/b:c", docker.display()),
    ] {
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "--quiet", &layout.reference(), &to]);
        outcome(&mut copy).code(0);
    }
    for image in [
        layout.reference(),
        format!("oci-archive:{}", oci.display()),
        format!("docker-archive:{}", docker.display()),
    ] {
        let output = bed.build(&spec, &["--image", &image]).code(0).output();
        assert_eq!(output, "archived\n", "{image}");
    }
    // Under its own name, without the file.
    let source = format!("oci-archive:{}", oci.display());
    bed.runner(["image", "import", &source, "mine:1"]).code(0);
    fs::remove_file(&oci).unwrap();
    assert_eq!(bed.build(&spec, &["--image", "mine:1"]).code(0).output(), "archived\n");
    // Not an archive.
    let junk = bed.write("junk.tar", vec![7; 5000]);
    let missing = bed.path("missing.tar");
    for kind in ["oci-archive", "docker-archive"] {
        bed.runner(["image", "import", &format!("{kind}:{}", junk.display())])
            .code(3)
            .says("junk.tar");
        let none = bed.runner(["image", "import", &format!("{kind}:{}", missing.display())]);
        none.code(3).says("missing.tar: No such file");
    }
    bed.runner(["image", "import", &format!("oci:{}", bed.source().display())])
        .code(3)
        .says("is not an OCI image layout");
}

fn compressed_with_zstd() {
    let bed = Bed::new();
    let layout = two_layers(&bed, "zstd");
    let name = format!("{}/store/zstd:one", Registry::open().address);
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    copy.args(["--dest-compress-format", "zstd", &layout.reference(), &format!("docker://{name}")]);
    outcome(&mut copy).code(0);
    assert_eq!(
        bed.build(&build(&["cat /words; echo"]), &["--image", &name]).code(0).output(),
        "zstd\n"
    );
}

fn as_the_image_says() {
    let bed = Bed::new();
    let crafted = Crafted::new(bed.path("layout"));
    let config = crafted.config(&serde_json::json!({
        "Env": ["PATH=/tools:/bin", "FROM_IMAGE=yes", "OVERRIDDEN=image", "=none", "odd"],
        "User": "1000", "WorkingDir": "/tools", "Entrypoint": ["/bin/false"]}));
    let layer =
        crafted.blob(&tar(&[shell(), entry("tools/tool", b'0', "", b"#!/bin/sh\necho tool\n")]));
    crafted.image(&config, &[layer]);
    let spec = "version: 0.2\nenv: {variables: {OVERRIDDEN: buildspec}}\nphases: {build: {commands: \
                ['echo $FROM_IMAGE $OVERRIDDEN $PATH', 'tool; id -u; test \"$PWD\" = \
                $CODEBUILD_SRC_DIR']}}\n";
    let output = bed.build(spec, &["--image", &crafted.reference()]).code(0).output();
    assert_eq!(output, "yes buildspec /tools:/bin:/codebuild/user/bin\ntool\n0\n");
}

/// A directory that a layer only passes through keeps the facts from the layers below.
fn directories_look_as_below() {
    let bed = Bed::new();
    let lower = tar(&[
        shell(),
        entry_like("private/", b'5', "", b"", 0o700),
        entry_like("private/open/", b'5', "", b"", 0o1777),
        entry_like("gone/", b'5', "", b"", 0o700),
        entry("gone/file", b'0', "", b""),
    ]);
    let upper = tar(&[
        entry("private/open/file", b'0', "", b""),
        entry(".wh.gone", b'0', "", b""),
        entry("new/file", b'0', "", b""),
    ]);
    let top =
        tar(&[entry("private/other/file", b'0', "", b""), entry("gone/file2", b'0', "", b"")]);
    let crafted = Crafted::with_layers(bed.path("layout"), &[&lower, &upper, &top]);
    let spec =
        build(&["cd /; stat -c '%n %a' private private/open private/other gone new; ls gone"]);
    let output = bed.build(&spec, &["--image", &crafted.reference()]).code(0).output();
    assert_eq!(
        output,
        "private 700\nprivate/open 1777\nprivate/other 755\ngone 755\nnew 755\nfile2\n"
    );
}

fn platforms() {
    let bed = Bed::new();
    let crafted = Crafted::new(bed.path("layout"));
    let config = crafted.config(&serde_json::json!({}));
    let layer = crafted.blob(&tar(&[shell()]));
    let ours = crafted.image(&config, std::slice::from_ref(&layer));
    let foreign = serde_json::json!({"architecture": "s390x", "os": "linux"});
    let other = crafted.blob(foreign.to_string().as_bytes());
    let other = crafted.image(&other, &[layer]);
    let on = |blob: &crate::common::crafted::Blob, architecture: &str| {
        let mut descriptor = blob.descriptor(MANIFEST);
        descriptor["platform"] = serde_json::json!({"architecture": architecture, "os": "linux"});
        descriptor
    };
    crafted.index(&[on(&other, "s390x"), on(&ours, architecture())]);
    let spec = build(&["echo hello"]);
    let reference = crafted.reference();
    assert_eq!(bed.build(&spec, &["--image", &reference]).code(0).output(), "hello\n");
    crafted.index(&[on(&other, "s390x"), on(&other, "ppc64le")]);
    bed.build(&spec, &["--image", &reference]).code(3).says("name one of its images");
    // An index of platforms below the layout's own, as in registries.
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [on(&other, "s390x")]});
    let index = crafted.blob(index.to_string().as_bytes());
    crafted.index(&[index.descriptor("application/vnd.oci.image.index.v1+json")]);
    bed.build(&spec, &["--image", &reference]).code(3).says("only for: linux/s390x");
    crafted.index(&[other.descriptor(MANIFEST)]);
    bed.build(&spec, &["--image", &reference]).code(3).says("it is for s390x, this machine is");
}

fn what_is_removed() {
    let bed = Bed::new();
    let one = Crafted::with_layers(bed.path("one"), &[&tar(&[shell()])]);
    let text = tar(&[entry("file", b'0', "", b"x")]);
    let two = Crafted::with_layers(bed.path("two"), &[&tar(&[shell()]), &text]);
    bed.runner(["image", "import", &one.reference(), "one"]).code(0);
    bed.runner(["image", "import", &two.reference(), "two"]).code(0);
    assert_eq!(layers(&bed).len(), 2);
    let json = bed.runner(["image", "ls", "--format", "json"]).code(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["name"], "docker.io/library/one:latest");
    assert_eq!(json.as_array().unwrap().len(), 2);
    // As typed; the other image still uses the first layer.
    let out = bed.runner(["image", "rm", "two"]).code(0).stdout;
    assert!(out.contains("1 layers removed"), "{out}");
    assert_eq!(layers(&bed).len(), 1);
    bed.runner(["image", "rm", "two"]).code(2).says("no such image: two");
    bed.runner(["image", "rm", "docker.io/library/one:latest"]).code(0);
    nothing_half_done(&bed);
    assert_eq!(bed.runner(["image", "ls"]).code(0).stdout.lines().count(), 1);
}

fn a_build_keeps_its_image() {
    let bed = Bed::new();
    let crafted = Crafted::with_layers(bed.path("layout"), &[&tar(&[shell()])]);
    bed.runner(["image", "import", &crafted.reference(), "kept"]).code(0);
    let running =
        bed.paused(&build(&["codebuild-breakpoint", "ls /bin/busybox"]), &["--image", "kept"]);
    bed.runner(["image", "rm", "kept"]).code(0);
    bed.runner(["image", "prune"]).code(0);
    assert_eq!(layers(&bed).len(), 1);
    bed.resume(running);
    bed.runner(["image", "prune"]).code(0);
    nothing_half_done(&bed);
}

fn names_that_are_none() {
    let bed = Bed::new();
    for (name, wanted) in [
        ("./root", "write rootfs:./root"),
        ("a/UPPER", "write host, rootfs:DIR"),
        ("oci:", "there is no path"),
    ] {
        bed.runner(["run", "--image", name]).code(2).says(wanted);
    }
    bed.runner(["image", "pull", "rootfs:/x"]).code(2).says("is not in a registry");
    bed.runner(["image", "import", "host"]).code(2).says("is nothing to import");
    bed.runner(["image", "import", "oci:/x", "host"]).code(2).says("cannot be the name");
    // Nobody listens there; a port that was merely free might be another test's by now.
    bed.runner(["image", "pull", "127.0.0.1:1/a"])
        .code(3)
        .says("cannot reach")
        .says("runner image import");
}

fn bars_on_a_terminal() {
    let bed = Bed::new();
    let big: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layer = tar(&[shell(), entry("big", b'0', "", &big)]);
    let crafted = Crafted::with_layers(bed.path("layout"), &[&layer]);
    let terminal = bed.terminal(bed.command(["image", "import", &crafted.reference()]), 24, 100);
    terminal.wait_for("all");
    terminal.wait_for("sha256:");
    terminal.ends(0);
}

/// Kinds, modes, owners, contents and link targets of a tree.
const LIST: &str = "find opt -exec stat -c '%n %F %a %u:%g %N' {} + | sort; find opt bin -type f \
                    -exec md5sum {} + | sort; ls bin | wc -l";

/// A build finds the same tree as umoci unpacks from these layers.
fn the_same_tree_as_umoci() {
    let bed = Bed::new();
    let busybox = image("busybox").with_extension("tar");
    let first = tar_file(
        &bed,
        "first.tar",
        &[
            entry("opt/", b'5', "", b""),
            entry_like("opt/set", b'0', "", b"program", 0o6755),
            entry("opt/hard", b'1', "opt/set", b""),
            entry("opt/link", b'2', "/opt/set", b""),
            entry("opt/dangling", b'2', "nowhere", b""),
            entry("opt/fifo", b'6', "", b""),
            entry("opt/dir/", b'5', "", b""),
            entry("opt/dir/a", b'0', "", b"a"),
            entry("opt/dir/b", b'0', "", b"b"),
            entry("opt/emptied/", b'5', "", b""),
            entry("opt/emptied/a", b'0', "", b"a"),
            entry("opt/becomes-dir", b'0', "", b"a"),
            entry("opt/becomes-file/", b'5', "", b""),
            entry("opt/becomes-file/a", b'0', "", b"a"),
            entry_like("opt/deep/", b'5', "", b"", 0o710),
            entry_like("opt/deep/er/", b'5', "", b"", 0o1770),
        ],
    );
    let second = tar_file(
        &bed,
        "second.tar",
        &[
            entry("opt/.wh.link", b'0', "", b""),
            entry("opt/dir/.wh.a", b'0', "", b""),
            entry("opt/emptied/", b'5', "", b""),
            entry("opt/emptied/.wh..wh..opq", b'0', "", b""),
            entry("opt/emptied/new", b'0', "", b"new"),
            entry("opt/.wh.becomes-dir", b'0', "", b""),
            entry("opt/becomes-dir/", b'5', "", b""),
            entry("opt/becomes-dir/in", b'0', "", b"in"),
            entry("opt/.wh.becomes-file", b'0', "", b""),
            entry("opt/becomes-file", b'0', "", b"file"),
            entry("opt/deep/er/new", b'0', "", b"new"),
        ],
    );
    let layout = Layout::of_tars(&[&busybox, &first, &second]);
    let bundle = bed.path("bundle");
    let mut umoci = Command::new("umoci");
    umoci.args(["unpack", "--image", &layout.place()]).arg(&bundle);
    outcome(&mut umoci).code(0);
    let theirs = outcome(
        Command::new(image("busybox").join("bin/busybox"))
            .args(["sh", "-c", LIST])
            .env("PATH", image("busybox").join("bin"))
            .current_dir(bundle.join("rootfs")),
    )
    .code(0)
    .stdout;
    let list = format!("cd /; {LIST}").replace('\'', "''");
    let spec = format!("version: 0.2\nphases: {{build: {{commands: ['{list}']}}}}\n");
    let ours = bed.build(&spec, &["--image", &layout.reference()]).code(0).output();
    assert!(ours.contains("opt/deep/er directory 1770"), "{ours}");
    assert_eq!(lines(&ours), lines(&theirs));
    assert!(is_root());
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty()).collect()
}

fn files_may_have_any_owner() {
    let bed = Bed::new();
    let file = bed.path("owned");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(12345), Some(54321)).unwrap();
    let layer = bed.path("owned.tar");
    let shell_tar = tar_file(&bed, "shell.tar", &[shell()]);
    let mut pack = Command::new("tar");
    pack.args(["--numeric-owner", "-C"]).arg(bed.path("")).arg("-cf").arg(&layer).arg("owned");
    outcome(&mut pack).code(0);
    let read = |path: &Path| fs::read(path).unwrap();
    let crafted = Crafted::with_layers(bed.path("layout"), &[&read(&shell_tar), &read(&layer)]);
    let spec = build(&["stat -c %u:%g /owned"]);
    let output = bed.build(&spec, &["--image", &crafted.reference()]).code(0).output();
    assert_eq!(output, "12345:54321\n");
}

/// The unpacked tree of a tar is listed, and removed by name, with its tar, or by age.
fn tars_that_are_unpacked() {
    let bed = Bed::owned();
    let tar = bed.path("busybox.tar");
    let name = format!("rootfs:{}", tar.display());
    let trees = || {
        let mut left = list(&bed.home().join("images"));
        left.retain(|name| name.starts_with("rootfs-"));
        left
    };
    let listed = || {
        let text = bed.runner(["image", "ls", "--format", "json"]).code(0).stdout;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(listed(), serde_json::json!([]));
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    assert_eq!(
        (&listed()[0]["name"], listed().as_array().unwrap().len()),
        (&name.clone().into(), 1)
    );
    assert!(listed()[0]["bytes"].as_u64().unwrap() > 500_000, "{}", listed());
    let text = bed.runner(["image", "ls"]).code(0).stdout;
    assert!(text.contains(&name), "{text}");
    // Not while a build uses it, whatever has happened to the tar.
    bed.runner(["image", "rm", &name]).code(3).says("in use by a build");
    let aside = bed.path("aside");
    fs::rename(&tar, &aside).unwrap();
    bed.runner(["image", "prune"]).code(0);
    assert_eq!(trees().len(), 2, "{:?}", trees());
    bed.resume(running);
    // Without its tar nobody can use it any more.
    let freed = bed.runner(["image", "prune"]).code(0).stdout;
    assert!(
        freed.contains("1 root file system removed") && !freed.contains(" 0 B freed"),
        "{freed}"
    );
    assert_eq!(trees(), [""; 0]);
    fs::rename(&aside, &tar).unwrap();
    // By name, also as typed.
    for name in [name.as_str(), "rootfs:../busybox.tar"] {
        bed.build(&build(&["true"]), &[]).code(0);
        bed.runner(["image", "prune"]).code(0);
        assert_eq!(trees().len(), 2, "its tar is there");
        bed.runner(["image", "rm", name]).code(0);
        assert_eq!(trees(), [""; 0]);
    }
    bed.runner(["image", "rm", &name]).code(2).says("no such image");
    // An incomplete tree.
    bed.build(&build(&["true"]), &[]).code(0);
    let tree = trees().into_iter().find(|tree| !tree.ends_with(".lock")).unwrap();
    fs::remove_file(bed.home().join("images").join(&tree).join("source")).unwrap();
    bed.runner(["image", "prune"]).code(0);
    assert_eq!(trees(), [""; 0]);
    // Unused for long.
    bed.build(&build(&["true"]), &[]).code(0);
    let lock = trees().into_iter().find(|tree| tree.ends_with(".lock")).unwrap();
    let lock = fs::File::options().write(true).open(bed.home().join("images").join(lock)).unwrap();
    lock.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 86400))
        .unwrap();
    let plain = format!("rootfs:{}", image("busybox").display());
    bed.runner(["run", "--image", &plain]).code(0);
    assert_eq!(trees(), [""; 0]);
}
