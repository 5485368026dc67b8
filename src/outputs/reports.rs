//! Reports: files of test results and coverage, read in the container and made into reports
//! (`spec/buildspec.md` 1.5, 6.4).
//!
//! Asked for by the driver in UPLOAD_ARTIFACTS, after the artifacts, also after a failed BUILD. A file
//! that cannot be read makes its report INCOMPLETE and nothing else; a group whose files are not there
//! fails the phase, as in AWS (docs/adr/0035).

use super::artifacts::{Collector, begin, choice};
use super::folder::{FolderKeeper, Place, Staging};
use super::listing::{Links, list};
use super::meter::Meter;
use super::transfer::{Chosen, Keeper};
use super::{OutputError, Sources};
use crate::beneath::join;
use runner_core::artifact::Packaging;
use runner_core::event::NoticeLevel;
use runner_core::machine::Input;
use runner_core::mask::Secrets;
use runner_core::phase::PhaseContext;
use runner_core::report::{self, Format, Group, MAX_BYTES, ReportType};
use runner_core::select::Pattern;
use runner_core::spec::{Artifact, ReportGroup};
use runner_wire::files::Facts;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long CodeBuild looks for reports that nobody has named.
const DISCOVERY: Duration = Duration::from_secs(5);
/// Most of one file that is read in such a search, and of all of them.
const MAX_DISCOVERED: u64 = 16 << 20;
const MAX_DISCOVERED_IN_ALL: u64 = 256 << 20;
/// Most files of a report.
const MAX_FILES: usize = 20_000;
/// Directories in which other people's reports lie.
const FOREIGN: [&[u8]; 2] = [b"node_modules", b".git"];
/// Variables by which a build steers the search.
const DISCOVER: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER";
const DISCOVER_DIR: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER_DIR";

/// What is to be made of reports.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    /// Where they are written, if they are.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) project: String,
    /// What no report may show.
    pub(crate) secrets: Secrets,
    /// Now, in seconds since 1970.
    pub(crate) created: f64,
}

/// A group and what is to be called by its name.
struct Named {
    group: Group,
    arn: String,
    group_arn: String,
}

impl Reports {
    /// Reads the reports of the groups, or, where none is named, those that can be found.
    pub(crate) async fn collect(
        &self,
        collector: &Collector,
        groups: &[ReportGroup],
    ) -> Result<(), PhaseContext> {
        let staging = self.staging(&collector.at.build);
        let staging = match staging {
            Ok(staging) => staging,
            Err(error) => {
                // Read and shown they are all the same.
                collector.at.teller.warn(format!("reports are not written: {error}")).await;
                None
            }
        };
        let (staging, place) = staging.unzip();
        let place = place.as_ref();
        let mut missing = Vec::new();
        if groups.is_empty() {
            self.discover(collector, place).await;
        }
        for group in groups {
            if !self.one(collector, group, place).await {
                missing.push(collector.at.values.expand(&group.group));
            }
        }
        if let Some(staging) = staging {
            let moved = tokio::task::spawn_blocking(move || staging.move_in(INNER, b""));
            if let Err(error) = moved.await.unwrap_or(Ok(())) {
                collector.at.teller.warn(format!("reports are not written: {error}")).await;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!(
            "no matching report paths found: {}; patterns are relative to {} and base-directory",
            missing.join(", "),
            collector.at.source
        );
        collector.at.teller.0.send(Input::Notice(NoticeLevel::Warning, text)).await;
        Err(PhaseContext::new("CLIENT_ERROR", "no matching report paths found"))
    }

    /// The place for what is not whole yet, and the directory in it that is filled.
    fn staging(&self, build: &str) -> Result<Option<(Staging, Place)>, OutputError> {
        let make = |dir: &PathBuf| {
            let staging = Staging::make(dir, &format!("{build}-reports"))?;
            let place = staging.inner().within(INNER)?;
            Ok((staging, place))
        };
        self.dir.as_ref().map(make).transpose()
    }

    /// Where a group's files go as they are, if they do.
    fn raw(
        &self,
        collector: &Collector,
        to: Option<&Place>,
        group: &str,
    ) -> Result<Option<Raw>, OutputError> {
        let (Some(to), Some(dir)) = (to, &self.dir) else { return Ok(None) };
        let folder = folder_of(group);
        let place = to.within(&folder)?.within("raw")?;
        Ok(Some(Raw {
            keeper: FolderKeeper::new(place, Meter::default()),
            secrets: self.secrets.clone(),
            sources: collector.at.sources.clone(),
            dir: dir.clone(),
            path: format!("{folder}/raw").into_bytes(),
            left_out: Vec::new(),
        }))
    }

    fn named(&self, collector: &Collector, written: &str, format: Format) -> Named {
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
        Named { group: Group::new(name, format), arn, group_arn }
    }

    /// One group of the buildspec; whether it has any files.
    async fn one(&self, collector: &Collector, wanted: &ReportGroup, to: Option<&Place>) -> bool {
        let format = Format::from_name(&wanted.format).unwrap_or(Format::JunitXml);
        let mut named = self.named(collector, &wanted.group, format);
        let kind = match format.kind() {
            ReportType::Test => "TEST",
            ReportType::CodeCoverage => "CODE_COVERAGE",
        };
        collector
            .at
            .teller
            .line(format!("Preparing to copy {kind} report {}", named.group_arn))
            .await;
        let selection = Artifact {
            files: wanted.files.clone(),
            base_directory: wanted.base_directory.clone(),
            name: None,
            discard_paths: wanted.discard_paths,
            exclude_paths: Vec::new(),
            enable_symlinks: false,
            s3_prefix: None,
            span: wanted.span,
        };
        let mut chosen = match collector.choose(&selection, Packaging::None).await {
            Ok(chosen) => chosen,
            Err(error) => {
                named.group.problem(error.to_string());
                self.finish(collector, named, to).await;
                return true;
            }
        };
        let is_there = !chosen.is_empty();
        if is_there {
            collector.at.teller.line(format!("Found {} file(s)", chosen.len())).await;
        } else {
            named.group.problem("no matching report paths found".to_owned());
        }
        if chosen.len() > MAX_FILES {
            let count = chosen.len();
            named.group.problem(format!("only {MAX_FILES} of {count} files were read"));
            chosen.truncate(MAX_FILES);
        }
        let raw = self.raw(collector, to, &named.group.name).unwrap_or_else(|error| {
            named.group.problem(error.to_string());
            None
        });
        let mut reader = Reader::new(Wanted::Group(Box::new(named.group)), raw);
        let read = collector
            .keep(chosen, move |keep| {
                let result = keep(&mut reader);
                Ok((reader, result))
            })
            .await;
        let read = read.map(|(reader, result)| (reader.wanted, reader.raw, result));
        let group = match read {
            Ok((Wanted::Group(mut group), raw, result)) => {
                let left_out = raw.map(|raw| raw.left_out).unwrap_or_default();
                collector.warn_all("a report's file is not kept: ", left_out.into_iter()).await;
                if let Err(error) = result {
                    group.problem(error.to_string());
                }
                *group
            }
            Ok((Wanted::Any(_), ..)) => return is_there,
            Err(error) => {
                let mut group = Group::new(String::new(), format);
                group.problem(error.to_string());
                group
            }
        };
        self.finish(collector, Named { group, ..named_of(named.arn, named.group_arn, format) }, to)
            .await;
        is_there
    }

    /// Looks for files that are reports, whatever the buildspec says, unless the build does not want it.
    async fn discover(&self, collector: &Collector, to: Option<&Place>) {
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
            // The second blank is CodeBuild's.
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
            let named = self.named(collector, &format!("{format}-AutoDiscovered"), format);
            let group = group.renamed(named.group.name.clone());
            self.finish(collector, Named { group, ..named }, to).await;
        }
    }

    async fn search(
        &self,
        collector: &Collector,
        pattern: &str,
    ) -> Result<Vec<Group>, OutputError> {
        let base = collector.at.source.as_bytes();
        let patterns = [Pattern::new(pattern, base)];
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
        let mut reader = Reader::new(Wanted::Any(Vec::new()), None);
        let (wanted, result) = collector
            .keep(chosen, move |keep| {
                let result = keep(&mut reader);
                Ok((reader.wanted, result))
            })
            .await?;
        result?;
        match wanted {
            Wanted::Any(groups) => Ok(groups),
            Wanted::Group(_) => Ok(Vec::new()),
        }
    }

    /// Tells what a report comes to, and writes it.
    async fn finish(&self, collector: &Collector, named: Named, to: Option<&Place>) {
        let Named { mut group, arn, group_arn } = named;
        group.finish(&collector.at.source, &self.secrets);
        let report = group.report(&arn, &group_arn, &collector.arn, self.created);
        let facts = group.facts(report.clone());
        if let Some(to) = to {
            let folder = to.within(&folder_of(&group.name));
            let details = group.details(report);
            let written = tokio::task::spawn_blocking(move || {
                let folder = folder?;
                folder.write("report.json", |file| {
                    let mut out = BufWriter::new(file);
                    serde_json::to_writer_pretty(&mut out, &details)?;
                    out.flush()
                })?;
                if group.format.kind() == ReportType::Test {
                    folder.write("junit.xml", |file| {
                        let mut out = BufWriter::new(file);
                        report::junit(&group, &mut out)?;
                        out.flush()
                    })?;
                }
                Ok(())
            });
            let written: Result<(), OutputError> =
                written.await.unwrap_or_else(|error| Err(OutputError::Other(error.to_string())));
            if let Err(error) = written {
                collector.at.teller.warn(format!("a report is not written: {error}")).await;
            }
        }
        collector.at.teller.0.send(Input::Reported(Box::new(facts))).await;
    }
}

/// A name for what has lost its own.
fn named_of(arn: String, group_arn: String, format: Format) -> Named {
    let name = group_arn.rsplit('/').next().unwrap_or_default().to_owned();
    Named { group: Group::new(name, format), arn, group_arn }
}

/// Where all of it is made.
const INNER: &str = "reports";

/// A group's folder; its name is the buildspec's to choose, and a build's variables may be in it.
fn folder_of(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let plain: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(200).collect();
    let is_name = !plain.trim_matches('.').is_empty() && !plain.eq_ignore_ascii_case(".git");
    if is_name { plain } else { "_".to_owned() }
}

/// What is made of the files that are read.
enum Wanted {
    /// All of them are one group's.
    Group(Box<Group>),
    /// Each is what it looks like.
    Any(Vec<Group>),
}

/// Keeps a group's files as they are, but for secrets.
struct Raw {
    keeper: FolderKeeper,
    secrets: Secrets,
    sources: Sources,
    /// Where all reports go, and the path below it.
    dir: PathBuf,
    path: Vec<u8>,
    /// What is not kept, and why.
    left_out: Vec<String>,
}

impl Raw {
    /// Keeps a file; `bytes` are none of one that is too large to be looked through.
    fn keep(
        &mut self,
        file: &Chosen,
        facts: &Facts,
        bytes: Option<&Vec<u8>>,
    ) -> Result<(), OutputError> {
        let masked = if self.sources.keep(&self.dir, &join(&self.path, &file.name)) {
            Err("git would take it for its own")
        } else if let Some(bytes) = bytes {
            report::raw(bytes, &self.secrets).ok_or("a secret in it cannot be masked")
        } else {
            Err("it is too large to be masked")
        };
        match masked {
            Ok(bytes) => {
                self.keeper.begin(file, facts)?;
                self.keeper.data(&bytes)?;
                self.keeper.end()
            }
            Err(why) => {
                self.left_out.push(format!("{}: {why}", file.name.escape_ascii()));
                Ok(())
            }
        }
    }
}

/// Takes files in, one after the other; keeps them as they are, too, where that is wanted.
struct Reader {
    wanted: Wanted,
    raw: Option<Raw>,
    /// The file that is read.
    file: Option<(Chosen, Facts)>,
    name: String,
    bytes: Vec<u8>,
    /// The file is larger than anything that is read.
    is_too_large: bool,
}

impl Reader {
    fn new(wanted: Wanted, raw: Option<Raw>) -> Self {
        let (name, bytes) = (String::new(), Vec::new());
        Reader { wanted, raw, file: None, name, bytes, is_too_large: false }
    }

    fn take(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        match &mut self.wanted {
            Wanted::Group(group) if self.is_too_large => {
                let most = MAX_BYTES >> 20;
                group.problem(format!("{}: larger than {most} MiB", self.name));
            }
            Wanted::Group(group) => group.add(&self.name, report::read(group.format, &bytes)),
            Wanted::Any(_) if self.is_too_large => {}
            Wanted::Any(groups) => {
                let head = String::from_utf8_lossy(&bytes[..bytes.len().min(16 << 10)]);
                let Some(format) = report::detect(&head) else { return };
                let at = groups.iter().position(|group| group.format == format);
                let at = at.unwrap_or_else(|| {
                    groups.push(Group::new(String::new(), format));
                    groups.len() - 1
                });
                groups[at].add(&self.name, report::read(format, &bytes));
            }
        }
    }
}

impl Keeper for Reader {
    fn begin(&mut self, file: &Chosen, facts: &Facts) -> Result<(), OutputError> {
        self.name = String::from_utf8_lossy(&file.name).into_owned();
        self.bytes.clear();
        self.is_too_large = facts.size > MAX_BYTES;
        self.file = self.raw.is_some().then(|| (file.clone(), *facts));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if !self.is_too_large {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), OutputError> {
        if !self.is_too_large {
            let length = usize::try_from(length).unwrap_or(0);
            self.bytes.resize(self.bytes.len() + length, 0);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        if let (Some(raw), Some((file, facts))) = (&mut self.raw, self.file.take()) {
            raw.keep(&file, &facts, (!self.is_too_large).then_some(&self.bytes))?;
        }
        self.take();
        Ok(())
    }

    /// Links are read, and none stays one.
    fn link(&mut self, _: &Chosen, _: &[u8]) -> Result<(), OutputError> {
        Ok(())
    }
}
