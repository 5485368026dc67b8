//! The kinds of engines and their capabilities.
//!
//! Code outside of `engine` never asks for the kind, only for a trait (docs/adr/0084). A test in
//! `xtask` enforces this.

use super::auto::Auto;
use super::daemon::DaemonEngine;
use super::host_image::EtcCopies;
use super::leftover::EngineFolder;
use super::namespaces::Namespaces;
use super::process::{self, ProcessEngine};
use super::{Engine, Teller};
use crate::docker::{DaemonProgram, Storage};
use crate::image::Getter;
use runner_sandbox::{GroupPlan, ResourceLimits};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The engine that runs a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The first that works, `Process` excepted.
    #[default]
    Auto,
    Namespaces,
    Docker,
    Podman,
    Process,
}

/// Name and capabilities of a kind of engine.
#[derive(Debug)]
pub struct Traits {
    /// The value of `--engine`, also used in a build's record.
    pub name: &'static str,
    /// Description for a user who chooses one.
    pub about: &'static str,
    /// Whether a build is kept apart from this machine's files and processes.
    pub isolates: bool,
    /// Whether a build's files can come from an image.
    pub images: bool,
    /// Whether directories of this machine can be mounted.
    pub mounts: bool,
    /// Whether a build can change mounted files without changing them here.
    pub copies_on_write: bool,
    /// Whether a build can have a network separate from this machine's.
    pub networks: bool,
    /// Whether other containers can run beside a build's.
    pub services: bool,
    /// Whether sessions can have programs that the build does not see.
    pub toolbox: bool,
    /// Whether the image `host` is selected from this machine's own tools.
    pub chooses_tools: bool,
    /// Environment variables of the runner that a build also gets.
    pub inherited: &'static [&'static str],
    layers: &'static [LayerIn],
    groups: Division,
}

/// Where a build's layer may lie.
#[derive(Clone, Copy, Debug)]
enum LayerIn {
    /// Below the build's folder.
    Folder,
    /// In this machine's directory for temporary files on disk.
    Temporary,
}

/// Control groups that the runner creates for a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    /// None: something else creates them.
    Never,
    /// One if there are limits.
    Limits,
    /// One if there are limits. With privileges always one, which the build may divide further, as
    /// Docker does.
    Privileges,
}

const AUTO: Traits = Traits {
    name: "auto",
    about: "The first that works: namespaces, else docker or podman if one answers",
    ..NAMESPACES
};

const NAMESPACES: Traits = Traits {
    name: "namespaces",
    about: "Linux namespaces, nothing to install",
    isolates: true,
    images: true,
    mounts: true,
    copies_on_write: true,
    networks: true,
    services: true,
    toolbox: true,
    chooses_tools: true,
    inherited: &[],
    layers: &[LayerIn::Folder, LayerIn::Temporary],
    groups: Division::Privileges,
};

const DOCKER: Traits = Traits {
    name: "docker",
    about: "A Docker daemon",
    copies_on_write: false,
    services: false,
    toolbox: false,
    chooses_tools: false,
    // The daemon keeps what the build writes; this layer holds only start files.
    layers: &[LayerIn::Folder],
    groups: Division::Never,
    ..NAMESPACES
};

const PODMAN: Traits =
    Traits { name: "podman", about: "Podman; its service is started if it does not run", ..DOCKER };

const PROCESS: Traits = Traits {
    name: "process",
    about: "No container at all, for machines that are thrown away: the build runs as you, on this machine's \
            own files",
    isolates: false,
    images: false,
    mounts: false,
    copies_on_write: false,
    networks: false,
    services: false,
    toolbox: false,
    chooses_tools: false,
    // This machine serves as the image.
    inherited: &["PATH", "HOME"],
    // The build's other users cannot enter its folder.
    layers: &[LayerIn::Temporary],
    groups: Division::Limits,
};

impl EngineKind {
    pub const ALL: [EngineKind; 5] = [
        EngineKind::Auto,
        EngineKind::Namespaces,
        EngineKind::Docker,
        EngineKind::Podman,
        EngineKind::Process,
    ];

    pub fn traits(self) -> &'static Traits {
        match self {
            EngineKind::Auto => &AUTO,
            EngineKind::Namespaces => &NAMESPACES,
            EngineKind::Docker => &DOCKER,
            EngineKind::Podman => &PODMAN,
            EngineKind::Process => &PROCESS,
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        EngineKind::ALL.into_iter().find(|kind| kind.traits().name == name)
    }

    /// An engine of this kind.
    pub fn engine(self, parts: EngineParts) -> Arc<dyn Engine> {
        match self {
            EngineKind::Auto => Arc::new(Auto {
                namespaces: parts.clone().namespaces(),
                daemon: parts.daemon(DaemonProgram::Docker),
            }),
            EngineKind::Namespaces => Arc::new(parts.namespaces()),
            EngineKind::Docker => Arc::new(parts.daemon(DaemonProgram::Docker)),
            EngineKind::Podman => Arc::new(parts.daemon(DaemonProgram::Podman)),
            EngineKind::Process => {
                Arc::new(ProcessEngine { record: parts.folder.recorder(), tell: parts.tell })
            }
        }
    }
}

/// The engine for services beside builds: only this one lets the runner into their networks.
pub const SERVICES: EngineKind = EngineKind::Namespaces;

impl Traits {
    /// Places for a build's layer, the first choice first.
    pub fn layers(&self, folder: &EngineFolder, build: &str) -> Vec<PathBuf> {
        let place = |place: &LayerIn| match place {
            LayerIn::Folder => folder.layer(),
            LayerIn::Temporary => Path::new("/var/tmp").join(format!("runner-{build}")),
        };
        self.layers.iter().map(place).collect()
    }

    /// The control groups of a build, if it needs any.
    pub fn groups(
        &self,
        build: &str,
        limits: ResourceLimits,
        is_privileged: bool,
    ) -> io::Result<Option<GroupPlan>> {
        let is_divided = is_privileged && self.groups == Division::Privileges;
        if self.groups == Division::Never || !limits.is_any() && !is_divided {
            return Ok(None);
        }
        runner_sandbox::plan_groups(&format!("runner-{build}"), limits, is_divided).map(Some)
    }

    /// The build's own name for its /codebuild directory, and the directory that holds its
    /// `readonly` files: the folder `readonly`, if the build has its own root.
    pub fn claim(&self, layers: &[PathBuf], readonly: PathBuf) -> io::Result<(String, PathBuf)> {
        match layers.first() {
            Some(layer) if !self.isolates => {
                Ok((process::claim(layer)?, layer.join("codebuild/readonly")))
            }
            _ => Ok((process::USUAL.to_owned(), readonly)),
        }
    }
}

/// The parts that an engine needs.
#[derive(Clone)]
pub struct EngineParts {
    /// The build's uuid.
    pub build: String,
    pub folder: EngineFolder,
    /// Fetches images.
    pub images: Getter,
    /// Copies of /etc for the image `host`.
    pub etc: EtcCopies,
    pub tell: Teller,
}

impl EngineParts {
    fn namespaces(self) -> Namespaces {
        Namespaces {
            images: self.images,
            record: self.folder.recorder(),
            tell: self.tell,
            network: self.folder.network(),
            kept: Arc::default(),
            etc: self.etc,
        }
    }

    fn daemon(self, program: DaemonProgram) -> DaemonEngine {
        DaemonEngine {
            program,
            build: self.build,
            place: self.folder.layer(),
            storage: Storage::Callers,
            images: self.images,
            record: self.folder.recorder(),
            tell: self.tell,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in EngineKind::ALL {
            assert_eq!(EngineKind::named(kind.traits().name), Some(kind));
        }
        assert_eq!(EngineKind::named("Docker"), None);
    }

    #[test]
    fn what_isolates_nothing_can_show_nothing_else() {
        for kind in EngineKind::ALL.map(EngineKind::traits) {
            let has_walls = kind.images || kind.mounts || kind.networks || kind.toolbox;
            assert_eq!(kind.isolates, has_walls, "{}", kind.name);
        }
    }

    #[test]
    fn groups_are_planned_for_engines_of_our_own() {
        let none = ResourceLimits::default();
        for kind in [EngineKind::Docker, EngineKind::Podman] {
            let limits = ResourceLimits { pids: Some(3), ..none };
            assert!(kind.traits().groups("x", limits, true).is_ok_and(|plan| plan.is_none()));
        }
        for kind in [EngineKind::Auto, EngineKind::Namespaces, EngineKind::Process] {
            assert!(kind.traits().groups("x", none, false).is_ok_and(|plan| plan.is_none()));
        }
        let privileged = EngineKind::Process.traits().groups("x", none, true);
        assert!(privileged.is_ok_and(|plan| plan.is_none()), "there is no Docker to divide for");
    }
}
