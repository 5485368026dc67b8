//! The `process` engine: no container at all, for disposable machines.
//!
//! The build runs as the caller on this machine's own files; a reaper tracks its processes, so that
//! they end with it. Used only on request. It shares the program and protocol of the other engines,
//! and their [`Container`].

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

/// Makes "containers" from processes.
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
            // Pids are the machine's own, so they cannot be used to move processes into a cgroup.
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

/// Claims a build's directory below `layer` and returns the name that the build knows it by.
///
/// The usual name if it is free, else the directory itself.
pub(super) fn claim(layer: &Path) -> io::Result<String> {
    let own = layer.join("codebuild");
    // Nobody else may enter, whatever is below: `container` lets the build's other users in.
    fs::DirBuilder::new().mode(0o700).create(layer)?;
    fs::create_dir(&own)?;
    fs::set_permissions(&own, Permissions::from_mode(0o755))?;
    clear_usual();
    Ok(match symlink(&own, USUAL) {
        Ok(()) => USUAL.to_owned(),
        Err(_) => own.display().to_string(),
    })
}

/// Removes the usual name if a dead build left it. Under a lock: of two that saw it, the second
/// would remove the other one's new name.
fn clear_usual() {
    let Ok(turn) = fs::File::open("/") else { return };
    // Without the lock the name counts as taken.
    if turn.try_lock().is_ok() && fs::read_link(USUAL).is_ok_and(|target| !target.exists()) {
        let _ = fs::remove_file(USUAL);
    }
}

/// Releases the usual name if it is this build's. Call this while its target still exists:
/// afterwards anyone may take it.
pub(super) fn release(layers: &[PathBuf]) {
    if let Ok(target) = fs::read_link(USUAL)
        && layers.iter().any(|layer| target.starts_with(layer))
    {
        // If this fails, the next build removes it.
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

/// Copies what source control keeps outside of the source, and points the source at the copies: the
/// build's commits must not show up in the caller's repository.
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
        // Any other absolute path is the caller's own file.
        let own = path.is_relative().then(|| source.target.join(path));
        let Some(place) = moved.or(own) else { continue };
        let text = places.iter().fold(text.clone(), |text, (from, to)| {
            text.replace(&*from.to_string_lossy(), &to.to_string_lossy())
        });
        // A link here would lead elsewhere.
        fs::remove_file(&place)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&place)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Copies a tree completely, or fails.
fn whole(from: &Path, to: &Path, unseen: &Unseen) -> io::Result<()> {
    copy_tree(from, to, unseen, &AtomicBool::new(false), &mut |_, error| Err(error))
}
