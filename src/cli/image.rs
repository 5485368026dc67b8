//! `runner image`: pulls, imports, lists and removes images.

use super::error::{CliError, OURS};
use super::{certificates, values};
use clap::{Args, Subcommand, ValueEnum};
use runner_cloud::{CloudIdentity, ecr};
use runner_core::plain;
use runner_engine::image::{
    Freed, Getter, Image, ImageError, ImageRequester, ImageStore, MOST_BYTES, PullProgress,
};
use runner_host::signals::{STOPS, SignalReader};
use runner_host::users;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// How long an interrupted pull may take to discard what it has begun.
const GIVING_UP: Duration = Duration::from_secs(5);

/// Verbs of `runner image`.
#[derive(Debug, Subcommand)]
pub(super) enum ImageVerb {
    /// Pull an image from its registry, or update it to a newer one of that name
    Pull(PullArgs),
    /// Import an image from local files: oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE
    Import(ImageImportArgs),
    /// List images in the store
    Ls(ImageLsArgs),
    /// Remove images, and data of theirs that no other image uses
    Rm(RmArgs),
    /// Remove data that no image uses, including leftovers of killed pulls
    Prune,
}

/// Options of `runner image pull`.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Image name, as docker takes it
    #[arg(value_parser = str::parse::<Image>)]
    image: Image,
    #[command(flatten)]
    get: GetArgs,
}

/// Options of `runner image import`.
#[derive(Debug, Args)]
pub(super) struct ImageImportArgs {
    /// Image to import
    #[arg(value_parser = str::parse::<Image>)]
    source: Image,
    /// Name for the image [default: its source]
    #[arg(value_parser = str::parse::<Image>)]
    name: Option<Image>,
    #[command(flatten)]
    get: GetArgs,
}

/// Options for fetching images.
#[derive(Debug, Args)]
struct GetArgs {
    /// Refuse layers that unpack to more than this
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    max_layer_size: Option<u64>,
    /// AWS credentials for ECR registries: those of a profile or, with `env`, those in your
    /// environment variables
    #[arg(long, value_name = "NAME|env")]
    aws_profile: Option<String>,
    /// Also trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print only errors on standard error
    #[arg(short, long)]
    quiet: bool,
}

/// Options of `runner image ls`.
#[derive(Debug, Args)]
pub(super) struct ImageLsArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    Text,
    Json,
}

/// Options of `runner image rm`.
#[derive(Debug, Args)]
pub(super) struct RmArgs {
    /// Image names, as `runner image ls` shows them or as they were typed
    #[arg(required = true)]
    images: Vec<String>,
}

/// Runs the subcommand. Returns its exit code.
pub(super) fn image(verb: ImageVerb) -> Result<u8, CliError> {
    let home = super::home::open()?;
    let store = ImageStore::new(home.images());
    match verb {
        ImageVerb::Pull(PullArgs { image, get }) => {
            if !matches!(image, Image::Registry(_)) {
                return Err(CliError::usage(format!("{image} is not in a registry"))
                    .hint("an image in files of this machine: runner image import"));
            }
            fetch(store, &image, None, &get, true)
        }
        ImageVerb::Import(ImageImportArgs { source, name, get }) => {
            if matches!(source, Image::Registry(_) | Image::Host | Image::Rootfs(_)) {
                return Err(CliError::usage(format!("{source} is nothing to import")).hint(
                    "write oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE; from a registry: \
                     runner image pull; a root file system is used as it is: --image rootfs:DIR",
                ));
            }
            if let Some(name) = name.as_ref().filter(|name| !matches!(name, Image::Registry(_))) {
                return Err(CliError::usage(format!("`{name}` cannot be the name of an image"))
                    .hint("write it like one of a registry: NAME[:TAG]"));
            }
            fetch(store, &source, name.map(|name| name.to_string()), &get, false)
        }
        ImageVerb::Ls(args) => list(&store, &args),
        ImageVerb::Rm(args) => remove(&store, &args),
        ImageVerb::Prune => prune(&store),
    }
}

fn fetch(
    store: ImageStore,
    image: &Image,
    name: Option<String>,
    args: &GetArgs,
    refresh: bool,
) -> Result<u8, CliError> {
    if let Some(path) = &args.ca_file {
        certificates::trust(path)?;
    }
    let identity = args.aws_profile.as_deref().map_or(CloudIdentity::Default, values::identity);
    let quiet = args.quiet;
    let getter = Getter {
        store,
        asker: ImageRequester::Caller,
        ecr: ecr::passwords(identity),
        progress: PullProgress { is_visible: io::stderr().is_terminal() && !quiet, curtain: None },
        tell: Arc::new(move |note| {
            if !quiet {
                super::say(&note.to_string());
            }
        }),
        most_bytes: args.max_layer_size.unwrap_or(MOST_BYTES),
        given_up: Arc::default(),
    };
    let signals = SignalReader::listen(&STOPS)
        .map_err(|error| CliError::ours(format!("cannot listen for signals: {error}")))?;
    let runtime = runner_host::runtime::start()?;
    let users = users::maps();
    let got = runtime.block_on(async {
        let mut signals = signals.stream().map_err(|error| CliError::of(OURS, error))?;
        let mut got = std::pin::pin!(getter.get(image, name.as_deref(), users.first(), refresh));
        let signal = tokio::select! {
            got = &mut got => return Ok(got?),
            signal = signals.next() => signal,
        };
        // Do not die of the signal, so that nothing incomplete is left; but do not wait for long
        // either.
        getter.given_up.notify_one();
        let ended = tokio::select! {
            got = &mut got => got.ok(),
            _ = signals.next() => None,
            () = tokio::time::sleep(GIVING_UP) => None,
        };
        // The work may have ended at the same moment.
        ended.ok_or_else(|| CliError::new(super::error::of_signal(signal), "interrupted"))
    });
    // Threads that still read end with this program.
    runtime.shutdown_background();
    let got = got?;
    let shown = name.unwrap_or_else(|| image.to_string());
    print(&format!(
        "{shown} {}{}\n",
        got.digest(),
        if got.new_layers == 0 { " (up to date)" } else { "" }
    ))
}

fn list(store: &ImageStore, args: &ImageLsArgs) -> Result<u8, CliError> {
    let list = store.list().map_err(store_failed)?;
    let trees = store.trees().map_err(store_failed)?;
    let text = match args.format {
        ListFormat::Json => {
            let list: Vec<_> = list
                .iter()
                .map(|(named, bytes)| {
                    json!({"name": named.name, "digest": named.digest, "bytes": bytes,
                           "pulledMs": named.pulled_ms})
                })
                .chain(trees.iter().map(|tree| {
                    let used = tree.used.duration_since(UNIX_EPOCH).unwrap_or_default();
                    json!({"name": tree.name, "bytes": tree.bytes, "usedMs": used.as_millis() as u64})
                }))
                .collect();
            plain::json(&format!("{}\n", json!(list))).into_owned()
        }
        ListFormat::Text => {
            let mut rows: Vec<(&str, String, u64)> = list
                .iter()
                .map(|(named, bytes)| {
                    (named.name.as_str(), named.digest.short().to_owned(), *bytes)
                })
                .collect();
            rows.extend(trees.iter().map(|tree| {
                (tree.name.as_deref().unwrap_or("(half unpacked)"), "-".to_owned(), tree.bytes)
            }));
            let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max(4);
            let mut text = format!("{:width$}  {:12}  {:>10}\n", "NAME", "DIGEST", "SIZE");
            for (name, digest, bytes) in rows {
                let (name, size) = (plain::line(name), indicatif::BinaryBytes(bytes).to_string());
                text.push_str(&format!("{name:width$}  {digest:12}  {size:>10}\n"));
            }
            text
        }
    };
    print(&text)
}

fn remove(store: &ImageStore, args: &RmArgs) -> Result<u8, CliError> {
    let (mut unknown, mut in_use) = (Vec::new(), Vec::new());
    let mut removed = Freed::default();
    for name in &args.images {
        let (freed, is_tree, used) = forget_trees(store, name).map_err(store_failed)?;
        removed.trees += freed.trees;
        removed.bytes += freed.bytes;
        if used > 0 {
            in_use.push(name.as_str());
        }
        if is_tree {
            continue;
        }
        // As listed, otherwise as typed.
        let typed = name.parse::<Image>().map(|image| image.to_string());
        let is_gone = store.forget(name).map_err(store_failed)?
            || matches!(typed, Ok(typed) if store.forget(&typed).map_err(store_failed)?);
        if !is_gone {
            unknown.push(name.as_str());
        }
    }
    prune_after(store, removed)?;
    if !in_use.is_empty() {
        return Err(CliError::ours(format!("in use by a build: {}", in_use.join(", "))));
    }
    if unknown.is_empty() {
        return Ok(0);
    }
    Err(CliError::usage(format!("no such image: {}", unknown.join(", ")))
        .hint("those there are: runner image ls"))
}

/// Removes the trees of a tar, named as listed or as typed.
fn forget_trees(store: &ImageStore, name: &str) -> io::Result<(Freed, bool, usize)> {
    let listed = store.forget_trees(name)?;
    match name.parse() {
        Ok(Image::Rootfs(path)) if !listed.1 => {
            let path = std::fs::canonicalize(&path).unwrap_or(path);
            store.forget_trees(&Image::Rootfs(path).to_string())
        }
        _ => Ok(listed),
    }
}

fn prune(store: &ImageStore) -> Result<u8, CliError> {
    prune_after(store, Freed::default())
}

/// Prunes, and reports the total together with `removed`.
fn prune_after(store: &ImageStore, removed: Freed) -> Result<u8, CliError> {
    let wait = || super::say("waiting for a pull to end");
    let freed = store.prune(wait).map_err(store_failed)?;
    let size = indicatif::BinaryBytes(freed.bytes + removed.bytes);
    let trees = match freed.trees + removed.trees {
        0 => String::new(),
        1 => " and 1 root file system".to_owned(),
        several => format!(" and {several} root file systems"),
    };
    print(&format!("{} layers{trees} removed, {size} freed\n", freed.layers))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn store_failed(error: io::Error) -> CliError {
    CliError::ours(format!("cannot use the image store: {error}"))
        .because(error)
        .hint("look at the folder `images` of the state folder")
}

fn print(text: &str) -> Result<u8, CliError> {
    super::answer(text)
}

impl From<ImageError> for CliError {
    fn from(error: ImageError) -> Self {
        let hint = error.hint.clone();
        CliError::of(OURS, error).hints(hint)
    }
}
