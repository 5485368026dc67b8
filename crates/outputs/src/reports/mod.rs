//! Reports: test and coverage files, read from the container and turned into reports.
//!
//! Called by the driver in UPLOAD_ARTIFACTS, after the artifacts, also after a failed BUILD. As in
//! AWS, a rejected file fails the phase, and so does a group without files (docs/adr/0066), even if
//! no copy was requested.

mod reader;

use super::OutputError;
use super::artifacts::{Collector, begin, choice};
use super::folder::{FolderKeeper, OutputDirectory, Staging};
use super::listing::{Links, list};
use super::meter::Meter;
use super::transfer::Chosen;
use reader::{RawKeeper, ReportReader};
use runner_core::artifact::Packaging;
use runner_core::machine::MachineInput;
use runner_core::mask::Secrets;
use runner_core::phase::PhaseContext;
use runner_core::report::{
    self, ReportDetails, ReportFormat, ReportGroupReader, ReportType, ReportVerdict,
};
use runner_core::select::FilePattern;
use runner_core::spec::{Artifact, ReportGroup};
use runner_host::beneath::Dir;
use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long CodeBuild searches for reports that the buildspec does not name.
const DISCOVERY: Duration = Duration::from_secs(5);
/// Maximum bytes read of one file in such a search, and of all files together.
const MAX_DISCOVERED: u64 = 16 << 20;
const MAX_DISCOVERED_IN_ALL: u64 = 256 << 20;
/// Most files of a report.
const MAX_FILES: usize = 20_000;
/// Directories that contain other people's reports.
const FOREIGN: [&[u8]; 2] = [b"node_modules", b".git"];
/// Variable with which a build controls the search.
const DISCOVER: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER";
const DISCOVER_DIR: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER_DIR";

/// What to do with reports.
#[derive(Clone, Debug)]
pub struct Reports {
    /// The build's own folder, in which reports are kept.
    pub kept: PathBuf,
    /// Where to copy the reports and the original files, if requested.
    pub dir: Option<PathBuf>,
    /// Whether to search for reports that the buildspec does not name.
    pub discovers: bool,
    pub project: String,
    /// Values that no report may show.
    pub secrets: Secrets,
    /// Current time, in seconds since 1970.
    pub created: f64,
}

/// A group and its names.
struct NamedGroup {
    group: ReportGroupReader,
    arn: String,
    group_arn: String,
    /// Name of the group's folder.
    folder: String,
}

/// Where reports go besides the build's own folder.
struct ReportCopies {
    place: Option<OutputDirectory>,
    /// Folder names already used, there and in the build's folder.
    taken: HashSet<String>,
}

impl Reports {
    /// Reads the reports of the groups or, if none is named, the reports it can find.
    pub async fn collect(
        &self,
        collector: &Collector,
        groups: &[ReportGroup],
    ) -> Result<(), PhaseContext> {
        let staging = self.staging(&collector.at.build);
        let staging = match staging {
            Ok(staging) => staging,
            Err(error) => {
                // The reports are still read and shown.
                collector.at.teller.warn(format!("reports are not written: {error}")).await;
                None
            }
        };
        let (staging, place) = staging.unzip();
        let mut copies = ReportCopies { place, taken: HashSet::new() };
        let mut verdict = ReportVerdict::default();
        if groups.is_empty() && self.discovers {
            self.discover(collector, &mut copies).await;
        }
        for group in groups {
            self.one(collector, group, &mut copies, &mut verdict).await;
        }
        if let Some(staging) = staging {
            let moved = tokio::task::spawn_blocking(move || staging.move_in(INNER, b""));
            if let Err(error) = moved.await.unwrap_or(Ok(())) {
                collector.at.teller.warn(format!("reports are not written: {error}")).await;
            }
        }
        if !verdict.missing.is_empty() {
            let text = format!(
                "no matching report paths found: {}; patterns are relative to {} and base-directory",
                verdict.missing.join(", "),
                collector.at.source
            );
            collector.at.teller.warn(text).await;
        }
        verdict.context().map_or(Ok(()), Err)
    }

    /// The staging place, and the directory in it to fill.
    fn staging(&self, build: &str) -> Result<Option<(Staging, OutputDirectory)>, OutputError> {
        let make = |dir: &PathBuf| {
            let staging = Staging::make(dir, &name(build))?;
            let place = staging.inner().within(INNER)?;
            Ok((staging, place))
        };
        self.dir.as_ref().map(make).transpose()
    }

    /// Where a group's original files are copied, if requested.
    fn raw(
        &self,
        collector: &Collector,
        copies: &ReportCopies,
        folder: &str,
    ) -> Result<Option<RawKeeper>, OutputError> {
        let (Some(to), Some(dir)) = (&copies.place, &self.dir) else { return Ok(None) };
        let place = to.within(folder)?.within("raw")?;
        Ok(Some(RawKeeper {
            keeper: FolderKeeper::new(place, Meter::default()),
            secrets: self.secrets.clone(),
            sources: collector.at.sources.clone(),
            dir: dir.clone(),
            path: format!("{folder}/raw").into_bytes(),
            left_out: Vec::new(),
        }))
    }

    fn named(
        &self,
        collector: &Collector,
        copies: &mut ReportCopies,
        written: &str,
        format: ReportFormat,
    ) -> NamedGroup {
        let written = collector.at.values.expand(written);
        // arn:aws:codebuild:<region>:<account>:build/...
        let owner: Vec<&str> = collector.arn.split(':').take(5).collect();
        let owner = owner.join(":");
        let (name, group_arn) = match written.rsplit_once("report-group/") {
            Some((_, name)) if written.starts_with("arn:") => (name.to_owned(), written.clone()),
            _ => {
                let name = format!("{}-{written}", self.project);
                let arn = format!("{owner}:report-group/{name}");
                (name, arn)
            }
        };
        let arn = format!("{owner}:report/{name}:{}", uuid::Uuid::new_v4());
        let folder = copies.folder(&name);
        NamedGroup { group: ReportGroupReader::new(name, format), arn, group_arn, folder }
    }

    /// Processes one group of the buildspec.
    async fn one(
        &self,
        collector: &Collector,
        wanted: &ReportGroup,
        copies: &mut ReportCopies,
        verdict: &mut ReportVerdict,
    ) {
        let format = ReportFormat::from_name(&wanted.format).unwrap_or(ReportFormat::JunitXml);
        let mut named = self.named(collector, copies, &wanted.group, format);
        let kind = match format.kind() {
            ReportType::Test => "TEST",
            ReportType::CodeCoverage => "CODE_COVERAGE",
        };
        let line = format!("Preparing to copy {kind} report {}", named.group_arn);
        collector.at.teller.line(line).await;
        let written = collector.at.values.expand(&wanted.group);
        named.group = match collector.choose(&selection(wanted), Packaging::None).await {
            Ok(chosen) => {
                if chosen.is_empty() {
                    verdict.missing.push(written.clone());
                }
                let raw = self.raw(collector, copies, &named.folder);
                self.read(collector, named.group, chosen, raw).await
            }
            Err(error) => refused(named.group, &error),
        };
        let group = self.finish(collector, named, copies).await;
        verdict.refuse(&written, group.refused());
    }

    /// Reads the files of a group.
    async fn read(
        &self,
        collector: &Collector,
        mut group: ReportGroupReader,
        mut chosen: Vec<Chosen>,
        raw: Result<Option<RawKeeper>, OutputError>,
    ) -> ReportGroupReader {
        if chosen.is_empty() {
            group.problem("no matching report paths found".to_owned());
            return group;
        }
        collector.at.teller.line(format!("Found {} file(s)", chosen.len())).await;
        if chosen.len() > MAX_FILES {
            let count = chosen.len();
            group.problem(format!("only {MAX_FILES} of {count} files were read"));
            chosen.truncate(MAX_FILES);
        }
        let raw = raw.unwrap_or_else(|error| {
            group.problem(error.to_string());
            None
        });
        let empty = ReportGroupReader::new(group.name.clone(), group.format);
        let mut reader = ReportReader::new(group, raw, &collector.at.source);
        let read = collector
            .keep(chosen, move |keep| {
                let result = keep(&mut reader);
                Ok((reader.taker, reader.raw, result))
            })
            .await;
        match read {
            Ok((group, raw, result)) => {
                let left_out = raw.map(|raw| raw.left_out).unwrap_or_default();
                collector.warn_all("a report's file is not stored: ", left_out.into_iter()).await;
                match result {
                    Ok(()) => group,
                    Err(error) => refused(group, &error),
                }
            }
            Err(error) => refused(empty, &error),
        }
    }

    /// Searches for report files, unless the build has turned the search off.
    async fn discover(&self, collector: &Collector, copies: &mut ReportCopies) {
        let teller = &collector.at.teller;
        if collector
            .at
            .values
            .get(DISCOVER)
            .is_some_and(|value| value.eq_ignore_ascii_case("false"))
        {
            return;
        }
        let begun = Instant::now();
        let pattern = collector.at.values.get(DISCOVER_DIR).filter(|text| !text.is_empty());
        let pattern = pattern.unwrap_or_else(|| "**/*".to_owned());
        let seconds = DISCOVERY.as_secs();
        for line in [
            format!("Set report auto-discover timeout to {seconds} seconds"),
            // CodeBuild prints the second blank, too.
            "Expanding base directory path:  .".to_owned(),
            "Assembling file list".to_owned(),
            "Expanding .".to_owned(),
            "Expanding file paths for base directory .".to_owned(),
            "Assembling file list".to_owned(),
            format!("Expanding {pattern}"),
        ] {
            teller.line(line).await;
        }
        let found = tokio::time::timeout(DISCOVERY, self.search(collector, &pattern)).await;
        let groups = match found {
            Ok(Ok(groups)) => groups,
            Ok(Err(error)) => {
                teller.warn(format!("reports were not looked for: {error}")).await;
                Vec::new()
            }
            Err(_) => {
                let text = format!(
                    "the search for reports took more than {seconds} seconds and was given up; name them \
                     under `reports`, or narrow it with {DISCOVER_DIR}"
                );
                teller.warn(text).await;
                Vec::new()
            }
        };
        if groups.is_empty() {
            teller.line("No matching auto-discover report paths found").await;
        }
        let took = begun.elapsed();
        teller
            .line(format!(
                "Report auto-discover file discovery took {}.{:06} seconds",
                took.as_secs(),
                took.subsec_micros()
            ))
            .await;
        for group in groups {
            let format = group.format;
            let written = format!("{format}-AutoDiscovered");
            let named = self.named(collector, copies, &written, format);
            let group = group.renamed(named.group.name.clone());
            self.finish(collector, NamedGroup { group, ..named }, copies).await;
        }
    }

    async fn search(
        &self,
        collector: &Collector,
        pattern: &str,
    ) -> Result<Vec<ReportGroupReader>, OutputError> {
        let base = collector.at.source.as_bytes();
        let patterns = [FilePattern::new(pattern, base)];
        let listing = list(&*collector.at.container, base, begin(&patterns), Links::None).await?;
        let files = collector
            .at
            .leavings
            .taken_from(listing.files, base, &patterns, &collector.at.teller)
            .await?;
        let mut left = MAX_DISCOVERED_IN_ALL;
        let chosen = files.into_iter().filter(|file| {
            let is_foreign =
                file.path.split(|&byte| byte == b'/').any(|part| FOREIGN.contains(&part));
            let is_wanted = !is_foreign
                && file.facts.size <= MAX_DISCOVERED.min(left)
                && report::may_be_report(&String::from_utf8_lossy(&file.path))
                && patterns[0].takes(&file.path);
            if is_wanted {
                left -= file.facts.size;
            }
            is_wanted
        });
        let chosen = chosen.take(MAX_FILES).map(|file| {
            let name = file.path.clone();
            choice(file, base, name)
        });
        let chosen: Vec<Chosen> = chosen.collect();
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let mut reader = ReportReader::new(Vec::new(), None, &collector.at.source);
        let (groups, result) = collector
            .keep(chosen, move |keep| {
                let result = keep(&mut reader);
                Ok((reader.taker, result))
            })
            .await?;
        result?;
        Ok(groups)
    }

    /// Shows a report's result and writes it.
    async fn finish(
        &self,
        collector: &Collector,
        named: NamedGroup,
        copies: &ReportCopies,
    ) -> Arc<ReportGroupReader> {
        let NamedGroup { mut group, arn, group_arn, folder } = named;
        group.finish(&collector.at.source, &self.secrets);
        let report = group.report(&arn, &group_arn, &collector.arn, self.created);
        let facts = group.facts(report.clone());
        let details = Arc::new(group.details(report));
        let group = Arc::new(group);
        let own = self.own().and_then(|place| place.within(&folder));
        let copy = copies.place.as_ref().map(|place| place.within(&folder));
        for place in [Some(own), copy].into_iter().flatten() {
            let (group, details) = (Arc::clone(&group), Arc::clone(&details));
            let written = tokio::task::spawn_blocking(move || write(&place?, &group, &details));
            let written: Result<(), OutputError> =
                written.await.unwrap_or_else(|error| Err(OutputError::Other(error.to_string())));
            if let Err(error) = written {
                collector.at.teller.warn(format!("a report is not written: {error}")).await;
            }
        }
        collector.at.teller.0.send(MachineInput::Reported(Box::new(facts))).await;
        group
    }

    /// The directory in the build's folder.
    fn own(&self) -> Result<OutputDirectory, OutputError> {
        let path = self.kept.join(INNER);
        let dir = Dir::make_top(&path, 0o700).map_err(OutputError::folder("make", &path))?;
        Ok(OutputDirectory { dir, path })
    }
}

fn write(
    place: &OutputDirectory,
    group: &ReportGroupReader,
    details: &ReportDetails,
) -> Result<(), OutputError> {
    place.write("report.json", |file| {
        let mut out = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut out, details)?;
        out.flush()
    })?;
    if group.format.kind() != ReportType::Test {
        return Ok(());
    }
    place.write("junit.xml", |file| {
        let mut out = BufWriter::new(file);
        report::junit(group, &mut out)?;
        out.flush()
    })
}

/// A group's file selection, expressed as an artifact.
fn selection(wanted: &ReportGroup) -> Artifact {
    Artifact {
        files: wanted.files.clone(),
        base_directory: wanted.base_directory.clone(),
        name: None,
        discard_paths: wanted.discard_paths,
        exclude_paths: Vec::new(),
        enable_symlinks: false,
        s3_prefix: None,
        span: wanted.span,
    }
}

/// The group after some files could not be read. A failure to store them here is not the files'
/// fault.
fn refused(mut group: ReportGroupReader, error: &OutputError) -> ReportGroupReader {
    match error {
        OutputError::Folder { .. } => group.problem(error.to_string()),
        _ => group.unreadable(error.to_string()),
    }
    group
}

/// Staging path of a build's reports in a folder.
pub fn staging(folder: &Path, build: &str) -> PathBuf {
    Staging::place(folder, &name(build))
}

/// Differs from the name for artifacts, which may go to the same folder.
fn name(build: &str) -> String {
    format!("{build}-reports")
}

/// Subdirectory that everything is written to.
const INNER: &str = "reports";

impl ReportCopies {
    /// A group's folder; the buildspec chooses its name, which may contain the build's variables.
    fn folder(&mut self, name: &str) -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let plain: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(200).collect();
        let is_name = !plain.trim_matches('.').is_empty() && !plain.eq_ignore_ascii_case(".git");
        let plain = if is_name { plain } else { "_".to_owned() };
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        names.find(|name| self.taken.insert(name.clone())).unwrap_or(plain)
    }
}
