//! PID 1 of a build container and the commands a build finds in it, in one libc-free program.
//!
//! [`PROGRAM`] is that program, ready to be executed from memory or copied into an image.
//! `build.rs` builds it from `start.rs` and the modules below, which this library declares as well,
//! so that cargo lints, documents and tests them. The engine uses [`abi`] to talk to PID 1;
//! everything else here runs only inside the container.
//!
//! Depending on `argv[0]` it is `codebuild-breakpoint`, `codebuild-resume`, `codebuild-hash-files`,
//! `codebuild-tests-run`, `git-credential-helper`, `runner-files`, `runner-agent`, `runner-relay`,
//! a reaper or, under any other name, PID 1.
#![cfg_attr(not(test), no_std)]
#![allow(dead_code, reason = "most of it is called in the freestanding program alone")]

pub mod abi;
mod agent;
#[path = "arch_x86_64.rs"]
mod arch;
mod credential;
mod dial;
mod digits;
mod entry;
mod exec;
mod files;
mod glob;
mod hash_files;
mod listing;
mod mem;
mod outbox;
mod path;
mod pid1;
mod place;
mod relay;
mod request;
mod sha256;
mod shim;
mod sockets;
mod still;
mod strings;
mod sys;
mod tests_run;
mod tree;

/// The program as an ELF file: static, 64-bit, without an interpreter.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
