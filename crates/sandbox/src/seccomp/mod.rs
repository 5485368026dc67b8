//! The system call filter of a build container.
//!
//! Used by `child`; the kernel runs it at each system call. `calls` lists the allowed calls, in the
//! native instruction set and that of 32-bit programs. `filter` turns the list into a program at
//! compile time, so that a start only copies it into the kernel. Calls that are not listed do not
//! exist; calls listed as refused are not permitted; nothing is killed (adr/0075).
#![forbid(unsafe_code)]

mod calls;
mod filter;
mod profile;

pub(crate) use filter::PROGRAM;
pub use profile::seccomp_profile;
