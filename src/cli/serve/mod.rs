//! `runner serve`.

mod batch;
mod combine;
mod endpoint;
mod launch;

use super::certificates;
use super::error::{CliError, OURS};
use clap::Args;
use endpoint::{ServeError, ServeRequest};
use runner_engine::image::Swap;
use runner_host::runtime::limit_hint;
use runner_service::ServiceSettings;
use runner_service::db::{DatabaseOpenError, DbError};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `runner serve`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ServeArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4599")]
    listen: SocketAddr,
    /// Accept requests of your own programs with any signature or none; those of a build still need
    /// a valid one. Loopback addresses only
    #[arg(long)]
    no_auth: bool,
    /// Users and their policies [default: iam.json in the state folder, if present]
    #[arg(long, value_name = "FILE")]
    iam: Option<PathBuf>,
    /// Configuration of AWS's agent, as in amazon-ssm-agent.json (docs/agent-config.md) [default:
    /// that file in the state folder, if present]
    #[arg(long, value_name = "FILE")]
    agent_config: Option<PathBuf>,
    /// Allow sessions of AWS clients only if their preferences or their cluster name an existing
    /// log group or bucket
    #[arg(long)]
    require_session_log: bool,
    /// Maximum number of builds to run at once [default: the machine's processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_builds: Option<u16>,
    /// Maximum number of queued builds [default: 5 for each build of --max-builds]
    #[arg(long, value_name = "N")]
    max_queued: Option<u16>,
    /// Allow projects to use folders below DIR as sources (file:///DIR) and files below it as
    /// images
    #[arg(long, value_name = "DIR")]
    source_root: Option<PathBuf>,
    /// Use image TO wherever FROM is named
    #[arg(long, value_name = "FROM=TO", value_parser = str::parse::<Swap>)]
    image_map: Vec<Swap>,
    /// Also trust the certificates in this PEM file: for registries and AWS, and in the builds
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Send to AWS what projects send there: artifacts, caches and logs
    #[arg(long)]
    upload: bool,
    /// Rebuild the index of builds from their folders
    #[arg(long)]
    rebuild_index: bool,
}

/// Any program on this machine can reach the port.
const NO_PRIVILEGES: &str = "runner serve --no-auth starts no builds with privileges";

const HELP: &str = "\
AWS's clients see every build of this machine through it:

  aws codebuild create-project, start-build ...    projects and a queue (docs/service.md)
  aws codebuild start-build-batch ...              batches of a project's buildspec
  aws logs tail /aws/codebuild/PROJECT --follow    their logs, as they are written
  aws codebuild batch-get-builds --ids ID          the record; list-builds, stop-build
  aws ssm start-session --target codebuild:UUID    a shell; commands, ports and SSH by document
  aws ecs execute-command --task UUID ...          the build as a task of the cluster `default`
  aws ssm send-command --instance-ids mi-... ...   scripts in builds (docs/run-command.md)

Each call needs --endpoint-url, --region us-east-1 and the credentials that `serve` names when it
starts, or those of a user of iam.json (docs/access-control.md), who may do what their policies
allow. While `serve` runs, builds name it in their notices; without it, each build with
--enable-session has its own endpoint. When `serve` ends, its sessions end and the builds go on.";

/// Serves until it is stopped. Returns its exit code.
pub(super) fn serve(args: &ServeArgs) -> Result<u8, CliError> {
    if args.no_auth && !args.listen.ip().is_loopback() {
        return Err(CliError::usage("--no-auth is for loopback addresses only")
            .hint("leave out --listen, or --no-auth"));
    }
    if let Some(root) = args.source_root.as_deref().filter(|root| !root.is_dir()) {
        return Err(CliError::usage(format!("--source-root {}: not a folder", root.display()))
            .hint("name the folder that contains the sources of projects"));
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let max_builds = args.max_builds.map_or(processors, usize::from);
    let settings = ServiceSettings {
        max_builds,
        max_queued: args.max_queued.map_or(5 * max_builds, usize::from),
        source_root: args.source_root.clone(),
        no_privileges: args.no_auth.then_some(NO_PRIVILEGES),
    };
    let home = super::home::open()?;
    let request = ServeRequest {
        listen: args.listen,
        is_open: args.no_auth,
        users: args.iam.clone(),
        agent: super::home::agent(&home, args.agent_config.as_deref(), false)?,
        settings,
        image_map: args.image_map.clone(),
        certificates: args.ca_file.as_deref().map(certificates::trust).transpose()?,
        upload: args.upload,
        requires_log: args.require_session_log,
        rebuilds: args.rebuild_index,
    };
    endpoint::serve(&request, &home)?;
    Ok(0)
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let hint = match error {
            ServeError::State(error) => return error.into(),
            ServeError::Users(error) => return error.into(),
            ServeError::Runtime(error) => return error.into(),
            ServeError::Database(error) => return no_database(error),
            ServeError::Another { .. } => {
                Some("one is enough: it serves every build of this machine")
            }
            ServeError::Listen { .. } => Some("choose another address: --listen 127.0.0.1:0"),
            ServeError::Signals(_) => None,
        };
        CliError::of(OURS, error).hints(hint)
    }
}

/// The error of a missing database.
pub(super) fn no_database(error: DatabaseOpenError) -> CliError {
    let hint = match &error {
        DatabaseOpenError::Newer { .. } => {
            Some("use the newer runner; this one has touched nothing")
        }
        DatabaseOpenError::Other { .. } => Some("use the runner that serves, or stop it"),
        DatabaseOpenError::Io(error) if limit_hint(error).is_some() => limit_hint(error),
        DatabaseOpenError::Db(DbError::Full) => {
            Some("free some space, or set RUNNER_HOME to a directory on another disk")
        }
        _ => Some("set RUNNER_HOME to a directory on a local disk"),
    };
    CliError::of(OURS, error).hints(hint)
}
