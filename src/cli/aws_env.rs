//! `runner aws-env`: shell commands that set up AWS's own clients.
//!
//! It prints where the keys are, not the keys themselves, like the notice of a pause.

use super::error::{CliError, OURS};
use super::home::open;
use crate::terminal::{no_proxy, word};
use clap::Args;
use runner_client::Client;
use runner_cloud::REGION;
use runner_folder::state::{BuildLookupError, BuildNeed, Home, find, live_serve};
use runner_serve::aws::{KeyPair, PROFILE};
use runner_wire::control::{ControlRequest, ControlResponse};

/// Options of `runner aws-env`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct AwsEnvArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
}

const HELP: &str = "\
Use it so:

  eval \"$(runner aws-env)\"
  aws codebuild batch-get-builds --ids ID
  aws ssm start-session --target codebuild:UUID

The endpoint is that of `runner serve`, or that of a live build with --enable-session. From then on,
that shell no longer uses your own AWS credentials.";

/// Variables that take precedence over a profile's credentials.
const STRONGER: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Prints the exports.
pub(super) fn aws_env(args: &AwsEnvArgs) -> Result<u8, CliError> {
    let home = open()?;
    let address = address(&home, args.build.name())?;
    let keys = KeyPair::existing(&home).map_err(|error| CliError::of(OURS, error))?;
    let Some(keys) = keys else {
        return Err(
            CliError::ours("the endpoint has no keys").hint("to create them again: runner serve")
        );
    };
    let mut lines = String::new();
    // Change only variables of the caller's shell that are in the way.
    let set = STRONGER.into_iter().filter(|name| std::env::var_os(name).is_some());
    let set: Vec<&str> = set.collect();
    if !set.is_empty() {
        lines.push_str(&format!("unset {}\n", set.join(" ")));
    }
    let keys = keys.path().display().to_string();
    let exports = [
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_SHARED_CREDENTIALS_FILE", keys),
        ("AWS_PROFILE", PROFILE.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
    ];
    let proxy = no_proxy(&address).map(|list| ("no_proxy", list));
    for (name, value) in exports.into_iter().chain(proxy) {
        lines.push_str(&format!("export {name}={}\n", word(&value)));
    }
    super::answer(lines)
}

/// The endpoint's address for one build, or for every build.
pub(super) fn address(home: &Home, build: Option<&str>) -> Result<String, CliError> {
    let serve = live_serve(home).map(|serving| serving.address);
    if let (None, Some(address)) = (build, &serve) {
        return Ok(address.clone());
    }
    let known = match find(home, build, BuildNeed::Live) {
        Err(error @ BuildLookupError::NoneLive) => {
            return Err(CliError::from(error).hint("an endpoint for all builds: runner serve"));
        }
        found => found?,
    };
    let ControlResponse::Status(status) =
        Client::connect(&known.dir)?.ask(&ControlRequest::Status)?
    else {
        return Err(CliError::ours("the build does not report its status"));
    };
    status.endpoint.or(serve).ok_or_else(|| {
        CliError::usage(format!("build {} has no endpoint for AWS's clients", known.id)).hint(
            "builds with --enable-session have one; or start runner serve, which serves them all",
        )
    })
}
