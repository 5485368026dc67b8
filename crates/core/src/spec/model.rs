//! A buildspec that has been found sound.
//!
//! Made by `validate`; read by `plan`. Nothing here can be wrong any more.

use super::diagnostic::{LineColumn, Span};
use super::yaml::BlockScalar;
use serde::{Deserialize, Serialize};

/// A whole buildspec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSpec {
    /// Which rules commands run under.
    pub version: SpecVersion,
    /// User for all commands; root where it is absent.
    pub run_as: Option<String>,
    /// What runs the commands.
    pub shell: SpecShell,
    /// `env.variables`, in file order, each name once.
    pub variables: Vec<SpecVariable>,
    /// `env.parameter-store`: variables with the names of their parameters.
    pub parameters: Vec<SpecVariable>,
    /// `env.secrets-manager`: variables with their secrets.
    pub secrets: Vec<SecretVariable>,
    /// `env.exported-variables`: names.
    pub exported: Vec<String>,
    /// `env.git-credential-helper`.
    pub git_credential_helper: bool,
    /// The four phases a user fills, in the order they run in.
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

/// A variable whose value is a secret's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVariable {
    /// Its name, fit for a shell.
    pub name: String,
    /// Which value.
    pub secret: SecretReference,
    /// The reference's place in the file.
    pub span: Span,
}

/// `secret-id[:json-key[:version-stage[:version-id]]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// Name or ARN of the secret.
    pub id: String,
    /// The key of the value in the secret's JSON; the whole text where it is absent.
    pub json_key: Option<String>,
    /// Which version of it.
    pub version: SecretVersion,
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretVersion {
    /// The one that holds this label, `AWSCURRENT` unless told otherwise.
    Stage(String),
    /// The one with this id.
    Id(String),
}

/// A runtime to be installed.
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
    /// Globs of result files.
    pub files: Vec<String>,
    /// Their format, in capital letters.
    pub format: String,
    /// The directory the globs start from.
    pub base_directory: Option<String>,
    /// Whether exported files lose their directories.
    pub discard_paths: bool,
    /// Its place in the file.
    pub span: Span,
}

/// What a build leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// The artifact of the build itself.
    pub primary: Artifact,
    /// Further ones, with their ids.
    pub secondary: Vec<(String, Artifact)>,
}

/// One artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// Globs of what is in it.
    pub files: Vec<String>,
    /// Its name, for a shell to evaluate.
    pub name: Option<String>,
    /// Whether all files lie at its root.
    pub discard_paths: bool,
    /// The directory, or glob, files are taken from.
    pub base_directory: Option<String>,
    /// Globs of what is not in it.
    pub exclude_paths: Vec<String>,
    /// Whether a ZIP keeps links as links.
    pub enable_symlinks: bool,
    /// Prefix of the object's key.
    pub s3_prefix: Option<String>,
    /// Its place in the file.
    pub span: Span,
}

/// What the next build finds again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Globs.
    pub paths: Vec<String>,
    /// Its name, for a shell to evaluate.
    pub key: Option<String>,
    /// Prefixes of names that will do.
    pub fallback_keys: Vec<String>,
    /// Whether it is restored.
    pub restore: bool,
    /// Whether it is saved.
    pub save: bool,
    /// Its place in the file.
    pub span: Span,
}

/// What CodeBuild sends through an explicit proxy.
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
    /// Which builds.
    pub builds: BatchBuilds,
    /// Its place in the file.
    pub span: Span,
}

/// The builds of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchBuilds {
    /// Side by side, or, with dependencies, one after the other.
    Tasks(Vec<BatchTask>),
    /// One for each combination.
    Matrix(BatchMatrix),
    /// So many, among which tests are shared out.
    Fanout(BatchFanout),
}

/// One build of a list or graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTask {
    /// Its name in the batch.
    pub identifier: String,
    /// Builds that must have ended before.
    pub depend_on: Vec<String>,
    /// Whether the batch goes on as if it had succeeded.
    pub ignore_failure: bool,
    /// What is its own.
    pub settings: BatchSettings,
    /// Its place in the file.
    pub span: Span,
}

/// What a build of a batch has that others have not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchSettings {
    /// Its buildspec; the current one where it is absent.
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
    /// As it stands there.
    pub text: String,
    /// Its place in the file.
    pub span: Span,
}

/// Dimensions of a matrix, and what all of its builds have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchMatrix {
    /// Whether one may fail.
    pub ignore_failure: bool,
    /// The environment type.
    pub environment_type: Option<SpannedText>,
    /// Whether containers are privileged.
    pub privileged: Option<bool>,
    /// In the order of the file.
    pub dimensions: Vec<Dimension>,
}

/// What the builds of a matrix differ in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// Of what.
    pub axis: Axis,
    /// The values there are.
    pub values: Vec<SpannedText>,
}

/// What a dimension of a matrix gives values to.
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

/// Builds among which tests are shared out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFanout {
    /// How many.
    pub parallelism: u32,
    /// Whether one may fail.
    pub ignore_failure: bool,
    /// What all of them have.
    pub settings: BatchSettings,
}

/// Version of the buildspec language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecVersion {
    /// Every command starts afresh in the source directory.
    V0_1,
    /// Directory and variables carry over from command to command.
    V0_2,
}

/// The program that runs a command's script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecShell {
    /// A path, or a name to be searched for in the image.
    pub program: String,
}

/// A variable that the buildspec sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecVariable {
    /// Its name, fit for a shell.
    pub name: String,
    /// Its value, as written; nothing in it is expanded.
    pub value: String,
    /// The value's place in the file.
    pub span: Span,
}

/// The phases a buildspec can fill.
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

/// The four, in the order they run in.
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

/// What one phase does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseSpec {
    /// Which one.
    pub phase: UserPhase,
    /// Whether the file names it.
    pub present: bool,
    /// User for its commands, before the one for all.
    pub run_as: Option<String>,
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// Run one after the other until one fails.
    pub commands: Vec<SpecCommand>,
    /// Run afterwards in any case.
    pub finally: Vec<SpecCommand>,
}

/// One item of `commands` or `finally`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecCommand {
    /// Its text, one line or many.
    pub text: String,
    /// Its place in the file.
    pub span: Span,
    /// Where its lines stand, if each is a line of the file.
    pub block: Option<BlockScalar>,
}

impl SpecCommand {
    /// The place of one of its lines, from 0: that line where lines of the text are lines of the file, else
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

/// What follows when a phase fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The lifecycle's own rules.
    Default,
    /// No further phase.
    Abort,
    /// The next phase all the same.
    Continue,
    /// The phase once more.
    Retry(Retry),
}

/// When, and how often, a phase runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// At most so many times more.
    pub count: u32,
    /// Only where the failure's message matches; always where it is absent.
    pub pattern: Option<String>,
}
