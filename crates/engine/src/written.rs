//! What a container of namespaces writes, and how its overlays go on in new directories while it runs.
//!
//! Used by `container`.

use super::cached::Handed;
use super::kept::KeptLayer;
use runner_sandbox::{NotRestacked, SandboxSpec, restack};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The layer as it is now, and of what it was made.
#[derive(Clone)]
pub(super) struct WrittenLayer {
    spec: Arc<SandboxSpec>,
    handed: Arc<Handed>,
    layer: Arc<KeptLayer>,
    may_mount: bool,
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
        }
    }

    pub(super) fn layer(&self) -> &Arc<KeptLayer> {
        &self.layer
    }

    /// Has these overlays of a container, whose first process is given, go on in generation `number`, for which there are
    /// directories. Blocks.
    pub(super) fn seal(
        &self,
        number: u32,
        names: &[String],
        (pid, container): (u32, &OwnedFd),
    ) -> Result<Self, NotRestacked> {
        // Shared mounts, loop devices and overlays of the build's own would go on in what is sealed, or be lost (adr/0260).
        if self.may_mount {
            return Err(NotRestacked::intact(
                "a build with --privileged may have mounted parts of it",
            ));
        }
        let stacked = |names: &[String]| {
            let mut spec = (*self.spec).clone();
            spec.layer.stack = self.layer.stack.with(number, names);
            spec.layer.is_kept = true;
            spec
        };
        let (spec, handed) = (stacked(names), self.handed.descriptors());
        // One that the container does not have is left as it is.
        let done = restack(&spec, &handed, names, (pid, container.as_fd()))?;
        let layer = Arc::new(self.layer.sealed(number, &done));
        let spec = Arc::new(stacked(&done));
        Ok(WrittenLayer { spec, handed: Arc::clone(&self.handed), layer, may_mount: false })
    }
}
