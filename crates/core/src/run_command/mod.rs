//! A command that is sent to several nodes at once: how each and all of them stand, and which may begin.
//!
//! [`StatusDetails`] is the state of an invocation, [`standing`] what that means for the command.
//! [`CommandCourse`] decides which node begins and which never will. [`bound`] reads how many may run
//! at once, and how many errors are allowed. [`cut`] shortens output to fit a response.

pub mod bound;
mod course;
pub mod cut;
mod details;

pub use course::{CommandCourse, CourseEffect, CourseInput};
pub use details::{InvocationCounts, Standing, StatusDetails, standing};
