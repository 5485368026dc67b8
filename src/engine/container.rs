//! A container whose first process is our own program, whatever holds it together.
//!
//! Made by `namespaces` and by `process`; the same [`Container`] for both.

use super::init::InitClient;
use super::pasta::Pasta;
use super::{Container, ExecError, ExecSpec, Fut, Ids, OpenMode, Process};
use crate::image::{Config, Prepared};
use runner_sandbox::{Groups, Pressure, Sandbox};
use runner_wire::init::Listener;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A container whose first process is our own program.
pub(super) struct InitContainer {
    init: Arc<InitClient>,
    held: Mutex<Option<Held>>,
    /// The build's directory, where its root is the caller, whoever that is.
    of_caller: Option<PathBuf>,
    has_one_user: bool,
    config: Config,
    has_toolbox: bool,
}

/// What a container is made of.
pub(super) struct Held {
    /// Its end is waited for.
    pub(super) sandbox: Sandbox,
    /// Carries what its network sends.
    pub(super) pasta: Option<Pasta>,
    /// Must not change while it lives.
    pub(super) image: Option<Prepared>,
    /// Can only be removed when nothing runs in them any more.
    pub(super) groups: Groups,
}

impl Held {
    fn let_go(self) {
        let Held { sandbox, pasta, image, groups } = self;
        drop(sandbox);
        drop(pasta);
        drop(image);
        drop(groups);
    }
}

impl InitContainer {
    /// One with users of its own.
    pub(super) fn with_users(
        init: Arc<InitClient>,
        held: Held,
        has_one_user: bool,
        has_toolbox: bool,
    ) -> Self {
        let config = held.image.as_ref().map(|image| image.config.clone()).unwrap_or_default();
        InitContainer {
            init,
            held: Mutex::new(Some(held)),
            of_caller: None,
            has_one_user,
            config,
            has_toolbox,
        }
    }

    /// One in which everything runs as the caller unless another user is asked for.
    pub(super) fn of_caller(init: Arc<InitClient>, held: Held, layer: PathBuf) -> Self {
        let held = Mutex::new(Some(held));
        let config = Config::default();
        InitContainer {
            init,
            held,
            of_caller: Some(layer),
            has_one_user: false,
            config,
            has_toolbox: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Container for InitContainer {
    fn exec(&self, spec: ExecSpec) -> Fut<'_, Result<Process, ExecError>> {
        let is_other = spec.user != Ids::default();
        Box::pin(async move {
            if let Some(layer) = &self.of_caller
                && is_other
            {
                admit(layer, &spec.user).map_err(|error| ExecError::Admit(error.to_string()))?;
            }
            self.init.exec(&spec, self.of_caller.is_some() && !is_other).await
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Fut<'_, io::Result<OwnedFd>> {
        let path = path.to_path_buf();
        Box::pin(async move { self.init.open(&path, mode).await })
    }

    fn dial(&self, listener: &Listener) -> Fut<'_, io::Result<OwnedFd>> {
        let listener = listener.clone();
        Box::pin(async move { self.init.dial(&listener).await })
    }

    fn programs(&self) -> PathBuf {
        match &self.of_caller {
            Some(layer) => layer.join("codebuild/readonly/bin"),
            None => PathBuf::from("/codebuild/readonly/bin"),
        }
    }

    fn has_toolbox(&self) -> bool {
        self.has_toolbox
    }

    fn image_config(&self) -> &Config {
        &self.config
    }

    fn has_one_user(&self) -> bool {
        self.has_one_user
    }

    fn is_shared(&self) -> bool {
        self.of_caller.is_some()
    }

    fn pressure(&self) -> Fut<'_, Pressure> {
        let pressure = self.lock().as_ref().map(|held| held.groups.pressure());
        Box::pin(async move { pressure.unwrap_or_default() })
    }

    fn signal_all(&self, signal: i32) -> Fut<'_, ()> {
        Box::pin(self.init.signal_all(signal))
    }

    fn ended(&self) -> Fut<'_, ()> {
        Box::pin(self.init.gone())
    }

    fn stop(&self) -> Fut<'_, ()> {
        Box::pin(async move {
            self.init.hang_up();
            let held = self.lock().take();
            // Its end is waited for, which may take as long as its last process needs to die.
            let _ = tokio::task::spawn_blocking(move || held.map(Held::let_go)).await;
        })
    }
}

/// Lets another user of the build in: the build's directory is passed by the user's group, and the
/// state that commands save is the user's own. Only root has a use for it.
fn admit(layer: &Path, user: &Ids) -> io::Result<()> {
    std::os::unix::fs::chown(layer, None, Some(user.gid))?;
    fs::set_permissions(layer, fs::Permissions::from_mode(0o710))?;
    let state = layer.join("codebuild/output/tmp");
    for entry in fs::read_dir(&state)? {
        // What a command has put there is its own business.
        let _ = std::os::unix::fs::lchown(entry?.path(), Some(user.uid), None);
    }
    std::os::unix::fs::lchown(state, Some(user.uid), None)
}
