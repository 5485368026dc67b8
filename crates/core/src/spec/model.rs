//! A buildspec that has been found sound.
//!
//! Made by `validate`; read by `plan`. Nothing here can be wrong any more.

use super::diagnostic::Span;

/// A whole buildspec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSpec {
    /// Which rules commands run under.
    pub version: Version,
    /// User for all commands; root where it is absent.
    pub run_as: Option<String>,
    /// What runs the commands.
    pub shell: Shell,
    /// `env.variables`, in file order, each name once.
    pub variables: Vec<Variable>,
    /// The four phases a user fills, in the order they run in.
    pub phases: [PhaseSpec; 4],
    /// Keys whose results somebody may wait for in vain, because nothing collects them yet.
    pub uncollected: Vec<&'static str>,
}

/// Version of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Every command starts afresh in the source directory.
    V0_1,
    /// Directory and variables carry over from command to command.
    V0_2,
}

/// The program that runs a command's script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// A path, or a name to be searched for in the image.
    pub program: String,
}

/// A variable of the buildspec's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name, fit for a shell.
    pub name: String,
    /// Its value, as written; nothing in it is expanded.
    pub value: String,
}

/// The phases a buildspec can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    pub commands: Vec<Command>,
    /// Run afterwards in any case.
    pub finally: Vec<Command>,
}

/// One item of `commands` or `finally`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its text, one line or many.
    pub text: String,
    /// Its place in the file.
    pub span: Span,
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
