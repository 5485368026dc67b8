//! `runner serve`.

mod endpoint;

use super::error::{CliError, OURS};
use clap::Args;
use endpoint::{ServeError, ServeRequest};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `runner serve`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ServeArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4599")]
    listen: SocketAddr,
    /// Your own programs need no signature, or any; those of a build need the right one. Loopback only
    #[arg(long)]
    no_auth: bool,
    /// Users and their policies [default: iam.json in the state folder, if there is one]
    #[arg(long, value_name = "FILE")]
    iam: Option<PathBuf>,
}

const HELP: &str = "\
AWS's clients see every build of this machine through it:

  aws codebuild batch-get-builds --ids ID          the record; list-builds, stop-build
  aws ssm start-session --target codebuild:UUID    a shell; commands, ports and SSH by document
  aws ecs execute-command --task UUID ...          the build as a task of the cluster `default`

each with --endpoint-url, --region us-east-1 and the credentials that are named at the
start, or those of a user of iam.json (docs/access-control.md), who may do what their
policies allow. While it runs, builds name it in their notices; without it each build with
--enable-session has an endpoint of its own. When it ends, its sessions end and builds go on.";

/// Serves until it is stopped; its exit code.
pub(super) fn serve(args: &ServeArgs) -> Result<u8, CliError> {
    if args.no_auth && !args.listen.ip().is_loopback() {
        return Err(CliError::usage("--no-auth is for loopback addresses only")
            .hint("leave out --listen, or --no-auth"));
    }
    let request =
        ServeRequest { listen: args.listen, is_open: args.no_auth, users: args.iam.clone() };
    endpoint::serve(&request, &super::home::open()?)?;
    Ok(0)
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let hint = match error {
            ServeError::State(error) => return error.into(),
            ServeError::Users(error) => return error.into(),
            ServeError::Runtime(error) => return error.into(),
            ServeError::Another { .. } => {
                Some("one is enough: it serves every build of this machine")
            }
            ServeError::Listen { .. } => Some("choose another address: --listen 127.0.0.1:0"),
            ServeError::Signals(_) => None,
        };
        CliError::of(OURS, error).hints(hint)
    }
}
