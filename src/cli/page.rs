//! `runner page`: prints a fresh link to the page.

use super::aws_env::address;
use super::error::{CliError, OURS, USAGE};
use super::home::open;
use crate::terminal::{is_ci, page_link};
use clap::Args;
use runner_folder::state::{BuildNeed, LinkFor, find, live_serve};

/// Options of `runner page`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct PageArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Print a read-only link to this build alone, to give to someone else on this machine
    #[arg(long)]
    read_only: bool,
}

const HELP: &str = "\
The page is that of `runner serve`, or that of a live build with --enable-session. A link works
once, within ten minutes; after that, the browser stays signed in for twelve hours. The page opens
on this machine only. From another machine:

  ssh -L 4599:127.0.0.1:4599 MACHINE        and the link as it is";

/// Prints a link.
pub(super) fn page(args: &PageArgs) -> Result<u8, CliError> {
    if is_ci() {
        let text =
            "a link to the page is not printed under CI=true: readers of the log could open it";
        return Err(CliError::new(USAGE, text));
    }
    let home = open()?;
    let need = if args.read_only { BuildNeed::Reading } else { BuildNeed::Any };
    let known = match (args.build.name(), args.read_only) {
        (None, false) => None,
        (name, _) => Some(find(&home, name, need)?),
    };
    // A build's endpoint ends with the build.
    let has_ended = known.as_ref().is_some_and(|known| !known.is_live);
    let address = match live_serve(&home).filter(|_| has_ended) {
        Some(serving) => serving.address,
        None => address(&home, args.build.name())?,
    };
    let uuid = known.map(|known| known.uuid);
    let r#for = match (&uuid, args.read_only) {
        (Some(uuid), true) => LinkFor::Reader(uuid.clone()),
        _ => LinkFor::Owner,
    };
    let link = page_link(&home, &address, r#for, uuid.as_deref());
    match link.map_err(|error| CliError::new(OURS, format!("cannot make a link: {error}")))? {
        Some(link) => super::answer(format!("{link}\n")),
        None => Err(CliError::usage(format!(
            "the endpoint listens on {address}, which others can reach"
        ))
        .hint("the page is for this machine only: runner serve without --listen")),
    }
}
