//! Creates containers with the engines that have a daemon.

use super::docker::Docker;
use super::podman::Podman;
use super::{Bed, outcome};
use std::process::Command;

/// One of the two engines.
#[derive(Clone, Copy)]
pub(crate) enum Engine {
    Docker,
    Podman,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        }
    }

    /// The engine's own command.
    pub(crate) fn command(self, arguments: &[&str]) -> Command {
        match self {
            Engine::Docker => Docker::shared().command(arguments),
            Engine::Podman => Podman::shared().command(arguments),
        }
    }

    pub(crate) fn image(self, name: &'static str) -> String {
        match self {
            Engine::Docker => Docker::shared().image(name),
            Engine::Podman => Podman::shared().image(name),
        }
    }

    /// A bed whose builds run in the engine's image busybox.
    pub(crate) fn bed(self) -> Bed {
        self.bed_with(&self.image("busybox"))
    }

    pub(crate) fn bed_with(self, image: &str) -> Bed {
        let variables = match self {
            Engine::Docker => vec![("DOCKER_HOST".to_owned(), Docker::shared().host())],
            Engine::Podman => Podman::shared().variables(),
        };
        Bed::with_image(image).with_variables(variables)
    }

    pub(crate) fn options(self, more: &[&'static str]) -> Vec<&'static str> {
        [&["--engine", self.name()], more].concat()
    }

    /// Containers of this build, in any state.
    pub(crate) fn containers(self, bed: &Bed) -> Vec<String> {
        let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
        let filter = format!("label=runner.build={uuid}");
        let listed = ["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"];
        let listed = outcome(&mut self.command(&listed)).code(0);
        listed.stdout.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn has_nothing_left(self, bed: &Bed) {
        assert_eq!(self.containers(bed), [""; 0]);
    }
}
