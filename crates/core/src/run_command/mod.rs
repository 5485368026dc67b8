//! A command that is sent to several nodes at once: how each and all of them stand, and which may begin.
//!
//! [`Details`] is how an invocation stands, [`standing`] what that comes to for the command, [`Course`] decides which
//! node begins and which never will. [`bound`] reads how many at once, and how many errors. [`cut`] makes output fit
//! an answer.

pub mod bound;
mod course;
pub mod cut;
mod details;

pub use course::{Course, Effect, Input};
pub use details::{Counts, Details, Standing, standing};
