//! `runner cache`: what builds have left for the next ones, listed and removed.

use super::error::CliError;
use super::values;
use crate::outputs::OutputError;
use crate::outputs::cache::{CacheFolder, LARGEST, Listed, OLDEST};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Verbs of `runner cache`.
#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// Caches in folders of this machine
    Ls(LsArgs),
    /// Remove caches that nobody has used for long, and beyond a size those not used for longest
    Prune(PruneArgs),
}

/// Options of `runner cache ls`.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Folders, as given to `runner run --cache` [default: all that builds of this user have used]
    folders: Vec<PathBuf>,
    /// How they are listed
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

/// Options of `runner cache prune`.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Folders, as given to `runner run --cache` [default: all that builds of this user have used]
    folders: Vec<PathBuf>,
    /// Remove what was not used for so long [default: 30 days]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    unused: Option<Duration>,
    /// Keep no more than this in a folder [default: 10G]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    keep: Option<u64>,
    /// Remove all of them
    #[arg(long, conflicts_with_all = ["unused", "keep"])]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    Text,
    Json,
}

/// Does it.
pub(super) fn cache(verb: CacheVerb) -> Result<u8, CliError> {
    let home = super::home::open()?;
    let folders = |named: Vec<PathBuf>| -> Result<Vec<PathBuf>, CliError> {
        if named.is_empty() { Ok(home.cache_folders()) } else { checked(named) }
    };
    match verb {
        CacheVerb::Ls(args) => list(&folders(args.folders)?, args.format),
        CacheVerb::Prune(args) => {
            let (before, most) = match args.all {
                true => (SystemTime::now() + OLDEST, 0),
                false => (
                    SystemTime::now() - args.unused.unwrap_or(OLDEST),
                    args.keep.unwrap_or(LARGEST),
                ),
            };
            let mut text = String::new();
            for path in folders(args.folders)? {
                let removed = CacheFolder::new(path.clone()).prune(before, most)?;
                let bytes = removed.iter().map(|entry| entry.facts.bytes).sum();
                let size = indicatif::BinaryBytes(bytes);
                text.push_str(&format!("{}: {} removed, {size}\n", path.display(), removed.len()));
            }
            print(&text)
        }
    }
}

/// Folders that are there.
fn checked(folders: Vec<PathBuf>) -> Result<Vec<PathBuf>, CliError> {
    for folder in &folders {
        if !folder.is_dir() {
            return Err(CliError::usage(format!("there is no folder {}", folder.display()))
                .hint("name one that was given to runner run --cache"));
        }
    }
    Ok(folders)
}

fn list(folders: &[PathBuf], format: ListFormat) -> Result<u8, CliError> {
    let mut rows: Vec<(String, Listed)> = Vec::new();
    for path in folders {
        let listed = CacheFolder::new(path.clone()).list()?;
        rows.extend(listed.into_iter().map(|entry| (path.display().to_string(), entry)));
    }
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if format == ListFormat::Json {
        let list: Vec<_> = rows
            .iter()
            .map(|(folder, Listed { id, facts, used })| {
                json!({
                    "id": id, "folder": folder, "project": facts.project, "key": facts.key,
                    "paths": facts.paths, "files": facts.files, "bytes": facts.bytes,
                    "createdMs": facts.created, "usedS": seconds(*used),
                })
            })
            .collect();
        return print(&format!("{}\n", json!(list)));
    }
    let mut cells = vec![["PROJECT", "KEY", "FILES", "SIZE", "USED", "FOLDER"].map(str::to_owned)];
    cells.extend(rows.into_iter().map(|(folder, Listed { facts, used, .. })| {
        let ago = SystemTime::now().duration_since(used).unwrap_or_default();
        [
            facts.project,
            facts.key.unwrap_or_else(|| "-".to_owned()),
            facts.files.to_string(),
            indicatif::BinaryBytes(facts.bytes).to_string(),
            format!("{} ago", indicatif::HumanDuration(ago)),
            folder,
        ]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let lines = cells.iter().map(|row| {
        let padded: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    });
    print(&lines.collect::<String>())
}

fn print(text: &str) -> Result<u8, CliError> {
    // A closed standard output has no reader to disappoint.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(0)
}

impl From<OutputError> for CliError {
    fn from(error: OutputError) -> Self {
        let cli = CliError::ours(error.to_string());
        match error.hint() {
            Some(hint) => cli.hint(hint),
            None => cli,
        }
    }
}
