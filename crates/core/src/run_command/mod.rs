//! A command sent to several nodes: its status on each node and overall, and which nodes may begin.
//!
//! [`StatusDetails`] is the status of an invocation, and [`standing`] derives the command's status
//! from it. [`CommandCourse`] decides which node begins and which never will. [`bound`] parses the
//! limits of concurrency and errors. [`cut`] shortens output to fit a response.

pub mod bound;
mod course;
pub mod cut;
mod details;

pub use course::{CommandCourse, CourseEffect, CourseInput};
pub use details::{InvocationCounts, Standing, StatusDetails, standing};
