//! Explains why a container could not be started, and how to fix it.

use crate::EngineError;
use nix::errno::Errno;
use runner_host::runtime::limit_hint;
use runner_sandbox::{SetupStep, StartError};
use std::path::Path;

pub(super) const NO_USER_NAMESPACES: &str = "user namespaces are closed to this user: see \
                                  kernel.apparmor_restrict_unprivileged_userns, \
                                  kernel.unprivileged_userns_clone and user.max_user_namespaces in \
                                  sysctl; run as root, or do without a container: --engine \
                                  process";

const IN_A_CONTAINER: &str = "the runner is in a container that does not allow nested containers; \
                              start that one with: docker run --security-opt seccomp=unconfined \
                              --security-opt systempaths=unconfined (with AppArmor also \
                              --security-opt apparmor=unconfined), or build without a container: \
                              --engine process";

/// Whether this process is in a container, according to the marks of container engines.
fn is_in_container() -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv"];
    marks.iter().any(|mark| Path::new(mark).exists()) || std::env::var_os("container").is_some()
}

/// Turns a sandbox's start error into an error for the user.
pub(super) fn explain(error: &StartError) -> EngineError {
    let hint = match error {
        StartError::Namespaces(cause) => Some(match cause.raw_os_error() {
            Some(code) if code == Errno::EPERM as i32 && is_in_container() => IN_A_CONTAINER,
            Some(code) if code == Errno::EPERM as i32 => NO_USER_NAMESPACES,
            Some(code) if code == Errno::ENOSYS as i32 => IN_A_CONTAINER,
            Some(code) if code == Errno::ENOSPC as i32 => {
                "there are as many namespaces as user.max_*_namespaces in /proc/sys allows; \
                 without a container: --engine process"
            }
            _ => "look at /proc/sys/user/max_*_namespaces and at the limits of this container",
        }),
        StartError::Setup(failure) => match failure.step {
            SetupStep::Namespaces | SetupStep::Root if failure.errno == Errno::EPERM as i32 => {
                Some(if is_in_container() {
                    IN_A_CONTAINER
                } else {
                    "this process may make namespaces but not mount in them; AppArmor may confine it"
                })
            }
            SetupStep::Confine if failure.errno == Errno::EACCES as i32 => {
                Some("programs in memory may not be executed here; see vm.memfd_noexec in sysctl")
            }
            SetupStep::Namespaces
            | SetupStep::Layer
            | SetupStep::Source
            | SetupStep::Root
            | SetupStep::Confine => None,
        },
        StartError::Host(_, error) | StartError::Record(error) => limit_hint(error),
        StartError::Users(_) | StartError::Lost(_) | StartError::Version(_) => None,
    };
    let is_refused = |errno: i32| errno == Errno::EPERM as i32;
    let is_incapable = match error {
        StartError::Namespaces(_) | StartError::Users(_) => true,
        StartError::Setup(failure) => match failure.step {
            SetupStep::Namespaces | SetupStep::Confine => true,
            SetupStep::Root => is_refused(failure.errno),
            SetupStep::Layer | SetupStep::Source => false,
        },
        StartError::Lost(_)
        | StartError::Version(_)
        | StartError::Record(_)
        | StartError::Host(..) => false,
    };
    EngineError { is_incapable, ..EngineError::fault(error.to_string(), hint) }
}

/// The name of a directory's file system, for messages.
pub(super) fn file_system(dir: &Path) -> String {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
        XFS_SUPER_MAGIC,
    };
    match nix::sys::statfs::statfs(dir).map(|stat| stat.filesystem_type()) {
        Ok(OVERLAYFS_SUPER_MAGIC) => "on an overlay".to_owned(),
        Ok(NFS_SUPER_MAGIC) => "on NFS".to_owned(),
        Ok(TMPFS_MAGIC) => "on tmpfs".to_owned(),
        Ok(EXT4_SUPER_MAGIC) => "on ext4".to_owned(),
        Ok(XFS_SUPER_MAGIC) => "on xfs".to_owned(),
        Ok(BTRFS_SUPER_MAGIC) => "on btrfs".to_owned(),
        Ok(other) => format!("file system type {:#x}", other.0),
        Err(error) => error.to_string(),
    }
}
