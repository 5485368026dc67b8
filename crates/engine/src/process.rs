//! The engine `process`: no container at all, for machines that are thrown away anyway.
//!
//! The build runs as the caller, on this machine's own files; a reaper holds its processes together
//! so that they end with it. Only when asked for. Uses the same program and protocol as the other
//! engine, and the same [`Container`].

use super::container::{InitContainer, Own};
use super::freezing::GroupFreezer;
use super::init::InitClient;
use super::leftover::LeftoverContainer;
use super::tree::copy_tree;
use super::unseen::Unseen;
use super::{
    Container, ContainerSpec, Engine, EngineError, EngineNote, Fut, Recorder, SourceMount, Teller,
    limits,
};
use runner_sandbox::{ContainerGroups, Sandbox};
use runner_wire::abi::COMMANDS;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Where a build expects its directories.
pub(super) const USUAL: &str = "/codebuild";

/// Makes "containers" out of processes.
#[derive(Clone)]
pub(crate) struct ProcessEngine {
    pub record: Recorder,
    pub tell: Teller,
}

impl Engine for ProcessEngine {
    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        let engine = self.clone();
        let layer = spec.layers.first().cloned().unwrap_or_default();
        Box::pin(async move {
            let fault = |message: String| EngineError::fault(message, None);
            let started = tokio::task::spawn_blocking(move || engine.start_now(&spec)).await;
            let (mut sandbox, groups) =
                started.map_err(|panic| fault(format!("the start failed: {panic}")))??;
            let control = sandbox.take_control().ok_or(io::ErrorKind::NotConnected.into());
            let init = control
                .and_then(InitClient::new)
                .map_err(|error| fault(format!("cannot talk to the reaper: {error}")))?;
            // Numbers of processes are the machine's: by them nothing is put into a group.
            let freezing = GroupFreezer::default();
            let own = Own { sandbox, pasta: None, image: None, etc: None, groups, freezing };
            Ok(Arc::new(InitContainer::of_caller(init, own, layer)) as Arc<dyn Container>)
        })
    }
}

impl ProcessEngine {
    fn start_now(&self, spec: &ContainerSpec) -> Result<(Sandbox, ContainerGroups), EngineError> {
        let fault = |error: io::Error| {
            EngineError::fault(format!("cannot prepare the build's directories: {error}"), None)
        };
        prepare(spec).map_err(fault)?;
        (self.tell)(EngineNote::NotIsolated);
        if spec.privileged {
            (self.tell)(EngineNote::PrivilegedIsIdle);
        }
        if let Some(source) = spec.sources.first()
            && !source.target.starts_with(USUAL)
        {
            let target = source.target.clone();
            (self.tell)(EngineNote::SourceElsewhere { usual: USUAL, target });
        }
        let mut groups = limits::groups(spec, &self.tell);
        let mut refused = None;
        let sandbox = runner_sandbox::start_reaper(&groups.doors(), |pid, start_time| {
            (self.record)(&LeftoverContainer::Process { pid, start_time, group: None })?;
            refused = groups.add(pid).err();
            Ok(())
        })
        .map_err(|error| EngineError::fault(error.to_string(), None))?;
        if let Some(error) = refused {
            (self.tell)(limits::not_enforced(&spec.limits, error.to_string()));
            groups = ContainerGroups::default();
        }
        Ok((sandbox, groups))
    }
}

/// A build's directory: where all of it lies, and the name the build knows it by.
///
/// The usual name where that is free, else the place itself.
pub(super) fn claim(layer: &Path) -> io::Result<String> {
    let own = layer.join("codebuild");
    // Nobody else passes, whatever lies below: `container` lets the build's other users in.
    fs::DirBuilder::new().mode(0o700).create(layer)?;
    fs::create_dir(&own)?;
    fs::set_permissions(&own, Permissions::from_mode(0o755))?;
    clear_usual();
    Ok(match symlink(&own, USUAL) {
        Ok(()) => USUAL.to_owned(),
        Err(_) => own.display().to_string(),
    })
}

/// Removes what a build that is gone has left at the usual name. One at a time: two that had both seen it
/// would remove it twice, and the second time it is the other one's.
fn clear_usual() {
    let Ok(turn) = fs::File::open("/") else { return };
    // Whoever does not get it finds the name taken, and does without.
    if turn.try_lock().is_ok() && fs::read_link(USUAL).is_ok_and(|target| !target.exists()) {
        let _ = fs::remove_file(USUAL);
    }
}

/// Gives the usual name back, if it is this build's. While what it leads to is still there: from then on it
/// is anybody's to take.
pub(super) fn release(layers: &[PathBuf]) {
    if let Ok(target) = fs::read_link(USUAL)
        && layers.iter().any(|layer| target.starts_with(layer))
    {
        // What cannot be removed, the next build removes.
        let _ = fs::remove_file(USUAL);
    }
}

fn prepare(spec: &ContainerSpec) -> io::Result<()> {
    let root = spec.layers.first().ok_or(io::ErrorKind::NotFound)?.join("codebuild");
    let make = |path: &Path, mode| {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    make(&root.join("output"), 0o755)?;
    make(&root.join("output/tmp"), 0o700)?;
    let bin = root.join("user/bin");
    make(&bin, 0o755)?;
    for name in COMMANDS {
        symlink(spec.readonly.join("bin").join(name), bin.join(name))?;
    }
    for (number, source) in spec.sources.iter().enumerate() {
        whole(&source.dir, &source.target, &spec.unseen)?;
        let place = root.join("output").join(format!("repository{number}"));
        copy_repositories(source, &place, &spec.unseen)?;
    }
    Ok(())
}

/// Copies what source control keeps outside of the source, and has the source name the copies: a
/// commit of the build must not show in the caller's repository.
fn copy_repositories(source: &SourceMount, place: &Path, unseen: &Unseen) -> io::Result<()> {
    let mut places = Vec::new();
    for (number, from) in source.extras.iter().enumerate() {
        let to = place.join(number.to_string());
        whole(from, &to, unseen)?;
        places.push((from, to));
    }
    for (path, text) in &source.files {
        let moved =
            places.iter().find_map(|(from, to)| Some(to.join(path.strip_prefix(from).ok()?)));
        // Anything else that is absolute is the caller's own file.
        let own = path.is_relative().then(|| source.target.join(path));
        let Some(place) = moved.or(own) else { continue };
        let text = places.iter().fold(text.clone(), |text, (from, to)| {
            text.replace(&*from.to_string_lossy(), &to.to_string_lossy())
        });
        // A link at this place leads elsewhere.
        fs::remove_file(&place)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&place)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// A copy that lacks nothing.
fn whole(from: &Path, to: &Path, unseen: &Unseen) -> io::Result<()> {
    copy_tree(from, to, unseen, &AtomicBool::new(false), &mut |_, error| Err(error))
}
