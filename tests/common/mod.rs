//! Shared basis of all suites: cases and their needs, an isolated bed, observable processes.

pub(crate) mod aws;
mod aws_cli;
mod bed;
pub(crate) mod browser;
pub(crate) mod channel;
pub(crate) mod crafted;
pub(crate) mod daemon;
pub(crate) mod docker;
pub(crate) mod endpoint;
pub(crate) mod engines;
pub(crate) mod gateway;
pub(crate) mod machine;
pub(crate) mod picture;
pub(crate) mod podman;
mod process;
mod pty;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod site;
pub(crate) mod times;
pub(crate) mod virtual_machine;
pub(crate) mod visitor;

pub(crate) use bed::{Bed, Outcome, build, list, outcome, write_program};
pub(crate) use process::{Running, Stream};
pub(crate) use pty::{Terminal, screen_of};

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long anything may take before a test considers it hung, on a machine that is busy with other
/// work too. Nothing here waits for a fixed time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Need],
    /// Whether its result does not depend on the user who runs it.
    pub(crate) is_alike: bool,
    pub(crate) run: fn(),
}

/// Something a case requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Namespaces: as root, or as a user whom the kernel allows to create them.
    Containers,
    /// Containers with other users than root: as root, or with subordinate ids.
    Users,
    /// The rights of root on the host.
    Root,
    /// An image of `images/`, built by `cargo xtask images`.
    Image(&'static str),
    /// A program on PATH, or with its full path.
    Program(&'static str),
    /// A `rustc` that can build this project: that of a distribution may be years older.
    Rust,
    /// The extended run, for slow tests or large installations: `cargo xtask test --extended`.
    Extended,
    /// A gcc that makes programs of 32 bits.
    Gcc32,
    /// FUSE: the kernel's module, and its device.
    Fuse,
    /// The program pasta, and access to the device it needs.
    Pasta,
    /// The real buildspecs stored next to the project on development machines.
    Corpus,
    /// The packages of `tests/reports/jest`, installed by `cargo xtask packages`.
    Node,
    /// The packages of `tests/requirements.txt`, installed by `cargo xtask packages`.
    Python,
    /// The packages of `tests/clients`, and node to run them.
    Clients,
    /// Debian's chromium and its driver.
    Browser,
    /// The packages the page is built with, installed by `cargo xtask packages`.
    Web,
    /// qemu, and the kernel that `cargo xtask packages` has put below `target`.
    VirtualMachine,
}

/// Whether another user has already run all tests (`xtask/src/rootless.rs`).
pub(crate) fn is_again() -> bool {
    std::env::var_os("RUNNER_TEST_AGAIN").is_some_and(|value| value == "1")
}

/// Whether a case is skipped without these needs even if everything else must be installed.
pub(crate) fn is_elsewhere(needs: &[Need]) -> bool {
    let lacks = |program| needs.contains(&Need::Program(program)) && !has(program);
    if needs.contains(&Need::Extended) && !is_extended() {
        return true;
    }
    // Nobody installs that: it takes longer to build than everything else.
    needs.contains(&Need::Corpus) && !corpus().is_dir() || lacks("cargo-nextest")
}

/// Real buildspecs.
pub(crate) fn corpus() -> PathBuf {
    project().join("../shared/corpus")
}

/// Polls until a condition holds.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    // Short at first; later it leaves the processor to what is being waited for.
    let mut pause = Duration::from_micros(100);
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The needs that this machine lacks, as text.
pub(crate) fn missing(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| match need {
        Need::Containers if !has_namespaces() => Some("user namespaces".to_owned()),
        Need::Users if !has_users() => Some("subordinate ids and newuidmap".to_owned()),
        Need::Root if !is_root() => Some("root".to_owned()),
        Need::Image(name) if !image(name).is_dir() => {
            Some(format!("the image {name} (cargo xtask images)"))
        }
        Need::Fuse if !has_fuse() => Some("a /dev/fuse for this user".to_owned()),
        Need::Pasta if !has("pasta") => Some("the program pasta".to_owned()),
        Need::Pasta if !has_tun() => Some("a /dev/net/tun for this user".to_owned()),
        Need::Corpus if !corpus().is_dir() => Some("../shared/corpus".to_owned()),
        Need::Program(name) if !has(name) => Some(format!("the program {name}")),
        Need::Node if !has("node") || !node("node_modules/jest").is_dir() => {
            Some("the packages of tests/reports/jest (cargo xtask packages)".to_owned())
        }
        Need::Clients if !has("node") || !clients().join("ws").is_dir() => {
            Some("the packages of tests/clients (cargo xtask packages)".to_owned())
        }
        Need::Web if !project().join("target/web/node_modules/axe-core").is_dir() => {
            Some("the packages of web (cargo xtask packages)".to_owned())
        }
        Need::Browser if !browser::is_there() => {
            Some("chromium and chromium-driver (cargo xtask packages)".to_owned())
        }
        Need::Python if !has_python() => {
            Some("the packages of tests/requirements.txt (cargo xtask packages)".to_owned())
        }
        Need::VirtualMachine if !virtual_machine::is_ready() => {
            Some("qemu and target/kernel (cargo xtask packages)".to_owned())
        }
        Need::Extended if !is_extended() => Some("cargo xtask test --extended".to_owned()),
        Need::Rust if !has_rust() => {
            Some(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), " or newer").to_owned())
        }
        Need::Gcc32 if !has_gcc_32() => Some("the package gcc-multilib".to_owned()),
        Need::Containers
        | Need::Extended
        | Need::Gcc32
        | Need::Rust
        | Need::VirtualMachine
        | Need::Node
        | Need::Python
        | Need::Clients
        | Need::Browser
        | Need::Web
        | Need::Users
        | Need::Root
        | Need::Image(_)
        | Need::Program(_)
        | Need::Fuse
        | Need::Pasta
        | Need::Corpus => None,
    })
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn has(program: &str) -> bool {
    program_of(program).is_some()
}

/// The path of a program on PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    program_of(name).unwrap_or_else(|| panic!("no program {name}"))
}

fn program_of(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn is_extended() -> bool {
    std::env::var_os("RUNNER_EXTENDED").is_some_and(|value| value == "1")
}

fn has_rust() -> bool {
    // `rustc 1.95.0 (59807616e 2026-04-14)`
    let Ok(found) = Command::new("rustc").arg("--version").output() else {
        return false;
    };
    let found = String::from_utf8_lossy(&found.stdout);
    let numbers = |version: &str| -> Vec<u32> {
        version.split(['.', '-']).map_while(|number| number.parse().ok()).collect()
    };
    let version = found.split(' ').nth(1).unwrap_or_default();
    numbers(version) >= numbers(env!("CARGO_PKG_RUST_VERSION"))
}

fn has_gcc_32() -> bool {
    // If gcc does not find the file, it prints the name without a path.
    let found = Command::new("gcc").args(["-m32", "-print-file-name=libgcc.a"]).output();
    found.is_ok_and(|output| output.stdout.starts_with(b"/"))
}

/// Whether this user may create network devices in their own namespace.
pub(crate) fn has_tun() -> bool {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok()
}

fn has_fuse() -> bool {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
}

/// Whether an unprivileged user may create a user namespace here.
fn has_namespaces() -> bool {
    let unshare = || Command::new("unshare").args(["--user", "true"]).status();
    is_root() || unshare().is_ok_and(|status| status.success())
}

fn has_users() -> bool {
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid).unwrap().map(|user| user.name);
    let table = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let is_listed = table.lines().any(|line| line.split(':').next() == name.as_deref());
    is_root() || is_listed && has("newuidmap")
}

/// A program of the tests' Python environment.
pub(crate) fn python(program: &str) -> PathBuf {
    project().join("target/python/bin").join(program)
}

/// awslogs, installed into a folder for one test.
pub(crate) fn awslogs(bed: &Bed) -> Command {
    let place = bed.path("awslogs");
    let mut pip = Command::new(python("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&place);
    outcome(pip.args(["awslogs==0.15.0", "termcolor==3.3.0"])).code(0);
    let mut command = bed.other(python("python").to_str().unwrap());
    command.env("PYTHONPATH", &place).args(["-c", "from awslogs.bin import main; main()"]);
    command
}

/// A file of the tests' packages for Node.
pub(crate) fn node(path: &str) -> PathBuf {
    project().join("target/node").join(path)
}

/// Packages for the clients in `tests/clients`.
pub(crate) fn clients() -> PathBuf {
    project().join("target/clients/node_modules")
}

fn has_python() -> bool {
    let python = Command::new(python("python")).arg("--version").output();
    python.is_ok_and(|output| output.status.success())
}

/// The project, or a copy of what tests need of it for a user who may not read it.
pub(crate) fn project() -> PathBuf {
    std::env::var_os("RUNNER_PROJECT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// An image of `images/`, unpacked.
pub(crate) fn image(name: &str) -> PathBuf {
    project().join("target/images").join(name)
}

/// The program under test.
pub(crate) fn runner() -> PathBuf {
    std::env::var_os("RUNNER_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_runner")), PathBuf::from)
}

/// Lists a suite's cases: `[needs] => name, name; [needs] => name`.
macro_rules! cases {
    ($($needs:tt => $($name:ident),+ $(,)?);+ $(;)?) => {
        pub(crate) fn cases() -> Vec<$crate::common::Case> {
            #[allow(unused_imports, reason = "not every suite names every need")]
            use $crate::common::Need::*;
            vec![$($($crate::common::Case {
                name: concat!(module_path!(), "::", stringify!($name)),
                needs: &$needs,
                is_alike: false,
                run: $name,
            },)+)+]
        }
    };
}
pub(crate) use cases;
