//! `runner cache`: lists and removes caches.

use super::error::{CliError, OURS};
use super::values::{self, OutputFormat};
use super::{certificates, notice, say};
use clap::{Args, Subcommand};
use runner_cloud::CloudIdentity;
use runner_core::event::Notice;
use runner_core::plain;
use runner_outputs::cache::{CacheBucket, CacheFolder, LARGEST, ListedCache, OLDEST, Pruned};
use runner_outputs::{OutputError, OutputStore};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Maximum failed objects named individually; the rest are counted.
const TOLD: usize = 10;

/// Verbs of `runner cache`.
#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// List caches in local folders and in buckets
    Ls(CacheLsArgs),
    /// Remove caches unused for long, and beyond a size limit the least recently used ones
    ///
    /// A bucket does not record uses: there, the time is when a cache was saved. Builds may restore
    /// and save caches meanwhile. Leftover uploads of runners that were killed more than a day ago
    /// are removed, too.
    Prune(PruneArgs),
}

/// Selects caches by place.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Folders and buckets, as given to `runner run --cache` [default: all folders that this user's
    /// builds have used]
    #[arg(value_name = "DIR|s3://...", value_parser = values::as_typed)]
    places: Vec<OutputStore>,
    /// Folder or bucket, like the argument
    #[arg(long, value_name = "DIR|s3://...", value_parser = values::as_typed)]
    cache: Vec<OutputStore>,
    /// AWS credentials for buckets: those of a profile or, with `env`, those in your environment
    /// variables
    #[arg(long, value_name = "NAME|env")]
    aws_profile: Option<String>,
    /// Also trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Options of `runner cache ls`.
#[derive(Debug, Args)]
pub(super) struct CacheLsArgs {
    #[command(flatten)]
    of: PlaceArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Options of `runner cache prune`.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    of: PlaceArgs,
    /// Remove caches that were not used for this long [default: 30 days]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    unused: Option<Duration>,
    /// Keep at most this much per folder or bucket [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    keep: Option<u64>,
    /// Remove all caches
    #[arg(long, conflicts_with_all = ["unused", "keep"])]
    all: bool,
}

/// Runs the subcommand.
pub(super) fn cache(verb: CacheVerb) -> Result<u8, CliError> {
    let home = super::home::open()?;
    let places = |args: PlaceArgs| -> Result<CachePlaces, CliError> {
        let mut stores: Vec<OutputStore> = args.places.into_iter().chain(args.cache).collect();
        match stores.is_empty() {
            true => stores.extend(home.cache_folders().into_iter().map(OutputStore::Folder)),
            false => check(&stores)?,
        }
        if let Some(path) = &args.ca_file {
            certificates::trust(path)?;
        }
        let identity = args.aws_profile.as_deref().map_or(CloudIdentity::Default, values::identity);
        Ok(CachePlaces { stores, identity })
    };
    let runtime = runner_host::runtime::start()?;
    match verb {
        CacheVerb::Ls(args) => {
            let rows = runtime.block_on(places(args.of)?.list())?;
            print(&match args.format {
                OutputFormat::Json => as_json(&rows),
                OutputFormat::Text => as_text(rows),
            })?;
        }
        CacheVerb::Prune(args) => {
            let (before, most) = match args.all {
                true => (SystemTime::now() + OLDEST, 0),
                false => (
                    SystemTime::now() - args.unused.unwrap_or(OLDEST),
                    args.keep.unwrap_or(LARGEST),
                ),
            };
            runtime.block_on(places(args.of)?.prune(before, most))?;
        }
    }
    Ok(0)
}

/// Checks that folders exist. Buckets are checked by the calls to them.
fn check(stores: &[OutputStore]) -> Result<(), CliError> {
    for store in stores {
        if let OutputStore::Folder(folder) = store
            && !folder.is_dir()
        {
            return Err(CliError::usage(format!("there is no folder {}", folder.display()))
                .hint("name one that was given to runner run --cache"));
        }
    }
    Ok(())
}

/// The places to search, and the identity for buckets.
struct CachePlaces {
    stores: Vec<OutputStore>,
    identity: CloudIdentity,
}

impl CachePlaces {
    /// All caches, each with its place.
    async fn list(&self) -> Result<Vec<(String, ListedCache)>, CliError> {
        let mut rows = Vec::new();
        for store in &self.stores {
            let listed = match store {
                OutputStore::Folder(path) => CacheFolder::new(path)?.list()?,
                OutputStore::Bucket(location) => {
                    CacheBucket::new(location.clone(), &self.identity).await.list().await?
                }
            };
            rows.extend(listed.into_iter().map(|entry| (store.to_string(), entry)));
        }
        Ok(rows)
    }

    /// Prunes each place, even after failures, and reports the result.
    async fn prune(&self, before: SystemTime, most: u64) -> Result<(), CliError> {
        let mut failed = Vec::new();
        for store in &self.stores {
            let pruned = match store {
                OutputStore::Folder(path) => {
                    let folder = CacheFolder::new(path);
                    folder.and_then(|folder| folder.prune(before, most)).map(Pruned::from)
                }
                OutputStore::Bucket(location) => {
                    let bucket = CacheBucket::new(location.clone(), &self.identity).await;
                    bucket.prune(before, most).await
                }
            };
            match pruned {
                Ok(pruned) => failed.extend(tell(store, pruned)),
                Err(error) => failed.push(CliError::from(error)),
            }
        }
        let Some(last) = failed.pop() else { return Ok(()) };
        for error in &failed {
            error.print();
        }
        Err(last)
    }
}

/// Reports the result for one place. Returns the failures: what could not be removed or reported.
fn tell(store: &OutputStore, pruned: Pruned) -> Vec<CliError> {
    let Pruned { removed, renewed, failures, abandoned } = pruned;
    let bytes = removed.iter().map(|entry| entry.bytes).sum();
    let size = indicatif::BinaryBytes(bytes);
    let said = print(&format!("{store}: {} removed, {size}\n", removed.len()));
    if renewed > 0 {
        say(&format!("{store}: {renewed} not removed, since they were just saved again"));
    }
    match abandoned {
        Ok(0) => {}
        Ok(count) => say(&format!("{store}: {count} abandoned upload(s) removed")),
        Err(error) => {
            let text = format!("{store}: what killed runners have left there stays: {error}");
            notice(&Notice::warning(text).with_hint(error.hint()));
        }
    }
    let mut lines: Vec<String> = failures.iter().take(TOLD).map(ToString::to_string).collect();
    match failures.len().saturating_sub(TOLD) {
        0 => {}
        more => lines.push(format!("and {more} more like these")),
    }
    let mut hints: Vec<String> = failures.iter().filter_map(OutputError::hint).collect();
    hints.sort();
    hints.dedup();
    let error = CliError::ours(format!("not all of {store} is pruned: {}", lines.join("; ")));
    let failed = (!failures.is_empty()).then(|| hints.into_iter().fold(error, CliError::hint));
    said.err().into_iter().chain(failed).collect()
}

fn as_json(rows: &[(String, ListedCache)]) -> String {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let list: Vec<_> = rows
        .iter()
        .map(|(place, entry)| {
            json!({
                "id": entry.id, "folder": place, "project": entry.project, "key": entry.key,
                "paths": entry.paths, "files": entry.files, "bytes": entry.bytes,
                "createdMs": entry.created, "usedS": seconds(entry.used),
            })
        })
        .collect();
    plain::json(&format!("{}\n", json!(list))).into_owned()
}

fn as_text(rows: Vec<(String, ListedCache)>) -> String {
    let mut cells = vec![["PROJECT", "KEY", "FILES", "SIZE", "USED", "FOLDER"].map(str::to_owned)];
    cells.extend(rows.into_iter().map(|(place, entry)| {
        let ago = SystemTime::now().duration_since(entry.used).unwrap_or_default();
        [
            plain::name(entry.project.as_bytes()),
            entry.key.map_or_else(|| "-".to_owned(), |key| plain::name(key.as_bytes())),
            entry.files.to_string(),
            indicatif::BinaryBytes(entry.bytes).to_string(),
            format!("{} ago", indicatif::HumanDuration(ago)),
            plain::name(place.as_bytes()),
        ]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let lines = cells.iter().map(|row| {
        let padded: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn print(text: &str) -> Result<u8, CliError> {
    super::answer(text)
}

impl From<OutputError> for CliError {
    fn from(error: OutputError) -> Self {
        let hint = error.hint();
        CliError::of(OURS, error).hints(hint)
    }
}
