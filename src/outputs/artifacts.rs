//! Artifacts: chosen in the container, packed, and put where they belong (`spec/buildspec.md` 1.6, 6,
//! 9.2).
//!
//! Asked for by the driver in UPLOAD_ARTIFACTS, also after a failed BUILD. The lines for the log are
//! those of CodeBuild's agent, in its order.

use super::bucket::{self, BucketKeeper};
use super::folder::{FolderKeeper, Staging, move_in, own};
use super::listing::{Found, Links, Listing, Start, is_directory, list};
use super::meter::Meter;
use super::packed::{Sums, ZipKeeper};
use super::transfer::{Chosen, Keeper, keep};
use super::{Destination, Destinations, OutputError, Store, Workplace};
use crate::amazon::s3::Object;
use crate::engine::files::Files;
use runner_core::artifact::{Packaging, Place};
use runner_core::event::{NoticeLevel, StoredArtifact};
use runner_core::machine::Input;
use runner_core::phase::PhaseContext;
use runner_core::select::{Pattern, Selection, normal, starts};
use runner_core::spec::{Artifact, Artifacts};
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// CodeBuild's own words.
const NOTHING: &str = "no matching artifact paths found";
/// Warnings of one kind that are told; the rest is counted.
const TOLD: usize = 10;

/// Collects a build's artifacts.
pub(crate) struct Collector {
    pub(crate) at: Workplace,
    /// The build's ARN.
    pub(crate) arn: String,
}

/// Why there is no artifact.
pub(crate) struct Uncollected {
    /// For the record.
    pub(crate) context: PhaseContext,
    pub(crate) hint: Option<String>,
}

impl From<OutputError> for Uncollected {
    fn from(error: OutputError) -> Self {
        let message = format!("Failed to upload artifacts: {error}");
        Uncollected { context: PhaseContext::new("CLIENT_ERROR", message), hint: error.hint() }
    }
}

impl Collector {
    /// Collects all of them; the first that cannot be had is the end of it.
    pub(crate) async fn collect(
        &self,
        artifacts: &Artifacts,
        to: &Destinations,
    ) -> Result<(), Uncollected> {
        if !artifacts.primary.files.is_empty() {
            self.one(None, &artifacts.primary, to.of(None)).await?;
        }
        self.at.teller.line("Preparing to copy secondary artifacts").await;
        if artifacts.secondary.is_empty() {
            self.at.teller.line("No secondary artifacts defined in buildspec").await;
        }
        for (id, artifact) in &artifacts.secondary {
            self.one(Some(id), artifact, to.of(Some(id))).await?;
        }
        Ok(())
    }

    async fn one(
        &self,
        id: Option<&str>,
        artifact: &Artifact,
        to: Destination,
    ) -> Result<(), Uncollected> {
        let name = match &artifact.name {
            Some(name) => {
                let evaluated = self.at.values.evaluate(&*self.at.container, name).await;
                Some(evaluated.map_err(|problem| {
                    let message = format!("cannot evaluate the artifact's name {name}: {problem}");
                    OutputError::Other(message)
                })?)
            }
            None => None,
        };
        let prefix = artifact.s3_prefix.as_ref().map(|prefix| self.at.values.expand(prefix));
        let place = to.settings.place(id, name.as_deref(), prefix.as_deref(), &self.at.build);
        let chosen = self.choose(artifact, place.packaging).await?;
        if chosen.is_empty() {
            return Err(Uncollected {
                context: PhaseContext::new("CLIENT_ERROR", NOTHING),
                hint: Some(format!(
                    "patterns are relative to {}{}, whatever directory the commands were in",
                    self.at.source,
                    artifact.base_directory.as_ref().map_or("", |_| " and base-directory")
                )),
            });
        }
        self.at.teller.line(format!("Found {} file(s)", chosen.len())).await;
        let bytes = chosen.iter().map(|file| file.facts.size).sum();
        let files = chosen.len() as u64;
        let (location, sums) = self.store(id, chosen, bytes, &to.store, &place).await?;
        let (sha256, md5) = sums.map(|sums| (sums.sha256, sums.md5)).unzip();
        let stored = StoredArtifact {
            identifier: id.map(str::to_owned),
            location,
            files,
            bytes,
            sha256,
            md5,
            override_name: name.is_some() && to.settings.override_name,
        };
        self.at.teller.0.send(Input::Stored(stored)).await;
        Ok(())
    }

    /// The files, by the names they are kept under.
    pub(super) async fn choose(
        &self,
        artifact: &Artifact,
        packaging: Packaging,
    ) -> Result<Vec<Chosen>, OutputError> {
        let links = match artifact.enable_symlinks && packaging == Packaging::Zip {
            true => Links::Inner,
            false => Links::None,
        };
        let mut chosen = BTreeMap::new();
        let mut problems = Vec::new();
        for (shown, base) in self.bases(artifact.base_directory.as_deref()).await? {
            self.at.teller.line(format!("Expanding file paths for base directory {shown}")).await;
            self.at.teller.line("Assembling file list").await;
            let read = |texts: &[String]| -> Vec<Pattern> {
                texts.iter().map(|text| Pattern::new(&self.at.values.expand(text), &base)).collect()
            };
            let selection = Selection {
                files: read(&artifact.files),
                exclude: read(&artifact.exclude_paths),
                discard_paths: artifact.discard_paths,
            };
            let listing = list(&*self.at.container, &base, begin(&selection.files), links).await?;
            let Listing { files, problems: unlisted, failures, .. } = listing;
            if let Some((path, why)) =
                failures.into_iter().find(|(path, _)| !selection.excludes(path))
            {
                return Err(OutputError::Source {
                    path,
                    problem: format!("cannot list it: {why}"),
                });
            }
            let files = self
                .at
                .leavings
                .taken_from(files, &base, &selection.files, &self.at.teller)
                .await?;
            let selected = selection.choose(files.iter().map(|file| file.path.as_slice()));
            for (pattern, hit) in selection.files.iter().zip(&selected.hits) {
                self.at.teller.line(format!("Expanding {}", pattern.text())).await;
                if !hit && pattern.is_literal() {
                    let text = format!("Skipping invalid file path {}", pattern.text());
                    self.at.teller.line(text).await;
                }
            }
            problems.extend(unlisted.into_iter().filter(|(path, _)| {
                let is_wanted = selection.files.iter().any(|pattern| pattern.takes(path));
                is_wanted && !selection.excludes(path)
            }));
            if selected.clashes > 0 {
                let count = selected.clashes;
                let text =
                    format!("discard-paths: {count} file(s) gave way to others of their name");
                self.at.teller.warn(text).await;
            }
            let mut files: Vec<Option<Found>> = files.into_iter().map(Some).collect();
            for (name, number) in selected.files {
                if let Some(found) = files.get_mut(number).and_then(Option::take) {
                    chosen.insert(name.clone(), choice(found, &base, name));
                }
            }
        }
        self.warn_all(
            "not collected: ",
            problems.iter().map(|(path, why)| format!("{}: {why}", path.escape_ascii())),
        )
        .await;
        Ok(chosen.into_values().collect())
    }

    /// The directories that files are taken from, as written and as they are.
    async fn bases(&self, written: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
        let shown = written.map_or_else(|| ".".to_owned(), |text| self.at.values.expand(text));
        self.at.teller.line(format!("Expanding base directory path: {shown}")).await;
        self.at.teller.line("Assembling file list").await;
        self.at.teller.line(format!("Expanding {shown}")).await;
        let source = self.at.source.as_bytes();
        let pattern = Pattern::new(&shown, source);
        let whole = |path: &[u8]| match path {
            [b'/', ..] => path.to_vec(),
            _ => normal(&[source, b"/", path].concat()),
        };
        if pattern.is_literal() {
            let base = whole(pattern.start());
            if is_directory(&*self.at.container, &base).await? {
                return Ok(vec![(shown, base)]);
            }
            self.at.teller.line(format!("Skipping invalid file path {shown}")).await;
            return Ok(Vec::new());
        }
        let patterns = [pattern];
        let listing = list(&*self.at.container, source, begin(&patterns), Links::None).await?;
        let mut bases: Vec<(String, Vec<u8>)> = Vec::new();
        for directory in listing.directories {
            // In the order of their paths: one within another comes after it.
            let path = whole(&directory.path);
            let is_within =
                |(_, above): &(String, Vec<u8>)| runner_core::select::below(&path, above).is_some();
            if patterns[0].takes(&directory.path) && !bases.iter().any(is_within) {
                bases.push((String::from_utf8_lossy(&directory.path).into_owned(), path));
            }
        }
        Ok(bases)
    }

    /// Packs the files and puts them where they belong; where that is.
    async fn store(
        &self,
        id: Option<&str>,
        chosen: Vec<Chosen>,
        bytes: u64,
        store: &Store,
        place: &Place,
    ) -> Result<(String, Option<Sums>), OutputError> {
        let whose = id.unwrap_or("artifacts").to_owned();
        let meter = Meter::default();
        match (store, place.packaging) {
            (Store::Folder(folder), packaging) => {
                let target = folder.join(&place.key);
                let staging = Staging::make(folder, &self.at.build)?;
                let inner = staging.path().join("artifact");
                let sums = match packaging {
                    Packaging::None => {
                        super::folder::make_folders(&inner)?;
                        let mut keeper = FolderKeeper::new(inner.clone(), meter.clone());
                        let kept = self.keep(chosen, move |keep| keep(&mut keeper));
                        meter.during(&self.at.teller, &whose, bytes, kept).await?;
                        None
                    }
                    Packaging::Zip => {
                        let failed = || OutputError::folder("make", &inner);
                        let file = File::create_new(&inner).map_err(failed())?;
                        own(&file).map_err(failed())?;
                        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed())?;
                        Some(self.zip(chosen, file, inner.clone(), &meter, &whose, bytes).await?.1)
                    }
                };
                let end = target.clone();
                let moved = tokio::task::spawn_blocking(move || {
                    let moved = move_in(&inner, &end);
                    drop(staging);
                    moved
                });
                moved.await.map_err(|error| OutputError::Other(error.to_string()))??;
                Ok((target.display().to_string().trim_end_matches('/').to_owned(), sums))
            }
            (Store::Bucket(location), Packaging::None) => {
                let prefix = location.object(&place.key);
                let arn = prefix.arn();
                let s3 = self.at.s3().await;
                let (mut keeper, uploads) = BucketKeeper::new(prefix);
                let read = self.keep(chosen, move |keep| keep(&mut keeper));
                let both = async { tokio::join!(bucket::upload(&s3, uploads, &meter), read) };
                let done = meter
                    .during(&self.at.teller, &whose, bytes, self.at.unless_cancelled(both))
                    .await;
                s3.settle().await;
                let (sent, read) = done?;
                // Where the one has ended because of the other, the other says why.
                match (sent, read) {
                    (Err(error @ OutputError::Bucket(_)), Err(OutputError::Other(_))) => Err(error),
                    (_, Err(error)) | (Err(error), Ok(())) => Err(error),
                    (Ok(()), Ok(())) => Ok((arn.trim_end_matches('/').to_owned(), None)),
                }
            }
            (Store::Bucket(location), Packaging::Zip) => {
                let failed = || OutputError::folder("make a file in", &self.at.scratch);
                let file = tempfile::tempfile_in(&self.at.scratch).map_err(failed())?;
                let (mut file, sums) =
                    self.zip(chosen, file, self.at.scratch.clone(), &meter, &whose, bytes).await?;
                let size = file.seek(SeekFrom::End(0)).map_err(failed())?;
                file.seek(SeekFrom::Start(0)).map_err(failed())?;
                let object = Object {
                    content_type: Some("application/zip".to_owned()),
                    metadata: vec![
                        ("codebuild-content-md5".to_owned(), sums.md5.clone()),
                        ("codebuild-content-sha256".to_owned(), sums.sha256.clone()),
                        ("codebuild-buildarn".to_owned(), self.arn.clone()),
                    ],
                    ..location.object(&place.key)
                };
                let s3 = self.at.s3().await;
                let meter = Meter::default();
                let told = |bytes| meter.add(bytes);
                let put = self.at.unless_cancelled(s3.put(&object, file, &told));
                let done = meter.during(&self.at.teller, &object.to_string(), size, put).await;
                s3.settle().await;
                done??;
                Ok((object.arn(), Some(sums)))
            }
        }
    }

    async fn zip(
        &self,
        chosen: Vec<Chosen>,
        file: File,
        place: PathBuf,
        meter: &Meter,
        whose: &str,
        bytes: u64,
    ) -> Result<(File, Sums), OutputError> {
        let mut keeper = ZipKeeper::new(file, place, meter.clone())?;
        let zipped = self.keep(chosen, move |keep| {
            keep(&mut keeper)?;
            keeper.finish()
        });
        meter.during(&self.at.teller, whose, bytes, zipped).await
    }

    /// Has a keeper keep the files, on a thread that may block.
    pub(super) async fn keep<T: Send + 'static>(
        &self,
        chosen: Vec<Chosen>,
        act: impl FnOnce(
            &mut dyn FnMut(&mut dyn Keeper) -> Result<(), OutputError>,
        ) -> Result<T, OutputError>
        + Send
        + 'static,
    ) -> Result<T, OutputError> {
        let files = Files::start(&*self.at.container).await?;
        let work = tokio::task::spawn_blocking(move || {
            let (mut warnings, mut files) = (Vec::new(), Some(files));
            let mut go = |keeper: &mut dyn Keeper| match files.take() {
                Some(files) => {
                    keep(files, &chosen, keeper, &mut |_: NoticeLevel, text| warnings.push(text))
                }
                None => Ok(()),
            };
            let result = act(&mut go);
            (result, warnings)
        });
        let (result, warnings) =
            work.await.map_err(|error| OutputError::Other(error.to_string()))?;
        self.warn_all("", warnings.into_iter()).await;
        result
    }

    async fn warn_all(&self, before: &str, texts: impl ExactSizeIterator<Item = String>) {
        let more = texts.len().saturating_sub(TOLD);
        for text in texts.take(TOLD) {
            self.at.teller.warn(format!("{before}{text}")).await;
        }
        if more > 0 {
            self.at.teller.warn(format!("{before}{more} more like these")).await;
        }
    }
}

/// Where patterns begin to look.
pub(super) fn begin(patterns: &[Pattern]) -> Vec<Start> {
    let literal = |path: &[u8]| patterns.iter().any(|p| p.is_literal() && p.start() == path);
    starts(patterns)
        .into_iter()
        .map(|(path, _)| Start { is_passed: !literal(&path), path })
        .collect()
}

pub(super) fn choice(found: Found, base: &[u8], name: Vec<u8>) -> Chosen {
    let Found { path, facts, target } = found;
    match path.strip_prefix(b"/") {
        Some(path) => Chosen { base: b"/".to_vec(), path: path.to_vec(), name, facts, target },
        None => Chosen { base: base.to_vec(), path, name, facts, target },
    }
}
