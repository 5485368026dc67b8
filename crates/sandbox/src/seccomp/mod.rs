//! The system call filter of a build container.
//!
//! Used by `child`, run by the kernel at each system call. A list of what may be called (`calls`), in the
//! native instruction set and in that of 32-bit programs, as a program (`filter`) that the compiler has
//! made: a start copies it into the kernel and nothing else. What is not named does not exist, what is
//! named and refused is not permitted; nobody is killed (adr/0075).
#![forbid(unsafe_code)]

mod calls;
mod filter;
mod profile;

pub(crate) use filter::PROGRAM;
pub use profile::seccomp_profile;
