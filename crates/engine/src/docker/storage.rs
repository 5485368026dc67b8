//! Where a Podman service of ours keeps its files, and what is left of them when it has ended.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Root's cache of blob locations. Podman has no option for its place.
const BLOB_CACHE: &str = "/var/lib/containers/cache/blob-info-cache-v1.boltdb";

/// What root's runtimes make where they are not told their place: Podman does not pass it on to the processes that
/// clean up after a container.
const RUNTIME_ROOTS: [&str; 2] = ["/run/runc", "/run/crun"];

/// Where Podman keeps its images, containers and temporary files.
#[derive(Clone, Debug)]
pub enum Storage {
    /// As the caller's configuration says: the caller's images are there.
    Callers,
    /// Below this folder, so that a probe changes nothing outside it. Podman makes `/run/containers`
    /// for root alone where it is missing, and every other user's registry clients then fail. Podman
    /// refuses a folder whose path is long: 40 bytes fit.
    Separate(PathBuf),
}

impl Storage {
    /// Podman's command with its options for this storage.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("podman");
        runner_sandbox::with_inherited_descriptors(&mut command);
        if let Storage::Separate(place) = self {
            let mut runtime_root = OsString::from("root=");
            runtime_root.push(place.join("oci"));
            // The caller's configuration holds; programs that Podman asks write into the home.
            let is_set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
            let configuration = is_set("XDG_CONFIG_HOME")
                .or_else(|| Some(PathBuf::from(is_set("HOME")?).join(".config").into_os_string()));
            command
                .envs(configuration.map(|value| ("XDG_CONFIG_HOME", value)))
                .env("HOME", place)
                .env("XDG_RUNTIME_DIR", place)
                .env("XDG_DATA_HOME", place)
                // A driver that mounts nothing.
                .args(["--storage-driver", "vfs", "--root"])
                .arg(place.join("store"))
                .arg("--runroot")
                .arg(place.join("run"))
                .arg("--tmpdir")
                .arg(place.join("tmp"))
                .arg("--network-config-dir")
                .arg(place.join("networks"))
                .arg("--runtime-flag")
                .arg(runtime_root);
        }
        command
    }

    /// What the service will leave outside its folder. Asked before it starts.
    pub(super) fn traces(&self) -> Traces {
        match self {
            Storage::Callers => Traces::default(),
            Storage::Separate(place) => {
                let file = Path::new(BLOB_CACHE);
                let places = file.ancestors().take(3).chain(RUNTIME_ROOTS.map(Path::new));
                let new = places.filter(|path| !path.exists());
                Traces {
                    pause: ["tmp/pause.pid", "libpod/tmp/pause.pid"]
                        .map(|file| place.join(file))
                        .to_vec(),
                    new: new.map(Path::to_owned).collect(),
                }
            }
        }
    }
}

/// What a service leaves outside its folder.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Files that name the process that holds the user namespace of a Podman without root. Which one
    /// it is depends on Podman's version.
    pause: Vec<PathBuf>,
    /// A file and its folders, the file first, that were not there before.
    new: Vec<PathBuf>,
}

impl Traces {
    /// Removes them, once the service has ended.
    pub(super) fn clear(&self) {
        for path in &self.new {
            // A folder that is no longer empty is in use by another Podman.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
        for file in &self.pause {
            end_pause_process(file);
        }
    }
}

fn end_pause_process(file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // The pidfd is open: the number cannot pass to another process between this look and the signal.
    let name =
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if matches!(name.trim(), "catatonit" | "podman pause" | "podman") {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}
