//! What each option of `runner run` affects: one table next to `run_args`, one row per field.
//!
//! Used by `project`, for options in a file that came with someone's source, and by `run`, for
//! paths that are written. A test compares the table with `RunArgs` and fails for an option without
//! a row, so that nobody adds one without deciding who may set it.

use std::path::{Path, PathBuf};

/// A field of `RunArgs`.
#[derive(Debug)]
pub(super) struct Field {
    /// The option's long name.
    pub(super) name: &'static str,
    pub(super) reach: OptionReach,
    pub(super) path: PathIn,
}

/// What an option affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionReach {
    /// Names the project file or says that it is trusted: not allowed in a file.
    TypedOnly,
    /// Gives no more than any build may have.
    Build,
    /// Names a path that is written.
    Written,
    /// Shows a directory to the build; one that came with the source is visible anyway.
    Shown,
    /// An image: of a registry, of a daemon, or a file.
    Image,
    /// An engine; one of them uses no container.
    Engine,
    /// A variable, with a value or as the caller has it.
    Variable,
    /// A replacement for a program; a file comes from this machine.
    Stub,
    /// Gives more than a build has by default, whatever the value.
    Beyond(&'static str),
}

/// The position of a path of this machine in an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathIn {
    Nowhere,
    Whole,
    /// The whole value, unless it is a bucket.
    Store,
    /// `NAME=PATH`.
    AfterEquals,
    /// `PATH:...`.
    BeforeColon,
    /// `KIND:PATH`, for images that are files.
    AfterKind,
    /// `NAME=KIND:PATH`.
    AfterEqualsAndKind,
}

/// Kinds of images that are files on this machine.
const IMAGES_OF_FILES: [&str; 4] = ["rootfs", "oci", "oci-archive", "docker-archive"];

const SKIPS: OptionReach = OptionReach::Beyond("leaves out a part of the buildspec");
const READS: OptionReach = OptionReach::Beyond("reads a file of this machine");

/// In the order of `RunArgs`.
pub(super) const FIELDS: &[Field] = {
    use OptionReach::{Beyond, Build, Engine, Image, Shown, Stub, TypedOnly, Variable, Written};
    use PathIn::{AfterEquals, AfterEqualsAndKind, AfterKind, BeforeColon, Nowhere, Store, Whole};
    const fn field(name: &'static str, reach: OptionReach, path: PathIn) -> Field {
        Field { name, reach, path }
    }
    &[
        field("source", TypedOnly, Whole),
        field("secondary-source", Shown, AfterEquals),
        field("image", Image, AfterKind),
        field("image-map", Beyond("puts another image in the place of yours"), AfterEqualsAndKind),
        field("engine", Engine, Nowhere),
        field(
            "mount",
            Beyond("shows a file or directory of this machine to the build"),
            BeforeColon,
        ),
        field("home-tools", Beyond("shows the tools of your home to the build"), Nowhere),
        field("memory", Build, Nowhere),
        field("cpus", Build, Nowhere),
        field("pids-limit", Build, Nowhere),
        field("network", Build, Nowhere),
        field("privileged", Beyond("gives the build rights over this machine"), Nowhere),
        field("toolbox", Build, Nowhere),
        field("skip", SKIPS, Nowhere),
        field("skip-phase", SKIPS, Nowhere),
        field("only-phase", SKIPS, Nowhere),
        field("stub", Stub, AfterEquals),
        field("detach", TypedOnly, Nowhere),
        field("watch", TypedOnly, Nowhere),
        field("watched", TypedOnly, Nowhere),
        field(
            "service",
            Beyond("starts a container of another image beside the build"),
            AfterEqualsAndKind,
        ),
        field("service-env", Beyond("sets variables of another container"), Nowhere),
        field("enable-session", Build, Nowhere),
        field("break-on", Build, Nowhere),
        field("step", Build, Nowhere),
        field("checkpoint", Build, Nowhere),
        field("break-timeout", Build, Nowhere),
        field("break-timeout-action", Build, Nowhere),
        field("on-stop", TypedOnly, Nowhere),
        field("session-idle-timeout", Build, Nowhere),
        field("session-max-duration", Build, Nowhere),
        field("session-log", Written, Whole),
        field("require-session-log", Build, Nowhere),
        field("agent-config", Beyond("says who sessions of AWS's clients run as"), Whole),
        field("env", Variable, Nowhere),
        field("env-file", READS, Whole),
        field("proxy", Beyond("passes your proxy variables to the build"), Nowhere),
        field("aws-profile", Beyond("gives the build your AWS credentials"), Nowhere),
        field("ca-file", Beyond("trusts certificates for your connections"), Whole),
        field("secrets", READS, Whole),
        field("mask", Build, Nowhere),
        field("timeout", Build, Nowhere),
        field("timeout-while-paused", Build, Nowhere),
        field("reports", Written, Whole),
        field("artifacts", Written, Store),
        field("cache", Written, Store),
        field("project", Build, Nowhere),
        field("project-json", READS, Whole),
        field("upload", Beyond("writes to AWS with your credentials"), Nowhere),
        field("trust-project", TypedOnly, Nowhere),
        field("log-format", Build, Nowhere),
        field("log-file", Written, Whole),
        field("annotations", Build, Nowhere),
        field("build-json", Written, Whole),
        field("id-file", Written, Whole),
        field("no-hints", TypedOnly, Nowhere),
        field("quiet", Build, Nowhere),
    ]
};

/// The row of an option.
pub(super) fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// The row of an option that is allowed in a project file.
pub(super) fn field_of_file(name: &str) -> Option<&'static Field> {
    field(name).filter(|field| field.reach != OptionReach::TypedOnly)
}

impl Field {
    /// The path in a value.
    pub(super) fn path<'v>(&self, value: &'v str) -> Option<&'v Path> {
        self.split(value).map(|(_, path, _)| Path::new(path))
    }

    /// A value with its relative path resolved against this directory.
    pub(super) fn below(&self, dir: &Path, value: &str) -> String {
        match self.split(value) {
            Some((before, path, after)) => {
                let path: PathBuf = dir.join(path);
                format!("{before}{}{after}", path.display())
            }
            None => value.to_owned(),
        }
    }

    /// The parts of a value before the path, the path, and after it.
    fn split<'v>(&self, value: &'v str) -> Option<(&'v str, &'v str, &'v str)> {
        match self.path {
            PathIn::Nowhere => None,
            PathIn::Whole => Some(("", value, "")),
            PathIn::Store if value.contains("://") => None,
            PathIn::Store => Some(("", value, "")),
            PathIn::AfterEquals => {
                let at = value.find('=')? + 1;
                Some((&value[..at], &value[at..], ""))
            }
            PathIn::BeforeColon => {
                let at = value.find(':').unwrap_or(value.len());
                Some(("", &value[..at], &value[at..]))
            }
            PathIn::AfterKind => split_image(value, 0),
            PathIn::AfterEqualsAndKind => split_image(value, value.find('=')? + 1),
        }
    }
}

/// The same for an image at this position.
fn split_image(value: &str, begin: usize) -> Option<(&str, &str, &str)> {
    let (kind, _) = value[begin..].split_once(':')?;
    let at = begin + kind.len() + 1;
    IMAGES_OF_FILES.contains(&kind).then(|| (&value[..at], &value[at..], ""))
}

/// A path without a trailing slash, which would make a check follow a link.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run_args::RunArgs;
    use clap::builder::ValueParser;
    use clap::{Arg, Args, Command};
    use std::any::TypeId;

    #[test]
    fn every_option_that_writes_is_kept_out_of_git() {
        let rows = FIELDS.iter().filter(|field| field.reach == OptionReach::Written);
        let mut options: Vec<_> = rows.map(|field| field.name).collect();
        let mut kept = runner_build::WRITTEN.to_vec();
        options.sort_unstable();
        kept.sort_unstable();
        assert_eq!(options, kept);
    }

    #[test]
    fn every_option_has_its_row() {
        let command = <RunArgs as Args>::augment_args(Command::new("run"));
        let options: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
        let rows: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(rows, options);
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let is_path = ValueParser::type_id(arg.get_value_parser()) == TypeId::of::<PathBuf>();
            let field = field(arg.get_long().unwrap_or_default()).expect("has a row");
            assert!(!is_path || field.path == PathIn::Whole, "{}", field.name);
        }
    }

    #[test]
    fn relative_paths_start_from_the_file() {
        let dir = Path::new("/a");
        for (name, value, wanted) in [
            ("reports", "r", "/a/r"),
            ("reports", "/r", "/r"),
            ("artifacts", "out/x.zip", "/a/out/x.zip"),
            ("cache", "s3://bucket/p", "s3://bucket/p"),
            ("mount", "b:/x:rw", "/a/b:/x:rw"),
            ("secondary-source", "id=b=c", "id=/a/b=c"),
            ("image", "oci:d:tag", "oci:/a/d:tag"),
            ("image", "node:22", "node:22"),
            ("image-map", "a/b:1=rootfs:r", "a/b:1=rootfs:/a/r"),
            ("image-map", "a/b:1=c:2", "a/b:1=c:2"),
            ("image", "host", "host"),
            ("service", "db=postgres:16:5432", "db=postgres:16:5432"),
            ("service", "db=oci:d:tag:5432", "db=oci:/a/d:tag:5432"),
            ("stub", "aws=bin/aws", "aws=/a/bin/aws"),
            ("stub", "aws", "aws"),
            ("env-file", "e", "/a/e"),
            ("timeout", "5m", "5m"),
        ] {
            let field = field(name).expect("has a row");
            assert_eq!(field.below(dir, value), wanted, "{name} {value}");
        }
    }
}
