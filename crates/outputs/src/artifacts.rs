//! Artifacts: selected in the container, packed, and written to their destination.
//!
//! Called by the driver in UPLOAD_ARTIFACTS, also after a failed BUILD. The log lines are those of
//! CodeBuild's agent, in its order.

use super::bucket::{self, BucketKeeper};
use super::folder::{FolderKeeper, Staging};
use super::listing::{Links, ListedPath, Listing, ListingStart, is_directory, list};
use super::meter::Meter;
use super::packed::{Sums, ZipKeeper};
use super::transfer::{Chosen, Keeper, keep};
use super::{ArtifactDestination, ArtifactDestinations, OutputError, OutputStore, Workplace};
use runner_cloud::s3::Object;
use runner_core::artifact::{ArtifactPlace, Packaging};
use runner_core::event::StoredArtifact;
use runner_core::machine::MachineInput;
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::select::{FilePattern, FileSelection, normal, starts};
use runner_core::spec::{Artifact, Artifacts};
use runner_engine::files::FilesProgram;
use runner_host::beneath::join;
use runner_host::named::NamedFile;
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// CodeBuild's own wording.
const NOTHING: &str = "no matching artifact paths found";
/// Temporary name of an incomplete artifact.
const ARTIFACT: &str = "artifact";
/// Maximum warnings shown of one kind; the rest are only counted.
const TOLD: usize = 10;

/// Collects a build's artifacts.
pub struct Collector {
    pub at: Workplace,
    /// The build's ARN.
    pub arn: String,
}

/// Why an artifact could not be collected.
pub struct Uncollected {
    /// For the record.
    pub context: PhaseContext,
    pub hint: Option<String>,
}

impl From<OutputError> for Uncollected {
    fn from(error: OutputError) -> Self {
        let message = format!("Failed to upload artifacts: {error}");
        Uncollected {
            context: PhaseContext::new(StatusCode::ClientError, message),
            hint: error.hint(),
        }
    }
}

impl Collector {
    /// Collects all artifacts; stops at the first that fails.
    pub async fn collect(
        &self,
        artifacts: &Artifacts,
        to: &ArtifactDestinations,
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
        to: ArtifactDestination,
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
        let chosen = self.without_git(chosen, &to, &place).await?;
        if chosen.is_empty() {
            return Err(Uncollected {
                context: PhaseContext::new(StatusCode::ClientError, NOTHING),
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
        let (location, sums) = self.store(id, chosen, bytes, &to, &place).await?;
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
        self.at.teller.0.send(MachineInput::Stored(stored)).await;
        Ok(())
    }

    /// The selected files, by the names they get in the artifact.
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
            let read = |texts: &[String]| -> Vec<FilePattern> {
                texts
                    .iter()
                    .map(|text| FilePattern::new(&self.at.values.expand(text), &base))
                    .collect()
            };
            let selection = FileSelection {
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
            let mut files: Vec<Option<ListedPath>> = files.into_iter().map(Some).collect();
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

    /// The directories that files are taken from: as written, and resolved.
    async fn bases(&self, written: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, OutputError> {
        let shown = written.map_or_else(|| ".".to_owned(), |text| self.at.values.expand(text));
        self.at.teller.line(format!("Expanding base directory path: {shown}")).await;
        self.at.teller.line("Assembling file list").await;
        self.at.teller.line(format!("Expanding {shown}")).await;
        let source = self.at.source.as_bytes();
        let pattern = FilePattern::new(&shown, source);
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
            // Sorted by path, so that a nested directory comes after its parent.
            let path = whole(&directory.path);
            let is_within =
                |(_, above): &(String, Vec<u8>)| runner_core::select::below(&path, above).is_some();
            if patterns[0].takes(&directory.path) && !bases.iter().any(is_within) {
                bases.push((String::from_utf8_lossy(&directory.path).into_owned(), path));
            }
        }
        Ok(bases)
    }

    /// The files without those that would be written among git's own files.
    async fn without_git(
        &self,
        mut chosen: Vec<Chosen>,
        to: &ArtifactDestination,
        place: &ArtifactPlace,
    ) -> Result<Vec<Chosen>, OutputError> {
        let OutputStore::Folder(folder) = &to.store else { return Ok(chosen) };
        let key = place.key.as_bytes();
        if self.at.sources.keep(folder, key) {
            return Err(OutputError::Other(format!(
                "nothing is written to {}: git runs programs that are there",
                folder.join(&place.key).display()
            )));
        }
        if place.packaging == Packaging::None {
            let count = chosen.len();
            chosen.retain(|file| !self.at.sources.keep(folder, &join(key, &file.name)));
            let kept_out = count - chosen.len();
            if kept_out > 0 {
                let text = format!(
                    "not collected: {kept_out} file(s) below .git, which git would run or read as its own \
                     in the source; a ZIP takes them, and so does a directory outside of the source"
                );
                self.at.teller.warn(text).await;
            }
        }
        Ok(chosen)
    }

    /// Packs the files and writes them to their destination. Returns the location.
    async fn store(
        &self,
        id: Option<&str>,
        chosen: Vec<Chosen>,
        bytes: u64,
        to: &ArtifactDestination,
        place: &ArtifactPlace,
    ) -> Result<(String, Option<Sums>), OutputError> {
        let whose = id.unwrap_or("artifacts");
        match (&to.store, place.packaging, &to.stream) {
            (_, Packaging::Zip, Some(stream)) => {
                let (file, sums) = self.zip_in_scratch(chosen, whose, bytes).await?;
                let stream = stream.clone();
                let shown = stream.path().display().to_string();
                let copied = tokio::task::spawn_blocking(move || copy(file, &stream));
                copied.await.map_err(|error| OutputError::Other(error.to_string()))??;
                Ok((shown, Some(sums)))
            }
            (OutputStore::Folder(folder), packaging, _) => {
                let staging = Staging::make(folder, &self.at.build)?;
                let sums = self.in_folder(&staging, chosen, bytes, whose, packaging).await?;
                let key = place.key.clone();
                let moved =
                    tokio::task::spawn_blocking(move || staging.move_in(ARTIFACT, key.as_bytes()));
                moved.await.map_err(|error| OutputError::Other(error.to_string()))??;
                let target = folder.join(&place.key).display().to_string();
                Ok((target.trim_end_matches('/').to_owned(), sums))
            }
            (OutputStore::Bucket(location), Packaging::None, _) => {
                let prefix = location.object(&place.key);
                let arn = prefix.arn();
                self.files_to_bucket(chosen, prefix, whose, bytes).await?;
                Ok((arn.trim_end_matches('/').to_owned(), None))
            }
            (OutputStore::Bucket(location), Packaging::Zip, _) => {
                let (file, sums) = self.zip_in_scratch(chosen, whose, bytes).await?;
                let arn = self.zip_to_bucket(file, &sums, location.object(&place.key)).await?;
                Ok((arn, Some(sums)))
            }
        }
    }

    /// Builds the whole artifact in the staging directory.
    async fn in_folder(
        &self,
        staging: &Staging,
        chosen: Vec<Chosen>,
        bytes: u64,
        whose: &str,
        packaging: Packaging,
    ) -> Result<Option<Sums>, OutputError> {
        let meter = Meter::default();
        if packaging == Packaging::None {
            let mut keeper = FolderKeeper::new(staging.inner().within(ARTIFACT)?, meter.clone());
            let kept = self.keep(chosen, move |keep| keep(&mut keeper));
            meter.during(&self.at.teller, whose, bytes, kept).await?;
            return Ok(None);
        }
        let path = staging.inner().path.join(ARTIFACT);
        let file =
            staging.inner().dir.create(ARTIFACT).and_then(|file| {
                file.set_permissions(Permissions::from_mode(0o644)).map(|()| file)
            });
        let file = file.map_err(OutputError::folder("make", &path))?;
        self.zip(chosen, file, path, &meter, whose, bytes).await.map(|(_, sums)| Some(sums))
    }

    async fn files_to_bucket(
        &self,
        chosen: Vec<Chosen>,
        prefix: Object,
        whose: &str,
        bytes: u64,
    ) -> Result<(), OutputError> {
        let meter = Meter::default();
        let s3 = self.at.s3().await;
        let (mut keeper, uploads) = BucketKeeper::new(prefix);
        let read = self.keep(chosen, move |keep| keep(&mut keeper));
        let both = async { tokio::join!(bucket::upload(&s3, uploads, &meter), read) };
        let done =
            meter.during(&self.at.teller, whose, bytes, self.at.unless_cancelled(both)).await;
        s3.settle().await;
        let (sent, read) = done?;
        // If one side ended because of the other, the other's error names the reason.
        match (sent, read) {
            (Err(error @ OutputError::Bucket(_)), Err(OutputError::Other(_))) => Err(error),
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    async fn zip_to_bucket(
        &self,
        mut file: File,
        sums: &Sums,
        object: Object,
    ) -> Result<String, OutputError> {
        let failed = || OutputError::folder("read a file in", &self.at.scratch);
        let size = file.seek(SeekFrom::End(0)).map_err(failed())?;
        file.seek(SeekFrom::Start(0)).map_err(failed())?;
        let object = Object {
            content_type: Some("application/zip".to_owned()),
            metadata: vec![
                ("codebuild-content-md5".to_owned(), sums.md5.clone()),
                ("codebuild-content-sha256".to_owned(), sums.sha256.clone()),
                ("codebuild-buildarn".to_owned(), self.arn.clone()),
            ],
            ..object
        };
        let s3 = self.at.s3().await;
        let meter = Meter::default();
        let told = |bytes| meter.add(bytes);
        let put = self.at.unless_cancelled(s3.put(&object, file, &told));
        let done = meter.during(&self.at.teller, &object.to_string(), size, put).await;
        s3.settle().await;
        done??;
        Ok(object.arn())
    }

    /// A ZIP in an unnamed file.
    async fn zip_in_scratch(
        &self,
        chosen: Vec<Chosen>,
        whose: &str,
        bytes: u64,
    ) -> Result<(File, Sums), OutputError> {
        let (file, place) = (self.at.scratch_file()?, self.at.scratch.clone());
        self.zip(chosen, file, place, &Meter::default(), whose, bytes).await
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

    /// Passes the files to a keeper, on a thread that may block.
    pub(super) async fn keep<T: Send + 'static>(
        &self,
        chosen: Vec<Chosen>,
        act: impl FnOnce(
            &mut dyn FnMut(&mut dyn Keeper) -> Result<(), OutputError>,
        ) -> Result<T, OutputError>
        + Send
        + 'static,
    ) -> Result<T, OutputError> {
        let files = FilesProgram::start(&*self.at.container).await?;
        let work = tokio::task::spawn_blocking(move || {
            let (mut warnings, mut files) = (Vec::new(), Some(files));
            let mut go = |keeper: &mut dyn Keeper| match files.take() {
                Some(files) => keep(files, &chosen, keeper, &mut |text| warnings.push(text)),
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

    pub(super) async fn warn_all(
        &self,
        before: &str,
        texts: impl ExactSizeIterator<Item = String>,
    ) {
        let more = texts.len().saturating_sub(TOLD);
        for text in texts.take(TOLD) {
            self.at.teller.warn(format!("{before}{text}")).await;
        }
        if more > 0 {
            self.at.teller.warn(format!("{before}{more} more like these")).await;
        }
    }
}

/// Copies a file from its start to a destination that cannot be replaced by renaming.
fn copy(mut file: File, to: &NamedFile) -> Result<(), OutputError> {
    let Some(mut stream) = to.stream() else { return Ok(()) };
    let copied = file.rewind().and_then(|()| std::io::copy(&mut file, &mut stream));
    copied.map(drop).map_err(OutputError::folder("write", to.path()))
}

/// Where the search for these patterns starts.
pub(super) fn begin(patterns: &[FilePattern]) -> Vec<ListingStart> {
    let literal = |path: &[u8]| patterns.iter().any(|p| p.is_literal() && p.start() == path);
    starts(patterns)
        .into_iter()
        .map(|(path, _)| ListingStart { is_passed: !literal(&path), path })
        .collect()
}

pub(super) fn choice(found: ListedPath, base: &[u8], name: Vec<u8>) -> Chosen {
    let ListedPath { path, facts, target } = found;
    match path.strip_prefix(b"/") {
        Some(path) => Chosen { base: b"/".to_vec(), path: path.to_vec(), name, facts, target },
        None => Chosen { base: base.to_vec(), path, name, facts, target },
    }
}
