//! Where our Podman service keeps its files, and what it leaves behind when it ends.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Root's cache of blob locations. Podman has no option to move it.
const BLOB_CACHE: &str = "/var/lib/containers/cache/blob-info-cache-v1.boltdb";

/// Directories that root's OCI runtimes create by default. Podman does not pass their place on to
/// the processes that clean up after a container.
const RUNTIME_ROOTS: [&str; 2] = ["/run/runc", "/run/crun"];

/// Where Podman keeps its images, containers and temporary files.
#[derive(Clone, Debug)]
pub enum Storage {
    /// The caller's own configuration, so that the caller's images are there.
    Callers,
    /// Below this folder, so that a probe changes nothing outside it. If `/run/containers` is
    /// missing, Podman makes it for root alone, and then every other user's registry clients fail.
    /// Podman accepts only a short path: 40 bytes fit.
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
            // The caller's configuration applies; programs that Podman runs write into the home.
            let is_set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
            let configuration = is_set("XDG_CONFIG_HOME")
                .or_else(|| Some(PathBuf::from(is_set("HOME")?).join(".config").into_os_string()));
            command
                .envs(configuration.map(|value| ("XDG_CONFIG_HOME", value)))
                .env("HOME", place)
                .env("XDG_RUNTIME_DIR", place)
                .env("XDG_DATA_HOME", place)
                // A driver without mounts.
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

    /// What the service will leave outside its folder. Call this before it starts.
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
    /// Files that name the process holding the user namespace of a rootless Podman. Which file it
    /// is depends on Podman's version.
    pause: Vec<PathBuf>,
    /// A file and its folders that did not exist before, the file first.
    new: Vec<PathBuf>,
}

impl Traces {
    /// Removes the traces, once the service has ended.
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
    // The pidfd is open, so the number cannot pass to another process between this check and the
    // signal.
    let name =
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if matches!(name.trim(), "catatonit" | "podman pause" | "podman") {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}
