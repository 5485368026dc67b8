//! The pure part of runner: what a buildspec means, and what a build does next.
//!
//! The main path:
//!
//! 1. [`spec::parse`] parses a buildspec into a [`spec::BuildSpec`], or reports everything that is
//!    wrong with it.
//! 2. [`plan`] combines it with options and facts into a [`plan::BuildPlan`].
//! 3. [`machine::BuildMachine`] takes one [`machine::MachineInput`] at a time and returns events
//!    and effects. The driver (`crates/build/src/driver`) performs the effects.
//! 4. [`event`] is what all other parts see, in terms of [`phase`]. [`timeline`] folds events
//!    into a [`view`] and a [`summary`]; [`record`] turns that state into AWS's Build record.
//!
//! On top of it, [`batch`] decides which builds a batch has, which may start, and how it ends.
//!
//! Supporting modules:
//!
//! - [`agent`]: the config of AWS's agent. [`arn`]: resource names in AWS's form.
//! - [`debug`]: where a build stops, and the decisions there.
//! - [`destination`]: where AWS stores transcripts. [`document`]: Systems Manager documents.
//! - [`env`](mod@env): which variable takes precedence. [`exports`]: a shell's saved variables.
//! - [`explain`]: why a command failed. [`hints`]: advice on failures.
//! - [`gitignore`]: which files git ignores. [`skip`]: which parts are skipped.
//! - [`iam`]: who may do what. [`mask`]: removes secrets from output.
//! - [`installed`]: compares the installed runtimes with the requested ones.
//! - [`patch`]: writes a command's new text into the buildspec. [`unified`]: diffs of texts.
//! - [`plain`]: makes untrusted texts safe for a terminal. [`time`]: values of the two clocks.
//! - [`project`]: project files. [`report`]: test and coverage reports.
//! - [`run_command`]: which nodes of a command may begin.
//! - [`runtimes`]: finds an image's commands that install runtimes.
//!
//! This crate uses no clock, file, socket or process; its `clippy.toml` enforces that.
#![deny(clippy::disallowed_methods)]

pub mod agent;
pub mod arn;
pub mod artifact;
pub mod batch;
pub mod changes;
pub mod debug;
pub mod destination;
pub mod document;
pub mod env;
pub mod event;
pub mod explain;
pub mod exports;
pub mod gitignore;
pub mod hints;
pub mod iam;
pub mod installed;
pub mod machine;
pub mod mask;
pub mod patch;
pub mod phase;
mod placed;
pub mod plain;
pub mod plan;
pub mod project;
pub mod record;
pub mod recording;
pub mod report;
pub mod run_command;
pub mod runtimes;
pub mod select;
pub mod skip;
pub mod spec;
pub mod summary;
mod text;
pub mod time;
pub mod timeline;
pub mod unified;
pub mod view;
