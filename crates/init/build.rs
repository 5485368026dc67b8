//! Builds the init program itself: one `$RUSTC` call on `src/start.rs`, no cargo target, no libc.
//! `src/lib.rs` embeds the result.
//!
//! `$RUSTC` is called directly, without RUSTFLAGS or a wrapper: sanitizers, coverage and lints of
//! the outer build need a runtime that a freestanding program does not have. The same modules are
//! compiled by cargo as a library, so nothing escapes clippy, docs and unit tests.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");

    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let os = env::var("CARGO_CFG_TARGET_OS").expect("cargo sets CARGO_CFG_TARGET_OS");
    if os != "linux" || arch != "x86_64" {
        println!(
            "cargo::error=runner builds for x86_64 Linux only so far: crates/init has its \
             architecture's lines in src/arch_x86_64.rs and none for {arch}-{os} yet"
        );
        return;
    }

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("init");
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("src/start.rs");
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition", "2024", "--crate-name", "runner_init", "--crate-type", "bin"])
        .args(["--target", &env::var("TARGET").expect("cargo sets TARGET")])
        .args(["--cfg", "freestanding", "--check-cfg", "cfg(freestanding)"])
        // The library build checks dead code: this program leaves parts unused, such as the
        // runner's half of `abi`.
        .arg("-Adead_code")
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Cdebuginfo=0"])
        // Smaller; also rustc 1.95 has crashed on a version of this program in several units
        // (adr/0057).
        .arg("-Ccodegen-units=1")
        // No relocations and no interpreter: the kernel maps the file and jumps to `_start`.
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        .args(["-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,noexecstack"])
        .arg("-o")
        .arg(&out)
        .arg(&source)
        .status()
        .expect("rustc can be run: cargo has just done so");
    // A panic, so that cargo shows rustc's output above it.
    assert!(status.success(), "the init program {} did not compile", source.display());
}
