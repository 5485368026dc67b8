//! Turns the service's builds into builds of this program: a project, as read by `--project-json`,
//! in a process, as started by `run --detach`.

use super::batch::InBatch;
use crate::cli::error::CliError;
use crate::cli::{project, run};
use runner_build::headless::{self, HeadlessAnswer, HeadlessRefusal};
use runner_build::sweep::sweep;
use runner_build::{Accepted, BuildRequest, BuildspecFile};
use runner_client::Client;
use runner_engine::image::Swap;
use runner_folder::state::{BuildDir, Home};
use runner_host::private::make_private;
use runner_host::stdio::say;
use runner_outputs::{ArtifactDestinations, OutputStore};
use runner_service::batch::{PlannedBatch, Rejected};
use runner_service::project::{is_inline, is_privileged};
use runner_service::queue::{Launcher, ProcessWait, Start};
use runner_service::sources;
use runner_wire::control::ControlRequest;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

/// Settings of a build beyond its project.
#[derive(Default)]
pub(super) struct LaunchWords {
    pub(super) buildspec: Option<BuildspecFile>,
    pub(super) source: Option<PathBuf>,
    pub(super) artifacts: Option<PathBuf>,
    /// Whether the batch has a place for the primary artifacts.
    pub(super) combines: bool,
}

/// Starts builds for the service.
pub(super) struct BuildLauncher {
    pub(super) home: Home,
    pub(super) source_root: Option<PathBuf>,
    pub(super) image_map: Vec<Swap>,
    /// Certificates that the builds trust, too, as PEM.
    pub(super) certificates: Option<String>,
    /// Whether to upload what a project sends to AWS.
    pub(super) upload: bool,
    /// Why builds may not be privileged, if so.
    pub(super) no_privileges: Option<&'static str>,
}

impl Launcher for BuildLauncher {
    fn launch(&self, start: &Start, lock: File) -> Result<ProcessWait, String> {
        let request = self.ready(start)?;
        let failed =
            |error: std::io::Error| format!("cannot start a process for the build: {error}");
        let mut child = headless::spawn(&request, Stdio::from(lock)).map_err(failed)?;
        match headless::answer(&mut child).map_err(failed)? {
            Some(HeadlessAnswer::Started { .. }) => Ok(Box::new(move || {
                // Its result is in its folder.
                let _ = child.wait();
            })),
            Some(HeadlessAnswer::Failed(HeadlessRefusal { message, hints, .. })) => {
                let _ = child.wait();
                let hints = hints.into_iter().map(|hint| format!(" ({hint})"));
                Err(message + &hints.collect::<String>())
            }
            None => Err(match child.wait() {
                Ok(how) => format!("the build's process did not start it: {how}"),
                Err(error) => failed(error),
            }),
        }
    }

    fn stop(&self, uuid: &str) -> Result<(), String> {
        let dir = BuildDir::of(&self.home, uuid);
        match Client::connect(&dir).and_then(|mut client| client.ask(&ControlRequest::Stop)) {
            Ok(_) => Ok(()),
            Err(_) if !dir.is_under_way() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn plan(&self, start: &Start) -> Result<PlannedBatch, Rejected> {
        self.read_plan(start)
    }

    fn sweep(&self) {
        // Batches are repaired after their builds.
        let swept = sweep(&self.home).map(drop);
        if let Err(error) = swept.and_then(|()| runner_batch::sweep::sweep(&self.home).map(drop)) {
            tracing::warn!(%error, "what killed runners have left stays");
        }
    }
}

impl BuildLauncher {
    /// The request for a build, after its preparations.
    fn ready(&self, start: &Start) -> Result<BuildRequest, String> {
        match InBatch::of(&start.order)? {
            Some(member) => self.member_request(start, &member),
            None => self.request(start, start.order["project"].clone(), LaunchWords::default()),
        }
    }

    /// The request for a build of a project.
    pub(super) fn request(
        &self,
        start: &Start,
        mut project: Value,
        words: LaunchWords,
    ) -> Result<BuildRequest, String> {
        // A row may be old: the `serve` that wrote it may have allowed more, or had other folders.
        let mut found = sources::problems(&start.order["project"], self.source_root.as_deref());
        if let (Some(why), true) = (self.no_privileges, is_privileged(&start.order["project"])) {
            found.push(format!("Invalid privilegedMode: {why}"));
        }
        if !found.is_empty() {
            return Err(found.join("; "));
        }
        let buildspec = match words.buildspec {
            Some(file) => {
                forget_buildspec(&mut project);
                Some(file)
            }
            None => self.buildspec(&mut project)?,
        };
        let name = project["name"].as_str().unwrap_or_default();
        let shown = format!("project {name}");
        let mut typed = self.words(&project, start.order["sessions"] == true, words.source)?;
        let mut notes = Vec::new();
        let stays = words.artifacts.is_none() && self.leaves_artifacts(&project, words.combines);
        let place = words.artifacts.or_else(|| {
            stays.then(|| {
                let dir = BuildDir::of(&self.home, &start.uuid);
                notes.push(format!(
                    "the artifacts stay in {}, as long as the build's folder does; `runner serve --upload` sends them \
                     where the project says",
                    dir.artifacts().display()
                ));
                dir.artifacts()
            })
        });
        typed.extend(place.map(|place| joined("--artifacts=", &place)));
        let told = |error: CliError| error.message;
        let (mut args, mut extras) =
            project::of_project(&shown, project.to_string(), typed).map_err(told)?;
        let held_back = project::held_back(&args, &extras).map_err(told)?;
        if !held_back.is_empty() {
            notes.push(format!(
                "not written to AWS, as the project has it: {}; `runner serve --upload` does",
                held_back.join(", ")
            ));
        }
        args.image_map.clone_from(&self.image_map);
        if let Some(file) = &buildspec {
            // The build itself reports its problems.
            extras.buildspec = Some(file.text().unwrap_or_default().to_owned());
            extras.is_silent = true;
        }
        let asked = run::ask(args, extras, BuildspecFile::parse).map_err(told)?;
        for note in &notes {
            say(&format!("build {name}:{}: {note}", start.uuid));
        }
        let uuid = start.uuid.parse().map_err(|error| format!("{}: {error}", start.uuid))?;
        let initiator = start.order["initiator"].as_str().unwrap_or("unknown").to_owned();
        let mut request = asked.request;
        request.certificates.clone_from(&self.certificates);
        if let Some(file) = buildspec {
            request.buildspec = file;
        }
        if let (Some(all), true) = (&mut request.outputs.artifacts, stays) {
            part(all);
        }
        request.accepted = Some(Accepted { uuid, number: start.number, initiator, notes });
        if let Some(cache) = &mut request.outputs.cache
            && let Some(epoch) = start.order["cacheEpoch"].as_i64().filter(|epoch| *epoch > 0)
        {
            // Caches from before InvalidateProjectCache have another name.
            cache.project = format!("{}@{epoch}", cache.project);
        }
        Ok(request)
    }

    /// Whether artifacts that a project sends to AWS stay in the build's folder.
    fn leaves_artifacts(&self, project: &Value, combines: bool) -> bool {
        let in_bucket = |artifacts: &Value| artifacts["type"] == "S3";
        let mut secondary = project["secondaryArtifacts"].as_array().into_iter().flatten();
        // Without primary artifacts in a bucket, a project has no secondary ones either.
        let leaves =
            if combines { secondary.any(in_bucket) } else { in_bucket(&project["artifacts"]) };
        leaves && !self.upload
    }

    /// Reads the file that a project names, without following links, and removes it from the
    /// project.
    fn buildspec(&self, project: &mut Value) -> Result<Option<BuildspecFile>, String> {
        let named = project["source"]["buildspec"].as_str();
        let Some(name) = named.filter(|name| !name.is_empty() && !is_inline(name)) else {
            return Ok(None);
        };
        let folder = self.folder(&project["source"])?;
        let file = BuildspecFile::named_in(&folder, &folder, name);
        forget_buildspec(project);
        Ok(Some(file))
    }

    /// The words that would be typed in addition to the project.
    fn words(
        &self,
        project: &Value,
        sessions: bool,
        source: Option<PathBuf>,
    ) -> Result<Vec<OsString>, String> {
        let mut words: Vec<OsString> = ["--quiet", "--detach"].map(OsString::from).to_vec();
        if sessions {
            words.push("--enable-session".into());
        }
        if self.upload {
            words.push("--upload".into());
        }
        let source = source.map_or_else(|| self.folder(&project["source"]), Ok)?;
        words.push(joined("--source=", &source));
        for source in project["secondarySources"].as_array().into_iter().flatten() {
            let id = source["sourceIdentifier"].as_str().unwrap_or_default();
            words.push(joined(&format!("--secondary-source={id}="), &self.folder(source)?));
        }
        Ok(words)
    }

    /// The folder of a source; an empty one if there is none.
    pub(super) fn folder(&self, source: &Value) -> Result<PathBuf, String> {
        if source["type"] == "NO_SOURCE" {
            let empty = self.home.root().join("no-source");
            make_private(&empty).map_err(|error| format!("{}: {error}", empty.display()))?;
            return Ok(empty);
        }
        let location = source["location"].as_str().unwrap_or_default();
        sources::folder(location, self.source_root.as_deref())
    }
}

/// Gives secondary artifacts a folder named by their identifier, if they would replace others in a
/// shared folder; separate buckets do not have that problem.
fn part(all: &mut ArtifactDestinations) {
    let mut taken = vec![all.primary.settings.clone()];
    for (id, to) in &mut all.secondary {
        if taken.contains(&to.settings)
            && let OutputStore::Folder(folder) = &mut to.store
        {
            folder.push(id);
        }
        taken.push(to.settings.clone());
    }
}

fn forget_buildspec(project: &mut Value) {
    if let Some(source) = project["source"].as_object_mut() {
        source.remove("buildspec");
    }
}

fn joined(before: &str, path: &std::path::Path) -> OsString {
    let mut word = OsString::from(before);
    word.push(path);
    word
}
