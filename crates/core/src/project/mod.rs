//! Project files: `runner.toml`, and a project as CodeBuild's own API has it.
//!
//! Fed by `src/cli/project/mod.rs`. Both become the tree that a buildspec's text becomes, so that what is
//! wrong has its place and its hint in the same way; but what is not known is an error here, since
//! nobody else reads these files. [`toml`] gives the tree to the command line, whose options are its
//! keys; [`codebuild`] reads a [`ProjectFile`].

mod codebuild;
mod json;
mod logs;
mod toml;

pub use crate::spec::shape::nearest;
pub use codebuild::{
    CloudWatchLogs, Located, ProjectArtifacts, ProjectBuildspec, ProjectCache, ProjectFile,
    ProjectVariable, VariableKind, codebuild,
};
pub use logs::{LogDestinations, logs};
pub use toml::toml;
