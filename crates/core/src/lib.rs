//! The pure half of runner: what a buildspec means and what a build does next.
//!
//! The one way through it:
//!
//! 1. [`spec::parse`] reads a buildspec's text into a [`spec::BuildSpec`], or tells everything that
//!    is wrong with it.
//! 2. [`plan`] puts it together with options and facts into a [`plan::BuildPlan`].
//! 3. [`machine::BuildMachine`] takes one [`machine::MachineInput`] at a time and answers with events and
//!    effects. The driver (`crates/build/src/driver` of the program) performs the effects.
//! 4. [`event`] is what everybody else sees, in the words of [`phase`]; [`timeline`] folds events into
//!    a [`view`] and a [`summary`], [`record`] turns that state into AWS's Build record.
//!
//! Above the way: [`batch`] says which builds a batch has, which may start, and what they come to.
//!
//! Beside the way: [`debug`] says where a build stops and what can be decided there, [`env`](mod@env) decides
//! which variable wins, [`explain`] says why a command failed, [`exports`] reads a shell's saved variables, [`runtimes`] finds an image's commands for
//! them, [`gitignore`] says what git leaves out, [`installed`] holds those of an image without such commands against what is asked for, [`mask`]
//! takes secrets out of output, [`report`] reads test and coverage reports, [`project`] project files, [`hints`]
//! advises on failures, [`skip`] leaves parts out, [`arn`] names things as AWS does, [`iam`] decides who may do
//! what, [`document`] reads documents of Systems Manager, [`destination`] says where AWS keeps what sessions show, [`agent`] the configuration of its agent, [`run_command`] says which nodes of a command begin, [`patch`] puts a command's new text back into the buildspec, [`unified`] shows how texts differ, [`plain`] makes texts of others fit for
//! a terminal, [`time`] has the two clocks' values. There is no
//! clock, file, socket or process in here; `clippy.toml` beside this crate sees to that.
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
