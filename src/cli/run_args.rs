//! What may be typed after `runner run`.
//!
//! Read by `run`, and by `project` for the same options in files; what each of them reaches is in
//! `reach`.

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
    /// The buildspec [default: buildspec.yml in the source directory]
    pub(super) buildspec: Option<PathBuf>,
    /// In place of a buildspec: one command in the build's image and environment
    #[arg(last = true, value_name = "CMD", conflicts_with = "buildspec")]
    pub(super) command: Vec<String>,
    /// The directory the build sees as its source; it is never written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) source: PathBuf,
    /// A further source, seen at CODEBUILD_SRC_DIR_ID
    #[arg(long, value_name = "ID=DIR", value_parser = values::secondary_source)]
    pub(super) secondary_source: Vec<(String, PathBuf)>,
    /// What the build runs in: host (this machine's tools), an image of a registry (CodeBuild's own by their
    /// names in its console, too), oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME,
    /// rootfs:DIR or rootfs:TAR [default: host]
    #[arg(long, value_name = "REF", value_parser = str::parse::<Image>)]
    pub(super) image: Option<Image>,
    /// Take another image in the place of one, whoever names it: aws/codebuild/standard:7.0=my-image
    #[arg(long, value_name = "FROM=TO", value_parser = str::parse::<Swap>)]
    pub(super) image_map: Vec<Swap>,
    /// What runs the container
    #[arg(long, value_enum, default_value_t = EngineName::default())]
    pub(super) engine: EngineName,
    /// Show a file or directory of this machine in the container: read-only; with :rw to be changed here, with
    /// :cow to be changed there only
    #[arg(long, value_name = "SRC:DST[:rw|:cow]", value_parser = values::mount)]
    pub(super) mount: Vec<UserMount>,
    /// Show the tools of your home (~/.cargo, ~/.nvm, ~/.pyenv, ~/go and others) with their PATH, without
    /// credentials and histories in them; what the build changes there stays in the build
    #[arg(long)]
    pub(super) home_tools: bool,
    /// The most memory the build may use, such as 512M or 2G; there is no swap beside it
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(super) memory: Option<u64>,
    /// How many processors' time the build may use, such as 1.5
    #[arg(long, value_name = "N", value_parser = values::cpus)]
    pub(super) cpus: Option<Cpus>,
    /// The most processes and threads the build may have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pids_limit: Option<u32>,
    /// What the build can reach [default: host; with --privileged: pasta]
    #[arg(long, value_enum)]
    pub(super) network: Option<NetworkName>,
    /// Give the build the rights that a Docker daemon in it needs: as root those of this machine, its
    /// devices included
    #[arg(long)]
    pub(super) privileged: bool,
    /// Give sessions the programs of a busybox of this machine, whatever the image has; the build does
    /// not see them
    #[arg(long)]
    pub(super) toolbox: bool,
    /// Do not run commands whose whole text is like this; `*` stands for any characters
    #[arg(long, value_name = "GLOB")]
    pub(super) skip: Vec<String>,
    /// Do not run the commands of this phase
    #[arg(long, value_enum, value_name = "PHASE")]
    pub(super) skip_phase: Vec<PhaseName>,
    /// Run the commands of this phase only
    #[arg(long, value_enum, value_name = "PHASE")]
    pub(super) only_phase: Vec<PhaseName>,
    /// Put this executable in the place of a program of that name, or one that writes what it was called
    /// with, reads its input and succeeds. Calls by a path do not find it
    #[arg(long, value_name = "NAME[=FILE]", value_parser = values::stub)]
    pub(super) stub: Vec<Stub>,
    /// Print the build's id when it has begun, and leave it running: it goes on without a terminal until
    /// it ends, or `runner stop`. A CI system that ends a job's processes ends such a build, too
    #[arg(long)]
    pub(super) detach: bool,
    /// Run the build again at each change in its source and of its buildspec, until Ctrl-C; `.git` and what
    /// .gitignore leaves out are no change. A build that runs is stopped for it, one that is paused is not
    #[arg(long)]
    pub(super) watch: bool,
    /// Says that this is such a build, and where it stops
    #[arg(long, hide = true, value_name = "JSON", value_parser = WatchedBuild::parse)]
    pub(super) watched: Option<WatchedBuild>,
    /// Start a container of this image beside the build, reached by NAME, and wait until its port answers: by
    /// default the first one that the image exposes. Behind a name without a tag a number is the tag
    #[arg(long, value_name = "NAME=IMAGE[:PORT]", value_parser = values::service)]
    pub(super) service: Vec<ServiceRequest>,
    /// Set a variable of a service, or pass the caller's own through
    #[arg(long, value_name = "SERVICE:NAME[=VALUE]", value_parser = values::service_variable)]
    pub(super) service_env: Vec<(String, (String, String))>,
    /// Let codebuild-breakpoint pause the build
    #[arg(long)]
    pub(super) enable_session: bool,
    /// Stop there: start, failure, any-failure, before:PLACE, after:PHASE, command:/RE/, change:NAME, wrote:GLOB,
    /// output:/RE/, idle:TIME, longer:TIME or memory:SIZE, and behind it `if EXPR`, `hits N`, `log "TEXT"`. PLACE is
    /// PHASE[:finally][:N]. Implies --enable-session
    #[arg(long, value_name = "BREAKPOINT", value_parser = debug::breakpoint)]
    pub(super) break_on: Vec<Breakpoint>,
    /// Stop before the first command; `runner step` goes on to the next. Implies --enable-session
    #[arg(long)]
    pub(super) step: bool,
    /// Whether the build can be rewound: with --break-on and --step what it has written is kept before each
    /// command, where that is possible. Sealed layers take no time to speak of, however much was written; but a file that an
    /// earlier command has given several names breaks apart when it is written in place, and without root a directory of
    /// an earlier command cannot be renamed, only moved by copying
    #[arg(long, value_enum, default_value_t = CheckpointName::Auto)]
    pub(super) checkpoint: CheckpointName,
    /// How long a breakpoint waits while no session is open [default: for ever at a terminal, else and
    /// with --detach 15m]. A session of AWS's clients stays open for --session-idle-timeout after its client is gone,
    /// which may come back
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(super) break_timeout: Option<Duration>,
    /// What happens then [default: resume; with --on-stop exit: stop]
    #[arg(long, value_enum)]
    pub(super) break_timeout_action: Option<BreakActionName>,
    /// What this program does when the build is paused
    #[arg(long, value_enum, default_value_t = OnStopName::Wait)]
    pub(super) on_stop: OnStopName,
    /// A session in which nothing happens for so long is closed [default: 20m]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(super) session_idle_timeout: Option<Duration>,
    /// A session that was open for so long is closed, however busy it is
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(super) session_max_duration: Option<Duration>,
    /// Keep what sessions show, masked, and a line for each that begins or ends
    #[arg(long, value_name = "DIR")]
    pub(super) session_log: Option<PathBuf>,
    /// Let sessions of AWS's clients begin only where their preferences or their cluster name a log group or a bucket
    /// that is there
    #[arg(long)]
    pub(super) require_session_log: bool,
    /// How AWS's agent is configured, as amazon-ssm-agent.json (docs/agent-config.md) [default: that file in the state
    /// folder, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) agent_config: Option<PathBuf>,
    /// Set a variable of the build, or pass the caller's own through
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    pub(super) env: Vec<(String, String)>,
    /// Set variables from a file of NAME=VALUE lines; --env goes before it
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Pass the caller's proxy variables through
    #[arg(long)]
    pub(super) proxy: bool,
    /// Give the build AWS credentials: those of a profile, or, for `env`, of the caller's variables
    #[arg(long, value_name = "NAME|env")]
    pub(super) aws_profile: Option<String>,
    /// Trust the certificates of this file (PEM), too: for registries and AWS, and in the build by the usual
    /// variables and its trust store
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Take what the buildspec wants of Parameter Store and Secrets Manager from this file instead of from
    /// AWS. By their names: `/app/token: VALUE` and `app/db: {password: VALUE}`, or NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub(super) secrets: Option<PathBuf>,
    /// Show the value of this variable as *** in the log
    #[arg(long, value_name = "NAME")]
    pub(super) mask: Vec<String>,
    /// How long the build may run
    #[arg(long, value_name = "TIME", default_value = "60m", value_parser = values::duration)]
    pub(super) timeout: Duration,
    /// Count time spent at breakpoints, as AWS does
    #[arg(long)]
    pub(super) timeout_while_paused: bool,
    /// Copy the build's reports of tests and coverage here, as JSON, as JUnit and as they are, a folder a
    /// group; also look for reports that the buildspec does not name
    #[arg(long, value_name = "DIR")]
    pub(super) reports: Option<PathBuf>,
    /// Collect the build's artifacts into a directory or a bucket; a name that ends in .zip makes a ZIP
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::artifacts)]
    pub(super) artifacts: Option<ArtifactDestination>,
    /// Restore the build's cache from a directory or a bucket, and save it there
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::store)]
    pub(super) cache: Option<OutputStore>,
    /// Project name [default: the source directory's name]
    #[arg(long, value_name = "NAME", value_parser = values::project)]
    pub(super) project: Option<String>,
    /// Take settings from a project of CodeBuild's, as `aws codebuild batch-get-projects` prints it. Without
    /// --upload nothing is written to AWS
    #[arg(long, value_name = "FILE")]
    pub(super) project_json: Option<PathBuf>,
    /// Do what that project says of artifacts, cache and logs in AWS, as a build there does
    #[arg(long)]
    pub(super) upload: bool,
    /// Let runner.toml beside the buildspec have what it asks for, until it or a file that it names changes
    #[arg(long)]
    pub(super) trust_project: bool,
    /// How the build is shown on standard output
    #[arg(long, value_enum, default_value_t = FormatName::Auto)]
    pub(super) log_format: FormatName,
    /// Write the log to a file as well, in CodeBuild's own lines
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// Fold the log by phases, and, for GitHub, tell failed commands and test cases each at its place and
    /// write a summary of the step
    #[arg(long, value_enum, default_value_t = AnnotationsName::Auto)]
    pub(super) annotations: AnnotationsName,
    /// Write the final Build record, in the shape of AWS's API
    #[arg(long, value_name = "FILE")]
    pub(super) build_json: Option<PathBuf>,
    /// Write the build's id into a file when it begins
    #[arg(long, value_name = "FILE")]
    pub(super) id_file: Option<PathBuf>,
    /// No advice on failures
    #[arg(long)]
    pub(super) no_hints: bool,
    /// Nothing on standard error but errors
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

/// A kind of engine, by the name its traits have.
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
    /// All that this machine reaches, services on its loopback included
    Host,
    /// Nothing but its own loopback
    None,
    /// The outside, and nothing of this machine's loopback; needs the program pasta
    Pasta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum BreakActionName {
    /// The build goes on, as if sessions were off
    Resume,
    /// The build is stopped
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CheckpointName {
    /// With --break-on and --step; as copies, and sealed where that would be too much
    Auto,
    /// The same, sealed wherever nothing of the build runs meanwhile
    Sealed,
    /// Never
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnStopName {
    /// It shows the build until it ends
    Wait,
    /// It exits with 77 and leaves the build paused, for scripts; the build goes when --break-timeout is over,
    /// and where a CI system ends all processes of a job
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AnnotationsName {
    /// Of the CI system that this runs in, by its variables
    Auto,
    /// Workflow commands
    Github,
    /// Collapsible sections
    Gitlab,
    /// Nothing of the kind
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
    /// One event a line
    Json,
}
