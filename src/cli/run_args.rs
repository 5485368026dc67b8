//! The options of `runner run`.
//!
//! Used by `run`, and by `project` for the same options in files; `reach` describes what each of
//! them affects.

use super::watch::WatchedBuild;
use super::{debug, values};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use runner_build::{ServiceRequest, Stub};
use runner_core::debug::Breakpoint;
use runner_core::spec::UserPhase;
use runner_engine::image::{Image, Swap};
use runner_engine::{EngineKind, UserMount};
use runner_outputs::{ArtifactDestination, OutputStore};
use runner_sandbox::Cpus;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

/// Options of `runner run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXIT_CODES, args_override_self = true)]
pub(super) struct RunArgs {
    /// Buildspec to run [default: buildspec.yml in the source directory]
    pub(super) buildspec: Option<PathBuf>,
    /// Run one command in the build's image and environment instead of a buildspec
    #[arg(last = true, value_name = "CMD", conflicts_with = "buildspec")]
    pub(super) command: Vec<String>,
    /// Source directory of the build; never written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) source: PathBuf,
    /// Additional source directory, available at CODEBUILD_SRC_DIR_ID
    #[arg(long, value_name = "ID=DIR", value_parser = values::secondary_source)]
    pub(super) secondary_source: Vec<(String, PathBuf)>,
    /// Where the build runs: host (this machine's tools), a registry image (including CodeBuild's
    /// own, by their console names), oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE,
    /// docker-daemon:NAME, rootfs:DIR or rootfs:TAR [default: host]
    #[arg(long, value_name = "REF", value_parser = str::parse::<Image>)]
    pub(super) image: Option<Image>,
    /// Use image TO wherever FROM is named, such as aws/codebuild/standard:7.0=my-image
    #[arg(long, value_name = "FROM=TO", value_parser = str::parse::<Swap>)]
    pub(super) image_map: Vec<Swap>,
    /// Container engine to use
    #[arg(long, value_enum, default_value_t = EngineName::default())]
    pub(super) engine: EngineName,
    /// Mount a file or directory of this machine in the container: read-only; writable with :rw;
    /// or, with :cow, writable with changes kept in the container
    #[arg(long, value_name = "SRC:DST[:rw|:cow]", value_parser = values::mount)]
    pub(super) mount: Vec<UserMount>,
    /// Mount the tools of your home (~/.cargo, ~/.nvm, ~/.pyenv, ~/go and others) without their
    /// credentials and histories, and add them to PATH; changes to them stay in the build
    #[arg(long)]
    pub(super) home_tools: bool,
    /// Memory limit of the build, such as 512M or 2G; swap is not available
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(super) memory: Option<u64>,
    /// CPU limit of the build in processors, such as 1.5
    #[arg(long, value_name = "N", value_parser = values::cpus)]
    pub(super) cpus: Option<Cpus>,
    /// Maximum number of processes and threads in the build
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pids_limit: Option<u32>,
    /// Network access of the build [default: host; with --privileged: pasta]
    #[arg(long, value_enum)]
    pub(super) network: Option<NetworkName>,
    /// Give the build the privileges that a Docker daemon inside it needs: as root, those of this
    /// machine, including its devices
    #[arg(long)]
    pub(super) privileged: bool,
    /// Provide the programs of this machine's busybox in sessions, whatever the image contains; the
    /// build does not see them
    #[arg(long)]
    pub(super) toolbox: bool,
    /// Skip commands whose whole text matches GLOB; `*` matches any characters
    #[arg(long, value_name = "GLOB")]
    pub(super) skip: Vec<String>,
    /// Skip the commands of this phase
    #[arg(long, value_enum, value_name = "PHASE")]
    pub(super) skip_phase: Vec<PhaseName>,
    /// Run only the commands of this phase
    #[arg(long, value_enum, value_name = "PHASE")]
    pub(super) only_phase: Vec<PhaseName>,
    /// Replace the program NAME with this executable, or with a stub that prints how it was called,
    /// reads its input and succeeds. Calls by path are not affected
    #[arg(long, value_name = "NAME[=FILE]", value_parser = values::stub)]
    pub(super) stub: Vec<Stub>,
    /// Print the build's id once it has started, and leave it running without a terminal until it
    /// ends or `runner stop` stops it. A CI system that ends a job's processes also ends such a
    /// build
    #[arg(long)]
    pub(super) detach: bool,
    /// Run the build again whenever its source or buildspec changes, until Ctrl-C; changes to
    /// `.git` and to files ignored by .gitignore do not count. A running build is stopped for this,
    /// a paused build is not
    #[arg(long)]
    pub(super) watch: bool,
    /// State passed by --watch to each of its builds, with the breakpoints changed meanwhile
    #[arg(long, hide = true, value_name = "JSON", value_parser = WatchedBuild::parse)]
    pub(super) watched: Option<WatchedBuild>,
    /// Start a container of this image beside the build, reachable as NAME, and wait until its port
    /// answers (by default the first port that the image exposes). After an image name without a
    /// tag, a number is the tag
    #[arg(long, value_name = "NAME=IMAGE[:PORT]", value_parser = values::service)]
    pub(super) service: Vec<ServiceRequest>,
    /// Set a variable of a service, or pass it through from your environment
    #[arg(long, value_name = "SERVICE:NAME[=VALUE]", value_parser = values::service_variable)]
    pub(super) service_env: Vec<(String, (String, String))>,
    /// Let codebuild-breakpoint pause the build
    #[arg(long)]
    pub(super) enable_session: bool,
    /// Stop the build at: start, failure, any-failure, before:PLACE, after:PHASE, command:/RE/,
    /// change:NAME, wrote:GLOB, output:/RE/, idle:TIME, longer:TIME or memory:SIZE, optionally
    /// followed by `if EXPR`, `hits N`, `log "TEXT"`. PLACE is PHASE[:finally][:N]. Implies
    /// --enable-session
    #[arg(long, value_name = "BREAKPOINT", value_parser = debug::breakpoint)]
    pub(super) break_on: Vec<Breakpoint>,
    /// Stop before the first command; `runner step` continues to the next. Implies --enable-session
    #[arg(long)]
    pub(super) step: bool,
    /// When to make the build rewindable: with --break-on and --step, what it has written is saved
    /// before each command where possible. Sealed layers take almost no time, however much was
    /// written; but hard links that an earlier command created break when the file is written in
    /// place, and without root a directory from an earlier command cannot be renamed, only moved by
    /// copying
    #[arg(long, value_enum, default_value_t = CheckpointName::Auto)]
    pub(super) checkpoint: CheckpointName,
    /// How long a breakpoint waits with no session open [default: forever at a terminal; 15m
    /// otherwise and with --detach]. A session of an AWS client stays open for
    /// --session-idle-timeout after its client is gone, so that the client can return
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(super) break_timeout: Option<Duration>,
    /// What to do when --break-timeout expires [default: resume; with --on-stop exit: stop]
    #[arg(long, value_enum)]
    pub(super) break_timeout_action: Option<BreakActionName>,
    /// What runner does when the build is paused
    #[arg(long, value_enum, default_value_t = OnStopName::Wait)]
    pub(super) on_stop: OnStopName,
    /// Close a session after this long without activity [default: 20m]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(super) session_idle_timeout: Option<Duration>,
    /// Close a session after this long, even if it is active
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(super) session_max_duration: Option<Duration>,
    /// Record the output of sessions in DIR, masked, with a line for each start and end of one
    #[arg(long, value_name = "DIR")]
    pub(super) session_log: Option<PathBuf>,
    /// Allow sessions of AWS clients only if their preferences or their cluster name an existing
    /// log group or bucket
    #[arg(long)]
    pub(super) require_session_log: bool,
    /// Configuration of AWS's agent, as in amazon-ssm-agent.json (docs/agent-config.md) [default:
    /// that file in the state folder, if present]
    #[arg(long, value_name = "FILE")]
    pub(super) agent_config: Option<PathBuf>,
    /// Set a variable of the build, or pass it through from your environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    pub(super) env: Vec<(String, String)>,
    /// Set variables from a file of NAME=VALUE lines; --env takes precedence
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Pass your proxy variables through to the build
    #[arg(long)]
    pub(super) proxy: bool,
    /// Give the build AWS credentials: those of a profile or, with `env`, those in your environment
    /// variables
    #[arg(long, value_name = "NAME|env")]
    pub(super) aws_profile: Option<String>,
    /// Also trust the certificates in this PEM file: for registries and AWS, and in the build
    /// through the usual variables and its trust store
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Read the Parameter Store and Secrets Manager values of the buildspec from this file instead
    /// of AWS. By name: `/app/token: VALUE` and `app/db: {password: VALUE}`, or NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub(super) secrets: Option<PathBuf>,
    /// Show the value of this variable as *** in the log
    #[arg(long, value_name = "NAME")]
    pub(super) mask: Vec<String>,
    /// Time limit of the build
    #[arg(long, value_name = "TIME", default_value = "60m", value_parser = values::duration)]
    pub(super) timeout: Duration,
    /// Count time spent at breakpoints towards --timeout, as AWS does
    #[arg(long)]
    pub(super) timeout_while_paused: bool,
    /// Copy the build's test and coverage reports here, as JSON, as JUnit and unchanged, with one
    /// folder per group; also look for reports that the buildspec does not name
    #[arg(long, value_name = "DIR")]
    pub(super) reports: Option<PathBuf>,
    /// Collect the build's artifacts in a directory or bucket; a name ending in .zip makes a ZIP
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::artifacts)]
    pub(super) artifacts: Option<ArtifactDestination>,
    /// Restore the build's cache from a directory or bucket, and save it there
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::store)]
    pub(super) cache: Option<OutputStore>,
    /// Project name [default: the source directory's name]
    #[arg(long, value_name = "NAME", value_parser = values::project)]
    pub(super) project: Option<String>,
    /// Take settings from a CodeBuild project, as printed by `aws codebuild batch-get-projects`.
    /// Without --upload, nothing is written to AWS
    #[arg(long, value_name = "FILE")]
    pub(super) project_json: Option<PathBuf>,
    /// Handle artifacts, cache and logs in AWS as the --project-json project specifies, like a
    /// build there
    #[arg(long)]
    pub(super) upload: bool,
    /// Grant runner.toml next to the buildspec what it asks for, until it or a file that it names
    /// changes
    #[arg(long)]
    pub(super) trust_project: bool,
    /// How to show the build on standard output
    #[arg(long, value_enum, default_value_t = FormatName::Auto)]
    pub(super) log_format: FormatName,
    /// Also write the log to a file, in CodeBuild's own log lines
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// Fold the log by phase and, for GitHub, annotate failed commands and test cases at their
    /// places and write a step summary
    #[arg(long, value_enum, default_value_t = AnnotationsName::Auto)]
    pub(super) annotations: AnnotationsName,
    /// Write the final Build record to a file, in the format of AWS's API
    #[arg(long, value_name = "FILE")]
    pub(super) build_json: Option<PathBuf>,
    /// Write the build's id to a file when it starts
    #[arg(long, value_name = "FILE")]
    pub(super) id_file: Option<PathBuf>,
    /// Do not show advice on failures
    #[arg(long)]
    pub(super) no_hints: bool,
    /// Print only errors on standard error
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl AsRef<RunArgs> for RunArgs {
    fn as_ref(&self) -> &RunArgs {
        self
    }
}

const EXIT_CODES: &str = "\
Exit status:
  0  the build succeeded
  1  the build failed
  2  usage error, or the buildspec was rejected
  3  the image, the engine or this program failed
  4  the build timed out
  5  the build was stopped (Ctrl-C; twice: at once)
  77 the build is paused (--on-stop exit)";

/// An engine, by the name in its traits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EngineName(pub(super) EngineKind);

impl ValueEnum for EngineName {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<[EngineName; EngineKind::ALL.len()]> =
            LazyLock::new(|| EngineKind::ALL.map(EngineName));
        &*ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let traits = self.0.traits();
        Some(PossibleValue::new(traits.name).help(traits.about))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum PhaseName {
    Install,
    PreBuild,
    Build,
    PostBuild,
}

impl From<PhaseName> for UserPhase {
    fn from(name: PhaseName) -> Self {
        match name {
            PhaseName::Install => UserPhase::Install,
            PhaseName::PreBuild => UserPhase::PreBuild,
            PhaseName::Build => UserPhase::Build,
            PhaseName::PostBuild => UserPhase::PostBuild,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkName {
    /// Everything that this machine can reach, including services on its loopback interface
    Host,
    /// Only the build's own loopback interface
    None,
    /// The outside network, but not this machine's loopback interface; needs the program pasta
    Pasta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BreakActionName {
    /// Continue the build as if sessions were off
    Resume,
    /// Stop the build
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckpointName {
    /// With --break-on and --step; by copying, or by sealing where copying would be too much
    Auto,
    /// Like auto, but by sealing whenever nothing of the build is running
    Sealed,
    /// Never
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnStopName {
    /// Show the build until it ends
    Wait,
    /// Exit with status 77 and leave the build paused, for scripts; the build ends when
    /// --break-timeout expires, or when a CI system ends all processes of a job
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AnnotationsName {
    /// Those of the current CI system, detected by its variables
    Auto,
    /// GitHub workflow commands
    Github,
    /// GitLab collapsible sections
    Gitlab,
    /// No annotations
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatName {
    /// pretty on a terminal, codebuild otherwise
    Auto,
    /// For a person at a terminal
    Pretty,
    /// CodeBuild's own log lines
    Codebuild,
    /// One JSON event per line
    Json,
}
