//! The layer that a namespaces container writes to, and the switch of its overlays to new
//! directories while it runs.
//!
//! Used by `container`.

use super::cached::Handed;
use super::kept::KeptLayer;
use runner_sandbox::{LayerMerge, NotRestacked, Restacker, RestackerKill, SandboxSpec};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The current layer, with the spec it was made from.
#[derive(Clone)]
pub(super) struct WrittenLayer {
    spec: Arc<SandboxSpec>,
    handed: Arc<Handed>,
    layer: Arc<KeptLayer>,
    may_mount: bool,
    /// What seals it, from the first time on.
    helper: Arc<Mutex<Option<Restacker>>>,
    /// What ends that, also while it is at work.
    end: Arc<Mutex<HelperEnd>>,
}

#[derive(Default)]
struct HelperEnd {
    kill: Option<RestackerKill>,
    /// The container ends: there is to be no helper any more.
    is_closed: bool,
}

impl WrittenLayer {
    /// For a layer that is a directory. `may_mount`: whether the build has the privilege to mount.
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
            end: Arc::default(),
        }
    }

    pub(super) fn layer(&self) -> &Arc<KeptLayer> {
        &self.layer
    }

    /// Why it is not sealed at all, if that is so.
    pub(super) fn may_seal(&self) -> Result<(), &'static str> {
        // The build's own shared mounts, loop devices and overlays would keep using the sealed
        // layer, or be lost (adr/0260).
        match self.may_mount {
            true => Err("a build with --privileged may have mounted parts of it"),
            false => Ok(()),
        }
    }

    /// Switches these overlays of a running container to generation `number`, whose directories
    /// exist, and to merged parts. `pid` and `container` are its first process. Blocks.
    pub(super) fn seal(
        &self,
        number: u32,
        (names, merges): (&[String], &[LayerMerge]),
        (pid, container): (u32, &OwnedFd),
    ) -> Result<Self, NotRestacked> {
        let stacked = |names: &[String]| {
            let mut spec = (*self.spec).clone();
            spec.layer.stack = self.layer.stack.with(number, names, merges);
            spec.layer.is_kept = true;
            spec
        };
        // Names that the container lacks are left as they are.
        let done = self.restack(&stacked(names), names, (pid, container))?;
        let layer = Arc::new(self.layer.sealed(number, &done, merges));
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
                        .and_then(|started| self.admit(started))
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

    /// Lets a helper in, unless the container ends.
    fn admit(&self, started: Restacker) -> io::Result<Restacker> {
        let mut end = self.lock_end();
        if end.is_closed {
            return Err(io::Error::other("the container ends"));
        }
        end.kill = Some(started.kill()?);
        Ok(started)
    }

    /// Held for no longer than a call takes.
    fn lock_end(&self) -> MutexGuard<'_, HelperEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container ends. Does not wait for a helper that is at work.
    pub(super) fn close(&self) {
        let mut end = self.lock_end();
        end.is_closed = true;
        if let Some(kill) = end.kill.take() {
            kill.kill();
        }
        drop(end);
        if let Ok(mut helper) = self.helper.try_lock() {
            *helper = None;
        }
    }
}
