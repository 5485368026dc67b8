//! What a container of namespaces writes, and how its overlays go on in new directories while it runs.
//!
//! Used by `container`.

use super::cached::Handed;
use super::kept::KeptLayer;
use runner_sandbox::{NotRestacked, Restacker, SandboxSpec};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// The layer as it is now, and of what it was made.
#[derive(Clone)]
pub(super) struct WrittenLayer {
    spec: Arc<SandboxSpec>,
    handed: Arc<Handed>,
    layer: Arc<KeptLayer>,
    may_mount: bool,
    /// What seals it, from the first time on.
    helper: Arc<Mutex<Option<Restacker>>>,
}

impl WrittenLayer {
    /// Of a layer that is a directory. `may_mount`: whether the build has the privileges to mount.
    pub(super) fn new(spec: SandboxSpec, handed: Handed, may_mount: bool) -> Self {
        let layer = KeptLayer {
            dir: spec.layer.dir.clone(),
            uppers: handed.named(spec.uppers()),
            stack: spec.layer.stack.clone(),
            users: spec.users.clone(),
        };
        WrittenLayer {
            spec: Arc::new(spec),
            handed: Arc::new(handed),
            layer: Arc::new(layer),
            may_mount,
            helper: Arc::default(),
        }
    }

    pub(super) fn layer(&self) -> &Arc<KeptLayer> {
        &self.layer
    }

    /// Why it is not sealed at all, if that is so.
    pub(super) fn may_seal(&self) -> Result<(), &'static str> {
        // Shared mounts, loop devices and overlays of the build's own would go on in what is sealed, or be lost (adr/0260).
        match self.may_mount {
            true => Err("a build with --privileged may have mounted parts of it"),
            false => Ok(()),
        }
    }

    /// Has these overlays of a container, whose first process is given, go on in generation `number`, for which there are
    /// directories. Blocks.
    pub(super) fn seal(
        &self,
        number: u32,
        names: &[String],
        (pid, container): (u32, &OwnedFd),
    ) -> Result<Self, NotRestacked> {
        let stacked = |names: &[String]| {
            let mut spec = (*self.spec).clone();
            spec.layer.stack = self.layer.stack.with(number, names);
            spec.layer.is_kept = true;
            spec
        };
        // One that the container does not have is left as it is.
        let done = self.restack(&stacked(names), names, (pid, container))?;
        let layer = Arc::new(self.layer.sealed(number, &done));
        let spec = Arc::new(stacked(&done));
        Ok(WrittenLayer { spec, layer, ..self.clone() })
    }

    fn restack(
        &self,
        spec: &SandboxSpec,
        names: &[String],
        (pid, container): (u32, &OwnedFd),
    ) -> Result<Vec<String>, NotRestacked> {
        let mut helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended meanwhile is replaced.
        for _ in 0..2 {
            let running = match helper.take() {
                Some(running) => running,
                None => {
                    let place = (pid, container.as_fd());
                    Restacker::start(spec, &self.handed.descriptors(), place)
                        .map_err(|error| NotRestacked::intact(format!("no helper: {error}")))?
                }
            };
            if let Some(done) = running.restack(spec, names) {
                *helper = done.is_ok().then_some(running);
                return done;
            }
        }
        Err(NotRestacked::intact("its helper ends before it has done anything"))
    }

    /// The container ends.
    pub(super) fn close(&self) {
        *self.helper.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
