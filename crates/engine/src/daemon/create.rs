//! Translates a [`ContainerSpec`] into the daemon's API.
//!
//! Pure, apart from reading this process's limits. The container may do what one of the
//! `namespaces` engine may: it has the same capabilities, and no label or profile gives it more.

use crate::docker::DaemonProgram;
use crate::{ContainerSpec, MountAccess, NetworkAccess, READONLY};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    ResourcesUlimits,
};
use runner_sandbox::{Cpus, seccomp_profile};
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::path::Path;

/// Label on each of our containers. Its value is the build's uuid.
pub(super) const LABEL: &str = "runner.build";

/// The name of a build's container.
pub(super) fn name_of(build: &str) -> String {
    format!("runner-{build}")
}

pub(super) struct ContainerStart {
    pub(super) entrypoint: Vec<String>,
    /// Whether the container's files from this machine are mounted, rather than copied in.
    pub(super) mounts: bool,
}

/// The request body for the container.
pub(super) fn body(
    spec: &ContainerSpec,
    build: &str,
    program: DaemonProgram,
    image: &str,
    start: ContainerStart,
) -> ContainerCreateBody {
    // On another machine the paths differ.
    let own_walls = start.mounts && !spec.privileged;
    ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: Some(spec.hostname.clone()),
        // CodeBuild runs builds as root, whichever user the image names.
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        entrypoint: Some(start.entrypoint),
        cmd: Some(Vec::new()),
        labels: Some(HashMap::from([(LABEL.to_owned(), build.to_owned())])),
        // Only what the build starts may run in the container.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            auto_remove: Some(true),
            mounts: start.mounts.then(|| mounts(spec)),
            network_mode: Some(match spec.network {
                NetworkAccess::Host => "host".to_owned(),
                NetworkAccess::None => "none".to_owned(),
                // By default daemons give a container its own network with access to the outside.
                NetworkAccess::Pasta => "default".to_owned(),
            }),
            memory: spec.limits.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            // As in our own engines: no swap in addition.
            memory_swap: spec.limits.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            nano_cpus: spec.limits.cpus.map(|Cpus(thousandths)| i64::from(thousandths) * 1_000_000),
            pids_limit: spec.limits.pids.map(i64::from),
            privileged: Some(spec.privileged),
            cap_drop: (!spec.privileged).then(|| vec!["ALL".to_owned()]),
            cap_add: (!spec.privileged)
                .then(|| runner_sandbox::kept_capabilities().map(str::to_owned).collect()),
            security_opt: Some(security(spec, program, start.mounts)),
            masked_paths: own_walls.then(masked_paths),
            readonly_paths: own_walls.then(read_only_paths),
            ulimits: (program == DaemonProgram::Podman).then(limits),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// File name of [`seccomp_profile`] in the mounted folder.
pub(super) const PROFILE: &str = "seccomp.json";

/// An empty directory in that folder. It is mounted over our own state.
pub(super) const NOTHING: &str = "nothing";

/// The values of `--security-opt`.
fn security(spec: &ContainerSpec, program: DaemonProgram, sees_our_files: bool) -> Vec<String> {
    // Without this, SELinux would keep the container from mounts and sockets.
    let mut options = vec!["label=disable".to_owned()];
    match program {
        _ if spec.privileged => {}
        DaemonProgram::Docker => options.push(format!("seccomp={}", seccomp_profile())),
        // Podman reads a file on its own machine, and knows the masked paths only under this name.
        DaemonProgram::Podman if sees_our_files => {
            options.push(format!("seccomp={}", spec.readonly.join(PROFILE).display()));
            options.push(format!("mask={}", masked_paths().join(":")));
        }
        DaemonProgram::Podman => {}
    }
    options
}

fn masked_paths() -> Vec<String> {
    runner_sandbox::masked_paths().iter().map(|path| path.display().to_string()).collect()
}

fn read_only_paths() -> Vec<String> {
    runner_sandbox::read_only_paths().map(|path| path.display().to_string()).collect()
}

fn mounts(spec: &ContainerSpec) -> Vec<Mount> {
    // Not the daemon's older bind syntax, which creates a directory where the source is missing.
    let bind = |source: &Path, target: &Path, writable: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.display().to_string()),
        read_only: Some(!writable),
        ..Mount::default()
    };
    let own = bind(&spec.readonly, Path::new(READONLY), false);
    let users = spec
        .mounts
        .iter()
        .map(|mount| bind(&mount.source, &mount.target, mount.access == MountAccess::Write));
    // Not a tmpfs: Podman fills a tmpfs with the files it hides.
    let nothing = spec.readonly.join(NOTHING);
    let hidden = spec.mounts.iter().flat_map(|mount| {
        let places = spec.unseen.below(&mount.source);
        places.map(|path| bind(&nothing, &mount.target.join(path), false))
    });
    [own].into_iter().chain(users).chain(hidden).collect()
}

/// This process's limits, as in the other engines. Podman's default may exceed Podman's own limits.
fn limits() -> Vec<ResourcesUlimits> {
    [("nofile", Resource::Nofile), ("nproc", Resource::Nproc)]
        .into_iter()
        .map(|(name, resource)| {
            let limit = match resource {
                Resource::Nofile => runner_sandbox::inherited_descriptors(),
                other => getrlimit(other),
            };
            // Podman accepts no limit above the kernel's highest pid.
            let most = if resource == Resource::Nproc { pid_max() } else { None };
            let number = |limit: Option<u64>| {
                let least = limit.into_iter().chain(most).min();
                least.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1)
            };
            ResourcesUlimits {
                name: Some(name.to_owned()),
                soft: Some(number(limit.current)),
                hard: Some(number(limit.maximum)),
            }
        })
        .collect()
}

fn pid_max() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()
}
