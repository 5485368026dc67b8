//! `runner run`: what is typed, resolved into what `app` runs.

use super::error::{CliError, of_status};
use super::project::Extras;
use super::run_args::{BreakActionName, FormatName, NetworkName, RunArgs};
use super::{project, render, say, values, written};
use crate::amazon::Identity;
use crate::app::{self, BuildspecFile, LogFormat, LogsWanted, RunRequest};
use crate::beneath::{self, Dir};
use crate::engine::unseen::Unseen;
use crate::engine::{Network, Traits, toolbox};
use crate::image::{Asker, Image};
use crate::named::Named;
use crate::outputs::Store;
use crate::outputs::cache::CacheTo;
use crate::secrets::{SecretsFile, Vault};
use crate::state::Home;
use crate::stdio::tell;
use runner_core::env::Variables;
use runner_core::plan::{self, BreakAction};
use runner_core::spec::{BuildSpec, Diagnostic};
use runner_sandbox::Limits;
use runner_sandbox::Toolbox;
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const UNTRUSTED_IMAGE: &str = "runner.toml names it, so it is asked for without your credentials; to have \
                               it with them: --trust-project, or --image NAME";

/// Where nobody sits at a terminal a breakpoint does not wait for ever.
const BREAK_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Runs the build; its exit code.
///
/// `typed`: what the options were read from.
pub(super) fn run(args: RunArgs, typed: &[OsString]) -> Result<u8, CliError> {
    let (args, extras) = project::with_files(args, typed)?;
    let source = source(&args.source)?;
    let engine = args.engine.0;
    let traits = engine.traits();
    let image = args.image.clone().unwrap_or(Image::Host);
    if !traits.images && image != Image::Host || !traits.mounts && !args.mount.is_empty() {
        return Err(CliError::usage(format!(
            "--engine {} has no image and no mounts",
            traits.name
        ))
        .hint("the build sees this machine as it is; leave out --image and --mount"));
    }
    let network = network(&args, traits)?;
    let ids: Vec<&String> = args.secondary_source.iter().map(|(id, _)| id).collect();
    if let Some(twice) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(*id)) {
        return Err(CliError::usage(format!("--secondary-source: `{}` is named twice", twice.1)));
    }
    let toolbox = toolbox(args.toolbox, traits)?;
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
    let unseen = unseen(&home, &source, &args)?;
    let artifacts = project::artifacts(args.artifacts.clone(), &extras)?;
    let cache = project::cache(args.cache.clone(), &extras, &name, &home)?;
    written::keep_out_of_git(&args, &source)?;
    if let Some(spec) = &spec
        && !args.quiet
        && let wanted = uncollected(spec, [artifacts.is_some(), cache.is_some()])
        && !wanted.is_empty()
    {
        say(&format!("not collected: {}", wanted.join(", ")));
    }
    if let Some(spec) = &spec {
        let work = plan::work(spec.clone());
        for breakpoint in &args.break_on {
            breakpoint
                .check(&work)
                .map_err(|why| CliError::usage(format!("--break-on {breakpoint}: {why}")))?;
        }
    }
    let aws = args.aws_profile.as_deref().map(values::identity);
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
        image,
        asker: asker(&extras),
        mounts: args.mount,
        unseen,
        sessions: args.enable_session || args.step || !args.break_on.is_empty(),
        stops: plan::Stops { breakpoints: args.break_on, step: args.step },
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
        build_json: args.build_json.map(|path| named("--build-json", &path)).transpose()?,
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
    let status = app::run(request, home, of_status)?;
    Ok(if rejected { super::error::USAGE } else { of_status(status) })
}

/// The state folder, which a build may have above what it sees, and not as what it sees.
fn unseen(home: &Home, source: &Path, args: &RunArgs) -> Result<Unseen, CliError> {
    let unseen = Unseen::of(home.root());
    let sources = [source].into_iter().chain(args.secondary_source.iter().map(|(_, dir)| &**dir));
    let mounts = args.mount.iter().map(|mount| &*mount.source);
    match sources.chain(mounts).find(|dir| unseen.is(dir)) {
        None => Ok(unseen),
        Some(dir) => Err(CliError::usage(format!(
            "{} is the runner's state folder: it has keys and other builds in it",
            dir.display()
        ))
        .hint("set RUNNER_HOME to another directory, or name another one here")),
    }
}

/// The directory of `--source`, resolved to its end.
fn source(path: &Path) -> Result<PathBuf, CliError> {
    let source = std::fs::canonicalize(path).map_err(|error| {
        CliError::usage(format!("source directory {}: {error}", path.display()))
    })?;
    if !source.is_dir() {
        return Err(CliError::usage(format!("{} is not a directory", source.display())));
    }
    if source == Path::new("/") {
        return Err(CliError::usage("the source directory cannot be /")
            .hint("run in the directory of your project, or name it with --source"));
    }
    Ok(source)
}

/// Who asks a registry for the image: the caller, where they have chosen it.
fn asker(extras: &Extras) -> Asker {
    match extras.is_image_untrusted {
        true => Asker::Stranger { hint: UNTRUSTED_IMAGE.to_owned() },
        false => Asker::Caller,
    }
}

/// What the build can reach, unless other options contradict that.
fn network(args: &RunArgs, traits: &Traits) -> Result<Network, CliError> {
    let network = match args.network {
        Some(NetworkName::Host) => Network::Host,
        Some(NetworkName::None) => Network::None,
        Some(NetworkName::Pasta) => Network::Pasta,
        // A Docker daemon would change the firewall of the network it finds.
        None if args.privileged && traits.networks => Network::Pasta,
        None => Network::Host,
    };
    if network != Network::Host && !traits.networks {
        return Err(CliError::usage(format!(
            "--engine {} has no network but this machine's",
            traits.name
        ))
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
fn toolbox(wanted: bool, traits: &Traits) -> Result<Option<Toolbox>, CliError> {
    if !wanted {
        return Ok(None);
    }
    if !traits.toolbox {
        return Err(CliError::usage("--toolbox goes with --engine namespaces only"));
    }
    toolbox::find().map(Some).map_err(|error| {
        CliError::ours(format!("--toolbox: {error}"))
            .hint("install a static one; on Debian: apt-get install busybox-static")
    })
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
fn uncollected(spec: &BuildSpec, has: [bool; 2]) -> Vec<&'static str> {
    let keys = [
        ("artifacts (name a place: --artifacts DIR)", spec.artifacts.is_some()),
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
    let path = beneath::real(path).map_err(failed)?;
    let dir = Dir::make_real(&path, 0o755).map_err(failed)?;
    let probe = |(_, name)| dir.remove_file(name);
    dir.part().and_then(probe).map_err(failed)?;
    Ok(path)
}

/// The file of `--log-file`, empty and the caller's own.
fn log_file(path: PathBuf) -> Result<(PathBuf, File), CliError> {
    let file = named("--log-file", &path)?.begin();
    file.map_err(|error| cannot_write("--log-file", &path, &error)).map(|file| (path, file))
}

fn named(option: &str, path: &Path) -> Result<Named, CliError> {
    Named::open(path).map_err(|error| cannot_write(option, path, &error))
}

fn cannot_write(option: &str, path: &Path, error: &std::io::Error) -> CliError {
    CliError::usage(format!("{option}: cannot write {}: {error}", path.display()))
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
    let told = problems.iter().filter(|problem| problem.is_error() || !quiet);
    tell(render::diagnostics(&buildspec.shown(), source, told));
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if errors > 1 {
        say(&format!("{errors} errors in {}", buildspec.shown()));
    }
}
