//! A virtual machine for kernel settings that this machine does not have: a Debian kernel, the
//! image busybox and the program under test in memory, and checks from `tests/machines`, each of
//! which writes a line `ok NAME` or `not ok NAME` to the console.
//!
//! It is emulated in software: a machine that runs tests is usually virtual itself, and its
//! /dev/kvm may exist and fail. It boots in five seconds.

use super::{PATIENCE, image, project, runner};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// For a machine that is emulated while other tests run.
const SLOW: Duration = Duration::from_secs(3 * PATIENCE.as_secs());

/// Whether everything it needs is installed.
pub(crate) fn is_ready() -> bool {
    super::has("qemu-system-x86_64") && kernel().is_dir()
}

fn kernel() -> PathBuf {
    project().join("target/kernel")
}

/// Boots it and runs these checks, a file of `tests/machines`.
#[track_caller]
pub(crate) fn run(checks: &str) {
    let dir = tempfile::Builder::new().prefix("runner-test-").tempdir_in("/var/tmp").unwrap();
    let files = pack(dir.path());
    let output = Command::new("timeout")
        .arg(SLOW.as_secs().to_string())
        .args(["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel().join("vmlinuz"))
        .arg("-initrd")
        .arg(files)
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 rdinit=/init checks={checks}")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let is_over = console.lines().any(|line| line == "checks are over");
    let passed = console.lines().filter(|line| line.starts_with("ok ")).count();
    let failed = console.lines().any(|line| line.starts_with("not ok "));
    assert!(is_over && passed > 0 && !failed, "{console}\n{output:?}");
}

/// Packs its files as an initramfs.
fn pack(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    copy(&image("busybox"), &root);
    copy(&image("busybox"), &root.join("image"));
    copy(&project().join("tests/machines"), &root.join("checks"));
    fs::rename(root.join("checks/init"), root.join("init")).unwrap();
    fs::copy(kernel().join("overlay.ko"), root.join("overlay.ko")).unwrap();
    for (table, line) in
        [("passwd", "user:x:1001:1001::/home/user:/bin/sh\n"), ("group", "user:x:1001:\n")]
    {
        let path = root.join("etc").join(table);
        fs::write(&path, fs::read_to_string(&path).unwrap() + line).unwrap();
    }
    // Debug information is most of the program's size.
    let program = root.join("bin/runner");
    done(Command::new("strip").arg("--strip-debug").arg("-o").arg(&program).arg(runner()));
    for library in libraries(&program) {
        let place = root.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(&library, place).unwrap();
    }
    let archive = dir.join("files");
    let pack = "cd \"$0\" && find . | busybox cpio -o -H newc 2> /dev/null > \"$1\"";
    done(Command::new("sh").args(["-c", pack]).arg(&root).arg(&archive));
    archive
}

/// Paths of the libraries that a program is linked with.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

fn copy(from: &Path, to: &Path) {
    done(Command::new("cp").args(["-a", "--"]).arg(from).arg(to));
}

#[track_caller]
fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
