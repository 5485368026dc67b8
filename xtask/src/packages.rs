//! Installs Debian packages by name, with apt as root.

use crate::{ChoreResult, is_root, run};
use std::process::{Command, Stdio};

/// Packages for tests and images. Tests that need a missing one are not run.
pub(crate) const ALL: &[&str] = &[
    "apache2-utils",
    "awscli",
    "binutils",
    "busybox-static",
    "chromium",
    "chromium-driver",
    "docker-registry",
    "docker.io",
    "fakeroot",
    "fonts-dejavu-core",
    "gcc",
    "gcc-multilib",
    "gdb",
    "git",
    "iproute2",
    "libc6-dev",
    "mmdebstrap",
    "openssh-client",
    "openssl",
    "passt",
    "passwd",
    "podman",
    "procps",
    "python3-venv",
    "qemu-system-x86",
    "runc",
    "skopeo",
    "socat",
    "strace",
    "tmux",
    "uidmap",
    "umoci",
    "unzip",
    "util-linux",
    "xz-utils",
];

/// Programs that `cargo xtask test --extended` runs in the sandbox.
pub(crate) const EXTENDED: &[&str] = &[
    "cargo",
    "default-jdk-headless",
    "golang-go",
    "linux-perf",
    "make",
    "nodejs",
    "perl",
    "postgresql",
    "rpm",
    "rsync",
    "sqlite3",
    "valgrind",
];

/// Installs the missing packages. If that is impossible, says so and continues.
pub(crate) fn install(names: &[&str]) -> ChoreResult {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() || !has("apt-get") {
        println!("xtask: not installed: {list} (as root, on Debian: apt-get install {list})");
        return Ok(());
    }
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(missing);
    apt(&install)
}

/// Runs apt-get without questions.
pub(crate) fn apt(arguments: &[&str]) -> ChoreResult {
    run(&mut apt_get(arguments))
}

/// The same as a command that waits instead of giving up early: a machine that has just started
/// installs its own updates, and a mirror may be unreachable for a moment.
pub(crate) fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
        .args(["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=5"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    command
}

fn is_installed(name: &str) -> bool {
    let output =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", name]).output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// Whether a program is on PATH.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
