//! `rootfs:` images: directories, tars, hostile tars, an image without a shell.

use crate::common::crafted::entry;
use crate::common::{Bed, cases, image, is_root};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => a_directory_is_not_written, a_tar_is_unpacked_once, a_gzipped_tar,
        hostile_tars_are_refused, links_in_an_image_lead_nowhere, another_kind_is_recognized;
    [Root, Image("debian")] => debian_works;
    [Root, Image("busybox")] => device_nodes_of_an_image_are_files;
    [Containers, Image("static")] => an_image_without_a_shell, looked_into_without_a_shell,
        nobody_looks_into_it, a_shell_that_is_lost;
    [Containers, Image("static"), Program("busybox")] => looked_into_with_the_toolbox;
    [Containers] => no_such_image;
}

const HELLO: &str = "version: 0.2\nphases: {build: {commands: [echo hello]}}\n";

fn a_directory_is_not_written() {
    let tree = image("busybox");
    let before = fs::read_dir(&tree).unwrap().count();
    let bed = Bed::new();
    bed.build("version: 0.2\nphases: {build: {commands: [rm /bin/awk; touch /new; ls /]}}\n", &[])
        .code(0);
    assert_eq!(fs::read_dir(&tree).unwrap().count(), before);
    assert!(tree.join("bin/awk").symlink_metadata().is_ok());
}

fn tar(bed: &Bed, name: &str, options: &[&str]) -> PathBuf {
    let file = bed.path(name);
    let mut command = Command::new("tar");
    command.arg("-C").arg(image("busybox")).args(options).arg("-cf").arg(&file).arg(".");
    assert!(command.status().unwrap().success());
    file
}

fn another_kind_is_recognized() {
    let bed = Bed::new();
    let file = tar(&bed, "image.tar", &[]).display().to_string();
    bed.write("buildspec.yml", HELLO);
    let run = |image: String| bed.runner(["run", "--image", &image, "--project", "demo"]);
    for kind in ["docker-archive", "oci-archive"] {
        run(format!("{kind}:{file}")).code(3).says(&format!("rootfs:{file}"));
    }
    run(format!("oci:{}", image("busybox").display())).code(3).says("rootfs:");
}

fn run(bed: &Bed, file: &std::path::Path) -> crate::common::Outcome {
    bed.write("buildspec.yml", HELLO);
    bed.runner(["run", "--image", &format!("rootfs:{}", file.display()), "--project", "demo"])
}

fn a_tar_is_unpacked_once() {
    let bed = Bed::new();
    let file = tar(&bed, "image.tar", &[]);
    assert_eq!(run(&bed, &file).code(0).output(), "hello\n");
    let images = || {
        let mut names = crate::common::list(&bed.home().join("images"));
        names.retain(|name| !name.ends_with(".lock"));
        names
    };
    let first = images();
    assert_eq!(first.len(), 1, "{first:?}");
    let tree = bed.home().join("images").join(&first[0]).join("tree");
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&tree).unwrap());
    run(&bed, &file).code(0);
    assert_eq!(inode, std::os::unix::fs::MetadataExt::ino(&fs::metadata(&tree).unwrap()));
    // Identical to the tree it was made from: kinds, modes, owners, contents, link targets.
    let list = |dir: &std::path::Path| {
        // Without root the owners are those of the container's users.
        let owners = if is_root() { "%U:%G" } else { "" };
        let script = format!(
            "find . -printf '%p %y %m {owners} %l\\n' | sort; find . -type f -exec md5sum {{}} + | sort"
        );
        let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(list(&tree), list(&image("busybox")));
    // A new version of the file replaces the old tree.
    fs::remove_file(&file).unwrap();
    let file = tar(&bed, "image.tar", &["--exclude=./etc/group"]);
    run(&bed, &file).code(0);
    let second = images();
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
}

fn a_gzipped_tar() {
    let bed = Bed::new();
    let file = tar(&bed, "image.tar.gz", &["-z"]);
    assert_eq!(run(&bed, &file).code(0).output(), "hello\n");
    let file = bed.write("image.tar.xz", b"\xfd7zXZ\0and so on");
    run(&bed, &file).code(3).says("xz -d");
}

fn hostile_tars_are_refused() {
    let busybox = fs::read(image("busybox").join("bin/busybox")).unwrap();
    let shell = || {
        [entry("bin/busybox", b'0', "", &busybox), entry("bin/sh", b'2', "busybox", b"")].concat()
    };
    let bed = Bed::new();
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    let absolute = outside.join("file");
    let attempts: [(&str, Vec<u8>, Option<&str>); 6] = [
        ("dots", entry("../../outside/file", b'0', "", b"x"), Some("leaves the tree")),
        ("inner dots", entry("a/../../outside/file", b'0', "", b"x"), Some("leaves the tree")),
        ("absolute", entry(absolute.to_str().unwrap(), b'0', "", b"x"), Some("absolute name")),
        (
            "through a link",
            [
                entry("out", b'2', outside.to_str().unwrap(), b""),
                entry("out/file", b'0', "", b"x"),
                shell(),
            ]
            .concat(),
            None,
        ),
        (
            "through a relative link",
            [
                entry("out", b'2', "../../../../../../../outside", b""),
                entry("out/file", b'0', "", b"x"),
                shell(),
            ]
            .concat(),
            None,
        ),
        (
            "a hard link",
            [entry("link", b'1', "../../../../etc/passwd", b""), shell()].concat(),
            Some("cannot unpack entry 1"),
        ),
    ];
    for (name, entries, refusal) in attempts {
        let file = bed.path(&format!("{name}.tar"));
        fs::write(&file, [entries, vec![0; 1024]].concat()).unwrap();
        match refusal {
            Some(message) => drop(run(&bed, &file).code(3).says(message).says("entry 1")),
            None => drop(run(&bed, &file).code(0)),
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
    }
    let device = [entry("dev/sda", b'4', "", b""), shell()].concat();
    let file = bed.path("device.tar");
    fs::write(&file, [device, vec![0; 1024]].concat()).unwrap();
    run(&bed, &file).code(0).says("1 device nodes are left out");
    for (name, bytes) in
        [("empty", vec![]), ("junk", vec![7; 5000]), ("short", shell()[..700].to_vec())]
    {
        let file = bed.path(&format!("{name}.tar"));
        fs::write(&file, bytes).unwrap();
        run(&bed, &file).code(3).says("rootfs:");
    }
    assert!(bed.only_record_is_fault(), "the record of a build without an image");
}

/// Links of an image are followed inside it, also while the container is prepared.
fn links_in_an_image_lead_nowhere() {
    let bed = Bed::new();
    let tree = bed.path("image");
    let copy = Command::new("cp").arg("-a").arg(image("busybox")).arg(&tree).status().unwrap();
    assert!(copy.success());
    let trap = bed.path("trap");
    // It leads in circles inside the image, where /var is a link as well.
    fs::create_dir(&trap).unwrap();
    for name in ["codebuild", "tmp", "var", "root"] {
        let _ = fs::remove_dir_all(tree.join(name));
        std::os::unix::fs::symlink(&trap, tree.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(trap.join("hosts"), tree.join("etc/hosts")).unwrap();
    run(&bed, &tree).code(0);
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0);
    // The kernel's own directories are never followed through a link.
    std::os::unix::fs::symlink(&trap, tree.join("proc")).unwrap();
    run(&bed, &tree).code(3).says("cannot mount /proc");
}

/// A device node in an image is not a device in a container.
fn device_nodes_of_an_image_are_files() {
    let bed = Bed::new();
    let tree = bed.path("image");
    let copy = Command::new("cp").arg("-a").arg(image("busybox")).arg(&tree).status().unwrap();
    assert!(copy.success());
    let node = Command::new("mknod").arg(tree.join("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(node.success());
    let text = "version: 0.2\nphases: {build: {commands: ['ls -l /zero | cut -c1; head -c 1 \
                    /zero && echo read']}}\n";
    let spec = bed.write("device.yml", text);
    let mut command = bed.command(["run", "--image"]);
    command.arg(format!("rootfs:{}", tree.display())).arg(spec);
    assert_eq!(
        crate::common::outcome(&mut command).code(1).output(),
        "c\nhead: /zero: Permission denied\n"
    );
}

fn debian_works() {
    let bed = Bed::with_image(&format!("rootfs:{}", image("debian").display()));
    let commands = "version: 0.2\nenv: {shell: bash}\nphases:\n  build:\n    commands:\n      - . \
                    /etc/os-release; echo $ID ${BASH_VERSION:+bash}\n      - \"useradd -m someone && \
                    echo 'someone ALL=(ALL) NOPASSWD: ALL' >> /etc/sudoers\"\n      - su someone -c \
                    'sudo -n id -u; sudo -n codebuild-breakpoint'\n  post_build:\n    run-as: \
                    someone\n    commands: [id -un]\n";
    let outcome = bed.build(commands, &[]).code(0);
    assert_eq!(outcome.output(), "debian bash\n0\nsomeone\n");
    let running = bed.paused(commands, &[]);
    // bash is there, so that is the shell.
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("echo shell-$BASH_VERSION\r");
    terminal.wait_for("shell-5");
    terminal.send("exit\r");
    terminal.ends(0);
    bed.runner(["resume"]).code(0);
    running.ends(0);
}

fn an_image_without_a_shell() {
    let bed = Bed::with_image(&format!("rootfs:{}", image("static").display()));
    bed.build(HELLO, &["--build-json", bed.path("r.json").to_str().unwrap()])
        .code(3)
        .says("Build container found dead")
        .says("no `/bin/sh`")
        .says("hint: commands of a buildspec need a shell");
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

/// A build in it that waits at its fault.
fn stuck(bed: &Bed, options: &[&str]) -> crate::common::Running {
    let running = bed.start(HELLO, &[&["--enable-session"], options].concat());
    running.stderr.wait_for("is paused and cannot go on: the image has no `/bin/sh`");
    running.stderr.wait_for("  stop ");
    running
}

fn looked_into_without_a_shell() {
    let bed = Bed::with_image(&format!("rootfs:{}", image("static").display()));
    let running = stuck(&bed, &[]);
    running.stderr.wait_for(" -- PROGRAM");
    running.stderr.wait_for("a build started with --toolbox has one");
    let out = bed.runner(["exec", "--", "/hello", "it"]).code(0).stdout;
    assert_eq!(out, "hello from an image without a shell [\"it\"]\n");
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.wait_for("the image has no shell");
    terminal.ends(127);
    bed.runner(["wait", "--for", "paused"]).code(0);
    // From within, too.
    bed.runner(["exec", "--", "codebuild-resume"]);
    running.stderr.wait_for("Build container found dead");
    running.ends(3);
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

fn looked_into_with_the_toolbox() {
    let bed = Bed::with_image(&format!("rootfs:{}", image("static").display()));
    let running = stuck(&bed, &["--toolbox"]);
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("ls /hello && pwd && echo done-$((6 * 7))\r");
    terminal.wait_for("/codebuild/output/");
    terminal.wait_for("done-42");
    terminal.send("codebuild-resume\r");
    terminal.wait_for("the build is being stopped");
    terminal.ends(0);
    running.ends(3);
}

fn nobody_looks_into_it() {
    for (action, code) in [("resume", 3), ("stop", 5)] {
        let bed = Bed::with_image(&format!("rootfs:{}", image("static").display()));
        let options = ["--break-timeout", "1s", "--break-timeout-action", action];
        let running = stuck(&bed, &options);
        running.stderr.wait_for("  ends by itself in ");
        running.ends(code);
        let paused = bed.events("paused");
        assert_eq!((&paused[0]["breakpoint"], &paused[0]["kind"]), (&1.into(), &"stuck".into()));
    }
}

/// The shell existed when the build began.
fn a_shell_that_is_lost() {
    let bed = Bed::owned();
    let commands = "version: 0.2\nphases:\n  build:\n    commands: [cd /tmp, rm /bin/sh, 'true']\n";
    bed.build(commands, &[]).code(3).says("no `/bin/sh`").says("hint: ");
    let running = bed.start(commands, &["--enable-session"]);
    running.stderr.wait_for("is paused and cannot go on");
    running.stderr.wait_for("  stop ");
    assert_eq!(bed.runner(["exec", "--", "busybox", "pwd"]).code(0).stdout, "/tmp\n");
    bed.runner(["resume"]).code(0);
    running.ends(3);
}

fn no_such_image() {
    let bed = Bed::host();
    run(&bed, &bed.path("nosuch")).code(3).says("No such file").says("hint:");
    let empty = bed.path("empty");
    fs::create_dir(&empty).unwrap();
    run(&bed, &empty).code(3).says("the directory is empty");
    assert!(bed.only_record_is_fault());
}

impl Bed {
    /// Whether the last record shows an image that could not be used.
    fn only_record_is_fault(&self) -> bool {
        crate::common::list(&self.home().join("builds")).iter().any(|name| {
            let path = self.home().join("builds").join(name).join("record.json");
            let record: serde_json::Value =
                serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            record["phases"][2]["contexts"][0]["statusCode"]
                == "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE"
                && record["buildStatus"] == "FAULT"
        })
    }
}
