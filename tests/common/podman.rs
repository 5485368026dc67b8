//! Podman with a separate store for this run, for the user who runs the tests, root or not.
//!
//! No service is listening; the runner starts one.

use super::daemon::{at_end, unmount_below};
use super::{image, is_root, outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use tempfile::TempDir;

/// The store, and how programs find it.
pub(crate) struct Podman {
    dir: PathBuf,
    imported: Mutex<Vec<&'static str>>,
}

impl Podman {
    /// The store of this run.
    pub(crate) fn shared() -> &'static Podman {
        static SHARED: OnceLock<Podman> = OnceLock::new();
        SHARED.get_or_init(Podman::make)
    }

    fn make() -> Self {
        let dir = tempfile::Builder::new().prefix("runner-podman-").tempdir_in("/var/tmp").unwrap();
        let place = dir.path().to_path_buf();
        let at = |name: &str| place.join(name).display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{store}\"\nrootless_storage_path = \
             \"{store}\"\nrunroot = \"{}\"\n",
            at("run"),
            store = at("store")
        );
        fs::write(place.join("storage.conf"), storage).unwrap();
        let containers = format!("[engine]\ntmp_dir = \"{}\"\n", at("tmp"));
        fs::write(place.join("containers.conf"), containers).unwrap();
        // Registries on loopback use plain HTTP.
        let registries = "[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n";
        fs::write(place.join("registries.conf"), registries).unwrap();
        fs::create_dir(place.join("home")).unwrap();
        at_end(move || remove(dir));
        // The first command creates the store and, without root, the namespace for all others, so
        // it must run alone.
        outcome(&mut command(&place, &["info"])).code(0);
        Podman { dir: place, imported: Mutex::default() }
    }

    /// Environment variables with which programs find the store.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        variables(&self.dir)
    }

    /// Podman's own command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(&self.dir, arguments)
    }

    /// The name it uses for an image of `images/`.
    pub(crate) fn image(&self, name: &'static str) -> String {
        let reference = format!("localhost/runner-test/{name}:latest");
        let mut imported = self.imported.lock().unwrap();
        if !imported.contains(&name) {
            let tar = image(name).with_extension("tar");
            let import = ["import", "--quiet", tar.to_str().unwrap(), &reference];
            outcome(&mut self.command(&import)).code(0);
            imported.push(name);
        }
        reference
    }
}

fn variables(dir: &Path) -> Vec<(String, String)> {
    let at = |name: &str| dir.join(name).display().to_string();
    vec![
        ("CONTAINERS_STORAGE_CONF".to_owned(), at("storage.conf")),
        ("CONTAINERS_CONF".to_owned(), at("containers.conf")),
        ("CONTAINERS_REGISTRIES_CONF".to_owned(), at("registries.conf")),
        ("XDG_RUNTIME_DIR".to_owned(), at("home")),
    ]
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", dir.join("home"))
        .envs(variables(dir))
        .args(arguments);
    command
}

/// Removes the store, with the rights of its owners.
fn remove(dir: TempDir) {
    let place = dir.path();
    // Leftover containers are a test's failure and are reported there.
    outcome(&mut command(place, &["rm", "--all", "--force", "--time", "0"]));
    outcome(&mut command(place, &["rmi", "--all", "--force"]));
    if is_root() {
        // It keeps its store mounted on itself.
        unmount_below(place);
    } else {
        let store = place.join("store");
        outcome(&mut command(place, &["unshare", "rm", "-rf", store.to_str().unwrap()]));
        // Ends the process that holds the store's user namespace.
        outcome(&mut command(place, &["system", "migrate"]));
    }
    if let Err(error) = dir.close() {
        eprintln!("cannot remove the store of podman: {error}");
    }
}
