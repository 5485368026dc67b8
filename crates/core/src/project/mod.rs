//! Project files: `runner.toml`, and projects in the format of CodeBuild's API.
//!
//! Used by `src/cli/project/mod.rs`. Both formats are parsed into the same tree as a buildspec, so
//! problems are reported in the same way, with place and hint. But an unknown key is an error here,
//! because no other program reads these files. [`toml`] returns the tree to the command line, whose
//! options are its keys; [`codebuild`] returns a [`ProjectFile`].

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
