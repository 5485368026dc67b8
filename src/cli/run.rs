//! `runner run`: resolves the typed options into what `build` runs and what `terminal` shows.

use super::error::{CliError, of_status};
use super::project::Extras;
use super::run_args::{
    AnnotationsName, BreakActionName, CheckpointName, FormatName, NetworkName, OnStopName,
    PhaseName, RunArgs,
};
use super::{certificates, detach, on_stop, project, render, say, values, watch};
use crate::door::DoorParts;
use crate::terminal::{AnnotationPlaces, CiSystem, FaceOptions, LogFormat, TerminalFace};
use runner_build::session::SessionOptions;
use runner_build::{
    self as build, BuildOutcome, BuildRequest, BuildspecFile, ContainerRequest, OpenedBuild,
    OutputsRequest, ServiceRequest, Stub, Unusable, ValuesRequest,
};
use runner_core::agent::AgentConfig;
use runner_core::env::Variables;
use runner_core::phase::Status;
use runner_core::plan::{self, BreakAction};
use runner_core::project::ProjectVariable;
use runner_core::skip::{Glob, Skips};
use runner_core::spec::{BuildSpec, Diagnostic, USER_PHASES, UserPhase};
use runner_engine::image::{Image, ImageRequester, Swap};
use runner_engine::{NetworkAccess, Traits};
use runner_folder::state::Home;
use runner_host::stdio::tell;
use runner_sandbox::ResourceLimits;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

const UNTRUSTED_IMAGE: &str = "runner.toml names it, so it is asked for without your credentials; to have \
                               it with them: --trust-project, or --image NAME";

/// Without a terminal, a breakpoint does not wait for ever.
const BREAK_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Runs the build. Returns its exit code.
///
/// `typed`: the words that the options were parsed from.
pub(super) fn run(args: RunArgs, typed: &[OsString]) -> Result<u8, CliError> {
    match &args.watched {
        Some(watched) => watched.begin()?,
        None if args.watch => return watch::run(&args, typed),
        None => {}
    }
    let (mut args, extras) = project::with_files(args, typed)?;
    if let Some(watched) = &args.watched {
        watched.of(&mut args.break_on);
    }
    let (detaches, exits) = (args.detach, args.on_stop == OnStopName::Exit);
    let RunRequest { request, spec, home, shown } = ask(args, extras, BuildspecFile::parse)?;
    if !shown.quiet && spec.as_ref().is_ok_and(|spec| spec.batch.is_some()) {
        say("not run: batch (all of its builds: runner batch)");
    }
    if detaches {
        super::answer(detach::start(&request)? + "\n")?;
        return Ok(if spec.is_err() { super::error::USAGE } else { 0 });
    }
    let annotations = (shown.system == Some(CiSystem::Github)).then(|| {
        let BuildRequest { source, buildspec, .. } = &request;
        let places = AnnotationPlaces::at_github(source, buildspec);
        (places, spec.as_ref().err().cloned().unwrap_or_default())
    });
    let shown = FaceOptions { annotations, ..shown };
    if exits {
        return on_stop::run(&request, &home, shown);
    }
    let opened = OpenedBuild::open(&request, spec, &home)?;
    let rejected = opened.is_rejected();
    let status = shown_at_terminal(request, opened, home, shown)?;
    Ok(if rejected { super::error::USAGE } else { of_status(status) })
}

/// Parses a buildspec for one build or for a batch.
pub(super) type Parse =
    fn(&BuildspecFile, &[ProjectVariable]) -> Result<runner_build::Parsed, Unusable>;

/// Default time after which an idle session is closed.
const IDLE: Duration = Duration::from_secs(20 * 60);

/// The resolved options.
pub(super) struct RunRequest {
    pub(super) request: BuildRequest,
    /// The buildspec, or its errors, which have been reported.
    pub(super) spec: Result<BuildSpec, Vec<Diagnostic>>,
    pub(super) home: Home,
    pub(super) shown: FaceOptions,
}

/// Resolves options into a request.
pub(super) fn ask(args: RunArgs, extras: Extras, parse: Parse) -> Result<RunRequest, CliError> {
    let source = source(&args.source)?;
    let engine = args.engine.0;
    let traits = engine.traits();
    let named = args.image.clone().unwrap_or(Image::Host);
    let (image, replaces) = match Swap::find(&args.image_map, &named) {
        Some(image) => (image.clone(), Some(named)),
        None => (named, None),
    };
    if !traits.images && image != Image::Host
        || !traits.mounts && (!args.mount.is_empty() || args.home_tools)
    {
        return Err(CliError::usage(format!(
            "--engine {} has no image and no mounts",
            traits.name
        ))
        .hint("the build sees this machine itself; leave out --image, --mount and --home-tools"));
    }
    let network = network(&args, traits)?;
    let ids: Vec<&String> = args.secondary_source.iter().map(|(id, _)| id).collect();
    if let Some(twice) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(*id)) {
        return Err(CliError::usage(format!("--secondary-source: `{}` is named twice", twice.1)));
    }
    if args.toolbox && !traits.toolbox {
        return Err(CliError::usage("--toolbox goes with --engine namespaces only"));
    }
    let buildspec = match (&args.command[..], extras.buildspec.clone()) {
        ([], None) => BuildspecFile::read(args.buildspec.as_deref(), &source),
        ([], Some(text)) => BuildspecFile::inline(text),
        (words, _) => BuildspecFile::of_command(words),
    };
    let (spec, warnings) = parse(&buildspec, &extras.fetched)?;
    if !extras.is_silent {
        print_problems(&buildspec, spec.as_ref().err().unwrap_or(&warnings), args.quiet);
    }
    let project = args.project.clone().unwrap_or_else(|| values::project_of(&source));
    let home = super::home::open()?;
    let outputs = outputs(&args, &extras, &project, &home)?;
    let held_back = project::held_back(&args, &extras)?;
    if !held_back.is_empty() && !args.quiet {
        say(&format!(
            "not written to AWS, as the project has it: {}; --upload does, and --artifacts, --cache and --log-file \
             take places here",
            held_back.join(", ")
        ));
    }
    let left_behind = project::left_behind(&args, &extras)?;
    if !left_behind.is_empty() && !args.quiet {
        say(&format!(
            "not uploaded, since the project has no primary artifacts (NO_ARTIFACTS): the secondary artifacts {}; \
             --artifacts names a place for all of them",
            left_behind.join(", ")
        ));
    }
    if let Ok(spec) = &spec
        && !args.quiet
        && let wanted = uncollected(spec, [outputs.artifacts.is_some(), outputs.cache.is_some()])
        && !wanted.is_empty()
    {
        say(&format!("not collected: {}", wanted.join(", ")));
    }
    let skips = skips(&args);
    let system = system(&args);
    let aws = args.aws_profile.as_deref().map(values::identity);
    let has_sessions = args.enable_session || args.step || !args.break_on.is_empty();
    if args.on_stop == OnStopName::Exit && !has_sessions {
        return Err(CliError::usage("--on-stop exit: nothing pauses this build").hint(
            "say where: --break-on failure, --step, or --enable-session for codebuild-breakpoint",
        ));
    }
    let agent = match has_sessions || args.agent_config.is_some() {
        true => super::home::agent(&home, args.agent_config.as_deref(), args.quiet)?,
        false => AgentConfig::default(),
    };
    let request = BuildRequest {
        project,
        directory: std::env::current_dir()
            .map_err(|error| CliError::usage(format!("the current directory: {error}")))?,
        limits: limits(&args),
        stops: stops(&args),
        container: ContainerRequest {
            engine,
            image,
            // The user who chose the replacement has chosen the image.
            asker: if replaces.is_some() { ImageRequester::Caller } else { asker(&extras) },
            replaces,
            mounts: args.mount.clone(),
            home_tools: args.home_tools,
            resources: ResourceLimits {
                memory: args.memory,
                cpus: args.cpus,
                pids: args.pids_limit,
            },
            network,
            privileged: args.privileged,
            toolbox: args.toolbox,
        },
        values: ValuesRequest {
            variables: variables(&args)?,
            fetched: extras.fetched,
            masked: args.mask,
            aws,
            secrets: args.secrets,
        },
        outputs,
        sessions: SessionOptions {
            is_enabled: has_sessions,
            idle_timeout: args.session_idle_timeout.unwrap_or(IDLE),
            is_idle_given: args.session_idle_timeout.is_some(),
            longest: args.session_max_duration,
            log: args.session_log,
            requires_log: args.require_session_log,
            agent,
        },
        skips,
        services: services(args.service, args.service_env, &args.image_map)?,
        stubs: stubs(args.stub),
        certificates: args.ca_file.as_deref().map(certificates::read).transpose()?,
        hints: !args.no_hints,
        member: None,
        accepted: None,
        secondary_sources: args.secondary_source,
        source,
        buildspec,
    };
    let shown = FaceOptions {
        format: format(args.log_format),
        quiet: args.quiet,
        sessions: has_sessions,
        door: DoorParts::of(&request),
        ends_pauses: request.limits.break_action == BreakAction::Stop,
        hints: request.hints,
        system,
        annotations: None,
    };
    Ok(RunRequest { request, spec, home, shown })
}

/// The CI system that shows standard output.
fn system(args: &RunArgs) -> Option<CiSystem> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| value == "true");
    match args.annotations {
        AnnotationsName::Github => Some(CiSystem::Github),
        AnnotationsName::Gitlab => Some(CiSystem::Gitlab),
        AnnotationsName::Auto if is_set("GITHUB_ACTIONS") => Some(CiSystem::Github),
        AnnotationsName::Auto if is_set("GITLAB_CI") => Some(CiSystem::Gitlab),
        AnnotationsName::Auto | AnnotationsName::None => None,
    }
}

/// Where the build stops. Checkpoints are only for builds that do.
fn stops(args: &RunArgs) -> plan::PlannedStops {
    let stops = args.step || !args.break_on.is_empty();
    let checkpoints = match args.checkpoint {
        CheckpointName::Auto if stops => plan::Checkpointing::Auto,
        CheckpointName::Sealed if stops => plan::Checkpointing::Sealed,
        CheckpointName::Auto | CheckpointName::Sealed | CheckpointName::Off => {
            plan::Checkpointing::Off
        }
    };
    plan::PlannedStops { breakpoints: args.break_on.clone(), step: args.step, checkpoints }
}

/// Time limits.
fn limits(args: &RunArgs) -> plan::TimeLimits {
    let exits = args.on_stop == OnStopName::Exit;
    // A build without a terminal has nobody to wait for.
    let waits = std::io::stderr().is_terminal() && !exits && !args.detach;
    let action = args.break_timeout_action;
    plan::TimeLimits {
        timeout: args.timeout,
        timeout_while_paused: args.timeout_while_paused,
        break_timeout: args.break_timeout.or((!waits).then_some(BREAK_TIMEOUT)),
        break_action: match action {
            Some(BreakActionName::Resume) => BreakAction::Resume,
            Some(BreakActionName::Stop) => BreakAction::Stop,
            None if exits => BreakAction::Stop,
            None => BreakAction::Resume,
        },
    }
}

/// Destinations of the build's outputs.
fn outputs(
    args: &RunArgs,
    extras: &Extras,
    project: &str,
    home: &Home,
) -> Result<OutputsRequest, CliError> {
    Ok(OutputsRequest {
        artifacts: project::artifacts(args, extras)?,
        cache: project::cache(args, extras, project, home)?,
        reports: args.reports.clone(),
        discovers: system(args) == Some(CiSystem::Github),
        build_json: args.build_json.clone(),
        id_file: args.id_file.clone(),
        log_file: args.log_file.clone(),
        logs: project::logs(args, extras),
    })
}

/// Runs the build in this process and shows it.
fn shown_at_terminal(
    request: BuildRequest,
    opened: OpenedBuild,
    home: Home,
    shown: FaceOptions,
) -> Result<Status, CliError> {
    let mut face = TerminalFace::new(shown, &home).map_err(|error| {
        CliError::ours(format!("cannot listen for signals: {error}")).because(error)
    })?;
    let BuildOutcome { status, warnings } =
        build::run(request, opened, home, of_status, &mut face)?;
    for text in warnings {
        say(&format!("warning: {text}"));
    }
    match face.broken_output() {
        None => Ok(status),
        Some(error) => Err(CliError::ours(format!("{error}; the build itself: {status}"))),
    }
}

/// Services with their variables, the last of each name: typed options come after those of a file.
fn services(
    given: Vec<ServiceRequest>,
    variables: Vec<(String, (String, String))>,
    swaps: &[Swap],
) -> Result<Vec<ServiceRequest>, CliError> {
    let mut services: Vec<ServiceRequest> = Vec::new();
    for mut service in given {
        services.retain(|known| known.name != service.name);
        if let Some(image) = Swap::find(swaps, &service.image) {
            service.image = image.clone();
        }
        services.push(service);
    }
    for (name, variable) in variables {
        let service = services.iter_mut().find(|service| service.name == name);
        let none = || CliError::usage(format!("--service-env: there is no --service `{name}`"));
        service.ok_or_else(none)?.variables.push(variable);
    }
    Ok(services)
}

/// The fully resolved directory of `--source`.
pub(super) fn source(path: &Path) -> Result<PathBuf, CliError> {
    let source = std::fs::canonicalize(path).map_err(|error| {
        CliError::usage(format!("source directory {}: {error}", path.display()))
    })?;
    if !source.is_dir() {
        return Err(CliError::usage(format!("{} is not a directory", source.display())));
    }
    if source.to_str().is_none() {
        let message = format!("the path of the source is not UTF-8: {}", source.display());
        return Err(CliError::usage(message).hint("rename the directory, or copy it elsewhere"));
    }
    if source == Path::new("/") {
        return Err(CliError::usage("the source directory cannot be /")
            .hint("run in the directory of your project, or name it with --source"));
    }
    Ok(source)
}

/// Who requests the image from a registry: the caller, if they have chosen it.
fn asker(extras: &Extras) -> ImageRequester {
    match extras.is_image_untrusted {
        true => ImageRequester::Stranger { hint: UNTRUSTED_IMAGE.to_owned() },
        false => ImageRequester::Caller,
    }
}

/// The build's network access, unless other options contradict it.
fn network(args: &RunArgs, traits: &Traits) -> Result<NetworkAccess, CliError> {
    let network = match args.network {
        Some(NetworkName::Host) => NetworkAccess::Host,
        Some(NetworkName::None) => NetworkAccess::None,
        Some(NetworkName::Pasta) => NetworkAccess::Pasta,
        // A Docker daemon would change the firewall of the host's network.
        None if args.privileged && traits.networks => NetworkAccess::Pasta,
        None => NetworkAccess::Host,
    };
    if network != NetworkAccess::Host && !traits.networks {
        return Err(CliError::usage(format!(
            "--engine {} has no network but this machine's",
            traits.name
        ))
        .hint("leave out --network, or take an engine that has containers"));
    }
    if network == NetworkAccess::None && args.aws_profile.is_some() {
        return Err(CliError::usage(
            "--network none keeps the build from everything that --aws-profile is for",
        )
        .hint("leave out one of them"));
    }
    Ok(network)
}

/// Variables of the command line; later ones take precedence.
pub(super) fn variables(args: &RunArgs) -> Result<Variables, CliError> {
    let mut variables = Variables::new();
    if args.proxy {
        let is_proxy = |name: &str| {
            PROXY.iter().any(|proxy| name == *proxy || name == proxy.to_ascii_lowercase())
        };
        // Other variables need not be UTF-8.
        let as_text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        variables
            .extend(std::env::vars_os().filter_map(as_text).filter(|(name, _)| is_proxy(name)));
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

/// Variables that name a proxy; lower case counts too.
const PROXY: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// Keys whose results would not be collected, with the option that collects them.
fn uncollected(spec: &BuildSpec, has: [bool; 2]) -> Vec<&'static str> {
    let keys = [
        ("artifacts (name a place: --artifacts DIR)", spec.artifacts.is_some()),
        ("cache (name a place: --cache DIR)", spec.cache.is_some()),
    ];
    let wanted = keys.into_iter().zip(has).filter(|((_, is_there), has)| *is_there && !has);
    wanted.map(|((name, _), _)| name).collect()
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

/// The parts of the buildspec to skip.
fn skips(args: &RunArgs) -> Skips {
    let only = &args.only_phase;
    let is_skipped = |phase: &UserPhase| {
        let is = |name: &PhaseName| UserPhase::from(*name) == *phase;
        args.skip_phase.iter().any(is) || !only.is_empty() && !only.iter().any(is)
    };
    Skips {
        commands: args.skip.iter().map(|text| Glob::new(text)).collect(),
        phases: USER_PHASES.into_iter().filter(is_skipped).collect(),
    }
}

/// The last of each name: typed options come after those of a file.
fn stubs(given: Vec<Stub>) -> Vec<Stub> {
    let mut stubs: Vec<Stub> = Vec::new();
    for stub in given {
        stubs.retain(|known| known.name != stub.name);
        stubs.push(stub);
    }
    stubs
}
