//! A validated buildspec.
//!
//! Made by `validate`, used by `plan`. Everything in it is valid.

use super::diagnostic::{LineColumn, Span};
use super::yaml::BlockScalar;
use serde::{Deserialize, Serialize};

/// A whole buildspec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSpec {
    /// The language version, which decides how commands run.
    pub version: SpecVersion,
    /// User of all commands; root if absent.
    pub run_as: Option<String>,
    /// The shell that runs commands.
    pub shell: SpecShell,
    /// `env.variables`, in file order, each name once.
    pub variables: Vec<SpecVariable>,
    /// `env.parameter-store`: variables and the names of their parameters.
    pub parameters: Vec<SpecVariable>,
    /// `env.secrets-manager`: variables and their secrets.
    pub secrets: Vec<SecretVariable>,
    /// `env.exported-variables`: names.
    pub exported: Vec<String>,
    /// `env.git-credential-helper`.
    pub git_credential_helper: bool,
    /// The four user phases, in execution order.
    pub phases: [PhaseSpec; 4],
    /// `phases.install.runtime-versions`, in file order.
    pub runtimes: Vec<Runtime>,
    /// `reports`, by group.
    pub reports: Vec<ReportGroup>,
    /// `artifacts`.
    pub artifacts: Option<Artifacts>,
    /// `cache`.
    pub cache: Option<Cache>,
    /// `proxy`.
    pub proxy: Proxy,
    /// `batch`.
    pub batch: Option<BatchSpec>,
}

/// A variable with a secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVariable {
    /// Its name, valid in a shell.
    pub name: String,
    /// The reference to the secret.
    pub secret: SecretReference,
    /// Place of the reference in the file.
    pub span: Span,
}

/// `secret-id[:json-key[:version-stage[:version-id]]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// Name or ARN of the secret.
    pub id: String,
    /// Key of the value in the secret's JSON; the whole text if absent.
    pub json_key: Option<String>,
    /// The version of the secret.
    pub version: SecretVersion,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretVersion {
    /// The version with this label; `AWSCURRENT` by default.
    Stage(String),
    /// The version with this ID.
    Id(String),
}

/// A runtime to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name in the image's catalog.
    pub name: String,
    /// As written: exact, `<major>.x`, `latest`, or with variables.
    pub version: String,
    /// The version's place in the file.
    pub span: Span,
}

/// Reports of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportGroup {
    /// Name, `$VARIABLE` or ARN of the group.
    pub group: String,
    /// Globs of report files.
    pub files: Vec<String>,
    /// Their format, in upper case.
    pub format: String,
    /// Base directory of the globs.
    pub base_directory: Option<String>,
    /// Whether exported files are kept without their directories.
    pub discard_paths: bool,
    /// Its place in the file.
    pub span: Span,
}

/// The artifacts of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// The primary artifact.
    pub primary: Artifact,
    /// Secondary artifacts, with their identifiers.
    pub secondary: Vec<(String, Artifact)>,
}

/// One artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// Globs of its files.
    pub files: Vec<String>,
    /// Its name, evaluated by a shell.
    pub name: Option<String>,
    /// Whether all files are placed at its root.
    pub discard_paths: bool,
    /// Directory, or glob of directories, that files are taken from.
    pub base_directory: Option<String>,
    /// Globs of excluded files.
    pub exclude_paths: Vec<String>,
    /// Whether a ZIP keeps links as links.
    pub enable_symlinks: bool,
    /// Prefix of the object key.
    pub s3_prefix: Option<String>,
    /// Its place in the file.
    pub span: Span,
}

/// The cache for later builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Globs of cached files.
    pub paths: Vec<String>,
    /// Its key, evaluated by a shell.
    pub key: Option<String>,
    /// Key prefixes of other acceptable caches.
    pub fallback_keys: Vec<String>,
    /// Whether to restore it.
    pub restore: bool,
    /// Whether to save it.
    pub save: bool,
    /// Its place in the file.
    pub span: Span,
}

/// Traffic that CodeBuild sends through an explicit proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Artifacts.
    pub upload_artifacts: bool,
    /// Logs.
    pub logs: bool,
    /// Its place in the file.
    pub span: Span,
}

/// A batch of builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    /// Whether one failure stops the others.
    pub fast_fail: bool,
    /// The builds.
    pub builds: BatchBuilds,
    /// Its place in the file.
    pub span: Span,
}

/// The builds of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchBuilds {
    /// Separate builds, which may depend on each other.
    Tasks(Vec<BatchTask>),
    /// One build for each combination of values.
    Matrix(BatchMatrix),
    /// Several builds that share the tests.
    Fanout(BatchFanout),
}

/// A build in a list or graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTask {
    /// Its name in the batch.
    pub identifier: String,
    /// Builds that must end first.
    pub depend_on: Vec<String>,
    /// Whether the batch goes on as if this build had succeeded.
    pub ignore_failure: bool,
    /// Settings of this build only.
    pub settings: BatchSettings,
    /// Its place in the file.
    pub span: Span,
}

/// Settings of a single build in a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchSettings {
    /// Its buildspec; the current one if absent.
    pub buildspec: Option<SpannedText>,
    /// Whether sessions are enabled.
    pub debug_session: bool,
    /// Its image.
    pub image: Option<SpannedText>,
    /// Its compute type.
    pub compute_type: Option<SpannedText>,
    /// Its environment type.
    pub environment_type: Option<SpannedText>,
    /// Whether its container is privileged.
    pub privileged: Option<bool>,
    /// Its variables.
    pub variables: Vec<SpecVariable>,
}

/// A text with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpannedText {
    /// The text as written.
    pub text: String,
    /// Its place in the file.
    pub span: Span,
}

/// The dimensions of a matrix, and the common settings of its builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchMatrix {
    /// Whether its builds may fail.
    pub ignore_failure: bool,
    /// The environment type.
    pub environment_type: Option<SpannedText>,
    /// Whether containers are privileged.
    pub privileged: Option<bool>,
    /// The dimensions, in file order.
    pub dimensions: Vec<Dimension>,
}

/// A setting that varies between the builds of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// The setting.
    pub axis: Axis,
    /// Its values.
    pub values: Vec<SpannedText>,
}

/// A setting that a matrix can vary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The buildspec.
    Buildspec,
    /// The image.
    Image,
    /// The compute type.
    ComputeType,
    /// A variable.
    Variable(String),
}

/// Several builds that share the tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFanout {
    /// Number of builds.
    pub parallelism: u32,
    /// Whether its builds may fail.
    pub ignore_failure: bool,
    /// Common settings of the builds.
    pub settings: BatchSettings,
}

/// Version of the buildspec language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecVersion {
    /// Every command starts in the source directory with a fresh shell.
    V0_1,
    /// Directory and variables carry over from command to command.
    V0_2,
}

/// The shell that runs commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecShell {
    /// A path, or a name to look up in the image.
    pub program: String,
}

/// A variable that the buildspec sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecVariable {
    /// Its name, valid in a shell.
    pub name: String,
    /// Its value as written, without expansion.
    pub value: String,
    /// Place of the value in the file.
    pub span: Span,
}

/// The phases that a buildspec defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserPhase {
    /// `install`
    Install,
    /// `pre_build`
    PreBuild,
    /// `build`
    Build,
    /// `post_build`
    PostBuild,
}

/// The four phases, in execution order.
pub const USER_PHASES: [UserPhase; 4] =
    [UserPhase::Install, UserPhase::PreBuild, UserPhase::Build, UserPhase::PostBuild];

impl UserPhase {
    /// Its key in a buildspec.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            UserPhase::Install => "install",
            UserPhase::PreBuild => "pre_build",
            UserPhase::Build => "build",
            UserPhase::PostBuild => "post_build",
        }
    }
}

/// One phase of a buildspec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseSpec {
    /// The phase.
    pub phase: UserPhase,
    /// Whether the file contains it.
    pub present: bool,
    /// User of its commands; overrides the one for all.
    pub run_as: Option<String>,
    /// What follows a failure.
    pub on_failure: OnFailure,
    /// Commands, run in order until one fails.
    pub commands: Vec<SpecCommand>,
    /// Commands that run afterwards in any case.
    pub finally: Vec<SpecCommand>,
}

/// One item of `commands` or `finally`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecCommand {
    /// Its text, one or more lines.
    pub text: String,
    /// Its place in the file.
    pub span: Span,
    /// Position of its lines, if each is a line of the file.
    pub block: Option<BlockScalar>,
}

impl SpecCommand {
    /// The place of one of its lines, from 0. If its lines are not lines of the file, the place of
    /// the command.
    #[must_use]
    pub fn line_span(&self, number: usize) -> Span {
        let Some(block) = self.block else { return self.span };
        let text = self.text.split('\n').nth(number).unwrap_or_default();
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let shown = text.trim();
        let indent = count(text) - count(text.trim_start());
        let line = block.line.saturating_add(u32::try_from(number).unwrap_or(u32::MAX));
        let place =
            LineColumn { line, column: block.indent.saturating_add(indent).saturating_add(1) };
        match self.span.written {
            Some(_) => Span { written: Some(place), ..self.span },
            None => Span::new(place.line, place.column, count(shown).max(1)),
        }
    }
}

/// What follows a failed phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The default rules of the lifecycle.
    Default,
    /// No further phase runs.
    Abort,
    /// The next phase runs anyway.
    Continue,
    /// The phase runs again.
    Retry(Retry),
}

/// When, and how often, a failed phase runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Maximum number of retries.
    pub count: u32,
    /// Retry only if the failure's message matches; always if absent.
    pub pattern: Option<String>,
}
