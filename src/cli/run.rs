//! `runner run`: what is typed, resolved into what `app` runs.

use super::error::{CliError, of_status};
use super::{project, render, say, values};
use crate::amazon::Identity;
use crate::app::{self, BuildspecFile, EngineKind, LogFormat, LogsWanted, RunRequest};
use crate::engine::toolbox;
use crate::engine::{Network, UserMount};
use crate::image::Image;
use crate::outputs::cache::CacheTo;
use crate::outputs::{Destination, Store};
use crate::secrets::{SecretsFile, Vault};
use clap::{Args, ValueEnum};
use runner_core::env::Variables;
use runner_core::plan::{self, BreakAction};
use runner_core::spec::{BuildSpec, Diagnostic};
use runner_sandbox::Toolbox;
use runner_sandbox::{Cpus, Limits};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where nobody sits at a terminal a breakpoint does not wait for ever.
const BREAK_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Options of `runner run`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, args_override_self = true)]
pub(super) struct RunArgs {
    /// The buildspec [default: buildspec.yml in the source directory]
    pub(super) buildspec: Option<PathBuf>,
    /// The directory the build sees as its source; it is never written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) source: PathBuf,
    /// A further source, seen at CODEBUILD_SRC_DIR_ID
    #[arg(long, value_name = "ID=DIR", value_parser = values::secondary_source)]
    pub(super) secondary_source: Vec<(String, PathBuf)>,
    /// What the build runs in: host (this machine's tools), an image of a registry, oci:DIR[:TAG],
    /// oci-archive:FILE, docker-archive:FILE, rootfs:DIR or rootfs:TAR
    #[arg(long, value_name = "REF", default_value = "host", value_parser = str::parse::<Image>)]
    image: Image,
    /// What runs the container
    #[arg(long, value_enum, default_value_t = EngineName::Auto)]
    engine: EngineName,
    /// Show a file or directory of this machine in the container, read-only unless :rw
    #[arg(long, value_name = "SRC:DST[:rw]", value_parser = values::mount)]
    mount: Vec<UserMount>,
    /// The most memory the build may use, such as 512M or 2G; there is no swap beside it
    #[arg(long, value_name = "SIZE", value_parser = values::memory)]
    pub(super) memory: Option<u64>,
    /// How many processors' time the build may use, such as 1.5
    #[arg(long, value_name = "N", value_parser = values::cpus)]
    pub(super) cpus: Option<Cpus>,
    /// The most processes and threads the build may have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pids_limit: Option<u32>,
    /// What the build can reach [default: host; with --privileged: pasta]
    #[arg(long, value_enum)]
    network: Option<NetworkName>,
    /// Give the build the rights that a Docker daemon in it needs: as root those of this machine, its
    /// devices included
    #[arg(long)]
    privileged: bool,
    /// Give sessions the programs of a busybox of this machine, whatever the image has; the build does
    /// not see them
    #[arg(long)]
    toolbox: bool,
    /// Let codebuild-breakpoint pause the build
    #[arg(long)]
    enable_session: bool,
    /// How long a breakpoint waits while nobody is connected [default: for ever at a terminal, else
    /// 15m]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    break_timeout: Option<Duration>,
    /// What happens then
    #[arg(long, value_enum, default_value_t = BreakActionName::Resume)]
    break_timeout_action: BreakActionName,
    /// A session in which nothing happens for so long is closed
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = values::duration)]
    session_idle_timeout: Duration,
    /// A session that was open for so long is closed, however busy it is
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    session_max_duration: Option<Duration>,
    /// Keep what terminals of sessions show, masked, and a line for each session that begins or ends
    #[arg(long, value_name = "DIR")]
    session_log: Option<PathBuf>,
    /// Set a variable of the build, or pass the caller's own through
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    env: Vec<(String, String)>,
    /// Set variables from a file of NAME=VALUE lines; --env goes before it
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Pass the caller's proxy variables through
    #[arg(long)]
    proxy: bool,
    /// Give the build AWS credentials: those of a profile, or, for `env`, of the caller's variables
    #[arg(long, value_name = "NAME|env")]
    aws_profile: Option<String>,
    /// Take what the buildspec wants of Parameter Store and Secrets Manager from this file, YAML or
    /// NAME=VALUE lines, instead of from AWS
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Show the value of this variable as *** in the log
    #[arg(long, value_name = "NAME")]
    mask: Vec<String>,
    /// How long the build may run
    #[arg(long, value_name = "TIME", default_value = "60m", value_parser = values::duration)]
    timeout: Duration,
    /// Count time spent at breakpoints, as AWS does
    #[arg(long)]
    timeout_while_paused: bool,
    /// Read the build's reports of tests and coverage, show what they come to, and write them as JSON
    /// and JUnit, a folder a group
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Collect the build's artifacts into a directory or a bucket; a name that ends in .zip makes a ZIP
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::artifacts)]
    artifacts: Option<Destination>,
    /// Restore the build's cache from a directory or a bucket, and save it there
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::store)]
    cache: Option<Store>,
    /// Project name [default: the source directory's name]
    #[arg(long, value_name = "NAME", value_parser = values::project)]
    pub(super) project: Option<String>,
    /// Take settings from a project of CodeBuild's, as `aws codebuild batch-get-projects` prints it
    #[arg(long, value_name = "FILE")]
    pub(super) project_json: Option<PathBuf>,
    /// Let runner.toml beside the buildspec have what it asks for, until it changes
    #[arg(long)]
    pub(super) trust_project: bool,
    /// How the build is shown on standard output
    #[arg(long, value_enum, default_value_t = FormatName::Auto)]
    log_format: FormatName,
    /// Write the log to a file as well, in CodeBuild's own lines
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Tell failed commands and failed test cases to GitHub Actions, each at its place
    #[arg(long, value_enum)]
    annotations: Option<AnnotationsName>,
    /// Write the final Build record, in the shape of AWS's API
    #[arg(long, value_name = "FILE")]
    build_json: Option<PathBuf>,
    /// Nothing on standard error but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
}

const EXIT_CODES: &str = "\
Exit status:
  0  the build succeeded
  1  the build failed
  2  usage error, or the buildspec was rejected
  3  the image, the engine or this program failed
  4  the build timed out
  5  the build was stopped (Ctrl-C; twice: at once)";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// The first that works: namespaces, else docker or podman if one answers
    Auto,
    /// Linux namespaces, nothing to install
    Namespaces,
    /// A Docker daemon
    Docker,
    /// Podman; its service is started if it does not run
    Podman,
    /// No container at all, for machines that are thrown away: the build runs as you, on this
    /// machine's own files
    Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkName {
    /// All that this machine reaches, services on its loopback included
    Host,
    /// Nothing but its own loopback
    None,
    /// The outside, and nothing of this machine's loopback; needs the program pasta
    Pasta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BreakActionName {
    /// The build goes on, as if sessions were off
    Resume,
    /// The build is stopped
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AnnotationsName {
    /// Workflow commands, on standard error
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// pretty on a terminal, codebuild otherwise
    Auto,
    /// For a person at a terminal
    Pretty,
    /// CodeBuild's own log lines
    Codebuild,
    /// One event a line
    Json,
}

/// Runs the build; its exit code.
pub(super) fn run(args: RunArgs) -> Result<u8, CliError> {
    let (args, extras) = project::with_files(args)?;
    let source = std::fs::canonicalize(&args.source)
        .map_err(|error| {
            CliError::usage(format!("source directory {}: {error}", args.source.display()))
        })
        .and_then(|source| match source.is_dir() {
            true => Ok(source),
            false => Err(CliError::usage(format!("{} is not a directory", source.display()))),
        })?;
    if source == Path::new("/") {
        return Err(CliError::usage("the source directory cannot be /")
            .hint("run in the directory of your project, or name it with --source"));
    }
    let engine = match args.engine {
        EngineName::Auto => EngineKind::Auto,
        EngineName::Namespaces => EngineKind::Namespaces,
        EngineName::Docker => EngineKind::Docker,
        EngineName::Podman => EngineKind::Podman,
        EngineName::Process => EngineKind::Process,
    };
    if engine == EngineKind::Process && (args.image != Image::Host || !args.mount.is_empty()) {
        return Err(CliError::usage("--engine process has no image and no mounts")
            .hint("the build sees this machine as it is; leave out --image and --mount"));
    }
    let network = network(&args, engine)?;
    let ids: Vec<&String> = args.secondary_source.iter().map(|(id, _)| id).collect();
    if let Some(twice) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(*id)) {
        return Err(CliError::usage(format!("--secondary-source: `{}` is named twice", twice.1)));
    }
    let toolbox = toolbox(args.toolbox, engine)?;
    let buildspec = match extras.buildspec.clone() {
        Some(text) => BuildspecFile::inline(text),
        None => BuildspecFile::read(args.buildspec.as_deref(), &source),
    };
    let (spec, problems) = match buildspec.parse() {
        Ok((mut spec, warnings)) => {
            project::add_variables(&mut spec, &extras.fetched)?;
            (Some(spec), warnings)
        }
        Err(problems) => (None, problems),
    };
    print_problems(&buildspec, &problems, args.quiet);
    let name = args.project.clone().unwrap_or_else(|| values::project_of(&source));
    let home = super::home::open()?;
    let artifacts = project::artifacts(args.artifacts.clone(), &extras)?;
    let cache = project::cache(args.cache.clone(), &extras, &name, home.root())?;
    let has_reports = args.reports.is_some() || args.annotations.is_some();
    if let Some(spec) = &spec
        && !args.quiet
        && let wanted = uncollected(spec, [artifacts.is_some(), has_reports, cache.is_some()])
        && !wanted.is_empty()
    {
        say(&format!("not collected: {}", wanted.join(", ")));
    }
    let aws = args.aws_profile.as_ref().map(|name| match name.as_str() {
        "env" => Identity::Environment,
        name => Identity::Profile(name.to_owned()),
    });
    let vault = match &args.secrets {
        Some(path) => Vault::File(
            SecretsFile::read(path)
                .map_err(|problem| CliError::usage(format!("--secrets: {problem}")))?,
        ),
        None => Vault::Aws(aws.clone().unwrap_or(Identity::Default)),
    };
    let variables = variables(&args)?;
    let session_log = args
        .session_log
        .as_ref()
        .map(|dir| std::path::absolute(dir).and_then(|dir| app::open_session_log(&dir)))
        .transpose()
        .map_err(|error| CliError::usage(format!("--session-log: {error}")))?;
    let on_terminal = std::io::stderr().is_terminal();
    let request = RunRequest {
        project: name,
        source,
        secondary_sources: args.secondary_source,
        buildspec,
        spec: spec.ok_or(problems),
        engine,
        image: args.image,
        mounts: args.mount,
        sessions: args.enable_session,
        limits: plan::Limits {
            timeout: args.timeout,
            timeout_while_paused: args.timeout_while_paused,
            break_timeout: args.break_timeout.or((!on_terminal).then_some(BREAK_TIMEOUT)),
            break_action: match args.break_timeout_action {
                BreakActionName::Resume => BreakAction::Resume,
                BreakActionName::Stop => BreakAction::Stop,
            },
        },
        resources: Limits { memory: args.memory, cpus: args.cpus, pids: args.pids_limit },
        network,
        privileged: args.privileged,
        toolbox,
        session_idle_timeout: args.session_idle_timeout,
        session_max_duration: args.session_max_duration,
        session_log,
        variables,
        reports: args.reports.as_deref().map(reports_dir).transpose()?,
        artifacts,
        cache,
        masked: args.mask,
        aws,
        vault: Arc::new(vault),
        format: format(args.log_format),
        build_json: args.build_json,
        logs: LogsWanted { cloudwatch: extras.cloudwatch, s3: extras.s3_logs },
        log_file: args.log_file.map(log_file).transpose()?,
        annotate: args.annotations.is_some(),
        quiet: args.quiet,
    };
    let rejected = request.spec.is_err();
    if let Some(CacheTo { store: Store::Folder(folder), .. }) = &request.cache
        && let Err(error) = home.note_cache_folder(folder)
    {
        // It is only missing from a list.
        say(&format!("warning: runner cache ls will not know this folder: {error}"));
    }
    let status = app::run(request, home)?;
    Ok(if rejected { super::error::USAGE } else { of_status(status) })
}

/// What the build can reach, unless other options contradict that.
fn network(args: &RunArgs, engine: EngineKind) -> Result<Network, CliError> {
    let network = match args.network {
        Some(NetworkName::Host) => Network::Host,
        Some(NetworkName::None) => Network::None,
        Some(NetworkName::Pasta) => Network::Pasta,
        // A Docker daemon would change the firewall of the network it finds.
        None if args.privileged && engine != EngineKind::Process => Network::Pasta,
        None => Network::Host,
    };
    if network != Network::Host && engine == EngineKind::Process {
        return Err(CliError::usage("--engine process has no network but this machine's")
            .hint("leave out --network, or take an engine that has containers"));
    }
    if network == Network::None && args.aws_profile.is_some() {
        return Err(CliError::usage(
            "--network none keeps the build from everything that --aws-profile is for",
        )
        .hint("leave out one of them"));
    }
    Ok(network)
}

/// Programs for sessions.
fn toolbox(wanted: bool, engine: EngineKind) -> Result<Option<Toolbox>, CliError> {
    match engine {
        _ if !wanted => Ok(None),
        EngineKind::Auto | EngineKind::Namespaces => toolbox::find().map(Some).map_err(|error| {
            CliError::ours(format!("--toolbox: {error}"))
                .hint("install a static one; on Debian: apt-get install busybox-static")
        }),
        _ => Err(CliError::usage("--toolbox goes with --engine namespaces only")),
    }
}

/// Variables of the command line, the strongest last.
fn variables(args: &RunArgs) -> Result<Variables, CliError> {
    let mut variables = Variables::new();
    if args.proxy {
        let is_proxy = |name: &str| {
            PROXY.iter().any(|proxy| name == *proxy || name == proxy.to_ascii_lowercase())
        };
        variables.extend(std::env::vars().filter(|(name, _)| is_proxy(name)));
        if variables.is_empty() {
            return Err(CliError::usage("--proxy: the caller has no proxy variables")
                .hint(format!("set one of {}", PROXY.join(", "))));
        }
    }
    for path in &args.env_file {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            CliError::usage(format!("--env-file: cannot read {shown}: {error}"))
        })?;
        let pairs = runner_core::env::parse_file(&text)
            .map_err(|problem| CliError::usage(format!("--env-file: {shown}:{problem}")))?;
        for (name, value) in pairs {
            values::check_variable(&name, &value)
                .map_err(|problem| CliError::usage(format!("--env-file: {shown}: {problem}")))?;
            variables.push((name, value));
        }
    }
    variables.extend(args.env.iter().cloned());
    Ok(variables)
}

/// Variables by which programs find a proxy; small letters as well.
const PROXY: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// Keys whose results somebody may wait for in vain, with what would collect them.
fn uncollected(spec: &BuildSpec, has: [bool; 3]) -> Vec<&'static str> {
    let keys = [
        ("artifacts (name a place: --artifacts DIR)", spec.artifacts.is_some()),
        ("reports (name a place: --reports DIR)", !spec.reports.is_empty()),
        ("cache (name a place: --cache DIR)", spec.cache.is_some()),
    ];
    let wanted = keys.into_iter().zip(has).filter(|((_, is_there), has)| *is_there && !has);
    wanted.map(|((name, _), _)| name).collect()
}

/// The directory of `--reports`, there and open to us before the build begins.
fn reports_dir(path: &Path) -> Result<PathBuf, CliError> {
    let failed = |error: std::io::Error| {
        CliError::usage(format!("--reports: cannot write to {}: {error}", path.display()))
    };
    let dir = std::path::absolute(path).map_err(failed)?;
    let missing: Vec<_> = dir.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::create_dir_all(&dir).map_err(failed)?;
    for made in missing {
        crate::users::give(made).map_err(failed)?;
    }
    tempfile::tempfile_in(&dir).map_err(failed)?;
    Ok(dir)
}

/// The file of `--log-file`, empty and the caller's own.
fn log_file(path: PathBuf) -> Result<(PathBuf, File), CliError> {
    let file = File::create(&path).and_then(|file| crate::users::give_file(&file).map(|()| file));
    match file {
        Ok(file) => Ok((path, file)),
        Err(error) => {
            Err(CliError::usage(format!("--log-file: cannot write {}: {error}", path.display())))
        }
    }
}

fn format(name: FormatName) -> LogFormat {
    match name {
        FormatName::Auto if std::io::stdout().is_terminal() => LogFormat::Pretty,
        FormatName::Auto | FormatName::Codebuild => LogFormat::CodeBuild,
        FormatName::Pretty => LogFormat::Pretty,
        FormatName::Json => LogFormat::Json,
    }
}

fn print_problems(buildspec: &BuildspecFile, problems: &[Diagnostic], quiet: bool) {
    let source = buildspec.text().unwrap_or_default();
    let mut stderr = std::io::stderr().lock();
    for problem in problems.iter().filter(|problem| problem.is_error() || !quiet) {
        let text = render::diagnostic(&buildspec.shown(), source, problem);
        // Without a standard error there is nobody to tell.
        let _ = write!(stderr, "{text}");
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if errors > 1 {
        let _ = writeln!(stderr, "runner: {errors} errors in {}", buildspec.shown());
    }
}
