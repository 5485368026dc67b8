//! Builds of batches: the one that gets the source for all, those of the plan, and the one that
//! combines their artifacts.

use super::combine::combine;
use super::launch::{BuildLauncher, LaunchWords};
use runner_batch::{FrozenSources, freeze};
use runner_build::{BatchMembership, BuildRequest, BuildspecFile, FrozenSource};
use runner_core::artifact::{ArtifactSettings, Packaging};
use runner_core::batch::{self, Shard};
use runner_core::event::BatchMember;
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_core::spec::Diagnostic;
use runner_engine::image::ImageRequester;
use runner_folder::state::BatchDir;
use runner_host::private::{make_private, remove_tree, write_durably};
use runner_outputs::{ArtifactDestination, ArtifactDestinations, OutputStore};
use runner_service::batch::{COMBINE, DOWNLOAD, PlannedBatch, Rejected, order};
use runner_service::project::is_inline;
use runner_service::queue::Start;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::AtomicBool;

/// A build without commands: its work is done before it begins, and it has an ordinary log, image
/// and record.
const NOTHING: &str = "version: 0.2\nphases:\n  build:\n    commands: []\n";
/// The default buildspec of a source.
const USUAL: &str = "buildspec.yml";
const STRANGER: &str = "the buildspec of the batch names it, so it is asked for without credentials; the project's image, or one \
                        of StartBuildBatch, is asked for with them";

/// The part of an order about the build's batch.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InBatch {
    uuid: String,
    arn: String,
    number: u64,
    identifier: String,
    /// Whether sessions were requested, for all of its builds.
    #[serde(default)]
    sessions: bool,
    #[serde(default)]
    shard: Option<Shard>,
    /// Whether the buildspec names the image.
    #[serde(default)]
    is_stranger: bool,
    /// The build's own buildspec.
    #[serde(default)]
    buildspec: Option<String>,
    /// Whether artifacts are combined.
    #[serde(default)]
    combines: bool,
    /// The builds whose artifacts are combined, in the buildspec's order.
    #[serde(default)]
    parts: Vec<String>,
}

impl InBatch {
    pub(super) fn of(order: &Value) -> Result<Option<Self>, String> {
        match &order["batch"] {
            Value::Null => Ok(None),
            member => serde_json::from_value(member.clone())
                .map(Some)
                .map_err(|error| format!("the build's batch: {error}")),
        }
    }
}

impl BuildLauncher {
    /// The request for a build of a batch.
    pub(super) fn member_request(
        &self,
        start: &Start,
        member: &InBatch,
    ) -> Result<BuildRequest, String> {
        let dir = BatchDir::of_service(&self.home, &member.uuid)
            .map_err(|error| format!("cannot make the batch's folder: {error}"))?;
        let (mut request, frozen) = match member.identifier.as_str() {
            DOWNLOAD => self.download_request(start, &dir)?,
            COMBINE => (self.combine_request(start, &dir, &member.parts)?, Vec::new()),
            _ => self.child_request(start, &dir, member)?,
        };
        request.member = Some(BatchMembership {
            uuid: start.uuid.parse().map_err(|error| format!("{}: {error}", start.uuid))?,
            batch: BatchMember {
                arn: member.arn.clone(),
                number: member.number,
                identifier: member.identifier.clone(),
            },
            owner: None,
            frozen,
            shard: member.shard,
        });
        Ok(request)
    }

    /// The request for the build that gets the source, which it has then.
    fn download_request(
        &self,
        start: &Start,
        dir: &BatchDir,
    ) -> Result<(BuildRequest, Vec<FrozenSource>), String> {
        let mut project = start.order["project"].clone();
        without(&mut project, &["artifacts", "secondaryArtifacts", "cache"]);
        let buildspec = Some(BuildspecFile::inline(NOTHING.to_owned()));
        let request =
            self.request(start, project, LaunchWords { buildspec, ..LaunchWords::default() })?;
        let frozen = self.get_source(&request, dir, &start.is_to_stop)?;
        Ok((request, frozen))
    }

    /// The request for a build of the plan.
    fn child_request(
        &self,
        start: &Start,
        dir: &BatchDir,
        member: &InBatch,
    ) -> Result<(BuildRequest, Vec<FrozenSource>), String> {
        let project = start.order["project"].clone();
        let frozen = frozen(dir)?;
        let buildspec = self.member_buildspec(&project, member.buildspec.as_deref(), &frozen)?;
        let words = LaunchWords { buildspec, combines: member.combines, ..LaunchWords::default() };
        let mut request = self.request(start, project, words)?;
        if member.is_stranger && request.container.replaces.is_none() {
            request.container.asker = ImageRequester::Stranger { hint: STRANGER.to_owned() };
        }
        if member.combines {
            let place = dir.artifacts(&member.identifier);
            let clean = || -> io::Result<()> {
                // Left by an earlier run.
                remove_tree(&place)?;
                make_private(&dir.path().join("artifacts"))
            };
            clean().map_err(|error| format!("cannot make {}: {error}", place.display()))?;
            let settings = ArtifactSettings {
                name: Some("/".to_owned()),
                packaging: Some(Packaging::None),
                ..ArtifactSettings::default()
            };
            let primary = ArtifactDestination {
                store: OutputStore::Folder(place),
                settings,
                is_path: false,
                stream: None,
            };
            match &mut request.outputs.artifacts {
                Some(all) => all.primary = primary,
                none => *none = Some(ArtifactDestinations { primary, secondary: BTreeMap::new() }),
            }
        }
        Ok((request, frozen))
    }

    /// The request for the build that combines artifacts. Without an upload they stay in the
    /// batch's folder.
    fn combine_request(
        &self,
        start: &Start,
        dir: &BatchDir,
        parts: &[String],
    ) -> Result<BuildRequest, String> {
        let combined = combine(dir, parts)
            .map_err(|error| format!("cannot combine the outputs of the builds: {error}"))?;
        let mut project = start.order["project"].clone();
        without(&mut project, &["secondaryArtifacts", "secondarySources", "cache"]);
        project["artifacts"]["packaging"] = json!("ZIP");
        let words = LaunchWords {
            buildspec: Some(BuildspecFile::inline(combined.buildspec())),
            source: Some(combined.dir),
            artifacts: (!self.upload).then(|| dir.path().join("out")),
            ..LaunchWords::default()
        };
        self.request(start, project, words)
    }

    /// Copies the sources of a batch, whatever an earlier start has left of them.
    fn get_source(
        &self,
        request: &BuildRequest,
        dir: &BatchDir,
        stop: &AtomicBool,
    ) -> Result<Vec<FrozenSource>, String> {
        let copy = || -> io::Result<FrozenSources> {
            match fs::remove_file(dir.source_facts()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            remove_tree(&dir.sources())?;
            let sources = freeze(request, &self.home, dir, stop)?;
            write_durably(&dir.source_facts(), &serde_json::to_vec(&sources.frozen)?)?;
            Ok(sources)
        };
        match copy() {
            Ok(FrozenSources { frozen, left_out }) => {
                for path in left_out {
                    tracing::warn!(path = %path.display(), "not in the source that builds of the batch see");
                }
                Ok(frozen)
            }
            Err(error) => {
                // A partial copy is useless, and its space may be what is missing.
                let _ = remove_tree(&dir.sources());
                Err(format!("cannot copy the source for the batch: {error}"))
            }
        }
    }

    /// A build's buildspec: a file in the copy, or the text itself; `None` if the project contains
    /// the text.
    fn member_buildspec(
        &self,
        project: &Value,
        own: Option<&str>,
        frozen: &[FrozenSource],
    ) -> Result<Option<BuildspecFile>, String> {
        let of_project = project["source"]["buildspec"].as_str().filter(|name| !name.is_empty());
        if let (None, Some(text)) = (own, of_project.filter(|text| is_inline(text))) {
            return Ok(Some(BuildspecFile::inline(text.to_owned())));
        }
        let named = own.or(of_project);
        let folder = self.folder(&project["source"])?;
        let tree = frozen.first().map_or(folder.as_path(), |frozen| frozen.dir.as_path());
        Ok(Some(BuildspecFile::named_in(&folder, tree, named.unwrap_or(USUAL))))
    }

    /// Reads a batch's list of builds.
    pub(super) fn read_plan(&self, start: &Start) -> Result<PlannedBatch, Rejected> {
        let fault = |why: String| Rejected {
            status: Status::Fault,
            context: PhaseContext::new(StatusCode::InternalServiceError, why),
        };
        let member = InBatch::of(&start.order).map_err(fault)?;
        let member = member.ok_or_else(|| fault("this build is of no batch".to_owned()))?;
        let dir = BatchDir::of(&self.home, &member.uuid);
        let frozen = frozen(&dir).map_err(fault)?;
        let project = &start.order["project"];
        let file = self.member_buildspec(project, None, &frozen).map_err(fault)?;
        let file = file.ok_or_else(|| fault("the batch has no buildspec".to_owned()))?;
        let (spec, _) = file.parse_batch(&[]).map_err(|error| fault(error.to_string()))?;
        let spec = spec.map_err(|problems| rejected(&file, &problems))?;
        let none = || wrong("the buildspec has no `batch`".to_owned());
        let found = spec.batch.as_ref().ok_or_else(none)?;
        let plan = batch::plan(found, &order::restrictions(project, member.sessions))
            .map_err(|problems| rejected(&file, &problems))?;
        let commit = frozen.first().and_then(|frozen| frozen.facts.commit.clone());
        Ok(PlannedBatch { plan, commit })
    }
}

/// The sources that builds of a batch see.
fn frozen(dir: &BatchDir) -> Result<Vec<FrozenSource>, String> {
    let read = || -> io::Result<Vec<FrozenSource>> {
        Ok(serde_json::from_slice(&fs::read(dir.source_facts())?)?)
    };
    read().map_err(|error| format!("the batch's copy of the source cannot be used: {error}"))
}

fn without(project: &mut Value, members: &[&str]) {
    if let Some(project) = project.as_object_mut() {
        members.iter().for_each(|member| drop(project.remove(*member)));
    }
}

fn wrong(why: String) -> Rejected {
    Rejected { status: Status::Failed, context: PhaseContext::new(StatusCode::YamlFileError, why) }
}

/// A batch with an invalid buildspec: all its problems.
fn rejected(file: &BuildspecFile, problems: &[Diagnostic]) -> Rejected {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let told = errors.map(|problem| match (&problem.aws, problem.span.line) {
        (Some(aws), _) => aws.clone(),
        (None, 0) => problem.message.clone(),
        (None, line) => format!("{}:{line}: {}", file.shown(), problem.message),
    });
    wrong(told.collect::<Vec<_>>().join("; "))
}
