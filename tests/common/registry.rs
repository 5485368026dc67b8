//! Docker registries on loopback, shared by the tests of a run, and images for them.
//!
//! Real ones: Debian's docker-registry, filled by skopeo. There are two: one open to everyone, one
//! that requires [`USER`] and [`PASSWORD`].

use super::daemon::Daemon;
use super::{image, outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The user of [`Registry::closed`].
pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "wonderland";
/// User and password as a line of a password file.
const HTPASSWD: &str = "alice:$2y$04$mR1zuucikRLJU7OykjKceO9yVVFvLNJdm5ybw9t2tzXUXrQw7E.AK\n";

/// A running registry.
pub(crate) struct Registry {
    daemon: Daemon,
    /// `127.0.0.1:PORT`: the prefix of image names.
    pub(crate) address: String,
    is_closed: bool,
}

impl Registry {
    /// The registry open to everyone.
    pub(crate) fn open() -> &'static Registry {
        static OPEN: OnceLock<Registry> = OnceLock::new();
        OPEN.get_or_init(|| Registry::start(false))
    }

    /// The registry that requires credentials.
    pub(crate) fn closed() -> &'static Registry {
        static CLOSED: OnceLock<Registry> = OnceLock::new();
        CLOSED.get_or_init(|| Registry::start(true))
    }

    fn start(is_closed: bool) -> Self {
        Registry::start_with(is_closed.then_some(HTPASSWD), None)
    }

    /// A registry with users from a password file, and this certificate and key.
    pub(crate) fn with_tls(passwords: &str, certificate: &Path, key: &Path) -> Self {
        Registry::start_with(Some(passwords), Some((certificate, key)))
    }

    fn start_with(passwords: Option<&str>, tls: Option<(&Path, &Path)>) -> Self {
        let daemon = Daemon::start(|dir| {
            let tls = tls.map_or_else(String::new, |(certificate, key)| {
                let (certificate, key) = (certificate.display(), key.display());
                format!(", tls: {{certificate: \"{certificate}\", key: \"{key}\"}}")
            });
            // A free port.
            let mut config = format!(
                "version: 0.1\nhttp: {{addr: \"127.0.0.1:0\"{tls}}}\nstorage:\n  delete: {{enabled: \
                 true}}\n  filesystem: {{rootdirectory: {}}}\n",
                dir.join("storage").display()
            );
            if let Some(text) = passwords {
                let passwords = dir.join("htpasswd");
                fs::write(&passwords, text).unwrap();
                config +=
                    &format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", passwords.display());
            }
            fs::write(dir.join("config.yml"), config).unwrap();
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(dir.join("config.yml"));
            command
        });
        let mut port = None;
        daemon.log.wait_until("the registry's port", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let rest = text.split("listening on 127.0.0.1:").nth(1);
            port = rest.and_then(|rest| rest.split_once(['"', ','])?.0.parse::<u16>().ok());
            port.is_some()
        });
        let address = format!("127.0.0.1:{}", port.unwrap());
        Registry { daemon, address, is_closed: passwords.is_some() }
    }

    /// The directory of its files, so that tests can inspect and damage them.
    pub(crate) fn storage(&self) -> PathBuf {
        self.daemon.path("storage/docker/registry/v2")
    }

    /// Docker's config.json of a user who has logged in here.
    pub(crate) fn docker_config(&self) -> String {
        // USER:PASSWORD
        let auth = "YWxpY2U6d29uZGVybGFuZA==";
        format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}", self.address)
    }

    /// Pushes an OCI layout's image under this name (`busybox:one`). Returns the reference to pull.
    pub(crate) fn push(&self, layout: &Layout, name: &str) -> String {
        match self.is_closed {
            true => self.push_as(layout, name, USER, PASSWORD),
            false => self.push_with(layout, name, &[]),
        }
    }

    /// The same with credentials.
    pub(crate) fn push_as(&self, layout: &Layout, name: &str, user: &str, word: &str) -> String {
        self.push_with(layout, name, &["--dest-creds", &format!("{user}:{word}")])
    }

    fn push_with(&self, layout: &Layout, name: &str, options: &[&str]) -> String {
        let to = format!("{}/{name}", self.address);
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false"]);
        command.args(options);
        command.args([&layout.reference(), &format!("docker://{to}")]);
        outcome(&mut command).code(0);
        to
    }
}

/// An OCI image layout in its own folder, removed on drop.
pub(crate) struct Layout {
    dir: TempDir,
}

impl Layout {
    /// The image's tag in the layout.
    pub(crate) const TAG: &str = "latest";

    /// An image of `images/` as a single layer.
    pub(crate) fn of_image(name: &str) -> Self {
        Layout::of_tars(&[&image(name).with_extension("tar")])
    }

    /// An image whose layers are these tars, lowest first.
    pub(crate) fn of_tars(tars: &[&Path]) -> Self {
        let layout = Layout::empty();
        for tar in tars {
            let tar = tar.to_str().unwrap();
            layout.umoci(&["raw", "add-layer", "--image", &layout.place(), tar]);
        }
        layout
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("runner-layout-").tempdir_in("/var/tmp").unwrap();
        let layout = Layout { dir };
        layout.umoci(&["init", "--layout", layout.path().to_str().unwrap()]);
        layout.umoci(&["new", "--image", &layout.place()]);
        layout
    }

    /// Sets the image's configuration: options of `umoci config`, such as `--config.env=A=1`.
    pub(crate) fn config(&self, options: &[&str]) -> &Self {
        let place = self.place();
        let mut arguments = vec!["config", "--image", &place];
        arguments.extend(options);
        self.umoci(&arguments);
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        // umoci creates the layout's folder itself.
        self.dir.path().join("layout")
    }

    /// The reference for umoci.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.path().display(), Self::TAG)
    }

    /// The reference for skopeo and the runner.
    pub(crate) fn reference(&self) -> String {
        format!("oci:{}", self.place())
    }

    fn umoci(&self, arguments: &[&str]) {
        outcome(Command::new("umoci").args(arguments)).code(0);
    }
}
